//! The reasons that the condition of a gate gives. Pure.

use crate::reasons::reasons;

reasons! {
    /// Why a gate is open or closed, as it stands in its condition. Never renamed.
    /// The gate opens for it; the others keep it closed until they are over.
    opens: Open | Closed;
    /// Every proxy that serves takes it for healthy, behind every listener that is bound to it.
    Healthy: Open,
    /// No Service of ours selects it, and no slice of one names it.
    NoLoadBalancer: Open,
    /// Every Service of ours that selects it goes through node ports.
    NodePortMode: Open,
    /// A Service has more Pods than the quota.
    BeyondQuota: Open,
    /// It uses its node's network.
    HostNetwork: Open,
    /// Its network mode keeps a direct Service from it.
    NetworkModeRefused: Open,
    /// It has none of the Service's target ports.
    PortNotOnPod: Open,
    /// Nothing of the Service can be forwarded.
    Skipped: Open,
    /// Podline was removed from the cluster.
    Uninstalled: Open,
    /// A port of the Service is not served as it is configured.
    InvalidConfig: Closed,
    /// A proxy cannot bind a listener.
    ListenerFailed: Closed,
    /// A proxy's probes fail.
    Unhealthy: Closed,
    /// A proxy has no verdict yet.
    Probing: Closed,
    /// No proxy serves.
    NoServingProxy: Closed,
}
