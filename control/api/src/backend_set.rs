//! A named group of backends with a policy and a health check.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::invalid::Checks;
use crate::{Backend, HealthCheck, Invalid, Name, duration, form, v1};

/// How a set chooses among its eligible backends, by their weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// In turn.
    #[default]
    RoundRobin,
    /// The one with the fewest connections for its weight.
    LeastConnections,
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
        }
    }
}

impl SetSettings {
    /// The wire form of a set with these settings and no backends.
    pub fn to_wire(&self, name: &Name) -> v1::BackendSet {
        let policy = match self.policy {
            Policy::RoundRobin => v1::backend_set::Policy::RoundRobin,
            Policy::LeastConnections => v1::backend_set::Policy::LeastConnections,
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
    use v1::backend_set::Policy as Wire;
    const MAX_RETRIES: u32 = 10;
    let mut checks = Checks::default();
    let default = SetSettings::default();
    let policy = match wire.policy.map(|number| form::required(Some(number))) {
        None => Some(default.policy),
        Some(found) => checks.take("policy", found).map(|policy| match policy {
            Wire::LeastConnections => Policy::LeastConnections,
            Wire::RoundRobin | Wire::Unspecified => Policy::RoundRobin, // `required` refuses UNSPECIFIED
        }),
    };
    let health_check = checks.take(
        "healthCheck",
        wire.health_check.map(HealthCheck::try_from).transpose(),
    );
    let range = Duration::from_millis(10)..=Duration::from_mins(1);
    let connect_timeout = checks.take(
        "connectTimeout",
        duration::from_wire(wire.connect_timeout, default.connect_timeout, range),
    );
    let connect_retries = match wire.connect_retries {
        None => Ok(default.connect_retries),
        Some(n @ 0..=MAX_RETRIES) => Ok(u8::try_from(n).unwrap_or(u8::MAX)),
        Some(n) => Err(Invalid::one(
            "",
            format!("{n} is out of range: use 0 to {MAX_RETRIES}"),
        )),
    };
    let connect_retries = checks.take("connectRetries", connect_retries);
    let drain_timeout = duration::from_wire(
        wire.drain_timeout,
        default.drain_timeout,
        duration::DRAIN_RANGE,
    );
    let drain_timeout = checks.take("drainTimeout", drain_timeout);
    let value = || {
        Some(SetSettings {
            policy: policy?,
            health_check: health_check?,
            connect_timeout: connect_timeout?,
            connect_retries: connect_retries?,
            drain_timeout: drain_timeout?,
            deregister_target_rst: wire.deregister_target_rst,
        })
    };
    let value = value();
    checks.finish(value)
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
