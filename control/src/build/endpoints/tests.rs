//! Which endpoints may be bound, and how they do.

use super::*;
use crate::cluster::service::Ingress;
use crate::cluster::slice::SlicePort;
use crate::cluster::testing::{bare, endpoint, ip, key, node, pod, port, service, slice};
use crate::cluster::{Change, Gate, Transport};
use crate::observed::{Observed, ProxyView};

/// A ready node-1, and what is added.
#[derive(Default)]
struct World(Cluster);

impl World {
    fn new() -> Self {
        let node = node("node-1", "192.0.2.11");
        let mut world = Self::default();
        world.change(Change::Node("node-1".into(), Some(node)));
        world
    }

    fn change(&mut self, change: Change) {
        self.0.apply(change);
    }

    fn pod(&mut self, pod: &Pod) -> &mut Self {
        self.change(Change::Pod(pod.key.clone(), Some(pod.clone())));
        self
    }

    fn slice(&mut self, slice: Slice) -> &mut Self {
        self.change(Change::Slice(slice.key.clone(), Some(slice)));
        self
    }

    /// Of the unnamed port.
    fn gather(&self) -> Gathered {
        self.gather_port(&port("", 80), Family::V4)
    }

    fn gather_port(&self, port: &ServicePort, family: Family) -> Gathered {
        let web = service("default/web");
        let modes = Modes::of(&self.0, &web, None);
        gather(&self.0, &modes, &web, port, family)
    }

    /// `address:port uid state` of each.
    fn candidates(&self) -> Vec<String> {
        show(&self.gather())
    }
}

fn show(gathered: &Gathered) -> Vec<String> {
    let show = |it: &Candidate| {
        let uid = it.uid.as_deref().unwrap_or("-");
        format!("{}:{} {uid} {:?}", it.address, it.port, it.state)
    };
    gathered.candidates.iter().map(show).collect()
}

fn web(endpoints: Vec<Endpoint>) -> Slice {
    slice("web-1", "default/web", endpoints)
}

#[test]
fn an_endpoint_does_as_its_slice_and_its_pod_say() {
    let check = |ready: bool,
                 serving: bool,
                 terminating: bool,
                 change: &dyn Fn(&mut Pod),
                 expected: State| {
        let mut pod = pod("default/a", "10.0.0.1");
        change(&mut pod);
        let endpoint = Endpoint {
            is_ready: ready,
            is_serving: serving,
            is_terminating: terminating,
            ..endpoint(&pod)
        };
        let mut world = World::new();
        world.pod(&pod).slice(web(vec![endpoint]));
        let state = world.gather().candidates[0].state;
        assert_eq!(
            state, expected,
            "r={ready} s={serving} t={terminating} {pod:?}"
        );
    };
    let plain = |_: &mut Pod| {};
    check(true, true, false, &plain, State::Active);
    check(false, false, false, &plain, State::Unready);
    check(false, true, true, &plain, State::Serving);
    check(false, false, true, &plain, State::Finished);
    // publishNotReadyAddresses: ready whatever the Pod says, and still on its way out when it terminates.
    check(
        true,
        false,
        false,
        &|pod| pod.containers_ready = false,
        State::Active,
    );
    check(true, true, true, &plain, State::Serving);
    check(true, false, true, &plain, State::Finished);
    // The Pod is being deleted, and the slice does not say so yet.
    check(
        true,
        true,
        false,
        &|pod| pod.is_deleting = true,
        State::Serving,
    );
    check(
        false,
        false,
        false,
        &|pod| pod.is_deleting = true,
        State::Finished,
    );
    // Not ready, and waiting for nothing but us; or we have opened the gate, and the kubelet has not followed.
    let waiting = |pod: &mut Pod| pod.gate = Gate::Waiting;
    check(false, false, false, &waiting, State::Active);
    check(
        false,
        false,
        false,
        &|pod| pod.gate = Gate::Open,
        State::Active,
    );
    let unless = |more: fn(&mut Pod)| {
        let but = move |pod: &mut Pod| {
            pod.gate = Gate::Waiting;
            more(pod);
        };
        check(false, false, false, &but, State::Unready);
    };
    unless(|pod| pod.containers_ready = false);
    unless(|pod| pod.other_gates_open = false);
    unless(|pod| pod.node = Some("unknown".into()));
    unless(|pod| pod.node = None);
    let deleting = |pod: &mut Pod| {
        pod.gate = Gate::Waiting;
        pod.is_deleting = true;
    };
    check(false, false, false, &deleting, State::Finished);
}

