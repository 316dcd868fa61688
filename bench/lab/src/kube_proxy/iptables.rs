//! kube-proxy's rules of iptables mode for one node and family, as `iptables-save` writes them: the tables `nat` and
//! `filter`. It must not know how rules get into a kernel.
//!
//! They are those of a kernel without `nfacct` objects, which no namespace of a lab has: there kube-proxy leaves out the
//! rules for node ports at 127.0.0.0/8 that only count into one, and the match in the rule that drops what is invalid.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use super::names;
use super::view::{Family, Fate, NodeView, PortView, range};

/// The bit of the packet mark that asks for the node's address as source.
const MARK: &str = "0x4000/0x4000";
/// Probabilities are stored in 31 bits.
const WHOLE: f64 = 2_147_483_648.0;

/// Both tables.
pub(super) fn text(view: &NodeView) -> String {
    let mut rules = Rules {
        view,
        nat: Table::new("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
        filter: Table::new("filter", &["INPUT", "FORWARD", "OUTPUT"]),
    };
    rules.frame_of_nat();
    rules.frame_of_filter();
    for port in view.ports() {
        rules.within(&port);
        rules.outside(&port);
        rules.towards_endpoints(&port);
    }
    rules.last_of_nat();
    format!("{}{}", rules.nat.text(), rules.filter.text())
}

struct Rules<'a> {
    view: &'a NodeView,
    nat: Table,
    filter: Table,
}

