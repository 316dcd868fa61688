//! What cannot be read or named: it is told, and nothing else suffers.

use super::*;

#[test]
fn an_annotation_that_cannot_be_read_leaves_what_it_said() {
    let mut checked = cluster(Options::default());
    let mut web = service("default/web");
    put(&mut checked, &web);
    annotate(&mut web, DIRECT_ACCESS, "flase");
    put(&mut checked, &web);
    let plan = plan_of(&checked, "default/web");
    assert_eq!(
        (plan.mode, reasons(&plan)),
        (Mode::Direct, vec!["InvalidAnnotation"])
    );
    let expected = format!(
        "{DIRECT_ACCESS}: \"flase\" is neither \"true\" nor \"false\"; the last readable value stays"
    );
    assert_eq!(plan.notes[0].message, expected);
    assert_eq!(
        plan.last_good.as_deref(),
        Some("{\"service.cloud.tencent.com/direct-access\":\"true\"}")
    );
    // Made again under the same name, it has said nothing readable yet.
    put(
        &mut checked,
        &Service {
            uid: "another".into(),
            ..web.clone()
        },
    );
    assert_eq!(plan_of(&checked, "default/web").mode, Mode::NodePort);
}

#[test]
fn a_long_annotation_is_not_read_in_part() {
    // Every beginning of it is a selector of its own, that says less.
    let long = "role=edge,".repeat(10 << 10);
    assert!(long.len() >= 100 << 10);
    let object = serde_json::json!({
        "metadata": {"namespace": "default", "name": "web", "annotations": {
            SELECTOR: format!("{long}role=edge"),
            "example.com/other": "not for us",
        }},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "podline.io/clb",
            "ports": [{"port": 80, "nodePort": 30080}]},
    });
    let web = Service::read(&serde_json::from_value(object).unwrap()).unwrap();
    assert!(web.annotations[SELECTOR].len() < MAX_VALUE_BYTES + 8);
    assert_eq!(web.annotations.len(), 1);
    let mut checked = cluster(Options::default());
    put(&mut checked, &web);
    let plan = plan_of(&checked, "default/web");
    assert_eq!(addresses(&plan.sets[0]), NODES, "no selector: all nodes");
    assert_eq!(reasons(&plan), ["NodePortMode", "InvalidAnnotation"]);
    assert!(
        plan.notes[1].message.contains("longer than 16384 bytes"),
        "{:?}",
        plan.notes
    );
    assert!(plan.notes[1].message.len() < 300);
    // Exactly as long as it may be.
    let fits = format!("{}role=edge", "role=edge,".repeat(1_637));
    let fits = format!("{}{fits}", "k,".repeat((MAX_VALUE_BYTES - fits.len()) / 2));
    let mut web = web;
    annotate(&mut web, SELECTOR, &fits);
    put(&mut checked, &web);
    assert_eq!(reasons(&plan_of(&checked, "default/web")), ["NodePortMode"]);
}

#[test]
fn one_bad_slice_does_not_fill_the_notes() {
    let mut checked = cluster(Options::default());
    put(&mut checked, &service("default/web"));
    let bad = (0..250).map(|n| crate::cluster::testing::bare(&format!("127.0.0.{n}")));
    let slice = slice("web-bad", "default/web", bad.collect());
    checked.change(Change::Slice(slice.key.clone(), Some(slice)));
    let plan = plan_of(&checked, "default/web");
    assert_eq!(reasons(&plan), ["EndpointRefused"; 3]);
    assert_eq!(addresses(&plan.sets[0]), PODS);
}

#[test]
fn a_thousand_wrong_ports_fit_a_condition() {
    let plan = planned(|service| {
        let sctp = |number| ServicePort {
            protocol: Transport::Sctp,
            ..port(&format!("p{number}"), number)
        };
        service.ports = (1_000..2_000).map(sctp).collect();
    });
    let told: Vec<_> = plan.notes.iter().map(ToString::to_string).collect();
    let of_sctp: Vec<_> = told
        .iter()
        .filter(|text| text.starts_with("SCTP"))
        .collect();
    assert_eq!(of_sctp.len(), 16);
    assert_eq!(of_sctp[15], "SCTPNotSupported: there are more");
    let wrong = |port: &&PortOutcome| port.error == Some(Reason::SCTPNotSupported);
    assert_eq!(plan.ports.iter().filter(wrong).count(), 1_000);
}

#[test]
fn what_cannot_be_named_is_refused_by_itself() {
    let plan = planned(|service| service.ports = vec![port("", 80)]);
    assert_eq!(plan.ports[0].error, None);
    let mut checked = cluster(Options::default());
    let long = service(&format!("default/{}", "x".repeat(300)));
    put(&mut checked, &long);
    put(
        &mut checked,
        &Service {
            ports: vec![port("", 81)],
            ..service("default/web")
        },
    );
    let plan = plan_of(&checked, &long.key.to_string());
    assert!(plan.listeners.is_empty() && plan.ports[0].error.is_some());
    assert_eq!(plan_of(&checked, "default/web").listeners.len(), 1);
}
