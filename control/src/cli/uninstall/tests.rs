//! A whole run, before an API server that plays a part.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use podline_api::v1;
use serde_json::{Value, json};

use super::*;
use crate::cli::Format;
use crate::cli::fake::{self as fake_proxy, Paper};
use crate::cli::kube::fake::{Part, cluster};
use crate::cli::kube::tests::{lease, pod};
use crate::cli::sample;
use crate::installation::{CONTROL, NAME_LABEL, NAMESPACE, PROXY};

fn object(path: &str, labels: &Value) -> (String, Value) {
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap();
    let namespace = path.split("/namespaces/").nth(1).and_then(|rest| {
        let (namespace, rest) = rest.split_once('/')?;
        (!rest.is_empty()).then_some(namespace)
    });
    let object = json!({
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "uid": name},
    });
    (path.to_owned(), object)
}

fn ours(program: &str) -> Value {
    json!({(NAME_LABEL): program, "app.kubernetes.io/part-of": "podline"})
}

fn deployment(namespace: &str, name: &str) -> (String, Value) {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
    let (path, mut object) = object(&path, &ours(name));
    object["spec"] = json!({"replicas": 2, "selector": {}, "template": {"spec": {"containers":
        [{"name": "c", "args": ["--cluster=east"]}]}}});
    (path, object)
}

/// A Service as the controller leaves it.
fn service(name: &str) -> (String, Value) {
    let (path, mut object) = object(
        &format!("/api/v1/namespaces/shop/services/{name}"),
        &json!({}),
    );
    let entry = |subresource: Value| {
        json!({"manager": "podline-control", "operation": "Apply",
        "subresource": subresource, "fieldsV1": {}})
    };
    object["metadata"]["finalizers"] = json!(["podline.io/load-balancer"]);
    object["metadata"]["managedFields"] = json!([entry(Value::Null), entry(json!("status"))]);
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}, "conditions": [
        {"type": "podline.io/Accepted", "status": "True", "reason": "Direct", "message": "",
            "lastTransitionTime": "2026-11-25T00:00:00Z"}]});
    (path, object)
}

/// The webhooks' Service, which the controller applied, too.
fn own_service() -> (String, Value) {
    let (_, mut applied) = service("web");
    let path = "/api/v1/namespaces/podline-system/services/podline-webhook";
    let (path, mut object) = object(path, &ours(CONTROL));
    object["metadata"]["managedFields"] = applied["metadata"]["managedFields"].take();
    (path, object)
}

/// A Pod that waits for our gate.
fn gated() -> (String, Value) {
    let (path, mut object) = object("/api/v1/namespaces/shop/pods/web-1", &json!({}));
    let gate = json!({"conditionType": crate::cluster::pod::GATE});
    object["spec"] = json!({"containers": [], "readinessGates": [gate]});
    (path, object)
}

fn installed() -> Part {
    let (path, mut other) = object("/api/v1/namespaces/shop/services/other", &json!({}));
    other["metadata"]["finalizers"] = json!(["theirs"]);
    let event = object("/api/v1/namespaces/shop/events/e", &json!({}));
    Part {
        objects: [
            object("/api/v1/namespaces/podline-system", &ours(CONTROL)),
            object("/api/v1/namespaces/shop", &json!({})),
            deployment(NAMESPACE, CONTROL),
            deployment(NAMESPACE, PROXY),
            pod(CONTROL, "c1"),
            pod(PROXY, "p1"),
            lease(""),
            service("web"),
            own_service(),
            gated(),
            (path, other),
            event,
            object(
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/podline-control",
                &ours(CONTROL),
            ),
            object(
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/view",
                &json!({}),
            ),
            object(
                "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles/podline-control",
                &ours(CONTROL),
            ),
            object(
                "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/podline",
                &ours(CONTROL),
            ),
            object(
                "/api/v1/namespaces/podline-system/configmaps/kube-root-ca.crt",
                &json!({}),
            ),
        ]
        .into(),
        ..Part::default()
    }
}

/// What is told, with the exit code, of a run.
async fn told(args: &Args, cluster: &Cluster) -> (String, Exit) {
    let paper = Paper::default();
    let mut screen = Screen::new(Box::new(paper.clone()), Format::Table, false);
    match uninstall(args, cluster, None, &mut screen).await {
        Ok(exit) => (paper.text(), exit),
        Err(failure) => (paper.text() + &failure.explain(), failure.exit()),
    }
}

