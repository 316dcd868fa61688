//! The engine over a fake data plane, with tokio's clock paused: what is published when, what is said, and that a
//! refused transaction leaves no trace.

mod addresses;
mod apply;
mod bench;
mod drains;
mod ejections;
mod epochs;
mod explaining;
mod fake;
mod health;
mod http;
mod listeners;
mod networks;
mod overrides;
mod progress;
mod saving;
mod simulation;
mod transactions;
mod watching;

use super::*;
use fake::Fake;
use podline_api::{Backend, BackendChange, BackendKey, BackendSet, Listener, Protocol, Weight};
use podline_api::{CheckKind, HealthCheck, SetSettings};
use std::net::SocketAddr;

fn state() -> (Arc<Fake>, State) {
    let fake = Arc::new(Fake::new());
    let state = State::new(Arc::clone(&fake) as Arc<dyn DataPlane>);
    (fake, state)
}

/// The same, with health, drains and listeners moving on.
fn running() -> (Arc<Fake>, State) {
    let (fake, state) = state();
    let run = state.clone();
    tokio::spawn(async move { run.run().await });
    (fake, state)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn owned(owner: &str) -> Apply {
    Apply::new(owner.parse().unwrap())
}

fn address(n: u16) -> SocketAddr {
    ([10, 0, 0, 1], n).into()
}

fn key(n: u16) -> BackendKey {
    BackendKey {
        id: None,
        address: address(n),
    }
}

fn backend(n: u16, weight: u32) -> Backend {
    Backend {
        node: None,
        key: key(n),
        weight: Weight::try_from(weight).unwrap(),
    }
}

fn set(text: &str, backends: &[Backend]) -> BackendSet {
    BackendSet {
        name: name(text),
        settings: SetSettings::default(),
        backends: backends.to_vec(),
    }
}

fn checked(text: &str, backends: &[Backend]) -> BackendSet {
    let mut set = set(text, backends);
    set.settings.health_check = Some(HealthCheck::new(CheckKind::Tcp));
    set
}

fn listener(text: &str, port: u16, set: &str) -> Listener {
    let address = ([127, 0, 0, 1], port).into();
    Listener::new(name(text), address, Protocol::Tcp, name(set))
}

fn change(set: &str, upsert: &[Backend], remove: &[u16]) -> BackendChange {
    BackendChange {
        set: name(set),
        if_version: None,
        upsert: upsert.to_vec(),
        remove: remove.iter().map(|n| key(*n)).collect(),
        drain_timeout: None,
    }
}

/// One set "web" with these backends, taken.
async fn with_web(state: &State, web: BackendSet) {
    let mut apply = owned("file");
    apply.backend_sets = vec![web];
    state.apply(apply).await.unwrap();
}

async fn edit(state: &State, upsert: &[Backend], remove: &[u16]) -> v1::ApplyResponse {
    let mut apply = owned("file");
    apply.backend_changes = vec![change("web", upsert, remove)];
    state.apply(apply).await.unwrap()
}

/// One round of probes: every probe that is due gets `outcome`'s answer.
fn probe(state: &State, outcome: impl Fn(SocketAddr) -> ProbeOutcome) -> usize {
    let (due, _) = state.due_probes(usize::MAX);
    for (id, key) in &due {
        state.on_probe(*id, outcome(key.address), Finding::Connected);
    }
    due.len()
}

/// What was said since the last call, in short.
fn said(events: &mut broadcast::Receiver<Arc<v1::WatchResponse>>) -> Vec<String> {
    std::iter::from_fn(|| events.try_recv().ok())
        .map(|response| match response.event.clone().unwrap() {
            Event::Applied(applied) => format!("applied {}", applied.version),
            Event::Health(health) => {
                let to = v1::Health::try_from(health.to).unwrap();
                let backend = health.backend.unwrap().address;
                format!("{backend} {} in {}", to.as_str_name(), health.version)
            }
            Event::Listener(listener) => {
                let state = v1::listener_status::State::try_from(listener.state).unwrap();
                format!("{} {}", listener.name, state.as_str_name())
            }
            Event::Drained(drained) => {
                let stage = v1::drained::Stage::try_from(drained.stage).unwrap();
                let backend = drained.backend.unwrap().address;
                format!("{backend} {}", stage.as_str_name())
            }
            other => panic!("not a change: {other:?}"),
        })
        .collect()
}
