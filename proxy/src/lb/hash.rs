//! Hashes that every proxy computes alike, whatever its version or machine: what a client and a backend are for picks.
//!
//! Written out, because the standard library's hashers may change and differ by process. They spread well but keep no
//! secret: who chooses ids or addresses can choose their hashes.

use podline_api::BackendKey;
use std::net::{IpAddr, SocketAddr};

/// The golden ratio's fraction, in units of 2^-64.
pub(super) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bits of an identity that tell members of one host apart.
const ADDRESS_BITS: u32 = 20;
/// Bits of an identity that name the host in the memory of clients.
pub const HOST_BITS: u32 = 40;

/// Every bit of the answer depends on every bit of `z`; different inputs give different answers (`SplitMix64`).
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What [`mix`] made `z` of.
pub fn unmix(mut z: u64) -> u64 {
    z = (z ^ (z >> 31) ^ (z >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    z = (z ^ (z >> 27) ^ (z >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    z ^ (z >> 30) ^ (z >> 60)
}

/// `more` taken into `hash`.
pub fn join(hash: u64, more: u64) -> u64 {
    mix(hash.wrapping_add(GOLDEN) ^ more)
}

/// Text, as FNV-1a and mixed.
pub fn text(text: &str) -> u64 {
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv)
}

/// An IP address; an IPv4 address in IPv6 form is the IPv4 address.
pub fn ip(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => join(4, u64::from(v4.to_bits())),
        IpAddr::V6(v6) => {
            let [high, low] = halves(v6.to_bits());
            join(join(6, high), low)
        }
    }
}

/// An address and port.
pub fn address(address: SocketAddr) -> u64 {
    join(ip(address.ip()), u64::from(address.port()))
}

/// The upper and the lower half.
fn halves(bits: u128) -> [u64; 2] {
    [bits >> 64, bits & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or(0))
}

/// A member of a set, by hash: its host in the upper bits, its address in the lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity(pub u64);

impl Identity {
    /// Of a backend. The host is its id or, without one, its address; where sets share their clients' hosts
    /// (`by_ip`) that is without the port, which may differ between them.
    pub fn of(key: &BackendKey, by_ip: bool) -> Self {
        let host = match &key.id {
            Some(id) => text(id.as_str()),
            None if by_ip => ip(key.address.ip()),
            None => address(key.address),
        };
        let low = u64::MAX >> (64 - ADDRESS_BITS);
        Self(host & !low | address(key.address) & low)
    }

    /// The host, in the lower [`HOST_BITS`]; never 0, which stands for nobody.
    pub fn host(self) -> u64 {
        (self.0 >> (64 - HOST_BITS)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: Option<&str>, address: &str) -> BackendKey {
        BackendKey {
            id: id.map(|id| id.try_into().unwrap()),
            address: address.parse().unwrap(),
        }
    }

    /// Proxies of different releases serve the same clients: these must never change.
    #[test]
    fn hashes_are_the_same_for_ever() {
        assert_eq!(text("pod-7"), 0x0b2f_c14d_9cf9_0104);
        assert_eq!(ip("10.0.0.1".parse().unwrap()), 0x77c3_80ac_60b8_9182);
        assert_eq!(ip("2001:db8::1".parse().unwrap()), 0x6ac6_a4d3_865f_e449);
        assert_eq!(
            address("10.0.0.1:80".parse().unwrap()),
            0x1866_9730_af88_db1f
        );
        assert_eq!(
            Identity::of(&key(Some("a"), "10.0.0.1:80"), false).0,
            0x02c0_bdbf_4818_db1f
        );
    }

    #[test]
    fn what_is_mixed_can_be_had_back() {
        for n in (0..1_000).flat_map(|n: u64| [n, n << 40, !n, n.wrapping_mul(GOLDEN)]) {
            assert_eq!(unmix(mix(n)), n);
            assert_eq!(mix(unmix(n)), n);
        }
    }

    #[test]
    fn members_of_one_host_share_it_and_differ() {
        let of = |key: &BackendKey| Identity::of(key, false);
        let (web, dns) = (key(Some("a"), "10.0.0.1:80"), key(Some("a"), "10.0.0.1:53"));
        assert_ne!(of(&web), of(&dns));
        assert_eq!(of(&web).host(), of(&dns).host());
        assert_ne!(of(&web).host(), of(&key(Some("b"), "10.0.0.1:80")).host());
        // Without ids, the port belongs to the identity unless sets share hosts.
        let (web, dns) = (key(None, "10.0.0.1:80"), key(None, "10.0.0.1:53"));
        assert_ne!(of(&web).host(), of(&dns).host());
        let shared = [&web, &dns].map(|key| Identity::of(key, true));
        assert_eq!(shared[0].host(), shared[1].host());
        assert_ne!(shared[0], shared[1]);
    }

    #[test]
    fn an_ipv4_client_in_ipv6_form_is_the_ipv4_client() {
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(ip(mapped), ip("10.0.0.1".parse().unwrap()));
    }
}
