//! Asks the kernel for what `ways` decides by.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::ways::{ProxyAddress, View};
use crate::host::links::LinkKind;
use crate::host::neighbours::Neighbour;
use crate::host::{Family, HostError, Routing};

/// What the kernel says of the proxies' addresses.
pub(super) fn observe(routing: &mut Routing, addresses: &[IpAddr]) -> Result<View, HostError> {
    let mut view = View {
        links: routing.links()?,
        ..View::default()
    };
    let mut on_links = BTreeSet::new();
    for address in addresses {
        let hop = routing.next_hop(*address)?;
        if let Some(hop) = hop.filter(|hop| hop.gateway.is_none() && !hop.is_local) {
            on_links.insert(hop.link);
            if let Some(mac) = routing.neighbour(hop.link, *address)? {
                view.neighbours.push(Neighbour {
                    link: hop.link,
                    address: *address,
                    mac,
                });
            }
        }
        let address = *address;
        view.proxies.push(ProxyAddress { address, hop });
    }
    let tunnels = view
        .links
        .iter()
        .filter(|link| link.kind == LinkKind::Vxlan);
    let tunnels: Vec<_> = tunnels.map(|link| link.index).collect();
    for link in tunnels {
        view.tunnel_ends.extend(routing.tunnel_ends(link)?);
        on_links.insert(link);
    }
    for link in on_links {
        for family in Routing::families() {
            let known = routing.neighbours(family, link)?;
            view.neighbours.extend(known);
        }
    }
    Ok(view)
}

/// Makes the kernel find out, or check, who the proxies are on their links. Without the right to it, what is known counts.
pub(super) fn resolve(routing: &mut Routing, view: &View) {
    for proxy in &view.proxies {
        let Some(hop) = proxy
            .hop
            .filter(|hop| hop.gateway.is_none() && !hop.is_local)
        else {
            continue;
        };
        if let Err(error) = routing.resolve(hop.link, proxy.address) {
            tracing::debug!(error = crate::error::chain(&error), "cannot resolve");
        }
    }
}

/// The IP versions of this host.
pub(super) fn families() -> Vec<Family> {
    Routing::families().collect()
}
