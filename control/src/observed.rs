//! What the proxies say of themselves, as one value that anybody may read: made by `push`, read by `build` (health of
//! what a terminating backend waits for), `reconcile` (status) and the gates. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use podline_api::{BackendKey, Name};

/// All proxies that are known now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// By the name that finding gave them: a Pod's name, or the target as it was written.
    pub proxies: BTreeMap<String, Arc<ProxyView>>,
}

/// One proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyView {
    /// `ip:port` of its API.
    pub target: String,
    /// Where clients reach it, one of a family at most; empty until it is known.
    pub addresses: Vec<IpAddr>,
    /// Stream up, ready, fresh acknowledgements, not far behind (K8).
    pub serving: bool,
    /// Why it does not serve, in words; empty if it does.
    pub not_serving_reason: String,
    /// The newest snapshot version that all its workers act on; 0 is none.
    pub acked: u64,
    /// Of podline.v1, from its Hello.
    pub level: u32,
    /// From its Hello.
    pub features: BTreeSet<String>,
    /// Listeners of ours that it could not bind, and why.
    pub failed_listeners: BTreeMap<Name, String>,
    /// What it refused of the snapshot, by listener or set name, in its words.
    pub refused: BTreeMap<Name, String>,
    /// Backends of ours whose probes pass, or that are not probed, by set.
    pub healthy: Arc<HashMap<Name, BTreeSet<BackendKey>>>,
}

impl Observed {
    /// Those that serve.
    pub fn serving(&self) -> impl Iterator<Item = (&str, &ProxyView)> {
        self.proxies
            .iter()
            .filter(|(_, proxy)| proxy.serving)
            .map(|(name, proxy)| (name.as_str(), &**proxy))
    }
}
