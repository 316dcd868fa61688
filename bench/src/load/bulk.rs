//! Downloads or uploads over a few TCP connections that never pause. A download is asked a gibibyte at a time, an upload is
//! acknowledged by the Pod every 64 MiB. A stream that fails is counted and not made again; the pace of a plan means
//! nothing here.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use podline_lab::pattern;
use socket2::{Domain, Protocol, Socket, Type};

use super::pace::nanoseconds;
use super::poller::Poller;
use super::socket::classify;
use super::stop::Stop;
use super::tally::Tally;
use super::{Failure, Outcome, Plan};
use crate::wire::{Answer, HEAD, Request, is_pattern};

/// What one request asks for.
const DOWNLOAD: u32 = 1 << 30;
/// What one request brings.
const UPLOAD: u32 = 64 << 20;
/// What is read or written at once.
const PIECE: usize = 256 * 1024;
/// The longest time for all connections, so that what follows keeps to its time.
const CONNECTING: Duration = Duration::from_millis(800);

struct Stream {
    socket: Socket,
    is_upload: bool,
    /// The request whose bytes are sent, or whose answer is read.
    sequence: u64,
    /// Bytes of its pattern that went by.
    offset: u64,
    /// What is left of the request's head, not taken by the socket yet.
    unsent: Vec<u8>,
    /// The answer's head as it comes, and the request that it must answer.
    head: Vec<u8>,
    answered: u64,
    pod: Option<u32>,
    /// When bytes went by last.
    moved: u64,
    has_moved: bool,
}

pub(crate) fn run(plan: &Plan, streams: u32, upload: bool, stop: &Stop) -> io::Result<Outcome> {
    let mut poller = Poller::new()?;
    let mut tally = Tally::default();
    let mut open: Vec<Option<Stream>> = Vec::new();
    let deadline = Instant::now() + plan.patience.min(CONNECTING);
    for _ in 0..streams {
        tally.begin();
        match connect(plan, upload, deadline) {
            Ok(stream) => {
                poller.add_level(&stream.socket, open.len() as u64, upload)?;
                open.push(Some(stream));
            }
            Err(error) => tally.failed(0, classify(&error, true)),
        }
    }
    let start = Instant::now();
    let end = nanoseconds(plan.duration);
    let patience = nanoseconds(plan.patience);
    let mut buffer = vec![0; PIECE];
    loop {
        let now = nanoseconds(start.elapsed());
        let is_any_left = open.iter().any(Option::is_some);
        if now >= end || stop.is_stopped() || !is_any_left {
            finish(&mut tally, &open, now, stop.is_stopped());
            return Ok(tally.finish(now));
        }
        poller.wait(now, Some(end))?;
        let now = nanoseconds(start.elapsed());
        let mut next = 0;
        while let Some(event) = poller.event(next) {
            next += 1;
            let index = usize::try_from(event.token).unwrap_or(usize::MAX);
            let Some(slot) = open.get_mut(index) else {
                continue;
            };
            let Some(stream) = slot.as_mut() else {
                continue;
            };
            let moved = stream.go_on(&mut buffer, event.is_readable(), event.is_writable());
            match moved {
                Ok(0) => (),
                Ok(count) => {
                    stream.moved = now;
                    stream.has_moved = true;
                    tally.carried(now, count);
                }
                Err(failure) => {
                    tally.failed(now, failure);
                    *slot = None;
                }
            }
        }
        for slot in &mut open {
            let is_late = |stream: &mut Stream| stream.moved.saturating_add(patience) < now;
            if slot.as_mut().is_some_and(is_late) {
                tally.failed(now, Failure::Late);
                *slot = None;
            }
        }
    }
}

fn finish(tally: &mut Tally, open: &[Option<Stream>], now: u64, is_stopped: bool) {
    for stream in open.iter().flatten() {
        if stream.has_moved {
            tally.transferred(stream.pod);
        } else if is_stopped {
            tally.forget(1);
        } else {
            tally.failed(now, Failure::Late);
        }
    }
}

