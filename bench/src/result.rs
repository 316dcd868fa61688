//! What was seen, as it is kept: versioned JSON. It must not know how it came about, nor how it is shown. Fields that a
//! reader does not know are passed over, and most that it misses are empty, so that later formats can stay readable.

mod file;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

pub use file::{FileError, check, put, read, write};

/// The version of this format. A reader refuses a newer one.
pub const FORMAT: u32 = 1;

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// [`FORMAT`] of who wrote it.
    pub format: u32,
    /// The scenario, as `direct-vs-nodeport`.
    pub scenario: String,
    /// When it began, RFC 3339.
    #[serde(default)]
    pub began: String,
    /// How long it took, in seconds.
    #[serde(default, deserialize_with = "number")]
    pub seconds: f64,
    /// Whether it was ended before its last round.
    #[serde(default)]
    pub is_cut_short: bool,
    /// Where it ran.
    #[serde(default)]
    pub machine: Machine,
    /// Versions of what was measured, by subject.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// Subjects that were asked for and not measured, with the reason.
    #[serde(default)]
    pub skipped: BTreeMap<String, String>,
    /// What was measured, in the order of the tests and then of the subjects.
    pub cells: Vec<Cell>,
}

/// Facts of a machine that figures depend on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's model.
    pub processor: String,
    /// Cores.
    pub cores: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// How fast a fixed piece of work ran before each round, as operations a second: its spread is the machine's drift.
    pub pulse: Vec<f64>,
    /// The share of time that somebody else had the processor, 0 to 1 (steal).
    #[serde(deserialize_with = "number")]
    pub stolen: f64,
}

/// One test of one subject, over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// As `bulk`, `rr`, `crr`.
    pub test: String,
    /// As [`crate::subject::Subject`] is written.
    pub subject: String,
    /// What was varied, where a test is one of several that differ in nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// What a unit of work is, as `100k requests` or `GB`.
    #[serde(default)]
    pub unit: String,
    /// The rounds in their order: the n-th of every subject ran beside each other.
    pub rounds: Vec<Round>,
    /// Whether so many connections were made that each Pod was to get its fair share of the answers.
    #[serde(default)]
    pub is_balanced: bool,
    /// Why the figures mean nothing; `None` if they do.
    #[serde(default)]
    pub void: Option<String>,
}

/// A step of a series of tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What all steps of the series send, as `crr`.
    pub load: String,
    /// What they vary, as `backends`.
    pub of: String,
    /// How many of them.
    pub count: u32,
}

/// One round of a cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Round {
    /// Units of work done.
    #[serde(deserialize_with = "number")]
    pub units: f64,
    /// How long it took, in seconds.
    #[serde(deserialize_with = "number")]
    pub seconds: f64,
    /// CPU seconds of the proxy's processes; `None` where there is none.
    pub proxy_cpu: Option<f64>,
    /// CPU seconds of the whole machine, clients and Pods included; 0 where they cannot be told.
    #[serde(deserialize_with = "number")]
    pub machine_cpu: f64,
    /// Memory of the proxy's processes at the end, in KiB (PSS).
    pub proxy_kib: Option<u64>,
    /// By how much that had grown for each connection that did nothing, in KiB; only where that is the point.
    pub kib_per_connection: Option<f64>,
    /// Points of the latency curve: share of the answers, and nanoseconds within which they came; rising.
    pub latency: Vec<(f64, u64)>,
    /// Full handshakes of TLS by the cipher suite that was agreed on, as `TLS13_AES_128_GCM_SHA256`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub suites: BTreeMap<String, u64>,
    /// Failures by their kind.
    pub failures: BTreeMap<String, u64>,
    /// Work begun, done or not.
    pub begun: u64,
    /// Answers by Pod.
    pub pods: BTreeMap<u32, u64>,
    /// Entries of connection tracking at the end, over proxy and nodes.
    pub tracked: Option<u64>,
    /// Routers and proxies that a packet passes from client to Pod.
    pub hops: Option<u32>,
    /// The addresses that Pods saw as their client's; the client's own is `client`, others what they belong to.
    pub sources: BTreeMap<String, u64>,
    /// Answers, failures and the slowest answer over time, in pieces of 100 ms; only where that is the point.
    pub pieces: Vec<(u64, u64, u64)>,
    /// Things that happened meanwhile, with their second.
    pub marks: Vec<(f64, String)>,
}

impl Round {
    /// Units a second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 {
            self.units / self.seconds
        } else {
            0.0
        }
    }

    /// CPU seconds of the proxy for a unit.
    pub fn proxy_cpu_per_unit(&self) -> Option<f64> {
        self.proxy_cpu
            .filter(|_| self.units > 0.0)
            .map(|cpu| cpu / self.units)
    }

    /// CPU seconds of the machine for a unit; `None` where it cannot be told.
    pub fn machine_cpu_per_unit(&self) -> Option<f64> {
        let is_known = self.units > 0.0 && self.machine_cpu > 0.0;
        is_known.then(|| self.machine_cpu / self.units)
    }

    /// The latency within which this share of the answers came, in nanoseconds; `None` if there was none.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let at = self.latency.iter().find(|(point, _)| *point >= share);
        at.or(self.latency.last()).map(|(_, latency)| *latency)
    }

    /// How many failed.
    pub fn failed(&self) -> u64 {
        self.failures
            .values()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// JSON has no word for what is not a number: it is written as null, and read as nothing.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
