//! Bytes that are no requests hurt nobody.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use podline_api::client::ProxyClient;
use podline_api::v1;
use podline_lab::{Behaviour, wait};

use crate::harness::{LONG, Proxy, SECOND, Start, http, pod, tcp, wire};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A few hundred bytes that look like nothing.
fn noise(seed: u8) -> Vec<u8> {
    podline_lab::pattern::at(u64::from(seed) * 7919, 600).to_vec()
}

/// Sends `bytes` and reads until the other side has had enough, or ends.
fn throw(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SECOND / 5)).unwrap();
    stream.write_all(bytes).ok(); // it may be cut off
    stream.shutdown(Shutdown::Write).ok();
    let mut answer = [0; 4096];
    while stream.read(&mut answer).is_ok_and(|count| count > 0) {}
}

fn inputs() -> Vec<Vec<u8>> {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let huge_frame = [255, 255, 255, 0, 0, 0, 0, 0, 1];
    let headers_of_noise = [0, 2, 88, 1, 4, 0, 0, 0, 1];
    let with_preface = |parts: &[&[u8]]| [&[PREFACE], parts].concat().concat();
    vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), // the start of TLS
        noise(1),
        PREFACE[..10].to_vec(),
        with_preface(&[&noise(2)]),
        with_preface(&[&settings, &huge_frame, &noise(3)]),
        with_preface(&[&settings, &headers_of_noise, &noise(4)]),
        with_preface(&[&settings.repeat(200)]),
        vec![b'a'; 1 << 20],
    ]
}

#[test]
fn malformed_bytes_at_the_api_and_at_the_admin_server_stop_nothing() {
    let pod = pod("a", Behaviour::Name);
    let api = tcp::free_address();
    let proxy = Start {
        api: Some(api),
        ..Start::default()
    }
    .ready();
    let address = proxy.serve(&[pod.address()]);
    for input in inputs() {
        throw(api, &input);
        throw(proxy.admin, &input);
    }
    assert_eq!(http::ask(address).unwrap(), "a");
    assert!(proxy.get().ready);
    assert_eq!(proxy.page("/healthz").unwrap().0, 200);
}

#[test]
fn a_message_beyond_the_limit_is_refused_and_the_api_goes_on() {
    let api = tcp::free_address();
    let proxy = Start {
        api: Some(api),
        ..Start::default()
    }
    .ready();
    let huge = v1::ApplyRequest {
        owner: "x".repeat(podline_api::MAX_MESSAGE_BYTES + 1),
        ..wire::request()
    };
    let outcome = proxy.block_on(async move {
        let mut client = v1::proxy_client::ProxyClient::connect(format!("http://{api}"))
            .await
            .unwrap()
            .max_encoding_message_size(usize::MAX);
        client.apply(huge).await
    });
    let status = outcome.unwrap_err();
    assert!(
        [tonic::Code::OutOfRange, tonic::Code::ResourceExhausted].contains(&status.code()),
        "{status:?}"
    );
    assert!(proxy.get().ready);
}

#[test]
fn many_silent_connections_to_the_api_do_not_stop_others() {
    let proxy = Proxy::start();
    let path = proxy.api.strip_prefix("unix:").unwrap().to_owned();
    let silent: Vec<_> = (0..20)
        .filter_map(|_| std::os::unix::net::UnixStream::connect(&path).ok())
        .collect();
    let pages: Vec<_> = (0..20).map(|_| tcp::connect(proxy.admin)).collect();
    wait::until(LONG, "the API answers a new client", || {
        proxy.block_on(ProxyClient::connect(&proxy.api)).is_ok()
    });
    assert_eq!(proxy.page("/healthz").unwrap().0, 200);
    drop((silent, pages));
}
