//! What is measured of a round, what subjects are to each other, and what a unit of work is.

use serde::Serialize;

use crate::result::Round;

/// One number of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// Units a second.
    Rate,
    /// CPU seconds of the proxy for a unit.
    ProxyCpu,
    /// CPU seconds of the whole machine for a unit.
    MachineCpu,
    /// Nanoseconds within which half of the answers came.
    P50,
    /// 99 of 100.
    P99,
    /// 999 of 1000.
    P999,
    /// KiB of the proxy.
    Memory,
    /// KiB of the proxy for a connection that does nothing.
    PerConnection,
    /// The share of what was begun that failed.
    Failures,
}

impl Figure {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::Rate,
        Self::ProxyCpu,
        Self::MachineCpu,
        Self::P50,
        Self::P99,
        Self::P999,
        Self::Memory,
        Self::PerConnection,
        Self::Failures,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::ProxyCpu => "proxy CPU",
            Self::MachineCpu => "machine CPU",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Memory => "memory",
            Self::PerConnection => "memory per connection",
            Self::Failures => "failures",
        }
    }

    /// Of this round; `None` if it has none, or none that can be.
    pub fn of(self, round: &Round) -> Option<f64> {
        let latency = |share| Some(round.quantile(share)? as f64);
        let value = match self {
            Self::Rate => Some(round.rate()),
            Self::ProxyCpu => round.proxy_cpu_per_unit(),
            Self::MachineCpu => round.machine_cpu_per_unit(),
            Self::P50 => latency(0.5),
            Self::P99 => latency(0.99),
            Self::P999 => latency(0.999),
            Self::Memory => round.proxy_kib.map(|kib| kib as f64),
            Self::PerConnection => round.kib_per_connection,
            Self::Failures => {
                let begun = round.begun.max(round.failed());
                (begun > 0).then(|| round.failed() as f64 / begun as f64)
            }
        };
        value.filter(|value| value.is_finite() && *value >= 0.0)
    }

    /// Whether more of it is better; of all others less is.
    pub fn is_more_better(self) -> bool {
        self == Self::Rate
    }

    /// Whether it is a latency.
    pub fn is_latency(self) -> bool {
        matches!(self, Self::P50 | Self::P99 | Self::P999)
    }
}

/// What a subject is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No load balancer at all.
    Pod,
    /// Podline, to Pods.
    Direct,
    /// Podline, to NodePorts.
    Nodeport,
    /// Somebody else's load balancer.
    Peer,
}

/// By the subject's name; what is not known is a peer.
pub fn kind(subject: &str) -> Kind {
    match subject {
        "pod" => Kind::Pod,
        "direct" | "direct-transparent" => Kind::Direct,
        nodeport if nodeport.starts_with("nodeport-") => Kind::Nodeport,
        _ => Kind::Peer,
    }
}

/// A unit of work, as `100k requests`: so many of something.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// How many, at least 1; of bytes, 10^9 for a GB.
    pub count: f64,
    /// Of what, as `requests`; empty for bytes.
    pub of: String,
}

impl Unit {
    /// Whether it is an amount of bytes.
    pub fn is_bytes(&self) -> bool {
        self.of.is_empty()
    }

    /// Reads `100k requests`, `GB`, `gigabyte`, `connections`.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let word = text.trim_start_matches("1 ");
        let bytes = match word.to_ascii_lowercase().as_str() {
            "gb" | "gigabyte" | "gigabytes" => 1e9,
            "mb" | "megabyte" | "megabytes" => 1e6,
            _ => 0.0,
        };
        if bytes > 0.0 {
            return Self {
                count: bytes,
                of: String::new(),
            };
        }
        let number = text.split_whitespace().next().unwrap_or_default();
        let rest = text[number.len()..].trim();
        match count(number) {
            Some(count) if !rest.is_empty() => Self {
                count,
                of: rest.to_owned(),
            },
            _ => Self {
                count: 1.0,
                of: if text.is_empty() { "units" } else { text }.to_owned(),
            },
        }
    }

    /// One of them, as `request`.
    pub fn one(&self) -> &str {
        self.of.strip_suffix('s').unwrap_or(&self.of)
    }
}

/// `100k` is 100,000.
fn count(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(['k', 'M']);
    let scale = match &text[digits.len()..] {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        _ => return None,
    };
    let count = digits.replace(',', "").parse::<f64>().ok()? * scale;
    (count.is_finite() && count >= 1.0).then_some(count)
}
