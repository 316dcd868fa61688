//! Links, addresses and routes of a namespace, by netlink. It must not know which of them a test wants.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::error::LabError;
use crate::namespace::Namespace;

type Builder = RouteMessageBuilder<IpAddr>;

impl Namespace {
    /// Joins this namespace to another: a veth pair, `link` here and `peer_link` there, both up.
    pub fn join(&self, link: &str, peer: &Namespace, peer_link: &str) -> Result<(), LabError> {
        // Made here under a name that no test uses, since both ends may want the same one.
        let passing = "lab-passing";
        self.add_link(link, LinkVeth::new(link, passing).build())?;
        let there = peer.descriptor()?;
        let mut moved = LinkUnspec::new_with_index(self.index(passing)?);
        moved = moved.setns_by_fd(std::os::fd::AsRawFd::as_raw_fd(&there));
        self.set_link(passing, moved.name(peer_link).build())?;
        drop(there);
        self.link_up(link)?;
        peer.link_up(peer_link)
    }

    /// Adds a bridge, up, without spanning tree and without multicast snooping (it delays neighbour discovery).
    pub fn bridge(&self, name: &str) -> Result<(), LabError> {
        self.add_link(name, LinkBridge::new(name).mcast_snooping(false).build())
    }

    /// Makes `link` a port of `bridge`.
    pub fn enslave(&self, link: &str, bridge: &str) -> Result<(), LabError> {
        let message = LinkUnspec::new_with_index(self.index(link)?).controller(self.index(bridge)?);
        self.set_link(link, message.build())
    }

    /// Sets `link` up.
    pub fn link_up(&self, link: &str) -> Result<(), LabError> {
        self.set_link(
            link,
            LinkUnspec::new_with_index(self.index(link)?).up().build(),
        )
    }

    /// Sets `link` down: what is sent to it is lost without a word, as when a node loses its power.
    pub fn link_down(&self, link: &str) -> Result<(), LabError> {
        self.set_link(
            link,
            LinkUnspec::new_with_index(self.index(link)?).down().build(),
        )
    }

    /// Removes `link`, and the other end of its pair.
    pub fn remove_link(&self, link: &str) -> Result<(), LabError> {
        let (index, what) = (self.index(link)?, self.what("remove link", link));
        self.netlink(move |netlink| async move { netlink.link().del(index).execute().await })
            .map_err(LabError::netlink(what))
    }

    /// Adds `address`/`prefix` to `link`; usable at once.
    pub fn address(&self, link: &str, address: IpAddr, prefix: u8) -> Result<(), LabError> {
        let index = self.index(link)?;
        let what = self.what("add an address", &format!("{address}/{prefix} to {link}"));
        let add = move |netlink: Handle| async move {
            let mut request = netlink.address().add(index, address, prefix);
            let no_detection = AddressAttribute::Flags(AddressFlags::Nodad);
            request.message_mut().attributes.push(no_detection);
            request.execute().await
        };
        self.netlink(add).map_err(LabError::netlink(what))
    }

    /// Sends what goes to `destination`/`prefix` by `gateway`; an unspecified destination with prefix 0 is the default.
    pub fn route(&self, destination: IpAddr, prefix: u8, gateway: IpAddr) -> Result<(), LabError> {
        let route = by(to(destination, prefix), gateway).build();
        let what = format!("{destination}/{prefix} by {gateway}");
        self.add_route(&what, route)
    }

    /// Sends what goes to `destination`/`prefix` out of `link`, where it is a neighbour.
    pub fn route_on(&self, destination: IpAddr, prefix: u8, link: &str) -> Result<(), LabError> {
        let index = self.index(link)?;
        let route = to(destination, prefix).output_interface(index);
        let route = route.scope(RouteScope::Link).build();
        self.add_route(&format!("{destination}/{prefix} on {link}"), route)
    }

    /// As [`Self::route`], by a gateway that is a neighbour on `link` although no address there says so.
    pub fn route_over(
        &self,
        destination: IpAddr,
        prefix: u8,
        gateway: IpAddr,
        link: &str,
    ) -> Result<(), LabError> {
        let index = self.index(link)?;
        let route = by(to(destination, prefix), gateway);
        let route = route.output_interface(index).onlink().build();
        let what = format!("{destination}/{prefix} by {gateway} on {link}");
        self.add_route(&what, route)
    }

