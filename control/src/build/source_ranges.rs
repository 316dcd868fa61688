//! Who may connect: `spec.loadBalancerSourceRanges`, or the security groups that a Service names. Pure.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::annotation::{SECURITY_GROUPS, Settings, shorten};
use super::note::{Note, Reason};
use crate::cluster::switches::{NAME, NAMESPACE};
use crate::cluster::{Service, Switches};

/// As many as a listener takes.
pub(super) const MOST: usize = 1_000;

/// The networks that may connect; everybody if there are none. What is wrong with the others.
pub(super) fn of_service(
    service: &Service,
    settings: &Settings,
    switches: &Switches,
) -> (Vec<IpNet>, Vec<Note>) {
    let named = &settings.security_groups;
    let ignored = |why: &str| {
        let message = format!("{SECURITY_GROUPS}: {why}");
        Note::new(Reason::AnnotationIgnored, message)
    };
    let mut ranges = Ranges::default();
    if !service.source_ranges.is_empty() {
        ranges.read("loadBalancerSourceRanges", &service.source_ranges);
        if named.iter().any(|id| switches.groups.contains_key(id)) {
            let why = "spec.loadBalancerSourceRanges says who may connect, and counts alone";
            ranges.notes.push(ignored(why));
        }
        return ranges.finish();
    }
    if named.is_empty() {
        return ranges.finish();
    }
    if switches.groups.is_empty() {
        let why = format!(
            "there are none, and everybody may connect; say who may in spec.loadBalancerSourceRanges, or what each group lets in in ConfigMap {NAMESPACE}/{NAME}"
        );
        return (Vec::new(), vec![ignored(&why)]);
    }
    ranges.is_limited = true;
    for id in named {
        if let Some(texts) = switches.groups.get(id) {
            ranges.read(&format!("security group {id}"), texts);
        } else {
            let message = format!(
                "{SECURITY_GROUPS}: ConfigMap {NAMESPACE}/{NAME} does not say what {id} lets in, so it lets nobody in"
            );
            let note = Note::new(Reason::SecurityGroupUnknown, message);
            ranges.notes.push(note);
        }
    }
    ranges.finish()
}

/// Where some are given but none can be read, nobody may connect: better closed than open to all.
#[derive(Default)]
struct Ranges {
    networks: Vec<IpNet>,
    notes: Vec<Note>,
    /// Not everybody may.
    is_limited: bool,
}

impl Ranges {
    fn note(&mut self, whose: &str, problem: &str) {
        let message = format!("{whose}: {problem}");
        self.notes
            .push(Note::new(Reason::InvalidSourceRange, message));
    }

    fn read(&mut self, whose: &str, texts: &[String]) {
        self.is_limited |= !texts.is_empty();
        for text in texts {
            match text.trim().parse::<IpNet>() {
                Ok(range) => self.networks.push(canonical(range)),
                Err(_) => self.note(whose, &format!("{:?} is no network", shorten(text))),
            }
        }
        self.networks.sort_unstable();
        self.networks.dedup();
        if self.networks.len() > MOST {
            let problem = format!("more than {MOST} networks; the others are not let in");
            self.note(whose, &problem);
            self.networks.truncate(MOST);
        }
    }

    fn finish(mut self) -> (Vec<IpNet>, Vec<Note>) {
        if self.networks.is_empty() && self.is_limited {
            // A network of one address that no client has.
            self.networks.push(IpNet::from(IpAddr::from([0, 0, 0, 0])));
        }
        (self.networks, self.notes)
    }
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
