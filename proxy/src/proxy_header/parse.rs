//! Reading a header out of what has come so far. What a prefix decides, no further byte changes: a header may come in
//! pieces of any size.

use super::{Announced, SIGNATURE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header that is read: a line of version 1 has 107 bytes, and one of version 2 may have 64 KiB, but what proxies
/// put into one (addresses, names, certificates' names) takes a few hundred.
pub const MAX_LENGTH: usize = 4_096;
/// Longest line, its end included.
const MAX_LINE: usize = 107;

/// What the bytes so far come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header.
    NeedMore,
    /// A whole header; what follows is the client's data.
    Done {
        /// Bytes that the header has.
        length: usize,
        /// Who its client is. Nothing: the connection's own ends count.
        announced: Option<Announced>,
    },
    /// No header that can be believed.
    Refused(Refusal),
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The first bytes are those of something else.
    NoHeader,
    /// It breaks the protocol's rules.
    Malformed,
    /// It is longer than allowed.
    TooLong,
    /// Its checksum is not that of its bytes.
    WrongChecksum,
}

impl Refusal {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoHeader => "absent",
            Self::Malformed => "malformed",
            Self::TooLong => "too long",
            Self::WrongChecksum => "wrong checksum",
        }
    }
}

/// Reads the header that `bytes` begin with.
pub fn parse(bytes: &[u8]) -> Parsed {
    if begins(bytes, &SIGNATURE) {
        return super::parse_v2::parse(bytes);
    }
    if begins(bytes, NAME) {
        return parse_v1(bytes);
    }
    Parsed::Refused(Refusal::NoHeader)
}

const NAME: &[u8] = b"PROXY ";

/// Whether `bytes` begin with `mark`, as far as they go.
fn begins(bytes: &[u8], mark: &[u8]) -> bool {
    let common = bytes.len().min(mark.len());
    bytes[..common] == mark[..common]
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    let seen = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = seen.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if seen.len() == MAX_LINE {
            Parsed::Refused(Refusal::TooLong)
        } else {
            Parsed::NeedMore
        };
    };
    match &seen[end..] {
        [b'\r', b'\n', ..] => {
            let length = end + 2;
            match line(&seen[NAME.len()..end]) {
                Ok(announced) => Parsed::Done { length, announced },
                Err(refusal) => Parsed::Refused(refusal),
            }
        }
        [b'\r'] if seen.len() == MAX_LINE => Parsed::Refused(Refusal::TooLong),
        [b'\r'] => Parsed::NeedMore,
        _ => Parsed::Refused(Refusal::Malformed),
    }
}

/// A line between its name and its end.
fn line(bytes: &[u8]) -> Result<Option<Announced>, Refusal> {
    if bytes.split(|byte| *byte == b' ').next() == Some(b"UNKNOWN") {
        return Ok(None); // whatever follows means nothing
    }
    let text = std::str::from_utf8(bytes).ok();
    let announced = text.and_then(ends).ok_or(Refusal::Malformed)?;
    Ok(Some(announced))
}

/// `TCP4 192.0.2.7 198.51.100.1 56324 443`
fn ends(text: &str) -> Option<Announced> {
    let mut words = text.split(' ');
    let parse: fn(&str) -> Option<IpAddr> = match words.next()? {
        "TCP4" => |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let ips = (parse(words.next()?)?, parse(words.next()?)?);
    let ports = (port(words.next()?)?, port(words.next()?)?);
    let [client, destination] = [(ips.0, ports.0), (ips.1, ports.1)].map(SocketAddr::from);
    let is_all = words.next().is_none();
    is_all.then(|| Announced::new(client, destination))
}

/// A number without sign, spaces or leading zeroes.
fn port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = word == "0" || !word.starts_with('0');
    word.parse().ok().filter(|_| is_plain && is_short)
}
