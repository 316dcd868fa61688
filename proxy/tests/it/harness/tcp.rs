//! Sockets for tests: free ports, resets on purpose, and what a socket has seen.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use podline_lab::pattern;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockRef, Socket, Type};

use super::LONG;

/// Below the range from which the system picks ports for outgoing connections, so that no connection takes a port
/// between this test's look and the proxy's bind.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A port of 127.0.0.1 and ::1 that nobody uses and that no other call gives.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    let start = u16::try_from(std::process::id() * 131 % u32::from(span)).unwrap(); // apart from other processes
    loop {
        let step = NEXT.fetch_add(1, Relaxed);
        let port = PORTS.start + (start + step) % span;
        let is_free = |host: &str| TcpListener::bind((host, port)).is_ok();
        if is_free("0.0.0.0") && is_free("::1") {
            return port;
        }
    }
}

/// A free address of the IPv4 loopback.
pub(crate) fn free_address() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

/// A free address of the IPv6 loopback.
pub(crate) fn free_address_v6() -> SocketAddr {
    (std::net::Ipv6Addr::LOCALHOST, free_port()).into()
}

/// A backend that the test plays by hand.
pub(crate) fn backend() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Connects, with a limit on reads and writes so that no test hangs.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, LONG).unwrap();
    limit(&stream);
    stream
}

/// Connects from an IPv4 address of this machine.
pub(crate) fn connect_from(source: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect_timeout(&to.into(), LONG)?;
    let stream = TcpStream::from(socket);
    limit(&stream);
    Ok(stream)
}

/// Accepts, with the same limits; panics if nobody comes.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    let ready = wait_for(listener, PollFlags::IN, LONG);
    assert!(!ready.is_empty(), "nobody connected within {LONG:?}");
    let (stream, _) = listener.accept().unwrap();
    limit(&stream);
    stream
}

fn limit(stream: &TcpStream) {
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

/// Whether the other side has reset the connection within `limit`; what waits to be read is left.
pub(crate) fn is_reset_within(stream: &TcpStream, limit: Duration) -> bool {
    wait_for(stream, PollFlags::empty(), limit).contains(PollFlags::ERR)
}

/// A connection's state as the kernel's table has it; 05 is FIN_WAIT2.
pub(crate) fn state(stream: &TcpStream) -> String {
    let ends = [stream.local_addr().unwrap(), stream.peer_addr().unwrap()];
    let ports = ends.map(|end| format!(":{:04X}", end.port()));
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let ours = table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_ours = (1..)
            .zip(&ports)
            .all(|(at, port)| fields[at].ends_with(port));
        is_ours.then(|| fields[3].to_owned())
    });
    ours.unwrap_or_default()
}

/// Waits for an event; none means that `limit` has passed. Errors and hang-ups always count.
pub(crate) fn wait_for(
    socket: &impl std::os::fd::AsFd,
    flags: PollFlags,
    limit: Duration,
) -> PollFlags {
    let deadline = Instant::now() + limit;
    loop {
        let mut polled = [PollFd::new(socket, flags)];
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap();
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) => return polled[0].revents(),
            Err(rustix::io::Errno::INTR) => (),
            Err(error) => panic!("cannot poll: {error}"),
        }
    }
}

/// Writes until nothing has been taken for 300 ms: every buffer up to the other end is full. Says how much went in.
pub(crate) fn fill(stream: &TcpStream) -> u64 {
    use std::io::Write;
    stream.set_nonblocking(true).unwrap();
    let mut written = 0;
    let quiet = Duration::from_millis(300);
    while wait_for(stream, PollFlags::OUT, quiet).contains(PollFlags::OUT) {
        match (&*stream).write(pattern::at(written, 65_536)) {
            Ok(count) => written += count as u64,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => (),
            Err(error) => panic!("cannot write: {error}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
    written
}

/// Reads to the end: how many bytes of the pattern came, and whether the end was a clean one.
pub(crate) fn read_pattern(stream: &mut TcpStream) -> (u64, std::io::Result<()>) {
    let mut buffer = vec![0; 256 * 1024];
    let mut offset = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (offset, Ok(())),
            Ok(count) => {
                pattern::check(offset, &buffer[..count]);
                offset += count as u64;
            }
            Err(error) => return (offset, Err(error)),
        }
    }
}

/// Sends bytes `from..to` of the pattern.
pub(crate) fn send_pattern(stream: &mut TcpStream, from: u64, to: u64) -> std::io::Result<()> {
    use std::io::Write;
    let mut offset = from;
    while offset < to {
        let len = usize::try_from((to - offset).min(256 * 1024)).unwrap();
        stream.write_all(pattern::at(offset, len))?;
        offset += len as u64;
    }
    Ok(())
}
