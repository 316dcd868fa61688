//! HTTP by hand: a server that keeps the bytes it got and answers as the test says, and a client that reads answers of
//! any framing. Neither shares code with what is tested.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

use podline_api::v1;

use super::proxy::{Proxy, Start};
use super::{tcp, wire};

/// A request as a server got it.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    /// Which request of its connection it was, from 0.
    pub(crate) number: usize,
    /// Up to the empty line, with it.
    pub(crate) head: String,
    /// As it came, framing included.
    pub(crate) body: Vec<u8>,
    /// What it carries, whatever the framing.
    pub(crate) data: Vec<u8>,
}

impl Got {
    /// The value of a field, by its name in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// The first line.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// What a server does after a request.
pub(crate) enum Reply {
    /// Sends this and waits for the next request.
    Stay(Vec<u8>),
    /// Sends this and ends.
    End(Vec<u8>),
    /// Resets.
    Reset,
    /// Sends this and then sends back what it gets.
    Echo(Vec<u8>),
    /// Says nothing, and stays.
    Silence,
}

/// An answer with a length.
pub(crate) fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// Sends this and waits for the next request.
pub(crate) fn stay(body: &str) -> Reply {
    Reply::Stay(answer("200 OK", body))
}

/// A server whose threads end with the test's process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Got>>>,
    accepted: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Server {
    /// Answers each request as `reply` says.
    pub(crate) fn start(reply: impl Fn(&Got) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self {
            address,
            seen: Arc::default(),
            accepted: Arc::default(),
            ended: Arc::default(),
        };
        let (seen, accepted) = (Arc::clone(&server.seen), Arc::clone(&server.accepted));
        let ended = Arc::clone(&server.ended);
        let reply = Arc::new(reply);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                accepted.fetch_add(1, Relaxed);
                let (reply, seen) = (Arc::clone(&reply), Arc::clone(&seen));
                let ended = Arc::clone(&ended);
                thread::spawn(move || {
                    // What fails here shows in what the client gets.
                    drop(serve(stream, &*reply, &seen));
                    ended.fetch_add(1, Relaxed);
                });
            }
        });
        server
    }

    /// Answers every request with this body.
    pub(crate) fn saying(body: &'static str) -> Self {
        Self::start(move |_| stay(body))
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Got> {
        self.seen.lock().unwrap().clone()
    }

    /// The latest request.
    pub(crate) fn last(&self) -> Got {
        self.seen().pop().expect("a request has come")
    }

    /// Those of its connections that both sides have ended.
    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Relaxed)
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Relaxed)
    }
}

fn serve(
    mut stream: TcpStream,
    reply: &dyn Fn(&Got) -> Reply,
    seen: &Mutex<Vec<Got>>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Input::default();
    for number in 0.. {
        let head = input.head(&mut stream)?;
        let mut body = Vec::new();
        let data = if field(&head, "transfer-encoding").is_some() {
            input.chunks(&mut stream, &mut body)?
        } else {
            let length = field(&head, "content-length").unwrap_or("0");
            input.exactly(&mut stream, length.parse().unwrap(), &mut body)?;
            body.clone()
        };
        let got = Got {
            number,
            head,
            body,
            data,
        };
        seen.lock().unwrap().push(got.clone());
        match reply(&got) {
            Reply::Stay(bytes) => stream.write_all(&bytes)?,
            Reply::End(bytes) => {
                stream.write_all(&bytes)?;
                stream.shutdown(std::net::Shutdown::Write)?;
                // Until the other side has ended too, so that no reset overtakes the answer.
                io::copy(&mut stream, &mut io::sink())?;
                return Ok(());
            }
            Reply::Reset => {
                tcp::reset(stream);
                return Ok(());
            }
            Reply::Echo(bytes) => {
                stream.write_all(&bytes)?;
                stream.write_all(&input.buffer)?;
                let mut copy = stream.try_clone()?;
                io::copy(&mut stream, &mut copy)?;
                return Ok(());
            }
            Reply::Silence => {}
        }
    }
    Ok(())
}

/// What was read and not used yet.
#[derive(Default)]
struct Input {
    buffer: Vec<u8>,
}

