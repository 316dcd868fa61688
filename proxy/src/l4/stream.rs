//! Two bounded queues of bytes in memory, with an end that stands where a socket does: one request's bytes on their way
//! between the engine and a connection that carries many. Reads and writes mean what they mean of a socket: nothing there
//! and no room are `AGAIN`, and an end or a reset comes behind the bytes before it.

use super::bell::Bell;
use crate::tls::shown::Shown;
use bytes::{Buf, BytesMut};
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

/// Bytes that wait in one direction of a stream.
const MOST: usize = 64 << 10;
/// Bytes that a stream may have waiting for the connection whatever the others have: none keeps another from moving.
const LEAST: usize = 8 << 10;
/// Bytes that all streams of a connection together may have waiting for it.
const ALL: usize = 768 << 10;

/// What the streams of one connection share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) bell: Bell,
    /// Bytes of all streams that wait for the connection.
    waiting: Cell<usize>,
    /// The connection speaks TLS.
    pub(crate) is_secure: bool,
    /// Which certificate the client was shown, where it makes a difference.
    pub(crate) shown: Option<Shown>,
    /// Our address of it.
    pub(crate) local: Option<SocketAddr>,
}

impl Shared {
    /// Of a connection without streams.
    pub(crate) fn new(
        bell: Bell,
        is_secure: bool,
        shown: Option<Shown>,
        local: Option<SocketAddr>,
    ) -> Rc<Self> {
        Rc::new(Self {
            bell,
            waiting: Cell::new(0),
            is_secure,
            shown,
            local,
        })
    }
}

/// The end that stands in a socket's place.
#[derive(Debug)]
pub(crate) struct Stream(Rc<Pair>);

/// The end that the connection feeds and empties.
#[derive(Debug)]
pub(crate) struct Feeder(Rc<Pair>);

#[derive(Debug)]
struct Pair {
    shared: Rc<Shared>,
    slot: usize,
    queues: RefCell<Queues>,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each happens by itself")]
struct Queues {
    /// To the socket's end.
    inward: BytesMut,
    /// Nothing comes after that.
    is_inward_over: bool,
    /// From the socket's end.
    outward: BytesMut,
    /// Nothing comes after that.
    is_outward_over: bool,
    /// What the connection's end sent is cut short.
    is_reset: bool,
    /// The connection's end takes nothing more.
    is_left: bool,
    /// The socket's end is gone; if it was cut, what it sent may be cut short.
    is_closed: bool,
    is_cut: bool,
    /// The socket's end may not write yet.
    is_held_up: bool,
    /// Nobody has looked at what was written.
    is_refused: bool,
    /// What happened that the socket's end was not told of.
    is_new: bool,
}

/// What the feeder learns of what is on its way outward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outward {
    /// More may come.
    Open,
    /// Nothing comes after what is there.
    Over,
    /// It is cut short.
    Cut,
}

/// A stream, at `slot` of the connection that has `shared`.
pub(crate) fn pair(shared: &Rc<Shared>, slot: usize) -> (Stream, Feeder) {
    let pair = Rc::new(Pair {
        shared: Rc::clone(shared),
        slot,
        queues: RefCell::default(),
    });
    (Stream(Rc::clone(&pair)), Feeder(pair))
}

impl Stream {
    /// What its connection is.
    pub(crate) fn connection(&self) -> &Shared {
        &self.0.shared
    }

    /// A read finds something: bytes, an end, or a reset.
    pub(crate) fn readable(&self) -> bool {
        let queues = self.0.queues.borrow();
        !queues.inward.is_empty() || queues.is_inward_over || queues.is_reset
    }

    /// The other side has ended its direction.
    pub(crate) fn read_closed(&self) -> bool {
        let queues = self.0.queues.borrow();
        queues.is_inward_over || queues.is_reset
    }

    /// The other side is gone.
    pub(crate) fn is_reset(&self) -> bool {
        self.0.queues.borrow().is_reset
    }

    /// The other side was gone before it looked at anything.
    pub(crate) fn is_refused(&self) -> bool {
        self.0.queues.borrow().is_refused
    }

