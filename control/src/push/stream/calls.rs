//! The calls of one connection: one Watch, one Push, at most two Gets at a time, and overrides as they are asked for.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use podline_api::client::{ClientError, ProxyClient};
use podline_api::v1;
use podline_api::v1::watch_response::Event;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::super::overrides::{self, Ask};
use super::super::sync::ANSWER_MS;

/// How long an answer may take.
pub(super) const ANSWER: Duration = Duration::from_millis(ANSWER_MS);

/// After so long without an answer it is seen whether the proxy can be connected to at all: twice, so long each.
const DOUBT: Duration = Duration::from_secs(1);
const CONNECTS: [Duration; 2] = [Duration::from_millis(250); 2];

/// Pods whose overrides are under way at once; others wait for their turn.
const OVERRULING: usize = 256;

type Getting = BoxFuture<'static, Result<v1::GetResponse, Ended>>;

/// Why a connection ended, in words.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("{}", in_words(.0))]
    Client(#[from] ClientError),
    #[error("it has not answered for 5 s")]
    Silent,
    #[error("it does not answer, nor can it be connected to")]
    Gone,
    #[error("it ended the call")]
    Closed,
    #[error("it speaks another protocol: no {0} where one was due")]
    Strange(&'static str),
    #[error("it is somewhere else now")]
    Moved,
    #[error("there is no certificate yet to speak to it with")]
    NoCertificate,
}

fn in_words(error: &ClientError) -> String {
    match error {
        ClientError::Failed { source, .. } => format!("it broke off: {}", source.message()),
        other => chain(other),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some layers only repeat the one below.
        if !text.ends_with(&error.to_string()) {
            text = format!("{text}: {error}");
        }
        cause = error.source();
    }
    text
}

/// The calls of one connection.
pub(super) struct Calls {
    client: ProxyClient,
    events: Events,
    pub(super) push: Option<Push>,
    asking: Option<Asking>,
    checking: Option<BoxFuture<'static, bool>>,
    pub(super) reading: Option<Getting>,
    overruling: FuturesUnordered<BoxFuture<'static, ()>>,
    /// When to ask for readiness, and from when on for sets too.
    pub(super) ask_at: Instant,
    pub(super) ask_sets_at: Instant,
}

/// How a Watch begins.
struct Begun {
    events: Streaming<v1::WatchResponse>,
    hello: v1::Hello,
    state: v1::GetResponse,
}

enum Events {
    Opening(BoxFuture<'static, Result<Begun, Ended>>),
    Open(Box<Streaming<v1::WatchResponse>>),
}

/// One Push.
pub(super) struct Push {
    requests: mpsc::Sender<v1::ApplyRequest>,
    answers: Answers,
}

enum Answers {
    Opening(BoxFuture<'static, Result<Streaming<v1::ApplyResponse>, ClientError>>),
    Open(Box<Streaming<v1::ApplyResponse>>),
}

struct Asking {
    since: Instant,
    answer: Getting,
    is_doubted: bool,
}

/// Begins a Watch.
async fn watch(client: ProxyClient) -> Result<Begun, Ended> {
    let begun = async {
        let mut events = client.watch().await?;
        let mut next = async || {
            let next = events.message().await.map_err(|s| client.error(s))?;
            next.and_then(|next| next.event).ok_or(Ended::Closed)
        };
        let Event::Hello(hello) = next().await? else {
            return Err(Ended::Strange("hello"));
        };
        let Event::State(state) = next().await? else {
            return Err(Ended::Strange("state"));
        };
        Ok(Begun {
            events,
            hello,
            state,
        })
    };
    timeout(ANSWER, begun).await.or(Err(Ended::Silent))?
}

impl Calls {
    /// The calls of a connection that was just made, with how its Watch begins.
    pub(super) async fn begin(
        client: ProxyClient,
    ) -> Result<(Self, v1::Hello, v1::GetResponse), Ended> {
        let Begun {
            events,
            hello,
            state,
        } = watch(client.clone()).await?;
        let calls = Self {
            client,
            events: Events::Open(Box::new(events)),
            push: None,
            asking: None,
            checking: None,
            reading: None,
            overruling: FuturesUnordered::new(),
            ask_at: Instant::now(),
            ask_sets_at: Instant::now(),
        };
        Ok((calls, hello, state))
    }

    /// Pushes a request. The call begins with the first.
    pub(super) fn send(&mut self, request: v1::ApplyRequest) -> Result<(), Ended> {
        let client = &self.client;
        let push = self.push.get_or_insert_with(|| {
            let (requests, pushed) = mpsc::channel(1);
            let client = client.clone();
            let opening = async move { client.push(ReceiverStream::new(pushed)).await };
            Push {
                requests,
                answers: Answers::Opening(opening.boxed()),
            }
        });
        // There is room: one request is under way at a time.
        push.requests.try_send(request).or(Err(Ended::Closed))
    }

    /// Asks for the whole state.
    pub(super) fn read(&mut self) {
        self.reading = Some(self.get(v1::GetRequest::default()));
    }

    /// Whether an answer is waited for.
    pub(super) fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// Asks for something.
    pub(super) fn ask(&mut self, request: v1::GetRequest) {
        let (since, answer) = (Instant::now(), self.get(request));
        self.asking = Some(Asking {
            since,
            answer,
            is_doubted: false,
        });
    }

    /// Sees whether the proxy can be connected to, if an answer is waited for too long.
    pub(super) fn doubt(&mut self, target: impl FnOnce() -> String) {
        let Some(asking) = &mut self.asking else {
            return;
        };
        if asking.since.elapsed() >= DOUBT && !asking.is_doubted {
            asking.is_doubted = true;
            self.checking = Some(is_gone(target()).boxed());
        }
    }

    /// Whether more overrides can be under way.
    pub(super) fn has_room(&self) -> bool {
        self.overruling.len() < OVERRULING
    }

    /// Asks for overrides, all at once, and tells whoever wants them.
    pub(super) fn overrule(&mut self, ask: Ask) {
        if !ask.is_over() {
            let client = self.client.clone();
            self.overruling
                .push(overrides::carry_out(client, ask, ANSWER).boxed());
        }
    }

    fn get(&self, request: v1::GetRequest) -> Getting {
        let client = self.client.clone();
        let answer = async move {
            let answer = timeout(ANSWER, client.get(request)).await;
            Ok(answer.or(Err(Ended::Silent))??)
        };
        answer.boxed()
    }

    /// What comes next on any of the calls.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Came, Ended> {
        tokio::select! {
            came = next_event(&mut self.events, &self.client) => came,
            answer = next_answer(&mut self.push, &self.client) => Ok(Came::Answer(answer?)),
            state = came(self.asking.as_mut().map(|asking| &mut asking.answer)) => {
                let took = self.asking.take().map(|asking| asking.since.elapsed());
                Ok(Came::Asked(state?, took.unwrap_or_default()))
            }
            state = came(self.reading.as_mut()) => {
                self.reading = None;
                Ok(Came::Read(state?))
            }
            gone = came(self.checking.as_mut()) => {
                self.checking = None;
                if gone { Err(Ended::Gone) } else { Ok(Came::Checked) }
            }
            Some(()) = self.overruling.next() => Ok(Came::Overruled),
        }
    }
}

/// What came on a call.
pub(super) enum Came {
    Event(v1::WatchResponse),
    /// A Watch that was cut off for being behind has begun anew.
    Began(v1::GetResponse),
    Answer(v1::ApplyResponse),
    /// After so long.
    Asked(v1::GetResponse, Duration),
    Read(v1::GetResponse),
    /// Overrides were answered, to whoever asked for them.
    Overruled,
    /// The proxy can be connected to, though it does not answer.
    Checked,
}

/// The next event of a Watch. One that the proxy cut off because we were behind begins anew; the other calls go on.
///
/// # Cancel safety
/// Nothing is lost.
async fn next_event(events: &mut Events, client: &ProxyClient) -> Result<Came, Ended> {
    loop {
        match events {
            Events::Opening(opening) => {
                let begun = opening.await?;
                *events = Events::Open(Box::new(begun.events));
                return Ok(Came::Began(begun.state));
            }
            Events::Open(open) => match open.message().await {
                Ok(event) => return Ok(Came::Event(event.ok_or(Ended::Closed)?)),
                Err(status) if status.code() == Code::ResourceExhausted => {
                    *events = Events::Opening(watch(client.clone()).boxed());
                }
                Err(status) => return Err(client.error(status).into()),
            },
        }
    }
}

/// The next answer of a Push; never without one.
///
/// # Cancel safety
/// Nothing is lost: a call that was opened is kept before its first answer is awaited.
async fn next_answer(
    push: &mut Option<Push>,
    client: &ProxyClient,
) -> Result<v1::ApplyResponse, Ended> {
    let Some(push) = push else {
        return pending().await;
    };
    if let Answers::Opening(opening) = &mut push.answers {
        match opening.await {
            Ok(answers) => push.answers = Answers::Open(Box::new(answers)),
            Err(error) => return Err(error.into()),
        }
    }
    match &mut push.answers {
        Answers::Open(answers) => {
            let answer = answers.message().await.map_err(|s| client.error(s))?;
            answer.ok_or(Ended::Closed)
        }
        Answers::Opening(_) => pending().await,
    }
}

/// What is waited for; never without that.
async fn came<T>(waited: Option<&mut BoxFuture<'static, T>>) -> T {
    match waited {
        Some(waited) => waited.await,
        None => pending().await,
    }
}

/// Nobody takes connections at an address of the network. One that hangs still does, by its kernel.
async fn is_gone(target: String) -> bool {
    let Ok(address) = target.parse::<SocketAddr>() else {
        return false; // a socket of this host
    };
    for limit in CONNECTS {
        let began = Instant::now();
        if let Ok(Ok(_)) = timeout(limit, TcpStream::connect(address)).await {
            return false;
        }
        sleep_until(began + limit).await;
    }
    true
}
