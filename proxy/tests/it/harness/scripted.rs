//! A backend that probes meet: each connection runs a script, with or without TLS, and what it saw is kept.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::LONG;

/// Either side of TLS.
pub(crate) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// What a connection does; its word is kept in [`Seen`]. What is left open stays so until the other side ends it.
pub(crate) type Script = fn(&mut dyn Stream) -> io::Result<String>;

/// One connection whose script came to its end.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Who connected.
    pub(crate) from: IpAddr,
    /// The script's word: the request, mostly.
    pub(crate) said: String,
    /// The name that TLS asked for.
    pub(crate) server_name: Option<String>,
}

/// A server that runs until it is dropped.
pub(crate) struct Scripted {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    /// On the loopback.
    pub(crate) fn start(script: Script) -> Self {
        Self::serve("127.0.0.1:0", None, script)
    }

    /// On the IPv6 loopback.
    pub(crate) fn start_v6(script: Script) -> Self {
        Self::serve("[::1]:0", None, script)
    }

    /// Over TLS with a certificate that nobody has signed and that names nobody.
    pub(crate) fn start_tls(script: Script) -> Self {
        Self::serve("127.0.0.1:0", Some(self_signed()), script)
    }

    fn serve(address: &str, tls: Option<Arc<ServerConfig>>, script: Script) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (log, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let accepted = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&accepted);
        let thread = thread::spawn(move || {
            while let Ok((stream, from)) = listener.accept()
                && !stopped.load(Relaxed)
            {
                count.fetch_add(1, Relaxed);
                let (log, tls) = (Arc::clone(&log), tls.clone());
                thread::spawn(move || connection(stream, from.ip(), tls, script, &log));
            }
        });
        Self {
            address,
            accepted,
            seen,
            stop,
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far; each is counted before it is answered.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Relaxed)
    }

    /// What it has seen, in the order of the scripts' ends.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        TcpStream::connect(self.address).ok(); // accepting ends at the next connection
        if let Some(thread) = self.thread.take() {
            thread.join().ok(); // its panic was printed
        }
    }
}

/// Errors are the other side's doing, and a test's assertions are about what was seen.
fn connection(
    stream: TcpStream,
    from: IpAddr,
    tls: Option<Arc<ServerConfig>>,
    script: Script,
    log: &Mutex<Vec<Seen>>,
) {
    stream.set_read_timeout(Some(LONG)).unwrap();
    let note = |said, server_name| {
        log.lock().unwrap().push(Seen {
            from,
            said,
            server_name,
        });
    };
    match tls {
        None => run(stream, script, |_, said| note(said, None)),
        Some(config) => {
            let session = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
            run(session, script, |session, said| {
                note(said, session.conn.server_name().map(ToOwned::to_owned));
            });
        }
    }
}

fn run<S: Stream>(mut stream: S, script: Script, note: impl FnOnce(&S, String)) {
    if let Ok(said) = script(&mut stream) {
        note(&stream, said);
        io::copy(&mut stream, &mut io::sink()).ok();
    }
}

fn self_signed() -> Arc<ServerConfig> {
    let names: [String; 0] = [];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into());
    Arc::new(config.unwrap())
}

/// A request's head, without the empty line.
pub(crate) fn head(stream: &mut dyn Stream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    Ok(head.trim_end().to_owned())
}

/// A script: answers `GET /503` with 503, and what names no status with 200.
pub(crate) fn answer_as_the_path_says(stream: &mut dyn Stream) -> io::Result<String> {
    let head = head(stream)?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    let status: u16 = path.trim_start_matches('/').parse().unwrap_or(200);
    write!(stream, "HTTP/1.1 {status} so\r\nContent-Length: 0\r\n\r\n")?;
    stream.flush()?;
    Ok(head)
}
