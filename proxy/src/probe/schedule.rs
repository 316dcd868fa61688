//! Which probe is due when. Pure: time is an argument, in milliseconds.
//!
//! Equal checks of one address are one probe, whose outcome goes to every set that has it.

use crate::lb::SetId;
use podline_api::HealthCheck;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

/// Whom an outcome concerns: the backend at an address, in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The set.
    pub set: SetId,
    /// The backend's address.
    pub address: SocketAddr,
}

/// One probe: what is checked, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProbeKey {
    /// Where.
    pub address: SocketAddr,
    /// How.
    pub check: HealthCheck,
}

/// Names one entry; never used again, so that stale entries of the heap find nothing.
type ProbeId = u64;

#[derive(Debug)]
struct Probe {
    key: ProbeKey,
    targets: Vec<SetId>,
}

/// All probes and their times.
#[derive(Debug, Default)]
pub struct Schedule {
    probes: HashMap<ProbeId, Probe>,
    ids: HashMap<ProbeKey, ProbeId>,
    checks: HashMap<Target, ProbeId>,
    times: BinaryHeap<Reverse<(u64, ProbeId)>>,
    next: ProbeId,
}

impl Schedule {
    /// Starts to probe `target`, at once if nobody asked for this probe before.
    pub fn add(&mut self, target: Target, check: &HealthCheck, now_ms: u64) {
        let key = ProbeKey {
            address: target.address,
            check: check.clone(),
        };
        let id = self.ids.get(&key).copied().unwrap_or_else(|| {
            self.next += 1;
            self.ids.insert(key.clone(), self.next);
            self.probes.insert(
                self.next,
                Probe {
                    key,
                    targets: Vec::new(),
                },
            );
            self.times.push(Reverse((now_ms, self.next)));
            self.next
        });
        if let Some(probe) = self.probes.get_mut(&id) {
            probe.targets.push(target.set);
        }
        self.checks.insert(target, id);
    }

    /// Stops to probe `target`.
    pub fn remove(&mut self, target: &Target) {
        let Some(id) = self.checks.remove(target) else {
            return;
        };
        let Some(probe) = self.probes.get_mut(&id) else {
            return;
        };
        probe.targets.retain(|set| *set != target.set);
        if probe.targets.is_empty()
            && let Some(probe) = self.probes.remove(&id)
        {
            self.ids.remove(&probe.key);
        }
    }

    /// A probe that is due, if any. Its time comes again with [`Self::again`].
    pub fn due(&mut self, now_ms: u64) -> Option<(u64, ProbeKey)> {
        while let Some(Reverse((time, id))) = self.times.peek().copied() {
            if time > now_ms {
                return None;
            }
            self.times.pop();
            if let Some(probe) = self.probes.get(&id) {
                return Some((id, probe.key.clone()));
            }
        }
        None
    }

    /// Who is concerned by the outcome of probe `id`.
    pub fn targets(&self, id: u64) -> Vec<Target> {
        let Some(probe) = self.probes.get(&id) else {
            return Vec::new();
        };
        probe
            .targets
            .iter()
            .map(|set| Target {
                set: *set,
                address: probe.key.address,
            })
            .collect()
    }

    /// Probes again after `delay`.
    pub fn again(&mut self, id: u64, now_ms: u64, delay: Duration) {
        if self.probes.contains_key(&id) {
            let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            self.times.push(Reverse((now_ms.saturating_add(delay), id)));
        }
    }

    /// When the next probe is due.
    pub fn next_ms(&self) -> Option<u64> {
        self.times.peek().map(|Reverse((time, _))| *time)
    }

    /// Probes in all.
    pub fn len(&self) -> usize {
        self.probes.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.probes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podline_api::CheckKind;

    fn target(set: u32, port: u16) -> Target {
        Target {
            set: SetId(set),
            address: ([10, 0, 0, 1], port).into(),
        }
    }

    #[test]
    fn equal_checks_of_one_address_are_one_probe() {
        let check = HealthCheck::new(CheckKind::Tcp);
        let mut schedule = Schedule::default();
        schedule.add(target(1, 80), &check, 0);
        schedule.add(target(2, 80), &check, 0);
        schedule.add(target(1, 81), &check, 5);
        assert_eq!(schedule.len(), 2);
        let (id, key) = schedule.due(0).unwrap();
        assert_eq!(key.address.port(), 80);
        assert_eq!(schedule.targets(id), [target(1, 80), target(2, 80)]);
        assert_eq!(schedule.due(0), None);
        schedule.remove(&target(1, 80));
        assert_eq!(schedule.targets(id), [target(2, 80)]);
        schedule.again(id, 0, Duration::from_secs(5));
        assert_eq!(schedule.due(5).unwrap().1.address.port(), 81);
        assert_eq!(schedule.next_ms(), Some(5_000));
    }

    #[test]
    fn what_was_removed_never_comes_due() {
        let check = HealthCheck::new(CheckKind::Tcp);
        let mut schedule = Schedule::default();
        schedule.add(target(1, 80), &check, 0);
        schedule.remove(&target(1, 80));
        assert_eq!(schedule.due(10), None);
        schedule.add(target(1, 80), &check, 20);
        let (id, _) = schedule.due(20).unwrap();
        schedule.remove(&target(1, 80));
        schedule.again(id, 20, Duration::ZERO);
        assert_eq!(schedule.due(30), None);
        assert!(schedule.is_empty());
    }
}
