//! How backends are probed. Settings only: the verdict is the proxy's.

use std::time::Duration;

use crate::invalid::Checks;
use crate::{Invalid, duration, form, v1};

/// What a probe does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// Connects, and closes at once.
    Tcp,
}

/// How the backends of a set are probed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// What a probe does.
    pub kind: CheckKind,
    /// From one probe's start to the next: 500 ms to 5 min.
    pub interval: Duration,
    /// A probe's limit: 100 ms to 60 s.
    pub timeout: Duration,
    /// Passed probes in a row that make a backend healthy: 1 to 10.
    pub healthy_threshold: u8,
    /// Failed probes in a row that make it unhealthy: 1 to 10.
    pub unhealthy_threshold: u8,
}

impl HealthCheck {
    /// A check of this kind with the defaults: every 5 s, at most 2 s, 3 in a row either way.
    pub const fn new(kind: CheckKind) -> Self {
        Self {
            kind,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy_threshold: 3,
            unhealthy_threshold: 3,
        }
    }
}

impl TryFrom<v1::HealthCheck> for HealthCheck {
    type Error = Invalid;

    fn try_from(wire: v1::HealthCheck) -> Result<Self, Invalid> {
        use v1::health_check::Type;
        let mut checks = Checks::default();
        let kind = checks
            .take("type", form::required::<Type>(wire.r#type))
            .map(|kind| match kind {
                Type::Tcp | Type::Unspecified => CheckKind::Tcp, // `required` refuses UNSPECIFIED
            });
        let default = Self::new(CheckKind::Tcp);
        let interval =
            duration::from_wire(wire.interval, default.interval, INTERVAL.0..=INTERVAL.1);
        let interval = checks.take("interval", interval);
        let timeout = duration::from_wire(wire.timeout, default.timeout, TIMEOUT.0..=TIMEOUT.1);
        let timeout = checks.take("timeout", timeout);
        let healthy = checks.take(
            "healthyThreshold",
            threshold(wire.healthy_threshold, default.healthy_threshold),
        );
        let unhealthy = checks.take(
            "unhealthyThreshold",
            threshold(wire.unhealthy_threshold, default.unhealthy_threshold),
        );
        let value = || {
            Some(Self {
                kind: kind?,
                interval: interval?,
                timeout: timeout?,
                healthy_threshold: healthy?,
                unhealthy_threshold: unhealthy?,
            })
        };
        let value = value();
        checks.finish(value)
    }
}

const INTERVAL: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(5));
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_mins(1));

fn threshold(wire: Option<u32>, default: u8) -> Result<u8, Invalid> {
    match wire {
        None => Ok(default),
        Some(value @ 1..=10) => Ok(u8::try_from(value).unwrap_or(default)),
        Some(value) => Err(Invalid::one(
            "",
            format!("{value} is out of range: use 1 to 10"),
        )),
    }
}

impl From<&HealthCheck> for v1::HealthCheck {
    fn from(check: &HealthCheck) -> Self {
        let kind = match check.kind {
            CheckKind::Tcp => v1::health_check::Type::Tcp,
        };
        Self {
            r#type: Some(kind.into()),
            interval: Some(duration::to_wire(check.interval)),
            timeout: Some(duration::to_wire(check.timeout)),
            healthy_threshold: Some(check.healthy_threshold.into()),
            unhealthy_threshold: Some(check.unhealthy_threshold.into()),
        }
    }
}
