//! Backends that answer probes badly: each costs no more than the check's timeout and a little memory, and says why.

use std::io::{self, Read};

use podline_api::v1::{Health, health_check::Type};
use podline_lab::wait;

use crate::checks::{check, checked, wait_found};
use crate::harness::blackhole::Blackhole;
use crate::harness::scripted::{Script, Scripted, Stream, answer_as_the_path_says, head};
use crate::harness::{LONG, Proxy};

/// Reads and says nothing.
fn silent(stream: &mut dyn Stream) -> io::Result<String> {
    io::copy(stream, &mut io::sink())?;
    Ok(String::new())
}

/// Begins an answer, and leaves it at that.
fn stall(stream: &mut dyn Stream) -> io::Result<String> {
    stream.write_all(b"HTTP/1.1 200 O")?;
    stream.flush()?;
    silent(stream)
}

/// Ends each connection before it is asked.
fn end(_: &mut dyn Stream) -> io::Result<String> {
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// A protocol in which the server speaks first.
fn banner(stream: &mut dyn Stream) -> io::Result<String> {
    stream.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")?;
    silent(stream)
}

/// An HTTP/1 server that cannot make sense of what it gets.
fn bad_request(stream: &mut dyn Stream) -> io::Result<String> {
    stream.read_exact(&mut [0])?;
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")?;
    silent(stream)
}

/// Repeats until the other side resets: how many bytes went out.
fn repeat(stream: &mut dyn Stream, chunk: &[u8]) -> io::Result<String> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    let chunk = chunk.repeat(64 * 1_024 / chunk.len());
    let mut written = 0;
    loop {
        match stream.write(&chunk) {
            Ok(count) => written += count,
            Err(e) if matches!(e.kind(), BrokenPipe | ConnectionReset) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written.to_string())
}

fn endless_line(stream: &mut dyn Stream) -> io::Result<String> {
    stream.write_all(b"HTTP/1.1 200 ")?;
    repeat(stream, b"a")
}

fn endless_interim_answers(stream: &mut dyn Stream) -> io::Result<String> {
    repeat(stream, b"HTTP/1.1 100 Continue\r\n\r\n")
}

fn endless_body(stream: &mut dyn Stream) -> io::Result<String> {
    head(stream)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")?;
    repeat(stream, b"body")
}

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// Takes an HTTP/2 client's preface, and says that it had enough (`ENHANCE_YOUR_CALM`).
fn go_away(stream: &mut dyn Stream) -> io::Result<String> {
    stream.read_exact(&mut [0; 24])?;
    stream.write_all(SETTINGS)?;
    stream.write_all(b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b")?;
    silent(stream)
}

/// A head, and then a message without end.
fn endless_message(stream: &mut dyn Stream) -> io::Result<String> {
    stream.read_exact(&mut [0; 24])?;
    stream.write_all(SETTINGS)?;
    // The request's stream is open once its headers are in: the first frames are settings and window.
    while frame(stream)? != 1 {}
    // Static table: 8 is `:status: 200`, 31 `content-type`.
    let fields = [&b"\x88\x0f\x10\x10"[..], b"application/grpc"].concat();
    let length = u8::try_from(fields.len()).unwrap();
    stream.write_all(&[0, 0, length, 1, 4, 0, 0, 0, 1])?;
    stream.write_all(&fields)?;
    let data = [&b"\0\x20\0\0\0\0\0\0\x01"[..], &[0; 8_192]].concat();
    repeat(stream, &data)
}

/// Reads a frame of HTTP/2: its type.
fn frame(stream: &mut dyn Stream) -> io::Result<u8> {
    let mut prefix = [0; 9];
    stream.read_exact(&mut prefix)?;
    let length = u32::from_be_bytes([0, prefix[0], prefix[1], prefix[2]]);
    io::copy(&mut stream.take(length.into()), &mut io::sink())?;
    Ok(prefix[3])
}

#[test]
fn whatever_a_backend_does_the_probe_says_what_it_was() {
    let closed = "the backend closed the connection before it answered";
    let cases: [(Type, Script, &str); 14] = [
        (Type::Http, silent, "timed out before it answered"),
        (Type::Http, stall, "timed out before it answered"),
        (Type::Http, end, closed),
        (Type::Http, banner, NOT_HTTP),
        (Type::Http, endless_line, NOT_HTTP),
        (Type::Http, endless_interim_answers, NOT_HTTP),
        (Type::Https, silent, "timed out in the TLS handshake"),
        (
            Type::Https,
            end,
            "the backend closed the connection in the TLS handshake",
        ),
        (Type::Https, banner, NOT_TLS),
        (Type::Https, endless_line, NOT_TLS),
        (Type::Grpc, silent, "timed out before it answered"),
        (Type::Grpc, end, closed),
        (
            Type::Grpc,
            go_away,
            "refused over HTTP/2: detected excessive load generating behavior",
        ),
        (
            Type::Grpc,
            endless_line,
            "answered in a way that is not HTTP/2",
        ),
    ];
    let proxy = Proxy::start();
    let servers: Vec<_> = cases
        .iter()
        .map(|(_, script, _)| Scripted::start(*script))
        .collect();
    let name = |index: usize| format!("set-{index}");
    for (index, ((kind, ..), server)) in cases.iter().zip(&servers).enumerate() {
        checked(&proxy, &name(index), &[server.address()], check(*kind));
    }
    for (index, ((.., found), server)) in cases.iter().zip(&servers).enumerate() {
        let address = server.address();
        wait_found(&proxy, &name(index), address, Health::Unhealthy, found);
    }
}

const NOT_HTTP: &str = "answered in a way that is not HTTP/1";
const NOT_TLS: &str = "TLS handshake failed: the backend does not speak TLS";

#[test]
fn plain_http_is_neither_https_nor_grpc() {
    let plain = Scripted::start(bad_request);
    let tls = Scripted::start_tls(answer_as_the_path_says);
    let proxy = Proxy::start();
    let not_http2 = "answered in a way that is not HTTP/2";
    for (name, kind, server, found) in [
        ("https", Type::Https, &plain, NOT_TLS),
        ("grpc", Type::Grpc, &plain, not_http2),
        ("http", Type::Http, &tls, NOT_HTTP),
    ] {
        checked(&proxy, name, &[server.address()], check(kind));
        wait_found(&proxy, name, server.address(), Health::Unhealthy, found);
    }
}

#[test]
fn a_connect_without_an_answer_is_told_from_a_silent_backend() {
    let blackhole = Blackhole::new();
    let proxy = Proxy::start();
    let address = blackhole.address();
    checked(&proxy, "web", &[address], check(Type::Http));
    let found = "timed out while connecting";
    wait_found(&proxy, "web", address, Health::Unhealthy, found);
}

/// What the kernel's buffers hold on both sides of a loopback connection, generously.
const BUFFERS: u64 = 48 << 20;

#[test]
fn an_answer_without_end_is_cut_off() {
    let scripts: [(Type, Script, Health, &str); 4] = [
        (Type::Http, endless_body, Health::Healthy, "HTTP 200"),
        (Type::Http, endless_line, Health::Unhealthy, NOT_HTTP),
        (
            Type::Http,
            endless_interim_answers,
            Health::Unhealthy,
            NOT_HTTP,
        ),
        (
            Type::Grpc,
            endless_message,
            Health::Unhealthy,
            "answered in a way that is not gRPC",
        ),
    ];
    let proxy = Proxy::start();
    for (index, (kind, script, health, found)) in scripts.into_iter().enumerate() {
        let (server, name) = (Scripted::start(script), format!("set-{index}"));
        checked(&proxy, &name, &[server.address()], check(kind));
        wait_found(&proxy, &name, server.address(), health, found);
        wait::until(LONG, "two probes were seen to their end", || {
            server.seen().len() >= 2
        });
        for seen in server.seen() {
            let written: u64 = seen.said.parse().unwrap();
            assert!(written < BUFFERS, "{name}: {written} bytes went out");
        }
    }
}
