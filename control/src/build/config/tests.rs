//! What becomes of each field, and of what cannot be.

mod auto;
mod property;
mod refused;

use std::time::Duration;

use podline_api::{
    AffinityKind, BackendHttp, BackendSet, CheckKind, HashKey, HealthCheck, HttpMethod,
    HttpVersion, Policy, ProxyHeader,
};

use serde_json::Value;

use super::*;
use crate::build::annotation::{AUTO_CONFIG, CONFIG};
use crate::build::tests::checked::Checked;
use crate::build::{Options, Plan, Standing};
use crate::cluster::testing::{key, service, service_config};
use crate::cluster::{Change, Service};

const SPECIFY: &str = "service.cloud.tencent.com/specify-protocol";

/// A Service with ports of every kind, and what becomes of it.
struct World {
    checked: Checked,
    service: Service,
}

impl World {
    fn new() -> Self {
        let mut service = service("a/web");
        service.ports.push(ServicePort {
            protocol: Transport::Udp,
            name: "dns".into(),
            port: 53,
            ..service.ports[0].clone()
        });
        for (name, port) in [("http", 81), ("rest", 82)] {
            service.ports.push(ServicePort {
                name: name.into(),
                port,
                ..service.ports[0].clone()
            });
        }
        let spoken = r#"{"81":{"protocol":["HTTP"],"hosts":{"a.example":{},"*.b.example":{}}},"82":{"protocol":["HTTP"]}}"#;
        service
            .annotations
            .insert(SPECIFY.to_owned(), spoken.to_owned());
        service
            .annotations
            .insert(CONFIG.to_owned(), "shop".to_owned());
        Self {
            checked: Checked::new(Options::default()),
            service,
        }
    }

    fn put(&mut self) {
        let change = Change::Service(
            self.service.key.clone(),
            Some(Box::new(self.service.clone())),
        );
        self.checked.change(change);
    }

    fn annotate(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self
                .service
                .annotations
                .insert(key.to_owned(), value.to_owned()),
            None => self.service.annotations.remove(key),
        };
        self.put();
    }

    /// Another object is there, or none.
    fn config(&mut self, name: &str, spec: Option<&str>) {
        let key = key(name);
        let config = spec.map(|spec| Box::new(service_config(name, spec)));
        self.checked.change(Change::ServiceConfig(key, config));
    }

    fn plan(&self) -> &Plan {
        match &self.checked.builder.standings()[&self.service.key] {
            Standing::Ours(plan) => plan,
            odd => panic!("{odd:?}"),
        }
    }

    fn set(&self, name: &str) -> &BackendSet {
        let name = format!("a/web/{name}");
        let mut sets = self.plan().sets.iter();
        sets.find(|set| set.name.as_str() == name).unwrap()
    }

    /// The notes that are about TkeServiceConfigs.
    fn notes(&self) -> Vec<String> {
        let notes = self.plan().notes.iter().map(ToString::to_string);
        notes
            .filter(|note| note.starts_with("ServiceConfig"))
            .collect()
    }
}

/// What a Service of these ports becomes by an object with this spec.
fn with(spec: &str) -> World {
    let mut world = World::new();
    world.put();
    world.config("a/shop", Some(spec));
    world
}

fn l4(port: &str, fields: &str) -> World {
    with(&format!(
        "{{loadBalancer: {{l4Listeners: [{{{port}, {fields}}}]}}}}"
    ))
}

fn rule(port: u16, domain: &str, fields: &str) -> World {
    with(&of_rule(port, domain, fields))
}

fn of_rule(port: u16, domain: &str, fields: &str) -> String {
    format!(
        "{{loadBalancer: {{l7Listeners: [{{protocol: HTTP, port: {port}, domains: [{{domain: '{domain}', rules: [{{url: /, {fields}}}]}}]}}]}}}}"
    )
}

const TCP: &str = "protocol: TCP, port: 80";
const UDP: &str = "protocol: UDP, port: 53";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn check_of(set: &BackendSet) -> &HealthCheck {
    set.settings.health_check.as_ref().unwrap()
}

