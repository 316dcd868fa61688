//! A client of Pods: HTTP/1.1 with keep-alive, nothing hidden.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A request that takes longer has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The last answer said that no other follows.
    pub(crate) is_over: bool,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::within(address, LIMIT)
    }

    /// The same, with another limit for whatever is waited for.
    pub(crate) fn within(address: SocketAddr, limit: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            is_over: false,
        })
    }

    /// One request: the body of the answer.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: podline\r\n\r\n");
        self.stream.write_all(request.as_bytes())?;
        let end = loop {
            match self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.read()?,
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_lowercase();
        self.buffer.drain(..end);
        self.is_over = head.contains("\r\nconnection: close\r\n");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, head.clone()))?;
        while self.buffer.len() < length {
            self.read()?;
        }
        let rest = self.buffer.split_off(length);
        let body = std::mem::replace(&mut self.buffer, rest);
        if !head.starts_with("http/1.1 200") {
            return Err(io::Error::new(ErrorKind::InvalidData, head));
        }
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }
}

/// A connection for one request: who answered.
pub(crate) fn ask(address: SocketAddr) -> io::Result<String> {
    Client::connect(address)?.get("/")
}
