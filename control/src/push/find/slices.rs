//! Proxies out of the EndpointSlices of their headless Service. Pure.
//!
//! Ready or not, serving or terminating: a proxy that waits for its first state must be told it, and one that ends is
//! told what changes for as long as it is there. Who is well is seen on the connection.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::Target;

/// The proxies in these slices, by the names of their Pods, or by address where there is no Pod. The port is the one
/// named `port_name`. IPv4 and IPv6 of one Pod are one proxy, which is spoken to over the lower.
pub fn targets<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    port_name: &str,
) -> BTreeMap<String, Target> {
    let mut all: Vec<Found<'a>> = Vec::new();
    for slice in slices {
        if let Some(port) = port(slice, port_name) {
            let endpoints = slice.endpoints.iter().flatten();
            all.extend(endpoints.filter_map(|endpoint| Found::read(endpoint, port)));
        }
    }
    // The slices of the two IP versions are written one after the other: who ends in one of them ends.
    let ending: BTreeSet<_> = all
        .iter()
        .filter(|found| found.is_terminating)
        .filter_map(|found| found.pod)
        .collect();
    let mut by_address: BTreeMap<IpAddr, Found<'a>> = BTreeMap::new();
    for mut found in all {
        found.is_terminating |= found.pod.is_some_and(|pod| ending.contains(&pod));
        let known = by_address.entry(found.address).or_insert(found);
        // An address that went from one Pod to another: who ends has it no longer.
        if known.is_terminating && !found.is_terminating {
            *known = found;
        }
    }
    // Who lives comes first: a Pod that ends may have a successor of its name.
    let mut found: Vec<(IpAddr, Found<'a>)> = by_address.into_iter().collect();
    found.sort_by_key(|(_, found)| found.is_terminating);
    let mut targets: BTreeMap<String, Target> = BTreeMap::new();
    for (address, found) in found {
        let name = match found.pod {
            Some((name, _)) => name.to_owned(),
            None => address.to_string(),
        };
        let target = targets.entry(name).or_insert_with(|| Target {
            target: SocketAddr::new(address, found.port).to_string(),
            addresses: Vec::new(),
        });
        let has_family = |known: &IpAddr| known.is_ipv4() == address.is_ipv4();
        if !target.addresses.iter().any(has_family) {
            target.addresses.push(address);
        }
    }
    targets
}

/// One endpoint.
#[derive(Clone, Copy)]
struct Found<'a> {
    /// Its name, and which of that name it is.
    pod: Option<(&'a str, &'a str)>,
    address: IpAddr,
    port: u16,
    is_terminating: bool,
}

impl<'a> Found<'a> {
    fn read(endpoint: &'a Endpoint, port: u16) -> Option<Self> {
        let conditions = endpoint.conditions.as_ref();
        let reference = endpoint.target_ref.as_ref();
        let pod = reference.filter(|reference| reference.kind.as_deref() == Some("Pod"));
        Some(Self {
            pod: pod.and_then(|pod| {
                let uid = pod.uid.as_deref().unwrap_or_default();
                Some((pod.name.as_deref()?, uid))
            }),
            address: endpoint.addresses.first()?.parse().ok()?,
            port,
            is_terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        })
    }
}

