//! How much of a body has passed, and its bytes in the framing that the receiver gets. Pure: bytes in, bytes out.

use super::chunks::{ChunkReader, Piece};
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
    /// only when it answers [`Passed::Rewritten`]; what it appends is at most 32 bytes longer than what it consumes.
    ///
    /// # Errors
    /// The framing is broken, or more than `max` bytes of data came in chunks. (A length told in advance is compared with it
    /// in advance, and only responses go on up to the end of the connection.)
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        max: u64,
    ) -> Result<Passed, Fault> {
        match self {
            Self::Done => Ok(Passed::AsTheyAre(0)),
            Self::Left(left) => {
                let length = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= length as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(Passed::AsTheyAre(length))
            }
            Self::Chunks { .. } => self.take_chunks(bytes, out, max).map(Passed::Rewritten),
            Self::UntilEnd { as_chunks: true } => {
                write_data(out, bytes, true);
                Ok(Passed::Rewritten(bytes.len()))
            }
            Self::UntilEnd { as_chunks: false } => Ok(Passed::AsTheyAre(bytes.len())),
        }
    }

    /// All whole pieces; how many bytes they are.
    fn take_chunks(&mut self, bytes: &[u8], out: &mut Vec<u8>, max: u64) -> Result<usize, Fault> {
        let Self::Chunks {
            reader,
            as_chunks,
            passed,
        } = self
        else {
            return Ok(0);
        };
        let mut at = 0;
        loop {
            let is_first_behind = reader.trailer_lines() == 0;
            match reader.next(&bytes[at..])? {
                Piece::Framing { skip } => return Ok(at + skip),
                Piece::Data { skip, length } => {
                    *passed = passed.saturating_add(length as u64);
                    if *passed > max {
                        return Err(Fault::BodyTooLarge);
                    }
                    let end = at + skip + length;
                    write_data(out, &bytes[at + skip..end], *as_chunks);
                    at = end;
                }
                Piece::Trailer { skip, length } => {
                    let line = &bytes[at + skip..][..length];
                    at += skip + length + 2;
                    if *as_chunks && is_first_behind {
                        out.extend_from_slice(LAST_CHUNK);
                    }
                    if *as_chunks && may_stand_in_trailer(line) {
                        out.extend_from_slice(line);
                        out.extend_from_slice(LINE_END);
                    }
                }
                Piece::End { skip } => {
                    if *as_chunks && is_first_behind {
                        out.extend_from_slice(LAST_CHUNK);
                    }
                    if *as_chunks {
                        out.extend_from_slice(LINE_END);
                    }
                    *self = Self::Done;
                    return Ok(at + skip);
                }
            }
        }
    }

    /// The sender's connection has ended. Whether the body is whole; if so, `out` gets what closes it.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) -> bool {
        if let Self::UntilEnd { as_chunks } = *self {
            *self = Self::Done;
            if as_chunks {
                out.extend_from_slice(LAST_CHUNK);
                out.extend_from_slice(LINE_END);
            }
        }
        self.is_done()
    }
}

const LINE_END: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n";

/// Appends data, as a chunk of its own or bare. A chunk of no data would be the last one, so it is none.
fn write_data(out: &mut Vec<u8>, data: &[u8], as_chunk: bool) {
    if !as_chunk || data.is_empty() {
        return out.extend_from_slice(data);
    }
    out.reserve(data.len() + 20);
    let digits = (usize::BITS - data.len().leading_zeros()).div_ceil(4);
    let digit = |place| b"0123456789abcdef"[data.len() >> (4 * place) & 0xf];
    out.extend((0..digits).rev().map(digit));
    out.extend_from_slice(LINE_END);
    out.extend_from_slice(data);
    out.extend_from_slice(LINE_END);
}

/// Fields that say how a message is framed, where it goes, who sends it or how it is read (RFC 9110, 6.5.1). Behind the
/// body they come too late, and receivers that merge trailers into heads would believe them.
const NOT_IN_TRAILERS: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "www-authenticate",
    "x-real-ip",
];
/// And all whose names begin so: whom the request came from, and by which way.
const NOT_IN_TRAILERS_PREFIX: &[u8] = b"x-forwarded-";

fn may_stand_in_trailer(line: &[u8]) -> bool {
    let end = line.iter().position(|byte| *byte == b':');
    let name = &line[..end.unwrap_or(line.len())];
    let is_same = |other: &&str| name.eq_ignore_ascii_case(other.as_bytes());
    let begins = name.get(..NOT_IN_TRAILERS_PREFIX.len());
    !NOT_IN_TRAILERS.iter().any(is_same)
        && !begins.is_some_and(|begin| begin.eq_ignore_ascii_case(NOT_IN_TRAILERS_PREFIX))
}

#[cfg(test)]
mod tests;
