//! Heads as others write them, heads as nobody should, and that it does not matter in which pieces one comes.

use super::*;
use std::fmt::Write;

const MAX: usize = 8_192;

/// The outcome, which must be that of the first prefix that decides, whatever follows.
fn decided<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<Option<T>, Fault>,
) -> Result<Option<T>, Fault> {
    let whole = read(bytes);
    let first = (0..=bytes.len())
        .map(|end| read(&bytes[..end]))
        .find(|read| *read != Ok(None));
    assert_eq!(first.unwrap_or(Ok(None)), whole, "{}", bytes.escape_ascii());
    whole
}

/// Method, target, fields and length of a request's head.
fn of_request(bytes: &[u8]) -> Result<Option<String>, Fault> {
    decided(bytes, |bytes| {
        let mut fields = fields();
        let head = request(bytes, &mut fields, MAX)?;
        Ok(head.map(|head| {
            let mut text = format!("{} {} {:?}", head.method, head.target, head.version);
            for field in head.fields {
                let value = field.value.escape_ascii();
                write!(text, " {}={value}", field.name).unwrap();
            }
            format!("{text} {}", head.length)
        }))
    })
}

fn of_response(bytes: &[u8]) -> Result<Option<String>, Fault> {
    decided(bytes, |bytes| {
        let mut fields = fields();
        let head = response(bytes, &mut fields, MAX)?;
        Ok(head.map(|head| {
            let count = head.fields.len();
            let (status, phrase) = (head.status, head.phrase);
            format!(
                "{status} {phrase} {:?} {count} {}",
                head.version, head.length
            )
        }))
    })
}

#[test]
fn requests_are_read() {
    for (bytes, read) in [
        ("GET / HTTP/1.1\r\n\r\n", "GET / Http11 18"),
        ("GET / HTTP/1.0\r\n\r\nGET", "GET / Http10 18"),
        ("\r\nGET / HTTP/1.1\r\n\r\n", "GET / Http11 20"),
        (
            "get /\u{e9}?a=b HTTP/1.1\r\n\r\n",
            "get /\u{e9}?a=b Http11 24",
        ),
        (
            "M-SEARCH * HTTP/1.1\r\na:\r\nB:  c d \t\r\nC: \"\u{e9}\"\r\n\r\n",
            "M-SEARCH * Http11 a= B=c d C=\\\"\\xc3\\xa9\\\" 47",
        ),
    ] {
        assert_eq!(of_request(bytes.as_bytes()), Ok(Some(read.to_owned())));
    }
    for bytes in [
        "",
        "\r",
        "\r\n",
        "G",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\n\r",
    ] {
        assert_eq!(of_request(bytes.as_bytes()), Ok(None));
    }
}

#[test]
fn what_breaks_the_grammar_is_refused() {
    for bytes in [
        // Lines that do not end with CR and LF.
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nb: c\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost:\n\r\n",
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rb: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        // Folded lines, white space where none may be, names that are none.
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\tb: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost\t: a\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding\u{b}: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\n: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost\r\n\r\n",
        "GET / HTTP/1.1\r\nHo st: a\r\n\r\n",
        "GET / HTTP/1.1\r\nH\u{e9}: a\r\n\r\n",
        "GET / HTTP/1.1\r\nH(: a\r\n\r\n",
        // Control bytes.
        "GET / HTTP/1.1\r\na: b\0\r\n\r\n",
        "GET / HTTP/1.1\r\na: \u{1}b\r\n\r\n",
        "GET / HTTP/1.1\r\na: b\u{7f}\r\n\r\n",
        "GET / HTTP/1.1\r\na: b\u{b}\r\n\r\n",
        "GET /\u{1} HTTP/1.1\r\n\r\n",
        "GET /\u{7f} HTTP/1.1\r\n\r\n",
        "GET /\0 HTTP/1.1\r\n\r\n",
        // Request lines with more, less or other spaces.
        " GET / HTTP/1.1\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET /  HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "GET / a HTTP/1.1\r\n\r\n",
        "GET\t/ HTTP/1.1\r\n\r\n",
        "GET /\tHTTP/1.1\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        "GET / HTTPS/1.1\r\n\r\n",
        "GET / HTTP/a.1\r\n\r\n",
        "GET / HTTP 1.1\r\n\r\n",
        "GET\r\n",
        "GET \r\n",
        "/ HTTP/1.1\r\n\r\n",
        // What stands before it.
        "\nGET / HTTP/1.1\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "\r\n\nGET / HTTP/1.1\r\n\r\n",
        "\rGET / HTTP/1.1\r\n\r\n",
        // Other protocols.
        "\u{16}\u{3}\u{1}\u{2}",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "\0\0\0",
    ] {
        let refused = of_request(bytes.as_bytes());
        assert_eq!(refused, Err(Fault::Malformed), "{bytes:?}");
    }
    let in_latin1 = b"GET /\xe9 HTTP/1.1\r\n\r\n";
    assert_eq!(of_request(in_latin1), Err(Fault::Malformed));
    assert_eq!(of_request(b"\x16"), Err(Fault::Malformed));
}

