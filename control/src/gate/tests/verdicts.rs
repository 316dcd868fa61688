//! Each row of the table of verdicts.

use std::sync::Arc;

use podline_api::{BackendKey, Name};

use super::world::{World, waiting};
use crate::build::Options;
use crate::cluster::service::FINALIZER;
use crate::cluster::testing::{endpoint, ip, key, node, pod, port, service, slice};
use crate::cluster::{
    Change, Family, Front, Gate, Node, Pod, Service, ServicePort, Slice, Switches, Transport,
};

const SET: &str = "default/web/tcp/80";

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

fn key_of(world: &World, set: &str) -> BackendKey {
    world.builder.snapshot().sets[set].backends[0].key.clone()
}

#[test]
fn healthy_is_what_every_proxy_that_serves_says_of_every_listener() {
    let mut world = World::new();
    world.put_service(Service {
        ports: vec![port("", 80), port("more", 81)],
        ..service("default/web")
    });
    let pod = waiting("default/p", "10.0.0.1");
    world.put_pod(&pod);
    world.says("?no slice");
    let mut both = slice("web-1", "default/web", vec![endpoint(&pod)]);
    both.ports.push(crate::cluster::slice::SlicePort {
        name: "more".into(),
        protocol: Transport::Tcp,
        port: 9090,
    });
    world.change(Change::Slice(both.key.clone(), Some(both)));
    world.says("-Probing: proxy a has no verdict yet in default/web/tcp/80");
    world.pass("a");
    world.says("-Probing: proxy b");
    world.pass("b");
    world.says("+Healthy: healthy behind listeners: 2, on proxies: 2");
    // One of two listeners is not enough.
    let set = name("default/web/tcp/81");
    world.proxy("b", |proxy| drop(proxy.healthy.remove(&set)));
    world.says("-Probing: proxy b has no verdict yet in default/web/tcp/81");
    // Nor a proxy that does not have the listener as it is.
    world.pass_all();
    let since = world.builder.since(&Front::Service(key("default/web")));
    assert!(since > 0);
    world.proxy("a", |proxy| proxy.acked = since - 1);
    world.says("-Probing: proxy a");
    world.proxy("a", |proxy| proxy.acked = since);
    world.says("+Healthy");
}

#[test]
fn a_proxy_that_does_not_serve_is_left_out_and_with_none_gates_wait() {
    let mut world = World::new();
    world.with_pod();
    world.pass("a");
    world.says("-Probing: proxy b");
    world.proxy("b", |proxy| proxy.serving = false);
    world.says("+Healthy: healthy behind listeners: 1, on proxies: 1");
    world.proxy("a", |proxy| proxy.serving = false);
    world.says("-NoServingProxy");
    world.observed.proxies.clear();
    world.tell();
    world.says("-NoServingProxy: no proxy serves");
}

#[test]
fn what_the_proxies_say_keeps_it_closed_in_their_words() {
    let mut world = World::new();
    world.with_pod();
    world.pass_all();
    let (set, backend) = (name(SET), key_of(&world, SET));
    world.proxy("b", |proxy| {
        proxy.healthy.remove(&set);
        let words: Arc<str> = "connection refused".into();
        let bad = [(backend, words)].into_iter().collect();
        proxy.unhealthy.insert(set.clone(), bad);
    });
    world.says("-Unhealthy: proxy b finds it unhealthy in default/web/tcp/80: connection refused");
    world.proxy("a", |proxy| {
        proxy.failed_listeners = [(name(SET), "in use".to_owned())].into();
    });
    world.says("-ListenerFailed: proxy a cannot bind default/web/tcp/80: in use");
    world.proxy("b", |proxy| {
        proxy.refused = [(name(SET), "no\nway".to_owned())].into();
    });
    world.says("-InvalidConfig: proxy b refuses default/web/tcp/80: no way");
}

#[test]
fn a_proxy_that_is_too_old_for_a_service_is_not_waited_for_unless_it_had_it() {
    let mut world = World::new();
    world.put_service(service("default/web"));
    let pod = waiting("default/p", "10.0.0.1");
    world.put_pod(&pod);
    let slice = slice("web-1", "default/web", vec![endpoint(&pod)]);
    world.change(Change::Slice(slice.key.clone(), Some(slice)));
    world.pass_all();
    let too_old = |proxy: &mut crate::observed::ProxyView| {
        let words = "ProxyTooOld: the proxy cannot do maglev; update it";
        proxy.refused = [(name(SET), words.to_owned())].into();
    };
    // It has what it took before, and sends clients to Pods that go.
    world.proxy("b", too_old);
    world.says("-InvalidConfig: proxy b refuses default/web/tcp/80: ProxyTooOld");
    world.proxy("b", |proxy| drop(proxy.healthy.remove(&name(SET))));
    world.says("+Healthy");
    // Somebody has to have it.
    world.proxy("a", too_old);
    world.proxy("a", |proxy| drop(proxy.healthy.remove(&name(SET))));
    world.says("-InvalidConfig: proxy a refuses default/web/tcp/80: ProxyTooOld");
}

