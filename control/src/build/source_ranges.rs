//! Who may connect: `spec.loadBalancerSourceRanges`. Pure.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::annotation::shorten;
use super::note::{Note, Reason};

/// As many as a listener takes.
pub(super) const MOST: usize = 1_000;

/// The networks that may connect, and what is wrong with the others. Where some are given but none can be read, nobody
/// may: better closed than open to all.
pub(super) fn read(texts: &[String]) -> (Vec<IpNet>, Vec<Note>) {
    let (mut ranges, mut notes) = (Vec::new(), Vec::new());
    let mut note = |problem: String| {
        let message = format!("loadBalancerSourceRanges: {problem}");
        notes.push(Note::new(Reason::InvalidSourceRange, message));
    };
    for text in texts {
        match text.trim().parse::<IpNet>() {
            Ok(range) => ranges.push(canonical(range)),
            Err(_) => note(format!("{:?} is no network", shorten(text))),
        }
    }
    ranges.sort_unstable();
    ranges.dedup();
    if ranges.len() > MOST {
        note(format!(
            "more than {MOST} networks; the others are not let in"
        ));
        ranges.truncate(MOST);
    }
    if ranges.is_empty() && !texts.is_empty() {
        // A network of one address that no client has.
        ranges.push(IpNet::from(IpAddr::from([0, 0, 0, 0])));
    }
    (ranges, notes)
}

/// A network, or an address by itself.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let found = text.parse::<IpNet>().ok().or_else(address)?;
    Some(canonical(found))
}

/// Without host bits; of IPv4, if it is in the part of IPv6 that stands for IPv4.
fn canonical(range: IpNet) -> IpNet {
    let range = range.trunc();
    let IpNet::V6(v6) = range else { return range };
    let v4 = v6.addr().to_ipv4_mapped();
    let length = v6.prefix_len().checked_sub(96);
    let v4 = v4
        .zip(length)
        .and_then(|(v4, length)| Ipv4Net::new(v4, length).ok());
    v4.map_or(range, IpNet::V4)
}
