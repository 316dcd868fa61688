//! A responder says who is seen connecting to it: what a proxy needs to prove that a client's address survives the way to
//! a node's Pods. It runs behind an interface like a Pod's, without privileges.
//!
//! It tells nothing but the caller's own address, keeps nothing, and answers at a bounded rate.

mod on_link;
pub mod wire;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use on_link::OnLink;
use wire::{NONCE, Saw};

use crate::error::Error;

/// Connections served at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 256;
/// How long one may take.
const CONNECTION_TIME: Duration = Duration::from_secs(2);
/// Answers a second over TCP, and as many over UDP. Proofs ask a few times a second.
const RATE: u32 = 1000;
/// A second is shared out in such parts.
const PART: Duration = Duration::from_millis(50);
const PARTS: u32 = 20;

/// How a responder runs.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct ResponderSettings {
    /// Where to answer, over TCP and UDP [default: port 9904 of all addresses]
    #[arg(long, env = "PODLINE_RESPONDER_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
}

/// A responder with its sockets bound.
#[derive(Debug)]
pub struct Responder {
    /// Where it answers.
    pub address: SocketAddr,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Responder {
    /// Binds it; without an address, to all of both IP versions, or of IPv4 where the host has no IPv6.
    pub async fn bind(address: Option<SocketAddr>) -> Result<Self, Error> {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, wire::PORT));
        let mut bound = Self::bind_to(address.unwrap_or(any)).await;
        if let (None, Err(error)) = (address, &bound)
            && error.raw_os_error() == Some(libc::EAFNOSUPPORT)
        {
            bound = Self::bind_to((Ipv4Addr::UNSPECIFIED, wire::PORT).into()).await;
        }
        bound.map_err(|source| Error::Bind {
            what: "the responder",
            address: address.unwrap_or(any).to_string(),
            source,
        })
    }

    async fn bind_to(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let address = tcp.local_addr()?;
        let udp = UdpSocket::bind(address).await?;
        Ok(Self { address, tcp, udp })
    }

    /// Answers until it is dropped.
    pub async fn run(self) {
        let on_link = OnLink::look();
        tracing::info!(address = %self.address, %on_link, "answering");
        tokio::join!(serve_tcp(self.tcp, on_link), serve_udp(self.udp, on_link));
    }
}

async fn serve_tcp(listener: TcpListener, on_link: OnLink) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut pace = Pace::default();
    loop {
        pace.wait().await;
        let permit = Arc::clone(&permits).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                let saw = on_link.saw(peer);
                tokio::spawn(async move {
                    // Who does not read its line in time has none.
                    let _ = timeout(CONNECTION_TIME, tell(stream, saw)).await;
                    drop(permit);
                });
            }
            // At a limit of the process or the machine: a pause instead of a busy loop.
            Err(error) => {
                tracing::debug!(%error, "cannot accept");
                tokio::time::sleep(PART).await;
            }
        }
    }
}

/// Sends the line and waits for the other end's end, so that it is the one that remembers the connection.
async fn tell(mut stream: TcpStream, saw: Saw) -> io::Result<()> {
    stream.write_all(saw.line().as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = [0; 64];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

async fn serve_udp(socket: UdpSocket, on_link: OnLink) {
    let mut pace = Pace::default();
    // One byte more than is answered, so that what is longer shows.
    let mut datagram = [0; NONCE + 1];
    loop {
        pace.wait().await;
        // An error here is about an answer that did not arrive.
        let Ok((len, peer)) = socket.recv_from(&mut datagram).await else {
            continue;
        };
        if let Some(answer) = on_link.saw(peer).answer(&datagram[..len]) {
            let _ = socket.try_send_to(&answer, peer);
        }
    }
}

/// Lets no more than [`RATE`] pass a second.
#[derive(Default)]
struct Pace {
    part: Option<Instant>,
    passed: u32,
}

impl Pace {
    async fn wait(&mut self) {
        let now = Instant::now();
        let part = self.part.filter(|part| now < *part + PART);
        let Some(part) = part else {
            (self.part, self.passed) = (Some(now), 1);
            return;
        };
        if self.passed >= RATE / PARTS {
            tokio::time::sleep_until(part + PART).await;
            (self.part, self.passed) = (Some(Instant::now()), 1);
            return;
        }
        self.passed += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_tells_over_tcp_and_udp_who_calls() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let local: SocketAddr = local.parse().unwrap();
            let responder = Responder::bind(Some(local)).await.unwrap();
            let address = responder.address;
            let running = tokio::spawn(responder.run());
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut line = String::new();
            stream.read_to_string(&mut line).await.unwrap();
            let saw: Saw = line.parse().unwrap();
            assert_eq!(saw.peer, stream.local_addr().unwrap());

            let socket = UdpSocket::bind(local).await.unwrap();
            let mut buffer = [0; 200];
            for request in [&[1; NONCE - 1][..], &[2; NONCE + 1], &[3; NONCE]] {
                socket.send_to(request, address).await.unwrap();
            }
            let len = socket.recv(&mut buffer).await.unwrap();
            let saw = Saw::read_answer([3; NONCE], &buffer[..len]).unwrap();
            assert_eq!(saw.peer, socket.local_addr().unwrap());
            running.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_bounded() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for _ in 0..3 * RATE {
            pace.wait().await;
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(2900), "{took:?}");
    }
}
