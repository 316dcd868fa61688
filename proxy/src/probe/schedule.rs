//! Which probe is due when. Pure: time is an argument, in milliseconds.
//!
//! Equal checks of one address are one probe, whose outcome goes to every backend that has it, whatever its set or,
//! where the check has a port of its own, its port.

use crate::lb::SetId;
use podline_api::{CheckKind, HealthCheck};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
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
    /// Where: the backend's address, or the check's port at it. A ping has none: one is for all backends of a host.
    pub address: SocketAddr,
    /// How. It has no port: that is in the address.
    pub check: Arc<HealthCheck>,
}

impl ProbeKey {
    /// What probing a backend by `check` comes to.
    pub fn new(backend: SocketAddr, check: &HealthCheck) -> Self {
        let mut address = backend;
        address.set_port(match check.kind {
            CheckKind::Ping => 0,
            _ => check.port.unwrap_or(backend.port()),
        });
        let check = Arc::new(HealthCheck {
            port: None,
            ..check.clone()
        });
        Self { address, check }
    }
}

/// Names one entry; never used again, so that stale entries of the heap find nothing.
type ProbeId = u64;

#[derive(Debug)]
struct Probe {
    key: ProbeKey,
    targets: Vec<Target>,
    /// When it is due; not while it is under way.
    due: Option<u64>,
}

/// All probes and their times.
#[derive(Debug, Default)]
pub struct Schedule {
    probes: HashMap<ProbeId, Probe>,
    /// By check, then by address: all probes of a check share one copy of it.
    ids: HashMap<Arc<HealthCheck>, HashMap<SocketAddr, ProbeId>>,
    checks: HashMap<Target, ProbeId>,
    times: BinaryHeap<Reverse<(u64, ProbeId)>>,
    next: ProbeId,
}

impl Schedule {
    /// Starts to probe `target`, at once: an outcome of a probe that another set asked for may be an interval away.
    pub fn add(&mut self, target: Target, check: &HealthCheck, now_ms: u64) {
        let key = self.shared(ProbeKey::new(target.address, check));
        let known = self.ids.get(&key.check).and_then(|of| of.get(&key.address));
        let id = match known {
            Some(id) => *id,
            None => self.new_probe(key),
        };
        if let Some(probe) = self.probes.get_mut(&id) {
            // One that is under way brings its outcome to this target too.
            let is_new = probe.targets.is_empty();
            probe.targets.push(target);
            if is_new || probe.due.is_some_and(|due| due > now_ms) {
                self.schedule(id, now_ms);
            }
        }
        self.checks.insert(target, id);
    }

    fn shared(&self, key: ProbeKey) -> ProbeKey {
        let known = self.ids.get_key_value(&key.check);
        let check = known.map_or(key.check, |(check, _)| Arc::clone(check));
        ProbeKey { check, ..key }
    }

    fn new_probe(&mut self, key: ProbeKey) -> ProbeId {
        self.next += 1;
        let ids = self.ids.entry(Arc::clone(&key.check)).or_default();
        ids.insert(key.address, self.next);
        let probe = Probe {
            key,
            targets: Vec::new(),
            due: None,
        };
        self.probes.insert(self.next, probe);
        self.next
    }

    /// Sets a probe's time; an earlier entry of the heap is stale from now on.
    fn schedule(&mut self, id: ProbeId, at_ms: u64) {
        if let Some(probe) = self.probes.get_mut(&id) {
            probe.due = Some(at_ms);
            self.times.push(Reverse((at_ms, id)));
        }
    }

    /// Probes `target` at once, unless that is under way.
    pub fn hasten(&mut self, target: &Target, now_ms: u64) {
        let id = self.checks.get(target).copied();
        let waits = |id: &ProbeId| {
            let probe = self.probes.get(id);
            probe.is_some_and(|probe| probe.due.is_some_and(|due| due > now_ms))
        };
        if let Some(id) = id.filter(waits) {
            self.schedule(id, now_ms);
        }
    }

    /// Stops to probe `target`.
    pub fn remove(&mut self, target: &Target) {
        let Some(id) = self.checks.remove(target) else {
            return;
        };
        let Some(probe) = self.probes.get_mut(&id) else {
            return;
        };
        probe.targets.retain(|other| other != target);
        if probe.targets.is_empty()
            && let Some(probe) = self.probes.remove(&id)
        {
            self.forget(&probe.key);
        }
    }

    fn forget(&mut self, key: &ProbeKey) {
        if let Some(ids) = self.ids.get_mut(&key.check) {
            ids.remove(&key.address);
            if ids.is_empty() {
                self.ids.remove(&key.check);
            }
        }
    }

