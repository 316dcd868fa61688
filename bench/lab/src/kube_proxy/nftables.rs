//! kube-proxy's rules of nftables mode for one node and family, as `nft list` writes them: the table `kube-proxy`.
//! It must not know how rules get into a kernel.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use super::names;
use super::view::{Family, Fate, NodeView, PortView, range};

/// The bit of the packet mark that asks for the node's address as source.
const MARK: &str = "0x00004000";

/// The words of a family.
struct Words {
    ip: &'static str,
    kind: &'static str,
    loopback: &'static str,
}

impl Words {
    const fn of(family: Family) -> Self {
        match family {
            Family::V4 => Self {
                ip: "ip",
                kind: "ipv4_addr",
                loopback: "127.0.0.0/8",
            },
            Family::V6 => Self {
                ip: "ip6",
                kind: "ipv6_addr",
                loopback: "::1",
            },
        }
    }
}

/// The elements of the table's sets and maps.
#[derive(Default)]
struct Elements {
    /// Ports may share a target.
    hairpin: BTreeSet<String>,
    /// Ports of one Service share their address.
    cluster: BTreeSet<String>,
    silent_services: Vec<String>,
    silent_node_ports: Vec<String>,
    services: Vec<String>,
    node_ports: Vec<String>,
}

/// The table.
pub(super) fn text(view: &NodeView) -> String {
    let words = Words::of(view.family);
    let mut elements = Elements::default();
    let mut chains = Vec::new();
    for port in view.ports() {
        elements.add(&port, view.family);
        chains.extend(port_chains(&port, view, &words));
    }
    let mut text = format!(
        "table {} kube-proxy {{\n\tcomment \"rules for kube-proxy\"\n",
        words.ip
    );
    sets(&mut text, &words, view, &elements);
    for (name, lines) in base_chains()
        .into_iter()
        .chain(plain_chains(view, &words))
        .chain(chains)
    {
        block(&mut text, &format!("chain {name}"), &lines, &[]);
    }
    text.truncate(text.len() - 1); // the empty line after the last block
    text.push_str("}\n");
    text
}

impl Elements {
    fn add(&mut self, port: &PortView<'_>, family: Family) {
        let word = port.port.protocol.word();
        let name = names::nftables_port(port.service, port.port);
        let comment = names::port(port.service, port.port);
        for to in &port.local {
            let (address, port) = (to.ip(), to.port());
            self.hairpin
                .insert(format!("{address} . {address} . {word} . {port}"));
        }
        let address = port.service.cluster_address;
        self.cluster.insert(address.to_string());
        let cluster = format!(
            "{} . {word} . {}",
            port.service.cluster_address, port.port.port
        );
        if port.has_endpoints() {
            self.services
                .push(format!("{cluster} : goto service-{name}"));
        } else {
            self.silent_services.push(format!(
                "{cluster} comment \"{comment}\" : goto reject-chain"
            ));
        }
        let silence = match port.external {
            Fate::Forwarded => None,
            Fate::Rejected => Some("goto reject-chain"),
            Fate::Dropped => Some("drop"),
        };
        let ingress = port.ingress(family);
        let ingress = ingress.map(|address| format!("{address} . {word} . {}", port.port.port));
        let node_port = port
            .port
            .node_port
            .map(|node_port| format!("{word} . {node_port}"));
        for (keys, loud, silent) in [
            (
                ingress.collect(),
                &mut self.services,
                &mut self.silent_services,
            ),
            (
                Vec::from_iter(node_port),
                &mut self.node_ports,
                &mut self.silent_node_ports,
            ),
        ] {
            for key in keys {
                if port.has_endpoints() {
                    loud.push(format!("{key} : goto external-{name}"));
                }
                if let Some(verdict) = silence {
                    silent.push(format!("{key} comment \"{comment}\" : {verdict}"));
                }
            }
        }
    }
}

