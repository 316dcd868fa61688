//! What listeners and sets are configured to do, in a few words. Pure.

use std::time::Duration;

use jiff::Timestamp;
use podline_api::{HttpRoute, Validity, duration, v1};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use webpki::EndEntityCert;

use super::human::{clean, count};

/// `TCP`, `HTTP :8081/healthz`; a dash for none.
pub(super) fn health_check(set: &v1::BackendSet) -> String {
    let Some(check) = &set.health_check else {
        return "-".to_owned();
    };
    let mut text = check.r#type().as_str_name().to_owned();
    let path = check.http.as_ref().and_then(|http| http.path.as_deref());
    let service = check.grpc.as_ref().and_then(|grpc| grpc.service.as_deref());
    let port = check.port.map(|port| format!(":{port}"));
    let place = [port.as_deref(), path, service.map(|_| " "), service];
    let place: String = place.into_iter().flatten().collect();
    if !place.is_empty() {
        text.extend([" ", place.trim_start()]);
    }
    text
}

/// `ROUND_ROBIN`, `MAGLEV by FLOW`.
pub(super) fn policy(set: &v1::BackendSet) -> String {
    let policy = name_of(set.policy().as_str_name());
    match set.hash_key {
        Some(_) => format!("{policy} by {}", name_of(set.hash_key().as_str_name())),
        None => policy,
    }
}

/// `clientIp 3h, group front`; empty for none.
pub(super) fn affinity(set: &v1::BackendSet) -> String {
    let Some(affinity) = &set.affinity else {
        return String::new();
    };
    let client = affinity.client_ip.map(|client| {
        let timeout = client
            .timeout
            .and_then(|time| Duration::try_from(time).ok());
        let timeout = timeout.map(|time| format!(" {}", duration::format(time)));
        format!("clientIp{}", timeout.unwrap_or_default())
    });
    let cookie = affinity.cookie.as_ref().map(|cookie| {
        let timeout = cookie
            .timeout
            .and_then(|time| Duration::try_from(time).ok());
        let timeout = timeout.map(|time| format!(" {}", duration::format(time)));
        let name = cookie.name.as_ref().map(|name| format!(" {name}"));
        let [name, timeout] = [name, timeout].map(Option::unwrap_or_default);
        format!("cookie{name}{timeout}")
    });
    let group = affinity.group.as_ref().map(|name| format!("group {name}"));
    joined([client, cookie, group])
}

/// `web`, `web and 3 routes`, `3 routes`: where a listener leads.
pub(super) fn leads_to(listener: &v1::Listener) -> String {
    let routes = count(listener.routes.len(), "route");
    match (listener.backend_set.as_str(), listener.routes.len()) {
        (set, 0) => set.to_owned(),
        ("", _) => routes,
        (set, _) => format!("{set} and {routes}"),
    }
}

/// What a route takes, and what it does with it; question marks if this release cannot read it.
pub(super) fn route(route: &v1::HttpRoute) -> [String; 2] {
    match HttpRoute::try_from(route.clone()) {
        Ok(route) => [route.to_string(), route.action.to_string()],
        Err(_) => ["?".to_owned(), "?".to_owned()],
    }
}

/// How backends are taken out beside probes that fail: `50% at most, after 5 failed connects, fail closed`; empty for
/// nothing special.
pub(super) fn ejection(set: &v1::BackendSet) -> String {
    let percent = set.max_ejection_percent.filter(|percent| *percent != 100);
    let passive = set.passive_check.and_then(|check| check.failures);
    joined([
        percent.map(|percent| format!("{percent}% at most")),
        passive.map(|failures| format!("after {failures} failed connects")),
        set.fail_closed.then(|| "fail closed".to_owned()),
    ])
}

/// `10.0.0.0/8 and 2 more, 1000 open, 100/s, each client 10 open, each client 5/s`; empty for none.
pub(super) fn limits(listener: &v1::Listener) -> String {
    let ranges = some_of(&listener.source_ranges);
    let client = listener.client_limits.unwrap_or_default();
    let open = |number: Option<u32>, who: &str| number.map(|n| format!("{who}{n} open"));
    let rate = |number: Option<u32>, who: &str| number.map(|n| format!("{who}{n}/s"));
    joined([
        ranges,
        open(listener.max_connections, ""),
        rate(listener.max_connections_per_second, ""),
        open(client.max_connections, "each client "),
        rate(client.max_connections_per_second, "each client "),
    ])
}

/// `V2, from 10.0.0.0/8 and 2 more`: what is sent, and from whom headers are read; empty for none.
pub(super) fn proxy_headers(listener: &v1::Listener) -> String {
    let protocol = listener.proxy_protocol.clone().unwrap_or_default();
    let send = protocol
        .send
        .map(|_| name_of(protocol.send().as_str_name()));
    let accept = protocol.accept.unwrap_or_default();
    let from = some_of(&accept.from).map(|from| format!("from {from}"));
    joined([send, from])
}

