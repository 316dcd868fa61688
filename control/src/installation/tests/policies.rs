//! Who may connect to Podline's own Pods.

use super::*;
use k8s_openapi::api::networking::v1::NetworkPolicy;

#[test]
fn policies_leave_open_what_is_listened_at() {
    let policies = of_kind::<NetworkPolicy>("NetworkPolicy");
    let expected = [
        (
            CONTROL,
            vec![
                (port::CONTROL_WEBHOOK, "TCP", false),
                (port::CONTROL_ADMIN, "TCP", true),
            ],
        ),
        (
            RESPONDER,
            vec![
                (port::RESPONDER, "TCP", false),
                (port::RESPONDER, "UDP", false),
            ],
        ),
    ];
    assert_eq!(policies.len(), expected.len());
    for (policy, (name, open)) in policies.into_iter().zip(expected) {
        assert_eq!(policy.metadata.name.as_deref(), Some(name));
        let spec = policy.spec.unwrap();
        let selected = spec.pod_selector.unwrap().match_labels;
        assert_eq!(json!(selected), json!({(NAME_LABEL): name}));
        // What they may connect to is nobody's business here.
        assert_eq!(spec.policy_types.unwrap(), ["Ingress"]);
        let mut found = Vec::new();
        for rule in spec.ingress.unwrap() {
            // From Pods alone; the API server is none, nor are proxies.
            let is_bounded = rule.from.is_some();
            for port in rule.ports.unwrap() {
                let Some(Int(number)) = port.port else {
                    panic!("a port by number")
                };
                let number = u16::try_from(number).unwrap();
                found.push((number, port.protocol.unwrap(), is_bounded));
            }
        }
        let expected: Vec<_> = open
            .into_iter()
            .map(|(port, protocol, bounded)| (port, protocol.to_owned(), bounded))
            .collect();
        assert_eq!(found, expected, "{name}");
    }
}
