//! One direction of a connection: bytes from one socket to the other, by copying or by splice.
//!
//! Copying goes through the worker's scratch buffer, so a direction owns memory only while its sink is full. A stream
//! that goes one way for long enough moves to splice, a long one lets the kernel gather bytes in addition, and both end
//! when it gets small or silent. A turn is bounded, so that a busy stream cannot hold its neighbours up.

use super::socket::Socket;
use crate::net::io;
use crate::net::pipe::{Pipe, PipePool};
use rustix::io::Errno;

/// Bytes one direction may move before the others have their turn.
pub(crate) const TURN: usize = 256 << 10;
/// The same for a spliced direction, where a byte costs a third.
const STREAM_TURN: usize = 1 << 20;
/// Bytes one way, with none the other way, after which a stream is spliced.
const STREAM: u32 = 512 << 10;
/// Bytes one way after which the kernel is asked to gather [`GATHER`] bytes before it reports more.
const LONG_STREAM: u32 = 8 << 20;
/// What is gathered. A third less CPU per byte than taking each burst as it comes (0.25 against 0.33 s/GB); the worker
/// looks every few milliseconds, so that the last bytes before a pause do not wait for company.
const GATHER: i32 = 512 << 10;
/// A spliced turn that found less than this is a small one.
const SMALL: usize = 16 << 10;
/// Small turns in a row after which a stream is copied again.
const SMALL_TURNS: u8 = 8;
/// Bytes read at once while the sink is slow: what it does not take has to be kept.
const CAREFUL: usize = 16 << 10;

/// What all connections of a worker share.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) scratch: Box<[u8]>,
    pub(crate) pipes: PipePool,
}

/// Bytes read that the sink did not take yet.
#[derive(Debug)]
struct Rest {
    bytes: Box<[u8]>,
    sent: usize,
}

/// The state of one direction.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    rest: Option<Box<Rest>>,
    pipe: Option<Pipe>,
    /// Bytes since the other direction moved any.
    one_way: u32,
    small_turns: u8,
    /// The kernel gathers the source's bytes.
    gathering: bool,
    /// The end of the source has been read.
    end_read: bool,
    /// The last write was cut short.
    slow_sink: bool,
    moved: u64,
}

/// Why a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The source is dry or the sink is full; readiness will tell.
    Waiting,
    /// There may be more: another turn is due.
    Again,
    /// The end of the source was read and everything before it was written.
    Ended,
    /// A socket failed; [`Socket::gone`] says which and how.
    Failed,
}

/// Why a step of a turn stops the turn.
type Step = Result<(), Turn>;

impl Direction {
    /// A direction that begins with `bytes`.
    pub(crate) fn beginning_with(bytes: Vec<u8>) -> Self {
        let bytes = bytes.into_boxed_slice();
        let rest = (!bytes.is_empty()).then(|| Box::new(Rest { bytes, sent: 0 }));
        Self {
            rest,
            ..Self::default()
        }
    }

    /// Bytes moved so far.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// Bytes wait for the sink.
    pub(crate) fn holds_bytes(&self) -> bool {
        self.rest.is_some() || self.pipe.as_ref().is_some_and(|p| p.held() > 0)
    }

    /// How many bytes wait for the sink.
    pub(crate) fn held(&self) -> u64 {
        let rest = self.rest.as_ref().map_or(0, |r| r.bytes.len() - r.sent);
        let piped = self.pipe.as_ref().map_or(0, Pipe::held);
        (rest + piped) as u64
    }

    /// The other direction moved bytes: this is a conversation, not a stream.
    pub(crate) fn answered(&mut self) {
        self.one_way = 0;
    }

    /// The kernel may hold bytes of the source back, so somebody has to look from time to time.
    pub(crate) fn gathering(&self) -> bool {
        self.gathering
    }

    /// Goes back to copying if nothing is in the pipe.
    pub(crate) fn release_idle(&mut self, from: &Socket, pipes: &mut PipePool) {
        if self.pipe.as_ref().is_some_and(|p| p.held() == 0) {
            self.stop_stream(from, pipes);
        }
    }

    fn stop_stream(&mut self, from: &Socket, pipes: &mut PipePool) {
        if std::mem::take(&mut self.gathering) {
            io::report_readable_from(from, 1);
        }
        self.release(pipes);
    }

    /// Gives the pipe back, with or without bytes in it: the direction is about to be dropped.
    pub(crate) fn release(&mut self, pipes: &mut PipePool) {
        if let Some(pipe) = self.pipe.take() {
            pipes.give_back(pipe);
        }
        self.one_way = 0;
        self.small_turns = 0;
    }

    /// Moves what can be moved, [`TURN`] bytes at most.
    pub(crate) fn turn(&mut self, from: &mut Socket, to: &mut Socket, room: &mut Room) -> Turn {
        let before = self.moved;
        let outcome = self.run(from, to, room);
        if self.pipe.is_some() {
            self.judge_stream(self.moved - before, outcome, from, &mut room.pipes);
        }
        outcome
    }