/// `a.example until 2027-01-01T00:00:00Z and 2 more, TLS_1_3, client certificates`: what a listener shows, and whom it
/// lets in; empty without TLS.
pub(super) fn tls(listener: &v1::Listener) -> String {
    let Some(tls) = &listener.tls else {
        return String::new();
    };
    let shown: Vec<_> = tls.certificates.iter().map(|it| &it.chain).collect();
    let shown = match &*shown {
        [] => None,
        [one] => Some(certificate(one)),
        [first, rest @ ..] => Some(format!("{} and {} more", certificate(first), rest.len())),
    };
    let is_newest = tls.min_version() == v1::tls_settings::Version::Tls13;
    let clients = tls.client_certificates.as_ref().map(|it| it.optional);
    joined([
        shown,
        is_newest.then(|| "TLS 1.3".to_owned()),
        clients.map(|is_optional| {
            let may = if is_optional { "some with" } else { "with" };
            format!("clients {may} certificates")
        }),
        (tls.http2 == Some(false) && listener.protocol() == v1::listener::Protocol::Https)
            .then(|| "no HTTP/2".to_owned()),
    ])
}

/// `HTTP/2, TLS`: what a set's backends are spoken to in; empty for what is usual.
pub(super) fn requests_in(set: &v1::BackendSet) -> String {
    let is_http2 = set.http_version() == v1::backend_set::HttpVersion::Http2;
    joined([
        is_http2.then(|| "HTTP/2".to_owned()),
        set.tls.as_ref().map(|_| "TLS".to_owned()),
    ])
}

/// `a.example and 2 more names until 2027-01-01T00:00:00Z`; a question mark for what cannot be read.
pub(super) fn certificate(chain: &str) -> String {
    let own = CertificateDer::pem_slice_iter(chain.as_bytes()).next();
    let Some(own) = own.and_then(Result::ok) else {
        return "?".to_owned();
    };
    let read = EndEntityCert::try_from(&own).ok();
    let names: Vec<_> = read.iter().flat_map(|it| it.valid_dns_names()).collect();
    let names = match &*names {
        [] => "no name".to_owned(),
        [one] => clean(one),
        [first, rest @ ..] => format!("{} and {}", clean(first), count(rest.len(), "more name")),
    };
    let end = Validity::of(&own).and_then(|it| Timestamp::from_second(it.not_after).ok());
    let end = end.map_or("?".to_owned(), |end| end.to_string());
    format!("{names} until {end}")
}

/// `10.0.0.0/8 and 2 more`
fn some_of(ranges: &[String]) -> Option<String> {
    match ranges {
        [] => None,
        [one] => Some(one.clone()),
        [first, rest @ ..] => Some(format!("{first} and {} more", rest.len())),
    }
}

/// `3 connections as the proxy (UNPROVEN 3), 7 as their clients`; empty where none fell back.
pub(super) fn as_proxy(status: &v1::ListenerStatus) -> String {
    let reasons = &status.snat_connections;
    let mut told: Vec<_> = reasons
        .iter()
        .map(|(why, count)| format!("{} {count}", clean(why)))
        .collect();
    if told.is_empty() {
        return String::new();
    }
    told.sort();
    let all = reasons
        .values()
        .fold(0_u64, |all, it| all.saturating_add(*it));
    let all = count(usize::try_from(all).unwrap_or(usize::MAX), "connection");
    let transparent = status.transparent_connections;
    format!(
        "{all} as the proxy ({}), {transparent} as their clients",
        told.join(", ")
    )
}

/// `12 by sourceRanges, 3 by clientLimits.maxConnections`; empty if none were shed.
pub(super) fn shed(shed: &v1::ShedConnections) -> String {
    let counts = [
        (shed.source_ranges, "sourceRanges"),
        (shed.max_connections, "maxConnections"),
        (shed.max_connections_per_second, "maxConnectionsPerSecond"),
        (shed.client_max_connections, "clientLimits.maxConnections"),
        (
            shed.client_max_connections_per_second,
            "clientLimits.maxConnectionsPerSecond",
        ),
    ];
    joined(counts.map(|(n, by)| (n > 0).then(|| format!("{n} by {by}"))))
}