#[test]
fn a_service_that_cannot_be_served_keeps_it_closed_until_it_is_mended() {
    let check = |options: Options, ports: Vec<ServicePort>, expected: &str| {
        let mut world = World::with(options);
        world.put_service(Service {
            ports,
            ..service("default/web")
        });
        world.with_pod();
        world.pass_all();
        world.says(expected);
    };
    let reserved = || Options {
        reserved_ports: [22].into(),
        ..Options::default()
    };
    let with_pool = Options {
        pool: Some("203.0.113.1-203.0.113.1".parse().unwrap()),
        ..Options::default()
    };
    check(
        reserved(),
        vec![port("ssh", 22)],
        "-InvalidConfig: Service default/web: ReservedPort: port 22",
    );
    // Nobody is sent through the port that is not served, and the Pod is behind the other one.
    check(reserved(), vec![port("", 80), port("ssh", 22)], "+Healthy");
    check(reserved(), vec![port("", 80)], "+Healthy");
    let mut world = World::with(with_pool);
    let older = Service {
        created: 1,
        selector: [].into(),
        ..service("default/older")
    };
    world.change(Change::Service(key("default/web"), None));
    world.put_service(older);
    world.put_service(service("default/web"));
    world.with_pod();
    world.says("-InvalidConfig: Service default/web: NoAddress");
    // Two Services, one port: the older has it.
    let mut world = World::new();
    world.with_pod();
    world.pass_all();
    world.says("+Healthy");
    world.put_service(Service {
        created: 1,
        selector: [].into(),
        ..service("default/older")
    });
    world.says("-InvalidConfig: Service default/web: PortConflict: port 80/TCP belongs to Service default/older");
    world.change(Change::Service(key("default/older"), None));
    world.pass_all();
    world.says("+Healthy");
    // A Service that cannot be served holds nobody up whom another one serves.
    world.put_service(Service {
        created: 2_000,
        ..service("default/young")
    });
    world.says("+Healthy");
}

#[test]
fn without_a_service_of_ours_nobody_is_waited_for() {
    let mut world = World::new();
    world.with_pod();
    world.says("-Probing");
    let web = service("default/web");
    for gone in [
        None,
        Some(Service {
            class: Some("other".to_owned()),
            ..web.clone()
        }),
        Some(Service {
            is_load_balancer: false,
            ..web.clone()
        }),
        // It still has our finalizer, and is leaving.
        Some(Service {
            is_deleting: true,
            finalizers: vec![FINALIZER.to_owned()],
            ..web.clone()
        }),
        Some(Service {
            class: None,
            other_manager: Some("manager metallb".to_owned()),
            ..web.clone()
        }),
    ] {
        world.change(Change::Service(web.key.clone(), gone.map(Box::new)));
        world.says("NoLoadBalancer: no Service");
        world.put_service(web.clone());
        world.says("-Probing");
    }
    // Another one is selected.
    let mut other = web.clone();
    other.selector = [("app".to_owned(), "other".to_owned())].into();
    world.put_service(other);
    world.says("-Probing: ");
    world.put_slice(&[]);
    world.says("NoLoadBalancer");
}

#[test]
fn a_pod_that_no_slice_names_yet_is_waited_for() {
    let mut world = World::new();
    let pod = waiting("default/p", "10.0.0.1");
    world.put_pod(&pod);
    world.says("?no slice of its Services names it yet");
    // The slice names another one that had its name.
    let before = Pod {
        uid: "before".into(),
        ..pod.clone()
    };
    world.put_slice(&[&before]);
    world.says("?no slice");
    // A selector says nothing of a Pod without those labels; a slice written by hand does.
    let unlabelled = Pod {
        labels: Arc::default(),
        ..pod.clone()
    };
    world.put_slice(&[]);
    world.put_pod(&unlabelled);
    world.says("NoLoadBalancer");
    world.put_slice(&[&unlabelled]);
    world.says("-Probing");
    world.pass_all();
    world.says("+Healthy");
    world.change(Change::Slice(key("default/web-1"), None));
    world.says("NoLoadBalancer");
}

