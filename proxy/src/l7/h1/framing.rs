//! What a head says of the message: how long its body is, whether the connection stays, what it asks for. One pass over
//! the fields; what can be read in two ways is refused.

use super::head::{Request, Response, Version};
use super::request_target;
use crate::l7::fault::Fault;

/// How the length of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// There is no body.
    None,
    /// So many bytes.
    Exactly(u64),
    /// In chunks.
    Chunked,
    /// Up to the end of the connection; responses only.
    UntilEnd,
}

/// What a request's head says.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is what one field says")]
pub(crate) struct RequestFacts<'b> {
    pub(crate) length: Length,
    /// The client wants to go on after the answer.
    pub(crate) keep_alive: bool,
    /// Of the target in absolute form, else of the Host field; with a port if it has one. Empty with HTTP/1.0 alone.
    pub(crate) host: &'b str,
    /// The target's path and query in origin form, or "*".
    pub(crate) path_and_query: &'b str,
    pub(crate) is_head: bool,
    /// Safe to send twice: GET, HEAD, OPTIONS, TRACE, PUT, DELETE.
    pub(crate) is_idempotent: bool,
    /// It asks for another protocol (`Connection: upgrade` with an `Upgrade` field), and may: HTTP/1.1.
    pub(crate) upgrade: bool,
    /// It waits for `100 Continue` before it sends its body.
    pub(crate) expects_continue: bool,
}

/// What a response's head says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseFacts {
    pub(crate) length: Length,
    /// The backend goes on after it.
    pub(crate) keep_alive: bool,
    /// From the `Keep-Alive: timeout=` field, in seconds.
    pub(crate) idle_timeout_s: Option<u32>,
    /// 101: the connection is another protocol's from here on.
    pub(crate) switches: bool,
    /// 1xx but 101: another response follows.
    pub(crate) is_interim: bool,
}

