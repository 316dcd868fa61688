//! Who holds what, as proxies come, fail and go.

use std::sync::Arc;

use podline_api::Mac;

use super::*;
use crate::observed::AddressView;

const REIGN: u64 = 3;

/// Some proxies, and what they say.
#[derive(Default)]
struct World {
    observed: Observed,
    holders: Holders,
    wanted: BTreeSet<IpAddr>,
    now_ms: u64,
}

fn ip(n: u8) -> IpAddr {
    [192, 0, 2, n].into()
}

impl World {
    fn new(proxies: &[&str], addresses: u8) -> Self {
        let mut world = Self {
            wanted: (1..=addresses).map(ip).collect(),
            ..Self::default()
        };
        for name in proxies {
            let view = ProxyView {
                serving: true,
                features: Arc::new([ADDRESSES.to_owned()].into()),
                ..ProxyView::default()
            };
            world
                .observed
                .proxies
                .insert((*name).to_owned(), Arc::new(view));
        }
        world
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut ProxyView)) {
        change(Arc::make_mut(self.observed.proxies.get_mut(name).unwrap()));
    }

    /// It knows how to send on what belongs to another's connections.
    fn sends_on(&mut self, name: &str) {
        let features = [ADDRESSES, HANDOVER].map(str::to_owned);
        self.change(name, |view| view.features = Arc::new(features.into()));
    }

    fn say(&mut self, name: &str, n: u8, state: AddressState, epoch: u64, heard_epoch: u64) {
        self.change(name, |view| {
            let told = AddressView {
                state,
                epoch,
                heard_epoch,
                ..AddressView::default()
            };
            Arc::make_mut(&mut view.virtual_addresses).insert(ip(n), told);
        });
    }

    /// Who holds what, after so much time.
    fn after(&mut self, ms: u64) -> Vec<(String, u64, bool)> {
        self.now_ms += ms;
        self.holders
            .step(REIGN, &self.wanted, &self.observed, self.now_ms);
        let held = |ip: &IpAddr| self.holders.of(*ip, REIGN).cloned();
        let held = self.wanted.iter().filter_map(held);
        let base = REIGN << REIGN_SHIFT;
        held.map(|held| (held.proxy, held.epoch.saturating_sub(base), held.take_over))
            .collect()
    }

    fn names(&mut self, ms: u64) -> Vec<String> {
        self.after(ms).into_iter().map(|(name, ..)| name).collect()
    }
}

fn owned(name: &str, epoch: u64, take_over: bool) -> (String, u64, bool) {
    (name.to_owned(), epoch, take_over)
}

#[test]
fn addresses_are_spread_and_nobody_moves_because_a_proxy_comes() {
    let mut world = World::new(&["a", "b"], 5);
    let held = world.names(0);
    assert_eq!(held, ["a", "b", "a", "b", "a"]);
    let other = World::new(&["c"], 0).observed;
    world.observed.proxies.extend(other.proxies);
    assert_eq!(world.names(10_000), held);
    world.wanted.insert(ip(6));
    assert_eq!(world.names(0)[5], "c");
}

#[test]
fn a_dead_holder_is_replaced_by_a_higher_epoch() {
    let mut world = World::new(&["a", "b"], 1);
    assert_eq!(world.after(0), [owned("a", 1, false)]);
    world.change("a", |a| (a.serving, a.is_dead) = (false, true));
    assert_eq!(world.after(1), [owned("b", 2, true)]);
    world.change("a", |a| (a.serving, a.is_dead) = (true, false));
    assert_eq!(world.after(10_000), [owned("b", 2, true)], "stays");
}

#[test]
fn a_holder_that_leaves_is_replaced_at_once() {
    let mut world = World::new(&["a", "b"], 1);
    world.after(0);
    world.change("a", |a| a.is_leaving = true);
    assert_eq!(world.after(0), [owned("b", 2, true)]);
}

/// What it says of the first address.
fn said(view: &mut ProxyView) -> &mut AddressView {
    let all = Arc::make_mut(&mut view.virtual_addresses);
    all.get_mut(&ip(1)).unwrap()
}

/// A proxy to others on its link.
fn neighbour(n: u8) -> Neighbour {
    Neighbour {
        address: [10, 0, 0, n].into(),
        mac: Mac([2, 0, 0, 0, 0, n]),
    }
}

