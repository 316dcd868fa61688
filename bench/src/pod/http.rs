//! The port of HTTP: what the first bytes of a connection say which version it is, and who serves it then.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::state::State;
use super::{http1, http2};

/// What HTTP/2 by prior knowledge begins with; no method of HTTP/1.1 does.
const PREFACE: &[u8] = b"PRI";
/// Room for a request's head without growing.
const ROOM: usize = 2048;

/// Serves a connection until it ends.
pub(crate) async fn serve(mut stream: TcpStream, state: Arc<State>) -> io::Result<()> {
    let mut first = BytesMut::with_capacity(ROOM);
    while first.len() < PREFACE.len() {
        if stream.read_buf(&mut first).await? == 0 {
            return Ok(());
        }
    }
    if first.starts_with(PREFACE) {
        http2::serve(Prefixed { first, stream }, state).await
    } else {
        http1::serve(stream, first, state).await
    }
}

/// A stream whose first bytes were read already.
pub(crate) struct Prefixed {
    first: BytesMut,
    stream: TcpStream,
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..count]);
        self.first.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
