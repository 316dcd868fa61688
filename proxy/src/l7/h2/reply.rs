//! One stream of a client: its request on the way to the engine, and the answer on the way back.

use super::as_h1::Form;
use super::as_h2;
use super::flows::{self, Fate, Inflow, Outflow};
use super::pieces::{Next, Pieces};
use crate::l4::stream::{Feeder, Outward};
use crate::l7::h1::{framing, head};
use crate::worker::slab::Key;
use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use std::task::Context;

/// Bytes that an answer's head may have.
const MAX_HEAD: usize = 64 << 10;

/// A request with its answer.
pub(super) struct Exchanged {
    /// The engine's connection for it.
    pub(super) key: Key,
    pub(super) feeder: Feeder,
    request: Inflow,
    reply: Reply,
    is_head: bool,
}

/// How far the answer has come.
enum Reply {
    Head(SendResponse<Bytes>),
    Body(Outflow),
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
            request: Inflow::new(body, form),
            reply: Reply::Head(answer),
            is_head,
        }
    }

    /// Moves bytes both ways; the answer takes `budget` at most.
    pub(super) fn pump(&mut self, context: &mut Context<'_>, budget: &mut usize) -> Fate {
        if self.request.pump(&mut self.feeder, context).is_err() {
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
            Reply::Body(body) => body.reset(reason),
        }
    }

    /// The answer's head was sent, whatever became of the rest.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.reply, Reply::Body(_))
    }

    fn is_reset(&mut self, context: &mut Context<'_>) -> bool {
        match &mut self.reply {
            Reply::Head(answer) => answer.poll_reset(context).is_ready(),
            Reply::Body(body) => body.is_reset(context),
        }
    }

    /// Sends what there is of the answer, and may be sent.
    fn give_out(&mut self, context: &mut Context<'_>, budget: &mut usize) -> Fate {
        let is_head = self.is_head;
        loop {
            let reply = &mut self.reply;
            let step = self.feeder.empty(|bytes, outward| match reply {
                _ if outward == Outward::Cut => Err(Fate::Broken),
                Reply::Head(answer) => send_head(answer, bytes, outward, is_head),
                Reply::Body(body) => body.pump((bytes, outward), context, budget).map(|()| None),
            });
            match step {
                Ok(Some(body)) => self.reply = Reply::Body(body),
                Ok(None) => {}
                Err(fate) => return fate,
            }
        }
    }
}

/// Sends a head, if it is there; the body that follows a final one.
fn send_head(
    answer: &mut SendResponse<Bytes>,
    bytes: &mut BytesMut,
    outward: Outward,
    is_head: bool,
) -> Result<Option<Outflow>, Fate> {
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
    let is_over = pieces.next(bytes).map_err(|_| Fate::Broken)? == Next::Over;
    let trailers = pieces.take_trailers_if(is_over);
    let is_last = is_over && trailers.is_none();
    if is_last {
        leave_out_length(response.headers_mut());
    }
    let stream = answer.send_response(response, is_last);
    let mut stream = stream.map_err(|_| Fate::Left)?;
    match (is_last, trailers) {
        (true, _) => Err(Fate::Done),
        (false, Some(trailers)) => Err(flows::end(&mut stream, Some(trailers))),
        (false, None) => Ok(Some(Outflow::new(stream, pieces))),
    }
}

/// An answer of gRPC that has trailers alone is told by their being the head; its form here had to have a length.
fn leave_out_length(fields: &mut HeaderMap) {
    let kind = fields.get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        fields.remove(CONTENT_LENGTH);
    }
}
