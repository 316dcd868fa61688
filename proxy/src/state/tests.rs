//! The state engine over a data plane that does what a test says: it refuses addresses, acknowledges when told to, and
//! writes down what it was asked for. Time is tokio's paused clock.

mod drains;
mod health;
mod large;
mod listeners;
mod shadow;
mod survival;
mod transactions;
mod watching;

use super::State;
use super::ports::{BindError, DataPlane, ForceClose};
use crate::lb::ListenerId;
use crate::lb::backend::{BackendRuntime, ListenerCounters};
use crate::lb::table::{ListenerRoute, RouteTable};
use crate::lb::trie::Member;
use futures_util::future::BoxFuture;
use podline_api::{
    Apply, Backend, BackendChange, BackendId, BackendKey, BackendSet, CheckKind, HealthCheck,
    Listener, Name, Protocol, Rejected, SetSettings, Weight, v1,
};
use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use v1::watch_response::Event;

/// What the fake data plane was asked for.
#[derive(Default)]
struct Asked {
    tables: Vec<Arc<RouteTable>>,
    bound: Vec<(ListenerId, SocketAddr)>,
    unbound: Vec<ListenerId>,
    cut: Vec<ForceClose>,
    /// Addresses that somebody else holds.
    taken: HashSet<SocketAddr>,
}

struct Fake {
    asked: Mutex<Asked>,
    acknowledged: watch::Sender<u64>,
    /// Acknowledge each version as it comes.
    prompt: watch::Sender<bool>,
    began: Instant,
}

impl Fake {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap()
    }

    fn table(&self) -> Arc<RouteTable> {
        self.asked().tables.last().cloned().unwrap_or_default()
    }

    fn acknowledge(&self, version: u64) {
        self.acknowledged.send_replace(version);
    }
}

impl DataPlane for Fake {
    fn bind(
        &self,
        id: ListenerId,
        address: SocketAddr,
        _: &ListenerRoute,
        _: Arc<ListenerCounters>,
    ) -> Result<(), BindError> {
        let mut asked = self.asked();
        if asked.taken.contains(&address) {
            return Err(BindError::new(
                address,
                std::io::ErrorKind::AddrInUse.into(),
            ));
        }
        asked.bound.push((id, address));
        Ok(())
    }

    fn unbind(&self, id: ListenerId) {
        self.asked().unbound.push(id);
    }

    fn publish(&self, table: Arc<RouteTable>) {
        if *self.prompt.borrow() {
            self.acknowledge(table.version);
        }
        self.asked().tables.push(table);
    }

    fn acknowledged(&self, version: u64, within: Duration) -> BoxFuture<'_, Result<(), Vec<u32>>> {
        let mut acknowledged = self.acknowledged.subscribe();
        Box::pin(async move {
            let all = acknowledged.wait_for(|v| *v >= version);
            match tokio::time::timeout(within, all).await {
                Ok(_) => Ok(()),
                Err(_) => Err(vec![1]),
            }
        })
    }

    fn force_close(&self, what: ForceClose) {
        self.asked().cut.push(what);
    }

    fn workers(&self) -> u32 {
        2
    }

    fn active_connections(&self) -> u64 {
        0
    }

    fn descriptors(&self) -> (u64, u64) {
        (0, 1_000)
    }

    fn accept_pauses(&self) -> u64 {
        0
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }
}

/// A state over a fake, with everything running that moves on its own.
struct Bench {
    state: State,
    fake: Arc<Fake>,
}

impl Bench {
    /// Needs a runtime with a paused clock.
    fn start() -> Self {
        let bench = Self::still();
        let state = bench.state.clone();
        tokio::spawn(async move { state.run().await });
        bench
    }

    /// Nothing moves on its own.
    fn still() -> Self {
        let fake = Arc::new(Fake {
            asked: Mutex::default(),
            acknowledged: watch::Sender::new(0),
            prompt: watch::Sender::new(true),
            began: Instant::now(),
        });
        let state = State::new(Arc::clone(&fake) as Arc<dyn DataPlane>);
        Self { state, fake }
    }

    async fn apply(&self, apply: &Apply) -> v1::ApplyResponse {
        self.state.apply(apply.clone()).await.unwrap()
    }

    async fn refused(&self, apply: Apply) -> Rejected {
        self.state.apply(apply).await.unwrap_err()
    }

    fn get(&self) -> v1::GetResponse {
        self.state.get(&v1::GetRequest::default())
    }

    /// All that can be seen, but for moments.
    fn seen(&self) -> (v1::GetResponse, usize, usize, usize) {
        let asked = self.fake.asked();
        let counts = (asked.tables.len(), asked.bound.len(), asked.unbound.len());
        drop(asked);
        (self.get(), counts.0, counts.1, counts.2)
    }

    /// A member of a set as last published.
    fn member(&self, set: &str, key: &BackendKey) -> Option<Member> {
        let id = self.state.engine().sets.get(&name(set))?.id;
        self.fake.table().set(id)?.member(key).cloned()
    }

    fn runtime(&self, set: &str, key: &BackendKey) -> Arc<BackendRuntime> {
        self.member(set, key).unwrap().runtime
    }

    fn status(&self, set: &str, key: &BackendKey) -> v1::BackendStatus {
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

    fn events(&self) -> broadcast::Receiver<Arc<v1::WatchResponse>> {
        self.state.watch().2
    }
}

/// What has happened so far.
fn drain(events: &mut broadcast::Receiver<Arc<v1::WatchResponse>>) -> Vec<Event> {
    std::iter::from_fn(|| events.try_recv().ok())
        .map(|response| response.event.clone().unwrap())
        .collect()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn by(owner: &str) -> Apply {
    Apply::new(owner.parse().unwrap())
}

fn key(n: u32) -> BackendKey {
    let address = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + n), 80));
    BackendKey { id: None, address }
}

fn key_of(n: u32, id: &str) -> BackendKey {
    BackendKey {
        id: Some(BackendId::try_from(id).unwrap()),
        ..key(n)
    }
}

fn weighing(key: BackendKey, weight: u8) -> Backend {
    let weight = Weight::try_from(u32::from(weight)).unwrap();
    Backend { key, weight }
}

/// Backends with these numbers, unchecked.
fn set(text: &str, backends: impl IntoIterator<Item = u32>) -> BackendSet {
    BackendSet {
        name: name(text),
        settings: SetSettings::default(),
        backends: backends.into_iter().map(|n| weighing(key(n), 10)).collect(),
    }
}

/// Thresholds of 3.
fn checked(text: &str, backends: impl IntoIterator<Item = u32>) -> BackendSet {
    let mut set = set(text, backends);
    set.settings.health_check = Some(HealthCheck::new(CheckKind::Tcp));
    set
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn listener(text: &str, port: u16, set: &str) -> Listener {
    Listener::new(name(text), at(port), Protocol::Tcp, name(set))
}

fn change(set: &str, upsert: &[Backend], remove: &[BackendKey]) -> BackendChange {
    BackendChange {
        set: name(set),
        if_version: None,
        upsert: upsert.to_vec(),
        remove: remove.to_vec(),
    }
}

/// Listener `web` on port 80 with a set of backends 1, 2 and 3.
fn web() -> Apply {
    Apply {
        listeners: vec![listener("web", 80, "web")],
        backend_sets: vec![set("web", 1..=3)],
        ..by("me")
    }
}
