//! Which link an address belongs on. Pure.

use std::net::IpAddr;

use podline_api::Neighbour;

use crate::host::Mac;
use crate::host::addresses::HostAddress;
use crate::host::links::{Link, LinkKind};

/// A link that an address can be announced on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) link: u32,
    pub(super) name: String,
    pub(super) mac: Mac,
    /// This host's own address there, of the same IP version, if it has one.
    pub(super) own: Option<IpAddr>,
}

impl Place {
    /// # Errors
    /// Nothing can be announced there.
    pub(super) fn on(link: &Link) -> Result<Self, String> {
        let mac = link.mac.filter(|_| link.kind != LinkKind::Loopback);
        let Some(mac) = mac else {
            let name = &link.name;
            return Err(format!(
                "nothing can be announced on {name}: it has no Ethernet address"
            ));
        };
        Ok(Self {
            link: link.index,
            name: link.name.clone(),
            mac,
            own: None,
        })
    }

    /// This host, to others on the link.
    pub(super) fn neighbour(&self) -> Option<Neighbour> {
        let mac = self.mac;
        self.own.map(|address| Neighbour { address, mac })
    }
}

/// The link of this name.
pub(super) fn named(links: &[Link], name: &str) -> Result<Place, String> {
    match links.iter().find(|link| link.name == name) {
        Some(link) => Place::on(link),
        None => Err(format!("there is no interface {name}")),
    }
}

/// The link whose own network holds the address, the smallest such network first; nothing where none does.
pub(super) fn by_network(
    links: &[Link],
    addresses: &[HostAddress],
    ip: IpAddr,
) -> Option<Result<Place, String>> {
    let is_network = |known: &&HostAddress| {
        let network = known.network;
        network.contains(&ip) && network.prefix_len() < network.max_prefix_len()
    };
    let mut known: Vec<&HostAddress> = addresses.iter().filter(is_network).collect();
    known.sort_by_key(|known| std::cmp::Reverse(known.network.prefix_len()));
    let mut found = known.into_iter().filter_map(|known| {
        let link = links.iter().find(|link| link.index == known.link)?;
        (link.kind != LinkKind::Loopback).then(|| Place::on(link))
    });
    found.next()
}

/// A host's own address on a link, of the IP version of `ip`: one whose network has that, if there is one.
pub(super) fn own_address(addresses: &[HostAddress], link: u32, ip: IpAddr) -> Option<IpAddr> {
    let is_own = |known: &&HostAddress| {
        let own = known.network.addr();
        known.link == link && !known.is_ours && own != ip && own.is_ipv4() == ip.is_ipv4()
    };
    let own = addresses.iter().filter(is_own);
    let best = own.max_by_key(|known| known.network.contains(&ip));
    best.map(|known| known.network.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, mac: Option<Mac>) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac,
            is_up: true,
            has_carrier: true,
            kind: LinkKind::Other,
        }
    }

    fn on(link: u32, network: &str) -> HostAddress {
        HostAddress {
            link,
            network: network.parse().unwrap(),
            is_ours: false,
        }
    }

    fn links() -> Vec<Link> {
        let loopback = Link {
            kind: LinkKind::Loopback,
            ..link(1, "lo", Some(Mac([0; 6])))
        };
        let mac = |n| Some(Mac([2, 0, 0, 0, 0, n]));
        vec![
            loopback,
            link(2, "eth0", mac(2)),
            link(3, "eth1", mac(3)),
            link(4, "tun0", None),
        ]
    }

    fn check(addresses: &[HostAddress], ip: &str, expected: Option<Result<&str, &str>>) {
        let found = by_network(&links(), addresses, ip.parse().unwrap());
        let found = found.as_ref().map(|found| match found {
            Ok(place) => Ok(place.name.as_str()),
            Err(why) => Err(why.as_str()),
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn the_smallest_network_with_the_address_says_where_it_belongs() {
        let addresses = [
            on(1, "10.0.0.0/8"),
            on(2, "10.0.0.5/8"),
            on(3, "10.1.0.5/16"),
            on(2, "10.1.0.9/32"),
            on(2, "fd00::5/64"),
            on(4, "10.9.0.1/24"),
        ];
        check(&addresses, "10.1.0.9", Some(Ok("eth1")));
        check(&addresses, "10.2.0.9", Some(Ok("eth0")));
        check(&addresses, "fd00::9", Some(Ok("eth0")));
        check(&addresses, "192.0.2.1", None);
        let why = "nothing can be announced on tun0: it has no Ethernet address";
        check(&addresses, "10.9.0.7", Some(Err(why)));
    }

    #[test]
    fn a_host_is_known_by_its_own_address_on_the_link() {
        let ours = HostAddress {
            is_ours: true,
            ..on(2, "10.1.0.9/32")
        };
        let addresses = [
            on(2, "10.1.0.5/16"),
            on(2, "10.2.0.5/16"),
            ours,
            on(3, "10.1.0.6/16"),
            on(2, "fe80::5/64"),
        ];
        let own = |link, ip: &str| {
            let found = own_address(&addresses, link, ip.parse().unwrap());
            found.map(|own| own.to_string())
        };
        assert_eq!(own(2, "10.1.0.9").as_deref(), Some("10.1.0.5"));
        assert_eq!(own(2, "10.2.0.9").as_deref(), Some("10.2.0.5"));
        assert_eq!(own(3, "10.1.0.9").as_deref(), Some("10.1.0.6"));
        assert_eq!(own(2, "fd00::9").as_deref(), Some("fe80::5"));
        assert_eq!(own(3, "fd00::9"), None);
    }

    #[test]
    fn a_name_says_it_where_there_is_such_a_link() {
        assert_eq!(named(&links(), "eth1").unwrap().link, 3);
        let why = named(&links(), "eth7").unwrap_err();
        assert_eq!(why, "there is no interface eth7");
        named(&links(), "lo").unwrap_err();
    }
}
