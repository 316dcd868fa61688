//! One TLS connection as a function of bytes: what comes in sealed goes out open, and the other way round. It knows no
//! socket; between two steps it owns memory only for a piece of a record, and for what nobody has taken yet.

use std::fmt;

use super::shown::Shown;
use tokio_rustls::rustls::client::UnbufferedClientConnection;
use tokio_rustls::rustls::server::UnbufferedServerConnection;
use tokio_rustls::rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use tokio_rustls::rustls::{CommonState, Error, HandshakeKind, ProtocolVersion};

/// Bytes that one record carries at most.
const PLAIN: usize = 16 << 10;
/// What TLS adds to a record at most, generously.
const OVERHEAD: usize = 64;
/// Sealed bytes that are kept for the rest of a record, or of a message of the handshake.
pub(crate) const MOST_INCOMING: usize = 128 << 10;

/// One side of a TLS connection.
#[derive(Debug)]
pub(crate) struct Session {
    side: Side,
    /// Sealed bytes that are no whole record yet.
    incoming: Vec<u8>,
    /// Opened bytes that were not asked for yet, and where they begin.
    opened: (Vec<u8>, usize),
    /// Sealed bytes that were not sent yet, and where they begin.
    outgoing: (Vec<u8>, usize),
    /// The handshake is over.
    is_open: bool,
    /// The other side has said that it sends nothing more.
    is_ended: bool,
    /// This side has said so.
    has_ended: bool,
    /// Which certificate the client was shown for the name that it asked for, if the listener has several.
    shown: Option<Shown>,
}

enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "Server",
            Self::Client(_) => "Client",
        })
    }
}

/// What both sides can do with records.
trait Records {
    type Data;

    fn process<'c, 'i>(&'c mut self, sealed: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Records for UnbufferedServerConnection {
    type Data = tokio_rustls::rustls::server::ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, sealed: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(sealed)
    }
}

impl Records for UnbufferedClientConnection {
    type Data = tokio_rustls::rustls::client::ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, sealed: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(sealed)
    }
}

/// What a step came to.
#[derive(Debug, Default)]
struct Digested {
    /// Sealed bytes that were used up.
    consumed: usize,
    is_ended: bool,
}

impl Session {
    /// The proxy's side of a client's connection.
    pub(crate) fn server(connection: UnbufferedServerConnection) -> Self {
        Self::new(Side::Server(Box::new(connection)))
    }

    /// The proxy's side of a connection to a backend.
    pub(crate) fn client(connection: UnbufferedClientConnection) -> Self {
        Self::new(Side::Client(Box::new(connection)))
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            incoming: Vec::new(),
            opened: (Vec::new(), 0),
            outgoing: (Vec::new(), 0),
            is_open: false,
            is_ended: false,
            has_ended: false,
            shown: None,
        }
    }

    /// The handshake is over, and bytes can be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// The other side has said that it sends nothing more.
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Opened bytes wait to be taken.
    pub(crate) fn has_opened(&self) -> bool {
        self.opened.1 < self.opened.0.len()
    }

    /// Sealed bytes that wait to be sent.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.outgoing.0[self.outgoing.1..]
    }

    /// So many of them were sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.outgoing.1 += bytes;
        if self.outgoing.1 == self.outgoing.0.len() {
            self.outgoing = (Vec::new(), 0);
        }
    }

    /// The protocol that both sides agreed on, once the handshake is over.
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        self.common().alpn_protocol()
    }

    /// Which certificate the client was shown, where it makes a difference.
    pub(crate) fn shown(&self) -> Option<&Shown> {
        self.shown.as_ref()
    }

    /// The version of TLS, once that is agreed on.
    pub(crate) fn version(&self) -> Option<ProtocolVersion> {
        self.common().protocol_version()
    }

    /// An earlier session goes on.
    pub(crate) fn is_resumed(&self) -> bool {
        self.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Server(connection) => connection,
            Side::Client(connection) => connection,
        }
    }

    /// Takes opened bytes that were kept; how many.
    pub(crate) fn take_opened(&mut self, room: &mut [u8]) -> usize {
        let (bytes, at) = &mut self.opened;
        let n = room.len().min(bytes.len() - *at);
        room[..n].copy_from_slice(&bytes[*at..*at + n]);
        *at += n;
        if *at == bytes.len() {
            self.opened = (Vec::new(), 0);
        }
        n
    }

    /// Puts the piece of a record that was kept at the beginning of `room`; how long it is.
    pub(crate) fn resume(&mut self, room: &mut [u8]) -> usize {
        let kept = std::mem::take(&mut self.incoming);
        room[..kept.len()].copy_from_slice(&kept);
        kept.len()
    }

    /// Takes back what [`Self::resume`] gave: nothing more has come.
    pub(crate) fn keep(&mut self, sealed: &[u8]) {
        if !sealed.is_empty() {
            self.incoming = sealed.to_vec();
        }
    }

    /// Takes in `sealed`, which begins with what [`Self::resume`] gave, and opens what it can into `room`; how many bytes
    /// stand there. What does not fit is kept, and so is the piece of a record at the end.
    ///
    /// # Errors
    /// The other side breaks the protocol, or the handshake fails. [`Self::unsent`] has the alert that tells it why.
    pub(crate) fn take_in(&mut self, sealed: &mut [u8], room: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        let kept = &mut self.opened.0;
        let opened = |bytes: &[u8]| {
            let fits = bytes.len().min(room.len() - filled);
            room[filled..filled + fits].copy_from_slice(&bytes[..fits]);
            filled += fits;
            kept.extend_from_slice(&bytes[fits..]);
        };
        let out = &mut self.outgoing.0;
        let digested = match &mut self.side {
            Side::Server(side) => digest(&mut **side, sealed, opened, out, |_| {}),
            Side::Client(side) => digest(&mut **side, sealed, opened, out, |_| {}),
        }?;
        if !self.is_open {
            self.shown = Shown::take().or(self.shown.take());
        }
        self.note(&digested);
        self.keep(&sealed[digested.consumed..]);
        if self.incoming.len() >= MOST_INCOMING {
            return Err(Error::General("a message is too long".to_owned()));
        }
        Ok(filled)
    }

    fn note(&mut self, digested: &Digested) {
        self.is_open = !self.common().is_handshaking();
        self.is_ended |= digested.is_ended;
    }

    /// Begins a handshake that this side has to begin.
    ///
    /// # Errors
    /// The configuration allows none.
    pub(crate) fn begin(&mut self) -> Result<(), Error> {
        self.take_in(&mut [], &mut []).map(|_| ())
    }

    /// Seals `bytes` and appends them to what is to be sent. False: nothing may be sent, not yet or no more.
    pub(crate) fn seal(&mut self, bytes: &[u8]) -> bool {
        let mut is_sealed = !self.has_ended;
        if is_sealed {
            is_sealed = self.with_traffic(|traffic, out| {
                bytes.chunks(PLAIN).all(|piece| {
                    append(out, piece.len() + OVERHEAD, |room| {
                        traffic.encrypt(piece, room)
                    })
                })
            });
        }
        is_sealed
    }

    /// Tells the other side that nothing more comes.
    pub(crate) fn end(&mut self) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.with_traffic(|traffic, out| {
                append(out, OVERHEAD, |room| traffic.queue_close_notify(room))
            });
        }
    }

    /// What needs an open connection; false: it is not open.
    fn with_traffic(&mut self, act: impl FnOnce(&mut dyn Traffic, &mut Vec<u8>) -> bool) -> bool {
        let mut incoming = std::mem::take(&mut self.incoming);
        let mut sealed = Vec::new();
        let mut is_done = false;
        let kept = &mut self.opened.0;
        let opened = |bytes: &[u8]| kept.extend_from_slice(bytes);
        let out = &mut self.outgoing.0;
        let digested = match &mut self.side {
            Side::Server(side) => digest(&mut **side, &mut incoming, opened, out, |traffic| {
                is_done = act(traffic, &mut sealed);
            }),
            Side::Client(side) => digest(&mut **side, &mut incoming, opened, out, |traffic| {
                is_done = act(traffic, &mut sealed);
            }),
        };
        if sealed.capacity() > 0 && out.is_empty() {
            *out = sealed;
        } else {
            out.extend_from_slice(&sealed);
        }
        if let Ok(digested) = digested {
            incoming.drain(..digested.consumed);
            self.note(&digested);
            self.incoming = incoming;
        }
        is_done
    }
}

