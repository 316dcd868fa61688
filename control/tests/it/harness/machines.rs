//! The nodes of the cluster as machines of their own: namespaces on one Ethernet segment, beside the hub in which the API
//! server is. What the manifests' Pods say runs there as processes, and behind the sample's Pods are toys.
//!
//! - It is the kubelet of these Pods, as far as kubelab is not: it starts what a container says, with files instead of
//!   volumes and a file of names instead of the cluster's DNS; asks for readiness; ends with SIGTERM after preStop.
//! - A node's Pods with hostNetwork are in its namespace, the controller's in the hub (the API server calls them there),
//!   and every other Pod has a namespace with its own addresses.
//! - Nothing happens by itself: whoever waits by [`Machines::wait`] lets it look.

mod overlay;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use podline_lab::{Behaviour, Cni, Namespace, Segment, SegmentPlan, wait};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::installed::relay;
use super::process::{Process, binary};
use super::scene::{SYSTEM, Scene};
use super::{LONG, SECOND, installation, objects};

/// As many nodes as kubelab has.
pub(crate) const NODES: u8 = 3;
/// Where the hub is on the segment.
const HUB: [&str; 2] = ["10.88.0.2", "fd00:88::2"];
const HOSTS: &str = "hosts";
/// Between two questions for readiness.
const PROBE_EVERY: Duration = Duration::from_millis(200);
/// Nothing of an installation takes longer.
const VERY_LONG: Duration = Duration::from_mins(4);

/// The machines, and what runs on them.
pub(crate) struct Machines {
    pub(crate) segment: Segment,
    running: BTreeMap<String, Running>,
    /// Loopback addresses for the controllers' APIs that were given so far.
    given: u8,
    relays: Vec<JoinHandle<()>>,
    tls: BTreeMap<String, Vec<u8>>,
    /// The file of names, as it is.
    names: String,
    /// Last, as it has the cluster.
    pub(crate) scene: Scene,
}

/// What is behind one Pod.
struct Running {
    pod: String,
    /// As it was when it was started.
    object: Pod,
    program: Option<Process>,
    /// A Pod of the sample.
    toy: Option<podline_lab::Pod>,
    /// Its own network, and the link to it on its node.
    own: Option<(Namespace, usize, String)>,
    folder: PathBuf,
    /// Where readiness is asked for.
    ready_at: Option<SocketAddr>,
    is_ready: bool,
    asked: Instant,
    ends: Option<Instant>,
    is_told: bool,
    restarted: bool,
}

impl Machines {
    /// The machines, without anything of Podline; `None` if there is no control plane here.
    pub(crate) fn build(name: &str) -> Option<Self> {
        let scene = Scene::bare(name)?;
        scene.run(|client, _| async move { installation::remove(&client).await });
        let plan = SegmentPlan {
            cni: Cni::PointToPoint,
            proxies: 0,
            nodes: NODES,
            pods: 0,
            ..SegmentPlan::default()
        };
        let segment = Segment::build(scene.cluster.lab, plan).unwrap();
        let hub = &scene.cluster.star.hub;
        segment.switch.join("hub", hub, "segment").unwrap();
        segment.switch.enslave("hub", "br0").unwrap();
        // It has the nodes' addresses, too, and is not to answer for them.
        hub.sysctl("net/ipv4/conf/segment/arp_ignore", "1").unwrap();
        for (address, prefix) in HUB.into_iter().zip([24, 64]) {
            hub.address("segment", address.parse().unwrap(), prefix)
                .unwrap();
        }
        let mut relays = Vec::new();
        for index in 0..NODES {
            let host = &segment.nodes[usize::from(index)].host;
            host.sysctl("net/ipv4/conf/default/rp_filter", "0").unwrap();
            for (address, prefix) in node(index).into_iter().zip([32, 128]) {
                host.address("eth0", address, prefix).unwrap();
            }
            let (outside, inside) = (node(index)[0], Segment::node(index)[0]);
            relays.push(relay(
                &scene.cluster,
                (outside, 9902).into(),
                (inside, 9902).into(),
            ));
            // kubelab's IPv6 addresses of Pods are not the segment's.
            for other in (0..NODES).filter(|other| *other != index) {
                let range = format!("fd00:10:244:{}::", other + 1).parse().unwrap();
                host.route(range, 64, Segment::node(other)[1]).unwrap();
            }
        }
        Some(Self {
            scene,
            segment,
            running: BTreeMap::new(),
            given: 0,
            relays,
            tls: BTreeMap::new(),
            names: String::new(),
        })
    }

