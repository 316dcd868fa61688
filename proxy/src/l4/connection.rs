//! One forwarded connection, from the moment that both sides are connected.

use super::direction::{Direction, Room, Turn};
use super::ends::{Ends, Side, Verdict};
use super::socket::{Gone, Socket};
use crate::net::epoll::Readiness;

/// How long bytes already read may take to be delivered once their sender was reset.
pub(crate) const LAST_DELIVERY_MS: u64 = 1_000;
/// The same without any progress, towards a backend: it is near, so it does not read. A client may be far away.
const STALLED_MS: u64 = 50;

/// What the worker has to do after a connection was advanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing until a socket is ready.
    Wait,
    /// Advance it again after the others have had their turn.
    Again,
    /// Ask [`Forwarding::delivered`] and [`Forwarding::gives_up`] now and then until one is true.
    Deliver,
    /// Drop it.
    Close,
}

/// What is left to do for the side that stays when the other is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Farewell {
    to: Side,
    reset: bool,
    /// Bytes that were not delivered at the last look, and since when they are as many; none before the first look.
    left: Option<(u64, u64)>,
}

impl Farewell {
    /// A cut comes through as a cut.
    fn reset(to: Side) -> Self {
        let reset = true;
        Self {
            to,
            reset,
            left: None,
        }
    }

    /// What was sent is whole, and is delivered however long it takes.
    fn finish(to: Side) -> Self {
        let reset = false;
        Self {
            to,
            reset,
            left: None,
        }
    }
}

/// Both sides and both directions.
#[derive(Debug)]
pub(crate) struct Forwarding {
    client: Socket,
    backend: Socket,
    up: Direction,
    down: Direction,
    ends: Ends,
    farewell: Option<Farewell>,
}

impl Forwarding {
    /// A connection whose sides are connected and have moved nothing yet.
    pub(crate) fn new(client: Socket, backend: Socket) -> Self {
        Self {
            client,
            backend,
            up: Direction::default(),
            down: Direction::default(),
            ends: Ends::default(),
            farewell: None,
        }
    }

    /// The same with bytes that were read and not delivered.
    pub(crate) fn resumed(
        client: Socket,
        backend: Socket,
        to_backend: Vec<u8>,
        to_client: Vec<u8>,
    ) -> Self {
        Self {
            up: Direction::beginning_with(to_backend),
            down: Direction::beginning_with(to_client),
            ..Self::new(client, backend)
        }
    }

    /// The client's side.
    pub(crate) fn client(&self) -> &Socket {
        &self.client
    }

    /// Takes in what epoll reported of one side.
    pub(crate) fn note(&mut self, side: Side, readiness: Readiness) {
        match side {
            Side::Client => self.client.note(readiness),
            Side::Backend => self.backend.note(readiness),
        }
    }

    /// Bytes moved so far: client to backend, backend to client.
    pub(crate) fn moved(&self) -> (u64, u64) {
        (self.up.moved(), self.down.moved())
    }

    /// One direction has ended, the other has not; or one side is gone.
    pub(crate) fn half_closed(&self) -> bool {
        self.ends.half_closed() || self.farewell.is_some()
    }

    /// Moves what can be moved and acts on ends and resets.
    pub(crate) fn advance(&mut self, room: &mut Room) -> Next {
        if self.farewell.is_some() {
            return self.say_farewell(room);
        }
        let first = self.advance_direction(Side::Client, room);
        if first == Next::Close || self.farewell.is_some() {
            return self.conclude(first, room);
        }
        let second = self.advance_direction(Side::Backend, room);
        let next = match (first, second) {
            (_, Next::Close) => Next::Close,
            (Next::Again, _) => Next::Again,
            (_, second) => second,
        };
        self.conclude(next, room)
    }

    fn conclude(&mut self, next: Next, room: &mut Room) -> Next {
        if next != Next::Close {
            if self.farewell.is_none()
                && let Some(side) = self.gone_side()
            {
                self.on_gone(side);
            }
            if self.farewell.is_some() {
                return self.say_farewell(room);
            }
        }
        next
    }

    /// One turn of the direction that starts at `from`.
    fn advance_direction(&mut self, from: Side, room: &mut Room) -> Next {
        if self.ends.ended(from) {
            return Next::Wait;
        }
        let (direction, other, source, sink) = match from {
            Side::Client => (
                &mut self.up,
                &mut self.down,
                &mut self.client,
                &mut self.backend,
            ),
            Side::Backend => (
                &mut self.down,
                &mut self.up,
                &mut self.backend,
                &mut self.client,
            ),
        };
        let before = direction.moved();
        let turn = direction.turn(source, sink, room);
        if direction.moved() != before {
            other.answered();
        }
        match turn {
            Turn::Waiting | Turn::Failed => Next::Wait,
            Turn::Again => Next::Again,
            Turn::Ended if source.gone() == Some(Gone::Reset) => Next::Wait,
            Turn::Ended => match self.ends.on_end(from) {
                Verdict::EndWriting(side) => {
                    self.socket_mut(side).end_writing();
                    Next::Wait
                }
                _ => Next::Close,
            },
        }
    }

    /// A side that is gone and has nothing more to say: its bytes are read, or its sink takes no more of them.
    fn gone_side(&self) -> Option<Side> {
        [Side::Client, Side::Backend]
            .into_iter()
            .find(|side| self.socket(*side).gone().is_some())
    }

