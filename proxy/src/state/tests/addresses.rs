//! Virtual addresses: what comes of what several owners say, what is told of them, what a restart makes of them.

use super::bench::{Bench, by, drain, name, set};
use podline_api::{Apply, Listener, Network, Protocol, Rejected, VirtualAddress, v1};
use std::net::IpAddr;
use v1::address_status::State as AddressState;
use v1::watch_response::Event;

const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));

fn says(owner: &str, addresses: &[VirtualAddress]) -> Apply {
    Apply {
        network: Some(Network {
            addresses: addresses.to_vec(),
            ..Network::default()
        }),
        ..by(owner)
    }
}

/// A listener on the address that moves, and one on the host's own.
fn listeners() -> Apply {
    let listener = |text: &str, ip: IpAddr| {
        Listener::new(name(text), (ip, 80).into(), Protocol::Tcp, name("web"))
    };
    Apply {
        listeners: vec![listener("web", IP), listener("own", [192, 0, 2, 1].into())],
        backend_sets: vec![set("web", [1])],
        ..says("me", &[VirtualAddress::standby(IP)])
    }
}

fn held(epoch: u64) -> VirtualAddress {
    VirtualAddress {
        held: true,
        epoch,
        take_over: true,
        ..VirtualAddress::standby(IP)
    }
}

fn on(link: &str, address: &VirtualAddress) -> VirtualAddress {
    VirtualAddress {
        interface: Some(link.to_owned()),
        ..address.clone()
    }
}

fn wanted(bench: &Bench) -> Vec<VirtualAddress> {
    bench.state.addresses_wanted().into_values().collect()
}

#[tokio::test(start_paused = true)]
async fn an_address_is_held_if_one_owner_says_so() {
    let bench = Bench::start();
    bench
        .apply(&says("file", &[on("eth0", &VirtualAddress::standby(IP))]))
        .await;
    assert_eq!(wanted(&bench), [on("eth0", &VirtualAddress::standby(IP))]);
    bench.apply(&says("one", &[held(5)])).await;
    bench.apply(&says("two", &[held(4)])).await;
    assert_eq!(wanted(&bench), [on("eth0", &held(5))]);
    bench.apply(&says("one", &[])).await;
    assert_eq!(wanted(&bench), [on("eth0", &held(4))]);
    let other_link = says("one", &[on("eth1", &held(9))]);
    let refused = bench.state.apply(other_link).await.unwrap_err();
    let expected = "network.addresses[0].interface";
    assert!(
        matches!(&refused, Rejected::Conflict { path, .. } if path == expected),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn how_an_address_does_is_told_when_it_changes() {
    let bench = Bench::start();
    bench.apply(&says("one", &[held(5)])).await;
    let mut events = bench.events();
    let status = |state: AddressState| v1::AddressStatus {
        address: IP.to_string(),
        state: state.into(),
        epoch: 5,
        ..v1::AddressStatus::default()
    };
    for _ in 0..2 {
        bench.state.learn_address(IP, status(AddressState::Holding));
    }
    let told = drain(&mut events);
    let [Event::Address(told)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(told.state(), AddressState::Holding);
    assert!(told.since.is_some());
    let request = v1::GetRequest::default();
    let shown = bench.state.get(&request).network.unwrap().addresses;
    assert_eq!(shown, std::slice::from_ref(told));
    bench.apply(&says("one", &[])).await;
    drain(&mut events);
    bench.state.learn_address(IP, status(AddressState::Standby));
    assert_eq!(drain(&mut events), [], "nobody names it any more");
}

#[tokio::test(start_paused = true)]
async fn a_restart_takes_nothing_from_another_that_has_it_by_now() {
    let bench = Bench::start();
    bench.apply(&says("one", &[held(5)])).await;
    let saved = bench.state.saved();
    let again = Bench::start_at(saved.version);
    again.state.restore(saved, std::time::Duration::ZERO);
    again.state.restore_owners();
    let asked = VirtualAddress {
        take_over: false,
        ..held(5)
    };
    assert_eq!(wanted(&again), [asked]);
}

#[tokio::test(start_paused = true)]
async fn a_listener_may_stand_on_an_address_that_is_elsewhere() {
    let bench = Bench::start();
    bench.apply(&listeners()).await;
    assert_eq!(bench.fake.absent(), [(IP, 80).into()]);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_leaves_tells_whoever_watches_and_whoever_comes_later() {
    let bench = Bench::start();
    let (_, state, mut events) = bench.state.watch();
    assert!(matches!(state.event, Some(Event::State(state)) if !state.leaving));
    bench.state.say_leaving(std::time::Duration::from_secs(1));
    let told = events.recv().await.unwrap();
    assert!(matches!(told.event, Some(Event::Leaving(_))), "{told:?}");
    let (_, state, _) = bench.state.watch();
    assert!(matches!(state.event, Some(Event::State(state)) if state.leaving));
}

#[tokio::test(start_paused = true)]
async fn what_is_at_an_address_that_goes_is_cut_or_made_to_do_without() {
    let bench = Bench::start();
    bench.apply(&listeners()).await;
    let done = || std::mem::take(&mut *bench.fake.forced.lock().unwrap());
    bench.state.detach_at(IP, false).await;
    assert_eq!(done(), [format!("detached from {IP}")], "nobody else's");
    bench.state.cut_at(IP, false).await;
    assert_eq!(done(), ["listener"]);
}