/// An enum's name as it is shown; what is unknown to this release is a question mark.
pub(super) fn name_of(name: &str) -> String {
    if name.ends_with("UNSPECIFIED") {
        "?".to_owned()
    } else {
        name.to_owned()
    }
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use podline_api::Document;

    use super::*;

    fn set(settings: &str) -> v1::BackendSet {
        let file = format!("backendSets: [{{name: web, {settings}}}]");
        let document = Document::from_yaml(&file).unwrap();
        (&document.backend_sets[0]).into()
    }

    fn listener(settings: &str) -> v1::Listener {
        let file = format!(
            "listeners: [{{name: web, address: '[::1]:80', protocol: TCP, backendSet: web, {settings}}}]\n\
             backendSets: [{{name: web}}]"
        );
        let document = Document::from_yaml(&file).unwrap();
        (&document.listeners[0]).into()
    }

    #[test]
    fn sets_are_told_in_a_few_words() {
        let check = |settings: &str, expected: [&str; 4]| {
            let set = set(settings);
            let found = [
                policy(&set),
                health_check(&set),
                affinity(&set),
                ejection(&set),
            ];
            assert_eq!(found, expected);
        };
        check("", ["ROUND_ROBIN", "-", "", ""]);
        check(
            "policy: MAGLEV, hashKey: FLOW, healthCheck: {type: TCP}, affinity: {clientIp: {}}, failClosed: true",
            ["MAGLEV by FLOW", "TCP", "clientIp 3h", "fail closed"],
        );
        check(
            "healthCheck: {type: HTTPS, port: 8081, http: {path: /healthz}}, affinity: {clientIp: {timeout: 90s}, group: front}, \
             maxEjectionPercent: 50, passiveCheck: {failures: 5}",
            [
                "ROUND_ROBIN",
                "HTTPS :8081/healthz",
                "clientIp 90s, group front",
                "50% at most, after 5 failed connects",
            ],
        );
        check("affinity: {cookie: {}}", ["ROUND_ROBIN", "-", "cookie", ""]);
        check(
            "affinity: {cookie: {name: seat, timeout: 1h}}",
            ["ROUND_ROBIN", "-", "cookie seat 1h", ""],
        );
        check(
            "healthCheck: {type: GRPC, port: 90, grpc: {service: shop}}",
            ["ROUND_ROBIN", "GRPC :90 shop", "", ""],
        );
        check(
            "healthCheck: {type: GRPC, grpc: {service: shop}}",
            ["ROUND_ROBIN", "GRPC shop", "", ""],
        );
    }

    #[test]
    fn routes_are_told() {
        let check = |settings: &str, leads: &str, routes: &[[&str; 2]]| {
            let text = format!(
                "listeners: [{{name: a, address: '[::1]:80', protocol: HTTP, {settings}}}]"
            );
            let listener = v1::Listener::from(&Document::from_yaml(&text).unwrap().listeners[0]);
            assert_eq!(leads_to(&listener), leads);
            let told: Vec<_> = listener.routes.iter().map(route).collect();
            assert_eq!(told, routes);
        };
        check("backendSet: web", "web", &[]);
        check(
            "backendSet: web, routes: [{backendSet: api}]",
            "web and 1 route",
            &[["*/", "api"]],
        );
        check(
            "routes: [{hosts: [a.example, '*.b.example'], path: {exact: /x}, backendSet: api}, \
             {hosts: [a.example], path: {prefix: /old}, redirect: {scheme: https, port: 8443, prefix: /new, status: 301}}]",
            "2 routes",
            &[
                ["a.example/x exactly, and for 1 more host", "api"],
                [
                    "a.example/old",
                    "301 to scheme https, port 8443, prefix /new",
                ],
            ],
        );
        let unknown = v1::HttpRoute::default();
        assert_eq!(route(&unknown), ["?", "?"], "a route that says nothing");
    }

    #[test]
    fn proxy_headers_are_told() {
        let told = |settings: &str| proxy_headers(&listener(settings));
        assert_eq!(told(""), "");
        assert_eq!(told("proxyProtocol: {send: V1}"), "V1");
        let both = "proxyProtocol: {send: V2, accept: {from: [10.0.0.0/8, 192.0.2.1]}}";
        assert_eq!(told(both), "V2, from 10.0.0.0/8 and 1 more");
    }

    #[test]
    fn limits_and_what_they_shed_are_told() {
        assert_eq!(limits(&listener("")), "");
        let some = "sourceRanges: [10.0.0.0/8, 192.0.2.1, '2001:db8::/32'], maxConnections: 1000, \
                    clientLimits: {maxConnections: 10, maxConnectionsPerSecond: 5}";
        assert_eq!(
            limits(&listener(some)),
            "10.0.0.0/8 and 2 more, 1000 open, each client 10 open, each client 5/s"
        );
        assert_eq!(limits(&listener("maxConnectionsPerSecond: 7")), "7/s");
        let counts = v1::ShedConnections {
            source_ranges: 12,
            client_max_connections: 3,
            ..Default::default()
        };
        assert_eq!(
            shed(&counts),
            "12 by sourceRanges, 3 by clientLimits.maxConnections"
        );
        assert_eq!(shed(&v1::ShedConnections::default()), "");
    }
}
