//! `podline drain --wait`: follows a drain to its end. The watch is opened before the drain is asked for, so that
//! nothing of it is missed.

use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime};

use podline_api::client::{ClientError, ProxyClient};
use podline_api::v1::watch_response::Event;
use podline_api::{Override, OverrideAction, Rejected, duration, v1};
use tonic::{Status, Streaming};

use crate::cli::backend::name_of;
use crate::cli::failure::{Exit, Failure};
use crate::cli::human::{clean, count};
use crate::cli::output::Screen;
use crate::cli::overriding;
use crate::cli::selection::set_name;
use crate::cli::watch::drained_line;

/// How often the connections left are counted.
const PAUSE: Duration = Duration::from_millis(500);
/// What the proxy may take beyond the drain timeout to cut what is left.
const GRACE: Duration = Duration::from_secs(10);

/// How long to wait at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// As long as a drain may take.
    Drain,
    Time(Duration),
}

/// Reads TIMEOUT, which may be left out.
pub(super) fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "" => Ok(Limit::Drain),
        text => duration::parse(text).map(Limit::Time),
    }
}

/// Drains, then waits for the last connection's end.
pub(super) async fn run(
    client: &ProxyClient,
    request: &Override,
    limit: Limit,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let mut events = client.watch().await?;
    let before = state(client, &mut events).await?;
    let answer = client.override_backend(request).await?;
    let now = SystemTime::now();
    screen.event(&answer, || overriding::render(request, &answer, now))?;
    let limit = longest(limit, request, &before);
    let mut waiting = Waiting::new(request, answer, &before);
    let mut progress = Progress::new();
    let follow = follow(client, &mut events, &mut waiting, &mut progress, screen);
    let end = tokio::time::timeout(limit, follow).await;
    progress.clear();
    let after = match end {
        Ok(Ok(End::Empty)) => return Ok(Exit::Done),
        Ok(Ok(End::Undone)) => "when the drain was ended".to_owned(),
        Ok(Err(failure)) => return Err(failure),
        Err(_) => format!("after {}; it stays drained", duration::format(limit)),
    };
    let left = count_of(waiting.left(client).await?);
    let text = format!("{}: {left} left {after}", waiting.name());
    Err(Failure::NotEmpty(text))
}

/// How waiting ends.
enum End {
    /// The last connection is gone.
    Empty,
    /// Somebody undid the drain, or its time came.
    Undone,
}

async fn follow(
    client: &ProxyClient,
    events: &mut Streaming<v1::WatchResponse>,
    waiting: &mut Waiting,
    progress: &mut Progress,
    screen: &mut Screen,
) -> Result<End, Failure> {
    let mut counting = tokio::time::interval(PAUSE);
    loop {
        let step = tokio::select! {
            event = next(client, events) => waiting.on_event(&event?),
            _ = counting.tick() => {
                let left = waiting.left(client).await?;
                progress.show(left);
                waiting.on_count(left)
            }
        };
        match step {
            Step::Nothing => {}
            Step::Undone => return Ok(End::Undone),
            Step::Closed(drained) => {
                let left = waiting.left(client).await?;
                progress.clear();
                screen.event(&drained, || line(&drained, Some(left)))?;
            }
            Step::Empty(drained) => {
                progress.clear();
                screen.event(&drained, || line(&drained, None))?;
                return Ok(End::Empty);
            }
        }
    }
}

/// The state that the events to come change.
async fn state(
    client: &ProxyClient,
    events: &mut Streaming<v1::WatchResponse>,
) -> Result<v1::GetResponse, Failure> {
    loop {
        if let Event::State(state) = next(client, events).await? {
            return Ok(state);
        }
    }
}

/// # Cancel safety
/// An event is given or still to come.
async fn next(
    client: &ProxyClient,
    events: &mut Streaming<v1::WatchResponse>,
) -> Result<Event, Failure> {
    loop {
        match events.message().await {
            Ok(Some(message)) => {
                if let Some(event) = message.event {
                    return Ok(event);
                }
            }
            Ok(None) => {
                return Err(client
                    .error(Status::unavailable("it ended the stream"))
                    .into());
            }
            Err(status) => return Err(client.error(status).into()),
        }
    }
}

/// The time that waiting may take.
fn longest(limit: Limit, request: &Override, before: &v1::GetResponse) -> Duration {
    let asked = match (limit, request.action) {
        (Limit::Time(limit), _) => return limit,
        (Limit::Drain, OverrideAction::Drain { timeout }) => timeout,
        (Limit::Drain, _) => None,
    };
    let of_set = || {
        let mut sets = before.backend_sets.iter();
        let set = sets.find(|set| set_name(set) == request.set.as_str())?;
        Duration::try_from(set.set.as_ref()?.drain_timeout?).ok()
    };
    asked.or_else(of_set).unwrap_or_default() + GRACE
}

