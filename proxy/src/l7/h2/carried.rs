//! One stream to a backend: the engine's request on the way there, and the answer on the way back.

use super::as_h1;
use super::as_h2;
use super::flows::{self, Fate, Inflow, Outflow};
use super::pieces::{Next, Pieces};
use crate::l4::stream::{Feeder, Outward};
use crate::l7::h1::{framing, head};
use crate::worker::slab::Key;
use bytes::{Buf, Bytes, BytesMut};
use h2::Reason;
use h2::client::{ResponseFuture, SendRequest};
use http::Method;
use http::uri::Scheme;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Bytes that a request's head may have: the listener's limit is lower, and what the engine adds is little.
const MAX_HEAD: usize = 1 << 20;

/// A request with its answer.
pub(super) struct Carried {
    /// What the engine knows it by.
    pub(super) key: Key,
    pub(super) feeder: Feeder,
    ask: Ask,
    answer: Answer,
    to_head: bool,
    pub(super) began_ms: u64,
}

/// How far the request has come.
enum Ask {
    Head,
    Body(Outflow),
    Over,
}

/// How far the answer has come.
enum Answer {
    Unasked,
    Head(ResponseFuture),
    Body(Inflow),
}

/// What becomes of such a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It goes on when somebody rings.
    Waits,
    /// It goes on once the protocol lets another begin.
    Full,
    /// It goes on once the backend has taken more.
    Starves,
    /// The answer was fed whole.
    Done,
    /// The engine wants no more of it.
    Dropped,
    /// The backend gave it up.
    Lost,
    /// The backend never looked at it.
    Refused,
}

/// Where requests of a connection go.
pub(super) struct Towards<'t> {
    pub(super) requests: &'t mut SendRequest<Bytes>,
    /// The connection's.
    pub(super) waker: &'t Waker,
    pub(super) scheme: &'t Scheme,
    /// The host of requests that name none.
    pub(super) authority: &'t str,
}

impl Carried {
    /// A request of which nothing has come yet.
    pub(super) fn new(key: Key, feeder: Feeder, now_ms: u64) -> Self {
        Self {
            key,
            feeder,
            ask: Ask::Head,
            answer: Answer::Unasked,
            to_head: false,
            began_ms: now_ms,
        }
    }

    /// Moves bytes both ways; the request takes `budget` at most.
    pub(super) fn pump(
        &mut self,
        towards: &mut Towards<'_>,
        context: &mut Context<'_>,
        budget: &mut usize,
    ) -> End {
        let sent = self.give_out(towards, context, budget);
        let heard = match self.take_in(context) {
            Ok(()) => None,
            Err(error) => Some(if is_refusal(&error) {
                End::Refused
            } else {
                End::Lost
            }),
        };
        match (sent, heard) {
            _ if self.is_answered() => End::Done,
            (_, Some(end)) => end,
            _ if self.feeder.is_closed() => {
                self.give_up();
                End::Dropped
            }
            (Fate::Left, _) if matches!(self.ask, Ask::Head) => End::Refused,
            (Fate::Starves, _) if matches!(self.ask, Ask::Head) => End::Full,
            // The answer may come all the same, and tells if there is none.
            (Fate::Waits | Fate::Done | Fate::Left, _) => End::Waits,
            (Fate::Starves, _) => End::Starves,
            (Fate::Broken, _) => {
                self.give_up();
                End::Lost
            }
        }
    }

    fn is_answered(&self) -> bool {
        matches!(&self.answer, Answer::Body(body) if body.is_over())
    }

    /// Tells the backend that nobody waits for it.
    fn give_up(&mut self) {
        if let Ask::Body(body) = &mut self.ask {
            body.reset(Reason::CANCEL);
        }
        // Dropping both ends does it where the request was sent.
        self.ask = Ask::Over;
        self.answer = Answer::Unasked;
    }

