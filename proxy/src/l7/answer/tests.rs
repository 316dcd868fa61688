//! Own answers as a client reads them.

use super::*;
use crate::l7::fault::Whose;

/// Status, fields and body of an answer that stands alone.
fn read(bytes: &[u8]) -> (u16, Vec<(String, String)>, String) {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut head = httparse::Response::new(&mut fields);
    let length = head.parse(bytes).unwrap().unwrap();
    let fields = head.headers.iter().map(|field| {
        let value = String::from_utf8(field.value.to_vec()).unwrap();
        (field.name.to_owned(), value)
    });
    assert_eq!(head.reason, Some(phrase(head.code.unwrap())));
    let body = String::from_utf8(bytes[length..].to_vec()).unwrap();
    (head.code.unwrap(), fields.collect(), body)
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = fields.iter().filter(|(of, _)| of == name);
    let (_, value) = found.next()?;
    assert!(found.next().is_none(), "{name} twice");
    Some(value)
}

#[test]
fn every_refusal_says_why_in_one_line() {
    let mut bodies = Vec::new();
    for fault in Fault::ALL {
        let mut out = Vec::new();
        refusal(&mut out, fault, false, false);
        let (status, fields, body) = read(&out);
        assert_eq!(status, fault.status());
        assert!(!phrase(status).is_empty(), "{fault:?}");
        assert_eq!(
            value(&fields, "content-length"),
            Some(&*body.len().to_string())
        );
        assert_eq!(
            value(&fields, "content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(value(&fields, "x-podline-reason"), Some(fault.reason()));
        assert_eq!(value(&fields, "connection"), None);
        let later = (status == 503).then_some("1");
        assert_eq!(value(&fields, "retry-after"), later);
        let line = body.strip_suffix('\n').unwrap();
        assert!(line.is_ascii() && !line.contains('\n'), "{line}");
        let who = match fault.whose() {
            Whose::Client => "he client's request",
            Whose::Backend => "he client did nothing wrong",
            Whose::Operator => "its operator",
        };
        assert!(line.contains(who), "{fault:?}: {line}");
        assert!(line.to_lowercase().contains("asking again"), "{line}");
        bodies.push(body);
    }
    bodies.sort();
    bodies.dedup();
    assert_eq!(
        bodies.len(),
        Fault::ALL.len(),
        "each says something of its own"
    );
}

#[test]
fn head_is_told_of_a_body_and_does_not_get_it() {
    let (mut whole, mut bare) = (Vec::new(), Vec::new());
    refusal(&mut whole, Fault::NoRoute, true, false);
    refusal(&mut bare, Fault::NoRoute, true, true);
    let (_, fields, body) = read(&bare);
    assert_eq!(body, "");
    assert_eq!(value(&fields, "connection"), Some("close"));
    assert!(value(&fields, "content-length").unwrap() != "0");
    assert!(whole.starts_with(&bare) && whole.len() > bare.len());
}

#[test]
fn redirects_have_a_location_and_no_body() {
    for status in [301, 302, 303, 307, 308] {
        let mut out = b"before".to_vec();
        redirect(&mut out, status, "https://a.org/?b=c", status == 303, false);
        let (read_status, fields, body) = read(&out[6..]);
        assert_eq!((read_status, &*body), (status, ""));
        assert!(!phrase(status).is_empty());
        assert_eq!(value(&fields, "location"), Some("https://a.org/?b=c"));
        assert_eq!(value(&fields, "content-length"), Some("0"));
        assert_eq!(
            value(&fields, "connection"),
            (status == 303).then_some("close")
        );
    }
    let mut out = Vec::new();
    redirect(
        &mut out,
        302,
        "/a\r\nset-cookie: x=y\r\n\r\n<b>",
        false,
        false,
    );
    let (_, fields, body) = read(&out);
    assert_eq!((fields.len(), &*body), (2, ""));
    assert_eq!(value(&fields, "location"), Some("/aset-cookie:x=y<b>"));
}