#[test]
fn a_gated_pod_of_a_node_that_is_not_ready_is_not_ready() {
    let pod = Pod {
        gate: Gate::Waiting,
        ..pod("default/a", "10.0.0.1")
    };
    let unready = Endpoint {
        is_ready: false,
        is_serving: false,
        ..endpoint(&pod)
    };
    let mut world = World::new();
    world.pod(&pod).slice(web(vec![unready]));
    assert_eq!(world.gather().candidates[0].state, State::Active);
    let dead = crate::cluster::Node {
        is_ready: false,
        ..node("node-1", "192.0.2.11")
    };
    world.change(Change::Node("node-1".into(), Some(dead)));
    assert_eq!(world.gather().candidates[0].state, State::Unready);
    world.change(Change::Node("node-1".into(), None));
    assert_eq!(world.gather().candidates[0].state, State::Unready);
}

#[test]
fn of_two_entries_for_one_address_one_counts() {
    let old = pod("default/old", "10.0.0.1");
    let new = Pod {
        created: 2_000,
        ..pod("default/new", "10.0.0.1")
    };
    let terminating = |pod: &Pod| Endpoint {
        is_ready: false,
        is_terminating: true,
        ..endpoint(pod)
    };
    let unready = |pod: &Pod| Endpoint {
        is_ready: false,
        is_serving: false,
        ..endpoint(pod)
    };
    let check = |older: Vec<Endpoint>, newer: Vec<Endpoint>, expected: &str| {
        for turned in [false, true] {
            let mut slices = [older.clone(), newer.clone()];
            if turned {
                for endpoints in &mut slices {
                    endpoints.reverse();
                }
            }
            let [older, newer] = slices;
            let mut world = World::new();
            world.pod(&old).pod(&new);
            // Names are in the other order than ages.
            world.slice(slice("web-z", "default/web", older));
            world.slice(Slice {
                created: 2_000,
                ..slice("web-a", "default/web", newer)
            });
            assert_eq!(world.candidates(), [expected]);
        }
    };
    let (is_old, is_new) = (
        "10.0.0.1:8080 default-old-10.0.0.1 Active",
        "10.0.0.1:8080 default-new-10.0.0.1 Active",
    );
    check(vec![endpoint(&old)], vec![endpoint(&new)], is_new);
    check(vec![endpoint(&new)], vec![endpoint(&old)], is_old);
    check(vec![endpoint(&old)], vec![terminating(&new)], is_old);
    check(vec![terminating(&old)], vec![endpoint(&new)], is_new);
    check(vec![endpoint(&old)], vec![endpoint(&old)], is_old);
    // The newest word on one Pod.
    let unready_old = "10.0.0.1:8080 default-old-10.0.0.1 Unready";
    check(vec![endpoint(&old)], vec![unready(&old)], unready_old);
    // Twice in one slice: the order there means nothing.
    check(vec![], vec![endpoint(&old), endpoint(&new)], is_new);
    check(vec![], vec![terminating(&new), endpoint(&old)], is_old);
    check(vec![], vec![endpoint(&old), unready(&old)], is_old);
    check(vec![], vec![bare("10.0.0.1"), endpoint(&old)], is_old);
}

