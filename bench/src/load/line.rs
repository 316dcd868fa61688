//! A connection of a load whose requests wait for their answers: a socket, and TLS around it where the load has that.
//! Nothing here waits. It must not know what is said over it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::fd::{AsFd, BorrowedFd};
use socket2::Socket;
use tokio_rustls::rustls::{ClientConfig, ClientConnection};

use super::socket::{Transport, connect};
use super::trust::server_name;

/// A connection.
pub(crate) struct Line {
    socket: Socket,
    transport: Transport,
    tls: Option<Box<ClientConnection>>,
    /// What the socket did not take yet; of TLS that is within it.
    unsent: Vec<u8>,
}

impl Line {
    /// Begins a connection.
    pub(crate) fn open(
        target: SocketAddr,
        transport: Transport,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let session = |config: &Arc<ClientConfig>| {
            let session = ClientConnection::new(Arc::clone(config), server_name());
            session.map(Box::new).map_err(io::Error::other)
        };
        Ok(Self {
            tls: tls.map(session).transpose()?,
            socket: connect(target, transport)?,
            transport,
            unsent: Vec::new(),
        })
    }

    /// What has gone wrong with the socket.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        self.socket.take_error().ok().flatten()
    }

    /// Goes on with making the connection: whether it can be asked now.
    pub(crate) fn advance(&mut self, is_writable: bool) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else {
            return Ok(is_writable);
        };
        let mut socket = &self.socket;
        loop {
            send_all(tls, socket)?;
            if !tls.is_handshaking() {
                return Ok(true);
            }
            match tls.read_tls(&mut socket) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {
                    if let Err(error) = tls.process_new_packets() {
                        send_all(tls, socket).ok(); // the alert that tells the server
                        return Err(malformed(error));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// The cipher suite that was agreed on, which tells the version of TLS too; `None` without TLS.
    pub(crate) fn suite(&self) -> Option<&'static str> {
        let suite = self.tls.as_ref()?.negotiated_cipher_suite()?;
        suite.suite().as_str()
    }

    /// Sends bytes, and keeps those that the socket does not take yet. A datagram that finds no room is lost.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes)?;
            return send_all(tls, &self.socket);
        }
        let taken = match (&self.socket).write(bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if self.transport == Transport::Tcp {
            self.unsent.extend_from_slice(&bytes[taken..]);
        }
        Ok(())
    }

    /// Sends what was kept.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            return send_all(tls, &self.socket);
        }
        if self.unsent.is_empty() {
            return Ok(());
        }
        match (&self.socket).write(&self.unsent) {
            Ok(count) => {
                self.unsent.drain(..count);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads what came; nothing is the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut socket = &self.socket;
        let Some(tls) = &mut self.tls else {
            return socket.read(buffer);
        };
        loop {
            match tls.reader().read(buffer) {
                // The other side has said that it ends, and is let end first: so no port of ours stays taken.
                Ok(0) => return socket.read(buffer).map(|_| 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => (),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                done => return done,
            }
            if tls.read_tls(&mut socket)? > 0 {
                tls.process_new_packets().map_err(malformed)?;
                send_all(tls, socket)?;
            }
        }
    }

    /// Whether a read that does not fill its buffer has read all that came.
    pub(crate) fn short_is_all(&self) -> bool {
        self.transport == Transport::Tcp && self.tls.is_none()
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends as much of a session as the socket takes.
fn send_all(tls: &mut ClientConnection, mut socket: &Socket) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(&mut socket) {
            Ok(_) => (),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn malformed(error: tokio_rustls::rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