#[test]
fn through_node_ports_nobody_is_waited_for() {
    let mut world = World::new();
    world.with_pod();
    let mut web = service("default/web");
    for value in web.annotations.values_mut() {
        "false".clone_into(value);
    }
    world.put_service(web);
    world.says("NodePortMode: every Service");
    // Another one goes straight to it.
    world.put_service(Service {
        ports: vec![port("", 81)],
        ..service("default/direct")
    });
    world.says("?no slice");
}

#[test]
fn a_pod_beyond_the_quota_is_let_through_and_bound_when_there_is_room() {
    let mut world = World::with(Options {
        quota: 1,
        ..Options::default()
    });
    let older = Pod {
        created: 1,
        gate: Gate::Open,
        ..pod("default/older", "10.0.0.9")
    };
    world.put_pod(&older);
    world.put_slice(&[&older]);
    let pod = waiting("default/p", "10.0.0.1");
    world.put_pod(&pod);
    world.put_slice(&[&older, &pod]);
    world.says("BeyondQuota: Service default/web: only 1 Pods are bound");
    // The other one ends: it holds no slot any more.
    world.put_pod(&Pod {
        is_deleting: true,
        ..older.clone()
    });
    world.says("-Probing");
    // Its address belongs to another Pod still: that is not about the quota.
    let mut world = World::with(Options {
        quota: 1,
        ..Options::default()
    });
    world.put_pod(&older);
    let same = waiting("default/p", "10.0.0.9");
    world.put_pod(&same);
    world.put_slice(&[&same, &older]);
    assert!(
        !world.verdict().starts_with("BeyondQuota"),
        "{}",
        world.verdict()
    );
}

#[test]
fn pods_that_can_never_be_bound_are_let_through() {
    let mut world = World::new();
    let pod = world.with_pod();
    world.put_pod(&Pod {
        is_host_network: true,
        ..pod.clone()
    });
    world.says("HostNetwork: Service default/web goes straight to Pods");
    world.put_pod(&pod);
    world.says("-Probing");
    let named = Slice {
        ports: Vec::new(),
        ..slice("web-1", "default/web", vec![endpoint(&pod)])
    };
    world.change(Change::Slice(named.key.clone(), Some(named)));
    world.says("PortNotOnPod: it has none of the target ports of Service default/web");
    let sctp = ServicePort {
        protocol: Transport::Sctp,
        ..port("", 80)
    };
    world.put_service(Service {
        ports: vec![sctp],
        ..service("default/web")
    });
    world.says("Skipped: Service default/web has no port that is forwarded");
}

#[test]
fn pods_that_the_network_mode_keeps_out_are_let_through() {
    let mut world = World::new();
    let switch = |on| {
        Change::Switches(Switches {
            global_routes: Some(on),
            ..Switches::default()
        })
    };
    world.with_pod();
    let ranges = vec!["10.0.0.0/24".parse().unwrap()];
    let of_node = Node {
        pod_ranges: ranges,
        ..node("node-1", "10.89.0.11")
    };
    world.change(Change::Node(of_node.name.clone(), Some(of_node)));
    world.change(switch(false));
    world.says("NetworkModeRefused: Service default/web: Pods with network mode GlobalRouter");
    world.change(switch(true));
    world.says("-Probing");
}

#[test]
fn a_service_that_is_skipped_holds_up_nobody_new() {
    let mut world = World::new();
    let mut web = service("default/web");
    let mode = "service.cloud.tencent.com/mode".to_owned();
    web.annotations.insert(mode, "skip".to_owned());
    world.put_service(web);
    world.with_pod();
    world.says("Skipped: Service default/web has mode skip");
    world.put_service(service("default/web"));
    world.says("-Probing");
}

#[test]
fn several_services_must_all_let_it_open() {
    let mut world = World::new();
    let pod = world.with_pod();
    world.pass_all();
    world.says("+Healthy");
    let mut second = service("default/second");
    second.ports = vec![port("", 81)];
    world.put_service(second.clone());
    world.says("?no slice");
    let of_second = slice("second-1", "default/second", vec![endpoint(&pod)]);
    world.change(Change::Slice(
        of_second.key.clone(),
        Some(of_second.clone()),
    ));
    world.says("-Probing: proxy a has no verdict yet in default/second/tcp/81");
    world.pass_all();
    world.says("+Healthy: healthy behind listeners: 2");
    // One can never have it: the other decides, but not in a hurry.
    let without = Slice {
        ports: Vec::new(),
        ..of_second
    };
    world.change(Change::Slice(without.key.clone(), Some(without)));
    world.says("Healthy: healthy behind listeners: 1");
    // Closed wins over that.
    let set = name(SET);
    world.proxy("a", |proxy| drop(proxy.healthy.remove(&set)));
    world.says("-Probing: proxy a has no verdict yet in default/web/tcp/80");
    // One through node ports does not matter.
    for value in second.annotations.values_mut() {
        "false".clone_into(value);
    }
    world.put_service(second);
    world.pass_all();
    world.says("+Healthy: healthy behind listeners: 1");
}

