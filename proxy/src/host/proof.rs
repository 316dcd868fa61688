//! The proof of a way: a connection and a datagram that imitate a reserved address, to a responder behind the same kind of
//! interface as the backends, which says whom it saw. Only if both arrive, and back, and nobody rewrote the address, are
//! clients imitated on that way.
//!
//! What the two attempts amount to is `judge`'s; when they are made is `prover`'s.

pub(super) mod judge;

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::host::responder::wire::{LINE, NONCE};
use crate::lb::network::Path;
use crate::net::socket::{self, Imitation};
use crate::state::network::Provable;
use judge::{Heard, judge};

/// What each attempt may take. A lost packet is sent again after a second.
const PATIENCE: Duration = Duration::from_millis(1_800);
/// When a datagram is sent again.
const AGAIN: Duration = Duration::from_millis(600);

/// Tries both.
pub(super) async fn prove(way: &Provable) -> (Path, String) {
    let (tcp, udp) = tokio::join!(connect(way), exchange(way));
    judge(way.source, &tcp, &udp)
}

fn imitation(way: &Provable) -> Imitation {
    Imitation {
        source: way.source,
        ports: way.ports,
    }
}

async fn connect(way: &Provable) -> Heard {
    let ask = async {
        let socket = socket::connect(way.responder, Some(imitation(way)), way.mark)?;
        let mut stream = TcpStream::from_std(socket.into())?;
        // Else each proof would leave a socket in TIME_WAIT.
        stream.set_zero_linger()?;
        stream.writable().await?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        let mut line = Vec::with_capacity(LINE);
        while !line.contains(&b'\n') && line.len() <= LINE {
            if stream.read_buf(&mut line).await? == 0 {
                break;
            }
        }
        Ok(line)
    };
    heard(timeout(PATIENCE, ask).await)
}

async fn exchange(way: &Provable) -> Heard {
    let ask = async {
        let socket = socket::datagrams_as(imitation(way), way.mark, way.responder)?;
        let socket = UdpSocket::from_std(socket.into())?;
        let nonce = nonce();
        let mut answer = [0; NONCE + LINE];
        loop {
            socket.send(&nonce).await?;
            // Until it is time to send again.
            let received = timeout(AGAIN, async {
                loop {
                    let count = socket.recv(&mut answer).await?;
                    if answer[..count].starts_with(&nonce) {
                        return Ok::<_, io::Error>(count);
                    }
                }
            });
            if let Ok(count) = received.await {
                return Ok(answer[NONCE..count?].to_vec());
            }
        }
    };
    heard(timeout(PATIENCE, ask).await)
}

fn heard(outcome: Result<io::Result<Vec<u8>>, tokio::time::error::Elapsed>) -> Heard {
    match outcome {
        Err(_) => Heard::Nothing,
        Ok(Ok(line)) => Heard::Line(String::from_utf8_lossy(&line).trim_end().to_owned()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Heard::Refused,
        Ok(Err(error)) => Heard::Failed(error.to_string()),
    }
}

/// Nobody who does not see it can answer it.
fn nonce() -> [u8; NONCE] {
    use std::hash::{BuildHasher, RandomState};
    let mut nonce = [0; NONCE];
    let half = || RandomState::new().hash_one(0_u8).to_ne_bytes();
    nonce[..8].copy_from_slice(&half());
    nonce[8..].copy_from_slice(&half());
    nonce
}
