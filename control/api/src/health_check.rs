//! How backends are probed. Settings only: the verdict is the proxy's.

mod udp;

pub use udp::UdpCheck;

use std::net::IpAddr;
use std::time::Duration;

use crate::address::shorten;
use crate::invalid::Checks;
use crate::{Invalid, StatusRanges, duration, form, v1};

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// Connects, and closes at once.
    Tcp,
    /// Asks over HTTP/1, with or without TLS.
    Http(HttpCheck),
    /// Asks over HTTP/2 without TLS.
    Grpc(GrpcCheck),
    /// Sends a datagram.
    Udp(UdpCheck),
    /// Sends an ICMP echo request.
    Ping,
}

/// What an HTTP probe asks, and which answers pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpCheck {
    /// Over TLS, whatever the certificate.
    pub tls: bool,
    /// `GET` or `HEAD`.
    pub method: HttpMethod,
    /// Starts with `/`; printable ASCII without spaces.
    pub path: String,
    /// The Host header; absent: the backend's address.
    pub host: Option<String>,
    /// Statuses that pass.
    pub statuses: StatusRanges,
    /// What is spoken.
    pub version: HttpVersion,
}

/// The method of an HTTP probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpMethod {
    /// The whole answer; its body is not read.
    #[default]
    Get,
    /// The head alone.
    Head,
}

/// The version of HTTP that a probe speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// What a gRPC probe asks, and which answers pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrpcCheck {
    /// The service asked about; empty means the server as a whole.
    pub service: String,
    /// The method called, `/grpc.health.v1.Health/Check` by default.
    pub path: String,
    /// gRPC statuses that pass, whatever the answer says; absent: 0 with SERVING.
    pub statuses: Option<StatusRanges>,
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
    /// Where to probe, if not at the backend's own port. Never 0.
    pub port: Option<u16>,
    /// The proxy's own address that probes come from.
    pub source_address: Option<IpAddr>,
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
            port: None,
            source_address: None,
        }
    }
}

impl TryFrom<v1::HealthCheck> for HealthCheck {
    type Error = Invalid;

    fn try_from(wire: v1::HealthCheck) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let kind = kind(&mut checks, &wire);
        let default = Self::new(CheckKind::Tcp);
        let interval =
            duration::from_wire(wire.interval, default.interval, INTERVAL.0..=INTERVAL.1);
        let interval = checks.take("interval", interval);
        let timeout = duration::from_wire(wire.timeout, default.timeout, TIMEOUT.0..=TIMEOUT.1);
        let timeout = checks.take("timeout", timeout);
        let threshold = |wire, default: u8| form::number(wire, default, 1..=10);
        let healthy = checks.take(
            "healthyThreshold",
            threshold(wire.healthy_threshold, default.healthy_threshold),
        );
        let unhealthy = checks.take(
            "unhealthyThreshold",
            threshold(wire.unhealthy_threshold, default.unhealthy_threshold),
        );
        let port = wire
            .port
            .map(|port| form::number(Some(port), 0, 1..=65_535));
        let port = checks.take("port", port.transpose());
        let source = wire.source_address.as_deref().map(source_address);
        let source = checks.take("sourceAddress", source.transpose());
        let value = || {
            Some(Self {
                kind: kind?,
                interval: interval?,
                timeout: timeout?,
                healthy_threshold: healthy?,
                unhealthy_threshold: unhealthy?,
                port: port?,
                source_address: source?,
            })
        };
        let value = value();
        checks.finish(value)
    }
}

const INTERVAL: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(5));
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_mins(1));

