//! Podline as docker/deploy/base installs it: what it may do, how it is asked, and that it can be removed.

use k8s_openapi::api::authorization::v1::ResourceAttributes;
use podline_control::rbac::RULES;
use podline_lab::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::LONG;
use crate::harness::cluster::cluster;
use crate::harness::dump::{self, Dump};
use crate::harness::installation::{self, CONTROLLER, allowed, reviews};
use crate::harness::installed::Installed;
use crate::harness::objects::{self, direct};
use crate::harness::scene::Scene;

#[test]
fn the_controller_may_do_what_the_table_says_and_nothing_besides() {
    let Some(cluster) = cluster() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    // Waits until everything in the table is allowed.
    installation::account(&cluster, directory.path());
    let verbs = [
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
    ];
    for rule in RULES {
        for wanted in reviews(rule) {
            for verb in verbs {
                let asked = ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    ..wanted.clone()
                };
                let is_meant = RULES.iter().flat_map(reviews).any(|one| {
                    ResourceAttributes {
                        name: asked.name.clone(),
                        ..one.clone()
                    } == asked
                        && (one.name.is_none() || one.name == asked.name)
                });
                assert_eq!(
                    allowed(&cluster, CONTROLLER, asked.clone()),
                    is_meant,
                    "{asked:?}"
                );
            }
            // Nor others of that kind, where names are given, nor in other namespaces.
            let other = |change: &dyn Fn(&mut ResourceAttributes)| {
                let mut asked = wanted.clone();
                change(&mut asked);
                let is_meant = RULES.iter().flat_map(reviews).any(|one| one == asked);
                assert_eq!(
                    allowed(&cluster, CONTROLLER, asked.clone()),
                    is_meant,
                    "{asked:?}"
                );
            };
            if wanted.name.is_some() {
                other(&|asked| asked.name = None);
                other(&|asked| asked.name = Some("another".to_owned()));
            }
            if wanted.namespace.is_some() {
                other(&|asked| asked.namespace = Some("default".to_owned()));
            }
        }
    }
}

#[test]
fn that_suffices() {
    let Some(scene) = Scene::set("rights") else {
        return;
    };
    scene.serve("web", 1, direct());
    scene.wait_backends("rights/web/tcp/80", 1);
    // The scene looks for refusals in the controllers' logs at its end.
    drop(scene);
}

