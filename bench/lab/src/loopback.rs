//! Addresses of the loopback that are given to nobody else.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Those of one process, by their second byte; what follows is of its process id.
const ADDRESSES: std::ops::RangeInclusive<u8> = 16..=250;

/// An address of the loopback that no other call gives. The system gives its ports to nobody who asks for any at another
/// address, so they stay free while a server is away from them. Who connects to it comes from 127.0.0.1.
///
/// # Panics
/// The process has had them all.
pub fn own_loopback() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(*ADDRESSES.start());
    let next = NEXT.fetch_add(1, Relaxed);
    assert!(ADDRESSES.contains(&next), "there are no more of them");
    let [_, _, high, low] = std::process::id().to_be_bytes();
    [127, next, high, low].into()
}
