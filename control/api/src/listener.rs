//! An address and port that clients connect to.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::invalid::Checks;
use crate::{Http, Invalid, Limits, Name, ProxyProtocol, RouteAction, address, duration, form, v1};

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Connections are forwarded byte by byte.
    Tcp,
    /// Flows are forwarded datagram by datagram.
    Udp,
    /// Requests are routed and forwarded one by one.
    Http,
}

/// What a protocol is carried by: listeners of one transport cannot share an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// What carries it.
    pub const fn transport(self) -> Transport {
        match self {
            Self::Tcp | Self::Http => Transport::Tcp,
            Self::Udp => Transport::Udp,
        }
    }
}

/// Which source address backends see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SourceAddress {
    /// The proxy's.
    #[default]
    Snat,
    /// The client's where the way back is proven, else the proxy's.
    PreferTransparent,
    /// The client's; what cannot work fails.
    Transparent,
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
    /// The set that takes its connections or, with HTTP, the requests that no route takes; there where that is not HTTP.
    pub backend_set: Option<Name>,
    /// No byte either way for so long: reset, or forgotten. 100 ms to 7 days, default 15 min, for UDP 60 s.
    pub idle_timeout: Duration,
    /// One direction ended and no byte for so long: reset. 100 ms to 24 h, default 60 s.
    pub half_closed_timeout: Duration,
    /// How long connections live on after the listener is removed: 0 to 24 h, default 30 s.
    pub drain_timeout: Duration,
    /// What it takes at most, from whom.
    pub limits: Limits,
    /// Which source address backends see.
    pub source_address: SourceAddress,
    /// Headers that tell who the client is; nothing of it with UDP.
    pub proxy_protocol: ProxyProtocol,
    /// What is done with requests: there exactly with HTTP.
    pub http: Option<Http>,
}

impl Listener {
    /// A listener with the defaults.
    pub fn new(name: Name, address: SocketAddr, protocol: Protocol, backend_set: Name) -> Self {
        Self {
            name,
            address,
            protocol,
            backend_set: Some(backend_set),
            idle_timeout: idle_timeout(protocol),
            half_closed_timeout: HALF_CLOSED,
            drain_timeout: DRAIN,
            limits: Limits::default(),
            source_address: SourceAddress::default(),
            proxy_protocol: ProxyProtocol::default(),
            http: (protocol == Protocol::Http).then(Http::default),
        }
    }

    /// Every set that its work can go to, each once.
    pub fn sets(&self) -> BTreeSet<&Name> {
        self.backend_set
            .iter()
            .chain(self.of_routes().map(|(_, set)| set))
            .collect()
    }

    /// Whether its work can go to `set`.
    pub fn leads_to(&self, set: &Name) -> bool {
        self.backend_set.as_ref() == Some(set) || self.of_routes().any(|(_, to)| to == set)
    }

    /// The sets that it names, with the fields that name them: `routes[2].backendSet`.
    pub fn named_sets(&self) -> impl Iterator<Item = (String, &Name)> {
        let default = self.backend_set.iter();
        let default = default.map(|set| ("backendSet".to_owned(), set));
        let of_routes = self.of_routes();
        default.chain(of_routes.map(|(index, set)| (format!("routes[{index}].backendSet"), set)))
    }

    fn of_routes(&self) -> impl Iterator<Item = (usize, &Name)> {
        let routes = self.http.iter().flat_map(|http| &http.routes);
        routes
            .enumerate()
            .filter_map(|(index, route)| match &route.action {
                RouteAction::Forward(set) => Some((index, set)),
                RouteAction::Redirect(_) => None,
            })
    }
}

const fn idle_timeout(protocol: Protocol) -> Duration {
    match protocol {
        Protocol::Tcp | Protocol::Http => Duration::from_mins(15),
        Protocol::Udp => Duration::from_mins(1),
    }
}

const HALF_CLOSED: Duration = Duration::from_mins(1);
const DRAIN: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_millis(100);

impl TryFrom<v1::Listener> for Listener {
    type Error = Invalid;

