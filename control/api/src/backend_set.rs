//! A named group of backends with a policy and a health check.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::invalid::Checks;
use crate::{Affinity, Backend, BackendTls, HealthCheck, Invalid, Name, duration, form, v1};

/// How a set chooses among its eligible backends, by their weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// In turn.
    #[default]
    RoundRobin,
    /// The one with the fewest connections for its weight.
    LeastConnections,
    /// By a hash that all proxies share: one client, one backend, whichever proxy it comes through.
    Maglev(HashKey),
}

/// What a hash is taken of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HashKey {
    /// The client's address.
    #[default]
    ClientIp,
    /// The client's address and port, and the listener's.
    Flow,
}

/// Which version of HTTP backends are spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackendHttp {
    /// 1.1.
    #[default]
    Http11,
    /// 2, with prior knowledge or, over TLS, by ALPN.
    Http2,
}

/// When failed connects take a backend out of rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveCheck {
    /// Failed connects in a row: 1 to 100, default 3.
    pub failures: u8,
    /// For how long, where no passed probe ends it: 1 s to 1 h, default 10 s.
    pub ejection_time: Duration,
}

impl Default for PassiveCheck {
    fn default() -> Self {
        Self {
            failures: 3,
            ejection_time: Duration::from_secs(10),
        }
    }
}

/// What a set is besides its name and backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSettings {
    /// How a backend is chosen.
    pub policy: Policy,
    /// Absent: no probes, every backend takes traffic at once.
    pub health_check: Option<HealthCheck>,
    /// One connect attempt's limit: 10 ms to 60 s.
    pub connect_timeout: Duration,
    /// Further backends tried after a failed connect: 0 to 10.
    pub connect_retries: u8,
    /// How long connections live on after their backend is removed: 0 to 24 h.
    pub drain_timeout: Duration,
    /// Reset connections as soon as their backend is removed, instead of waiting.
    pub deregister_target_rst: bool,
    /// A client stays with its backend; absent: it does not.
    pub affinity: Option<Affinity>,
    /// When all are unhealthy: refuse, instead of forwarding to all.
    pub fail_closed: bool,
    /// The share of the backends that health may take out of rotation at once: 0 to 100.
    pub max_ejection_percent: u8,
    /// Take a backend out after connects to it failed; absent: never.
    pub passive_check: Option<PassiveCheck>,
    /// What requests are forwarded in.
    pub http_version: BackendHttp,
    /// Requests are forwarded over TLS; absent: in the clear.
    pub tls: Option<BackendTls>,
}

impl Default for SetSettings {
    fn default() -> Self {
        Self {
            policy: Policy::RoundRobin,
            health_check: None,
            connect_timeout: Duration::from_secs(4),
            connect_retries: 2,
            drain_timeout: Duration::from_secs(30),
            deregister_target_rst: false,
            affinity: None,
            fail_closed: false,
            max_ejection_percent: 100,
            passive_check: None,
            http_version: BackendHttp::default(),
            tls: None,
        }
    }
}

impl SetSettings {
    /// The wire form of a set with these settings and no backends.
    pub fn to_wire(&self, name: &Name) -> v1::BackendSet {
        use v1::backend_set::{HashKey as Key, Policy as Wire};
        let (policy, hash_key) = match self.policy {
            Policy::RoundRobin => (Wire::RoundRobin, None),
            Policy::LeastConnections => (Wire::LeastConnections, None),
            Policy::Maglev(HashKey::ClientIp) => (Wire::Maglev, Some(Key::ClientIp)),
            Policy::Maglev(HashKey::Flow) => (Wire::Maglev, Some(Key::Flow)),
        };
        let http_version = match self.http_version {
            BackendHttp::Http11 => v1::backend_set::HttpVersion::Http11,
            BackendHttp::Http2 => v1::backend_set::HttpVersion::Http2,
        };
        v1::BackendSet {
            name: name.into(),
            policy: Some(policy.into()),
            health_check: self.health_check.as_ref().map(Into::into),
            backends: Vec::new(),
            connect_timeout: Some(duration::to_wire(self.connect_timeout)),
            connect_retries: Some(self.connect_retries.into()),
            drain_timeout: Some(duration::to_wire(self.drain_timeout)),
            deregister_target_rst: self.deregister_target_rst,
            hash_key: hash_key.map(Into::into),
            affinity: self.affinity.as_ref().map(Into::into),
            fail_closed: self.fail_closed,
            max_ejection_percent: Some(self.max_ejection_percent.into()),
            passive_check: self.passive_check.map(Into::into),
            http_version: Some(http_version.into()),
            tls: self.tls.as_ref().map(BackendTls::to_wire),
        }
    }
}

/// A named group of backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSet {
    /// Unique in the proxy, over all owners.
    pub name: Name,
    /// Everything but the backends.
    pub settings: SetSettings,
    /// No address twice.
    pub backends: Vec<Backend>,
}

impl TryFrom<v1::BackendSet> for BackendSet {
    type Error = Invalid;

    fn try_from(mut wire: v1::BackendSet) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let name = checks.take("name", Name::try_from(wire.name.as_str()));
        let backends =
            distinct_backends(&mut checks, "backends", std::mem::take(&mut wire.backends));
        let settings = checks.take("", settings(&wire));
        checks.finish(name.zip(settings).map(|(name, settings)| Self {
            name,
            settings,
            backends,
        }))
    }
}

