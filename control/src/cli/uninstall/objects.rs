//! The kinds of objects that Podline may consist of, in the order in which they go. Pure.

use std::fmt;

use kube::api::ApiResource;
use kube::core::GroupVersionKind;

/// Where objects of a kind are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// They have no namespace.
    Cluster,
    /// In Podline's namespace.
    Own,
    /// In every namespace.
    Everywhere,
}

/// What becomes of objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// They go before anything else: they act on what other objects may become.
    First,
    /// They go when nobody needs them any more.
    Last,
    /// They go by themselves.
    Watched,
}

/// A kind of objects.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) noun: &'static str,
    pub(super) plural: &'static str,
    pub(super) place: Place,
    pub(super) fate: Fate,
}

const fn kind(
    group: &'static str,
    noun: &'static str,
    plural: &'static str,
    place: Place,
    fate: Fate,
) -> Kind {
    Kind {
        group,
        noun,
        plural,
        place,
        fate,
    }
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

/// All of them; within a fate in the order in which they go. All are served as v1.
pub(super) static KINDS: &[Kind] = &[
    kind(
        ADMISSION,
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        Place::Cluster,
        Fate::First,
    ),
    kind(
        ADMISSION,
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        Place::Cluster,
        Fate::First,
    ),
    kind(
        ADMISSION,
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        Place::Cluster,
        Fate::First,
    ),
    kind(
        ADMISSION,
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        Place::Cluster,
        Fate::First,
    ),
    kind("apps", "Deployment", "deployments", Place::Own, Fate::Last),
    kind("apps", "DaemonSet", "daemonsets", Place::Own, Fate::Last),
    kind("", "Pod", "pods", Place::Own, Fate::Watched),
    kind(
        "policy",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        Place::Own,
        Fate::Last,
    ),
    kind(
        "networking.k8s.io",
        "NetworkPolicy",
        "networkpolicies",
        Place::Own,
        Fate::Last,
    ),
    kind("", "Service", "services", Place::Own, Fate::Last),
    kind("", "ConfigMap", "configmaps", Place::Own, Fate::Last),
    kind("", "Secret", "secrets", Place::Own, Fate::Last),
    kind(
        "coordination.k8s.io",
        "Lease",
        "leases",
        Place::Own,
        Fate::Last,
    ),
    kind(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        Place::Cluster,
        Fate::Last,
    ),
    kind(
        RBAC,
        "RoleBinding",
        "rolebindings",
        Place::Everywhere,
        Fate::Last,
    ),
    kind(RBAC, "Role", "roles", Place::Everywhere, Fate::Last),
    kind(
        RBAC,
        "ClusterRoleBinding",
        "clusterrolebindings",
        Place::Cluster,
        Fate::Last,
    ),
    kind(
        RBAC,
        "ClusterRole",
        "clusterroles",
        Place::Cluster,
        Fate::Last,
    ),
    kind(
        "",
        "ServiceAccount",
        "serviceaccounts",
        Place::Own,
        Fate::Last,
    ),
];

/// Goes after everything in it.
pub(super) static NAMESPACE: Kind = kind("", "Namespace", "namespaces", Place::Cluster, Fate::Last);

impl Kind {
    /// How the API server is asked for it.
    pub(super) fn resource(&self) -> ApiResource {
        let kind = GroupVersionKind::gvk(self.group, "v1", self.noun);
        ApiResource::from_gvk_with_plural(&kind, self.plural)
    }
}

/// An object of Podline's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Thing {
    pub(super) kind: &'static Kind,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// Of this object: another one of that name is left alone.
    pub(super) uid: String,
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.noun)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// Whether every namespace has such an object by itself.
pub(super) fn is_of_every_namespace(kind: &Kind, name: &str) -> bool {
    matches!(
        (kind.noun, name),
        ("ConfigMap", "kube-root-ca.crt") | ("ServiceAccount", "default")
    )
}
