//! What a listener takes at most, from whom.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::shorten;
use crate::invalid::Checks;
use crate::{Invalid, form, v1};

/// What a listener takes at most. The default limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Who may connect; empty means everybody. Networks without host bits.
    pub source_ranges: Vec<IpNet>,
    /// Over all clients.
    pub total: Caps,
    /// For each client: an IPv4 address or an IPv6 /64.
    pub per_client: Caps,
}

/// How many connections; absent means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Open at once.
    pub connections: Option<u32>,
    /// New ones in a second.
    pub per_second: Option<u32>,
}

const MAX_RANGES: usize = 1_000;
const MOST: u32 = 10_000_000;
const MOST_OF_A_CLIENT: u32 = 1_000_000;

impl Limits {
    /// Nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Reads a listener's limits, whose fields stand among its others.
    pub(crate) fn read(wire: &v1::Listener) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let ranges = &wire.source_ranges;
        if ranges.len() > MAX_RANGES {
            let problem = format!(
                "{} entries are too many: use {MAX_RANGES} at most",
                ranges.len()
            );
            checks.refuse("sourceRanges", problem);
        }
        let ranges = ranges.iter().take(MAX_RANGES).map(String::as_str).collect();
        let ranges = checks.each("sourceRanges", ranges, source_range);
        let total = Caps::read(
            &mut checks,
            "",
            wire.max_connections,
            wire.max_connections_per_second,
            MOST,
        );
        let client = wire.client_limits.unwrap_or_default();
        let per_client = Caps::read(
            &mut checks,
            "clientLimits.",
            client.max_connections,
            client.max_connections_per_second,
            MOST_OF_A_CLIENT,
        );
        let value = || {
            Some(Self {
                source_ranges: ranges.into_iter().map(|(_, range)| range).collect(),
                total: total?,
                per_client: per_client?,
            })
        };
        let value = value();
        checks.finish(value)
    }

    /// Writes them into a listener's wire form.
    pub(crate) fn write(&self, wire: &mut v1::Listener) {
        wire.source_ranges = self.source_ranges.iter().map(ToString::to_string).collect();
        wire.max_connections = self.total.connections;
        wire.max_connections_per_second = self.total.per_second;
        let client = v1::ClientLimits {
            max_connections: self.per_client.connections,
            max_connections_per_second: self.per_client.per_second,
        };
        wire.client_limits = (self.per_client != Caps::default()).then_some(client);
    }
}

impl Caps {
    fn read(
        checks: &mut Checks,
        prefix: &str,
        connections: Option<u32>,
        per_second: Option<u32>,
        most: u32,
    ) -> Option<Self> {
        let mut read = |name: &str, wire: Option<u32>| {
            let number = wire.map(|value| form::number(Some(value), value, 1..=most));
            checks.take(format_args!("{prefix}{name}"), number.transpose())
        };
        let connections = read("maxConnections", connections);
        let per_second = read("maxConnectionsPerSecond", per_second);
        connections
            .zip(per_second)
            .map(|(connections, per_second)| Self {
                connections,
                per_second,
            })
    }
}

/// A network, or a single address. Host bits are refused: they are mostly a typing error in the length.
pub(crate) fn source_range(text: &str) -> Result<IpNet, Invalid> {
    let refused = |problem: String| Err(Invalid::one("", problem));
    let range = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(range), _) => range,
        (_, Ok(address)) => IpNet::from(address),
        _ => {
            let shown = shorten(text);
            return refused(format!(
                "{shown} is no address range: write 10.0.0.0/8 or 2001:db8::/32"
            ));
        }
    };
    if let IpNet::V6(v6) = range
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        return refused(format!(
            "{text} is an IPv4 address in IPv6 form: write {v4}"
        ));
    }
    if range.trunc() != range {
        return refused(format!("{text} has host bits: write {}", range.trunc()));
    }
    Ok(range)
}
