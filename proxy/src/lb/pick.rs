//! How a backend is chosen, per [`Policy`].
//!
//! ROUND_ROBIN keeps no order of its own that a publish would have to repair (a heap per worker and set would): with
//! equal weights the cursor goes from one member to the next behind it, so however members come and go, a lap visits
//! each that stays exactly once (counting ranks would not: every change of their number moves everybody). With unequal
//! weights it walks the line of all weights in steps of the golden ratio, which visits every stretch of the line in
//! proportion to its length, evenly over any window. What survives a publish is a few numbers, and each pick is one
//! descent of the trie.
//!
//! MAGLEV is in [`super::rendezvous`]. LEAST_CONNECTIONS looks at every member up to [`EXACT`], and at four drawn by weight beyond. Between equals the
//! rotation decides.

use super::backend::BackendRuntime;
use super::hash::{GOLDEN, mix};
use super::trie::{Member, Tier, Trie};
use podline_api::Policy;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Members up to which LEAST_CONNECTIONS compares all.
pub const EXACT: u32 = 64;
/// Members it compares beyond that.
const SAMPLES: usize = 4;
/// How long a new backend counts as having as many connections as others have: else all new ones would go to it.
const NEW_MS: u64 = 10_000;
/// Steps by weight, before the next in line is taken that was not tried.
const STEPS: usize = 8;

/// Where a worker is in a set's rotation. Survives publishes.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// The slot that had its turn last; none before the first.
    last: Option<u32>,
    /// A place on the line of weights, in units of 2^-64 of its length.
    place: u64,
    /// How long the line was.
    line: u32,
    /// Where the walk along this line began.
    start: u64,
}

impl Cursor {
    /// A cursor at a place of its own: workers that start together must not walk together.
    pub fn seeded(seed: u64) -> Self {
        let place = SplitMix(seed).next();
        Self {
            last: None,
            place,
            line: 0,
            start: place,
        }
    }

    /// The slot whose turn it is, if it has a member: else the next one's.
    fn turn(&self, members: &Trie, tier: Tier) -> u32 {
        let Some(last) = self.last else {
            let count = members.tally(tier).count;
            let start = members.at_rank(tier, share_of(self.place, count));
            return start.map_or(0, |(slot, _)| slot);
        };
        last.wrapping_add(1)
    }

    /// The member behind the last one. One lap visits each once.
    fn next<'a>(&mut self, members: &'a Trie, tier: Tier) -> Option<&'a Member> {
        let from = self.turn(members, tier);
        let (slot, member) = members
            .at_or_after(tier, from)
            .or_else(|| members.at_or_after(tier, 0))?;
        self.last = Some(slot);
        Some(member)
    }

    /// The member one step of the golden ratio on. Along another line the walk starts over, a step from where it last
    /// began: else lines that take turns in some rhythm would each be walked in some of its parts only.
    fn step<'a>(&mut self, members: &'a Trie, tier: Tier) -> Option<&'a Member> {
        let line = members.tally(tier).weight;
        if line == self.line {
            self.place = self.place.wrapping_add(GOLDEN);
        } else {
            self.line = line;
            self.start = self.start.wrapping_add(GOLDEN);
            self.place = self.start;
        }
        at_share(members, tier, self.place)
    }

    /// A member drawn by weight, whatever was drawn before: steps in a row would find members of one pattern.
    fn draw<'a>(&mut self, members: &'a Trie, tier: Tier) -> Option<&'a Member> {
        let mut mixed = SplitMix(self.place);
        let place = mixed.next();
        self.place = mixed.0;
        at_share(members, tier, place)
    }
}

fn at_share(members: &Trie, tier: Tier, place: u64) -> Option<&Member> {
    let weight = share_of(place, members.tally(tier).weight);
    members.at_weight(tier, weight).map(|(_, member)| member)
}

/// `place`, in units of 2^-64, of `whole`: less than `whole`.
fn share_of(place: u64, whole: u32) -> u32 {
    u32::try_from((u128::from(place) * u128::from(whole)) >> 64).unwrap_or(0)
}

/// A small generator of well-mixed numbers, for seeds and tests.
#[derive(Clone, Copy, Debug)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next number.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, so it is no iterator"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }
}

/// A member of `tier` by `policy`, other than those in `tried`.
pub(super) fn pick(
    members: &Trie,
    tier: Tier,
    policy: Policy,
    cursor: &mut Cursor,
    tried: &[Arc<BackendRuntime>],
    now_ms: u64,
) -> Option<Arc<BackendRuntime>> {
    if members.tally(tier).count == 0 {
        return None;
    }
    let untried = |member: &&Member| !tried.iter().any(|t| Arc::ptr_eq(t, &member.runtime));
    let choice = match policy {
        Policy::LeastConnections => least_connections(members, tier, cursor, &untried, now_ms),
        Policy::RoundRobin | Policy::Maglev(_) if members.tally(tier).is_even() => None,
        Policy::RoundRobin | Policy::Maglev(_) => {
            // Sets that go by a hash do not come here.
            let steps = if tried.is_empty() { 1 } else { STEPS };
            (0..steps).find_map(|_| cursor.step(members, tier).filter(untried))
        }
    };
    // Of one member more than were tried, in a row, one was not: if there is one.
    let choice = choice
        .or_else(|| (0..=tried.len()).find_map(|_| cursor.next(members, tier).filter(untried)));
    choice.map(|member| Arc::clone(&member.runtime))
}

fn least_connections<'a>(
    members: &'a Trie,
    tier: Tier,
    cursor: &mut Cursor,
    untried: &impl Fn(&&Member) -> bool,
    now_ms: u64,
) -> Option<&'a Member> {
    if members.tally(tier).count > EXACT {
        let drawn: [Option<&Member>; SAMPLES] = std::array::from_fn(|_| cursor.draw(members, tier));
        return least_loaded(drawn.iter().flatten().copied(), untried, now_ms);
    }
    let turn = cursor.turn(members, tier);
    let mut all = [None; EXACT as usize];
    let (mut count, mut first) = (0, 0);
    members.for_each(tier, |slot, member| {
        first += usize::from(slot < turn);
        if let Some(place) = all.get_mut(count) {
            *place = Some((slot, member));
            count += 1;
        }
    });
    let (before, behind) = all.get(..count)?.split_at_checked(first)?;
    let in_turn = behind.iter().chain(before).flatten();
    let least = least_loaded(in_turn.clone().map(|(_, member)| *member), untried, now_ms)?;
    cursor.last = in_turn
        .clone()
        .find(|(_, member)| std::ptr::eq(*member, least))
        .map(|(slot, _)| *slot);
    Some(least)
}

/// The first of those with the fewest connections for their weight. A new one counts as having no fewer than the least
/// loaded of the others, so that it gets its turns but not everything. (The mean of the others would starve it: somebody
/// is always below the mean.)
fn least_loaded<'a>(
    members: impl Iterator<Item = &'a Member> + Clone,
    untried: &impl Fn(&&Member) -> bool,
    now_ms: u64,
) -> Option<&'a Member> {
    let is_new = |member: &Member| now_ms < member.runtime.added_ms + NEW_MS;
    let load = |member: &Member| {
        let active = u64::from(member.runtime.active.load(Relaxed));
        // Scaled, so that the division keeps small differences.
        ((active + 1) << 20) / u64::from(member.weight.max(1))
    };
    let members = members.filter(untried);
    let settled = members.clone().filter(|member| !is_new(member));
    let least = settled.map(load).min().unwrap_or(0);
    members.min_by_key(|member| {
        if is_new(member) {
            load(member).max(least)
        } else {
            load(member)
        }
    })
}
