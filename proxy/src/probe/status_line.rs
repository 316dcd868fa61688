//! Reads an HTTP/1 answer as far as its status. Pure: bytes in, a status out.
//!
//! Heads of interim answers are skipped; heads of final ones, and bodies, are never read.

/// Longest status line.
const LONGEST_LINE: usize = 1_024;
/// How far answers are read in search of the final one: interim answers must come to an end.
const LONGEST_SEARCH: usize = 16 * 1_024;
const VERSION: &[u8] = b"HTTP/1.";

/// What came is not HTTP/1, or not an answer of sane length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotHttp;

/// What is known of an answer.
pub(super) struct StatusLine {
    line: [u8; LONGEST_LINE],
    length: usize,
    /// Within the head of an interim answer, whose lines say nothing.
    skips: bool,
    seen: usize,
}

impl StatusLine {
    /// Before the first byte.
    pub(super) const fn new() -> Self {
        Self {
            line: [0; LONGEST_LINE],
            length: 0,
            skips: false,
            seen: 0,
        }
    }

    /// Takes in what came: the first status that `is_final`, or none yet.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        is_final: impl Fn(u16) -> bool,
    ) -> Result<Option<u16>, NotHttp> {
        for byte in bytes {
            self.seen += 1;
            if self.seen > LONGEST_SEARCH {
                return Err(NotHttp);
            }
            if *byte != b'\n' {
                self.push(*byte)?;
            } else if let Some(status) = self.end_line()?
                && is_final(status)
            {
                return Ok(Some(status));
            }
        }
        Ok(None)
    }

    fn push(&mut self, byte: u8) -> Result<(), NotHttp> {
        match self.line.get_mut(self.length) {
            Some(place) => *place = byte,
            None if self.skips => return Ok(()), // only whether it is empty counts
            None => return Err(NotHttp),
        }
        self.length += 1;
        // Whoever speaks first in another protocol need not be waited for.
        let known = self.length.min(VERSION.len());
        if self.skips || self.line[..known] == VERSION[..known] {
            Ok(())
        } else {
            Err(NotHttp)
        }
    }

    fn end_line(&mut self) -> Result<Option<u16>, NotHttp> {
        let line = &self.line[..std::mem::take(&mut self.length)];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.skips {
            self.skips = !line.is_empty();
            return Ok(None);
        }
        self.skips = true;
        status(line).map(Some).ok_or(NotHttp)
    }
}

/// `HTTP/1.x NNN`, and a reason or nothing.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(VERSION)?;
    let rest = rest.strip_prefix(b"0").or(rest.strip_prefix(b"1"))?;
    let (digits, reason) = rest.strip_prefix(b" ")?.split_at_checked(3)?;
    let is_whole = reason.first().is_none_or(|byte| *byte == b' ');
    let is_number = digits.iter().all(u8::is_ascii_digit) && digits[0] != b'0';
    (is_whole && is_number).then(|| digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an answer comes to, whole and byte by byte.
    fn read(answer: &[u8]) -> Result<Option<u16>, NotHttp> {
        let is_final = |status| status >= 200;
        let whole = StatusLine::new().take(answer, is_final);
        let mut line = StatusLine::new();
        let mut bytes = answer.chunks(1).map(|byte| line.take(byte, is_final));
        let single = bytes.find(|found| *found != Ok(None)).unwrap_or(Ok(None));
        assert_eq!(whole, single);
        whole
    }

    #[test]
    fn a_status_is_read_from_either_version() {
        for (answer, status) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], 200),
            (b"HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\n", 404),
            (b"HTTP/1.1 503 \r\n", 503),
            (b"HTTP/1.1 204\n", 204),
            (b"HTTP/1.1 999 \xff\xff\r\n", 999),
        ] {
            assert_eq!(read(answer), Ok(Some(status)));
        }
    }

    #[test]
    fn anything_else_is_not_http() {
        for answer in [
            &b"\r\n"[..],
            b"HTTP/2 200\r\n",
            b"HTTP/1.2 200 OK\r\n",
            b"HTTP/1.1\r\n",
            b"HTTP/1.1 20\r\n",
            b"HTTP/1.1 2000 OK\r\n",
            b"HTTP/1.1 099 OK\r\n",
            b"HTTP/1.1 +20 OK\r\n",
            b"HTTP/1.1  200 OK\r\n",
            b"http/1.1 200 OK\r\n",
            b"HTTP/1.1 20\xc3\xa9 OK\r\n",
        ] {
            let shown = String::from_utf8_lossy(answer);
            assert_eq!(read(answer), Err(NotHttp), "{shown}");
        }
    }

    #[test]
    fn another_protocol_is_known_by_its_first_bytes() {
        assert_eq!(read(b"S"), Err(NotHttp));
        assert_eq!(read(b"HTTP/1"), Ok(None));
        assert_eq!(read(b"HTTP/2"), Err(NotHttp));
    }

    #[test]
    fn interim_answers_are_skipped() {
        let hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        assert_eq!(read(hints), Ok(None));
        assert_eq!(
            read(&[&hints[..], b"HTTP/1.1 200 OK\r\n"].concat()),
            Ok(Some(200))
        );
        assert_eq!(read(&[&hints[..], b"garbage\r\n"].concat()), Err(NotHttp));
        let long = format!("HTTP/1.1 103 x\r\nLink: {}\r\n\r\n", "a".repeat(4_000));
        assert_eq!(
            read(&[long.as_bytes(), b"HTTP/1.1 500 x\r\n"].concat()),
            Ok(Some(500))
        );
    }

    #[test]
    fn what_does_not_end_is_given_up() {
        let line = [&b"HTTP/1.1 200 "[..], &[b'a'; 1_010]].concat();
        assert_eq!(read(&line), Ok(None));
        assert_eq!(
            read(&[&line[..], b"b\n"].concat()),
            Ok(Some(200)),
            "the longest"
        );
        assert_eq!(read(&[&line[..], b"bb"].concat()), Err(NotHttp));
        assert_eq!(
            read(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000)),
            Err(NotHttp)
        );
        let endless = [&b"HTTP/1.1 100 Continue\r\n"[..], &b"a".repeat(20_000)].concat();
        assert_eq!(read(&endless), Err(NotHttp));
    }
}
