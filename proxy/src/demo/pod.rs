//! A toy Pod: a tiny HTTP/1.1 server on loopback that says its name, and that can die or finish gracefully.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A request's head is smaller than this, or the connection is closed.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// What a Pod does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Serving,
    /// Answers, and asks the client to come back on a new connection.
    Finishing,
    /// Answers what it has begun, and closes everything.
    Dead,
}

/// A Pod that runs, until told otherwise or dropped.
pub(super) struct Pod {
    /// Its name, which it tells to whoever asks.
    pub(super) name: &'static str,
    /// Where it listens.
    pub(super) address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Pod {
    /// Starts a Pod on a free port, or where one was before.
    pub(super) async fn start(name: &'static str, at: Option<SocketAddr>) -> std::io::Result<Self> {
        let at = at.unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let (mode, told) = watch::channel(Mode::Serving);
        tokio::spawn(serve(name, listener, told));
        Ok(Self {
            name,
            address,
            mode,
        })
    }

    /// From now on nothing listens here, and every connection is cut after the answer being sent.
    pub(super) fn die(self) -> SocketAddr {
        self.mode.send_replace(Mode::Dead);
        self.address
    }

    /// As an application does on SIGTERM: goes on answering, and asks clients to leave.
    pub(super) fn finish(&self) {
        self.mode.send_replace(Mode::Finishing);
    }
}

async fn serve(name: &'static str, listener: TcpListener, mut mode: watch::Receiver<Mode>) {
    let greeting: Arc<str> = format!("hello from {name}\n").into();
    loop {
        tokio::select! {
            () = died(&mut mode) => break,
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                tokio::spawn(converse(stream, Arc::clone(&greeting), mode.clone()));
            }
        }
    }
    // What the kernel accepted already is answered: else its clients would see a reset that no balancer can mend.
    let Ok(listener) = listener.into_std() else {
        return;
    };
    while let Ok((stream, _)) = listener.accept() {
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            tokio::spawn(converse(stream, Arc::clone(&greeting), mode.clone()));
        }
    }
}

/// A Pod that was dropped is dead too.
async fn died(mode: &mut watch::Receiver<Mode>) {
    let _ = mode.wait_for(|mode| *mode == Mode::Dead).await;
}

/// Answers the requests of one connection. What breaks it is the client's business.
async fn converse(mut stream: TcpStream, greeting: Arc<str>, mut mode: watch::Receiver<Mode>) {
    let _ = stream.set_nodelay(true);
    let mut head = Vec::new();
    let mut first = true;
    loop {
        // The first request of a connection is waited for even by a dead Pod; see `serve`.
        let read = tokio::select! {
            () = died(&mut mode), if !first && head.is_empty() => return,
            read = stream.read_buf(&mut head) => read,
        };
        if !matches!(read, Ok(1..)) || head.len() > MAX_HEAD_BYTES {
            return;
        }
        let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            continue;
        };
        let asked = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
        let close = asked.contains("connection: close") || *mode.borrow() != Mode::Serving;
        let connection = if close { "close" } else { "keep-alive" };
        let length = greeting.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\
             connection: {connection}\r\n\r\n{greeting}"
        );
        if stream.write_all(answer.as_bytes()).await.is_err() || close {
            return;
        }
        head.drain(..end + 4);
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(stream: &mut TcpStream, extra: &str) -> String {
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{extra}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with("pod-x\n") {
            let mut bytes = [0; 512];
            let n = stream.read(&mut bytes).await.unwrap();
            assert_ne!(n, 0, "{answer}");
            answer += std::str::from_utf8(&bytes[..n]).unwrap();
        }
        answer
    }

    #[tokio::test]
    async fn a_pod_answers_finishes_dies_and_comes_back() {
        let pod = Pod::start("pod-x", None).await.unwrap();
        let mut one = TcpStream::connect(pod.address).await.unwrap();
        assert!(ask(&mut one, "").await.contains("connection: keep-alive"));
        assert!(ask(&mut one, "").await.contains("hello from pod-x"));
        let mut two = TcpStream::connect(pod.address).await.unwrap();
        assert!(
            ask(&mut two, "connection: close\r\n")
                .await
                .contains("connection: close")
        );
        assert_eq!(two.read(&mut [0; 8]).await.unwrap(), 0);

        pod.finish();
        assert!(ask(&mut one, "").await.contains("connection: close"));
        let mut idle = TcpStream::connect(pod.address).await.unwrap();
        let address = pod.die();
        // The kernel had accepted it: it is answered still.
        assert!(ask(&mut idle, "").await.contains("connection: close"));
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let again = Pod::start("pod-x", Some(address)).await.unwrap();
        assert_eq!(again.address, address);
        ask(&mut TcpStream::connect(address).await.unwrap(), "").await;
    }
}
