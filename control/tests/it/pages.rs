//! The pages of TKE's documentation, one row a field: what it promises, and what both proxies do.

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use podline_api::{
    Affinity, AffinityKind, BackendHttp, BackendSet, CheckKind, HealthCheck, HttpCheck, HttpMethod,
    HttpVersion, Policy, UdpCheck, v1,
};
use podline_control::crd;
use podline_lab::wait;
use serde_json::{Value, json};

use crate::harness::LONG;
use crate::harness::objects;
use crate::harness::scene::Scene;
use crate::tls::{allow, pair, put_pair};

/// What a proxy makes of a port.
struct Seen {
    listener: v1::Listener,
    set: BackendSet,
}

/// A port, a field as the page writes it, what it promises, and where that shows.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Seen) -> String,
);

const OBJECT: &[Row] = &[
    ("tcp/80", "protocol: TCP, port: 80", "TCP to 8080", spoken),
    ("tcp/80", "deregisterTargetRst: true", "true", |seen| {
        seen.set.settings.deregister_target_rst.to_string()
    }),
    ("tcp/80", "session.enable: true", "client address", session),
    ("tcp/80", "session.sessionExpireTime: 100", "100", expiry),
    ("tcp/80", "healthCheck.checkType: TCP", "TCP", checked),
    ("tcp/80", "healthCheck.intervalTime: 10", "10", |seen| {
        of_check(seen, |it| it.interval.as_secs())
    }),
    ("tcp/80", "healthCheck.timeout: 5", "5", |seen| {
        of_check(seen, |it| it.timeout.as_secs())
    }),
    ("tcp/80", "healthCheck.healthNum: 2", "2", |seen| {
        of_check(seen, |it| it.healthy_threshold)
    }),
    ("tcp/80", "healthCheck.unHealthNum: 4", "4", |seen| {
        of_check(seen, |it| it.unhealthy_threshold)
    }),
    ("tcp/80", "healthCheck.checkPort: 8080", "8080", |seen| {
        of_check(seen, |it| it.port.unwrap_or_default())
    }),
    ("tcp/80", "scheduler: WRR", "WRR", scheduler),
    (
        "tcp/82",
        "deregisterTargetRst is not said",
        "false",
        |seen| seen.set.settings.deregister_target_rst.to_string(),
    ),
    ("tcp/82", "session.enable: false", "none", session),
    ("tcp/82", "healthCheck.checkType: HTTP", "HTTP", checked),
    (
        "tcp/82",
        "healthCheck.intervalTime is not said",
        "5",
        |seen| of_check(seen, |it| it.interval.as_secs()),
    ),
    ("tcp/82", "healthCheck.timeout is not said", "2", |seen| {
        of_check(seen, |it| it.timeout.as_secs())
    }),
    ("tcp/82", "healthCheck.healthNum is not said", "3", |seen| {
        of_check(seen, |it| it.healthy_threshold)
    }),
    (
        "tcp/82",
        "healthCheck.httpVersion: HTTP/1.0",
        "1.0",
        version,
    ),
    ("tcp/82", "healthCheck.httpCode: 6", "2xx, 3xx", |seen| {
        of_http(seen, |it| it.statuses.to_string())
    }),
    (
        "tcp/82",
        "healthCheck.httpCheckPath",
        "/checkHealth",
        |seen| of_http(seen, |it| it.path.clone()),
    ),
    (
        "tcp/82",
        "healthCheck.httpCheckDomain",
        "sample.tencent.com",
        domain,
    ),
    ("tcp/82", "healthCheck.httpCheckMethod: GET", "GET", method),
    ("tcp/82", "scheduler: LEAST_CONN", "LEAST_CONN", scheduler),
    ("udp/53", "protocol: UDP, port: 53", "UDP to 8080", spoken),
    ("udp/53", "healthCheck.checkType: CUSTOM", "CUSTOM", checked),
    (
        "udp/53",
        "healthCheck.contextType: HEX, sendContext: 00FF",
        "[0, 255]",
        |seen| of_udp(seen, |it| format!("{:?}", it.send)),
    ),
    ("udp/53", "healthCheck.recvContext: 7F", "[127]", |seen| {
        of_udp(seen, |it| {
            format!("{:?}", it.expect.as_deref().unwrap_or_default())
        })
    }),
];

