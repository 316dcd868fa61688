//! A set's members by slot, in a persistent 32-way trie: a change copies one path and shares the rest with the old
//! version, so changing one of 100,000 copies four nodes. Each node knows, per child and [`Tier`], how many members are
//! below and what they weigh together: finding the n-th, or the one at a cumulative weight, is one descent.

use super::backend::BackendRuntime;
use std::sync::Arc;

const BITS: u32 = 5;
const WIDTH: usize = 1 << BITS;

/// What a member may be picked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Gets new work: weight above 0, healthy or not checked, not draining.
    Eligible = 0,
    /// Unhealthy; gets work only when nobody is better.
    Fallback = 1,
    /// New, without a verdict.
    Detecting = 2,
    /// Gets no new work: weight 0, or draining.
    Out = 3,
}

/// Tiers that can be picked from: all but the last.
pub(super) const TIERS: usize = 3;

/// One backend as a member of a set.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its counters and identity.
    pub runtime: Arc<BackendRuntime>,
    /// 0 to 100.
    pub weight: u8,
    /// What it may be picked for.
    pub tier: Tier,
}

/// Members of one tier below some point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u32,
    /// Their weights' sum.
    pub weight: u32,
    lightest: u8,
    heaviest: u8,
}

impl Tally {
    const NONE: Self = Self {
        count: 0,
        weight: 0,
        lightest: u8::MAX,
        heaviest: 0,
    };

    fn plus(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            weight: self.weight + other.weight,
            lightest: self.lightest.min(other.lightest),
            heaviest: self.heaviest.max(other.heaviest),
        }
    }

    /// Whether all weigh the same.
    pub fn is_even(self) -> bool {
        self.lightest >= self.heaviest
    }
}

type Tallies = [Tally; TIERS];

#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "always behind an Arc, and there are 32 times fewer inner nodes"
)]
enum Node {
    Leaf([Option<Member>; WIDTH]),
    Inner {
        children: [Option<Arc<Node>>; WIDTH],
        tallies: [Tallies; WIDTH],
    },
}

/// A persistent map from slot to member. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Trie {
    root: Arc<Node>,
    /// Levels above the leaves.
    height: u32,
    tallies: Tallies,
}

impl Default for Trie {
    fn default() -> Self {
        Self {
            root: Arc::new(Node::empty(0)),
            height: 0,
            tallies: [Tally::NONE; TIERS],
        }
    }
}

/// How a descent chooses its way.
#[derive(Clone, Copy, Debug)]
enum By {
    Rank,
    Weight,
}

impl Trie {
    /// Members of `tier`.
    pub fn tally(&self, tier: Tier) -> Tally {
        self.tallies
            .get(tier as usize)
            .copied()
            .unwrap_or(Tally::NONE)
    }

    /// The member in `slot`.
    pub fn get(&self, slot: u32) -> Option<&Member> {
        if u64::from(slot) >= self.capacity() {
            return None;
        }
        let mut node = &*self.root;
        let mut height = self.height;
        loop {
            let place = place(slot, height);
            match node {
                Node::Leaf(members) => return members[place].as_ref(),
                Node::Inner { children, .. } => {
                    node = children[place].as_deref()?;
                    height -= 1;
                }
            }
        }
    }

    /// Puts `member` into `slot`, or empties it.
    pub fn set(&mut self, slot: u32, member: Option<Member>) {
        while u64::from(slot) >= self.capacity() {
            self.raise();
        }
        self.tallies = Node::set(&mut self.root, self.height, slot, member);
    }

    /// The member of `tier` that has `rank` others before it, with its slot.
    pub fn at_rank(&self, tier: Tier, rank: u32) -> Option<(u32, &Member)> {
        self.descend(tier, rank, By::Rank)
    }

    /// The member of `tier` at `weight` on the line on which all weights lie end to end, with its slot.
    pub fn at_weight(&self, tier: Tier, weight: u32) -> Option<(u32, &Member)> {
        self.descend(tier, weight, By::Weight)
    }

    /// The first member of `tier` in `slot` or behind it, with its slot.
    pub fn at_or_after(&self, tier: Tier, slot: u32) -> Option<(u32, &Member)> {
        if u64::from(slot) >= self.capacity() {
            return None;
        }
        self.root.at_or_after(self.height, tier, slot)
    }

    /// Calls `visit` for every member of `tier` and its slot, in slot order.
    pub fn for_each<'a>(&'a self, tier: Tier, mut visit: impl FnMut(u32, &'a Member)) {
        self.root.for_each(0, tier, &mut visit);
    }

    fn capacity(&self) -> u64 {
        1 << (BITS * (self.height + 1))
    }

    fn raise(&mut self) {
        let mut root = Node::empty(self.height + 1);
        if let Node::Inner { children, tallies } = &mut root {
            children[0] = Some(Arc::clone(&self.root));
            tallies[0] = self.tallies;
        }
        self.root = Arc::new(root);
        self.height += 1;
    }

