//! Annotations of Ingresses: their table, and what only they may say. Pure.

use std::collections::BTreeMap;

use podline_api::Protocol;
use serde::Deserialize;
use serde_json::Value;

use super::value::{
    SHOWN, addresses, boolean, groups, namespaces, object_name, shorten, shorten_to, skip,
    source_address,
};
use super::{
    Annotation, Effect, KEPT_CONFIG, LAST_GOOD, SOURCE_ADDRESS, creation, ignored, weights,
};
use crate::cluster::ingress::CLASS;

/// Straight to Pods, or not.
pub const DIRECT_ACCESS: &str = "ingress.cloud.tencent.com/direct-access";
/// Which ports are listened at.
pub const LISTEN_PORTS: &str = "ingress.cloud.tencent.com/listen-ports";
/// Which TkeServiceConfig to follow.
pub const CONFIG: &str = "ingress.cloud.tencent.com/tke-service-config";
/// Whether to follow one that is made for the Ingress.
pub const AUTO_CONFIG: &str = "ingress.cloud.tencent.com/tke-service-config-auto";
/// What Pods weigh.
pub const WEIGHTS: &str = "ingress.cloud.tencent.com/lb-rs-weight";
/// Whether an Ingress is looked at.
pub const MODE: &str = "ingress.cloud.tencent.com/mode";
/// What TKE would make a load balancer with.
pub const CREATION: &str = "kubernetes.io/ingress.extensiveParameters";
/// Who may connect to a cloud's load balancer.
pub const SECURITY_GROUPS: &str = "ingress.cloud.tencent.com/security-groups";
/// HTTP redirects to HTTPS.
pub const AUTO_REWRITE: &str = "ingress.cloud.tencent.com/auto-rewrite";

/// Ports of one Ingress at most: a CLB's.
const MOST_PORTS: usize = 50;
/// What a redirect says where nothing else is said.
pub const FOUND: u16 = 302;

/// What only an Ingress's annotations say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfIngress {
    /// Where to listen, and for what: HTTP or HTTPS; absent: HTTP at 80 and HTTPS at 443.
    pub ports: Option<Vec<(Protocol, u16)>>,
    /// Rules are of HTTP, HTTPS or both as `http` and `https` say.
    pub mix: bool,
    /// Every rule is of both.
    pub mix_both: bool,
    /// With `mix`: the rules that are of HTTP.
    pub http: Vec<Chosen>,
    /// With `mix`: the rules that are of HTTPS, beside those that are of neither.
    pub https: Vec<Chosen>,
    /// HTTP redirects to HTTPS.
    pub auto_rewrite: bool,
    /// Redirects are made at all; with `true` those that `http` and `https` hold, too.
    pub rewrite_support: Option<bool>,
    /// What `auto_rewrite` answers: by host, else [`FOUND`] or what is said for all.
    pub codes: Codes,
}

/// What redirects answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codes {
    /// For hosts that have none of their own.
    pub default: Option<u16>,
    /// By host.
    pub of_hosts: BTreeMap<String, u16>,
}

impl Codes {
    /// For a host.
    pub fn of(&self, host: &str) -> u16 {
        let own = self.of_hosts.get(host).copied();
        own.or(self.default).unwrap_or(FOUND)
    }
}

/// A rule that an annotation names, or a redirect that it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Empty: every host.
    pub host: String,
    /// As it is written; `/` if nothing is.
    pub path: String,
    /// A Service, and its port by name or number.
    pub backend: Option<(String, String)>,
    /// Where clients are sent instead.
    pub rewrite: Option<Rewrite>,
}

/// Where a client is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// One that the Ingress listens at.
    pub port: u16,
    /// Absent: as asked for.
    pub host: Option<String>,
    /// Instead of what matched; absent: as asked for.
    pub path: Option<String>,
}