fn sets(text: &mut String, words: &Words, view: &NodeView, elements: &Elements) {
    let address = words.kind;
    let hairpin = &format!("{address} . {address} . inet_proto . inet_service");
    let by_address = &format!("{address} . inet_proto . inet_service : verdict");
    let by_port = "inet_proto . inet_service : verdict";
    let listed = |set: &BTreeSet<String>| -> Vec<_> { set.iter().cloned().collect() };
    let node_ports = "vmap to drop or reject packets to service nodeports with no endpoints";
    let services = "vmap to drop or reject packets to services with no endpoints";
    let firewall = "destinations that are subject to LoadBalancerSourceRanges";
    let addresses = "ClusterIP, ExternalIP and LoadBalancer IP traffic";
    let node_addresses = node_port_addresses(view);
    let e = elements;
    for (what, kind, comment, elements) in [
        (
            "set hairpin-connections",
            hairpin.as_str(),
            "service hairpin connections",
            &listed(&e.hairpin),
        ),
        (
            "set cluster-ips",
            address,
            "Active ClusterIPs",
            &listed(&e.cluster),
        ),
        (
            "set nodeport-ips",
            address,
            "IPs that accept NodePort traffic",
            &node_addresses,
        ),
        (
            "map no-endpoint-services",
            by_address,
            services,
            &e.silent_services,
        ),
        (
            "map no-endpoint-nodeports",
            by_port,
            node_ports,
            &e.silent_node_ports,
        ),
        ("map firewall-ips", by_address, firewall, &Vec::new()),
        ("map service-ips", by_address, addresses, &e.services),
        (
            "map service-nodeports",
            by_port,
            "NodePort traffic",
            &e.node_ports,
        ),
    ] {
        // Without addresses, node ports are at all of them, and there is no such set.
        if what != "set nodeport-ips" || !elements.is_empty() {
            let lines = [format!("type {kind}"), format!("comment \"{comment}\"")];
            block(text, what, &lines, elements);
        }
    }
}

fn node_port_addresses(view: &NodeView) -> Vec<String> {
    let addresses = view
        .addresses
        .iter()
        .filter(|address| view.family.has(**address));
    addresses.map(IpAddr::to_string).collect()
}

/// Chains that the kernel starts at.
fn base_chains() -> Vec<(String, Vec<String>)> {
    let new = "ct state new jump";
    let check = |what: &str| format!("{new} {what}");
    let firewall = || vec![check("firewall-check")];
    let forward = || vec![check("service-endpoints-check"), check("cluster-ips-check")];
    let input = vec![
        check("nodeport-endpoints-check"),
        check("service-endpoints-check"),
    ];
    let jump = |chain: &str| vec![format!("jump {chain}")];
    let chains = [
        (
            "filter-prerouting-pre-dnat",
            "filter",
            "prerouting",
            "dstnat - 10",
            firewall(),
        ),
        (
            "filter-output-pre-dnat",
            "filter",
            "output",
            "-110",
            firewall(),
        ),
        ("filter-input", "filter", "input", "filter", input),
        ("filter-forward", "filter", "forward", "filter", forward()),
        ("filter-output", "filter", "output", "filter", forward()),
        (
            "nat-prerouting",
            "nat",
            "prerouting",
            "dstnat",
            jump("services"),
        ),
        ("nat-output", "nat", "output", "-100", jump("services")),
        (
            "nat-postrouting",
            "nat",
            "postrouting",
            "srcnat",
            jump("masquerading"),
        ),
    ];
    let chains = chains
        .into_iter()
        .map(|(name, kind, hook, priority, mut lines)| {
            let head = format!("type {kind} hook {hook} priority {priority}; policy accept;");
            lines.insert(0, head);
            (name.to_owned(), lines)
        });
    chains.collect()
}

