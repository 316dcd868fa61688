//! Whether a dial that its client did not wait for speaks against the backend. Pure.
//!
//! A healthy backend's kernel answers a SYN within a round trip, far below a second, whatever the process does; from
//! then on there is no dial. So no client can make it look bad: one that leaves at once counts for nothing, and for one
//! that stays there is an answer. Unanswered for so long are only packets that are lost twice, swallowed, or find the
//! backend's queue full; and failures count only in a row.

use crate::lb::network::{SnatReason, Source};

/// How long a dial has to be unanswered: a lost SYN is sent again after 1 s, and a fifth is for the answer's way.
const UNANSWERED_MS: u64 = 1_200;
/// How long the second dial to a backend has to be whose first was unanswered for a second: that both SYNs were lost is
/// unlikely, and many clients have no more than 2 s of patience.
const UNANSWERED_TWICE_MS: u64 = 500;

/// Which dial to a backend it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Imitates the client; another follows if no answer comes, as those to this client may not find their way.
    Imitating,
    /// The only one.
    Only,
    /// The one that followed.
    Second,
}

impl Turn {
    /// That of a dial whose backend sees `source`; `is_followed`: another may follow to the same backend.
    pub(super) fn of(source: Source, is_followed: bool) -> Self {
        match source {
            Source::Transparent if is_followed => Self::Imitating,
            Source::Transparent | Source::Snat(Some(SnatReason::NoAnswer)) => Self::Second,
            Source::Snat(_) | Source::Impossible(_) => Self::Only,
        }
    }
}

/// Whether a dial that was unanswered for so long when its client gave up has failed.
pub(super) fn has_failed(turn: Turn, unanswered_ms: u64) -> bool {
    match turn {
        Turn::Imitating => false,
        Turn::Only => unanswered_ms >= UNANSWERED_MS,
        Turn::Second => unanswered_ms >= UNANSWERED_TWICE_MS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dial_fails_with_its_client_once_a_lost_syn_would_have_been_answered() {
        for (turn, unanswered_ms, expected) in [
            (Turn::Only, 0, false),
            (Turn::Only, 1_199, false),
            (Turn::Only, 1_200, true),
            (Turn::Only, u64::MAX, true),
            (Turn::Second, 0, false),
            (Turn::Second, 499, false),
            (Turn::Second, 500, true),
            (Turn::Imitating, u64::MAX, false),
        ] {
            assert_eq!(
                has_failed(turn, unanswered_ms),
                expected,
                "{turn:?} {unanswered_ms}"
            );
        }
    }

    #[test]
    fn a_dial_that_imitates_is_followed_by_a_second_one() {
        for (source, is_followed, expected) in [
            (Source::Snat(None), false, Turn::Only),
            (Source::Transparent, true, Turn::Imitating),
            (Source::Transparent, false, Turn::Second),
            (
                Source::Snat(Some(SnatReason::NoAnswer)),
                false,
                Turn::Second,
            ),
            (
                Source::Snat(Some(SnatReason::PortsExhausted)),
                false,
                Turn::Only,
            ),
        ] {
            assert_eq!(Turn::of(source, is_followed), expected, "{source:?}");
        }
    }
}
