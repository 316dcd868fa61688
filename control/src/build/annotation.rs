//! Annotations of Services: one table that is parser, documentation and importer at once. Pure.
//!
//! A value that cannot be read changes nothing: the last one that could be read stays, and a problem says so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use podline_api::{ProxyHeader, SourceAddress, UdpCheck};

use super::selector::Selector;
use super::source_ranges;
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
    /// Which source address Pods see; absent: as the mode has it.
    pub source_address: Option<SourceAddress>,
    /// The PROXY protocol header that Pods get before a connection's first byte.
    pub proxy_protocol: Option<ProxyHeader>,
    /// Who has to send such a header to us.
    pub proxy_protocol_from: Vec<IpNet>,
    /// What UDP ports are asked, instead of a ping.
    pub udp_check: Option<UdpCheck>,
    /// With a pool: the addresses to have.
    pub addresses: Vec<IpAddr>,
    /// With a pool: namespaces whose Services may have the same address.
    pub shares_with: BTreeSet<String>,
    /// Its Pods are not taken out of traffic before their deletion begins.
    pub no_drain: bool,
    /// How long containers of new Pods sleep before SIGTERM, in whole seconds.
    pub pre_stop_sleep: Option<Duration>,
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
    ignored("service.cloud.tencent.com/tke-service-config", "not yet."),
    ignored(
        "service.cloud.tencent.com/tke-service-config-auto",
        "not yet.",
    ),
    ignored(
        "service.cloud.tencent.com/specify-protocol",
        "not yet: TCP and UDP listeners only.",
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

fn pre_stop_sleep(text: &str) -> Result<Duration, String> {
    const MOST: Duration = Duration::from_mins(10);
    let sleep = podline_api::duration::parse(text)?;
    if sleep.subsec_nanos() > 0 || sleep.is_zero() || sleep > MOST {
        return Err(format!(
            "{:?} is not whole seconds from 1s to 10m",
            shorten(text)
        ));
    }
    Ok(sleep)
}

fn source_address(text: &str) -> Result<SourceAddress, String> {
    match text {
        "snat" => Ok(SourceAddress::Snat),
        "prefer-transparent" => Ok(SourceAddress::PreferTransparent),
        "transparent" => Ok(SourceAddress::Transparent),
        _ => Err(format!(
            "{:?} is none of \"snat\", \"prefer-transparent\" and \"transparent\"",
            shorten(text)
        )),
    }
}

fn proxy_header(text: &str) -> Result<ProxyHeader, String> {
    let mut parts = text.split(',').map(str::trim);
    let (mut crc32c, mut unique_id) = (false, false);
    let version = parts.next().unwrap_or_default();
    for option in parts {
        match option {
            "crc32c" if version == "v2" => crc32c = true,
            "unique-id" if version == "v2" => unique_id = true,
            "crc32c" | "unique-id" => return Err(format!("{option} is for \"v2\"")),
            odd => {
                let odd = shorten(odd);
                return Err(format!("{odd:?} is neither \"crc32c\" nor \"unique-id\""));
            }
        }
    }
    match version {
        "v1" => Ok(ProxyHeader::V1),
        "v2" => Ok(ProxyHeader::V2 { crc32c, unique_id }),
        odd => Err(format!("{:?} is neither \"v1\" nor \"v2\"", shorten(odd))),
    }
}

fn udp_check(text: &str) -> Result<UdpCheck, String> {
    let (send, expect) = match text.split_once(" => ") {
        Some((send, expect)) => (send, Some(expect)),
        None => (text, None),
    };
    let expect = expect.map(datagram).transpose()?;
    if expect.as_ref().is_some_and(Vec::is_empty) {
        return Err(format!("{:?} expects nothing", shorten(text)));
    }
    Ok(UdpCheck {
        send: datagram(send)?,
        expect,
    })
}

/// Text, or bytes as `hex:00ff10`.
fn datagram(text: &str) -> Result<Vec<u8>, String> {
    const LONGEST: usize = 500;
    let bytes = match text.strip_prefix("hex:") {
        None => Some(text.as_bytes().to_vec()),
        Some(digits) if is_hex(digits) => {
            let bytes = (0..digits.len()).step_by(2);
            bytes
                .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
                .collect()
        }
        Some(_) => None,
    };
    let bytes = bytes.ok_or_else(|| format!("{:?} is no hex", shorten(text)))?;
    if bytes.len() > LONGEST {
        return Err(format!(
            "{:?} is longer than {LONGEST} bytes",
            shorten(text)
        ));
    }
    Ok(bytes)
}

fn is_hex(digits: &str) -> bool {
    digits.len().is_multiple_of(2) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Better none than some: whose header is missed would be taken for the client itself.
fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let mut found = text
        .split(',')
        .map(|part| {
            let network = source_ranges::network(part.trim());
            network.ok_or_else(|| format!("{:?} is no network", shorten(part)))
        })
        .collect::<Result<Vec<_>, _>>()?;
    found.sort_unstable();
    found.dedup();
    if found.len() > source_ranges::MOST {
        return Err(format!("more than {} networks", source_ranges::MOST));
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
    fn what_is_nearly_right_is_refused_in_words() {
        const FROM: &str = "podline.io/proxy-protocol-from";
        const HEADER: &str = "podline.io/proxy-protocol";
        const CHECK: &str = "podline.io/udp-check";
        const SLEEP: &str = "podline.io/pre-stop-sleep";
        let many: Vec<_> = (0..1_001)
            .map(|n| format!("10.{}.{}.0/24", n / 256, n % 256))
            .collect();
        let check = |key: &'static str, text: &str, expected: &str| {
            let read = Read::of(&service(&[(key, text)]), None);
            let problem = read.problems.first().map_or("", |it| it.problem.as_str());
            assert_eq!(problem, expected, "{text}");
            assert_eq!(problem.is_empty(), read.settings != Settings::default());
        };
        check(HEADER, "v1", "");
        check(HEADER, "v2,unique-id,crc32c", "");
        check(HEADER, "v1,crc32c", "crc32c is for \"v2\"");
        check(HEADER, "v3", "\"v3\" is neither \"v1\" nor \"v2\"");
        check(
            HEADER,
            "v2,",
            "\"\" is neither \"crc32c\" nor \"unique-id\"",
        );
        check(
            HEADER,
            "v2,tls",
            "\"tls\" is neither \"crc32c\" nor \"unique-id\"",
        );
        check(FROM, "10.0.0.0/8, 192.0.2.1", "");
        check(FROM, "", "\"\" is no network");
        check(FROM, "10.0.0.0/8,", "\"\" is no network");
        check(
            FROM,
            "10.0.0.0/8,10.0.0.0/33",
            "\"10.0.0.0/33\" is no network",
        );
        check(FROM, &many.join(","), "more than 1000 networks");
        check(SOURCE_ADDRESS, "prefer-transparent", "");
        check(SLEEP, "1s", "");
        check(SLEEP, "10m", "");
        for text in ["0s", "1500ms", "11m"] {
            let problem = format!("{text:?} is not whole seconds from 1s to 10m");
            check(SLEEP, text, &problem);
        }
        check(
            SLEEP,
            "5",
            "\"5\" is not a duration: write 500ms, 5s, 15m or 3h",
        );
        check(CHECK, "", "");
        check(CHECK, "PING => PONG", "");
        check(CHECK, "hex:00fF => hex:00", "");
        check(CHECK, "hex:0", "\"hex:0\" is no hex");
        check(CHECK, "hex:+1", "\"hex:+1\" is no hex");
        check(CHECK, "a => ", "\"a => \" expects nothing");
        check(CHECK, "a => hex:zz", "\"hex:zz\" is no hex");
        check(
            CHECK,
            &"é".repeat(251),
            &format!("{:?} is longer than 500 bytes", shorten(&"é".repeat(251))),
        );
        let none = "\"yes\" is none of \"snat\", \"prefer-transparent\" and \"transparent\"";
        check(SOURCE_ADDRESS, "yes", none);
        for key in [FROM, HEADER, SLEEP, SOURCE_ADDRESS] {
            for text in [
                "é".repeat(50_000),
                "10.0.0.1,".repeat(1_500),
                "v2,crc32c,".repeat(1_500),
            ] {
                let read = Read::of(&service(&[(key, &text)]), None);
                assert_eq!(read.settings, Settings::default());
                assert!(read.problems[0].problem.len() < 400);
            }
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
