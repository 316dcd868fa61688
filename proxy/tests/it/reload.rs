//! The configuration file is read again when told and when it changes; a bad one changes nothing.

use std::net::SocketAddr;

use podline_lab::{Behaviour, wait};
use rustix::process::Signal;

use crate::harness::{LONG, Proxy, SECOND, Start, http, pod, tcp};

fn yaml(address: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "
listeners:
- name: web
  address: {address}
  protocol: TCP
  backendSet: web
backendSets:
- name: web
  backends:
  - address: {backend}
"
    )
}

/// A proxy with a file that leads to `backend`.
fn start(backend: SocketAddr) -> (Proxy, SocketAddr) {
    let address = tcp::free_address();
    let yaml = Some(yaml(address, backend));
    (
        Start {
            yaml,
            ..Start::default()
        }
        .ready(),
        address,
    )
}

fn wait_answer(address: SocketAddr, name: &str) {
    wait::until(5 * SECOND, name, || {
        http::ask(address).is_ok_and(|answer| answer == name)
    });
}

#[test]
fn the_file_is_loaded_at_the_start() {
    let old = pod("old", Behaviour::Name);
    let (proxy, address) = start(old.address());
    assert_eq!(
        http::ask(address).unwrap(),
        "old",
        "ready means that it serves"
    );
    assert_eq!(proxy.listener("web").owner, "file");
}

#[test]
fn a_changed_file_takes_effect_by_itself() {
    let (old, new) = (pod("old", Behaviour::Name), pod("new", Behaviour::Name));
    let (proxy, address) = start(old.address());
    std::fs::write(&proxy.config, yaml(address, new.address())).unwrap();
    wait_answer(address, "new");
}

#[test]
fn a_file_that_is_replaced_by_renaming_takes_effect_by_itself() {
    let (old, new) = (pod("old", Behaviour::Name), pod("new", Behaviour::Name));
    let (proxy, address) = start(old.address());
    let beside = proxy.config.with_extension("new");
    std::fs::write(&beside, yaml(address, new.address())).unwrap();
    std::fs::rename(beside, &proxy.config).unwrap();
    wait_answer(address, "new");
}

#[test]
fn a_hang_up_signal_reloads() {
    let (old, new) = (pod("old", Behaviour::Name), pod("new", Behaviour::Name));
    let (proxy, address) = start(old.address());
    std::fs::write(&proxy.config, yaml(address, new.address())).unwrap();
    proxy.signal(Signal::HUP);
    wait_answer(address, "new");
    proxy.signal(Signal::HUP); // nothing changed: nothing happens
    let version = proxy.get().version;
    assert_eq!(http::ask(address).unwrap(), "new");
    assert_eq!(proxy.get().version, version);
}

#[test]
fn a_bad_file_keeps_the_old_state_says_why_and_the_next_good_one_takes_effect() {
    let (old, new) = (pod("old", Behaviour::Name), pod("new", Behaviour::Name));
    let (proxy, address) = start(old.address());
    let version = proxy.get().version;
    let good = yaml(address, new.address());
    let cases = [
        (
            good.replace("backendSet: web", "backendSet: wob"),
            "listeners[0].backendSet",
        ),
        (good.replace("protocol", "protocoll"), "protocol"),
        (good.replace("listeners:", "listeners: {"), "podline.yaml"),
        // As a file is for a moment that is written in place.
        (String::new(), "the file is empty"),
    ];
    for (bad, told) in cases {
        let before = proxy.log().len();
        std::fs::write(&proxy.config, bad).unwrap();
        proxy.signal(Signal::HUP);
        let what = format!("the log says {told}");
        wait::until(5 * SECOND, &what, || {
            proxy
                .log()
                .get(before..)
                .is_some_and(|log| log.contains(told))
        });
        assert_eq!(http::ask(address).unwrap(), "old");
        assert_eq!(proxy.get().version, version);
    }
    std::fs::write(&proxy.config, good).unwrap();
    wait_answer(address, "new");
}

#[test]
fn a_file_that_vanishes_keeps_the_old_state() {
    let old = pod("old", Behaviour::Name);
    let (proxy, address) = start(old.address());
    let before = proxy.log().len();
    std::fs::remove_file(&proxy.config).unwrap();
    proxy.signal(Signal::HUP);
    wait::until(LONG, "the log says so", || proxy.log().len() > before);
    assert_eq!(http::ask(address).unwrap(), "old");
    assert_eq!(proxy.page("/readyz").unwrap().0, 200);
}

#[test]
fn what_another_owner_has_survives_a_reload() {
    use crate::harness::wire;
    let (old, new) = (pod("old", Behaviour::Name), pod("new", Behaviour::Name));
    let (proxy, address) = start(old.address());
    let theirs = tcp::free_address();
    proxy.serve_with(
        wire::listener("theirs", theirs, "theirs"),
        wire::set("theirs", &[old.address()]),
    );
    std::fs::write(&proxy.config, yaml(address, new.address())).unwrap();
    wait_answer(address, "new");
    assert_eq!(http::ask(theirs).unwrap(), "old");
}
