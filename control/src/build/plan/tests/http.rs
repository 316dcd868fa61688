//! TCP ports that are read as HTTP.

use super::*;
use podline_api::{PathMatch, RouteAction};

const SPECIFY: &str = "service.cloud.tencent.com/specify-protocol";

#[test]
fn a_port_that_is_said_to_be_http_is_read() {
    let said = r#"{"80":{"protocol":["HTTP"]},"443":{"protocol":["HTTP"]}}"#;
    let plan = with_udp(|service| annotate(service, SPECIFY, said));
    assert_eq!(reasons(&plan), [""; 0]);
    let [http, udp] = &*plan.listeners else {
        panic!("{:?}", plan.listeners);
    };
    assert_eq!(
        (http.protocol, udp.protocol),
        (Protocol::Http, Protocol::Udp)
    );
    assert_eq!(http.name.as_str(), "default/web/tcp/80");
    assert_eq!(http.backend_set.as_ref(), Some(&plan.sets[0].name));
    assert_eq!(http.source_address, SourceAddress::Snat);
    assert_eq!(udp.source_address, SourceAddress::PreferTransparent);
    assert_eq!(addresses(&plan.sets[0]), PODS);
}

#[test]
fn named_hosts_alone_are_served() {
    let said = r#"{"80":{"protocol":["HTTP"],"hosts":{"a.example":{},"b.example":{}}}}"#;
    let plan = with_udp(|service| {
        annotate(service, SPECIFY, said);
        annotate(service, "podline.io/source-address", "prefer-transparent");
    });
    let listener = &plan.listeners[0];
    assert_eq!(listener.backend_set, None);
    let [route] = &listener.http.as_ref().unwrap().routes[..] else {
        panic!("{listener:?}");
    };
    assert_eq!(route.hosts, ["a.example", "b.example"]);
    assert_eq!(route.path, PathMatch::Prefix("/".to_owned()));
    assert_eq!(
        route.action,
        RouteAction::Forward(plan.sets[0].name.clone())
    );
    assert_eq!(listener.source_address, SourceAddress::PreferTransparent);
}

#[test]
fn what_is_not_there_yet_leaves_the_port_as_it_is() {
    let said = r#"{"80":{"protocol":["QUIC"],"tls":"secret"}}"#;
    let plan = with_udp(|service| annotate(service, SPECIFY, said));
    assert_eq!(reasons(&plan), ["InvalidAnnotation"]);
    assert_eq!(plan.listeners[0].protocol, Protocol::Tcp);
}
