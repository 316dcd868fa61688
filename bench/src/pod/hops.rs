//! The time to live of packets that reach the Pod, which tells how many routers they passed.
//!
//! A raw socket sees packets with their headers. It is open only from a question until the first packet, so that it costs
//! nothing while something is measured. IPv6 does not show its header there, and is not looked at.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::state::{Hop, State};

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
        match first(address, protocol, ports).await {
            Some(ttl) => hop(&state).found(ttl),
            None => return,
        }
        hop(&state).wanted.notified().await;
    }
}

/// The time to live of the next packet to one of these ports; `None` if that cannot be seen.
async fn first(address: IpAddr, protocol: Protocol, ports: [u16; 2]) -> Option<u8> {
    let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(protocol)).ok()?;
    socket
        .bind(&std::net::SocketAddr::new(address, 0).into())
        .ok()?;
    // It receives as a socket of datagrams does.
    let socket = UdpSocket::from_std(OwnedFd::from(socket).into()).ok()?;
    let mut packet = [0; 128];
    loop {
        let count = socket.recv(&mut packet).await.ok()?;
        if let Some(ttl) = ttl_to(&packet[..count], ports) {
            return Some(ttl);
        }
    }
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
