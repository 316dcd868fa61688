//! How much of a body has passed, and its bytes in the framing that the receiver gets. Pure: bytes in, bytes out.

use super::chunks::ChunkReader;
use super::framing::Length;
use crate::l7::fault::Fault;

/// A body under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Over, or never there.
    Done,
    /// So many bytes are to come.
    Left(u64),
    /// In chunks.
    Chunks {
        /// Where its reader stands.
        reader: ChunkReader,
        /// The receiver gets chunks too; else bare data up to the end of the connection.
        as_chunks: bool,
        /// Bytes of data so far.
        passed: u64,
    },
    /// Up to the end of the connection.
    UntilEnd {
        /// The receiver gets chunks.
        as_chunks: bool,
    },
}

/// What became of the bytes given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// The first so many bytes are to be forwarded as they are; the others are not of this body.
    AsTheyAre(usize),
    /// So many were consumed, and what is to be forwarded stands in `out`.
    Rewritten(usize),
}

impl Body {
    /// The beginning of a body whose length is told so; `as_chunks`: what has no length of its own goes on in chunks.
    pub(crate) fn new(length: Length, as_chunks: bool) -> Self {
        match length {
            Length::None | Length::Exactly(0) => Self::Done,
            Length::Exactly(left) => Self::Left(left),
            Length::Chunked => Self::Chunks {
                reader: ChunkReader::default(),
                as_chunks,
                passed: 0,
            },
            Length::UntilEnd => Self::UntilEnd { as_chunks },
        }
    }

    /// Nothing more is to come.
    pub(crate) fn is_done(&self) -> bool {
        *self == Self::Done
    }

    /// Takes in bytes of the body. What it does not consume is not whole yet, or belongs to what follows. Appends to `out`
    /// only when it answers [`Passed::Rewritten`].
    ///
    /// # Errors
    /// The framing is broken, or more than `max` bytes of data came.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        max: u64,
    ) -> Result<Passed, Fault> {
        let _ = (bytes, out, max);
        Err(Fault::Malformed)
    }

    /// The sender's connection has ended. Whether the body is whole; if so, `out` gets what closes it.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) -> bool {
        let _ = out;
        self.is_done()
    }
}
