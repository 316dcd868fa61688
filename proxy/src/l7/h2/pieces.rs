//! A body in the form of HTTP/1.1, taken apart: data, trailers, the end. Pure.

use super::as_h2;
use crate::l7::fault::Fault;
use crate::l7::h1::chunks::{ChunkReader, Piece};
use crate::l7::h1::framing::Length;
use bytes::{Buf, BytesMut};
use http::HeaderMap;

/// How far a body has been taken apart.
#[derive(Debug)]
pub(crate) struct Pieces {
    form: Form,
    /// Bytes of data that stand at the front.
    data: usize,
    trailers: Option<Box<HeaderMap>>,
}

#[derive(Debug)]
enum Form {
    Over,
    Left(u64),
    Chunks(ChunkReader),
}

/// What stands next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// So many bytes of data, at the front.
    Data(usize),
    /// More bytes are needed.
    More,
    /// Nothing but trailers, if there are any.
    Over,
}

impl Pieces {
    /// The beginning of a body whose length is told so.
    ///
    /// # Errors
    /// It goes on up to the end of a connection: no stream has that.
    pub(crate) fn new(length: Length) -> Result<Self, Fault> {
        let form = match length {
            Length::None => Form::Over,
            Length::Exactly(left) => Form::Left(left),
            Length::Chunked => Form::Chunks(ChunkReader::default()),
            Length::UntilEnd => return Err(Fault::Malformed),
        };
        Ok(Self {
            form,
            data: 0,
            trailers: None,
        })
    }

    /// What stands next; framing before it is taken out of `bytes`.
    ///
    /// # Errors
    /// The framing is broken.
    pub(crate) fn next(&mut self, bytes: &mut BytesMut) -> Result<Next, Fault> {
        loop {
            if self.data > 0 {
                return Ok(Next::Data(self.data));
            }
            match &mut self.form {
                Form::Over => return Ok(Next::Over),
                Form::Left(0) => self.form = Form::Over,
                Form::Left(_) if bytes.is_empty() => return Ok(Next::More),
                Form::Left(left) => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX);
                    self.data = most.min(bytes.len());
                    *left -= self.data as u64;
                }
                Form::Chunks(reader) => match reader.next(bytes)? {
                    Piece::Framing { skip } => {
                        bytes.advance(skip);
                        return Ok(Next::More);
                    }
                    Piece::Data { skip, length } => {
                        bytes.advance(skip);
                        self.data = length;
                    }
                    Piece::Trailer { skip, length } => {
                        let trailers = self.trailers.get_or_insert_default();
                        let line = &bytes[skip..skip + length];
                        as_h2::add_trailer(trailers, line).map_err(|_| Fault::Malformed)?;
                        bytes.advance(skip + length + 2);
                    }
                    Piece::End { skip } => {
                        bytes.advance(skip);
                        self.form = Form::Over;
                    }
                },
            }
        }
    }

    /// So much of the data was taken from the front.
    pub(crate) fn took(&mut self, bytes: usize) {
        self.data -= bytes;
    }

    /// Whether the data that stands next is known to be the last of the message; `bytes` begins with it.
    pub(crate) fn is_last(&self, bytes: &[u8]) -> bool {
        match self.form {
            Form::Over => self.trailers.is_none(),
            Form::Left(left) => left == 0,
            Form::Chunks(mut reader) => {
                matches!(reader.next(&bytes[self.data..]), Ok(Piece::End { .. }))
            }
        }
    }

    /// The same where the end was met, too.
    pub(crate) fn take_trailers_if(&mut self, is_over: bool) -> Option<HeaderMap> {
        if is_over { self.take_trailers() } else { None }
    }

    /// The trailers that were met.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().map(|trailers| *trailers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of a body that comes `step` bytes at a time.
    fn read(length: Length, body: &str, step: usize) -> Result<(String, Option<HeaderMap>), Fault> {
        let mut pieces = Pieces::new(length)?;
        let (mut bytes, mut data) = (BytesMut::new(), Vec::new());
        let mut rest = body.as_bytes().chunks(step);
        loop {
            match pieces.next(&mut bytes)? {
                Next::Data(n) => {
                    let n = n.min(3); // as if no more could be sent
                    data.extend_from_slice(&bytes.split_to(n));
                    pieces.took(n);
                }
                Next::More => match rest.next() {
                    Some(more) => bytes.extend_from_slice(more),
                    None => return Err(Fault::BadResponse),
                },
                Next::Over => {
                    let data = String::from_utf8(data).unwrap();
                    return Ok((data, pieces.take_trailers()));
                }
            }
        }
    }

    #[test]
    fn bodies_of_every_form_come_apart_however_they_arrive() {
        let chunks = "5\r\nhello\r\n6\r\n world\r\n0\r\nGrpc-Status: 0\r\nx: a b \r\n\r\n";
        for step in 1..=chunks.len() {
            let (data, trailers) = read(Length::Chunked, chunks, step).unwrap();
            let trailers = trailers.unwrap();
            assert_eq!(data, "hello world");
            assert_eq!(trailers["grpc-status"], "0");
            assert_eq!(trailers["x"], "a b");
            let (data, trailers) = read(Length::Exactly(5), "hello", step).unwrap();
            assert_eq!((data.as_str(), trailers), ("hello", None));
        }
        assert_eq!(read(Length::None, "", 1), Ok((String::new(), None)));
        assert_eq!(
            read(Length::Chunked, "0\r\n\r\n", 9),
            Ok((String::new(), None))
        );
    }

    #[test]
    fn what_is_broken_is_no_body() {
        for body in ["5\r\nhelloX", "-1\r\n", "0\r\nno field\r\n\r\n"] {
            assert_eq!(
                read(Length::Chunked, body, 64),
                Err(Fault::Malformed),
                "{body}"
            );
        }
        assert!(Pieces::new(Length::UntilEnd).is_err());
    }

    #[test]
    fn the_last_data_is_known_where_the_end_is_there() {
        let last = |length, body: &str| {
            let mut pieces = Pieces::new(length).unwrap();
            let mut bytes = BytesMut::from(body);
            assert!(matches!(pieces.next(&mut bytes), Ok(Next::Data(_))));
            pieces.is_last(&bytes)
        };
        assert!(last(Length::Exactly(2), "hi"));
        assert!(!last(Length::Exactly(3), "hi"));
        assert!(last(Length::Chunked, "2\r\nhi\r\n0\r\n\r\n"));
        assert!(!last(Length::Chunked, "2\r\nhi\r\n0\r\n"));
        assert!(!last(Length::Chunked, "2\r\nhi\r\n0\r\na: b\r\n\r\n"));
        assert!(!last(Length::Chunked, "2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n"));
    }
}
