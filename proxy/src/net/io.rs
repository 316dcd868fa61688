//! Reading, writing and ending one non-blocking socket.

use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::time::Duration;

/// Reads what is there; 0 is the end of the direction.
///
/// # Errors
/// `AGAIN` when there is nothing; anything else is final for the socket.
pub(crate) fn read(socket: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    retry(|| rustix::net::recv(socket.as_fd(), &mut *buffer, RecvFlags::empty()).map(|(n, _)| n))
}

/// Looks at what is there and leaves it; 0 is the end of the direction.
///
/// # Errors
/// As of [`read`].
pub(crate) fn peek(socket: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    retry(|| rustix::net::recv(socket.as_fd(), &mut *buffer, RecvFlags::PEEK).map(|(n, _)| n))
}

/// Writes what fits. With `end_follows` the kernel holds the last segment back for the end that the caller sends next.
///
/// # Errors
/// `AGAIN` when nothing fits; anything else is final for the socket.
pub(crate) fn write(socket: impl AsFd, bytes: &[u8], end_follows: bool) -> Result<usize, Errno> {
    let more = if end_follows {
        SendFlags::MORE
    } else {
        SendFlags::empty()
    };
    retry(|| rustix::net::send(socket.as_fd(), bytes, SendFlags::NOSIGNAL | more))
}

/// Ends our direction: the other side reads an end after the bytes already written.
pub(crate) fn end_writing(socket: impl AsFd) {
    // A socket whose other side is gone refuses; its error event tells the same.
    let _ = rustix::net::shutdown(socket, Shutdown::Write);
}

/// Makes the coming close a reset that throws unsent bytes away.
pub(crate) fn reset_on_close(socket: impl AsFd) {
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Sends small writes at once, without waiting for acknowledgements.
pub(crate) fn send_at_once(socket: impl AsFd) {
    let _ = rustix::net::sockopt::set_tcp_nodelay(socket, true);
}

/// Takes the pending error off the socket.
pub(crate) fn take_error(socket: impl AsFd) -> Option<Errno> {
    match rustix::net::sockopt::socket_error(socket) {
        Ok(Ok(())) => None,
        Ok(Err(e)) | Err(e) => Some(e),
    }
}

/// Bytes written but not yet acknowledged by the other side's kernel; 0 when that cannot be told.
pub(crate) fn unacknowledged_bytes(socket: impl AsFd) -> u32 {
    const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: SIOCOUTQ on a TCP socket writes one int, and nothing else.
    #[expect(unsafe_code, reason = "no safe wrapper for this ioctl")]
    let answer =
        unsafe { rustix::ioctl::ioctl(socket, rustix::ioctl::Getter::<SIOCOUTQ, i32>::new()) };
    answer.map_or(0, |n| u32::try_from(n).unwrap_or(0))
}

/// Reports the socket readable only from `bytes` on (or at the end, or on an error); 1 is the ordinary behaviour.
pub(crate) fn report_readable_from(socket: impl AsFd, bytes: i32) {
    let value = (&raw const bytes).cast::<libc::c_void>();
    let len = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4);
    // SAFETY: SO_RCVLOWAT reads one int of `len` bytes from `value`, which outlives the call.
    #[expect(unsafe_code, reason = "no safe wrapper for this option")]
    let refused = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            value,
            len,
        )
    };
    debug_assert!(refused == 0, "SO_RCVLOWAT takes any positive number");
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
