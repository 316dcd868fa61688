//! An address that clients connect to, and that moves from proxy to proxy.

use std::net::IpAddr;

use crate::address::{host, is_special, shorten};
use crate::invalid::Checks;
use crate::{Invalid, Neighbour, v1};

/// One address of which this proxy is the holder, or stands by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualAddress {
    /// A host's, neither loopback nor link-local.
    pub address: IpAddr,
    /// The link that it is put on; absent: found by the address.
    pub interface: Option<String>,
    /// This proxy answers for it.
    pub held: bool,
    /// Grows each time that another proxy is to hold it.
    pub epoch: u64,
    /// A proxy has held it before: nobody is asked whether they have it.
    pub take_over: bool,
    /// Who has held it, ends in order, and is sent what belongs to connections that did not begin here.
    pub predecessor: Option<Neighbour>,
}

/// What the kernel allows.
const MAX_INTERFACE: usize = 15;

impl VirtualAddress {
    /// One that is not held.
    pub const fn standby(address: IpAddr) -> Self {
        Self {
            address,
            interface: None,
            held: false,
            epoch: 0,
            take_over: false,
            predecessor: None,
        }
    }
}

impl TryFrom<v1::VirtualAddress> for VirtualAddress {
    type Error = Invalid;

    fn try_from(wire: v1::VirtualAddress) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let address = checks.take("address", host(&wire.address));
        if address.is_some_and(is_special) {
            let problem = format!("{} cannot move from host to host", wire.address);
            checks.refuse("address", problem);
        }
        if let Some(name) = &wire.interface {
            let is_odd = |c: char| c == '/' || !c.is_ascii_graphic();
            if name.is_empty() || name.len() > MAX_INTERFACE || name.contains(is_odd) {
                let problem = format!("{} is no name of a link", shorten(name));
                checks.refuse("interface", problem);
            }
        }
        let predecessor = wire.predecessor.map(Neighbour::try_from);
        let predecessor = predecessor.and_then(|read| checks.take("predecessor", read));
        if let (Some(address), Some(predecessor)) = (address, predecessor)
            && (address.is_ipv4() != predecessor.address.is_ipv4()
                || address == predecessor.address)
        {
            let problem = format!(
                "{} is no other address of its IP version",
                predecessor.address
            );
            checks.refuse("predecessor.address", problem);
        }
        checks.finish(address.map(|address| Self {
            address,
            interface: wire.interface,
            held: wire.held,
            epoch: wire.epoch,
            take_over: wire.take_over,
            predecessor,
        }))
    }
}

impl From<&VirtualAddress> for v1::VirtualAddress {
    fn from(address: &VirtualAddress) -> Self {
        Self {
            address: address.address.to_string(),
            interface: address.interface.clone(),
            held: address.held,
            epoch: address.epoch,
            take_over: address.take_over,
            predecessor: address.predecessor.as_ref().map(Into::into),
        }
    }
}