#[test]
fn what_belongs_to_connections_of_one_that_leaves_is_sent_on_to_it_while_it_lives() {
    let mut world = World::new(&["a", "b"], 1);
    let predecessor = |world: &mut World, ms| {
        world.after(ms);
        let held = world.holders.of(ip(1), REIGN).unwrap();
        (held.proxy.clone(), held.predecessor)
    };
    world.sends_on("b");
    world.after(SETTLE_MS);
    world.say("a", 1, AddressState::Holding, REIGN << REIGN_SHIFT, 0);
    world.change("a", |a| {
        said(a).own = Some(neighbour(7));
        (a.is_leaving, a.serving) = (true, false);
    });
    assert_eq!(
        predecessor(&mut world, 0),
        ("b".to_owned(), Some(neighbour(7)))
    );
    let before = world.holders.clone();
    let told = for_proxy("b", &world.wanted, (&before, REIGN), &[], None);
    assert_eq!(told[0].predecessor, Some(neighbour(7)));
    let told = for_proxy("a", &world.wanted, (&before, REIGN), &[], None);
    assert_eq!(told[0].predecessor, None);
    assert_eq!(predecessor(&mut world, 60_000).1, Some(neighbour(7)));

    // A new leader hears of it from the proxy, and waits until it has reached the other one.
    let mut other = World::new(&["b"], 1);
    other.observed.proxies = world.observed.proxies.clone();
    other.say("b", 1, AddressState::Holding, REIGN << REIGN_SHIFT, 0);
    other.change("b", |b| {
        said(b).predecessor = Some(neighbour(7));
    });
    let a = other.observed.proxies.remove("a").unwrap();
    assert_eq!(
        predecessor(&mut other, 0),
        ("b".to_owned(), Some(neighbour(7)))
    );
    other.observed.proxies.insert("a".to_owned(), a);
    assert_eq!(predecessor(&mut other, SETTLE_MS).1, Some(neighbour(7)));

    world.change("a", |a| a.is_dead = true);
    assert_eq!(predecessor(&mut world, 0), ("b".to_owned(), None));
    let moves = world.holders.moves_since(&before);
    assert_eq!(
        moves,
        ["192.0.2.1 is all b's: who held it before has ended"]
    );
    other.observed.proxies.remove("a");
    assert_eq!(predecessor(&mut other, 0), ("b".to_owned(), None));
}

#[test]
fn nothing_is_sent_on_to_the_dead_nor_by_one_that_does_not_know_how() {
    for (is_leaving, is_dead, knows_how) in [
        (false, true, true),
        (true, true, true),
        (true, false, false),
    ] {
        let mut world = World::new(&["a", "b"], 1);
        world.after(SETTLE_MS);
        world.say("a", 1, AddressState::Holding, REIGN << REIGN_SHIFT, 0);
        world.change("a", |a| {
            said(a).own = Some(neighbour(7));
            (a.is_leaving, a.is_dead, a.serving) = (is_leaving, is_dead, false);
        });
        if knows_how {
            world.sends_on("b");
        }
        world.after(0);
        let held = world.holders.of(ip(1), REIGN).unwrap();
        assert_eq!((&*held.proxy, held.predecessor), ("b", None));
    }
}

#[test]
fn one_that_does_not_serve_for_a_moment_keeps_what_it_has() {
    let mut world = World::new(&["a", "b"], 1);
    world.after(0);
    world.change("a", |a| a.serving = false);
    assert_eq!(world.names(0), ["a"]);
    assert_eq!(world.names(1_499), ["a"]);
    world.change("a", |a| a.serving = true);
    assert_eq!(world.names(1), ["a"]);
    world.change("a", |a| a.serving = false);
    assert_eq!(world.names(1_000), ["a"]);
    assert_eq!(world.names(1_500), ["b"]);
}

#[test]
fn with_nobody_to_take_it_nothing_moves() {
    let mut world = World::new(&["a", "b"], 1);
    world.after(0);
    for name in ["a", "b"] {
        world.change(name, |view| (view.serving, view.is_dead) = (false, true));
    }
    assert_eq!(world.after(60_000), [owned("a", 1, false)]);
    world.change("b", |b| (b.serving, b.is_dead) = (true, false));
    assert_eq!(world.after(1), [owned("b", 2, true)]);
    let mut old = World::new(&["a"], 1);
    old.change("a", |a| a.features = Arc::default());
    assert_eq!(old.after(10_000), [], "too old for it");
}

