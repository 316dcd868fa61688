//! Which network plugin a cluster has, by what it leaves in Nodes and Pods, and what that means for source addresses
//! (K17). Pure.

use k8s_openapi::api::core::v1::{Node, Pod};
use serde::Serialize;

/// Namespaces that plugins run in.
pub(super) const NAMESPACES: &[&str] = &["kube-system", "kube-flannel", "calico-system"];

/// Annotations that Cilium, flannel and Calico's tunnels leave in Nodes.
const CILIUM: &[&str] = &[
    "network.cilium.io/ipv4-cilium-host",
    "network.cilium.io/ipv6-cilium-host",
    "io.cilium.network.ipv4-cilium-host",
];
const BACKEND: &str = "flannel.alpha.coreos.com/backend-type";
const TUNNELS: &[&str] = &[
    "projectcalico.org/IPv4IPIPTunnelAddr",
    "projectcalico.org/IPv4VXLANTunnelAddr",
    "projectcalico.org/IPv6VXLANTunnelAddr",
];

/// A plugin, and how it carries packets between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Plugin {
    Kindnet,
    FlannelVxlan,
    FlannelRouted,
    CalicoRouted,
    CalicoEncapsulated,
    Cilium,
    Unknown,
}

/// What is known of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// What to expect, and what to do where it does not work.
    pub(super) about: &'static str,
}

impl Plugin {
    /// What follows from it.
    pub(super) const fn row(self) -> Row {
        let (name, about) = match self {
            Self::Kindnet => (
                "kindnet",
                "Pods can see their clients, once podline-return-path runs on every node",
            ),
            Self::FlannelVxlan => (
                "flannel with VXLAN",
                "podline-return-path leads replies back through the tunnel, and exempts them from flannel's masquerading; where it says \"masqueraded\", it does not run on that node, or on the proxy's",
            ),
            Self::FlannelRouted => (
                "flannel without encapsulation",
                "Pods can see their clients, once podline-return-path runs on every node",
            ),
            Self::CalicoRouted => (
                "Calico without encapsulation",
                "Pods can see their clients, once podline-return-path runs on every node; Calico's own policies have to let the clients in",
            ),
            Self::CalicoEncapsulated => (
                "Calico with IPIP or VXLAN",
                "the way back is not proven to work with its tunnels: use PROXY protocol v2 (podline.io/proxy-protocol: v2), or Calico without encapsulation where nodes are neighbours",
            ),
            Self::Cilium => (
                "Cilium",
                "it works with legacy host routing only (bpf.hostLegacyRouting=true): else Cilium passes the node's rules by; use PROXY protocol v2 (podline.io/proxy-protocol: v2)",
            ),
            Self::Unknown => (
                "not recognised",
                "what the proofs find is all that is known of it; where they fail, use PROXY protocol v2 (podline.io/proxy-protocol: v2)",
            ),
        };
        Row { name, about }
    }

    /// Recognises a plugin by annotations of Nodes and by its Pods; and what it was recognised by. Where two are
    /// installed, the one counts that carries the packets: flannel beneath Calico's policies, Cilium above all.
    pub(super) fn recognise(nodes: &[Node], pods: &[Pod]) -> (Self, String) {
        let annotated = |key: &str| -> Option<&str> {
            let annotations = nodes
                .iter()
                .filter_map(|it| it.metadata.annotations.as_ref());
            let mut found = annotations.filter_map(|it| it.get(key));
            found.find(|text| !text.is_empty()).map(String::as_str)
        };
        let runs = |label: &str, value: &str| {
            pods.iter().any(|pod| {
                let labels = pod.metadata.labels.as_ref();
                labels.and_then(|it| it.get(label)).map(String::as_str) == Some(value)
            })
        };
        let by_pods = |what: &str| format!("Pods {what}");
        let by_nodes = |key: &str| format!("annotation {key} of Nodes");
        if let Some(key) = CILIUM.iter().find(|key| annotated(key).is_some()) {
            return (Self::Cilium, by_nodes(key));
        }
        if runs("k8s-app", "cilium") {
            return (Self::Cilium, by_pods("k8s-app=cilium"));
        }
        match annotated(BACKEND) {
            Some("host-gw" | "alloc") => return (Self::FlannelRouted, by_nodes(BACKEND)),
            Some(_) => return (Self::FlannelVxlan, by_nodes(BACKEND)),
            None => {}
        }
        if let Some(key) = TUNNELS.iter().find(|key| annotated(key).is_some()) {
            return (Self::CalicoEncapsulated, by_nodes(key));
        }
        if runs("k8s-app", "calico-node") {
            return (Self::CalicoRouted, by_pods("k8s-app=calico-node"));
        }
        for (label, value) in [("app", "kindnet"), ("k8s-app", "kindnet")] {
            if runs(label, value) {
                return (Self::Kindnet, by_pods(&format!("{label}={value}")));
            }
        }
        if runs("app", "flannel") || runs("k8s-app", "flannel") {
            return (Self::FlannelVxlan, by_pods("app=flannel"));
        }
        (Self::Unknown, String::new())
    }
}
