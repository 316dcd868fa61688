//! Which Service gets which address of the pool. Pure.
//!
//! Who has an address keeps it for as long as it asks for no other and the pool holds it: a Service that appears, or one
//! that goes, moves nobody else. Addresses are remembered in the Services' own status, so a restart moves nobody either.

mod pool;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::build::places::Rank;
use crate::cluster::{Family, Front};
pub use pool::Pool;

/// What a Service asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The older first.
    pub rank: Rank,
    /// One address of each.
    pub families: Vec<Family>,
    /// Asked for by name; one of a family at most counts.
    pub wanted: Vec<IpAddr>,
    /// What its status says.
    pub told: Vec<IpAddr>,
    /// Namespaces whose Services may ask for the same address, beside its own.
    pub shares_with: BTreeSet<String>,
}

/// Why a Service has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The pool has none left of this family.
    Exhausted(Family),
    /// It is none of the pool's.
    NotInPool(IpAddr),
    /// A Service of another namespace has it, and does not share.
    Taken(IpAddr),
}

/// One address, or none, for each family of each Service.
pub type Assignments = BTreeMap<Front, BTreeMap<Family, Result<IpAddr, Refused>>>;

/// Gives every request its addresses. `before` is what came of the last time.
pub fn assign(
    pool: &Pool,
    requests: &BTreeMap<Front, Request>,
    before: &Assignments,
) -> Assignments {
    let mut order: Vec<_> = requests.iter().collect();
    order.sort_by(|a, b| a.1.rank.cmp(&b.1.rank));
    let mut work = Work {
        pool,
        requests,
        holders: BTreeMap::new(),
        assigned: BTreeMap::new(),
    };
    // Who has an address comes before everybody who only asks for one, however old.
    for (key, request) in &order {
        let had = |family| before.get(*key)?.get(&family)?.ok();
        work.keep(key, request, had);
    }
    for (key, request) in &order {
        let told = |family| {
            request
                .told
                .iter()
                .copied()
                .find(|ip| Family::of(*ip) == family)
        };
        work.keep(key, request, told);
    }
    for (key, request) in &order {
        work.give(key, request);
    }
    work.assigned
}

struct Work<'a> {
    pool: &'a Pool,
    requests: &'a BTreeMap<Front, Request>,
    /// Who has an address, the first of them first.
    holders: BTreeMap<IpAddr, Vec<Front>>,
    assigned: Assignments,
}

impl Work<'_> {
    /// Lets a Service keep what it has, unless it asks for something else.
    fn keep(&mut self, key: &Front, request: &Request, has: impl Fn(Family) -> Option<IpAddr>) {
        for family in &request.families {
            if self.has(key, *family) {
                continue;
            }
            let Some(address) = has(*family).filter(|ip| self.pool.contains(*ip)) else {
                continue;
            };
            let wanted = request.wanted_of(*family);
            let is_free = !self.holders.contains_key(&address);
            // Two that had one address before were allowed to share it.
            if wanted.is_none_or(|wanted| wanted == address)
                && (is_free || self.may_share(key, address))
            {
                self.grant(key, *family, address);
            }
        }
    }

    /// Gives a Service what it asks for, else the lowest free address.
    fn give(&mut self, key: &Front, request: &Request) {
        for family in &request.families {
            if self.has(key, *family) {
                continue;
            }
            let result = match request.wanted_of(*family) {
                Some(address) if !self.pool.contains(address) => Err(Refused::NotInPool(address)),
                Some(address)
                    if self.holders.contains_key(&address) && !self.may_share(key, address) =>
                {
                    Err(Refused::Taken(address))
                }
                Some(address) => Ok(address),
                None => {
                    let free = self
                        .pool
                        .first(*family, |ip| !self.holders.contains_key(&ip));
                    free.ok_or(Refused::Exhausted(*family))
                }
            };
            match result {
                Ok(address) => self.grant(key, *family, address),
                Err(refused) => {
                    self.assigned
                        .entry(key.clone())
                        .or_default()
                        .insert(*family, Err(refused));
                }
            }
        }
    }

    fn has(&self, key: &Front, family: Family) -> bool {
        self.assigned
            .get(key)
            .is_some_and(|of| of.contains_key(&family))
    }

    fn grant(&mut self, key: &Front, family: Family, address: IpAddr) {
        self.holders.entry(address).or_default().push(key.clone());
        self.assigned
            .entry(key.clone())
            .or_default()
            .insert(family, Ok(address));
    }

    /// Whether the first who has an address lets `key` have it, too.
    fn may_share(&self, key: &Front, address: IpAddr) -> bool {
        let first = self
            .holders
            .get(&address)
            .and_then(|holders| holders.first());
        first.is_none_or(|first| {
            let shares = |request: &Request| request.shares_with.contains(&*key.key().namespace);
            first.key().namespace == key.key().namespace
                || self.requests.get(first).is_some_and(shares)
        })
    }
}

impl Request {
    fn wanted_of(&self, family: Family) -> Option<IpAddr> {
        self.wanted
            .iter()
            .copied()
            .find(|ip| Family::of(*ip) == family)
    }
}

#[cfg(test)]
mod tests;