/// What a request's head says.
///
/// # Errors
/// It can be read in two ways, or cannot be forwarded.
pub(crate) fn request<'b>(head: &Request<'_, 'b>) -> Result<RequestFacts<'b>, Fault> {
    let is_http11 = head.version == Version::Http11;
    let mut hosts: Option<&'b str> = None;
    let mut length = Told::default();
    let mut connection = Connection::default();
    let mut protocol = None;
    let mut is_waiting = false;
    for field in head.fields {
        match Known::of(field.name) {
            Known::Other | Known::KeepAlive => {}
            Known::Host if hosts.is_some() => return Err(Fault::BadHost),
            Known::Host => hosts = Some(request_target::host(field.value)?),
            Known::ContentLength => length.content(field.value),
            Known::TransferEncoding => length.coding(field.value),
            Known::Connection => connection.read(field.value),
            Known::Upgrade => {
                let before = protocol.unwrap_or(true);
                protocol = Some(before && is_for_tunnels(field.value));
            }
            // Anything else that is expected is left to the backend (RFC 9110 lets it be ignored).
            Known::Expect => is_waiting |= field.value.eq_ignore_ascii_case(b"100-continue"),
        }
    }
    let length = length.of_request(is_http11)?;
    let target = request_target::read(head.method, head.target)?;
    let host = target.host.or(hosts).unwrap_or_default();
    if is_http11 && hosts.is_none_or(str::is_empty) {
        return Err(Fault::BadHost);
    }
    let is_head = head.method == "HEAD";
    Ok(RequestFacts {
        length,
        keep_alive: connection.stays(is_http11),
        host,
        path_and_query: target.path_and_query,
        is_head,
        is_idempotent: is_head
            || matches!(head.method, "GET" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"),
        upgrade: is_http11 && connection.upgrade && protocol == Some(true),
        expects_continue: is_http11
            && is_waiting
            && !matches!(length, Length::None | Length::Exactly(0)),
    })
}

/// What a response's head says; `to_head`: it answers HEAD, `upgraded`: the request asked for another protocol.
///
/// # Errors
/// [`Fault::BadResponse`]: it can be read in two ways, or switches protocols unasked.
pub(crate) fn response(
    head: &Response<'_, '_>,
    to_head: bool,
    upgraded: bool,
) -> Result<ResponseFacts, Fault> {
    let is_http11 = head.version == Version::Http11;
    let mut told = Told::default();
    let mut connection = Connection::default();
    let mut idle_timeout_s = None;
    for field in head.fields {
        match Known::of(field.name) {
            Known::ContentLength => told.content(field.value),
            Known::TransferEncoding => told.coding(field.value),
            Known::Connection => connection.read(field.value),
            Known::KeepAlive => idle_timeout_s = timeout(field.value).or(idle_timeout_s),
            _ => {}
        }
    }
    let switches = head.status == 101;
    if switches && !upgraded {
        return Err(Fault::BadResponse);
    }
    let has_none = matches!(head.status, 100..=199 | 204);
    let length = if has_none {
        Length::None
    } else {
        told.of_response(is_http11, to_head || head.status == 304)?
    };
    // Bytes of a body that must not be would be taken for the next response.
    let may_have_sent_one = has_none && told.is_told();
    Ok(ResponseFacts {
        length,
        keep_alive: connection.stays(is_http11) && length != Length::UntilEnd && !may_have_sent_one,
        idle_timeout_s,
        switches,
        is_interim: matches!(head.status, 100..=199) && !switches,
    })
}

/// The fields that are looked at.
#[derive(Clone, Copy)]
enum Known {
    Connection,
    ContentLength,
    Expect,
    Host,
    KeepAlive,
    TransferEncoding,
    Upgrade,
    Other,
}

impl Known {
    /// By its length first: most fields are none of them.
    fn of(name: &str) -> Self {
        let (known, full) = match name.len() {
            4 => (Self::Host, "host"),
            6 => (Self::Expect, "expect"),
            7 => (Self::Upgrade, "upgrade"),
            10 if name.as_bytes()[0] | 0x20 == b'k' => (Self::KeepAlive, "keep-alive"),
            10 => (Self::Connection, "connection"),
            14 => (Self::ContentLength, "content-length"),
            17 => (Self::TransferEncoding, "transfer-encoding"),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(full) {
            known
        } else {
            Self::Other
        }
    }
}

/// What the fields tell of a body's length.
#[derive(Clone, Copy, Default)]
struct Told {
    /// Of `Content-Length`.
    content: Option<u64>,
    /// `Content-Length` fields.
    contents: usize,
    /// One of them is no number, or they differ.
    is_wrong: bool,
    /// `Transfer-Encoding` fields.
    codings: usize,
    /// One of them is not `chunked` alone.
    is_foreign: bool,
}

impl Told {
    fn content(&mut self, value: &[u8]) {
        let number = number(value);
        self.is_wrong |= number.is_none() || self.contents > 0 && number != self.content;
        self.content = number;
        self.contents += 1;
    }

    fn coding(&mut self, value: &[u8]) {
        self.is_foreign |= !value.eq_ignore_ascii_case(b"chunked");
        self.codings += 1;
    }

    fn is_told(&self) -> bool {
        self.codings > 0 || self.contents > 0 && self.content != Some(0)
    }

    /// There is at most one field, and it tells the length in one way.
    fn of_request(&self, is_http11: bool) -> Result<Length, Fault> {
        match (self.codings, self.contents, self.content) {
            (0, 0, _) => Ok(Length::None),
            (0, 1, Some(length)) => Ok(Length::Exactly(length)),
            (1, 0, _) if !is_http11 => Err(Fault::AmbiguousLength),
            (_, 0, _) if self.is_foreign => Err(Fault::NotImplemented),
            (1, 0, _) => Ok(Length::Chunked),
            _ => Err(Fault::AmbiguousLength),
        }
    }

    /// As of a request, but the same `Content-Length` may be repeated: backends behind several layers do that, and one of
    /// them goes on. `is_bare`: the fields tell of a body that is not sent.
    fn of_response(&self, is_http11: bool, is_bare: bool) -> Result<Length, Fault> {
        let length = match (self.codings, self.contents, self.content) {
            (0, 0, _) => Length::UntilEnd,
            (0, _, Some(length)) if !self.is_wrong => Length::Exactly(length),
            (1, 0, _) if is_http11 && !self.is_foreign => Length::Chunked,
            _ => return Err(Fault::BadResponse),
        };
        Ok(if is_bare { Length::None } else { length })
    }
}

/// Digits alone: no sign, no space, no list.
fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = u64::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// What `Connection` fields ask for.
#[derive(Clone, Copy, Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl Connection {
    fn read(&mut self, value: &[u8]) {
        for token in tokens(value) {
            match token.len() {
                5 => self.close |= token.eq_ignore_ascii_case(b"close"),
                7 => self.upgrade |= token.eq_ignore_ascii_case(b"upgrade"),
                10 => self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive"),
                _ => {}
            }
        }
    }

    fn stays(self, is_http11: bool) -> bool {
        !self.close && (is_http11 || self.keep_alive)
    }
}

/// The members of a list, which may be empty.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let members = value.split(|byte| *byte == b',');
    members.map(<[u8]>::trim_ascii)
}

/// Whether an `Upgrade` field names protocols alone whose bytes may pass unread. HTTP/2 is none of them: its requests
/// would go past the routes. Nor is TLS, which nobody here would terminate.
fn is_for_tunnels(value: &[u8]) -> bool {
    tokens(value).all(|protocol| {
        let name = protocol.split(|byte| *byte == b'/').next();
        let name = name.unwrap_or_default().trim_ascii();
        let refused: [&[u8]; 4] = [b"h2c", b"h2", b"http", b"tls"];
        !refused.iter().any(|no| name.eq_ignore_ascii_case(no))
    })
}

/// The `timeout` of a `Keep-Alive` field, in seconds.
fn timeout(value: &[u8]) -> Option<u32> {
    tokens(value).find_map(|parameter| {
        let (name, seconds) = parameter.split_at_checked(b"timeout=".len())?;
        let seconds = name.eq_ignore_ascii_case(b"timeout=").then_some(seconds)?;
        u32::try_from(number(seconds)?).ok()
    })
}

#[cfg(test)]
mod tests;