impl Rules<'_> {
    fn frame_of_nat(&mut self) {
        let nat = &mut self.nat;
        for (chain, to, why) in [
            ("PREROUTING", "KUBE-SERVICES", "kubernetes service portals"),
            ("OUTPUT", "KUBE-SERVICES", "kubernetes service portals"),
            (
                "POSTROUTING",
                "KUBE-POSTROUTING",
                "kubernetes postrouting rules",
            ),
        ] {
            nat.add(chain, format!("{} -j {to}", comment(why)));
        }
        for chain in ["KUBE-NODEPORTS", "KUBE-PROXY-CANARY", "KUBE-SERVICES"] {
            nat.chain(chain);
        }
        nat.add("KUBE-MARK-MASQ", format!("-j MARK --set-xmark {MARK}"));
        nat.add(
            "KUBE-POSTROUTING",
            format!("-m mark ! --mark {MARK} -j RETURN"),
        );
        nat.add(
            "KUBE-POSTROUTING",
            "-j MARK --set-xmark 0x4000/0x0".to_owned(),
        );
        let why = comment("kubernetes service traffic requiring SNAT");
        nat.add(
            "KUBE-POSTROUTING",
            format!("{why} -j MASQUERADE --random-fully"),
        );
    }

    fn frame_of_filter(&mut self) {
        let is_v4 = self.view.family == Family::V4;
        let filter = &mut self.filter;
        let new = "-m conntrack --ctstate NEW ";
        let firewall = (
            "KUBE-PROXY-FIREWALL",
            new,
            "kubernetes load balancer firewall",
        );
        let services = ("KUBE-SERVICES", new, "kubernetes service portals");
        let visible = "kubernetes externally-visible service portals";
        let external = ("KUBE-EXTERNAL-SERVICES", new, visible);
        let health = (
            "KUBE-NODEPORTS",
            "",
            "kubernetes health check service ports",
        );
        let forward = ("KUBE-FORWARD", "", "kubernetes forwarding rules");
        for (chain, jumps) in [
            ("INPUT", &[firewall, health, external][..]),
            ("FORWARD", &[firewall, forward, services, external]),
            ("OUTPUT", &[firewall, services]),
        ] {
            if is_v4 && chain != "FORWARD" {
                filter.add(chain, "-j KUBE-FIREWALL".to_owned());
            }
            for (to, when, why) in jumps {
                filter.add(chain, format!("{when}{} -j {to}", comment(why)));
            }
        }
        for chain in [
            "EXTERNAL-SERVICES",
            "NODEPORTS",
            "PROXY-CANARY",
            "PROXY-FIREWALL",
            "SERVICES",
        ] {
            filter.chain(&format!("KUBE-{chain}"));
        }
        if is_v4 {
            let why = comment("block incoming localnet connections");
            let foreign = "! -s 127.0.0.0/8 -d 127.0.0.0/8";
            let fresh = "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT";
            filter.add("KUBE-FIREWALL", format!("{foreign} {why} {fresh} -j DROP"));
        }
        filter.add(
            "KUBE-FORWARD",
            "-m conntrack --ctstate INVALID -j DROP".to_owned(),
        );
        let why = comment("kubernetes forwarding rules");
        filter.add(
            "KUBE-FORWARD",
            format!("{why} -m mark --mark {MARK} -j ACCEPT"),
        );
        let why = comment("kubernetes forwarding conntrack rule");
        let known = "-m conntrack --ctstate RELATED,ESTABLISHED";
        filter.add("KUBE-FORWARD", format!("{why} {known} -j ACCEPT"));
    }

    /// What goes to the port's cluster address.
    fn within(&mut self, port: &PortView<'_>) {
        let name = names::port(port.service, port.port);
        let address = host(port.service.cluster_address);
        let at = |why: &str| matches(port, Some(&address), why, port.port.port);
        if !port.has_endpoints() {
            let rule = format!(
                "{} {}",
                at(&format!("{name} has no endpoints")),
                self.reject()
            );
            self.filter.add("KUBE-SERVICES", rule);
            return;
        }
        let chain = format!("KUBE-SVC-{}", names::iptables_port(port.service, port.port));
        let rule = at(&format!("{name} cluster IP"));
        self.nat.add("KUBE-SERVICES", format!("{rule} -j {chain}"));
        if let Some(pods) = self.view.pods {
            self.nat.add(
                &chain,
                format!("! -s {} {rule} -j KUBE-MARK-MASQ", range(pods)),
            );
        }
        self.choice(port, &chain, &port.endpoints);
    }

    /// What goes to load balancers' addresses and to node ports.
    fn outside(&mut self, port: &PortView<'_>) {
        if !port.is_external() {
            return;
        }
        if port.has_endpoints() {
            self.external_chain(port);
            self.captures(port);
        }
        if port.external != Fate::Forwarded {
            self.silences(port);
        }
        if let Some(health) = port.service.health_check_port {
            let why = format!(
                "{} health check node port",
                names::port(port.service, port.port)
            );
            let rule = format!("-p tcp {} -m tcp --dport {health} -j ACCEPT", comment(&why));
            self.filter.add("KUBE-NODEPORTS", rule);
        }
    }

    fn external_chain(&mut self, port: &PortView<'_>) {
        let name = names::port(port.service, port.port);
        let end = names::iptables_port(port.service, port.port);
        let chain = format!("KUBE-EXT-{end}");
        let why = |what: &str| comment(&format!("{what} traffic for {name} external destinations"));
        let mut add = |rule: String| self.nat.add(&chain, rule);
        if !port.is_local_policy() {
            let why = comment(&format!(
                "masquerade traffic for {name} external destinations"
            ));
            add(format!("{why} -j KUBE-MARK-MASQ"));
            add(format!("-j KUBE-SVC-{end}"));
            return;
        }
        if let Some(pods) = self.view.pods {
            add(format!(
                "-s {} {} -j KUBE-SVC-{end}",
                range(pods),
                why("pod")
            ));
        }
        let own = "-m addrtype --src-type LOCAL";
        add(format!(
            "{} {own} -j KUBE-MARK-MASQ",
            why("masquerade LOCAL")
        ));
        add(format!("{} {own} -j KUBE-SVC-{end}", why("route LOCAL")));
        if port.external == Fate::Forwarded {
            add(format!("-j KUBE-SVL-{end}"));
            self.choice(port, &format!("KUBE-SVL-{end}"), &port.local);
        }
    }

    fn captures(&mut self, port: &PortView<'_>) {
        let name = names::port(port.service, port.port);
        let to = format!(
            "-j KUBE-EXT-{}",
            names::iptables_port(port.service, port.port)
        );
        for address in port.ingress(self.view.family) {
            let why = format!("{name} loadbalancer IP");
            let rule = matches(port, Some(&host(address)), &why, port.port.port);
            self.nat.add("KUBE-SERVICES", format!("{rule} {to}"));
        }
        let Some(node_port) = port.port.node_port else {
            return;
        };
        let rule = matches(port, None, &name, node_port);
        self.nat.add("KUBE-NODEPORTS", format!("{rule} {to}"));
    }

    /// Answers for what cannot be forwarded.
    fn silences(&mut self, port: &PortView<'_>) {
        let name = names::port(port.service, port.port);
        let (why, to) = match port.external {
            Fate::Dropped => (format!("{name} has no local endpoints"), "-j DROP"),
            _ => (format!("{name} has no endpoints"), self.reject()),
        };
        for address in port.ingress(self.view.family) {
            let rule = matches(port, Some(&host(address)), &why, port.port.port);
            self.filter
                .add("KUBE-EXTERNAL-SERVICES", format!("{rule} {to}"));
        }
        if let Some(node_port) = port.port.node_port {
            let (word, why) = (port.port.protocol.word(), comment(&why));
            let rule = format!(
                "-p {word} {why} -m addrtype --dst-type LOCAL -m {word} --dport {node_port} {to}"
            );
            self.filter.add("KUBE-EXTERNAL-SERVICES", rule);
        }
    }

    fn towards_endpoints(&mut self, port: &PortView<'_>) {
        let word = port.port.protocol.word();
        let why = comment(&names::port(port.service, port.port));
        for to in &port.endpoints {
            let chain = names::iptables_endpoint(port.service, port.port, *to);
            let own = host(to.ip());
            self.nat
                .add(&chain, format!("-s {own} {why} -j KUBE-MARK-MASQ"));
            let rule = format!("-p {word} {why} -m {word} -j DNAT --to-destination {to}");
            self.nat.add(&chain, rule);
        }
    }

    /// One of the endpoints by chance: each takes its share of what the ones before it left.
    fn choice(&mut self, port: &PortView<'_>, chain: &str, endpoints: &[SocketAddr]) {
        let name = names::port(port.service, port.port);
        for (at, to) in endpoints.iter().enumerate() {
            let why = comment(&format!("{name} -> {to}"));
            let left = endpoints.len() - at;
            let chance = match left {
                1 => String::new(),
                _ => format!(
                    "-m statistic --mode random --probability {} ",
                    probability(left)
                ),
            };
            let to = names::iptables_endpoint(port.service, port.port, *to);
            self.nat.add(chain, format!("{why} {chance}-j {to}"));
        }
    }

    /// Nothing may follow it in its chain.
    fn last_of_nat(&mut self) {
        let own = "-m addrtype --dst-type LOCAL";
        let why = "kubernetes service nodeports; NOTE: this must be the last rule in this chain";
        let not_loopback = match self.view.family {
            Family::V4 => "", // an IPv4 node port may be reached at 127.0.0.1
            Family::V6 => "! -d ::1/128 ",
        };
        let rule = format!("{not_loopback}{} {own} -j KUBE-NODEPORTS", comment(why));
        self.nat.add("KUBE-SERVICES", rule);
    }

    fn reject(&self) -> &'static str {
        match self.view.family {
            Family::V4 => "-j REJECT --reject-with icmp-port-unreachable",
            Family::V6 => "-j REJECT --reject-with icmp6-port-unreachable",
        }
    }
}

