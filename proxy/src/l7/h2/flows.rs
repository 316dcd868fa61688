//! The two directions of a stream, the same for a client's as for a backend's: from HTTP/2 to the engine, and back.

use super::as_h1::{self, Form};
use super::pieces::{Next, Pieces};
use crate::l4::stream::{Feeder, Outward};
use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use std::task::{Context, Poll};

/// What becomes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on when somebody rings.
    Waits,
    /// It goes on once the other side has taken more of what all streams sent.
    Starves,
    /// What was to be sent is on its way, whole.
    Done,
    /// The other side gave it up, or is gone.
    Left,
    /// What the engine has for it is not whole.
    Broken,
}

/// A body on its way to the engine.
pub(super) struct Inflow {
    body: RecvStream,
    form: Form,
    /// Nothing more comes.
    is_over: bool,
    /// Bytes of data that were fed, and that the sender was not told may be followed by others.
    held: usize,
}

impl Inflow {
    /// A body whose head was fed in `form`.
    pub(super) fn new(body: RecvStream, form: Form) -> Self {
        Self {
            body,
            form,
            is_over: form == Form::Nothing,
            held: 0,
        }
    }

    /// All of it was fed.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Feeds what there is and has room.
    ///
    /// # Errors
    /// The sender gave it up.
    pub(super) fn pump(
        &mut self,
        feeder: &mut Feeder,
        context: &mut Context<'_>,
    ) -> Result<(), h2::Error> {
        self.let_more_come(feeder);
        let form = self.form;
        while !self.is_over && feeder.room() > 0 {
            match self.body.poll_data(context) {
                Poll::Ready(Some(data)) => {
                    let data = data?;
                    self.held += data.len();
                    feeder.feed(|out| as_h1::data(out, &data, form));
                }
                Poll::Ready(None) => {
                    let Poll::Ready(trailers) = self.body.poll_trailers(context) else {
                        break;
                    };
                    let trailers = trailers?;
                    self.is_over = true;
                    feeder.feed(|out| as_h1::end(out, trailers.as_ref(), form));
                }
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// What the engine has read makes room for more.
    fn let_more_come(&mut self, feeder: &Feeder) {
        let read = self.held.saturating_sub(feeder.unread());
        if read > 0 && self.body.flow_control().release_capacity(read).is_ok() {
            self.held -= read;
        }
    }
}

/// A body on its way from the engine.
pub(super) struct Outflow {
    stream: SendStream<Bytes>,
    pieces: Pieces,
}

impl Outflow {
    /// A body whose head was sent.
    pub(super) fn new(stream: SendStream<Bytes>, pieces: Pieces) -> Self {
        Self { stream, pieces }
    }

    /// Sends a piece of what stands in `bytes`, as far as the receiver lets it, and of `budget` at most.
    ///
    /// # Errors
    /// Why it does not go on now.
    pub(super) fn pump(
        &mut self,
        (bytes, outward): (&mut BytesMut, Outward),
        context: &mut Context<'_>,
        budget: &mut usize,
    ) -> Result<(), Fate> {
        let length = match self.pieces.next(bytes).map_err(|_| Fate::Broken)? {
            Next::More if outward == Outward::Open => return Err(Fate::Waits),
            Next::More => return Err(Fate::Broken),
            Next::Over => return Err(end(&mut self.stream, self.pieces.take_trailers())),
            Next::Data(length) => length,
        };
        if *budget == 0 {
            return Err(Fate::Starves);
        }
        let stream = &mut self.stream;
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
        let is_last = n == length && self.pieces.is_last(bytes);
        self.pieces.took(n);
        let data = bytes.split_to(n).freeze();
        stream.send_data(data, is_last).map_err(|_| Fate::Left)?;
        if is_last { Err(Fate::Done) } else { Ok(()) }
    }

    /// Whether the receiver has given it up.
    pub(super) fn is_reset(&mut self, context: &mut Context<'_>) -> bool {
        self.stream.poll_reset(context).is_ready()
    }

    /// Gives it up.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }
}

/// Ends a body whose data was sent.
pub(super) fn end(stream: &mut SendStream<Bytes>, trailers: Option<HeaderMap>) -> Fate {
    let sent = match trailers {
        Some(trailers) => stream.send_trailers(trailers),
        None => stream.send_data(Bytes::new(), true),
    };
    if sent.is_ok() { Fate::Done } else { Fate::Left }
}
