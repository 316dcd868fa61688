//! The connection that carries many streams, as HTTP/2's protocol machine sees it: bytes in, within what a turn allows;
//! bytes out, gathered until the turn is over, so that what many streams say goes out in one write.

use super::frames::{Flood, Frames};
use crate::l4::socket::Socket;
use bytes::Bytes;
use rustix::io::Errno;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that one turn may read.
const TURN: usize = 256 << 10;
/// Bytes that are gathered before the kernel is offered them.
const GATHERED: usize = 64 << 10;

/// One connection's bytes.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) socket: Socket,
    /// What was read of it before it was known to be HTTP/2.
    before: Bytes,
    /// A client's frames; a backend is not watched.
    pub(crate) frames: Option<Frames>,
    /// It sends too much of this: nothing more is read.
    pub(crate) flood: Option<Flood>,
    out: Vec<u8>,
    sent: usize,
    /// Bytes that this turn may still read.
    allowance: usize,
    /// Bytes from and to the other side.
    pub(crate) moved: (u64, u64),
    /// It takes nothing more, for good.
    is_broken: bool,
}

impl Line {
    /// A connection, of which `before` was read already.
    pub(crate) fn new(socket: Socket, before: Bytes, frames: Option<Frames>) -> Self {
        Self {
            socket,
            before,
            frames,
            flood: None,
            out: Vec::new(),
            sent: 0,
            allowance: TURN,
            moved: (0, 0),
            is_broken: false,
        }
    }

    /// Another turn begins.
    pub(crate) fn begin_turn(&mut self) {
        self.allowance = TURN;
    }

    /// There is more to read than the turn allowed.
    pub(crate) fn has_more(&self) -> bool {
        self.allowance == 0 && self.flood.is_none() && self.socket.readable()
    }

    /// Bytes wait for the other side, which does not take them now.
    pub(crate) fn is_blocked(&self) -> bool {
        self.sent < self.out.len() || self.socket.held() > 0
    }

    /// Everything was sent, or never will be.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.is_blocked() || self.is_broken
    }

    /// Sends what was gathered, as far as it is taken.
    pub(crate) fn flush(&mut self) {
        while self.sent < self.out.len() && self.socket.writable() && !self.is_broken {
            match self.socket.write(&self.out[self.sent..], false) {
                Ok(sent) => {
                    self.sent += sent;
                    self.moved.1 += sent as u64;
                }
                Err(Errno::AGAIN) => break,
                Err(_) => self.is_broken = true,
            }
        }
        if self.sent == self.out.len() {
            (self.out, self.sent) = (Vec::new(), 0);
        }
    }

    /// Throws away what comes; false: nothing comes any more.
    pub(crate) fn discard(&mut self, room: &mut [u8]) -> bool {
        for _ in 0..TURN / room.len().max(1) {
            if !self.socket.readable() {
                return true;
            }
            match self.socket.read(room) {
                Ok((n, _)) if n > 0 => {}
                Err(Errno::AGAIN) => return true,
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }

    fn read(&mut self, room: &mut [u8]) -> Result<usize, Errno> {
        let most = room.len().min(self.allowance);
        if most == 0 || self.flood.is_some() {
            return Err(Errno::AGAIN);
        }
        let n = if self.before.is_empty() {
            if !self.socket.readable() {
                return Err(Errno::AGAIN);
            }
            self.socket.read(&mut room[..most])?.0
        } else {
            let n = most.min(self.before.len());
            room[..n].copy_from_slice(&self.before.split_to(n));
            n
        };
        self.allowance -= n;
        self.moved.0 += n as u64;
        if let Some(frames) = &mut self.frames {
            self.flood = frames.take(&room[..n]);
        }
        Ok(n)
    }

    fn write(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.out.len() - self.sent >= GATHERED {
            self.flush();
        }
        let room = GATHERED.saturating_sub(self.out.len() - self.sent);
        let mut taken = 0;
        for part in parts {
            let n = part.len().min(room - taken);
            self.out.extend_from_slice(&part[..n]);
            taken += n;
        }
        if taken == 0 && parts.iter().any(|part| !part.is_empty()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }
}

/// What HTTP/2's protocol machine reads from and writes to. It wakes nobody: its connection has a turn when epoll reports
/// the socket.
#[derive(Clone, Debug)]
pub(crate) struct Carrier(pub(crate) Rc<RefCell<Line>>);

impl AsyncRead for Carrier {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0.borrow_mut().read(buffer.initialize_unfilled()) {
            Ok(n) => {
                buffer.advance(n);
                Poll::Ready(Ok(()))
            }
            Err(Errno::AGAIN) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.0.borrow_mut().write(parts) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            written => Poll::Ready(written),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The end of the turn flushes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The connection ends its direction itself, once everything is sent.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
