//! One stream of a client: its request on the way to the engine, and the answer on the way back.

use super::as_h1::{self, Form};
use super::as_h2;
use super::pieces::{Next, Pieces};
use crate::l4::stream::{Feeder, Outward};
use crate::l7::h1::{framing, head};
use crate::worker::slab::Key;
use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use std::task::{Context, Poll};

/// Bytes that an answer's head may have.
const MAX_HEAD: usize = 64 << 10;

/// A request with its answer.
pub(super) struct Exchanged {
    /// The engine's connection for it.
    pub(super) key: Key,
    pub(super) feeder: Feeder,
    body: RecvStream,
    form: Form,
    /// Nothing more of the request comes.
    is_told: bool,
    /// Bytes of data that were fed, and that the client was not told may be followed by others.
    held: usize,
    reply: Reply,
    is_head: bool,
}

/// How far the answer has come.
enum Reply {
    Head(SendResponse<Bytes>),
    Body(SendStream<Bytes>, Pieces),
}

/// What becomes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on when somebody rings.
    Waits,
    /// It goes on once the client has taken more of what all streams sent.
    Starves,
    /// The answer is on its way, whole.
    Done,
    /// The client took it back, or is gone.
    Left,
    /// The engine has no whole answer for it.
    Broken,
}

impl Exchanged {
    /// A request whose head was fed.
    pub(super) fn new(
        key: Key,
        feeder: Feeder,
        (body, form): (RecvStream, Form),
        answer: SendResponse<Bytes>,
        is_head: bool,
    ) -> Self {
        Self {
            key,
            feeder,
            body,
            form,
            is_told: form == Form::Nothing,
            held: 0,
            reply: Reply::Head(answer),
            is_head,
        }
    }

    /// Moves bytes both ways; the answer takes `budget` at most.
    pub(super) fn pump(&mut self, context: &mut Context<'_>, budget: &mut usize) -> Fate {
        if !self.take_in(context) {
            return Fate::Left;
        }
        match self.give_out(context, budget) {
            Fate::Waits | Fate::Starves if self.is_reset(context) => Fate::Left,
            fate => fate,
        }
    }

    /// Tells the client that there is no whole answer.
    pub(super) fn reset(&mut self, reason: Reason) {
        match &mut self.reply {
            Reply::Head(answer) => answer.send_reset(reason),
            Reply::Body(stream, _) => stream.send_reset(reason),
        }
    }

    /// Feeds what there is of the request. False: the client is gone.
    fn take_in(&mut self, context: &mut Context<'_>) -> bool {
        self.let_more_come();
        while !self.is_told && self.feeder.room() > 0 {
            let form = self.form;
            match self.body.poll_data(context) {
                Poll::Ready(Some(Ok(data))) => {
                    self.held += data.len();
                    self.feeder.feed(|out| as_h1::data(out, &data, form));
                }
                Poll::Ready(Some(Err(_))) => return false,
                Poll::Ready(None) => match self.body.poll_trailers(context) {
                    Poll::Ready(Ok(trailers)) => {
                        self.is_told = true;
                        self.feeder
                            .feed(|out| as_h1::end(out, trailers.as_ref(), form));
                    }
                    Poll::Ready(Err(_)) => return false,
                    Poll::Pending => break,
                },
                Poll::Pending => break,
            }
        }
        true
    }

    /// What the engine has read makes room for more.
    fn let_more_come(&mut self) {
        let read = self.held.saturating_sub(self.feeder.unread());
        if read > 0 && self.body.flow_control().release_capacity(read).is_ok() {
            self.held -= read;
        }
    }

    fn is_reset(&mut self, context: &mut Context<'_>) -> bool {
        let reset = match &mut self.reply {
            Reply::Head(answer) => answer.poll_reset(context),
            Reply::Body(stream, _) => stream.poll_reset(context),
        };
        reset.is_ready()
    }

