//! The virtual addresses as the state knows them: which are wanted here, what the host's side says of each, and that the
//! process is about to leave them.

use super::State;
use super::network::Networks;
use super::view::timestamp;
use podline_api::{Network, VirtualAddress, v1};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use v1::address_status::State as AddressState;
use v1::watch_response::Event;

/// The first address of `wanted` that `theirs` puts on another link, and on which.
pub(super) fn contradiction<'a>(wanted: &Network, theirs: &'a Network) -> Option<(usize, &'a str)> {
    let linked = theirs.addresses.iter();
    let linked = linked.filter_map(|a| Some((a.address, a.interface.as_deref()?)));
    let links: BTreeMap<IpAddr, &str> = linked.collect();
    let mut all = wanted.addresses.iter().enumerate();
    all.find_map(|(at, wanted)| {
        let link = *links.get(&wanted.address)?;
        let other = wanted.interface.as_deref()?;
        (other != link).then_some((at, link))
    })
}

impl Networks {
    /// All owners' together: one is held if an owner says so, by the highest epoch of those who do.
    pub(super) fn virtual_addresses(&self) -> BTreeMap<IpAddr, VirtualAddress> {
        let mut all: BTreeMap<IpAddr, VirtualAddress> = BTreeMap::new();
        for said in self
            .by_owner
            .values()
            .flat_map(|network| &network.addresses)
        {
            let known = all
                .entry(said.address)
                .or_insert_with(|| VirtualAddress::standby(said.address));
            if said.held && (!known.held || said.epoch > known.epoch) {
                (known.held, known.epoch) = (true, said.epoch);
                (known.take_over, known.predecessor) = (said.take_over, said.predecessor);
            }
            if known.interface.is_none() {
                known.interface.clone_from(&said.interface);
            }
        }
        all
    }

    /// Somebody names this address a virtual one.
    pub(super) fn is_virtual(&self, ip: IpAddr) -> bool {
        let mut all = self
            .by_owner
            .values()
            .flat_map(|network| &network.addresses);
        all.any(|virtual_address| virtual_address.address == ip)
    }

    /// Forgets how addresses did that nobody names any more; of new ones nothing is known.
    pub(super) fn learn_virtual_addresses(&mut self) {
        let wanted = self.virtual_addresses();
        self.addresses.retain(|ip, _| wanted.contains_key(ip));
        for (ip, wanted) in wanted {
            let known = self.addresses.entry(ip);
            let status = known.or_insert_with(|| v1::AddressStatus {
                address: ip.to_string(),
                state: AddressState::Standby.into(),
                since: Some(timestamp(SystemTime::now())),
                ..v1::AddressStatus::default()
            });
            status.epoch = wanted.epoch;
        }
    }
}

impl State {
    /// The virtual addresses that owners name.
    pub(crate) fn addresses_wanted(&self) -> BTreeMap<IpAddr, VirtualAddress> {
        self.engine().networks.virtual_addresses()
    }

    /// Waits until those may be others.
    ///
    /// # Cancel safety
    /// A change that was not told yet is told to the next call.
    pub(crate) async fn addresses_changed(&self) {
        self.0.addresses.notified().await;
    }

    /// Tells how one does, except since when: that is now, if its state is another. One that nobody names is nobody's.
    pub(crate) fn learn_address(&self, ip: IpAddr, status: v1::AddressStatus) {
        self.change(|engine| {
            let Some(known) = engine.networks.addresses.get_mut(&ip) else {
                return Vec::new();
            };
            let since = if known.state == status.state {
                known.since
            } else {
                Some(timestamp(SystemTime::now()))
            };
            let status = v1::AddressStatus { since, ..status };
            if *known == status {
                return Vec::new();
            }
            known.clone_from(&status);
            vec![Event::Address(status)]
        });
    }

    /// Tells all who watch, or will, that the process ends in order.
    pub(crate) fn say_leaving(&self, keeps: Duration) {
        self.change(|engine| {
            engine.is_leaving = true;
            let keeps = prost_types::Duration::try_from(keeps).ok();
            vec![Event::Leaving(v1::Leaving { keeps })]
        });
    }
}