#[test]
fn each_field_of_a_listener_has_its_effect() {
    let tcp = |fields: &str, expected: fn(&BackendSet) -> bool| {
        let world = l4(TCP, fields);
        let set = world.set("tcp/80");
        assert!(expected(set), "{fields}: {set:?}");
        assert_eq!(world.notes(), [""; 0], "{fields}");
    };
    tcp("deregisterTargetRst: true", |set| {
        set.settings.deregister_target_rst
    });
    tcp("scheduler: LEAST_CONN", |set| {
        set.settings.policy == Policy::LeastConnections
    });
    tcp("scheduler: WRR", |set| {
        set.settings.policy == Policy::RoundRobin
    });
    tcp("session: {enable: true}", |set| {
        let affinity = set.settings.affinity.as_ref().unwrap();
        let group = affinity.group.as_ref().unwrap().as_str();
        affinity.client_ip_timeout() == Some(seconds(30)) && group == "uid-a/web"
    });
    tcp("session: {enable: true, sessionExpireTime: 100}", |set| {
        let affinity = set.settings.affinity.as_ref().unwrap();
        affinity.client_ip_timeout() == Some(seconds(100))
    });
    tcp("session: {sessionExpireTime: 100}", |set| {
        set.settings.affinity.is_none()
    });
    tcp("healthCheck: {enable: false}", |set| {
        set.settings.health_check.is_none()
    });
    tcp("healthCheck: {enable: true}", |set| {
        *check_of(set) == HealthCheck::new(CheckKind::Tcp)
    });
    tcp("healthCheck: {intervalTime: 10}", |set| {
        check_of(set).interval == seconds(10)
    });
    tcp("healthCheck: {timeout: 4}", |set| {
        check_of(set).timeout == seconds(4)
    });
    tcp("healthCheck: {healthNum: 2}", |set| {
        check_of(set).healthy_threshold == 2
    });
    tcp("healthCheck: {unHealthNum: 9}", |set| {
        check_of(set).unhealthy_threshold == 9
    });
    tcp("healthCheck: {checkPort: 8080}", |set| {
        check_of(set).port == Some(8080)
    });
    tcp(
        "healthCheck: {checkType: HTTP, httpVersion: HTTP/1.0, httpCode: 6, httpCheckPath: /health, httpCheckDomain: a.example, httpCheckMethod: GET}",
        |set| match &check_of(set).kind {
            CheckKind::Http(http) => {
                (http.tls, http.method, http.version)
                    == (false, HttpMethod::Get, HttpVersion::Http10)
                    && (&*http.path, http.host.as_deref()) == ("/health", Some("a.example"))
                    && http.statuses.to_string() == "2xx, 3xx"
            }
            _ => false,
        },
    );
    tcp("healthCheck: {checkType: HTTP}", |set| {
        match &check_of(set).kind {
            CheckKind::Http(http) => {
                (http.method, http.version) == (HttpMethod::Head, HttpVersion::Http11)
                    && (&*http.path, http.host.as_deref()) == ("/", None)
                    && http.statuses.to_string() == "1xx, 2xx, 3xx, 4xx, 5xx"
            }
            _ => false,
        }
    });
    let world = l4(TCP, "proxyProtocol: {enable: true}");
    let header = ProxyHeader::V2 {
        crc32c: false,
        unique_id: false,
    };
    let send = world.plan().listeners[0].proxy_protocol.send;
    assert_eq!(send, Some(header));
}

