//! Certificates change while connections live, and sessions outlive both.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use podline_api::v1;
use podline_api::v1::listener::Protocol;
use podline_lab::wait;

use super::{NAME, ask, is_shown, serve};
use crate::harness::certificates::Pair;
use crate::harness::secure::{self, Tls, made};
use crate::harness::web::{Client, Server};
use crate::harness::{LONG, Proxy, Start, tcp, wire};

/// Shows `pair` at the listener "web" from now on.
fn show(proxy: &Proxy, address: std::net::SocketAddr, tls: v1::TlsSettings) {
    let listener = secure::listener("web", Protocol::Https, address, tls);
    proxy.apply(v1::ApplyRequest {
        listeners: vec![listener],
        ..wire::request()
    });
}

#[test]
fn a_new_certificate_is_shown_at_once_and_connections_stay() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let pairs: Vec<Pair> = (0..20).map(|_| made(&[NAME])).collect();
    let all: Vec<&Pair> = pairs.iter().collect();
    let tls = |pair| secure::settings(&[pair]);
    let address = serve(&proxy, Protocol::Https, &[server.address], tls(all[0]));
    let mut kept = Client::over(Tls::trusting(&all).connect(address, NAME).unwrap());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Whole handshakes and requests all the while.
        let load = scope.spawn(|| {
            let mut requests = 0;
            while !is_over.load(Relaxed) && requests < 100_000 {
                ask(&Tls::trusting(&all), address);
                requests += 1;
            }
            requests
        });
        for pair in &all {
            show(&proxy, address, tls(pair));
            assert!(is_shown(&all, address, NAME, pair));
            assert_eq!(kept.get("/").text(), "a");
        }
        is_over.store(true, Relaxed);
        assert!(load.join().unwrap() > 0);
    });
    assert_eq!(proxy.listener("web").tls.unwrap().failures.len(), 0);
}

#[test]
fn sessions_go_on_after_a_change_and_at_another_proxy() {
    let key = |digit: &str| digit.repeat(96);
    let server = Server::saying("a");
    let (first, second) = (made(&[NAME]), made(&[NAME]));
    let both = [&first, &second];
    let settings = |pair, keys: &[String]| v1::TlsSettings {
        ticket_keys: keys.to_vec(),
        ..secure::settings(&[pair])
    };
    let proxies = [Proxy::start(), Proxy::start()];
    let backends = [server.address];
    let addresses = proxies.each_ref().map(|proxy| {
        serve(
            proxy,
            Protocol::Https,
            &backends,
            settings(&first, &[key("1")]),
        )
    });
    for client in [Tls::trusting(&both), Tls::old(&both)] {
        let is_resumed = |address| secure::is_resumed(&ask(&client, address));
        assert!(!is_resumed(addresses[0]));
        assert!(is_resumed(addresses[0]));
        assert!(is_resumed(addresses[1]), "at another proxy");
        show(&proxies[0], addresses[0], settings(&second, &[key("1")]));
        assert!(
            is_resumed(addresses[0]),
            "after a change of the certificate"
        );
        show(
            &proxies[0],
            addresses[0],
            settings(&second, &[key("2"), key("1")]),
        );
        assert!(is_resumed(addresses[0]), "sealed by the old key");
        assert!(is_resumed(addresses[0]), "sealed by the new key");
        show(&proxies[0], addresses[0], settings(&second, &[key("3")]));
        assert!(!is_resumed(addresses[0]), "sealed by a key that is gone");
        show(&proxies[0], addresses[0], settings(&first, &[key("1")]));
    }
    let status = proxies[0].listener("web");
    let told = status.listener.unwrap().tls.unwrap();
    assert_eq!(told.ticket_keys, ["1".repeat(32)]);
    assert_eq!(told.certificates[0].key, "");
    assert_eq!(told.certificates[0].chain, first.certificate);
    for proxy in &proxies {
        let log = proxy.log();
        assert!(!log.contains("PRIVATE"), "{log}");
        let (_, metrics) = proxy.page("/metrics").unwrap();
        assert!(
            metrics.contains("podline_tls_handshakes_total{listener=\"web\",kind=\"resumed\"}")
        );
        assert!(!metrics.contains("PRIVATE"));
    }
}

#[test]
fn without_keys_of_its_own_a_listener_resumes_what_it_sealed() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let pair = made(&[NAME]);
    let tls = secure::settings(&[&pair]);
    let address = serve(&proxy, Protocol::Https, &[server.address], tls.clone());
    let client = Tls::trusting(&[&pair]);
    assert!(!secure::is_resumed(&ask(&client, address)));
    let tls = v1::TlsSettings {
        http2: Some(false),
        ..tls
    };
    show(&proxy, address, tls);
    assert!(secure::is_resumed(&ask(&client, address)));
}

fn write(folder: &Path, pair: &Pair) {
    std::fs::write(folder.join("web.crt"), &pair.certificate).unwrap();
    std::fs::write(folder.join("web.key"), &pair.key).unwrap();
}

#[test]
fn files_of_certificates_are_read_again_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::saying("a");
    let (first, second) = (made(&[NAME]), made(&[NAME]));
    write(folder.path(), &first);
    let address = tcp::free_address();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let yaml = format!(
        "
listeners:
- name: web
  address: {address}
  protocol: HTTPS
  backendSet: web
  tls:
    certificates:
    - chainFile: {}
      keyFile: {}
backendSets:
- name: web
  backends:
  - address: {}
",
        path("web.crt"),
        path("web.key"),
        server.address
    );
    let proxy = Start {
        yaml: Some(yaml),
        ..Start::default()
    }
    .ready();
    let both = [&first, &second];
    assert!(is_shown(&both, address, NAME, &first));
    // Half of a change is refused, and what was there stays.
    std::fs::write(folder.path().join("web.crt"), &second.certificate).unwrap();
    proxy.wait_logged("listeners[0].tls.certificates[0].key: cannot be used with the chain");
    assert!(is_shown(&both, address, NAME, &first));
    write(folder.path(), &second);
    wait::until(LONG, "the new one is shown", || {
        is_shown(&both, address, NAME, &second)
    });
    std::fs::remove_file(folder.path().join("web.key")).unwrap();
    proxy.wait_logged("web.key: No such file or directory");
    assert!(is_shown(&both, address, NAME, &second));
}

#[test]
fn what_was_served_is_served_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state").display().to_string();
    let start = || {
        Start {
            args: vec!["--state-file", &path],
            ..Start::default()
        }
        .ready()
    };
    let server = Server::saying("a");
    let pair = made(&[NAME]);
    let proxy = start();
    let tls = secure::settings(&[&pair]);
    let address = serve(&proxy, Protocol::Https, &[server.address], tls);
    wait::until(LONG, "the state is written", || {
        std::fs::metadata(&path).is_ok()
    });
    wait::until(LONG, "the certificate is in it", || {
        let state = std::fs::read(&path).unwrap();
        state.windows(11).any(|piece| piece == b"PRIVATE KEY")
    });
    proxy.signal(rustix::process::Signal::KILL);
    proxy.wait_end(LONG).expect("it ends");
    let proxy = start();
    proxy.wait_listening("web");
    ask(&Tls::trusting(&[&pair]), address);
}
