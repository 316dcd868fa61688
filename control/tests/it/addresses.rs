//! Virtual addresses end to end, without Kubernetes: what pushes to proxies, two proxies as processes on one segment, and
//! a client under way all the time. Skipped where namespaces cannot be made, unless `PODLINE_REQUIRE=netns`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use podline_api::{Backend, BackendId, BackendKey, BackendSet, Listener, Name, Protocol};
use podline_api::{SetSettings, Weight};
use podline_control::observed::{AddressState, Observed};
use podline_control::push::{Announcing, Inputs, Overrides, Target, run};
use podline_control::reign::Reign;
use podline_control::snapshot::Snapshot;
use podline_control::timeline::Ear;
use podline_lab::{Behaviour, Pod, Segment, SegmentPlan, require, wait};
use rustix::process::Signal;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use crate::harness::LONG;
use crate::harness::lab::lab;
use crate::harness::process::{Process, binary};

const NAMES: [&str; 2] = ["p-0", "p-1"];
/// The Services' addresses, by IP version.
const SERVICES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 88, 0, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x88, 0, 0, 0, 0, 0, 0x200)),
];
/// A client gives up after so long.
const PATIENCE: Duration = Duration::from_millis(500);
/// And waits so long between two attempts.
const PACE: Duration = Duration::from_millis(5);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A listener on each address, which leads to the Pod.
fn wanted() -> Snapshot {
    let mut snapshot = Snapshot {
        version: 1,
        ..Snapshot::default()
    };
    for (family, text) in ["web", "web-6"].into_iter().enumerate() {
        let address = (Segment::pod(0, 0)[family], 8080).into();
        let id = Some(BackendId::try_from("pod").unwrap());
        let set = BackendSet {
            name: name(text),
            settings: SetSettings::default(),
            backends: vec![Backend {
                key: BackendKey { id, address },
                weight: Weight::try_from(10).unwrap(),
                node: None,
            }],
        };
        let at = (SERVICES[family], 80).into();
        let listener = Listener::new(name(text), at, Protocol::Tcp, name(text));
        snapshot.sets.insert(set.name.clone(), Arc::new(set));
        snapshot
            .listeners
            .insert(listener.name.clone(), Arc::new(listener));
    }
    snapshot
}

/// Whoever pushes.
struct Leader {
    runtime: Runtime,
    reign: watch::Sender<Reign>,
    observed: watch::Receiver<Arc<Observed>>,
    _desired: watch::Sender<Arc<Snapshot>>,
    _targets: watch::Sender<BTreeMap<String, Target>>,
    _notable: mpsc::Receiver<podline_control::push::Notable>,
}

impl Leader {
    fn start(folder: &Path, epoch: u64) -> Self {
        let target = |text: &&str| {
            let target = Target {
                target: socket(folder, text),
                addresses: Vec::new(),
            };
            ((*text).to_owned(), target)
        };
        let desired = watch::Sender::new(Arc::new(wanted()));
        let reign = watch::Sender::new(Reign::Leader { epoch });
        let targets = watch::Sender::new(NAMES.iter().map(target).collect());
        let inputs = Inputs {
            owner: "k8s/east".parse().unwrap(),
            desired: desired.subscribe(),
            reign: reign.subscribe(),
            tls: watch::channel(None).1,
            targets: targets.subscribe(),
            recorder: Arc::new(()),
            overrides: Overrides::default(),
            ear: Ear::default(),
            announcing: Announcing::default(),
        };
        let (out, observed) = watch::channel(Arc::default());
        let (tell, notable) = mpsc::channel(4);
        let runtime = Runtime::new().unwrap();
        runtime.spawn(run(inputs, out, tell));
        Self {
            runtime,
            reign,
            observed,
            _desired: desired,
            _targets: targets,
            _notable: notable,
        }
    }

    /// Who holds an address, by its own words, of those that serve.
    fn holder(&self, family: usize) -> Option<usize> {
        let observed = Arc::clone(&self.observed.borrow());
        let holds = |n: &usize| {
            let proxy = observed.proxies.get(NAMES[*n]);
            let told = proxy
                .filter(|p| p.serving)?
                .virtual_addresses
                .get(&SERVICES[family])?;
            (told.state == AddressState::Holding).then_some(())
        };
        (0..NAMES.len()).find(|n| holds(n).is_some())
    }

    fn wait_serving(&self, index: usize) {
        wait::until(LONG, "the proxy serves", || {
            let observed = Arc::clone(&self.observed.borrow());
            observed
                .proxies
                .get(NAMES[index])
                .is_some_and(|p| p.serving)
        });
    }
}

fn socket(folder: &Path, text: &str) -> String {
    format!("unix:{}", folder.join(text).display())
}

fn start(segment: &Segment, folder: &Path, index: usize) -> Process {
    let mut command = Command::new(binary("podline-proxy").unwrap());
    let state = folder.join(format!("{}.state", NAMES[index]));
    command
        .args(["--admin", "127.0.0.1:9901", "--workers", "2"])
        .args(["--api", &socket(folder, NAMES[index])])
        .arg("--state-file")
        .arg(state);
    Process::start(NAMES[index], &segment.proxies[index], command)
}

