//! What the controller was told at its start.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::allocate::Pool;

/// What the controller was told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The `loadBalancerClass` that is ours.
    pub class: String,
    /// Services without a class are ours, too.
    pub default_class: bool,
    /// Services that do not say how go straight to Pods.
    pub default_direct: bool,
    /// Classes of Ingresses that are ours.
    pub ingress_classes: BTreeSet<String>,
    /// Backends of one port at most.
    pub quota: usize,
    /// Ports that no Service gets.
    pub reserved_ports: BTreeSet<u16>,
    /// How long connections live on when what they go through is removed.
    pub drain_timeout: Duration,
    /// Where we are, and the responders.
    pub namespace: String,
    /// Addresses that Services get; without a pool clients connect to the proxies' own.
    pub pool: Option<Pool>,
    /// New Pods of direct Services are to have a readiness gate of ours.
    pub gives_gates: bool,
}

impl Options {
    pub(super) fn is_reserved(&self, port: u16) -> bool {
        self.reserved_ports.contains(&port)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            class: "podline.io/clb".to_owned(),
            default_class: false,
            default_direct: false,
            ingress_classes: ["podline", "qcloud"].map(str::to_owned).into(),
            quota: 200,
            reserved_ports: BTreeSet::new(),
            drain_timeout: Duration::from_mins(15),
            namespace: crate::installation::NAMESPACE.to_owned(),
            pool: None,
            gives_gates: false,
        }
    }
}