#[test]
fn a_new_leader_goes_on_with_what_proxies_hold() {
    let mut world = World::new(&["a", "b"], 2);
    let before = (REIGN - 1) << REIGN_SHIFT;
    world.say("b", 1, AddressState::Holding, before + 7, 0);
    world.say("a", 1, AddressState::Holding, before + 6, 0);
    assert_eq!(world.holders.of(ip(1), REIGN), None);
    world.after(0);
    let of = |world: &World, n| world.holders.of(ip(n), REIGN).cloned().unwrap();
    assert_eq!(of(&world, 1).proxy, "b");
    assert_eq!(of(&world, 1).epoch, before + 7);
    assert_eq!(of(&world, 2).proxy, "a");
    assert_eq!(of(&world, 2).epoch, (REIGN << REIGN_SHIFT) + 1);
}

#[test]
fn what_nobody_is_seen_to_hold_waits_for_proxies_that_are_not_reached() {
    let mut world = World::new(&["a", "b"], 1);
    world.change("b", |b| b.serving = false);
    assert_eq!(world.after(0), []);
    assert_eq!(world.after(4_999), []);
    assert_eq!(world.names(1), ["a"]);
}

#[test]
fn who_cannot_take_it_is_not_asked_again_soon() {
    let mut world = World::new(&["a", "b"], 1);
    world.after(0);
    world.say("a", 1, AddressState::Failed, 1, 0);
    assert_eq!(world.names(0), ["b"]);
    world.say("a", 1, AddressState::Standby, 1, 0);
    world.say("b", 1, AddressState::Failed, 2, 0);
    assert_eq!(world.names(30_000), ["b"], "nobody else");
    assert_eq!(world.names(30_000), ["a"]);
}

#[test]
fn a_foreign_host_is_not_fought_and_a_proxy_that_is_not_reached_is_outranked() {
    let mut world = World::new(&["a", "b"], 1);
    let base = REIGN << REIGN_SHIFT;
    world.after(0);
    world.say("a", 1, AddressState::Conflict, base + 1, 0);
    assert_eq!(world.after(60_000), [owned("a", 1, false)]);
    world.say("a", 1, AddressState::Conflict, base + 1, base);
    assert_eq!(world.after(0), [owned("a", 1, false)], "heard long ago");
    world.say("a", 1, AddressState::Conflict, base + 1, base + 40);
    assert_eq!(world.after(0), [owned("a", 41, true)]);
    assert_eq!(
        world.after(10_000),
        [owned("a", 41, true)],
        "as told before"
    );
}

#[test]
fn what_is_not_decided_stays_as_a_proxy_has_it() {
    let world = World::new(&["a"], 2);
    let had = [VirtualAddress {
        held: true,
        epoch: 5,
        ..VirtualAddress::standby(ip(1))
    }];
    let told = for_proxy(
        "a",
        &world.wanted,
        (&world.holders, REIGN),
        &had,
        Some("eth1"),
    );
    let told: Vec<_> = told
        .iter()
        .map(|t| (t.held, t.epoch, t.interface.as_deref()))
        .collect();
    assert_eq!(told, [(true, 5, Some("eth1")), (false, 0, Some("eth1"))]);
    let mut decided = World::new(&["a", "b"], 2);
    decided.after(0);
    for (name, held) in [("a", [true, false]), ("b", [false, true])] {
        let told = for_proxy(name, &decided.wanted, (&decided.holders, REIGN), &had, None);
        let told: Vec<_> = told.iter().map(|t| t.held).collect();
        assert_eq!(told, held, "{name}");
    }
}

#[test]
fn an_address_that_nobody_holds_for_long_is_nowhere() {
    let mut world = World::new(&["a"], 2);
    let holdings = |world: &mut World, ms: u64| -> Vec<Holding> {
        world.after(ms);
        let all = world.holders.holdings(&world.wanted, world.now_ms);
        all.into_values().collect()
    };
    assert_eq!(holdings(&mut world, 0), [Holding::Moving; 2]);
    world.say("a", 1, AddressState::Holding, REIGN << REIGN_SHIFT, 0);
    assert_eq!(
        holdings(&mut world, NOWHERE_MS - 1),
        [Holding::Held, Holding::Moving]
    );
    assert_eq!(holdings(&mut world, 1), [Holding::Held, Holding::Nowhere]);
    // It holds it, and cannot be asked: nobody can say so.
    world.change("a", |view| view.serving = false);
    assert_eq!(holdings(&mut world, 0), [Holding::Moving, Holding::Nowhere]);
    assert_eq!(holdings(&mut world, NOWHERE_MS), [Holding::Nowhere; 2]);
    world.change("a", |view| view.serving = true);
    world.say("a", 2, AddressState::Holding, REIGN << REIGN_SHIFT, 0);
    assert_eq!(holdings(&mut world, 0), [Holding::Held; 2]);
    world.wanted.clear();
    assert_eq!(holdings(&mut world, 0), []);
}
