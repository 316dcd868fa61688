//! One side's socket with what is known of its readiness. It speaks TLS where it was told to: who reads and writes need
//! not know, as long as it does not reach around it to the file descriptor. One stream of a connection that carries many
//! stands in the place of a socket as well: then there is no file descriptor.

use super::sealed::{HandshakeFailed, Sealed};
use super::stream::Stream;
use crate::net::epoll::Readiness;
use crate::net::{io, socket};
use crate::tls::session::Session;
use crate::tls::shown::Shown;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::net::SocketAddr;

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
    /// None: a stream.
    fd: Option<OwnedFd>,
    flags: u8,
    over: Option<Box<Over>>,
}

/// What stands over a socket, or in its place.
#[derive(Debug)]
enum Over {
    /// It speaks TLS.
    Sealed(Sealed),
    /// There is no file descriptor.
    Stream(Stream),
}

impl Socket {
    /// An accepted socket, which inherits its listener's options and can be written at once.
    pub(crate) fn accepted(fd: OwnedFd) -> Self {
        Self {
            fd: Some(fd),
            flags: WRITABLE | AT_ONCE,
            over: None,
        }
    }

    /// A connecting socket.
    pub(crate) fn connecting(fd: OwnedFd) -> Self {
        Self {
            fd: Some(fd),
            flags: 0,
            over: None,
        }
    }

    /// One stream of a connection.
    pub(crate) fn stream(stream: Stream) -> Self {
        Self {
            fd: None,
            flags: 0,
            over: Some(Box::new(Over::Stream(stream))),
        }
    }

    /// From here on it needs no address of this host.
    ///
    /// # Errors
    /// `PERM` without `CAP_NET_RAW` or `CAP_NET_ADMIN`.
    pub(crate) fn detach(&self, ipv6: bool) -> Result<(), Errno> {
        match &self.fd {
            Some(fd) => socket::transparent(fd, ipv6),
            // Its connection does.
            None => Ok(()),
        }
    }

    /// From here on it speaks TLS.
    pub(crate) fn secure(&mut self, session: Session) {
        self.over = Some(Box::new(Over::Sealed(Sealed::new(session))));
        self.flags |= READABLE;
    }

