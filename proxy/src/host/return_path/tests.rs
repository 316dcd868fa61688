//! From a host's state to what is installed, without a kernel: which ways are found, which numbers they keep, and what
//! changes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::settings::{Numbers, ReturnPathSettings};
use super::slots::{Event, GRACE, Slots};
use super::ways::{InboundWay, NoWay, ProxyAddress, View, ways};
use super::wish::{Change, Wish};
use crate::host::links::{Link, LinkKind};
use crate::host::neighbours::Neighbour;
use crate::host::routes::NextHop;
use crate::host::{Family, Mac};

const ETH0: u32 = 2;
const FLANNEL: u32 = 5;
const FLANNEL_V6: u32 = 6;
const START: Duration = Duration::ZERO;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn numbers() -> Numbers {
    numbers_within(0xfff)
}

fn numbers_within(mask: u32) -> Numbers {
    let settings = ReturnPathSettings {
        proxies: Vec::new(),
        mark: 0x710 & mask,
        mask,
        table: 710,
        interval: Duration::from_secs(5),
        dry_run: false,
        remove: false,
    };
    Numbers::of(&settings).unwrap()
}

fn view() -> View {
    let link = |index, name: &str, kind| Link {
        index,
        name: name.to_owned(),
        mac: None,
        is_up: true,
        has_carrier: true,
        kind,
    };
    View {
        links: vec![
            link(ETH0, "eth0", LinkKind::Other),
            link(FLANNEL, "flannel.1", LinkKind::Vxlan),
            link(FLANNEL_V6, "flannel-v6.1", LinkKind::Vxlan),
        ],
        ..View::default()
    }
}

impl View {
    fn proxy(mut self, address: &str, gateway: Option<&str>, is_local: bool) -> Self {
        self.proxies.push(ProxyAddress {
            address: ip(address),
            hop: Some(NextHop {
                link: ETH0,
                gateway: gateway.map(ip),
                source: None,
                is_local,
            }),
        });
        self
    }

    fn neighbour(mut self, link: u32, address: &str, last: u8) -> Self {
        self.neighbours.push(entry(link, address, last));
        self
    }

    fn end(mut self, link: u32, outside: &str, last: u8) -> Self {
        self.tunnel_ends.push(entry(link, outside, last));
        self
    }
}

fn entry(link: u32, address: &str, last: u8) -> Neighbour {
    Neighbour {
        link,
        address: ip(address),
        mac: mac(last),
    }
}

/// As "link mac back back".
fn told(ways: &[InboundWay]) -> Vec<String> {
    let back = |way: &InboundWay| {
        way.back
            .map(|to| to.map_or("-".to_owned(), |to| to.to_string()))
    };
    let tell = |way: &InboundWay| {
        let [v4, v6] = back(way);
        format!("{} {} {v4} {v6}", way.link.name, way.mac.0[5])
    };
    ways.iter().map(tell).collect()
}

fn found(view: &View) -> Vec<String> {
    let (ways, none) = ways(view);
    assert_eq!(none, []);
    told(&ways)
}

#[test]
fn a_neighbour_is_one_way_by_all_of_its_addresses() {
    let view = view()
        .proxy("10.0.0.9", None, false)
        .proxy("fd00::9", None, false)
        .neighbour(ETH0, "10.0.0.9", 9)
        .neighbour(ETH0, "fd00::9", 9);
    assert_eq!(found(&view), ["eth0 9 10.0.0.9 fd00::9"]);
}

#[test]
fn the_other_ip_version_is_found_by_the_ethernet_address() {
    let view = view()
        .proxy("10.0.0.9", None, false)
        .neighbour(ETH0, "10.0.0.9", 9);
    assert_eq!(found(&view), ["eth0 9 10.0.0.9 -"]);
    let view = view
        .neighbour(ETH0, "fd00::9", 9)
        .neighbour(ETH0, "fe80::8", 8)
        .neighbour(FLANNEL, "fe80::5", 9)
        .neighbour(ETH0, "fe80::9", 9);
    assert_eq!(
        found(&view),
        ["eth0 9 10.0.0.9 fe80::9"],
        "link-local first"
    );
}

