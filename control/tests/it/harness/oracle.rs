//! What the proxies are to have, computed a second time from the API's objects, in the simplest way: Services and
//! EndpointSlices of a quiet cluster, without gates, quota and terminating endpoints; and nodes with their Pods.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use podline_api::v1;
use podline_lab::wait;

use super::LONG;
use super::scene::Scene;

const CLASS: &str = "podline.io/clb";
/// Of those that are reserved by default, the ones that tests ask for.
const RESERVED: [i32; 1] = [22];
const DIRECT: &str = "service.cloud.tencent.com/direct-access";

/// Listeners with their addresses, and sets with the addresses of backends that have a weight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) listeners: BTreeMap<String, String>,
    pub(crate) sets: BTreeMap<String, BTreeSet<String>>,
    /// Nodes, and addresses and ranges of each; absent where a proxy does not tell.
    pub(crate) nodes: Option<BTreeMap<String, BTreeSet<String>>>,
}

struct Objects {
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
    nodes: Vec<Node>,
    pods: Vec<Pod>,
}

impl Scene {
    /// Waits until every proxy has what the objects say, and nothing else of ours.
    pub(crate) fn wait_agreed(&self) {
        let all: Vec<_> = (0..self.proxies.len()).collect();
        self.wait_agreed_on(&all);
    }

    /// The same, for some proxies.
    pub(crate) fn wait_agreed_on(&self, proxies: &[usize]) {
        let mut last = None;
        let agreed = || {
            let expected = self.expected();
            last = proxies.iter().find_map(|proxy| {
                let found = picture(&self.state(*proxy));
                let mut expected = expected.clone();
                expected.nodes = expected.nodes.filter(|_| found.nodes.is_some());
                (found != expected).then(|| (*proxy, expected.clone(), found))
            });
            last.is_none()
        };
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait::until(LONG, "the proxies have what the objects say", agreed);
        }));
        if let Err(panic) = waited {
            if let Some((proxy, expected, found)) = last {
                eprintln!("proxy {proxy} should have {expected:#?}\nand has {found:#?}");
            }
            std::panic::resume_unwind(panic);
        }
    }

    /// What the objects say.
    pub(crate) fn expected(&self) -> Picture {
        let objects = self.run(|client, _| async move {
            let all = ListParams::default();
            Objects {
                services: Api::all(client.clone()).list(&all).await.unwrap().items,
                slices: Api::all(client.clone()).list(&all).await.unwrap().items,
                nodes: Api::all(client.clone()).list(&all).await.unwrap().items,
                pods: Api::all(client).list(&all).await.unwrap().items,
            }
        });
        let mut ours: Vec<&Service> = objects.services.iter().filter(|s| is_ours(s)).collect();
        ours.sort_by_key(|service| {
            let meta = &service.metadata;
            let created = meta.creation_timestamp.as_ref().map(|time| time.0);
            (created, meta.uid.clone())
        });
        let (mut picture, mut taken) = (Picture::default(), BTreeSet::new());
        picture.nodes = Some(network(&objects));
        for service in ours {
            let spec = service.spec.as_ref().unwrap();
            for port in spec.ports.iter().flatten() {
                for family in spec.ip_families.iter().flatten() {
                    let place = (family.clone(), port.protocol.clone(), port.port);
                    let is_served =
                        port.protocol.as_deref() != Some("SCTP") && !RESERVED.contains(&port.port);
                    if is_served && taken.insert(place) {
                        add(&mut picture, service, port, family, &objects);
                    }
                }
            }
        }
        picture
    }
}

fn is_ours(service: &Service) -> bool {
    let spec = service.spec.as_ref().unwrap();
    spec.type_.as_deref() == Some("LoadBalancer")
        && spec.load_balancer_class.as_deref() == Some(CLASS)
        && service.metadata.deletion_timestamp.is_none()
}

fn add(
    picture: &mut Picture,
    service: &Service,
    port: &ServicePort,
    family: &str,
    objects: &Objects,
) {
    let meta = &service.metadata;
    let (namespace, own) = (meta.namespace.clone().unwrap(), meta.name.clone().unwrap());
    let (any, suffix) = match family {
        "IPv4" => ("0.0.0.0", ""),
        _ => ("[::]", "/ipv6"),
    };
    let protocol = port.protocol.clone().unwrap().to_lowercase();
    let name = format!("{namespace}/{own}/{protocol}/{}{suffix}", port.port);
    let annotations = meta.annotations.clone().unwrap_or_default();
    let is_direct = annotations.get(DIRECT).is_some_and(|value| value == "true");
    let (set, backends) = if is_direct {
        (name.clone(), ready(service, port, family, &objects.slices))
    } else {
        let set = format!("{name}/nodeport");
        (set, node_ports(port, family, &objects.nodes))
    };
    picture
        .listeners
        .insert(name, format!("{any}:{}", port.port));
    picture.sets.insert(set, backends);
}

