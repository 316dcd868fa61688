//! Every annotation does what the table says of it, and is explained where that is not what its owner may expect.

use super::*;
use crate::build::annotation::{Effect, Read, TABLE};
use crate::build::explain::{Origin, values};

/// Where an annotation shows that it was read.
enum Shows {
    /// In what the Service becomes.
    InPlan,
    /// In what others make of it: webhooks, the pool, other Services, the switches.
    InSettings,
    /// Nowhere: it is so whatever it says.
    Nowhere,
}

/// A value of every annotation that is honoured or approximated, and a Service that it is for.
type Example = (&'static str, &'static str, fn(&mut Service), Shows);

fn to_pods(_: &mut Service) {}

fn through_node_ports(web: &mut Service) {
    annotate(web, DIRECT_ACCESS, "false");
    web.is_local = true;
}

fn of_udp(web: &mut Service) {
    web.ports[0].protocol = Transport::Udp;
}

const EXAMPLES: &[Example] = &[
    (DIRECT_ACCESS, "false", to_pods, Shows::InPlan),
    (
        "service.kubernetes.io/local-svc-only-bind-node-with-pod",
        "true",
        through_node_ports,
        Shows::Nowhere,
    ),
    (
        "service.cloud.tencent.com/local-svc-only-bind-node-with-pod",
        "true",
        through_node_ports,
        Shows::Nowhere,
    ),
    (
        "service.cloud.tencent.com/local-svc-weighted-balance",
        "true",
        through_node_ports,
        Shows::InPlan,
    ),
    (SELECTOR, "role=edge", through_node_ports, Shows::InPlan),
    (
        "service.cloud.tencent.com/enable-grace-shutdown",
        "true",
        to_pods,
        Shows::Nowhere,
    ),
    (
        "service.cloud.tencent.com/enable-grace-shutdown-tkex",
        "true",
        to_pods,
        Shows::Nowhere,
    ),
    (
        "service.cloud.tencent.com/enable-grace-deletion",
        "false",
        to_pods,
        Shows::InSettings,
    ),
    (
        "podline.io/pre-stop-sleep",
        "5s",
        to_pods,
        Shows::InSettings,
    ),
    (
        "podline.io/load-balancer-ips",
        "203.0.113.7",
        to_pods,
        Shows::InPlan,
    ),
    (
        "podline.io/share-vip-with",
        "other",
        to_pods,
        Shows::InSettings,
    ),
    (
        "service.cloud.tencent.com/security-groups",
        "sg-office",
        to_pods,
        Shows::InSettings,
    ),
    (
        "service.cloud.tencent.com/pass-to-target",
        "true",
        to_pods,
        Shows::Nowhere,
    ),
    ("podline.io/source-address", "snat", to_pods, Shows::InPlan),
    ("podline.io/proxy-protocol", "v2", to_pods, Shows::InPlan),
    (
        "podline.io/proxy-protocol-from",
        "10.0.0.0/8",
        to_pods,
        Shows::InPlan,
    ),
    (
        "podline.io/udp-check",
        "PING => PONG",
        of_udp,
        Shows::InPlan,
    ),
    (
        "service.cloud.tencent.com/specify-protocol",
        r#"{"80":{"protocol":["HTTP"]}}"#,
        to_pods,
        Shows::InPlan,
    ),
    (
        "service.cloud.tencent.com/tke-service-config",
        "shop",
        to_pods,
        Shows::InSettings,
    ),
    (
        "service.cloud.tencent.com/tke-service-config-auto",
        "true",
        to_pods,
        Shows::InSettings,
    ),
    (
        "service.cloud.tencent.com/lb-rs-weight",
        r#"{"defaultWeight":20}"#,
        to_pods,
        Shows::InPlan,
    ),
    (
        "service.cloud.tencent.com/mode",
        "skip",
        to_pods,
        Shows::InPlan,
    ),
    (
        "service.kubernetes.io/tke-existed-lbid",
        "lb-6swtxxxx",
        to_pods,
        Shows::InSettings,
    ),
    (
        "service.kubernetes.io/service.extensiveParameters",
        r#"{"Vip":"203.0.113.7"}"#,
        to_pods,
        Shows::InPlan,
    ),
    (
        "service.cloud.tencent.com/prevent-loopback",
        "true",
        to_pods,
        Shows::Nowhere,
    ),
    (
        "service.cloud.tencent.com/modification-protection",
        "true",
        to_pods,
        Shows::Nowhere,
    ),
];

