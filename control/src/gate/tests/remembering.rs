//! What is asked for, and when.

use std::sync::Arc;

use super::world::{World, waiting};
use crate::build::note::{self, Note};
use crate::cluster::pod::{GateSaid, Owner};
use crate::cluster::testing::{key, service};
use crate::cluster::{Change, Pod, Service};
use crate::gate::{Ask, Orders};

const SECOND: u64 = 1_000;
/// What happens to the world.
type Step<'a> = &'a dyn Fn(&mut World);

/// The reasons that are asked for.
fn asks(orders: &Orders) -> Vec<&'static str> {
    let asks = orders.asks.iter();
    asks.map(|ask| ask.said.reason.as_str()).collect()
}

/// The Pod as it is after a write was seen.
fn saying(pod: &Pod, ask: &Ask) -> Pod {
    Pod {
        gate_said: Some(GateSaid {
            reason: ask.said.reason.as_str().into(),
            message: ask.said.message.as_str().into(),
        }),
        ..pod.clone()
    }
}

#[test]
fn a_pod_that_comes_as_it_should_is_written_to_once_and_at_once() {
    let mut world = World::new();
    let pod = waiting("default/p", "10.0.0.1");
    world.put_pod(&Pod {
        containers_ready: false,
        ..pod.clone()
    });
    assert_eq!(world.after(10 * SECOND), Orders::default());
    world.put_pod(&pod);
    world.put_slice(&[&pod]);
    assert_eq!(world.after(0), Orders::default());
    world.pass("a");
    assert_eq!(world.after(500), Orders::default());
    world.pass("b");
    let orders = world.after(0);
    assert_eq!(asks(&orders), ["Healthy"]);
    assert_eq!(orders.asks[0].uid, pod.uid);
    assert!(!orders.asks[0].is_there);
    // It was not seen again yet.
    world.put_pod(&pod);
    world.tell();
    for _ in 0..20 {
        assert_eq!(world.after(SECOND), Orders::default());
    }
    world.put_pod(&Pod {
        gate: crate::cluster::Gate::Open,
        ..saying(&pod, &orders.asks[0])
    });
    assert_eq!(world.after(60 * SECOND), Orders::default());
}

