//! Heads as they are forwarded: hop-by-hop fields taken out, the client told of, framing made unambiguous. Order and
//! case of the fields that stay are kept. Pure.
//!
//! What backends are told of a client, in lower case behind the client's own fields:
//!
//! - `x-forwarded-for`, `x-real-ip`, `x-forwarded-proto`, `x-forwarded-host`, `x-forwarded-port`: always, as nginx is
//!   usually set up to tell them. Those from a trusted client hold, but that its own address is added to
//!   `x-forwarded-for`, in one field, whatever their number was. From others all that begin with `x-forwarded-` go.
//! - `forwarded` goes unless a trusted client sent it; then it gets an element. HAProxy adds it only where asked to,
//!   nginx and Envoy never; a backend that read it beside `x-forwarded-for` would have to know which to believe.
//! - Names that are one of these but for an underscore go like them: backends that make variables of names (CGI, WSGI,
//!   PHP) take both for the same. `proxy` always goes: there it becomes the variable that names a proxy (CVE-2016-5385).
//! - No `via`: servers turn compression off for it, and nobody needs it where requests cannot loop.
//!
//! `Connection` takes out what it names, as RFC 9110 (7.6.1) asks, but no field that all recipients are meant to get: a
//! client must not make the proxy forget who it is.

mod field;

use super::h1::framing::{Length, RequestFacts, ResponseFacts};
use super::h1::head::{Request, Response, Version};
use field::{Kind, Named};
use httparse::Header;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// Room for what heads get in addition.
const MORE: usize = 320;

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From {
    /// The client's address, as the connection or its PROXY header tells.
    pub(crate) client: SocketAddr,
    /// The port that it connected to.
    pub(crate) port: u16,
    /// It came over TLS.
    pub(crate) is_tls: bool,
    /// Its own X-Forwarded-* and Forwarded fields are believed: they are added to, else replaced.
    pub(crate) is_trusted: bool,
}

/// Appends the head that the backend gets, as HTTP/1.1, with `Connection: keep-alive` implied. A request of HTTP/1.0 that
/// names no host has an empty one, which RFC 9112 (3.2) allows where there is none to name.
pub(crate) fn request_head(
    out: &mut Vec<u8>,
    head: &Request<'_, '_>,
    facts: &RequestFacts<'_>,
    from: &From,
) {
    out.reserve(head.length + MORE);
    put(out, &[head.method, " ", facts.path_and_query]);
    put(out, &[" HTTP/1.1\r\nhost: ", facts.host, "\r\n"]);
    let named = Named::by(head.fields);
    let mut seen = Seen {
        upgrade: facts.upgrade,
        ..Seen::default()
    };
    for field in head.fields {
        if seen.keeps(field, &named, from.is_trusted, facts.expects_continue) {
            put_field(out, field);
        }
    }
    put_identity(out, head.fields, facts.host, from, &seen);
    match (seen.upgrade, seen.trailers) {
        (false, false) => {}
        (true, false) => put(out, &["connection: upgrade\r\n"]),
        (false, true) => put(out, &["te: trailers\r\nconnection: te\r\n"]),
        (true, true) => put(out, &["te: trailers\r\nconnection: upgrade, te\r\n"]),
    }
    match facts.length {
        Length::Exactly(bytes) => put_length(out, bytes),
        // None, but said so: some backends want it said of every POST.
        Length::None if seen.length => put_length(out, 0),
        Length::None | Length::UntilEnd => {}
        Length::Chunked => put(out, &["transfer-encoding: chunked\r\n"]),
    }
    put(out, &["\r\n"]);
}

/// What was met among a request's fields.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one field")]
struct Seen {
    /// Fields that ask for another protocol are kept.
    upgrade: bool,
    trailers: bool,
    length: bool,
    forwarded_for: bool,
    forwarded: bool,
    proto: bool,
    host: bool,
    port: bool,
    real_ip: bool,
}

impl Seen {
    /// Whether `field` is forwarded as it is. Where it matters, it is noted.
    fn keeps(
        &mut self,
        field: &Header<'_>,
        named: &Named<'_>,
        is_trusted: bool,
        expects_continue: bool,
    ) -> bool {
        match Kind::of_request(field.name) {
            Kind::Other => !named.contain(field.name),
            Kind::Expect => expects_continue,
            Kind::Upgrade => self.upgrade,
            Kind::HopByHop => false,
            Kind::ContentLength => {
                self.length = true;
                false
            }
            Kind::Te => {
                self.trailers |= field::tokens(field.value).any(field::is_trailers);
                false
            }
            // These two are written anew, with the client's address.
            Kind::ForwardedFor => {
                self.forwarded_for |= is_trusted;
                false
            }
            Kind::Forwarded => {
                self.forwarded |= is_trusted;
                false
            }
            Kind::ForwardedProto => note(&mut self.proto, is_trusted),
            Kind::ForwardedHost => note(&mut self.host, is_trusted),
            Kind::ForwardedPort => note(&mut self.port, is_trusted),
            Kind::RealIp => note(&mut self.real_ip, is_trusted),
            Kind::ForwardedOther => is_trusted,
        }
    }
}

fn note(seen: &mut bool, is_trusted: bool) -> bool {
    *seen |= is_trusted;
    is_trusted
}

