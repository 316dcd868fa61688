//! Random numbers by a seed, so that a failure can be had again.

/// A small random number generator: xorshift64. The seed must not be 0.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Less than `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// A place in a list of `length`.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }
}