#[test]
fn every_reason_that_is_forced_has_to_hold_for_two_seconds() {
    let web = || service("default/web");
    let node_port = || {
        let mut web = web();
        for value in web.annotations.values_mut() {
            "false".clone_into(value);
        }
        web
    };
    let sctp = || {
        let mut web = web();
        web.ports[0].protocol = crate::cluster::Transport::Sctp;
        web
    };
    let gone = |world: &mut World| world.change(Change::Service(key("default/web"), None));
    let on_host = |world: &mut World| {
        let pod = waiting("default/p", "10.0.0.1");
        world.put_pod(&Pod {
            is_host_network: true,
            ..pod
        });
    };
    let portless = |world: &mut World| {
        let pod = waiting("default/p", "10.0.0.1");
        let endpoint = crate::cluster::testing::endpoint(&pod);
        let mut slice = crate::cluster::testing::slice("web-1", "default/web", vec![endpoint]);
        slice.ports.clear();
        world.change(Change::Slice(slice.key.clone(), Some(slice)));
    };
    let steps: [(&str, Step<'_>); 5] = [
        ("NoLoadBalancer", &gone),
        ("NodePortMode", &|world| world.put_service(node_port())),
        ("Skipped", &|world| world.put_service(sctp())),
        ("HostNetwork", &on_host),
        ("PortNotOnPod", &portless),
    ];
    for (reason, step) in steps {
        let mut world = World::new();
        world.with_pod();
        step(&mut world);
        assert_eq!(asks(&world.after(1_999)), [""; 0], "{reason}");
        // For a moment it was otherwise.
        if reason != "HostNetwork" {
            world.put_service(web());
            world.with_pod();
            world.says("-Probing");
            step(&mut world);
            assert_eq!(asks(&world.after(1_999)), [""; 0], "{reason}");
        }
        assert_eq!(asks(&world.after(1)), [reason]);
        // Once open it stays so.
        world.put_service(web());
        world.with_pod();
        assert_eq!(world.after(10 * SECOND), Orders::default());
    }
}

#[test]
fn the_quota_lets_a_pod_through_after_two_seconds() {
    let mut world = World::with(crate::build::Options {
        quota: 1,
        ..crate::build::Options::default()
    });
    let older = Pod {
        created: 1,
        gate: crate::cluster::Gate::Open,
        ..waiting("default/older", "10.0.0.9")
    };
    let pod = waiting("default/p", "10.0.0.1");
    world.put_pod(&older);
    world.put_slice(&[&older]);
    world.put_pod(&pod);
    world.put_slice(&[&older, &pod]);
    assert_eq!(asks(&world.after(1_999)), [""; 0]);
    assert_eq!(asks(&world.after(1)), ["BeyondQuota"]);
}

#[test]
fn why_a_gate_is_closed_is_written_once_it_has_held() {
    let mut world = World::new();
    let pod = world.with_pod();
    assert_eq!(asks(&world.after(4_999)), [""; 0]);
    let orders = world.after(1);
    assert_eq!(asks(&orders), ["Probing"]);
    assert_eq!(world.after(20 * SECOND), Orders::default());
    let pod = saying(&pod, &orders.asks[0]);
    world.put_pod(&pod);
    assert_eq!(world.after(60 * SECOND), Orders::default());
    // Another reason; the gate has been closed all the time.
    world.proxy("a", |proxy| proxy.serving = false);
    world.proxy("b", |proxy| proxy.serving = false);
    assert_eq!(asks(&world.after(4_999)), [""; 0]);
    let orders = world.after(1);
    assert_eq!(asks(&orders), ["NoServingProxy"]);
    assert!(orders.asks[0].is_there);
    world.put_pod(&saying(&pod, &orders.asks[0]));
    // And open at once, whatever was said.
    world.proxy("a", |proxy| proxy.serving = true);
    world.pass("a");
    assert_eq!(asks(&world.after(0)), ["Healthy"]);
}

#[test]
fn what_a_replica_before_us_wrote_is_not_written_again() {
    let mut world = World::new();
    let pod = world.with_pod();
    let first = world.after(5 * SECOND);
    let mut world = World::new();
    world.put_pod(&saying(&pod, &first.asks[0]));
    world.put_slice(&[&pod]);
    world.says("-Probing");
    assert_eq!(world.after(60 * SECOND), Orders::default());
}

#[test]
fn other_words_for_the_same_reason_are_not_written_all_the_time() {
    let mut world = World::new();
    let mut pod = world.with_pod();
    let mut written = 0;
    for second in 0..240 {
        let (one, other) = if second % 2 == 0 {
            ("a", "b")
        } else {
            ("b", "a")
        };
        let set = podline_api::Name::try_from("default/web/tcp/80").unwrap();
        world.proxy(other, |proxy| drop(proxy.healthy.remove(&set)));
        world.pass(one);
        for ask in world.after(SECOND).asks {
            written += 1;
            pod = saying(&pod, &ask);
            world.put_pod(&pod);
        }
    }
    assert!((2..=5).contains(&written), "{written}");
}

#[test]
fn an_open_gate_that_somebody_closed_is_opened_again_and_never_closed() {
    let mut world = World::new();
    let pod = world.with_pod();
    world.pass_all();
    assert_eq!(asks(&world.after(0)), ["Healthy"]);
    // Meanwhile its probes fail.
    let set = podline_api::Name::try_from("default/web/tcp/80").unwrap();
    world.proxy("a", |proxy| drop(proxy.healthy.remove(&set)));
    world.put_pod(&pod);
    world.says("-Probing");
    assert_eq!(world.after(29 * SECOND), Orders::default());
    assert_eq!(asks(&world.after(SECOND)), ["Healthy"]);
}

#[test]
fn another_pod_of_that_name_is_another_one() {
    let mut world = World::new();
    world.with_pod();
    world.pass_all();
    assert_eq!(asks(&world.after(0)), ["Healthy"]);
    let again = Pod {
        uid: "again".into(),
        ..waiting("default/p", "10.0.0.2")
    };
    world.put_pod(&again);
    world.put_slice(&[&again]);
    assert_eq!(world.after(0), Orders::default());
    world.pass_all();
    let orders = world.after(0);
    assert_eq!(
        (asks(&orders), &*orders.asks[0].uid),
        (vec!["Healthy"], "again")
    );
}

#[test]
fn a_new_leader_waits_as_long_as_the_one_before_it_did() {
    let mut world = World::new();
    world.with_pod();
    world.change(Change::Service(key("default/web"), None));
    world.now_ms += 10 * SECOND;
    world.gates.restart(world.now_ms);
    assert_eq!(asks(&world.after(1_999)), [""; 0]);
    assert_eq!(asks(&world.after(1)), ["NoLoadBalancer"]);
    // It was deposed before that was written, and leads again.
    world.gates.restart(world.now_ms);
    assert_eq!(asks(&world.after(2 * SECOND)), ["NoLoadBalancer"]);
}

/// What is told: about what, and the note.
fn told(orders: &Orders) -> Vec<(String, &Note)> {
    let news = orders.news.iter();
    news.map(|(about, note)| (format!("{}/{}", about.kind, about.name), note))
        .collect()
}

#[test]
fn a_pod_that_waits_for_long_is_told_of_and_so_is_its_stateful_set() {
    let owner = |kind: &str| {
        Some(Arc::new(Owner {
            kind: kind.to_owned(),
            name: "db".to_owned(),
            uid: "uid-db".to_owned(),
        }))
    };
    for (kind, expected) in [("ReplicaSet", 1), ("StatefulSet", 2)] {
        let mut world = World::new();
        let pod = Pod {
            owner: owner(kind),
            ..waiting("default/p", "10.0.0.1")
        };
        world.put_pod(&Pod {
            containers_ready: false,
            ..pod.clone()
        });
        world.put_slice(&[&pod]);
        assert_eq!(world.after(600 * SECOND), Orders::default());
        world.put_pod(&pod);
        assert_eq!(told(&world.after(119 * SECOND)), []);
        let orders = world.after(SECOND);
        let news = told(&orders);
        assert_eq!(news.len(), expected);
        assert_eq!(news[0].0, "Pod/p");
        assert_eq!(news[0].1.reason, note::Reason::GateClosed);
        assert!(news[0].1.message.contains("Probing: proxy a"), "{news:?}");
        if expected == 2 {
            assert_eq!(news[1].0, "StatefulSet/db");
            assert!(news[1].1.message.starts_with("the next Pod waits for p"));
        }
        assert_eq!(told(&world.after(600 * SECOND)), [], "once");
    }
}

#[test]
fn services_whose_pods_wait_are_told_that_no_proxy_serves() {
    let mut world = World::new();
    let second = Service {
        selector: [("app".to_owned(), "other".to_owned())].into(),
        ports: vec![crate::cluster::testing::port("", 81)],
        ..service("default/second")
    };
    world.put_service(second);
    world.with_pod();
    let both = |world: &mut World, serving: bool| {
        for name in ["a", "b"] {
            world.proxy(name, |proxy| proxy.serving = serving);
        }
    };
    both(&mut world, false);
    world.after(59 * SECOND);
    let orders = world.after(SECOND);
    let news = told(&orders);
    assert_eq!(news.len(), 1, "{news:?}");
    assert_eq!(news[0].0, "Service/web");
    assert_eq!(news[0].1.reason, note::Reason::NoServingProxy);
    assert_eq!(told(&world.after(30 * SECOND)), []);
    // It is over, and begins again.
    both(&mut world, true);
    both(&mut world, false);
    assert_eq!(world.gates.counts(), [("NoServingProxy", 1)].into());
    let orders = world.after(60 * SECOND);
    let about: Vec<_> = told(&orders).into_iter().map(|(about, _)| about).collect();
    assert!(about.contains(&"Service/web".to_owned()), "{about:?}");
}

#[test]
fn proxies_that_were_never_there_are_missed_too_and_by_every_leader() {
    let mut world = World::new();
    world.with_pod();
    world.observed.proxies.clear();
    world.tell();
    // Nothing is heard of any proxy from here on: only of objects.
    world.gates = crate::gate::Gates::default();
    let pod = waiting("default/p", "10.0.0.1");
    world.change(Change::Pod(pod.key.clone(), None));
    world.put_pod(&pod);
    world.says("-NoServingProxy");
    world.after(59 * SECOND);
    world.gates.restart(world.now_ms);
    assert_eq!(told(&world.after(59 * SECOND)), []);
    let orders = world.after(SECOND);
    assert_eq!(told(&orders)[0].0, "Service/web");
}
