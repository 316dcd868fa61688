//! What happens to one slot: a request is begun, its bytes go and come, and it ends well or badly.

use std::io::ErrorKind;
use std::net::SocketAddr;

use super::{Exchange, Life, REST, State};
use crate::load::Failure;
use crate::load::dialect::{Dialect, Read};
use crate::load::line::Line;
use crate::load::poller::Event;
use crate::load::socket::{Transport, classify};

impl<D: Dialect> Exchange<D> {
    pub(super) fn begin(&mut self, index: usize, due: u64, now: u64) {
        self.tally.begin();
        self.busy += 1;
        let slot = &mut self.slots[index];
        slot.since = due;
        slot.sequence = self.sequence;
        self.sequence += 1;
        self.dialect.expect(&mut slot.answer, slot.sequence);
        if slot.line.is_some() {
            slot.state = State::Asked;
            return self.ask(index, now);
        }
        slot.state = State::Dialling;
        match self.open(index) {
            Ok(()) if self.shape.transport == Transport::Udp => {
                self.slots[index].state = State::Asked;
                self.ask(index, now);
            }
            Ok(()) => (),
            Err(failure) => self.fail(index, now, failure),
        }
    }

    /// Gives the slot a connection that is being made.
    pub(super) fn open(&mut self, index: usize) -> Result<(), Failure> {
        let target = self.next_target();
        let slot = &mut self.slots[index];
        slot.generation = slot.generation.wrapping_add(1);
        let token = u64::from(slot.generation) << 32 | index as u64;
        let line = Line::open(target, self.shape.transport, self.shape.tls.as_ref());
        let line = line.map_err(|error| classify(&error, true))?;
        let added = self.poller.add(&line, token);
        added.map_err(|_| Failure::Client)?;
        slot.line = Some(line);
        Ok(())
    }

    fn next_target(&mut self) -> SocketAddr {
        let mut target = self.shape.target;
        let nth = self.dialled % u64::from(self.shape.ports);
        let nth = u16::try_from(nth).expect("less than a number of ports");
        target.set_port(target.port().wrapping_add(nth));
        self.dialled += 1;
        target
    }

    fn ask(&mut self, index: usize, now: u64) {
        self.out.clear();
        let slot = &mut self.slots[index];
        self.dialect.ask(slot.sequence, &mut self.out);
        let Some(line) = &mut slot.line else {
            return; // cannot be: who asks has seen to it
        };
        if let Err(error) = line.send(&self.out) {
            let refused = error.kind() == ErrorKind::ConnectionRefused;
            self.fail(index, now, classify(&error, refused));
        }
    }

    pub(super) fn handle(&mut self, index: usize, event: Event, now: u64) {
        if matches!(self.slots[index].state, State::Opening | State::Dialling)
            && !self.connected(index, event, now)
        {
            return;
        }
        if event.is_writable() {
            self.flush(index, now);
        }
        if event.is_readable() {
            self.read(index, event, now);
        }
    }

    /// Whether the connection is made now; the request that waited for it is sent.
    fn connected(&mut self, index: usize, event: Event, now: u64) -> bool {
        let slot = &mut self.slots[index];
        let Some(line) = &mut slot.line else {
            return false; // cannot be: the event is of its line
        };
        let made = match event.is_error().then(|| line.take_error()) {
            None => line.advance(event.is_writable()),
            Some(error) => Err(error.unwrap_or_else(|| ErrorKind::ConnectionRefused.into())),
        };
        let failure = match made {
            Ok(false) => return false,
            Ok(true) => None,
            Err(error) => Some(classify(&error, true)),
        };
        if let (None, Some(suite)) = (failure, line.suite()) {
            self.tally.agreed(suite);
        }
        match (slot.state, failure) {
            (State::Opening, None) => {
                slot.state = State::Free;
                self.release(index);
            }
            (State::Opening, Some(failure)) => self.not_opened(index, now, failure),
            (_, None) => {
                slot.state = State::Asked;
                self.ask(index, now);
            }
            (_, Some(failure)) => self.fail(index, now, failure),
        }
        self.slots[index].line.is_some()
    }

