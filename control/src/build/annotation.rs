//! Annotations of Services: one table that is parser, documentation and importer at once. Pure.
//!
//! A value that cannot be read changes nothing: the last one that could be read stays, and a problem says so.

mod creation;
pub mod ingress;
mod protocols;
mod value;
mod weights;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use podline_api::{ProxyHeader, SourceAddress, UdpCheck};

use super::selector::Selector;
use crate::cluster::Ingress;
use crate::cluster::service::Service;
pub use creation::Creation;
use ingress::OfIngress;
pub use protocols::{Protocols, Spoken};
pub(crate) use value::is_name;
pub(crate) use value::shorten;
use value::{
    SHOWN, addresses, balancer, boolean, groups, namespaces, networks, not_too_long, object_name,
    pre_stop_sleep, proxy_header, shorten_to, skip, source_address, udp_check,
};
pub use weights::Weights;
pub use words::Words;

/// What Podline does about an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Does as it says.
    Honoured,
    /// Comes close; the table says how.
    Approximated,
    /// Does nothing; the table says why.
    Ignored,
    /// Written by Podline itself.
    Written,
}

/// An annotation that a Service may carry.
#[derive(Debug)]
pub struct Annotation {
    /// As it is written, with its prefix.
    pub key: &'static str,
    /// What Podline does about it.
    pub effect: Effect,
    /// What it means here, in a sentence.
    pub about: &'static str,
    /// Puts a value into the settings, or says what is wrong with it.
    read: Option<Parse>,
}

type Parse = fn(&str, &mut Settings) -> Result<(), String>;

/// What a Service's annotations say.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an annotation of its own"
)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Straight to Pods, or through NodePorts; absent: the controller's default.
    pub direct: Option<bool>,
    /// With `externalTrafficPolicy: Local`: a node's weight is the number of its Pods.
    pub weighted_balance: bool,
    /// With NodePorts: the nodes to use.
    pub nodes: Option<Selector>,
    /// Which source address Pods see; absent: as the mode has it.
    pub source_address: Option<SourceAddress>,
    /// The PROXY protocol header that Pods get before a connection's first byte.
    pub proxy_protocol: Option<ProxyHeader>,
    /// Who has to send such a header to us.
    pub proxy_protocol_from: Vec<IpNet>,
    /// What UDP ports are asked, instead of a ping.
    pub udp_check: Option<UdpCheck>,
    /// The TCP ports that speak something else.
    pub protocols: Protocols,
    /// What stands stays as it was.
    pub skip: bool,
    /// Straight to Pods: what they weigh.
    pub weights: Option<Weights>,
    /// The TkeServiceConfig to follow.
    pub config: Option<Arc<str>>,
    /// Follow one that is made for this very object.
    pub auto_config: bool,
    /// With a pool: the addresses to have.
    pub addresses: Vec<IpAddr>,
    /// With a pool: the load balancer to have, by its id.
    pub balancer: Option<String>,
    /// What TKE would make a load balancer with.
    pub creation: Creation,
    /// Security groups whose networks may connect.
    pub security_groups: Vec<String>,
    /// With a pool: namespaces whose Services may have the same address.
    pub shares_with: BTreeSet<String>,
    /// Its Pods are not taken out of traffic before their deletion begins.
    pub no_drain: bool,
    /// How long containers of new Pods sleep before SIGTERM, in whole seconds.
    pub pre_stop_sleep: Option<Duration>,
    /// What only an Ingress may say.
    pub ingress: OfIngress,
}

/// An annotation whose value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// As it is written.
    pub key: &'static str,
    /// What is wrong, with the offending text.
    pub problem: String,
}

