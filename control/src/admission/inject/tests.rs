//! What Pods get, and which.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::{Value, json};

use super::super::testing::asked;
use super::*;
use crate::cluster::testing::{ingress, rule, service};
use crate::cluster::{Change, Ingress, Service};

fn request(object: &Value) -> Request {
    asked(&json!({
        "uid": "1", "operation": "CREATE", "namespace": "default",
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "object": object,
    }))
}

/// The object, with the patch applied that `wanted` comes to.
fn patched(object: &Value, wanted: Wanted) -> Value {
    let mut after = object.clone();
    for step in steps(object, wanted) {
        assert_eq!(step["op"], "add");
        let path = step["path"].as_str().unwrap();
        let (parent, last) = path.rsplit_once('/').unwrap();
        match after.pointer_mut(parent).unwrap() {
            Value::Array(items) if last == "-" => items.push(step["value"].clone()),
            Value::Object(fields) => drop(fields.insert(last.to_owned(), step["value"].clone())),
            other => panic!("{path} in {other}"),
        }
    }
    after
}

fn steps(object: &Value, wanted: Wanted) -> Vec<Value> {
    let request = request(object);
    let patch = patch(request.object.as_ref().unwrap(), wanted);
    patch.map_or_else(Vec::new, |patch| serde_json::from_slice(&patch).unwrap())
}

const fn gate() -> Wanted {
    Wanted {
        gate: true,
        sleep: None,
    }
}

const fn sleep(seconds: u64) -> Wanted {
    Wanted {
        gate: false,
        sleep: Some(Duration::from_secs(seconds)),
    }
}

#[test]
fn the_gate_is_added_once() {
    let ours = json!({"conditionType": GATE});
    let other = json!({"conditionType": "example.com/other"});
    for (gates, expected) in [
        (json!(null), json!([ours])),
        (json!([]), json!([ours])),
        (json!([other]), json!([other, ours])),
        (json!([ours]), json!([ours])),
        (json!([other, ours]), json!([other, ours])),
    ] {
        let object = json!({"spec": {"readinessGates": gates}});
        let after = patched(&object, gate());
        assert_eq!(after["spec"]["readinessGates"], expected);
        assert!(steps(&after, gate()).is_empty(), "{after}");
    }
    let without = json!({"spec": {}});
    assert_eq!(
        patched(&without, gate())["spec"]["readinessGates"],
        json!([ours])
    );
    assert!(steps(&without, Wanted::default()).is_empty());
}

#[test]
fn containers_without_a_pre_stop_sleep_and_the_pod_has_a_second_left() {
    let object = |grace: Value| {
        json!({"spec": {
            "terminationGracePeriodSeconds": grace,
            "containers": [
                {"name": "a"},
                {"name": "b", "lifecycle": {"postStart": {"sleep": {"seconds": 1}}}},
                {"name": "c", "lifecycle": {"preStop": {"exec": {"command": ["true"]}}}},
                {"name": "d", "lifecycle": null},
                {"name": "e", "lifecycle": {"preStop": null}},
            ],
            "initContainers": [{"name": "i"}],
        }})
    };
    let seconds = |object: &Value, index: usize| {
        object["spec"]["containers"][index]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64()
    };
    for (grace, wanted, expected) in [
        (json!(null), 5, Some(5)),
        (json!(null), 60, Some(29)),
        (json!(30), 30, Some(29)),
        (json!(10), 5, Some(5)),
        (json!(2), 5, Some(1)),
        (json!(1), 5, None),
        (json!(0), 5, None),
        (json!(-1), 5, None),
        (json!(i64::MAX), 600, Some(600)),
    ] {
        let before = object(grace);
        let after = patched(&before, sleep(wanted));
        for index in [0, 1, 3, 4] {
            assert_eq!(seconds(&after, index), expected, "{index} of {after}");
        }
        assert_eq!(
            after["spec"]["containers"][2],
            before["spec"]["containers"][2]
        );
        assert_eq!(
            after["spec"]["initContainers"],
            before["spec"]["initContainers"]
        );
        let lifecycle = &after["spec"]["containers"][1]["lifecycle"];
        assert_eq!(
            lifecycle["postStart"],
            before["spec"]["containers"][1]["lifecycle"]["postStart"]
        );
        assert!(steps(&after, sleep(wanted)).is_empty());
    }
}

#[test]
fn thousands_of_containers_and_gates_are_a_pod_like_any_other() {
    let containers: Vec<_> = (0..5_000).map(|n| json!({"name": n.to_string()})).collect();
    let gates: Vec<_> = (0..5_000)
        .map(|n| json!({"conditionType": n.to_string()}))
        .collect();
    let object = json!({"spec": {"containers": containers, "readinessGates": gates}});
    let both = Wanted {
        gate: true,
        ..sleep(5)
    };
    let steps = steps(&object, both);
    assert_eq!(steps.len(), 5_001);
    assert_eq!(steps[0]["path"], "/spec/readinessGates/-");
    assert_eq!(steps[5_000]["path"], "/spec/containers/4999/lifecycle");
}