    /// Takes everything that comes to `destination`/`prefix` for its own.
    pub(crate) fn route_local(&self, destination: IpAddr, prefix: u8) -> Result<(), LabError> {
        /// The kernel's table of own addresses.
        const LOCAL: u32 = 255;
        let index = self.index("lo")?;
        let route = to(destination, prefix).output_interface(index);
        let route = route.kind(RouteType::Local).scope(RouteScope::Host);
        let what = format!("{destination}/{prefix} of its own");
        self.add_route(&what, route.table_id(LOCAL).build())
    }

    fn add_route(&self, what: &str, route: RouteMessage) -> Result<(), LabError> {
        let what = self.what("add a route", what);
        self.netlink(move |netlink| async move { netlink.route().add(route).execute().await })
            .map_err(LabError::netlink(what))
    }

    /// The Ethernet address of `link`.
    pub fn mac(&self, link: &str) -> Result<[u8; 6], LabError> {
        let message = self.link(link)?;
        let mac = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(&**bytes).ok(),
                _ => None,
            });
        mac.ok_or_else(|| self.no_link(link))
    }

    /// Gives `link` another Ethernet address.
    pub fn set_mac(&self, link: &str, mac: [u8; 6]) -> Result<(), LabError> {
        let message = LinkUnspec::new_with_index(self.index(link)?).address(mac.to_vec());
        self.set_link(link, message.build())
    }

    /// Sets how long a packet over `link` may be.
    pub fn mtu(&self, link: &str, bytes: u32) -> Result<(), LabError> {
        let message = LinkUnspec::new_with_index(self.index(link)?).mtu(bytes);
        self.set_link(link, message.build())
    }

    /// Names of the links, in the kernel's order.
    pub fn links(&self) -> Result<Vec<String>, LabError> {
        let what = self.what("list", "links");
        let list = |netlink: Handle| async move {
            let links: Vec<LinkMessage> = netlink.link().get().execute().try_collect().await?;
            Ok(links)
        };
        let links = self.netlink(list).map_err(LabError::netlink(what))?;
        Ok(links.iter().filter_map(name_of).collect())
    }

    pub(crate) fn index(&self, link: &str) -> Result<u32, LabError> {
        Ok(self.link(link)?.header.index)
    }

    fn link(&self, link: &str) -> Result<LinkMessage, LabError> {
        let name = link.to_owned();
        let find = |netlink: Handle| async move {
            let mut found = netlink.link().get().match_name(name).execute();
            found.try_next().await
        };
        match self.netlink(find) {
            Ok(Some(message)) => Ok(message),
            Ok(None) | Err(_) => Err(self.no_link(link)),
        }
    }

    fn no_link(&self, link: &str) -> LabError {
        LabError::NoLink {
            link: link.to_owned(),
            namespace: self.name().to_owned(),
        }
    }

    pub(crate) fn add_link(&self, name: &str, message: LinkMessage) -> Result<(), LabError> {
        let what = self.what("add link", name);
        self.netlink(move |netlink| async move { netlink.link().add(message).execute().await })
            .map_err(LabError::netlink(what))
    }

    fn set_link(&self, name: &str, message: LinkMessage) -> Result<(), LabError> {
        let what = self.what("set link", name);
        self.netlink(move |netlink| async move { netlink.link().set(message).execute().await })
            .map_err(LabError::netlink(what))
    }

    /// A descriptor of the namespace, for the kernel to move links into it.
    fn descriptor(&self) -> Result<std::fs::File, LabError> {
        self.run(|| std::fs::File::open("/proc/thread-self/ns/net"))
            .map_err(LabError::system(self.what("open", "the namespace")))
    }

    pub(crate) fn what(&self, verb: &str, object: &str) -> String {
        format!("{verb} {object} in {}", self.name())
    }
}

fn to(destination: IpAddr, prefix: u8) -> Builder {
    let route = Builder::new().destination_prefix(destination, prefix);
    route.expect("the prefix is one of its IP version")
}

fn by(route: Builder, gateway: IpAddr) -> Builder {
    let route = route.gateway(gateway);
    route.expect("both ends are of one IP version")
}

fn name_of(message: &LinkMessage) -> Option<String> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            netlink_packet_route::link::LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })
}