/// Straight to Pods, or not.
pub const DIRECT_ACCESS: &str = "service.cloud.tencent.com/direct-access";
/// Which source address Pods see.
pub const SOURCE_ADDRESS: &str = "podline.io/source-address";
/// What TCP ports speak besides TCP.
pub const SPECIFY_PROTOCOL: &str = "service.cloud.tencent.com/specify-protocol";
/// What Pods weigh.
pub const WEIGHTS: &str = "service.cloud.tencent.com/lb-rs-weight";
/// A load balancer to have, by its id.
pub const EXISTED_BALANCER: &str = "service.kubernetes.io/tke-existed-lbid";
/// The id of the load balancer that a Service has.
pub const BALANCER: &str = "service.kubernetes.io/loadbalance-id";
/// What TKE would make a load balancer with.
pub const CREATION: &str = "service.kubernetes.io/service.extensiveParameters";
/// Who may connect to a cloud's load balancer.
pub const SECURITY_GROUPS: &str = "service.cloud.tencent.com/security-groups";
/// Whether a Service is looked at.
pub const MODE: &str = "service.cloud.tencent.com/mode";
/// Where the last good values are kept while others cannot be read.
pub const LAST_GOOD: &str = "podline.io/last-good";

/// What TkeServiceConfigs have set so far.
pub const KEPT_CONFIG: &str = "podline.io/kept-config";
/// Which TkeServiceConfig to follow.
pub const CONFIG: &str = "service.cloud.tencent.com/tke-service-config";
/// Whether to follow one that is made for the Service.
pub const AUTO_CONFIG: &str = "service.cloud.tencent.com/tke-service-config-auto";

