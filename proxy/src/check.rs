//! `podline-proxy check FILE`: what a configuration asks of the machine.
//!
//! The report is a pure function of the document and of what the machine grants; only [`Machine::here`] looks at it.

mod http;
mod tls;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::path::Path;

use podline_api::{
    BackendSet, CheckKind, Document, Invalid, Listener, Protocol, SourceAddress, duration,
};
use rustix::process::{Resource, getrlimit};

use crate::error::FileError;
use crate::probe::schedule::ProbeKey;
use crate::source::file::{self, Loaded};

/// What the machine grants this process.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a privilege of its own"
)]
pub struct Machine {
    /// Ports below this one need a privilege.
    pub first_free_port: u16,
    /// This process has that privilege.
    pub may_bind_low_ports: bool,
    /// This process may ping.
    pub may_ping: bool,
    /// It may set up rules and routes, and imitate clients.
    pub may_change_network: bool,
    /// It may hold virtual addresses.
    pub may_announce: bool,
    /// Descriptors that the process may have.
    pub descriptors: u64,
    /// Worker threads that will run.
    pub workers: usize,
    /// Seconds since the Unix epoch.
    pub now: i64,
}

/// Descriptors besides connections: API, admin, probes, logs, and three for each worker.
const RESERVE: u64 = 64;
/// Pipes are at most this many, of two descriptors each; fewer on a small limit.
const PIPES: u64 = 128;
const PER_CONNECTION: u64 = 2;
/// More listeners than this are counted, not listed.
const LISTED: usize = 20;

/// Validates the file and answers the report, or what is wrong with the file.
pub fn run(path: &Path, machine: Machine) -> Result<String, FileError> {
    let Loaded { text, document } = file::read(path, &mut Vec::new())?;
    match missing_sets(&document) {
        Some(invalid) => Err(file::refused(path, &text, &invalid)),
        None => Ok(report(&path.display().to_string(), &document, machine)),
    }
}

/// Listeners whose set is not in the file: nobody else has it when a proxy starts with this file.
fn missing_sets(document: &Document) -> Option<Invalid> {
    let names: BTreeSet<_> = document.backend_sets.iter().map(|set| &set.name).collect();
    let mut violations = Vec::new();
    for (i, listener) in document.listeners.iter().enumerate() {
        for (field, set) in listener.named_sets() {
            if !names.contains(set) {
                let problem = format!("no backend set is named {set}");
                let field = format!("listeners[{i}].{field}");
                violations.extend(Invalid::one(field, problem).violations);
            }
        }
    }
    violations.truncate(Invalid::MAX);
    (!violations.is_empty()).then_some(Invalid { violations })
}

/// What the document needs.
fn report(name: &str, document: &Document, machine: Machine) -> String {
    let backends: usize = document
        .backend_sets
        .iter()
        .map(|set| set.backends.len())
        .sum();
    let mut rows = Rows(format!(
        "{name} is valid: {}, {}, {}\n\n",
        count(document.listeners.len(), "listener"),
        count(document.backend_sets.len(), "backend set"),
        count(backends, "backend"),
    ));
    ports(&mut rows, &document.listeners);
    rows.add_some("routes", http::routes(&document.listeners).collect());
    privileges(&mut rows, document, machine);
    descriptors(&mut rows, &document.listeners, machine);
    probes(&mut rows, &document.backend_sets);
    notes(&mut rows, document, machine.now);
    rows.0
}

/// Lines under a heading each, which is written once.
struct Rows(String);

impl Rows {
    fn add(&mut self, heading: &str, text: &str) {
        let _ = writeln!(self.0, "{heading:<13}{text}"); // writing to a String cannot fail
    }

    fn add_all(&mut self, heading: &str, lines: impl IntoIterator<Item = String>) {
        for (i, line) in lines.into_iter().enumerate() {
            self.add(if i == 0 { heading } else { "" }, &line);
        }
    }

    /// The first of many.
    fn add_some(&mut self, heading: &str, lines: Vec<String>) {
        let rest = lines.len().saturating_sub(LISTED);
        let more = (rest > 0).then(|| format!("and {rest} more"));
        self.add_all(heading, lines.into_iter().take(LISTED).chain(more));
    }
}

fn ports(rows: &mut Rows, listeners: &[Listener]) {
    if listeners.is_empty() {
        rows.add("ports", "none");
    }
    let width = listeners
        .iter()
        .take(LISTED)
        .map(|l| l.address.to_string().len())
        .max()
        .unwrap_or(0);
    let line = |l: &Listener| {
        let protocol = match l.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Http => "HTTP",
            Protocol::Tls => "TLS",
            Protocol::Https => "HTTPS",
        };
        format!(
            "{protocol} {:<width$}  {} -> {}",
            l.address.to_string(),
            l.name,
            http::leads_to(l)
        )
    };
    rows.add_some("ports", listeners.iter().map(line).collect());
}