#[test]
fn what_was_at_the_address_before_does_not_count() {
    let mut world = World::new();
    let before = Pod {
        gate: Gate::Open,
        ..pod("default/before", "10.0.0.1")
    };
    world.put_pod(&before);
    world.put_slice(&[&before]);
    world.pass_all();
    // The next one has its address.
    world.change(Change::Pod(before.key.clone(), None));
    world.with_pod();
    world.says("-Probing");
    world.pass_all();
    world.says("+Healthy");
    // A StatefulSet's Pod has its name and address again.
    let again = Pod {
        uid: "again".into(),
        ..waiting("default/p", "10.0.0.1")
    };
    world.put_pod(&again);
    world.says("?no slice");
    world.put_slice(&[&again]);
    world.says("-Probing");
}

#[test]
fn what_its_kubelet_says_comes_first() {
    let mut world = World::new();
    let pod = world.with_pod();
    world.pass_all();
    let unready = Pod {
        containers_ready: false,
        ..pod.clone()
    };
    world.put_pod(&unready);
    world.says("?its containers are not ready");
    world.put_pod(&Pod {
        other_gates_open: false,
        ..pod.clone()
    });
    world.says("?another readiness gate");
    world.put_pod(&pod);
    world.says("+Healthy");
    // The node died: what its kubelet said last counts for nothing.
    let mut dead = node("node-1", "10.89.0.11");
    dead.is_ready = false;
    world.change(Change::Node(dead.name.clone(), Some(dead.clone())));
    world.says("?its node is not ready");
    dead.is_ready = true;
    world.change(Change::Node(dead.name.clone(), Some(dead.clone())));
    world.says("+Healthy");
    world.change(Change::Node(dead.name, None));
    world.says("?its node is not ready");
}

#[test]
fn pods_that_end_wait_for_nothing() {
    for end in [
        (&|pod: &mut Pod| pod.is_deleting = true) as &dyn Fn(&mut Pod),
        &|pod| pod.has_ended = true,
        &|pod| pod.gate = Gate::Open,
        &|pod| pod.gate = Gate::Absent,
    ] {
        let mut world = World::new();
        let mut pod = world.with_pod();
        world.says("-Probing");
        end(&mut pod);
        world.put_pod(&pod);
        world.says("none");
    }
    let mut world = World::new();
    let pod = world.with_pod();
    world.change(Change::Pod(pod.key, None));
    world.says("none");
}

#[test]
fn both_families_are_waited_for() {
    let mut world = World::new();
    world.put_service(Service {
        families: vec![Family::V4, Family::V6],
        ..service("default/web")
    });
    let pod = Pod {
        addresses: vec![ip("10.0.0.1"), ip("fd00::1")],
        ..waiting("default/p", "10.0.0.1")
    };
    world.put_pod(&pod);
    world.put_slice(&[&pod]);
    world.pass_all();
    world.says("?the slices of its Services do not name it in every family");
    let mut other = endpoint(&pod);
    other.address = Some(ip("fd00::1"));
    let v6 = Slice {
        family: Some(Family::V6),
        ..slice("web-2", "default/web", vec![other])
    };
    world.change(Change::Slice(v6.key.clone(), Some(v6)));
    world.says("-Probing: proxy a has no verdict yet in default/web/tcp/80/ipv6");
    world.pass_all();
    world.says("+Healthy: healthy behind listeners: 2, on proxies: 2");
}

#[test]
fn pods_are_none_of_another_namespaces_business() {
    let mut world = World::new();
    world.with_pod();
    world.pass_all();
    let other = Service {
        ports: vec![port("", 81)],
        ..service("other/web")
    };
    world.put_service(other);
    let foreign = slice(
        "web-9",
        "other/web",
        vec![endpoint(&waiting("default/p", "10.0.0.1"))],
    );
    world.change(Change::Slice(foreign.key.clone(), Some(foreign)));
    world.says("+Healthy: healthy behind listeners: 1");
}
