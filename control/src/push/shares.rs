//! Which part of the source ports each proxy uses where it imitates clients (K15): two that imitate the same client must
//! never use the same port. Pure: time is an argument, in milliseconds since any moment.
//!
//! A proxy keeps its part for as long as it is there, and the next one gets a part that nobody had lately: the kernel of
//! a Pod's node remembers connections of a proxy that was there for a minute. Where there are more proxies than parts
//! every part is halved, and each proxy has a half of what it had. What a proxy says that it has, it was told by the
//! leader before; so a new leader goes on with that.

use std::collections::{BTreeMap, BTreeSet};

use podline_api::PortShare;

/// A proxy that was away for less comes back to what it had.
const KEPT_MS: u64 = 120_000;
/// Parts grow again when half of them was not needed for so long.
const SHRINK_MS: u64 = 600_000;
/// Two proxies, and two more when they are replaced.
const FEWEST: u16 = 4;
const MOST: u16 = 256;

/// Who has which part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    slots: u16,
    of: BTreeMap<String, Held>,
    /// Since when half of the slots would do.
    spare_since_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    slot: u16,
    /// Since when its proxy is away.
    gone_ms: Option<u64>,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            slots: FEWEST,
            of: BTreeMap::new(),
            spare_since_ms: None,
        }
    }
}

impl Shares {
    /// A proxy says what it was told by whoever led; where another leads, that is what counts.
    pub(super) fn report(&mut self, proxy: &str, share: Option<PortShare>) {
        let usable = share.filter(|share| {
            share.slots.is_power_of_two() && share.slots <= MOST && share.slot < share.slots
        });
        let Some(share) = usable else {
            return;
        };
        while self.slots < share.slots {
            self.split();
        }
        let held = Held {
            slot: share.slot * (self.slots / share.slots),
            gone_ms: None,
        };
        self.of.insert(proxy.to_owned(), held);
    }

    /// What a proxy is to use. It keeps what it has, but for one that another before it has, too.
    pub(super) fn assign(&mut self, proxy: &str) -> PortShare {
        let held = self.of.get(proxy).map(|held| held.slot);
        let is_others = |slot: u16| {
            let mut others = self.of.iter();
            others.any(|(name, held)| held.slot == slot && name.as_str() < proxy)
        };
        let slot = if let Some(slot) = held.filter(|slot| !is_others(*slot)) {
            slot
        } else {
            self.of.remove(proxy);
            self.free()
        };
        let held = Held {
            slot,
            gone_ms: None,
        };
        self.of.insert(proxy.to_owned(), held);
        self.evict_others(proxy, slot);
        PortShare {
            slot: self.of[proxy].slot,
            slots: self.slots,
        }
    }

    /// Whoever else says that it has this slot gets another.
    fn evict_others(&mut self, proxy: &str, slot: u16) {
        if self.of.len() > usize::from(MOST) {
            return;
        }
        let others = self.of.iter();
        let others = others.filter(|(name, held)| held.slot == slot && name.as_str() != proxy);
        let others: Vec<(String, Held)> = others.map(|(n, held)| (n.clone(), *held)).collect();
        for (name, held) in others {
            self.of.remove(&name);
            let slot = self.free();
            self.of.insert(name, Held { slot, ..held });
        }
    }

    /// What a proxy has, if it has something.
    pub(super) fn of(&self, proxy: &str) -> Option<PortShare> {
        let held = self.of.get(proxy)?;
        Some(PortShare {
            slot: held.slot,
            slots: self.slots,
        })
    }

    /// A proxy is there no longer.
    pub(super) fn leave(&mut self, proxy: &str, now_ms: u64) {
        if let Some(held) = self.of.get_mut(proxy) {
            held.gone_ms.get_or_insert(now_ms);
        }
    }

