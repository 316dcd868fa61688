//! What an Ingress becomes, as its owner sees it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod configs;
mod skipped;
mod weights;

use std::sync::Arc;

use super::*;
use crate::build::annotation::ingress::{CREATION, DIRECT_ACCESS, SECURITY_GROUPS};
use crate::build::tests::checked::Checked;
use crate::build::{Plan, Standing};
use crate::cluster::Switches;
use crate::cluster::service::FINALIZER;
use crate::cluster::testing::{
    endpoint, ingress, key, node, pod, rule, service, slice, tls_secret,
};
use crate::cluster::{AppProtocol, Change};
use podline_api::{CheckKind, PathMatch};

/// A cluster with the Services web and api, which are nobody's load balancers, a Pod behind each, and a node.
fn cluster(options: Options) -> Checked {
    let mut checked = Checked::new(options);
    let of_node = node("node-1", "192.0.2.1");
    checked.change(Change::Node(of_node.name.clone(), Some(of_node)));
    for (name, address) in [("default/web", "10.0.0.1"), ("default/api", "10.0.0.2")] {
        let pod = pod(name, address);
        let slice = slice(&format!("{}-1", pod.key.name), name, vec![endpoint(&pod)]);
        checked.change(Change::Pod(pod.key.clone(), Some(pod)));
        checked.change(Change::Slice(slice.key.clone(), Some(slice)));
        put_service(&mut checked, name, |service| {
            service.is_load_balancer = false;
        });
    }
    checked
}

fn put_service(checked: &mut Checked, name: &str, change: impl Fn(&mut Service)) {
    let mut made = service(name);
    change(&mut made);
    checked.change(Change::Service(made.key.clone(), Some(Box::new(made))));
}

fn put(checked: &mut Checked, name: &str, change: impl Fn(&mut Ingress)) {
    let mut made = ingress(name);
    change(&mut made);
    checked.change(Change::Ingress(made.key.clone(), Some(Box::new(made))));
}

fn plan_of(checked: &Checked, name: &str) -> Arc<Plan> {
    match checked.builder.ingresses().get(&key(name)) {
        Some(Standing::Ours(plan)) => Arc::clone(plan),
        other => panic!("{name}: {other:?}"),
    }
}

fn planned(change: impl Fn(&mut Ingress)) -> (Checked, Arc<Plan>) {
    let mut checked = cluster(Options::default());
    put(&mut checked, "default/site", change);
    let plan = plan_of(&checked, "default/site");
    (checked, plan)
}

fn reasons(plan: &Plan) -> Vec<&'static str> {
    plan.notes.iter().map(|note| note.reason.as_str()).collect()
}

/// Where each route of a listener leads, and the rest.
fn routes(plan: &Plan, listener: &str) -> Vec<String> {
    let listener = plan
        .listeners
        .iter()
        .find(|it| it.name.as_str() == listener);
    let listener = listener.unwrap();
    let routes = listener.http.as_ref().unwrap().routes.iter();
    let shown = routes.map(|route| {
        let path = match &route.path {
            PathMatch::Exact(path) => format!("={path}"),
            PathMatch::Prefix(path) => path.clone(),
        };
        let to = match &route.action {
            RouteAction::Forward(set) => set.to_string(),
            RouteAction::Redirect(to) => to.scheme.clone().unwrap_or_default(),
        };
        format!("{}{path} {to}", route.hosts.join(","))
    });
    let rest = listener.backend_set.iter().map(|set| format!("else {set}"));
    shown.chain(rest).collect()
}

fn backends(plan: &Plan, set: &str) -> Vec<String> {
    let set = plan.sets.iter().find(|it| it.name.as_str() == set).unwrap();
    let backends = set.backends.iter();
    backends.map(|it| it.key.address.to_string()).collect()
}

const WEB: &str = "default/site/ingress/web/80";
const API: &str = "default/site/ingress/api/80";

