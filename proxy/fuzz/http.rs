//! What must hold of heads and bodies for any input, however hostile. Shared by the fuzz targets and the tests beside the
//! code that is checked.
#![allow(dead_code, reason = "each target uses its part")]

use crate::l7::fault::Fault;
use crate::l7::h1::body::{Body, Passed};
use crate::l7::h1::framing::{self, Length};
use crate::l7::h1::head::{self, Version};

const MAX_HEAD: usize = 1_024;
const MAX_DATA: u64 = 4_096;

/// A head as its reader tells it: version, what else stands in the first line, fields, length.
type Said = (Version, [String; 2], Vec<(String, Vec<u8>)>, usize);

fn said(
    version: Version,
    first: [&str; 2],
    fields: &[httparse::Header<'_>],
    length: usize,
) -> Said {
    let fields = fields
        .iter()
        .map(|field| (field.name.to_owned(), field.value.to_vec()));
    (version, first.map(str::to_owned), fields.collect(), length)
}

/// All short prefixes, and some of the long ones.
fn prefixes(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let far = (data.len() / 64).max(1);
    let ends = (0..data.len().min(128)).chain((128..data.len()).step_by(far));
    ends.map(|end| &data[..end])
}

/// A request: taken or refused, never a panic, and alike in whatever pieces it comes. A strict reader of lines sees the
/// same head, and what is forwarded of it means the same.
pub(crate) fn request(data: &[u8]) {
    let read = |data: &[u8]| -> Result<Option<Said>, Fault> {
        let mut fields = head::fields();
        Ok(head::request(data, &mut fields, MAX_HEAD)?.map(|head| {
            let first = [head.method, head.target];
            said(head.version, first, head.fields, head.length)
        }))
    };
    let whole = check_prefixes(data, read);
    let Ok(Some((version, [method, target], fields, length))) = whole else {
        return;
    };
    let start = if data.starts_with(b"\r\n") { 2 } else { 0 };
    let first = format!("{method} {target} {}", name(version));
    check_lines(&data[start..length], first.as_bytes(), &fields);
    assert!(method.len() <= 32 && method != "CONNECT");
    check_request_facts(data, &fields);
}

fn check_request_facts(data: &[u8], fields: &[(String, Vec<u8>)]) {
    let mut room = head::fields();
    let Ok(Some(head)) = head::request(data, &mut room, MAX_HEAD) else {
        return;
    };
    let Ok(facts) = framing::request(&head) else {
        return;
    };
    let lengths = check_length(fields, facts.length);
    assert!(lengths <= 1, "{fields:?}");
    let is_http11 = head.version == Version::Http11;
    let hosts = count(fields, "host");
    assert!(hosts == 1 || hosts == 0 && !is_http11);
    assert!(!facts.host.is_empty() || !is_http11);
    assert!(
        !facts
            .host
            .contains(['/', '@', '#', '?', '\\', ',', '%', ' '])
    );
    let path = facts.path_and_query;
    assert!(path.starts_with('/') || path == "*" && head.method == "OPTIONS");
    assert!(!path.contains(|c: char| c == '#' || c == ' ' || c.is_ascii_control()));
    assert!(!facts.upgrade || is_http11 && count(fields, "upgrade") > 0);
    // As it is forwarded.
    let length = match facts.length {
        Length::None => String::new(),
        Length::Exactly(length) => format!("Content-Length: {length}\r\n"),
        Length::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        Length::UntilEnd => unreachable!("a request has no end of its own"),
    };
    let version = name(head.version);
    let text = format!(
        "{} {path} {version}\r\nHost: {}\r\n{length}\r\n",
        head.method, facts.host
    );
    let mut room = head::fields();
    let again = head::request(text.as_bytes(), &mut room, 2 * MAX_HEAD);
    let again = again.expect("it was read before").expect("it is whole");
    assert_eq!(again.length, text.len());
    let again = framing::request(&again).expect("it was read before");
    assert_eq!(
        (again.length, again.host, again.path_and_query),
        (facts.length, facts.host, path)
    );
}

/// A response: taken or refused as such, never a panic, and alike in whatever pieces it comes.
pub(crate) fn response(data: &[u8]) {
    let read = |data: &[u8]| -> Result<Option<Said>, Fault> {
        let mut fields = head::fields();
        Ok(head::response(data, &mut fields, MAX_HEAD)?.map(|head| {
            let status = head.status.to_string();
            let first = [status.as_str(), head.phrase];
            said(head.version, first, head.fields, head.length)
        }))
    };
    let whole = check_prefixes(data, read);
    assert!(
        whole
            .as_ref()
            .err()
            .is_none_or(|fault| *fault == Fault::BadResponse)
    );
    let Ok(Some((version, [status, _], fields, length))) = whole else {
        return;
    };
    let first = format!("{} {status}", name(version));
    check_lines(&data[..length], first.as_bytes(), &fields);
    let mut room = head::fields();
    let Ok(Some(head)) = head::response(data, &mut room, MAX_HEAD) else {
        return;
    };
    assert!((100..=999).contains(&head.status));
    for (to_head, upgraded) in [(false, false), (true, false), (false, true)] {
        let facts = match framing::response(&head, to_head, upgraded) {
            Ok(facts) => facts,
            Err(fault) => {
                assert_eq!(fault, Fault::BadResponse);
                continue;
            }
        };
        assert_eq!(facts.switches, head.status == 101);
        assert_eq!(facts.is_interim, head.status < 200 && !facts.switches);
        assert!(!facts.switches || upgraded);
        let has_none = to_head || head.status < 200 || matches!(head.status, 204 | 304);
        assert!(!has_none || facts.length == Length::None);
        assert!(facts.length != Length::UntilEnd || !facts.keep_alive);
        if !has_none && facts.length != Length::UntilEnd {
            check_length(&fields, facts.length);
        }
    }
}

fn name(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

/// What was read of the whole; each prefix gives the same or nothing.
fn check_prefixes(
    data: &[u8],
    read: impl Fn(&[u8]) -> Result<Option<Said>, Fault>,
) -> Result<Option<Said>, Fault> {
    let whole = read(data);
    for prefix in prefixes(data) {
        let end = prefix.len();
        let is_early = matches!(&whole, Ok(Some((.., length))) if end < *length);
        let read = read(prefix);
        assert!(
            read == Ok(None) || read == whole && !is_early,
            "{end} bytes: {read:?} and then {whole:?}"
        );
    }
    assert!(whole != Ok(None) || data.len() < MAX_HEAD);
    if let Ok(Some((.., length))) = whole {
        assert!(length <= data.len() && length <= MAX_HEAD);
    }
    whole
}

/// Reads the lines of a head once more, in the plainest way.
fn check_lines(head: &[u8], first: &[u8], fields: &[(String, Vec<u8>)]) {
    let text = head.strip_suffix(b"\r\n\r\n").expect("it is whole");
    let mut lines = Vec::new();
    let mut line = Vec::new();
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'\r' && bytes.peek() == Some(&b'\n') {
            bytes.next();
            lines.push(std::mem::take(&mut line));
            continue;
        }
        assert!(byte == b'\t' || byte >= b' ' && byte != 0x7f, "{byte}");
        line.push(byte);
    }
    lines.push(line);
    assert!(lines[0].starts_with(first));
    assert_eq!(lines.len() - 1, fields.len());
    assert!(fields.len() <= 100);
    for (line, (name, value)) in lines[1..].iter().zip(fields) {
        let colon = line.iter().position(|byte| *byte == b':');
        let (begin, rest) = line.split_at(colon.expect("each line has a name"));
        assert_eq!((begin, rest[1..].trim_ascii()), (name.as_bytes(), &**value));
        let is_odd = |c: char| !c.is_ascii_graphic() || "\"(),/:;<=>?@[\\]{}".contains(c);
        assert!(!name.is_empty() && !name.contains(is_odd), "{name}");
    }
}

fn values<'f>(fields: &'f [(String, Vec<u8>)], name: &'f str) -> impl Iterator<Item = &'f [u8]> {
    let named = fields
        .iter()
        .filter(move |(known, _)| known.eq_ignore_ascii_case(name));
    named.map(|(_, value)| &**value)
}

fn count(fields: &[(String, Vec<u8>)], name: &str) -> usize {
    values(fields, name).count()
}

/// Every field that tells of a length tells of this one. How many there are.
fn check_length(fields: &[(String, Vec<u8>)], length: Length) -> usize {
    for value in values(fields, "content-length") {
        let Length::Exactly(length) = length else {
            panic!("{length:?} of {fields:?}");
        };
        let digits = length.to_string();
        let zeroes = value.len() - digits.len();
        assert!(value[..zeroes].iter().all(|byte| *byte == b'0'));
        assert_eq!(&value[zeroes..], digits.as_bytes());
    }
    for value in values(fields, "transfer-encoding") {
        assert!(value.eq_ignore_ascii_case(b"chunked") && length == Length::Chunked);
    }
    count(fields, "content-length") + count(fields, "transfer-encoding")
}

/// What became of a body: its end, bytes consumed, bytes that go out.
type Outcome = (Result<bool, Fault>, usize, Vec<u8>);

/// Passes bytes on as an engine does, reading as many at once as `reads` tells, again and again.
fn pass(data: &[u8], as_chunks: bool, reads: &[u8]) -> Outcome {
    let mut body = Body::new(Length::Chunked, as_chunks);
    let mut out = Vec::new();
    let (mut taken, mut come) = (0, 0);
    let mut reads = reads.iter().cycle();
    while come < data.len() && !body.is_done() {
        let read = reads
            .next()
            .map_or(data.len(), |read| usize::from(*read) + 1);
        come = (come + read).min(data.len());
        let before = out.len();
        match body.take(&data[taken..come], &mut out, MAX_DATA) {
            Ok(Passed::Rewritten(length)) => {
                assert!(out.len() - before <= length + 32);
                taken += length;
            }
            Ok(Passed::AsTheyAre(_)) => unreachable!("chunks are always written anew"),
            // How much of it passed before it was too long depends on the pieces.
            Err(Fault::BodyTooLarge) => return (Err(Fault::BodyTooLarge), 0, Vec::new()),
            Err(fault) => return (Err(fault), 0, out),
        }
        assert!(taken <= come);
        assert!(come - taken < 8_192, "more than a line was left");
    }
    let mut closing = Vec::new();
    assert_eq!(body.end(&mut closing), body.is_done());
    assert!(closing.is_empty());
    (Ok(body.is_done()), taken, out)
}

/// A body in chunks, behind a byte that says how it is read: the same data in whatever pieces it comes, and what is
/// forwarded of it has the same data, without extensions.
pub(crate) fn body(data: &[u8]) {
    let Some((how, data)) = data.split_first() else {
        return;
    };
    let (end, taken, bare) = pass(data, false, &[]);
    let reads = [how & 0xf, how >> 4];
    for reads in [&reads[..], &[0]] {
        assert_eq!(pass(data, false, reads), (end, taken, bare.clone()));
    }
    assert!(bare.len() as u64 <= MAX_DATA);
    let mut trailers = Vec::new();
    for reads in [&[], &reads[..]] {
        let (end_again, taken_again, chunks) = pass(data, true, reads);
        assert_eq!((end_again, taken_again), (end, taken));
        let (end_of_chunks, taken, bare_again) = pass(&chunks, false, &[]);
        assert_eq!(bare_again, bare);
        if end.is_ok() {
            assert_eq!((end_of_chunks, taken), (end, chunks.len()));
            let (decoded, trailer) = decode(&chunks);
            assert_eq!(decoded, bare);
            trailers.push(trailer.to_vec());
        }
    }
    trailers.dedup();
    assert!(trailers.len() < 2, "{trailers:?}");
    for trailer in trailers {
        assert!(end != Ok(true) || trailer == b"\r\n" || trailer.ends_with(b"\r\n\r\n"));
        let text = String::from_utf8_lossy(&trailer).to_ascii_lowercase();
        let is_framing = |line: &str| {
            line.starts_with("content-length:") || line.starts_with("transfer-encoding:")
        };
        assert!(!text.split("\r\n").any(is_framing), "{text}");
    }
}

/// Reads chunks in the plainest way: no extensions, no choice. The data, and what stands behind the last chunk.
fn decode(mut chunks: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut data = Vec::new();
    while !chunks.is_empty() {
        let end = chunks.windows(2).position(|pair| pair == b"\r\n");
        let (size, rest) = chunks.split_at(end.expect("a line ends"));
        let size = std::str::from_utf8(size).expect("a size is ASCII");
        let size = usize::from_str_radix(size, 16).expect("a size is hexadecimal");
        let rest = &rest[2..];
        if size == 0 {
            return (data, rest);
        }
        data.extend_from_slice(&rest[..size]);
        assert_eq!(&rest[size..size + 2], b"\r\n");
        chunks = &rest[size + 2..];
    }
    (data, b"")
}
