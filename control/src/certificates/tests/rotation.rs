//! Many years, in which everybody reads late, and somebody breaks things.
//!
//! Proxies and controllers load a version of their Secret some time after it was written, up to the grace, and only one
//! that can be used. At every moment any proxy and any controller must trust each other.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::channel::{End, Which};
use super::super::stored::{Authorities, Holding};
use super::super::x509::Certificate;
use super::world::{World, trust_each_other};

const LAGS: [i64; 5] = [0, 1, 60, 120, 299];
const SOON: Duration = Duration::from_mins(1);
const QUIET: Duration = Duration::from_hours(48);

struct Channel {
    world: World,
    /// What could be loaded, and since when, oldest first.
    proxy: Vec<(i64, Holding)>,
    control: Vec<(i64, Holding)>,
    changed: i64,
    newest: Certificate,
    rotations: usize,
}

impl Channel {
    fn new() -> Self {
        let world = World::good();
        let mut channel = Self {
            changed: world.now,
            newest: world.newest(),
            world,
            proxy: Vec::new(),
            control: Vec::new(),
            rotations: 0,
        };
        channel.record();
        channel.world.pass(Duration::from_hours(1));
        channel
    }

    fn record(&mut self) {
        let now = self.world.now;
        for (end, views) in [
            (End::Proxy, &mut self.proxy),
            (End::Control, &mut self.control),
        ] {
            let holding = self.world.holding(end);
            if holding.leaf.is_ok() && !holding.roots.is_empty() {
                views.push((now, holding));
            }
            // Nobody looks further back.
            let late = views.iter().rposition(|(since, _)| *since < now - 600);
            views.drain(..late.unwrap_or(0));
        }
    }

    fn check(&self) {
        let now = self.world.now;
        let loaded = |views: &[(i64, Holding)]| {
            let at = |lag| views.iter().rposition(|(since, _)| *since <= now - lag);
            LAGS.map(|lag| at(lag).expect("something was loaded by then"))
        };
        let (proxies, controllers) = (loaded(&self.proxy), loaded(&self.control));
        let pairs = proxies.iter().flat_map(|p| controllers.map(|c| (*p, c)));
        for (p, c) in pairs.collect::<BTreeSet<_>>() {
            let ((p, proxy), (c, control)) = (&self.proxy[p], &self.control[c]);
            let trust = trust_each_other(proxy, control, now);
            assert!(trust, "at {now}, with those of {p} and {c}");
        }
    }

    fn is_quiet(&self) -> bool {
        self.world.now - self.changed > 610
    }

    /// One moment; answers how many changes there were.
    fn turn(&mut self) -> usize {
        let newest = self.newest.clone();
        let told = self.world.settle();
        if !told.is_empty() {
            self.changed = self.world.now;
            self.record();
        }
        self.newest = self.world.newest();
        self.rotations += usize::from(self.newest != newest);
        let (proxy, control) = self.world.roots();
        assert!(
            proxy <= 3 && control <= 3,
            "bundles grow: {proxy} and {control}"
        );
        self.check();
        told.len()
    }

    fn go_on(&mut self) {
        self.world.pass(if self.is_quiet() { QUIET } else { SOON });
    }
}

#[test]
fn nobody_is_ever_mistrusted_in_ten_years() {
    let mut channel = Channel::new();
    let (end, mut changes) = (channel.world.now + 10 * 365 * 24 * 3600, 0);
    while channel.world.now < end {
        changes += channel.turn();
        if channel.is_quiet() {
            assert_eq!(channel.world.roots(), (1, 1));
            assert_eq!(channel.world.of_newest(), (true, true));
        }
        channel.go_on();
    }
    assert_eq!(channel.rotations, 7);
    // Leaves every 60 days, and at each rotation the CA twice, both leaves once and both bundles twice.
    assert!((100..220).contains(&changes), "{changes}");
}

#[test]
fn nor_when_somebody_breaks_things() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |end: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % end
    };
    let mut channel = Channel::new();
    let (mut broken, mut mended) = (0, 0);
    while broken < 120 {
        if channel.is_quiet() {
            broken += 1;
            damage(&mut channel.world, &mut next);
        }
        mended += usize::from(channel.turn() > 0);
        channel.go_on();
    }
    assert!(mended > 120, "{mended}");
    assert!(channel.rotations > 5, "{}", channel.rotations);
}

fn damage(world: &mut World, next: &mut impl FnMut(u64) -> u64) {
    const NAMES: [&str; 4] = ["tls.crt", "tls.key", "ca.crt", "ca.key"];
    let which = [Which::Authority, Which::Proxy, Which::Control][usize::try_from(next(3)).unwrap()];
    let name = NAMES[usize::try_from(next(4)).unwrap()];
    if next(3) == 0 {
        // A new leader, which remembers nothing.
        world.remembered = Authorities::default();
    }
    match next(5) {
        0 => world.secrets[which as usize] = None,
        1 => drop(world.stored(which).data.remove(name)),
        2 => drop(
            world
                .stored(which)
                .data
                .insert(name.to_owned(), b"junk".to_vec()),
        ),
        3 => world.stored(which).written = None,
        _ => {
            let other = World::good().stored(which).data.get(name).cloned();
            world
                .stored(which)
                .data
                .insert(name.to_owned(), other.unwrap_or_default());
        }
    }
}
