//! An address where connects hang: its listener's queue is full and nobody accepts.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// Connects to its address neither succeed nor fail while it lives.
#[derive(Debug)]
pub(crate) struct Blackhole {
    listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Blackhole {
    /// On the loopback.
    pub(crate) fn new() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    /// Where somebody else was before.
    pub(crate) fn at(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(0).unwrap();
        let listener: TcpListener = socket.into();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            queued.push(stream);
            assert!(queued.len() < 10, "the queue does not fill");
        }
        Self {
            listener,
            _queued: queued,
        }
    }

    /// Answers a connect that hangs, once its packet comes again.
    pub(crate) fn answer_one(&self) -> TcpStream {
        drop(super::tcp::accept(&self.listener)); // makes room in the queue
        super::tcp::accept(&self.listener)
    }

    /// Where connects hang.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}
