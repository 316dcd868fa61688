//! A client for Pods of behaviour `Name` and for the admin pages.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use super::LONG;

/// One connection with keep-alive.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    /// Read and not used yet.
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, LONG)?)
    }

    /// Connects from an IPv4 address of this machine.
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        Self::over(super::tcp::connect_from(source, address)?)
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(LONG))?;
        stream.set_nodelay(true)?;
        let buffer = Vec::new();
        Ok(Self { stream, buffer })
    }

    /// One request: status and body.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<(u16, Vec<u8>)> {
        self.send(path)?;
        self.answer()
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, path: &str) -> io::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: podline\r\n\r\n");
        self.stream.write_all(request.as_bytes())
    }

    /// Reads the answer to a request: status and body.
    pub(crate) fn answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let end = loop {
            match self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.read()?,
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_lowercase();
        self.buffer.drain(..end);
        let status = head
            .split_whitespace()
            .nth(1)
            .and_then(|text| text.parse().ok());
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let invalid = || io::Error::new(ErrorKind::InvalidData, head.clone());
        let length = length
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(invalid)?;
        while self.buffer.len() < length {
            self.read()?;
        }
        let rest = self.buffer.split_off(length);
        let body = std::mem::replace(&mut self.buffer, rest);
        Ok((status.ok_or_else(invalid)?, body))
    }

    /// One request for the Pod's name.
    pub(crate) fn name(&mut self) -> io::Result<String> {
        let (_, body) = self.get("/")?;
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }
}

/// Who answers one request on a new connection.
pub(crate) fn ask(address: SocketAddr) -> io::Result<String> {
    Client::connect(address)?.name()
}

/// The same, with these bytes before the request.
pub(crate) fn ask_after(bytes: &[u8], address: SocketAddr) -> io::Result<String> {
    let mut client = Client::connect(address)?;
    client.stream.write_all(bytes)?;
    client.name()
}

/// One page of the admin server, whatever its framing.
pub(crate) fn page(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, LONG)?;
    stream.set_read_timeout(Some(LONG))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: podline\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, answer.clone()))?;
    Ok((status, answer))
}
