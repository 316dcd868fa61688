//! `lb-rs-weight`: the share of new connections that each Pod of a StatefulSet gets, by its index. Pure.

use std::collections::BTreeMap;
use std::fmt;

use podline_api::Weight;
use serde::Deserialize;

use super::value::{SHOWN, shorten, shorten_to};
use crate::cluster::{Pod, Transport};

/// What owns Pods that have an index.
const STATEFUL_SET: &str = "StatefulSet";

/// What Pods weigh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// Pods that are not named, on any port.
    default: Weight,
    /// By port, then by StatefulSet, then by index.
    ports: BTreeMap<(u16, Transport), BTreeMap<String, BTreeMap<u32, Weight>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Said {
    default_weight: Option<u32>,
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Group {
    key: PortKey,
    #[serde(default)]
    stateful_sets: Vec<StatefulSet>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PortKey {
    proto: String,
    port: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatefulSet {
    name: String,
    #[serde(default)]
    weights: Vec<OfIndexes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OfIndexes {
    weight: u32,
    #[serde(default)]
    pod_indexes: Vec<u32>,
}

pub(super) fn read(text: &str) -> Result<Weights, String> {
    let said: Said =
        serde_json::from_str(text).map_err(|error| shorten_to(&error.to_string(), 2 * SHOWN))?;
    let default = said.default_weight.map_or(Ok(Weight::DEFAULT), weight);
    let mut weights = Weights {
        default: default.map_err(|problem| format!("defaultWeight: {problem}"))?,
        ports: BTreeMap::new(),
    };
    for group in said.groups {
        let PortKey { proto, port } = group.key;
        let transport = transport(&proto)?;
        if port == 0 {
            return Err("0 is no port's number".to_owned());
        }
        let sets = weights.ports.entry((port, transport)).or_default();
        for set in group.stateful_sets {
            let indexes = sets.entry(set.name.clone()).or_default();
            for of_indexes in set.weights {
                let of_set = |problem: &dyn fmt::Display| {
                    format!("{proto} {port}, {}: {problem}", shorten(&set.name))
                };
                let weight = weight(of_indexes.weight).map_err(|problem| of_set(&problem))?;
                for index in of_indexes.pod_indexes {
                    let before = indexes.insert(index, weight);
                    if before.is_some_and(|before| before != weight) {
                        return Err(of_set(&format!("index {index} has two weights")));
                    }
                }
            }
        }
    }
    Ok(weights)
}

fn weight(number: u32) -> Result<Weight, String> {
    Weight::try_from(number).map_err(|_| format!("{number} is no weight: use 0 to {}", Weight::MAX))
}

/// What the port is declared as counts; a listener's own word for it says the same.
fn transport(word: &str) -> Result<Transport, String> {
    match word {
        "TCP" | "TCP_SSL" | "HTTP" | "HTTPS" => Ok(Transport::Tcp),
        "UDP" | "QUIC" => Ok(Transport::Udp),
        odd => Err(format!("{:?} is no protocol", shorten(odd))),
    }
}

impl Weights {
    /// What a Pod weighs on a port; without a Pod what nobody is named for weighs.
    pub fn of(&self, transport: Transport, port: u16, pod: Option<&Pod>) -> Weight {
        let named = || {
            let (set, index) = place_in_set(pod?)?;
            let sets = self.ports.get(&(port, transport))?;
            sets.get(set)?.get(&index).copied()
        };
        named().unwrap_or(self.default)
    }

    /// Whether a port is named.
    pub fn names(&self, transport: Transport, port: u16) -> bool {
        self.ports.contains_key(&(port, transport))
    }

    /// The ports that are named.
    pub fn ports(&self) -> impl Iterator<Item = (u16, Transport)> {
        self.ports.keys().copied()
    }
}

/// `web` and 2 of Pod `web-2`, which StatefulSet `web` made.
fn place_in_set(pod: &Pod) -> Option<(&str, u32)> {
    let owner = pod.owner.as_ref();
    let owner = owner.filter(|owner| owner.kind == STATEFUL_SET)?;
    let digits = pod.key.name.strip_prefix(&*owner.name)?.strip_prefix('-')?;
    let index: u32 = digits.parse().ok()?;
    (index.to_string() == digits).then_some((owner.name.as_str(), index))
}

/// As it is explained: `10; 80/TCP: web-0 0, web-1 20`.
impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Pods of a port that are told.
        const MOST: usize = 8;
        write!(f, "{}", self.default)?;
        for ((port, transport), sets) in &self.ports {
            let all = sets.iter().flat_map(|(set, indexes)| {
                let of_set = move |(index, weight)| format!("{set}-{index} {weight}");
                indexes.iter().map(of_set)
            });
            let mut told: Vec<String> = all.take(MOST + 1).collect();
            if told.len() > MOST {
                told.truncate(MOST);
                told.push("more".to_owned());
            }
            if !told.is_empty() {
                let pods = told.join(", ");
                write!(f, "; {port}/{}: {pods}", transport.as_str())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::pod::Owner;
    use crate::cluster::testing::pod;

    /// A Pod of a workload.
    fn of(kind: &str, owner: &str, name: &str) -> Pod {
        Pod {
            owner: Some(Arc::new(Owner {
                kind: kind.to_owned(),
                name: owner.to_owned(),
                uid: "1".to_owned(),
            })),
            ..pod(&format!("default/{name}"), "10.0.0.1")
        }
    }

    /// The documentation's own.
    const NGINX: &str = r#"{"defaultWeight":10,"groups":[{"key":{"proto":"TCP","port":80},"statefulSets":[{"name":"nginx","weights":[{"weight":0,"podIndexes":[0]}]}]},{"key":{"proto":"TCP","port":8080},"statefulSets":[{"name":"nginx","weights":[{"weight":0,"podIndexes":[0]}]}]}]}"#;

    #[test]
    fn pods_are_weighed_by_set_and_index() {
        let weights = read(NGINX).unwrap();
        let on = |pod: &Pod, port| weights.of(Transport::Tcp, port, Some(pod)).get();
        let first = of("StatefulSet", "nginx", "nginx-0");
        assert_eq!((on(&first, 80), on(&first, 8080)), (0, 0));
        assert_eq!(on(&first, 443), 10, "another port");
        assert_eq!(weights.of(Transport::Udp, 80, Some(&first)).get(), 10);
        assert_eq!(weights.of(Transport::Tcp, 80, None).get(), 10);
        for other in [
            of("StatefulSet", "nginx", "nginx-1"),
            of("StatefulSet", "nginx", "nginx-10"),
            of("StatefulSet", "nginx", "nginx-00"),
            of("StatefulSet", "nginx", "nginx-+0"),
            of("StatefulSet", "nginx", "nginx"),
            of("StatefulSet", "other", "nginx-0"),
            of("ReplicaSet", "nginx", "nginx-0"),
            pod("default/nginx-0", "10.0.0.1"),
        ] {
            assert_eq!(on(&other, 80), 10, "{}", other.key);
        }
        assert_eq!(
            weights.to_string(),
            "10; 80/TCP: nginx-0 0; 8080/TCP: nginx-0 0"
        );
        let ports: Vec<_> = weights.ports().collect();
        assert_eq!(ports, [(80, Transport::Tcp), (8080, Transport::Tcp)]);
    }

    #[test]
    fn a_default_alone_weighs_everybody() {
        let weights = read(r#"{"defaultWeight":30}"#).unwrap();
        assert_eq!(weights.of(Transport::Tcp, 80, None).get(), 30);
        assert_eq!(weights.to_string(), "30");
        assert_eq!(read("{}").unwrap(), Weights::default());
    }

    #[test]
    fn many_pods_are_told_in_part() {
        let indexes: Vec<_> = (0..20).map(|n: u32| n.to_string()).collect();
        let indexes = indexes.join(",");
        let text = format!(
            r#"{{"groups":[{{"key":{{"proto":"UDP","port":53}},"statefulSets":[{{"name":"dns","weights":[{{"weight":5,"podIndexes":[{indexes}]}}]}}]}}]}}"#
        );
        let told = read(&text).unwrap().to_string();
        assert!(told.starts_with("10; 53/UDP: dns-0 5, dns-1 5, "), "{told}");
        assert!(told.ends_with("dns-7 5, more"), "{told}");
    }

    #[test]
    fn what_cannot_be_is_said() {
        let group = |key: &str, weights: &str| {
            format!(
                r#"{{"groups":[{{"key":{key},"statefulSets":[{{"name":"web","weights":{weights}}}]}}]}}"#
            )
        };
        let tcp = r#"{"proto":"TCP","port":80}"#;
        for (text, problem) in [
            (
                r#"{"defaultWeight":101}"#.to_owned(),
                "defaultWeight: 101 is no weight: use 0 to 100",
            ),
            (
                group(tcp, r#"[{"weight":200,"podIndexes":[0]}]"#),
                "TCP 80, web: 200 is no weight: use 0 to 100",
            ),
            (
                group(
                    tcp,
                    r#"[{"weight":0,"podIndexes":[0,1]},{"weight":1,"podIndexes":[1]}]"#,
                ),
                "TCP 80, web: index 1 has two weights",
            ),
            (
                group(r#"{"proto":"SCTP","port":80}"#, "[]"),
                "\"SCTP\" is no protocol",
            ),
            (
                group(r#"{"proto":"TCP","port":0}"#, "[]"),
                "0 is no port's number",
            ),
        ] {
            assert_eq!(read(&text).unwrap_err(), problem, "{text}");
        }
        for text in ["", "[]", r#"{"default":1}"#, r#"{"groups":[{}]}"#, "1e999"] {
            assert!(read(text).unwrap_err().len() < 200, "{text}");
        }
    }
}