    /// A probe that is due, if any. Its time comes again with [`Self::again`].
    pub fn due(&mut self, now_ms: u64) -> Option<(u64, ProbeKey)> {
        while let Some(Reverse((time, id))) = self.times.peek().copied() {
            if time > now_ms {
                return None;
            }
            self.times.pop();
            if let Some(probe) = self.probes.get_mut(&id)
                && probe.due == Some(time)
            {
                probe.due = None;
                return Some((id, probe.key.clone()));
            }
        }
        None
    }

    /// Who is concerned by the outcome of probe `id`.
    pub fn targets(&self, id: u64) -> Vec<Target> {
        let probe = self.probes.get(&id);
        probe.map_or_else(Vec::new, |probe| probe.targets.clone())
    }

    /// Probes again after `delay`.
    pub fn again(&mut self, id: u64, now_ms: u64, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.schedule(id, now_ms.saturating_add(delay));
    }

    /// When the next probe is due, or earlier: stale entries count.
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
    fn a_port_of_the_checks_own_is_one_probe_for_all_backends_of_a_host() {
        let own = HealthCheck::new(CheckKind::Tcp);
        let health = HealthCheck {
            port: Some(9_000),
            ..own.clone()
        };
        let mut schedule = Schedule::default();
        let of_the_port_itself = target(2, 9_000);
        schedule.add(target(1, 80), &health, 0);
        schedule.add(target(1, 81), &health, 0);
        schedule.add(of_the_port_itself, &own, 0);
        schedule.add(target(1, 82), &own, 1);
        assert_eq!(schedule.len(), 2);
        let (id, key) = schedule.due(0).unwrap();
        assert_eq!((key.address.port(), key.check.port), (9_000, None));
        let concerned = [target(1, 80), target(1, 81), of_the_port_itself];
        assert_eq!(schedule.targets(id), concerned);
        schedule.remove(&target(1, 80));
        assert_eq!(schedule.targets(id), concerned[1..]);
    }

    #[test]
    fn a_ping_is_one_probe_for_all_backends_of_a_host() {
        let ping = HealthCheck::new(CheckKind::Ping);
        let mut schedule = Schedule::default();
        schedule.add(target(1, 80), &ping, 0);
        schedule.add(target(1, 81), &ping, 0);
        schedule.add(target(2, 80), &ping, 0);
        assert_eq!(schedule.len(), 1);
        let (id, key) = schedule.due(0).unwrap();
        assert_eq!(key.address, ([10, 0, 0, 1], 0).into());
        assert_eq!(schedule.targets(id).len(), 3);
    }

    #[test]
    fn another_question_is_another_probe() {
        let check = HealthCheck::new(CheckKind::Tcp);
        let from_elsewhere = HealthCheck {
            source_address: Some([10, 0, 0, 9].into()),
            ..check.clone()
        };
        let mut schedule = Schedule::default();
        schedule.add(target(1, 80), &check, 0);
        schedule.add(target(2, 80), &from_elsewhere, 0);
        assert_eq!(schedule.len(), 2);
    }

    #[test]
    fn all_probes_of_a_check_share_one_copy_of_it() {
        let check = HealthCheck::new(CheckKind::Tcp);
        let mut schedule = Schedule::default();
        schedule.add(target(1, 80), &check, 0);
        schedule.add(target(1, 81), &check, 0);
        let [one, other] = [(); 2].map(|()| schedule.due(0).unwrap().1.check);
        assert!(Arc::ptr_eq(&one, &other));
        schedule.remove(&target(1, 80));
        schedule.remove(&target(1, 81));
        assert!(schedule.ids.is_empty(), "no check outlives its probes");
    }

    /// A set must not wait for its first verdict because another set had its verdict just now.
    #[test]
    fn a_probe_that_a_further_set_asks_for_is_due_at_once() {
        let check = HealthCheck::new(CheckKind::Tcp);
        let mut schedule = Schedule::default();
        schedule.add(target(1, 80), &check, 0);
        let (id, _) = schedule.due(0).unwrap();
        // It is under way: its outcome is for both.
        schedule.add(target(2, 80), &check, 1);
        assert_eq!(schedule.due(1), None);
        schedule.again(id, 2, Duration::from_secs(5));
        schedule.add(target(3, 80), &check, 1_000);
        assert_eq!(schedule.next_ms(), Some(1_000));
        assert_eq!(schedule.due(1_000).map(|(id, _)| id), Some(id));
        schedule.again(id, 1_001, Duration::from_secs(5));
        // The time that was given up is not a second round.
        let times: Vec<u64> = (1_000..6_100)
            .filter(|now| schedule.due(*now).is_some())
            .collect();
        assert_eq!(times, [6_001]);
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
