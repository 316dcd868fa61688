//! What docker/deploy/base installs, and the controller's account in it: controllers of the tests may do what that allows,
//! and nothing else.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{Event, ServiceAccount};
use kube::Client;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, TypeMeta,
    ValidationDirective,
};
use kube::discovery::pinned_kind;
use podline_control::installation::WEBHOOKS;
use podline_control::rbac::{RULES, Rule, Scope};
use podline_lab::wait;
use serde_json::{Value, json};

use super::LONG;
use super::cluster::Reach;
use super::scene::SYSTEM;

const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker/deploy/base");
/// The controller's account, as the API server knows it.
pub(crate) const CONTROLLER: &str = "system:serviceaccount:podline-system:podline-control";
/// The account and its rights, and what bounds them, without what runs.
const ACCOUNTS: [&str; 3] = ["namespace.yaml", "accounts.yaml", "policy.yaml"];

/// The objects of these files of the base.
fn objects(files: &[&str]) -> Vec<Value> {
    let read = |file: &&str| {
        let text = std::fs::read_to_string(Path::new(BASE).join(file)).unwrap();
        serde_saphyr::from_multiple::<Value>(&text)
            .unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    files.iter().flat_map(read).collect()
}

/// Everything that `kubectl apply -k` would apply.
pub(crate) fn everything() -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(BASE).join("kustomization.yaml")).unwrap();
    let kustomization: Value = serde_saphyr::from_str(&text).unwrap();
    let files = kustomization["resources"].as_array().unwrap();
    let files: Vec<_> = files.iter().map(|file| file.as_str().unwrap()).collect();
    objects(&files)
}

