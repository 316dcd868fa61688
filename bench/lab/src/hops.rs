//! How far packets have come: the time to live that they arrive with, counted by the kernel of the namespace that gets
//! them. It must not know which way they took.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::error::LabError;
use crate::namespace::Namespace;

/// What machines of a lab send with, which is the kernel's default.
const START: u8 = 64;
/// Routers that are told apart.
const MOST: u8 = 15;
const TABLE: &str = "inet podline_lab_hops";

/// Which packets are looked at, TCP and UDP alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Those from this port: at a client, answers.
    From(u16),
    /// Those to this port: at a server, requests.
    To(u16),
}

/// Counts packets by the routers they have passed, until it is dropped.
#[derive(Debug)]
pub struct HopMeter<'a> {
    namespace: &'a Namespace,
}

impl<'a> HopMeter<'a> {
    /// Starts counting; at most one at a time in a namespace. Needs nftables.
    pub fn start(namespace: &'a Namespace, watched: Watched) -> Result<Self, LabError> {
        namespace.tool("nftables", &["nft", "-f", "-"], table(watched))?;
        Ok(Self { namespace })
    }

    /// Packets since the start by routers passed, where there were any.
    pub fn packets(&self) -> Result<BTreeMap<u8, u64>, LabError> {
        let list = format!("list table {TABLE}\n");
        let listed = self.namespace.tool("nftables", &["nft", "-f", "-"], list)?;
        Ok(read(&listed))
    }
}

impl Drop for HopMeter<'_> {
    fn drop(&mut self) {
        let delete = format!("delete table {TABLE}\n");
        // If it fails, the namespace's end takes it.
        self.namespace
            .tool("nftables", &["nft", "-f", "-"], delete)
            .ok();
    }
}

fn table(watched: Watched) -> String {
    let port = match watched {
        Watched::From(port) => format!("sport {port}"),
        Watched::To(port) => format!("dport {port}"),
    };
    // Before connection tracking, so that ports are those on the wire.
    let mut text = format!(
        "table {TABLE} {{\n\tchain seen {{\n\t\ttype filter hook prerouting priority -400; policy accept;\n"
    );
    for (kind, field) in [("ipv4", "ip ttl"), ("ipv6", "ip6 hoplimit")] {
        for ttl in START - MOST..=START {
            let of = format!("meta nfproto {kind} meta l4proto {{ tcp, udp }} th {port}");
            writeln!(text, "\t\t{of} {field} {ttl} counter").expect("a string takes all");
        }
    }
    text.push_str("\t}\n}\n");
    text
}

fn read(listed: &str) -> BTreeMap<u8, u64> {
    let mut packets = BTreeMap::new();
    for line in listed.lines() {
        // .. ip ttl 62 counter packets 3 bytes 180
        let words: Vec<_> = line.split_whitespace().rev().take(6).collect();
        let [_, "bytes", count, "packets", "counter", ttl] = words[..] else {
            continue;
        };
        if let (Ok(ttl), Ok(count)) = (ttl.parse::<u8>(), count.parse::<u64>())
            && count > 0
        {
            *packets.entry(START.saturating_sub(ttl)).or_default() += count;
        }
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_passed_are_what_is_missing_of_the_start() {
        let listed = "\t\tip ttl 64 counter packets 0 bytes 0\n\t\tip ttl 62 counter packets 3 bytes 180\n\
            \t\tip6 hoplimit 62 counter packets 2 bytes 160\n\t\tip6 hoplimit 63 counter packets 1 bytes 80\n";
        assert_eq!(read(listed), BTreeMap::from([(1, 1), (2, 5)]));
        assert_eq!(read("counter\n"), BTreeMap::new());
    }
}
