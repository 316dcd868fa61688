//! What a proxy must be able to do for a listener or set: nothing is sent to one that does not name the feature. Pure.

use std::collections::BTreeSet;

use podline_api::{
    AffinityKind, BackendHttp, BackendSet, Caps, CheckKind, Limits, Listener, Policy, Protocol,
    SourceAddress,
};

/// The condition under which a proxy lacks something.
pub(crate) const TOO_OLD: &str = "ProxyTooOld";
/// A change of single backends says how long connections of what it removes live on.
pub(super) const DRAIN_TIMEOUT_OF_CHANGE: &str = "drain-timeout-of-change";

/// The proxy knows what the network is.
pub(super) const NETWORK: &str = "network";
/// The proxy knows that clients can be imitated. One that does not is sent a wish to prefer that without it: it would do
/// the same.
pub(super) const SOURCE_ADDRESS: &str = "source-address";

/// The proxy holds virtual addresses, and listens on those that it does not have.
pub(super) const ADDRESSES: &str = "addresses";

/// The proxy sends on what is for connections that the one before it let in. One that does not is not told to.
pub(super) const HANDOVER: &str = "handover";

/// The proxy takes backends out after failed connects. One that does not is not told to.
pub(super) const PASSIVE_CHECK: &str = "passive-check";

/// The proxy has HTTP listeners, and affinity by cookies for them.
const HTTP: &str = "http";

/// Something that is sent to proxies.
pub(super) trait Needs {
    /// The features without which a proxy cannot do what this says.
    fn needs(&self) -> Vec<&'static str>;

    /// What a proxy with these features lacks, in words.
    fn fits(&self, features: &BTreeSet<String>) -> Result<(), String> {
        let mut needs = self.needs();
        needs.retain(|need| !features.contains(*need));
        match &*needs {
            [] => Ok(()),
            lacking => Err(format!(
                "{TOO_OLD}: the proxy cannot do {}; update it",
                lacking.join(", ")
            )),
        }
    }
}

impl Needs for Listener {
    fn needs(&self) -> Vec<&'static str> {
        let Limits {
            source_ranges,
            total,
            per_client,
        } = &self.limits;
        let is_capped = [total, per_client]
            .iter()
            .any(|caps| **caps != Caps::default());
        let all = [
            (is_capped, "limits"),
            (!source_ranges.is_empty(), "source-ranges"),
            (self.protocol == Protocol::Udp, "udp"),
            (self.protocol.is_http(), HTTP),
            (self.protocol.has_tls(), "tls"),
            (
                self.source_address == SourceAddress::Transparent,
                SOURCE_ADDRESS,
            ),
            (!self.proxy_protocol.is_none(), "proxy-protocol"),
        ];
        needed(&all)
    }
}

impl Needs for BackendSet {
    fn needs(&self) -> Vec<&'static str> {
        let settings = &self.settings;
        let kind = settings.health_check.as_ref().map(|check| &check.kind);
        let affinity = settings.affinity.as_ref().map(|affinity| &affinity.kind);
        let by_address = matches!(affinity, Some(AffinityKind::ClientIp { .. }));
        let by_cookie = matches!(affinity, Some(AffinityKind::Cookie { .. }));
        let all = [
            (matches!(settings.policy, Policy::Maglev(_)), "maglev"),
            (by_address, "client-ip-affinity"),
            (by_cookie, HTTP),
            (matches!(kind, Some(CheckKind::Http(_))), "http-check"),
            (matches!(kind, Some(CheckKind::Grpc(_))), "grpc-check"),
            (matches!(kind, Some(CheckKind::Udp(_))), "udp-check"),
            (matches!(kind, Some(CheckKind::Ping)), "ping"),
            (settings.http_version == BackendHttp::Http2, "http2"),
            (settings.tls.is_some(), "backend-tls"),
        ];
        needed(&all)
    }
}

fn needed(all: &[(bool, &'static str)]) -> Vec<&'static str> {
    all.iter()
        .filter(|(is_used, _)| *is_used)
        .map(|(_, feature)| *feature)
        .collect()
}
