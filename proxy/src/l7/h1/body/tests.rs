//! Bodies in each framing, as their receivers get them.

use super::*;

const NO_LIMIT: u64 = u64::MAX;

/// What goes out of bytes that are there at once, and how many of them were consumed.
fn passed(body: &mut Body, bytes: &str) -> (String, usize) {
    let mut out = Vec::new();
    let consumed = match body.take(bytes.as_bytes(), &mut out, NO_LIMIT).unwrap() {
        Passed::AsTheyAre(length) => {
            assert!(out.is_empty());
            out.extend_from_slice(&bytes.as_bytes()[..length]);
            length
        }
        Passed::Rewritten(length) => length,
    };
    (String::from_utf8(out).unwrap(), consumed)
}

#[test]
fn no_body_takes_nothing() {
    for length in [Length::None, Length::Exactly(0)] {
        let mut body = Body::new(length, true);
        assert!(body.is_done());
        assert_eq!(passed(&mut body, "abc"), (String::new(), 0));
        assert!(body.end(&mut Vec::new()));
    }
}

#[test]
fn a_length_is_counted_down() {
    let mut body = Body::new(Length::Exactly(5), true);
    assert_eq!(passed(&mut body, "abc"), ("abc".into(), 3));
    assert!(!body.end(&mut Vec::new()));
    assert_eq!(passed(&mut body, ""), (String::new(), 0));
    assert_eq!(passed(&mut body, "defg"), ("de".into(), 2));
    assert!(body.is_done() && body.end(&mut Vec::new()));
    let mut longest = Body::new(Length::Exactly(u64::MAX), true);
    assert_eq!(passed(&mut longest, "a"), ("a".into(), 1));
}

#[test]
fn chunks_go_on_as_chunks_without_extensions() {
    let mut body = Body::new(Length::Chunked, true);
    let (out, consumed) = passed(&mut body, "3;a=b\r\nabc\r\n0014\r\n01234567");
    assert_eq!(
        (out.as_str(), consumed),
        ("3\r\nabc\r\n8\r\n01234567\r\n", 26)
    );
    assert!(!body.end(&mut Vec::new()));
    let (out, consumed) = passed(&mut body, "890123456789\r\n0;x\r\n\r\nGET");
    assert_eq!(
        (out.as_str(), consumed),
        ("c\r\n890123456789\r\n0\r\n\r\n", 21)
    );
    assert!(body.is_done() && body.end(&mut Vec::new()));
}

#[test]
fn chunks_of_all_lengths_have_the_right_size() {
    for length in [
        1,
        9,
        10,
        15,
        16,
        17,
        255,
        256,
        4_095,
        4_096,
        65_535,
        65_536,
        1 << 20,
    ] {
        let data = "x".repeat(length);
        let mut body = Body::new(Length::UntilEnd, true);
        let (out, consumed) = passed(&mut body, &data);
        assert_eq!(out, format!("{length:x}\r\n{data}\r\n"));
        assert_eq!(consumed, length);
    }
}

#[test]
fn chunks_go_on_bare_to_whom_knows_none() {
    let mut body = Body::new(Length::Chunked, false);
    let text = "3;a=b\r\nabc\r\n2\r\nde\r\n0\r\na: b\r\n\r\n";
    assert_eq!(passed(&mut body, text), ("abcde".into(), text.len()));
    assert!(body.is_done());
}

#[test]
fn trailers_hold_nothing_that_belongs_before_the_body() {
    let mut body = Body::new(Length::Chunked, true);
    let text = "0\r\nContent-Length: 5\r\nGrpc-Status: 0\r\ntransfer-encoding: chunked\r\nHOST: a\r\n\
                X-Forwarded-For: 1\r\nX-Forwarded: 1\r\nSet-Cookie: a=b\r\n\r\n";
    let out = "0\r\nGrpc-Status: 0\r\nX-Forwarded: 1\r\n\r\n";
    assert_eq!(passed(&mut body, text), (out.into(), text.len()));

    let mut body = Body::new(Length::Chunked, true);
    let (out, _) = passed(&mut body, "1\r\na\r\n0\r\nhost: a\r\n");
    assert_eq!(out, "1\r\na\r\n0\r\n");
    let (out, _) = passed(&mut body, "b: c\r\n");
    assert_eq!(out, "b: c\r\n");
    let (out, _) = passed(&mut body, "\r\n");
    assert_eq!(out, "\r\n");
    assert!(body.is_done());
}

#[test]
fn the_end_of_the_connection_ends_what_has_no_length() {
    let mut body = Body::new(Length::UntilEnd, true);
    assert_eq!(passed(&mut body, "abc"), ("3\r\nabc\r\n".into(), 3));
    assert_eq!(passed(&mut body, ""), (String::new(), 0));
    assert!(!body.is_done());
    let mut out = Vec::new();
    assert!(body.end(&mut out) && body.is_done());
    assert_eq!(out, b"0\r\n\r\n");
    assert!(body.end(&mut out));
    assert_eq!(out, b"0\r\n\r\n");

    let mut bare = Body::new(Length::UntilEnd, false);
    assert_eq!(passed(&mut bare, "abc"), ("abc".into(), 3));
    out.clear();
    assert!(bare.end(&mut out) && out.is_empty());
}

#[test]
fn more_data_than_allowed_is_refused() {
    let mut body = Body::new(Length::Chunked, true);
    let mut out = Vec::new();
    assert!(body.take(b"3\r\nabc\r\n", &mut out, 5).is_ok());
    assert!(body.take(b"2\r\nde\r\n", &mut out, 5).is_ok());
    let mut over = body;
    assert!(body.take(b"0\r\n\r\n", &mut out, 5).is_ok());
    let refused = over.take(b"1\r\nf", &mut out, 5);
    assert_eq!(refused, Err(Fault::BodyTooLarge));
}

#[test]
fn broken_chunks_are_refused() {
    let mut out = Vec::new();
    let mut body = Body::new(Length::Chunked, false);
    let refused = body.take(b"1\r\nab", &mut out, NO_LIMIT);
    assert_eq!(refused, Err(Fault::Malformed));
}