/// All annotations that Podline knows of. What is not here is none of its business.
pub static TABLE: &[Annotation] = &[
    Annotation {
        key: DIRECT_ACCESS,
        effect: Effect::Honoured,
        about: "\"true\": straight to Pods; \"false\": through NodePorts; absent: as --default-direct says.",
        read: Some(|text, settings| boolean(text).map(|value| settings.direct = Some(value))),
    },
    Annotation {
        key: "service.kubernetes.io/local-svc-only-bind-node-with-pod",
        effect: Effect::Honoured,
        about: "With NodePorts and externalTrafficPolicy Local only nodes with Pods are bound, whatever this says.",
        read: Some(|text, _| boolean(text).map(|_| ())),
    },
    Annotation {
        key: "service.cloud.tencent.com/local-svc-only-bind-node-with-pod",
        effect: Effect::Honoured,
        about: "Another spelling of the one before.",
        read: Some(|text, _| boolean(text).map(|_| ())),
    },
    Annotation {
        key: "service.cloud.tencent.com/local-svc-weighted-balance",
        effect: Effect::Honoured,
        about: "\"true\", with NodePorts and externalTrafficPolicy Local: a node weighs as many Pods as it has, 100 at most.",
        read: Some(|text, settings| boolean(text).map(|value| settings.weighted_balance = value)),
    },
    Annotation {
        key: "service.kubernetes.io/qcloud-loadbalancer-backends-label",
        effect: Effect::Honoured,
        about: "With NodePorts: a label selector for the nodes to bind.",
        read: Some(|text, settings| {
            let selector = Selector::parse(text).map_err(|problem| {
                format!("{:?}: {}", shorten(text), shorten_to(&problem, 2 * SHOWN))
            });
            selector.map(|value| settings.nodes = Some(value))
        }),
    },
    Annotation {
        key: "service.cloud.tencent.com/enable-grace-shutdown",
        effect: Effect::Honoured,
        about: "Terminating Pods get weight 0 always, whatever this says; those with our gate before their deletion begins.",
        read: None,
    },
    Annotation {
        key: "service.cloud.tencent.com/enable-grace-shutdown-tkex",
        effect: Effect::Honoured,
        about: "Pods that are not ready get weight 0 always.",
        read: None,
    },
    Annotation {
        key: "service.cloud.tencent.com/enable-grace-deletion",
        effect: Effect::Honoured,
        about: "Straight to Pods: those with our gate are taken out of traffic, and only then does their deletion begin; \"false\": they are when it has begun.",
        read: Some(|text, settings| boolean(text).map(|value| settings.no_drain = !value)),
    },
    Annotation {
        key: "podline.io/pre-stop-sleep",
        effect: Effect::Honoured,
        about: "\"5s\", whole seconds, 1s to 10m: containers of new Pods that have no preStop sleep so long before SIGTERM, and at most a second less than terminationGracePeriodSeconds.",
        read: Some(|text, settings| {
            pre_stop_sleep(text).map(|value| settings.pre_stop_sleep = Some(value))
        }),
    },
    Annotation {
        key: "podline.io/load-balancer-ips",
        effect: Effect::Honoured,
        about: "With a pool: the addresses to have, with commas, one of a family; counts more than spec.loadBalancerIP.",
        read: Some(|text, settings| addresses(text).map(|value| settings.addresses = value)),
    },
    Annotation {
        key: "podline.io/share-vip-with",
        effect: Effect::Honoured,
        about: "With a pool: namespaces, with commas, whose Services may ask for this Service's address, on other ports.",
        read: Some(|text, settings| namespaces(text).map(|value| settings.shares_with = value)),
    },
    Annotation {
        key: SOURCE_ADDRESS,
        effect: Effect::Honoured,
        about: "Which source address Pods see: \"snat\": the proxy's; \"prefer-transparent\": the client's where the way back through the proxy is proven, the default of direct Services; \"transparent\": the client's, and what cannot work fails.",
        read: Some(|text, settings| {
            source_address(text).map(|value| settings.source_address = Some(value))
        }),
    },
    Annotation {
        key: "podline.io/proxy-protocol",
        effect: Effect::Honoured,
        about: "Of TCP ports: \"v1\" or \"v2\": Pods get a PROXY protocol header that names the client; with v2 also \"v2,crc32c\", \"v2,unique-id\" or both.",
        read: Some(|text, settings| {
            proxy_header(text).map(|value| settings.proxy_protocol = Some(value))
        }),
    },
    Annotation {
        key: "podline.io/proxy-protocol-from",
        effect: Effect::Honoured,
        about: "Of TCP ports: networks, with commas, 1,000 at most, whose connections have to begin with a PROXY protocol header, which is believed; what others send is data.",
        read: Some(|text, settings| {
            networks(text).map(|value| settings.proxy_protocol_from = value)
        }),
    },
    Annotation {
        key: "podline.io/udp-check",
        effect: Effect::Honoured,
        about: "Of UDP ports, instead of a ping: \"SEND => EXPECT\", a datagram and what its answer has to begin with, each as text or as \"hex:00ff10\", 500 bytes at most; \"SEND\": any answer passes; \"\": an empty datagram, and only an unreachable port fails.",
        read: Some(|text, settings| udp_check(text).map(|value| settings.udp_check = Some(value))),
    },
    Annotation {
        key: LAST_GOOD,
        effect: Effect::Written,
        about: "The last readable values of annotations that cannot be read now; goes when they can.",
        read: None,
    },
    Annotation {
        key: KEPT_CONFIG,
        effect: Effect::Written,
        about: "What TkeServiceConfigs have set so far; it stays when they or the annotations that name them go.",
        read: None,
    },
    Annotation {
        key: CONFIG,
        effect: Effect::Honoured,
        about: "The name of a TkeServiceConfig of this namespace, which sets sessions, health checks and schedulers of ports; it may not end as those do that are made for Services. When it or this goes, what it set stays.",
        read: Some(|text, settings| object_name(text).map(|value| settings.config = Some(value))),
    },
    Annotation {
        key: AUTO_CONFIG,
        effect: Effect::Honoured,
        about: "\"true\": a TkeServiceConfig NAME-auto-service-config is made for this Service, to be edited by hand; it has an entry for each port, and goes with the Service.",
        read: Some(|text, settings| boolean(text).map(|value| settings.auto_config = value)),
    },
    Annotation {
        key: SPECIFY_PROTOCOL,
        effect: Effect::Approximated,
        about: "{\"443\": {\"protocol\": [\"HTTPS\"], \"tls\": \"shop-tls\", \"hosts\": {\"shop.example\": {}, \"pay.example\": {\"tls\": \"pay-tls\"}}}}: a TCP port that is read as HTTP or HTTPS, for these hosts alone if there are any, or TCP_SSL: TLS that ends at the proxy, around bytes. \"tls\" names Secrets of type kubernetes.io/tls; a cloud's certificate ids are not there. With HTTP and HTTPS Pods see the proxy's address and X-Forwarded-For, unless podline.io/source-address says otherwise. TCP and UDP are what the port itself says; QUIC is not there.",
        read: Some(|text, settings| protocols::read(text).map(|value| settings.protocols = value)),
    },
    Annotation {
        key: WEIGHTS,
        effect: Effect::Honoured,
        about: "Straight to Pods: {\"defaultWeight\": 10, \"groups\": [{\"key\": {\"proto\": \"TCP\", \"port\": 80}, \"statefulSets\": [{\"name\": \"web\", \"weights\": [{\"weight\": 0, \"podIndexes\": [0]}]}]}]}: what Pods of StatefulSets weigh by their index, and all others; 0 to 100, and with 0 a Pod gets no new connections and keeps those that it has.",
        read: Some(|text, settings| weights::read(text).map(|it| settings.weights = Some(it))),
    },
    Annotation {
        key: MODE,
        effect: Effect::Approximated,
        about: "\"skip\": what stands stays as it was, listeners and backends, whatever becomes of the Service, and nothing is written to it. New Pods do not join; those that end leave. With a pool its address stays only as long as it asks for no other: leave that as it was, too. A controller that starts anew takes the Service as it finds it. When it is deleted or leaves its class it is let go all the same: a cloud's load balancer would stay.",
        read: Some(|text, settings| skip(text).map(|it| settings.skip = it)),
    },
    Annotation {
        key: EXISTED_BALANCER,
        effect: Effect::Honoured,
        about: "With a pool: the Service has the address of the one with this loadbalance-id, on other ports; an id that nobody has, as a cloud's, stands for one address that all who name it have together. Services of other namespaces have to be let in by podline.io/share-vip-with. Without a pool all Services are at the proxies' addresses.",
        read: Some(|text, settings| balancer(text).map(|it| settings.balancer = Some(it))),
    },
    Annotation {
        key: BALANCER,
        effect: Effect::Written,
        about: "With a pool: the id of the Service's address; those who share it have the same. What a manifest says is replaced.",
        read: None,
    },
    Annotation {
        key: CREATION,
        effect: Effect::Approximated,
        about: "With a pool \"Vip\" is the address to have, if nothing else names one; \"LoadBalancerName\" is shown; \"AddressIPVersion\" is what spec.ipFamilies says; everything else is a cloud's own.",
        read: Some(|text, settings| creation::read(text).map(|it| settings.creation = it)),
    },
    Annotation {
        key: "service.cloud.tencent.com/prevent-loopback",
        effect: Effect::Approximated,
        about: "Whatever it says: the status has ipMode Proxy, so no node takes connections to the address as its own.",
        read: None,
    },
    Annotation {
        key: "service.cloud.tencent.com/modification-protection",
        effect: Effect::Approximated,
        about: "Whatever it says: what the controller tells proxies nobody else can change; podline drain and weight lie above it, and are shown.",
        read: None,
    },
    Annotation {
        key: SECURITY_GROUPS,
        effect: Effect::Approximated,
        about: "\"sg-a,sg-b\", five at most: who may connect, by what the ConfigMap of switches says of each group, unless spec.loadBalancerSourceRanges says it. Where it has no group at all everybody may; what it does not say of one lets nobody in.",
        read: Some(|text, settings| groups(text).map(|it| settings.security_groups = it)),
    },
    Annotation {
        key: "service.cloud.tencent.com/pass-to-target",
        effect: Effect::Approximated,
        about: "Whatever it says: who may connect to the Service is not looked at once more at its Pods; NetworkPolicies hold for them as ever.",
        read: None,
    },
    ignored(
        "service.cloud.tencent.com/target-groups",
        "Pods are bound without such objects.",
    ),
    ignored(
        "service.cloud.tencent.com/client-token",
        "a cloud's own; leave it out of manifests.",
    ),
    ignored(
        "service.cloud.tencent.com/sync-begin-time",
        "nothing is written on every look; conditions and Events say since when.",
    ),
    ignored(
        "service.cloud.tencent.com/sync-end-time",
        "the same as the one before.",
    ),
    ignored(
        "service.cloud.tencent.com/loadbalancer-source-endpoints",
        "a cloud's own.",
    ),
    ignored(
        "service.cloud.tencent.com/loadbalance-id",
        "another spelling of loadbalance-id, and not written.",
    ),
    ignored(
        "service.kubernetes.io/qcloud-loadbalancer-internal-subnetid",
        "there are no subnets: who can reach the pool's addresses decides.",
    ),
    ignored(
        "service.kubernetes.io/loadbalance-nat-ipv6",
        "a cloud's own.",
    ),
    ignored("service.kubernetes.io/loadbalance-type", "a cloud's own."),
    ignored(
        "service.kubernetes.io/qcloud-loadbalancer-internet-charge-type",
        "billing.",
    ),
    ignored(
        "service.kubernetes.io/qcloud-loadbalancer-internet-max-bandwidth-out",
        "nothing is billed, and nothing held back.",
    ),
    ignored(
        "service.cloud.tencent.com/cross-region-id",
        "there are no regions.",
    ),
    ignored(
        "service.cloud.tencent.com/cross-vpc-id",
        "there are no VPCs.",
    ),
];

