//! Holds the manifests under docker/deploy/base against the code; what else is under docker, in the files beside this.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod kustomize;
mod overlays;
mod policies;
mod services;
mod watching;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::{CommandFactory, Parser};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1 as rbac;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::settings::Settings;

const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker/deploy/base");

/// Each file of the base: its name and text.
pub(crate) fn files() -> Vec<(String, String)> {
    let mut found: Vec<_> = fs::read_dir(BASE)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    found.sort();
    found
}

/// Every object of the base.
pub(crate) fn objects() -> Vec<Value> {
    let files = files().into_iter();
    files
        .filter(|(name, _)| name != "kustomization.yaml")
        .flat_map(|(name, text)| {
            let objects = serde_saphyr::from_multiple::<Value>(&text);
            objects.unwrap_or_else(|error| panic!("{name}: {error}"))
        })
        .collect()
}

/// The objects of a kind. None of them has a field that this kind does not have.
pub(crate) fn of_kind<K: DeserializeOwned + Serialize>(kind: &str) -> Vec<K> {
    let objects = objects();
    let found = objects.into_iter().filter(|object| object["kind"] == kind);
    found
        .map(|object| {
            let read: K = serde_json::from_value(object.clone()).unwrap();
            let again = serde_json::to_value(&read).unwrap();
            assert_eq!(again, object, "a field that {kind} does not have");
            read
        })
        .collect()
}

fn deployment(name: &str) -> Deployment {
    let mut all = of_kind::<Deployment>("Deployment").into_iter();
    all.find(|found| found.metadata.name.as_deref() == Some(name))
        .unwrap()
}

fn pod(deployment: &Deployment) -> core::PodSpec {
    let spec = deployment.spec.clone().unwrap();
    spec.template.spec.unwrap()
}

fn container(deployment: &Deployment) -> core::Container {
    let containers = pod(deployment).containers;
    let [container] = <[_; 1]>::try_from(containers).unwrap();
    container
}

/// The value of a flag.
fn flag(container: &core::Container, name: &str) -> String {
    let args = container.args.iter().flatten();
    let mut values = args.filter_map(|arg| arg.strip_prefix(&format!("--{name}=")));
    values
        .next()
        .unwrap_or_else(|| panic!("no --{name}"))
        .to_owned()
}

