//! One side's socket with what is known of its readiness. It speaks TLS where it was told to: who reads and writes need
//! not know, as long as it does not reach around it to the file descriptor.

use super::sealed::{HandshakeFailed, Sealed};
use crate::net::epoll::Readiness;
use crate::net::io;
use crate::tls::session::Session;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// How a side went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Reset or timed out before its end: what it sent may be cut short.
    Reset,
    /// Reset after its end: what it sent is whole, it only takes nothing more.
    AfterEnd,
}

const READABLE: u8 = 1;
const WRITABLE: u8 = 1 << 1;
const READ_CLOSED: u8 = 1 << 2;
const URGENT: u8 = 1 << 3;
const WRITTEN: u8 = 1 << 4;
const AT_ONCE: u8 = 1 << 5;
const RESET: u8 = 1 << 6;
const AFTER_END: u8 = 1 << 7;

/// A non-blocking socket. Readiness is edge-triggered: a flag stays up until a call proves it wrong.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    flags: u8,
    /// What speaks TLS over it.
    sealed: Option<Box<Sealed>>,
}

impl Socket {
    /// An accepted socket, which inherits its listener's options and can be written at once.
    pub(crate) fn accepted(fd: OwnedFd) -> Self {
        Self {
            fd,
            flags: WRITABLE | AT_ONCE,
            sealed: None,
        }
    }

    /// A connecting socket.
    pub(crate) fn connecting(fd: OwnedFd) -> Self {
        Self {
            fd,
            flags: 0,
            sealed: None,
        }
    }

    /// From here on it speaks TLS.
    pub(crate) fn secure(&mut self, session: Session) {
        self.sealed = Some(Box::new(Sealed::new(session)));
        self.flags |= READABLE;
    }