/// Addresses of the endpoints that are ready.
fn ready(
    service: &Service,
    port: &ServicePort,
    family: &str,
    slices: &[EndpointSlice],
) -> BTreeSet<String> {
    let meta = &service.metadata;
    let of_service = slices.iter().filter(|slice| {
        let labels = slice.metadata.labels.iter().flatten();
        let mut names = labels.filter(|(key, _)| *key == "kubernetes.io/service-name");
        slice.metadata.namespace == meta.namespace
            && names.next().map(|(_, name)| name) == meta.name.as_ref()
            && slice.address_type == family
    });
    let mut found = BTreeSet::new();
    for slice in of_service {
        let mut ports = slice.ports.iter().flatten();
        let same = |name: &Option<String>| name.clone().unwrap_or_default();
        let Some(number) = ports
            .find(|p| same(&p.name) == same(&port.name) && p.protocol == port.protocol)
            .and_then(|p| p.port)
        else {
            continue;
        };
        let conditions = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            conditions.ready.unwrap_or(true) && !conditions.terminating.unwrap_or(false)
        };
        let endpoints = slice.endpoints.iter().flatten();
        found.extend(
            endpoints
                .filter(|e| conditions(e))
                .map(|endpoint| socket(&endpoint.addresses[0], number)),
        );
    }
    found
}

fn node_ports(port: &ServicePort, family: &str, nodes: &[Node]) -> BTreeSet<String> {
    let addresses = nodes.iter().filter_map(|node| {
        let status = node.status.as_ref()?;
        let mut addresses = status.addresses.iter().flatten();
        let found = addresses
            .find(|a| a.type_ == "InternalIP" && a.address.contains(':') == (family == "IPv6"));
        Some(socket(&found?.address, port.node_port?))
    });
    addresses.collect()
}

/// Each node's own addresses, and where its Pods are: its ranges if they hold every Pod, else each Pod.
fn network(objects: &Objects) -> BTreeMap<String, BTreeSet<String>> {
    let of_node = |node: &Node| {
        let name = node.metadata.name.clone().unwrap();
        let status = node.status.as_ref();
        let addresses = status.and_then(|status| status.addresses.as_ref());
        let addresses = addresses.into_iter().flatten();
        let own = addresses.filter_map(|it| it.address.parse::<std::net::IpAddr>().ok());
        let pods = objects.pods.iter().filter(|pod| {
            let spec = pod.spec.as_ref().unwrap();
            let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
            spec.node_name.as_ref() == Some(&name)
                && spec.host_network != Some(true)
                && !matches!(phase, Some("Succeeded" | "Failed"))
        });
        let ips = pods.flat_map(|pod| pod.status.iter().flat_map(|it| it.pod_ips.iter().flatten()));
        let ips: Vec<std::net::IpAddr> = ips.map(|it| it.ip.parse().unwrap()).collect();
        let ranges = node
            .spec
            .iter()
            .flat_map(|it| it.pod_cidrs.iter().flatten());
        let ranges: Vec<ipnet::IpNet> = ranges.map(|text| text.parse().unwrap()).collect();
        let mut all: BTreeSet<String> = own.map(|ip| ip.to_string()).collect();
        for v4 in [true, false] {
            let of_family = ips.iter().copied().filter(|ip| ip.is_ipv4() == v4);
            let of_family: Vec<_> = of_family.collect();
            let own: Vec<_> = ranges
                .iter()
                .filter(|it| it.addr().is_ipv4() == v4)
                .collect();
            let holds = |ip: &std::net::IpAddr| own.iter().any(|range| range.contains(ip));
            if !own.is_empty() && of_family.iter().all(holds) {
                all.extend(own.iter().map(ToString::to_string));
            } else {
                let single = of_family.into_iter().map(ipnet::IpNet::from);
                all.extend(single.map(|range| range.to_string()));
            }
        }
        (name, all)
    };
    objects.nodes.iter().map(of_node).collect()
}

fn socket(address: &str, port: i32) -> String {
    let port = u16::try_from(port).unwrap();
    std::net::SocketAddr::new(address.parse().unwrap(), port).to_string()
}

/// What a proxy has of ours and listens to.
pub(crate) fn picture(state: &v1::GetResponse) -> Picture {
    const OWNER: &str = "k8s/default";
    let listening = state.listeners.iter().filter(|status| {
        status.owner == OWNER && status.state() == v1::listener_status::State::Listening
    });
    let listeners = listening.filter_map(|status| status.listener.clone());
    let sets = state
        .backend_sets
        .iter()
        .filter(|status| status.owner == OWNER);
    let weighty = |status: &v1::BackendSetStatus| -> BTreeSet<String> {
        let staying = status.backends.iter().filter(|backend| !backend.draining);
        let backends = staying.filter_map(|backend| backend.backend.clone());
        backends
            .filter(|backend| backend.weight != Some(0))
            .map(|backend| backend.address)
            .collect()
    };
    let network = state.network.as_ref().and_then(|it| it.network.as_ref());
    let nodes = network.map(|network| {
        let node = |node: &v1::Node| {
            let all = node.addresses.iter().chain(&node.pod_ranges);
            (node.name.clone(), all.cloned().collect())
        };
        network.nodes.iter().map(node).collect()
    });
    Picture {
        nodes,
        listeners: listeners.map(|l| (l.name, l.address)).collect(),
        sets: sets
            .map(|status| (status.set.clone().unwrap().name, weighty(status)))
            .collect(),
    }
}
