//! Rules in a namespace: putting them there, changing them, reading what they counted, taking them away. It must not know
//! what the rules say.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::counters::{self, Counter};
use super::rules::Rules;
use super::stale::{self, Fronts};
use super::view::{Family, Flavour};
use crate::error::LabError;
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::segment::Segment;

/// The flow is gone already.
const NO_SUCH: i32 = -2;
/// What kube-proxy sets for connection tracking, in seconds: a day for a connection, an hour for one that its server has
/// not ended. It raises `nf_conntrack_max` too, which is the whole machine's and not a namespace's.
const TIMEOUTS: [(&str, &str); 2] = [
    (
        "net/netfilter/nf_conntrack_tcp_timeout_established",
        "86400",
    ),
    ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", "3600"),
];
/// For how many seconds iptables may wait for another of its kind.
const WAIT: [&str; 2] = ["-w", "5"];
/// In iptables mode node ports are reached at 127.0.0.1 too.
const LOCALNET: (&str, &str) = ("net/ipv4/conf/all/route_localnet", "1");

/// Whether rules of the flavour can be installed on this machine; if not, why.
pub fn available(lab: &Lab, flavour: Flavour) -> Result<(), LabError> {
    let namespace = lab.namespace("kube-proxy")?;
    let families = [Family::V4, Family::V6].into_iter();
    families
        .map(|family| Segment::node_view(family, 0, Vec::new()))
        .try_for_each(|view| {
            KubeProxy::install(&namespace, &Rules::of(flavour, &view).counted())?.remove()
        })
}

/// kube-proxy's rules of one family in a node's namespace, until it is dropped. While it is there, nobody else may use the
/// tables that it writes: `nat` and `filter` of iptables, or `kube-proxy` of nftables.
#[derive(Debug)]
pub struct KubeProxy<'a> {
    namespace: &'a Namespace,
    installed: Rules,
    is_there: bool,
    /// Settings that were changed, as they were before.
    settings: Vec<(&'static str, String)>,
}

impl<'a> KubeProxy<'a> {
    /// Puts the rules there, and sets what kube-proxy sets.
    ///
    /// # Errors
    /// The machine has no iptables or nftables, or refuses the rules; then nothing is left of them.
    pub fn install(namespace: &'a Namespace, rules: &Rules) -> Result<Self, LabError> {
        let mut installed = Self {
            namespace,
            installed: rules.clone(),
            is_there: true,
            settings: Vec::new(),
        }; // from here on an error takes away what is there
        put(namespace, rules)?;
        let is_local = rules.flavour == Flavour::Iptables && rules.family == Family::V4;
        for (key, value) in TIMEOUTS.into_iter().chain(is_local.then_some(LOCALNET)) {
            let before = namespace.setting(key)?;
            if before.trim() != value {
                namespace.sysctl(key, value)?;
                installed.settings.push((key, before));
            }
        }
        Ok(installed)
    }

    /// Puts other rules in their place: all at once in nftables, table by table in iptables. Connections that are there
    /// stay with their endpoints, but UDP flows of endpoints that are gone are forgotten, as kube-proxy does. Counters
    /// start again.
    ///
    /// # Errors
    /// As with [`Self::install`]; the rules from before go on.
    pub fn replace(&mut self, rules: &Rules) -> Result<(), LabError> {
        let Rules {
            flavour, family, ..
        } = self.installed;
        assert_eq!(
            (flavour, family),
            (rules.flavour, rules.family),
            "a set replaces its like"
        );
        put(self.namespace, rules)?;
        self.installed = rules.clone();
        forget(self.namespace, rules.fronts())
    }

    /// What every rule has counted, in the order of the rules. Nothing in nftables mode, unless the rules are
    /// [`Rules::counted`].
    pub fn counters(&self) -> Result<Vec<Counter>, LabError> {
        let rules = &self.installed;
        match rules.flavour {
            Flavour::Iptables => {
                let tool = [
                    iptables(rules.family, "iptables-save", "ip6tables-save"),
                    "-c",
                ];
                let saved = self.namespace.tool("iptables", &tool, String::new())?;
                Ok(counters::of_iptables(&saved))
            }
            Flavour::Nftables => {
                let lists = tables(rules).flat_map(|table| {
                    [
                        "list ", table, "
",
                    ]
                });
                let listed = nft(self.namespace, lists.collect())?;
                Ok(counters::of_nftables(&listed))
            }
        }
    }