/// Services of many kinds, that stay: names, annotations, further fields of the spec.
fn services(namespace: &str) -> Vec<Value> {
    let direct_access = "service.cloud.tencent.com/direct-access";
    let kinds = [
        (
            "direct",
            json!({direct_access: "true", "example.com/own": "yes"}),
            80,
        ),
        ("nodeport", json!({direct_access: "false"}), 81),
        ("malformed", json!({direct_access: "true"}), 82),
        ("switched", json!({}), 83),
        ("mixed", json!({direct_access: "true"}), 84),
    ];
    let made = kinds.into_iter().map(|(name, annotations, port)| {
        let mut service = objects::service("web", annotations);
        service["metadata"]["name"] = json!(name);
        if name == "switched" {
            // The ConfigMap says how.
            service["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("annotations");
        }
        service["metadata"]["namespace"] = json!(namespace);
        service["metadata"]["labels"] = json!({"example.com/team": "shop"});
        service["spec"]["ports"][0]["port"] = json!(port);
        if name == "mixed" {
            let more = json!({"name": "dns", "port": 53, "protocol": "UDP"});
            service["spec"]["ports"].as_array_mut().unwrap().push(more);
        }
        service
    });
    made.collect()
}

#[test]
fn uninstall_leaves_no_trace() {
    let Some(mut installed) = Installed::nothing("traces") else {
        return;
    };
    installed.switch_direct("true");
    installed.run(|client, namespace| async move {
        objects::deployment(&client, &namespace, "web", 2, json!({})).await;
        installation::apply(&client, services(&namespace)).await;
    });
    installed.wait_rolled_out("web");
    let before = settled(&installed);

    installed.install();
    for name in ["direct", "nodeport", "malformed", "switched", "mixed"] {
        installed.wait_addresses(name);
    }
    // It loses its annotation's meaning, and one more is on its way out while nobody can let it go.
    let mut malformed = services("traces").remove(2);
    malformed["metadata"]["annotations"]["service.cloud.tencent.com/direct-access"] =
        json!("maybe");
    let mut leaving = services("traces").remove(0);
    leaving["metadata"]["name"] = json!("leaving");
    leaving["spec"]["ports"][0]["port"] = json!(85);
    installed.run(|client, _| async move {
        installation::apply(&client, vec![malformed, leaving]).await;
    });
    installed.wait_addresses("leaving");
    wait::until(LONG, "the last good value is written down", || {
        let annotations = installed.service("malformed").unwrap().metadata.annotations;
        annotations.is_some_and(|all| all.contains_key("podline.io/last-good"))
    });
    wait::until(LONG, "what the ConfigMap says is written down", || {
        let annotations = installed.service("switched").unwrap().metadata.annotations;
        let found = annotations.unwrap_or_default();
        found.contains_key("service.cloud.tencent.com/direct-access")
    });
    wait::until(LONG, "the proxies have all of it", || {
        (0..2).all(|proxy| installed.state(proxy).listeners.len() == 6)
    });
    wait::until(LONG, "its owner is told", || {
        let events = installed.events();
        events
            .iter()
            .any(|event| event.starts_with("InvalidAnnotation"))
    });
    for process in installed.controllers.values() {
        process.signal(Signal::STOP);
    }
    installed.run(|client, namespace| async move {
        objects::delete_service(&client, &namespace, "leaving").await;
    });
    assert!(installed.service("leaving").is_some());

    let uninstall = installed.uninstall(Signal::KILL);
    assert!(uninstall.wait_end(LONG * 3));
    println!("{}", uninstall.log());
    assert!(
        uninstall.log().ends_with("uninstall: done"),
        "{}",
        uninstall.log()
    );

    let mut expected = before;
    let key = "Service. traces/malformed";
    expected.get_mut(key).unwrap()["metadata"]["annotations"]["service.cloud.tencent.com/direct-access"] =
        json!("maybe");
    let mut told = Vec::new();
    wait::until(LONG, "everything is as it was", || {
        let after = installed.run(|client, _| async move { dump::take(&client).await });
        let differences = dump::differences(&expected, &after);
        if differences != told {
            println!("differs: {differences:#?}");
        }
        told = differences;
        told.is_empty()
    });
    println!("the same before and after: {} objects", expected.len());
    for proxy in 0..2 {
        let state = installed.state(proxy);
        assert!(
            state.listeners.is_empty() && state.backend_sets.is_empty(),
            "{state:?}"
        );
    }
    let again = installed.podline(&["uninstall", "--yes"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(
        again.out,
        "uninstall: done: nothing of Podline is in this cluster\n"
    );
}

/// Everything there is, once nothing changes any more: every Service has both Pods behind it.
fn settled(installed: &Installed) -> Dump {
    let mut last = Dump::new();
    wait::until(LONG, "the cluster is quiet", || {
        let now = installed.run(|client, _| async move { dump::take(&client).await });
        let is_quiet = dump::differences(&last, &now).is_empty();
        let of_services = now.iter().filter(|(key, _)| {
            let kinds = [
                "EndpointSlice.discovery.k8s.io traces/",
                "Endpoints. traces/",
            ];
            kinds.iter().any(|kind| key.starts_with(kind))
        });
        let pods = of_services.map(|(_, value)| value.to_string().matches("targetRef").count());
        let pods: Vec<_> = pods.collect();
        last = now;
        is_quiet && pods == [2; 10]
    });
    last
}

#[test]
fn whoever_may_forward_ports_is_told_all_about_services() {
    let Some(installed) = Installed::set("asking") else {
        return;
    };
    installed.serve("web", 2, direct());
    installed.run(|client, namespace| async move {
        let mut others = services(&namespace);
        // Its port is that of the one before.
        others.remove(0);
        installation::apply(&client, others).await;
    });
    installed.wait_addresses("nodeport");
    installed.wait_backends("asking/web/tcp/80", 2);
    for arguments in [
        &["--kube", "status"][..],
        &["--kube", "status", "services/asking"],
        &["--kube", "explain", "service/asking/web"],
        &["--kube", "explain", "service/asking/nodeport"],
        &["--kube", "-o", "json", "status"],
        &["--kube", "-o", "json", "explain", "service/asking/web"],
        &["--kube", "--proxy-pod", &installed.proxy_pods[0], "status"],
        &[
            "--kube",
            "--proxy-pod",
            &installed.proxy_pods[0],
            "explain",
            "set/asking/web/tcp/80",
        ],
        &["--kube", "-n", "nowhere", "status"],
        &["--kube", "-n", "asking", "status"],
        &["--kube", "explain", "service/asking/nothing"],
        &["--kube", "--proxy-pod", "nobody", "status"],
    ] {
        let said = installed.podline(arguments);
        println!(
            "$ podline {}\n{}{}[{:?}]\n",
            arguments.join(" "),
            said.out,
            said.err,
            said.code
        );
    }
}