    fn try_from(wire: v1::Listener) -> Result<Self, Invalid> {
        use v1::listener::Protocol as Wire;
        let mut checks = Checks::default();
        let limits = checks.take("", Limits::read(&wire));
        let name = checks.take("name", Name::try_from(wire.name.as_str()));
        let address = checks.take("address", address::listen_address(&wire.address));
        let protocol = checks
            .take("protocol", form::required::<Wire>(wire.protocol))
            .map(|protocol| match protocol {
                Wire::Tcp | Wire::Unspecified => Protocol::Tcp, // `required` refuses UNSPECIFIED
                Wire::Udp => Protocol::Udp,
                Wire::Http => Protocol::Http,
            });
        let http = checks.take("", Http::of_listener(&wire, protocol));
        let backend_set = default_set(&wire, protocol);
        let backend_set = checks.take("backendSet", backend_set);
        let is_udp = protocol == Some(Protocol::Udp);
        if is_udp && wire.half_closed_timeout.is_some() {
            checks.refuse("halfClosedTimeout", "is for TCP: a flow has no ends");
        }
        if is_udp && wire.proxy_protocol.is_some() {
            checks.refuse("proxyProtocol", "is for TCP");
        }
        let range = SHORTEST..=Duration::from_hours(7 * 24);
        let default = idle_timeout(protocol.unwrap_or(Protocol::Tcp));
        let idle_timeout = duration::from_wire(wire.idle_timeout, default, range);
        let idle_timeout = checks.take("idleTimeout", idle_timeout);
        let range = SHORTEST..=Duration::from_hours(24);
        let half_closed = duration::from_wire(wire.half_closed_timeout, HALF_CLOSED, range);
        let half_closed_timeout = checks.take("halfClosedTimeout", half_closed);
        let drain_timeout = duration::from_wire(wire.drain_timeout, DRAIN, duration::DRAIN_RANGE);
        let drain_timeout = checks.take("drainTimeout", drain_timeout);
        let source_address = form::optional(wire.source_address).map(SourceAddress::of);
        let source_address = checks.take("sourceAddress", source_address);
        let proxy_protocol = ProxyProtocol::read(wire.proxy_protocol.as_ref());
        let proxy_protocol = checks.take("proxyProtocol", proxy_protocol);
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
                source_address: source_address?,
                proxy_protocol: proxy_protocol?,
                http: http?,
            })
        };
        let value = value();
        checks.finish(value)
    }
}

fn default_set(wire: &v1::Listener, protocol: Option<Protocol>) -> Result<Option<Name>, Invalid> {
    match (wire.backend_set.as_str(), protocol) {
        ("", Some(Protocol::Http)) if wire.routes.is_empty() => {
            Err(Invalid::one("", "is required: name a set, or write routes"))
        }
        ("", Some(Protocol::Http)) => Ok(None),
        (name, _) => Name::try_from(name).map(Some),
    }
}

impl From<&Listener> for v1::Listener {
    fn from(listener: &Listener) -> Self {
        let protocol = match listener.protocol {
            Protocol::Tcp => v1::listener::Protocol::Tcp,
            Protocol::Udp => v1::listener::Protocol::Udp,
            Protocol::Http => v1::listener::Protocol::Http,
        };
        let half_closed_timeout = match listener.protocol {
            Protocol::Tcp | Protocol::Http => Some(duration::to_wire(listener.half_closed_timeout)),
            Protocol::Udp => None,
        };
        let mut wire = Self {
            name: (&listener.name).into(),
            address: listener.address.to_string(),
            protocol: Some(protocol.into()),
            backend_set: listener
                .backend_set
                .as_ref()
                .map_or_else(String::new, Into::into),
            idle_timeout: Some(duration::to_wire(listener.idle_timeout)),
            half_closed_timeout,
            drain_timeout: Some(duration::to_wire(listener.drain_timeout)),
            source_address: Some(listener.source_address.wire().into()),
            proxy_protocol: listener.proxy_protocol.to_wire(),
            ..Self::default()
        };
        listener.limits.write(&mut wire);
        if let Some(http) = &listener.http {
            http.write(&mut wire);
        }
        wire
    }
}

impl SourceAddress {
    fn of(wire: Option<v1::listener::SourceAddress>) -> Self {
        use v1::listener::SourceAddress as Wire;
        match wire {
            None | Some(Wire::Snat | Wire::Unspecified) => Self::Snat, // `optional` refuses UNSPECIFIED
            Some(Wire::PreferTransparent) => Self::PreferTransparent,
            Some(Wire::Transparent) => Self::Transparent,
        }
    }

    fn wire(self) -> v1::listener::SourceAddress {
        use v1::listener::SourceAddress as Wire;
        match self {
            Self::Snat => Wire::Snat,
            Self::PreferTransparent => Wire::PreferTransparent,
            Self::Transparent => Wire::Transparent,
        }
    }
}
