//! Values by address range: the longest range that holds an address decides.

use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;

/// Costs one look-up for each length that occurs, of which there are few.
#[derive(Debug)]
pub(super) struct Ranges<T> {
    /// Longest first.
    lengths: Vec<u8>,
    values: HashMap<IpNet, T>,
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self {
            lengths: Vec::new(),
            values: HashMap::new(),
        }
    }
}

impl<T> Ranges<T> {
    /// Adds a range; one that is there keeps its value.
    pub(super) fn put(&mut self, range: IpNet, value: T) {
        let range = range.trunc();
        let after = |length: &u8| *length > range.prefix_len();
        let place = self.lengths.partition_point(after);
        if self.lengths.get(place) != Some(&range.prefix_len()) {
            self.lengths.insert(place, range.prefix_len());
        }
        self.values.entry(range).or_insert(value);
    }

    /// What the longest range that holds `address` stands for.
    pub(super) fn find(&self, address: IpAddr) -> Option<&T> {
        self.lengths.iter().find_map(|length| {
            let range = IpNet::new(address, *length).ok()?; // an IPv4 address has no /64
            self.values.get(&range.trunc())
        })
    }
}
