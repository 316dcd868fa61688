//! HTTP/1.1 as a client asks and reads it: `GET` requests, and answers that say their length. It must not know of sockets.

use super::dialect::{Dialect, Read};
use crate::wire::{POD_HEADER, SEQUENCE_HEADER, is_pattern};

/// The longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;
/// The longest body that names a Pod.
const MAX_NAME: u64 = 64;

/// Requests of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    /// Bytes of an answer's body; 0 asks for the Pod's name.
    wanted: u64,
    /// What stands before and behind a request's number.
    before: String,
    behind: String,
}

impl Requests {
    /// For bodies of so many bytes, or names if that is 0; `host` is what the requests say of whom they are for.
    pub(crate) fn new(bytes: u32, close: bool, host: &str) -> Self {
        let close = if close { "connection: close\r\n" } else { "" };
        Self {
            wanted: u64::from(bytes),
            before: format!("GET {}?", path(bytes)),
            behind: format!(" HTTP/1.1\r\nhost: {host}\r\n{close}\r\n"),
        }
    }
}

/// The path at which a Pod answers with so many bytes, or with its name.
pub(crate) fn path(bytes: u32) -> String {
    if bytes == 0 {
        "/".to_owned()
    } else {
        format!("/bytes/{bytes}")
    }
}

/// Whether `body` is what the Pod with this index says of itself.
pub(crate) fn is_name_of(pod: u32, body: &[u8]) -> bool {
    let index = body.strip_prefix(b"hello from pod ");
    let index = index.and_then(|rest| rest.strip_suffix(b"\n"));
    index.and_then(number) == Some(u64::from(pod))
}

/// A decimal number without a sign.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// An answer that comes in pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpAnswer {
    sequence: u64,
    /// What came of a head or a name that is not whole yet.
    held: Vec<u8>,
    head: Option<Head>,
    /// Bytes of the body that came.
    offset: u64,
}

/// What the head of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    pod: u32,
    length: u64,
    is_last: bool,
}

impl Dialect for Requests {
    type Answer = HttpAnswer;

    fn ask(&self, sequence: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.before.as_bytes());
        push_number(sequence, out);
        out.extend_from_slice(self.behind.as_bytes());
    }

    fn expect(&self, answer: &mut HttpAnswer, sequence: u64) {
        answer.sequence = sequence;
        answer.held.clear();
        answer.head = None;
        answer.offset = 0;
    }

    fn read(&self, answer: &mut HttpAnswer, bytes: &[u8]) -> Read {
        let (head, used) = match answer.head {
            Some(head) => (head, 0),
            None => match answer.read_head(bytes) {
                Ok(Some(found)) => found,
                Ok(None) => return Read::More,
                Err(NotOurs) => return Read::Wrong,
            },
        };
        if self.wanted != 0 && head.length != self.wanted {
            return Read::Wrong;
        }
        answer.head = Some(head);
        let left = head.length - answer.offset;
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let body = &bytes[used..];
        let body = &body[..body.len().min(left)];
        let is_right = if self.wanted == 0 {
            answer.read_name(head, body)
        } else {
            answer.read_pattern(body)
        };
        match is_right {
            false => Read::Wrong,
            true if answer.offset < head.length => Read::More,
            true => Read::Done {
                pod: head.pod,
                bytes: head.length,
                used: used + body.len(),
                is_last: head.is_last,
            },
        }
    }
}

/// These bytes are no answer to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NotOurs;

impl HttpAnswer {
    /// The head, if it is whole, and how many of `bytes` belong to it.
    fn read_head(&mut self, bytes: &[u8]) -> Result<Option<(Head, usize)>, NotOurs> {
        if self.held.is_empty()
            && let Some(end) = end_of_head(bytes)
        {
            return parse_head(&bytes[..end], self.sequence).map(|head| Some((head, end)));
        }
        let before = self.held.len();
        self.held.extend_from_slice(bytes);
        match end_of_head(&self.held) {
            Some(end) => {
                let head = parse_head(&self.held[..end], self.sequence)?;
                self.held.clear();
                Ok(Some((head, end - before)))
            }
            None if self.held.len() > MAX_HEAD => Err(NotOurs),
            None => Ok(None),
        }
    }

    fn read_name(&mut self, head: Head, body: &[u8]) -> bool {
        if head.length > MAX_NAME {
            return false;
        }
        self.offset += body.len() as u64;
        if self.held.is_empty() && self.offset == head.length {
            return is_name_of(head.pod, body);
        }
        self.held.extend_from_slice(body);
        self.offset < head.length || is_name_of(head.pod, &self.held)
    }

    fn read_pattern(&mut self, body: &[u8]) -> bool {
        let is_right = is_pattern(body, self.offset);
        self.offset += body.len() as u64;
        is_right
    }
}

/// Where the head ends that `bytes` begin with.
pub(crate) fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(at + 4)
}

/// The lines of a head as names and values, without the first line.
pub(crate) fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