    fn run(&mut self, from: &mut Socket, to: &mut Socket, room: &mut Room) -> Turn {
        let mut budget = if self.pipe.is_some() {
            STREAM_TURN
        } else {
            TURN
        };
        loop {
            let step = if self.pipe.is_some() {
                self.splice(from, to, &mut budget)
            } else {
                self.copy(from, to, room, &mut budget)
            };
            if let Err(outcome) = step {
                return outcome;
            }
            if budget == 0 {
                return Turn::Again;
            }
        }
    }

    fn copy(
        &mut self,
        from: &mut Socket,
        to: &mut Socket,
        room: &mut Room,
        budget: &mut usize,
    ) -> Step {
        self.write_rest(to)?;
        if self.end_read {
            return Err(Turn::Ended);
        }
        if !from.readable() || !to.writable() {
            return Err(Turn::Waiting);
        }
        // What is sealed has to be opened, or sealed, here.
        if self.one_way >= STREAM && from.is_plain() && to.is_plain() {
            self.pipe = room.pipes.take();
            if self.pipe.is_some() {
                return Ok(());
            }
            self.one_way = 0;
        }
        let most = if self.slow_sink {
            CAREFUL
        } else {
            room.scratch.len()
        };
        let len = most.min(*budget);
        let buffer = &mut room.scratch[..len];
        let (n, end) = from.read(buffer).map_err(stopped)?;
        if n == 0 {
            self.end_read = true;
            return Ok(());
        }
        self.end_read = end;
        *budget -= n;
        self.write(&buffer[..n], to)
    }

    /// Writes fresh bytes and keeps what the sink does not take.
    fn write(&mut self, bytes: &[u8], to: &mut Socket) -> Step {
        let sent = match to.write(bytes, self.end_read) {
            Ok(n) => n,
            Err(Errno::AGAIN) => 0,
            Err(_) => return Err(Turn::Failed),
        };
        self.count(sent);
        self.slow_sink = sent < bytes.len();
        if self.slow_sink {
            self.rest = Some(Box::new(Rest {
                bytes: bytes[sent..].into(),
                sent: 0,
            }));
            return Err(Turn::Waiting);
        }
        Ok(())
    }

    fn write_rest(&mut self, to: &mut Socket) -> Step {
        let Some(rest) = &mut self.rest else {
            return Ok(());
        };
        if !to.writable() {
            return Err(Turn::Waiting);
        }
        let left = &rest.bytes[rest.sent..];
        let n = to.write(left, self.end_read).map_err(stopped)?;
        let all = n == left.len();
        rest.sent += n;
        if all {
            self.rest = None;
        }
        self.count(n);
        if all { Ok(()) } else { Err(Turn::Waiting) }
    }

    fn splice(&mut self, from: &mut Socket, to: &mut Socket, budget: &mut usize) -> Step {
        self.flush(to)?;
        if self.end_read {
            return Err(Turn::Ended);
        }
        if !from.readable() || !to.writable() {
            return Err(Turn::Waiting);
        }
        let pipe = self.pipe.as_mut().expect("only called with a pipe");
        let limit = pipe.capacity().min(*budget);
        match pipe.fill(&*from, limit) {
            Ok(0) => self.end_read = true,
            Ok(n) => *budget -= n,
            // The pipe is empty here, so it is the socket that has nothing.
            Err(error) => return Err(stopped(from.read_failed(error))),
        }
        self.flush(to)
    }

    fn flush(&mut self, to: &mut Socket) -> Step {
        while let Some(pipe) = self.pipe.as_mut().filter(|p| p.held() > 0) {
            if !to.writable() {
                return Err(Turn::Waiting);
            }
            to.before_write();
            match pipe.flush(&*to, false) {
                Ok(n) => self.count(n),
                Err(error) => return Err(stopped(to.write_failed(error))),
            }
        }
        Ok(())
    }

    /// After a spliced turn that moved `moved` bytes: is it a stream still?
    fn judge_stream(&mut self, moved: u64, outcome: Turn, from: &Socket, pipes: &mut PipePool) {
        if moved >= SMALL as u64 || self.holds_bytes() {
            self.small_turns = 0;
        } else if outcome == Turn::Waiting {
            self.small_turns += 1;
        }
        if self.small_turns >= SMALL_TURNS || outcome == Turn::Ended {
            self.stop_stream(from, pipes);
        } else if self.one_way >= LONG_STREAM && !self.gathering {
            self.gathering = true;
            io::report_readable_from(from, GATHER);
        }
    }

    fn count(&mut self, n: usize) {
        self.moved += n as u64;
        self.one_way = self
            .one_way
            .saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
    }
}

fn stopped(error: Errno) -> Turn {
    if error == Errno::AGAIN {
        Turn::Waiting
    } else {
        Turn::Failed
    }
}
