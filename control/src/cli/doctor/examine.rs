//! From what was asked to what is wrong and what to do about it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::time::SystemTime;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use podline_api::v1;
use podline_api::v1::listener::SourceAddress;
use podline_api::v1::path_status::State;
use serde::Serialize;

use super::gather::{ClusterFacts, Facts, ProxyFacts};
use super::plugin::Plugin;
use super::policies::{self, InTheWay};
use crate::cli::human::{Columns, age, clean, count};
use crate::cli::settings::name_of;
use crate::installation::{NAMESPACE, RESPONDER, RETURN_PATH};

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    proxies: Vec<Proxy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_plugin: Option<Found>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policies: Vec<InTheWay>,
    findings: Vec<Finding>,
    /// What could not be looked at, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unseen: Vec<(String, String)>,
    #[serde(skip)]
    has_cluster: bool,
}

/// A proxy, and the ways from it.
#[derive(Debug, Default, Serialize)]
struct Proxy {
    name: String,
    /// Why it cannot be asked.
    #[serde(skip_serializing_if = "String::is_empty")]
    problem: String,
    /// Why it can imitate no client.
    #[serde(skip_serializing_if = "String::is_empty")]
    transparency_problem: String,
    /// Listeners whose Pods are to see their clients.
    wanted_by: usize,
    ways: Vec<Way>,
    fallbacks: Vec<Fallback>,
}

/// The way between a proxy and a node.
#[derive(Debug, Serialize)]
struct Way {
    node: String,
    family: &'static str,
    state: String,
    found: String,
    /// Where it breaks.
    #[serde(skip_serializing_if = "str::is_empty")]
    hop: &'static str,
    /// Clients beside the Pods of the node are not imitated.
    bridged: bool,
    #[serde(skip)]
    since: Option<prost_types::Timestamp>,
}

/// How often a listener fell back to the proxy's address.
#[derive(Debug, Serialize)]
struct Fallback {
    listener: String,
    transparent: u64,
    by_reason: BTreeMap<String, u64>,
}

/// The network plugin.
#[derive(Debug, Serialize)]
struct Found {
    plugin: Plugin,
    name: &'static str,
    by: String,
    about: &'static str,
    /// Nodes whose `podCIDRs` hold every Pod of theirs, and all nodes.
    nodes_by_ranges: usize,
    nodes: usize,
}

/// Something to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Finding {
    /// What is asked for does not work.
    broken: bool,
    what: String,
    advice: String,
}

impl Report {
    /// Something that is asked for does not work.
    pub(super) fn is_broken(&self) -> bool {
        self.findings.iter().any(|finding| finding.broken)
    }

