//! Datagrams for tests: backends that answer and count, clients that ask and wait.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use podline_api::v1;

use super::{LONG, wire};

/// The question that a backend answers with its name; all else it sends back.
pub(crate) const WHO: &[u8] = b"who";

/// A backend; gone when dropped.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    received: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// At a port of the system's choice.
    pub(crate) fn start(name: &str, host: &str) -> Self {
        Self::serve(name, UdpSocket::bind((host, 0)).unwrap())
    }

    pub(crate) fn serve(name: &str, socket: UdpSocket) -> Self {
        let address = socket.local_addr().unwrap();
        let (received, stopped) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let (name, count, stop) = (name.to_owned(), Arc::clone(&received), Arc::clone(&stopped));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stop.load(Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                count.fetch_add(1, Relaxed);
                let question = &buffer[..length];
                let answer = if question == WHO {
                    name.as_bytes()
                } else {
                    question
                };
                socket.send_to(answer, from).ok();
            }
        });
        Self {
            address,
            received,
            stopped,
            thread: Some(thread),
        }
    }

    /// Datagrams so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stopped.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Addresses of backends.
pub(crate) fn addresses(backends: &[Backend]) -> Vec<SocketAddr> {
    backends.iter().map(|backend| backend.address).collect()
}

/// A UDP listener with the defaults.
pub(crate) fn listener(name: &str, address: SocketAddr, set: &str) -> v1::Listener {
    v1::Listener {
        protocol: Some(v1::listener::Protocol::Udp.into()),
        ..wire::listener(name, address, set)
    }
}

/// A client of `server`, of the loopback.
pub(crate) fn client(server: SocketAddr) -> UdpSocket {
    let host = if server.is_ipv6() { "::1" } else { "127.0.0.1" };
    client_at(host, server)
}

/// A client at an address of this machine.
pub(crate) fn client_at(host: &str, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((host, 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

/// Asks and waits for the answer.
pub(crate) fn ask(client: &UdpSocket, question: &[u8]) -> Vec<u8> {
    client.send(question).unwrap();
    let mut buffer = vec![0; 65_536];
    let length = client.recv(&mut buffer).expect("an answer");
    buffer.truncate(length);
    buffer
}

/// Asks who answers; nobody within `limit` is an empty name.
pub(crate) fn who_within(client: &UdpSocket, limit: Duration) -> String {
    client.set_read_timeout(Some(limit)).unwrap();
    client.send(WHO).unwrap();
    let mut buffer = [0; 64];
    let length = client.recv(&mut buffer).unwrap_or(0);
    client.set_read_timeout(Some(LONG)).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// Asks who answers.
pub(crate) fn who(client: &UdpSocket) -> String {
    String::from_utf8(ask(client, WHO)).unwrap()
}
