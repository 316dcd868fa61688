//! Annotations of Services: one table that is parser, documentation and importer at once. Pure.
//!
//! A value that cannot be read changes nothing: the last one that could be read stays, and a problem says so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::selector::Selector;
use crate::cluster::family::{Family, parse_ip};
use crate::cluster::service::{MAX_VALUE_BYTES, Service};

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Straight to Pods, or through NodePorts; absent: the controller's default.
    pub direct: Option<bool>,
    /// With `externalTrafficPolicy: Local`: a node's weight is the number of its Pods.
    pub weighted_balance: bool,
    /// With NodePorts: the nodes to use.
    pub nodes: Option<Selector>,
    /// With a pool: the addresses to have.
    pub addresses: Vec<IpAddr>,
    /// With a pool: namespaces whose Services may have the same address.
    pub shares_with: BTreeSet<String>,
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
/// Where the last good values are kept while others cannot be read.
pub const LAST_GOOD: &str = "podline.io/last-good";

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
        about: "Terminating Pods get weight 0 always.",
        read: None,
    },
    Annotation {
        key: "service.cloud.tencent.com/enable-grace-shutdown-tkex",
        effect: Effect::Honoured,
        about: "Pods that are not ready get weight 0 always.",
        read: None,
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
        key: LAST_GOOD,
        effect: Effect::Written,
        about: "The last readable values of annotations that cannot be read now; goes when they can.",
        read: None,
    },
    ignored(
        "service.cloud.tencent.com/enable-grace-deletion",
        "not yet: Pods are drained when their deletion begins.",
    ),
    ignored("service.cloud.tencent.com/tke-service-config", "not yet."),
    ignored(
        "service.cloud.tencent.com/tke-service-config-auto",
        "not yet.",
    ),
    ignored(
        "service.cloud.tencent.com/specify-protocol",
        "not yet: TCP listeners only.",
    ),
    ignored("service.cloud.tencent.com/lb-rs-weight", "not yet."),
    ignored(
        "service.cloud.tencent.com/prevent-loopback",
        "not needed: the status has ipMode Proxy.",
    ),
    ignored("service.cloud.tencent.com/mode", "not yet."),
    ignored("service.cloud.tencent.com/target-groups", "not yet."),
    ignored("service.kubernetes.io/tke-existed-lbid", "not yet."),
    ignored("service.kubernetes.io/loadbalance-id", "a cloud's own."),
    ignored("service.cloud.tencent.com/client-token", "a cloud's own."),
    ignored(
        "service.cloud.tencent.com/sync-begin-time",
        "a cloud's own.",
    ),
    ignored("service.cloud.tencent.com/sync-end-time", "a cloud's own."),
    ignored(
        "service.cloud.tencent.com/loadbalancer-source-endpoints",
        "a cloud's own.",
    ),
    ignored(
        "service.cloud.tencent.com/modification-protection",
        "what a controller owns nobody else can change.",
    ),
    ignored(
        "service.cloud.tencent.com/security-groups",
        "not yet: use loadBalancerSourceRanges.",
    ),
    ignored(
        "service.cloud.tencent.com/pass-to-target",
        "not yet: use loadBalancerSourceRanges.",
    ),
    ignored(
        "service.kubernetes.io/qcloud-loadbalancer-internal-subnetid",
        "there are no subnets to choose from.",
    ),
    ignored(
        "service.kubernetes.io/service.extensiveParameters",
        "not yet.",
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
        "billing.",
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
        let kept = service.annotations.get(LAST_GOOD);
        let kept: BTreeMap<String, String> = kept
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let mut read = Self::default();
        for annotation in TABLE {
            let (Some(parse), Some(text)) =
                (annotation.read, service.annotations.get(annotation.key))
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

fn not_too_long(text: &str) -> Result<(), String> {
    if text.len() <= MAX_VALUE_BYTES {
        return Ok(());
    }
    Err(format!(
        "{:?} is longer than {MAX_VALUE_BYTES} bytes",
        shorten_to(text, SHOWN)
    ))
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!(
            "{:?} is neither \"true\" nor \"false\"",
            shorten(text)
        )),
    }
}

