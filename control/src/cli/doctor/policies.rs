//! NetworkPolicies that may be in the way: of the proxies, which probe Pods from their nodes' addresses, or of clients,
//! whose addresses policies did not see before. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Serialize;

/// A policy that may be in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct InTheWay {
    pub(super) policy: String,
    /// Services whose Pods it is about.
    pub(super) services: Vec<String>,
    /// No rule names these addresses of proxies.
    pub(super) bars: Vec<IpAddr>,
    /// It lets nobody in by any address.
    pub(super) bars_clients: bool,
}

/// Finds them. `services` go straight to their Pods.
pub(super) fn find(
    policies: &[NetworkPolicy],
    services: &[Service],
    pods: &[Pod],
    proxies: &[IpAddr],
) -> Vec<InTheWay> {
    let mut found = Vec::new();
    for policy in policies {
        let Some(rules) = Rules::read(policy) else {
            continue;
        };
        let concerned = services.iter().filter(|service| {
            let mut all = pods.iter();
            all.any(|pod| is_of(service, pod) && applies(policy, pod))
        });
        let concerned: Vec<String> = concerned.map(|it| full_name(&it.metadata)).collect();
        if concerned.is_empty() || rules.allows_all {
            continue;
        }
        let barred = proxies.iter().filter(|ip| !rules.allow(**ip));
        let bars: Vec<IpAddr> = barred.copied().collect();
        let bars_clients = rules.blocks.is_empty();
        found.push(InTheWay {
            policy: full_name(&policy.metadata),
            services: concerned,
            bars,
            bars_clients,
        });
    }
    found
}

/// Whom a policy lets in, as far as addresses go.
struct Rules {
    allows_all: bool,
    blocks: Vec<(IpNet, Vec<IpNet>)>,
}

impl Rules {
    /// `None`: it says nothing of who comes in.
    fn read(policy: &NetworkPolicy) -> Option<Self> {
        let spec = policy.spec.as_ref()?;
        let types = spec.policy_types.as_ref();
        let is_ingress = types.is_none_or(|types| types.iter().any(|it| it == "Ingress"));
        is_ingress.then_some(())?;
        let rules = || spec.ingress.iter().flatten();
        let from = rules().flat_map(|rule| rule.from.iter().flatten());
        let blocks = from.filter_map(|peer| peer.ip_block.as_ref()?.read());
        Some(Self {
            allows_all: rules().any(|rule| rule.from.as_ref().is_none_or(Vec::is_empty)),
            blocks: blocks.collect(),
        })
    }

    fn allow(&self, ip: IpAddr) -> bool {
        let is_in = |(block, except): &(IpNet, Vec<IpNet>)| {
            block.contains(&ip) && !except.iter().any(|range| range.contains(&ip))
        };
        self.blocks.iter().any(is_in)
    }
}

trait Read {
    fn read(&self) -> Option<(IpNet, Vec<IpNet>)>;
}

impl Read for IPBlock {
    fn read(&self) -> Option<(IpNet, Vec<IpNet>)> {
        let except = self.except.iter().flatten();
        let except = except.filter_map(|text| text.parse().ok());
        Some((self.cidr.parse().ok()?, except.collect()))
    }
}

fn is_of(service: &Service, pod: &Pod) -> bool {
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref());
    let Some(selector) = selector.filter(|selector| !selector.is_empty()) else {
        return false;
    };
    let labels = pod.metadata.labels.as_ref();
    let has =
        |(key, value): (&String, &String)| labels.and_then(|labels| labels.get(key)) == Some(value);
    service.metadata.namespace == pod.metadata.namespace && selector.iter().all(has)
}

fn applies(policy: &NetworkPolicy, pod: &Pod) -> bool {
    let nothing = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&nothing);
    let selector = policy.spec.as_ref().and_then(|it| it.pod_selector.as_ref());
    policy.metadata.namespace == pod.metadata.namespace
        && selector.is_none_or(|selector| matches(selector, labels))
}

fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let mut exact = selector.match_labels.iter().flatten();
    let mut rules = selector.match_expressions.iter().flatten();
    exact.all(|(key, value)| labels.get(key) == Some(value))
        && rules.all(|rule| {
            let found = labels.get(&rule.key);
            let values = rule.values.as_deref().unwrap_or_default();
            let is_named = found.is_some_and(|it| values.contains(it));
            match rule.operator.as_str() {
                "In" => is_named,
                "NotIn" => !is_named,
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

/// `namespace/name`.
pub(super) fn full_name(
    meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> String {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    format!("{namespace}/{}", meta.name.as_deref().unwrap_or_default())
}
