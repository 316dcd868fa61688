//! The PROXY protocol's headers (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>), version 1 and 2: written
//! to backends ([`write()`]), read from those who may tell who their client is ([`parse()`]). Pure.

mod crc32c;
mod parse;
mod parse_v2;
mod write;

pub use parse::{MAX_LENGTH, Parsed, Refusal, parse};
pub use write::{Header, write};

use std::net::{IpAddr, SocketAddr};

/// Who connected to what, as a header tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The client. It may be any address at all: whoever sent the header is believed, not the address.
    pub client: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

impl Announced {
    /// IPv4 addresses in IPv6 form become what they are, so that one client has one address.
    pub fn new(client: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            client: canonical(client),
            destination: canonical(destination),
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What every header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length of the rest.
const PREFIX: usize = 16;
/// Version 2, in the upper half of its byte.
const VERSION_2: u8 = 0x20;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;
const UNSPEC: u8 = 0;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
/// Types of what may stand behind the addresses.
const TLV_CRC32C: u8 = 0x03;
const TLV_UNIQUE_ID: u8 = 0x05;
/// Longest unique id.
const MAX_UNIQUE_ID: usize = 128;

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests;