/// What a Service becomes beside a pool, without what is told of it, and how it is explained.
fn becomes(web: &Service) -> (Plan, Vec<(&'static str, String, Origin)>) {
    let options = Options {
        pool: Some("203.0.113.1-203.0.113.9".parse().unwrap()),
        ..Options::default()
    };
    let mut checked = cluster(options);
    put(&mut checked, web);
    let plan = plan_of(&checked, "default/web");
    let entry = checked.cluster.service(&web.key).unwrap();
    let explained = values(&checked.cluster, checked.builder.options(), entry, &plan);
    let plan = Plan {
        notes: Vec::new(),
        ..(*plan).clone()
    };
    (plan, explained)
}

#[test]
fn every_annotation_does_what_the_table_says() {
    for annotation in TABLE {
        let key = annotation.key;
        let example = EXAMPLES.iter().find(|(of, ..)| *of == key);
        let does_something = matches!(annotation.effect, Effect::Honoured | Effect::Approximated);
        assert_eq!(example.is_some(), does_something, "{key} and its example");
        let (value, shape, shows) = match example {
            Some((_, value, shape, shows)) => (*value, *shape, shows),
            None => ("anything", to_pods as fn(&mut Service), &Shows::Nowhere),
        };
        let mut without = service("default/web");
        shape(&mut without);
        let mut with = without.clone();
        annotate(&mut with, key, value);
        let read = Read::of(&with, None);
        assert_eq!(read.problems, [], "{key}");
        let (before, _) = becomes(&without);
        let (after, explained) = becomes(&with);
        match shows {
            Shows::InPlan => assert_ne!(before, after, "{key}"),
            Shows::InSettings => assert_ne!(read.settings, Read::of(&without, None).settings),
            Shows::Nowhere => assert_eq!(before, after, "{key}"),
        }
        let origin = Origin::Annotation(key);
        let word = match annotation.effect {
            Effect::Approximated => "approximated",
            Effect::Ignored => "ignored",
            Effect::Honoured | Effect::Written => continue,
        };
        let about = annotation.about.to_owned();
        assert!(explained.contains(&(word, about, origin)), "{explained:?}");
    }
}

#[test]
fn what_counts_is_explained_with_who_set_it() {
    let told = |change: &dyn Fn(&mut Service), name: &str| {
        let mut web = service("default/web");
        change(&mut web);
        let (_, explained) = becomes(&web);
        let found = explained.into_iter().find(|(of, ..)| *of == name);
        found.map(|(_, value, _)| value)
    };
    let weights = |web: &mut Service| {
        let weights = r#"{"defaultWeight":20}"#;
        annotate(web, "service.cloud.tencent.com/lb-rs-weight", weights);
    };
    assert_eq!(told(&weights, "weights").as_deref(), Some("20"));
    let skip = |web: &mut Service| annotate(web, "service.cloud.tencent.com/mode", "skip");
    let kept = "no: what stands stays as it was";
    assert_eq!(told(&skip, "kept up to date").as_deref(), Some(kept));
    let made = |web: &mut Service| {
        let text = r#"{"LoadBalancerName":"shop","VipIsp":"CTCC"}"#;
        annotate(
            web,
            "service.kubernetes.io/service.extensiveParameters",
            text,
        );
    };
    assert_eq!(told(&made, "name").as_deref(), Some("shop"));
    assert_eq!(told(&made, "ignored fields").as_deref(), Some("VipIsp"));
    let id = told(&|_| {}, "load balancer").unwrap();
    assert!(id.starts_with("lb-"), "{id}");
}