fn kind(checks: &mut Checks, wire: &v1::HealthCheck) -> Option<CheckKind> {
    use v1::health_check::Type;
    let kind = checks.take("type", form::required::<Type>(wire.r#type))?;
    let is_http = matches!(kind, Type::Http | Type::Https);
    if wire.http.is_some() && !is_http {
        checks.refuse("http", "is for checks of type HTTP or HTTPS");
    }
    if wire.udp.is_some() && kind != Type::Udp {
        checks.refuse("udp", "is for checks of type UDP");
    }
    if kind == Type::Ping && wire.port.is_some() {
        checks.refuse("port", "is not for checks of type PING");
    }
    if wire.grpc.is_some() && kind != Type::Grpc {
        checks.refuse("grpc", "is for checks of type GRPC");
    }
    match kind {
        Type::Tcp | Type::Unspecified => Some(CheckKind::Tcp), // `required` refuses UNSPECIFIED
        Type::Http | Type::Https => {
            let http = HttpCheck::read(wire.http.as_ref(), kind == Type::Https);
            checks.take("http", http).map(CheckKind::Http)
        }
        Type::Grpc => {
            let grpc = GrpcCheck::read(wire.grpc.as_ref());
            checks.take("grpc", grpc).map(CheckKind::Grpc)
        }
        Type::Udp => {
            let udp = UdpCheck::read(wire.udp.as_ref());
            checks.take("udp", udp).map(CheckKind::Udp)
        }
        Type::Ping => Some(CheckKind::Ping),
    }
}

impl HttpCheck {
    fn read(wire: Option<&v1::HttpCheck>, tls: bool) -> Result<Self, Invalid> {
        let absent = v1::HttpCheck::default();
        let wire = wire.unwrap_or(&absent);
        let mut checks = Checks::default();
        let method = checks.take("method", form::optional(wire.method));
        let path = checks.take("path", path(wire.path.as_deref(), "/"));
        let host = checks.take("host", wire.host.as_deref().map(host).transpose());
        let statuses = StatusRanges::read(&wire.statuses, &["2xx", "3xx"], 100..=599);
        let statuses = checks.take("statuses", statuses);
        let version = checks.take("version", form::optional(wire.version));
        let value = || {
            Some(Self {
                tls,
                method: match method? {
                    Some(v1::http_check::Method::Head) => HttpMethod::Head,
                    _ => HttpMethod::Get,
                },
                path: path?,
                host: host?,
                statuses: statuses?,
                version: match version? {
                    Some(v1::http_check::Version::Http10) => HttpVersion::Http10,
                    _ => HttpVersion::Http11,
                },
            })
        };
        let value = value();
        checks.finish(value)
    }
}

impl GrpcCheck {
    fn read(wire: Option<&v1::GrpcCheck>) -> Result<Self, Invalid> {
        let absent = v1::GrpcCheck::default();
        let wire = wire.unwrap_or(&absent);
        let mut checks = Checks::default();
        let service = wire.service.as_deref().unwrap_or("");
        let service = checks.take("service", printable(service).map(ToOwned::to_owned));
        let path = checks.take("path", path(wire.path.as_deref(), GRPC_PATH));
        let statuses = match wire.statuses.as_slice() {
            [] => Ok(None),
            some => StatusRanges::read(some, &[], 0..=99).map(Some),
        };
        let statuses = checks.take("statuses", statuses);
        let value = || {
            Some(Self {
                service: service?,
                path: path?,
                statuses: statuses?,
            })
        };
        let value = value();
        checks.finish(value)
    }
}

const GRPC_PATH: &str = "/grpc.health.v1.Health/Check";
const LONGEST: usize = 1_024;

fn path(wire: Option<&str>, default: &str) -> Result<String, Invalid> {
    let path = printable(wire.unwrap_or(default))?;
    if path.starts_with('/') {
        Ok(path.to_owned())
    } else {
        let problem = format!("{} does not start with /", shorten(path));
        Err(Invalid::one("", problem))
    }
}

fn host(text: &str) -> Result<String, Invalid> {
    let host = printable(text)?;
    if host.is_empty() || host.contains(['/', '@', '?', '#']) {
        let problem = format!("{} is no host: write a name or an address", shorten(host));
        return Err(Invalid::one("", problem));
    }
    Ok(host.to_owned())
}

/// What can stand in a request without changing its meaning.
fn printable(text: &str) -> Result<&str, Invalid> {
    if text.len() > LONGEST {
        return Err(Invalid::one(
            "",
            format!("is longer than {LONGEST} characters"),
        ));
    }
    if text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(text)
    } else {
        Err(Invalid::one("", "must be printable ASCII without spaces"))
    }
}

fn source_address(text: &str) -> Result<IpAddr, Invalid> {
    match text.parse::<IpAddr>() {
        Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => Ok(ip),
        _ => {
            let problem = format!("{} is no address of a host", shorten(text));
            Err(Invalid::one("", problem))
        }
    }
}

impl From<&HealthCheck> for v1::HealthCheck {
    fn from(check: &HealthCheck) -> Self {
        use v1::health_check::Type;
        let (kind, http, grpc, udp) = match &check.kind {
            CheckKind::Tcp => (Type::Tcp, None, None, None),
            CheckKind::Http(http) if http.tls => (Type::Https, Some(http.into()), None, None),
            CheckKind::Http(http) => (Type::Http, Some(http.into()), None, None),
            CheckKind::Grpc(grpc) => (Type::Grpc, None, Some(grpc.into()), None),
            CheckKind::Udp(udp) => (Type::Udp, None, None, udp.to_wire()),
            CheckKind::Ping => (Type::Ping, None, None, None),
        };
        Self {
            r#type: Some(kind.into()),
            interval: Some(duration::to_wire(check.interval)),
            timeout: Some(duration::to_wire(check.timeout)),
            healthy_threshold: Some(check.healthy_threshold.into()),
            unhealthy_threshold: Some(check.unhealthy_threshold.into()),
            port: check.port.map(Into::into),
            source_address: check.source_address.map(|ip| ip.to_string()),
            http,
            grpc,
            udp,
        }
    }
}

impl From<&HttpCheck> for v1::HttpCheck {
    fn from(check: &HttpCheck) -> Self {
        let method = match check.method {
            HttpMethod::Get => v1::http_check::Method::Get,
            HttpMethod::Head => v1::http_check::Method::Head,
        };
        let version = match check.version {
            HttpVersion::Http10 => v1::http_check::Version::Http10,
            HttpVersion::Http11 => v1::http_check::Version::Http11,
        };
        Self {
            method: Some(method.into()),
            path: Some(check.path.clone()),
            host: check.host.clone(),
            statuses: check.statuses.to_wire(),
            version: Some(version.into()),
        }
    }
}

impl From<&GrpcCheck> for v1::GrpcCheck {
    fn from(check: &GrpcCheck) -> Self {
        Self {
            service: (!check.service.is_empty()).then(|| check.service.clone()),
            path: Some(check.path.clone()),
            statuses: check
                .statuses
                .as_ref()
                .map_or_else(Vec::new, StatusRanges::to_wire),
        }
    }
}
