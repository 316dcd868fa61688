//! A segment with servers in its Pods that tell who they are and whom they see, and a client that uses each of its ports
//! once, so that connection tracking knows no two connections as one.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use podline_lab::kube_proxy::{self, Flavour, Protocol};
use podline_lab::{Lab, Namespace, Segment, SegmentPlan, require, require_netns};
use socket2::{Domain, SockRef, Socket, Type};

/// How long an answer may take, and how long silence is waited for.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
pub(super) const SILENCE: Duration = Duration::from_millis(300);
/// Between two looks of a server whether it should end.
const LOOK: Duration = Duration::from_millis(20);
/// Target ports of the fixtures' Service.
const TCP: [u16; 2] = [9376, 9443];
const UDP: u16 = 5353;

/// What a Pod says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The Pod's node and index, as `node0.1`.
    pub(super) pod: String,
    /// Whom it sees.
    pub(super) source: IpAddr,
}

/// Two nodes with two Pods each, and a client.
pub(super) struct Site {
    pub(super) segment: Segment,
    servers: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    next_port: Cell<u16>,
}

impl Site {
    pub(super) fn build(lab: &Lab) -> Self {
        let plan = SegmentPlan {
            proxies: 0,
            pods: 2,
            ..SegmentPlan::default()
        };
        let segment = Segment::build(lab, plan).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut servers = Vec::new();
        for (node, at) in segment.nodes.iter().enumerate() {
            // Every refusal is heard, however many there are in a second.
            at.host.sysctl("net/ipv4/icmp_ratelimit", "0").unwrap();
            at.host.sysctl("net/ipv6/icmp/ratelimit", "0").unwrap();
            for (index, pod) in at.pods.iter().enumerate() {
                let name = format!("node{node}.{index}");
                servers.extend(TCP.map(|port| serve_tcp(pod, name.clone(), port, &stop)));
                servers.push(serve_udp(pod, name, UDP, &stop));
            }
        }
        Self {
            segment,
            servers,
            stop,
            next_port: Cell::new(20_000),
        }
    }

    /// A new connection or flow of the client's: who answers?
    pub(super) fn ask(&self, protocol: Protocol, to: SocketAddr) -> io::Result<Answer> {
        self.connect(protocol, to, LIMIT)?.ask()
    }

    /// As [`Self::ask`], but not the client asks.
    pub(super) fn ask_from(
        &self,
        (asker, from): (&Namespace, IpAddr),
        protocol: Protocol,
        to: SocketAddr,
    ) -> io::Result<Answer> {
        let from = (from, self.port()).into();
        let mut connection = asker.run(move || Connection::open(protocol, from, to, LIMIT))?;
        connection.ask()
    }

    /// The client's end of a new connection or flow.
    pub(super) fn connect(
        &self,
        protocol: Protocol,
        to: SocketAddr,
        limit: Duration,
    ) -> io::Result<Connection> {
        let from = (Segment::CLIENT[usize::from(to.is_ipv6())], self.port()).into();
        let client = &self.segment.client;
        client.run(move || Connection::open(protocol, from, to, limit))
    }

    /// One that was not used before.
    fn port(&self) -> u16 {
        let port = self.next_port.get();
        self.next_port.set(port + 1);
        port
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for server in self.servers.drain(..) {
            server.join().unwrap();
        }
    }
}

pub(super) enum Connection {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Connection {
    fn open(
        protocol: Protocol,
        from: SocketAddr,
        to: SocketAddr,
        limit: Duration,
    ) -> io::Result<Self> {
        let kind = if protocol == Protocol::Tcp {
            Type::STREAM
        } else {
            Type::DGRAM
        };
        let socket = Socket::new(Domain::for_address(from), kind, None)?;
        socket.set_read_timeout(Some(limit))?;
        socket.bind(&from.into())?;
        match protocol {
            Protocol::Tcp => socket.connect_timeout(&to.into(), limit)?,
            Protocol::Udp => socket.connect(&to.into())?,
        }
        Ok(match protocol {
            Protocol::Tcp => Self::Tcp(socket.into()),
            Protocol::Udp => Self::Udp(socket.into()),
        })
    }

    /// Says something, and hears who is there.
    pub(super) fn ask(&mut self) -> io::Result<Answer> {
        let mut answer = [0; 200];
        let count = match self {
            Self::Tcp(stream) => {
                stream.write_all(b"?")?;
                stream.read(&mut answer)?
            }
            Self::Udp(socket) => {
                socket.send(b"?")?;
                socket.recv(&mut answer)?
            }
        };
        let text = String::from_utf8_lossy(&answer[..count]).into_owned();
        let (pod, source) = text.split_once(' ').ok_or(ErrorKind::UnexpectedEof)?;
        let source = source.parse().map_err(io::Error::other)?;
        Ok(Answer {
            pod: pod.to_owned(),
            source,
        })
    }
}

fn answer(name: &str, peer: SocketAddr) -> String {
    format!("{name} {}", peer.ip().to_canonical())
}

fn serve_tcp(pod: &Namespace, name: String, port: u16, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let stop = Arc::clone(stop);
    let listener = pod.run(move || TcpListener::bind(("::", port)).unwrap()); // both families
    listener.set_nonblocking(false).unwrap();
    SockRef::from(&listener)
        .set_read_timeout(Some(LOOK))
        .unwrap();
    std::thread::spawn(move || {
        let mut connections = Vec::new();
        while !stop.load(Relaxed) {
            if let Ok((stream, peer)) = listener.accept() {
                let name = name.clone();
                connections.push(std::thread::spawn(move || {
                    echo(stream, &answer(&name, peer));
                }));
            }
        }
        for connection in connections {
            connection.join().unwrap();
        }
    })
}

/// Answers each byte until the client ends.
fn echo(mut stream: TcpStream, answer: &str) {
    stream.set_read_timeout(Some(LIMIT)).unwrap(); // else the listener's
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn serve_udp(pod: &Namespace, name: String, port: u16, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let stop = Arc::clone(stop);
    let socket = pod.run(move || UdpSocket::bind(("::", port)).unwrap()); // both families
    socket.set_read_timeout(Some(LOOK)).unwrap();
    std::thread::spawn(move || {
        let mut question = [0];
        while !stop.load(Relaxed) {
            if let Ok((_, peer)) = socket.recv_from(&mut question) {
                socket.send_to(answer(&name, peer).as_bytes(), peer).ok(); // the client may be gone
            }
        }
    })
}

/// A lab in which rules of the flavour can be installed. Says why there is none; panics instead if the environment's
/// `PODLINE_REQUIRE` contains `netns`.
pub(super) fn lab_for(flavour: Flavour) -> Option<Lab> {
    if !require_netns() {
        return None;
    }
    let lab = Lab::new().unwrap();
    let found = kube_proxy::available(&lab, flavour).map_err(|error| error.chain());
    require("netns", found).map(|()| lab)
}