fn port_of(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

fn ports(container: &core::Container) -> Vec<(String, i32)> {
    let ports = container.ports.iter().flatten();
    ports
        .map(|port| (port.name.clone().unwrap(), port.container_port))
        .collect()
}

#[test]
fn every_file_is_in_the_kustomization_and_nothing_else() {
    let files = files();
    let kustomization = &files
        .iter()
        .find(|(name, _)| name == "kustomization.yaml")
        .unwrap()
        .1;
    let kustomization: Value = serde_saphyr::from_str(kustomization).unwrap();
    let resources = kustomization["resources"].as_array().unwrap().iter();
    let named: BTreeSet<_> = resources
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    let there = files.iter().map(|(name, _)| name.clone());
    let there: BTreeSet<_> = there.filter(|name| name != "kustomization.yaml").collect();
    assert_eq!(named, there);
    let image = &kustomization["images"][0];
    assert_eq!(
        image,
        &json!({"name": "podline", "newName": "podline", "newTag": "latest"})
    );
}

#[test]
fn every_object_is_of_a_known_kind_in_our_namespace_and_labelled() {
    for object in objects() {
        let (kind, meta) = (object["kind"].as_str().unwrap(), &object["metadata"]);
        let name = meta["name"].as_str().unwrap();
        assert_eq!(meta["labels"][PART_OF.0], PART_OF.1, "{kind} {name}");
        let program = meta["labels"].get(NAME_LABEL);
        if kind == "Namespace" {
            assert_eq!((name, program), (NAMESPACE, None));
        } else if kind == "CustomResourceDefinition" {
            assert_eq!((name, program), (crate::crd::NAME, Some(&json!(CONTROL))));
        } else {
            assert_eq!(program, Some(&json!(name)), "{kind}");
            let known = match kind {
                "DaemonSet" => [RETURN_PATH, RESPONDER],
                "ClusterRole" => [CONTROL, TLS_ROLE],
                "NetworkPolicy" => [CONTROL, RESPONDER],
                _ => [CONTROL, PROXY],
            };
            assert!(known.contains(&name), "{kind} {name}");
        }
        let namespace = meta.get("namespace").and_then(Value::as_str);
        let expected: &[Option<&str>] = match kind {
            "Namespace"
            | "ClusterRole"
            | "ClusterRoleBinding"
            | "CustomResourceDefinition"
            | "ValidatingAdmissionPolicy"
            | "ValidatingAdmissionPolicyBinding" => &[None],
            "Role" | "RoleBinding" => &[Some(NAMESPACE), Some("kube-system")],
            "ServiceAccount"
            | "Deployment"
            | "DaemonSet"
            | "Service"
            | "NetworkPolicy"
            | "PodDisruptionBudget" => &[Some(NAMESPACE)],
            _ => panic!("{kind} is not known"),
        };
        assert!(
            expected.contains(&namespace),
            "{kind} {name}: {namespace:?}"
        );
    }
    of_kind::<core::Namespace>("Namespace");
    of_kind::<PodDisruptionBudget>("PodDisruptionBudget");
    of_kind::<rbac::RoleBinding>("RoleBinding");
    of_kind::<rbac::ClusterRoleBinding>("ClusterRoleBinding");
}

#[test]
fn uninstall_knows_every_kind_that_is_installed() {
    for object in objects() {
        let kind = object["kind"].as_str().unwrap();
        assert!(crate::cli::uninstalls(kind), "{kind} would be left behind");
    }
}

/// RBAC lets the account patch every status of a Pod; the policy leaves it one condition.
#[test]
fn the_policy_is_about_our_account_and_our_condition() {
    use k8s_openapi::api::admissionregistration::v1 as admission;
    let policies = of_kind::<admission::ValidatingAdmissionPolicy>("ValidatingAdmissionPolicy");
    let [policy] = <[_; 1]>::try_from(policies).unwrap();
    let spec = policy.spec.unwrap();
    assert_eq!(spec.failure_policy.as_deref(), Some("Fail"));
    let conditions = spec.match_conditions.unwrap();
    let account = format!("== 'system:serviceaccount:{NAMESPACE}:{CONTROL}'");
    assert_eq!(conditions.len(), 1);
    assert!(conditions[0].expression.ends_with(&account));
    let variables = spec.variables.unwrap();
    let gate = variables.iter().find(|it| it.name == "gate").unwrap();
    assert_eq!(gate.expression, format!("'{}'", crate::cluster::pod::GATE));
    let forbids = |it: &admission::Validation| it.reason.as_deref() == Some("Forbidden");
    assert!(spec.validations.unwrap().iter().all(forbids));
    let kind = "ValidatingAdmissionPolicyBinding";
    let bindings = of_kind::<admission::ValidatingAdmissionPolicyBinding>(kind);
    let [binding] = <[_; 1]>::try_from(bindings).unwrap();
    let spec = binding.spec;
    assert_eq!(Some(spec.policy_name), policy.metadata.name);
    assert_eq!(spec.validation_actions, ["Deny"]);
}

#[test]
fn the_controllers_flags_exist_and_mean_what_the_manifest_says() {
    let container = container(&deployment(CONTROL));
    assert_eq!(
        container.command.as_deref(),
        Some(&["podline-control".to_owned()][..])
    );
    let line = container.command.iter().chain(&container.args).flatten();
    let settings = Settings::try_parse_from(line).unwrap();
    let service = settings.proxy_service().unwrap();
    assert_eq!((&*service.namespace, &*service.name), (NAMESPACE, PROXY));
    assert_eq!(settings.admin.port(), port::CONTROL_ADMIN);
    assert!(
        settings.admin.ip().is_unspecified(),
        "the kubelet probes the Pod's address"
    );
    assert_eq!(settings.api.port(), port::CONTROL_API);
    let webhook = settings.webhook.unwrap();
    assert_eq!(webhook.port(), port::CONTROL_WEBHOOK);
    let expected = [
        ("admin", port::CONTROL_ADMIN),
        ("webhook", port::CONTROL_WEBHOOK),
    ];
    assert_eq!(
        ports(&container),
        expected.map(|(name, port)| (name.to_owned(), i32::from(port)))
    );
    // Namespace and replica come by environment, under the names that the flags have.
    let command = Settings::command();
    let variables: BTreeSet<_> = command
        .get_arguments()
        .filter_map(|argument| Some(argument.get_env()?.to_str()?.to_owned()))
        .collect();
    let given: Vec<_> = container
        .env
        .iter()
        .flatten()
        .map(|found| found.name.clone())
        .collect();
    assert_eq!(given, ["POD_NAME", "POD_NAMESPACE"]);
    assert!(given.iter().all(|name| variables.contains(name)));
}

#[test]
fn nothing_that_podline_listens_at_can_be_taken_by_a_service() {
    let settings = Settings::try_parse_from(["podline-control", "--proxy-service=x"]).unwrap();
    for port in [
        port::CONTROL_ADMIN,
        port::CONTROL_API,
        port::PROXY_API,
        port::PROXY_METRICS,
    ] {
        assert!(settings.reserved_ports.contains(&port), "{port}");
    }
}

/// The proxy's flags cannot be imported, so its source is read.
#[test]
fn the_proxys_flags_exist() {
    const SOURCE: &str = include_str!("../../../proxy/src/settings.rs");
    let container = container(&deployment(PROXY));
    assert_eq!(
        container.command.as_deref(),
        Some(&["podline-proxy".to_owned()][..])
    );
    let args: Vec<_> = container.args.iter().flatten().collect();
    assert!(args.len() > 5);
    for arg in args {
        let name = arg.strip_prefix("--").unwrap().split('=').next().unwrap();
        let variable = name.replace('-', "_");
        for text in [
            format!("env = \"PODLINE_{}\"", variable.to_uppercase()),
            format!("pub {variable}: "),
        ] {
            assert!(SOURCE.contains(&text), "--{name}: there is no {text}");
        }
    }
    assert_eq!(port_of(&flag(&container, "api")), port::PROXY_API);
    assert_eq!(port_of(&flag(&container, "metrics")), port::PROXY_METRICS);
    let expected = [("api", port::PROXY_API), ("metrics", port::PROXY_METRICS)];
    let expected = expected.map(|(name, port)| (name.to_owned(), i32::from(port)));
    assert_eq!(ports(&container), expected);
}

#[test]
fn the_proxys_files_are_mounted() {
    let deployment = deployment(PROXY);
    let (pod, container) = (pod(&deployment), container(&deployment));
    let mount = |name: &str| {
        let mut mounts = container.volume_mounts.iter().flatten();
        mounts.find(|mount| mount.name == name).unwrap().clone()
    };
    assert_eq!(mount("tls").mount_path, PROXY_TLS_FOLDER);
    for (name, file) in [
        ("api-cert", "tls.crt"),
        ("api-key", "tls.key"),
        ("api-client-ca", "ca.crt"),
    ] {
        assert_eq!(flag(&container, name), format!("{PROXY_TLS_FOLDER}/{file}"));
    }
    let state = Path::new(&flag(&container, "state-file")).to_owned();
    assert_eq!(state.parent(), Some(Path::new(&mount("state").mount_path)));
    let volumes = pod.volumes.unwrap();
    let volume = |name: &str| volumes.iter().find(|volume| volume.name == name).unwrap();
    let secret = volume("tls").secret.clone().unwrap();
    assert_eq!(secret.secret_name.as_deref(), Some(PROXY_SECRET));
    assert_eq!(secret.optional, Some(true), "the controller makes it");
    assert!(volume("state").empty_dir.is_some());
}

#[test]
fn proxies_use_their_nodes_network_and_one_goes_before_the_next_comes() {
    let deployment = deployment(PROXY);
    let pod = pod(&deployment);
    assert_eq!(pod.host_network, Some(true));
    assert_eq!(pod.automount_service_account_token, Some(false));
    let strategy = deployment
        .spec
        .unwrap()
        .strategy
        .unwrap()
        .rolling_update
        .unwrap();
    let (surge, unavailable) = (
        strategy.max_surge.unwrap(),
        strategy.max_unavailable.unwrap(),
    );
    assert_eq!((surge, unavailable), (Int(0), Int(1)));
    let affinity = pod.affinity.unwrap().pod_anti_affinity.unwrap();
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .unwrap();
    assert_eq!(required[0].topology_key, "kubernetes.io/hostname");
    // The process's own limit first, the kubelet's after it.
    assert!(pod.termination_grace_period_seconds.unwrap() > 25);
}

#[test]
fn what_selects_pods_selects_ours() {
    let of = |name: &str| json!({(NAME_LABEL): name});
    let budgets = of_kind::<PodDisruptionBudget>("PodDisruptionBudget");
    assert_eq!(budgets.len(), 2);
    for budget in budgets {
        let selector = budget.spec.unwrap().selector.unwrap().match_labels;
        assert_eq!(json!(selector), of(&budget.metadata.name.unwrap()));
    }
    for name in [CONTROL, PROXY] {
        let deployment = deployment(name);
        let spec = deployment.spec.unwrap();
        assert_eq!(spec.replicas, Some(2));
        assert_eq!(json!(spec.selector.match_labels), of(name));
        let labels = spec.template.metadata.unwrap().labels.unwrap();
        assert_eq!(labels[NAME_LABEL], name);
        assert_eq!(labels[PART_OF.0], PART_OF.1, "uninstall waits for them");
        let account = spec.template.spec.unwrap().service_account_name;
        assert_eq!(account.as_deref(), Some(name));
    }
}

#[test]
fn the_proxies_are_found_before_they_are_ready() {
    let [service] = <[core::Service; 1]>::try_from(of_kind("Service")).unwrap();
    assert_eq!(service.metadata.name.as_deref(), Some(PROXY));
    let spec = service.spec.unwrap();
    assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
    assert_eq!(spec.publish_not_ready_addresses, Some(true));
    assert_eq!(json!(spec.selector), json!({(NAME_LABEL): PROXY}));
    let [port] = <[_; 1]>::try_from(spec.ports.unwrap()).unwrap();
    assert_eq!(port.name.as_deref(), Some(API_PORT_NAME));
    assert_eq!(port.port, i32::from(port::PROXY_API));
}

#[test]
fn both_run_with_as_little_as_they_can() {
    for (name, adds) in [
        (CONTROL, None),
        (
            PROXY,
            Some(
                ["NET_BIND_SERVICE", "NET_ADMIN", "NET_RAW"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
        ),
    ] {
        let deployment = deployment(name);
        let (pod, container) = (pod(&deployment), container(&deployment));
        let of_pod = pod.security_context.unwrap();
        let profile = of_pod.seccomp_profile.unwrap().type_;
        assert_eq!(profile, "RuntimeDefault");
        assert_eq!(of_pod.run_as_non_root.unwrap_or(false), name == CONTROL);
        let own = container.security_context.unwrap();
        assert_eq!(own.read_only_root_filesystem, Some(true));
        assert_eq!(own.allow_privilege_escalation, Some(false));
        let capabilities = own.capabilities.unwrap();
        assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(capabilities.add, adds);
        let resources = container.resources.unwrap();
        assert!(resources.limits.unwrap().contains_key("memory"));
        assert_eq!(resources.requests.unwrap().len(), 2);
        for (probe, path) in [
            (container.liveness_probe, "/healthz"),
            (container.readiness_probe, "/readyz"),
        ] {
            assert_eq!(probe.unwrap().http_get.unwrap().path.as_deref(), Some(path));
        }
    }
}

fn daemon_set(name: &str) -> core::PodTemplateSpec {
    let mut all = of_kind::<DaemonSet>("DaemonSet").into_iter();
    let found = all.find(|found| found.metadata.name.as_deref() == Some(name));
    let spec = found.unwrap().spec.unwrap();
    assert_eq!(
        json!(spec.selector.match_labels),
        json!({(NAME_LABEL): name})
    );
    let labels = spec.template.metadata.clone().unwrap().labels.unwrap();
    assert_eq!(
        (&*labels[NAME_LABEL], &*labels[PART_OF.0]),
        (name, PART_OF.1)
    );
    spec.template
}

fn only_container(pod: &core::PodSpec) -> core::Container {
    let [container] = <[_; 1]>::try_from(pod.containers.clone()).unwrap();
    container
}

#[test]
fn what_runs_on_every_node_has_as_little_as_it_can() {
    let net_admin = Some(vec!["NET_ADMIN".to_owned()]);
    for (name, verb, is_of_node, adds) in [
        (RETURN_PATH, "return-path", true, net_admin),
        (RESPONDER, "responder", false, None),
    ] {
        let pod = daemon_set(name).spec.unwrap();
        assert_eq!(pod.host_network.unwrap_or(false), is_of_node);
        assert_eq!(pod.automount_service_account_token, Some(false));
        assert_eq!(
            pod.tolerations.clone().unwrap()[0].operator.as_deref(),
            Some("Exists")
        );
        let of_pod = pod.security_context.clone().unwrap();
        assert_eq!(of_pod.run_as_non_root.unwrap_or(false), !is_of_node);
        assert_eq!(of_pod.seccomp_profile.unwrap().type_, "RuntimeDefault");
        let container = only_container(&pod);
        let command = ["podline-proxy", verb].map(str::to_owned);
        assert_eq!(container.command, Some(command.to_vec()));
        assert_eq!(container.image.as_deref(), Some("podline:latest"));
        let own = container.security_context.unwrap();
        assert_eq!(own.read_only_root_filesystem, Some(true));
        assert_eq!(own.allow_privilege_escalation, Some(false));
        let capabilities = own.capabilities.unwrap();
        assert_eq!(
            (capabilities.drop, capabilities.add),
            (Some(vec!["ALL".to_owned()]), adds)
        );
        assert!(
            container
                .resources
                .unwrap()
                .limits
                .unwrap()
                .contains_key("memory")
        );
    }
}

/// Others have no image of ours, nor the kernel for it.
#[test]
fn everything_runs_on_linux() {
    let deployments = [CONTROL, PROXY].map(|name| pod(&deployment(name)));
    let daemons = [RETURN_PATH, RESPONDER].map(|name| daemon_set(name).spec.unwrap());
    for pod in deployments.into_iter().chain(daemons) {
        assert_eq!(pod.node_selector.unwrap()["kubernetes.io/os"], "linux");
    }
}

#[test]
fn replies_are_led_back_to_the_proxies_by_their_service() {
    let pod = daemon_set(RETURN_PATH).spec.unwrap();
    assert_eq!(pod.dns_policy.as_deref(), Some("ClusterFirstWithHostNet"));
    let proxies = flag(&only_container(&pod), "proxy");
    assert_eq!(proxies, format!("{PROXY}.{NAMESPACE}.svc"));
}

#[test]
fn responders_answer_where_proxies_ask() {
    let container = only_container(&daemon_set(RESPONDER).spec.unwrap());
    let expected = ["tcp", "udp"].map(|name| (name.to_owned(), i32::from(port::RESPONDER)));
    assert_eq!(ports(&container), expected);
    let protocols: Vec<_> = container
        .ports
        .iter()
        .flatten()
        .map(|port| port.protocol.as_deref())
        .collect();
    assert_eq!(protocols, [None, Some("UDP")]);
}

/// The flags of the node's programs, where this tree has them.
#[test]
fn the_flags_of_what_runs_on_nodes_exist() {
    const HOST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../proxy/src/host");
    let Ok(agent) = fs::read_to_string(format!("{HOST}/return_path/settings.rs")) else {
        println!("there is no return-path in this tree");
        return;
    };
    assert!(agent.contains("long = \"proxy\"") && agent.contains("pub remove: bool"));
    let wire = fs::read_to_string(format!("{HOST}/responder/wire.rs")).unwrap();
    let expected = format!("PORT: u16 = {}", port::RESPONDER);
    assert!(wire.contains(&expected), "{expected}");
}