impl Input {
    fn more(&mut self, stream: &mut dyn Read) -> io::Result<()> {
        let mut chunk = [0; 16 << 10];
        match stream.read(&mut chunk)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            n => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(())
            }
        }
    }

    fn up_to(&mut self, stream: &mut dyn Read, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            let found = self.buffer.windows(end.len()).position(|it| it == end);
            if let Some(at) = found {
                return Ok(self.buffer.drain(..at + end.len()).collect());
            }
            self.more(stream)?;
        }
    }

    fn head(&mut self, stream: &mut dyn Read) -> io::Result<String> {
        let bytes = self.up_to(stream, b"\r\n\r\n")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn exactly(&mut self, stream: &mut dyn Read, n: usize, out: &mut Vec<u8>) -> io::Result<()> {
        while self.buffer.len() < n {
            self.more(stream)?;
        }
        out.extend(self.buffer.drain(..n));
        Ok(())
    }

    /// Appends the raw chunks; the data in them comes back.
    fn chunks(&mut self, stream: &mut dyn Read, raw: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        let mut data = Vec::new();
        loop {
            let line = self.up_to(stream, b"\r\n")?;
            raw.extend_from_slice(&line);
            let line = String::from_utf8_lossy(&line);
            let size = line.split([';', '\r']).next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).map_err(|_| ErrorKind::InvalidData)?;
            if size == 0 {
                break;
            }
            let begin = raw.len();
            self.exactly(stream, size + 2, raw)?;
            data.extend_from_slice(&raw[begin..begin + size]);
        }
        loop {
            let line = self.up_to(stream, b"\r\n")?;
            raw.extend_from_slice(&line);
            if line == b"\r\n" {
                return Ok(data);
            }
        }
    }
}

/// The value of a field in a head, by its name in lower case.
fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// An answer as a client got it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Up to the empty line, with it.
    pub(crate) head: String,
    /// Its data, whatever the framing.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a field, by its name in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Why the proxy answered itself; nothing: it did not.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.field("x-podline-reason")
    }
}

/// A client on one connection.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    input: Input,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = tcp::connect(address);
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }
}

impl<S: Read + Write> Client<S> {
    /// On a connection that is there.
    pub(crate) fn over(stream: S) -> Self {
        let input = Input::default();
        Self { stream, input }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// One request without body.
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
        self.answer()
    }

    /// Reads an answer.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer(false).unwrap()
    }

    /// Reads an answer to HEAD.
    pub(crate) fn head_answer(&mut self) -> Answer {
        self.try_answer(true).unwrap()
    }

    /// Reads an answer, unless it is cut.
    pub(crate) fn try_answer(&mut self, to_head: bool) -> io::Result<Answer> {
        let stream = &mut self.stream;
        let head = self.input.head(stream)?;
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("{head}"));
        let mut body = Vec::new();
        let has_none = to_head || status < 200 || status == 204 || status == 304;
        if has_none {
        } else if field(&head, "transfer-encoding").is_some() {
            body = self.input.chunks(stream, &mut Vec::new())?;
        } else if let Some(length) = field(&head, "content-length") {
            self.input
                .exactly(stream, length.parse().unwrap(), &mut body)?;
        } else {
            body.append(&mut self.input.buffer);
            stream.read_to_end(&mut body)?;
        }
        Ok(Answer { status, head, body })
    }

    /// Reads so many bytes, whatever they are.
    pub(crate) fn read_exact(&mut self, bytes: &mut [u8]) {
        let mut read = Vec::new();
        let stream = &mut self.stream;
        self.input.exactly(stream, bytes.len(), &mut read).unwrap();
        bytes.copy_from_slice(&read);
    }

    /// Whether nothing more comes, and the end is a clean one.
    pub(crate) fn has_ended(&mut self) -> bool {
        let is_empty = self.input.buffer.is_empty();
        is_empty && matches!(self.stream.read(&mut [0]), Ok(0))
    }
}

/// A proxy with one worker, whose clients all share its connections to backends.
pub(crate) fn one_worker() -> Proxy {
    Start {
        workers: 1,
        ..Start::default()
    }
    .ready()
}

/// An HTTP listener with the defaults.
pub(crate) fn listener(name: &str, address: SocketAddr, set: &str) -> v1::Listener {
    v1::Listener {
        protocol: Some(v1::listener::Protocol::Http.into()),
        ..wire::listener(name, address, set)
    }
}

/// Serves `backends` in HTTP at a new address: listener "web", set "web".
pub(crate) fn serve_http(proxy: &Proxy, backends: &[SocketAddr]) -> SocketAddr {
    serve_with(proxy, backends, v1::HttpSettings::default())
}

/// The same with settings.
pub(crate) fn serve_with(
    proxy: &Proxy,
    backends: &[SocketAddr],
    settings: v1::HttpSettings,
) -> SocketAddr {
    let address = tcp::free_address();
    let listener = v1::Listener {
        http: Some(settings),
        ..listener("web", address, "web")
    };
    proxy.serve_with(listener, wire::set("web", backends));
    address
}
