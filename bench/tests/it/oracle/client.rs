//! A client that sends bytes as they are, and keeps all that it is answered.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};

use super::LONG;
use super::wire::{Body, Head, Input};

/// Tells whether a connection goes on: sent behind a request that was answered.
pub(super) const FENCE: &str = "/fence";
const PING: &[u8] = b"ping";

/// An answer as it came.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) head: Head,
    /// Nothing: it was cut.
    pub(super) body: Option<Body>,
}

impl Answer {
    fn is_to_fence(&self) -> bool {
        let body = self.body.as_ref();
        body.is_some_and(|body| body.data == FENCE.as_bytes())
    }
}

/// What became of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// All of them, interim ones too.
    pub(super) all: Vec<Answer>,
    /// The connection took another request behind it.
    pub(super) is_kept: bool,
    /// Nothing came, and no end either.
    pub(super) is_silent: bool,
}

/// Sends a request on a connection of its own, and `late` when an interim answer has come.
pub(super) fn ask(proxy: SocketAddr, request: &[u8], late: &[u8]) -> Answers {
    let stream = TcpStream::connect_timeout(&proxy, LONG).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut asking = Asking {
        stream,
        input: Input::default(),
        answers: Answers::default(),
    };
    asking.send(request);
    let to_head = request.starts_with(b"HEAD ");
    // Who has got all has got an end, clean or not.
    if let Err(error) = asking.read(to_head, late) {
        asking.answers.is_silent = is_timeout(&error);
    }
    asking.answers
}

struct Asking {
    stream: TcpStream,
    input: Input,
    answers: Answers,
}

impl Asking {
    /// What the proxy no longer takes shows in what it answers.
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    fn read(&mut self, to_head: bool, late: &[u8]) -> io::Result<()> {
        loop {
            match self.answer(to_head)? {
                101 => return self.pass(),
                100..=199 => self.send(late),
                _ => break,
            }
        }
        let fence = format!("GET {FENCE} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        self.send(fence.as_bytes());
        loop {
            self.answer(false)?;
            let last = self.answers.all.pop_if(|last| last.is_to_fence());
            self.answers.is_kept |= last.is_some();
        }
    }

    /// One answer, and its status.
    fn answer(&mut self, to_head: bool) -> io::Result<u16> {
        let head = self.input.head(&mut self.stream)?;
        let status = head.status();
        let body = self.input.answer_body(&mut self.stream, &head, to_head);
        let failed = body.as_ref().err().map(io::Error::kind);
        let body = body.ok();
        self.answers.all.push(Answer { head, body });
        failed.map_or(Ok(status), |kind| Err(kind.into()))
    }

    /// Behind 101: what comes back.
    fn pass(&mut self) -> io::Result<()> {
        self.send(PING);
        let data = self.input.exactly(&mut self.stream, PING.len())?;
        if let Some(switch) = self.answers.all.last_mut() {
            switch.body = Some(Body {
                data,
                ..Body::default()
            });
        }
        Ok(())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
