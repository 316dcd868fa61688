//! Clients that stay with their backend. Settings only: who stays where is the proxy's.

use std::time::Duration;

use crate::address::shorten;
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
    /// By a cookie that answers to requests carry.
    Cookie {
        /// 1 to 64 characters of a token; absent: the proxy makes one up.
        name: Option<String>,
        /// 1 s to 24 h; absent: as long as the browser runs.
        timeout: Option<Duration>,
    },
}

impl Affinity {
    /// How long a client is remembered by its address; nothing where clients are told apart otherwise.
    pub fn client_ip_timeout(&self) -> Option<Duration> {
        match self.kind {
            AffinityKind::ClientIp { timeout } => Some(timeout),
            AffinityKind::Cookie { .. } => None,
        }
    }
}

const TIMEOUT: Duration = Duration::from_hours(3);
const TIMEOUTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));
const LONGEST_NAME: usize = 64;

impl TryFrom<v1::Affinity> for Affinity {
    type Error = Invalid;

    fn try_from(wire: v1::Affinity) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let kind = match (wire.client_ip, wire.cookie) {
            (Some(client), None) => checks.take("clientIp", AffinityKind::of_address(client)),
            (None, Some(cookie)) => checks.take("cookie", AffinityKind::of_cookie(cookie)),
            (Some(_), Some(_)) => {
                checks.refuse("", "says clientIp and cookie: choose one");
                None
            }
            (None, None) => {
                let problem =
                    "says nothing: write clientIp: {} or cookie: {}, or leave affinity out";
                checks.refuse("", problem);
                None
            }
        };
        let group = checks.take("group", wire.group.map(Name::try_from).transpose());
        checks.finish(kind.zip(group).map(|(kind, group)| Self { kind, group }))
    }
}

impl AffinityKind {
    fn of_address(wire: v1::ClientIpAffinity) -> Result<Self, Invalid> {
        let timeout = duration::from_wire(wire.timeout, TIMEOUT, TIMEOUTS.0..=TIMEOUTS.1);
        let timeout = timeout.map_err(|invalid| invalid.at("timeout"))?;
        Ok(Self::ClientIp { timeout })
    }

    fn of_cookie(wire: v1::CookieAffinity) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let name = checks.take("name", wire.name.map(cookie_name).transpose());
        let range = TIMEOUTS.0..=TIMEOUTS.1;
        let timeout = wire
            .timeout
            .map(|_| duration::from_wire(wire.timeout, TIMEOUT, range));
        let timeout = checks.take("timeout", timeout.transpose());
        checks.finish(
            name.zip(timeout)
                .map(|(name, timeout)| Self::Cookie { name, timeout }),
        )
    }
}

/// A token, as RFC 6265 wants it.
fn cookie_name(name: String) -> Result<String, Invalid> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let problem = match name.len() {
        0 => "is empty: write 1 to 64 characters, or leave it out".to_owned(),
        1..=LONGEST_NAME if name.bytes().all(is_token) => return Ok(name),
        1..=LONGEST_NAME => format!(
            "{} is no name of a cookie: write letters, digits and any of !#$%&'*+-.^_`|~",
            shorten(&name)
        ),
        _ => format!("is longer than {LONGEST_NAME} characters"),
    };
    Err(Invalid::one("", problem))
}

impl From<&Affinity> for v1::Affinity {
    fn from(affinity: &Affinity) -> Self {
        let (client_ip, cookie) = match &affinity.kind {
            AffinityKind::ClientIp { timeout } => {
                let timeout = Some(duration::to_wire(*timeout));
                (Some(v1::ClientIpAffinity { timeout }), None)
            }
            AffinityKind::Cookie { name, timeout } => {
                let cookie = v1::CookieAffinity {
                    name: name.clone(),
                    timeout: timeout.map(duration::to_wire),
                };
                (None, Some(cookie))
            }
        };
        Self {
            client_ip,
            cookie,
            group: affinity.group.as_ref().map(Into::into),
        }
    }
}
