//! A TkeServiceConfig: settings of listeners that exist already, as far as they can be read.
//!
//! It is sparse: what it does not say stays as it is. A value that cannot be read is a problem of its own and spoils no
//! other; it counts as not said.

mod anchor;
mod field;
mod fragment;
mod read;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::Key;
use crate::crd::TkeServiceConfig;
pub use anchor::{Anchor, Speech};
pub use field::{FIELDS, Field, Place, Row, Setting, Type};
pub use fragment::Fragment;
pub use read::{Problem, ProblemKind, Problems};

/// Names of objects that are made for Services with the annotation `tke-service-config-auto` end with this.
pub const AUTO_SUFFIX: &str = "-auto-service-config";
/// The same for Ingresses.
pub const AUTO_INGRESS_SUFFIX: &str = "-auto-ingress-config";
/// Where an object made for a Service remembers which listeners it was made for, as a list in JSON.
pub const MADE_FOR: &str = "podline.io/made-for";

/// What listeners and rules are to be; those that are not among them stay as they are.
pub type Fragments = BTreeMap<Anchor, Fragment>;

/// A TkeServiceConfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Namespace and name.
    pub key: Key,
    /// What it says.
    pub fragments: Fragments,
    /// What it says of the load balancer as a whole.
    pub whole: Fragment,
    /// What in it cannot be read, or is not known.
    pub problems: Problems,
    /// How it stands in the API server, of an object that may have been made for a Service.
    pub made: Option<Made>,
}

/// An object that may have been made for a Service, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// For writes that must not undo somebody else's.
    pub resource_version: String,
    /// `spec.loadBalancer.l4Listeners`, as it is.
    pub l4: Arc<Vec<Value>>,
    /// `spec.loadBalancer.l7Listeners`, as it is.
    pub l7: Arc<Vec<Value>>,
    /// `metadata.ownerReferences`: uid and all of it.
    pub owners: Vec<(String, Value)>,
    /// The listeners that it was made for.
    pub made_for: Vec<String>,
}

impl ServiceConfig {
    /// Reads the object; `None` if it has no name or namespace, which the API server never sends.
    pub fn read(object: &TkeServiceConfig) -> Option<Self> {
        let meta = &object.metadata;
        let key = Key::new(meta.namespace.as_deref()?, meta.name.as_deref()?);
        let balancer = &object.spec["loadBalancer"];
        let (fragments, whole, problems) = read::read(balancer);
        let is_made = [AUTO_SUFFIX, AUTO_INGRESS_SUFFIX]
            .iter()
            .any(|suffix| key.name.ends_with(suffix));
        let made = is_made.then(|| Made::read(object, balancer));
        Some(Self {
            key,
            fragments,
            whole,
            problems,
            made,
        })
    }
}

impl Made {
    fn read(object: &TkeServiceConfig, balancer: &Value) -> Self {
        let list = |field: &str| Arc::new(balancer[field].as_array().cloned().unwrap_or_default());
        let meta = &object.metadata;
        let owners = meta.owner_references.iter().flatten();
        let annotation = meta.annotations.as_ref().and_then(|all| all.get(MADE_FOR));
        Self {
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            l4: list("l4Listeners"),
            l7: list("l7Listeners"),
            owners: owners
                .map(|owner| {
                    let value = serde_json::to_value(owner).unwrap_or_default();
                    (owner.uid.clone(), value)
                })
                .collect(),
            made_for: annotation
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or_default(),
        }
    }
}
