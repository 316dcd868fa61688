//! The network of a run, with Pods that serve in it: one client, one load balancer's host, nodes with Pods, on one segment,
//! or each with a link of its own to the load balancer's host.
//!
//! ```text
//!   client   proxy   node 0 -- pods 0, N, 2N ..   node 1 -- pods 1, N+1 ..   ..
//!      |       |        |                            |
//!   ---+-------+--------+----------------------------+----  one Ethernet segment
//! ```
//!
//! Pods are dealt to nodes in turn. Each node has room for one Pod more than its own, for those that replace others.
//! It must not know what is measured on it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use podline_lab::kube_proxy::{
    Family, KubeProxy, NodeView, Protocol, Rules, Service, ServicePort, TrafficPolicy,
};
use podline_lab::{Cni, Lab, Namespace, Segment, SegmentPlan, Wire};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::account;
use crate::certificate::Certificate;
use crate::pod;
use crate::subject::{Backend, Site, Subject, node_port};
use crate::wire::port;

/// What to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagePlan {
    /// Nodes, 1 to 80.
    pub nodes: u8,
    /// Pods, at least one; at most 199 for each node.
    pub pods: u32,
    /// How machines are joined.
    pub wire: Wire,
    /// Whether Pods have thousands of addresses, and listen at all of them; at most 7 for each node then.
    pub has_crowds: bool,
}

impl Default for StagePlan {
    /// Two nodes with two Pods each: a node port has Pods on its own node and elsewhere.
    fn default() -> Self {
        Self {
            nodes: 2,
            pods: 4,
            wire: Wire::Switch,
            has_crowds: false,
        }
    }
}

/// How a Pod begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// It listens only so long after its start.
    pub accept_after: Duration,
    /// It accepts nothing so long after SIGTERM.
    pub stop_accepting_after: Duration,
    /// It has ended so long after SIGTERM.
    pub end_after: Duration,
}

impl Default for Behaviour {
    /// It listens at once, and a second after SIGTERM it is gone.
    fn default() -> Self {
        Self {
            accept_after: Duration::ZERO,
            stop_accepting_after: Duration::ZERO,
            end_after: Duration::from_secs(1),
        }
    }
}

/// A place for a Pod: a namespace of a node.
#[derive(Debug)]
struct Seat {
    node: u8,
    /// Among the node's.
    index: u8,
    /// Who sits there.
    pod: Option<(u32, pod::Process)>,
}

/// A network that stands, with Pods.
#[derive(Debug)]
pub struct Stage {
    segment: Segment,
    has_crowds: bool,
    certificate: Certificate,
    seats: Mutex<Vec<Seat>>,
    directory: TempDir,
    binary: PathBuf,
}

impl Stage {
    /// Builds it; `binary` is this program, which is the Pods too.
    ///
    /// # Errors
    /// What the kernel refused, in words.
    pub fn build(lab: &Lab, plan: StagePlan, binary: &Path) -> Result<Self, String> {
        let each = plan.pods.div_ceil(u32::from(plan.nodes)) + 1;
        let most = if plan.has_crowds {
            Segment::CROWDS
        } else {
            200
        };
        let pods = u8::try_from(each).ok().filter(|pods| *pods <= most);
        let pods =
            pods.ok_or_else(|| format!("{} Pods do not fit on {} nodes", plan.pods, plan.nodes))?;
        let segment = Segment::build(
            lab,
            SegmentPlan {
                wire: plan.wire,
                cni: Cni::PointToPoint,
                proxies: 1,
                nodes: plan.nodes,
                pods,
                tunnelled: false,
            },
        );
        let segment = segment.map_err(|error| error.chain())?;
        for namespace in [&segment.client, &segment.proxies[0]] {
            let set = namespace
                .sysctl("net/ipv4/ip_local_port_range", "10000 65000")
                .and_then(|()| namespace.sysctl("net/ipv4/tcp_tw_reuse", "1"));
            set.map_err(|error| error.chain())?;
        }
        // Subjects follow each other quicker than TIME_WAIT ends. A pair of addresses that came by another path has other
        // timestamps, and who is in TIME_WAIT would not hear it.
        for pod in segment.nodes.iter().flat_map(|node| &node.pods) {
            let set = pod.sysctl("net/ipv4/tcp_max_tw_buckets", "0");
            set.map_err(|error| error.chain())?;
        }
        let seats = (0..pods).flat_map(|index| {
            (0..plan.nodes).map(move |node| Seat {
                node,
                index,
                pod: None,
            })
        });
        if plan.has_crowds {
            for (node, index) in (0..plan.nodes).flat_map(|node| (0..pods).map(move |i| (node, i)))
            {
                let given = segment.give_crowd(node, index);
                given.map_err(|error| error.chain())?;
            }
        }
        let stage = Self {
            segment,
            has_crowds: plan.has_crowds,
            certificate: Certificate::made()?,
            seats: Mutex::new(seats.collect()),
            directory: tempfile::tempdir()
                .map_err(|error| format!("no temporary folder: {error}"))?,
            binary: binary.to_owned(),
        };
        for index in 0..plan.pods {
            stage.start_pod(index, Behaviour::default())?;
        }
        Ok(stage)
    }