/// The part of the object that is about requests.
const RULES: &[Row] = &[
    (
        "tcp/443",
        "protocol: HTTPS, port: 443",
        "HTTPS to 8080",
        spoken,
    ),
    (
        "tcp/443",
        "defaultServer: sample.tencent.com",
        "taken",
        others,
    ),
    ("tcp/443", "http2: false", "false", |seen| {
        let tls = seen.listener.tls.clone().unwrap_or_default();
        tls.http2.unwrap_or(true).to_string()
    }),
    (
        "tcp/443",
        "domain: sample.tencent.com",
        "sample.tencent.com",
        hosts,
    ),
    ("tcp/443", "forwardType: HTTP", "HTTP/1.1", forwarded),
    ("tcp/443", "session.enable: true", "cookie", session),
    ("tcp/443", "session.sessionExpireTime: 3600", "3600", expiry),
    ("tcp/443", "healthCheck.checkType: HTTP", "HTTP", checked),
    ("tcp/443", "healthCheck.intervalTime: 10", "10", |seen| {
        of_check(seen, |it| it.interval.as_secs())
    }),
    ("tcp/443", "healthCheck.timeout: 5", "5", |seen| {
        of_check(seen, |it| it.timeout.as_secs())
    }),
    ("tcp/443", "healthCheck.healthNum: 2", "2", |seen| {
        of_check(seen, |it| it.healthy_threshold)
    }),
    ("tcp/443", "healthCheck.unHealthNum: 2", "2", |seen| {
        of_check(seen, |it| it.unhealthy_threshold)
    }),
    (
        "tcp/443",
        "healthCheck.httpCode: 31",
        "1xx, 2xx, 3xx, 4xx, 5xx",
        |seen| of_http(seen, |it| it.statuses.to_string()),
    ),
    (
        "tcp/443",
        "healthCheck.httpCheckPath",
        "/checkHealth",
        |seen| of_http(seen, |it| it.path.clone()),
    ),
    (
        "tcp/443",
        "healthCheck.httpCheckDomain",
        "sample.tencent.com",
        domain,
    ),
    (
        "tcp/443",
        "healthCheck.httpCheckMethod: HEAD",
        "HEAD",
        method,
    ),
    ("tcp/443", "scheduler: WRR", "WRR", scheduler),
    ("tcp/81", "protocol: HTTP, port: 81", "HTTP to 8080", spoken),
    ("tcp/81", "domain: \"\"", "", hosts),
    ("tcp/81", "forwardType: GRPC", "HTTP/2", forwarded),
    ("tcp/81", "healthCheck.checkType: GRPC", "GRPC", checked),
    (
        "tcp/81",
        "healthCheck.extendedCode: 0-3,12",
        "0-3, 12",
        |seen| {
            let check = seen.set.settings.health_check.as_ref();
            match check.map(|check| &check.kind) {
                Some(CheckKind::Grpc(grpc)) => grpc
                    .statuses
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                odd => format!("{odd:?}"),
            }
        },
    ),
    ("tcp/81", "scheduler: IP_HASH", "IP_HASH", scheduler),
];

const SPOKEN: &[Row] = &[
    ("tcp/8081", "protocol: [HTTP]", "HTTP to 8080", spoken),
    ("tcp/8081", "hosts", "a.tencent.com, b.tencent.com", hosts),
    ("tcp/8081", "no other host", "refused", others),
    ("tcp/8443", "protocol: [HTTPS]", "HTTPS to 8080", spoken),
    ("tcp/8443", "hosts", "a.tencent.com", hosts),
    ("tcp/8443", "hosts.tls", "1", certificates),
    ("tcp/9000", "protocol: [TCP_SSL]", "TLS to 8080", spoken),
    ("tcp/9000", "tls", "1", certificates),
    ("tcp/9001", "protocol: [TCP, UDP]", "TCP to 8080", spoken),
    ("udp/9001", "protocol: [TCP, UDP]", "UDP to 8080", spoken),
    (
        "tcp/9002",
        "a port that is not named",
        "TCP to 8080",
        spoken,
    ),
];