/// How much of a text is shown, in bytes.
const SHOWN: usize = 80;

fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let read =
        |part: &str| parse_ip(part).ok_or_else(|| format!("{:?} is no IP address", shorten(part)));
    let found: Vec<_> = text
        .split(',')
        .map(|part| read(part.trim()))
        .collect::<Result<_, _>>()?;
    let of = |family| found.iter().filter(|ip| Family::of(**ip) == family).count();
    if of(Family::V4) > 1 || of(Family::V6) > 1 {
        return Err("names more than one address of a family".to_owned());
    }
    Ok(found)
}

fn namespaces(text: &str) -> Result<BTreeSet<String>, String> {
    let is_name = |part: &&str| {
        (1..=63).contains(&part.len())
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let parts: Vec<_> = text.split(',').map(str::trim).collect();
    match parts.iter().find(|part| !is_name(part)) {
        Some(odd) => Err(format!("{:?} is no namespace", shorten(odd))),
        None => Ok(parts.into_iter().map(ToOwned::to_owned).collect()),
    }
}

/// Enough of a text to know it again.
pub(crate) fn shorten(text: &str) -> String {
    if text.len() <= SHOWN {
        return text.to_owned();
    }
    format!("{} ({} bytes)", shorten_to(text, SHOWN), text.len())
}

fn shorten_to(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(annotations: &[(&str, &str)]) -> Service {
        let annotations = annotations
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Service {
            annotations: annotations.collect(),
            ..crate::cluster::testing::service("default/web")
        }
    }

    #[test]
    fn a_value_that_cannot_be_read_leaves_the_last_one() {
        let good = Read::of(&service(&[(DIRECT_ACCESS, "true")]), None);
        assert_eq!((good.settings.direct, good.last_good()), (Some(true), None));
        let bad = Read::of(&service(&[(DIRECT_ACCESS, "ture")]), Some(&good));
        assert_eq!(bad.settings.direct, Some(true));
        assert!(
            bad.problems[0].problem.contains("\"ture\""),
            "{:?}",
            bad.problems
        );
        // After a restart nothing is remembered but what the Service itself holds.
        let kept = bad.last_good().unwrap();
        let again = service(&[(DIRECT_ACCESS, "ture"), (LAST_GOOD, &kept)]);
        let again = Read::of(&again, None);
        assert_eq!(
            (again.settings.direct, again.last_good()),
            (Some(true), Some(kept))
        );
        let gone = Read::of(&service(&[]), Some(&again));
        assert_eq!((gone.settings.direct, gone.last_good()), (None, None));
    }

    #[test]
    fn hostile_values_are_refused_and_shown_in_part() {
        let long = "é".repeat(50_000);
        for text in ["", "TRUE", "1", "{\"a\":", long.as_str(), "\0\u{202e}"] {
            let read = Read::of(&service(&[(DIRECT_ACCESS, text), (LAST_GOOD, text)]), None);
            assert_eq!(read.settings, Settings::default());
            assert!(read.problems[0].problem.len() < 400);
        }
    }

    #[test]
    fn a_problem_shows_the_offending_text_and_not_too_much_of_it() {
        const NODES: &str = "service.kubernetes.io/qcloud-loadbalancer-backends-label";
        for text in [
            "((brackets",
            "",
            "a=b c",
            &format!("k in ({}", "v".repeat(9_000)),
        ] {
            let read = Read::of(&service(&[(NODES, text)]), None);
            let problem = &read.problems[0].problem;
            let start = &text[..text.len().min(60)];
            assert!(problem.contains(start) && problem.len() < 400, "{problem}");
        }
    }

    #[test]
    fn every_annotation_stands_once_and_says_something() {
        for (i, annotation) in TABLE.iter().enumerate() {
            assert!(annotation.about.ends_with('.'), "{}", annotation.key);
            assert!(TABLE[..i].iter().all(|other| other.key != annotation.key));
        }
    }
}
