//! What is set of a listener or rule, laid over what its owner and the defaults say. Pure.

use std::time::Duration;

use podline_api::{
    Affinity, AffinityKind, BackendHttp, BackendTls, CheckKind, HashKey, HealthCheck, Listener,
    Name, Policy, ProxyHeader, SetSettings, v1,
};

use super::admit::has_http_fields;
use super::{Config, Kept};
use crate::cluster::service_config::{Anchor, Field, Fragment, Speech};

/// How long a client is remembered if only that is said.
const SESSION: Duration = Duration::from_secs(30);
/// The statuses of gRPC that pass if none are said: that the method is not there, said by whoever speaks gRPC.
const GRPC_CODES: &str = "12";

/// What a set of backends is behind.
#[derive(Clone, Debug)]
pub struct Rule<'a> {
    /// What its listener speaks.
    pub speech: Speech,
    /// Its domain; empty, or with a wildcard, if that is no host that could be asked for.
    pub domain: &'a str,
    /// Whose sets share a client's backend.
    pub group: Option<Name>,
}

/// The settings of a set of backends.
pub fn settings(base: SetSettings, said: &Fragment, rule: &Rule<'_>) -> SetSettings {
    let mut settings = base;
    forward(&mut settings, said);
    match said.text(Field::Scheduler) {
        Some("LEAST_CONN") => settings.policy = Policy::LeastConnections,
        Some("IP_HASH") => settings.policy = Policy::Maglev(HashKey::ClientIp),
        Some(_) => settings.policy = Policy::RoundRobin,
        None => {}
    }
    if let Some(reset) = said.is(Field::DeregisterTargetRst) {
        settings.deregister_target_rst = reset;
    }
    settings.affinity = session(settings.affinity, said, rule);
    settings.health_check = check(&settings, said, rule);
    settings
}

/// What Pods are spoken to in.
fn forward(settings: &mut SetSettings, said: &Fragment) {
    let (version, has_tls) = match said.text(Field::ForwardType) {
        Some("GRPC") => (BackendHttp::Http2, false),
        Some("HTTPS") => (BackendHttp::Http11, true),
        Some(_) => (BackendHttp::Http11, false),
        None => return,
    };
    settings.http_version = version;
    // Pods' certificates are their own making: nobody vouches for them.
    settings.tls = has_tls.then_some(BackendTls {
        trusted: None,
        server_name: None,
    });
}

fn session(base: Option<Affinity>, said: &Fragment, rule: &Rule<'_>) -> Option<Affinity> {
    let seconds = said.number(Field::SessionExpireTime);
    let seconds = seconds.map(|seconds| Duration::from_secs(seconds.into()));
    match said.is(Field::SessionEnable) {
        Some(false) => return None,
        None if base.is_none() => return None,
        None | Some(true) => {}
    }
    let before = base.as_ref().and_then(Affinity::client_ip_timeout);
    if rule.speech.is_http() && said.has(Field::SessionEnable) {
        let timeout = Some(seconds.unwrap_or(SESSION));
        return Some(Affinity {
            kind: AffinityKind::Cookie {
                name: None,
                timeout,
            },
            group: None,
        });
    }
    let timeout = seconds.or(before).unwrap_or(SESSION);
    let group = base.and_then(|base| base.group);
    Some(Affinity {
        kind: AffinityKind::ClientIp { timeout },
        group: group.or_else(|| rule.group.clone()),
    })
}

fn check(settings: &SetSettings, said: &Fragment, rule: &Rule<'_>) -> Option<HealthCheck> {
    if said.is(Field::CheckEnable) == Some(false) {
        return None;
    }
    let base = settings.health_check.clone()?;
    let mut check = match kind(settings, said, rule) {
        Some(kind) => HealthCheck {
            kind,
            // What the base asks at another port is not asked any more.
            port: None,
            ..base
        },
        None => base,
    };
    let seconds = |field| said.number(field).map(|it| Duration::from_secs(it.into()));
    let count = |field| said.number(field).and_then(|it| u8::try_from(it).ok());
    check.interval = seconds(Field::CheckInterval).unwrap_or(check.interval);
    check.timeout = seconds(Field::CheckTimeout).unwrap_or(check.timeout);
    check.healthy_threshold = count(Field::CheckHealthNum).unwrap_or(check.healthy_threshold);
    check.unhealthy_threshold = count(Field::CheckUnhealthNum).unwrap_or(check.unhealthy_threshold);
    if check.kind != CheckKind::Ping {
        check.port = said.number(Field::CheckPort).or(check.port);
    }
    Some(check)
}

