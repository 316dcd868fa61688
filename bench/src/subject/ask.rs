//! Questions to a subject that runs, by HTTP or over a Unix socket. It must not know what is asked.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use podline_lab::Namespace;

const PATIENCE: Duration = Duration::from_secs(2);
/// More than any page that is asked for: thousands of backends, with a line for each of their figures.
const LONGEST: u64 = 32 << 20;

/// The page at `path` of a server on the loopback address of `namespace`.
///
/// # Errors
/// Nobody answers, or with another status than 200.
pub(super) fn page(namespace: &Namespace, port: u16, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = namespace.run(move || {
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        exchange(stream, &request)
    })?;
    body(&answer).map_err(io::Error::other)
}

/// The body of a whole answer with status 200, or the status line of another.
fn body(answer: &str) -> Result<String, String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(format!("it answered {status:?}"));
    }
    let is_chunked = |line: &str| line.eq_ignore_ascii_case("transfer-encoding: chunked");
    if head.lines().any(is_chunked) {
        Ok(joined(body).ok_or("its answer is cut short")?)
    } else {
        Ok(body.to_owned())
    }
}

/// The pieces of a chunked body together; `None` if it does not end.
fn joined(mut chunks: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole += rest.get(..size)?;
        chunks = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}

/// The answer to a line that is sent to a Unix socket.
pub(super) fn line(socket: &Path, line: &str) -> io::Result<String> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    exchange(stream, &format!("{line}\n"))
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_whole_or_in_pieces() {
        let plain = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\na\r\nb";
        assert_eq!(body(plain).as_deref(), Ok("a\r\nb"));
        let pieces = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(body(pieces).as_deref(), Ok("abc0123456789"));
        let cut = pieces.replace("0\r\n\r\n", "");
        assert_eq!(body(&cut), Err("its answer is cut short".to_owned()));
    }

    #[test]
    fn other_answers_are_told_by_their_status() {
        let missing = "HTTP/1.1 404 Not Found\r\n\r\n404 page not found\n";
        let expected = "it answered \"HTTP/1.1 404 Not Found\"";
        assert_eq!(body(missing), Err(expected.to_owned()));
        assert_eq!(body(""), Err("it answered \"\"".to_owned()));
        assert!(body("HTTP/1.1 200 OK").is_ok_and(|body| body.is_empty()));
    }
}
