//! Podline as docker/deploy/base installs it: what it may do, how it is asked, and that it can be removed.

use k8s_openapi::api::authorization::v1::ResourceAttributes;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use podline_control::rbac::{ASKING, RULES};
use podline_lab::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::LONG;
use crate::harness::cluster::{Reach, cluster, elsewhere};
use crate::harness::dump::{self, Dump};
use crate::harness::installation::{self, CONTROLLER, allowed, reviews};
use crate::harness::installed::{Installed, Said, podline};
use crate::harness::objects::{self, direct};
use crate::harness::scene::{SYSTEM, Scene};

#[test]
fn the_controller_may_do_what_the_table_says_and_nothing_besides() {
    if let Some(reach) = elsewhere() {
        on_another_cluster(&reach);
    } else if let Some(cluster) = cluster() {
        assert_rights(&cluster);
    }
}

/// On a cluster that is not ours to clutter: what is installed is removed by `podline uninstall`.
fn on_another_cluster(reach: &Reach) {
    let namespace = |client: kube::Client| async move {
        let namespaces = kube::Api::<Namespace>::all(client);
        namespaces.get_opt(SYSTEM).await.unwrap()
    };
    let found = reach.run(namespace(reach.client.clone()));
    assert!(
        found.is_none(),
        "there is a namespace {SYSTEM} already: nothing was done"
    );
    assert_rights(reach);
    let run = |arguments: &[&str]| {
        let mut command = podline(arguments);
        command.env("KUBECONFIG", reach.kubeconfig());
        Said::by(command)
    };
    let status = run(&["--kube", "status"]);
    let told = "error: there is no podline-control in namespace podline-system\n";
    assert!(status.err.starts_with(told), "{status:?}");
    let removed = run(&["uninstall", "--yes"]);
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert!(reach.run(namespace(reach.client.clone())).is_none());
}

fn assert_rights(cluster: &Reach) {
    let directory = tempfile::tempdir().unwrap();
    // Waits until everything in the table is allowed.
    installation::account(cluster, directory.path());
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
                assert_eq!(
                    allowed(cluster, CONTROLLER, asked.clone()),
                    is_meant(&asked),
                    "{asked:?}"
                );
            }
            // Nor others of that kind, where names are given, nor in other namespaces.
            let other = |change: &dyn Fn(&mut ResourceAttributes)| {
                let mut asked = wanted.clone();
                change(&mut asked);
                assert_eq!(
                    allowed(cluster, CONTROLLER, asked.clone()),
                    is_meant(&asked),
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

/// Whether the table allows it: what holds for all names holds for each, and what holds everywhere in each namespace.
fn is_meant(asked: &ResourceAttributes) -> bool {
    RULES.iter().flat_map(reviews).any(|one| {
        let namespace = one.namespace.clone().or_else(|| asked.namespace.clone());
        let name = one.name.clone().or_else(|| asked.name.clone());
        *asked
            == ResourceAttributes {
                namespace,
                name,
                ..one
            }
    })
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
            let more = json!({"name": "sig", "port": 3868, "protocol": "SCTP"});
            service["spec"]["ports"].as_array_mut().unwrap().push(more);
        }
        service
    });
    made.collect()
}

/// Installs Podline, and lets it leave all the traces that it can leave.
fn fill(installed: &mut Installed) {
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
    let before = dump::lasting(settled(&installed));

    fill(&mut installed);
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

/// Everything there is, once nothing changes any more: every Service has both Pods behind it, and they are ready.
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
        let ready = |value: &Value| {
            let text = value.to_string();
            let is_not = text.contains("notReadyAddresses") || text.contains("\"ready\":false");
            (!is_not).then(|| text.matches("targetRef").count())
        };
        let pods: Vec<_> = of_services.filter_map(|(_, value)| ready(value)).collect();
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
    let service = |status: &Value, name: &str| {
        let services = status["services"].as_array().unwrap();
        services
            .iter()
            .find(|service| service["name"] == name)
            .cloned()
            .unwrap_or_default()
    };
    let mut status = Value::Null;
    wait::until(
        LONG,
        "both proxies serve, and every Pod takes traffic",
        || {
            status = installed
                .podline(&["--kube", "-o", "json", "status"])
                .json();
            let proxies = status["proxies"].as_array().unwrap();
            let serving = proxies.iter().filter(|proxy| proxy["serving"] == true);
            let healthy = |name| service(&status, name)["ports"][0]["healthy"].clone();
            serving.count() == 2
                && healthy("web") == 2
                && healthy("mixed") == 2
                && healthy("nodeport") == 3
                && service(&status, "switched")["ports"][0]["healthy"] == 3
                && service(&status, "malformed")["ports"][0]["healthy"] == 2
        },
    );
    assert_eq!(
        status["identity"], installed.replicas[0],
        "the leader is asked"
    );
    assert_eq!(
        service(&status, "mixed")["notes"][0]["reason"],
        "SCTPNotSupported"
    );

    assert_tables(&installed);
    assert_examined(&installed);
    assert_errors(&installed);
}

