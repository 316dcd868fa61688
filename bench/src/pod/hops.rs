//! The time to live of packets that reach the Pod, which tells how many routers they passed.
//!
//! A raw socket sees packets with their headers. It is open from a question until [`LOOKS`] packets have come, so that it
//! costs nothing while all the others are measured. One would not do: where each connection has a way of its own, the first
//! may well come by the shortest. IPv6 does not show its header there, and is not looked at.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::state::{Hop, State};

/// Packets that are looked at after a question: those of many connections.
const LOOKS: u32 = 256;

/// Looks whenever somebody asks; ends if it must not.
pub(crate) async fn watch(address: IpAddr, protocol: Protocol, ports: [u16; 2], state: Arc<State>) {
    let hop: fn(&State) -> &Hop = if protocol == Protocol::TCP {
        |state| &state.tcp_hop
    } else {
        |state| &state.udp_hop
    };
    if address.is_ipv6() {
        return;
    }
    loop {
        if look(address, protocol, ports, hop(&state)).await.is_err() {
            return;
        }
        hop(&state).wanted.notified().await;
    }
}

/// Tells the time to live of the next packets to one of these ports.
///
/// # Errors
/// It cannot be seen, mostly for want of CAP_NET_RAW.
async fn look(at: IpAddr, protocol: Protocol, ports: [u16; 2], hop: &Hop) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(protocol))?;
    socket.bind(&SocketAddr::new(at, 0).into())?;
    // It receives as a socket of datagrams does.
    let socket = UdpSocket::from_std(OwnedFd::from(socket).into())?;
    let mut packet = [0; 128];
    let mut left = LOOKS;
    while left > 0 {
        let count = socket.recv(&mut packet).await?;
        if let Some(ttl) = ttl_to(&packet[..count], ports) {
            hop.found(ttl);
            left -= 1;
        }
    }
    Ok(())
}

/// The time to live of an IPv4 packet to one of these ports of TCP or UDP.
fn ttl_to(packet: &[u8], ports: [u16; 2]) -> Option<u8> {
    let head = usize::from(packet.first()? & 15) * 4;
    let ttl = *packet.get(8)?;
    let port = packet.get(head + 2..head + 4)?;
    let port = u16::from_be_bytes([port[0], port[1]]);
    ports.contains(&port).then_some(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_live_is_read_from_packets_to_our_ports() {
        let mut packet = [0; 40];
        packet[0] = 0x45;
        packet[8] = 61;
        packet[22..24].copy_from_slice(&8081_u16.to_be_bytes());
        assert_eq!(ttl_to(&packet, [8080, 8081]), Some(61));
        assert_eq!(ttl_to(&packet, [8080, 80]), None);
        assert_eq!(ttl_to(&packet[..23], [8080, 8081]), None);
        assert_eq!(ttl_to(&[], [8080, 8081]), None);
    }
}
