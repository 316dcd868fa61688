//! Writing a header. IPv4 is never written in IPv6 form, with one exception: where one end is IPv4 and the other IPv6
//! (only another proxy's header can say so), the IPv4 one is mapped, as HAProxy does it.

use super::{
    Announced, PREFIX, PROXY, SIGNATURE, TCP4, TCP6, TLV_CRC32C, TLV_UNIQUE_ID, UNSPEC, VERSION_2,
    octets,
};
use podline_api::ProxyHeader;
use std::fmt::{self, Write};
use std::net::IpAddr;

/// A written header. On the stack: it lives for one system call.
#[derive(Clone, Copy)]
pub struct Header {
    bytes: [u8; LONGEST],
    length: usize,
}

/// A line of version 1; one of version 2 has 78 bytes at most.
const LONGEST: usize = 107;

impl Header {
    /// What goes to the backend.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }

    fn push_tlv(&mut self, kind: u8, value: &[u8]) {
        let length = u16::try_from(value.len()).unwrap_or(0); // 16 at most
        self.push(&[kind]);
        self.push(&length.to_be_bytes());
        self.push(value);
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

/// The header of a connection; without ends if they are not known.
pub fn write(form: ProxyHeader, ends: Option<Announced>, unique_id: u128) -> Header {
    let mut header = Header {
        bytes: [0; LONGEST],
        length: 0,
    };
    match form {
        ProxyHeader::V1 => write_v1(&mut header, ends),
        ProxyHeader::V2 {
            crc32c,
            unique_id: is_wanted,
        } => {
            let id = is_wanted.then_some(unique_id);
            write_v2(&mut header, ends, id, crc32c);
        }
    }
    header
}

struct Line<'a>(&'a mut Header);

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push(text.as_bytes());
        Ok(())
    }
}

fn write_v1(header: &mut Header, ends: Option<Announced>) {
    let mut line = Line(header);
    let Some(Announced {
        client,
        destination,
    }) = ends
    else {
        let _ = line.write_str("PROXY UNKNOWN\r\n");
        return;
    };
    let (from, to) = (client.ip(), destination.ip());
    let ports = (client.port(), destination.port());
    // Writing into a header cannot fail: the longest line has 107 bytes.
    let _ = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => write!(line, "PROXY TCP4 {from} {to}"),
        _ => write!(line, "PROXY TCP6 {} {}", mapped(from), mapped(to)),
    };
    let _ = write!(line, " {} {}\r\n", ports.0, ports.1);
}

fn mapped(ip: IpAddr) -> std::net::Ipv6Addr {
    octets(ip).into()
}

fn write_v2(header: &mut Header, ends: Option<Announced>, id: Option<u128>, crc32c: bool) {
    header.push(&SIGNATURE);
    header.push(&[VERSION_2 | PROXY, UNSPEC, 0, 0]);
    if let Some(ends) = ends {
        let (from, to) = (ends.client, ends.destination);
        let family = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.push(&from.octets());
                header.push(&to.octets());
                TCP4
            }
            (from, to) => {
                header.push(&octets(from));
                header.push(&octets(to));
                TCP6
            }
        };
        header.bytes[FAMILY_AT] = family;
        header.push(&from.port().to_be_bytes());
        header.push(&to.port().to_be_bytes());
    }
    if let Some(id) = id {
        header.push_tlv(TLV_UNIQUE_ID, &id.to_be_bytes());
    }
    if crc32c {
        header.push_tlv(TLV_CRC32C, &[0; 4]);
    }
    let rest = u16::try_from(header.length - PREFIX).unwrap_or(0); // 62 at most
    header.bytes[LENGTH_AT..PREFIX].copy_from_slice(&rest.to_be_bytes());
    if crc32c {
        // Computed with zeroes in its own place, which is the last.
        let sum = super::crc32c::crc32c(&[header.as_bytes()]);
        header.length -= size_of_val(&sum);
        header.push(&sum.to_be_bytes());
    }
}

const FAMILY_AT: usize = 13;
const LENGTH_AT: usize = 14;
