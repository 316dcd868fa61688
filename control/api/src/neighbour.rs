//! A machine on the same link, by both of its addresses there.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::address::{host, shorten};
use crate::invalid::Checks;
use crate::{Invalid, v1};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&digits.join(":"))
    }
}

impl FromStr for Mac {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let byte = |part: &str| {
            let is_byte = part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit());
            u8::from_str_radix(part, 16).ok().filter(|_| is_byte)
        };
        let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
        let bytes = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        // The first bit on the wire says that it is nobody's own.
        let of_one = bytes.filter(|bytes| bytes[0] & 1 == 0 && *bytes != [0; 6]);
        of_one.map(Self).ok_or_else(|| {
            let problem = format!("{} is no machine's Ethernet address", shorten(text));
            Invalid::one("", problem)
        })
    }
}

/// A machine on the same link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// Its own address there; it may be link-local.
    pub address: IpAddr,
    /// Its Ethernet address there.
    pub mac: Mac,
}

impl TryFrom<v1::Neighbour> for Neighbour {
    type Error = Invalid;

    fn try_from(wire: v1::Neighbour) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let address = checks.take("address", host(&wire.address));
        if address.is_some_and(|ip| ip.is_loopback()) {
            let problem = format!("{} is every machine's own", wire.address);
            checks.refuse("address", problem);
        }
        let mac = checks.take("mac", wire.mac.parse());
        checks.finish(address.zip(mac).map(|(address, mac)| Self { address, mac }))
    }
}

impl From<&Neighbour> for v1::Neighbour {
    fn from(neighbour: &Neighbour) -> Self {
        Self {
            address: neighbour.address.to_string(),
            mac: neighbour.mac.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(address: &str, mac: &str) -> Result<Neighbour, String> {
        let wire = v1::Neighbour {
            address: address.to_owned(),
            mac: mac.to_owned(),
        };
        Neighbour::try_from(wire).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn both_addresses_are_read_and_written() {
        for address in ["10.88.0.11", "fd00::1", "fe80::1", "169.254.0.9"] {
            let neighbour = read(address, "02:00:0A:00:00:ff").unwrap();
            assert_eq!(neighbour.mac, Mac([2, 0, 10, 0, 0, 255]));
            let wire = v1::Neighbour::from(&neighbour);
            assert_eq!((&*wire.address, &*wire.mac), (address, "02:00:0a:00:00:ff"));
            assert_eq!(Neighbour::try_from(wire), Ok(neighbour));
        }
    }

    #[test]
    fn what_names_no_machine_is_refused_by_field() {
        let mac = "02:00:00:00:00:01";
        for address in ["", "somebody", "0.0.0.0", "127.0.0.1", "::1", "224.0.0.1"] {
            let why = read(address, mac).unwrap_err();
            assert!(why.starts_with("address: "), "{address}: {why}");
        }
        let not_one = [
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
        ];
        let not_six = [
            "",
            "02:00",
            "2:0:0:0:0:1",
            "02:00:00:00:00:01:02",
            "02-00-00-00-00-01",
            "0g:00:00:00:00:01",
            "+2:00:00:00:00:01",
        ];
        for mac in not_one.into_iter().chain(not_six) {
            let why = read("10.0.0.1", mac).unwrap_err();
            assert!(why.starts_with("mac: "), "{mac}: {why}");
        }
    }
}