    /// Where clients run.
    pub const fn client(&self) -> &Namespace {
        &self.segment.client
    }

    /// What subjects show where clients speak TLS with them.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// A folder for files of the run.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a Pod on the first seat that is free.
    ///
    /// # Errors
    /// It does not run.
    pub fn start_pod(&self, index: u32, behaviour: Behaviour) -> Result<Backend, String> {
        let mut seats = self.seats();
        let seat = seats.iter_mut().find(|seat| seat.pod.is_none());
        let seat = seat.ok_or("there is no room for one more Pod")?;
        let backend = backend(index, seat);
        let namespace = &self.segment.nodes[usize::from(seat.node)].pods[usize::from(seat.index)];
        let listen = match backend.address {
            IpAddr::V4(_) if self.has_crowds => Ipv4Addr::UNSPECIFIED.into(),
            own => own,
        };
        let options = pod::Options {
            accept_after: milliseconds(behaviour.accept_after),
            stop_accepting_after: milliseconds(behaviour.stop_accepting_after),
            end_after: milliseconds(behaviour.end_after),
            ..pod::Options::new(index, listen)
        };
        let process = pod::Process::start(namespace, &self.binary, &options)
            .map_err(|error| format!("Pod {index} does not start: {error}"))?;
        seat.pod = Some((index, process));
        Ok(backend)
    }

    /// Asks a Pod to end, as the kubelet does.
    pub fn terminate_pod(&self, index: u32) {
        for seat in self.seats().iter() {
            if let Some((_, process)) = seat.pod.as_ref().filter(|(pod, _)| *pod == index) {
                process.signal(Signal::TERM).ok(); // it may have ended
            }
        }
    }

    /// Ends a Pod, if it still runs, and frees its seat.
    pub fn remove_pod(&self, index: u32) {
        for seat in self.seats().iter_mut() {
            seat.pod.take_if(|(pod, _)| *pod == index);
        }
    }