    /// Waits, and lets what Pods say become so meanwhile.
    pub(crate) fn wait(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        wait::until(VERY_LONG, what, || {
            self.look();
            is_so(self)
        });
    }

    /// The processes of a program, by their Pods.
    pub(crate) fn processes(&self, program: &str) -> BTreeMap<&str, &Process> {
        let running = self.running.values();
        let named = running.filter(|it| it.pod.starts_with(program) && it.ends.is_none());
        named
            .filter_map(|it| Some((&*it.pod, it.program.as_ref()?)))
            .collect()
    }

    /// The machines whose proxies say that they hold an address.
    pub(crate) fn holders(&self, ip: IpAddr) -> Vec<usize> {
        let line = format!("podline_address_held{{address=\"{ip}\"}} 1");
        let holds = |index: &usize| {
            let page = self.page((proxy_at(*index), 9903).into(), "/metrics");
            page.is_some_and(|page| page.lines().any(|told| told == line))
        };
        (0..usize::from(NODES)).filter(holds).collect()
    }

    /// How many controllers lead, by their own words.
    pub(crate) fn leaders(&self) -> usize {
        let controllers = self.running.values();
        let controllers = controllers.filter(|it| it.pod.starts_with("podline-control"));
        let at = controllers.filter_map(|it| it.ready_at);
        let pages = at.filter_map(|at| self.page(at, "/metrics"));
        pages
            .filter(|page| page.contains("podline_control_leader 1\n"))
            .count()
    }

    fn page(&self, at: SocketAddr, path: &'static str) -> Option<String> {
        let hub = &self.scene.cluster.star.hub;
        hub.run(move || {
            let mut client = super::http::Client::within(at, SECOND).ok()?;
            client.get(path).ok()
        })
    }

    /// The Pod and the process of the proxy on a machine.
    pub(crate) fn proxy(&self, index: usize) -> (&str, &Process) {
        let at = SocketAddr::new(proxy_at(index), 9903);
        let mut all = self.running.values();
        let found = all.find(|it| it.ready_at == Some(at) && it.ends.is_none());
        let found = found.unwrap();
        (&found.pod, found.program.as_ref().unwrap())
    }

    /// Starts proxies again that were killed, as the kubelet would.
    pub(crate) fn revive(&mut self) {
        let is_dead = |it: &Running| {
            it.ends.is_none()
                && it.ready_at.is_some()
                && it.program.as_ref().is_some_and(|it| !it.runs())
        };
        let dead: Vec<_> = self.running.extract_if(.., |_, it| is_dead(it)).collect();
        for (uid, it) in dead {
            let running = self.start(&it.object);
            self.running.insert(uid, running);
        }
    }

    /// What is said of Podline on a machine: links' addresses, rules, routes beside the main table, nftables.
    pub(crate) fn traces(&self) -> Vec<String> {
        let look = |index: u8| {
            let host = &self.segment.nodes[usize::from(index)].host;
            host.run(|| {
                let commands: [&[&str]; 6] = [
                    &["ip", "-o", "addr", "show", "dev", "eth0"],
                    &["ip", "-4", "rule"],
                    &["ip", "-6", "rule"],
                    &["ip", "-4", "route", "show", "table", "all"],
                    &["ip", "-6", "route", "show", "table", "all"],
                    &["nft", "list", "ruleset"],
                ];
                let mut lines = Vec::new();
                for command in commands {
                    let output = Command::new(command[0])
                        .args(&command[1..])
                        .output()
                        .unwrap();
                    let text = String::from_utf8(output.stdout).unwrap();
                    lines.extend(text.lines().map(|line| line.trim().to_owned()));
                }
                lines
            })
        };
        let named = |index: u8| {
            let lines = look(index).into_iter();
            // Links of Pods come and go with these.
            let lines =
                lines.filter(|line| !line.contains(" pod") && !line.starts_with("multicast"));
            lines.map(move |line| format!("{}: {line}", index + 1))
        };
        (0..NODES).flat_map(named).collect()
    }

