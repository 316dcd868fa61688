//! Listens to the proxy's Watch stream: prints what happens, and remembers when.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use podline_api::client::{ClientError, ProxyClient};
use podline_api::v1::{self, watch_response::Event};

use super::screen::Screen;

/// What was heard: when, about which Pod, and what.
type Heard = (Instant, String, Note);

/// What is remembered of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// Its health is now this.
    Health(v1::Health),
    /// No new connection can reach it any more.
    Closed,
    /// Its last connection is gone.
    Empty,
}

/// The stream's events so far. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Watcher(Arc<Mutex<Vec<Heard>>>);

impl Watcher {
    /// Starts to listen; events of others than `owner` are told as theirs.
    pub(super) async fn start(
        client: &ProxyClient,
        owner: &'static str,
        screen: &Screen,
    ) -> Result<Self, ClientError> {
        let mut stream = client.watch().await?;
        let (watcher, screen) = (Self::default(), screen.clone());
        let heard = watcher.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                if let Some(event) = message.event {
                    if let Some(text) = tell(&event, owner) {
                        screen.event("watch", &text);
                    }
                    heard.note(&event);
                }
            }
        });
        Ok(watcher)
    }

    fn note(&self, event: &Event) {
        let note = match event {
            Event::Health(changed) => Note::Health(changed.to()),
            Event::Drained(drained) if drained.stage() == v1::drained::Stage::Closed => {
                Note::Closed
            }
            Event::Drained(_) => Note::Empty,
            _ => return,
        };
        let (Event::Health(v1::HealthChanged { backend, .. })
        | Event::Drained(v1::Drained { backend, .. })) = event
        else {
            return;
        };
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push((Instant::now(), name(backend.as_ref()), note));
    }

    /// How long after `since` this was heard of a Pod, if it was.
    pub(super) fn after(&self, since: Instant, pod: &str, note: Note) -> Option<Duration> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = heard
            .iter()
            .find(|(at, who, what)| *at >= since && who == pod && *what == note);
        found.map(|(at, ..)| *at - since)
    }
}

/// The event in words, unless it is noise here.
fn tell(event: &Event, owner: &str) -> Option<String> {
    let because = |reason: &str| {
        if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        }
    };
    match event {
        Event::Health(changed) => Some(format!(
            "{} {} -> {}{}",
            name(changed.backend.as_ref()),
            changed.from().as_str_name().to_lowercase(),
            changed.to().as_str_name().to_lowercase(),
            because(&changed.reason)
        )),
        Event::Drained(drained) => {
            let pod = name(drained.backend.as_ref());
            Some(match drained.stage() {
                v1::drained::Stage::Closed => {
                    format!("{pod} closed: no new connection can reach it")
                }
                _ if drained.forced == 0 => {
                    format!("{pod} empty: its last connection has ended by itself")
                }
                _ => format!(
                    "{pod} empty: {} connections were cut at the deadline",
                    drained.forced
                ),
            })
        }
        Event::Listener(changed) => Some(format!(
            "listener {} {}{}",
            changed.name,
            changed.state().as_str_name().to_lowercase(),
            because(&changed.reason)
        )),
        Event::Applied(applied) if applied.owner != owner => Some(format!(
            "owner {} pushed version {}",
            applied.owner, applied.version
        )),
        _ => None,
    }
}

/// The Pod's name is its backend's id.
fn name(backend: Option<&v1::Backend>) -> String {
    let Some(backend) = backend else {
        return "?".to_owned();
    };
    backend
        .id
        .clone()
        .unwrap_or_else(|| backend.address.clone())
}
