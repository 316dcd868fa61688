//! Ports that somebody else holds.

use std::net::{SocketAddr, TcpListener};

use podline_api::v1::{self, listener_status::State};
use podline_lab::{Behaviour, wait};
use socket2::{Domain, Socket, Type};

use crate::harness::{LONG, Proxy, http, pod, tcp, wire};

/// Adds listener "taken" at `address` and "free" beside it: the first fails and says why, the second serves.
fn check_fails_beside_a_good_one(proxy: &Proxy, address: SocketAddr, pod: SocketAddr) {
    let free = tcp::free_address();
    let answer = proxy.apply(v1::ApplyRequest {
        listeners: vec![
            wire::listener("taken", address, "web"),
            wire::listener("free", free, "web"),
        ],
        backend_sets: vec![wire::set("web", &[pod])],
        ..wire::request()
    });
    let told = answer
        .listeners
        .iter()
        .find(|status| status.state() == State::Failed);
    let told = told.expect("the answer tells the failure");
    assert_eq!(told.listener.as_ref().unwrap().name, "taken");
    let status = proxy.listener("taken");
    assert_eq!(status.state(), State::Failed);
    assert!(!status.reason.is_empty());
    let port = address.port().to_string();
    assert!(
        status.reason.contains(&port) || status.reason.contains("in use"),
        "{}",
        status.reason
    );
    proxy.wait_listening("free");
    assert_eq!(http::ask(free).unwrap(), "a");
}

fn check_recovers(proxy: &Proxy, address: SocketAddr) {
    proxy.wait_listening("taken");
    assert_eq!(proxy.listener("taken").reason, "");
    assert_eq!(http::ask(address).unwrap(), "a");
}

#[test]
fn a_port_of_another_process_fails_with_a_reason_and_recovers_when_it_is_free() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    let address = tcp::free_address();
    let holder = TcpListener::bind(address).unwrap();
    check_fails_beside_a_good_one(&proxy, address, pod.address());
    drop(holder);
    check_recovers(&proxy, address);
}

#[test]
fn a_port_that_another_process_would_share_is_not_shared() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    let address = tcp::free_address();
    let holder = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    holder.set_reuse_port(true).unwrap(); // of the same user, so the kernel would let both have it
    holder.bind(&address.into()).unwrap();
    holder.listen(16).unwrap();
    check_fails_beside_a_good_one(&proxy, address, pod.address());
    drop(holder);
    check_recovers(&proxy, address);
}

#[test]
fn a_port_of_an_own_listener_on_every_address_fails_and_recovers_when_that_is_removed() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    let address = tcp::free_address();
    let everywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
    proxy.serve_with(
        wire::listener("everywhere", everywhere, "all"),
        wire::set("all", &[pod.address()]),
    );
    check_fails_beside_a_good_one(&proxy, address, pod.address());
    assert_eq!(http::ask(address).unwrap(), "a", "the first one serves on");
    let remove_listeners = vec!["everywhere".to_owned()];
    proxy.apply(v1::ApplyRequest {
        remove_listeners,
        ..wire::request()
    });
    check_recovers(&proxy, address);
}

#[test]
fn a_port_of_the_own_admin_server_fails_with_a_reason() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    check_fails_beside_a_good_one(&proxy, proxy.admin, pod.address());
    assert_eq!(proxy.page("/healthz").unwrap().0, 200);
}

#[test]
fn an_address_that_the_host_does_not_have_fails_with_a_reason() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    let foreign = SocketAddr::from(([192, 0, 2, 77], 8080)); // of a network for documentation
    proxy.apply(wire::both(
        wire::listener("web", foreign, "web"),
        wire::set("web", &[pod.address()]),
    ));
    let status = proxy.listener("web");
    // Bound all the same where the proxy may bind addresses that a host gets later.
    assert!(
        status.state() == State::Failed && !status.reason.is_empty()
            || status.state() == State::Listening
    );
}

#[test]
fn a_listener_moves_to_a_new_address_and_back() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    let first = proxy.serve(&[pod.address()]);
    let second = tcp::free_address();
    for (to, from) in [(second, first), (first, second)] {
        let listeners = vec![wire::listener("web", to, "web")];
        proxy.apply(v1::ApplyRequest {
            listeners,
            ..wire::request()
        });
        wait::until(LONG, "the new address serves", || {
            http::ask(to).is_ok_and(|name| name == "a")
        });
        wait::until(LONG, "the old one is closed", || {
            std::net::TcpStream::connect(from).is_err()
        });
    }
}