const fn ignored(key: &'static str, about: &'static str) -> Annotation {
    Annotation {
        key,
        effect: Effect::Ignored,
        about,
        read: None,
    }
}

/// What annotations say, and which of them could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// What they say; where one cannot be read, what it said before.
    pub settings: Settings,
    /// Those that cannot be read.
    pub problems: Vec<Problem>,
    /// The readable text of each annotation, now or before.
    good: BTreeMap<&'static str, String>,
}

impl Read {
    /// Reads a Service's annotations. `before` is what was read of the same Service the last time.
    pub fn of(service: &Service, before: Option<&Self>) -> Self {
        Self::of_table(TABLE, &service.annotations, before)
    }

    /// The same of an Ingress.
    pub fn of_ingress(ingress: &Ingress, before: Option<&Self>) -> Self {
        Self::of_table(ingress::TABLE, &ingress.annotations, before)
    }

    /// The same of whatever has annotations that `table` knows.
    pub fn of_table(
        table: &'static [Annotation],
        annotations: &BTreeMap<String, String>,
        before: Option<&Self>,
    ) -> Self {
        let kept = annotations.get(LAST_GOOD);
        let kept: BTreeMap<String, String> = kept
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let mut read = Self::default();
        for annotation in table {
            let (Some(parse), Some(text)) = (annotation.read, annotations.get(annotation.key))
            else {
                continue;
            };
            let key = annotation.key;
            let parsed = not_too_long(text).and_then(|()| parse(text, &mut read.settings));
            if let Err(problem) = parsed {
                read.problems.push(Problem { key, problem });
                let before = before
                    .and_then(|before| before.good.get(key))
                    .or_else(|| kept.get(key));
                if let Some(text) = before.filter(|text| parse(text, &mut read.settings).is_ok()) {
                    read.good.insert(key, text.clone());
                }
            } else {
                read.good.insert(key, text.clone());
            }
        }
        read
    }

    /// What [`LAST_GOOD`] is to hold; absent while all can be read.
    pub fn last_good(&self) -> Option<String> {
        let bad = self.problems.iter().map(|problem| problem.key);
        let kept: BTreeMap<_, _> = bad
            .filter_map(|key| Some((key, self.good.get(key)?)))
            .collect();
        (!kept.is_empty()).then(|| serde_json::to_string(&kept).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
