//! What an operator says about one backend holds whatever its owner does, drains as a removal does, and ends on time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use podline_api::v1::{
    self, drained::Stage, explanation::Reason, override_request::Action, watch_response::Event,
};
use podline_lab::{Behaviour, wait};
use tonic::Code;

use crate::harness::{LONG, Proxy, SECOND, Start, addresses, http, pod, tcp, wire};

/// As many as are connected to one backend when it is drained; each takes two descriptors here and two in the proxy.
const LONG_LIVED: usize = 1_000;

fn request(action: Action, backend: SocketAddr) -> v1::OverrideRequest {
    v1::OverrideRequest {
        set: "web".to_owned(),
        backend: Some(wire::backend(backend)),
        action: action.into(),
        ..v1::OverrideRequest::default()
    }
}

fn ask(proxy: &Proxy, request: v1::OverrideRequest) -> v1::OverrideResponse {
    let answer = proxy.block_on(proxy.client().override_backend(request));
    answer.unwrap()
}

/// The names that answer twenty requests in a row.
fn names(address: SocketAddr) -> Vec<String> {
    let mut names: Vec<String> = (0..20).map(|_| http::ask(address).unwrap()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn a_drained_backend_gets_nothing_new_through_publishes_until_it_is_undrained() {
    let pods = [pod("a", Behaviour::Name), pod("b", Behaviour::Name)];
    let proxy = Proxy::start();
    let address = proxy.serve(&addresses(&pods));
    let mut kept: Vec<_> = (0..4)
        .map(|_| http::Client::connect(address).unwrap())
        .collect();
    for client in &mut kept {
        client.name().unwrap();
    }
    let drained = pods[0].address();
    let answer = ask(&proxy, request(Action::Drain, drained));
    assert!(answer.changed && answer.status.is_some());
    // It was answered when every worker acts on it.
    assert_eq!(names(address), ["b"]);
    let mut weigh = wire::change("web", &[drained], &[]);
    weigh.backend_changes[0].upsert[0].weight = Some(100);
    proxy.apply(weigh);
    assert_eq!(names(address), ["b"]);
    proxy.apply(wire::change("web", &[], &[drained]));
    proxy.apply(wire::change("web", &[drained], &[]));
    assert_eq!(names(address), ["b"]);
    let shown = proxy.backend("web", drained).unwrap();
    assert_eq!(
        (shown.reason(), shown.gets_traffic),
        (Reason::DrainedByOverride, false)
    );
    assert_eq!(shown.overriding.unwrap().by, "local");
    // Connections from before live on.
    for client in &mut kept {
        client.name().unwrap();
    }
    ask(&proxy, request(Action::Undrain, drained));
    assert_eq!(names(address), ["a", "b"]);
}

#[test]
fn overrides_survive_publishes_and_end_on_time() {
    let pods = [pod("a", Behaviour::Name), pod("b", Behaviour::Name)];
    let proxy = Proxy::start();
    let address = proxy.serve(&addresses(&pods));
    let mut events = proxy.block_on(proxy.client().watch()).unwrap();
    let begun = Instant::now();
    ask(
        &proxy,
        v1::OverrideRequest {
            weight: Some(0),
            lasts: wire::time(2 * SECOND),
            note: "for a moment".to_owned(),
            ..request(Action::Weight, pods[0].address())
        },
    );
    for weight in 1..=20 {
        let mut change = wire::change("web", &[pods[0].address()], &[]);
        change.backend_changes[0].upsert[0].weight = Some(weight);
        proxy.apply(change);
    }
    let meanwhile = names(address);
    if begun.elapsed() < 2 * SECOND {
        assert_eq!(meanwhile, ["b"]);
    }
    let ended = async {
        loop {
            let event = events.message().await.unwrap().unwrap().event;
            if let Some(Event::Override(changed)) = event
                && changed.ended
            {
                return changed.status.unwrap();
            }
        }
    };
    let ended = proxy.block_on(async { tokio::time::timeout(LONG, ended).await });
    assert_eq!(ended.unwrap().note, "for a moment");
    // The proxy's clock is that of the kernel's ticks, of which there are a hundred a second at least.
    let tick = Duration::from_millis(10);
    assert!(begun.elapsed() + tick >= 2 * SECOND);
    assert!(proxy.get().overrides.is_empty());
    wait::until(LONG, "the owner's weight counts again", || {
        names(address) == ["a", "b"]
    });
}

#[test]
fn a_drain_by_override_empties_a_thousand_long_connections_by_its_deadline() {
    let pods = [pod("a", Behaviour::Echo), pod("b", Behaviour::Echo)];
    let proxy = Start {
        alone: true,
        ..Start::default()
    }
    .ready();
    let address = proxy.serve(&[pods[0].address()]);
    let streams: Vec<_> = (0..LONG_LIVED).map(|_| tcp::connect(address)).collect();
    wait::until(LONG, "all are connected", || {
        proxy.set("web").backends[0].active_connections == LONG_LIVED as u64
            && pods[0].counts().accepted() == LONG_LIVED as u64
    });
    proxy.apply(wire::change("web", &[pods[1].address()], &[]));
    let mut events = proxy.block_on(proxy.client().watch()).unwrap();
    let begun = Instant::now();
    ask(
        &proxy,
        v1::OverrideRequest {
            drain_timeout: wire::time(2 * SECOND),
            ..request(Action::Drain, pods[0].address())
        },
    );
    let mut stage = || {
        let next = async {
            loop {
                let event = events.message().await.unwrap().unwrap().event;
                if let Some(Event::Drained(drained)) = event {
                    return (drained.stage(), drained.forced);
                }
            }
        };
        let limited = async { tokio::time::timeout(LONG, next).await };
        proxy.block_on(limited).unwrap()
    };
    assert_eq!(stage(), (Stage::Closed, 0));
    // Everybody has until the deadline, and new ones go elsewhere.
    let fresh = tcp::connect(address);
    let fresh_is_elsewhere = || pods[1].counts().accepted() == 1;
    wait::until(LONG, "a new one is served", fresh_is_elsewhere);
    assert_eq!(stage(), (Stage::Empty, LONG_LIVED as u64));
    assert!(begun.elapsed() >= 2 * SECOND, "{:?}", begun.elapsed());
    for stream in &streams {
        assert!(tcp::is_reset_within(stream, LONG));
    }
    assert!(!tcp::is_reset_within(&fresh, Duration::ZERO));
    assert_eq!(pods[0].counts().accepted(), LONG_LIVED as u64);
    // Reset first, then counted out.
    wait::until(LONG, "one is left", || proxy.active() == 1);
}

#[test]
fn undrained_in_time_nothing_is_cut() {
    let pod = pod("a", Behaviour::Echo);
    let proxy = Proxy::start();
    let address = proxy.serve(&[pod.address()]);
    let stream = tcp::connect(address);
    wait::until(LONG, "it is connected", || pod.counts().accepted() == 1);
    ask(
        &proxy,
        v1::OverrideRequest {
            drain_timeout: wire::time(3 * SECOND),
            ..request(Action::Drain, pod.address())
        },
    );
    ask(&proxy, request(Action::Undrain, pod.address()));
    assert!(!tcp::is_reset_within(&stream, 4 * SECOND));
    tcp::connect(address);
    wait::until(LONG, "it serves again", || pod.counts().accepted() == 2);
}

#[test]
fn what_cannot_be_overridden_is_refused_with_its_path() {
    let proxy = Proxy::start();
    let backend = tcp::free_address();
    proxy.serve(&[backend]);
    let elsewhere = v1::OverrideRequest {
        set: "api".to_owned(),
        ..request(Action::Drain, backend)
    };
    let unknown = request(Action::Drain, tcp::free_address());
    let malformed = v1::OverrideRequest {
        weight: Some(101),
        ..request(Action::Weight, backend)
    };
    let cases = [
        (elsewhere, Code::NotFound, "set"),
        (unknown, Code::NotFound, "backend"),
        (malformed, Code::InvalidArgument, "weight"),
    ];
    for (request, code, path) in cases {
        let refused = proxy.block_on(proxy.client().override_backend(request));
        let podline_api::client::ClientError::Rejected { source, .. } = refused.unwrap_err() else {
            panic!("not a refusal");
        };
        let status = tonic::Status::from(source);
        assert_eq!(status.code(), code);
        let details = tonic_types::StatusExt::get_error_details(&status);
        let fields = &details.bad_request().unwrap().field_violations;
        assert_eq!(fields[0].field, path);
    }
    assert!(proxy.get().overrides.is_empty());
}