#[test]
fn rules_become_routes_and_service_ports_sets() {
    let (_, plan) = planned(|ingress| {
        ingress.rules = vec![
            rule("a.example", "/", "web"),
            rule("a.example", "/api", "api"),
            rule("*.b.example", "/", "web"),
        ];
        ingress.rules[1].is_exact = true;
        ingress.default_backend = Some(ingress.rules[1].backend.clone());
    });
    assert_eq!(reasons(&plan), [""; 0]);
    let expected = [
        format!("a.example/ {WEB}"),
        format!("a.example=/api {API}"),
        format!("*.b.example/ {WEB}"),
        format!("else {API}"),
    ];
    assert_eq!(routes(&plan, "default/site/http/80"), expected);
    assert_eq!(plan.sets.len(), 2, "one for each Service port");
    assert_eq!(backends(&plan, WEB), ["10.0.0.1:8080"]);
    assert_eq!(backends(&plan, API), ["10.0.0.2:8080"]);
    let listener = &plan.listeners[0];
    assert_eq!(listener.address.to_string(), "0.0.0.0:80");
    assert_eq!(listener.source_address, SourceAddress::Snat);
    let check = plan.sets[0].settings.health_check.clone().unwrap();
    let CheckKind::Http(http) = check.kind else {
        panic!("{check:?}");
    };
    assert_eq!((http.path.as_str(), http.tls), ("/", false));
    assert!(http.statuses.contains(404));
    assert_eq!(plan.behind.len(), 2);
}

#[test]
fn node_ports_are_connected_to_unless_it_asks_for_pods() {
    let mut checked = cluster(Options::default());
    put(&mut checked, "default/site", |ingress| {
        ingress.annotations.clear();
    });
    let plan = plan_of(&checked, "default/site");
    assert_eq!(reasons(&plan), ["NodePortMode"]);
    assert!(plan.notes[0].message.contains(DIRECT_ACCESS), "{plan:?}");
    let set = format!("{WEB}/nodeport");
    assert_eq!(backends(&plan, &set), ["192.0.2.1:30080"]);
    put_service(&mut checked, "default/web", |service| {
        service.is_load_balancer = false;
        service.ports[0].node_port = None;
    });
    let plan = plan_of(&checked, "default/site");
    assert_eq!(reasons(&plan), ["NodePortMode", "NoNodePort"]);
    assert_eq!(backends(&plan, &set), [""; 0], "answered with 503");
    let direct = Options {
        default_direct: true,
        ..Options::default()
    };
    let mut checked = cluster(direct);
    put(&mut checked, "default/site", |ingress| {
        ingress.annotations.clear();
    });
    assert_eq!(plan_of(&checked, "default/site").mode, Mode::Direct);
}

#[test]
fn classes_and_finalizers_say_whose_it_is() {
    let standing = |change: &dyn Fn(&mut Ingress)| {
        let mut checked = cluster(Options::default());
        put(&mut checked, "default/site", change);
        match checked.builder.ingresses().get(&key("default/site")) {
            Some(Standing::Ours(_)) => "ours",
            Some(Standing::Leaving) => "leaving",
            Some(Standing::Other(_)) => "another's",
            None => "none",
        }
    };
    let class = |text: &str| Some(text.to_owned());
    assert_eq!(standing(&|it| it.class = class("qcloud")), "ours");
    assert_eq!(standing(&|it| it.class = class("nginx")), "none");
    assert_eq!(standing(&|it| it.class = None), "none");
    assert_eq!(standing(&|it| it.is_deleting = true), "none");
    let held = |it: &mut Ingress| it.finalizers.push(FINALIZER.to_owned());
    assert_eq!(
        standing(&|it| (held(it), it.class = class("nginx")).1),
        "leaving"
    );
    assert_eq!(
        standing(&|it| (held(it), it.is_deleting = true).1),
        "leaving"
    );
}

