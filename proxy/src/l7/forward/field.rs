//! What a field is to a proxy, by its name; and what `Connection` names. Pure.
//!
//! Names are told apart by their length first: most fields are nothing special, and one look at a number says so.

use httparse::Header;

/// What a field is to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing special.
    Other,
    /// Of this connection alone, or written anew.
    HopByHop,
    ContentLength,
    Te,
    Upgrade,
    Expect,
    Forwarded,
    ForwardedFor,
    ForwardedProto,
    ForwardedHost,
    ForwardedPort,
    /// `X-Forwarded-` anything else, or an imitation of one of these.
    ForwardedOther,
    RealIp,
}

impl Kind {
    /// Of a request's field.
    pub(super) fn of_request(name: &str) -> Self {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match name.len() {
            2 if is("te") => Self::Te,
            4 if is("host") => Self::HopByHop,
            // The variable that CGI makes of it names a proxy to use.
            5 if is("proxy") => Self::HopByHop,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Upgrade,
            9 if is("forwarded") => Self::Forwarded,
            9 if imitates(name, "x-real-ip") => Self::told(name, Self::RealIp),
            10 if is("connection") || is("keep-alive") => Self::HopByHop,
            14 if is("content-length") => Self::ContentLength,
            14 if is("http2-settings") => Self::HopByHop,
            16 if is("proxy-connection") => Self::HopByHop,
            17 if is("transfer-encoding") => Self::HopByHop,
            19 if is("proxy-authorization") => Self::HopByHop,
            12.. if begins(name) => Self::told(name, Self::forwarded(name)),
            _ => Self::Other,
        }
    }

    /// Of a response's field.
    pub(super) fn of_response(name: &str) -> Self {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match name.len() {
            2 if is("te") => Self::HopByHop,
            7 if is("upgrade") => Self::Upgrade,
            10 if is("connection") || is("keep-alive") => Self::HopByHop,
            14 if is("content-length") => Self::ContentLength,
            16 if is("proxy-connection") => Self::HopByHop,
            17 if is("transfer-encoding") => Self::HopByHop,
            18 if is("proxy-authenticate") => Self::HopByHop,
            _ => Self::Other,
        }
    }

    /// `kind`, where the name is spelled as it should be.
    fn told(name: &str, kind: Self) -> Self {
        if name.contains('_') {
            Self::ForwardedOther
        } else {
            kind
        }
    }

    fn forwarded(name: &str) -> Self {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match name.len() {
            15 if is("x-forwarded-for") => Self::ForwardedFor,
            16 if is("x-forwarded-host") => Self::ForwardedHost,
            16 if is("x-forwarded-port") => Self::ForwardedPort,
            17 if is("x-forwarded-proto") => Self::ForwardedProto,
            _ => Self::ForwardedOther,
        }
    }
}

/// It begins with `x-forwarded-`, or does so for a backend that knows no hyphens.
fn begins(name: &str) -> bool {
    name.get(..12)
        .is_some_and(|start| imitates(start, "x-forwarded-"))
}

/// Whether a backend that knows no hyphens takes one for the other.
fn imitates(name: &str, other: &str) -> bool {
    let plain = |byte: u8| match byte {
        b'_' => b'-',
        other => other.to_ascii_lowercase(),
    };
    name.len() == other.len() && name.bytes().zip(other.bytes()).all(|(a, b)| plain(a) == b)
}

/// Fields that `Connection` may not take out: what says who asks, for what, and in which form.
const KEPT: [&str; 12] = [
    "accept",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "location",
    "origin",
    "range",
    "set-cookie",
];

/// Most fields that `Connection` can take out; it names one or two, if any.
const MOST: usize = 16;

/// What `Connection` names that is not known to go anyway.
#[derive(Debug)]
pub(super) struct Named<'b> {
    names: [&'b [u8]; MOST],
    count: usize,
}

impl<'b> Named<'b> {
    /// What the `Connection` among `fields` names.
    pub(super) fn by(fields: &[Header<'b>]) -> Self {
        let mut named = Self {
            names: [&[]; MOST],
            count: 0,
        };
        for field in fields {
            if field.name.len() == 10 && field.name.eq_ignore_ascii_case("connection") {
                for token in tokens(field.value) {
                    // Else many names would cost the proxy much and the client nothing.
                    if named.count == MOST {
                        return named;
                    }
                    named.add(token);
                }
            }
        }
        named
    }

    /// Whether it names `name`.
    pub(super) fn contain(&self, name: &str) -> bool {
        self.names[..self.count]
            .iter()
            .any(|named| named.eq_ignore_ascii_case(name.as_bytes()))
    }

    fn add(&mut self, token: &'b [u8]) {
        let is = |other: &str| token.eq_ignore_ascii_case(other.as_bytes());
        let is_usual = is("keep-alive") || is("close") || is("upgrade");
        let is_new = || !self.names[..self.count].contains(&token);
        if is_usual || KEPT.into_iter().any(is) || !is_new() {
            return;
        }
        if let Some(place) = self.names.get_mut(self.count) {
            *place = token;
            self.count += 1;
        }
    }
}

/// The members of a list, without what stands around them.
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// Whether a member of `TE` says that trailers are read; weights mean nothing to it.
pub(super) fn is_trailers(token: &[u8]) -> bool {
    let name = token.split(|byte| *byte == b';').next().unwrap_or_default();
    name.trim_ascii_end().eq_ignore_ascii_case(b"trailers")
}

/// A number in decimal digits alone.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(value).ok().filter(|_| is_number)?;
    text.parse().ok()
}
