//! A small segment with two toy Pods, and a client that asks them through a subject.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use podline_bench::certificate::{self, Certificate};
use podline_bench::subject::{Backend, Missing, Site, Subject, Tools};
use podline_bench::wire::port;
use podline_lab::{Behaviour, Lab, Namespace, Pod, Segment, SegmentPlan, require};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const LIMIT: Duration = Duration::from_secs(5);
/// Datagrams may be lost while a proxy learns.
const TRIES: u32 = 25;

/// Where subjects are in these tests: as the environment says, else beside the tests or in PATH.
pub(crate) fn tools() -> Tools {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from);
    Tools::new(from("PODLINE_BENCH_PROXY"), from("PODLINE_BENCH_PEERS"))
}

pub(crate) fn version(subject: Subject) -> Result<String, Missing> {
    tools().version(subject)
}

/// Whether a subject is installed. Panics instead of saying no if `PODLINE_REQUIRE` contains `peers`, or `pingora` for
/// that one.
pub(crate) fn is_here(subject: Subject) -> bool {
    let word = match subject {
        Subject::Pingora => "pingora",
        _ => "peers",
    };
    require(word, version(subject)).is_some()
}

pub(crate) fn pod_name(index: usize) -> String {
    format!("pod-{index}")
}

/// A segment with one proxy and two nodes with a Pod each.
pub(crate) struct Scene {
    // Before the namespaces that they are in.
    _pods: Vec<Pod>,
    _datagrams: Vec<Datagrams>,
    segment: Segment,
    certificate: Certificate,
    directory: TempDir,
}

impl Scene {
    /// Builds it, with Pods that answer HTTP so.
    pub(crate) fn build(lab: &Lab, http: Behaviour) -> Self {
        let plan = SegmentPlan {
            proxies: 1,
            ..SegmentPlan::default()
        };
        let segment = Segment::build(lab, plan).unwrap();
        let (mut pods, mut datagrams) = (Vec::new(), Vec::new());
        for (index, node) in segment.nodes.iter().enumerate() {
            let ip = address(index);
            for (port, behaviour) in [(port::HTTP, http), (port::FRAMES, Behaviour::Echo)] {
                let (name, at) = (pod_name(index), SocketAddr::new(ip, port));
                pods.push(Pod::start_in(&node.pods[0], &name, at, behaviour).unwrap());
            }
            let at = SocketAddr::new(ip, port::FRAMES);
            datagrams.push(Datagrams::start(&node.pods[0], at));
        }
        Self {
            _pods: pods,
            _datagrams: datagrams,
            segment,
            certificate: Certificate::made().unwrap(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// It, as a subject sees it.
    pub(crate) fn site(&self) -> Site<'_> {
        let nodes = (0..).zip(&self.segment.nodes);
        let backend = |index: usize| Backend {
            index: u32::try_from(index).unwrap(),
            node: index,
            address: address(index),
        };
        Site {
            proxy: &self.segment.proxies[0],
            front: Segment::proxy(0)[0],
            nodes: nodes
                .map(|(n, node)| (&node.host, Segment::node(n)[0]))
                .collect(),
            backends: (0..self.segment.nodes.len()).map(backend).collect(),
            certificate: &self.certificate,
            directory: self.directory.path(),
        }
    }

    /// Servers on the nodes themselves: HTTP at the first port, an echo at the second.
    pub(crate) fn serve_nodes(&self, ports: [u16; 2]) -> Vec<Pod> {
        let mut servers = Vec::new();
        for (index, node) in (0..).zip(&self.segment.nodes) {
            for (port, behaviour) in ports.into_iter().zip([Behaviour::Name, Behaviour::Echo]) {
                let at = SocketAddr::new(Segment::node(index)[0], port);
                let name = format!("node-{index}");
                servers.push(Pod::start_in(&node.host, &name, at, behaviour).unwrap());
            }
        }
        servers
    }

    /// What answers to so many requests say, each over a connection of its own.
    pub(crate) fn names(&self, at: SocketAddr, requests: usize) -> BTreeSet<String> {
        let ask_all = move || (0..requests).map(|_| ask(&mut connect(at))).collect();
        self.segment.client.run(ask_all)
    }

    /// The same inside TLS, each over a connection and with a handshake of its own.
    pub(crate) fn names_over_tls(&self, at: SocketAddr, requests: usize) -> BTreeSet<String> {
        let chain = CertificateDer::from_pem_slice(self.certificate.chain.as_bytes()).unwrap();
        let mut trusted = RootCertStore::empty();
        trusted.add(chain).unwrap();
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(trusted);
        let config = Arc::new(config.with_no_client_auth());
        self.segment.client.run(move || {
            let one = |_| {
                let name = ServerName::try_from(certificate::NAME).unwrap();
                let session = ClientConnection::new(Arc::clone(&config), name).unwrap();
                ask(&mut StreamOwned::new(session, connect(at)))
            };
            (0..requests).map(one).collect()
        })
    }

    /// The same over one connection.
    pub(crate) fn names_on_one(&self, at: SocketAddr, requests: usize) -> BTreeSet<String> {
        self.segment.client.run(move || {
            let mut stream = connect(at);
            (0..requests).map(|_| ask(&mut stream)).collect()
        })
    }

    /// Checks that bytes come back.
    pub(crate) fn echo(&self, at: SocketAddr) {
        self.segment.client.run(move || {
            let (mut stream, sent) = (connect(at), vec![7; 100_000]);
            stream.write_all(&sent).unwrap();
            let mut received = vec![0; sent.len()];
            stream.read_exact(&mut received).unwrap();
            assert_eq!(received, sent);
        });
    }

    /// Checks that datagrams come back, from where they were sent.
    pub(crate) fn echo_datagram(&self, at: SocketAddr) {
        self.segment.client.run(move || {
            let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
            socket.connect(at).unwrap();
            socket.set_read_timeout(Some(LIMIT / TRIES)).unwrap();
            let is_back = |_| {
                socket.send(b"one datagram").unwrap();
                let mut buffer = [0; 64];
                matches!(socket.recv(&mut buffer), Ok(length) if &buffer[..length] == b"one datagram")
            };
            assert!((0..TRIES).any(is_back), "no datagram came back from {at}");
        });
    }
}

fn address(node: usize) -> IpAddr {
    Segment::pod(u8::try_from(node).unwrap(), 0)[0]
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&at, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// One request and what its answer's body says.
fn ask(stream: &mut (impl Read + Write)) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && body.ends_with('\n')
        {
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            return body.trim().to_owned();
        }
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "the connection ended after {text:?}");
        answer.extend_from_slice(&buffer[..length]);
    }
}

/// A thread that sends datagrams back.
struct Datagrams {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Datagrams {
    fn start(namespace: &Namespace, at: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = namespace.thread(move || {
            let socket = UdpSocket::bind(at).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            let mut buffer = [0; 2048];
            while !is_over.load(Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    socket.send_to(&buffer[..length], from).ok(); // it may have gone
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// What a line of shell says in a namespace.
pub(crate) fn shell(namespace: &Namespace, line: &str) -> String {
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = namespace.spawn(command).unwrap();
    let mut said = String::new();
    child
        .take_stdout()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    said
}

/// Ends a process that a subject has started.
pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