    /// Sends what there is of the answer, and may be sent.
    fn give_out(&mut self, context: &mut Context<'_>, budget: &mut usize) -> Fate {
        let is_head = self.is_head;
        loop {
            let reply = &mut self.reply;
            let step = self.feeder.empty(|bytes, outward| match reply {
                _ if outward == Outward::Cut => Err(Fate::Broken),
                Reply::Head(answer) => send_head(answer, bytes, outward, is_head),
                Reply::Body(stream, pieces) => {
                    send_body(stream, pieces, bytes, outward, context, budget).map(|()| None)
                }
            });
            match step {
                Ok(Some(body)) => self.reply = body,
                Ok(None) => {}
                Err(fate) => return fate,
            }
        }
    }
}

/// Sends a head, if it is there; what follows a final one.
fn send_head(
    answer: &mut SendResponse<Bytes>,
    bytes: &mut BytesMut,
    outward: Outward,
    is_head: bool,
) -> Result<Option<Reply>, Fate> {
    let mut fields = head::fields();
    let head = match head::response(bytes, &mut fields, MAX_HEAD) {
        Ok(Some(head)) => head,
        Ok(None) if outward == Outward::Open => return Err(Fate::Waits),
        Ok(None) | Err(_) => return Err(Fate::Broken),
    };
    let facts = framing::response(&head, is_head, false).map_err(|_| Fate::Broken)?;
    let mut response = as_h2::response(&head).map_err(|_| Fate::Broken)?;
    let length = head.length;
    bytes.advance(length);
    if facts.is_interim {
        return match answer.send_informational(response) {
            Ok(()) => Ok(None),
            Err(_) => Err(Fate::Left),
        };
    }
    let mut pieces = Pieces::new(facts.length).map_err(|_| Fate::Broken)?;
    let next = pieces.next(bytes).map_err(|_| Fate::Broken)?;
    let trailers = pieces.take_trailers();
    let is_last = next == Next::Over && trailers.is_none();
    if is_last {
        leave_out_length(response.headers_mut());
    }
    let stream = answer.send_response(response, is_last);
    let mut stream = stream.map_err(|_| Fate::Left)?;
    match (is_last, trailers) {
        (true, _) => Err(Fate::Done),
        (false, Some(trailers)) => Err(end(&mut stream, Some(trailers))),
        (false, None) => Ok(Some(Reply::Body(stream, pieces))),
    }
}

/// An answer of gRPC that has trailers alone is told by their being the head; its form here had to have a length.
fn leave_out_length(fields: &mut HeaderMap) {
    let kind = fields.get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        fields.remove(CONTENT_LENGTH);
    }
}

/// Sends a piece of a body, as far as the client lets it.
fn send_body(
    stream: &mut SendStream<Bytes>,
    pieces: &mut Pieces,
    bytes: &mut BytesMut,
    outward: Outward,
    context: &mut Context<'_>,
    budget: &mut usize,
) -> Result<(), Fate> {
    let length = match pieces.next(bytes).map_err(|_| Fate::Broken)? {
        Next::More if outward == Outward::Open => return Err(Fate::Waits),
        Next::More => return Err(Fate::Broken),
        Next::Over => return Err(end(stream, pieces.take_trailers())),
        Next::Data(length) => length,
    };
    if *budget == 0 {
        return Err(Fate::Starves);
    }
    stream.reserve_capacity(length);
    let mut room = stream.capacity();
    if room == 0 {
        room = match stream.poll_capacity(context) {
            Poll::Ready(Some(Ok(room))) => room,
            Poll::Ready(_) => return Err(Fate::Left),
            Poll::Pending => return Err(Fate::Waits),
        };
    }
    let n = length.min(room).min(*budget);
    *budget -= n;
    let is_last = n == length && pieces.is_last(bytes);
    pieces.took(n);
    let data = bytes.split_to(n).freeze();
    stream.send_data(data, is_last).map_err(|_| Fate::Left)?;
    if is_last { Err(Fate::Done) } else { Ok(()) }
}

fn end(stream: &mut SendStream<Bytes>, trailers: Option<HeaderMap>) -> Fate {
    let sent = match trailers {
        Some(trailers) => stream.send_trailers(trailers),
        None => stream.send_data(Bytes::new(), true),
    };
    if sent.is_ok() { Fate::Done } else { Fate::Left }
}
