//! When a forwarded connection ends, and how the other side is told. Pure: no sockets, no clock.
//!
//! The rules (RST in, RST out):
//! - an end (FIN) read from one side is passed on once everything before it is delivered; after both ends, close;
//! - a reset from a side that had not ended becomes a reset at the other side, after the bytes read are delivered;
//! - a reset from a side that had already ended is never passed on: what it sent is whole, and is delivered.

/// One of the two sides of a forwarded connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who connected to us.
    Client,
    /// Whom we connected to.
    Backend,
}

impl Side {
    /// The side across.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Tell this side that no more comes, and go on with the other direction.
    EndWriting(Side),
    /// Both directions have ended: close.
    Close,
    /// The other side is gone: deliver to this side what was read, then reset it.
    Reset(Side),
    /// The other side is gone after its end: deliver to this side what was read and the end, then close.
    Finish(Side),
}

/// Which sides have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    client: bool,
    backend: bool,
}

impl Ends {
    /// An end was read from `side` and everything before it is delivered.
    pub(crate) fn on_end(&mut self, side: Side) -> Verdict {
        match side {
            Side::Client => self.client = true,
            Side::Backend => self.backend = true,
        }
        if self.ended(side.other()) {
            Verdict::Close
        } else {
            Verdict::EndWriting(side.other())
        }
    }

    /// `side` is gone, and all that it sent has been read and delivered as far as possible.
    pub(crate) fn on_gone(self, side: Side) -> Verdict {
        if self.ended(side) {
            Verdict::Finish(side.other())
        } else {
            Verdict::Reset(side.other())
        }
    }

    /// Whether `side` has ended its direction.
    pub(crate) fn ended(self, side: Side) -> bool {
        match side {
            Side::Client => self.client,
            Side::Backend => self.backend,
        }
    }

    /// Exactly one direction has ended.
    pub(crate) fn half_closed(self) -> bool {
        self.client != self.backend
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Side::{Backend, Client};

    #[test]
    fn the_second_end_closes() {
        let mut ends = Ends::default();
        assert_eq!(ends.on_end(Client), Verdict::EndWriting(Backend));
        assert!(ends.half_closed());
        assert_eq!(ends.on_end(Backend), Verdict::Close);
        assert!(!ends.half_closed());
    }

    #[test]
    fn a_reset_before_the_end_is_passed_on() {
        assert_eq!(Ends::default().on_gone(Backend), Verdict::Reset(Client));
        let mut ends = Ends::default();
        ends.on_end(Client);
        assert_eq!(ends.on_gone(Backend), Verdict::Reset(Client));
    }

    #[test]
    fn a_reset_after_the_end_is_not_passed_on() {
        let mut ends = Ends::default();
        ends.on_end(Backend);
        assert_eq!(ends.on_gone(Backend), Verdict::Finish(Client));
    }
}
