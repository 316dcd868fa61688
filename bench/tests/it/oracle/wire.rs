//! HTTP/1.1 as a test reads it: heads, lengths and chunks, by hand.

use std::io::{self, ErrorKind, Read};

/// A head.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// The first line.
    pub(super) line: String,
    /// Names in lower case.
    pub(super) fields: Vec<(String, String)>,
}

impl Head {
    fn read(text: &str) -> Self {
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let line = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_lowercase(), value.trim().to_owned())
        };
        let fields = lines.map(field).collect();
        Self { line, fields }
    }

    /// The value of the first field of this name, in lower case.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields
            .find(|(found, _)| found == name)
            .map(|(_, value)| &**value)
    }

    /// Of a request: its path.
    pub(super) fn path(&self) -> &str {
        let target = self.line.split(' ').nth(1).unwrap_or_default();
        target.split('?').next().unwrap_or_default()
    }

    /// Of an answer: its status; 0: none.
    pub(super) fn status(&self) -> u16 {
        let status = self.line.split(' ').nth(1);
        status.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn is_chunked(&self) -> bool {
        self.field("transfer-encoding").is_some()
    }

    fn length(&self) -> io::Result<Option<usize>> {
        let length = self.field("content-length");
        // A list's first member: what a lenient reader makes of it.
        let length = length.map(|list| list.split(',').next().unwrap_or_default().parse());
        let length = length.transpose();
        length.map_err(|_: std::num::ParseIntError| ErrorKind::InvalidData.into())
    }
}

/// What a message carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) data: Vec<u8>,
    /// Fields behind the chunks.
    pub(super) trailer: Vec<String>,
    /// What stood behind the chunks' sizes.
    pub(super) extensions: Vec<String>,
}

/// What was read and not used yet.
#[derive(Default)]
pub(super) struct Input {
    pub(super) buffer: Vec<u8>,
}

impl Input {
    pub(super) fn head(&mut self, stream: &mut dyn Read) -> io::Result<Head> {
        let bytes = self.up_to(stream, b"\r\n\r\n")?;
        Ok(Head::read(&bytes.escape_ascii_but_lines()))
    }

    /// A request's body: in chunks if it says so, else as long as it says.
    pub(super) fn request_body(&mut self, stream: &mut dyn Read, head: &Head) -> io::Result<Body> {
        if head.is_chunked() {
            return self.chunks(stream);
        }
        let data = self.exactly(stream, head.length()?.unwrap_or(0))?;
        Ok(Body {
            data,
            ..Body::default()
        })
    }

    /// An answer's body, which may be told by the end of the connection.
    pub(super) fn answer_body(
        &mut self,
        stream: &mut dyn Read,
        head: &Head,
        to_head: bool,
    ) -> io::Result<Body> {
        let data = match (head.status(), head.length()?) {
            (100..=199 | 204 | 304, _) => Vec::new(),
            _ if to_head => Vec::new(),
            _ if head.is_chunked() => return self.chunks(stream),
            (_, Some(length)) => self.exactly(stream, length)?,
            (_, None) => {
                stream.read_to_end(&mut self.buffer)?;
                std::mem::take(&mut self.buffer)
            }
        };
        Ok(Body {
            data,
            ..Body::default()
        })
    }

    fn chunks(&mut self, stream: &mut dyn Read) -> io::Result<Body> {
        let mut body = Body::default();
        loop {
            let line = self.line(stream)?;
            let digits = line.find(|c: char| !c.is_ascii_hexdigit());
            let (size, extension) = line.split_at(digits.unwrap_or(line.len()));
            let size = usize::from_str_radix(size, 16).map_err(|_| ErrorKind::InvalidData)?;
            if !extension.is_empty() {
                body.extensions.push(extension.to_owned());
            }
            if size == 0 {
                break;
            }
            body.data.extend(self.exactly(stream, size)?);
            if !self.line(stream)?.is_empty() {
                return Err(ErrorKind::InvalidData.into());
            }
        }
        loop {
            let line = self.line(stream)?;
            if line.is_empty() {
                return Ok(body);
            }
            body.trailer.push(line);
        }
    }

    fn line(&mut self, stream: &mut dyn Read) -> io::Result<String> {
        let line = self.up_to(stream, b"\r\n")?;
        Ok(line[..line.len() - 2].escape_ascii().to_string())
    }

    fn up_to(&mut self, stream: &mut dyn Read, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            let found = self.buffer.windows(end.len()).position(|it| it == end);
            if let Some(at) = found {
                return Ok(self.buffer.drain(..at + end.len()).collect());
            }
            self.more(stream)?;
        }
    }

    pub(super) fn exactly(&mut self, stream: &mut dyn Read, n: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < n {
            self.more(stream)?;
        }
        Ok(self.buffer.drain(..n).collect())
    }

    fn more(&mut self, stream: &mut dyn Read) -> io::Result<()> {
        let mut chunk = [0; 16 << 10];
        match stream.read(&mut chunk)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            n => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(())
            }
        }
    }
}

/// Bytes as text.
trait AsText {
    /// With each byte that is not printable ASCII escaped, but for the ends of whole lines.
    fn escape_ascii_but_lines(&self) -> String;
}

impl AsText for Vec<u8> {
    fn escape_ascii_but_lines(&self) -> String {
        self.escape_ascii().to_string().replace("\\r\\n", "\r\n")
    }
}