/// What an open connection can do, whichever side it is.
trait Traffic {
    fn encrypt(&mut self, bytes: &[u8], room: &mut [u8]) -> Result<usize, EncryptError>;
    fn queue_close_notify(&mut self, room: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<Data> Traffic for WriteTraffic<'_, Data> {
    fn encrypt(&mut self, bytes: &[u8], room: &mut [u8]) -> Result<usize, EncryptError> {
        WriteTraffic::encrypt(self, bytes, room)
    }

    fn queue_close_notify(&mut self, room: &mut [u8]) -> Result<usize, EncryptError> {
        WriteTraffic::queue_close_notify(self, room)
    }
}

/// Appends what `write` puts into room of `expected` bytes or, where it asks for that, more. Whether it did.
fn append(
    out: &mut Vec<u8>,
    expected: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> bool {
    let before = out.len();
    out.resize(before + expected, 0);
    let mut written = write(&mut out[before..]);
    if let Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) = written {
        out.resize(before + required_size, 0);
        written = write(&mut out[before..]);
    }
    out.truncate(before + written.as_ref().map_or(0, |n| *n));
    written.is_ok()
}

/// Goes on as far as `sealed` leads. `on_open` gets what an open connection can do.
fn digest<Side: Records>(
    side: &mut Side,
    sealed: &mut [u8],
    mut opened: impl FnMut(&[u8]),
    out: &mut Vec<u8>,
    on_open: impl FnOnce(&mut dyn Traffic),
) -> Result<Digested, Error> {
    let mut digested = Digested::default();
    loop {
        let UnbufferedStatus { discard, state } = side.process(&mut sealed[digested.consumed..]);
        let mut goes_on = true;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    opened(record?.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => digested.is_ended = true,
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                on_open(&mut traffic);
                digested.consumed += discard;
                return Ok(digested);
            }
            // Early data is never asked for, and of what comes later than this release nothing is known.
            Ok(_) => goes_on = false,
            Err(error) => {
                digested.consumed += discard;
                alert(side, &mut sealed[digested.consumed..], out);
                return Err(error);
            }
        }
        digested.consumed += discard;
        if !goes_on {
            return Ok(digested);
        }
    }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) {
    let before = out.len();
    let asked = data.encode(&mut []);
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = asked {
        out.resize(before + required_size, 0);
        let written = data.encode(&mut out[before..]).unwrap_or(0);
        out.truncate(before + written);
    }
}

/// Brings the alert that tells of a failure into `out`. It is asked for once, with what is left of the input: a failed
/// side must not look at that again, nor at another.
fn alert<Side: Records>(side: &mut Side, sealed: &mut [u8], out: &mut Vec<u8>) {
    if let Ok(ConnectionState::EncodeTlsData(data)) = side.process(sealed).state {
        encode(data, out);
    }
}

#[cfg(test)]
pub(crate) mod tests;
