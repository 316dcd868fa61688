//! A TLS connection over a socket: moves sealed bytes between the kernel and a [`Session`].

use crate::net::io;
use crate::tls::session::{MOST_INCOMING, Session};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::cell::RefCell;
use tokio_rustls::rustls;

/// Sealed bytes that are read at once.
const AT_ONCE: usize = 64 << 10;
/// Reads in a row that may bring nothing but what TLS says for itself, or pieces of one record.
const MOST_EMPTY: usize = 64;
/// Bytes that are sealed before the kernel is offered them.
const PIECE: usize = 64 << 10;

thread_local! {
    /// Where sealed bytes are read to: what is left of them is a piece of a record.
    static ROOM: RefCell<Box<[u8]>> = RefCell::new(vec![0; MOST_INCOMING + AT_ONCE].into());
}

/// What speaks TLS over a socket.
#[derive(Debug)]
pub(crate) struct Sealed {
    session: Session,
    /// The kernel has nothing more to read, as far as is known.
    is_dry: bool,
    /// Our direction ends once everything is sent.
    is_ending: bool,
    /// The other side broke the protocol, or left without a word: nothing more is said.
    is_broken: bool,
}

/// Why a handshake does not end in a connection.
#[derive(Debug)]
pub(crate) enum HandshakeFailed {
    /// It goes on.
    NotYet,
    /// The other side left.
    Left,
    /// It cannot be done.
    Refused(rustls::Error),
}