/// Whom the Pod sees, which is the proxy.
fn ask(address: SocketAddr) -> Option<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n";
    stream.write_all(request).ok()?;
    let mut answer = Vec::new();
    // The Pod keeps the connection: its answer ends with a line behind the head.
    let body = loop {
        let mut room = [0; 512];
        let len = stream.read(&mut room).ok().filter(|len| *len > 0)?;
        answer.extend(&room[..len]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && body.ends_with('\n')
        {
            break body.trim().to_owned();
        }
    };
    let peer: SocketAddr = body.parse().ok()?;
    Some(peer.ip())
}

/// Clients of both addresses.
struct Clients {
    ended: Arc<AtomicBool>,
    threads: [JoinHandle<Duration>; 2],
}

impl Clients {
    fn start(segment: &Segment) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let threads = SERVICES.map(|ip| {
            let ended = Arc::clone(&ended);
            segment.client.thread(move || {
                let (mut answered, mut longest) = (Instant::now(), Duration::ZERO);
                while !ended.load(Relaxed) {
                    if ask((ip, 80).into()).is_some() {
                        longest = longest.max(answered.elapsed());
                        answered = Instant::now();
                    }
                    std::thread::park_timeout(PACE);
                }
                longest
            })
        });
        Self { ended, threads }
    }

    /// The longest time without an answer, over IPv4 and over IPv6.
    fn longest(self) -> [Duration; 2] {
        self.ended.store(true, Relaxed);
        self.threads.map(|thread| thread.join().unwrap())
    }
}

fn wait_served(segment: &Segment, by: &dyn Fn(IpAddr) -> bool) {
    for ip in SERVICES {
        let what = format!("the client reaches the right proxy at {ip}");
        wait::until(LONG, &what, || {
            let seen = segment.client.run(move || ask((ip, 80).into()));
            seen.is_some_and(by)
        });
    }
}

#[test]
fn addresses_survive_proxies_and_leaders_under_load() {
    let found = binary("podline-proxy").and_then(|_| lab());
    let Some(lab) = require("netns", found) else {
        return;
    };
    let plan = SegmentPlan {
        nodes: 1,
        ..SegmentPlan::default()
    };
    let segment = Segment::build(lab, plan).unwrap();
    let _pods = [0, 1].map(|family| {
        let address = (Segment::pod(0, 0)[family], 8080).into();
        let pod = &segment.nodes[0].pods[0];
        Pod::start_in(pod, "pod", address, Behaviour::Peer).unwrap()
    });
    let folder = tempfile::tempdir().unwrap();
    let mut proxies = [0, 1].map(|index| start(&segment, folder.path(), index));
    // One that does not answer in time is dead to the leader, and the other one has it all and keeps it.
    for text in NAMES {
        wait::until(LONG, "the proxy answers", || {
            UnixStream::connect(folder.path().join(text)).is_ok()
        });
    }
    let leader = Leader::start(folder.path(), 1);
    let own = |index: usize| Segment::proxy(u8::try_from(index).unwrap());
    for index in [0, 1] {
        leader.wait_serving(index);
    }
    wait::until(LONG, "each holds one", || {
        let holders = [leader.holder(0), leader.holder(1)];
        holders.iter().all(Option::is_some) && holders[0] != holders[1]
    });
    wait_served(&segment, &|_| true);

    let clients = Clients::start(&segment);
    let killed = leader.holder(0).unwrap();
    proxies[killed].signal(Signal::KILL);
    let left = 1 - killed;
    let is_left = |seen| own(left).contains(&seen);
    wait_served(&segment, &is_left);
    println!("killed: without an answer for {:?}", clients.longest());

    // It comes back to nothing, and stands by.
    proxies[killed] = start(&segment, folder.path(), killed);
    leader.wait_serving(killed);
    wait_served(&segment, &is_left);

    // Nobody leads, then another does: nothing moves.
    leader.reign.send_replace(Reign::Follower);
    let clients = Clients::start(&segment);
    wait_served(&segment, &is_left);
    drop(leader.runtime);
    let leader = Leader::start(folder.path(), 2);
    for index in [0, 1] {
        leader.wait_serving(index);
    }
    wait::until(LONG, "the new leader has heard who holds them", || {
        [0, 1].map(|family| leader.holder(family)) == [Some(left); 2]
    });
    wait_served(&segment, &is_left);
    println!(
        "other leader: without an answer for {:?}",
        clients.longest()
    );

    let clients = Clients::start(&segment);
    proxies[left].signal(Signal::TERM);
    let is_other = |seen| own(killed).contains(&seen);
    wait_served(&segment, &is_other);
    assert!(proxies[left].wait_end(LONG));
    println!("in order: without an answer for {:?}", clients.longest());
}