/// Who the client is and what it asked for.
fn put_identity(out: &mut Vec<u8>, fields: &[Header<'_>], host: &str, from: &From, seen: &Seen) {
    let client = from.client.ip().to_canonical();
    put(out, &["x-forwarded-for: "]);
    if seen.forwarded_for {
        put_joined(out, fields, Kind::ForwardedFor);
    }
    let start = out.len();
    put_ip(out, client);
    let ip = start..out.len();
    if !seen.real_ip {
        put(out, &["\r\nx-real-ip: "]);
        out.extend_from_within(ip);
    }
    if !seen.proto {
        put(out, &["\r\nx-forwarded-proto: ", scheme(from)]);
    }
    if !seen.host && !host.is_empty() {
        put(out, &["\r\nx-forwarded-host: ", host]);
    }
    if !seen.port {
        put(out, &["\r\nx-forwarded-port: "]);
        put_number(out, from.port.into());
    }
    if seen.forwarded {
        put(out, &["\r\nforwarded: "]);
        put_joined(out, fields, Kind::Forwarded);
        put_element(out, client, host, scheme(from));
    }
    put(out, &["\r\n"]);
}

fn scheme(from: &From) -> &'static str {
    if from.is_tls { "https" } else { "http" }
}

/// The values of all fields of one kind, each with a comma behind it. Empty ones say nothing.
fn put_joined(out: &mut Vec<u8>, fields: &[Header<'_>], kind: Kind) {
    for field in fields {
        if !field.value.is_empty() && Kind::of_request(field.name) == kind {
            out.extend_from_slice(field.value);
            put(out, &[", "]);
        }
    }
}

/// An element of `Forwarded` (RFC 7239).
fn put_element(out: &mut Vec<u8>, client: IpAddr, host: &str, scheme: &str) {
    let (open, close) = match client {
        IpAddr::V4(_) => ("for=", ";"),
        IpAddr::V6(_) => ("for=\"[", "]\";"),
    };
    put(out, &[open]);
    put_ip(out, client);
    put(out, &[close]);
    if !host.is_empty() && !host.contains(['"', '\\']) {
        put(out, &["host=\"", host, "\";"]);
    }
    put(out, &["proto=", scheme]);
}

/// How the client's connection goes on after the response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Onward {
    /// The version of the request: HTTP/1.0 knows no chunks.
    pub(crate) version: Version,
    /// It ends after this response.
    pub(crate) close: bool,
}

/// Appends the head that the client gets; `cookie` is a field with its line end, or empty.
///
/// A body without a length of its own goes to HTTP/1.1 in chunks; to HTTP/1.0 up to the end of the connection, which
/// `onward.close` then has to say. `Content-Length` beside no body is kept (HEAD, 304), but for 1xx and 204, which must
/// not have it. Interim responses get neither cookie nor `connection`.
pub(crate) fn response_head(
    out: &mut Vec<u8>,
    head: &Response<'_, '_>,
    facts: &ResponseFacts,
    onward: Onward,
    cookie: &[u8],
) {
    out.reserve(head.length + cookie.len() + MORE);
    put(out, &["HTTP/1.1 "]);
    put_number(out, head.status.into());
    put(out, &[" ", head.phrase, "\r\n"]);
    let named = Named::by(head.fields);
    let mut length = None;
    for field in head.fields {
        let is_kept = match Kind::of_response(field.name) {
            Kind::Upgrade => facts.switches || head.status == 426,
            Kind::ContentLength => {
                length = length.or(Some(field.value));
                false
            }
            Kind::Other => !named.contain(field.name),
            _ => false,
        };
        if is_kept {
            put_field(out, field);
        }
    }
    let has_no_body = head.status < 200 || head.status == 204;
    match facts.length {
        Length::Exactly(bytes) => put_length(out, bytes),
        Length::Chunked | Length::UntilEnd if onward.version == Version::Http11 => {
            put(out, &["transfer-encoding: chunked\r\n"]);
        }
        Length::Chunked | Length::UntilEnd => {}
        Length::None => {
            let number = length.filter(|_| !has_no_body).and_then(field::number);
            if let Some(bytes) = number {
                put_length(out, bytes);
            }
        }
    }
    if !facts.is_interim {
        out.extend_from_slice(cookie);
        put(out, &[connection(head.status, facts, onward)]);
    }
    put(out, &["\r\n"]);
}

/// The field that says how the connection goes on, with its line end, or nothing.
fn connection(status: u16, facts: &ResponseFacts, onward: Onward) -> &'static str {
    match (facts.switches, onward.close, onward.version) {
        (true, ..) => "connection: upgrade\r\n",
        (_, true, _) if status == 426 => "connection: upgrade, close\r\n",
        _ if status == 426 => "connection: upgrade\r\n",
        (_, true, _) => "connection: close\r\n",
        (_, false, Version::Http10) => "connection: keep-alive\r\n",
        (_, false, Version::Http11) => "",
    }
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

fn put_field(out: &mut Vec<u8>, field: &Header<'_>) {
    put(out, &[field.name, ": "]);
    out.extend_from_slice(field.value);
    put(out, &["\r\n"]);
}

fn put_length(out: &mut Vec<u8>, bytes: u64) {
    put(out, &["content-length: "]);
    put_number(out, bytes);
    put(out, &["\r\n"]);
}

/// In decimal.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b"0123456789"[usize::try_from(number % 10).unwrap_or(0)];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[from..]);
}

/// Without brackets.
fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        // Nearly all of them, and what formats in general takes five times as long.
        IpAddr::V4(ip) => {
            let (mut text, mut end) = ([0; 16], 0);
            for octet in ip.octets() {
                for (least, digit) in [(100, octet / 100), (10, octet / 10 % 10), (0, octet % 10)] {
                    if octet >= least {
                        text[end] = b'0' + digit;
                        end += 1;
                    }
                }
                text[end] = b'.';
                end += 1;
            }
            out.extend_from_slice(&text[..end - 1]);
        }
        IpAddr::V6(ip) => _ = write!(Text(out), "{ip}"), // never fails
    }
}

/// Takes formatted text.
struct Text<'o>(&'o mut Vec<u8>);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        put(self.0, &[text]);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
