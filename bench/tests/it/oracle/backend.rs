//! A backend that keeps what it was sent, byte by byte, and answers as the path says. It reads heads and bodies by hand,
//! shares no code with a proxy, and ends each connection after one request: what else came on it is kept, too.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use podline_lab::wait;

use super::LONG;
use super::client::FENCE;
use super::wire::{Body, Head, Input};

/// Who asks for this is the test.
const SETTLE: &str = "/settle";

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Got {
    pub(super) head: Head,
    /// Nothing: it was cut, or its framing is broken.
    pub(super) body: Option<Body>,
    /// What came behind it.
    pub(super) rest: Vec<u8>,
}

#[derive(Default)]
struct Log {
    got: Vec<Got>,
    accepted: usize,
    ended: usize,
}

/// A server whose threads end with the test's process.
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    log: Arc<Mutex<Log>>,
}

impl Backend {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::<Mutex<Log>>::default();
        let backend = Self {
            address,
            log: Arc::clone(&log),
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                log.lock().unwrap().accepted += 1;
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    let got = serve(stream);
                    let mut log = log.lock().unwrap();
                    log.got.extend(got);
                    log.ended += 1;
                });
            }
        });
        backend
    }

    /// What came since the last time, once all connections have ended.
    pub(super) fn settle(&self) -> Vec<Got> {
        // Connections are taken in their order: when this one is answered, all before it were.
        let mut own = TcpStream::connect_timeout(&self.address, LONG).unwrap();
        own.set_read_timeout(Some(LONG)).unwrap();
        write!(own, "GET {SETTLE} HTTP/1.1\r\n\r\n").unwrap();
        own.read_to_end(&mut Vec::new()).unwrap();
        drop(own);
        wait::until(LONG, "connections to the backend end", || {
            let log = self.log.lock().unwrap();
            log.ended == log.accepted
        });
        let mut got = std::mem::take(&mut self.log.lock().unwrap().got);
        got.retain(|got| ![SETTLE, FENCE].contains(&got.head.path()));
        got
    }
}

/// One request, its answer, and what else comes. Nothing: not even a head came.
fn serve(mut stream: TcpStream) -> Option<Got> {
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut input = Input::default();
    let head = input.head(&mut stream).ok()?;
    if head.field("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok();
    }
    let body = input.request_body(&mut stream, &head).ok();
    if body.is_some() && head.path() == "/switch" {
        stream.write_all(answer(&head)).ok();
        let begun = std::mem::take(&mut input.buffer);
        stream.write_all(&begun).ok();
        io::copy(&mut stream.try_clone().unwrap(), &mut stream).ok();
    } else if body.is_some() {
        stream.write_all(answer(&head)).ok(); // it may have gone
        stream.shutdown(Shutdown::Write).ok();
    }
    let mut rest = input.buffer;
    stream.read_to_end(&mut rest).ok(); // a reset ends it as well
    Some(Got { head, body, rest })
}

/// What answers a request.
fn answer(head: &Head) -> &'static [u8] {
    match head.path() {
        FENCE => b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n/fence",
        "/none" => b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        "/unchanged" => {
            b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 7\r\nConnection: close\r\n\r\n"
        }
        "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\n",
        "/head-chunks" => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        }
        "/end" => b"HTTP/1.0 200 OK\r\n\r\nhello until the end",
        "/chunks" => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nConnection: close\r\n\r\n\
              5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n"
        }
        "/early" => {
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
              HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlate"
        }
        "/hop" => {
            b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: a\r\n\
              Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nServer: a\r\nContent-Length: 2\r\n\r\nok"
        }
        "/proxy-authenticate" => {
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\
              Content-Length: 0\r\nConnection: close\r\n\r\n"
        }
        "/upgrade-required" => {
            b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\nConnection: close, Upgrade\r\n\r\n"
        }
        "/switch" => {
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        }
        "/same-lengths" => {
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        }
        "/two-lengths" => {
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\nConnection: close\r\n\r\nokmore"
        }
        "/signed-length" => {
            b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\nConnection: close\r\n\r\nok"
        }
        "/length-and-chunks" => {
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        }
        "/coding" => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\nok"
        }
        "/old-chunks" => b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "/folded" => b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        "/bare-line-feed" => b"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        "/cut" => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\ncut",
        "/cut-chunks" => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\ncut"
        }
        "/broken-chunks" => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n+2\r\nok\r\n0\r\n\r\n"
        }
        "/longer" => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
        "/nonsense" => b"hello\r\n\r\n",
        "/nothing" => b"",
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    }
}
