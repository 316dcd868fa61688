//! What proxies are told of TLS, and of what only some of them can.

use std::sync::Arc;

use podline_api::{
    BackendHttp, BackendTls, Certificate, Http, Listener, PassiveCheck, Protocol, TicketKey, Tls,
    TlsVersion, v1,
};

use super::model::Bench;
use super::{Build, listener, set, web};
use crate::push::Reign;
use crate::push::holdings::Holdings;
use crate::snapshot::Snapshot;

#[test]
fn a_proxy_that_takes_nobody_out_is_not_told_to() {
    let mut wanted = set("web", [1, 2]);
    wanted.settings.passive_check = Some(PassiveCheck::default());
    let wanted = web().with_set(wanted);
    let told = |bench: &mut Bench| {
        bench.run();
        let sets = bench.sent.iter().flat_map(|request| &request.backend_sets);
        sets.map(|set| set.passive_check.is_some())
            .collect::<Vec<_>>()
    };
    let mut new = Bench::new();
    new.want(&wanted);
    assert_eq!(told(&mut new), [true]);
    let mut old = Bench::apart();
    old.sync.reign(Reign::Leader { epoch: 1 }, 0);
    old.connect(&["network"]);
    old.want(&wanted);
    assert_eq!(told(&mut old), [false]);
    assert_eq!(old.refused(), []);
    old.pass(10_000);
    assert_eq!(told(&mut old), [false], "told once");
}

/// A certificate with its key.
fn certificate() -> Certificate {
    let (chain, key) = crate::cluster::testing::pair("a.example");
    Certificate::of(chain, &podline_api::Secret::new(key)).unwrap()
}

fn over_tls(certificate: &Certificate, tickets: &[u8]) -> Listener {
    let keys = tickets.iter().map(|n| [*n; TicketKey::LENGTH]);
    Listener {
        protocol: Protocol::Https,
        http: Some(Http::default()),
        tls: Some(Tls {
            certificates: vec![certificate.clone()],
            min_version: TlsVersion::default(),
            client_certificates: None,
            http2: true,
            ticket_keys: keys.map(TicketKey::new).collect(),
        }),
        ..listener("site", 443, "web")
    }
}

#[test]
fn tls_is_for_proxies_that_know_it() {
    let mut encrypted = set("web", [1]);
    encrypted.settings.http_version = BackendHttp::Http2;
    encrypted.settings.tls = Some(BackendTls {
        trusted: None,
        server_name: None,
    });
    let wanted = Snapshot::default()
        .with_set(encrypted)
        .with(over_tls(&certificate(), &[]));
    let mut bench = Bench::new();
    bench.want(&wanted.next());
    bench.run();
    let refused = bench.refused();
    let site = "ProxyTooOld: the proxy cannot do http, tls; update it";
    assert!(refused[0].1.starts_with(site), "{refused:?}");
    let web = "ProxyTooOld: the proxy cannot do http2, backend-tls; update it";
    assert_eq!(refused[1], ("web".to_owned(), web.to_owned()));
}

#[test]
fn a_listener_whose_keys_are_not_told_is_known_again() {
    let features = [&super::FEATURES[..], &["http", "tls"]].concat();
    let connected = |bench: &mut Bench| bench.connect(&features);
    let mut bench = Bench::apart();
    bench.sync.reign(Reign::Leader { epoch: 1 }, 0);
    connected(&mut bench);
    let first = certificate();
    let snapshot = web().with(over_tls(&first, &[1, 2]));
    bench.check(&snapshot, &["full, set web, listener site, listener web"]);
    bench.model.check_is(&snapshot);
    let version = bench.model.version;
    // Another connection: the full state, which changes nothing, and no more.
    bench.sync.disconnected();
    connected(&mut bench);
    bench.check(&snapshot, &["full, set web, listener site, listener web"]);
    bench.pass(10_000);
    assert!(bench.said().iter().all(String::is_empty), "only heartbeats");
    assert_eq!(bench.model.version, version);
    // What differs goes alone: another certificate, other ticket keys.
    let second = snapshot.next().with(over_tls(&certificate(), &[1, 2]));
    bench.check(&second, &["listener site"]);
    let third = second.next().with(over_tls(&first, &[2, 3]));
    bench.check(&third, &["listener site"]);
    bench.check(&third.next(), &[]);
    bench.model.check_is(&third);
}

#[test]
fn what_a_proxy_tells_without_keys_is_recognised_by_what_it_shows() {
    let (first, second) = (certificate(), certificate());
    let wanted = web().with(over_tls(&first, &[1]));
    let told = |listener: &Listener| {
        let state = v1::GetResponse {
            listeners: vec![v1::ListenerStatus {
                listener: Some(listener.shown()),
                owner: super::owner().to_string(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let held = Holdings::read(&super::owner(), state, &wanted);
        held.listeners.get("site").cloned()
    };
    let same = told(&over_tls(&first, &[1])).unwrap();
    assert!(Arc::ptr_eq(&same, &wanted.listeners["site"]));
    assert_eq!(told(&over_tls(&second, &[1])), None);
    assert_eq!(told(&over_tls(&first, &[2])), None);
}