#[test]
fn each_field_of_a_datagram_listener_has_its_effect() {
    let udp = |fields: &str, send: &[u8], expect: Option<&[u8]>| {
        let world = l4(UDP, fields);
        assert_eq!(world.notes(), [""; 0], "{fields}");
        let CheckKind::Udp(check) = &check_of(world.set("udp/53")).kind else {
            panic!("{fields}: {:?}", world.set("udp/53"));
        };
        let found = (&*check.send, check.expect.as_deref());
        assert_eq!(found, (send, expect), "{fields}");
    };
    udp("healthCheck: {checkType: CUSTOM}", b"", None);
    udp(
        "healthCheck: {checkType: CUSTOM, sendContext: PING, recvContext: PONG}",
        b"PING",
        Some(b"PONG"),
    );
    udp(
        "healthCheck: {checkType: CUSTOM, contextType: HEX, sendContext: 00FF}",
        &[0, 255],
        None,
    );
    let world = l4(UDP, "healthCheck: {checkType: PING, intervalTime: 7}");
    let check = check_of(world.set("udp/53"));
    assert_eq!(
        (&check.kind, check.interval),
        (&CheckKind::Ping, seconds(7))
    );
}

#[test]
fn each_field_of_a_rule_has_its_effect() {
    let rest = |fields: &str, expected: fn(&BackendSet) -> bool| {
        let world = rule(82, "", fields);
        let set = world.set("tcp/82");
        assert!(expected(set), "{fields}: {set:?}");
        assert_eq!(world.notes(), [""; 0], "{fields}");
    };
    rest("scheduler: IP_HASH", |set| {
        set.settings.policy == Policy::Maglev(HashKey::ClientIp)
    });
    rest("session: {enable: true, sessionExpireTime: 3600}", |set| {
        let kind = &set.settings.affinity.as_ref().unwrap().kind;
        let timeout = Some(seconds(3_600));
        *kind
            == AffinityKind::Cookie {
                name: None,
                timeout,
            }
    });
    rest("forwardType: HTTPS", |set| set.settings.tls.is_some());
    rest("forwardType: GRPC", |set| {
        set.settings.http_version == BackendHttp::Http2 && set.settings.tls.is_none()
    });
    rest("healthCheck: {intervalTime: 10}", |set| {
        check_of(set).kind == CheckKind::Tcp
    });
    rest(
        "healthCheck: {enable: true}",
        |set| matches!(&check_of(set).kind, CheckKind::Http(http) if http.host.is_none()),
    );
    rest("healthCheck: {enable: true, checkType: TCP}", |set| {
        check_of(set).kind == CheckKind::Tcp
    });
    rest(
        "forwardType: HTTPS, healthCheck: {enable: true}",
        |set| matches!(&check_of(set).kind, CheckKind::Http(http) if http.tls),
    );
    rest("forwardType: GRPC, healthCheck: {enable: true}", |set| {
        matches!(&check_of(set).kind, CheckKind::Grpc(grpc)
            if grpc.path == "/" && grpc.statuses.as_ref().unwrap().contains(12))
    });
    rest(
        "healthCheck: {checkType: GRPC, extendedCode: '0-3,20', httpCheckPath: /x.Y/Z}",
        |set| {
            matches!(&check_of(set).kind, CheckKind::Grpc(grpc)
                if grpc.path == "/x.Y/Z" && grpc.statuses.as_ref().unwrap().to_string() == "0-3, 20")
        },
    );
    let world = rule(81, "a.example", "healthCheck: {enable: true}");
    let CheckKind::Http(http) = &check_of(world.set("tcp/81")).kind else {
        panic!("{:?}", world.set("tcp/81"));
    };
    assert_eq!(http.host.as_deref(), Some("a.example"), "its domain");
}

#[test]
fn a_default_server_takes_what_no_host_does() {
    let listener = |host: &str| {
        let spec = format!(
            "{{loadBalancer: {{l7Listeners: [{{protocol: HTTP, port: 81, defaultServer: {host}}}]}}}}"
        );
        let world = with(&spec);
        let listeners = &world.plan().listeners;
        let found = listeners.iter().find(|it| it.address.port() == 81).unwrap();
        (found.backend_set.is_some(), world.notes())
    };
    assert_eq!(listener("A.example"), (true, Vec::new()));
    let (takes, notes) = listener("c.example");
    assert!(!takes);
    let expected = "ServiceConfigNotApplied: TkeServiceConfig shop: not applied: defaultServer of HTTP/81: it has no domain c.example";
    assert_eq!(notes, [expected]);
}

