//! From what the kernel says of the proxies to the ways by which their connections come in, and back. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::host::links::Link;
use crate::host::neighbours::Neighbour;
use crate::host::routes::NextHop;
use crate::host::{Family, Mac};

/// A way by which a proxy's connections come in: from an Ethernet address on a link; and the way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundWay {
    /// The proxy's addresses that led here, as they were given.
    pub proxy: Vec<IpAddr>,
    /// The link.
    pub link: LinkName,
    /// The Ethernet address on it.
    pub mac: Mac,
    /// The neighbour on the link that replies go to, for each IP version in the order of [`Family::ALL`].
    pub back: [Option<IpAddr>; 2],
}

/// A link by its number and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkName {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// What the kernel says, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// All links.
    pub links: Vec<Link>,
    /// Every address of every proxy.
    pub proxies: Vec<ProxyAddress>,
    /// Known neighbours on the links that proxies are on, and on VXLANs.
    pub neighbours: Vec<Neighbour>,
    /// The other ends of VXLANs.
    pub tunnel_ends: Vec<Neighbour>,
}

/// What the kernel says of one address.
#[derive(Clone, Copy, Debug)]
pub struct ProxyAddress {
    /// The address.
    pub address: IpAddr,
    /// Where packets to it go.
    pub hop: Option<NextHop>,
}

/// Why an address has no way of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoWay {
    /// It is this host's own: what comes from it needs no way back by the network.
    Own,
    /// The kernel has no route to it.
    NoRoute,
    /// It is behind a router: its packets come from the router's Ethernet address.
    Behind(IpAddr),
    /// Its Ethernet address is not known yet.
    Unresolved,
}

impl std::fmt::Display for NoWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own => f.write_str("it is this host's own address, which needs nothing"),
            Self::NoRoute => f.write_str("the kernel has no route to it"),
            Self::Behind(router) => write!(
                f,
                "it is behind the router {router}: replies can go back through a proxy only on the same Ethernet segment or through a VXLAN; if the proxy is a Pod, run it in the host's network"
            ),
            Self::Unresolved => f.write_str("its Ethernet address is not known yet"),
        }
    }
}

/// All ways that can be told, and each address that has none, with the reason.
pub fn ways(view: &View) -> (Vec<InboundWay>, Vec<(IpAddr, NoWay)>) {
    let mut found = Found::default();
    let mut none = Vec::new();
    for proxy in &view.proxies {
        let tunnels = tunnelled(view, proxy.address);
        let direct = direct(view, *proxy);
        if let (Err(reason), true) = (&direct, tunnels.is_empty()) {
            none.push((proxy.address, *reason));
        }
        for one in tunnels.into_iter().chain(direct.ok()) {
            add(&mut found, proxy.address, one);
        }
    }
    // What neighbour entries tell of a proxy's other addresses may be the other end of a VXLAN too.
    for way in found.values_mut() {
        complete(way, &view.neighbours);
    }
    let known: Vec<_> = found.values().cloned().collect();
    for way in known {
        for address in way.back.into_iter().flatten() {
            for one in tunnelled(view, address) {
                add(&mut found, way.proxy[0], one);
            }
        }
    }
    let mut ways: Vec<_> = found.into_values().collect();
    // As they were told, so that the first proxy gets the first number.
    let place = |way: &InboundWay| {
        let first = view
            .proxies
            .iter()
            .position(|p| way.proxy.contains(&p.address));
        (first, way.link.clone())
    };
    ways.sort_by_key(place);
    (ways, none)
}

/// By link and Ethernet address: one machine, whichever of its addresses led there.
type Found = BTreeMap<(LinkName, Mac), InboundWay>;
type One = (LinkName, Mac, [Option<IpAddr>; 2]);

fn add(found: &mut Found, proxy: IpAddr, (link, mac, back): One) {
    let way = found.entry((link.clone(), mac));
    let way = way.or_insert_with(|| InboundWay {
        proxy: Vec::new(),
        link,
        mac,
        back: [None, None],
    });
    if !way.proxy.contains(&proxy) {
        way.proxy.push(proxy);
    }
    for (known, new) in way.back.iter_mut().zip(back) {
        *known = known.or(new);
    }
}

fn direct(view: &View, proxy: ProxyAddress) -> Result<One, NoWay> {
    let hop = proxy.hop.ok_or(NoWay::NoRoute)?;
    if hop.is_local {
        return Err(NoWay::Own);
    }
    if let Some(router) = hop.gateway {
        return Err(NoWay::Behind(router));
    }
    let link = name(view, hop.link).ok_or(NoWay::NoRoute)?;
    let known = view.neighbours.iter();
    let mut same = known.filter(|one| one.link == hop.link && one.address == proxy.address);
    let mac = same.next().ok_or(NoWay::Unresolved)?.mac;
    Ok((link, mac, only(proxy.address)))
}

/// The VXLANs that have the address as an other end.
fn tunnelled(view: &View, address: IpAddr) -> Vec<One> {
    let ends = view.tunnel_ends.iter().filter(|end| end.address == address);
    let found = ends.filter_map(|end| {
        let same = |one: &&Neighbour| one.link == end.link && one.mac == end.mac;
        let mut back = [None, None];
        for inside in view.neighbours.iter().filter(same) {
            let place = &mut back[place(inside.address)];
            *place = place.or(Some(inside.address));
        }
        // Forwarding entries for all or for nobody have no neighbour.
        let is_known = back.iter().any(Option::is_some);
        Some((name(view, end.link)?, end.mac, back)).filter(|_| is_known)
    });
    found.collect()
}

/// Finds the missing IP version by the Ethernet address: link-local addresses first, since they live longest.
fn complete(way: &mut InboundWay, neighbours: &[Neighbour]) {
    let same = |one: &&Neighbour| one.link == way.link.index && one.mac == way.mac;
    for family in Family::ALL {
        let place = &mut way.back[family as usize];
        let of_family = neighbours.iter().filter(same).map(|one| one.address);
        let of_family = of_family.filter(|address| Family::of(*address) == family);
        let best = of_family.min_by_key(|address| (!is_link_local(*address), *address));
        *place = place.or(best);
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn name(view: &View, index: u32) -> Option<LinkName> {
    let link = view.links.iter().find(|link| link.index == index)?;
    Some(LinkName {
        index,
        name: link.name.clone(),
    })
}

fn place(address: IpAddr) -> usize {
    Family::of(address) as usize
}

fn only(address: IpAddr) -> [Option<IpAddr>; 2] {
    let mut back = [None, None];
    back[place(address)] = Some(address);
    back
}
