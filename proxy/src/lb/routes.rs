//! Which set takes a request, by its host and path, with the precedence of the Gateway API: the most specific host, then
//! the most specific path, whatever the order they stand in.
//!
//! HTTPRoute, `hostnames`: "precedence must be given to rules from the HTTPRoute with the largest number of characters in
//! a matching non-wildcard hostname, then characters in a matching hostname". It ranks rules that match, path included:
//! so where no path of the most specific host matches, the next host that does takes the request. Then, `rules`: exact
//! path, longest prefix. Equal ones: the first in the list.
//!
//! Hosts are compared without port, without a dot at the end, in lower case. Paths are compared as [`view()`] shows them,
//! so that no spelling of a path leads around a route; what is forwarded stays as it was sent.
//!
//! Nothing is scanned: a host is one look-up and one for each label that a wildcard could stand for, a path one look-up
//! and one binary search.

mod paths;
mod view;

use super::SetId;
use super::hash;
use paths::{Paths, Sorting};
use podline_api::{HttpRoute, Name, RouteAction};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
pub use view::view;

/// Longer ones are no names, so no route has them.
const MAX_HOST: usize = 253;

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to this set.
    Forward(SetId),
    /// It is sent elsewhere.
    Redirect(podline_api::Redirect),
}

/// All routes of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    default: Option<SetId>,
    /// Each once, however many hosts share it.
    actions: Vec<Action>,
    hosts: Table<Paths>,
    /// By what stands behind "*.".
    wildcards: Table<Paths>,
    /// Of routes without hosts.
    others: Paths,
}

/// By bytes that the configuration chose: nobody else can make them collide.
type Table<T> = HashMap<Box<[u8]>, T, BuildHasherDefault<Words>>;

impl Routes {
    /// Compiles `routes`, where `default` takes what none of them does. `set` tells a set's number; a route whose set is not
    /// there is left out.
    pub fn new(
        routes: &[HttpRoute],
        default: Option<SetId>,
        set: impl Fn(&Name) -> Option<SetId>,
    ) -> Self {
        let mut actions = Vec::new();
        let (mut hosts, mut wildcards) = (Table::<Sorting>::default(), Table::default());
        let mut others = Sorting::default();
        for route in routes {
            let action = match &route.action {
                RouteAction::Forward(name) => set(name).map(Action::Forward),
                RouteAction::Redirect(to) => Some(Action::Redirect(to.clone())),
            };
            let Some(action) = action else { continue };
            let number = u32::try_from(actions.len()).unwrap_or(u32::MAX);
            actions.push(action);
            if route.hosts.is_empty() {
                others.add(&route.path, number);
            }
            for host in &route.hosts {
                let (table, name) = match host.strip_prefix("*.") {
                    Some(suffix) => (&mut wildcards, suffix),
                    None => (&mut hosts, host.as_str()),
                };
                let key = name.trim_end_matches('.').to_ascii_lowercase();
                let paths: &mut Sorting = table.entry(key.into_bytes().into()).or_default();
                paths.add(&route.path, number);
            }
        }
        let done = |table: Table<Sorting>| {
            let sorted = table.into_iter().map(|(host, paths)| (host, paths.into()));
            sorted.collect()
        };
        Self {
            default,
            actions,
            hosts: done(hosts),
            wildcards: done(wildcards),
            others: others.into(),
        }
    }

    /// What is done with a request for `host` (with or without a port) and `path_and_query`; nothing: no route takes it.
    pub fn find(&self, host: &str, path_and_query: &str) -> Option<Found<'_>> {
        if self.actions.is_empty() {
            return self.default.map(Found::Forward);
        }
        let path = view(path_of(path_and_query));
        let mut lower = [0; MAX_HOST];
        let found = self
            .find_by_host(
                lower_case(name_of(host).as_bytes(), &mut lower),
                path.as_bytes(),
            )
            .or_else(|| self.others.find(path.as_bytes()));
        let Some((number, matched)) = found else {
            return self.default.map(Found::Forward);
        };
        match self.actions.get(usize::try_from(number).ok()?)? {
            Action::Forward(set) => Some(Found::Forward(*set)),
            Action::Redirect(to) => Some(Found::Redirect { to, matched }),
        }
    }

    fn find_by_host(&self, mut host: &[u8], path: &[u8]) -> Option<(u32, usize)> {
        let of = |table: &Table<Paths>, host| table.get(host)?.find(path);
        if let Some(found) = of(&self.hosts, host) {
            return Some(found);
        }
        if self.wildcards.is_empty() {
            return None;
        }
        // From the longest of what a wildcard could stand before.
        while let Some(dot) = host.iter().position(|byte| *byte == b'.') {
            host = &host[dot + 1..];
            if let Some(found) = of(&self.wildcards, host) {
                return Some(found);
            }
        }
        None
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'r> {
    /// It goes to this set.
    Forward(SetId),
    /// It is sent elsewhere. `matched`: how much of the path took it.
    Redirect {
        /// Where to.
        to: &'r podline_api::Redirect,
        /// Bytes of the path's [`view()`] that a prefix matched, without a slash at its end: 0 for "/". Of an exact match all.
        matched: usize,
    },
}

/// The path of a target: what stands before its query.
fn path_of(path_and_query: &str) -> &str {
    let end = path_and_query.bytes().position(|byte| byte == b'?');
    end.map_or(path_and_query, |end| &path_and_query[..end])
}

/// A host without its port and without a dot at its end; an IPv6 address keeps its brackets.
pub(crate) fn name_of(host: &str) -> &str {
    let end = if host.starts_with('[') {
        host.find(']').map(|at| at + 1)
    } else {
        host.find(':')
    };
    let name = &host[..end.unwrap_or(host.len())];
    name.strip_suffix('.').unwrap_or(name)
}

/// `name` in lower case, in `room` where it was not. One too long to be a name is none.
fn lower_case<'a>(name: &'a [u8], room: &'a mut [u8; MAX_HOST]) -> &'a [u8] {
    let Some(room) = room.get_mut(..name.len()) else {
        return &[];
    };
    if !name.iter().any(u8::is_ascii_uppercase) {
        return name;
    }
    room.copy_from_slice(name);
    room.make_ascii_lowercase();
    room
}

/// Hashes eight bytes at a time.
#[derive(Clone, Copy, Debug, Default)]
struct Words(u64);

impl Hasher for Words {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.0 = hash::join(self.0, u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.0 = hash::join(self.0, u64::from_le_bytes(last));
        }
    }

    // Of a length, which stands before the bytes.
    fn write_usize(&mut self, number: usize) {
        self.0 ^= u64::try_from(number).unwrap_or(0);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