#[test]
fn ports_are_joined_by_name_and_protocol() {
    let a = pod("default/a", "10.0.0.1");
    let on = |name: &str, protocol, port| SlicePort {
        name: name.into(),
        protocol,
        port,
    };
    let dns = Slice {
        ports: vec![
            on("dns", Transport::Udp, 5353),
            on("dns-tcp", Transport::Tcp, 53),
            on("http", Transport::Tcp, 9376),
        ],
        ..web(vec![endpoint(&a)])
    };
    let mut world = World::new();
    world.pod(&a).slice(dns.clone());
    let udp = ServicePort {
        protocol: Transport::Udp,
        ..port("dns", 53)
    };
    for (port, expected) in [
        (port("dns-tcp", 53), Some(53)),
        (udp, Some(5353)),
        (port("http", 80), Some(9376)),
        (port("dns", 53), None),
        (port("", 80), None),
    ] {
        let gathered = world.gather_port(&port, Family::V4);
        let found = gathered.candidates.first().map(|it| it.port);
        assert_eq!(found, expected, "{port:?}");
        assert_eq!(gathered.lacks_port, expected.is_none(), "{port:?}");
    }
    // Pods of two generations listen on different ports.
    let b = pod("default/b", "10.0.0.2");
    world.pod(&b).slice(Slice {
        ports: vec![on("http", Transport::Tcp, 8080)],
        ..slice("web-2", "default/web", vec![endpoint(&b)])
    });
    let http = world.gather_port(&port("http", 80), Family::V4);
    assert_eq!(
        show(&http),
        [
            "10.0.0.1:9376 default-a-10.0.0.1 Active",
            "10.0.0.2:8080 default-b-10.0.0.2 Active"
        ]
    );
    // No container declares the target port: endpoints, and no ports.
    world.slice(Slice {
        ports: Vec::new(),
        ..dns
    });
    assert!(
        world
            .gather_port(&port("dns-tcp", 53), Family::V4)
            .lacks_port
    );
    assert!(!world.gather_port(&port("http", 80), Family::V4).lacks_port);
    // Nobody is there at all: nothing to complain about.
    world.slice(web(Vec::new()));
    world.change(Change::Slice(key("default/web-2"), None));
    assert_eq!(world.gather(), Gathered::default());
}

#[test]
fn families_are_kept_apart_and_host_names_are_told() {
    let both = Pod {
        addresses: vec![ip("10.0.0.1"), ip("fd00::1")],
        ..pod("default/a", "10.0.0.1")
    };
    let v6 = |address: &str| Endpoint {
        address: Some(ip(address)),
        ..endpoint(&both)
    };
    let mut world = World::new();
    world
        .pod(&both)
        .slice(web(vec![endpoint(&both)]))
        .slice(Slice {
            family: Some(Family::V6),
            ..slice("web-6", "default/web", vec![v6("fd00::1")])
        });
    assert_eq!(
        world.candidates(),
        ["10.0.0.1:8080 default-a-10.0.0.1 Active"]
    );
    let of_v6 = world.gather_port(&port("", 80), Family::V6);
    assert_eq!(show(&of_v6), ["fd00::1:8080 default-a-10.0.0.1 Active"]);
    world.slice(Slice {
        family: None,
        ..slice(
            "web-n",
            "default/web",
            vec![Endpoint {
                address: None,
                ..bare("10.9.9.9")
            }],
        )
    });
    let gathered = world.gather();
    assert_eq!(gathered.notes.len(), 1);
    assert_eq!(gathered.notes[0].reason, Reason::HostNameEndpoints);
    assert_eq!(
        gathered.candidates.len(),
        1,
        "the others are bound all the same"
    );
}

/// A Service with a cluster IP and an address in its status.
fn addressed(name: &str, cluster_ip: &str, told: &str) -> Service {
    let told = Ingress {
        ip: Some(ip(told)),
        ip_mode: None,
        ports: Vec::new(),
    };
    Service {
        cluster_ips: vec![ip(cluster_ip)],
        ingress: vec![told],
        ..service(name)
    }
}

