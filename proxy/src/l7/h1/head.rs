//! Heads: the lines before the body. Strict: what peers might read in another way is refused.

use crate::l7::fault::Fault;
use std::mem::MaybeUninit;

/// Fields that a head may have.
pub(crate) const MAX_FIELDS: usize = 100;

/// Room for fields, on the caller's stack.
pub(crate) type Fields<'b> = [MaybeUninit<httparse::Header<'b>>; MAX_FIELDS];

/// Room for fields.
pub(crate) const fn fields<'b>() -> Fields<'b> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

/// The version that a head names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A request's head, as views into the bytes that it was read from.
#[derive(Debug)]
pub(crate) struct Request<'f, 'b> {
    pub(crate) method: &'b str,
    /// As it was sent.
    pub(crate) target: &'b str,
    pub(crate) version: Version,
    pub(crate) fields: &'f [httparse::Header<'b>],
    /// Bytes of the head, its empty line included.
    pub(crate) length: usize,
}

/// A response's head, as views into the bytes that it was read from.
#[derive(Debug)]
pub(crate) struct Response<'f, 'b> {
    /// 100 to 999.
    pub(crate) status: u16,
    /// What stands after the status; may be empty.
    pub(crate) phrase: &'b str,
    pub(crate) version: Version,
    pub(crate) fields: &'f [httparse::Header<'b>],
    /// Bytes of the head, its empty line included.
    pub(crate) length: usize,
}

/// Longest method, in bytes; the longest registered one has 17 (RFC 9110 says that longer ones are answered with 501).
const MAX_METHOD: usize = 32;

/// Reads a request's head; nothing: more bytes are needed. What a prefix decides, no further byte changes.
///
/// # Errors
/// What is to be answered: it breaks the grammar, or is longer than `max` bytes.
pub(crate) fn request<'f, 'b>(
    bytes: &'b [u8],
    fields: &'f mut Fields<'b>,
    max: usize,
) -> Result<Option<Request<'f, 'b>>, Fault> {
    let seen = &bytes[..bytes.len().min(max)];
    let before = empty_line(seen)?;
    let lines = &seen[before..];
    let mut head = httparse::Request::new(&mut []);
    let length = match head.parse_with_uninit_headers(lines, fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if seen.len() < max => return Ok(None),
        Ok(httparse::Status::Partial) if lines.contains(&b'\n') => return Err(Fault::HeadTooLarge),
        Ok(httparse::Status::Partial) => return Err(Fault::TargetTooLong),
        Err(error) => return Err(refusal(error, head.method, head.path, lines)),
    };
    let method = head.method.unwrap_or_default();
    if !has_whole_line_ends(&lines[..length]) {
        return Err(Fault::Malformed);
    }
    if method.len() > MAX_METHOD || method == "CONNECT" {
        return Err(Fault::NotImplemented);
    }
    Ok(Some(Request {
        method,
        target: head.path.unwrap_or_default(),
        version: version(head.version).ok_or(Fault::VersionNotSupported)?,
        fields: head.headers,
        length: before + length,
    }))
}

/// Reads a response's head; nothing: more bytes are needed. What a prefix decides, no further byte changes.
///
/// # Errors
/// [`Fault::BadResponse`]: it breaks the grammar, or is longer than `max` bytes.
pub(crate) fn response<'f, 'b>(
    bytes: &'b [u8],
    fields: &'f mut Fields<'b>,
    max: usize,
) -> Result<Option<Response<'f, 'b>>, Fault> {
    let seen = &bytes[..bytes.len().min(max)];
    // Unlike a request, nothing may stand before it: those bytes would be of a body that was too long.
    if matches!(seen, [b'\r' | b'\n', ..]) {
        return Err(Fault::BadResponse);
    }
    let mut head = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut head, seen, fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if seen.len() < max => return Ok(None),
        _ => return Err(Fault::BadResponse),
    };
    let status = head.code.unwrap_or_default();
    if status < 100 || !has_whole_line_ends(&seen[..length]) {
        return Err(Fault::BadResponse);
    }
    Ok(Some(Response {
        status,
        // Left out where it is not ASCII: it is for people, and clients must not read it.
        phrase: head.reason.unwrap_or_default(),
        version: version(head.version).ok_or(Fault::BadResponse)?,
        fields: head.headers,
        length,
    }))
}

/// Length of the empty line before a request line. Some clients send one after a body (RFC 9112, 2.2); more are refused.
fn empty_line(seen: &[u8]) -> Result<usize, Fault> {
    match seen {
        [b'\r', b'\n', b'\r' | b'\n', ..] | [b'\n', ..] => Err(Fault::Malformed),
        [b'\r', b'\n', ..] => Ok(2),
        _ => Ok(0),
    }
}

/// Whether each line ends with CR and LF; a bare LF would end it too for the parser. No other byte of a head that was
/// parsed can be one of them.
fn has_whole_line_ends(head: &[u8]) -> bool {
    // Without a branch on the way, so that many bytes are compared at once.
    let pairs = head.iter().zip(head.iter().skip(1));
    let bare = pairs.fold(0, |bare, (before, byte)| {
        bare | u8::from(*byte == b'\n' && *before != b'\r')
    });
    bare == 0
}

/// Why the parser stopped, having read so much.
fn refusal(
    error: httparse::Error,
    method: Option<&str>,
    target: Option<&str>,
    lines: &[u8],
) -> Fault {
    let after_method = method.map_or(0, |method| method.len() + 1);
    match (error, method, target) {
        (httparse::Error::TooManyHeaders, ..) => Fault::HeadTooLarge,
        // HTTP/2's preface is such a request, too.
        (httparse::Error::Version, _, Some(target)) => {
            match &lines[after_method + target.len() + 1..] {
                [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', ..] => Fault::VersionNotSupported,
                _ => Fault::Malformed,
            }
        }
        // HTTP/0.9: the line ends after the target.
        (httparse::Error::Token, Some(_), None) => {
            let mut target = lines[after_method..].iter();
            match target.position(|byte| matches!(byte, 0..=b' ' | 0x7f)) {
                Some(end) if end > 0 && lines[after_method + end] == b'\r' => {
                    Fault::VersionNotSupported
                }
                _ => Fault::Malformed,
            }
        }
        _ => Fault::Malformed,
    }
}

fn version(minor: Option<u8>) -> Option<Version> {
    match minor {
        Some(0) => Some(Version::Http10),
        Some(1) => Some(Version::Http11),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