    fn find(&mut self, broken: bool, what: String, advice: impl Into<String>) {
        let finding = Finding {
            broken,
            what,
            advice: advice.into(),
        };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}

/// Draws the conclusions.
pub(super) fn examine(facts: &Facts) -> Report {
    let mut report = Report::default();
    if let Some(cluster) = &facts.cluster {
        report.has_cluster = true;
        report.network_plugin = Some(plugin(cluster));
        report.unseen.clone_from(&cluster.unseen);
        report.policies = policies_of(cluster);
        if facts.proxies.is_empty() {
            let what = "no proxy was found".to_owned();
            report.find(true, what, "kubectl apply -k docker/deploy/base");
        }
    }
    let expects = report.network_plugin.as_ref().map(|found| found.about);
    for facts_of in &facts.proxies {
        let proxy = proxy(facts_of, facts.cluster.as_ref());
        judge(&mut report, &proxy);
        report.proxies.push(proxy);
    }
    of_ways(&mut report, expects);
    let wanted = report.proxies.iter().any(|proxy| proxy.wanted_by > 0);
    if let Some(cluster) = &facts.cluster {
        of_nodes(&mut report, cluster, wanted);
    }
    of_policies(&mut report);
    // What is broken first, and the rest as it came.
    report.findings.sort_by_key(|finding| !finding.broken);
    report
}

fn proxy(facts: &ProxyFacts, cluster: Option<&ClusterFacts>) -> Proxy {
    let status = facts.state.network.clone().unwrap_or_default();
    let wants = |listener: &&v1::ListenerStatus| {
        let wire = listener.listener.as_ref();
        wire.is_some_and(|wire| {
            matches!(
                wire.source_address(),
                SourceAddress::PreferTransparent | SourceAddress::Transparent
            )
        })
    };
    let network = status.network.unwrap_or_default();
    let has_responder = |way: &v1::PathStatus| {
        let mut nodes = network.nodes.iter().filter(|node| node.name == way.node);
        nodes.any(|node| {
            let mut all = node.responders.iter();
            all.any(|address| address.starts_with('[') == way.ipv6)
        })
    };
    let fallbacks = facts.state.listeners.iter().filter(wants).map(|status| {
        let name = status.listener.as_ref().map(|wire| wire.name.clone());
        let reasons = status.snat_connections.iter();
        Fallback {
            listener: name.unwrap_or_default(),
            transparent: status.transparent_connections,
            by_reason: reasons.map(|(why, count)| (why.clone(), *count)).collect(),
        }
    });
    Proxy {
        name: facts.name.clone(),
        problem: facts.problem.clone(),
        transparency_problem: status.transparency_problem,
        wanted_by: facts.state.listeners.iter().filter(wants).count(),
        fallbacks: fallbacks.filter(|it| !it.by_reason.is_empty()).collect(),
        ways: status
            .paths
            .iter()
            .map(|path| Way {
                node: path.node.clone(),
                family: if path.ipv6 { "IPv6" } else { "IPv4" },
                state: name_of(path.state().as_str_name()),
                found: match (path.state(), &*path.reason) {
                    (State::Proven, "") => {
                        "TCP and UDP came back, and the client was seen".to_owned()
                    }
                    (_, reason) => reason.to_owned(),
                },
                hop: hop(path, has_responder(path), cluster),
                bridged: path.bridged,
                since: path.since,
            })
            .collect(),
    }
}

const RESPONDER_HOP: &str = "the responder";
const AGENT_HOP: &str = "the node's return path";
const MASQUERADE_HOP: &str = "masquerading between proxy and Pod";
const PROXY_HOP: &str = "the proxy itself";
const BACK_HOP: &str = "the way back to the proxy";

/// Where a way breaks; empty where it does not.
fn hop(path: &v1::PathStatus, has_responder: bool, cluster: Option<&ClusterFacts>) -> &'static str {
    let reason = path.reason.as_str();
    let runs_on = |pods: &[Pod]| {
        pods.iter()
            .any(|pod| is_on(pod, &path.node) && is_ready(pod))
    };
    match path.state() {
        State::Proven => "",
        _ if !has_responder || reason.contains("refused") => RESPONDER_HOP,
        State::Unproven | State::Unspecified => "",
        State::Failed if reason.contains("masqueraded") => MASQUERADE_HOP,
        State::Failed if reason.contains("cannot send") => PROXY_HOP,
        State::Failed if cluster.is_some_and(|it| !runs_on(&it.return_paths)) => AGENT_HOP,
        State::Failed => BACK_HOP,
    }
}

fn is_on(pod: &Pod, node: &str) -> bool {
    let name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    name == Some(node)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|it| it.conditions.iter().flatten());
    let mut ready = conditions.filter(|it| it.type_ == "Ready");
    ready.any(|it| it.status == "True")
}

/// What is wrong with one proxy and its ways.
fn judge(report: &mut Report, proxy: &Proxy) {
    let name = &proxy.name;
    if !proxy.problem.is_empty() {
        let what = format!("proxy {name} cannot be asked: {}", proxy.problem);
        report.find(true, what, "podline --kube status says how it does");
        return;
    }
    let wanted = proxy.wanted_by > 0;
    if !proxy.transparency_problem.is_empty() {
        let problem = &proxy.transparency_problem;
        let what = format!("proxy {name} can imitate no client: {problem}");
        let advice = "give it NET_ADMIN, as docker/deploy/base/proxy.yaml does, and mend what the words say of its host";
        report.find(wanted, what, advice);
        return;
    }
    if wanted && proxy.ways.is_empty() {
        let what = format!("proxy {name} knows no node");
        let advice = "its file or controller has to name the nodes in `network`: is the controller of this release?";
        report.find(true, what, advice);
    }
}

