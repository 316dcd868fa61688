//! What differs between kinds of requests that wait for one answer at a time: how one is asked, and how its answer is read
//! and checked. It must not know of sockets, clocks and schedules.

/// What the bytes of an answer have shown so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// More are to come.
    More,
    /// That was all of it, and it was right.
    Done {
        /// The Pod that answered.
        pod: u32,
        /// Bytes of payload.
        bytes: u64,
        /// How many of the bytes given last belong to it.
        used: usize,
        /// Whether the other side ends the connection behind it.
        is_last: bool,
    },
    /// It is not what was asked for.
    Wrong,
}

/// A kind of requests.
pub(crate) trait Dialect {
    /// An answer that is being read.
    type Answer: Default;

    /// Appends the request with this number to `out`.
    fn ask(&self, sequence: u64, out: &mut Vec<u8>);

    /// Makes `answer` ready for the answer to that request.
    fn expect(&self, answer: &mut Self::Answer, sequence: u64);

    /// Reads what came next. After anything but [`Read::More`] the answer is over.
    fn read(&self, answer: &mut Self::Answer, bytes: &[u8]) -> Read;
}
