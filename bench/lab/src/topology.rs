//! The usual network: a client, a proxy's host, and Pods behind a bridge on that host.
//!
//! ```text
//!   client           proxy                               pods[i]
//!   10.88.1.2  ----  10.88.1.1 | br0 10.244.0.1  ----  10.244.0.(10+i)
//!   fd00:88::2       fd00:88::1      fd00:244::1       fd00:244::(10+i)
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::LabError;
use crate::lab::Lab;
use crate::namespace::Namespace;

const ANY_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ANY_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Namespaces of the usual network. Forwarding is on in `proxy`, reverse path filters are off everywhere.
#[derive(Debug)]
pub struct Topology {
    /// Where clients run.
    pub client: Namespace,
    /// Where the proxy runs; its links are `client`, `br0` and `pod0`, `pod1`, ...
    pub proxy: Namespace,
    /// One for each Pod; its link is `eth0`.
    pub pods: Vec<Namespace>,
}

impl Topology {
    /// The client's addresses.
    pub const CLIENT: [IpAddr; 2] = [v4(10, 88, 1, 2), v6(0x88, 2)];
    /// The proxy's addresses towards the client.
    pub const PROXY: [IpAddr; 2] = [v4(10, 88, 1, 1), v6(0x88, 1)];
    /// The proxy's addresses on the bridge.
    pub const GATEWAY: [IpAddr; 2] = [v4(10, 244, 0, 1), v6(0x244, 1)];

    /// The addresses of the Pod with this index, 0 to 99.
    pub const fn pod(index: u8) -> [IpAddr; 2] {
        assert!(index < 100, "there is room for 100 pods");
        [v4(10, 244, 0, 10 + index), v6(0x244, 10 + index as u16)]
    }

    /// Builds it with so many Pods, at most 100.
    pub fn build(lab: &Lab, pods: u8) -> Result<Self, LabError> {
        let client = lab.namespace("client")?;
        let proxy = lab.namespace("proxy")?;
        proxy.join("client", &client, "eth0")?;
        add(&client, "eth0", Self::CLIENT)?;
        add(&proxy, "client", Self::PROXY)?;
        default_route(&client, Self::PROXY)?;
        proxy.bridge("br0")?;
        add(&proxy, "br0", Self::GATEWAY)?;
        let mut topology = Self {
            client,
            proxy,
            pods: Vec::new(),
        };
        for index in 0..pods {
            topology.add_pod(lab, index)?;
        }
        topology.settings()?;
        Ok(topology)
    }

    fn add_pod(&mut self, lab: &Lab, index: u8) -> Result<(), LabError> {
        let pod = lab.namespace(&format!("pod{index}"))?;
        let port = Self::pod_link(usize::from(index));
        self.proxy.join(&port, &pod, "eth0")?;
        self.proxy.enslave(&port, "br0")?;
        add(&pod, "eth0", Self::pod(index))?;
        default_route(&pod, Self::GATEWAY)?;
        self.pods.push(pod);
        Ok(())
    }

    /// The link of `proxy` that leads to the Pod with this index; setting it down makes the Pod vanish.
    pub fn pod_link(index: usize) -> String {
        format!("pod{index}")
    }

    fn settings(&self) -> Result<(), LabError> {
        self.proxy.sysctl("net/ipv4/ip_forward", "1")?;
        self.proxy.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        for namespace in [&self.client, &self.proxy].into_iter().chain(&self.pods) {
            // The kernel takes the larger of `all` and the link's own.
            for link in namespace.links()?.iter().map(String::as_str).chain(["all"]) {
                namespace.sysctl(&format!("net/ipv4/conf/{link}/rp_filter"), "0")?;
            }
            namespace.sysctl("net/core/somaxconn", "65535")?;
            namespace.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        }
        Ok(())
    }
}

fn add(namespace: &Namespace, link: &str, [first, second]: [IpAddr; 2]) -> Result<(), LabError> {
    namespace.address(link, first, 24)?;
    namespace.address(link, second, 64)
}

fn default_route(namespace: &Namespace, [first, second]: [IpAddr; 2]) -> Result<(), LabError> {
    namespace.route(ANY_V4, 0, first)?;
    namespace.route(ANY_V6, 0, second)
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(net: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, host))
}