const YES: Args = Args {
    yes: true,
    dry_run: false,
};

#[tokio::test]
async fn nothing_is_left_and_a_second_run_says_so() {
    let mut state = sample::state();
    state.owners.push(v1::OwnerStatus {
        owner: "k8s/east".to_owned(),
        epoch: Some(9),
        listeners: 2,
        backend_sets: 1,
        ..Default::default()
    });
    state
        .owners
        .retain(|owner| owner.epoch == Some(9) || owner.owner == "file");
    let (address, applied) = fake_proxy::serve(fake_proxy::Part {
        state,
        ..Default::default()
    });
    let mut part = installed();
    part.ports = [(("p1".to_owned(), 9902), address)].into();
    let (cluster, api) = cluster(part).await;
    let text = "\
delete MutatingWebhookConfiguration podline: done
stop Deployment podline-system/podline-control: done
wait until no controller runs: done
open 1 readiness gate: done
clear Service shop/web: done: status, finalizer and annotations
take k8s/east out of proxy p1: done: 2 listeners, 1 set
delete 1 Event: done
delete Deployment podline-system/podline-control: done
delete Deployment podline-system/podline-proxy: done
delete Service podline-system/podline-webhook: done
delete Lease podline-system/podline-control: done
delete Role kube-system/podline-control: done
delete ClusterRole podline-control: done
delete Namespace podline-system: done
uninstall: done
";
    assert_eq!(told(&YES, &cluster).await, (text.to_owned(), Exit::Done));
    let expected = v1::ApplyRequest {
        owner: "k8s/east".to_owned(),
        replace_owned: true,
        epoch: Some(9),
        ..Default::default()
    };
    assert_eq!(applied.lock().unwrap().as_slice(), [expected]);
    let left: Vec<_> = api.objects().into_keys().collect();
    let others = [
        "/api/v1/namespaces/shop",
        "/api/v1/namespaces/shop/pods/web-1",
        "/api/v1/namespaces/shop/services/other",
        "/api/v1/namespaces/shop/services/web",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/view",
    ];
    assert_eq!(left, others);
    let web = &api.objects()["/api/v1/namespaces/shop/services/web"];
    assert_eq!(web["metadata"].get("finalizers"), None);
    assert_eq!(web["status"], json!({}));
    let pod = &api.objects()["/api/v1/namespaces/shop/pods/web-1"];
    assert_eq!(pod["status"]["conditions"][0]["reason"], "Uninstalled");
    let changes = api.changes().len();
    let (text, exit) = told(&YES, &cluster).await;
    assert_eq!(
        text,
        "uninstall: done: nothing of Podline is in this cluster\n"
    );
    assert_eq!((exit, api.changes().len()), (Exit::Done, changes));
}

#[tokio::test]
async fn without_a_yes_nothing_happens() {
    let (cluster, api) = cluster(installed()).await;
    let args = |dry_run| Args {
        yes: false,
        dry_run,
    };
    let (text, exit) = told(&args(false), &cluster).await;
    assert_eq!(
        text,
        "error: there is nobody to ask: use --yes, or see it with --dry-run\n"
    );
    assert_eq!(exit, Exit::Usage);
    let (text, exit) = told(&args(true), &cluster).await;
    assert_eq!(text.lines().count(), 15, "{text}");
    assert!(
        text.lines().all(|line| line.ends_with(": would be done")),
        "{text}"
    );
    assert_eq!((exit, api.changes()), (Exit::Done, Vec::new()));
    let question = |question: &str| {
        assert!(
            question.contains("namespace podline-system, and from 1 Service?"),
            "{question}"
        );
        false
    };
    let mut screen = Screen::new(Box::new(Paper::default()), Format::Table, false);
    let refused = uninstall(&args(false), &cluster, Some(question), &mut screen).await;
    assert_eq!(refused.unwrap_err().to_string(), "nothing was done");
    assert_eq!(api.changes(), Vec::<String>::new());
}

#[tokio::test]
async fn what_may_not_be_done_is_told_and_the_rest_is_done() {
    let mut part = installed();
    part.forbidden = vec!["DELETE /apis/rbac", "GET /apis/policy"];
    let (cluster, api) = cluster(part).await;
    let (text, exit) = told(&YES, &cluster).await;
    assert_eq!(exit, Exit::NotEmpty, "{text}");
    for line in [
        "take k8s/east out of proxy p1: failed: cannot forward a port to Pod podline-system/p1: connection refused inside the Pod\n",
        "ClusterRole podline-control: left: you may not delete clusterroles: it is forbidden\n",
        "poddisruptionbudgets: left: you may not list poddisruptionbudgets in namespace podline-system: it is forbidden\n",
        "delete Namespace podline-system: done\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(
        !api.objects()
            .contains_key("/api/v1/namespaces/podline-system")
    );
}

