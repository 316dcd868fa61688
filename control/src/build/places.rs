//! Who gets an address and port that two Services want: the older. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::cluster::{Key, Transport};

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

/// The older first: when it was made, its uid, its key.
pub type Rank = (i64, Arc<str>, Key);

/// Who wants which place.
#[derive(Clone, Debug, Default)]
pub struct Places {
    wanted_by: BTreeMap<Place, BTreeSet<Rank>>,
    wants: BTreeMap<Key, (Rank, BTreeSet<Place>)>,
}

impl Places {
    /// Says what a Service wants now; everybody whose luck may have changed by it, itself among them.
    pub fn want(&mut self, rank: &Rank, places: BTreeSet<Place>) -> BTreeSet<Key> {
        let key = rank.2.clone();
        let before = self.wants.get(&key);
        if before.is_some_and(|before| before.0 == *rank && before.1 == places)
            || (before.is_none() && places.is_empty())
        {
            return BTreeSet::from([key]);
        }
        let mut affected = BTreeSet::from([key.clone()]);
        if let Some((old, old_places)) = self.wants.remove(&key) {
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
            self.wants.insert(key, (rank.clone(), places));
        }
        affected
    }

    fn others(&self, place: &Place) -> impl Iterator<Item = Key> {
        self.wanted_by
            .get(place)
            .into_iter()
            .flatten()
            .map(|rank| rank.2.clone())
    }

    /// Who has a place.
    pub fn holder(&self, place: &Place) -> Option<&Key> {
        self.wanted_by.get(place)?.first().map(|rank| &rank.2)
    }
}
