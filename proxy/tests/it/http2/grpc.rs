//! gRPC: trailers, with and without messages, streams in both directions at once, and calls that are given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ::h2::Reason;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use podline_lab::wait;

use super::backends::serve;
use crate::harness::h2::{self, Asked, Backend, Client};
use crate::harness::{LONG, Proxy};

/// A call of a method.
fn call(method: &str) -> Request<()> {
    let mut request = h2::request("POST", &format!("/test.Service/{method}"));
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

/// A message with its prefix.
fn message(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0], &length[..], text.as_bytes()].concat()
}

fn status(code: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().unwrap());
    trailers.insert("grpc-message", "said".parse().unwrap());
    trailers
}

/// A backend that answers calls: echoes messages, fails, or waits until it is given up, and counts that.
fn backend(given_up: &Arc<AtomicUsize>) -> Backend {
    let given_up = Arc::clone(given_up);
    Backend::start(usize::MAX, move |asked| {
        Box::pin(answer(asked, Arc::clone(&given_up)))
    })
}

async fn answer(
    (request, mut answer): Asked,
    given_up: Arc<AtomicUsize>,
) -> Result<(), ::h2::Error> {
    assert_eq!(request.headers()["te"], "trailers");
    let mut head = Response::new(());
    let kind = "application/grpc".parse().unwrap();
    head.headers_mut().insert("content-type", kind);
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    match &*path {
        "/test.Service/Fail" => {
            head.headers_mut().extend(status("5"));
            answer.send_response(head, true)?;
        }
        "/test.Service/Wait" => {
            let mut out = answer.send_response(head, false)?;
            std::future::poll_fn(|context| out.poll_reset(context)).await?;
            given_up.fetch_add(1, Relaxed);
        }
        _ => {
            let mut out = answer.send_response(head, false)?;
            while let Some(data) = body.data().await {
                let data = data?;
                h2::send_all(&mut out, &data, false).await?;
                body.flow_control().release_capacity(data.len())?;
            }
            out.send_trailers(status("0"))?;
        }
    }
    Ok(())
}

#[test]
fn a_call_brings_its_message_and_its_status() {
    let proxy = Proxy::start();
    let backend = backend(&Arc::default());
    let address = serve(&proxy, &[backend.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        for _ in 0..20 {
            let message = message("hello");
            let answer = client.ask(call("Echo"), &message, None).await.unwrap();
            assert_eq!(answer.field("content-type"), Some("application/grpc"));
            assert_eq!(answer.body, message);
            assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
        }
    });
}

#[test]
fn a_status_alone_stays_one() {
    let proxy = Proxy::start();
    let backend = backend(&Arc::default());
    let address = serve(&proxy, &[backend.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        let (answer, mut stream) = client.send(call("Fail"), false).await.unwrap();
        h2::send_all(&mut stream, &message("hello"), true)
            .await
            .unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "5");
        assert_eq!(answer.headers().get("content-length"), None);
        assert!(answer.body().is_end_stream());
    });
}

#[test]
fn messages_go_both_ways_as_they_come() {
    let proxy = Proxy::start();
    let backend = backend(&Arc::default());
    let address = serve(&proxy, &[backend.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        let (answer, mut stream) = client.send(call("Echo"), false).await.unwrap();
        let answer = answer.await.unwrap();
        let mut body = answer.into_body();
        for n in 0..100 {
            let message = message(&format!("message {n}"));
            h2::send_all(&mut stream, &message, false).await.unwrap();
            let mut got = Vec::new();
            while got.len() < message.len() {
                let data = body.data().await.unwrap().unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                got.extend_from_slice(&data);
            }
            assert_eq!(got, message);
        }
        stream.send_data(Bytes::new(), true).unwrap();
        let (rest, trailers) = h2::read_body(&mut body).await.unwrap();
        assert_eq!(rest, b"");
        assert_eq!(trailers.unwrap()["grpc-status"], "0");
    });
}

#[test]
fn a_call_that_is_given_up_is_given_up_at_its_backend() {
    let proxy = Proxy::start();
    let given_up = Arc::default();
    let backend = backend(&given_up);
    let address = serve(&proxy, &[backend.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        let mut bodies = Vec::new();
        for _ in 0..10 {
            let (answer, mut stream) = client.send(call("Wait"), false).await.unwrap();
            bodies.push(answer.await.unwrap().into_body());
            stream.send_reset(Reason::CANCEL);
        }
        wait::find(LONG, "all are given up", || async {
            (given_up.load(Relaxed) == 10).then_some(())
        })
        .await;
        // The connections on both sides are as good as before.
        let answer = client.ask(call("Echo"), &message("a"), None).await.unwrap();
        assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
    });
    assert_eq!(backend.accepted(), 1);
}
