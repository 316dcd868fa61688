//! What the proxy puts into its namespace: healed when somebody takes it away, left in place when it ends, and others'
//! left alone.

use std::time::Instant;

use podline_api::v1;
use podline_api::v1::listener::SourceAddress::PreferTransparent;
use podline_lab::{Lab, Topology, require_netns, wait};
use rustix::process::Signal;

use super::scene::{Scene, shell};
use crate::harness::{LONG, SECOND, once_within, wire};

#[test]
fn rules_that_somebody_flushes_are_back_within_five_seconds() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let proxy = scene.start(&[]);
    scene.serve(&proxy, 0, PreferTransparent);
    Scene::wait_proven(&proxy, 0);
    let host = &scene.topology.proxy;
    let look = || {
        let commands = "nft list tables; ip rule; ip -6 rule; ip route show table 700; ip -6 route show table 700";
        shell(host, commands)
    };
    let before = look();
    for place in [
        "table inet podline",
        "fwmark 0x700/0xfff lookup 700",
        "local default dev lo",
    ] {
        assert!(before.contains(place), "{place}\n{before}");
    }
    for command in [
        "nft flush ruleset",
        "ip rule del fwmark 0x700/0xfff lookup 700; ip -6 rule del fwmark 0x700/0xfff lookup 700",
        "ip route flush table 700; ip -6 route flush table 700",
    ] {
        // It looks every 5 s.
        once_within(6 * SECOND, || {
            let begun = Instant::now();
            shell(host, command);
            wait::until(LONG, "it is healed", || look() == before);
            begun.elapsed()
        });
    }
    proxy.wait_logged("it is back");
    wait::until(LONG, "clients are imitated again", || {
        scene
            .ask(0)
            .is_ok_and(|seen| seen.ip() == Topology::CLIENT[0])
    });
}

#[test]
fn a_restart_adopts_what_is_there_and_leaves_what_is_others() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let host = &scene.topology.proxy;
    // As the node agent of the same host has them.
    shell(
        host,
        "ip rule add fwmark 0x701/0xfff lookup 701 priority 7001 protocol 112;
         ip route add default via 10.88.1.2 table 701 protocol 112;
         nft add table inet podline_return",
    );
    let look = || {
        shell(
            host,
            "nft list ruleset; ip rule; ip -6 rule; ip route show table all",
        )
    };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let proxy = scene.start(&[]);
        scene.serve(&proxy, 0, PreferTransparent);
        Scene::wait_proven(&proxy, 0);
        assert_eq!(scene.ask(0).unwrap().ip(), Topology::CLIENT[0]);
        proxy.signal(Signal::TERM);
        proxy.wait_end(LONG).unwrap();
        seen.push(look());
    }
    assert!(seen[0].contains("table inet podline "), "{}", seen[0]);
    assert!(seen[0].contains("lookup 701"), "{}", seen[0]);
    assert!(seen[0].contains("podline_return"), "{}", seen[0]);
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn what_nobody_needs_any_more_is_taken_away_at_the_end() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let host = &scene.topology.proxy;
    let look = || {
        shell(
            host,
            "nft list ruleset; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all",
        )
    };
    let before = look();
    let proxy = scene.start(&[]);
    scene.serve(&proxy, 0, PreferTransparent);
    Scene::wait_proven(&proxy, 0);
    assert_eq!(scene.ask(0).unwrap().ip(), Topology::CLIENT[0]);
    assert_ne!(look(), before);
    proxy.apply(v1::ApplyRequest {
        replace_owned: true,
        ..wire::request()
    });
    proxy.signal(Signal::TERM);
    proxy.wait_end(LONG).unwrap();
    assert_eq!(look(), before);
}