fn port(slice: &EndpointSlice, name: &str) -> Option<u16> {
    let mut ports = slice.ports.iter().flatten();
    let port = ports
        .find(|port| port.name.as_deref() == Some(name))?
        .port?;
    u16::try_from(port).ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(json: &Value) -> EndpointSlice {
        let mut slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {},
            "ports": [{"name": "metrics", "port": 9903}, {"name": "api", "port": 9902}],
        });
        slice
            .as_object_mut()
            .unwrap()
            .extend(json.as_object().unwrap().clone());
        serde_json::from_value(slice).unwrap()
    }

    fn check(slices: &[EndpointSlice], expected: &[(&str, &str, &[&str])]) {
        let found = targets(slices, "api");
        let found: Vec<_> = found
            .iter()
            .map(|(name, t)| {
                let addresses: Vec<_> = t.addresses.iter().map(ToString::to_string).collect();
                (name.as_str(), t.target.as_str(), addresses)
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, target, addresses)| {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                (*name, *target, addresses)
            })
            .collect();
        assert_eq!(found, expected);
    }

    fn pod(name: &str, address: &str, conditions: &Value) -> Value {
        json!({
            "addresses": [address], "conditions": conditions,
            "targetRef": {"kind": "Pod", "name": name, "uid": name},
        })
    }

    #[test]
    fn every_pod_is_a_proxy_whatever_its_conditions() {
        let v4 = slice(&json!({"addressType": "IPv4", "endpoints": [
            pod("p-0", "10.0.0.1", &json!({"ready": true})),
            pod("p-1", "10.0.0.2", &json!({"ready": false, "serving": false})),
            pod("p-2", "10.0.0.3", &json!({"ready": false, "serving": true, "terminating": true})),
            {"addresses": ["10.0.0.9", "10.0.0.8"]},
        ]}));
        let v6 = slice(&json!({"addressType": "IPv6", "endpoints": [
            pod("p-0", "fd00::1", &json!({})),
            pod("p-3", "fd00::4", &json!({})),
        ]}));
        check(
            &[v6, v4],
            &[
                ("10.0.0.9", "10.0.0.9:9902", &["10.0.0.9"]),
                ("p-0", "10.0.0.1:9902", &["10.0.0.1", "fd00::1"]),
                ("p-1", "10.0.0.2:9902", &["10.0.0.2"]),
                ("p-2", "10.0.0.3:9902", &["10.0.0.3"]),
                ("p-3", "[fd00::4]:9902", &["fd00::4"]),
            ],
        );
    }

    #[test]
    fn what_cannot_be_reached_is_no_proxy() {
        let named = slice(&json!({"addressType": "FQDN", "endpoints": [
            {"addresses": ["proxy.example"]},
        ]}));
        let endpoints = json!([pod("p-0", "10.0.0.1", &json!({}))]);
        let portless =
            slice(&json!({"addressType": "IPv4", "ports": null, "endpoints": endpoints}));
        let empty = slice(&json!({"addressType": "IPv4", "endpoints": null}));
        check(&[named, portless, empty], &[]);
    }

    #[test]
    fn an_address_that_was_reused_is_the_living_pods() {
        let old = pod("old", "10.0.0.1", &json!({"terminating": true}));
        let new = pod("new", "10.0.0.1", &json!({"ready": true}));
        for endpoints in [json!([old, new]), json!([new, old])] {
            let slice = slice(&json!({"addressType": "IPv4", "endpoints": endpoints}));
            check(&[slice], &[("new", "10.0.0.1:9902", &["10.0.0.1"])]);
        }
        // A name, too.
        let old = pod("p-0", "10.0.0.1", &json!({"terminating": true}));
        let mut new = pod("p-0", "10.0.0.2", &json!({}));
        new["targetRef"]["uid"] = json!("another");
        let slice = slice(&json!({"addressType": "IPv4", "endpoints": [old, new]}));
        check(&[slice], &[("p-0", "10.0.0.2:9902", &["10.0.0.2"])]);
    }

    #[test]
    fn one_that_ends_is_spoken_to_where_it_was_until_it_is_gone() {
        let family = |kind: &str, address: &str, ends: bool| {
            let endpoints = json!([pod("p-0", address, &json!({"terminating": ends}))]);
            slice(&json!({"addressType": kind, "endpoints": endpoints}))
        };
        for (v4_ends, v6_ends) in [(false, false), (true, false), (false, true), (true, true)] {
            let slices = [
                family("IPv4", "10.0.0.1", v4_ends),
                family("IPv6", "fd00::1", v6_ends),
            ];
            check(
                &slices,
                &[("p-0", "10.0.0.1:9902", &["10.0.0.1", "fd00::1"])],
            );
        }
    }
}
