//! Ports of UDP, beside those of TCP.

use super::*;

#[test]
fn tcp_and_udp_of_one_number_are_two_listeners_and_two_sets() {
    let plan = with_udp(|service| service.affinity = Some(std::time::Duration::from_mins(10)));
    assert_eq!(reasons(&plan), [""; 0]);
    let [tcp, udp] = &*plan.listeners else {
        panic!("{:?}", plan.listeners);
    };
    assert_eq!((tcp.protocol, udp.protocol), (Protocol::Tcp, Protocol::Udp));
    assert_eq!(udp.name.as_str(), "default/web/udp/80");
    assert_eq!(
        (tcp.address, udp.backend_set.as_ref()),
        (udp.address, Some(&udp.name))
    );
    let minutes = std::time::Duration::from_mins;
    assert_eq!(
        (tcp.idle_timeout, udp.idle_timeout),
        (minutes(15), minutes(1))
    );
    let [of_tcp, of_udp] = &*plan.sets else {
        panic!("{:?}", plan.sets);
    };
    assert_eq!(addresses(of_tcp), PODS);
    assert_eq!(addresses(of_udp), ["10.0.0.1:8053", "10.0.0.2:8053"]);
    // One client has one Pod over both.
    let affinity = of_udp.settings.affinity.clone().unwrap();
    assert_eq!(affinity.group, Some("uid-default/web".parse().unwrap()));
    assert_eq!(of_tcp.settings.affinity, Some(affinity));
    let kind = |set: &BackendSet| set.settings.health_check.clone().unwrap().kind;
    assert_eq!(
        (kind(of_tcp), kind(of_udp)),
        (CheckKind::Tcp, CheckKind::Ping)
    );
}

#[test]
fn udp_ports_are_asked_what_their_owner_says() {
    let plan = with_udp(|service| annotate(service, "podline.io/udp-check", "PING => hex:504f"));
    let kind = |n: usize| plan.sets[n].settings.health_check.clone().unwrap().kind;
    let asked = podline_api::UdpCheck {
        send: b"PING".to_vec(),
        expect: Some(b"PO".to_vec()),
    };
    assert_eq!((kind(0), kind(1)), (CheckKind::Tcp, CheckKind::Udp(asked)));
}

#[test]
fn udp_goes_through_node_ports_too() {
    let through = |service: &mut Service| annotate(service, DIRECT_ACCESS, "false");
    let check = |plan: &Plan, nodes: &[&str]| {
        let set = &plan.sets[1];
        assert_eq!(set.name.as_str(), "default/web/udp/80/nodeport");
        assert_eq!(addresses(set), nodes);
        set.settings.health_check.clone().unwrap()
    };
    assert_eq!(check(&with_udp(through), &NODES).kind, CheckKind::Ping);
    let local = with_udp(|service| {
        through(service);
        service.is_local = true;
        service.health_check_node_port = Some(32_000);
    });
    let asked = check(&local, &NODES[..1]);
    assert!(matches!(asked.kind, CheckKind::Http(_)), "{asked:?}");
    assert_eq!(asked.port, Some(32_000));
}