/// A table: its chains by name, the kernel's own first.
struct Table {
    name: &'static str,
    own: &'static [&'static str],
    chains: BTreeMap<String, Vec<String>>,
}

impl Table {
    fn new(name: &'static str, own: &'static [&'static str]) -> Self {
        Self {
            name,
            own,
            chains: BTreeMap::new(),
        }
    }

    fn chain(&mut self, name: &str) {
        self.chains.entry(name.to_owned()).or_default();
    }

    fn add(&mut self, chain: &str, rule: String) {
        self.chains.entry(chain.to_owned()).or_default().push(rule);
    }

    fn text(&self) -> String {
        let mut text = format!("*{}\n", self.name);
        let mut write = |line: String| writeln!(text, "{line}").expect("a string takes all");
        let others = || {
            self.chains
                .keys()
                .map(String::as_str)
                .filter(|name| !self.own.contains(name))
        };
        for name in self.own {
            write(format!(":{name} ACCEPT [0:0]"));
        }
        for name in others() {
            write(format!(":{name} - [0:0]"));
        }
        for name in self.own.iter().copied().chain(others()) {
            for rule in self.chains.get(name).into_iter().flatten() {
                write(format!("-A {name} {rule}"));
            }
        }
        write("COMMIT".to_owned());
        text
    }
}

/// A destination and the protocol, as `-d 10.96.0.10/32 -p tcp -m comment --comment "x" -m tcp --dport 80`.
fn matches(port: &PortView<'_>, to: Option<&str>, why: &str, at: u16) -> String {
    let word = port.port.protocol.word();
    let to = to.map(|to| format!("-d {to} ")).unwrap_or_default();
    format!("{to}-p {word} {} -m {word} --dport {at}", comment(why))
}

fn comment(text: &str) -> String {
    format!("-m comment --comment \"{text}\"")
}

fn host(address: std::net::IpAddr) -> String {
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    format!("{address}/{prefix}")
}

/// One of `left`, as kube-proxy writes it (ten digits) and the kernel keeps it.
fn probability(left: usize) -> String {
    let ten_digits = (1e10 / left as f64).round() / 1e10;
    let kept = (ten_digits * WHOLE).round() / WHOLE;
    format!("{kept:.11}")
}
