//! What `podline-control` is told when it starts: flags, each of which is also an environment variable `PODLINE_*`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Parser, ValueEnum};
use podline_api::Owner;

use crate::allocate::Pool;
use crate::build::Options;
use crate::cluster::Key;
use crate::push::Announcing;

/// Makes load balancers of Kubernetes Services and Ingresses: watches them and their endpoints, and tells the proxies.
#[derive(Clone, Debug, Parser)]
#[command(name = "podline-control", version)]
pub struct Settings {
    /// What this cluster is called towards the proxies; they know its state as owner `k8s/NAME`
    #[arg(long, env = "PODLINE_CLUSTER", value_name = "NAME", default_value = "default", value_parser = cluster)]
    pub cluster: String,
    /// A proxy's API: host:port (each address of a host is a proxy) or unix:PATH; may be given several times, or with commas
    #[arg(
        long,
        env = "PODLINE_PROXY",
        value_name = "ADDR",
        value_delimiter = ',',
        conflicts_with = "proxy_service",
        required_unless_present = "proxy_service"
    )]
    pub proxy: Vec<String>,
    /// The proxies are the endpoints of this headless Service, at its port `api`: name, or namespace/name
    #[arg(long, env = "PODLINE_PROXY_SERVICE", value_name = "SERVICE")]
    pub proxy_service: Option<String>,
    /// The Services that are ours: those with this loadBalancerClass
    #[arg(
        long,
        env = "PODLINE_CLASS",
        value_name = "CLASS",
        default_value = "podline.io/clb"
    )]
    pub class: String,
    /// Services of type LoadBalancer that name no class are ours, too, unless another controller has written to them
    #[arg(long, env = "PODLINE_DEFAULT_CLASS", value_parser = BoolishValueParser::new())]
    pub default_class: bool,
    /// Services whose annotations do not say how go straight to Pods, and not through NodePorts
    #[arg(long, env = "PODLINE_DEFAULT_DIRECT", value_parser = BoolishValueParser::new())]
    pub default_direct: bool,
    /// Classes of Ingresses that are ours, with commas
    #[arg(long, env = "PODLINE_INGRESS_CLASS", value_name = "CLASS", value_delimiter = ',',
        default_values_t = ["podline".to_owned(), "qcloud".to_owned()])]
    pub ingress_class: Vec<String>,
    /// Backends of one Service port at most; of more, the oldest are bound
    #[arg(long, env = "PODLINE_BACKEND_QUOTA", value_name = "N", default_value_t = 200, value_parser = quota)]
    pub backend_quota: usize,
    /// Addresses that Services get: first-last, networks, or single ones, with commas [default: the proxies' own addresses]
    #[arg(long, env = "PODLINE_VIP_POOL", value_name = "RANGES")]
    pub vip_pool: Option<Pool>,
    /// Proxies hold and announce the addresses of the pool; false: somebody else brings them to the proxies
    #[arg(long, env = "PODLINE_VIP_ANNOUNCE", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
        value_parser = BoolishValueParser::new())]
    pub vip_announce: bool,
    /// The proxies' interface for them [default: the one whose network an address lies in, else that of the way to it]
    #[arg(long, env = "PODLINE_VIP_INTERFACE", value_name = "NAME")]
    pub vip_interface: Option<String>,
    /// Ports that no Service gets, because the proxies' hosts need them
    #[arg(long, env = "PODLINE_RESERVED_PORTS", value_name = "PORT", value_delimiter = ',',
        default_values_t = [22, 6443, 9901, 9902, 9903, 9911, 9912, 9913, 10250, 10256])]
    pub reserved_ports: Vec<u16>,
    /// How long connections live on after what they go through was removed; those of Pods that have ended are cut at once
    #[arg(long, env = "PODLINE_DRAIN_TIMEOUT", value_name = "TIME", default_value = "15m", value_parser = drain)]
    pub drain_timeout: Duration,
    /// The namespace of Lease and Secrets
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAME",
        default_value = "podline-system"
    )]
    pub namespace: String,
    /// This replica's name in the Lease and in events [default: the host's name]
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,
    /// How the API server is reached [default: the Pod's own account, else ~/.kube/config]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Where health, readiness and metrics are served over HTTP
    #[arg(long, env = "PODLINE_ADMIN", value_name = "ADDR", default_value_t = local(9911))]
    pub admin: SocketAddr,
    /// Where podline.v1.Control is served, read-only and in plain text: a loopback address
    #[arg(long, env = "PODLINE_API", value_name = "ADDR", default_value_t = local(9912), value_parser = loopback)]
    pub api: SocketAddr,
    /// Where the API server calls the webhooks for readiness gates and for drains before a deletion, over TLS, through
    /// Service `podline-webhook`: ip:port [default: no webhooks; gates that Pods have are opened all the same]
    #[arg(long, env = "PODLINE_WEBHOOK", value_name = "ADDR")]
    pub webhook: Option<SocketAddr>,
    /// How logs look
    #[arg(
        long,
        env = "PODLINE_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, or module=level pairs
    #[arg(
        long,
        env = "PODLINE_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: String,
}

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Settings {
    /// Who owns what we push.
    pub fn owner(&self) -> Owner {
        Owner::try_from(format!("k8s/{}", self.cluster))
            .expect("the parser accepts only names that fit")
    }

    /// The headless Service of the proxies.
    pub fn proxy_service(&self) -> Option<Key> {
        let text = self.proxy_service.as_deref()?;
        Some(match text.split_once('/') {
            Some((namespace, name)) => Key::new(namespace, name),
            None => Key::new(&self.namespace, text),
        })
    }

    /// Who we are among the replicas.
    pub fn identity(&self) -> String {
        let host = || {
            let name = rustix::system::uname();
            name.nodename().to_string_lossy().into_owned()
        };
        self.identity.clone().unwrap_or_else(host)
    }

    /// How virtual addresses are held.
    pub fn announcing(&self) -> Announcing {
        Announcing {
            announce: self.vip_announce,
            interface: self.vip_interface.clone(),
        }
    }

    /// What builds need to know.
    pub fn options(&self) -> Options {
        Options {
            class: self.class.clone(),
            default_class: self.default_class,
            default_direct: self.default_direct,
            ingress_classes: self.ingress_class.iter().cloned().collect(),
            namespace: self.namespace.clone(),
            quota: self.backend_quota,
            reserved_ports: self.reserved_ports.iter().copied().collect::<BTreeSet<_>>(),
            drain_timeout: self.drain_timeout,
            pool: self.vip_pool.clone(),
            gives_gates: self.webhook.is_some(),
        }
    }
}

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn cluster(text: &str) -> Result<String, String> {
    match Owner::try_from(format!("k8s/{text}")) {
        Ok(_) if !text.is_empty() => Ok(text.to_owned()),
        Ok(_) => Err("is empty".to_owned()),
        Err(invalid) => Err(invalid.to_string()),
    }
}