    /// Looks at every Pod once.
    pub(crate) fn look(&mut self) {
        let namespace = self.scene.namespace.clone();
        let pods = self.scene.run(|client, _| async move {
            let mut all = Vec::new();
            for place in [SYSTEM, &namespace] {
                let api = Api::<Pod>::namespaced(client.clone(), place);
                all.extend(api.list(&ListParams::default()).await.unwrap().items);
            }
            all
        });
        let there: BTreeMap<_, _> = pods
            .into_iter()
            .map(|pod| (pod.metadata.uid.clone().unwrap(), pod))
            .collect();
        let gone: Vec<_> = self
            .running
            .extract_if(.., |uid, _| !there.contains_key(uid))
            .collect();
        for (_, running) in gone {
            self.bury(running);
        }
        self.mount();
        self.write_names();
        for (uid, pod) in there {
            if let Some(mut running) = self.running.remove(&uid) {
                self.tend(&mut running, &pod);
                self.running.insert(uid, running);
            } else if runs(&pod) && pod.metadata.deletion_timestamp.is_none() {
                let running = self.start(&pod);
                self.running.insert(uid, running);
            }
        }
    }

    /// Writes down whom the name of the proxies' Service stands for.
    fn write_names(&mut self) {
        let proxies = self.running.values();
        let proxies = proxies.filter(|it| it.pod.starts_with("podline-proxy"));
        let lines = proxies.filter_map(|it| {
            let ip = it.ready_at?.ip();
            Some(format!("{ip} podline-proxy.podline-system.svc\n"))
        });
        let text: String = ["127.0.0.1 localhost\n".to_owned()]
            .into_iter()
            .chain(lines)
            .collect();
        if text != self.names {
            // In place, since it is mounted.
            std::fs::write(self.scene.directory.path().join(HOSTS), &text).unwrap();
            self.names = text;
        }
    }

    /// Brings the Secret of the proxies to where they read it.
    fn mount(&mut self) {
        let secret = self.scene.run(|client, _| async move {
            let api = Api::<Secret>::namespaced(client, SYSTEM);
            api.get_opt("podline-proxy-tls").await.unwrap()
        });
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let data: BTreeMap<_, _> = data.into_iter().map(|(name, it)| (name, it.0)).collect();
        if data != self.tls {
            self.tls = data;
            let proxies = self.running.values();
            for running in proxies.filter(|it| it.pod.starts_with("podline-proxy")) {
                self.put_tls(&running.folder);
            }
        }
    }

    fn put_tls(&self, folder: &Path) {
        std::fs::create_dir_all(folder.join("tls")).unwrap();
        for (name, bytes) in &self.tls {
            std::fs::write(folder.join("tls").join(name), bytes).unwrap();
        }
    }

