//! Frames over TCP: requests in their order, each answered; uploads are compared with the pattern.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

use podline_lab::pattern;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::state::State;
use crate::wire::{Answer, HEAD, Request, THEN_CLOSE, is_pattern};

/// What is read or written at once.
const PIECE: usize = 256 * 1024;

thread_local! {
    /// Bytes that were just read, of whichever connection; nothing stays in it.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE]);
}

/// Where a connection is between requests.
#[derive(Debug, Default)]
struct Reader {
    head: [u8; HEAD],
    /// Bytes of the head that are there.
    got: usize,
    /// The request whose upload comes, and how much of it came.
    uploading: Option<(Request, u64)>,
    /// What came behind a whole request: a client that does not wait for its answers.
    early: Vec<u8>,
}

/// These bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NotOurs;

impl Reader {
    /// Reads until a request is whole: that, and how many of `bytes` were used.
    fn feed(&mut self, bytes: &[u8]) -> Result<(Option<Request>, usize), NotOurs> {
        let mut used = 0;
        if self.uploading.is_none() {
            let part = bytes.len().min(HEAD - self.got);
            self.head[self.got..self.got + part].copy_from_slice(&bytes[..part]);
            self.got += part;
            used = part;
            if self.got < HEAD {
                return Ok((None, used));
            }
            self.got = 0;
            let request = Request::decode(&self.head).ok_or(NotOurs)?;
            if request.sent == 0 || request.sent == THEN_CLOSE {
                return Ok((Some(request), used));
            }
            self.uploading = Some((request, 0));
        }
        let Some((request, offset)) = &mut self.uploading else {
            return Ok((None, used)); // cannot be: it was set above
        };
        let left = u64::from(request.sent) - *offset;
        let part = &bytes[used..];
        let part = &part[..part.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        if !is_pattern(part, *offset) {
            return Err(NotOurs);
        }
        *offset += part.len() as u64;
        used += part.len();
        if *offset < u64::from(request.sent) {
            return Ok((None, used));
        }
        let request = *request;
        self.uploading = None;
        Ok((Some(request), used))
    }

    /// As [`Self::feed`], and keeps what is left over.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<Request>, NotOurs> {
        let (request, used) = self.feed(bytes)?;
        self.early.extend_from_slice(&bytes[used..]);
        Ok(request)
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(mut stream: TcpStream, state: Arc<State>) -> io::Result<()> {
    let mut reader = Reader::default();
    loop {
        let Some(request) = next(&mut stream, &mut reader, &state).await? else {
            return stream.shutdown().await;
        };
        state.requested();
        let is_last = request.sent == THEN_CLOSE || state.is_closing();
        answer(&mut stream, state.pod, request, is_last).await?;
        if is_last {
            stream.shutdown().await?;
            return drain(&stream, &state).await;
        }
    }
}

/// Reads what the client still sends, so that the end of the connection is no reset to it.
async fn drain(stream: &TcpStream, state: &State) -> io::Result<()> {
    loop {
        stream.readable().await?;
        match SCRATCH.with_borrow_mut(|scratch| stream.try_read(scratch)) {
            Ok(0) => return Ok(()),
            Ok(count) => state.received(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            Err(error) => return Err(error),
        }
    }
}

/// The next request; `None` at the connection's end.
async fn next(
    stream: &mut TcpStream,
    reader: &mut Reader,
    state: &State,
) -> io::Result<Option<Request>> {
    let not_ours = |NotOurs| io::Error::from(ErrorKind::InvalidData);
    while !reader.early.is_empty() {
        let early = std::mem::take(&mut reader.early);
        if let Some(request) = reader.take(&early).map_err(not_ours)? {
            return Ok(Some(request));
        }
    }
    loop {
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let count = stream.try_read(scratch)?;
            state.received(count);
            let request = reader.take(&scratch[..count]);
            Ok((count, request))
        });
        match read {
            Ok((0, _)) => return Ok(None),
            Ok((_, request)) => {
                if let Some(request) = request.map_err(not_ours)? {
                    return Ok(Some(request));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.readable().await?,
            Err::<_, io::Error>(error) => return Err(error),
        }
    }
}

async fn answer(
    stream: &mut TcpStream,
    pod: u32,
    request: Request,
    is_last: bool,
) -> io::Result<()> {
    let head = Answer {
        sequence: request.sequence,
        pod,
        bytes: request.wanted,
        is_last,
    }
    .encode();
    let wanted = u64::from(request.wanted);
    send(stream, &head, wanted).await
}

/// Sends a head and then so many bytes of the pattern.
pub(crate) async fn send(stream: &mut TcpStream, head: &[u8], wanted: u64) -> io::Result<()> {
    let mut head = head;
    let mut offset = 0;
    while !head.is_empty() || offset < wanted {
        let len = usize::try_from(wanted - offset).unwrap_or(PIECE).min(PIECE);
        let body = pattern::at(offset, len);
        let wrote = match head.is_empty() {
            true => stream.try_write(body),
            false if body.is_empty() => stream.try_write(head),
            false => stream.try_write_vectored(&[IoSlice::new(head), IoSlice::new(body)]),
        };
        match wrote {
            Ok(count) => {
                let of_head = count.min(head.len());
                head = &head[of_head..];
                offset += (count - of_head) as u64;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(sent: u32) -> Vec<u8> {
        let request = Request {
            sequence: 4,
            wanted: 0,
            sent,
        };
        [&request.encode()[..], pattern::at(0, sent as usize)].concat()
    }

    #[test]
    fn requests_are_read_however_they_are_cut() {
        let bytes = [upload(0), upload(50), upload(0)].concat();
        for size in 1..bytes.len() {
            let mut reader = Reader::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(size) {
                let mut rest = piece;
                while !rest.is_empty() {
                    let (request, used) = reader.feed(rest).unwrap();
                    seen.extend(request.map(|request| request.sent));
                    rest = &rest[used..];
                }
            }
            assert_eq!(seen, [0, 50, 0], "pieces of {size}");
        }
    }

    #[test]
    fn a_bent_upload_is_refused() {
        let mut bytes = upload(50);
        bytes[HEAD + 20] ^= 1;
        assert_eq!(Reader::default().feed(&bytes), Err(NotOurs));
        assert_eq!(Reader::default().feed(&[0; HEAD]), Err(NotOurs));
    }
}