#[test]
fn only_pods_that_are_made_and_have_an_address_of_their_own_are_looked_at() {
    let pods = json!({"group": "", "version": "v1", "resource": "pods"});
    let ask = |change: Value| {
        let mut request = json!({
            "uid": "1", "operation": "CREATE", "resource": pods,
            "object": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
        });
        for (field, value) in change.as_object().unwrap() {
            request[field] = value.clone();
        }
        candidate(&asked(&request)).is_some()
    };
    assert!(ask(json!({})));
    // What it comes to is asked for, too, and nothing is kept of it.
    assert!(ask(json!({"dryRun": true})));
    assert!(ask(json!({"subResource": ""})));
    for change in [
        json!({"operation": "UPDATE"}),
        json!({"operation": "DELETE"}),
        json!({"operation": "create"}),
        json!({"subResource": "binding"}),
        json!({"resource": {"group": "apps", "version": "v1", "resource": "deployments"}}),
        json!({"resource": {"group": "", "version": "v2", "resource": "pods"}}),
        json!({"resource": {}}),
        json!({"object": null}),
        json!({"object": {"metadata": {}}}),
        json!({"object": {"spec": {"hostNetwork": true}}}),
        json!({"object": {"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {}}}),
    ] {
        assert!(!ask(change.clone()), "{change}");
    }
}

#[test]
fn direct_services_of_ours_want_the_gate_and_annotated_ones_a_sleep() {
    let labels: BTreeMap<String, String> = [("app".to_owned(), "web".to_owned())].into();
    let annotate = |service: &mut Service, key: &str, value: &str| {
        service.annotations.insert(key.to_owned(), value.to_owned());
    };
    let direct = |service: &mut Service, value: &str| {
        annotate(service, "service.cloud.tencent.com/direct-access", value);
    };
    let check = |change: &dyn Fn(&mut Service), expected: Wanted| {
        let mut service = service("default/web");
        change(&mut service);
        let text = format!("{service:?}");
        assert_eq!(
            wanted_by(vec![service], Vec::new(), &labels),
            expected,
            "{text}"
        );
    };
    let nothing = Wanted::default();
    check(&|_| {}, gate());
    check(&|s| direct(s, "false"), nothing);
    check(&|s| s.annotations.clear(), nothing);
    check(&|s| s.class = Some("other".to_owned()), nothing);
    check(&|s| s.class = None, nothing);
    check(&|s| s.is_load_balancer = false, nothing);
    check(&|s| s.is_deleting = true, nothing);
    check(&|s| s.selector.clear(), nothing);
    check(
        &|s| drop(s.selector.insert("tier".to_owned(), "front".to_owned())),
        nothing,
    );
    let sleepy = |s: &mut Service| annotate(s, "podline.io/pre-stop-sleep", "5s");
    check(
        &|s| sleepy(s),
        Wanted {
            gate: true,
            ..sleep(5)
        },
    );
    check(
        &|s| {
            sleepy(s);
            direct(s, "false");
        },
        sleep(5),
    );
    check(
        &|s| annotate(s, "podline.io/pre-stop-sleep", "soon"),
        gate(),
    );
}

#[test]
fn of_several_services_any_may_want_the_gate_and_the_longest_sleep_counts() {
    let entry = |name: &str, annotations: &[(&str, &str)]| {
        let mut service = service(name);
        let pairs = annotations.iter();
        service.annotations = pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        service
    };
    let services = vec![
        entry("default/a", &[("podline.io/pre-stop-sleep", "9s")]),
        entry(
            "default/b",
            &[
                ("service.cloud.tencent.com/direct-access", "true"),
                ("podline.io/pre-stop-sleep", "3s"),
            ],
        ),
        entry("default/c", &[]),
    ];
    let labels = [("app".to_owned(), "web".to_owned())].into();
    let found = wanted_by(services, Vec::new(), &labels);
    assert_eq!(
        found,
        Wanted {
            gate: true,
            ..sleep(9)
        }
    );
}

/// What these Services and Ingresses of one namespace want.
fn wanted_by(
    services: Vec<Service>,
    ingresses: Vec<Ingress>,
    labels: &BTreeMap<String, String>,
) -> Wanted {
    let mut cluster = Cluster::default();
    for service in services {
        cluster.apply(Change::Service(
            service.key.clone(),
            Some(Box::new(service)),
        ));
    }
    for ingress in ingresses {
        cluster.apply(Change::Ingress(
            ingress.key.clone(),
            Some(Box::new(ingress)),
        ));
    }
    let rules = (&Switches::default(), &Options::default());
    wanted(&cluster, "default", labels, rules)
}

#[test]
fn direct_ingresses_want_the_gate_of_the_pods_of_their_services() {
    let labels: BTreeMap<String, String> = [("app".to_owned(), "web".to_owned())].into();
    let check = |change: &dyn Fn(&mut Ingress), expected: Wanted| {
        let mut web = service("default/web");
        web.is_load_balancer = false;
        let mut site = ingress("default/site");
        change(&mut site);
        assert_eq!(wanted_by(vec![web], vec![site], &labels), expected);
    };
    check(&|_| {}, gate());
    let nothing = Wanted::default();
    check(&|it| it.annotations.clear(), nothing);
    check(&|it| it.class = Some("other".to_owned()), nothing);
    check(&|it| it.is_deleting = true, nothing);
    check(&|it| it.rules = vec![rule("", "/", "api")], nothing);
    let skip = |it: &mut Ingress| {
        let mode = crate::build::annotation::ingress::MODE.to_owned();
        it.annotations.insert(mode, "skip".to_owned());
    };
    check(&skip, nothing);
}