    /// Starts what is behind a Pod.
    fn start(&mut self, pod: &Pod) -> Running {
        let name = pod.metadata.name.clone().unwrap();
        let folder = self.scene.directory.path().join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut running = Running {
            pod: name.clone(),
            object: pod.clone(),
            program: None,
            toy: None,
            own: None,
            folder,
            ready_at: None,
            is_ready: false,
            asked: Instant::now(),
            ends: None,
            is_told: false,
            restarted: false,
        };
        let spec = pod.spec.as_ref().unwrap();
        let container = &spec.containers[0];
        let index = node_of(pod);
        let own = addresses(pod);
        if container.command.is_none() {
            let network = self.attach(index, &name, &own);
            let at = (own[0], 8080).into();
            running.toy =
                Some(podline_lab::Pod::start_in(&network.0, &name, at, Behaviour::Peer).unwrap());
            running.own = Some(network);
            return running;
        }
        let mut command = self.command(container, &running.folder);
        if name.starts_with("podline-control") {
            self.given += 1;
            let api = IpAddr::from([127, 0, 1, self.given]);
            command
                .args(["--api", &SocketAddr::new(api, 9912).to_string()])
                .args(["--admin", &SocketAddr::new(own[0], 9911).to_string()])
                .args(["--webhook", &SocketAddr::new(own[0], 9913).to_string()])
                .env("POD_NAME", &name)
                .env("POD_NAMESPACE", SYSTEM)
                .env("KUBECONFIG", &self.scene.account);
            running.ready_at = Some((own[0], 9911).into());
            self.annotate(&name, &json!({"kubelab.podline.io/forward-to": api}));
            let hub = &self.scene.cluster.star.hub;
            running.program = Some(Process::start(&name, hub, command));
        } else if spec.host_network == Some(true) {
            if name.starts_with("podline-proxy") {
                self.put_tls(&running.folder);
                let at = proxy_at(index);
                running.ready_at = Some((at, 9903).into());
                self.annotate(&name, &json!({"kubelab.podline.io/forward-to": at}));
            }
            let host = &self.segment.nodes[index].host;
            running.program = Some(Process::start(&name, host, command));
        } else {
            let network = self.attach(index, &name, &own);
            running.program = Some(Process::start(&name, &network.0, command));
            running.own = Some(network);
        }
        running
    }