    /// Nothing may be written yet.
    pub(crate) fn is_held_up(&self) -> bool {
        self.0.queues.borrow().is_held_up
    }

    /// Bytes that a write takes now.
    pub(crate) fn room(&self) -> usize {
        if self.is_held_up() {
            return 0;
        }
        let held = self.held();
        let all = ALL.saturating_sub(self.0.shared.waiting.get());
        (MOST.saturating_sub(held)).min(all.max(LEAST.saturating_sub(held)))
    }

    /// Bytes that were written and not taken.
    pub(crate) fn held(&self) -> usize {
        self.0.queues.borrow().outward.len()
    }

    /// Takes what fits into `room`; 0 is the end.
    ///
    /// # Errors
    /// `AGAIN` when there is nothing.
    pub(crate) fn read(&mut self, room: &mut [u8]) -> Result<usize, Errno> {
        let mut queues = self.0.queues.borrow_mut();
        let n = queues.inward.len().min(room.len());
        if n == 0 {
            return match &*queues {
                Queues { is_reset: true, .. } => Err(Errno::CONNRESET),
                Queues {
                    is_inward_over: true,
                    ..
                } => Ok(0),
                _ => Err(Errno::AGAIN),
            };
        }
        room[..n].copy_from_slice(&queues.inward[..n]);
        queues.inward.advance(n);
        if queues.inward.is_empty() {
            queues.inward = BytesMut::new(); // no buffer while nothing moves
        }
        self.0.shared.bell.ring(self.0.slot);
        Ok(n)
    }

    /// Leaves what there is room for.
    ///
    /// # Errors
    /// `AGAIN` when there is none.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let n = self.room().min(bytes.len());
        let mut queues = self.0.queues.borrow_mut();
        if queues.is_left || queues.is_outward_over {
            return Err(Errno::PIPE);
        }
        if n == 0 && !bytes.is_empty() {
            return Err(Errno::AGAIN);
        }
        queues.outward.extend_from_slice(&bytes[..n]);
        let waiting = &self.0.shared.waiting;
        waiting.set(waiting.get() + n);
        self.0.shared.bell.ring(self.0.slot);
        Ok(n)
    }

    /// Ends our direction.
    pub(crate) fn end_writing(&mut self) {
        let before = std::mem::replace(&mut self.0.queues.borrow_mut().is_outward_over, true);
        if !before {
            self.0.shared.bell.ring(self.0.slot);
        }
    }

    /// Makes the coming close a reset.
    pub(crate) fn reset_on_close(&mut self) {
        self.0.queues.borrow_mut().is_cut = true;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut queues = self.0.queues.borrow_mut();
        queues.is_closed = true;
        queues.inward = BytesMut::new();
        self.0.shared.bell.ring(self.0.slot);
    }
}

impl Feeder {
    /// Bytes that may be fed now.
    pub(crate) fn room(&self) -> usize {
        MOST.saturating_sub(self.unread())
    }

    /// Bytes that were fed and not read.
    pub(crate) fn unread(&self) -> usize {
        self.0.queues.borrow().inward.len()
    }

    /// Feeds what `write` appends. Room is the caller's business: a frame has its size.
    pub(crate) fn feed<T>(&mut self, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        let mut queues = self.0.queues.borrow_mut();
        queues.is_new = true;
        write(&mut queues.inward)
    }

    /// Nothing more is fed.
    pub(crate) fn end(&mut self) {
        let mut queues = self.0.queues.borrow_mut();
        queues.is_inward_over = true;
        queues.is_new = true;
    }

    /// The other side is gone before its end.
    pub(crate) fn reset(&mut self) {
        let mut queues = self.0.queues.borrow_mut();
        queues.is_reset = !queues.is_inward_over;
        queues.is_left = true;
        queues.is_new = true;
    }

    /// The other side is gone, and never looked at what was written.
    pub(crate) fn refuse(&mut self) {
        self.reset();
        self.0.queues.borrow_mut().is_refused = true;
    }

    /// Whether the socket's end may not write yet.
    pub(crate) fn hold_up(&mut self, is_held_up: bool) {
        self.0.queues.borrow_mut().is_held_up = is_held_up;
    }

