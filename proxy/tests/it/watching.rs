//! Watchers are told everything, or cut off; they are never buffered without bound.

use podline_api::v1::{self, watch_response::Event};
use podline_lab::{Behaviour, Pod, wait};
use tonic::Code;

use crate::harness::{LONG, Proxy, http, pod, tcp, wire};

type Events = tonic::Streaming<v1::WatchResponse>;

fn next(proxy: &Proxy, events: &mut Events) -> Event {
    let limited = async { tokio::time::timeout(LONG, events.message()).await };
    let event = proxy.block_on(limited).expect("an event comes").unwrap();
    event
        .expect("the watch goes on")
        .event
        .expect("an event says something")
}

#[test]
fn hello_comes_first_then_the_state_then_changes() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    proxy.serve(&[pod.address()]);
    let version = proxy.get().version;
    let mut events = proxy.block_on(proxy.client().watch()).unwrap();
    let Event::Hello(hello) = next(&proxy, &mut events) else {
        panic!("no hello");
    };
    assert!(hello.level >= 1);
    let Event::State(state) = next(&proxy, &mut events) else {
        panic!("no state");
    };
    assert_eq!(
        (
            state.version,
            state.listeners.len(),
            state.backend_sets.len()
        ),
        (version, 1, 1)
    );
    let applied = proxy.apply(wire::change("web", &[tcp::free_address()], &[]));
    let told = loop {
        if let Event::Applied(told) = next(&proxy, &mut events) {
            break told;
        }
    };
    assert_eq!(
        (told.version, told.owner.as_str()),
        (applied.version, "test")
    );
    assert_eq!(told.changes[0].what, "set/web");
    assert_eq!(told.changes[0].backends_added, 1);
}

#[test]
fn health_and_listeners_are_told() {
    let proxy = Proxy::start();
    let mut events = proxy.block_on(proxy.client().watch()).unwrap();
    let (address, backend) = (tcp::free_address(), tcp::free_address());
    let holder = std::net::TcpListener::bind(address).unwrap();
    let mut set = wire::set("web", &[backend]);
    set.health_check = Some(wire::fast_check());
    proxy.apply(wire::both(wire::listener("web", address, "web"), set));
    let (mut failed, mut unhealthy) = (false, false);
    while !(failed && unhealthy) {
        match next(&proxy, &mut events) {
            Event::Listener(change) if change.state() == v1::listener_status::State::Failed => {
                failed = true;
            }
            Event::Health(change) if change.to() == v1::Health::Unhealthy => unhealthy = true,
            _ => (),
        }
    }
    drop(holder);
    let _pod = Pod::start("back", backend, Behaviour::Name).unwrap();
    let (mut listens, mut healthy) = (false, false);
    while !(listens && healthy) {
        match next(&proxy, &mut events) {
            Event::Listener(change) if change.state() == v1::listener_status::State::Listening => {
                listens = true;
            }
            Event::Health(change) if change.to() == v1::Health::Healthy => healthy = true,
            _ => (),
        }
    }
}

#[test]
fn a_watcher_that_stops_reading_is_cut_and_memory_stays_bounded() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::alone();
    let address = proxy.serve(&[pod.address()]);
    // An event of some 50 KB, so that few of them fill every buffer.
    let fat = |round: u16| {
        let sets = (0..200).map(|i| {
            let name = format!("{}-{i}", "n".repeat(200));
            wire::set(&name, &[([127, 0, 0, 1], 1000 + round).into()])
        });
        v1::ApplyRequest {
            backend_sets: sets.collect(),
            ..wire::request()
        }
    };
    proxy.apply(fat(0));
    let before = proxy.resident_bytes();
    let mut lazy = proxy.block_on(proxy.client().watch()).unwrap();
    for round in 1..=400 {
        proxy.apply(fat(round % 100)); // 20 MB of events
    }
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {} KiB", grown / 1024);
    assert_eq!(http::ask(address).unwrap(), "a");
    let end = proxy.block_on(async {
        loop {
            match tokio::time::timeout(LONG, lazy.message())
                .await
                .expect("it ends")
            {
                Ok(Some(_)) => (),
                Ok(None) => panic!("it ended as if all had been told"),
                Err(status) => return status,
            }
        }
    });
    assert_eq!(end.code(), Code::ResourceExhausted, "{end:?}");
    assert!(!end.message().is_empty(), "it says why");
}

#[test]
fn a_watcher_that_goes_away_is_forgotten() {
    let proxy = Proxy::start();
    for _ in 0..200 {
        let mut events = proxy.block_on(proxy.client().watch()).unwrap(); // more than may watch at once
        assert!(matches!(next(&proxy, &mut events), Event::Hello(_)));
        drop(events);
    }
    wait::until(LONG, "there is room for one more", || {
        proxy.block_on(proxy.client().watch()).is_ok()
    });
}
