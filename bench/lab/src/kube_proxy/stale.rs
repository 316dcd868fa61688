//! UDP flows that connection tracking would go on sending to endpoints that are gone: kube-proxy forgets them when it
//! changes rules, so that a client's next datagram is sent to another endpoint. It must not know how the table of flows
//! is read, nor how messages are sent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::view::{NodeView, Protocol};

/// What clients send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Front {
    /// A port of any of the node's addresses.
    NodePort(u16),
    /// A cluster's or load balancer's address and port.
    Address(SocketAddr),
}

/// Endpoints of each UDP front.
pub(super) type Fronts = BTreeMap<Front, Vec<SocketAddr>>;

/// A tracked UDP flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    client: SocketAddr,
    front: SocketAddr,
    /// Who would answer.
    endpoint: SocketAddr,
}

/// The UDP fronts of a view that have endpoints.
pub(super) fn fronts(view: &NodeView) -> Fronts {
    let mut fronts = Fronts::new();
    for port in view.ports() {
        if port.port.protocol != Protocol::Udp || !port.has_endpoints() {
            continue;
        }
        let addresses = [port.service.cluster_address]
            .into_iter()
            .chain(port.ingress(view.family));
        let addresses = addresses.map(|address| Front::Address((address, port.port.port).into()));
        let node_port = port.port.node_port.map(Front::NodePort);
        for front in addresses.chain(node_port) {
            fronts.insert(front, port.endpoints.clone());
        }
    }
    fronts
}

/// The flows to a front that end at none of its endpoints.
pub(super) fn stale(table: &str, fronts: &Fronts) -> Vec<Flow> {
    let flows = table.lines().filter_map(flow);
    let is_stale = |flow: &Flow| {
        let keys = [
            Front::Address(flow.front),
            Front::NodePort(flow.front.port()),
        ];
        let endpoints = keys.iter().find_map(|key| fronts.get(key));
        endpoints.is_some_and(|endpoints| !endpoints.contains(&flow.endpoint))
    };
    flows.filter(is_stale).collect()
}

/// A line of `/proc/net/nf_conntrack`, if it is of a UDP flow that was sent on to somebody.
fn flow(line: &str) -> Option<Flow> {
    // ipv4 2 udp 17 29 src=A dst=B sport=1 dport=2 [UNREPLIED] src=C dst=D sport=3 dport=4 mark=0 use=2
    if line.split_whitespace().nth(2) != Some("udp") {
        return None;
    }
    let values = |key: &'static str| {
        line.split_whitespace()
            .filter_map(move |word| word.strip_prefix(key)?.strip_prefix('='))
    };
    let address = |kind, at| values(kind).nth(at)?.parse::<IpAddr>().ok();
    let port = |kind, at| values(kind).nth(at)?.parse::<u16>().ok();
    let flow = Flow {
        client: (address("src", 0)?, port("sport", 0)?).into(),
        front: (address("dst", 0)?, port("dport", 0)?).into(),
        endpoint: (address("src", 1)?, port("sport", 1)?).into(),
    };
    (flow.endpoint != flow.front).then_some(flow)
}

/// Numbers of netlink, of its subsystem for connection tracking, and of that subsystem's attributes.
mod number {
    pub(super) const DELETE: u16 = 1 << 8 | 2;
    pub(super) const REQUEST_ACK: u16 = 1 | 4;
    pub(super) const NESTED: u16 = 1 << 15;
    pub(super) const TUPLE: u16 = 1;
    pub(super) const IP: u16 = 1;
    pub(super) const PROTO: u16 = 2;
    pub(super) const V4: [u16; 2] = [1, 2];
    pub(super) const V6: [u16; 2] = [3, 4];
    pub(super) const PROTO_NUMBER: u16 = 1;
    pub(super) const PORTS: [u16; 2] = [2, 3];
    pub(super) const UDP: u8 = 17;
    /// AF_INET and AF_INET6.
    pub(super) const FAMILIES: [u8; 2] = [2, 10];
}

