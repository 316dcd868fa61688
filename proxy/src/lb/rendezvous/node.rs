//! The nodes of the trie: adding and taking out members, on a path of copies.

use super::{BITS, Entry, Identity, Weights};
use crate::lb::trie::{TIERS, Tier};
use std::sync::Arc;

/// Up to 32 children, of which only those that exist take room. Only the root has fewer than two members below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// Which children there are, as many as `children` has.
    bitmap: u32,
    children: Box<[Child]>,
}

/// What a node has in one of its 32 places. 32 bytes.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) weights: Weights,
    /// Of a leaf, see [`Entry::tie`].
    tie: u32,
    pub(super) below: Below,
}

#[derive(Clone, Debug)]
pub(super) enum Below {
    /// One member.
    Leaf { identity: Identity, slot: u32 },
    /// Members of equal identity, in the order of their ties: at least two.
    Twins(Arc<Vec<Entry>>),
    /// Members of different identities: at least two.
    Node(Arc<Node>),
}

impl Node {
    /// The children and their places, in order.
    pub(super) fn children(&self) -> impl Iterator<Item = (u32, &Child)> + Clone {
        let mut left = self.bitmap;
        self.children.iter().map(move |child| {
            let index = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (index, child)
        })
    }

    /// The child on the way to `identity`, and its place.
    pub(super) fn child(&self, depth: u32, identity: Identity) -> Option<(u32, &Child)> {
        let index = index(depth, identity);
        let at = self.position(index).ok()?;
        self.children.get(at).map(|child| (index, child))
    }

    /// Where in `children` the child of place `index` is, or would be.
    fn position(&self, index: u32) -> Result<usize, usize> {
        let bit = 1 << index;
        let at = (self.bitmap & (bit - 1)).count_ones() as usize;
        if self.bitmap & bit == 0 {
            Err(at)
        } else {
            Ok(at)
        }
    }

    /// See [`super::Rendezvous::put`]; `self` is at `depth`.
    pub(super) fn put(&mut self, depth: u32, entry: Entry) {
        let index = index(depth, entry.identity);
        match self.position(index) {
            Ok(at) => self.children[at].put(depth + 1, entry),
            Err(at) => {
                let mut children = std::mem::take(&mut self.children).into_vec();
                children.reserve_exact(1);
                children.insert(at, Child::of(entry));
                self.children = children.into_boxed_slice();
                self.bitmap |= 1 << index;
            }
        }
    }

    /// See [`super::Rendezvous::remove`].
    pub(super) fn remove(&mut self, depth: u32, identity: Identity, slot: u32) {
        let index = index(depth, identity);
        let Ok(at) = self.position(index) else {
            return;
        };
        if self.children[at].remove(depth + 1, identity, slot) {
            let mut children = std::mem::take(&mut self.children).into_vec();
            children.remove(at);
            self.children = children.into_boxed_slice();
            self.bitmap &= !(1 << index);
        }
    }

    fn weights(&self) -> Weights {
        sum(self.children.iter().map(|child| child.weights))
    }

    /// The one child that is left, if it is not a node: it can stand in this node's place.
    fn single(&self) -> Option<&Child> {
        match &*self.children {
            [child] if !matches!(child.below, Below::Node(_)) => Some(child),
            _ => None,
        }
    }
}

impl Child {
    /// What lies below weighs so much.
    pub(super) fn weight(&self, tier: Tier) -> u32 {
        self.weights.get(tier as usize).copied().unwrap_or(0)
    }

    fn of(entry: Entry) -> Self {
        Self {
            weights: entry.weights,
            tie: entry.tie,
            below: Below::Leaf {
                identity: entry.identity,
                slot: entry.slot,
            },
        }
    }