impl From<&BackendSet> for v1::BackendSet {
    fn from(set: &BackendSet) -> Self {
        Self {
            backends: set.backends.iter().map(Into::into).collect(),
            ..set.settings.to_wire(&set.name)
        }
    }
}

/// Reads all but name and backends.
fn settings(wire: &v1::BackendSet) -> Result<SetSettings, Invalid> {
    let mut checks = Checks::default();
    let default = SetSettings::default();
    let policy = policy(&mut checks, wire);
    let health_check = checks.take(
        "healthCheck",
        wire.health_check
            .clone()
            .map(HealthCheck::try_from)
            .transpose(),
    );
    let range = Duration::from_millis(10)..=Duration::from_mins(1);
    let connect_timeout = checks.take(
        "connectTimeout",
        duration::from_wire(wire.connect_timeout, default.connect_timeout, range),
    );
    let connect_retries = form::number(wire.connect_retries, default.connect_retries, 0..=10);
    let connect_retries = checks.take("connectRetries", connect_retries);
    let drain_timeout = duration::from_wire(
        wire.drain_timeout,
        default.drain_timeout,
        duration::DRAIN_RANGE,
    );
    let drain_timeout = checks.take("drainTimeout", drain_timeout);
    let affinity = wire.affinity.clone().map(Affinity::try_from).transpose();
    let affinity = checks.take("affinity", affinity);
    let percent = form::number(
        wire.max_ejection_percent,
        default.max_ejection_percent,
        0..=100,
    );
    let max_ejection_percent = checks.take("maxEjectionPercent", percent);
    let passive = wire.passive_check.map(PassiveCheck::try_from).transpose();
    let passive_check = checks.take("passiveCheck", passive);
    let version = checks.take("httpVersion", form::optional(wire.http_version));
    let http_version = version.map(|version| match version {
        Some(v1::backend_set::HttpVersion::Http2) => BackendHttp::Http2,
        _ => BackendHttp::Http11,
    });
    let tls = wire.tls.as_ref().map(BackendTls::read).transpose();
    let tls = checks.take("tls", tls);
    let value = || {
        Some(SetSettings {
            policy: policy?,
            health_check: health_check?,
            connect_timeout: connect_timeout?,
            connect_retries: connect_retries?,
            drain_timeout: drain_timeout?,
            deregister_target_rst: wire.deregister_target_rst,
            affinity: affinity?,
            fail_closed: wire.fail_closed,
            max_ejection_percent: max_ejection_percent?,
            passive_check: passive_check?,
            http_version: http_version?,
            tls: tls?,
        })
    };
    let value = value();
    checks.finish(value)
}

fn policy(checks: &mut Checks, wire: &v1::BackendSet) -> Option<Policy> {
    use v1::backend_set::{HashKey as Key, Policy as Wire};
    let policy = checks.take("policy", form::optional(wire.policy));
    let key = checks.take("hashKey", form::optional(wire.hash_key));
    if wire.hash_key.is_some() && policy.is_some_and(|policy| policy != Some(Wire::Maglev)) {
        checks.refuse("hashKey", "is for policy MAGLEV");
    }
    let key = match key? {
        Some(Key::Flow) => HashKey::Flow,
        _ => HashKey::ClientIp,
    };
    Some(match policy? {
        None | Some(Wire::RoundRobin | Wire::Unspecified) => Policy::RoundRobin, // never unspecified
        Some(Wire::LeastConnections) => Policy::LeastConnections,
        Some(Wire::Maglev | Wire::IpHash) => Policy::Maglev(key),
    })
}

impl TryFrom<v1::PassiveCheck> for PassiveCheck {
    type Error = Invalid;

    fn try_from(wire: v1::PassiveCheck) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let default = Self::default();
        let failures = form::number(wire.failures, default.failures, 1..=100);
        let failures = checks.take("failures", failures);
        let range = Duration::from_secs(1)..=Duration::from_hours(1);
        let time = duration::from_wire(wire.ejection_time, default.ejection_time, range);
        let time = checks.take("ejectionTime", time);
        checks.finish(failures.zip(time).map(|(failures, ejection_time)| Self {
            failures,
            ejection_time,
        }))
    }
}

impl From<PassiveCheck> for v1::PassiveCheck {
    fn from(check: PassiveCheck) -> Self {
        Self {
            failures: Some(check.failures.into()),
            ejection_time: Some(duration::to_wire(check.ejection_time)),
        }
    }
}

/// Reads a list of backends in which no address may stand twice, whatever the ids: two backends behind one address
/// cannot be told apart.
pub(crate) fn distinct_backends(
    checks: &mut Checks,
    path: &str,
    wire: Vec<v1::Backend>,
) -> Vec<Backend> {
    let backends = checks.each(path, wire, Backend::try_from);
    let mut first: HashMap<SocketAddr, usize> = HashMap::with_capacity(backends.len());
    for (i, backend) in &backends {
        let earlier = *first.entry(backend.key.address).or_insert(*i);
        if earlier != *i {
            let problem = format!(
                "{} is the address of {path}[{earlier}] too",
                backend.key.address
            );
            checks.refuse(format_args!("{path}[{i}].address"), problem);
        }
    }
    backends.into_iter().map(|(_, backend)| backend).collect()
}
