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

/// Reads a request's head; nothing: more bytes are needed.
///
/// # Errors
/// What is to be answered: it breaks the grammar, or is longer than `max` bytes.
pub(crate) fn request<'f, 'b>(
    bytes: &'b [u8],
    fields: &'f mut Fields<'b>,
    max: usize,
) -> Result<Option<Request<'f, 'b>>, Fault> {
    let mut head = httparse::Request::new(&mut []);
    match head.parse_with_uninit_headers(bytes, fields) {
        Ok(httparse::Status::Complete(length)) => Ok(Some(Request {
            method: head.method.unwrap_or_default(),
            target: head.path.unwrap_or_default(),
            version: version(head.version)?,
            fields: head.headers,
            length,
        })),
        Ok(httparse::Status::Partial) if bytes.len() >= max => Err(Fault::HeadTooLarge),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(Fault::Malformed),
    }
}

/// Reads a response's head; nothing: more bytes are needed.
///
/// # Errors
/// [`Fault::BadResponse`]: it breaks the grammar, or is longer than `max` bytes.
pub(crate) fn response<'f, 'b>(
    bytes: &'b [u8],
    fields: &'f mut Fields<'b>,
    max: usize,
) -> Result<Option<Response<'f, 'b>>, Fault> {
    let mut head = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut head, bytes, fields) {
        Ok(httparse::Status::Complete(length)) => Ok(Some(Response {
            status: head.code.unwrap_or_default(),
            phrase: head.reason.unwrap_or_default(),
            version: version(head.version)?,
            fields: head.headers,
            length,
        })),
        Ok(httparse::Status::Partial) if bytes.len() < max => Ok(None),
        _ => Err(Fault::BadResponse),
    }
}

fn version(minor: Option<u8>) -> Result<Version, Fault> {
    match minor {
        Some(0) => Ok(Version::Http10),
        Some(1) => Ok(Version::Http11),
        _ => Err(Fault::VersionNotSupported),
    }
}
