//! Who is taken out of traffic, and for how long.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::{Value, json};

use super::super::testing::{World, asked, deletion, eviction};
use super::*;
use crate::cluster::testing::key;

/// The names of the Pods' sets that are closed, and whether it is kept somewhere.
fn told(world: &World, pod: usize) -> (usize, bool) {
    let doomed = doomed(&asked(&deletion(world, pod)), &world.cluster);
    let doomed = doomed.expect("it is one that is drained");
    let todo = world.todo(&doomed, &Drains::default());
    assert!(todo.close.iter().all(|(_, key)| is_of(key, &doomed.uid)));
    (todo.close.len(), todo.is_kept)
}

#[test]
fn a_pod_is_closed_where_others_serve() {
    assert_eq!(told(&World::new(3), 0), (1, false));
    assert_eq!(told(&World::new(2), 1), (1, false));
}

#[test]
fn the_last_that_serves_is_kept() {
    assert_eq!(told(&World::new(1), 0), (0, true));
    // Whoever is not healthy on every proxy, is being deleted, or has no weight is nobody else.
    let mut world = World::new(2);
    world.healthy(&[&[0, 1], &[0]]);
    assert_eq!(told(&world, 0), (0, true));
    assert_eq!(told(&world, 1), (1, false));
    let mut world = World::new(2);
    world.change(1, |pod| pod.is_deleting = true);
    assert_eq!(told(&world, 0), (0, true));
    let mut world = World::new(2);
    world.healthy(&[]);
    assert_eq!(told(&world, 0), (0, true));
}

#[test]
fn who_is_on_the_way_out_is_nobody_else() {
    let world = World::new(3);
    let of = |pod: usize| doomed(&asked(&deletion(&world, pod)), &world.cluster).unwrap();
    let mut drains = Drains::default();
    for pod in 0..2 {
        let todo = world.todo(&of(pod), &drains);
        assert_eq!((todo.close.len(), todo.is_kept), (1, false));
        assert!(drains.begin(&of(pod), &todo.close, 0));
    }
    assert!(world.todo(&of(2), &drains).is_kept);
    // Asked again, who is on the way out already goes on.
    assert_eq!(world.todo(&of(0), &drains).close.len(), 1);
    // The one that did not go is somebody else again.
    drains.allowed(&of(0).uid, 0);
    drains.allowed(&of(1).uid, 2_000);
    let due = drains.due(BEGINS_WITHIN_MS, |_| Fate::Lives);
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].0, of(0));
    assert_eq!(world.todo(&of(2), &drains).close.len(), 1);
}

#[test]
fn only_direct_services_that_want_it_are_drained() {
    for (annotation, value, closed) in [
        ("service.cloud.tencent.com/enable-grace-deletion", "true", 1),
        ("service.cloud.tencent.com/enable-grace-deletion", "no", 1),
        (
            "service.cloud.tencent.com/enable-grace-deletion",
            "false",
            0,
        ),
        ("service.cloud.tencent.com/direct-access", "false", 0),
    ] {
        let mut world = World::new(2);
        world.annotate(annotation, value);
        assert_eq!(told(&world, 0), (closed, false), "{annotation}: {value}");
    }
    let mut world = World::new(2);
    world.change_service(|service| service.class = Some("other".to_owned()));
    assert_eq!(told(&world, 0), (0, false));
}