    /// Adds or changes a member below; a node below would be at `depth`.
    fn put(&mut self, depth: u32, entry: Entry) {
        match &mut self.below {
            Below::Node(node) => Arc::make_mut(node).put(depth, entry),
            Below::Leaf { identity, slot } if *identity == entry.identity => {
                if *slot == entry.slot {
                    *self = Self::of(entry);
                    return;
                }
                let old = Entry {
                    identity: *identity,
                    tie: self.tie,
                    slot: *slot,
                    weights: self.weights,
                };
                let mut twins = vec![old, entry];
                twins.sort_by_key(Entry::order);
                self.below = Below::Twins(Arc::new(twins));
            }
            Below::Twins(twins) if twins.iter().all(|twin| twin.identity == entry.identity) => {
                let twins = Arc::make_mut(twins);
                twins.retain(|twin| twin.slot != entry.slot);
                twins.push(entry);
                twins.sort_by_key(Entry::order);
            }
            Below::Leaf { .. } | Below::Twins(_) => self.divide(depth, entry),
        }
        self.weigh();
    }

    /// Puts a node here that has what was here, and `entry` too.
    fn divide(&mut self, depth: u32, entry: Entry) {
        let here = self.clone();
        let identity = match &here.below {
            Below::Leaf { identity, .. } => *identity,
            Below::Twins(twins) => twins.first().map_or(entry.identity, |twin| twin.identity),
            Below::Node(_) => return,
        };
        let mut node = Node {
            bitmap: 1 << index(depth, identity),
            children: Box::new([here]),
        };
        node.put(depth, entry);
        self.below = Below::Node(Arc::new(node));
    }

    /// Takes a member out below. True: nothing is left.
    fn remove(&mut self, depth: u32, identity: Identity, slot: u32) -> bool {
        match &mut self.below {
            Below::Leaf {
                identity: here,
                slot: at,
            } => return (*here, *at) == (identity, slot),
            Below::Twins(twins) => {
                let twins = Arc::make_mut(twins);
                twins.retain(|twin| (twin.identity, twin.slot) != (identity, slot));
                if let [last] = **twins {
                    *self = Self::of(last);
                }
            }
            Below::Node(node) => {
                let node = Arc::make_mut(node);
                node.remove(depth, identity, slot);
                if let Some(child) = node.single() {
                    *self = child.clone();
                }
            }
        }
        self.weigh();
        false
    }

    fn weigh(&mut self) {
        match &self.below {
            Below::Leaf { .. } => {}
            Below::Twins(twins) => self.weights = sum(twins.iter().map(|twin| twin.weights)),
            Below::Node(node) => self.weights = node.weights(),
        }
    }
}

impl Entry {
    fn order(&self) -> (u32, u32) {
        (self.tie, self.slot)
    }
}

/// Which child of a node at `depth` leads to `identity`.
fn index(depth: u32, identity: Identity) -> u32 {
    let bits = identity.0 << (BITS * depth) >> (64 - BITS);
    u32::try_from(bits).unwrap_or(0) // five bits
}

fn sum(all: impl Iterator<Item = Weights>) -> Weights {
    all.fold([0; TIERS], |mut sums, weights| {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum += weight;
        }
        sums
    })
}

#[cfg(test)]
impl Node {
    /// How many children there are below, members included; panics if the shape is not the only one for its members.
    pub(super) fn check_invariants(&self) -> usize {
        assert_eq!(self.bitmap.count_ones() as usize, self.children.len());
        let below = self.children.iter().map(|child| {
            let mut weighed = child.clone();
            weighed.weigh();
            assert_eq!(weighed.weights, child.weights);
            match &child.below {
                Below::Leaf { .. } => 1,
                Below::Twins(twins) => {
                    assert!(twins.len() > 1 && twins.is_sorted_by_key(Entry::order));
                    twins.len()
                }
                Below::Node(node) => {
                    assert!(node.single().is_none() && !node.children.is_empty());
                    1 + node.check_invariants()
                }
            }
        });
        below.sum()
    }

    pub(super) fn weights_below(&self) -> Weights {
        self.weights()
    }

    /// Nodes, this one included, that `other` does not share.
    pub(super) fn nodes_not_in(&self, other: &Self) -> usize {
        let below = self.children().map(|(index, child)| {
            let Below::Node(mine) = &child.below else {
                return 0;
            };
            match other.position(index).map(|at| &other.children[at].below) {
                Ok(Below::Node(theirs)) if Arc::ptr_eq(mine, theirs) => 0,
                Ok(Below::Node(theirs)) => mine.nodes_not_in(theirs),
                _ => 1,
            }
        });
        1 + below.sum::<usize>()
    }
}
