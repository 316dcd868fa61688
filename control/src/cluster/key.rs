//! What names a namespaced object.

use std::fmt;
use std::sync::Arc;

/// Namespace and name of an object; of which kind, the context says. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Where it lives.
    pub namespace: Arc<str>,
    /// What it is called there.
    pub name: Arc<str>,
}

impl Key {
    /// The object `namespace`/`name`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Another object of the same namespace.
    #[must_use]
    pub fn beside(&self, name: &Arc<str>) -> Self {
        Self {
            namespace: Arc::clone(&self.namespace),
            name: Arc::clone(name),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
