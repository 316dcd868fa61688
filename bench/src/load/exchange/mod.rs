//! Requests that wait for their answers, many at once on one thread: the loop under every load but bulk and HTTP/2.
//!
//! A slot carries one request at a time. A request that finds its slot without a connection opens one as its first step, so
//! that a lost connection costs the request that was under way, and a refused one the request that wanted it. It must not
//! know how requests and answers look ([`Dialect`]) nor when they are due ([`Source`]).

mod steps;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio_rustls::rustls::ClientConfig;

use crate::load::Failure;
use crate::load::dialect::Dialect;
use crate::load::line::Line;
use crate::load::pace::nanoseconds;
use crate::load::poller::{Poller, TICK};
use crate::load::socket::Transport;
use crate::load::source::Source;
use crate::load::stop::Stop;
use crate::load::tally::Tally;

/// What is read at once.
const BUFFER: usize = 256 * 1024;
/// How long a slot of a closed load rests after it found nobody to talk to.
const REST: u64 = 10_000_000;
/// Connections that are being made at once, before the clock starts.
const WAVE: usize = 256;
/// How long a connection that carried its one request may take to end.
const CLOSING: u64 = 1_000_000_000;

/// How long a connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Over many requests.
    Stays,
    /// Over many requests; it is a failure if it ends, even when nothing is under way.
    MustStay,
    /// For one request; the Pod ends it.
    One,
}

/// What a load of this kind looks like.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) target: SocketAddr,
    /// To which connections go in turn, from the target's on; at least 1.
    pub(crate) ports: u16,
    pub(crate) transport: Transport,
    /// How TLS is spoken; `None` in the clear.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) life: Life,
    /// Requests under way at most.
    pub(crate) slots: u32,
    /// Nanoseconds.
    pub(crate) patience: u64,
    /// The first request's number.
    pub(crate) first: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is under way.
    Free,
    /// A connection is being made, and no request waits for it.
    Opening,
    /// A request is under way, its connection still being made.
    Dialling,
    /// A request is under way.
    Asked,
    /// Answered; the other side has still to end.
    Closing,
}

struct Slot<A> {
    line: Option<Line>,
    /// Counts the connections of this slot: an event of an earlier one is told by it.
    generation: u32,
    state: State,
    /// When the request was due; of [`State::Opening`] and [`State::Closing`] when that began.
    since: u64,
    sequence: u64,
    answer: A,
}

/// The loop's state.
pub(crate) struct Exchange<D: Dialect> {
    dialect: D,
    shape: Shape,
    poller: Poller,
    slots: Vec<Slot<D::Answer>>,
    /// Slots in [`State::Free`] that may be asked, the longest free first.
    free: VecDeque<usize>,
    /// Slots that rest, with the end of it; in its order.
    resting: VecDeque<(u64, usize)>,
    /// Slots in [`State::Dialling`] or [`State::Asked`].
    busy: usize,
    sequence: u64,
    /// Connections that were begun.
    dialled: u64,
    start: Instant,
    tally: Tally,
    out: Vec<u8>,
    buffer: Vec<u8>,
    /// When the slots are looked through next for what takes too long.
    next_look: u64,
}

impl<D: Dialect> Exchange<D> {
    /// Slots without connections.
    pub(crate) fn new(dialect: D, shape: Shape) -> io::Result<Self> {
        let slot = |_| Slot {
            line: None,
            generation: 0,
            state: State::Free,
            since: 0,
            sequence: 0,
            answer: D::Answer::default(),
        };
        let slots: Vec<_> = (0..shape.slots).map(slot).collect();
        Ok(Self {
            dialect,
            sequence: shape.first,
            shape,
            poller: Poller::new()?,
            free: (0..slots.len()).collect(),
            slots,
            resting: VecDeque::new(),
            busy: 0,
            dialled: 0,
            start: Instant::now(),
            tally: Tally::default(),
            out: Vec::new(),
            buffer: vec![0; BUFFER],
            next_look: 0,
        })
    }

    /// Makes the connections, for at most the plan's patience, and starts the clock: how many nanoseconds that took. Those
    /// that fail are counted.
    pub(crate) fn open_all(&mut self, stop: &Stop) -> io::Result<u64> {
        let mut left = std::mem::take(&mut self.free);
        let mut opening = 0;
        while !stop.is_stopped() {
            let now = self.now();
            while opening < WAVE
                && let Some(index) = left.pop_front()
            {
                self.slots[index].since = now;
                match self.open(index) {
                    Ok(()) if self.shape.transport == Transport::Tcp => {
                        self.slots[index].state = State::Opening;
                        opening += 1;
                    }
                    Ok(()) => self.release(index),
                    Err(failure) => self.not_opened(index, 0, failure),
                }
            }
            if now > self.shape.patience {
                break;
            }
            if opening == 0 && left.is_empty() {
                break;
            }
            self.poller.wait(now, None)?;
            self.handle_events(&mut Source::Nothing);
            opening = self.opening();
        }
        if stop.is_stopped() {
            return Ok(self.restart()); // what was not waited for has not failed
        }
        for index in 0..self.slots.len() {
            if self.slots[index].state == State::Opening {
                self.not_opened(index, 0, Failure::Connect);
            }
        }
        for index in left {
            self.not_opened(index, 0, Failure::Connect);
        }
        Ok(self.restart())
    }