#[test]
fn https_shows_the_secrets_and_http_redirects_to_it() {
    let mut checked = cluster(Options::default());
    let with_tls = |ingress: &mut Ingress| {
        ingress.has_tls = true;
        ingress.secrets = vec!["s".into()];
        let auto = "ingress.cloud.tencent.com/auto-rewrite".to_owned();
        ingress.annotations.insert(auto, "true".to_owned());
    };
    put(&mut checked, "default/site", with_tls);
    assert!(plan_of(&checked, "default/site").is_early);
    let change = Change::Secret(key("default/s"), Some(tls_secret("a.example")));
    checked.change(change);
    let plan = plan_of(&checked, "default/site");
    assert_eq!(reasons(&plan), [""; 0]);
    assert_eq!(routes(&plan, "default/site/http/80"), ["/ https"]);
    assert_eq!(
        routes(&plan, "default/site/https/443"),
        [format!("/ {WEB}")]
    );
    let tls = plan.listeners[1].tls.as_ref().unwrap();
    assert_eq!((tls.certificates.len(), tls.http2), (1, true));
    // A Secret that goes takes nothing away.
    let gone = crate::cluster::TlsSecret::Absent;
    checked.change(Change::Secret(key("default/s"), Some(gone)));
    let plan = plan_of(&checked, "default/site");
    assert_eq!(reasons(&plan), ["TlsSecretMissing"]);
    assert_eq!(plan.listeners.len(), 2);
    put(&mut checked, "default/site", |ingress| {
        ingress.has_tls = true;
    });
    let plan = plan_of(&checked, "default/site");
    assert_eq!(plan.ports[0].error, Some(Reason::TlsSecretMissing));
    assert!(plan.listeners.is_empty(), "nobody asks for TLS in vain");
}

#[test]
fn who_cannot_answer_is_a_set_of_nobody() {
    let (mut checked, plan) = planned(|ingress| {
        ingress.rules = vec![
            rule("", "/none", "none"),
            rule("", "/port", "web"),
            rule("", "/icons", "web"),
        ];
        ingress.rules[1].backend = Backend::Service("web".into(), PortName::Name("x".into()));
        ingress.rules[2].backend = Backend::Resource("Bucket icons".to_owned());
    });
    assert_eq!(
        reasons(&plan),
        ["RuleRefused", "ServiceMissing", "ServiceMissing"]
    );
    let nobody = [
        "/none default/site/ingress/none/80",
        "/port default/site/ingress/web/x",
        "/icons default/site/ingress/resource",
    ];
    assert_eq!(routes(&plan, "default/site/http/80"), nobody);
    assert!(plan.sets.iter().all(|set| set.backends.is_empty()));
    // The Service comes, and is answered for without the Ingress being touched.
    put_service(&mut checked, "default/none", |service| {
        service.is_load_balancer = false;
    });
    assert_eq!(
        reasons(&plan_of(&checked, "default/site")),
        ["RuleRefused", "ServiceMissing"]
    );
}

#[test]
fn the_port_of_a_service_says_what_its_pods_speak() {
    let mut checked = cluster(Options::default());
    put(&mut checked, "default/site", |_| {});
    for (spoken, is_http2, is_tls, is_connected) in [
        (AppProtocol::H2c, true, false, true),
        (AppProtocol::Https, false, true, false),
    ] {
        put_service(&mut checked, "default/web", |service| {
            service.is_load_balancer = false;
            service.ports[0].app_protocol = Some(spoken);
        });
        let plan = plan_of(&checked, "default/site");
        let settings = &plan.sets[0].settings;
        assert_eq!(
            settings.http_version == podline_api::BackendHttp::Http2,
            is_http2
        );
        assert_eq!(settings.tls.is_some(), is_tls);
        let kind = &settings.health_check.as_ref().unwrap().kind;
        assert_eq!(*kind == CheckKind::Tcp, is_connected);
    }
}

#[test]
fn the_oldest_has_the_ports_of_the_hosts_and_a_pool_gives_each_its_address() {
    let both = |checked: &mut Checked| {
        put_service(checked, "default/web", |service| service.created = 900);
        put(checked, "default/site", |_| {});
        put(checked, "default/late", |ingress| ingress.created = 1_001);
    };
    let mut checked = cluster(Options::default());
    both(&mut checked);
    for (name, holder) in [
        ("default/site", "Service default/web"),
        ("default/late", "Service default/web"),
    ] {
        let plan = plan_of(&checked, name);
        assert_eq!(plan.ports[0].error, Some(Reason::PortConflict), "{name}");
        let message = format!("port 80/TCP belongs to {holder}");
        assert_eq!(plan.notes[0].message, message);
    }
    checked.change(Change::Service(key("default/web"), None));
    let message = "port 80/TCP belongs to Ingress default/site";
    assert_eq!(plan_of(&checked, "default/late").notes[0].message, message);
    let pool = Options {
        pool: Some("203.0.113.1-203.0.113.9".parse().unwrap()),
        ..Options::default()
    };
    let mut checked = cluster(pool);
    both(&mut checked);
    let listeners = checked.builder.snapshot().listeners.values();
    let addresses: BTreeSet<_> = listeners.map(|it| it.address).collect();
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    for name in ["default/site", "default/late"] {
        assert_eq!(reasons(&plan_of(&checked, name)), [""; 0]);
    }
}