/// What a listener speaks, and where its Pods are spoken to.
fn spoken(seen: &Seen) -> String {
    let protocol = seen.listener.protocol().as_str_name();
    let ports = seen.set.backends.iter();
    let mut ports: Vec<_> = ports.map(|it| it.key.address.port().to_string()).collect();
    ports.dedup();
    format!("{protocol} to {}", ports.join(", "))
}

fn session(seen: &Seen) -> String {
    match seen.set.settings.affinity.as_ref().map(|it| &it.kind) {
        None => "none".to_owned(),
        Some(AffinityKind::Cookie { .. }) => "cookie".to_owned(),
        Some(_) => "client address".to_owned(),
    }
}

fn expiry(seen: &Seen) -> String {
    let affinity = seen.set.settings.affinity.as_ref();
    let timeout = affinity.and_then(|it| match &it.kind {
        AffinityKind::Cookie { timeout, .. } => *timeout,
        AffinityKind::ClientIp { .. } => Affinity::client_ip_timeout(it),
    });
    timeout.unwrap_or_default().as_secs().to_string()
}

fn of_check<T: ToString>(seen: &Seen, get: impl Fn(&HealthCheck) -> T) -> String {
    let check = seen.set.settings.health_check.as_ref();
    check.map_or_else(|| "none".to_owned(), |check| get(check).to_string())
}

fn checked(seen: &Seen) -> String {
    of_check(seen, |check| match &check.kind {
        CheckKind::Tcp => "TCP",
        CheckKind::Http(http) if http.tls => "HTTPS",
        CheckKind::Http(_) => "HTTP",
        CheckKind::Grpc(_) => "GRPC",
        CheckKind::Udp(_) => "CUSTOM",
        CheckKind::Ping => "PING",
    })
}

fn of_http(seen: &Seen, get: impl Fn(&HttpCheck) -> String) -> String {
    of_check(seen, |check| match &check.kind {
        CheckKind::Http(http) => get(http),
        odd => format!("{odd:?}"),
    })
}

fn of_udp(seen: &Seen, get: impl Fn(&UdpCheck) -> String) -> String {
    of_check(seen, |check| match &check.kind {
        CheckKind::Udp(udp) => get(udp),
        odd => format!("{odd:?}"),
    })
}

fn version(seen: &Seen) -> String {
    let word = |version| match version {
        HttpVersion::Http10 => "1.0",
        HttpVersion::Http11 => "1.1",
    };
    of_http(seen, |it| word(it.version).to_owned())
}

fn method(seen: &Seen) -> String {
    let word = |method| match method {
        HttpMethod::Get => "GET",
        HttpMethod::Head => "HEAD",
    };
    of_http(seen, |it| word(it.method).to_owned())
}

fn domain(seen: &Seen) -> String {
    of_http(seen, |it| it.host.clone().unwrap_or_default())
}

fn scheduler(seen: &Seen) -> String {
    let word = match seen.set.settings.policy {
        Policy::RoundRobin => "WRR",
        Policy::LeastConnections => "LEAST_CONN",
        Policy::Maglev(_) => "IP_HASH",
    };
    word.to_owned()
}

fn forwarded(seen: &Seen) -> String {
    let word = match seen.set.settings.http_version {
        BackendHttp::Http11 => "HTTP/1.1",
        BackendHttp::Http2 => "HTTP/2",
    };
    word.to_owned()
}

fn hosts(seen: &Seen) -> String {
    let routes = seen.listener.routes.iter();
    let hosts: Vec<_> = routes.flat_map(|route| route.hosts.clone()).collect();
    hosts.join(", ")
}

/// What becomes of requests for hosts that are none of the listener's.
fn others(seen: &Seen) -> String {
    let set = &seen.listener.backend_set;
    if set.is_empty() { "refused" } else { "taken" }.to_owned()
}

fn certificates(seen: &Seen) -> String {
    let tls = seen.listener.tls.iter();
    let count: usize = tls.map(|tls| tls.certificates.len()).sum();
    count.to_string()
}

