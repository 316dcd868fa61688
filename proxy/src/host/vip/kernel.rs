//! The host as the keeper sees it: links, the addresses on them, and where a virtual address belongs among them.

use std::net::IpAddr;

use podline_api::VirtualAddress;

use super::place::{Place, by_network, named, own_address};
use crate::host::addresses::HostAddress;
use crate::host::links::Link;
use crate::host::{HostError, Routing};

/// How long the kernel keeps an address that nobody keeps there: so long others may be answered by a killed process's
/// host.
const LIFETIME_SECONDS: u32 = 10;

/// What the kernel said when it was asked last.
#[derive(Default)]
pub(super) struct Kernel {
    routing: Option<Routing>,
    pub(super) links: Vec<Link>,
    addresses: Vec<HostAddress>,
}

impl Kernel {
    fn routing(&mut self) -> Result<&mut Routing, HostError> {
        match &mut self.routing {
            Some(routing) => Ok(routing),
            none => Ok(none.insert(Routing::open()?)),
        }
    }

    pub(super) fn look(&mut self) -> Result<(), HostError> {
        let routing = self.routing()?;
        let links = routing.links()?;
        let mut addresses = Vec::new();
        for family in Routing::families() {
            addresses.extend(routing.host_addresses(family)?);
        }
        (self.links, self.addresses) = (links, addresses);
        Ok(())
    }

    /// Where the address is on this host, and whether a process of ours put it there.
    fn at(&self, ip: IpAddr) -> impl Iterator<Item = &HostAddress> {
        let all = self.addresses.iter();
        all.filter(move |known| known.network.addr() == ip)
    }

    pub(super) fn is_ours(&self, ip: IpAddr) -> bool {
        self.at(ip).any(|known| known.is_ours)
    }

    /// The link that an address belongs on.
    pub(super) fn place(&mut self, wanted: &VirtualAddress) -> Result<Place, String> {
        let mut place = self.link_for(wanted)?;
        place.own = own_address(&self.addresses, place.link, wanted.address);
        Ok(place)
    }

    fn link_for(&mut self, wanted: &VirtualAddress) -> Result<Place, String> {
        let ip = wanted.address;
        if let Some(name) = &wanted.interface {
            return named(&self.links, name);
        }
        if let Some(place) = by_network(&self.links, &self.addresses, ip) {
            return place;
        }
        let hop = self.routing().and_then(|routing| routing.next_hop(ip));
        let hop = hop.map_err(|error| words(&error))?;
        let links = self.links.iter();
        let mut links =
            links.filter(|link| hop.is_some_and(|hop| !hop.is_local && hop.link == link.index));
        match links.next() {
            Some(link) => Place::on(link),
            None => Err(format!(
                "no link of this host has a network with {ip}, nor is there a way to it: name its interface"
            )),
        }
    }

    pub(super) fn put(&mut self, place: &Place, ip: IpAddr) -> Result<(), String> {
        if let Some(known) = self.at(ip).find(|known| !known.is_ours) {
            let name = self.links.iter().find(|link| link.index == known.link);
            let name = name.map_or("a link", |link| &link.name);
            return Err(format!(
                "{name} of this host has it, put there by somebody else"
            ));
        }
        let routing = self.routing().map_err(|error| words(&error))?;
        let put = routing.put_address(place.link, ip, LIFETIME_SECONDS);
        put.map_err(|error| {
            if error.is_denied() {
                format!("the process lacks CAP_NET_ADMIN: {}", words(&error))
            } else {
                words(&error)
            }
        })
    }

    /// Takes it from every link that a process of ours put it on, and from `place`.
    pub(super) fn remove(&mut self, place: Option<&Place>, ip: IpAddr) {
        let ours = self.at(ip).filter(|known| known.is_ours);
        let mut links: Vec<u32> = ours.map(|known| known.link).collect();
        links.extend(place.map(|place| place.link));
        for link in links {
            let removed = self
                .routing()
                .and_then(|routing| routing.remove_address(link, ip));
            if let Err(error) = removed
                && !error.is_denied()
            {
                let why = words(&error);
                tracing::error!(%ip, why, "cannot give a virtual address up");
            }
        }
        self.addresses
            .retain(|known| known.network.addr() != ip || !known.is_ours);
    }
}

fn words(error: &HostError) -> String {
    format!("{error}: {}", error.source)
}