    /// Shows what waits to `take`, which says what it does with it; and what follows it.
    pub(crate) fn empty<T>(&mut self, take: impl FnOnce(&mut BytesMut, Outward) -> T) -> T {
        let mut queues = self.0.queues.borrow_mut();
        let queues = &mut *queues;
        let outward = match queues {
            Queues {
                is_cut: true,
                is_closed: true,
                ..
            } => Outward::Cut,
            Queues {
                is_closed: true, ..
            }
            | Queues {
                is_outward_over: true,
                ..
            } => Outward::Over,
            _ => Outward::Open,
        };
        let before = queues.outward.len();
        let done = take(&mut queues.outward, outward);
        let taken = before - queues.outward.len();
        if taken > 0 {
            let waiting = &self.0.shared.waiting;
            waiting.set(waiting.get() - taken);
            queues.is_new = true;
        }
        if queues.outward.is_empty() {
            queues.outward = BytesMut::new();
        }
        done
    }

    /// The socket's end is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.queues.borrow().is_closed
    }

    /// Whether the socket's end has to be told of something since the last call.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.0.queues.borrow_mut().is_new)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let mut queues = self.0.queues.borrow_mut();
        queues.is_reset |= !queues.is_inward_over;
        queues.is_left = true;
        let waiting = &self.0.shared.waiting;
        waiting.set(waiting.get() - queues.outward.len());
        queues.outward = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l4::bell::{Owner, Rung};
    use crate::worker::slab::Key;

    fn shared() -> Rc<Shared> {
        let key = Key {
            index: 0,
            generation: 0,
        };
        let bell = Bell::new(Owner::Client(key), Rung::default());
        Shared::new(bell, false, None, None)
    }

    fn take(feeder: &mut Feeder, n: usize) -> Outward {
        feeder.empty(|bytes, outward| {
            bytes.advance(n.min(bytes.len()));
            outward
        })
    }

    #[test]
    fn bytes_come_before_the_end_and_before_a_reset() {
        for is_reset in [false, true] {
            let (mut stream, mut feeder) = pair(&shared(), 0);
            let mut room = [0; 8];
            assert_eq!(stream.read(&mut room), Err(Errno::AGAIN));
            feeder.feed(|bytes| bytes.extend_from_slice(b"0123456789"));
            if is_reset {
                feeder.reset();
            } else {
                feeder.end();
            }
            assert_eq!(stream.read(&mut room), Ok(8));
            assert_eq!(stream.read(&mut room), Ok(2));
            let expected = if is_reset {
                Err(Errno::CONNRESET)
            } else {
                Ok(0)
            };
            assert_eq!(stream.read(&mut room), expected);
            drop(feeder);
            assert_eq!(stream.is_reset(), is_reset);
            assert_eq!(stream.write(b"more"), Err(Errno::PIPE));
        }
    }

    #[test]
    fn what_waits_is_bounded_and_no_stream_keeps_another_from_moving() {
        let shared = shared();
        let bytes = vec![0; MOST + 1];
        let mut all: Vec<_> = (0..100).map(|slot| pair(&shared, slot)).collect();
        for (stream, _) in &mut all {
            assert!(stream.write(&bytes).unwrap() >= LEAST);
            assert_eq!(stream.write(&bytes), Err(Errno::AGAIN));
        }
        assert!(shared.waiting.get() <= ALL + 100 * LEAST);
        assert_eq!(take(&mut all[0].1, MOST), Outward::Open);
        assert_eq!(all[0].0.write(&bytes), Ok(LEAST));
        drop(all);
        assert_eq!(shared.waiting.get(), 0);
    }

    #[test]
    fn the_feeder_learns_how_the_other_end_went() {
        let ends: [(fn(Stream), Outward); 3] = [
            (drop, Outward::Over),
            (|mut stream| stream.end_writing(), Outward::Over),
            (|mut stream| stream.reset_on_close(), Outward::Cut),
        ];
        for (end, expected) in ends {
            let (stream, mut feeder) = pair(&shared(), 0);
            assert_eq!(take(&mut feeder, 0), Outward::Open);
            end(stream);
            assert_eq!(take(&mut feeder, 0), expected);
            assert!(feeder.is_closed());
        }
    }
}
