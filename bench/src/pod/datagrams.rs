//! Frames in datagrams: one answer for each request; those that want none are counted.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use podline_lab::pattern;
use tokio::net::UdpSocket;

use super::state::State;
use crate::wire::{Answer, HEAD, NO_ANSWER, Request, is_pattern};

const MAX_DATAGRAM: usize = 65_535;
/// The longest answer.
const MAX_ANSWER: usize = 65_507;
/// Datagrams that are taken before connections get their turn.
const TURN: usize = 128;

/// Serves until the Pod stops.
pub(crate) async fn serve(socket: UdpSocket, state: Arc<State>) -> io::Result<()> {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let stopping = state.changed.notified();
        if state.is_stopping() {
            return Ok(());
        }
        tokio::select! {
            ready = socket.readable() => ready?,
            () = stopping => continue,
        }
        turn(&socket, &state, &mut buffer);
        tokio::task::yield_now().await;
    }
}

/// Takes what is there, up to a turn's worth.
fn turn(socket: &UdpSocket, state: &State, buffer: &mut [u8]) {
    let mut came = Came::default();
    for _ in 0..TURN {
        match socket.try_recv_from(buffer) {
            Ok((count, from)) => {
                came.count(state, from.ip(), count);
                if let Some(len) = answer(state.pod, buffer, count) {
                    send(socket, &buffer[..len], from);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => (), // a client that is gone, said by its host
        }
    }
    came.flush(state);
}

fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    socket.try_send_to(answer, to).ok(); // without room it is lost, as datagrams are
}

/// Puts the answer to the datagram that is in `buffer` in its place: how long it is. `None` if there is none to give.
fn answer(pod: u32, buffer: &mut [u8], count: usize) -> Option<usize> {
    let request = Request::decode(&buffer[..count])?;
    if request.wanted == NO_ANSWER || !is_pattern(&buffer[HEAD..count], 0) {
        return None;
    }
    let len = usize::try_from(request.wanted).ok()?;
    if HEAD + len > MAX_ANSWER {
        return None;
    }
    let head = Answer {
        sequence: request.sequence,
        pod,
        bytes: request.wanted,
        is_last: false,
    };
    buffer[..HEAD].copy_from_slice(&head.encode());
    if HEAD + len > count {
        buffer[HEAD..HEAD + len].copy_from_slice(pattern::at(0, len));
    }
    Some(HEAD + len)
}

/// Counts datagrams of a turn; those of one source in a row are looked up once.
#[derive(Default)]
struct Came {
    datagrams: u64,
    bytes: usize,
    from: Option<(IpAddr, u64)>,
}

impl Came {
    fn count(&mut self, state: &State, from: IpAddr, bytes: usize) {
        self.datagrams += 1;
        self.bytes += bytes;
        match &mut self.from {
            Some((known, count)) if *known == from => *count += 1,
            other => {
                if let Some((known, count)) = other.replace((from, 1)) {
                    state.came_from(known, count);
                }
            }
        }
    }

    fn flush(self, state: &State) {
        state.datagrams.fetch_add(self.datagrams, Relaxed);
        state.received(self.bytes);
        if let Some((known, count)) = self.from {
            state.came_from(known, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(wanted: u32, padding: usize) -> (Vec<u8>, usize) {
        let request = Request {
            sequence: 8,
            wanted,
            sent: 0,
        };
        let mut buffer = [&request.encode()[..], pattern::at(0, padding)].concat();
        let count = buffer.len();
        buffer.resize(MAX_DATAGRAM, 0);
        (buffer, count)
    }

    #[test]
    fn an_answer_has_the_bytes_that_were_wanted() {
        for (wanted, padding) in [(0, 0), (10, 0), (10, 10), (10, 500), (65_483, 0)] {
            let (mut buffer, count) = asked(wanted, padding);
            let len = answer(3, &mut buffer, count).unwrap();
            let told = Answer::decode(&buffer).unwrap();
            assert_eq!((told.sequence, told.pod, told.bytes), (8, 3, wanted));
            assert!(is_pattern(&buffer[HEAD..len], 0) && len == HEAD + wanted as usize);
        }
    }

    #[test]
    fn what_wants_none_or_too_much_or_is_bent_gets_none() {
        for wanted in [NO_ANSWER, 65_484] {
            let (mut buffer, count) = asked(wanted, 5);
            assert_eq!(answer(3, &mut buffer, count), None);
        }
        let (mut buffer, count) = asked(1, 5);
        buffer[HEAD] ^= 1;
        assert_eq!(answer(3, &mut buffer, count), None);
        assert_eq!(answer(3, &mut buffer, 5), None);
    }
}