fn quota(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(quota @ 1..=100_000) => Ok(quota),
        _ => Err("use 1 to 100000".to_owned()),
    }
}

fn drain(text: &str) -> Result<Duration, String> {
    let time = podline_api::duration::parse(text)?;
    if podline_api::duration::DRAIN_RANGE.contains(&time) {
        Ok(time)
    } else {
        Err("use 0s to 24h".to_owned())
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        Ok(_) => Err("must be a loopback address: whoever reaches it may read everything; `podline --kube` forwards it".to_owned()),
        Err(_) => Err("is no address: write ip:port".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn read(line: &str) -> Result<Settings, clap::Error> {
        Settings::try_parse_from(
            ["podline-control"]
                .into_iter()
                .chain(line.split_whitespace()),
        )
    }

    #[test]
    fn the_command_line_is_consistent() {
        Settings::command().debug_assert();
    }

    #[test]
    fn the_proxies_must_be_named_in_one_way() {
        read("").unwrap_err();
        read("--proxy a:1 --proxy-service b").unwrap_err();
        let settings = read("--proxy-service b --namespace n --cluster east").unwrap();
        assert_eq!(settings.proxy_service(), Some(Key::new("n", "b")));
        assert_eq!(settings.owner().as_str(), "k8s/east");
        assert_eq!(read("--proxy a:1,b:2").unwrap().proxy, ["a:1", "b:2"]);
    }

    #[test]
    fn wrong_values_say_what_to_write() {
        for (line, told) in [
            ("--proxy a:1 --backend-quota 0", "1 to 100000"),
            ("--proxy a:1 --api 0.0.0.0:1", "loopback"),
            ("--proxy a:1 --cluster a?b", "must not hold"),
            ("--proxy a:1 --drain-timeout 25h", "0s to 24h"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(told), "{line}: {error}");
        }
    }
}
