//! The process's budget of file descriptors, shared by all workers.
//!
//! At the budget workers stop accepting; the reserve keeps the API, the admin port and probes answering.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Descriptors that connections never take: API, admin, probes and logs need some at the very moment of a flood.
const RESERVE: u64 = 32;
/// What one forwarded connection takes.
pub(crate) const PER_CONNECTION: u64 = 2;

/// Counts what connections use.
#[derive(Debug)]
pub(crate) struct Descriptors {
    used: AtomicU64,
    /// The part of it that is sockets of UDP flows.
    flows: AtomicU64,
    budget: u64,
    pipes: usize,
}

impl Descriptors {
    /// The budget under the process's limit, of which `open` are taken already.
    pub(crate) fn under(limit: u64, open: u64) -> Self {
        let pipes = (limit / 64).min(128);
        let budget = limit.saturating_sub(RESERVE + open + 2 * pipes);
        Self {
            used: AtomicU64::new(0),
            flows: AtomicU64::new(0),
            budget,
            pipes: usize::try_from(pipes).unwrap_or(0),
        }
    }

    /// Takes what a connection needs, unless the budget is spent.
    pub(crate) fn take(&self) -> bool {
        let before = self.used.fetch_add(PER_CONNECTION, Relaxed);
        if before + PER_CONNECTION > self.budget {
            self.give_back();
            return false;
        }
        true
    }

    /// Gives back what a connection had.
    pub(crate) fn give_back(&self) {
        self.used.fetch_sub(PER_CONNECTION, Relaxed);
    }

    /// Takes one for a socket of UDP flows, unless the budget is spent, or half of it on such sockets: datagrams cost
    /// their senders nothing, and must not keep connections out.
    ///
    /// Sockets `of_one` flow leave an eighth of that to those that flows share: who cannot be imitated any more is served.
    pub(crate) fn take_for_flows(&self, of_one: bool) -> bool {
        let half = self.budget / 2;
        let most = if of_one { half - half / 8 } else { half };
        let flows = self.flows.fetch_add(1, Relaxed);
        let used = self.used.fetch_add(1, Relaxed);
        let fits = flows < most && used < self.budget;
        if !fits {
            self.give_back_of_flows();
        }
        fits
    }

    /// Gives back a socket of UDP flows.
    pub(crate) fn give_back_of_flows(&self) {
        self.flows.fetch_sub(1, Relaxed);
        self.used.fetch_sub(1, Relaxed);
    }

    /// Whether enough is free again to start accepting: a little below the budget, so that it does not flutter.
    pub(crate) fn have_room(&self) -> bool {
        self.used.load(Relaxed) + PER_CONNECTION + self.budget / 128 <= self.budget
    }

    /// Descriptors that connections use now, and how many they may.
    pub(crate) fn usage(&self) -> (u64, u64) {
        (self.used.load(Relaxed), self.budget)
    }

    /// Idle connections to backends that all workers together may have: a quarter of the budget.
    pub(crate) fn idle_upstreams(&self) -> usize {
        usize::try_from(self.budget / 4).unwrap_or(0)
    }

    /// So much of the budget is free that idle connections may be kept.
    pub(crate) fn are_ample(&self) -> bool {
        self.used.load(Relaxed) < self.budget / 4 * 3
    }

    /// Pipes that all workers together may have.
    pub(crate) fn pipes(&self) -> usize {
        self.pipes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_never_exceeded_and_comes_back() {
        let descriptors = Descriptors::under(200, 20);
        let (_, budget) = descriptors.usage();
        let taken = (0..1_000).take_while(|_| descriptors.take()).count() as u64;
        assert_eq!(taken, budget / PER_CONNECTION);
        assert!(!descriptors.have_room());
        for _ in 0..taken {
            descriptors.give_back();
        }
        assert!(descriptors.have_room());
        assert_eq!(descriptors.usage().0, 0);
    }

    #[test]
    fn flows_leave_half_of_the_budget_to_connections() {
        let descriptors = Descriptors::under(200, 20);
        let (_, budget) = descriptors.usage();
        let own = (0..1_000).take_while(|_| descriptors.take_for_flows(true));
        let own = own.count() as u64;
        assert_eq!(own, budget / 2 - budget / 16);
        let shared = (0..1_000).take_while(|_| descriptors.take_for_flows(false));
        let taken = own + shared.count() as u64;
        assert_eq!(taken, budget / 2);
        let connections = (0..1_000).take_while(|_| descriptors.take()).count() as u64;
        assert_eq!(connections, (budget - taken) / PER_CONNECTION);
        assert!(!descriptors.take_for_flows(false));
        (0..taken).for_each(|_| descriptors.give_back_of_flows());
        (0..connections).for_each(|_| descriptors.give_back());
        assert_eq!(descriptors.usage().0, 0);
    }
}
