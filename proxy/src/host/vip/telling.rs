//! What is said of an address: to the state, and in the log.

use podline_api::{Neighbour, v1};
use v1::address_status::State as Told;

use super::keeper::Entry;
use super::machine::{Phase, Why};
use super::place::Place;

impl Entry {
    pub(super) fn status(&self) -> v1::AddressStatus {
        if let (Phase::Probing { .. }, Some(told)) = (self.machine.phase(), &self.told)
            && told.epoch == self.wanted.epoch
            && matches!(told.state(), Told::Conflict | Told::Yielded)
        {
            // It is looked for again: until that has an end, it is as it was.
            return told.clone();
        }
        let (state, reason, other_mac) = match self.machine.phase() {
            Phase::Standby => (Told::Standby, String::new(), None),
            Phase::Probing { .. } => (Told::Probing, String::new(), None),
            Phase::Holding { .. } => (Told::Holding, String::new(), None),
            Phase::Waiting { why, .. } => match why {
                Why::Taken(mac) => (
                    Told::Conflict,
                    format!("the host at {mac} has it, which is no proxy as far as can be told"),
                    Some(mac),
                ),
                Why::Yielded(mac) => (
                    Told::Yielded,
                    format!("the proxy at {mac} announced it with more right"),
                    Some(mac),
                ),
                Why::Failed(why) => (Told::Failed, why.clone(), None),
            },
        };
        v1::AddressStatus {
            address: self.wanted.address.to_string(),
            interface: self
                .place
                .as_ref()
                .map(|place| place.name.clone())
                .unwrap_or_default(),
            state: state.into(),
            reason,
            other_mac: other_mac.map(ToString::to_string).unwrap_or_default(),
            since: None,
            epoch: self.wanted.epoch,
            heard_epoch: self.machine.heard_epoch(),
            own: neighbour(self.place.as_ref().and_then(Place::neighbour)),
            predecessor: neighbour(self.wanted.predecessor.filter(|_| self.wanted.held)),
        }
    }
}

fn neighbour(one: Option<Neighbour>) -> Option<v1::Neighbour> {
    one.as_ref().map(Into::into)
}

/// Says in the log what is another than before.
pub(super) fn log(before: Option<&v1::AddressStatus>, now: &v1::AddressStatus) {
    let (ip, interface, epoch) = (&now.address, &now.interface, now.epoch);
    if before.is_some_and(|before| before.state == now.state && before.reason == now.reason) {
        return;
    }
    match now.state() {
        Told::Holding => tracing::info!(ip, interface, epoch, "a virtual address is held"),
        Told::Standby if before.is_some() => tracing::info!(ip, "a virtual address is given up"),
        Told::Yielded => {
            tracing::info!(
                ip,
                interface,
                why = now.reason,
                "another proxy has a virtual address now"
            );
        }
        Told::Conflict | Told::Failed => {
            tracing::warn!(
                ip,
                interface,
                why = now.reason,
                "a virtual address cannot be held"
            );
        }
        Told::Standby | Told::Probing | Told::Unspecified => {}
    }
}
