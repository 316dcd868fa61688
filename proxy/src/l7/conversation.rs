//! What a worker keeps of one HTTP connection: little while it is idle, one exchange while a request is under way.

use super::fault::Fault;
use super::h1::body::Body;
use super::h1::framing::RequestFacts;
use super::h1::head::Version;
use crate::l4::socket::Socket;
use crate::lb::SetId;
use crate::worker::slab::Key;
use rustix::io::Errno;

/// One HTTP connection.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) client: Socket,
    pub(crate) stage: Stage,
    /// Bytes read from the client that nothing has consumed yet.
    pub(crate) ahead: Vec<u8>,
    /// Bytes for the client that it did not take yet.
    pub(crate) owed: Owed,
    /// When the stage began; of a head, when its first byte came.
    pub(crate) since_ms: u64,
    /// `ahead` is the beginning of a head.
    pub(crate) is_in_head: bool,
    /// It has had a request before.
    pub(crate) has_served: bool,
    /// Bytes from and to the client.
    pub(crate) moved: (u64, u64),
}

/// How far a conversation has come.
#[derive(Debug)]
pub(crate) enum Stage {
    /// A head is to come, or the rest of it.
    Head,
    /// A request is under way.
    Exchange(Box<Exchange>),
    /// The last answer is being delivered; what comes is thrown away, so that no reset overtakes the answer.
    Lingering,
}

/// Bytes that a socket did not take yet.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    bytes: Vec<u8>,
    sent: usize,
}

impl Owed {
    /// Nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes `bytes` and keeps what is not taken. `end_follows`: nothing comes after them.
    ///
    /// # Errors
    /// The socket takes nothing more, for good.
    pub(crate) fn write(
        &mut self,
        socket: &mut Socket,
        bytes: &[u8],
        end_follows: bool,
    ) -> Result<(), Errno> {
        if !self.is_empty() {
            self.bytes.extend_from_slice(bytes);
            return Ok(());
        }
        let sent = match socket.write(bytes, end_follows) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(error) => return Err(error),
        };
        self.bytes.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Writes what is left, as far as it is taken.
    ///
    /// # Errors
    /// The socket takes nothing more, for good.
    pub(crate) fn flush(&mut self, socket: &mut Socket) -> Result<(), Errno> {
        while !self.is_empty() && socket.writable() {
            match socket.write(&self.bytes[self.sent..], false) {
                Ok(sent) => self.sent += sent,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.sent == self.bytes.len() {
                *self = Self::default();
            }
        }
        Ok(())
    }

    /// What is left.
    pub(crate) fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.sent);
        self.bytes
    }
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A backend is to be picked.
    Seeking,
    /// Those that could take it have no verdict yet.
    Waiting,
    /// A backend is being connected to.
    Dialing,
    /// It is with a backend.
    Open,
}

/// What was asked for, as far as it matters after the head is gone.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is what one field said")]
pub(crate) struct Asked {
    pub(crate) version: Version,
    pub(crate) keep_alive: bool,
    pub(crate) is_head: bool,
    pub(crate) is_idempotent: bool,
    pub(crate) upgrade: bool,
}

impl Asked {
    /// What a head asks for.
    pub(crate) fn new(version: Version, facts: &RequestFacts<'_>) -> Self {
        Self {
            version,
            keep_alive: facts.keep_alive,
            is_head: facts.is_head,
            is_idempotent: facts.is_idempotent,
            upgrade: facts.upgrade,
        }
    }
}

