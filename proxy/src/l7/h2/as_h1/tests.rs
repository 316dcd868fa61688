//! Messages as HTTP/1.1 has them, byte by byte.

use super::*;
use http::{Request, Response};

/// The head of a request, or nothing where it is refused.
fn head_of(request: Request<()>, has_body: bool) -> Option<(String, Form)> {
    let mut out = BytesMut::new();
    let form = request_head(&mut out, &request.into_parts().0, has_body).ok()?;
    Some((String::from_utf8(out.to_vec()).unwrap(), form))
}

fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

#[test]
fn a_request_names_its_host_once_where_it_is_the_same() {
    for (fields, expected) in [
        (&[][..], "host: shop.example\r\n"),
        (&[("host", "Shop.Example")][..], "host: shop.example\r\n"),
        // The engine refuses it.
        (
            &[("host", "other.example")][..],
            "host: shop.example\r\nhost: other.example\r\n",
        ),
    ] {
        let (head, form) =
            head_of(request("GET", "http://shop.example/a?b", fields), false).unwrap();
        assert_eq!(head, format!("GET /a?b HTTP/1.1\r\n{expected}\r\n"));
        assert_eq!(form, Form::Nothing);
    }
    let (head, _) = head_of(request("GET", "/a", &[("host", "b"), ("host", "c")]), false).unwrap();
    assert_eq!(head, "GET /a HTTP/1.1\r\nhost: b\r\nhost: c\r\n\r\n");
}

#[test]
fn a_body_has_the_length_that_was_told_or_comes_in_chunks() {
    let with = |fields| head_of(request("POST", "http://a/", fields), true).unwrap();
    let (head, form) = with(&[("content-length", "5"), ("content-length", "5")]);
    assert_eq!(
        head,
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n"
    );
    assert_eq!(form, Form::Bare);
    let (head, form) = with(&[("te", "trailers")]);
    assert_eq!(
        head,
        "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let mut out = BytesMut::new();
    data(&mut out, b"", form);
    data(&mut out, &[b'a'; 26], form);
    let mut trailers = HeaderMap::new();
    trailers.insert("x", HeaderValue::from_static("1"));
    end(&mut out, Some(&trailers), form);
    let data = "a".repeat(26);
    assert_eq!(out, format!("1a\r\n{data}\r\n0\r\nx: 1\r\n\r\n").as_bytes());
}

#[test]
fn cookies_come_in_one_field() {
    let fields = &[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d")];
    let (head, _) = head_of(request("GET", "http://a/", fields), false).unwrap();
    assert_eq!(
        head,
        "GET / HTTP/1.1\r\nhost: a\r\ncookie: a=b; c=d\r\nx: y\r\n\r\n"
    );
}

#[test]
fn a_target_names_a_path_alone() {
    let star = || {
        let mut request = request("OPTIONS", "http://a/", &[]);
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("*"));
        *request.uri_mut() = http::Uri::from_parts(parts).unwrap();
        request
    };
    let (head, _) = head_of(star(), false).unwrap();
    assert_eq!(head, "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut other = star();
    *other.method_mut() = Method::GET;
    assert_eq!(head_of(other, false), None);
    // The engine refuses it.
    let (head, _) = head_of(request("CONNECT", "a:443", &[]), true).unwrap();
    assert!(head.starts_with("CONNECT a:443 HTTP/1.1\r\n"));
}

#[test]
fn a_response_says_how_long_it_is() {
    let head = |status, fields: &[(&str, &str)], has_body, to_head| {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let (parts, ()) = response.body(()).unwrap().into_parts();
        let mut out = BytesMut::new();
        let form = response_head(&mut out, &parts, has_body, to_head).ok()?;
        Some((String::from_utf8(out.to_vec()).unwrap(), form))
    };
    let length = &[("content-length", "7")][..];
    for (given, expected, form) in [
        (
            head(200, &[], true, false),
            "200 OK\r\ntransfer-encoding: chunked\r\n",
            Form::Chunks,
        ),
        (
            head(200, length, true, false),
            "200 OK\r\ncontent-length: 7\r\n",
            Form::Bare,
        ),
        (
            head(200, &[("grpc-status", "5")], false, false),
            "200 OK\r\ncontent-length: 0\r\ngrpc-status: 5\r\n",
            Form::Nothing,
        ),
        (
            head(200, length, false, true),
            "200 OK\r\ncontent-length: 7\r\n",
            Form::Nothing,
        ),
        (
            head(204, &[], false, false),
            "204 No Content\r\n",
            Form::Nothing,
        ),
        (
            head(103, &[("link", "x")], true, false),
            "103 Early Hints\r\nlink: x\r\n",
            Form::Nothing,
        ),
    ] {
        let expected = format!("HTTP/1.1 {expected}\r\n");
        assert_eq!(given, Some((expected, form)));
    }
    assert_eq!(head(101, &[], false, false), None);
}
