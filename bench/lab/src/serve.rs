//! How a toy Pod serves: its accept loop and one function per behaviour. It must not know of threads and namespaces.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::pattern;
use crate::pod::{Behaviour, PodCounts};

const READ_BYTES: usize = 64 * 1024;
/// Longest request head; a longer one ends the connection.
const HEAD_BYTES: usize = 16 * 1024;

/// Accepts until that fails, which is the only way it ends by itself.
pub(crate) async fn run(
    listener: std::net::TcpListener,
    name: String,
    behaviour: Behaviour,
    counts: Arc<PodCounts>,
) -> io::Error {
    let name: Arc<str> = name.into();
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // The client reset it while it was queued.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return error,
        };
        counts.accepted.fetch_add(1, Relaxed);
        let open = Open::new(Arc::clone(&counts));
        let name = Arc::clone(&name);
        tokio::spawn(async move {
            if serve(stream, &name, behaviour, &open.0).await.is_err() {
                open.0.resets.fetch_add(1, Relaxed);
            }
        });
    }
}

/// Counts a connection as open while it lives.
struct Open(Arc<PodCounts>);

impl Open {
    fn new(counts: Arc<PodCounts>) -> Self {
        counts.open.fetch_add(1, Relaxed);
        Self(counts)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

async fn serve(
    mut stream: TcpStream,
    name: &str,
    behaviour: Behaviour,
    counts: &PodCounts,
) -> io::Result<()> {
    match behaviour {
        Behaviour::Name => answer(&mut stream, name, counts).await,
        Behaviour::Peer => {
            let peer = stream.peer_addr()?.to_string();
            answer(&mut stream, &peer, counts).await
        }
        Behaviour::Echo => echo(&mut stream, &counts.received).await,
        Behaviour::SendThenEnd(bytes) => send_then_end(&mut stream, bytes, &counts.received).await,
        Behaviour::SendThenReset(bytes) => send_then_reset(stream, bytes).await,
        Behaviour::NeverRead => never_read(&stream).await,
        Behaviour::NeverAnswer => {
            drain(&mut stream, &counts.received).await?;
            stream.shutdown().await
        }
    }
}

/// Reads requests and answers each in turn.
async fn answer(stream: &mut TcpStream, name: &str, counts: &PodCounts) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::with_capacity(512);
    loop {
        let end = loop {
            if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let count = stream.read_buf(&mut head).await?;
            counts.received.fetch_add(count as u64, Relaxed);
            if count == 0 || head.len() > HEAD_BYTES {
                return stream.shutdown().await;
            }
        };
        let wanted = wanted_bytes(&head[..end]);
        let mut answer = response_head(wanted.unwrap_or(name.len() as u64 + 1)).into_bytes();
        // As much as possible in one write, as real servers do.
        let first = wanted.map_or(&[][..], |bytes| pattern::at(0, clamp(bytes)));
        match wanted {
            Some(_) => answer.extend_from_slice(first),
            None => answer.extend_from_slice(format!("{name}\n").as_bytes()),
        }
        stream.write_all(&answer).await?;
        send(stream, first.len() as u64, wanted.unwrap_or(0)).await?;
        counts.requests.fetch_add(1, Relaxed);
        head.drain(..end);
    }
}

fn response_head(bytes: u64) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n")
}

fn clamp(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// N of `GET /bytes/N`.
fn wanted_bytes(head: &[u8]) -> Option<u64> {
    let path = std::str::from_utf8(head).ok()?.split_whitespace().nth(1)?;
    path.strip_prefix("/bytes/")?.parse().ok()
}

async fn echo(stream: &mut TcpStream, received: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return stream.shutdown().await;
        }
        received.fetch_add(count as u64, Relaxed);
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn send_then_end(stream: &mut TcpStream, bytes: u64, received: &AtomicU64) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        send(&mut writer, 0, bytes).await?;
        writer.shutdown().await
    };
    tokio::try_join!(sending, drain(&mut reader, received))?;
    Ok(())
}

async fn send_then_reset(mut stream: TcpStream, bytes: u64) -> io::Result<()> {
    stream.read_u8().await?;
    send(&mut stream, 0, bytes).await?;
    // A reset throws away what is still in the send buffer, so wait until the other side has it all.
    while unacknowledged(&stream)? > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stream.set_zero_linger()
}

/// Bytes that were written and are not acknowledged yet, as the kernel's table of this thread's namespace says.
fn unacknowledged(stream: &TcpStream) -> io::Result<u64> {
    let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
    let table = if local.is_ipv4() { "tcp" } else { "tcp6" };
    let table = std::fs::read_to_string(format!("/proc/thread-self/net/{table}"))?;
    let ports = [local.port(), remote.port()].map(|port| format!(":{port:04X}"));
    // "sl local remote state tx_queue:rx_queue ..", in hexadecimal
    let queue = table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_ours = ports
            .iter()
            .all(|port| fields.next().is_some_and(|field| field.ends_with(port)));
        if is_ours { fields.nth(1) } else { None }
    });
    let sending = queue.and_then(|queue| u64::from_str_radix(queue.split(':').next()?, 16).ok());
    Ok(sending.unwrap_or(0)) // no longer in the table: reset by the other side
}

async fn never_read(stream: &TcpStream) -> io::Result<()> {
    // Only an error wakes it: interest in reading would be served by the first byte.
    stream.ready(tokio::io::Interest::ERROR).await?;
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

async fn drain(reader: &mut (impl AsyncReadExt + Unpin), received: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = reader.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        received.fetch_add(count as u64, Relaxed);
    }
}

/// Sends the pattern from `from` to `to`.
async fn send(writer: &mut (impl AsyncWriteExt + Unpin), from: u64, to: u64) -> io::Result<()> {
    let mut offset = from;
    while offset < to {
        let len = clamp(to - offset).min(READ_BYTES);
        writer.write_all(pattern::at(offset, len)).await?;
        offset += len as u64;
    }
    Ok(())
}