/// The netlink message that asks the kernel to forget a flow, and to acknowledge that.
pub(super) fn forget(flow: &Flow) -> Vec<u8> {
    let is_v4 = flow.client.is_ipv4();
    let kinds = if is_v4 { number::V4 } else { number::V6 };
    let ends = [flow.client, flow.front];
    let mut addresses = Vec::new();
    let mut proto = attribute(number::PROTO_NUMBER, &[number::UDP]);
    for (at, end) in ends.into_iter().enumerate() {
        addresses.extend(match end.ip() {
            IpAddr::V4(address) => attribute(kinds[at], &address.octets()),
            IpAddr::V6(address) => attribute(kinds[at], &address.octets()),
        });
        proto.extend(attribute(number::PORTS[at], &end.port().to_be_bytes()));
    }
    let mut tuple = attribute(number::IP | number::NESTED, &addresses);
    tuple.extend(attribute(number::PROTO | number::NESTED, &proto));
    let tuple = attribute(number::TUPLE | number::NESTED, &tuple);
    let family = number::FAMILIES[usize::from(!is_v4)];
    delete(family, &tuple)
}

/// The same for everything that is tracked of IPv4, or of IPv6.
pub(super) fn forget_all(is_v4: bool) -> Vec<u8> {
    delete(number::FAMILIES[usize::from(!is_v4)], &[])
}

fn delete(family: u8, tuple: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let len = u32::try_from(20 + tuple.len()).unwrap_or(u32::MAX); // it is short
    message.extend(len.to_ne_bytes());
    message.extend(number::DELETE.to_ne_bytes());
    message.extend(number::REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8]); // sequence and port: one request at a time
    message.extend([family, 0, 0, 0]);
    message.extend(tuple);
    message
}

/// The kernel's answer to one request: 0, or the number of its error below zero. `None` if it is no answer.
pub(super) fn answer(datagram: &[u8]) -> Option<i32> {
    let kind = datagram.get(4..6)?;
    let is_error = kind == 2_u16.to_ne_bytes();
    let code = datagram.get(16..20)?.try_into().ok()?;
    is_error.then(|| i32::from_ne_bytes(code))
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX); // they are all short
    let mut bytes = Vec::from(len.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
ipv4     2 udp      17 29 src=10.88.0.1 dst=10.88.0.11 sport=4000 dport=30053 [UNREPLIED] src=10.244.1.10 dst=10.88.0.11 sport=5353 dport=4001 mark=0 zone=0 use=2
ipv4     2 udp      17 29 src=10.88.0.1 dst=10.88.0.11 sport=4002 dport=30053 src=10.244.1.11 dst=10.88.0.11 sport=5353 dport=4003 [ASSURED] mark=0 zone=0 use=2
ipv4     2 udp      17 29 src=10.88.0.1 dst=10.88.0.11 sport=4004 dport=53 src=10.88.0.11 dst=10.88.0.1 sport=53 dport=4004 mark=0 zone=0 use=2
ipv4     2 tcp      6 29 TIME_WAIT src=10.88.0.1 dst=10.88.0.11 sport=4000 dport=30053 src=10.244.1.10 dst=10.88.0.11 sport=5353 dport=4001 mark=0 zone=0 use=2
nonsense
";

    fn to(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn flows_to_endpoints_that_are_gone_are_stale_and_no_others() {
        let left = Fronts::from([(Front::NodePort(30053), vec![to("10.244.1.11:5353")])]);
        let gone = Flow {
            client: to("10.88.0.1:4000"),
            front: to("10.88.0.11:30053"),
            endpoint: to("10.244.1.10:5353"),
        };
        assert_eq!(stale(TABLE, &left), [gone]);
        let both = vec![to("10.244.1.10:5353"), to("10.244.1.11:5353")];
        assert_eq!(
            stale(TABLE, &Fronts::from([(Front::NodePort(30053), both)])),
            []
        );
        assert_eq!(stale(TABLE, &Fronts::new()), []);
    }

    #[test]
    fn an_address_of_a_service_goes_before_a_node_port() {
        let fronts = Fronts::from([
            (
                Front::Address(to("10.88.0.11:30053")),
                vec![to("10.244.1.10:5353")],
            ),
            (Front::NodePort(30053), Vec::new()),
        ]);
        let stale: Vec<_> = stale(TABLE, &fronts)
            .iter()
            .map(|flow| flow.client.port())
            .collect();
        assert_eq!(stale, [4002]);
    }

    #[test]
    fn messages_are_as_long_as_they_say() {
        let flow = flow(TABLE.lines().next().unwrap()).unwrap();
        let message = forget(&flow);
        assert_eq!(u32::from_ne_bytes(message[..4].try_into().unwrap()), 72);
        assert_eq!(message.len(), 72);
        assert_eq!(answer(&message), None);
        assert_eq!(answer(&[]), None);
    }
}
