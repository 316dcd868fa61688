//! One epoll set: who is ready, said with a token of the owner's choosing.

use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::time::Duration;

/// What is reported of a socket: everything, once per change, so that no later call is needed to change interest.
const SOCKET: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::OUT)
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::PRI)
    .union(epoll::EventFlags::ET);

/// What is reported of a datagram socket, once per arrival: something to read. Errors always are.
const DATAGRAMS: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ET);

/// What the owner wants to be told, as an opaque number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) u64);

/// What happened to one socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness(epoll::EventFlags);

impl Readiness {
    /// Bytes, an end, or an error can be read.
    pub(crate) fn readable(self) -> bool {
        self.0.intersects(
            epoll::EventFlags::IN
                | epoll::EventFlags::RDHUP
                | epoll::EventFlags::HUP
                | epoll::EventFlags::ERR,
        )
    }

    /// Bytes can be written (or writing will say why not).
    pub(crate) fn writable(self) -> bool {
        self.0
            .intersects(epoll::EventFlags::OUT | epoll::EventFlags::ERR | epoll::EventFlags::HUP)
    }

    /// The other side has ended its direction.
    pub(crate) fn read_closed(self) -> bool {
        self.0
            .intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP)
    }

    /// An error waits to be read from the socket.
    pub(crate) fn error(self) -> bool {
        self.0.contains(epoll::EventFlags::ERR)
    }

    /// Urgent data is about: a short read then does not prove an empty queue.
    pub(crate) fn urgent(self) -> bool {
        self.0.contains(epoll::EventFlags::PRI)
    }
}

/// An epoll set with its event buffer. Stays on the thread that made it.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Epoll {
    /// An empty set that reports at most `batch` events at once.
    pub(crate) fn new(batch: usize) -> Result<Self, Errno> {
        Ok(Self {
            fd: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(batch),
        })
    }

    /// Reports every change of a connection's socket (edge-triggered). Closing the socket is all the removal it needs.
    pub(crate) fn add_socket(&self, socket: impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::add(&self.fd, socket, epoll::EventData::new_u64(token.0), SOCKET)
    }

    /// Reports a socket that [`Self::add_socket`] added under another token, and what is there already once more.
    pub(crate) fn rename(&self, socket: impl AsFd, token: Token) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(token.0);
        epoll::modify(&self.fd, socket, data, SOCKET)
    }

    /// Reports as long as there is something to read (level-triggered): listeners and wake-ups.
    pub(crate) fn add_source(&self, source: impl AsFd, token: Token) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(token.0);
        epoll::add(&self.fd, source, data, epoll::EventFlags::IN)
    }

    /// Reports each arrival at a datagram socket once (edge-triggered), which saves the kernel a second look at it. Whoever
    /// leaves something there asks again with [`Self::look_again`]. Closing the socket is all the removal it needs.
    pub(crate) fn add_datagrams(&self, socket: impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::add(
            &self.fd,
            socket,
            epoll::EventData::new_u64(token.0),
            DATAGRAMS,
        )
    }

    /// Reports what is there already of a socket that [`Self::add_datagrams`] added.
    pub(crate) fn look_again(&self, socket: impl AsFd, token: Token) {
        let data = epoll::EventData::new_u64(token.0);
        // It is in the set as long as it is open.
        let _ = epoll::modify(&self.fd, socket, data, DATAGRAMS);
    }

    /// Stops reporting `source`.
    pub(crate) fn remove(&self, source: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.fd, source)
    }

    /// Waits for events and returns how many there are; `None` waits without end.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Result<usize, Errno> {
        self.events.clear();
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(t.subsec_nanos()),
        });
        match epoll::wait(
            &self.fd,
            rustix::buffer::spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) => Ok(self.events.len()),
            Err(Errno::INTR) => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// The event at `index` of the last wait.
    pub(crate) fn event(&self, index: usize) -> (Token, Readiness) {
        let event = self.events[index];
        let (data, flags) = (event.data, event.flags);
        (Token(data.u64()), Readiness(flags))
    }
}
