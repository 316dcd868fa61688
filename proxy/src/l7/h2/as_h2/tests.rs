//! Messages as HTTP/2 has them, field by field.

use super::*;
use crate::l7::h1::head;

fn asked(text: &str) -> Result<http::Request<()>, Unfit> {
    let mut fields = head::fields();
    let head = head::request(text.as_bytes(), &mut fields, 1_000);
    request(&head.unwrap().unwrap(), Scheme::HTTP, "10.0.0.1:80")
}

#[test]
fn what_is_of_one_connection_stays_there() {
    let request = asked(
        "POST /a?b=c HTTP/1.1\r\nhost: Shop.example\r\nconnection: te\r\nte: trailers\r\n\
         transfer-encoding: chunked\r\nkeep-alive: 5\r\nX-Mine: 1\r\nx-mine: 2\r\n\r\n",
    )
    .unwrap();
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri(), "http://Shop.example/a?b=c");
    let fields: Vec<_> = request.headers().iter().collect();
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(
        fields,
        [("te", "trailers"), ("x-mine", "1"), ("x-mine", "2")]
    );
}

#[test]
fn targets_are_said_as_a_path_is() {
    for (target, expected) in [
        ("/a<b>`", "/a%3Cb%3E%60"),
        ("/%3c", "/%3c"),
        ("/a?b?c", "/a?b?c"),
    ] {
        let request = asked(&format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
        assert_eq!(request.uri().path_and_query().unwrap(), expected);
    }
    let request = asked("OPTIONS * HTTP/1.1\r\nhost:\r\n\r\n").unwrap();
    assert_eq!(request.uri().path(), "*");
    assert_eq!(request.uri().authority().unwrap(), "10.0.0.1:80");
}

#[test]
fn an_answer_keeps_its_fields_and_trailers() {
    let read = |text: &str| {
        let mut fields = head::fields();
        let head = head::response(text.as_bytes(), &mut fields, 1_000);
        response(&head.unwrap().unwrap())
    };
    let answer = read(
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\nX-Podline-Reason: no-route\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
    )
    .unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.headers()["x-podline-reason"], "no-route");
    assert_eq!(answer.headers().get_all("set-cookie").iter().count(), 2);
    assert_eq!(answer.headers().len(), 3);
    assert!(read("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n").is_err());
    let mut trailers = HeaderMap::new();
    for line in ["Grpc-Status: 0", "grpc-message:", "connection: close"] {
        add_trailer(&mut trailers, line.as_bytes()).unwrap();
    }
    assert_eq!(
        (trailers["grpc-status"].to_str().unwrap(), trailers.len()),
        ("0", 2)
    );
    assert!(add_trailer(&mut trailers, b"no field").is_err());
}