#[test]
fn slices_cannot_aim_where_their_owner_may_not() {
    let mine = pod("default/a", "10.0.0.1");
    let theirs = pod("kube-system/etcd", "10.0.0.9");
    let host = Pod {
        is_host_network: true,
        ..pod("default/host", "192.0.2.11")
    };
    let proxy = ProxyView {
        addresses: vec![ip("198.51.100.1")],
        ..ProxyView::default()
    };
    let names = |pod: &Pod, address: &str| Endpoint {
        address: Some(ip(address)),
        ..endpoint(pod)
    };
    let check = |endpoint: Endpoint, expected: Result<State, &str>| {
        let mut world = World::new();
        world.pod(&mine).pod(&theirs).pod(&host);
        world.change(Change::Observed(Arc::new(Observed {
            proxies: [("proxy-1".to_owned(), Arc::new(proxy.clone()))].into(),
            ..Observed::default()
        })));
        let other = addressed("default/kubernetes", "10.96.0.1", "203.0.113.99");
        world.change(Change::Service(other.key.clone(), Some(Box::new(other))));
        world.slice(web(vec![endpoint.clone()]));
        let gathered = world.gather();
        let found = gathered.candidates.first().map(|it| it.state);
        assert_eq!(found, expected.ok(), "{endpoint:?}");
        let notes: Vec<_> = gathered.notes.iter().map(ToString::to_string).collect();
        match expected {
            Ok(_) => assert_eq!(notes, [""; 0]),
            Err(part) => assert!(notes.len() == 1 && notes[0].contains(part), "{notes:?}"),
        }
    };
    check(bare("203.0.113.7"), Ok(State::Active));
    check(bare("10.0.0.1"), Ok(State::Active)); // its own namespace's Pod
    check(
        bare("192.0.2.11"),
        Err(
            "EndpointRefused: an endpoint of slice web-1 aims at 192.0.2.11, an address of node node-1",
        ),
    );
    check(bare("198.51.100.1"), Err("an address of proxy proxy-1"));
    check(
        bare("10.96.0.1"),
        Err("an address of Service default/kubernetes"),
    );
    check(
        bare("203.0.113.99"),
        Err("an address of Service default/kubernetes"),
    );
    check(
        bare("10.0.0.9"),
        Err("an address of a Pod in namespace kube-system"),
    );
    check(
        names(&mine, "192.0.2.11"),
        Err("aims at 192.0.2.11, which is not an address of Pod default/a"),
    );
    check(
        names(&mine, "10.0.0.9"),
        Err("not an address of Pod default/a"),
    );
    check(
        names(&theirs, "10.0.0.9"),
        Err("names Pod kube-system/etcd of another namespace"),
    );
    check(names(&host, "192.0.2.11"), Err("HostNetwork: "));
    check(
        Endpoint {
            address: None,
            ..bare("10.0.0.1")
        },
        Err("has an address that is none"),
    );
    check(bare("2001:db8::1"), Err("has an address that is none")); // in a slice of IPv4
}

#[test]
fn nothing_aims_at_an_address_that_is_no_hosts() {
    let mine = pod("default/a", "10.0.0.1");
    for special in [
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
    ] {
        // Whoever could write a Pod's status could stop all of us: proxies refuse such addresses, and the rest with them.
        let odd = Pod {
            addresses: vec![ip(special)],
            ..mine.clone()
        };
        let mut world = World::new();
        world.slice(web(vec![bare(special)]));
        let note = &world.gather().notes[0].message;
        assert!(note.contains("loopback, link-local or multicast"), "{note}");
        world.pod(&odd).slice(web(vec![endpoint(&odd)]));
        assert_eq!(world.candidates(), [""; 0], "{special}");
    }
}

#[test]
fn a_node_or_a_pod_that_comes_later_is_in_the_way_too() {
    let mut world = World::new();
    world.slice(web(vec![bare("192.0.2.12"), bare("10.0.0.9")]));
    assert_eq!(world.candidates().len(), 2);
    world.change(Change::Node(
        "node-2".into(),
        Some(node("node-2", "192.0.2.12")),
    ));
    assert_eq!(world.candidates(), ["10.0.0.9:8080 - Active"]);
    let theirs = pod("kube-system/etcd", "10.0.0.9");
    world.pod(&theirs);
    assert_eq!(world.candidates(), [""; 0]);
    let ended = Pod {
        has_ended: true,
        ..theirs
    };
    world.pod(&ended);
    assert_eq!(
        world.candidates(),
        ["10.0.0.9:8080 - Active"],
        "its address is free again"
    );
}

#[test]
fn a_pod_is_bound_when_it_is_the_one_that_is_meant() {
    let a = pod("default/a", "10.0.0.1");
    let check = |pod: Option<&Pod>, uid: &str, expected: usize| {
        let mut world = World::new();
        if let Some(pod) = pod {
            world.pod(pod);
        }
        let named = Endpoint {
            pod: Some((a.key.clone(), uid.into())),
            ..endpoint(&a)
        };
        world.slice(web(vec![named]));
        let gathered = world.gather();
        assert_eq!(gathered.candidates.len(), expected, "{pod:?} {uid}");
        assert_eq!(gathered.notes, [], "{pod:?} {uid}");
    };
    check(Some(&a), &a.uid, 1);
    check(Some(&a), "", 1); // written by hand: the address is checked all the same
    check(None, &a.uid, 0); // not seen yet, or gone
    check(Some(&a), "another", 0); // its name was used again
    let ended = Pod {
        has_ended: true,
        ..a.clone()
    };
    check(Some(&ended), &a.uid, 0);
    let pending = Pod {
        addresses: Vec::new(),
        ..a.clone()
    };
    check(Some(&pending), &a.uid, 0);
}
