//! Consistent hashing over a set's members: one client, one member, on every proxy, whatever happened before.
//!
//! Members stand in a persistent trie by the hash of their identity, five bits a level; an inner node is only where two
//! of them share the bits so far, so the shape follows from who is there and not from how it came about. A pick
//! descends, and at each node chooses among the children by weighted rendezvous hashing (`score`): a member that
//! leaves moves its own clients, and one member's share of them at each node above (one for 32 members, two for 1,000,
//! three for 10,000). There is no table to rebuild: a change copies one path, as in [`super::trie`].
//!
//! Knows slots and weights; who the members are is the set's.

mod node;
mod score;

use super::hash::{self, GOLDEN, HOST_BITS, Identity, mix};
use super::trie::{Member, TIERS, Tier};
use node::{Below, Child, Node};
use score::Bid;
use std::sync::Arc;

/// Bits of an identity that choose a child.
const BITS: u32 = 5;
const WIDTH: usize = 1 << BITS;

/// What lies below a child weighs, by [`Tier`].
type Weights = [u32; TIERS];

/// A persistent map from identity to slot, to pick from. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Rendezvous {
    root: Arc<Node>,
}

/// A member as the trie sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who it is, by hash.
    pub identity: Identity,
    /// Tells members of equal identity apart, alike on every proxy.
    pub tie: u32,
    /// Where the set has it.
    pub slot: u32,
    weights: Weights,
}

impl Entry {
    fn weight(&self, tier: Tier) -> u32 {
        self.weights.get(tier as usize).copied().unwrap_or(0)
    }

    /// Of the member in `slot`. One that may be picked has some weight.
    pub fn new(identity: Identity, slot: u32, member: &Member) -> Self {
        let address = mix(hash::address(member.runtime.key.address));
        let mut weights = [0; TIERS];
        if let Some(weight) = weights.get_mut(member.tier as usize) {
            *weight = u32::from(member.weight.max(1));
        }
        Self {
            identity,
            tie: u32::try_from(address >> 32).unwrap_or(0), // 32 bits
            slot,
            weights,
        }
    }
}

/// Whose choice it is, and between whom.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The client, by hash.
    pub client: u64,
    /// Only members of this tier.
    pub tier: Tier,
    /// As if these, which are in the trie, were not there.
    pub without: &'a [Entry],
}

/// A place in the trie: how many levels above it, and the bits that led there, at the upper end.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    depth: u32,
    prefix: u64,
}

impl Place {
    fn below(self, index: u32) -> Self {
        Self {
            depth: self.depth + 1,
            prefix: self.prefix | u64::from(index) << (64 - BITS) >> (BITS * self.depth),
        }
    }

    fn bits(self) -> u32 {
        (BITS * self.depth).min(64)
    }

    /// Whether `identity` belongs below this place.
    fn leads_to(self, identity: Identity) -> bool {
        (identity.0 ^ self.prefix)
            .checked_shr(64 - self.bits())
            .unwrap_or(0)
            == 0
    }

    /// A number of its own, the same on every proxy.
    fn number(self) -> u64 {
        mix(self.prefix.wrapping_add(u64::from(self.depth)))
    }
}

impl Rendezvous {
    /// Adds a member, or changes the one with the same identity and slot. O(log n).
    pub fn put(&mut self, entry: Entry) {
        Arc::make_mut(&mut self.root).put(0, entry);
    }

    /// Takes out the member with this identity and slot. O(log n).
    pub fn remove(&mut self, identity: Identity, slot: u32) {
        Arc::make_mut(&mut self.root).remove(0, identity, slot);
    }

    /// The slot of the client's choice. O(log n).
    pub fn pick(&self, choice: &Choice<'_>) -> Option<u32> {
        choice.within(&self.root, Place::default())
    }

    /// The slot of the client's choice among the members of one host.
    pub fn pick_of_host(&self, host: u64, choice: &Choice<'_>) -> Option<u32> {
        let host = Identity(host << (64 - HOST_BITS));
        let (mut node, mut place) = (&*self.root, Place::default());
        while place.bits() < HOST_BITS {
            let (index, child) = node.child(place.depth, host)?;
            place = place.below(index);
            match &child.below {
                Below::Node(next) => node = next,
                Below::Leaf { identity, slot } => {
                    let found = identity.host() == host.host();
                    return (found && choice.weight(child, place) > 0).then_some(*slot);
                }
                Below::Twins(twins) => {
                    let found = twins.first()?.identity.host() == host.host();
                    return choice.among(twins).filter(|_| found);
                }
            }
        }
        choice.within(node, place)
    }
}

impl Choice<'_> {
    fn within(&self, mut node: &Node, mut place: Place) -> Option<u32> {
        loop {
            let (index, child) = if self.without.is_empty() {
                // Nearly every choice: weighing is one load.
                self.child_of(node, place, |_, child| child.weight(self.tier))
            } else {
                self.child_of(node, place, |index, child| {
                    self.weight(child, place.below(index))
                })
            }?;
            match &child.below {
                Below::Node(next) => node = next,
                Below::Leaf { slot, .. } => return Some(*slot),
                Below::Twins(twins) => return self.among(twins),
            }
            place = place.below(index);
        }
    }

    /// The child that the client chooses.
    ///
    /// In two steps, because wrong guesses of the processor cost more than all else: the highest hash, which settles it
    /// among equal weights, is found without a branch; the others are then passed by one comparison, nearly always.
    #[inline]
    fn child_of<'n>(
        &self,
        node: &'n Node,
        place: Place,
        weight: impl Fn(u32, &Child) -> u32,
    ) -> Option<(u32, &'n Child)> {
        let start = self.client.wrapping_add(place.number());
        let (mut hashes, mut highest) = ([0; WIDTH], 0);
        for (hash, (index, child)) in hashes.iter_mut().zip(node.children()) {
            let drawn = mix(start.wrapping_add(u64::from(index).wrapping_mul(GOLDEN))) | 1;
            *hash = if weight(index, child) > 0 { drawn } else { 0 };
            highest = highest.max(*hash);
        }
        let candidates = hashes.iter().zip(node.children());
        let (_, mut chosen) = candidates.clone().find(|(hash, _)| **hash == highest)?;
        let mut best = Bid::new(highest, weight(chosen.0, chosen.1))?;
        candidates.for_each(|(hash, (index, child))| {
            if best.is_beaten_by(*hash, weight(index, child)) {
                chosen = (index, child);
            }
        });
        Some(chosen)
    }

    /// Of members whose identities are equal, by their ties.
    fn among(&self, twins: &[Entry]) -> Option<u32> {
        let mut chosen: Option<(Bid, u32)> = None;
        for twin in twins {
            let is_out = self.without.iter().any(|w| w.slot == twin.slot);
            let weight = if is_out { 0 } else { twin.weight(self.tier) };
            let hash = hash::join(self.client, twin.tie.into()) | 1;
            match &mut chosen {
                None => chosen = Bid::new(hash, weight).map(|bid| (bid, twin.slot)),
                Some((best, slot)) => {
                    if best.is_beaten_by(hash, weight) {
                        *slot = twin.slot;
                    }
                }
            }
        }
        chosen.map(|(_, slot)| slot)
    }

    /// What lies below a child, which is at `place`, weighs for this choice.
    fn weight(&self, child: &Child, place: Place) -> u32 {
        let without = self.without.iter().filter(|w| place.leads_to(w.identity));
        let less: u32 = without.map(|w| w.weight(self.tier)).sum();
        child.weight(self.tier).saturating_sub(less)
    }
}

#[cfg(test)]
mod tests;