#[test]
fn only_deletions_that_may_come_to_something_are_drained() {
    let world = World::new(2);
    let uid = world.pods[0].uid.to_string();
    let ask = |change: &dyn Fn(&mut Value)| {
        let mut request = deletion(&world, 0);
        change(&mut request);
        doomed(&asked(&request), &world.cluster)
    };
    let found = ask(&|_| {}).unwrap();
    assert_eq!(
        (found.key, &*found.uid),
        (key("default/web-0"), uid.as_str())
    );
    // Where many are deleted at once the name stands in the object alone.
    assert!(ask(&|r| r["name"] = json!("")).is_some());
    assert!(ask(&|r| r["options"] = json!({"preconditions": {"uid": uid}})).is_some());
    for change in [
        &(|r: &mut Value| r["dryRun"] = json!(true)) as &dyn Fn(&mut Value),
        &|r| r["options"] = json!({"dryRun": ["All"]}),
        &|r| r["options"] = json!({"preconditions": {"uid": "another"}}),
        &|r| r["operation"] = json!("UPDATE"),
        &|r| r["subResource"] = json!("status"),
        &|r| r["resource"]["resource"] = json!("services"),
        &|r| r["oldObject"] = json!(null),
        &|r| r["oldObject"]["metadata"]["uid"] = json!(null),
        &|r| r["oldObject"]["spec"]["readinessGates"] = json!([{"conditionType": "other"}]),
        &|r| r["oldObject"]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
        &|r| r["oldObject"]["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": ""}),
    ] {
        let mut shown = deletion(&world, 0);
        change(&mut shown);
        assert_eq!(ask(change), None, "{shown}");
    }
    // The object that the API server is about to delete counts, and not what was seen last at its name.
    let other = ask(&|r| r["oldObject"]["metadata"]["uid"] = json!("newer")).unwrap();
    assert_eq!(world.todo(&other, &Drains::default()), Todo::default());
}

#[test]
fn an_eviction_names_a_pod_that_is_known() {
    let ask = |world: &World, request: Value| doomed(&asked(&request), &world.cluster);
    let mut world = World::new(2);
    assert!(ask(&world, eviction("web-0")).is_some());
    assert!(ask(&world, eviction("nobody")).is_none());
    let mut dry = eviction("web-0");
    dry["object"]["deleteOptions"] = json!({"dryRun": ["All"]});
    assert!(ask(&world, dry).is_none());
    let mut other = eviction("web-0");
    other["object"]["deleteOptions"] = json!({"preconditions": {"uid": "another"}});
    assert!(ask(&world, other).is_none());
    world.change(0, |pod| pod.gate = Gate::Absent);
    assert!(ask(&world, eviction("web-0")).is_none());
    world.change(1, |pod| pod.is_deleting = true);
    assert!(ask(&world, eviction("web-1")).is_none());
}

#[test]
fn a_weight_is_given_back_once_if_no_deletion_begins() {
    let world = World::new(2);
    let doomed = doomed(&asked(&deletion(&world, 0)), &world.cluster).unwrap();
    let places = world.todo(&doomed, &Drains::default()).close;
    let lives = |_: &Doomed| Fate::Lives;
    let goes = |_: &Doomed| Fate::Goes;
    // Allowed at 100: 5 s later it has its weight back, and that is that.
    let mut drains = Drains::default();
    assert!(drains.begin(&doomed, &places, 0));
    drains.allowed(&doomed.uid, 100);
    assert!(drains.due(5_099, lives).is_empty() && drains.is_closing(&places[0]));
    assert_eq!(drains.due(5_100, lives), [(doomed.clone(), places.clone())]);
    assert!(!drains.is_closing(&places[0]) && drains.due(9_000, lives).is_empty());
    // Nobody waited for the answer.
    assert!(drains.begin(&doomed, &places, 0));
    assert!(drains.due(7_999, lives).is_empty());
    assert_eq!(drains.due(8_000, lives).len(), 1);
    // It was seen to go, and is not looked for again, though it is forgotten as a living Pod.
    assert!(drains.begin(&doomed, &places, 0));
    drains.allowed(&doomed.uid, 0);
    assert!(drains.due(4_000, goes).is_empty());
    assert!(drains.due(6_000, lives).is_empty() && drains.is_closing(&places[0]));
    assert!(drains.due(LASTS_MS, lives).is_empty() && !drains.is_closing(&places[0]));
    // Asked again, it has its time anew.
    assert!(drains.begin(&doomed, &places, 0));
    drains.allowed(&doomed.uid, 0);
    assert!(drains.begin(&doomed, &places, 4_000));
    drains.allowed(&doomed.uid, 4_500);
    assert!(drains.due(9_499, lives).is_empty());
    assert_eq!(drains.due(9_500, lives).len(), 1);
}
