//! A wake-up for a thread that sleeps in epoll: many calls before it looks become one.

use rustix::event::EventfdFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// Both ends of the wake-up.
#[derive(Debug)]
pub(crate) struct Wake(OwnedFd);

impl Wake {
    /// A wake-up that nobody has called yet.
    pub(crate) fn new() -> Result<Self, Errno> {
        rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Self)
    }

    /// Wakes the sleeper.
    pub(crate) fn wake(&self) {
        // Only a full counter refuses, and then the sleeper is already called.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Forgets the calls so far.
    pub(crate) fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