    fn give_out(
        &mut self,
        towards: &mut Towards<'_>,
        context: &mut Context<'_>,
        budget: &mut usize,
    ) -> Fate {
        loop {
            let (ask, to_head) = (&mut self.ask, &mut self.to_head);
            let step = self.feeder.empty(|bytes, outward| match ask {
                Ask::Over => {
                    bytes.clear();
                    Err(Fate::Done)
                }
                _ if outward == Outward::Cut => Err(Fate::Broken),
                Ask::Head => send_head(towards, bytes, to_head).map(Some),
                Ask::Body(body) => body.pump((bytes, outward), context, budget).map(|()| None),
            });
            match step {
                Ok(Some((answer, body))) => {
                    self.answer = Answer::Head(answer);
                    self.ask = body.map_or(Ask::Over, Ask::Body);
                }
                Ok(None) => {}
                Err(fate) => {
                    if fate == Fate::Done {
                        self.ask = Ask::Over;
                    }
                    return fate;
                }
            }
        }
    }

    /// Feeds what there is of the answer.
    fn take_in(&mut self, context: &mut Context<'_>) -> Result<(), h2::Error> {
        if let Answer::Head(answer) = &mut self.answer {
            while let Poll::Ready(Some(interim)) = answer.poll_informational(context) {
                let (head, ()) = interim?.into_parts();
                let fed = |out: &mut BytesMut| as_h1::response_head(out, &head, false, false);
                if self.feeder.feed(fed).is_err() {
                    return Err(Reason::PROTOCOL_ERROR.into());
                }
            }
            let Poll::Ready(response) = Pin::new(answer).poll(context) else {
                return Ok(());
            };
            let (head, body) = response?.into_parts();
            let (has_body, to_head) = (!body.is_end_stream(), self.to_head);
            let fed = |out: &mut BytesMut| as_h1::response_head(out, &head, has_body, to_head);
            let Ok(form) = self.feeder.feed(fed) else {
                return Err(Reason::PROTOCOL_ERROR.into());
            };
            self.answer = Answer::Body(Inflow::new(body, form));
        }
        if let Answer::Body(body) = &mut self.answer {
            body.pump(&mut self.feeder, context)?;
            if body.is_over() {
                self.feeder.end();
            }
        }
        Ok(())
    }
}

/// The backend has not acted on the request: it says so, or has said before that it takes no more.
fn is_refusal(error: &h2::Error) -> bool {
    error.reason() == Some(Reason::REFUSED_STREAM)
        || error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR)
}

/// Sends a head, if it is there; where the answer will come, and the body that follows.
fn send_head(
    towards: &mut Towards<'_>,
    bytes: &mut BytesMut,
    to_head: &mut bool,
) -> Result<(ResponseFuture, Option<Outflow>), Fate> {
    if bytes.is_empty() {
        return Err(Fate::Waits);
    }
    let context = &mut Context::from_waker(towards.waker);
    match towards.requests.poll_ready(context) {
        Poll::Ready(Ok(())) => {}
        Poll::Ready(Err(_)) => return Err(Fate::Left),
        Poll::Pending => return Err(Fate::Starves),
    }
    let mut fields = head::fields();
    let head = match head::request(bytes, &mut fields, MAX_HEAD) {
        Ok(Some(head)) => head,
        Ok(None) => return Err(Fate::Waits),
        Err(_) => return Err(Fate::Broken),
    };
    let facts = framing::request(&head).map_err(|_| Fate::Broken)?;
    let request = as_h2::request(&head, towards.scheme.clone(), towards.authority);
    let request = request.map_err(|_| Fate::Broken)?;
    *to_head = request.method() == Method::HEAD;
    let (length, body_length) = (head.length, facts.length);
    bytes.advance(length);
    let mut pieces = Pieces::new(body_length).map_err(|_| Fate::Broken)?;
    let is_over = pieces.next(bytes).map_err(|_| Fate::Broken)? == Next::Over;
    let trailers = pieces.take_trailers_if(is_over);
    let is_last = is_over && trailers.is_none();
    let sent = towards.requests.send_request(request, is_last);
    let (answer, mut stream) = sent.map_err(|_| Fate::Left)?;
    if let Some(trailers) = trailers {
        flows::end(&mut stream, Some(trailers));
        return Ok((answer, None));
    }
    let body = (!is_last).then(|| Outflow::new(stream, pieces));
    Ok((answer, body))
}