    /// Lets a Pod's link fail, so that what is sent to it is lost without a word; or mends it.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn cut_pod(&self, index: u32, is_cut: bool) -> Result<(), String> {
        for seat in self.seats().iter() {
            if seat.pod.as_ref().is_none_or(|(pod, _)| *pod != index) {
                continue;
            }
            let host = &self.segment.nodes[usize::from(seat.node)].host;
            let link = format!("pod{}", seat.index);
            if is_cut {
                host.link_down(&link).map_err(|error| error.chain())?;
                continue;
            }
            let [address, _] = Segment::pod(seat.node, seat.index);
            let mended = host
                .link_up(&link)
                .and_then(|()| host.route_on(address, 32, &link));
            mended.map_err(|error| error.chain())?;
        }
        Ok(())
    }

    /// The Pods that there are, by their index.
    pub fn backends(&self) -> Vec<Backend> {
        let seats = self.seats();
        let taken = seats
            .iter()
            .filter_map(|seat| Some(backend(seat.pod.as_ref()?.0, seat)));
        let mut backends: Vec<_> = taken.collect();
        backends.sort_unstable_by_key(|backend| backend.index);
        backends
    }

    /// So many backends, dealt to the Pods in turn: first each by its own address, then by those of its crowd.
    ///
    /// # Errors
    /// The Pods do not have as many addresses.
    pub fn many_backends(&self, count: u32) -> Result<Vec<Backend>, String> {
        let seats = self.seats();
        let taken = seats
            .iter()
            .filter_map(|seat| Some((backend(seat.pod.as_ref()?.0, seat), seat.index)));
        let mut pods: Vec<_> = taken.collect();
        pods.sort_unstable_by_key(|(own, _)| own.index);
        let each = if self.has_crowds { Segment::CROWD } else { 1 };
        let numbers = (0..each).flat_map(|number| pods.iter().map(move |pod| (number, pod)));
        let address = |(number, (own, index)): (u16, &(Backend, u8))| {
            let node = u8::try_from(own.node).ok().filter(|_| number > 0);
            let crowd = node.map(|node| Segment::crowd(node, *index, number));
            Backend {
                address: crowd.unwrap_or(own.address),
                ..*own
            }
        };
        let backends: Vec<_> = numbers.map(address).take(count as usize).collect();
        if backends.len() < count as usize {
            return Err(format!("the Pods have no {count} addresses"));
        }
        Ok(backends)
    }

    /// Where a subject runs, with these behind it; its files go to `directory`.
    pub fn site<'a>(&'a self, directory: &'a Path, backends: Vec<Backend>) -> Site<'a> {
        let nodes = (0..).zip(&self.segment.nodes);
        Site {
            proxy: &self.segment.proxies[0],
            front: Segment::proxy(0)[0],
            nodes: nodes
                .map(|(index, node)| (&node.host, Segment::node(index)[0]))
                .collect(),
            backends,
            certificate: &self.certificate,
            directory,
        }
    }

    /// kube-proxy's rules on every node, where the subject goes through them; they are there until they are dropped.
    ///
    /// # Errors
    /// A node did not take them.
    pub fn node_ports(
        &self,
        subject: Subject,
        backends: &[Backend],
    ) -> Result<Vec<KubeProxy<'_>>, String> {
        let Some(rules) = self.rules(subject, backends) else {
            return Ok(Vec::new());
        };
        let nodes = self.segment.nodes.iter().zip(&rules);
        nodes
            .map(|(node, rules)| {
                KubeProxy::install(&node.host, rules).map_err(|error| error.chain())
            })
            .collect()
    }

    /// The rules of each node; `None` if the subject has none.
    pub fn rules(&self, subject: Subject, backends: &[Backend]) -> Option<Vec<Rules>> {
        let (flavour, policy) = subject.kube_proxy()?;
        let endpoints = |port: u16| {
            let all = backends.iter().filter_map(|backend| {
                let node = u8::try_from(backend.node).ok()?;
                let mut endpoint = Segment::endpoint(Family::V4, node, 0, port);
                endpoint.address = (backend.address, port).into();
                Some(endpoint)
            });
            all.collect::<Vec<_>>()
        };
        let ports = [
            ("http", Protocol::Tcp, 80, node_port::HTTP, port::HTTP),
            ("frames", Protocol::Tcp, 81, node_port::FRAMES, port::FRAMES),
            (
                "datagrams",
                Protocol::Udp,
                81,
                node_port::FRAMES,
                port::FRAMES,
            ),
        ];
        let ports = ports.map(|(name, protocol, port, node_port, target)| ServicePort {
            name: name.to_owned(),
            protocol,
            port,
            node_port: Some(node_port),
            endpoints: endpoints(target),
        });
        let service = Service {
            namespace: "bench".to_owned(),
            name: "web".to_owned(),
            cluster_address: IpAddr::from([10, 96, 0, 80]),
            ingress: Vec::new(),
            policy,
            health_check_port: (policy == TrafficPolicy::Local).then_some(30_999),
            ports: ports.to_vec(),
        };
        let view =
            |node| -> NodeView { Segment::node_view(Family::V4, node, vec![service.clone()]) };
        let nodes = (0..).take(self.segment.nodes.len());
        Some(nodes.map(|node| Rules::of(flavour, &view(node))).collect())
    }

    /// Forgets the connections that the subject before had tracked.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn forget_tracked(&self) -> Result<(), String> {
        for host in self
            .hosts()
            .filter(|host| host.tracked().is_ok_and(|tracked| tracked > 0))
        {
            let forgotten = host.forget_tracked(Family::V4);
            forgotten.map_err(|error| error.chain())?;
        }
        Ok(())
    }

    fn hosts(&self) -> impl Iterator<Item = &Namespace> {
        let nodes = self.segment.nodes.iter().map(|node| &node.host);
        nodes.chain(&self.segment.proxies)
    }

    /// Entries of connection tracking, over the load balancer's host and the nodes.
    pub fn tracked(&self) -> Option<u64> {
        account::tracked(&self.hosts().collect::<Vec<_>>())
    }

    /// Whose address this is, for people: `client`, `proxy`, `node`, or the address.
    pub fn whose(&self, address: IpAddr) -> String {
        let nodes = (0..).take(self.segment.nodes.len());
        let mut node_addresses = nodes.flat_map(|node| {
            let [v4, v6] = Segment::node(node);
            let [gateway4, gateway6] = Segment::gateway(node);
            [v4, v6, gateway4, gateway6]
        });
        if Segment::CLIENT.contains(&address) {
            "client".to_owned()
        } else if Segment::proxy(0).contains(&address) {
            "proxy".to_owned()
        } else if node_addresses.any(|node| node == address) {
            "node".to_owned()
        } else {
            address.to_string()
        }
    }

    /// What every Pod has counted so far, by its index. One that does not answer is left out.
    pub fn stats(&self) -> BTreeMap<u32, pod::Stats> {
        let mut seats = self.seats();
        let all = seats.iter_mut().filter_map(|seat| {
            let (index, process) = seat.pod.as_mut()?;
            Some((*index, process.stats().ok()?))
        });
        all.collect()
    }

    fn seats(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn backend(index: u32, seat: &Seat) -> Backend {
    Backend {
        index,
        node: usize::from(seat.node),
        address: Segment::pod(seat.node, seat.index)[0],
    }
}
