//! What there is to say of a Service's virtual addresses, from how the proxies do with them. Pure.

use crate::build::Plan;
use crate::build::note::{Note, Reason};
use crate::observed::{AddressState, Holding, Observed};

use super::source::shorten;

/// What keeps the proxies from holding the Service's addresses. Nothing while an address goes from one to another.
pub(super) fn notes(plan: &Plan, observed: &Observed) -> Vec<Note> {
    let mut notes = Vec::new();
    for ip in &plan.addresses {
        let told = observed
            .serving()
            .filter_map(|(name, proxy)| Some((name, proxy.virtual_addresses.get(ip)?)));
        let told: Vec<_> = told.collect();
        if told
            .iter()
            .any(|(_, told)| told.state == AddressState::Holding)
        {
            continue;
        }
        let of_state = |state| told.iter().find(move |(_, told)| told.state == state);
        if let Some((_, told)) = of_state(AddressState::Conflict) {
            let mac = shorten(&told.other_mac);
            let message = format!(
                "the host at {mac} answers for {ip}: take the address from it, or out of the pool"
            );
            notes.push(Note::new(Reason::AddressConflict, message));
        } else if let Some((name, told)) = of_state(AddressState::Failed) {
            let why = shorten(&told.reason);
            let message = format!("proxy {name} cannot hold {ip}: {why}");
            notes.push(Note::new(Reason::AddressNotHeld, message));
        } else if observed.addresses.get(ip) == Some(&Holding::Nowhere) {
            let message = format!("no proxy holds {ip}: there is none that serves and can");
            notes.push(Note::new(Reason::AddressNotHeld, message));
        }
    }
    notes
}