    fn opening(&self) -> usize {
        let is_opening = |slot: &&Slot<D::Answer>| slot.state == State::Opening;
        self.slots.iter().filter(is_opening).count()
    }

    /// Starts the clock anew: what it showed.
    pub(crate) fn restart(&mut self) -> u64 {
        let before = self.now();
        self.start = Instant::now();
        self.next_look = 0;
        self.poller.forget_due();
        before
    }

    /// Nanoseconds since the clock was started.
    pub(crate) fn now(&self) -> u64 {
        nanoseconds(self.start.elapsed())
    }

    /// Sends what `source` says until there is no more of it and all was answered; at `limit` what is left has failed.
    pub(crate) fn drive(&mut self, source: &mut Source, limit: u64, stop: &Stop) -> io::Result<()> {
        loop {
            let now = self.now();
            if stop.is_stopped() {
                self.tally.forget(self.busy as u64);
                return Ok(());
            }
            self.wake(now);
            self.look(now);
            self.ask_due(source, now);
            let is_over = source.is_over(now) && self.busy == 0;
            if is_over || now >= limit {
                self.end(source, now);
                return Ok(());
            }
            let due = match source.next_at() {
                Some(due) if !self.free.is_empty() => Some(due),
                _ => self.resting.front().map(|(until, _)| *until),
            };
            self.poller.wait(now, due)?;
            self.handle_events(source);
        }
    }

    /// What came of it.
    pub(crate) fn into_tally(self) -> (Tally, u64) {
        let now = self.now();
        (self.tally, now)
    }

    /// Slots that have a connection and nothing to do.
    pub(crate) fn take_connected(&mut self) -> VecDeque<usize> {
        let slots = &self.slots;
        self.free.retain(|index| slots[*index].line.is_some());
        std::mem::take(&mut self.free)
    }

    fn end(&mut self, source: &mut Source, now: u64) {
        for index in 0..self.slots.len() {
            if self.is_busy(index) {
                self.fail(index, now, Failure::Late);
            }
        }
        self.tally.given_up(now, source.give_up_all());
    }

    /// Asks as many due requests as there are free slots.
    fn ask_due(&mut self, source: &mut Source, now: u64) {
        let given_up = source.give_up(now, self.shape.patience);
        self.tally.given_up(now, given_up);
        loop {
            if let Source::Each(todo) = source {
                if self.busy >= WAVE {
                    return;
                }
                let Some(index) = todo.pop_front() else {
                    return;
                };
                if self.slots[index].line.is_some() {
                    self.begin(index, now, now);
                }
                continue;
            }
            if self.free.is_empty() {
                return;
            }
            let Some(due) = source.take(now) else {
                return;
            };
            let index = self.free.pop_front().expect("it is not empty");
            self.begin(index, due, now);
        }
    }

    fn handle_events(&mut self, source: &mut Source) {
        let mut next = 0;
        while let Some(event) = self.poller.event(next) {
            next += 1;
            let index = usize::try_from(event.token & u64::from(u32::MAX)).unwrap_or(usize::MAX);
            let generation = event.token >> 32;
            let is_current = self.slots.get(index).is_some_and(|slot| {
                u64::from(slot.generation) == generation && slot.line.is_some()
            });
            if is_current {
                let now = self.now();
                self.handle(index, event, now);
                self.ask_due(source, now);
            }
        }
    }

    /// Ends the rest of slots whose time has come.
    fn wake(&mut self, now: u64) {
        while let Some((until, index)) = self.resting.front().copied()
            && until <= now
        {
            self.resting.pop_front();
            self.release(index);
        }
    }

    fn is_busy(&self, index: usize) -> bool {
        matches!(self.slots[index].state, State::Dialling | State::Asked)
    }

    /// Looks for what takes too long, once in a tick.
    fn look(&mut self, now: u64) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + TICK;
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let (limit, failure) = match slot.state {
                State::Closing => (CLOSING, Failure::Late),
                State::Dialling => (self.shape.patience, Failure::Connect),
                State::Asked => (self.shape.patience, Failure::Late),
                State::Free | State::Opening => continue,
            };
            if slot.since.saturating_add(limit) < now {
                self.lost(index, now, failure);
            }
        }
    }
}