#[tokio::test]
async fn a_controller_that_cannot_be_stopped_keeps_everything() {
    let mut part = installed();
    part.forbidden = vec!["PATCH /apis/apps"];
    let (cluster, api) = cluster(part).await;
    let (text, exit) = told(&YES, &cluster).await;
    assert!(
        text.ends_with(
            "error: you may not patch deployments in namespace podline-system: it is forbidden\n  \
             ask for RBAC that allows: patch on deployments, in namespace podline-system\n"
        ),
        "{text}"
    );
    assert_eq!(exit, Exit::Refused);
    let service = &api.objects()["/api/v1/namespaces/shop/services/web"];
    assert_eq!(*service, self::service("web").1);
}

#[tokio::test]
async fn pods_that_nobody_stopped_keep_everything() {
    let mut part = installed();
    part.objects
        .retain(|path, _| !path.contains("/deployments/"));
    let (cluster, api) = cluster(part).await;
    let (text, exit) = told(&YES, &cluster).await;
    assert!(
        text.contains("error: Pods of the controller still run: c1\n"),
        "{text}"
    );
    assert_eq!(exit, Exit::Refused);
    assert!(
        api.objects()
            .contains_key("/api/v1/namespaces/podline-system")
    );
}

#[tokio::test]
async fn another_podline_in_the_cluster_is_not_torn_down_by_half() {
    let mut part = installed();
    part.objects.extend([deployment("other", CONTROL)]);
    let (cluster, api) = cluster(part).await;
    let (text, exit) = told(&YES, &cluster).await;
    assert!(
        text.starts_with("error: Deployment other/podline-control is Podline, too"),
        "{text}"
    );
    assert_eq!((exit, api.changes()), (Exit::Refused, Vec::new()));
}

#[tokio::test]
async fn a_namespace_that_others_use_stays() {
    let mut part = installed();
    let theirs = object(
        "/api/v1/namespaces/podline-system/configmaps/theirs",
        &json!({}),
    );
    part.objects.extend([theirs]);
    let (cluster, api) = cluster(part).await;
    let (text, exit) = told(&YES, &cluster).await;
    let line = "Namespace podline-system: left: it holds what is not Podline's: ConfigMap podline-system/theirs\n";
    assert!(text.ends_with(line), "{text}");
    assert_eq!(exit, Exit::NotEmpty);
    let left = api.objects();
    assert!(left.contains_key("/api/v1/namespaces/podline-system/configmaps/theirs"));
}

#[tokio::test]
async fn the_definition_of_a_kind_stays_while_users_have_objects_of_it() {
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tkeserviceconfigs.cloud.tencent.com";
    let of_kind = |name: &str, annotations: Value| {
        let path =
            format!("/apis/cloud.tencent.com/v1alpha1/namespaces/shop/tkeserviceconfigs/{name}");
        let (path, mut object) = object(&path, &json!({}));
        object["metadata"]["annotations"] = annotations;
        (path, object)
    };
    let made = of_kind(
        "web-auto-service-config",
        json!({"podline.io/made-for": "[]"}),
    );
    let part = |objects: Vec<(String, Value)>| Part {
        objects: objects.into_iter().collect(),
        ..Part::default()
    };
    let all = vec![
        object(definition, &ours(CONTROL)),
        of_kind("shop", json!({})),
        made.clone(),
    ];
    let (with_users, api) = cluster(part(all)).await;
    let text = "CustomResourceDefinition tkeserviceconfigs.cloud.tencent.com: left: users' objects would go with it: shop/shop\n";
    assert_eq!(
        told(&YES, &with_users).await,
        (text.to_owned(), Exit::NotEmpty)
    );
    drop(api);
    let all = vec![object(definition, &ours(CONTROL)), made];
    let (alone, _api) = cluster(part(all)).await;
    let text = "delete CustomResourceDefinition tkeserviceconfigs.cloud.tencent.com: done\nuninstall: done\n";
    assert_eq!(told(&YES, &alone).await, (text.to_owned(), Exit::Done));
}