/// What a probe does, if something is said of it.
fn kind(settings: &SetSettings, said: &Fragment, rule: &Rule<'_>) -> Option<CheckKind> {
    use v1::health_check::Type;
    let kind = match said.text(Field::CheckType) {
        Some("TCP") => Type::Tcp,
        Some("PING") => Type::Ping,
        Some("CUSTOM") => Type::Udp,
        Some("GRPC") => Type::Grpc,
        Some("HTTPS") => Type::Https,
        Some(_) => http(settings),
        None if !rule.speech.is_http() => return None,
        // Whoever speaks HTTP/2 alone does not answer HTTP/1.
        None if settings.http_version == BackendHttp::Http2 => {
            let is_grpc = said.text(Field::ForwardType) == Some("GRPC");
            let is_on = said.is(Field::CheckEnable) == Some(true);
            (is_grpc && is_on).then_some(Type::Grpc)?
        }
        None if said.is(Field::CheckEnable) == Some(true) || has_http_fields(said) => {
            http(settings)
        }
        None => return None,
    };
    let wire = v1::HealthCheck {
        r#type: Some(kind.into()),
        http: matches!(kind, Type::Http | Type::Https).then(|| http_check(said, rule)),
        grpc: (kind == Type::Grpc).then(|| grpc_check(said)),
        udp: (kind == Type::Udp).then(|| custom(said)),
        ..v1::HealthCheck::default()
    };
    // Each field was held to its range when it was read.
    HealthCheck::try_from(wire).ok().map(|check| check.kind)
}

/// Inside TLS where requests are.
fn http(settings: &SetSettings) -> v1::health_check::Type {
    if settings.tls.is_some() {
        v1::health_check::Type::Https
    } else {
        v1::health_check::Type::Http
    }
}

fn http_check(said: &Fragment, rule: &Rule<'_>) -> v1::HttpCheck {
    use v1::http_check::{Method, Version};
    let method = match said.text(Field::CheckHttpMethod) {
        Some("GET") => Method::Get,
        _ => Method::Head,
    };
    let version = match said.text(Field::CheckHttpVersion) {
        Some("HTTP/1.0") => Version::Http10,
        _ => Version::Http11,
    };
    let domain = Some(rule.domain).filter(|domain| !domain.is_empty() && !domain.starts_with('*'));
    let code = said.number(Field::CheckHttpCode).unwrap_or(31);
    let classes = (0..5).filter(|bit| code & (1 << bit) != 0);
    v1::HttpCheck {
        method: Some(method.into()),
        path: said.text(Field::CheckHttpPath).map(ToOwned::to_owned),
        host: said
            .text(Field::CheckHttpDomain)
            .or(domain)
            .map(ToOwned::to_owned),
        statuses: classes.map(|bit| format!("{}xx", bit + 1)).collect(),
        version: Some(version.into()),
    }
}

fn grpc_check(said: &Fragment) -> v1::GrpcCheck {
    let codes = said.text(Field::CheckExtendedCode).unwrap_or(GRPC_CODES);
    v1::GrpcCheck {
        service: None,
        path: Some(said.text(Field::CheckHttpPath).unwrap_or("/").to_owned()),
        statuses: codes.split(',').map(ToOwned::to_owned).collect(),
    }
}

/// What is sent and expected, as text or as hex.
fn custom(said: &Fragment) -> v1::UdpCheck {
    let is_hex = said.text(Field::CheckContextType) == Some("HEX");
    let context = |field| {
        let text = said.text(field).filter(|text| !text.is_empty());
        let text = text.map(ToOwned::to_owned);
        if is_hex { (None, text) } else { (text, None) }
    };
    let (send, expect) = (context(Field::CheckSend), context(Field::CheckReceive));
    v1::UdpCheck {
        send_text: send.0,
        send_hex: send.1,
        expect_text: expect.0,
        expect_hex: expect.1,
    }
}

