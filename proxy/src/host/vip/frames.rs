//! What is said on a link about an address, as Ethernet frames: ARP and neighbour discovery. Pure.
//!
//! An announcement says its epoch where others see padding (ARP) or an option for experiments (neighbour discovery), so
//! that proxies know who of them has more right, and everybody else takes it for what it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Heard, Said};
use crate::host::Mac;

const BROADCAST: Mac = Mac([0xff; 6]);
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
/// Ethernet header and ARP packet.
const ARP_LEN: usize = 14 + 28;
/// The shortest frame that goes over a wire.
const SHORTEST: usize = 60;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const TARGET_MAC: u8 = 2;
/// For experiments, by RFC 4727.
const EXPERIMENT: u8 = 253;
/// Ethernet and IPv6 headers.
const ICMPV6_AT: usize = 14 + 40;
const MAGIC: [u8; 4] = *b"PODL";
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Asks whether a host has `address`, without saying that we do.
pub(super) fn probe(own: Mac, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp(REQUEST, own, Ipv4Addr::UNSPECIFIED, address, None),
        IpAddr::V6(address) => {
            let [.., a, b, c] = address.octets();
            let to = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
            let mut body = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            body.extend(address.octets());
            icmpv6(own, Ipv6Addr::UNSPECIFIED, to, body)
        }
    }
}

/// Tells everybody that `address` is here.
pub(super) fn announcements(own: Mac, address: IpAddr, epoch: u64) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => [REQUEST, REPLY]
            .map(|operation| arp(operation, own, address, address, Some(epoch)))
            .into(),
        IpAddr::V6(address) => {
            let mut body = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
            body.extend(address.octets());
            body.extend([TARGET_MAC, 1]);
            body.extend(own.0);
            body.extend([EXPERIMENT, 2]);
            body.extend(MAGIC);
            body.extend([0, 0]);
            body.extend(epoch.to_be_bytes());
            vec![icmpv6(own, address, ALL_NODES, body)]
        }
    }
}

fn arp(
    operation: u16,
    own: Mac,
    sender: Ipv4Addr,
    target: Ipv4Addr,
    epoch: Option<u64>,
) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, own, ARP);
    frame.extend([0, 1, 8, 0, 6, 4]); // Ethernet, IPv4, and the lengths of their addresses
    frame.extend(operation.to_be_bytes());
    frame.extend(own.0);
    frame.extend(sender.octets());
    frame.extend(if epoch.is_some() { own.0 } else { [0; 6] });
    frame.extend(target.octets());
    if let Some(epoch) = epoch {
        frame.extend(MAGIC);
        frame.extend(epoch.to_be_bytes());
    }
    frame.resize(SHORTEST, 0);
    frame
}

fn icmpv6(own: Mac, from: Ipv6Addr, to: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let [.., a, b, c, d] = to.octets();
    let mut frame = ethernet(Mac([0x33, 0x33, a, b, c, d]), own, IPV6);
    let len = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes(); // some tens of bytes
    let sum = checksum(from, to, &body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    frame.extend([0x60, 0, 0, 0, len[0], len[1], ICMPV6, 255]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(body);
    frame
}

fn ethernet(to: Mac, from: Mac, kind: u16) -> Vec<u8> {
    let mut frame = to.0.to_vec();
    frame.extend(from.0);
    frame.extend(kind.to_be_bytes());
    frame
}

/// Over the body, whose own is zero, and what counts of the IPv6 header.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, body: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        let pairs = bytes.chunks(2);
        pairs
            .map(|pair| {
                let low = pair.get(1).copied().unwrap_or(0);
                u32::from(u16::from_be_bytes([pair[0], low]))
            })
            .sum()
    };
    let len = u32::try_from(body.len()).unwrap_or(0);
    let mut sum = words(&from.octets()) + words(&to.octets()) + words(body) + len;
    sum += u32::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// What a frame says, and about which address; nothing where that is none of our business.
pub(super) fn read(frame: &[u8]) -> Option<(IpAddr, Heard)> {
    let from = mac(frame, 6)?;
    match u16_at(frame, 12)? {
        ARP => read_arp(frame),
        IPV6 => read_icmpv6(frame, from),
        _ => None,
    }
}

fn read_arp(frame: &[u8]) -> Option<(IpAddr, Heard)> {
    if frame.get(14..20)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let operation = u16_at(frame, 20)?;
    let (from, sender) = (mac(frame, 22)?, v4(frame, 28)?);
    let target = v4(frame, 38)?;
    let (about, said) = if sender.is_unspecified() {
        if operation != REQUEST {
            return None;
        }
        (target, Said::Probes)
    } else if sender == target {
        (sender, Said::Announced(epoch(&frame[ARP_LEN..])))
    } else {
        (sender, Said::Has)
    };
    Some((about.into(), Heard { from, said }))
}

fn read_icmpv6(frame: &[u8], from: Mac) -> Option<(IpAddr, Heard)> {
    let is_icmpv6 = *frame.get(20)? == ICMPV6 && *frame.get(21)? == 255;
    let body = frame.get(ICMPV6_AT..).filter(|_| is_icmpv6)?;
    let target = v6(body, 8)?;
    match *body.first()? {
        SOLICITATION if v6(frame, 22)?.is_unspecified() => {
            let said = Said::Probes;
            Some((target.into(), Heard { from, said }))
        }
        ADVERTISEMENT => {
            let is_for_all = v6(frame, 38)?.is_multicast();
            let is_solicited = body[4] & SOLICITED != 0;
            let (from, epoch) = options(&body[24..], from);
            let said = if is_for_all && !is_solicited {
                Said::Announced(epoch)
            } else {
                Said::Has
            };
            Some((target.into(), Heard { from, said }))
        }
        _ => None,
    }
}

/// Whose address it is, and by which epoch.
fn options(mut rest: &[u8], from: Mac) -> (Mac, Option<u64>) {
    let (mut owner, mut told) = (from, None);
    while let [kind, len, ..] = *rest {
        let len = usize::from(len) * 8;
        let Some(option) = rest.get(..len).filter(|option| !option.is_empty()) else {
            break;
        };
        match kind {
            TARGET_MAC => owner = mac(option, 2).unwrap_or(owner),
            EXPERIMENT if option.get(2..6) == Some(&MAGIC) => {
                told = option.get(8..16).and_then(number);
            }
            _ => {}
        }
        rest = &rest[len..];
    }
    (owner, told)
}

fn epoch(padding: &[u8]) -> Option<u64> {
    let is_ours = padding.get(..4)? == MAGIC;
    padding.get(4..12).filter(|_| is_ours).and_then(number)
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([two[0], two[1]]))
}

fn mac(bytes: &[u8], at: usize) -> Option<Mac> {
    bytes.get(at..at + 6)?.try_into().ok().map(Mac)
}

fn v4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(four.into())
}

fn v6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    let all: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(all.into())
}

#[cfg(test)]
mod tests;
