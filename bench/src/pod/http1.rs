//! HTTP/1.1: requests in their order, with bodies that say their length.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames::send;
use super::state::State;
use super::target::{self, Target};
use crate::load::http_text::{end_of_head, fields, number};
use crate::wire::{POD_HEADER, SEQUENCE_HEADER};

/// The longest head of a request.
const MAX_HEAD: usize = 16 * 1024;
const READ: usize = 16 * 1024;

/// What a request's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head<'a> {
    is_head_method: bool,
    target: Target,
    query: Option<&'a [u8]>,
    /// Bytes of its body; `None` if it does not say.
    length: Option<u64>,
    closes: bool,
    forwarded: Option<&'a [u8]>,
}

/// Serves a connection, of which `buffer` was read already, until it ends.
pub(crate) async fn serve(
    mut stream: TcpStream,
    mut buffer: BytesMut,
    state: Arc<State>,
) -> io::Result<()> {
    let mut out = Vec::with_capacity(256);
    let mut is_first = true;
    state.received(buffer.len());
    loop {
        let end = loop {
            if let Some(end) = end_of_head(&buffer) {
                break end;
            }
            if buffer.len() > MAX_HEAD {
                return refuse(&mut stream, 431).await;
            }
            let count = stream.read_buf(&mut buffer).await?;
            state.received(count);
            if count == 0 {
                return stream.shutdown().await;
            }
        };
        let Some(head) = parse(&buffer[..end]) else {
            return refuse(&mut stream, 400).await;
        };
        let Some(length) = head.length else {
            return refuse(&mut stream, 411).await;
        };
        if std::mem::take(&mut is_first)
            && let Some(forwarded) = head.forwarded
        {
            state.was_forwarded(forwarded);
        }
        state.requested();
        let closes = head.closes || state.is_closing();
        let wanted = answer(&mut out, &head, state.pod, closes);
        buffer.advance(end);
        skip(&mut stream, &mut buffer, length, &state).await?;
        send(&mut stream, &out, wanted).await?;
        if closes {
            return end_connection(&mut stream).await;
        }
    }
}

/// Passes over a body.
async fn skip(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    length: u64,
    state: &State,
) -> io::Result<()> {
    let mut left = length;
    loop {
        let here = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        buffer.advance(here);
        left -= here as u64;
        if left == 0 {
            return Ok(());
        }
        buffer.reserve(READ);
        let count = stream.read_buf(buffer).await?;
        state.received(count);
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Writes the answer's head, and a short body, to `out`: how many bytes of the pattern follow.
fn answer(out: &mut Vec<u8>, head: &Head<'_>, pod: u32, closes: bool) -> u64 {
    let name = format_name(pod);
    let (status, length) = match head.target {
        Target::Name => ("200 OK", name.len() as u64),
        Target::Bytes(count) => ("200 OK", u64::from(count)),
        Target::Nothing => ("404 Not Found", 0),
    };
    out.clear();
    write!(out, "HTTP/1.1 {status}\r\n{POD_HEADER}: {pod}\r\n").ok(); // memory takes it all
    if let Some(query) = head.query {
        out.extend_from_slice(SEQUENCE_HEADER.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(query);
        out.extend_from_slice(b"\r\n");
    }
    let close = if closes { "connection: close\r\n" } else { "" };
    write!(out, "content-length: {length}\r\n{close}\r\n").ok();
    match head.target {
        _ if head.is_head_method => 0,
        Target::Name => {
            out.extend_from_slice(name.as_bytes());
            0
        }
        Target::Bytes(_) => length,
        Target::Nothing => 0,
    }
}

/// What a Pod says of itself.
pub(crate) fn format_name(pod: u32) -> String {
    format!("hello from pod {pod}\n")
}

async fn refuse(stream: &mut TcpStream, status: u16) -> io::Result<()> {
    let answer =
        format!("HTTP/1.1 {status} Refused\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    end_connection(stream).await
}

/// Ends first, and waits for the other end: closing with unread bytes would be a reset.
async fn end_connection(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

fn parse(head: &[u8]) -> Option<Head<'_>> {
    let line = head.split(|byte| *byte == b'\n').next()?.trim_ascii_end();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, path, version) = (words.next()?, words.next()?, words.next()?);
    let is_old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return None,
    };
    let (target, query) = target::parse(path);
    let mut parsed = Head {
        is_head_method: method == b"HEAD",
        target,
        query,
        length: Some(0),
        closes: is_old,
        forwarded: None,
    };
    for (name, value) in fields(head) {
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        if is(b"content-length") {
            parsed.length = Some(number(value)?);
        } else if is(b"transfer-encoding") {
            parsed.length = None;
        } else if is(b"connection") {
            let has = |word: &[u8]| value.eq_ignore_ascii_case(word);
            parsed.closes = has(b"close") || parsed.closes && !has(b"keep-alive");
        } else if is(b"x-forwarded-for") {
            parsed.forwarded = Some(value);
        }
    }
    Some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_say_what_they_want() {
        let plain = parse(b"GET /?5 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!((plain.target, plain.query), (Target::Name, Some(&b"5"[..])));
        assert_eq!((plain.length, plain.closes), (Some(0), false));
        let full = b"HEAD /bytes/3 HTTP/1.1\r\nCONTENT-LENGTH: 12\r\nConnection:close\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n";
        let full = parse(full).unwrap();
        assert_eq!((full.target, full.query), (Target::Bytes(3), None));
        assert_eq!((full.length, full.closes), (Some(12), true));
        assert_eq!(full.forwarded, Some(&b"10.0.0.1"[..]));
        assert!(full.is_head_method);
        let closes = |head: &[u8]| parse(head).unwrap().closes;
        assert!(closes(b"GET / HTTP/1.0\r\n\r\n"));
        assert!(!closes(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        let chunked = parse(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(chunked.unwrap().length, None);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bad in [
            &b"GET /\r\n\r\n"[..],
            b"\r\n\r\n",
            b"GET / HTTP/3\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ] {
            assert_eq!(parse(bad), None);
        }
    }
}
