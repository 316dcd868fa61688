//! Whether a request that a backend lost may be sent again. Pure.

/// Bytes of a request that are kept so that it can be sent again.
pub(crate) const REPLAY: usize = 16 << 10;

/// What is known of a request that was lost.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each decides by itself")]
pub(crate) struct Lost {
    /// The backend has sent something.
    pub(crate) is_answered: bool,
    /// Something of it was written.
    pub(crate) is_begun: bool,
    /// Sending it twice does what sending it once does.
    pub(crate) is_idempotent: bool,
    /// Everything that was read of it is still there.
    pub(crate) is_whole: bool,
}

impl Lost {
    /// Whether it may be sent again. A backend that has answered has done it; one that got something of it may have.
    pub(crate) fn may_be_sent_again(self) -> bool {
        !self.is_answered && self.is_whole && (!self.is_begun || self.is_idempotent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_no_harm_twice_is_sent_again() {
        let lost = |is_answered, is_begun, is_idempotent, is_whole| Lost {
            is_answered,
            is_begun,
            is_idempotent,
            is_whole,
        };
        for (lost, expected) in [
            (lost(false, false, false, true), true),
            (lost(false, true, true, true), true),
            (lost(false, true, false, true), false),
            (lost(false, true, true, false), false),
            (lost(true, true, true, true), false),
        ] {
            assert_eq!(lost.may_be_sent_again(), expected, "{lost:?}");
        }
    }
}
