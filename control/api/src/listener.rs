//! An address and port that clients connect to.

use std::net::SocketAddr;
use std::time::Duration;

use crate::invalid::Checks;
use crate::{Invalid, Limits, Name, address, duration, form, v1};

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Connections are forwarded byte by byte.
    Tcp,
}

/// An address and port that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Unique in the proxy, over all owners.
    pub name: Name,
    /// Where it accepts; unique per transport. Never port 0 or multicast.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// The set that takes its connections.
    pub backend_set: Name,
    /// No byte either way for so long: reset. 100 ms to 7 days, default 15 min.
    pub idle_timeout: Duration,
    /// One direction ended and no byte for so long: reset. 100 ms to 24 h, default 60 s.
    pub half_closed_timeout: Duration,
    /// How long connections live on after the listener is removed: 0 to 24 h, default 30 s.
    pub drain_timeout: Duration,
    /// What it takes at most, from whom.
    pub limits: Limits,
}

impl Listener {
    /// A listener with the default timeouts.
    pub fn new(name: Name, address: SocketAddr, protocol: Protocol, backend_set: Name) -> Self {
        Self {
            name,
            address,
            protocol,
            backend_set,
            idle_timeout: IDLE,
            half_closed_timeout: HALF_CLOSED,
            drain_timeout: DRAIN,
            limits: Limits::default(),
        }
    }
}

const IDLE: Duration = Duration::from_mins(15);
const HALF_CLOSED: Duration = Duration::from_mins(1);
const DRAIN: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_millis(100);

impl TryFrom<v1::Listener> for Listener {
    type Error = Invalid;

    fn try_from(wire: v1::Listener) -> Result<Self, Invalid> {
        use v1::listener::Protocol as Wire;
        let mut checks = Checks::default();
        let limits = checks.take("", Limits::read(&wire));
        let name = checks.take("name", Name::try_from(wire.name));
        let address = checks.take("address", address::listen_address(&wire.address));
        let protocol = checks
            .take("protocol", form::required::<Wire>(wire.protocol))
            .map(|protocol| match protocol {
                Wire::Tcp | Wire::Unspecified => Protocol::Tcp, // `required` refuses UNSPECIFIED
            });
        let backend_set = checks.take("backendSet", Name::try_from(wire.backend_set));
        let range = SHORTEST..=Duration::from_hours(7 * 24);
        let idle_timeout = checks.take(
            "idleTimeout",
            duration::from_wire(wire.idle_timeout, IDLE, range),
        );
        let range = SHORTEST..=Duration::from_hours(24);
        let half_closed = duration::from_wire(wire.half_closed_timeout, HALF_CLOSED, range);
        let half_closed_timeout = checks.take("halfClosedTimeout", half_closed);
        let drain_timeout = duration::from_wire(wire.drain_timeout, DRAIN, duration::DRAIN_RANGE);
        let drain_timeout = checks.take("drainTimeout", drain_timeout);
        let value = || {
            Some(Self {
                name: name?,
                address: address?,
                protocol: protocol?,
                backend_set: backend_set?,
                idle_timeout: idle_timeout?,
                half_closed_timeout: half_closed_timeout?,
                drain_timeout: drain_timeout?,
                limits: limits?,
            })
        };
        let value = value();
        checks.finish(value)
    }
}

impl From<&Listener> for v1::Listener {
    fn from(listener: &Listener) -> Self {
        let protocol = match listener.protocol {
            Protocol::Tcp => v1::listener::Protocol::Tcp,
        };
        let mut wire = Self {
            name: (&listener.name).into(),
            address: listener.address.to_string(),
            protocol: Some(protocol.into()),
            backend_set: (&listener.backend_set).into(),
            idle_timeout: Some(duration::to_wire(listener.idle_timeout)),
            half_closed_timeout: Some(duration::to_wire(listener.half_closed_timeout)),
            drain_timeout: Some(duration::to_wire(listener.drain_timeout)),
            ..Self::default()
        };
        listener.limits.write(&mut wire);
        wire
    }
}