/// One request and its answer.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
pub(crate) struct Exchange {
    pub(crate) step: Step,
    /// The set that takes it; nothing before that is decided.
    pub(crate) set: Option<SetId>,
    pub(crate) asked: Asked,
    /// Its set keeps clients by cookies.
    pub(crate) goes_by_cookie: bool,
    /// The backend that the client's cookie names.
    pub(crate) held: Option<u64>,
    /// The connection that it goes over.
    pub(crate) upstream: Option<Key>,
    /// That connection has served others before.
    pub(crate) is_reused: bool,
    /// Why the last backend could not be reached, or that it was and went away.
    pub(crate) unreached: Option<Fault>,
    /// Only a new connection will do: a kept one has just failed.
    pub(crate) wants_fresh: bool,
    /// The request as the backend gets it, from the head on; what of it was sent.
    pub(crate) request: Vec<u8>,
    pub(crate) sent: usize,
    /// `request` has all of it that was read so far, so it can be sent again.
    pub(crate) is_whole: bool,
    /// What is to come of its body.
    pub(crate) up: Body,
    /// Bytes that its body may have.
    pub(crate) max_body: u64,
    /// The backend takes nothing more; it may have answered before.
    pub(crate) is_cut: bool,
    /// What is to come of the answer's body; nothing: its head.
    pub(crate) down: Option<Body>,
    /// Bytes read from the backend that nothing has consumed yet.
    pub(crate) partial: Vec<u8>,
    /// The backend has sent something.
    pub(crate) is_answered: bool,
    /// The backend's connection goes on, for so long.
    pub(crate) reuse_ms: Option<u64>,
    /// The client's connection ends with the answer.
    pub(crate) close: bool,
    /// Of the answer; 0 before it.
    pub(crate) status: u16,
    pub(crate) began_ms: u64,
    /// Method, host and path, for the access log.
    pub(crate) line: Option<Box<str>>,
}

impl Exchange {
    /// A request of which nothing but its head is known.
    pub(crate) fn new(asked: Asked, now_ms: u64) -> Self {
        Self {
            step: Step::Seeking,
            set: None,
            asked,
            goes_by_cookie: false,
            held: None,
            upstream: None,
            is_reused: false,
            unreached: None,
            wants_fresh: false,
            request: Vec::new(),
            sent: 0,
            is_whole: true,
            up: Body::Done,
            max_body: u64::MAX,
            is_cut: false,
            down: None,
            partial: Vec::new(),
            is_answered: false,
            reuse_ms: None,
            close: false,
            status: 0,
            began_ms: now_ms,
            line: None,
        }
    }

    /// Everything of the request was sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.up.is_done() && self.sent == self.request.len()
    }
}

impl Conversation {
    /// A connection that has said nothing yet.
    pub(crate) fn new(client: Socket, now_ms: u64) -> Self {
        Self {
            client,
            stage: Stage::Head,
            ahead: Vec::new(),
            owed: Owed::default(),
            since_ms: now_ms,
            is_in_head: false,
            has_served: false,
            moved: (0, 0),
        }
    }

    /// Bytes for the client wait: it does not take them, or not yet.
    pub(crate) fn owes(&self) -> bool {
        !self.owed.is_empty() || self.client.held() > 0
    }

    /// The request under way.
    pub(crate) fn exchange(&mut self) -> Option<&mut Exchange> {
        match &mut self.stage {
            Stage::Exchange(exchange) => Some(exchange),
            _ => None,
        }
    }

    /// The connection to a backend that is being made for its request.
    pub(crate) fn dial(&self) -> Option<Key> {
        match &self.stage {
            Stage::Exchange(exchange) if exchange.step == Step::Dialing => exchange.upstream,
            _ => None,
        }
    }

    /// Reads what the client sent, behind what was read ahead; how many bytes stand in `room` then.
    ///
    /// # Errors
    /// `AGAIN` when there is nothing new.
    pub(crate) fn read(&mut self, room: &mut [u8]) -> Result<usize, Errno> {
        let before = self.ahead.len();
        let (n, _) = self.client.read(&mut room[before..])?;
        if n == 0 {
            return Ok(0);
        }
        self.moved.0 += n as u64;
        room[..before].copy_from_slice(&self.ahead);
        self.ahead.clear();
        Ok(before + n)
    }

    /// Keeps `rest` for later.
    pub(crate) fn keep_ahead(&mut self, rest: &[u8]) {
        if self.ahead.is_empty() && rest.is_empty() {
            return;
        }
        self.ahead = rest.to_vec();
    }

    /// Writes to the client.
    ///
    /// # Errors
    /// It takes nothing more, for good.
    pub(crate) fn write(&mut self, bytes: &[u8], end_follows: bool) -> Result<(), Errno> {
        self.moved.1 += bytes.len() as u64;
        self.owed.write(&mut self.client, bytes, end_follows)
    }
}
