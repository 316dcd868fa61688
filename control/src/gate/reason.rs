//! The reasons that the condition of a gate gives. Pure.

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident: $state:ident,)+) => {
        /// Why a gate is open or closed, as it stands in its condition. Never renamed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word, as it is written everywhere.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// The gate opens for it; the others keep it closed until they are over.
            pub const fn opens(self) -> bool {
                match self {
                    $(Self::$name => matches!(State::$state, State::Open),)+
                }
            }
        }
    };
}

enum State {
    Open,
    Closed,
}

reasons! {
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

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
