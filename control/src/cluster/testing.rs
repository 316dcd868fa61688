//! Objects for tests: each function makes a plain one, and the test changes what it is about.

use std::net::IpAddr;
use std::sync::Arc;

use super::ingress::{Backend, PortName, Rule};
use super::pod::Labels;
use super::service::Service;
use super::slice::{Endpoint, SlicePort};
use super::{
    Family, Gate, Ingress, Key, Node, Pod, ServiceConfig, ServicePort, Slice, TlsSecret, Transport,
};

/// `namespace/name`.
pub(crate) fn key(text: &str) -> Key {
    let (namespace, name) = text.split_once('/').unwrap();
    Key::new(namespace, name)
}

/// A Service of our class that listens on port 80, node port 30080.
pub(crate) fn service(name: &str) -> Service {
    Service {
        key: key(name),
        uid: format!("uid-{name}").into(),
        created: 1_000,
        is_deleting: false,
        is_load_balancer: true,
        class: Some("podline.io/clb".to_owned()),
        selector: [("app".to_owned(), "web".to_owned())].into(),
        ports: vec![port("", 80)],
        families: vec![Family::V4],
        cluster_ips: Vec::new(),
        affinity: None,
        is_local: false,
        health_check_node_port: None,
        source_ranges: Vec::new(),
        wanted_ip: None,
        annotations: [(
            "service.cloud.tencent.com/direct-access".to_owned(),
            "true".to_owned(),
        )]
        .into(),
        finalizers: Vec::new(),
        ingress: Vec::new(),
        conditions: [].into(),
        other_manager: None,
        resource_version: "1".to_owned(),
    }
}

/// An Ingress of our class, whose only rule leads everything to port 80 of Service `web`; straight to its Pods.
pub(crate) fn ingress(name: &str) -> Ingress {
    Ingress {
        key: key(name),
        uid: format!("uid-ingress-{name}").into(),
        created: 1_000,
        is_deleting: false,
        class: Some("podline".to_owned()),
        default_backend: None,
        rules: vec![rule("", "/", "web")],
        has_tls: false,
        secrets: Vec::new(),
        annotations: [(
            "ingress.cloud.tencent.com/direct-access".to_owned(),
            "true".to_owned(),
        )]
        .into(),
        finalizers: Vec::new(),
        told: Vec::new(),
        resource_version: "1".to_owned(),
    }
}

/// A host and path, and all below it, that port 80 of a Service answers.
pub(crate) fn rule(host: &str, path: &str, service: &str) -> Rule {
    Rule {
        host: host.to_owned(),
        path: path.to_owned(),
        is_exact: false,
        backend: Backend::Service(service.into(), PortName::Number(80)),
    }
}

/// A certificate for `name` and its key, in PEM.
pub(crate) fn pair(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A Secret with a certificate for `name`.
pub(crate) fn tls_secret(name: &str) -> TlsSecret {
    let (chain, key) = pair(name);
    let key = podline_api::Secret::new(key);
    TlsSecret::Good {
        certificate: Arc::new(podline_api::Certificate::of(chain, &key).unwrap()),
        ended: None,
    }
}

/// A TCP port with a node port 30,000 above it.
pub(crate) fn port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: name.into(),
        protocol: Transport::Tcp,
        port,
        node_port: Some(30_000 + port),
        app_protocol: None,
    }
}

/// An IPv4 slice of `service`, port 8080 for the unnamed port.
pub(crate) fn slice(name: &str, service: &str, endpoints: Vec<Endpoint>) -> Slice {
    let service = key(service);
    Slice {
        key: Key {
            namespace: Arc::clone(&service.namespace),
            name: name.into(),
        },
        service,
        created: 1_000,
        family: Some(Family::V4),
        ports: vec![SlicePort {
            name: "".into(),
            protocol: Transport::Tcp,
            port: 8080,
        }],
        endpoints,
    }
}

/// A ready endpoint without a Pod.
pub(crate) fn bare(address: &str) -> Endpoint {
    Endpoint {
        address: Some(ip(address)),
        is_ready: true,
        is_serving: true,
        is_terminating: false,
        pod: None,
        node: None,
    }
}

/// A ready endpoint of `pod`, with its first address.
pub(crate) fn endpoint(pod: &Pod) -> Endpoint {
    Endpoint {
        pod: Some((pod.key.clone(), Arc::clone(&pod.uid))),
        node: pod.node.clone(),
        ..bare(&pod.addresses[0].to_string())
    }
}

/// A Pod on node-1 whose containers are ready; its uid is made of its name and address.
pub(crate) fn pod(name: &str, address: &str) -> Pod {
    Pod {
        key: key(name),
        uid: format!("{}-{address}", name.replace('/', "-")).into(),
        created: 1_000,
        is_deleting: false,
        deleted: None,
        has_ended: false,
        is_host_network: false,
        is_responder: false,
        is_vpc_cni: false,
        addresses: vec![ip(address)],
        node: Some("node-1".into()),
        containers_ready: true,
        gate: Gate::Absent,
        gate_said: None,
        labels: Labels::default(),
        owner: None,
        other_gates_open: true,
    }
}

/// A ready Node.
pub(crate) fn node(name: &str, address: &str) -> Node {
    Node {
        name: name.into(),
        uid: format!("uid-{name}").into(),
        created: 1_000,
        internal: vec![ip(address)],
        addresses: vec![ip(address)],
        pod_ranges: Vec::new(),
        labels: [].into(),
        is_ready: true,
        is_excluded: false,
        is_of_cloud: false,
    }
}

/// A TkeServiceConfig with this `spec`, in YAML.
pub(crate) fn service_config(name: &str, spec: &str) -> ServiceConfig {
    let key = key(name);
    let object = serde_json::json!({
        "metadata": {"namespace": &*key.namespace, "name": &*key.name, "resourceVersion": "1"},
        "spec": serde_saphyr::from_str::<serde_json::Value>(spec).unwrap(),
    });
    let object: crate::crd::TkeServiceConfig = serde_json::from_value(object).unwrap();
    ServiceConfig::read(&object).unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
