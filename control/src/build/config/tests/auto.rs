//! Objects that are made for Services.

use serde_json::json;

use super::*;
use crate::cluster::ServiceConfig;

/// What is to be written, if anything.
fn write(world: &World) -> Option<super::super::auto::Write> {
    world.plan().config.auto.as_deref().cloned()
}

/// The object is as it was written, and somebody changed it.
fn put(world: &mut World, object: &Value) {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = json!("7");
    let object = serde_json::from_value(object).unwrap();
    let config = ServiceConfig::read(&object).unwrap();
    let change = Change::ServiceConfig(config.key.clone(), Some(Box::new(config)));
    world.checked.change(change);
}

fn world() -> World {
    let mut world = World::new();
    world.service.annotations.remove(CONFIG);
    world.annotate(AUTO_CONFIG, Some("true"));
    world
}

#[test]
fn it_has_an_entry_for_each_listener_and_says_nothing() {
    let mut world = world();
    let made = write(&world).unwrap();
    assert!(made.is_new);
    assert_eq!(made.key, key("a/web-auto-service-config"));
    assert_eq!(
        made.body["spec"]["loadBalancer"],
        json!({
            "l4Listeners": [{"protocol": "TCP", "port": 80}, {"protocol": "UDP", "port": 53}],
            "l7Listeners": [
                {"protocol": "HTTP", "port": 81, "domains": [
                    {"domain": "*.b.example", "rules": [{"url": "/"}]},
                    {"domain": "a.example", "rules": [{"url": "/"}]},
                ]},
                {"protocol": "HTTP", "port": 82, "domains": [{"domain": "", "rules": [{"url": "/"}]}]},
            ],
        })
    );
    let owner = &made.body["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["uid"]),
        (&json!("Service"), &json!("uid-a/web"))
    );
    let before = world.set("tcp/80").clone();
    put(&mut world, &made.body);
    assert_eq!(write(&world), None, "it is as it should be");
    assert_eq!((world.set("tcp/80"), world.notes()), (&before, Vec::new()));
}

#[test]
fn entries_come_and_go_with_their_listeners_and_edits_stay() {
    let mut world = world();
    let mut object = write(&world).unwrap().body;
    let balancer = &mut object["spec"]["loadBalancer"];
    balancer["l4Listeners"][0]["scheduler"] = json!("LEAST_CONN");
    balancer["l4Listeners"]
        .as_array_mut()
        .unwrap()
        .push(json!({"protocol": "TCP", "port": 9}));
    balancer["note"] = json!("mine");
    put(&mut world, &object);
    assert_eq!(write(&world), None);
    assert_eq!(
        world.set("tcp/80").settings.policy,
        Policy::LeastConnections
    );
    // Port 53 goes, and 90 comes; what somebody wrote of port 9 is theirs.
    world.service.ports[1] = ServicePort {
        protocol: Transport::Tcp,
        port: 90,
        ..world.service.ports[1].clone()
    };
    world.put();
    let patch = write(&world).unwrap();
    assert!(!patch.is_new);
    assert_eq!(patch.body["metadata"]["resourceVersion"], "7");
    assert_eq!(
        patch.body["spec"]["loadBalancer"],
        json!({"l4Listeners": [
            {"protocol": "TCP", "port": 80, "scheduler": "LEAST_CONN"},
            {"protocol": "TCP", "port": 9},
            {"protocol": "TCP", "port": 90},
        ]})
    );
}

#[test]
fn domains_come_and_go_too() {
    let mut world = world();
    let mut object = write(&world).unwrap().body;
    let rule = &mut object["spec"]["loadBalancer"]["l7Listeners"][0]["domains"][1]["rules"][0];
    rule["scheduler"] = json!("IP_HASH");
    put(&mut world, &object);
    let spoken = r#"{"81":{"protocol":["HTTP"],"hosts":{"a.example":{},"c.example":{}}}}"#;
    world.annotate(SPECIFY, Some(spoken));
    let patch = write(&world).unwrap().body;
    assert_eq!(
        patch["spec"]["loadBalancer"],
        json!({
            "l4Listeners": [
                {"protocol": "TCP", "port": 80},
                {"protocol": "UDP", "port": 53},
                {"protocol": "TCP", "port": 82},
            ],
            "l7Listeners": [{"protocol": "HTTP", "port": 81, "domains": [
                {"domain": "a.example", "rules": [{"url": "/", "scheduler": "IP_HASH"}]},
                {"domain": "c.example", "rules": [{"url": "/"}]},
            ]}],
        })
    );
}

#[test]
fn one_of_another_service_becomes_its_own() {
    let mut world = world();
    let mut object = write(&world).unwrap().body;
    let other = json!({"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "gone"});
    let app = json!({"apiVersion": "x/v1", "kind": "App", "name": "shop", "uid": "u"});
    object["metadata"]["ownerReferences"] = json!([other, app]);
    put(&mut world, &object);
    let patch = write(&world).unwrap().body;
    let owners = patch["metadata"]["ownerReferences"].as_array().unwrap();
    let uids: Vec<_> = owners
        .iter()
        .map(|owner| owner["uid"].as_str().unwrap())
        .collect();
    assert_eq!(uids, ["u", "uid-a/web"]);
    assert!(patch.get("spec").is_none(), "{patch}");
    world.annotate(AUTO_CONFIG, None);
    assert_eq!(write(&world), None, "it stays as it is");
}