/// The Service of a page, of our class as `podline import --write` makes it, and the object beside it.
fn put(scene: &Scene, page: &str) {
    for document in page.split("\n---\n") {
        let mut object: Value = serde_saphyr::from_str(document).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if object["kind"] == "Service" {
            object["spec"]["loadBalancerClass"] = json!("podline.io/clb");
            scene.run(|client, namespace| async move {
                objects::apply::<Service>(&client, &namespace, object).await;
            });
            continue;
        }
        let kind = GroupVersionKind::gvk(crd::GROUP, crd::VERSION, crd::KIND);
        let resource = ApiResource::from_gvk_with_plural(&kind, crd::PLURAL);
        // The kind may just be coming.
        wait::until(LONG, "the object is written", || {
            let (object, name, resource) = (object.clone(), name.clone(), resource.clone());
            scene.run(|client, namespace| async move {
                let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource);
                let params = PatchParams::apply("user").force();
                let written = api.patch(&name, &params, &Patch::Apply(&object)).await;
                written.is_ok()
            })
        });
    }
}

fn look(scene: &Scene, proxy: usize, name: &str) -> Option<Seen> {
    let state = scene.state(proxy);
    let mut listeners = state.listeners.into_iter();
    let listener = listeners.find_map(|it| it.listener.filter(|found| found.name == name))?;
    let mut sets = state.backend_sets.into_iter();
    let status = sets.find(|it| it.set.as_ref().is_some_and(|set| set.name == name))?;
    let mut set = status.set?;
    let backends = status.backends.into_iter();
    set.backends = backends.filter_map(|it| it.backend).collect();
    let set = BackendSet::try_from(set).ok()?;
    Some(Seen { listener, set })
}

/// Waits until both proxies do what every row promises; says which they do not.
fn wait_kept(scene: &Scene, service: &str, rows: &[Row]) {
    let mut told = String::new();
    wait::until(LONG, "the proxies do what the page says", || {
        let mut odd = Vec::new();
        for proxy in 0..2 {
            for (port, field, promise, read) in rows {
                let name = format!("{}/{service}/{port}", scene.namespace);
                let found = look(scene, proxy, &name);
                let found = found.map_or_else(|| "nothing".to_owned(), |seen| read(&seen));
                if found != *promise {
                    odd.push(format!("proxy {proxy}, {port}, {field}: {found}"));
                }
            }
        }
        let now = odd.join("\n");
        if now != told {
            println!("not yet:\n{now}");
            told = now;
        }
        odd.is_empty()
    });
}

#[test]
fn every_field_does_what_its_page_says() {
    let Some(scene) = Scene::set("pages") else {
        return;
    };
    allow(&scene);
    put_pair(&scene, "sample-tls", &pair("sample.tencent.com"));
    scene.run(|client, namespace| async move {
        for name in ["sample", "graceful"] {
            objects::deployment(&client, &namespace, name, 2, linger()).await;
        }
    });
    put(&scene, include_str!("../tke/service-config.yaml"));
    put(&scene, include_str!("../tke/specify-protocol.yaml"));
    put(&scene, include_str!("../tke/graceful.yaml"));
    wait_kept(&scene, "sample", OBJECT);
    wait_kept(&scene, "sample", RULES);
    wait_kept(&scene, "spoken", SPOKEN);
    // Annotation port not in spec: ignored.
    for proxy in 0..2 {
        assert!(look(&scene, proxy, "pages/spoken/tcp/99").is_none());
    }
    // What a page promises that nobody can keep here is told.
    wait::until(LONG, "it is told", || {
        let told = scene.condition("sample", "podline.io/Accepted");
        let fields = ["healthCheck.sourceIpType", "internetMaxBandwidthOut"];
        told.is_some_and(|(_, _, message)| fields.iter().all(|field| message.contains(field)))
    });
    // enable-grace-shutdown: weight 0 while it terminates, and not sooner than it is gone.
    let set = "pages/graceful/tcp/9003";
    scene.wait_backends(set, 2);
    scene.begin_scale("graceful", 1);
    wait::until(LONG, "the Pod that ends has weight 0", || {
        (0..2).all(|proxy| {
            let weights: Vec<_> = scene.backends(proxy, set).into_values().collect();
            weights.contains(&0) && weights.len() == 2
        })
    });
    wait::until(LONG, "it is gone", || {
        (0..2).all(|proxy| scene.backends(proxy, set).len() == 1)
    });
    scene.wait_backends(set, 1);
}

/// Pods that serve on until their grace period is over.
fn linger() -> Value {
    json!({"kubelab.podline.io/on-term": "linger"})
}