    fn flush(&mut self, index: usize, now: u64) {
        let flushed = self.slots[index].line.as_mut().map(Line::flush);
        if let Some(Err(error)) = flushed {
            self.lost(index, now, classify(&error, false));
        }
    }

    /// Reads until there is nothing more.
    fn read(&mut self, index: usize, event: Event, now: u64) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(line) = &mut self.slots[index].line {
            let short_is_all = line.short_is_all();
            match line.read(&mut buffer) {
                Ok(0) if self.shape.transport == Transport::Tcp => {
                    self.lost(index, now, Failure::Ended);
                }
                Ok(count) => {
                    self.take_bytes(index, &buffer[..count], now);
                    if short_is_all && count < buffer.len() && !event.is_ending() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    let refused = error.kind() == ErrorKind::ConnectionRefused;
                    self.lost(index, now, classify(&error, refused));
                    if self.shape.transport == Transport::Udp {
                        break;
                    }
                }
            }
        }
        self.buffer = buffer;
    }

    fn take_bytes(&mut self, index: usize, bytes: &[u8], now: u64) {
        let slot = &mut self.slots[index];
        if slot.state != State::Asked {
            let slot_is_closing = slot.state == State::Closing;
            if self.shape.transport == Transport::Tcp {
                // Bytes that nobody asked for: the next answer on this connection could not be trusted.
                self.tally.begin();
                self.tally.failed(now, Failure::Wrong);
                self.drop_line(index);
            }
            if slot_is_closing {
                self.slots[index].state = State::Free;
                self.release(index);
            }
            return; // of a datagram: an answer that came too late
        }
        match self.dialect.read(&mut slot.answer, bytes) {
            Read::More => (),
            Read::Done {
                pod,
                bytes: n,
                used,
                is_last,
            } if used == bytes.len() => {
                self.tally.answered(now, slot.since, pod, n);
                self.busy -= 1;
                if is_last || self.shape.life == Life::One {
                    slot.state = State::Closing;
                    slot.since = now;
                } else {
                    slot.state = State::Free;
                    self.release(index);
                }
            }
            Read::Done { .. } | Read::Wrong => self.fail(index, now, Failure::Wrong),
        }
    }

    /// The connection is over, for this reason.
    pub(super) fn lost(&mut self, index: usize, now: u64, failure: Failure) {
        match self.slots[index].state {
            State::Dialling | State::Asked => self.fail(index, now, failure),
            State::Opening => self.not_opened(index, now, failure),
            State::Closing => {
                self.drop_line(index);
                self.slots[index].state = State::Free;
                self.release(index);
            }
            State::Free if self.shape.transport == Transport::Udp => (),
            State::Free => {
                if self.shape.life == Life::MustStay {
                    self.tally.begin();
                    self.tally.failed(now, failure);
                }
                self.drop_line(index);
            }
        }
    }

    /// The request under way has failed.
    pub(super) fn fail(&mut self, index: usize, now: u64, failure: Failure) {
        self.tally.failed(now, failure);
        self.busy -= 1;
        let slot = &mut self.slots[index];
        slot.state = State::Free;
        let is_flow = self.shape.transport == Transport::Udp && failure != Failure::Client;
        if !is_flow {
            self.drop_line(index);
        }
        self.rest_or_release(index, now, failure);
    }

    /// A connection that no request waits for was not made.
    pub(super) fn not_opened(&mut self, index: usize, now: u64, failure: Failure) {
        self.tally.begin();
        self.tally.failed(now, failure);
        self.slots[index].state = State::Free;
        self.drop_line(index);
        self.release(index);
    }

    fn drop_line(&mut self, index: usize) {
        self.slots[index].line = None;
    }

    pub(super) fn release(&mut self, index: usize) {
        self.free.push_back(index);
    }

    fn rest_or_release(&mut self, index: usize, now: u64, failure: Failure) {
        match failure {
            Failure::Connect | Failure::Client => self.resting.push_back((now + REST, index)),
            _ => self.release(index),
        }
    }
}
