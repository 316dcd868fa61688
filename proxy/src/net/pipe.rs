//! Kernel pipes for splice: bytes go from socket to socket without passing through user memory.
//!
//! Pipes are few and big. Where the kernel grants less than was asked (a user without privileges has 64 MiB in all),
//! the pipe is closed again and the caller copies instead.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

/// Sizes tried, largest first. A default pipe of 64 KiB is no faster than copying.
const SIZES: [usize; 2] = [1 << 20, 256 << 10];

/// A pipe and how many bytes wait in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: u32,
    held: u32,
}

impl Pipe {
    /// An empty pipe of 256 KiB or more.
    fn open() -> Result<Self, Errno> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        for size in SIZES {
            let got = rustix::pipe::fcntl_setpipe_size(&write, size);
            if got.is_ok() && rustix::pipe::fcntl_getpipe_size(&write)? >= size {
                let capacity = u32::try_from(size).unwrap_or(u32::MAX);
                return Ok(Self {
                    read,
                    write,
                    capacity,
                    held: 0,
                });
            }
        }
        Err(Errno::NOMEM)
    }

    /// Bytes in the pipe.
    pub(crate) fn held(&self) -> usize {
        self.held as usize
    }

    /// Bytes the pipe can hold.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Moves at most `limit` bytes from `socket` into the pipe; 0 is the end of the direction.
    ///
    /// # Errors
    /// `AGAIN` when the socket has nothing or the pipe is full.
    pub(crate) fn fill(&mut self, socket: impl AsFd, limit: usize) -> Result<usize, Errno> {
        let n = splice(&socket, &self.write, limit, false)?;
        self.held += u32::try_from(n).unwrap_or(u32::MAX);
        Ok(n)
    }

    /// Moves what fits from the pipe to `socket`. `more` says that the source is known to hold more; it must not be
    /// said when this call empties the pipe, or the last segment waits 200 ms for company.
    ///
    /// # Errors
    /// `AGAIN` when the socket takes nothing.
    pub(crate) fn flush(&mut self, socket: impl AsFd, more: bool) -> Result<usize, Errno> {
        let n = splice(&self.read, &socket, self.held(), more)?;
        self.held -= u32::try_from(n).unwrap_or(u32::MAX).min(self.held);
        Ok(n)
    }
}

fn splice(from: &impl AsFd, to: &impl AsFd, len: usize, more: bool) -> Result<usize, Errno> {
    let mut flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    if more {
        flags |= SpliceFlags::MORE;
    }
    loop {
        match rustix::pipe::splice(from, None, to, None, len, flags) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// A worker's spare pipes, and how many it may have in all.
#[derive(Debug)]
pub(crate) struct PipePool {
    spare: Vec<Pipe>,
    open: usize,
    limit: usize,
}

impl PipePool {
    /// A pool that never has more than `limit` pipes, in use and spare together.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            spare: Vec::new(),
            open: 0,
            limit,
        }
    }

    /// An empty pipe, or nothing when the limit is reached or the kernel grants none.
    pub(crate) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.spare.pop() {
            return Some(pipe);
        }
        if self.open >= self.limit {
            return None;
        }
        if let Ok(pipe) = Pipe::open() {
            self.open += 1;
            Some(pipe)
        } else {
            self.limit = self.open; // what is granted now is all there is; copying serves the rest
            None
        }
    }

    /// Takes a pipe back. One that still holds bytes is closed: they belong to a connection that is gone.
    pub(crate) fn give_back(&mut self, pipe: Pipe) {
        if pipe.held == 0 {
            self.spare.push(pipe);
        } else {
            self.open -= 1;
        }
    }
}
