//! Annotations that do nothing here, where their owner has to know.

use super::*;
use crate::build::annotation::CREATION;

#[test]
fn what_a_load_balancer_would_be_made_with_is_taken_as_far_as_it_goes() {
    let options = Options {
        pool: Some("203.0.113.1-203.0.113.9".parse().unwrap()),
        ..Options::default()
    };
    let asked = r#"{"Vip":"203.0.113.7","AddressIPVersion":"IPv6FullChain","VipIsp":"CTCC"}"#;
    let plan = planned_with(&options, |web| annotate(web, CREATION, asked));
    assert_eq!(plan.addresses, [ip("203.0.113.7")]);
    assert_eq!(reasons(&plan), ["AnnotationIgnored"]);
    assert!(plan.notes[0].message.contains("spec.ipFamilies"));
    let plan = planned_with(&options, |web| {
        annotate(web, CREATION, asked);
        annotate(web, "podline.io/load-balancer-ips", "203.0.113.8");
        web.families.push(Family::V6);
    });
    assert_eq!(plan.addresses, [ip("203.0.113.8")], "that counts more");
    assert_eq!(reasons(&plan), ["NoAddress"], "the pool has no IPv6");
}