/// Writes objects of any kind by server-side apply, as `kubectl apply --server-side` does.
pub(crate) async fn apply(client: &Client, objects: Vec<Value>) {
    for object in objects {
        let (api, name) = place(client, &object).await;
        let params = PatchParams::apply("kubectl").force();
        let applied = api.patch(&name, &params, &Patch::Apply(&object)).await;
        applied.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Asks the API server whether it would take these objects, as `kubectl apply --server-side --dry-run=server
/// --validate=strict` does: nothing changes. Panics for each that it would not, or would drop a field of.
pub(crate) async fn try_apply(client: &Client, objects: Vec<Value>) {
    for object in objects {
        let (api, name) = place(client, &object).await;
        let params = PatchParams::apply("kubectl").force().dry_run();
        let params = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            ..params
        };
        let answer = api.patch(&name, &params, &Patch::Apply(&object)).await;
        answer.unwrap_or_else(|error| panic!("{} {name}: {error}", object["kind"]));
    }
}

/// Waits until the API server serves a kind whose definition was just applied.
pub(crate) async fn await_kind(client: &Client, version: &str, kind: &str) {
    let types = TypeMeta {
        api_version: version.to_owned(),
        kind: kind.to_owned(),
    };
    let deadline = Instant::now() + LONG;
    while pinned_kind(client, &types.clone().try_into().unwrap())
        .await
        .is_err()
    {
        assert!(Instant::now() < deadline, "{kind} is not served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Deletes whatever of the base is there, and what controllers made and told outside of their namespace; the namespace
/// takes its time.
pub(crate) async fn remove(client: &Client) {
    let made = [
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ]
    .map(|kind| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": WEBHOOKS},
        })
    });
    for object in everything().into_iter().chain(made) {
        let (api, name) = place(client, &object).await;
        match api.delete(&name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
    let events = Api::<Event>::namespaced(client.clone(), "default");
    let list = events.list(&ListParams::default()).await.unwrap();
    for event in list.items {
        if event.reporting_component.as_deref() == Some("podline-control") {
            let name = event.metadata.name.unwrap();
            // It may have run out.
            let _ = events.delete(&name, &DeleteParams::default()).await;
        }
    }
}

async fn place(client: &Client, object: &Value) -> (Api<DynamicObject>, String) {
    let text = |key: &str| object["metadata"][key].as_str().map(str::to_owned);
    let types: TypeMeta = serde_json::from_value(object.clone()).unwrap();
    let (resource, _) = pinned_kind(client, &types.try_into().unwrap())
        .await
        .unwrap();
    let api = match text("namespace") {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    (api, text("name").unwrap())
}

/// Installs the controller's account and its rights, and waits until they hold. A kubeconfig of that account.
pub(crate) fn account(cluster: &Reach, directory: &Path) -> PathBuf {
    let client = cluster.client.clone();
    let token = cluster.run(async move {
        apply(&client, objects(&ACCOUNTS)).await;
        token(&client, SYSTEM, "podline-control").await
    });
    await_rights(cluster, SYSTEM);
    kubeconfig(cluster, directory, "controller", &token)
}

/// Gives the controller's account in another namespace what it has in its own.
pub(crate) fn allow_in(cluster: &Reach, namespace: &str) {
    let mut of_own = objects(&ACCOUNTS);
    of_own.retain(|object| {
        object["metadata"]["namespace"] == SYSTEM && object["kind"] != "ServiceAccount"
    });
    for object in &mut of_own {
        object["metadata"] = json!({"name": object["metadata"]["name"], "namespace": namespace});
    }
    let client = cluster.client.clone();
    cluster.run(async move { apply(&client, of_own).await });
    await_rights(cluster, namespace);
}

/// Waits until the API server has learned of the controller's rights; `own` is what counts as its own namespace.
fn await_rights(cluster: &Reach, own: &str) {
    for rule in RULES {
        wait::until(LONG, "the controller's rights hold", || {
            reviews(rule).into_iter().all(|mut wanted| {
                if rule.scope == Scope::Own {
                    wanted.namespace = Some(own.to_owned());
                }
                allowed(cluster, CONTROLLER, wanted)
            })
        });
    }
}

/// A token of a service account.
pub(crate) async fn token(client: &Client, namespace: &str, account: &str) -> String {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let wanted = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(4 * 3_600),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let made = accounts
        .create_token_request(account, &PostParams::default(), &wanted)
        .await;
    made.unwrap().status.unwrap().token.unwrap()
}

/// The kubeconfig of whoever has this token.
pub(crate) fn kubeconfig(cluster: &Reach, directory: &Path, name: &str, token: &str) -> PathBuf {
    let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let mut config: Value = serde_saphyr::from_str(&text).unwrap();
    config["users"][0]["user"] = json!({"token": token});
    let path = directory.join(format!("{name}.kubeconfig"));
    // JSON is YAML.
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

/// Each single thing that a rule allows.
pub(crate) fn reviews(rule: &Rule) -> Vec<ResourceAttributes> {
    let (resource, subresource) = match rule.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (rule.resource, None),
    };
    let namespace = match rule.scope {
        Scope::Cluster => None,
        Scope::Own => Some(SYSTEM.to_owned()),
        Scope::KubeSystem => Some("kube-system".to_owned()),
    };
    let names: Vec<_> = match rule.names {
        [] => vec![None],
        names => names.iter().map(|name| Some((*name).to_owned())).collect(),
    };
    let of_name = |name: Option<String>| {
        let of_verb = |verb: &&str| ResourceAttributes {
            group: Some(rule.group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: subresource.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
            verb: Some((*verb).to_owned()),
            ..ResourceAttributes::default()
        };
        rule.verbs.iter().map(of_verb).collect::<Vec<_>>()
    };
    names.into_iter().flat_map(of_name).collect()
}

/// Whether a user may do something.
pub(crate) fn allowed(cluster: &Reach, user: &str, wanted: ResourceAttributes) -> bool {
    let api = Api::<SubjectAccessReview>::all(cluster.client.clone());
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                "system:serviceaccounts:podline-system".to_owned(),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(wanted),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    cluster.run(async move {
        let answer = api.create(&PostParams::default(), &review).await;
        answer.unwrap().status.unwrap().allowed
    })
}
