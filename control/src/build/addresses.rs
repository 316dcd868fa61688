//! Where a Service's listeners stand: on addresses of the pool, or on every address of the proxies. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::allocate::{Assignments, Refused, Request};
use crate::cluster::{Entry, Family, Front, family};

/// The address of one family, or why there is none.
pub(super) type OfFamily = (Family, Result<IpAddr, Refused>);

/// What a Service asks of the pool: an annotation counts more than the field that it replaces.
pub(super) fn request(entry: &Entry) -> Request {
    let (service, settings) = (&entry.service, &entry.annotations.settings);
    let field = service.wanted_ip.as_deref().and_then(family::parse_ip);
    Request {
        rank: {
            let (created, uid) = service.rank();
            (created, uid, Front::Service(service.key.clone()))
        },
        families: service.families.clone(),
        wanted: {
            let named = settings.addresses.iter().copied();
            named.chain(field).chain(settings.creation.vip).collect()
        },
        told: service
            .ingress
            .iter()
            .filter_map(|entry| entry.ip)
            .collect(),
        shares_with: settings.shares_with.clone(),
    }
}

/// What the pool gave.
pub(super) fn of_pool(front: &Front, families: &[Family], assigned: &Assignments) -> Vec<OfFamily> {
    let found = assigned.get(front);
    let of = |family: &Family| {
        let given = found.and_then(|found| found.get(family)).copied();
        (*family, given.unwrap_or(Err(Refused::Exhausted(*family))))
    };
    families.iter().map(of).collect()
}

/// Every address of the proxies.
pub(super) fn of_proxies(families: &[Family]) -> Vec<OfFamily> {
    let any = |family: &Family| match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    families
        .iter()
        .map(|family| (*family, Ok(any(family))))
        .collect()
}
