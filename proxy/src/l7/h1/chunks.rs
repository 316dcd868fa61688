//! Bodies in chunks: where data stands, and where the body ends. Strict: signs, empty sizes, sizes beyond 16 digits,
//! bare line feeds and anything between data and its line end are refused; extensions are read over.

use crate::l7::fault::Fault;

/// What stands next in the bytes given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Nothing but framing; all `skip` bytes are consumed.
    Framing { skip: usize },
    /// After `skip` bytes of framing, so many bytes of data.
    Data { skip: usize, length: usize },
    /// After `skip` bytes of framing a line of the trailer of this length, its line end not counted (but consumed).
    Trailer { skip: usize, length: usize },
    /// After `skip` bytes the body is over.
    End { skip: usize },
}

/// Where a reader of chunks stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChunkReader {
    _todo: u64,
}

impl ChunkReader {
    /// Reads on. A line that is not whole stays with the caller: `Framing { skip: 0 }` says that more bytes are needed.
    ///
    /// # Errors
    /// The framing is broken.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Piece, Fault> {
        let _ = bytes;
        Err(Fault::Malformed)
    }
}
