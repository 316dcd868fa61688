//! Which of a set's ailing backends are out of rotation, when only so many may be: the longest ailing. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

/// The ailing backends of one set, in the order in which they fell ill: the first ones are out, the others kept in.
#[derive(Clone, Debug, Default)]
pub struct Ejections {
    places: HashMap<SocketAddr, u64>,
    out: BTreeMap<u64, SocketAddr>,
    kept: BTreeMap<u64, SocketAddr>,
    next: u64,
}

/// How many of `members` may be out at `percent`, rounded down.
pub fn limit(members: usize, percent: u8) -> usize {
    if percent >= 100 {
        usize::MAX
    } else {
        members * usize::from(percent) / 100
    }
}

impl Ejections {
    /// A backend ails; kept in until [`Self::settle`]. No change if it did before.
    pub fn put(&mut self, backend: SocketAddr) {
        if self.places.contains_key(&backend) {
            return;
        }
        self.next += 1;
        self.places.insert(backend, self.next);
        self.kept.insert(self.next, backend);
    }

    /// A backend is well again, or gone.
    pub fn remove(&mut self, backend: &SocketAddr) {
        if let Some(place) = self.places.remove(backend) {
            self.out.remove(&place);
            self.kept.remove(&place);
        }
    }

    /// Whether an ailing backend stays in rotation.
    pub fn keeps(&self, backend: &SocketAddr) -> bool {
        self.places
            .get(backend)
            .is_some_and(|place| self.kept.contains_key(place))
    }

    /// Takes out as many as `limit` allows; who went out, or came back in. O(log n) for each of them.
    pub fn settle(&mut self, limit: usize) -> Vec<SocketAddr> {
        let mut moved = Vec::new();
        while self.out.len() > limit
            && let Some((place, backend)) = self.out.pop_last()
        {
            self.kept.insert(place, backend);
            moved.push(backend);
        }
        while self.out.len() < limit
            && let Some((place, backend)) = self.kept.pop_first()
        {
            self.out.insert(place, backend);
            moved.push(backend);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lb::pick::SplitMix;

    fn address(n: u16) -> SocketAddr {
        ([10, 0, 0, 1], n).into()
    }

    #[test]
    fn the_share_is_rounded_down() {
        for (members, percent, expected) in [
            (10, 50, 5),
            (3, 50, 1),
            (1, 99, 0),
            (7, 0, 0),
            (0, 50, 0),
            (7, 100, usize::MAX),
        ] {
            assert_eq!(limit(members, percent), expected);
        }
    }

    /// Random illness and limits against a list in order.
    #[test]
    fn the_longest_ailing_are_out() {
        let mut random = SplitMix(11);
        let mut below = |n: u64| random.next() % n;
        for _ in 0..200 {
            let mut ejections = Ejections::default();
            let mut ailing: Vec<SocketAddr> = Vec::new();
            for _ in 0..100 {
                let backend = address(u16::try_from(below(12)).unwrap());
                if below(2) == 0 {
                    ejections.put(backend);
                    if !ailing.contains(&backend) {
                        ailing.push(backend);
                    }
                } else {
                    ejections.remove(&backend);
                    ailing.retain(|b| *b != backend);
                }
                let before: Vec<bool> = ailing.iter().map(|b| ejections.keeps(b)).collect();
                let limit = usize::try_from(below(8)).unwrap();
                let moved = ejections.settle(limit);
                for (place, backend) in ailing.iter().enumerate() {
                    assert_eq!(ejections.keeps(backend), place >= limit);
                    let is_moved = before[place] != ejections.keeps(backend);
                    assert_eq!(moved.contains(backend), is_moved);
                }
                assert_eq!(ejections.places.len(), ailing.len());
            }
        }
    }
}
