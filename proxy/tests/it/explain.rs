//! Why a backend gets traffic, or why not: asked of a running proxy.

use std::net::SocketAddr;

use podline_api::client::ClientError;
use podline_api::{Rejected, v1};
use podline_lab::{Behaviour, wait};
use v1::explanation::Reason;

use crate::harness::{LONG, Proxy, SECOND, http, pod, tcp, wire};

fn ask(
    proxy: &Proxy,
    set: &str,
    backend: Option<SocketAddr>,
) -> Result<Vec<v1::Explanation>, ClientError> {
    let request = v1::ExplainRequest {
        set: set.to_owned(),
        backend: backend.map(wire::backend),
    };
    let answer = proxy.block_on(proxy.client().explain(request));
    answer.map(|answer| answer.backends)
}

fn why(proxy: &Proxy, backend: SocketAddr) -> v1::Explanation {
    ask(proxy, "web", Some(backend)).unwrap().remove(0)
}

#[test]
fn a_backend_is_explained_from_its_first_probe_to_its_removal() {
    let (alive, dead) = (pod("alive", Behaviour::Name), tcp::free_address());
    let proxy = Proxy::start();
    let address = tcp::free_address();
    let mut set = wire::set("web", &[alive.address(), dead]);
    set.health_check = Some(wire::fast_check());
    set.drain_timeout = wire::time(60 * SECOND);
    proxy.serve_with(wire::listener("web", address, "web"), set);
    wait::until(LONG, "both have their verdict", || {
        why(&proxy, alive.address()).reason() == Reason::ProbesPass
            && why(&proxy, dead).reason() == Reason::ProbesFail
    });
    let told = why(&proxy, dead);
    assert!(!told.gets_traffic && told.since.is_some());
    assert!(told.message.starts_with("unhealthy: "), "{}", told.message);
    assert!(told.message.contains("refused"), "{}", told.message);
    assert!(why(&proxy, alive.address()).gets_traffic);

    let mut client = http::Client::connect(address).unwrap();
    client.name().unwrap();
    let drain = v1::OverrideRequest {
        set: "web".to_owned(),
        backend: Some(wire::backend(alive.address())),
        action: v1::override_request::Action::Drain.into(),
        note: "a new disk".to_owned(),
        ..v1::OverrideRequest::default()
    };
    proxy
        .block_on(proxy.client().override_backend(drain))
        .unwrap();
    let told = why(&proxy, alive.address());
    assert_eq!(told.reason(), Reason::DrainedByOverride);
    let start = "drained by override of local: a new disk, until undone";
    assert!(told.message.starts_with(start), "{}", told.message);

    proxy.apply(wire::change("web", &[], &[alive.address()]));
    let told = why(&proxy, alive.address());
    assert_eq!(
        (told.reason(), told.active_connections),
        (Reason::Removed, 1)
    );
    assert_eq!(ask(&proxy, "web", None).unwrap().len(), 2);
    // With the healthy one gone, what is left gets everything.
    let told = why(&proxy, dead);
    assert_eq!((told.reason(), told.gets_traffic), (Reason::FailOpen, true));
}

#[test]
fn a_listener_that_failed_is_told_and_what_is_not_there_is_not_found() {
    let pod = pod("a", Behaviour::Name);
    let (_held, address) = tcp::backend();
    let proxy = Proxy::start();
    proxy.apply(wire::both(
        wire::listener("web", address, "web"),
        wire::set("web", &[pod.address()]),
    ));
    let told = why(&proxy, pod.address());
    assert_eq!(
        (told.reason(), told.gets_traffic),
        (Reason::ListenerFailed, false)
    );
    assert!(told.message.contains("in use"), "{}", told.message);
    let missing = [
        ask(&proxy, "web", Some(tcp::free_address())),
        ask(&proxy, "nowhere", None),
    ];
    let paths = missing.map(|answer| match answer.unwrap_err() {
        ClientError::Rejected {
            source: Rejected::NotFound { path, .. },
            ..
        } => path,
        other => panic!("{other:?}"),
    });
    assert_eq!(paths, ["backend", "set"]);
}
