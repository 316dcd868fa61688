//! Candidates whose clocks differ, whose processes stop, and whose requests and answers get lost, over one Lease.
//!
//! Clocks run up to a tenth too fast or too slow, which the rules allow for. A candidate that is stopped still counts as
//! one that believes whatever its clock says, for it asks its clock before it acts.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::super::decide::{Candidate, Next, Record, Terms};

/// Milliseconds of true time.
type Time = u64;
const TICK: Time = 10;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// The Lease, and how often it was written.
#[derive(Default)]
struct Server {
    lease: Option<Record>,
    version: u64,
    /// Nothing gets through before.
    down_until: Time,
}

enum Answer {
    Seen(Option<Record>, u64),
    Written(Record, u64),
    Lost,
}

#[derive(Clone, Copy)]
struct Request {
    step: Next,
    /// By the candidate's clock.
    asked: Duration,
    arrives: Option<Time>,
    answered: Time,
    gives_up: Time,
}

struct Process {
    name: String,
    candidate: Candidate,
    /// Thousandths of true time.
    speed: u64,
    born: Time,
    stopped_until: Time,
    version: Option<u64>,
    request: Option<(Request, Option<Answer>)>,
    /// By true time.
    sleeps_until: Time,
}

impl Process {
    fn new(name: String, born: Time, random: &mut Random) -> Self {
        Self {
            candidate: Candidate::new(name.clone(), Terms::default()),
            name,
            speed: 900 + random.below(200),
            born,
            stopped_until: 0,
            version: None,
            request: None,
            sleeps_until: 0,
        }
    }

    fn clock(&self, now: Time) -> Duration {
        Duration::from_micros((now - self.born) * self.speed)
    }

    fn true_time(&self, time: Duration) -> Time {
        u64::try_from(time.as_micros()).unwrap() / self.speed
    }

    fn epoch(&self, now: Time) -> Option<u64> {
        self.candidate
            .held_at(self.clock(now))
            .map(|held| held.epoch)
    }

    /// What the server does with a request that reaches it now.
    fn arrive(&mut self, now: Time, server: &mut Server) {
        let Some((request, answer @ None)) = &mut self.request else {
            return;
        };
        if request.arrives.is_none_or(|arrives| arrives > now) {
            return;
        }
        request.arrives = None;
        if server.down_until > now {
            return;
        }
        let write = |epoch, server: &mut Server| {
            let written = Record {
                holder: self.name.clone(),
                epoch,
                acquired: None,
                renewed: Timestamp::from_millisecond(i64::try_from(now).unwrap()).ok(),
                lasts: Terms::default().lease,
            };
            server.lease = Some(written.clone());
            server.version += 1;
            Answer::Written(written, server.version)
        };
        *answer = Some(match request.step {
            Next::Create { epoch } if server.lease.is_none() => write(epoch, server),
            Next::TakeOver { epoch } | Next::Renew { epoch }
                if server.lease.is_some() && self.version == Some(server.version) =>
            {
                write(epoch, server)
            }
            Next::Look => Answer::Seen(server.lease.clone(), server.version),
            _ => Answer::Lost,
        });
    }

    /// One look at the clock, if the process runs.
    fn run(&mut self, now: Time, random: &mut Random) {
        if self.stopped_until > now || self.sleeps_until > now {
            return;
        }
        let clock = self.clock(now);
        match self.request.take() {
            Some((request, Some(answer))) if request.answered <= now => {
                self.hear(answer, request, now);
            }
            Some((request, _)) if request.gives_up <= now => self.candidate.failed(request.asked),
            Some(pending) => self.request = Some(pending),
            None => match self.candidate.decide(clock) {
                Next::Wait(time) => self.sleeps_until = now + self.true_time(time).max(TICK),
                Next::StepDown => self.candidate.step_down(),
                Next::Exhausted => panic!("no epochs left"),
                step => self.ask(step, now, random),
            },
        }
    }

    fn hear(&mut self, answer: Answer, request: Request, now: Time) {
        let clock = self.clock(now);
        match answer {
            Answer::Seen(record, version) => {
                self.candidate.saw(record, clock);
                self.version = Some(version);
            }
            Answer::Written(record, version) => {
                self.candidate.wrote(record, request.asked, clock);
                self.version = Some(version);
            }
            Answer::Lost => self.candidate.lost(clock),
        }
    }

    fn ask(&mut self, step: Next, now: Time, random: &mut Random) {
        let asked = self.clock(now);
        let left = self
            .candidate
            .held()
            .map(|held| held.until.saturating_sub(asked));
        let limit = Terms::default().call.min(left.unwrap_or(Duration::MAX));
        let slow = if random.one_in(20) { 3000 } else { 60 };
        let arrives = now + random.below(slow);
        let request = Request {
            step,
            asked,
            arrives: (!random.one_in(30)).then_some(arrives),
            // An answer that is lost comes when nobody waits for it any more.
            answered: if random.one_in(30) {
                Time::MAX
            } else {
                arrives + random.below(slow)
            },
            gives_up: now + self.true_time(limit),
        };
        self.request = Some((request, None));
    }
}