#[test]
fn a_vxlan_is_a_way_of_its_own_even_to_what_is_behind_a_router() {
    let view = view()
        .proxy("10.0.0.9", Some("10.0.0.254"), false)
        .end(FLANNEL, "10.0.0.9", 7)
        .end(FLANNEL, "10.0.0.8", 6)
        .neighbour(FLANNEL, "10.244.9.0", 7)
        .neighbour(FLANNEL, "10.244.8.0", 6);
    assert_eq!(found(&view), ["flannel.1 7 10.244.9.0 -"]);
}

#[test]
fn an_address_found_by_a_neighbour_entry_may_be_the_end_of_a_vxlan() {
    let view = view()
        .proxy("10.0.0.9", None, false)
        .neighbour(ETH0, "10.0.0.9", 9)
        .neighbour(ETH0, "fd00::9", 9)
        .end(FLANNEL, "10.0.0.9", 7)
        .neighbour(FLANNEL, "10.244.9.0", 7)
        .end(FLANNEL_V6, "fd00::9", 5)
        .neighbour(FLANNEL_V6, "fd00:244:9::", 5);
    let expected = [
        "eth0 9 10.0.0.9 fd00::9",
        "flannel.1 7 10.244.9.0 -",
        "flannel-v6.1 5 - fd00:244:9::",
    ];
    assert_eq!(found(&view), expected);
}

#[test]
fn an_address_without_a_way_says_why() {
    let mut view = view()
        .proxy("10.0.0.1", None, true)
        .proxy("10.0.0.2", Some("10.0.0.254"), false)
        .proxy("10.0.0.3", None, false);
    let unknown = ip("10.0.0.4");
    view.proxies.push(ProxyAddress {
        address: unknown,
        hop: None,
    });
    let (ways, none) = ways(&view);
    assert_eq!(ways, []);
    let expected = [
        (ip("10.0.0.1"), NoWay::Own),
        (ip("10.0.0.2"), NoWay::Behind(ip("10.0.0.254"))),
        (ip("10.0.0.3"), NoWay::Unresolved),
        (unknown, NoWay::NoRoute),
    ];
    assert_eq!(none, expected);
}

/// A host with these proxies on eth0, the last octet of each being its Ethernet address too.
fn seen(last: &[u8]) -> (Vec<InboundWay>, Vec<IpAddr>) {
    let mut view = view();
    for last in last {
        let address = format!("10.0.0.{last}");
        view = view
            .proxy(&address, None, false)
            .neighbour(ETH0, &address, *last);
    }
    let named = view.proxies.iter().map(|proxy| proxy.address).collect();
    (ways(&view).0, named)
}

fn update(slots: &mut Slots, last: &[u8], now: Duration) -> Vec<Event> {
    let (ways, named) = seen(last);
    slots.update(numbers(), &ways, &named, now)
}

fn name(index: u32) -> Option<String> {
    (index == ETH0).then(|| "eth0".to_owned())
}

#[test]
fn a_proxy_keeps_its_number_whoever_comes_and_goes() {
    let mut slots = Slots::default();
    assert_eq!(
        update(&mut slots, &[1, 2], START),
        [Event::New(0), Event::New(1)]
    );
    assert_eq!(update(&mut slots, &[2], START), [Event::Gone(0)]);
    assert_eq!(update(&mut slots, &[3, 2], START), [Event::New(2)]);
    assert_eq!(
        update(&mut slots, &[1, 3, 2], START),
        [Event::Changed(0)],
        "it is back"
    );
    let late = START + Duration::from_secs(1);
    assert_eq!(update(&mut slots, &[1, 2], late), [Event::Gone(2)]);
    assert_eq!(
        update(&mut slots, &[1, 2], GRACE + Duration::from_millis(999)),
        []
    );
    assert_eq!(update(&mut slots, &[1, 2], late + GRACE), [Event::Freed(2)]);
    assert_eq!(
        update(&mut slots, &[1, 2, 4], late + GRACE),
        [Event::New(2)]
    );
}

#[test]
fn a_named_proxy_that_does_not_answer_keeps_its_way() {
    let mut slots = Slots::default();
    update(&mut slots, &[1], START);
    let events = slots.update(numbers(), &[], &[ip("10.0.0.1")], START + 2 * GRACE);
    assert_eq!(events, []);
    assert_eq!(slots.iter().count(), 1);
}

#[test]
fn another_ethernet_address_changes_the_way_and_not_its_number() {
    let mut slots = Slots::default();
    update(&mut slots, &[1, 2], START);
    let (mut ways, named) = seen(&[1, 2]);
    ways[1].mac = mac(77);
    assert_eq!(
        slots.update(numbers(), &ways, &named, START),
        [Event::Changed(1)]
    );
    assert_eq!(slots.get(1).unwrap().mac, Some(mac(77)));
}