fn privileges(rows: &mut Rows, document: &Document, machine: Machine) {
    let has = |has| {
        if has {
            "which this process has"
        } else {
            "which this process lacks"
        }
    };
    let mut lines = Vec::new();
    let low: BTreeSet<u16> = document
        .listeners
        .iter()
        .map(|listener| listener.address.port())
        .filter(|port| *port < machine.first_free_port)
        .collect();
    if !low.is_empty() {
        let list: Vec<_> = low.iter().take(LISTED).map(ToString::to_string).collect();
        let ports = if low.len() == 1 { "port" } else { "ports" };
        let (list, has) = (list.join(", "), has(machine.may_bind_low_ports));
        lines.push(format!("NET_BIND_SERVICE for {ports} {list}, {has}"));
    }
    let mut checks = document
        .backend_sets
        .iter()
        .filter_map(|set| set.settings.health_check.as_ref());
    if checks.any(|check| check.kind == CheckKind::Ping) {
        let has = has(machine.may_ping);
        lines.push(format!(
            "NET_RAW or net.ipv4.ping_group_range for checks of type PING, {has}"
        ));
    }
    if document.listeners.iter().any(imitates) || has_routes(document) {
        let has = has(machine.may_change_network);
        lines.push(format!("NET_ADMIN for clients' addresses or routes, {has}"));
    }
    if document.network.iter().any(|n| !n.addresses.is_empty()) {
        let has = has(machine.may_announce);
        lines.push(format!(
            "NET_ADMIN and NET_RAW to hold virtual addresses, {has}"
        ));
    }
    if lines.is_empty() {
        lines.push("none".to_owned());
    }
    rows.add_all("privileges", lines);
}

fn imitates(listener: &Listener) -> bool {
    listener.source_address != SourceAddress::Snat
}

fn has_routes(document: &Document) -> bool {
    let network = document.network.as_ref();
    network.is_some_and(|network| !network.routes.is_empty())
}

fn descriptors(rows: &mut Rows, listeners: &[Listener], machine: Machine) {
    let workers = machine.workers as u64;
    let pipes = (machine.descriptors / 64).min(PIPES);
    let fixed = RESERVE + 3 * workers + listeners.len() as u64 * workers + 2 * pipes;
    let connections = machine.descriptors.saturating_sub(fixed) / PER_CONNECTION;
    rows.add_all(
        "descriptors",
        [
            format!(
                "{fixed} with {}, and {PER_CONNECTION} for each connection",
                count(machine.workers, "worker")
            ),
            format!(
                "the limit here is {}: about {connections} connections at once",
                machine.descriptors
            ),
        ],
    );
    if listeners.iter().any(|l| l.protocol == Protocol::Udp) {
        rows.add(
            "",
            "UDP flows share sockets, or have one each where they imitate clients: half of that at most",
        );
    }
    if connections < 100 {
        rows.add(
            "",
            "that is too few: raise the limit (ulimit -n, LimitNOFILE=)",
        );
    }
}

fn probes(rows: &mut Rows, sets: &[BackendSet]) {
    // Identical checks of one address are one probe, whatever the sets.
    let mut checks = HashMap::new();
    for set in sets {
        let Some(check) = &set.settings.health_check else {
            continue;
        };
        for backend in &set.backends {
            checks.insert(ProbeKey::new(backend.key.address, check), check.interval);
        }
    }
    if checks.is_empty() {
        return rows.add("probes", "none: every backend takes traffic at once");
    }
    let per_second: f64 = checks
        .values()
        .map(|interval| 1.0 / interval.as_secs_f64())
        .sum();
    let fastest = checks.values().min().copied().unwrap_or_default();
    rows.add(
        "probes",
        &format!(
            "{} checked, {per_second:.1} probes a second, the fastest every {}",
            count(checks.len(), "address"),
            duration::format(fastest)
        ),
    );
}

/// What is allowed, and perhaps not meant.
fn notes(rows: &mut Rows, document: &Document, now: i64) {
    let used: BTreeSet<_> = document.listeners.iter().flat_map(Listener::sets).collect();
    let fate = |set: &BackendSet| {
        let mut leading = document.listeners.iter().filter(|l| l.leads_to(&set.name));
        if leading.all(|listener| listener.protocol.is_http()) {
            "requests for it are answered with 503"
        } else {
            "its connections are reset"
        }
    };
    let note = |set: &BackendSet| {
        let name = &set.name;
        if !used.contains(name) {
            Some(format!("no listener uses backend set {name}"))
        } else if set.backends.is_empty() {
            Some(format!("backend set {name} is empty: {}", fate(set)))
        } else if set.backends.iter().all(|backend| backend.weight.get() == 0) {
            let fate = fate(set);
            Some(format!("every backend of {name} has weight 0: {fate}"))
        } else {
            None
        }
    };
    let anybody = |listener: &&Listener| {
        let accept = listener.proxy_protocol.accept.as_ref();
        accept.is_some_and(|accept| accept.from.iter().any(|range| range.prefix_len() == 0))
    };
    let trusting = document.listeners.iter().filter(anybody).map(|listener| {
        let name = &listener.name;
        format!("listener {name} believes everybody's PROXY header: name your load balancers alone")
    });
    let of_sets = document.backend_sets.iter().filter_map(note);
    let of_requests = http::notes(document);
    rows.add_some(
        "notes",
        of_sets
            .chain(trusting)
            .chain(of_requests)
            .chain(tls::notes(document, now))
            .collect(),
    );
}

fn count(number: usize, noun: &str) -> String {
    let plural = match (number, noun.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{number} {noun}{plural}")
}

impl Machine {
    /// This machine, for a proxy with so many workers.
    pub fn here(workers: usize) -> Self {
        Self {
            first_free_port: first_free_port(),
            may_ping: crate::net::ping::is_permitted(),
            now: crate::tls::now(),
            may_bind_low_ports: has_capability(NET_BIND_SERVICE),
            may_change_network: has_capability(NET_ADMIN),
            may_announce: has_capability(NET_ADMIN) && has_capability(NET_RAW),
            descriptors: getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20),
            workers,
        }
    }
}

fn first_free_port() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024)
}

/// Numbers of capabilities.
const NET_BIND_SERVICE: u8 = 10;
const NET_ADMIN: u8 = 12;
const NET_RAW: u8 = 13;

fn has_capability(number: u8) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << number) != 0)
}

#[cfg(test)]
mod tests;