/// What an event or a count means for the drain.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    Closed(v1::Drained),
    Empty(v1::Drained),
    Undone,
}

/// One drain on its way.
struct Waiting {
    set: String,
    /// Id and address.
    backend: v1::Backend,
    /// No new connection can reach it. Until then, a count of zero means nothing.
    closed: bool,
    /// The last count was zero.
    zero: bool,
}

impl Waiting {
    /// A drain that `answer` says has begun; what was drained `before`, or is not there, is closed already.
    fn new(request: &Override, answer: v1::OverrideResponse, before: &v1::GetResponse) -> Self {
        let status = answer.status.unwrap_or_default();
        let backend = status.backend.unwrap_or_else(|| (&request.backend).into());
        let mut waiting = Self {
            set: request.set.to_string(),
            backend,
            closed: false,
            zero: false,
        };
        let mut members = before
            .backend_sets
            .iter()
            .filter(|set| set_name(set) == waiting.set)
            .flat_map(|set| &set.backends);
        let drained = members.any(|member| {
            let status = member.overriding.as_ref();
            waiting.is(member.backend.as_ref())
                && status.is_some_and(|s| s.action() == v1::override_request::Action::Drain)
        });
        waiting.closed = drained || !status.present;
        waiting
    }

    fn is(&self, backend: Option<&v1::Backend>) -> bool {
        backend.is_some_and(|b| b.address == self.backend.address && b.id == self.backend.id)
    }

    fn name(&self) -> String {
        let name = name_of(Some(&self.backend));
        clean(&format!("set/{} {name}", self.set))
    }

    fn on_event(&mut self, event: &Event) -> Step {
        match event {
            Event::Drained(drained)
                if drained.set == self.set && self.is(drained.backend.as_ref()) =>
            {
                match drained.stage() {
                    v1::drained::Stage::Closed => {
                        self.closed = true;
                        Step::Closed(drained.clone())
                    }
                    v1::drained::Stage::Empty => Step::Empty(drained.clone()),
                    v1::drained::Stage::Unspecified => Step::Nothing,
                }
            }
            Event::Override(changed) if self.is_end(changed) => Step::Undone,
            _ => Step::Nothing,
        }
    }

    /// Whether the drain ended, or a weight took its place.
    fn is_end(&self, changed: &v1::OverrideChanged) -> bool {
        changed.status.as_ref().is_some_and(|status| {
            let drains = status.action() == v1::override_request::Action::Drain;
            status.set == self.set && self.is(status.backend.as_ref()) && drains == changed.ended
        })
    }

    /// What `left` connections mean. No event tells of the end of what was over before; where one comes, it knows more
    /// than the count, so it has until the next one.
    fn on_count(&mut self, left: u64) -> Step {
        let again = std::mem::replace(&mut self.zero, left == 0 && self.closed);
        if !again || !self.zero {
            return Step::Nothing;
        }
        Step::Empty(v1::Drained {
            set: self.set.clone(),
            backend: Some(self.backend.clone()),
            stage: v1::drained::Stage::Empty.into(),
            forced: 0,
        })
    }

    /// The connections that it has now; a backend that is gone has none.
    async fn left(&self, client: &ProxyClient) -> Result<u64, Failure> {
        let request = v1::ExplainRequest {
            set: self.set.clone(),
            backend: Some(self.backend.clone()),
        };
        match client.explain(request).await {
            Ok(answer) => Ok(answer.backends.iter().map(|b| b.active_connections).sum()),
            Err(ClientError::Rejected {
                source: Rejected::NotFound { .. },
                ..
            }) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

/// `3 connections`.
fn count_of(left: u64) -> String {
    count(usize::try_from(left).unwrap_or(usize::MAX), "connection")
}

fn line(drained: &v1::Drained, left: Option<u64>) -> String {
    let left = left.map(|left| format!(", {} left", count_of(left)));
    format!(
        "{}{}\n",
        clean(&drained_line(drained)),
        left.unwrap_or_default()
    )
}

/// One line on the standard error that is written over again, if somebody sees it.
struct Progress {
    seen: bool,
}

impl Progress {
    fn new() -> Self {
        let seen = std::io::stderr().is_terminal();
        Self { seen }
    }

    fn show(&mut self, left: u64) {
        if self.seen {
            eprint!("\r\x1b[K{} left", count_of(left));
            drop(std::io::stderr().flush());
        }
    }

    fn clear(&mut self) {
        if self.seen {
            eprint!("\r\x1b[K");
            drop(std::io::stderr().flush());
        }
    }
}

#[cfg(test)]
mod tests;
