//! Who has to be looked at next: streams that share a connection, as a set of numbers, and their connection among a
//! worker's. Whoever changes something rings; the connection's turn takes it from there.

use crate::worker::slab::Key;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Wake, Waker};

/// Streams that one connection may have at once.
pub(crate) const SLOTS: usize = 128;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A client's connection.
    Client(Key),
    /// A connection to a backend.
    Backend(Key),
}

/// Those who rang and had no turn since, of one worker.
pub(crate) type Rung = Rc<RefCell<Vec<Owner>>>;

/// What a connection's streams ring.
#[derive(Debug)]
pub(crate) struct Bell {
    owner: Owner,
    ready: Arc<Ready>,
    /// It stands in the worker's list, or its turn is under way.
    is_rung: Cell<bool>,
    list: Rung,
}

/// The streams to look at, and whether their connection is. Atomic only because wakers have to be.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    slots: [AtomicU64; SLOTS / 64],
    connection: AtomicBool,
}

impl Bell {
    /// A bell that nobody has rung.
    pub(crate) fn new(owner: Owner, list: Rung) -> Self {
        Self {
            owner,
            ready: Arc::default(),
            is_rung: Cell::new(false),
            list,
        }
    }

    /// The stream at `slot` is to be looked at.
    pub(crate) fn ring(&self, slot: usize) {
        self.ready.set(slot);
        self.ring_for_connection();
    }

    /// The connection is.
    pub(crate) fn ring_for_connection(&self) {
        if !self.is_rung.replace(true) {
            self.list.borrow_mut().push(self.owner);
        }
    }

    /// A turn begins: what is rung meanwhile belongs to it.
    pub(crate) fn begin_turn(&self) {
        self.is_rung.set(true);
    }

    /// The turn is over.
    pub(crate) fn end_turn(&self) {
        self.is_rung.set(false);
    }

    /// A stream to look at; it does not come again until it rings again.
    pub(crate) fn next(&self) -> Option<usize> {
        self.ready.take_one()
    }

    /// Whether the connection was woken since the last call.
    pub(crate) fn take_connection(&self) -> bool {
        self.ready.connection.swap(false, Relaxed)
    }

    /// Whether it was.
    pub(crate) fn is_connection_woken(&self) -> bool {
        self.ready.connection.load(Relaxed)
    }

    /// What wakes the connection.
    pub(crate) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.ready))
    }

    /// What wakes the stream at `slot`.
    pub(crate) fn waker_of(&self, slot: usize) -> Waker {
        let ready = Arc::clone(&self.ready);
        Waker::from(Arc::new(SlotWaker { ready, slot }))
    }
}

impl Ready {
    fn set(&self, slot: usize) {
        self.slots[slot / 64].fetch_or(1 << (slot % 64), Relaxed);
    }

    fn take_one(&self) -> Option<usize> {
        self.slots.iter().enumerate().find_map(|(word, bits)| {
            let set = bits.load(Relaxed);
            let bit = set.trailing_zeros();
            bits.fetch_and(!(set & set.wrapping_neg()), Relaxed);
            (set != 0).then_some(word * 64 + bit as usize)
        })
    }
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.connection.store(true, Relaxed);
    }
}

/// Wakes one stream.
struct SlotWaker {
    ready: Arc<Ready>,
    slot: usize,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.set(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_that_rings_is_looked_at_once() {
        let list = Rung::default();
        let key = Key {
            index: 3,
            generation: 0,
        };
        let bell = Bell::new(Owner::Client(key), Rc::clone(&list));
        for slot in [127, 0, 64, 63, 0] {
            bell.ring(slot);
        }
        bell.waker_of(5).wake_by_ref();
        let looked_at: Vec<_> = std::iter::from_fn(|| bell.next()).collect();
        assert_eq!(looked_at, [0, 5, 63, 64, 127]);
        assert_eq!(*list.borrow(), [Owner::Client(key)]);
        assert!(!bell.take_connection());
        bell.waker().wake();
        assert!(bell.take_connection() && !bell.take_connection());
    }

    #[test]
    fn what_is_rung_in_a_turn_asks_for_no_other() {
        let list = Rung::default();
        let key = Key {
            index: 0,
            generation: 0,
        };
        let bell = Bell::new(Owner::Backend(key), Rc::clone(&list));
        bell.begin_turn();
        bell.ring(1);
        assert!(list.borrow().is_empty());
        bell.end_turn();
        bell.ring(1);
        assert_eq!(list.borrow().len(), 1);
    }
}