#[test]
fn versions_and_methods_that_are_not_served_are_told_apart() {
    for bytes in [
        "GET /\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/2",
        "GET / HTTP/1.2\r\n\r\n",
        "GET / HTTP/0.9\r\n\r\n",
        "GET / HTTP/3.0\r\n\r\n",
    ] {
        let refused = of_request(bytes.as_bytes());
        assert_eq!(refused, Err(Fault::VersionNotSupported), "{bytes:?}");
    }
    let long = "M".repeat(33);
    for method in ["CONNECT", &long] {
        let text = format!("{method} /a HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(of_request(text.as_bytes()), Err(Fault::NotImplemented));
    }
    let text = format!("{} / HTTP/1.1\r\n\r\n", &long[1..]);
    assert!(of_request(text.as_bytes()).unwrap().is_some());
}

#[test]
fn heads_have_so_many_fields_and_bytes_at_most() {
    let with = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert!(of_request(with(100).as_bytes()).unwrap().is_some());
    let many = with(101);
    assert_eq!(of_request(many.as_bytes()), Err(Fault::HeadTooLarge));
    assert_eq!(
        of_response(many.replace("GET / HTTP/1.1", "HTTP/1.1 200").as_bytes()),
        Err(Fault::BadResponse)
    );

    let long = |length: usize| format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(length - 23));
    assert!(of_request(long(MAX).as_bytes()).unwrap().is_some());
    assert_eq!(
        of_request(long(MAX + 1).as_bytes()),
        Err(Fault::HeadTooLarge)
    );
    let target = |length: usize| format!("\r\nGET /{} HTTP/1.1\r\n", "b".repeat(length));
    assert_eq!(
        of_request(target(MAX).as_bytes()),
        Err(Fault::TargetTooLong)
    );
    assert_eq!(
        of_request(target(MAX - 18).as_bytes()),
        Err(Fault::HeadTooLarge)
    );
    let endless = "M".repeat(MAX);
    assert_eq!(of_request(endless.as_bytes()), Err(Fault::TargetTooLong));
    let response =
        |length: usize| format!("HTTP/1.1 200\r\na: {}\r\n\r\n", "b".repeat(length - 21));
    assert!(of_response(response(MAX).as_bytes()).unwrap().is_some());
    assert_eq!(
        of_response(response(MAX + 1).as_bytes()),
        Err(Fault::BadResponse)
    );
}

#[test]
fn responses_are_read() {
    for (bytes, read) in [
        ("HTTP/1.1 200 OK\r\na: b\r\n\r\nHTTP", "200 OK Http11 1 25"),
        ("HTTP/1.0 999 \r\n\r\n", "999  Http10 0 17"),
        ("HTTP/1.1 404\r\n\r\n", "404  Http11 0 16"),
        ("HTTP/1.1 100 a b\tc\r\n\r\n", "100 a b\tc Http11 0 22"),
        ("HTTP/1.1 200 \u{e9}\r\n\r\n", "200  Http11 0 19"),
    ] {
        assert_eq!(of_response(bytes.as_bytes()), Ok(Some(read.to_owned())));
    }
    for bytes in [
        "",
        "HTTP/1.1 20",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\n\r",
    ] {
        assert_eq!(of_response(bytes.as_bytes()), Ok(None));
    }
    for bytes in [
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\n\r\n",
        "HTTP/1.1 200\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na : b\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "<html>",
        "\0",
    ] {
        let refused = of_response(bytes.as_bytes());
        assert_eq!(refused, Err(Fault::BadResponse), "{bytes:?}");
    }
}