impl Sealed {
    /// A connection whose handshake is to come.
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            is_dry: false,
            is_ending: false,
            is_broken: false,
        }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Sealed bytes that the kernel has not taken.
    pub(crate) fn held(&self) -> usize {
        self.session.unsent().len()
    }

    /// The next read finds nothing, as far as is known.
    pub(crate) fn is_dry(&self) -> bool {
        self.is_dry && !self.session.has_opened() && !self.session.is_ended()
    }

    /// Goes on with the handshake. Nothing that follows it is read: it stays for [`Self::read`].
    pub(crate) fn shake_hands(&mut self, fd: &OwnedFd) -> Result<(), HandshakeFailed> {
        loop {
            if self.session.is_open() {
                return Ok(());
            }
            match self.take_in(fd, &mut []) {
                Err(TakeIn::Socket(Errno::AGAIN)) if !self.session.is_open() => {
                    return Err(HandshakeFailed::NotYet);
                }
                Ok(_) | Err(TakeIn::Socket(Errno::AGAIN)) => {}
                Err(TakeIn::Socket(_) | TakeIn::CutShort) => return Err(HandshakeFailed::Left),
                Err(TakeIn::Tls(error)) => return Err(HandshakeFailed::Refused(error)),
            }
        }
    }

    /// Reads what was opened; 0 is the end that the other side has announced.
    ///
    /// # Errors
    /// `AGAIN` when there is nothing; an end that was not announced, and a broken protocol, are resets.
    pub(crate) fn read(&mut self, fd: &OwnedFd, room: &mut [u8]) -> Result<usize, Errno> {
        if self.session.has_opened() {
            return Ok(self.session.take_opened(room));
        }
        for _ in 0..MOST_EMPTY {
            if self.session.is_ended() {
                return Ok(0);
            }
            match self.take_in(fd, room) {
                Ok(0) => {}
                Ok(n) => return Ok(n),
                Err(TakeIn::Socket(error)) => return Err(error),
                Err(TakeIn::CutShort) => return Err(Errno::CONNRESET),
                Err(TakeIn::Tls(error)) => {
                    tracing::debug!(%error, "TLS is broken off");
                    return Err(Errno::PROTO);
                }
            }
        }
        // Records that carry nothing, one after the other: others have waited long enough.
        self.is_broken = true;
        Err(Errno::PROTO)
    }

    fn take_in(&mut self, fd: &OwnedFd, room: &mut [u8]) -> Result<usize, TakeIn> {
        if self.is_broken {
            return Err(TakeIn::CutShort);
        }
        ROOM.with_borrow_mut(|sealed| {
            let kept = self.session.resume(sealed);
            let most = room.len().clamp(4 << 10, AT_ONCE);
            let read = io::read(fd, &mut sealed[kept..kept + most]);
            let n = *read.as_ref().unwrap_or(&0);
            self.is_dry = n < most;
            if let Err(error) = read
                && self.session.is_open()
            {
                self.session.keep(&sealed[..kept]);
                return Err(TakeIn::Socket(error));
            }
            let opened = self.session.take_in(&mut sealed[..kept + n], room);
            let sent = self.flush(fd);
            match (read, opened) {
                (_, Err(error)) => {
                    self.is_broken = true;
                    Err(TakeIn::Tls(error))
                }
                (Err(error), _) => Err(TakeIn::Socket(error)),
                (Ok(0), Ok(_)) if !self.session.is_ended() => {
                    self.is_broken = true;
                    Err(TakeIn::CutShort)
                }
                (Ok(_), Ok(opened)) => match sent {
                    Ok(()) | Err(Errno::AGAIN) => Ok(opened),
                    // What it has sent before can still be read.
                    Err(_) if opened > 0 => Ok(opened),
                    Err(error) => Err(TakeIn::Socket(error)),
                },
            }
        })
    }

    /// Seals and sends. Everything is taken, whether or not the kernel takes it at once; but nothing before what was
    /// taken earlier is sent.
    ///
    /// # Errors
    /// `AGAIN` when nothing is taken.
    pub(crate) fn write(&mut self, fd: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
        self.flush(fd)?;
        if self.held() > 0 {
            return Err(Errno::AGAIN);
        }
        let mut taken = 0;
        for piece in bytes.chunks(PIECE) {
            if !self.session.seal(piece) {
                return Err(Errno::PIPE);
            }
            taken += piece.len();
            self.flush(fd)?;
            if self.held() > 0 {
                break;
            }
        }
        Ok(taken)
    }

    /// Sends what is sealed, as far as the kernel takes it.
    ///
    /// # Errors
    /// It takes nothing more, for good.
    pub(crate) fn flush(&mut self, fd: &OwnedFd) -> Result<(), Errno> {
        while !self.session.unsent().is_empty() {
            match io::write(fd, self.session.unsent(), false) {
                Ok(sent) => self.session.sent(sent),
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if std::mem::take(&mut self.is_ending) {
            io::end_writing(fd);
        }
        Ok(())
    }

    /// Announces the end of our direction; it ends when everything is sent.
    pub(crate) fn end_writing(&mut self, fd: &OwnedFd) -> Result<(), Errno> {
        self.session.end();
        self.is_ending = true;
        self.flush(fd)
    }

    /// The last word before the socket is closed.
    pub(crate) fn say_goodbye(&mut self, fd: &OwnedFd) {
        if self.session.is_open() && !self.is_broken {
            self.session.end();
            // Whoever has closed already need not hear it.
            let _ = self.flush(fd);
        }
    }
}

/// Why nothing was opened.
#[derive(Debug)]
enum TakeIn {
    Socket(Errno),
    /// The end of the bytes came before the end that TLS announces.
    CutShort,
    Tls(rustls::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l4::socket::Socket;
    use crate::tls::session::tests::{configs, pair};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use tokio_rustls::rustls::version::TLS13;

    fn sockets() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        (client, Socket::accepted(server.into()))
    }

    /// Goes on until `wire` is written, whenever the other side gets to it.
    fn shake(server: &mut Socket) -> bool {
        for _ in 0..1_000_000 {
            match server.shake_hands() {
                Ok(()) => return true,
                Err(HandshakeFailed::NotYet) if server.held() == 0 => return false,
                Err(HandshakeFailed::NotYet) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        panic!("it does not end");
    }

    #[test]
    fn what_came_with_the_end_of_the_handshake_is_there_to_read() {
        let (mut wire, mut server) = sockets();
        let [mut client, session] = pair(&configs(&TLS13));
        server.secure(session);
        wire.write_all(client.unsent()).unwrap();
        client.sent(client.unsent().len());
        let mut sealed = vec![0; 2 * MOST_INCOMING];
        while !client.is_open() {
            shake(&mut server);
            wire.set_nonblocking(true).unwrap();
            let kept = client.resume(&mut sealed);
            let n = wire.read(&mut sealed[kept..]).unwrap_or(0);
            client.take_in(&mut sealed[..kept + n], &mut []).unwrap();
        }
        assert!(!server.readable(), "nothing is there");
        // The last flight and a request at once; the kernel's word that there is something to read never comes.
        assert!(client.seal(b"request"));
        wire.set_nonblocking(false).unwrap();
        wire.write_all(client.unsent()).unwrap();
        while !shake(&mut server) {}
        assert!(server.readable());
        let mut room = [0; 100];
        assert_eq!(server.read(&mut room).unwrap().0, 7);
        assert!(!server.readable());
    }
}
