//! Which ways are due to be proven again, and the proofs under way.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{INTERVAL, Prover};
use crate::lb::network::PathId;

/// Ways are proven up to so much earlier, so that they do not stay in step.
const JITTER_MS: u64 = 500;
/// All ways are gone through no more often: there may be 20,000.
const TURN: Duration = Duration::from_millis(50);

/// The turns of all ways.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// When each is due; none: it is being proven.
    due: HashMap<PathId, Option<Instant>>,
    running: JoinSet<(PathId, Instant)>,
    looked: Option<Instant>,
}

impl Proofs {
    /// Starts what is due; when to call this again.
    pub(super) fn start_due(&mut self, prover: &Prover) -> Instant {
        let now = Instant::now();
        if let Some(next) = self.looked.map(|at| at + TURN).filter(|next| *next > now) {
            return next;
        }
        self.looked = Some(now);
        let ways = prover.state.provable(&[]);
        let known: HashSet<_> = ways.iter().map(|way| way.id).collect();
        self.due.retain(|id, at| at.is_none() || known.contains(id));
        for way in ways {
            let at = self.due.entry(way.id).or_insert(Some(now));
            if at.is_some_and(|at| at <= now) {
                *at = None;
                let prover = prover.clone();
                self.running.spawn(async move {
                    prover.prove_one(&way).await;
                    (way.id, Instant::now() + pause())
                });
            }
        }
        let earliest = self.due.values().flatten().min().copied();
        earliest.unwrap_or(now + INTERVAL).max(now + TURN)
    }

    /// Waits until a proof ends.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn ended(&mut self) {
        match self.running.join_next().await {
            Some(Ok((id, next))) => {
                self.due.insert(id, Some(next));
            }
            // One that panicked has said so, and is not tried again: what it does to others is not known.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }
}

/// Until the next proof of a way.
fn pause() -> Duration {
    let chance = RandomState::new().hash_one(0_u8) % JITTER_MS;
    INTERVAL.saturating_sub(Duration::from_millis(chance))
}
