//! Many transactions over one call: answered one by one and in order, refusals among them, until the proxy ends.

use podline_api::v1;
use podline_lab::{Behaviour, wait};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::harness::{LONG, Proxy, http, pod, tcp, wire};

type Answers = tonic::Streaming<v1::ApplyResponse>;

/// A call whose requests come as they are sent.
fn call(proxy: &Proxy) -> (mpsc::Sender<v1::ApplyRequest>, Answers) {
    let (requests, pushed) = mpsc::channel(1_024);
    let pushed = ReceiverStream::new(pushed);
    let answers = proxy.block_on(proxy.client().push(pushed)).unwrap();
    (requests, answers)
}

fn next(proxy: &Proxy, answers: &mut Answers) -> Result<Option<v1::ApplyResponse>, tonic::Status> {
    let limited = async { tokio::time::timeout(LONG, answers.message()).await };
    proxy.block_on(limited).expect("an answer comes")
}

fn answer(proxy: &Proxy, answers: &mut Answers) -> v1::ApplyResponse {
    next(proxy, answers).unwrap().expect("the call goes on")
}

#[test]
fn each_request_is_answered_in_order_and_a_refusal_is_an_answer() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    let address = tcp::free_address();
    let (requests, mut answers) = call(&proxy);
    let first = wire::both(
        wire::listener("web", address, "web"),
        wire::set("web", &[pod.address()]),
    );
    let unfit = wire::change("nowhere", &[pod.address()], &[]);
    let malformed = v1::ApplyRequest {
        owner: String::new(),
        ..wire::request()
    };
    let many = (0..200).map(|_| wire::change("web", &[tcp::free_address()], &[]));
    let all = [first, unfit, malformed].into_iter().chain(many);
    for request in all {
        proxy.block_on(requests.send(request)).unwrap();
    }
    let taken = answer(&proxy, &mut answers);
    assert_eq!((taken.version, taken.refusal), (1, None));
    assert_eq!(taken.changes.len(), 2);
    for path in ["backendChanges[0].set", "owner"] {
        let refused = answer(&proxy, &mut answers);
        let refusal = refused.refusal.unwrap();
        assert_eq!((refused.version, refusal.reason.as_str()), (1, "INVALID"));
        assert_eq!(refusal.problems[0].path, path);
    }
    let versions = (0..200).map(|_| answer(&proxy, &mut answers).version);
    assert!(versions.eq(2..=201), "one version for each, in order");
    let (_, metrics) = proxy.page("/metrics").unwrap();
    for line in [
        "podline_applies_total{result=\"accepted\"} 201",
        "podline_applies_total{result=\"invalid\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    // The caller ends the call, and what it pushed stays.
    drop(requests);
    assert!(next(&proxy, &mut answers).unwrap().is_none());
    assert_eq!(proxy.set("web").total, 201);
}

#[test]
fn an_epoch_that_is_over_is_refused_in_a_push() {
    let proxy = Proxy::start();
    let (requests, mut answers) = call(&proxy);
    let epoch = |epoch| v1::ApplyRequest {
        epoch,
        ..wire::request()
    };
    for request in [epoch(Some(5)), epoch(Some(4)), epoch(None)] {
        proxy.block_on(requests.send(request)).unwrap();
    }
    let reasons = [(); 3].map(|()| {
        let refusal = answer(&proxy, &mut answers).refusal;
        refusal.map(|refusal| refusal.reason)
    });
    let stale = || Some("STALE_EPOCH".to_owned());
    assert_eq!(reasons, [None, stale(), stale()]);
    assert_eq!(proxy.get().owners[0].epoch, Some(5));
}

#[test]
fn a_push_ends_with_the_proxy_and_says_so() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    proxy.serve(&[pod.address()]);
    let (_requests, mut answers) = call(&proxy);
    proxy.signal(Signal::TERM);
    let end = next(&proxy, &mut answers).unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    assert!(proxy.wait_end(LONG).unwrap().success());
}

#[test]
fn while_connections_end_a_push_is_refused_and_changes_nothing() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    let address = proxy.serve(&[pod.address()]);
    let mut client = http::Client::connect(address).unwrap();
    client.name().unwrap();
    let (requests, mut answers) = call(&proxy);
    proxy.signal(Signal::TERM);
    wait::until(LONG, "it is shutting down", || !proxy.get().ready);
    let request = wire::change("web", &[tcp::free_address()], &[]);
    proxy.block_on(requests.send(request)).unwrap();
    let end = next(&proxy, &mut answers).unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    assert_eq!(proxy.set("web").total, 1);
    drop(client);
}