    /// Takes the rules away, sets everything as it was, and forgets what was tracked. Dropping it does the same, and says
    /// nothing.
    pub fn remove(mut self) -> Result<(), LabError> {
        self.take_away()
    }

    fn take_away(&mut self) -> Result<(), LabError> {
        if !std::mem::take(&mut self.is_there) {
            return Ok(());
        }
        let taken = take_away(self.namespace, &self.installed)
            .and_then(|()| self.namespace.forget_tracked(self.installed.family));
        for (key, value) in self.settings.drain(..) {
            self.namespace.sysctl(key, value.trim())?;
        }
        taken
    }
}

impl Drop for KubeProxy<'_> {
    fn drop(&mut self) {
        self.take_away().ok(); // the namespace's end takes what is left
    }
}

fn put(namespace: &Namespace, rules: &Rules) -> Result<(), LabError> {
    match rules.flavour {
        Flavour::Iptables => restore(namespace, rules.family, rules.text().to_owned()),
        Flavour::Nftables => {
            let fresh = format!("{}{}", without(rules), rules.text());
            nft(namespace, fresh).map(drop)
        }
    }
}

fn take_away(namespace: &Namespace, rules: &Rules) -> Result<(), LabError> {
    match rules.flavour {
        Flavour::Iptables => {
            // Without rules nothing is tracked, without chains no packet is looked at. Old iptables (legacy) keeps the
            // kernel's own chains, empty.
            let tool = iptables(rules.family, "iptables", "ip6tables");
            for table in ["nat", "filter"] {
                for all in ["-F", "-X"] {
                    let words = [tool, WAIT[0], WAIT[1], "-t", table, all];
                    namespace.tool("iptables", &words, String::new())?;
                }
            }
            Ok(())
        }
        Flavour::Nftables => nft(namespace, without(rules)).map(drop),
    }
}

/// Commands that leave none of the rules' tables, whether they are there or not.
fn without(rules: &Rules) -> String {
    let commands = tables(rules).flat_map(|table| {
        [
            "add ", table, "
delete ", table, "
",
        ]
    });
    commands.collect()
}

/// The tables of nftables rules, as `table ip kube-proxy`.
fn tables(rules: &Rules) -> impl Iterator<Item = &str> {
    let heads = rules
        .text()
        .lines()
        .filter(|line| line.starts_with("table "));
    heads.map(|line| line.trim_end_matches(" {"))
}

fn restore(namespace: &Namespace, family: Family, text: String) -> Result<(), LabError> {
    let tool = [
        iptables(family, "iptables-restore", "ip6tables-restore"),
        "-w",
    ];
    namespace.tool("iptables", &tool, text).map(drop)
}

fn nft(namespace: &Namespace, text: String) -> Result<String, LabError> {
    namespace.tool("nftables", &["nft", "-f", "-"], text)
}

const fn iptables(family: Family, v4: &'static str, v6: &'static str) -> &'static str {
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

/// Makes the kernel forget UDP flows to endpoints that the fronts no longer have.
fn forget(namespace: &Namespace, fronts: &Fronts) -> Result<(), LabError> {
    if fronts.is_empty() {
        return Ok(());
    }
    let fronts = fronts.clone();
    let what = namespace.what("forget", "UDP flows of endpoints that are gone");
    namespace
        .run(move || forget_here(&fronts))
        .map_err(LabError::system(what))
}

fn forget_here(fronts: &Fronts) -> io::Result<()> {
    let table = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack")?;
    let flows = stale::stale(&table, fronts);
    if flows.is_empty() {
        return Ok(());
    }
    let socket = conntrack()?;
    let mut messages = flows.iter().map(stale::forget);
    messages.try_for_each(|message| ask(&socket, &message))
}

impl Namespace {
    /// Forgets all connections that are tracked here of a family, whoever had them tracked.
    pub fn forget_tracked(&self, family: Family) -> Result<(), LabError> {
        let what = self.what("forget", "what was tracked");
        let forget = move || ask(&conntrack()?, &stale::forget_all(family == Family::V4));
        self.run(forget).map_err(LabError::system(what))
    }
}

fn conntrack() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// The kernel answers each request before it returns from taking it.
fn ask(socket: &Socket, message: &[u8]) -> io::Result<()> {
    socket.send(message, 0)?;
    let mut answer = Vec::with_capacity(4096);
    socket.recv(&mut answer, 0)?;
    match stale::answer(&answer) {
        Some(0 | NO_SUCH) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}
