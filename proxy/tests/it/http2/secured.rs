//! HTTP/2 over TLS: agreed on with clients, and with backends.

use podline_api::v1;
use podline_api::v1::listener::Protocol;

use crate::harness::h2::{self, Backend, Client, echo};
use crate::harness::secure::{Tls, listener, made, settings};
use crate::harness::web::Server;
use crate::harness::{Proxy, tcp, wire};

const NAME: &str = "shop.example";

#[test]
fn clients_agree_on_it_and_backends_are_told() {
    let proxy = Proxy::start();
    let (pair, server) = (made(&[NAME]), Server::saying("a"));
    let address = tcp::free_address();
    let https = listener("web", Protocol::Https, address, settings(&[&pair]));
    proxy.serve_with(https, wire::set("web", &[server.address]));
    let tls = Tls::trusting(&[&pair]);
    h2::run(async {
        let client = Client::connect_tls(address, &tls, NAME).await;
        for _ in 0..10 {
            assert_eq!(client.get("/").await.unwrap().text(), "a");
        }
    });
    assert_eq!(server.last().field("x-forwarded-proto"), Some("https"));
    assert_eq!(proxy.listener("web").http.unwrap().http2_connections, 1);
}

#[test]
fn bodies_pass_both_ways_inside_tls() {
    let proxy = Proxy::start();
    let pair = made(&[NAME]);
    let backend = Backend::secured(&pair, |asked| Box::pin(echo(asked)));
    let address = tcp::free_address();
    let https = listener("web", Protocol::Https, address, settings(&[&pair]));
    let set = v1::BackendSet {
        http_version: Some(v1::backend_set::HttpVersion::Http2.into()),
        tls: Some(v1::BackendTls {
            trusted: pair.certificate.clone(),
            server_name: NAME.to_owned(),
            ..Default::default()
        }),
        ..wire::set("web", &[backend.address])
    };
    proxy.serve_with(https, set);
    let tls = Tls::trusting(&[&pair]);
    h2::run(async {
        let client = Client::connect_tls(address, &tls, NAME).await;
        let body: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        for size in [1, 100_000, body.len()] {
            let answer = client
                .ask(h2::request("POST", "/"), &body[..size], None)
                .await;
            let answer = answer.unwrap();
            assert!(answer.body == body[..size], "{size}");
            assert_eq!(answer.field("got-uri"), Some("https://shop.example/"));
        }
    });
}

#[test]
fn a_backend_whose_certificate_nobody_vouches_for_gets_no_request() {
    let proxy = Proxy::start();
    let (pair, other) = (made(&[NAME]), made(&[NAME]));
    let backend = Backend::secured(&other, |asked| Box::pin(echo(asked)));
    let address = tcp::free_address();
    let set = v1::BackendSet {
        http_version: Some(v1::backend_set::HttpVersion::Http2.into()),
        tls: Some(v1::BackendTls {
            trusted: pair.certificate.clone(),
            server_name: NAME.to_owned(),
            ..Default::default()
        }),
        ..wire::set("web", &[backend.address])
    };
    proxy.serve_with(crate::harness::web::listener("web", address, "web"), set);
    h2::run(async {
        let client = Client::connect(address).await;
        let answer = client.get("/").await.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (502, Some("tls-failed"))
        );
    });
}