struct World {
    random: Random,
    server: Server,
    processes: Vec<Process>,
    /// Who led with which epoch.
    reigns: BTreeMap<u64, String>,
    born: usize,
    /// Times at which nobody led, in a row.
    leaderless: Time,
    longest_leaderless: Time,
    /// Nothing was disturbed since.
    calm_since: Time,
}

impl World {
    fn new(seed: u64, candidates: usize) -> Self {
        let mut world = Self {
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            server: Server::default(),
            processes: Vec::new(),
            reigns: BTreeMap::new(),
            born: 0,
            leaderless: 0,
            longest_leaderless: 0,
            calm_since: 0,
        };
        (0..candidates).for_each(|_| world.bear(0));
        world
    }

    fn bear(&mut self, now: Time) {
        self.born += 1;
        let name = format!("p{}", self.born);
        self.processes
            .push(Process::new(name, now, &mut self.random));
    }

    fn disturb(&mut self, now: Time) {
        let random = &mut self.random;
        let who = usize::try_from(random.below(self.processes.len() as u64)).unwrap();
        match random.below(12_000) {
            0..5 => self.processes[who].stopped_until = now + random.below(20_000),
            5..7 => self.server.down_until = now + random.below(15_000),
            7 => {
                // Killed; another comes in its place.
                self.processes.swap_remove(who);
                self.bear(now);
            }
            8 => {
                // Ends in order: gives the Lease back.
                let gone = self.processes.swap_remove(who);
                let lease = self
                    .server
                    .lease
                    .as_mut()
                    .filter(|lease| lease.holder == gone.name);
                if let Some(lease) = lease {
                    lease.holder.clear();
                    self.server.version += 1;
                }
                self.bear(now);
            }
            // Somebody puts a label on it.
            9 => self.server.version += 1,
            10 => {
                let seen = self.server.lease.as_ref().map_or(0, |lease| lease.epoch);
                self.processes[who].candidate.raise(seen + random.below(3));
            }
            _ => return,
        }
        self.calm_since = now + 20_000;
    }

    fn tick(&mut self, now: Time) {
        for process in &mut self.processes {
            process.arrive(now, &mut self.server);
            process.run(now, &mut self.random);
        }
        self.check(now);
    }

    fn check(&mut self, now: Time) {
        let leaders: Vec<_> = self
            .processes
            .iter()
            .filter_map(|process| Some((process.epoch(now)?, &process.name)))
            .collect();
        assert!(leaders.len() <= 1, "at {now}: {leaders:?}");
        for (epoch, name) in &leaders {
            let highest = self.reigns.last_key_value();
            match highest {
                Some((highest, last)) if epoch == highest => assert_eq!(last, *name, "at {now}"),
                Some((highest, _)) => assert!(epoch > highest, "at {now}: {epoch} after {highest}"),
                None => {}
            }
            self.reigns.insert(*epoch, (*name).clone());
        }
        if leaders.is_empty() && now > self.calm_since {
            self.leaderless += TICK;
        } else {
            self.leaderless = 0;
        }
        self.longest_leaderless = self.longest_leaderless.max(self.leaderless);
    }
}

#[test]
fn there_is_never_more_than_one_leader_and_epochs_only_grow() {
    let mut reigns = 0;
    for seed in 1..40 {
        let mut world = World::new(seed, 2 + usize::try_from(seed % 2).unwrap());
        for now in (0..600_000).step_by(10) {
            world.disturb(now);
            world.tick(now);
        }
        // A lease, some lost requests, and the way to the server and back.
        assert!(
            world.longest_leaderless < 16_000,
            "seed {seed}: {}",
            world.longest_leaderless
        );
        reigns += world.reigns.len();
    }
    assert!(reigns > 300, "only {reigns} reigns");
}

#[test]
fn after_a_deletion_no_epoch_is_used_twice() {
    for seed in 1..40 {
        let mut world = World::new(seed, 3);
        for now in (0..200_000).step_by(10) {
            if now % 30_000 == 20_000 {
                world.server.lease = None;
                world.server.version += 1;
            }
            world.tick(now);
        }
        assert!(world.reigns.len() >= 6, "seed {seed}: {:?}", world.reigns);
    }
}

#[test]
fn without_trouble_the_first_leader_stays() {
    let mut world = World::new(7, 3);
    world.random = Random(7);
    for now in (0..60_000).step_by(10) {
        // No luck is needed: every request gets through.
        for process in &mut world.processes {
            if let Some((request, None)) = &mut process.request {
                request.arrives.get_or_insert(now);
                request.answered = request.answered.min(now + 50);
            }
        }
        world.tick(now);
    }
    assert_eq!(world.reigns.len(), 1);
}
