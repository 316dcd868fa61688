//! Whose an Ingress is, and what it asks for: families, addresses, places. Pure.

use std::collections::BTreeSet;

use super::rules::{self, Port};
use crate::allocate::Request;
use crate::build::Options;
use crate::build::addresses::OfFamily;
use crate::build::claim::Claim;
use crate::build::places::Place;
use crate::cluster::{Cluster, Family, Front, Ingress, IngressEntry, Transport};

/// Decides whose `ingress` is. Its class says so, whoever else writes to it.
pub(in crate::build) fn claim(ingress: &Ingress, options: &Options) -> Claim {
    let class = ingress.class.as_ref();
    let is_ours = class.is_some_and(|class| options.ingress_classes.contains(class));
    if is_ours && !ingress.is_deleting {
        Claim::Ours
    } else if ingress.is_held() {
        Claim::Leaving
    } else {
        Claim::NotOurs
    }
}

/// Those of its Services; IPv4 while none of them is there.
pub(in crate::build) fn families(cluster: &Cluster, ingress: &Ingress) -> Vec<Family> {
    let services = ingress.services();
    let services = services.iter().filter_map(|key| cluster.service(key));
    let families = services.flat_map(|entry| entry.service.families.iter().copied());
    let families: BTreeSet<_> = families.collect();
    if families.is_empty() {
        return vec![Family::V4];
    }
    families.into_iter().collect()
}

/// What it asks of the pool.
pub(in crate::build) fn request(entry: &IngressEntry, families: Vec<Family>) -> Request {
    let (ingress, settings) = (&entry.ingress, &entry.annotations.settings);
    let (created, uid) = ingress.rank();
    Request {
        rank: (created, uid, Front::Ingress(ingress.key.clone())),
        families,
        wanted: {
            let named = settings.addresses.iter().copied();
            named.chain(settings.creation.vip).collect()
        },
        told: ingress.own_addresses().collect(),
        shares_with: settings.shares_with.clone(),
    }
}

/// Which places it wants.
pub(in crate::build) fn places(
    entry: &IngressEntry,
    addresses: &[OfFamily],
    options: &Options,
) -> BTreeSet<Place> {
    let (ports, _) = rules::ports(&entry.ingress, &entry.annotations.settings.ingress);
    let free = ports
        .iter()
        .filter(|port| !options.is_reserved(port.number));
    let addresses = addresses.iter().filter_map(|(_, address)| address.ok());
    let addresses: Vec<_> = addresses.collect();
    let place = |port: &Port<'_>, address| Place {
        address,
        transport: Transport::Tcp,
        port: port.number,
    };
    free.flat_map(|port| addresses.iter().map(move |address| place(port, *address)))
        .collect()
}
