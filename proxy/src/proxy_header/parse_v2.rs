//! Reading a header of version 2 whose signature is right as far as it goes.

use super::crc32c::crc32c;
use super::{
    Announced, LOCAL, MAX_LENGTH, MAX_UNIQUE_ID, PREFIX, PROXY, Parsed, Refusal, TCP4, TCP6,
    TLV_CRC32C, TLV_UNIQUE_ID, VERSION_2,
};
use std::net::{IpAddr, SocketAddr};

/// A type and the length of the value that follows.
const TLV_PREFIX: usize = 3;
/// What the halves of the family's byte may be, besides 0: IPv4, IPv6, UNIX; stream, datagram.
const LAST_FAMILY: u8 = 3;
const LAST_TRANSPORT: u8 = 2;

pub(super) fn parse(bytes: &[u8]) -> Parsed {
    // Each byte is judged as soon as it is there.
    let Some(command) = bytes.get(12) else {
        return Parsed::NeedMore;
    };
    let is_local = match command.checked_sub(VERSION_2) {
        Some(LOCAL) => true,
        Some(PROXY) => false,
        _ => return Parsed::Refused(Refusal::Malformed),
    };
    let Some(family) = bytes.get(13).copied() else {
        return Parsed::NeedMore;
    };
    // Of a LOCAL header nothing but its length counts.
    let is_known = family >> 4 <= LAST_FAMILY && family & 0xf <= LAST_TRANSPORT;
    if !is_local && !is_known {
        return Parsed::Refused(Refusal::Malformed);
    }
    let Some(&[high, low]) = bytes.get(14..PREFIX).and_then(|b| b.as_array()) else {
        return Parsed::NeedMore;
    };
    let length = PREFIX + usize::from(u16::from_be_bytes([high, low]));
    let size = match family >> 4 {
        _ if is_local => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    };
    if length > MAX_LENGTH {
        return Parsed::Refused(Refusal::TooLong);
    }
    if length < PREFIX + size {
        return Parsed::Refused(Refusal::Malformed);
    }
    let Some(header) = bytes.get(..length) else {
        return Parsed::NeedMore;
    };
    // Neither has a layout that could be walked.
    let is_opaque = is_local || family >> 4 == 0;
    let checked = if is_opaque {
        Ok(())
    } else {
        check_tlvs(header, PREFIX + size)
    };
    match checked {
        Ok(()) if is_local => Parsed::Done {
            length,
            announced: None,
        },
        Ok(()) => Parsed::Done {
            length,
            announced: ends(family, &header[PREFIX..]),
        },
        Err(refusal) => Parsed::Refused(refusal),
    }
}

/// The ends of a TCP connection. Those of a Unix socket are no addresses, and datagrams are no connection.
fn ends(family: u8, block: &[u8]) -> Option<Announced> {
    let mut rest = block;
    let mut take = |size: usize| {
        let (taken, left) = rest.split_at_checked(size)?;
        rest = left;
        Some(taken)
    };
    let (client, destination): (IpAddr, IpAddr) = match family {
        TCP4 => {
            let mut ip = || Some(IpAddr::from(<[u8; 4]>::try_from(take(4)?).ok()?));
            (ip()?, ip()?)
        }
        TCP6 => {
            let mut ip = || Some(IpAddr::from(<[u8; 16]>::try_from(take(16)?).ok()?));
            (ip()?, ip()?)
        }
        _ => return None,
    };
    let mut port = || Some(u16::from_be_bytes(<[u8; 2]>::try_from(take(2)?).ok()?));
    let ports = (port()?, port()?);
    Some(Announced::new(
        SocketAddr::new(client, ports.0),
        SocketAddr::new(destination, ports.1),
    ))
}

/// Walks what stands behind the addresses. Each part has to fit; a checksum has to be right.
fn check_tlvs(header: &[u8], mut at: usize) -> Result<(), Refusal> {
    let mut sum_at = None;
    while at < header.len() {
        let prefix = header.get(at..at + TLV_PREFIX).ok_or(Refusal::Malformed)?;
        let size = usize::from(u16::from_be_bytes([prefix[1], prefix[2]]));
        let value_at = at + TLV_PREFIX;
        at = value_at + size;
        if at > header.len() {
            return Err(Refusal::Malformed);
        }
        match prefix[0] {
            TLV_CRC32C if size != 4 || sum_at.is_some() => return Err(Refusal::Malformed),
            TLV_CRC32C => sum_at = Some(value_at),
            TLV_UNIQUE_ID if size > MAX_UNIQUE_ID => return Err(Refusal::Malformed),
            _ => {}
        }
    }
    let Some(sum_at) = sum_at else {
        return Ok(());
    };
    let (before, rest) = header.split_at(sum_at);
    let (told, behind) = rest.split_at(4);
    if told == crc32c(&[before, &[0; 4], behind]).to_be_bytes() {
        Ok(())
    } else {
        Err(Refusal::WrongChecksum)
    }
}
