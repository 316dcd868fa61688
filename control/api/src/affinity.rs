//! Clients that stay with their backend. Settings only: who stays where is the proxy's.

use std::time::Duration;

use crate::invalid::Checks;
use crate::{Invalid, Name, duration, v1};

/// A client stays with its backend for as long as that may get new work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// How clients are told apart.
    pub kind: AffinityKind,
    /// Sets of one group share a client's backend, by its id or, without one, its IP address.
    pub group: Option<Name>,
}

/// How clients are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AffinityKind {
    /// By address.
    ClientIp {
        /// Since the client's last new connection: 1 s to 24 h, default 3 h, which is Kubernetes' default too.
        timeout: Duration,
    },
    /// By a cookie that the proxy sets. HTTP listeners only.
    Cookie {
        /// A token of at most 64 bytes; absent: made up by the proxy, for each set or group its own.
        name: Option<String>,
        /// Absent: as long as the browser runs.
        timeout: Option<Duration>,
    },
}

const TIMEOUT: Duration = Duration::from_hours(3);
const NEEDS_HTTP: &str = "needs an HTTP listener, which this release does not have: use clientIp";

impl TryFrom<v1::Affinity> for Affinity {
    type Error = Invalid;

    fn try_from(wire: v1::Affinity) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        if wire.cookie.is_some() {
            checks.refuse("cookie", NEEDS_HTTP);
        } else if wire.client_ip.is_none() {
            checks.refuse(
                "",
                "says nothing: write clientIp: {}, or leave affinity out",
            );
        }
        let range = Duration::from_secs(1)..=Duration::from_hours(24);
        let timeout = wire.client_ip.and_then(|client| client.timeout);
        let timeout = checks.take(
            "clientIp.timeout",
            duration::from_wire(timeout, TIMEOUT, range),
        );
        let group = checks.take("group", wire.group.map(Name::try_from).transpose());
        checks.finish(timeout.zip(group).map(|(timeout, group)| Self {
            kind: AffinityKind::ClientIp { timeout },
            group,
        }))
    }
}

impl From<&Affinity> for v1::Affinity {
    fn from(affinity: &Affinity) -> Self {
        let (client_ip, cookie) = match &affinity.kind {
            AffinityKind::ClientIp { timeout } => {
                let timeout = Some(duration::to_wire(*timeout));
                (Some(v1::ClientIpAffinity { timeout }), None)
            }
            AffinityKind::Cookie { name, timeout } => {
                let (name, timeout) = (name.clone(), timeout.map(duration::to_wire));
                (None, Some(v1::CookieAffinity { name, timeout }))
            }
        };
        Self {
            client_ip,
            cookie,
            group: affinity.group.as_ref().map(Into::into),
        }
    }
}