/// Chains that the base chains jump to.
fn plain_chains(view: &NodeView, words: &Words) -> Vec<(String, Vec<String>)> {
    let ip = words.ip;
    let lookup = |map: &str| format!("{ip} daddr . meta l4proto . th dport vmap @{map}");
    let at_node = match node_port_addresses(view).as_slice() {
        [] => format!("{ip} daddr != {}", words.loopback),
        _ => format!("{ip} daddr @nodeport-ips"),
    };
    let by_port = |map: &str| format!("{at_node} meta l4proto . th dport vmap @{map}");
    let is_ours = if node_port_addresses(view).is_empty() {
        "fib daddr type local "
    } else {
        ""
    };
    let mut services = Vec::new();
    if let Some(pods) = view.pods {
        let pods = range(pods);
        services.push(format!(
            "{ip} daddr @cluster-ips {ip} saddr != {pods} meta mark set meta mark | {MARK} \
             comment \"masquerade clusterIP traffic from outside cluster\""
        ));
    }
    services.push(lookup("service-ips"));
    services.push(format!("{is_ours}{}", by_port("service-nodeports")));
    let masquerade = "masquerade fully-random";
    let masquerading = vec![
        format!("meta mark & {MARK} != 0x00000000 meta mark set meta mark ^ {MARK} {masquerade}"),
        format!(
            "ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin-connections {masquerade}"
        ),
    ];
    let comment = "Reject traffic to invalid ports of ClusterIPs";
    let mut cluster = vec![format!(
        "{ip} daddr @cluster-ips reject comment \"{comment}\""
    )];
    if let Some(addresses) = view.cluster_addresses {
        let comment = "Drop traffic to unallocated ClusterIPs";
        cluster.push(format!(
            "{ip} daddr {} drop comment \"{comment}\"",
            range(addresses)
        ));
    }
    let helper = "comment \"helper for @no-endpoint-services / @no-endpoint-nodeports\"";
    let chains = [
        (
            "nodeport-endpoints-check",
            vec![by_port("no-endpoint-nodeports")],
        ),
        (
            "service-endpoints-check",
            vec![lookup("no-endpoint-services")],
        ),
        ("firewall-check", vec![lookup("firewall-ips")]),
        ("services", services),
        ("masquerading", masquerading),
        ("cluster-ips-check", cluster),
        ("reject-chain", vec![helper.to_owned(), "reject".to_owned()]),
    ];
    chains
        .into_iter()
        .map(|(name, lines)| (name.to_owned(), lines))
        .collect()
}

/// Chains of one port; none if it has no endpoints.
fn port_chains(port: &PortView<'_>, view: &NodeView, words: &Words) -> Vec<(String, Vec<String>)> {
    if !port.has_endpoints() {
        return Vec::new();
    }
    let name = names::nftables_port(port.service, port.port);
    let word = port.port.protocol.word();
    let to = |endpoints: &[SocketAddr]| vec![choice(word, words.ip, endpoints)];
    let mut chains = vec![(format!("service-{name}"), to(&port.endpoints))];
    let is_local = port.is_external() && port.is_local_policy() && !port.local.is_empty();
    if is_local {
        chains.push((format!("local-{name}"), to(&port.local)));
    }
    if port.is_external() {
        chains.push((
            format!("external-{name}"),
            external(port, &name, view, words),
        ));
    }
    chains
}

fn external(port: &PortView<'_>, name: &str, view: &NodeView, words: &Words) -> Vec<String> {
    let mark = format!("meta mark set meta mark | {MARK}");
    if !port.is_local_policy() {
        return vec![
            format!("{mark} comment \"masquerade\""),
            format!("goto service-{name}"),
        ];
    }
    let mut lines = Vec::new();
    if let Some(pods) = view.pods {
        let from = format!("{} saddr {}", words.ip, range(pods));
        lines.push(format!(
            "{from} goto service-{name} comment \"short-circuit pod traffic\""
        ));
    }
    let own = "fib saddr type local";
    lines.push(format!("{own} {mark} comment \"masquerade local traffic\""));
    lines.push(format!(
        "{own} goto service-{name} comment \"short-circuit local traffic\""
    ));
    if port.external == Fate::Forwarded {
        lines.push(format!("goto local-{name}"));
    }
    lines
}

/// One of the endpoints by chance.
fn choice(word: &str, ip: &str, endpoints: &[SocketAddr]) -> String {
    let to = endpoints.iter().enumerate();
    let to = to.map(|(at, to)| format!("{at} : {} . {}", to.ip(), to.port()));
    let to = to.collect::<Vec<_>>().join(", ");
    let count = endpoints.len();
    format!("meta l4proto {word} dnat {ip} to numgen random mod {count} map {{ {to} }}")
}

/// A named block of the table, and an empty line.
fn block(text: &mut String, what: &str, lines: &[String], elements: &[String]) {
    let mut write = |line: &str| writeln!(text, "{line}").expect("a string takes all");
    write(&format!("\t{what} {{"));
    for line in lines {
        write(&format!("\t\t{line}"));
    }
    if !elements.is_empty() {
        write(&format!(
            "\t\telements = {{ {} }}",
            elements.join(",\n\t\t\t     ")
        ));
    }
    write("\t}");
    write("");
}