fn parse_head(head: &[u8], sequence: u64) -> Result<Head, NotOurs> {
    if !head.starts_with(b"HTTP/1.1 200") {
        return Err(NotOurs);
    }
    let (mut pod, mut length, mut told, mut is_last) = (None, None, None, false);
    for (name, value) in fields(head) {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        if is("content-length") {
            length = number(value);
        } else if is(POD_HEADER) {
            pod = number(value).and_then(|pod| u32::try_from(pod).ok());
        } else if is(SEQUENCE_HEADER) {
            told = number(value);
        } else if is("connection") {
            is_last = value.eq_ignore_ascii_case(b"close");
        } else if is("transfer-encoding") {
            return Err(NotOurs); // Pods say how long a body is, and a proxy has no reason to hide it
        }
    }
    match (pod, length) {
        (Some(pod), Some(length)) if told == Some(sequence) => Ok(Head {
            pod,
            length,
            is_last,
        }),
        _ => Err(NotOurs),
    }
}

/// Appends a number in decimal digits.
pub(crate) fn push_number(number: u64, out: &mut Vec<u8>) {
    const DIGITS: usize = 20; // of the largest number
    let mut digits = [b'0'; DIGITS];
    let (mut left, mut at) = (number, DIGITS);
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use podline_lab::pattern;

    use super::*;

    fn read(requests: &Requests, pieces: &[&[u8]]) -> Read {
        let mut state = HttpAnswer::default();
        requests.expect(&mut state, 5);
        let mut last = Read::More;
        for piece in pieces {
            assert_eq!(last, Read::More);
            last = requests.read(&mut state, piece);
        }
        last
    }

    fn names() -> Requests {
        Requests::new(0, false, "pods")
    }

    const NAME: &str = "HTTP/1.1 200 OK\r\nX-Pod: 12\r\nDate: now\r\nx-sequence: 5\r\nContent-Length: 18\r\n\r\nhello from pod 12\n";

    fn done(bytes: u64, used: usize) -> Read {
        Read::Done {
            pod: 12,
            bytes,
            used,
            is_last: false,
        }
    }

    #[test]
    fn an_answer_is_read_however_it_is_cut() {
        let whole = NAME.as_bytes();
        assert_eq!(read(&names(), &[whole]), done(18, whole.len()));
        for cut in 1..whole.len() {
            let (first, second) = whole.split_at(cut);
            let seen = read(&names(), &[first, second]);
            assert_eq!(seen, done(18, second.len()), "cut at {cut}");
        }
        let bytes: Vec<_> = whole.chunks(1).collect();
        assert_eq!(read(&names(), &bytes), done(18, 1));
    }

    #[test]
    fn a_body_is_compared_with_the_pattern() {
        let head =
            "HTTP/1.1 200 OK\r\nx-pod: 12\r\nx-sequence: 5\r\ncontent-length: 3000000\r\n\r\n";
        let body: Vec<u8> = [0, 1_000_000, 2_000_000]
            .iter()
            .flat_map(|offset| pattern::at(*offset, 1_000_000))
            .copied()
            .collect();
        let mut whole = [head.as_bytes(), &body].concat();
        let requests = Requests::new(3_000_000, false, "pods");
        assert_eq!(read(&requests, &[&whole]), done(3_000_000, whole.len()));
        let (first, second) = whole.split_at(1_500_000);
        let seen = read(&requests, &[first, second]);
        assert_eq!(seen, done(3_000_000, second.len()));
        whole[2_500_000] ^= 1;
        assert_eq!(read(&requests, &[&whole]), Read::Wrong);
        let other = Requests::new(3_000_001, false, "pods");
        assert_eq!(read(&other, &[&whole]), Read::Wrong);
    }

    #[test]
    fn lies_are_found() {
        let bend = |from: &str, to: &str| NAME.replace(from, to);
        for wrong in [
            bend("200 OK", "503 Service Unavailable"),
            bend("x-sequence: 5", "x-sequence: 6"),
            bend("x-sequence: 5\r\n", ""),
            bend("X-Pod: 12", "X-Pod: 13"),
            bend("X-Pod: 12", "X-Pod: -1"),
            bend("Content-Length: 18", "Transfer-Encoding: chunked"),
            bend(
                "Content-Length: 18",
                "Content-Length: 184467440737095516150",
            ),
            bend("hello from", "hallo from"),
            "SSH-2.0-x\r\n\r\n".to_owned(),
        ] {
            assert_eq!(read(&names(), &[wrong.as_bytes()]), Read::Wrong, "{wrong}");
        }
        let endless = vec![b'x'; MAX_HEAD + 1];
        assert_eq!(read(&names(), &[&endless]), Read::Wrong);
    }

    #[test]
    fn an_answer_may_be_the_last_of_its_connection() {
        let last = NAME.replace("Date: now", "Connection: Close");
        let seen = read(&names(), &[last.as_bytes()]);
        assert!(matches!(seen, Read::Done { is_last: true, .. }), "{seen:?}");
    }

    #[test]
    fn what_follows_an_answer_is_not_used() {
        let two = NAME.repeat(2);
        assert_eq!(read(&names(), &[two.as_bytes()]), done(18, NAME.len()));
    }

    #[test]
    fn a_request_says_what_it_wants() {
        let text = |requests: Requests, sequence| {
            let mut out = Vec::new();
            requests.ask(sequence, &mut out);
            String::from_utf8(out).unwrap()
        };
        let name = "GET /?0 HTTP/1.1\r\nhost: pods\r\n\r\n";
        assert_eq!(text(names(), 0), name);
        let bytes =
            "GET /bytes/9?18446744073709551615 HTTP/1.1\r\nhost: pods\r\nconnection: close\r\n\r\n";
        assert_eq!(text(Requests::new(9, true, "pods"), u64::MAX), bytes);
    }
}
