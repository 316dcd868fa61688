//! How a backend is chosen, per [`Policy`].
//!
//! ROUND_ROBIN keeps no order of its own that a publish would have to repair (a heap per worker and set would): with
//! equal weights the cursor goes from slot to slot; with unequal ones it walks the line of all weights in steps of the
//! golden ratio, which visits every stretch of the line in proportion to its length, evenly over any window. What
//! survives a publish is one number, and both are one descent of the trie.
//!
//! The cursor holds a slot, not a rank: ranks shift when a member comes or goes, and a rotation by rank modulo count
//! that is in step with the publishes gives some members 1.6 times their share and others nothing.
//!
//! LEAST_CONNECTIONS looks at every member up to [`EXACT`], and at four drawn by weight beyond.

use super::backend::BackendRuntime;
use super::trie::{Found, Member, Tier, Trie};
use podline_api::Policy;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Members up to which LEAST_CONNECTIONS compares all.
pub const EXACT: u32 = 64;
/// Members it compares beyond that.
const SAMPLES: u32 = 4;
/// How long a new backend counts as having as many connections as the others: else all new ones would go to it.
const NEW_MS: u64 = 10_000;
/// The golden ratio's fraction, in units of 2^-64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Picks tried before all members are searched for one that was not tried.
const ATTEMPTS: usize = 8;

/// Where a worker is in a set's rotation. Survives publishes.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// Whose turn it was last; nobody's yet at the start.
    slot: Option<u32>,
    /// A place on the line of weights, in units of 2^-64 of its length.
    place: u64,
}

impl Cursor {
    /// A cursor at a place of its own: workers that start together must not walk together.
    pub fn seeded(seed: u64) -> Self {
        Self {
            slot: None,
            place: SplitMix(seed).next(),
        }
    }

    /// Where the next turn begins: behind the last one, or anywhere.
    fn next_slot(&mut self, members: &Trie, tier: Tier) -> u32 {
        if let Some(last) = self.slot {
            return last.wrapping_add(1);
        }
        let rank = self.next_weight(members.tally(tier).count);
        members.at_rank(tier, rank).map_or(0, |(slot, _)| slot)
    }

    fn next_weight(&mut self, total: u32) -> u32 {
        self.place = self.place.wrapping_add(GOLDEN);
        u32::try_from((u128::from(self.place) * u128::from(total)) >> 64).unwrap_or(0)
    }
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
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
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
    let untried = |(_, member): &Found<'_>| !tried.iter().any(|t| Arc::ptr_eq(t, &member.runtime));
    let choice = match policy {
        Policy::LeastConnections => least_connections(members, tier, cursor, &untried, now_ms),
        Policy::RoundRobin => {
            let attempts = if tried.is_empty() { 1 } else { ATTEMPTS };
            (0..attempts).find_map(|_| round_robin(members, tier, cursor).filter(untried))
        }
    };
    let choice = choice.or_else(|| {
        let mut any = None;
        members.for_each(tier, |found| any = any.or(Some(found).filter(untried)));
        any
    });
    choice.map(|(_, member)| Arc::clone(&member.runtime))
}

fn round_robin<'a>(members: &'a Trie, tier: Tier, cursor: &mut Cursor) -> Option<Found<'a>> {
    let tally = members.tally(tier);
    if !tally.is_even() {
        return members.at_weight(tier, cursor.next_weight(tally.weight));
    }
    let from = cursor.next_slot(members, tier);
    let found = members
        .at_or_behind(tier, from)
        .or_else(|| members.at_or_behind(tier, 0))?;
    cursor.slot = Some(found.0);
    Some(found)
}

fn least_connections<'a>(
    members: &'a Trie,
    tier: Tier,
    cursor: &mut Cursor,
    untried: &impl Fn(&Found<'_>) -> bool,
    now_ms: u64,
) -> Option<Found<'a>> {
    let tally = members.tally(tier);
    if tally.count > EXACT {
        let drawn: [Option<Found<'_>>; SAMPLES as usize] =
            std::array::from_fn(|_| members.at_weight(tier, cursor.next_weight(tally.weight)));
        return least_loaded(drawn.iter().flatten().copied(), untried, now_ms);
    }
    // The rotation decides between equals, so that an idle set is used evenly.
    let from = cursor.next_slot(members, tier);
    let mut all = [None; EXACT as usize];
    let (mut count, mut before) = (0, 0);
    members.for_each(tier, |found| {
        all[count] = Some(found);
        count += 1;
        before += usize::from(found.0 < from);
    });
    let (before, behind) = all[..count].split_at(before);
    let rotated = behind.iter().chain(before).flatten().copied();
    let found = least_loaded(rotated, untried, now_ms)?;
    cursor.slot = Some(found.0);
    Some(found)
}

fn least_loaded<'a>(
    members: impl Iterator<Item = Found<'a>> + Clone,
    untried: &impl Fn(&Found<'_>) -> bool,
    now_ms: u64,
) -> Option<Found<'a>> {
    let active = |member: &Member| u64::from(member.runtime.active.load(Relaxed));
    let sum: u64 = members.clone().map(|(_, member)| active(member)).sum();
    let mean = sum / (members.clone().count() as u64).max(1);
    let load = |(_, member): &Found<'_>| {
        let is_new = now_ms < member.runtime.added_ms + NEW_MS;
        let active = if is_new {
            active(member).max(mean)
        } else {
            active(member)
        };
        // Scaled, so that the division keeps small differences.
        ((active + 1) << 20) / u64::from(member.weight.max(1))
    };
    members.filter(untried).min_by_key(load)
}

#[cfg(test)]
mod tests;
