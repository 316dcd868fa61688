//! The addresses that Services may get: ranges and networks, in the order in which they were written.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::cluster::Family;

/// Ranges of addresses that may be given away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool(Vec<Range>);

/// One range, both ends included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    family: Family,
    first: u128,
    last: u128,
}

impl Pool {
    /// Whether an address may be given away.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let number = number(ip);
        let holds = |range: &Range| {
            range.family == Family::of(ip) && (range.first..=range.last).contains(&number)
        };
        self.0.iter().any(holds)
    }

    /// The first address of a family that `is_free`. Looks no further than there are addresses in use.
    pub fn first(&self, family: Family, is_free: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let of_family = self.0.iter().filter(|range| range.family == family);
        let mut all =
            of_family.flat_map(|range| (range.first..=range.last).map(|n| address(family, n)));
        all.find(|ip| is_free(*ip))
    }
}

impl FromStr for Pool {
    type Err = String;

    /// Reads `10.0.0.10-10.0.0.20,192.0.2.0/28,fd00::/120`. A network's own address, and IPv4's broadcast address, are
    /// never given away.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let ranges: Vec<_> = parts.map(range).collect::<Result<_, _>>()?;
        if ranges.is_empty() {
            return Err("is empty: write first-last, or a network".to_owned());
        }
        for (i, a) in ranges.iter().enumerate() {
            if ranges[..i]
                .iter()
                .any(|b| a.family == b.family && a.first <= b.last && b.first <= a.last)
            {
                return Err("names an address twice".to_owned());
            }
        }
        Ok(Self(ranges))
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let (first, last) = (
                address(range.family, range.first),
                address(range.family, range.last),
            );
            write!(f, "{comma}{first}-{last}")?;
        }
        Ok(())
    }
}

fn range(text: &str) -> Result<Range, String> {
    let bad = || format!("{text:?} is neither first-last nor a network nor an address");
    if let Some((first, last)) = text.split_once('-') {
        let ends = first.trim().parse().ok().zip(last.trim().parse().ok());
        let (first, last): (IpAddr, IpAddr) = ends.ok_or_else(bad)?;
        if Family::of(first) != Family::of(last) || first > last {
            return Err(format!("{text:?} does not go upwards within one family"));
        }
        return Ok(between(first, last));
    }
    if let Ok(ip) = text.parse() {
        return Ok(between(ip, ip));
    }
    let net: IpNet = text.parse().map_err(|_| bad())?;
    let mut range = between(net.network(), net.broadcast());
    if net.prefix_len() < net.max_prefix_len() - 1 {
        range.first += 1;
        if range.family == Family::V4 {
            range.last -= 1;
        }
    }
    Ok(range)
}

const fn between(first: IpAddr, last: IpAddr) -> Range {
    Range {
        family: Family::of(first),
        first: number(first),
        last: number(last),
    }
}

const fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits() as u128,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn address(family: Family, number: u128) -> IpAddr {
    match family {
        // A range of IPv4 ends at 32 bits.
        Family::V4 => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        Family::V6 => Ipv6Addr::from_bits(number).into(),
    }
}