#[test]
fn ports_that_the_hosts_need_are_not_taken() {
    let options = Options {
        reserved_ports: [80].into(),
        ..Options::default()
    };
    let mut checked = cluster(options);
    put(&mut checked, "default/site", |_| {});
    let plan = plan_of(&checked, "default/site");
    assert_eq!(plan.ports[0].error, Some(Reason::ReservedPort));
    assert!(plan.listeners.is_empty());
}

#[test]
fn both_families_are_listened_in_and_one_that_a_service_lacks_is_led_to_the_other() {
    let mut checked = cluster(Options::default());
    put_service(&mut checked, "default/web", |service| {
        service.families = vec![Family::V4, Family::V6];
    });
    put(&mut checked, "default/site", |ingress| {
        ingress.rules.push(rule("", "/api", "api"));
        let ports = "ingress.cloud.tencent.com/listen-ports".to_owned();
        ingress
            .annotations
            .insert(ports, "[{\"HTTP\":8081}]".to_owned());
    });
    let plan = plan_of(&checked, "default/site");
    let expected = [format!("/ {WEB}/ipv6"), format!("/api {API}")];
    assert_eq!(routes(&plan, "default/site/http/8081/ipv6"), expected);
    assert_eq!(plan.sets.len(), 3);
}

#[test]
fn rules_whose_settings_differ_are_told_apart() {
    let at = |host, path| At {
        protocol: Protocol::Http,
        port: 80,
        host,
        path,
    };
    let marks = [at("a", "/b"), at("a", "/c"), at("b", "/b")].map(|at| at.mark());
    assert!(marks.iter().all(|mark| mark.len() == 16));
    assert_eq!(BTreeSet::from(marks).len(), 3);
}

#[test]
fn what_a_cloud_would_be_told_counts_where_it_can_and_is_told_where_not() {
    let annotate = |ingress: &mut Ingress, key: &str, value: &str| {
        ingress.annotations.insert(key.to_owned(), value.to_owned());
    };
    let pool = Options {
        pool: Some("203.0.113.1-203.0.113.9".parse().unwrap()),
        ..Options::default()
    };
    let mut checked = cluster(pool);
    put(&mut checked, "default/site", |ingress| {
        annotate(
            ingress,
            CREATION,
            r#"{"Vip":"203.0.113.7","AddressIPVersion":"IPV6"}"#,
        );
        annotate(ingress, SECURITY_GROUPS, "sg-1");
    });
    let plan = plan_of(&checked, "default/site");
    assert_eq!(plan.addresses[0].to_string(), "203.0.113.7");
    assert_eq!(reasons(&plan), ["AnnotationIgnored", "AnnotationIgnored"]);
    let words = plan
        .notes
        .iter()
        .map(ToString::to_string)
        .collect::<String>();
    assert!(
        words.contains(CREATION) && words.contains(SECURITY_GROUPS),
        "{words}"
    );
}

#[test]
fn security_groups_let_in_whom_the_cluster_says() {
    let mut checked = cluster(Options::default());
    let office = ("sg-office".to_owned(), vec!["10.0.0.0/8".to_owned()]);
    checked.change(Change::Switches(Switches {
        groups: [office].into(),
        ..Switches::default()
    }));
    for (named, lets_in, told) in [
        ("sg-office", "10.0.0.0/8", &[][..]),
        ("sg-x", "0.0.0.0/32", &["SecurityGroupUnknown"]),
    ] {
        put(&mut checked, "default/site", |ingress| {
            let named = named.to_owned();
            ingress
                .annotations
                .insert(SECURITY_GROUPS.to_owned(), named);
        });
        let plan = plan_of(&checked, "default/site");
        let ranges = &plan.listeners[0].limits.source_ranges;
        let ranges: Vec<_> = ranges.iter().map(ToString::to_string).collect();
        assert_eq!(ranges, [lets_in]);
        assert_eq!(reasons(&plan), told);
    }
}
