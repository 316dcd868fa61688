//! The certificates of the control channel, between controllers and proxies: Podline's own CA and two leaves of it, made,
//! renewed, rotated and mended with no manual step.
//!
//! Three Secrets in the controller's namespace hold them. `podline-control-ca` has the CA and its key and is never
//! mounted. Proxies mount `podline-proxy-tls`; controllers read `podline-control-tls`. In each of these two, `ca.crt` says
//! whom its reader trusts. One leaf serves all proxies, the other all controllers.
//!
//! `x509` reads certificates and says what is wrong with them; `plan` decides the next step; both are pure. `make` draws
//! keys and signs. `stored` and `object` say how it all lies in Secrets; `change` puts these together. `keeper` watches
//! the Secrets, writes them if this replica leads, and publishes what a controller shows to proxies.
//!
//! A CA is replaced without a moment in which somebody is not trusted. The new one is put beside the old one in both
//! bundles. When that was so for the grace, by which time every reader has read it, leaves are signed by the new one. When
//! these have been there for the grace, the old one leaves the bundles. Any replica can go on from any point: all that
//! matters is in the Secrets.

mod change;
mod keeper;
mod make;
mod object;
mod pace;
mod plan;
mod stored;
#[cfg(test)]
mod tests;
mod x509;

use std::time::Duration;

pub use keeper::{Keeper, Report};

/// Which Secrets, for which cluster, and how long things last.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the Secrets are: the controller's own namespace.
    pub namespace: String,
    /// The CA's Secret.
    pub authority_secret: String,
    /// The Secret that proxies mount.
    pub proxy_secret: String,
    /// The Secret of the controllers.
    pub control_secret: String,
    /// Controllers act as the owner `k8s/<cluster>`; their certificate says so.
    pub cluster: String,
    /// How long things last.
    pub lives: Lives,
}

impl Settings {
    /// The usual names and lives.
    pub fn new(namespace: &str, cluster: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            authority_secret: crate::installation::CA_SECRET.to_owned(),
            proxy_secret: crate::installation::PROXY_SECRET.to_owned(),
            control_secret: crate::installation::CONTROL_SECRET.to_owned(),
            cluster: cluster.to_owned(),
            lives: Lives::default(),
        }
    }
}

/// How long things last. Each certificate is renewed when two thirds of its life are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// Of a CA; many times the grace.
    pub authority: Duration,
    /// Of a leaf; many times the grace, and less than a third of the CA's.
    pub leaf: Duration,
    /// After so long everybody has read what a Secret says. The kubelet takes up to two minutes.
    pub grace: Duration,
    /// A proxy that is known to lag behind is waited for so long.
    pub patience: Duration,
}

impl Default for Lives {
    fn default() -> Self {
        Self {
            authority: Duration::from_hours(2 * 365 * 24),
            leaf: Duration::from_hours(90 * 24),
            grace: Duration::from_mins(5),
            patience: Duration::from_hours(7 * 24),
        }
    }
}
