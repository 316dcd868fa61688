//! A state over the fake data plane with shorthand for what most tests say: who applies what, and what is seen then.

use super::fake::Fake;
use crate::lb::backend::BackendRuntime;
use crate::lb::health::ProbeOutcome;
use crate::lb::trie::Member;
use crate::probe::finding::Finding;
use crate::state::State;
use crate::state::ports::DataPlane;
use podline_api::{
    Apply, Backend, BackendChange, BackendId, BackendKey, BackendSet, CheckKind, HealthCheck,
    Listener, Name, Protocol, Rejected, SetSettings, Weight, v1,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::sync::broadcast;
use v1::watch_response::Event;

/// A state over a fake, with everything running that moves on its own.
pub(super) struct Bench {
    pub(super) state: State,
    pub(super) fake: Arc<Fake>,
}

impl Bench {
    /// Needs a runtime with a paused clock.
    pub(super) fn start() -> Self {
        let bench = Self::still();
        let state = bench.state.clone();
        tokio::spawn(async move { state.run().await });
        bench
    }

    /// After a restart: versions go on behind `version`.
    pub(super) fn start_at(version: u64) -> Self {
        let bench = Self::start();
        bench.fake.first.store(version, SeqCst);
        bench
    }

    /// Nothing moves on its own.
    pub(super) fn still() -> Self {
        let fake = Arc::new(Fake::new());
        let state = State::new(Arc::clone(&fake) as Arc<dyn DataPlane>);
        Self { state, fake }
    }

    pub(super) async fn apply(&self, apply: &Apply) -> v1::ApplyResponse {
        self.state.apply(apply.clone()).await.unwrap()
    }

    pub(super) async fn refused(&self, apply: Apply) -> Rejected {
        self.state.apply(apply).await.unwrap_err()
    }

    /// All that does not change with time alone.
    pub(super) fn get(&self) -> v1::GetResponse {
        v1::GetResponse {
            now: None,
            ..self.state.get(&v1::GetRequest::default())
        }
    }

    /// Workers acknowledge only what [`Self::acknowledge`] says.
    pub(super) fn hold_acknowledgements(&self) {
        self.fake.is_silent.store(true, SeqCst);
    }

    pub(super) fn acknowledge(&self, version: u64) {
        self.fake.acknowledged.send_replace(version);
    }

    /// All that can be seen, and how often it was published.
    pub(super) fn seen(&self) -> (v1::GetResponse, usize) {
        (self.get(), self.fake.publishes())
    }

    /// A member of a set as last published.
    pub(super) fn member(&self, set: &str, key: &BackendKey) -> Option<Member> {
        let id = self.state.engine().sets.get(&name(set))?.id;
        self.fake.table().set(id)?.member(key).cloned()
    }

    pub(super) fn runtime(&self, set: &str, key: &BackendKey) -> Arc<BackendRuntime> {
        self.member(set, key).unwrap().runtime
    }

    pub(super) fn status(&self, set: &str, key: &BackendKey) -> v1::BackendStatus {
        let all = self.get().backend_sets;
        let set = all
            .into_iter()
            .find(|s| s.set.as_ref().unwrap().name == set);
        let wanted = key.address.to_string();
        set.unwrap()
            .backends
            .into_iter()
            .find(|b| {
                let found = b.backend.as_ref().unwrap();
                found.address == wanted
                    && found.id.as_deref() == key.id.as_ref().map(BackendId::as_str)
            })
            .unwrap()
    }

    pub(super) fn events(&self) -> broadcast::Receiver<Arc<v1::WatchResponse>> {
        self.state.watch().2
    }
}

/// What has happened so far.
pub(super) fn drain(events: &mut broadcast::Receiver<Arc<v1::WatchResponse>>) -> Vec<Event> {
    std::iter::from_fn(|| events.try_recv().ok())
        .map(|response| response.event.clone().unwrap())
        .collect()
}

/// Does every probe that is due, with the outcome that `of` says for the backend.
pub(super) fn probe(bench: &Bench, of: impl Fn(u32) -> ProbeOutcome) -> usize {
    let (due, _) = bench.state.due_probes(100_000);
    for (id, probe) in &due {
        let n = (0..1_000)
            .find(|n| key(*n).address == probe.address)
            .unwrap();
        bench.state.on_probe(*id, of(n), Finding::Connected);
    }
    due.len()
}

/// Lets a batch be published.
pub(super) async fn batch() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(super) fn by(owner: &str) -> Apply {
    Apply::new(owner.parse().unwrap())
}

pub(super) fn key(n: u32) -> BackendKey {
    let address = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + n), 80));
    BackendKey { id: None, address }
}

pub(super) fn key_of(n: u32, id: &str) -> BackendKey {
    BackendKey {
        id: Some(BackendId::try_from(id).unwrap()),
        ..key(n)
    }
}

pub(super) fn weighing(key: BackendKey, weight: u8) -> Backend {
    let weight = Weight::try_from(u32::from(weight)).unwrap();
    Backend {
        node: None,
        key,
        weight,
    }
}

/// Backends with these numbers, unchecked.
pub(super) fn set(text: &str, backends: impl IntoIterator<Item = u32>) -> BackendSet {
    BackendSet {
        name: name(text),
        settings: SetSettings::default(),
        backends: backends.into_iter().map(|n| weighing(key(n), 10)).collect(),
    }
}

/// Thresholds of 3.
pub(super) fn checked(text: &str, backends: impl IntoIterator<Item = u32>) -> BackendSet {
    let mut set = set(text, backends);
    set.settings.health_check = Some(HealthCheck::new(CheckKind::Tcp));
    set
}

pub(super) fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

pub(super) fn listener(text: &str, port: u16, set: &str) -> Listener {
    Listener::new(name(text), at(port), Protocol::Tcp, name(set))
}

pub(super) fn change(set: &str, upsert: &[Backend], remove: &[BackendKey]) -> BackendChange {
    BackendChange {
        set: name(set),
        if_version: None,
        upsert: upsert.to_vec(),
        remove: remove.to_vec(),
        drain_timeout: None,
    }
}

/// Listener `web` on port 80 with a set of backends 1, 2 and 3.
pub(super) fn web() -> Apply {
    Apply {
        listeners: vec![listener("web", 80, "web")],
        backend_sets: vec![set("web", 1..=3)],
        ..by("me")
    }
}