fn connect(plan: &Plan, is_upload: bool, deadline: Instant) -> io::Result<Stream> {
    let domain = Domain::for_address(plan.target);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    let left = deadline.saturating_duration_since(Instant::now());
    socket.connect_timeout(&plan.target.into(), left.max(Duration::from_millis(1)))?;
    socket.set_nonblocking(true)?;
    let mut stream = Stream {
        socket,
        is_upload,
        sequence: 0,
        offset: 0,
        unsent: Vec::new(),
        head: Vec::new(),
        answered: 0,
        pod: None,
        moved: 0,
        has_moved: false,
    };
    stream.ask();
    if !is_upload {
        stream.flush().map_err(|_| ErrorKind::ConnectionReset)?;
    }
    Ok(stream)
}

impl Stream {
    /// Puts the next request where it is sent from.
    fn ask(&mut self) {
        let (wanted, sent) = if self.is_upload {
            (0, UPLOAD)
        } else {
            (DOWNLOAD, 0)
        };
        let request = Request {
            sequence: self.sequence,
            wanted,
            sent,
        };
        self.unsent.extend_from_slice(&request.encode());
    }

    /// Moves a piece: how many bytes of the pattern.
    fn go_on(&mut self, buffer: &mut [u8], read: bool, write: bool) -> Result<u64, Failure> {
        let mut moved = 0;
        if read {
            let mut socket = &self.socket;
            match socket.read(buffer) {
                Ok(0) => return Err(Failure::Ended),
                Ok(count) => moved += self.take(&buffer[..count])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => (),
                Err(error) => return Err(classify(&error, false)),
            }
        }
        if write && self.is_upload {
            moved += self.send()?;
        }
        Ok(moved)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let mut socket = &self.socket;
        match socket.write(&self.unsent) {
            Ok(count) => {
                self.unsent.drain(..count);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(classify(&error, false)),
        }
    }

    fn send(&mut self) -> Result<u64, Failure> {
        if !self.unsent.is_empty() {
            self.flush()?;
            return Ok(0);
        }
        let left = u64::from(UPLOAD) - self.offset;
        let len = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let mut socket = &self.socket;
        let count = match socket.write(pattern::at(self.offset, len)) {
            Ok(count) => count as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(classify(&error, false)),
        };
        self.offset += count;
        if self.offset == u64::from(UPLOAD) {
            self.sequence += 1;
            self.offset = 0;
            self.ask();
        }
        Ok(count)
    }

    /// Reads what came: how many bytes of the pattern.
    fn take(&mut self, bytes: &[u8]) -> Result<u64, Failure> {
        let mut rest = bytes;
        let mut moved = 0;
        while !rest.is_empty() {
            if self.head.len() < HEAD {
                let (head, behind) = rest.split_at(rest.len().min(HEAD - self.head.len()));
                self.head.extend_from_slice(head);
                rest = behind;
                if self.head.len() == HEAD {
                    self.check_head()?;
                }
                continue;
            }
            let left = u64::from(DOWNLOAD) - self.offset;
            let ours = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (body, behind) = rest.split_at(ours);
            if !is_pattern(body, self.offset) {
                return Err(Failure::Wrong);
            }
            self.offset += ours as u64;
            moved += ours as u64;
            rest = behind;
            if self.offset == u64::from(DOWNLOAD) {
                self.offset = 0;
                self.head.clear();
                self.sequence += 1;
                self.ask();
                self.flush()?;
            }
        }
        Ok(moved)
    }

    fn check_head(&mut self) -> Result<(), Failure> {
        let answer = Answer::decode(&self.head).ok_or(Failure::Wrong)?;
        let (wanted, is_known) = if self.is_upload {
            (0, self.answered < self.sequence)
        } else {
            (DOWNLOAD, true)
        };
        if answer.sequence != self.answered || answer.bytes != wanted || !is_known {
            return Err(Failure::Wrong);
        }
        self.answered += 1;
        self.pod = Some(answer.pod);
        if self.is_upload {
            self.head.clear();
        }
        Ok(())
    }
}