/// All annotations of Ingresses that Podline knows of.
pub static TABLE: &[Annotation] = &[
    Annotation {
        key: CLASS,
        effect: Effect::Honoured,
        about: "The class where spec.ingressClassName says none; those of --ingress-class are ours.",
        read: None,
    },
    Annotation {
        key: DIRECT_ACCESS,
        effect: Effect::Honoured,
        about: "\"true\": straight to Pods; \"false\": through NodePorts; absent: as --default-direct says.",
        read: Some(|text, settings| boolean(text).map(|value| settings.direct = Some(value))),
    },
    Annotation {
        key: LISTEN_PORTS,
        effect: Effect::Honoured,
        about: "[{\"HTTP\":80},{\"HTTPS\":443},{\"HTTPS\":8443}]: where to listen, 50 ports at most; a port that no rule and no redirect is for is not opened. Absent: HTTP at 80, HTTPS at 443.",
        read: Some(|text, settings| ports(text).map(|value| settings.ingress.ports = Some(value))),
    },
    Annotation {
        key: "kubernetes.io/ingress.rule-mix",
        effect: Effect::Honoured,
        about: "\"true\": http-rules and https-rules say which rules are of HTTP, HTTPS or both; a rule that neither names is of HTTPS. Without it all are of HTTPS if there is a spec.tls, else of HTTP; where listen-ports has ports of one kind only, of that.",
        read: Some(|text, settings| boolean(text).map(|value| settings.ingress.mix = value)),
    },
    Annotation {
        key: "kubernetes.io/ingress.rule-mix-both",
        effect: Effect::Honoured,
        about: "\"true\": every rule is of HTTP and HTTPS; rule-mix and redirects do not count then.",
        read: Some(|text, settings| boolean(text).map(|value| settings.ingress.mix_both = value)),
    },
    Annotation {
        key: "kubernetes.io/ingress.http-rules",
        effect: Effect::Approximated,
        about: "[{\"host\": \"a.example\", \"path\": \"/\", \"backend\": {\"serviceName\": \"web\", \"servicePort\": \"80\"}}]: with rule-mix the rules of spec.rules that are of HTTP; with rewrite-support \"rewrite\": {\"port\": 443, \"host\": \"b.example\", \"path\": \"/b\"} sends clients there, with what stands behind the path, and needs no backend. \"pathType\", regular expressions, is not there.",
        read: Some(|text, settings| chosen(text).map(|value| settings.ingress.http = value)),
    },
    Annotation {
        key: "kubernetes.io/ingress.https-rules",
        effect: Effect::Approximated,
        about: "The same of HTTPS.",
        read: Some(|text, settings| chosen(text).map(|value| settings.ingress.https = value)),
    },
    Annotation {
        key: AUTO_REWRITE,
        effect: Effect::Honoured,
        about: "\"true\": HTTP at 80 redirects every host and path that HTTPS at 443 has; needs both ports.",
        read: Some(|text, settings| {
            boolean(text).map(|value| settings.ingress.auto_rewrite = value)
        }),
    },
    Annotation {
        key: "ingress.cloud.tencent.com/rewrite-support",
        effect: Effect::Honoured,
        about: "\"true\": the redirects of http-rules and https-rules are made; \"false\": no redirect is, auto-rewrite included.",
        read: Some(|text, settings| {
            boolean(text).map(|value| settings.ingress.rewrite_support = Some(value))
        }),
    },
    Annotation {
        key: "ingress.cloud.tencent.com/auto-rewrite-code",
        effect: Effect::Honoured,
        about: "{\"defaultRewriteCode\": 301, \"rewriteCodeInfos\": [{\"host\": \"a.example\", \"rewriteCode\": 307}]}: what auto-rewrite answers, 301, 302, 303, 307 or 308; absent: 302.",
        read: Some(|text, settings| codes(text).map(|value| settings.ingress.codes = value)),
    },
    Annotation {
        key: "ingress.cloud.tencent.com/enable-grace-shutdown",
        effect: Effect::Honoured,
        about: "Terminating Pods get weight 0 always, whatever this says; those with our gate before their deletion begins.",
        read: None,
    },
    Annotation {
        key: "ingress.cloud.tencent.com/enable-grace-shutdown-tkex",
        effect: Effect::Honoured,
        about: "Pods that are not ready get weight 0 always.",
        read: None,
    },
    Annotation {
        key: "ingress.cloud.tencent.com/enable-grace-deletion",
        effect: Effect::Honoured,
        about: "Straight to Pods: those with our gate are taken out of traffic, and only then does their deletion begin; \"false\": they are when it has begun.",
        read: Some(|text, settings| boolean(text).map(|value| settings.no_drain = !value)),
    },
    Annotation {
        key: "podline.io/load-balancer-ips",
        effect: Effect::Honoured,
        about: "With a pool: the addresses to have, with commas, one of a family.",
        read: Some(|text, settings| addresses(text).map(|value| settings.addresses = value)),
    },
    Annotation {
        key: "podline.io/share-vip-with",
        effect: Effect::Honoured,
        about: "With a pool: namespaces, with commas, whose Services and Ingresses may ask for this one's address, on other ports.",
        read: Some(|text, settings| namespaces(text).map(|value| settings.shares_with = value)),
    },
    Annotation {
        key: SOURCE_ADDRESS,
        effect: Effect::Honoured,
        about: "Straight to Pods: which source address they see: \"snat\": the proxy's, the default, with the client's in X-Forwarded-For; \"prefer-transparent\" and \"transparent\": as for Services.",
        read: Some(|text, settings| {
            source_address(text).map(|value| settings.source_address = Some(value))
        }),
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
        about: "The name of a TkeServiceConfig of this namespace, whose l7Listeners set sessions, health checks and schedulers of rules; as with Services.",
        read: Some(|text, settings| object_name(text).map(|value| settings.config = Some(value))),
    },
    Annotation {
        key: AUTO_CONFIG,
        effect: Effect::Honoured,
        about: "\"true\": a TkeServiceConfig NAME-auto-ingress-config is made for this Ingress, to be edited by hand; it has an entry for each port, host and path, and goes with the Ingress.",
        read: Some(|text, settings| boolean(text).map(|value| settings.auto_config = value)),
    },
    Annotation {
        key: WEIGHTS,
        effect: Effect::Honoured,
        about: "Straight to Pods: what Pods of StatefulSets weigh by their index, and all others, as with Services; \"key\" names a port that is listened at: {\"proto\": \"HTTP\", \"port\": 80}.",
        read: Some(|text, settings| weights::read(text).map(|it| settings.weights = Some(it))),
    },
    Annotation {
        key: MODE,
        effect: Effect::Approximated,
        about: "\"skip\": what stands stays as it was, as with Services: whatever becomes of the Ingress and of the Services that it names, and nothing is written to it.",
        read: Some(|text, settings| skip(text).map(|it| settings.skip = it)),
    },
    ignored(
        "ingress.cloud.tencent.com/certificate",
        "a cloud's certificate ids are not there: use spec.tls.",
    ),
    ignored(
        "ingress.cloud.tencent.com/enable-group",
        "each Ingress has listeners of its own; with a pool podline.io/load-balancer-ips lets several share an address, on other ports.",
    ),
    ignored(
        "ingress.cloud.tencent.com/mix-target-prefer",
        "a listener goes to backends of its own family, where the Service has it.",
    ),
    Annotation {
        key: SECURITY_GROUPS,
        effect: Effect::Approximated,
        about: "\"sg-a,sg-b\", five at most: who may connect, by what the ConfigMap of switches says of each group, as with Services. Where it has no group at all everybody may; what it does not say of one lets nobody in.",
        read: Some(|text, settings| groups(text).map(|it| settings.security_groups = it)),
    },
    ignored(
        "ingress.cloud.tencent.com/pass-to-target",
        "there is no second gate to open.",
    ),
    ignored(
        "ingress.cloud.tencent.com/modification-protection",
        "what a controller owns nobody else can change.",
    ),
    ignored(
        "ingress.cloud.tencent.com/deletion-protection",
        "who may delete an Ingress is RBAC's to say.",
    ),
    ignored(
        "ingress.cloud.tencent.com/loadbalance-retain",
        "there is nothing that could be kept.",
    ),
    ignored(
        "kubernetes.io/ingress.existLbId",
        "use podline.io/load-balancer-ips.",
    ),
    ignored(
        "kubernetes.io/ingress.qcloud-loadbalance-id",
        "a cloud's own.",
    ),
    ignored(
        "kubernetes.io/ingress.subnetId",
        "there are no subnets to choose from.",
    ),
    Annotation {
        key: CREATION,
        effect: Effect::Approximated,
        about: "With a pool \"Vip\" is the address to have, if nothing else names one; \"LoadBalancerName\" is shown; \"AddressIPVersion\" is what spec.ipFamilies of the Services says; everything else is a cloud's own.",
        read: Some(|text, settings| creation::read(text).map(|it| settings.creation = it)),
    },
    ignored("kubernetes.io/ingress.internetChargeType", "billing."),
    ignored("kubernetes.io/ingress.internetMaxBandwidthOut", "billing."),
];

fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| shorten_to(&error.to_string(), 2 * SHOWN))
}

fn ports(text: &str) -> Result<Vec<(Protocol, u16)>, String> {
    let mut found: Vec<(Protocol, u16)> = Vec::new();
    for entry in json::<Vec<BTreeMap<String, u16>>>(text)? {
        for (word, port) in entry {
            let protocol = match word.as_str() {
                "HTTP" => Protocol::Http,
                "HTTPS" => Protocol::Https,
                odd => return Err(format!("{:?} is neither HTTP nor HTTPS", shorten(odd))),
            };
            if port == 0 {
                return Err("0 is no port".to_owned());
            }
            if found.iter().any(|(_, known)| *known == port) {
                return Err(format!("names port {port} twice"));
            }
            found.push((protocol, port));
        }
    }
    match found.len() {
        0 => Err("names no port".to_owned()),
        1..=MOST_PORTS => Ok(found),
        _ => Err(format!("names more than {MOST_PORTS} ports")),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SaidRule {
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    path_type: Option<Value>,
    #[serde(default)]
    backend: Option<SaidBackend>,
    #[serde(default)]
    rewrite: Option<SaidRewrite>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SaidBackend {
    service_name: String,
    service_port: Value,
}

#[derive(Deserialize)]
struct SaidRewrite {
    port: Value,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    path: Option<String>,
}

/// Consoles write `null` where there is none.
fn chosen(text: &str) -> Result<Vec<Chosen>, String> {
    let said: Option<Vec<SaidRule>> = json(text)?;
    said.into_iter().flatten().map(Chosen::read).collect()
}

impl Chosen {
    fn read(said: SaidRule) -> Result<Self, String> {
        let path = said.path.filter(|path| !path.is_empty());
        let path = path.unwrap_or_else(|| "/".to_owned());
        if said.path_type.is_some() {
            return Err(format!(
                "{:?}: pathType, regular expressions, is not there",
                shorten(&path)
            ));
        }
        let rewrite = said.rewrite.map(|to| {
            let port = plain(&to.port).parse().ok().filter(|port| *port > 0);
            let problem = || format!("{} is no port to redirect to", shorten(&plain(&to.port)));
            Ok::<_, String>(Rewrite {
                port: port.ok_or_else(problem)?,
                host: to.host.filter(|host| !host.is_empty()),
                path: to.path.filter(|path| !path.is_empty()),
            })
        });
        let backend = said.backend;
        Ok(Self {
            host: said.host.unwrap_or_default().to_ascii_lowercase(),
            path,
            backend: backend.map(|it| (it.service_name, plain(&it.service_port))),
            rewrite: rewrite.transpose()?,
        })
    }
}

/// A number or a text, as text.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SaidCodes {
    #[serde(default)]
    default_rewrite_code: Option<u16>,
    #[serde(default)]
    rewrite_code_infos: Vec<SaidCode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SaidCode {
    host: String,
    rewrite_code: u16,
}

fn codes(text: &str) -> Result<Codes, String> {
    let said: SaidCodes = json(text)?;
    let check = |code: u16| match code {
        301 | 302 | 303 | 307 | 308 => Ok(code),
        odd => Err(format!("{odd} is none of 301, 302, 303, 307 and 308")),
    };
    let of_hosts = said.rewrite_code_infos.into_iter();
    let of_hosts = of_hosts.map(|it| Ok((it.host.to_ascii_lowercase(), check(it.rewrite_code)?)));
    Ok(Codes {
        default: said.default_rewrite_code.map(check).transpose()?,
        of_hosts: of_hosts.collect::<Result<_, String>>()?,
    })
}

#[cfg(test)]
mod tests;