    /// Bytes go through it as they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.sealed.is_none()
    }

    /// What it has of TLS.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.sealed.as_deref().map(Sealed::session)
    }

    /// Goes on with the handshake.
    ///
    /// # Errors
    /// It is not over, or never will be.
    pub(crate) fn shake_hands(&mut self) -> Result<(), HandshakeFailed> {
        let Some(sealed) = &mut self.sealed else {
            return Ok(());
        };
        let outcome = sealed.shake_hands(&self.fd);
        self.heed_sealed();
        outcome
    }

    /// Takes in what epoll reported.
    pub(crate) fn note(&mut self, readiness: Readiness) {
        if readiness.readable() {
            self.flags |= READABLE;
        }
        if readiness.writable() {
            self.flags |= WRITABLE;
        }
        if readiness.read_closed() {
            self.flags |= READ_CLOSED;
        }
        if readiness.urgent() {
            self.flags |= URGENT;
        }
        if readiness.error()
            && let Some(error) = io::take_error(&self.fd)
        {
            self.note_error(error);
        }
        if self.writable()
            && let Some(sealed) = &mut self.sealed
        {
            let flushed = sealed.flush(&self.fd);
            self.heed_flush(flushed);
        }
    }

    /// Takes in an error. After the other side's end the kernel reports EPIPE, before it anything else.
    fn note_error(&mut self, error: Errno) {
        self.flags |= if error == Errno::PIPE {
            AFTER_END
        } else {
            RESET
        };
    }

    /// There may be bytes that the kernel has not reported.
    pub(crate) fn suspect_readable(&mut self) {
        self.flags |= READABLE;
    }

    /// How the other side went away, if it did.
    pub(crate) fn gone(&self) -> Option<Gone> {
        match self.flags & (RESET | AFTER_END) {
            0 => None,
            flags if flags & RESET != 0 => Some(Gone::Reset),
            _ => Some(Gone::AfterEnd),
        }
    }

    /// A read may find something.
    pub(crate) fn readable(&self) -> bool {
        self.flags & READABLE != 0
    }

    /// The other side is known to have ended its direction.
    pub(crate) fn read_closed(&self) -> bool {
        self.flags & READ_CLOSED != 0
    }

    /// A write may be taken.
    pub(crate) fn writable(&self) -> bool {
        self.flags & WRITABLE != 0
    }

    /// Reads at most `buffer.len()` bytes. The second value says that the end is known to follow these bytes.
    ///
    /// # Errors
    /// `AGAIN` when there is nothing.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<(usize, bool), Errno> {
        if let Some(sealed) = &mut self.sealed {
            return match sealed.read(&self.fd, buffer) {
                Ok(n) => {
                    self.heed_sealed();
                    Ok((n, false))
                }
                Err(error) => Err(self.read_failed(error)),
            };
        }
        match io::read(&self.fd, buffer) {
            // A short read empties the queue. If the end had been seen before the read, nothing can stand between
            // these bytes and it (but urgent data makes reads short for another reason).
            Ok(n) if n < buffer.len() && n > 0 => {
                let end = self.flags & READ_CLOSED != 0;
                if !end {
                    self.flags &= !READABLE;
                }
                Ok((n, end && self.flags & (URGENT | RESET) == 0))
            }
            Ok(n) => Ok((n, false)),
            Err(error) => Err(self.read_failed(error)),
        }
    }

    /// Takes in why a read or a splice from this socket failed.
    pub(crate) fn read_failed(&mut self, error: Errno) -> Errno {
        self.flags &= !READABLE;
        if error != Errno::AGAIN {
            self.note_error(error);
        }
        error
    }

    /// Writes what fits; the end that `end_follows` announces must follow.
    ///
    /// # Errors
    /// `AGAIN` when nothing fits.
    pub(crate) fn write(&mut self, bytes: &[u8], end_follows: bool) -> Result<usize, Errno> {
        self.before_write();
        if let Some(sealed) = &mut self.sealed {
            let written = sealed.write(&self.fd, bytes);
            self.heed_flush(written.map(|_| ()));
            return written;
        }
        match io::write(&self.fd, bytes, end_follows) {
            Ok(n) => {
                if n < bytes.len() {
                    self.flags &= !WRITABLE;
                }
                Ok(n)
            }
            Err(error) => Err(self.write_failed(error)),
        }
    }

    /// Takes in whether more can be read. What was opened on the way was not reported by the kernel for that.
    fn heed_sealed(&mut self) {
        let is_dry = self.sealed.as_ref().is_some_and(|sealed| sealed.is_dry());
        if !is_dry {
            self.flags |= READABLE;
        } else if self.flags & READ_CLOSED == 0 {
            self.flags &= !READABLE;
        }
        if self.held() > 0 {
            self.flags &= !WRITABLE;
        }
    }

    /// Takes in how far sealed bytes could be sent.
    fn heed_flush(&mut self, flushed: Result<(), Errno>) {
        let is_held = self.held() > 0;
        match flushed {
            Err(error) => drop(self.write_failed(error)),
            Ok(()) if is_held => self.flags &= !WRITABLE,
            Ok(()) => {}
        }
    }

    /// Bytes that were written, and that the kernel has not taken.
    pub(crate) fn held(&self) -> usize {
        self.sealed.as_ref().map_or(0, |sealed| sealed.held())
    }

    /// Bytes that were written, and that the other side's kernel has not acknowledged.
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.held() as u64 + u64::from(io::unacknowledged_bytes(&self.fd))
    }

    /// Ends our direction: the other side reads an end after the bytes already written.
    pub(crate) fn end_writing(&mut self) {
        match &mut self.sealed {
            Some(sealed) => {
                let flushed = sealed.end_writing(&self.fd);
                self.heed_flush(flushed);
            }
            None => io::end_writing(&self.fd),
        }
    }

    /// Makes the coming close a reset that throws unsent bytes away.
    pub(crate) fn reset_on_close(&mut self) {
        self.sealed = None;
        io::reset_on_close(&self.fd);
    }

    /// The other side has ended or reset it, or has said something: on a connection where nothing was asked, what nobody
    /// could use. What TLS says for itself does not count.
    pub(crate) fn has_spoken(&mut self) -> bool {
        if self.gone().is_some() {
            return true;
        }
        if self.is_plain() {
            io::peek(&self.fd, &mut [0]) != Err(Errno::AGAIN)
        } else {
            self.read(&mut [0]) != Err(Errno::AGAIN)
        }
    }

    /// Nagle's algorithm delays only a small write that follows another: so the option is set before the second write,
    /// and a connection with one request does without the call.
    pub(crate) fn before_write(&mut self) {
        if self.flags & (WRITTEN | AT_ONCE) == WRITTEN {
            io::send_at_once(&self.fd);
            self.flags |= AT_ONCE;
        }
        self.flags |= WRITTEN;
    }

    /// Takes in why a write or a splice to this socket failed.
    pub(crate) fn write_failed(&mut self, error: Errno) -> Errno {
        self.flags &= !WRITABLE;
        if error != Errno::AGAIN && self.gone().is_none() {
            self.note_error(error);
        }
        error
    }
}

/// Whoever reads to the end has to be told that it is one.
impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(sealed) = &mut self.sealed {
            sealed.say_goodbye(&self.fd);
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
