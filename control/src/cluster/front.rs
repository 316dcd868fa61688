//! What clients connect to: an object that becomes listeners.

use std::fmt;

use super::key::Key;

/// An object that becomes listeners, of whichever kind. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Front {
    /// A Service of type LoadBalancer.
    Service(Key),
    /// An Ingress.
    Ingress(Key),
}

impl Front {
    /// Namespace and name.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Service(key) | Self::Ingress(key) => key,
        }
    }

    /// Its key, if it is a Service.
    pub const fn service(&self) -> Option<&Key> {
        match self {
            Self::Service(key) => Some(key),
            Self::Ingress(_) => None,
        }
    }

    /// Its key, if it is an Ingress.
    pub const fn ingress(&self) -> Option<&Key> {
        match self {
            Self::Ingress(key) => Some(key),
            Self::Service(_) => None,
        }
    }

    /// As Kubernetes writes its group and version.
    pub const fn api_version(&self) -> &'static str {
        match self {
            Self::Service(_) => "v1",
            Self::Ingress(_) => "networking.k8s.io/v1",
        }
    }

    /// As Kubernetes writes its kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Service(_) => "Service",
            Self::Ingress(_) => "Ingress",
        }
    }
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.key())
    }
}
