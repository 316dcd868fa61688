//! An address and port that clients connect to.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::invalid::Checks;
use crate::{
    Http, Invalid, Limits, Name, ProxyProtocol, RouteAction, Tls, address, duration, form, v1,
};

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Connections are forwarded byte by byte.
    Tcp,
    /// Flows are forwarded datagram by datagram.
    Udp,
    /// Requests are routed and forwarded one by one.
    Http,
    /// As TCP, inside TLS that ends at the proxy.
    Tls,
    /// As HTTP, inside TLS that ends at the proxy.
    Https,
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
            Self::Tcp | Self::Http | Self::Tls | Self::Https => Transport::Tcp,
            Self::Udp => Transport::Udp,
        }
    }

    /// Requests are routed and forwarded one by one.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// Clients speak TLS with the proxy.
    pub const fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Https)
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
    /// What is done with requests: there exactly with HTTP and HTTPS.
    pub http: Option<Http>,
    /// How it speaks TLS: there exactly with TLS and HTTPS.
    pub tls: Option<Tls>,
}

impl Listener {
    /// A listener with the defaults; with TLS and HTTPS its `tls` has to follow.
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
            http: protocol.is_http().then(Http::default),
            tls: None,
        }
    }

    /// The wire form as it is told to whoever asks: without secrets.
    pub fn shown(&self) -> v1::Listener {
        let tls = self.tls.as_ref().map(|tls| tls.to_wire(false));
        v1::Listener { tls, ..self.into() }
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
        Protocol::Udp => Duration::from_mins(1),
        _ => Duration::from_mins(15),
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
                Wire::Tls => Protocol::Tls,
                Wire::Https => Protocol::Https,
            });
        let http = checks.take("", Http::of_listener(&wire, protocol));
        let tls = checks.take("tls", Tls::of_listener(wire.tls.as_ref(), protocol));
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
                tls: tls?,
            })
        };
        let value = value();
        checks.finish(value)
    }
}

fn default_set(wire: &v1::Listener, protocol: Option<Protocol>) -> Result<Option<Name>, Invalid> {
    match (wire.backend_set.as_str(), protocol) {
        ("", Some(protocol)) if protocol.is_http() && wire.routes.is_empty() => {
            Err(Invalid::one("", "is required: name a set, or write routes"))
        }
        ("", Some(protocol)) if protocol.is_http() => Ok(None),
        (name, _) => Name::try_from(name).map(Some),
    }
}

impl From<&Listener> for v1::Listener {
    fn from(listener: &Listener) -> Self {
        let protocol = match listener.protocol {
            Protocol::Tcp => v1::listener::Protocol::Tcp,
            Protocol::Udp => v1::listener::Protocol::Udp,
            Protocol::Http => v1::listener::Protocol::Http,
            Protocol::Tls => v1::listener::Protocol::Tls,
            Protocol::Https => v1::listener::Protocol::Https,
        };
        let half_closed_timeout = match listener.protocol {
            Protocol::Udp => None,
            _ => Some(duration::to_wire(listener.half_closed_timeout)),
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
        wire.tls = listener.tls.as_ref().map(|tls| tls.to_wire(true));
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