    fn on_gone(&mut self, side: Side) {
        if self.socket(side).gone() == Some(Gone::AfterEnd) && !self.ends.ended(side) {
            // Its end has not been read yet, but it is there: this was no cut.
            self.farewell = Some(Farewell::finish(side.other()));
            return;
        }
        self.farewell = Some(match self.ends.on_gone(side) {
            Verdict::Reset(to) => Farewell::reset(to),
            _ => Farewell::finish(side.other()),
        });
    }

    /// Delivers what the gone side sent, then ends or resets the side that stays.
    fn say_farewell(&mut self, room: &mut Room) -> Next {
        let Some(Farewell { to, reset, .. }) = self.farewell else {
            return Next::Wait;
        };
        if self.socket(to).gone().is_some() {
            return Next::Close;
        }
        let from = to.other();
        if !self.ends.ended(from) {
            let (direction, source, sink) = match from {
                Side::Client => (&mut self.up, &mut self.client, &mut self.backend),
                Side::Backend => (&mut self.down, &mut self.backend, &mut self.client),
            };
            match direction.turn(source, sink, room) {
                Turn::Again => return Next::Again,
                Turn::Waiting if direction.holds_bytes() || source.readable() => {
                    return Next::Deliver;
                }
                Turn::Waiting | Turn::Ended | Turn::Failed => {}
            }
            if !reset {
                self.ends.on_end(from);
                self.socket_mut(to).end_writing();
            }
        }
        if self.delivered() {
            self.close_after_farewell()
        } else {
            Next::Deliver
        }
    }

    /// Whether the side that stays has got everything.
    pub(crate) fn delivered(&self) -> bool {
        let Some(Farewell { to, .. }) = self.farewell else {
            return true;
        };
        self.socket(to).gone().is_some() || self.undelivered(to) == 0
    }

    /// Whether a reset has waited long enough for the bytes before it: `late` when it has had [`LAST_DELIVERY_MS`]. What
    /// a side sent before its own end is whole, and has as long as a half-closed connection may be silent.
    pub(crate) fn gives_up(&mut self, now_ms: u64, late: bool) -> bool {
        let Some(Farewell {
            to,
            reset: true,
            left,
        }) = self.farewell
        else {
            return false;
        };
        let now = self.undelivered(to);
        let since_ms = match left {
            Some((before, since_ms)) if before == now => since_ms,
            _ => now_ms,
        };
        self.farewell = Some(Farewell {
            left: Some((now, since_ms)),
            ..Farewell::reset(to)
        });
        late || to == Side::Backend && now_ms >= since_ms + STALLED_MS
    }

    /// Bytes read from the other side that `to` has not acknowledged.
    fn undelivered(&self, to: Side) -> u64 {
        let direction = match to {
            Side::Client => &self.down,
            Side::Backend => &self.up,
        };
        direction.held() + self.socket(to).unacknowledged()
    }

    /// Ends the side that stays in the way that was decided; the caller drops the connection.
    pub(crate) fn close_after_farewell(&mut self) -> Next {
        if let Some(Farewell {
            to, reset: true, ..
        }) = self.farewell
        {
            self.socket_mut(to).reset_on_close();
        }
        Next::Close
    }

    /// Whether the backend has sent all that it will, to the end: then it is whole, and the client may still have it. If
    /// so, only that is left to do.
    pub(crate) fn finish(&mut self) -> bool {
        let is_whole = self.ends.ended(Side::Backend)
            || self.backend.read_closed() && self.backend.gone() != Some(Gone::Reset)
            || self.backend.gone() == Some(Gone::AfterEnd);
        if is_whole && self.farewell.is_none() {
            self.farewell = Some(Farewell::finish(Side::Client));
        }
        is_whole
    }

    /// Makes the coming drop a reset on both sides.
    pub(crate) fn cut(&mut self) {
        self.client.reset_on_close();
        self.backend.reset_on_close();
    }

    /// Whether the kernel gathers bytes of a direction, so that [`Self::look_for_gathered`] is due now and then.
    pub(crate) fn gathering(&self) -> bool {
        self.up.gathering() || self.down.gathering()
    }

    /// Takes what the kernel has gathered so far to be worth a turn.
    pub(crate) fn look_for_gathered(&mut self) {
        if self.up.gathering() {
            self.client.suspect_readable();
        }
        if self.down.gathering() {
            self.backend.suspect_readable();
        }
    }

    /// Gives pipes back: the empty ones of a silent connection, or all of one that is about to be dropped.
    pub(crate) fn release_pipes(&mut self, room: &mut Room, dropped: bool) {
        for (direction, from) in [
            (&mut self.up, &self.client),
            (&mut self.down, &self.backend),
        ] {
            if dropped {
                direction.release(&mut room.pipes);
            } else {
                direction.release_idle(from, &mut room.pipes);
            }
        }
    }

    fn socket_mut(&mut self, side: Side) -> &mut Socket {
        match side {
            Side::Client => &mut self.client,
            Side::Backend => &mut self.backend,
        }
    }

    fn socket(&self, side: Side) -> &Socket {
        match side {
            Side::Client => &self.client,
            Side::Backend => &self.backend,
        }
    }
}