/// The ways that break, those together that break at the same place with the same words.
fn of_ways(report: &mut Report, expects: Option<&'static str>) {
    let mut alike: BTreeMap<(bool, &'static str, String), Vec<String>> = BTreeMap::new();
    let able = report.proxies.iter();
    let able = able.filter(|proxy| proxy.transparency_problem.is_empty());
    for proxy in able {
        let wanted = proxy.wanted_by > 0;
        for way in proxy.ways.iter().filter(|way| !way.hop.is_empty()) {
            let (node, family) = (&way.node, way.family);
            let told = format!("{node} over {family} from proxy {}", proxy.name);
            let kind = (wanted, way.hop, way.found.clone());
            alike.entry(kind).or_default().push(told);
        }
    }
    for ((wanted, hop, found), ways) in alike {
        let ways = few(ways.iter().map(String::as_str));
        let what = format!("{ways}: {found} (it breaks at {hop})");
        report.find(wanted, what, advice(hop, expects));
    }
}

fn advice(hop: &str, expects: Option<&'static str>) -> String {
    let pods = |name: &str| {
        format!("kubectl -n {NAMESPACE} get pods -o wide -l app.kubernetes.io/name={name}")
    };
    match hop {
        RESPONDER_HOP => format!("podline-responder has to run there: {}", pods(RESPONDER)),
        AGENT_HOP => format!(
            "podline-return-path has to run there: {}",
            pods(RETURN_PATH)
        ),
        PROXY_HOP => "its host has no way there: look at its routes and links".to_owned(),
        MASQUERADE_HOP => match expects {
            Some(about) => about.to_owned(),
            None => "something masquerades what the proxy sends to Pods: exempt it, or use PROXY protocol v2".to_owned(),
        },
        _ => {
            let rest = "is rp_filter 2 or 0 on both hosts' links, and does no NetworkPolicy or firewall drop the replies?";
            match expects {
                Some(about) => format!("{rest} Of the network plugin: {about}"),
                None => format!("does `podline-proxy return-path` run on the node; {rest}"),
            }
        }
    }
}

fn plugin(cluster: &ClusterFacts) -> Found {
    let mut pods = cluster.plugin_pods.clone();
    pods.extend(cluster.pods.iter().cloned());
    let (plugin, by) = Plugin::recognise(&cluster.nodes, &pods);
    let row = plugin.row();
    let by_ranges = cluster.nodes.iter().filter(|node| {
        let ranges = node
            .spec
            .iter()
            .flat_map(|it| it.pod_cidrs.iter().flatten());
        let ranges: Vec<IpNet> = ranges.filter_map(|text| text.parse().ok()).collect();
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let pods = cluster
            .pods
            .iter()
            .filter(|pod| is_on(pod, name) && has_own_address(pod));
        let is_inside = |ip: IpAddr| ranges.iter().any(|range| range.contains(&ip));
        !ranges.is_empty() && pods.flat_map(ips).all(is_inside)
    });
    Found {
        plugin,
        name: row.name,
        by,
        about: row.about,
        nodes_by_ranges: by_ranges.count(),
        nodes: cluster.nodes.len(),
    }
}

fn has_own_address(pod: &Pod) -> bool {
    let of_node = pod.spec.as_ref().and_then(|spec| spec.host_network);
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    of_node != Some(true) && !matches!(phase, Some("Succeeded" | "Failed"))
}

fn ips(pod: &Pod) -> Vec<IpAddr> {
    let all = pod.status.iter().flat_map(|it| it.pod_ips.iter().flatten());
    all.filter_map(|ip| ip.ip.parse().ok()).collect()
}

fn policies_of(cluster: &ClusterFacts) -> Vec<InTheWay> {
    let mut found = policies::find(
        &cluster.policies,
        &cluster.services,
        &cluster.pods,
        &cluster.proxy_addresses,
    );
    found.sort_by(|a, b| a.policy.cmp(&b.policy));
    found.dedup();
    found
}

/// Nodes without what has to run on them. What the proofs say of them is told already.
fn of_nodes(report: &mut Report, cluster: &ClusterFacts, wanted: bool) {
    for (name, pods) in [
        (RETURN_PATH, &cluster.return_paths),
        (RESPONDER, &cluster.responders),
    ] {
        let without = cluster.nodes.iter().filter_map(|node| {
            let node = node.metadata.name.as_deref()?;
            let runs = pods.iter().any(|pod| is_on(pod, node) && is_ready(pod));
            (!runs).then(|| node.to_owned())
        });
        let without: BTreeSet<String> = without.collect();
        if without.is_empty() {
            continue;
        }
        let nodes = few(without.iter().map(String::as_str));
        let what = format!("{name} does not run, or is not ready, on {nodes}");
        let advice = format!("kubectl -n {NAMESPACE} describe daemonset {name}");
        report.find(false, what, advice);
        if wanted && pods.is_empty() {
            let what = format!("{name} runs nowhere, and Services want their Pods to see clients");
            report.find(true, what, "kubectl apply -k docker/deploy/base");
        }
    }
}

fn of_policies(report: &mut Report) {
    for policy in report.policies.clone() {
        let services = few(policy.services.iter().map(String::as_str));
        if !policy.bars.is_empty() {
            let addresses: Vec<String> = policy.bars.iter().map(ToString::to_string).collect();
            let addresses = few(addresses.iter().map(String::as_str));
            let what = format!(
                "NetworkPolicy {} names no address of proxies ({addresses}), and is about Pods of {services}",
                policy.policy
            );
            let advice = "let the proxies' nodes in by an ipBlock: probes come from there, and connections whose client is not imitated";
            report.find(false, what, advice);
        }
        if policy.bars_clients {
            let what = format!(
                "NetworkPolicy {} lets in no network, and is about Pods of {services}, which may see their clients now",
                policy.policy
            );
            report.find(false, what, "name the clients' networks in an ipBlock, or annotate podline.io/source-address: snat");
        }
    }
}

/// The first few, and that there are more.
fn few<'a>(all: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 5;
    let all: Vec<&str> = all.collect();
    let more = all.len().saturating_sub(MOST);
    let shown = all
        .iter()
        .take(MOST)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    match more {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// For people.
pub(super) fn render(report: &Report, now: SystemTime) -> String {
    let mut text = String::new();
    if let Some(found) = &report.network_plugin {
        let by = match &*found.by {
            "" => String::new(),
            by => format!(" (by {})", clean(by)),
        };
        let _ = writeln!(text, "network plugin: {}{by}: {}", found.name, found.about);
        let _ = writeln!(
            text,
            "Pods' addresses: in their node's podCIDRs on {} of {}; elsewhere each Pod by itself\n",
            found.nodes_by_ranges,
            count(found.nodes, "node")
        );
    }
    text += &ways(&report.proxies, now);
    for proxy in &report.proxies {
        for fallback in &proxy.fallbacks {
            let reasons = fallback.by_reason.iter();
            let reasons: Vec<_> = reasons
                .map(|(why, count)| format!("{why} {count}"))
                .collect();
            let _ = writeln!(
                text,
                "proxy {}: listener/{}: {} as their clients, others as the proxy: {}",
                clean(&proxy.name),
                clean(&fallback.listener),
                fallback.transparent,
                clean(&reasons.join(", "))
            );
        }
    }
    if !report.findings.is_empty() {
        text.push('\n');
    }
    for finding in &report.findings {
        let kind = if finding.broken { "BROKEN" } else { "note" };
        let _ = writeln!(
            text,
            "{kind}: {}\n  {}",
            clean(&finding.what),
            clean(&finding.advice)
        );
    }
    for (what, why) in &report.unseen {
        let _ = writeln!(text, "not looked at: {}: {}", clean(what), clean(why));
    }
    if report.findings.is_empty() {
        let nothing = if report.proxies.iter().all(|proxy| proxy.wanted_by == 0) {
            "nothing is wrong; no listener wants its clients' addresses to be seen"
        } else {
            "nothing is wrong"
        };
        let _ = writeln!(text, "\n{nothing}");
    }
    text
}

fn ways(proxies: &[Proxy], now: SystemTime) -> String {
    const HEADER: &[&str] = &[
        "PROXY",
        "NODE",
        "FAMILY",
        "WAY",
        "SINCE",
        "FOUND",
        "BREAKS AT",
        "BRIDGE",
    ];
    let mut columns = Columns::new("", HEADER);
    let mut rows = 0;
    for proxy in proxies {
        for way in &proxy.ways {
            rows += 1;
            columns.row([
                proxy.name.clone(),
                way.node.clone(),
                way.family.to_owned(),
                way.state.clone(),
                age(way.since.as_ref(), now),
                way.found.clone(),
                way.hop.to_owned(),
                if way.bridged { "yes" } else { "" }.to_owned(),
            ]);
        }
    }
    if rows == 0 {
        return "no way to a node is known\n".to_owned();
    }
    columns.text()
}
