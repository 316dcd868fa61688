//! Counters of rules in the kernel's text: where to put them, and what they say. It must not know how text is got.

use std::fmt::Write;

/// What one rule has counted since it was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its table, as `nat` or `kube-proxy`.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// The rule itself without its counter, as the kernel writes it.
    pub rule: String,
    /// Packets. In iptables those that match, in nftables those that come to the rule.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Puts `counter` at the head of each rule of an nftables table.
pub(super) fn with_counters(text: &str) -> String {
    let mut counted = String::with_capacity(text.len());
    let mut chain = None;
    for line in text.lines() {
        chain = chain_after(line, chain);
        let line = match rule(line) {
            Some(rule) if chain.is_some() => &format!("\t\tcounter {rule}"),
            _ => line,
        };
        writeln!(counted, "{line}").expect("a string takes all");
    }
    counted
}

/// What `nft list table` says.
pub(super) fn of_nftables(listed: &str) -> Vec<Counter> {
    let mut table = "";
    let mut chain = None;
    let mut counters = Vec::new();
    for line in listed.lines() {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.split(' ').nth(1).unwrap_or_default();
        }
        chain = chain_after(line, chain);
        let counted = rule(line).and_then(|rule| rule.strip_prefix("counter packets "));
        let Some((chain, counted)) = chain.zip(counted) else {
            continue;
        };
        let mut words = counted.splitn(4, ' '); // 1 bytes 60 jump services
        let (packets, bytes) = (words.next(), words.nth(1));
        let rule = words.next().unwrap_or_default();
        counters.extend(counter([table, chain, rule], packets, bytes));
    }
    counters
}

/// What `iptables-save -c` says.
pub(super) fn of_iptables(saved: &str) -> Vec<Counter> {
    let mut table = "";
    let mut counters = Vec::new();
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        }
        // [1:60] -A KUBE-SERVICES -j KUBE-NODEPORTS
        let Some((counted, rest)) = line
            .strip_prefix('[')
            .and_then(|line| line.split_once("] -A "))
        else {
            continue;
        };
        let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
        let (packets, bytes) = counted.split_once(':').unzip();
        counters.extend(counter([table, chain, rule], packets, bytes));
    }
    counters
}

fn counter(what: [&str; 3], packets: Option<&str>, bytes: Option<&str>) -> Option<Counter> {
    let [table, chain, rule] = what.map(ToOwned::to_owned);
    let (packets, bytes) = (packets?.parse().ok()?, bytes?.parse().ok()?);
    Some(Counter {
        table,
        chain,
        rule,
        packets,
        bytes,
    })
}

/// The chain that a line of an nftables table belongs to, given that of the line before.
fn chain_after<'a>(line: &'a str, before: Option<&'a str>) -> Option<&'a str> {
    match line.strip_prefix("\tchain ") {
        Some(name) => name.strip_suffix(" {"),
        None if line == "\t}" => None,
        None => before,
    }
}

/// A line of a chain, if it is a rule.
fn rule(line: &str) -> Option<&str> {
    let rule = line.strip_prefix("\t\t")?;
    let is_head = rule.starts_with("type ") || rule.starts_with("comment ");
    (!is_head).then_some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "table ip kube-proxy {\n\tset cluster-ips {\n\t\ttype ipv4_addr\n\t\telements = { 10.96.0.1 }\n\t}\n\n\
        \tchain nat-prerouting {\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n\t\tjump services\n\t}\n\n\
        \tchain reject-chain {\n\t\tcomment \"helper\"\n\t\treject\n\t}\n}\n";

    fn check(counters: &[Counter], expected: &[(&str, &str, &str, u64, u64)]) {
        let found = counters.iter();
        let found: Vec<_> = found
            .map(|one| (&*one.table, &*one.chain, &*one.rule, one.packets, one.bytes))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_rule_gets_a_counter_and_nothing_else_does() {
        let counted = with_counters(TABLE);
        let expected = TABLE.replace("\t\tjump", "\t\tcounter jump");
        assert_eq!(
            counted,
            expected.replace("\t\treject", "\t\tcounter reject")
        );
    }

    #[test]
    fn counters_of_nftables_are_read_with_their_rule() {
        let zero = with_counters(TABLE).replace("counter ", "counter packets 3 bytes 180 ");
        check(
            &of_nftables(&zero),
            &[
                ("kube-proxy", "nat-prerouting", "jump services", 3, 180),
                ("kube-proxy", "reject-chain", "reject", 3, 180),
            ],
        );
    }

    #[test]
    fn counters_of_iptables_are_read_with_their_rule() {
        let saved = "# Generated\n*nat\n:OUTPUT ACCEPT [7:420]\n[1:60] -A OUTPUT -j KUBE-SERVICES\nCOMMIT\n";
        check(
            &of_iptables(saved),
            &[("nat", "OUTPUT", "-j KUBE-SERVICES", 1, 60)],
        );
        check(
            &of_iptables("[x:60] -A OUTPUT -j A\n[1] -A OUTPUT\nnonsense\n"),
            &[],
        );
    }
}