    fn descend(&self, tier: Tier, mut rest: u32, by: By) -> Option<(u32, &Member)> {
        let mut node = &*self.root;
        let mut above = 0;
        loop {
            match node {
                Node::Leaf(members) => {
                    let (place, member) = find_in_leaf(members, tier, rest, by)?;
                    return Some(((above << BITS) + place, member));
                }
                Node::Inner { children, tallies } => {
                    let mut chosen = None;
                    above <<= BITS;
                    for (child, tallies) in children.iter().zip(tallies) {
                        let tally = tallies.get(tier as usize)?;
                        let size = match by {
                            By::Rank => tally.count,
                            By::Weight => tally.weight,
                        };
                        if rest < size {
                            chosen = child.as_deref();
                            break;
                        }
                        rest -= size;
                        above += 1;
                    }
                    node = chosen?;
                }
            }
        }
    }
}

fn find_in_leaf(
    members: &[Option<Member>; WIDTH],
    tier: Tier,
    mut rest: u32,
    by: By,
) -> Option<(u32, &Member)> {
    for (place, member) in (0..).zip(members) {
        let Some(member) = member.as_ref().filter(|m| m.tier == tier) else {
            continue;
        };
        let size = match by {
            By::Rank => 1,
            By::Weight => u32::from(member.weight),
        };
        if rest < size {
            return Some((place, member));
        }
        rest -= size;
    }
    None
}

impl Node {
    fn empty(height: u32) -> Self {
        if height == 0 {
            Self::Leaf([const { None }; WIDTH])
        } else {
            Self::Inner {
                children: [const { None }; WIDTH],
                tallies: [[Tally::NONE; TIERS]; WIDTH],
            }
        }
    }

    /// Changes one slot below `node` and returns what is below it now.
    fn set(node: &mut Arc<Self>, height: u32, slot: u32, member: Option<Member>) -> Tallies {
        let place = place(slot, height);
        match Arc::make_mut(node) {
            Self::Leaf(members) => {
                members[place] = member;
                members
                    .iter()
                    .flatten()
                    .fold([Tally::NONE; TIERS], |mut sums, member| {
                        if let Some(sum) = sums.get_mut(member.tier as usize) {
                            *sum = sum.plus(Tally::of(member));
                        }
                        sums
                    })
            }
            Self::Inner { children, tallies } => {
                let child =
                    children[place].get_or_insert_with(|| Arc::new(Self::empty(height - 1)));
                tallies[place] = Self::set(child, height - 1, slot, member);
                tallies
                    .iter()
                    .fold([Tally::NONE; TIERS], |mut sums, tallies| {
                        for (sum, tally) in sums.iter_mut().zip(tallies) {
                            *sum = sum.plus(*tally);
                        }
                        sums
                    })
            }
        }
    }

    /// See [`Trie::at_or_after`]. Only the first child on the way can turn out to have nobody.
    fn at_or_after(&self, height: u32, tier: Tier, slot: u32) -> Option<(u32, &Member)> {
        let first = place(slot, height);
        match self {
            Self::Leaf(members) => (0..).zip(members).skip(first).find_map(|(place, member)| {
                let member = member.as_ref().filter(|m| m.tier == tier)?;
                Some((place, member))
            }),
            Self::Inner { children, tallies } => {
                let children = (0..).zip(children.iter().zip(tallies)).skip(first);
                let mut slot = slot;
                for (place, (child, tallies)) in children {
                    if let (Some(child), Some(tally)) = (child, tallies.get(tier as usize))
                        && tally.count > 0
                        && let Some((below, member)) = child.at_or_after(height - 1, tier, slot)
                    {
                        return Some(((place << (BITS * height)) + below, member));
                    }
                    slot = 0;
                }
                None
            }
        }
    }

    fn for_each<'a>(&'a self, above: u32, tier: Tier, visit: &mut impl FnMut(u32, &'a Member)) {
        match self {
            Self::Leaf(members) => {
                for (place, member) in (above << BITS..).zip(members) {
                    if let Some(member) = member.as_ref().filter(|m| m.tier == tier) {
                        visit(place, member);
                    }
                }
            }
            Self::Inner { children, tallies } => {
                let children = (above << BITS..).zip(children.iter().zip(tallies));
                for (place, (child, tallies)) in children {
                    if let (Some(child), Some(tally)) = (child, tallies.get(tier as usize))
                        && tally.count > 0
                    {
                        child.for_each(place, tier, visit);
                    }
                }
            }
        }
    }
}

impl Tally {
    fn of(member: &Member) -> Self {
        Self {
            count: 1,
            weight: u32::from(member.weight),
            lightest: member.weight,
            heaviest: member.weight,
        }
    }
}

fn place(slot: u32, height: u32) -> usize {
    (slot >> (BITS * height)) as usize % WIDTH
}
