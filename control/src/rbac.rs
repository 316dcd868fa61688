//! What the controller may do in a cluster, as a table: manifests and documentation are held against it. Each rule says
//! which feature needs it. The proxies may do nothing at all.

use crate::cluster::switches;
use crate::crd;
use crate::installation::{
    CA_SECRET, CONTROL_SECRET, LEASE, PROXY_SECRET, TICKETS_SECRET, WEBHOOK_CA_SECRET,
    WEBHOOK_SECRET, WEBHOOKS,
};

/// Where a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace.
    Cluster,
    /// In Podline's own namespace.
    Own,
    /// In the namespace of TKE's ConfigMap.
    KubeSystem,
}

/// Something that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where.
    pub scope: Scope,
    /// Empty for the core group.
    pub group: &'static str,
    /// In plural, with its subresource.
    pub resource: &'static str,
    /// Only objects of these names; all if empty.
    pub names: &'static [&'static str],
    /// What may be done to them.
    pub verbs: &'static [&'static str],
    /// Which feature needs it.
    pub why: &'static str,
}

const fn rule(
    scope: Scope,
    group: &'static str,
    resource: &'static str,
    names: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Rule {
    Rule {
        scope,
        group,
        resource,
        names,
        verbs,
        why,
    }
}

const SECRETS: &[&str] = &[
    CA_SECRET,
    PROXY_SECRET,
    CONTROL_SECRET,
    WEBHOOK_CA_SECRET,
    WEBHOOK_SECRET,
    TICKETS_SECRET,
];
const ADMISSION: &str = "admissionregistration.k8s.io";

/// What the controller may do, and nothing besides.
pub const RULES: &[Rule] = &[
    rule(
        Scope::Cluster,
        "",
        "services",
        &[],
        &["list", "watch", "patch"],
        "Services become load balancers; patch: our finalizer and annotations.",
    ),
    rule(
        Scope::Cluster,
        "",
        "services/status",
        &[],
        &["patch"],
        "Addresses and conditions of Services.",
    ),
    rule(
        Scope::Cluster,
        "networking.k8s.io",
        "ingresses",
        &[],
        &["list", "watch", "patch"],
        "Ingresses become listeners; patch: our finalizer and annotations.",
    ),
    rule(
        Scope::Cluster,
        "networking.k8s.io",
        "ingresses/status",
        &[],
        &["patch"],
        "Addresses of Ingresses.",
    ),
    rule(
        Scope::Cluster,
        "discovery.k8s.io",
        "endpointslices",
        &[],
        &["list", "watch"],
        "The Pods behind a Service, and the proxies themselves.",
    ),
    rule(
        Scope::Cluster,
        "",
        "pods",
        &[],
        &["list", "watch"],
        "Whether a Pod is alive, on which node, and in its network.",
    ),
    rule(
        Scope::Cluster,
        "",
        "pods/status",
        &[],
        &["patch"],
        "Readiness gates: our condition, and by the admission policy nothing else.",
    ),
    rule(
        Scope::Cluster,
        "",
        "nodes",
        &[],
        &["list", "watch"],
        "NodePort mode, and Pods of nodes that are gone.",
    ),
    rule(
        Scope::Cluster,
        crd::GROUP,
        crd::PLURAL,
        &[],
        &["list", "watch", "create", "patch"],
        "TkeServiceConfigs configure listeners; create, patch: those that are made for Services and Ingresses, and their entries.",
    ),
    rule(
        Scope::Cluster,
        "events.k8s.io",
        "events",
        &[],
        &["create", "patch"],
        "Events tell owners of Services and Ingresses what is wrong; patch: the same again.",
    ),
    rule(
        Scope::Cluster,
        ADMISSION,
        "mutatingwebhookconfigurations",
        &[WEBHOOKS],
        &["list", "watch", "patch"],
        "The webhook that gives Pods their readiness gate: registered, repaired.",
    ),
    rule(
        Scope::Cluster,
        ADMISSION,
        "validatingwebhookconfigurations",
        &[WEBHOOKS],
        &["list", "watch", "patch"],
        "The webhook that drains Pods before their deletion: registered, repaired.",
    ),
    rule(
        Scope::Cluster,
        ADMISSION,
        "mutatingwebhookconfigurations",
        &[],
        &["create"],
        "The same; RBAC cannot name what does not exist yet.",
    ),
    rule(
        Scope::Cluster,
        ADMISSION,
        "validatingwebhookconfigurations",
        &[],
        &["create"],
        "The same; RBAC cannot name what does not exist yet.",
    ),
    rule(
        Scope::Cluster,
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        &[crd::NAME],
        &["list", "watch", "patch"],
        "The kind TkeServiceConfig: made where it is not there, repaired.",
    ),
    rule(
        Scope::Cluster,
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        &[],
        &["create"],
        "The same; RBAC cannot name what does not exist yet.",
    ),
    rule(
        Scope::Own,
        "",
        "services",
        &[],
        &["create"],
        "The Service through which webhooks are called: made, repaired.",
    ),
    rule(
        Scope::Own,
        "coordination.k8s.io",
        "leases",
        &[LEASE],
        &["get", "update"],
        "Leader election.",
    ),
    rule(
        Scope::Own,
        "coordination.k8s.io",
        "leases",
        &[],
        &["create"],
        "Leader election; RBAC cannot name what does not exist yet.",
    ),
    rule(
        Scope::Own,
        "",
        "secrets",
        SECRETS,
        &["get", "list", "watch", "update"],
        "Certificates of the control channel and of the webhooks, and ticket keys: made, renewed, repaired.",
    ),
    rule(
        Scope::Own,
        "",
        "secrets",
        &[],
        &["create"],
        "The same; RBAC cannot name what does not exist yet.",
    ),
    rule(
        Scope::KubeSystem,
        "",
        "configmaps",
        &[switches::NAME],
        &["list", "watch", "patch"],
        "TKE's switches for the whole cluster; patch: VERSION, where TKE's controller is not.",
    ),
];

/// What the controller may do besides in namespaces where somebody binds the ClusterRole `podline-tls` to its account.
pub const TLS: &[Rule] = &[rule(
    Scope::Cluster,
    "",
    "secrets",
    &[],
    &["list", "watch"],
    "Certificates for TLS listeners: only Secrets that a Service or Ingress names are asked for, one by one.",
)];

/// What somebody may do who asks the controller with `podline --kube`; in no manifest.
pub const ASKING: &[Rule] = &[
    rule(
        Scope::Own,
        "",
        "pods",
        &[],
        &["list"],
        "The controller's Pods.",
    ),
    rule(
        Scope::Own,
        "coordination.k8s.io",
        "leases",
        &[LEASE],
        &["get"],
        "Which of them leads; any of them is asked without it.",
    ),
    rule(
        Scope::Own,
        "",
        "pods/portforward",
        &[],
        &["get", "create"],
        "The way to its API; before Kubernetes 1.35 get suffices.",
    ),
];

/// What `podline --kube doctor` looks at besides, with the rights of whoever runs it; in no manifest. What it may not see
/// it says.
pub const DOCTOR: &[Rule] = &[
    rule(
        Scope::Own,
        "",
        "secrets",
        &[CONTROL_SECRET],
        &["get"],
        "The way to the proxies' API, as with --proxy-pod.",
    ),
    rule(
        Scope::Cluster,
        "",
        "nodes",
        &[],
        &["list"],
        "Which network plugin there is, and where Pods are.",
    ),
    rule(
        Scope::Cluster,
        "",
        "pods",
        &[],
        &["list"],
        "The same, and whom policies are about.",
    ),
    rule(
        Scope::Cluster,
        "",
        "services",
        &[],
        &["list"],
        "Whose Pods are to see their clients; only in their namespaces.",
    ),
    rule(
        Scope::Cluster,
        "networking.k8s.io",
        "networkpolicies",
        &[],
        &["list"],
        "Who may be barred; only in their namespaces and Podline's.",
    ),
];

#[cfg(test)]
mod tests;