/// What is told of a Service, by the controller and by a proxy.
fn assert_tables(installed: &Installed) {
    let tells = |arguments: &[&str], parts: &[&str]| {
        let said = installed.podline(arguments);
        println!(
            "$ podline {}\n{}{}",
            arguments.join(" "),
            said.out,
            said.err
        );
        assert_eq!(said.code, Some(0), "{said:?}");
        for part in parts {
            assert!(said.out.contains(part), "{part}: {}", said.out);
        }
        said
    };
    tells(
        &["--kube", "status"],
        &[
            "2 of 2 proxies serving, 5 Services",
            "asking/nodeport",
            "3868/SCTP",
        ],
    );
    tells(
        &["--kube", "explain", "service/asking/web"],
        &[
            "port 80/TCP: 2 of 2 backends take traffic",
            "annotation service.cloud.tencent.com/direct-access",
        ],
    );
    let explained = tells(
        &["--kube", "-o", "json", "explain", "service/asking/web"],
        &[],
    )
    .json();
    assert_eq!(explained["service"]["mode"], "DIRECT");
    let proxy = ["--kube", "--proxy-pod", &installed.proxy_pods[0]];
    tells(
        &[&proxy[..], &["status"]].concat(),
        &["asking/web/tcp/80", "k8s/default"],
    );
    tells(
        &[&proxy[..], &["explain", "set/asking/web/tcp/80"]].concat(),
        &["2 of 2 backends get traffic"],
    );
}

/// What the doctor finds: toys behind nodes that no network plugin made.
fn assert_examined(installed: &Installed) {
    let said = installed.podline(&["--kube", "doctor"]);
    println!("$ podline --kube doctor\n{}{}", said.out, said.err);
    for part in ["network plugin: not recognised: ", "Pods' addresses: "] {
        assert!(said.out.contains(part), "{part}: {said:?}");
    }
    assert!(!said.out.contains("not looked at"), "{said:?}");
    let report = installed.podline(&["--kube", "-o", "json", "doctor", "--no-proof"]);
    let report = report.json();
    let proxies = report["proxies"].as_array().unwrap();
    let names: Vec<_> = proxies.iter().map(|proxy| proxy["name"].clone()).collect();
    assert_eq!(names, installed.proxy_pods);
    assert!(
        proxies.iter().all(|proxy| proxy.get("problem").is_none()),
        "{report}"
    );
    let is_broken = |finding: &Value| finding["broken"] == true;
    let broken = report["findings"].as_array().unwrap().iter().any(is_broken);
    assert_eq!(said.code, Some(i32::from(broken)), "{report}");
}

/// What can be wrong on the way to the controller, and with the question.
fn assert_errors(installed: &Installed) {
    let fails = |arguments: &[&str], error: &str, advice: &str| {
        let said = installed.podline(arguments);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(
            said.err.starts_with(&format!("error: {error}\n")),
            "{said:?}"
        );
        assert!(said.err.contains(advice), "{said:?}");
    };
    fails(
        &["--kube", "-n", "nowhere", "status"],
        "there is no namespace nowhere",
        "--namespace NAMESPACE",
    );
    fails(
        &["--kube", "-n", "asking", "status"],
        "there is no podline-control in namespace asking",
        "kubectl get pods -A -l app.kubernetes.io/name=podline-control",
    );
    fails(
        &["--kube", "explain", "service/asking/nothing"],
        "there is no Service asking/nothing",
        "",
    );
    fails(
        &["--kube", "--proxy-pod", "nobody", "status"],
        "there is no Pod nobody in namespace podline-system",
        "kubectl -n podline-system get pods",
    );
}

/// What the readme says that asking takes suffices, and without it one is told what is missing.
#[test]
fn asking_takes_what_the_table_says() {
    let Some(installed) = Installed::set("asker") else {
        return;
    };
    let token = installed.run(|client, namespace| async move {
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "asker"}});
        objects::apply::<ServiceAccount>(&client, &namespace, account).await;
        installation::token(&client, &namespace, "asker").await
    });
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig =
        installation::kubeconfig(&installed.cluster, directory.path(), "asker", &token);
    let refused = installed.podline_as(&kubeconfig, &["--kube", "status"]);
    println!("{}", refused.err);
    assert!(
        refused
            .err
            .starts_with("error: you may not list pods in namespace podline-system: "),
        "{refused:?}"
    );
    let advice = "\n  ask for RBAC that allows: list on pods, in namespace podline-system\n";
    assert!(refused.err.ends_with(advice), "{refused:?}");
    installed.run(|client, namespace| async move {
        let rules: Vec<_> = ASKING
            .iter()
            .map(|rule| {
                json!({"apiGroups": [rule.group], "resources": [rule.resource],
                "resourceNames": rule.names, "verbs": rule.verbs})
            })
            .collect();
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "asker"}, "rules": rules});
        objects::apply::<Role>(&client, SYSTEM, role).await;
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "asker"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "asker"},
            "subjects": [{"kind": "ServiceAccount", "name": "asker", "namespace": namespace}]});
        objects::apply::<RoleBinding>(&client, SYSTEM, binding).await;
    });
    wait::until(LONG, "the rights are known", || {
        let said = installed.podline_as(&kubeconfig, &["--kube", "status"]);
        said.code == Some(0) && said.out.contains("leads, epoch 1")
    });
}
