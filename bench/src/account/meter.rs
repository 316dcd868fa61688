//! What processes and the machine spent between two moments.

use std::collections::BTreeMap;
use std::time::Instant;

use super::processes;
use super::stat::{Cpus, TICK};

/// CPU time of a process, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Its parent.
    pub(super) parent: u32,
    /// What it used itself.
    pub(super) own: u64,
    /// What its children used that it has waited for.
    pub(super) children: u64,
}

type Readings = BTreeMap<u32, Reading>;

/// What something cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// CPU seconds of the processes and of those below them; `None` if there were none.
    pub proxy_cpu: Option<f64>,
    /// CPU seconds of the whole machine: user, nice, system, irq and softirq. To 10 ms for each of its CPUs.
    pub machine_cpu: f64,
    /// The same, as the time in which its CPUs neither rested nor were stolen: what wakes up for less than a tick is in it.
    pub machine_awake: f64,
    /// CPU seconds that somebody else had, while this machine wanted them.
    pub stolen: f64,
    /// How long it took.
    pub seconds: f64,
}

/// Measures from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Meter {
    roots: Vec<u32>,
    began: Instant,
    machine: Cpus,
    first: Readings,
    last: Readings,
}

impl Meter {
    /// Begins to measure the machine, and these processes with those below them, now or later.
    pub fn begin(pids: &[u32]) -> Self {
        let first = processes::readings(pids);
        Self {
            roots: pids.to_vec(),
            machine: processes::cpus(),
            last: first.clone(),
            first,
            began: Instant::now(),
        }
    }

    /// Looks once more: what ends after this is counted up to here.
    pub fn look(&mut self) {
        let now = processes::readings(&self.roots);
        self.last = merged(&self.last, now);
    }

    /// What was spent since the beginning.
    pub fn end(mut self) -> Cost {
        let seconds = self.began.elapsed().as_secs_f64();
        let machine = processes::cpus();
        self.look();
        let spent = spent(&self.first, &self.last);
        Cost {
            proxy_cpu: (!self.roots.is_empty()).then(|| to_seconds(spent)),
            machine_cpu: to_seconds(machine.busy.saturating_sub(self.machine.busy) * TICK),
            machine_awake: awake(seconds, self.machine, machine),
            stolen: to_seconds(machine.stolen.saturating_sub(self.machine.stolen) * TICK),
            seconds,
        }
    }
}

/// CPU seconds of so many in which CPUs neither rested nor were stolen. Of CPUs that came or went meanwhile only those are
/// counted that there are now.
fn awake(seconds: f64, before: Cpus, after: Cpus) -> f64 {
    let ticks = (after.idle + after.stolen).saturating_sub(before.idle + before.stolen);
    (seconds * f64::from(after.count) - to_seconds(ticks * TICK)).max(0.0)
}

/// What is known of all processes after another look. Of one that has ended it is what was known before, unless its
/// parent has waited for it: then its parent tells.
fn merged(before: &Readings, now: Readings) -> Readings {
    let is_told = |(_, old): &(&u32, &Reading)| {
        let parent = (before.get(&old.parent), now.get(&old.parent));
        matches!(parent, (Some(before), Some(now)) if now.children > before.children)
    };
    let ended = before.iter().filter(|(pid, _)| !now.contains_key(pid));
    let kept: Vec<_> = ended
        .filter(|ended| !is_told(ended))
        .map(|(pid, old)| (*pid, *old))
        .collect();
    now.into_iter().chain(kept).collect()
}

fn spent(first: &Readings, last: &Readings) -> u64 {
    let sum = |readings: &Readings| -> u64 {
        readings
            .values()
            .map(|reading| reading.own + reading.children)
            .sum()
    };
    sum(last).saturating_sub(sum(first))
}

fn to_seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(list: &[(u32, u32, u64, u64)]) -> Readings {
        let reading = |(pid, parent, own, children)| {
            let reading = Reading {
                parent,
                own,
                children,
            };
            (pid, reading)
        };
        list.iter().copied().map(reading).collect()
    }

    fn spent_over(looks: &[&[(u32, u32, u64, u64)]]) -> u64 {
        let first = readings(looks[0]);
        let last = looks[1..]
            .iter()
            .fold(first.clone(), |last, look| merged(&last, readings(look)));
        spent(&first, &last)
    }

    #[test]
    fn what_a_process_and_its_children_use_is_counted() {
        assert_eq!(spent_over(&[&[(1, 0, 100, 5)], &[(1, 0, 130, 5)]]), 30);
        let grown: &[_] = &[(1, 0, 100, 0), (2, 1, 50, 0)];
        assert_eq!(spent_over(&[&[(1, 0, 100, 0)], grown]), 50);
        assert_eq!(spent_over(&[&[], &[]]), 0);
    }

    #[test]
    fn a_child_that_was_waited_for_is_counted_once() {
        let begin: &[_] = &[(1, 0, 100, 0), (2, 1, 50, 0)];
        let end: &[_] = &[(1, 0, 101, 80), (3, 1, 7, 0)]; // it had 80 in all
        assert_eq!(spent_over(&[begin, end]), 1 + 30 + 7);
        let between: &[_] = &[(1, 0, 100, 0), (2, 1, 70, 0)];
        assert_eq!(spent_over(&[begin, between, end]), 1 + 30 + 7);
    }

    #[test]
    fn who_ends_without_anybody_to_tell_keeps_what_was_read_last() {
        let begin: &[_] = &[(1, 0, 100, 3), (2, 1, 50, 0)];
        let between: &[_] = &[(1, 0, 150, 3), (2, 1, 60, 0)];
        assert_eq!(spent_over(&[begin, between, &[]]), 60);
        assert_eq!(spent_over(&[begin, between, &[(1, 0, 151, 3)]]), 61);
        assert_eq!(spent_over(&[begin, &[]]), 0);
    }

    #[test]
    fn a_machine_is_awake_when_it_neither_rests_nor_is_stolen() {
        let cpus = |idle, stolen| Cpus {
            idle,
            stolen,
            count: 2,
            ..Cpus::default()
        };
        let near = |before, after, expected: f64| {
            let found = awake(3.0, before, after);
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        };
        near(cpus(1000, 10), cpus(1450, 20), 6.0 - 4.6);
        near(cpus(1000, 10), cpus(1000, 10), 6.0);
        near(cpus(1000, 10), cpus(1601, 10), 0.0); // a tick more than there was
        near(cpus(1000, 10), cpus(900, 10), 6.0); // one went away
    }

    #[test]
    fn a_meter_sees_work_of_this_process() {
        let (mut meter, nobody) = (Meter::begin(&[std::process::id()]), Meter::begin(&[]));
        std::hint::black_box(crate::account::pulse());
        meter.look();
        let cost = meter.end();
        assert!(cost.proxy_cpu.is_some_and(|cpu| cpu > 0.0), "{cost:?}");
        assert!(cost.seconds > 0.0 && cost.machine_cpu >= 0.0, "{cost:?}");
        assert_eq!(nobody.end().proxy_cpu, None);
    }
}