/// A port that is listened at.
#[derive(Clone, Copy, Debug)]
pub struct Port<'a> {
    /// Its number.
    pub number: u16,
    /// What it speaks.
    pub speech: Speech,
    /// The hosts that are served there; none: all are.
    pub hosts: &'a [String],
}

impl Port<'_> {
    fn listener(&self) -> Anchor {
        Anchor::Listener(self.speech, self.number)
    }

    fn domains(&self) -> impl Iterator<Item = &str> {
        let all = self.hosts.is_empty().then_some("");
        all.into_iter().chain(self.hosts.iter().map(String::as_str))
    }

    /// What is set of its Pods, and for which domain: they are one set, so the first domain of which something is set
    /// counts.
    pub fn said<'b>(&'b self, kept: &'b Kept) -> Option<(&'b str, &'b Fragment)> {
        if !self.speech.is_http() {
            return kept.get(&self.listener()).map(|said| ("", said));
        }
        let mut domains = self.domains();
        domains.find_map(|domain| {
            let rule = Anchor::Rule(self.speech, self.number, domain.into(), "/".into());
            kept.get(&rule).map(|said| (domain, said))
        })
    }

    /// Domains of which something else is set than what counts.
    pub fn overruled<'b>(&'b self, kept: &'b Kept) -> impl Iterator<Item = &'b str> {
        let counts = self.said(kept);
        self.domains().filter(move |domain| {
            let rule = Anchor::Rule(self.speech, self.number, (*domain).into(), "/".into());
            let said = kept.get(&rule);
            said.is_some() && said != counts.map(|(_, counts)| counts)
        })
    }
}

impl Config {
    /// The settings of the set behind a port.
    pub fn set(&self, port: &Port<'_>, base: SetSettings, group: Option<Name>) -> SetSettings {
        let Some((domain, said)) = port.said(&self.kept) else {
            return base;
        };
        let speech = port.speech;
        let rule = Rule {
            speech,
            domain,
            group,
        };
        settings(base, said, &rule)
    }

    /// The listener of a port, whose set is `set`.
    pub fn listener(&self, port: &Port<'_>, base: Listener, set: &Name) -> Listener {
        let mut listener = base;
        if let Some(said) = self.kept.get(&port.listener()) {
            match said.is(Field::ProxyProtocol) {
                Some(true) => {
                    let header = listener.proxy_protocol.send;
                    let header = header.filter(|header| *header != ProxyHeader::V1);
                    listener.proxy_protocol.send = Some(header.unwrap_or(ProxyHeader::V2 {
                        crc32c: false,
                        unique_id: false,
                    }));
                }
                Some(false) => listener.proxy_protocol.send = None,
                None => {}
            }
        }
        if self.default_server(port).is_some() {
            listener.backend_set = Some(set.clone());
        }
        if let Some(tls) = &mut listener.tls {
            tls.http2 &= self.offers_http2(port);
        }
        listener
    }

    /// The host of a port that takes requests for whatever is no host of it, if one is to.
    pub fn default_server<'a>(&self, port: &Port<'a>) -> Option<&'a str> {
        let said = self.kept.get(&port.listener())?;
        let default = said.text(Field::DefaultServer)?;
        let mut hosts = port.hosts.iter().map(String::as_str);
        hosts.find(|host| host.eq_ignore_ascii_case(default))
    }

    /// Whether clients of a port are offered HTTP/2: unless none of its domains wants it.
    pub fn offers_http2(&self, port: &Port<'_>) -> bool {
        let of = |domain: &str| {
            let domain = Anchor::Domain(port.speech, port.number, domain.into());
            self.kept.get(&domain)?.is(Field::Http2)
        };
        port.speech != Speech::Https || !port.domains().all(|domain| of(domain) == Some(false))
    }
}