#[test]
fn the_domains_of_a_port_have_one_set() {
    let world = with(
        "{loadBalancer: {l7Listeners: [{protocol: HTTP, port: 81, domains: [{domain: a.example, rules: [{url: /, scheduler: WRR}]}, {domain: '*.b.example', rules: [{url: /, scheduler: IP_HASH}]}]}]}}",
    );
    let maglev = Policy::Maglev(HashKey::ClientIp);
    assert_eq!(
        world.set("tcp/81").settings.policy,
        maglev,
        "the first of its hosts"
    );
    let expected = "ServiceConfigNotApplied: port 81: not applied: what a TkeServiceConfig says of a.example: the domains of a port have their Pods in common, and what it says of *.b.example counts";
    assert_eq!(world.notes(), [expected]);
}

#[test]
fn whom_a_service_follows_is_said_clearly_or_nobody() {
    let spec = "{loadBalancer: {l4Listeners: [{protocol: TCP, port: 80, scheduler: LEAST_CONN}]}}";
    let mut world = with(spec);
    let least = |world: &World| world.set("tcp/80").settings.policy == Policy::LeastConnections;
    assert!(least(&world));
    let reasons = |world: &World| -> Vec<String> {
        let notes = world.notes();
        let reasons = notes.iter().map(|note| note.split(':').next().unwrap());
        reasons.map(ToOwned::to_owned).collect()
    };
    world.annotate(CONFIG, Some("other"));
    assert_eq!(reasons(&world), ["ServiceConfigMissing"]);
    assert!(least(&world));
    world.annotate(AUTO_CONFIG, Some("true"));
    assert_eq!(reasons(&world), ["ServiceConfigAmbiguous"]);
    assert!(least(&world));
    world.annotate(AUTO_CONFIG, Some("false"));
    let name = "x-auto-service-config";
    world.config(
        &format!("a/{name}"),
        Some("{loadBalancer: {l4Listeners: [{protocol: TCP, port: 80, scheduler: WRR}]}}"),
    );
    world.annotate(CONFIG, Some(name));
    assert_eq!(reasons(&world), ["ServiceConfigNameReserved"]);
    assert!(least(&world));
    world.annotate(CONFIG, None);
    assert_eq!(reasons(&world), [""; 0]);
    assert!(least(&world));
    assert_eq!(
        world.plan().config.text.as_deref(),
        Some(r#"{"TCP/80":{"scheduler":"LEAST_CONN"}}"#)
    );
}

#[test]
fn tls_around_bytes_is_tcp_unless_something_else_is_said() {
    let anchor = Anchor::Listener(Speech::TcpSsl, 443);
    let config = |spec: &str| service_config("a/shop", spec);
    let of = |spec: &str| {
        let mut kept = Kept::new();
        follow(
            std::slice::from_ref(&anchor),
            Some(&config(spec)),
            &mut kept,
        );
        let said = kept
            .get(&anchor)
            .and_then(|said| said.text(Field::Scheduler));
        said.map(ToOwned::to_owned)
    };
    let tcp = "{loadBalancer: {l4Listeners: [{protocol: TCP, port: 443, scheduler: WRR}]}}";
    assert_eq!(of(tcp).as_deref(), Some("WRR"));
    let both = "{loadBalancer: {l4Listeners: [{protocol: TCP, port: 443, scheduler: WRR}, {protocol: TCP_SSL, port: 443, scheduler: LEAST_CONN}]}}";
    assert_eq!(of(both).as_deref(), Some("LEAST_CONN"));
}

#[test]
fn what_is_kept_fits_an_annotation_and_is_read_back() {
    let said = service_config(
        "a/shop",
        "{loadBalancer: {l4Listeners: [{protocol: UDP, port: 1, session: {enable: true}, healthCheck: {checkType: CUSTOM, sendContext: \"\\\"\"}}]}}",
    );
    let kept = said.fragments;
    let (text, is_whole) = kept::write(&kept);
    assert!(is_whole);
    assert_eq!(kept::read(&text.unwrap()), kept);
    let one = kept.values().next().unwrap();
    let many = |count| -> Kept {
        let ports = 1..=count;
        ports
            .map(|port| (Anchor::Listener(Speech::Udp, port), one.clone()))
            .collect()
    };
    let (text, is_whole) = kept::write(&many(1_000));
    let text = text.unwrap();
    assert!(!is_whole && text.len() <= crate::cluster::service::MAX_VALUE_BYTES);
    assert!(text.len() > 16_000);
    let read = kept::read(&text);
    assert!(read.len() > 100 && read.iter().all(|(_, said)| said == one));
    assert_eq!(kept::write(&Kept::new()), (None, true));
    for text in ["", "[]", "{\"TCP/80\":1}", "{\"x\":{}}"] {
        assert!(kept::read(text).values().all(Fragment::is_empty), "{text}");
    }
}

#[test]
fn a_service_is_not_believed_what_could_not_be_set() {
    let mut world = World::new();
    let odd = r#"{"TCP/80":{"scheduler":"LEAST_CONN","healthCheck.timeout":60,"healthCheck.healthNum":99},"TCP/9":{"scheduler":"WRR"}}"#;
    world.annotate(KEPT_CONFIG, Some(odd));
    let plan = world.plan();
    assert_eq!(
        plan.config.text.as_deref(),
        Some(r#"{"TCP/80":{"scheduler":"LEAST_CONN"}}"#)
    );
    // From here on it is written, and not read.
    world.annotate(KEPT_CONFIG, Some("{}"));
    assert_eq!(
        world.set("tcp/80").settings.policy,
        Policy::LeastConnections
    );
}

#[test]
fn each_value_of_a_port_is_told_with_who_set_it() {
    let mut world = l4(
        TCP,
        "scheduler: LEAST_CONN, session: {enable: true}, healthCheck: {intervalTime: 10, checkType: HTTP}",
    );
    world.service.affinity = Some(seconds(60));
    world.put();
    let told = |world: &World| -> Vec<String> {
        let cluster = &world.checked.cluster;
        let entry = cluster.service(&world.service.key).unwrap();
        let values = told::values(cluster, entry, world.plan()).into_iter();
        let of_80 = values.filter(|(name, ..)| name.starts_with("80/TCP "));
        of_80
            .map(|(name, value, origin)| format!("{}: {value}, {origin:?}", &name[7..]))
            .collect()
    };
    let expected = |origin: &str| {
        [
            format!("scheduler: LEAST_CONN, {origin}"),
            format!("session: client address, 1m, {origin}"),
            "reset of removed Pods' connections: false, Default".to_owned(),
            format!("health check: HTTP HEAD /: 1xx, 2xx, 3xx, 4xx, 5xx, {origin}"),
            format!("probe interval: 10s, {origin}"),
            "probe timeout: 2s, Default".to_owned(),
            "probes to be healthy: 3, Default".to_owned(),
            "probes to be unhealthy: 3, Default".to_owned(),
        ]
    };
    assert_eq!(told(&world), expected("Config(\"shop\")"));
    world.annotate(CONFIG, None);
    assert_eq!(told(&world), expected("Kept"));
    world.annotate(CONFIG, Some("shop"));
    world.config(
        "a/shop",
        Some("{loadBalancer: {l4Listeners: [{protocol: TCP, port: 80, scheduler: LEAST_CONN}]}}"),
    );
    let now = told(&world);
    assert_eq!(now[0], "scheduler: LEAST_CONN, Config(\"shop\")");
    assert_eq!(now[1], "session: client address, 1m, Kept");
    world.service.ports.remove(0);
    world.put();
    assert_eq!(told(&world), [""; 0]);
}
