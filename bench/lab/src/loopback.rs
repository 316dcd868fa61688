//! Places on the loopback that are given to nobody else.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// The addresses of one process, by their second byte; what follows is of its process id.
const ADDRESSES: std::ops::RangeInclusive<u8> = 16..=250;
/// Below those that the system picks for who asks for any.
const PORT: u16 = 18_080;

/// An address of the loopback that no other call gives, with a port; the next ports are as good. They stay free while a
/// server is away from them. Who connects to it comes from 127.0.0.1.
///
/// # Panics
/// The process has had them all.
pub fn own_loopback() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(*ADDRESSES.start());
    let next = NEXT.fetch_add(1, Relaxed);
    assert!(ADDRESSES.contains(&next), "there are no more of them");
    let [_, _, high, low] = std::process::id().to_be_bytes();
    ([127, next, high, low], PORT).into()
}