#[test]
fn a_neighbour_that_the_kernel_forgot_is_still_the_way_back() {
    let mut slots = Slots::default();
    let (mut ways, named) = seen(&[1]);
    ways[0].back[1] = Some(ip("fe80::1"));
    slots.update(numbers(), &ways, &named, START);
    assert_eq!(update(&mut slots, &[1], START), []);
    assert_eq!(slots.get(0).unwrap().back[1], Some(ip("fe80::1")));
}

#[test]
fn the_next_agent_goes_on_with_the_same_numbers() {
    let mut slots = Slots::default();
    update(&mut slots, &[1, 2, 3], START);
    update(&mut slots, &[3, 2], START);
    let wish = Wish::of(&slots, numbers(), &Family::ALL);
    let routes: Vec<_> = wish.routes.iter().copied().collect();
    let mut next = Slots::adopt(numbers(), &routes, name, START);
    let events = update(&mut next, &[3, 2, 4], START);
    assert_eq!(
        events,
        [Event::Changed(2), Event::Changed(1), Event::New(3)]
    );
    let kept = next.get(0).unwrap();
    assert_eq!(
        (kept.mac, kept.back[0]),
        (None, Some(ip("10.0.0.1"))),
        "for its connections"
    );
    assert_eq!(update(&mut next, &[3, 2, 4], GRACE), [Event::Freed(0)]);
    let mut foreign = routes[0];
    foreign.table = 700;
    assert_eq!(
        Slots::adopt(numbers(), &[foreign], name, START)
            .iter()
            .count(),
        0
    );
}

#[test]
fn more_proxies_than_numbers_are_told() {
    let numbers = numbers_within(0x30);
    let (ways, named) = seen(&[1, 2, 3, 4]);
    let mut slots = Slots::default();
    let events = slots.update(numbers, &ways, &named, START);
    let full = Event::Full("eth0".to_owned(), mac(4));
    assert_eq!(events[3], full, "{events:?}");
}

#[test]
fn what_is_installed_for_a_proxy_reads_like_this() {
    let view = view()
        .proxy("10.88.0.100", None, false)
        .neighbour(ETH0, "10.88.0.100", 9)
        .neighbour(ETH0, "fe80::9", 9);
    let (ways, none) = ways(&view);
    assert_eq!(none, []);
    let mut slots = Slots::default();
    slots.update(numbers(), &ways, &[ip("10.88.0.100")], START);
    let wish = Wish::of(&slots, numbers(), &Family::ALL);
    assert_eq!(wish.ruleset.to_string(), include_str!("installed.nft"));
    let rest = wish.changes(&BTreeSet::new(), &BTreeSet::new());
    let expected = [
        "put ip -4 route default via 10.88.0.100 dev #2 onlink table 710",
        "put ip -6 route default via fe80::9 dev #2 onlink table 710",
        "add ip -4 rule priority 700 fwmark 0x710/0xfff lookup 710",
        "add ip -6 rule priority 700 fwmark 0x710/0xfff lookup 710",
    ];
    assert_eq!(
        rest.iter().map(ToString::to_string).collect::<Vec<_>>(),
        expected
    );
    assert_eq!(wish.changes(&wish.rules, &wish.routes), []);
    let only_v4 = Wish::of(&slots, numbers(), &[Family::V4]);
    let rule = &only_v4.ruleset.chains[0].rules[0];
    assert!(rule.to_string().contains("meta nfproto ipv4"), "{rule}");
}

#[test]
fn what_is_no_longer_wished_goes_and_what_moved_is_put_in_its_place() {
    let mut slots = Slots::default();
    update(&mut slots, &[1, 2], START);
    let before = Wish::of(&slots, numbers(), &[Family::V4]);
    update(&mut slots, &[2], START);
    update(&mut slots, &[2], GRACE);
    let (mut ways, named) = seen(&[2]);
    ways[0].back[0] = Some(ip("10.0.0.22"));
    slots.update(numbers(), &ways, &named, GRACE);
    let after = Wish::of(&slots, numbers(), &[Family::V4]);
    let changes = after.changes(&before.rules, &before.routes);
    let [Change::Put(put), Change::Delete(rule), Change::Drop(route)] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    assert_eq!((put.table, rule.table, route.table), (711, 710, 710));
}
