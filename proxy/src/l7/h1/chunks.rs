//! Bodies in chunks: where data stands, and where the body ends. Strict: signs, empty sizes, sizes beyond 16 digits,
//! bare line feeds and anything between data and its line end are refused; extensions are read over.

use crate::l7::fault::Fault;

/// Longest line with a chunk's size, its line end included, in bytes: room for extensions that nobody sends.
const MAX_SIZE_LINE: usize = 4_096;
/// Hexadecimal digits of a size: what fits into 64 bits, leading zeroes counted.
const MAX_DIGITS: usize = 16;
/// All lines of a trailer with their line ends, in bytes.
const MAX_TRAILER: usize = 8_192;
/// Lines of a trailer.
const MAX_TRAILER_LINES: u8 = 64;

/// What stands next in the bytes given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Nothing but `skip` bytes of framing, which are consumed; more bytes are needed.
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
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the line with a chunk's size.
    #[default]
    Size,
    /// So many bytes of data are to come; never 0.
    Data(u64),
    /// Before the line end behind data.
    DataEnd,
    /// Behind the last chunk: before the trailer's next line, or the empty one.
    Trailer { bytes: u16, lines: u8 },
    /// Behind the body.
    Over,
}

impl ChunkReader {
    /// Reads on: all framing up to data, a line of the trailer or the end. A line that is not whole stays with the caller;
    /// it has at most 8 KiB. What a prefix decides, no further byte changes.
    ///
    /// # Errors
    /// The framing is broken, or the trailer too long.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Piece, Fault> {
        let mut skip = 0;
        loop {
            let rest = &bytes[skip..];
            match self.state {
                State::Size => {
                    let Some((size, length)) = size_line(rest)? else {
                        return Ok(Piece::Framing { skip });
                    };
                    skip += length;
                    self.state = match size {
                        0 => State::Trailer { bytes: 0, lines: 0 },
                        _ => State::Data(size),
                    };
                }
                State::Data(_) if rest.is_empty() => return Ok(Piece::Framing { skip }),
                State::Data(left) => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.state = match left - length as u64 {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    };
                    return Ok(Piece::Data { skip, length });
                }
                State::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        skip += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Piece::Framing { skip }),
                    _ => return Err(Fault::Malformed),
                },
                State::Trailer { bytes, lines } => {
                    let Some(line) = trailer_line(rest, bytes, lines)? else {
                        return Ok(Piece::Framing { skip });
                    };
                    if line.is_empty() {
                        self.state = State::Over;
                        return Ok(Piece::End { skip: skip + 2 });
                    }
                    let length = line.len();
                    // Not above MAX_TRAILER: the line was found within what is left of it.
                    let bytes = u16::try_from(usize::from(bytes) + length + 2).unwrap_or(u16::MAX);
                    let lines = lines + 1;
                    self.state = State::Trailer { bytes, lines };
                    return Ok(Piece::Trailer { skip, length });
                }
                State::Over => return Ok(Piece::End { skip }),
            }
        }
    }

    /// Lines of the trailer that were read so far.
    pub(super) fn trailer_lines(&self) -> u8 {
        match self.state {
            State::Trailer { lines, .. } => lines,
            _ => 0,
        }
    }
}

/// A chunk's size, and the length of its line with the line end; nothing: it is not whole.
fn size_line(bytes: &[u8]) -> Result<Option<(u64, usize)>, Fault> {
    let seen = &bytes[..bytes.len().min(MAX_SIZE_LINE)];
    let mut size = 0;
    let mut digits = 0;
    while let Some(digit) = seen.get(digits).and_then(|byte| hex(*byte)) {
        if digits == MAX_DIGITS {
            return Err(Fault::Malformed);
        }
        size = size << 4 | digit;
        digits += 1;
    }
    let end = match &seen[digits..] {
        [] => return Ok(None),
        _ if digits == 0 => return Err(Fault::Malformed),
        [b'\r', ..] => digits,
        extensions => {
            let end = extensions.iter().position(|byte| !is_text(*byte));
            let end = end.unwrap_or(extensions.len());
            // White space belongs to the extension that follows it, so it cannot stand alone.
            let first = extensions[..end].iter().find(|byte| !is_space(**byte));
            if first.map_or(end < extensions.len(), |first| *first != b';') {
                return Err(Fault::Malformed);
            }
            digits + end
        }
    };
    match &seen[end..] {
        [b'\r', b'\n', ..] => Ok(Some((size, end + 2))),
        [] | [b'\r'] if seen.len() < MAX_SIZE_LINE => Ok(None),
        _ => Err(Fault::Malformed),
    }
}

/// The next line of the trailer without its line end; nothing: it is not whole. So many bytes and lines came before it.
fn trailer_line(rest: &[u8], bytes: u16, lines: u8) -> Result<Option<&[u8]>, Fault> {
    let room = MAX_TRAILER - usize::from(bytes);
    let seen = &rest[..rest.len().min(room)];
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return if seen.len() < room {
            Ok(None)
        } else {
            Err(Fault::HeadTooLarge)
        };
    };
    let line = seen[..end].strip_suffix(b"\r").ok_or(Fault::Malformed)?;
    if !line.is_empty() && lines == MAX_TRAILER_LINES {
        return Err(Fault::HeadTooLarge);
    }
    if !line.is_empty() && !is_field(line) {
        return Err(Fault::Malformed);
    }
    Ok(Some(line))
}

/// Whether it is a name, a colon and a value. A folded line has no name.
fn is_field(line: &[u8]) -> bool {
    let name = line.iter().position(|byte| !is_token(*byte));
    name.is_some_and(|end| {
        end > 0 && line[end] == b':' && line[end + 1..].iter().copied().all(is_text)
    })
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// No control byte, but for the tab.
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// May stand in a name (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