    /// Bytes go through it as they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.over.is_none()
    }

    /// What it has of TLS.
    pub(crate) fn session(&self) -> Option<&Session> {
        match self.over.as_deref() {
            Some(Over::Sealed(sealed)) => Some(sealed.session()),
            _ => None,
        }
    }

    /// Whoever is on the other side speaks TLS.
    pub(crate) fn is_secure(&self) -> bool {
        match self.over.as_deref() {
            Some(Over::Sealed(_)) => true,
            Some(Over::Stream(stream)) => stream.connection().is_secure,
            None => false,
        }
    }

    /// Which certificate a client was shown, where it makes a difference.
    pub(crate) fn shown(&self) -> Option<&Shown> {
        match self.over.as_deref()? {
            Over::Sealed(sealed) => sealed.session().shown(),
            Over::Stream(stream) => stream.connection().shown.as_ref(),
        }
    }

    /// The other side is gone, and says that it acted on nothing.
    pub(crate) fn is_refused(&self) -> bool {
        self.as_stream().is_some_and(Stream::is_refused)
    }

    fn as_stream(&self) -> Option<&Stream> {
        match self.over.as_deref() {
            Some(Over::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    fn as_stream_mut(&mut self) -> Option<&mut Stream> {
        match self.over.as_deref_mut() {
            Some(Over::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    fn sealed(&mut self) -> Option<(&mut Sealed, &OwnedFd)> {
        match (self.over.as_deref_mut(), &self.fd) {
            (Some(Over::Sealed(sealed)), Some(fd)) => Some((sealed, fd)),
            _ => None,
        }
    }

    /// Our address, unless it is gone.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        match self.as_stream() {
            Some(stream) => stream.connection().local,
            None => socket::local_address(self),
        }
    }

    /// The other side has accepted it.
    pub(crate) fn is_connected(&self) -> bool {
        match self.as_stream() {
            Some(stream) => !stream.is_held_up(),
            None => socket::is_connected(self),
        }
    }

    /// Goes on with the handshake.
    ///
    /// # Errors
    /// It is not over, or never will be.
    pub(crate) fn shake_hands(&mut self) -> Result<(), HandshakeFailed> {
        let Some((sealed, fd)) = self.sealed() else {
            return Ok(());
        };
        let outcome = sealed.shake_hands(fd);
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
            && let Some(error) = self.fd.as_ref().and_then(io::take_error)
        {
            self.note_error(error);
        }
        if self.writable()
            && let Some((sealed, fd)) = self.sealed()
        {
            let flushed = sealed.flush(fd);
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
        if let Some(stream) = self.as_stream() {
            return stream.is_reset().then_some(Gone::Reset);
        }
        match self.flags & (RESET | AFTER_END) {
            0 => None,
            flags if flags & RESET != 0 => Some(Gone::Reset),
            _ => Some(Gone::AfterEnd),
        }
    }

    /// A read may find something.
    pub(crate) fn readable(&self) -> bool {
        match self.as_stream() {
            Some(stream) => stream.readable(),
            None => self.flags & READABLE != 0,
        }
    }

    /// The other side is known to have ended its direction.
    pub(crate) fn read_closed(&self) -> bool {
        match self.as_stream() {
            Some(stream) => stream.read_closed(),
            None => self.flags & READ_CLOSED != 0,
        }
    }

    /// A write may be taken.
    pub(crate) fn writable(&self) -> bool {
        match self.as_stream() {
            Some(stream) => stream.room() > 0,
            None => self.flags & WRITABLE != 0,
        }
    }

    /// Bytes that it is worth having for it; 0: it takes none now.
    pub(crate) fn room(&self) -> usize {
        match self.as_stream() {
            Some(stream) => stream.room(),
            None if self.writable() => usize::MAX,
            None => 0,
        }
    }

    /// Reads at most `buffer.len()` bytes. The second value says that the end is known to follow these bytes.
    ///
    /// # Errors
    /// `AGAIN` when there is nothing.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<(usize, bool), Errno> {
        if let Some(over) = self.over.as_deref_mut() {
            let read = match (over, &self.fd) {
                (Over::Stream(stream), _) => return stream.read(buffer).map(|n| (n, false)),
                (Over::Sealed(sealed), Some(fd)) => sealed.read(fd, buffer),
                (Over::Sealed(_), None) => Err(Errno::BADF),
            };
            return match read {
                Ok(n) => {
                    self.heed_sealed();
                    Ok((n, false))
                }
                Err(error) => Err(self.read_failed(error)),
            };
        }
        match io::read(&*self, buffer) {
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
        if let Some(stream) = self.as_stream_mut() {
            return stream.write(bytes);
        }
        self.before_write();
        if let Some((sealed, fd)) = self.sealed() {
            let written = sealed.write(fd, bytes);
            self.heed_flush(written.map(|_| ()));
            return written;
        }
        match io::write(&*self, bytes, end_follows) {
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
        let is_dry = self.sealed().is_some_and(|(sealed, _)| sealed.is_dry());
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
        match self.over.as_deref() {
            Some(Over::Sealed(sealed)) => sealed.held(),
            Some(Over::Stream(stream)) => stream.held(),
            None => 0,
        }
    }

    /// Bytes that were written, and that the other side's kernel has not acknowledged.
    pub(crate) fn unacknowledged(&self) -> u64 {
        let in_kernel = self.fd.as_ref().map_or(0, io::unacknowledged_bytes);
        self.held() as u64 + u64::from(in_kernel)
    }

    /// Ends our direction: the other side reads an end after the bytes already written.
    pub(crate) fn end_writing(&mut self) {
        match (self.over.as_deref_mut(), &self.fd) {
            (Some(Over::Sealed(sealed)), Some(fd)) => {
                let flushed = sealed.end_writing(fd);
                self.heed_flush(flushed);
            }
            (Some(Over::Stream(stream)), _) => stream.end_writing(),
            (_, Some(fd)) => io::end_writing(fd),
            (_, None) => {}
        }
    }

    /// Makes the coming close a reset that throws unsent bytes away.
    pub(crate) fn reset_on_close(&mut self) {
        if let Some(stream) = self.as_stream_mut() {
            return stream.reset_on_close();
        }
        self.over = None;
        if let Some(fd) = &self.fd {
            io::reset_on_close(fd);
        }
    }

    /// The other side has ended or reset it, or has said something: on a connection where nothing was asked, what nobody
    /// could use. What TLS says for itself does not count.
    pub(crate) fn has_spoken(&mut self) -> bool {
        if self.gone().is_some() {
            return true;
        }
        match &self.fd {
            None => self.readable(),
            Some(fd) if self.is_plain() => io::peek(fd, &mut [0]) != Err(Errno::AGAIN),
            Some(_) => self.read(&mut [0]) != Err(Errno::AGAIN),
        }
    }

    /// Nagle's algorithm delays only a small write that follows another: so the option is set before the second write,
    /// and a connection with one request does without the call.
    pub(crate) fn before_write(&mut self) {
        if self.flags & (WRITTEN | AT_ONCE) == WRITTEN {
            io::send_at_once(&*self);
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
        if let Some((sealed, fd)) = self.sealed() {
            sealed.say_goodbye(fd);
        }
    }
}

/// For what the kernel alone can do: watching, splicing, asking for addresses.
///
/// # Panics
/// Of a stream, which is never watched or spliced.
impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let fd = self.fd.as_ref();
        fd.expect("streams are neither watched nor spliced").as_fd()
    }
}
