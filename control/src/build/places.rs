//! Who gets an address and port that two want: the older. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::cluster::{Front, Transport};

/// Where a listener stands. The unspecified address is every address of the proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which address.
    pub address: IpAddr,
    /// TCP and UDP may share a port.
    pub transport: Transport,
    /// Which port.
    pub port: u16,
}

/// The older first: when it was made, its uid, what it is.
pub type Rank = (i64, Arc<str>, Front);

/// Who wants which place.
#[derive(Clone, Debug, Default)]
pub struct Places {
    wanted_by: BTreeMap<Place, BTreeSet<Rank>>,
    wants: BTreeMap<Front, (Rank, BTreeSet<Place>)>,
}

impl Places {
    /// Says what somebody wants now; everybody whose luck may have changed by it, itself among them.
    pub fn want(&mut self, rank: &Rank, places: BTreeSet<Place>) -> BTreeSet<Front> {
        let front = rank.2.clone();
        let before = self.wants.get(&front);
        if before.is_some_and(|before| before.0 == *rank && before.1 == places)
            || (before.is_none() && places.is_empty())
        {
            return BTreeSet::from([front]);
        }
        let mut affected = BTreeSet::from([front.clone()]);
        if let Some((old, old_places)) = self.wants.remove(&front) {
            for place in old_places {
                affected.extend(self.others(&place));
                if let Some(ranks) = self.wanted_by.get_mut(&place) {
                    ranks.remove(&old);
                    if ranks.is_empty() {
                        self.wanted_by.remove(&place);
                    }
                }
            }
        }
        for place in &places {
            affected.extend(self.others(place));
            self.wanted_by
                .entry(*place)
                .or_default()
                .insert(rank.clone());
        }
        if !places.is_empty() {
            self.wants.insert(front, (rank.clone(), places));
        }
        affected
    }

    fn others(&self, place: &Place) -> impl Iterator<Item = Front> {
        self.wanted_by
            .get(place)
            .into_iter()
            .flatten()
            .map(|rank| rank.2.clone())
    }

    /// Who has a place.
    pub fn holder(&self, place: &Place) -> Option<&Front> {
        self.wanted_by.get(place)?.first().map(|rank| &rank.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{ip, key};

    fn place(port: u16) -> Place {
        Place {
            address: ip("0.0.0.0"),
            transport: Transport::Tcp,
            port,
        }
    }

    fn rank(name: &str, created: i64, uid: &str) -> Rank {
        (created, uid.into(), Front::Service(key(name)))
    }

    /// Says what a Service wants, and whom it may concern.
    fn want(places: &mut Places, rank: &Rank, ports: &[u16]) -> String {
        let wanted = ports.iter().copied().map(place).collect();
        let affected = places.want(rank, wanted);
        let names: Vec<_> = affected.iter().map(|it| &*it.key().name).collect();
        names.join(" ")
    }

    #[track_caller]
    fn holds(places: &Places, port: u16, expected: Option<&str>) {
        let holder = places.holder(&place(port));
        let name = holder.map(|it| &*it.key().name);
        assert_eq!(name, expected, "port {port}");
    }

    #[test]
    fn the_older_wins_whoever_came_first() {
        let (old, new) = (rank("a/old", 1, "z"), rank("a/new", 2, "a"));
        for turned in [false, true] {
            let mut places = Places::default();
            let mut order = [&old, &new];
            if turned {
                order.reverse();
            }
            want(&mut places, order[0], &[80]);
            assert_eq!(want(&mut places, order[1], &[80, 443]), "new old");
            holds(&places, 80, Some("old"));
            holds(&places, 443, Some(&*order[1].2.key().name));
        }
        // Of one second: the smaller uid.
        let mut places = Places::default();
        want(&mut places, &rank("a/b", 1, "uid-2"), &[80]);
        want(&mut places, &rank("a/c", 1, "uid-1"), &[80]);
        holds(&places, 80, Some("c"));
    }

    #[test]
    fn what_is_given_up_goes_to_the_next() {
        let mut places = Places::default();
        let (a, b, c) = (
            rank("a/a", 1, "1"),
            rank("a/b", 2, "2"),
            rank("a/c", 3, "3"),
        );
        for rank in [&c, &b, &a] {
            want(&mut places, rank, &[80]);
        }
        holds(&places, 80, Some("a"));
        assert_eq!(want(&mut places, &a, &[443]), "a b c");
        holds(&places, 80, Some("b"));
        assert_eq!(want(&mut places, &b, &[]), "b c");
        holds(&places, 80, Some("c"));
        assert_eq!(want(&mut places, &c, &[]), "c");
        holds(&places, 80, None);
        assert_eq!(want(&mut places, &a, &[]), "a");
        assert!(places.wants.is_empty() && places.wanted_by.is_empty());
        assert_eq!(want(&mut places, &a, &[]), "a", "of no use, and no harm");
    }

    #[test]
    fn a_service_made_again_is_a_new_one() {
        let mut places = Places::default();
        want(&mut places, &rank("a/a", 1, "1"), &[80]);
        want(&mut places, &rank("a/b", 2, "2"), &[80]);
        holds(&places, 80, Some("a"));
        assert_eq!(want(&mut places, &rank("a/a", 3, "3"), &[80]), "a b");
        holds(&places, 80, Some("b"));
        assert_eq!(
            want(&mut places, &rank("a/a", 3, "3"), &[80]),
            "a",
            "as it was"
        );
    }

    #[test]
    fn other_protocols_and_addresses_are_other_places() {
        let udp = Place {
            transport: Transport::Udp,
            ..place(80)
        };
        let v6 = Place {
            address: ip("::"),
            ..place(80)
        };
        let mut places = Places::default();
        places.want(&rank("a/a", 1, "1"), [place(80)].into());
        places.want(&rank("a/b", 2, "2"), [udp, v6].into());
        holds(&places, 80, Some("a"));
        for place in [udp, v6] {
            assert_eq!(places.holder(&place), Some(&Front::Service(key("a/b"))));
        }
    }
}