    /// Forgets who is away for too long, and gives larger parts where that is possible for long.
    pub(super) fn tick(&mut self, now_ms: u64) {
        let stays = |held: &Held| {
            held.gone_ms
                .is_none_or(|gone| now_ms.saturating_sub(gone) < KEPT_MS)
        };
        self.of.retain(|_, held| stays(held));
        let half = self.slots / 2;
        if half < FEWEST || self.of.len() > usize::from(half) {
            self.spare_since_ms = None;
            return;
        }
        let since = *self.spare_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since) >= SHRINK_MS {
            self.merge();
            self.spare_since_ms = None;
        }
    }

    /// A slot that nobody has: one after those that are had, then from the first on, so that a slot rests though a new
    /// leader knows nothing of who had it. There is one after a split, unless there are more proxies than ports can be
    /// parted for.
    fn free(&mut self) -> u16 {
        let taken: BTreeSet<u16> = self.of.values().map(|held| held.slot).collect();
        let after = taken.last().map_or(0, |last| last + 1);
        if let Some(slot) = (after..self.slots)
            .chain(0..after)
            .find(|slot| !taken.contains(slot))
        {
            return slot;
        }
        if self.slots == MOST {
            return u16::try_from(self.of.len() % usize::from(MOST)).unwrap_or_default();
        }
        self.split();
        self.free()
    }

    fn split(&mut self) {
        self.slots *= 2;
        for held in self.of.values_mut() {
            held.slot *= 2;
        }
    }

    /// Each has the part that its own was half of; where both halves have an owner, the second gets another.
    fn merge(&mut self) {
        self.slots /= 2;
        let mut taken = BTreeSet::new();
        let mut homeless = Vec::new();
        for (name, held) in &mut self.of {
            held.slot /= 2;
            if !taken.insert(held.slot) {
                homeless.push(name.clone());
            }
        }
        let mut free: Vec<u16> = (0..self.slots)
            .rev()
            .filter(|slot| !taken.contains(slot))
            .collect();
        for name in homeless {
            if let (Some(held), Some(slot)) = (self.of.get_mut(&name), free.pop()) {
                held.slot = slot;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(slot: u16, slots: u16) -> PortShare {
        PortShare { slot, slots }
    }

    fn lines(shares: &Shares) -> Vec<String> {
        let all = shares.of.keys();
        let line = |name: &String| {
            let share = shares.of(name).unwrap();
            format!("{name} {}/{}", share.slot, share.slots)
        };
        all.map(line).collect()
    }

    fn of(proxies: &[&str]) -> Shares {
        let mut shares = Shares::default();
        for proxy in proxies {
            shares.assign(proxy);
        }
        shares
    }

    #[test]
    fn proxies_part_the_ports_and_keep_what_they_have() {
        assert_eq!(lines(&of(&["a"])), ["a 0/4"]);
        assert_eq!(lines(&of(&["b", "a"])), ["a 1/4", "b 0/4"]);
        let mut four = of(&["a", "b", "c", "d"]);
        assert_eq!(lines(&four), ["a 0/4", "b 1/4", "c 2/4", "d 3/4"]);
        // Each has a half of what it had.
        assert_eq!(four.assign("e"), share(7, 8));
        assert_eq!(lines(&four), ["a 0/8", "b 2/8", "c 4/8", "d 6/8", "e 7/8"]);
        assert_eq!(four.assign("b"), share(2, 8));
    }

    /// As proxies are replaced, by leaders that do not know who was there before.
    #[test]
    fn a_part_that_was_had_lately_is_given_last() {
        let mut given = Vec::new();
        let mut there = vec![("a".to_owned(), share(0, 4)), ("b".to_owned(), share(1, 4))];
        for name in ["c", "d", "e", "f", "g"] {
            let mut shares = Shares::default();
            for (proxy, share) in &there {
                shares.report(proxy, Some(*share));
            }
            let share = shares.assign(name);
            given.push(share.slot);
            there.remove(0);
            there.push((name.to_owned(), share));
        }
        assert_eq!(given, [2, 3, 0, 1, 2]);
    }

    #[test]
    fn who_comes_back_soon_has_what_it_had_and_nobody_else_has_it_meanwhile() {
        let mut shares = of(&["a", "b", "c", "d"]);
        shares.leave("a", 1_000);
        shares.leave("a", 90_000); // told again
        shares.tick(120_999);
        assert_eq!(shares.clone().assign("e"), share(7, 8));
        assert_eq!(shares.clone().assign("a"), share(0, 4));
        shares.tick(121_000);
        assert_eq!(shares.assign("e"), share(0, 4));
    }

    #[test]
    fn parts_do_not_grow_before_long() {
        let mut shares = of(&["a", "b", "c", "d", "e"]);
        shares.leave("e", 0);
        shares.tick(120_000);
        shares.tick(719_999);
        assert_eq!(lines(&shares), ["a 0/8", "b 2/8", "c 4/8", "d 6/8"]);
        let mut other = shares.clone();
        other.assign("f");
        other.tick(720_000);
        assert_eq!(lines(&other), ["a 0/8", "b 2/8", "c 4/8", "d 6/8", "f 7/8"]);
        shares.tick(720_000);
        assert_eq!(lines(&shares), ["a 0/4", "b 1/4", "c 2/4", "d 3/4"]);
        for proxy in ["b", "c", "d"] {
            shares.leave(proxy, 720_000);
        }
        shares.tick(10_000_000);
        shares.tick(20_000_000);
        assert_eq!(lines(&shares), ["a 0/4"], "never fewer parts");
        // Two that had the halves of one part.
        let mut shares = of(&["a", "b", "c", "d", "e"]);
        shares.leave("b", 0);
        shares.tick(120_000);
        shares.tick(720_000);
        assert_eq!(lines(&shares), ["a 0/4", "c 2/4", "d 3/4", "e 1/4"]);
    }

    #[test]
    fn a_new_leader_goes_on_with_what_proxies_say() {
        let mut shares = Shares::default();
        for odd in [
            None,
            Some(share(0, 3)),
            Some(share(2, 2)),
            Some(share(0, 512)),
        ] {
            shares.report("odd", odd);
        }
        assert_eq!(lines(&shares), [""; 0]);
        shares.report("b", Some(share(1, 2)));
        shares.report("c", Some(share(3, 4)));
        shares.report("d", Some(share(0, 1)));
        assert_eq!(lines(&shares), ["b 2/4", "c 3/4", "d 0/4"]);
        assert_eq!(shares.assign("c"), share(3, 4));
        assert_eq!(shares.assign("a"), share(1, 4));
        // Two that say the same: the first by name has it.
        shares.report("e", Some(share(3, 4)));
        assert_eq!(shares.assign("c"), share(6, 8));
        assert_eq!(shares.assign("e"), share(7, 8));
    }

    #[test]
    fn more_proxies_than_parts_have_one_all_the_same() {
        let mut shares = Shares::default();
        let names: Vec<String> = (0..300).map(|n| format!("p{n:03}")).collect();
        for name in &names {
            shares.assign(name);
        }
        let found: BTreeSet<_> = names[..256]
            .iter()
            .map(|n| shares.of(n).unwrap())
            .map(|s| s.slot)
            .collect();
        assert_eq!((found.len(), shares.slots), (256, 256));
        assert!(names.iter().all(|n| shares.of(n).unwrap().slot < 256));
    }

    #[test]
    fn no_two_have_one_part_whatever_comes_and_goes() {
        let mut random = crate::push::tests::Random::new(7);
        let (mut shares, mut now_ms) = (Shares::default(), 0);
        let mut here = BTreeSet::new();
        for _ in 0..5_000 {
            now_ms += random.below(200_000);
            let name = format!("p{}", random.below(12));
            if random.one_in(20) {
                let slots = 1 << random.below(5);
                let slot = u16::try_from(random.below(slots.into())).unwrap();
                shares.report(&name, Some(share(slot, slots)));
                shares.assign(&name);
                here.insert(name);
            } else if random.one_in(2) {
                shares.leave(&name, now_ms);
                here.remove(&name);
            } else {
                shares.assign(&name);
                here.insert(name);
            }
            shares.tick(now_ms);
            let slots: BTreeSet<_> = here.iter().map(|n| shares.of(n).unwrap().slot).collect();
            assert_eq!(slots.len(), here.len(), "{shares:?}");
            assert!(slots.iter().all(|slot| *slot < shares.slots));
        }
    }
}