    /// What a container says, in this machine's terms.
    fn command(&self, container: &Container, folder: &Path) -> Command {
        let words = container.command.iter().flatten();
        let words: Vec<_> = words
            .chain(container.args.iter().flatten())
            .map(String::as_str)
            .collect();
        let here = |word: &str| {
            let word = word.replace("/etc/podline/tls", &format!("{}/tls", folder.display()));
            word.replace("/var/lib/podline", &folder.display().to_string())
        };
        let is_elsewhere = |word: &&str| {
            let flags = ["--api=127.", "--admin=0.", "--webhook=0.", "--log-format="];
            !flags.iter().any(|flag| word.starts_with(flag))
        };
        let program = binary(words[0]).unwrap();
        let mut command = if words.contains(&"return-path") {
            // The cluster's DNS, for this process alone.
            let names = self.scene.directory.path().join(HOSTS);
            let mut command = Command::new("unshare");
            let script = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
            command
                .args(["--mount", "sh", "-c", script, "sh"])
                .arg(names)
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(words[1..].iter().copied().filter(is_elsewhere).map(here));
        let sources = container.env_from.iter().flatten();
        for source in sources.filter_map(|source| source.config_map_ref.as_ref()) {
            let name = source.name.clone();
            let map = self.scene.run(|client, _| async move {
                let maps = Api::<ConfigMap>::namespaced(client, SYSTEM);
                maps.get(&name).await.unwrap()
            });
            command.envs(map.data.unwrap_or_default());
        }
        command
    }

    /// A Pod's own network.
    fn attach(&self, index: usize, name: &str, own: &[IpAddr]) -> (Namespace, usize, String) {
        let host = &self.segment.nodes[index].host;
        let network = self.scene.cluster.lab.namespace(name).unwrap();
        // Links of a node are not used again, so that nobody takes one for another.
        let last = own[0].to_string();
        let link = format!("pod{}", last.rsplit('.').next().unwrap());
        host.join(&link, &network, "eth0").unwrap();
        let number = u8::try_from(index).unwrap();
        let gateways = Segment::gateway(number);
        for (family, own) in own.iter().enumerate() {
            let (gateway, prefix) = (gateways[family], [32, 128][family]);
            host.address(&link, gateway, prefix).unwrap();
            host.route_on(*own, prefix, &link).unwrap();
            network.address("eth0", *own, prefix).unwrap();
            network.route_on(gateway, prefix, "eth0").unwrap();
            let any = ["0.0.0.0", "::"][family].parse().unwrap();
            network.route(any, 0, gateway).unwrap();
        }
        (network, index, link)
    }

    /// Looks at what is behind a Pod.
    fn tend(&mut self, running: &mut Running, pod: &Pod) {
        if pod.metadata.deletion_timestamp.is_some() {
            self.end(running, pod);
            return;
        }
        if let Some(program) = &running.program
            && running.ready_at.is_none()
            && !running.restarted
            && !program.runs()
        {
            // It has come to its end, as `--remove` does.
            running.restarted = true;
            self.annotate(&running.pod, &json!({"kubelab.podline.io/restarted": "0"}));
        }
        let Some(at) = running.ready_at else { return };
        if running.asked.elapsed() < PROBE_EVERY {
            return;
        }
        running.asked = Instant::now();
        let hub = &self.scene.cluster.star.hub;
        let page = hub.run(move || super::http::Client::connect(at)?.get("/readyz"));
        if page.is_ok() != running.is_ready {
            running.is_ready = page.is_ok();
            let ready = running.is_ready.to_string();
            self.annotate(&running.pod, &json!({"kubelab.podline.io/ready": ready}));
        }
    }

    /// As the kubelet ends a Pod.
    fn end(&mut self, running: &mut Running, pod: &Pod) {
        let Some(program) = &running.program else {
            return;
        };
        let begun = *running.ends.get_or_insert_with(Instant::now);
        if !running.is_told && begun.elapsed() >= pre_stop(pod) {
            running.is_told = true;
            if program.runs() {
                program.signal(Signal::TERM);
            }
        }
        if running.is_told && !program.runs() {
            let name = running.pod.clone();
            self.scene.run(|client, _| async move {
                let now = DeleteParams::default().grace_period(0);
                // It may be gone.
                let pods = Api::<Pod>::namespaced(client, SYSTEM);
                let _ = pods.delete(&name, &now).await;
            });
        }
    }

    fn bury(&self, running: Running) {
        if let Some(program) = &running.program
            && program.runs()
        {
            program.signal(Signal::KILL);
            program.wait_end(LONG);
        }
        if let Some((network, index, link)) = running.own {
            self.segment.nodes[index].host.remove_link(&link).unwrap();
            drop(running.program);
            drop(running.toy);
            drop(network);
        }
    }

    fn annotate(&self, pod: &str, annotations: &Value) {
        let change = json!({"metadata": {"annotations": annotations}});
        let (pod, place) = (pod.to_owned(), SYSTEM);
        self.scene.run(move |client, _| async move {
            objects::try_merge::<Pod>(&client, place, &pod, change).await;
        });
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for relay in &self.relays {
            relay.abort();
        }
        self.running.clear();
        self.segment.switch.remove_link("hub").ok();
    }
}

/// The addresses that Kubernetes knows a node by.
fn node(index: u8) -> [IpAddr; 2] {
    let number = index + 11;
    let v6: IpAddr = format!("fd00:10:89::{number}").parse().unwrap();
    [IpAddr::from([10, 89, 0, number]), v6]
}

fn proxy_at(index: usize) -> IpAddr {
    Segment::node(u8::try_from(index).unwrap())[0]
}

fn node_of(pod: &Pod) -> usize {
    let name = pod.spec.as_ref().unwrap().node_name.clone().unwrap();
    let number: usize = name.strip_prefix("node-").unwrap().parse().unwrap();
    number - 1
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let status = pod.status.as_ref().unwrap();
    let all = status.pod_ips.iter().flatten();
    all.map(|it| it.ip.parse().unwrap()).collect()
}

fn runs(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    status.is_some_and(|status| {
        status.phase.as_deref() == Some("Running") && status.pod_ips.is_some()
    })
}

fn pre_stop(pod: &Pod) -> Duration {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let sleeps =
        containers.filter_map(|it| it.lifecycle.as_ref()?.pre_stop.as_ref()?.sleep.clone());
    let seconds = sleeps.map(|sleep| sleep.seconds).max().unwrap_or(0);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
