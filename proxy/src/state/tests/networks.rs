//! What owners say of the network, what is found out of it, and what workers and askers see of both.

use super::bench::{Bench, by, drain, key, name, set};
use crate::lb::network::{NodeId, Path, PathId};
use crate::state::network::{Means, NOT_ASKED, Provable};
use podline_api::{
    Apply, BackendSet, Listener, Network, Node, PortShare, Protocol, Rejected, Route,
    SourceAddress, v1,
};
use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use v1::change::Action;
use v1::path_status::State as PathState;
use v1::watch_response::Event;

fn node(text: &str, address: &str, pods: &str, responder: &str) -> Node {
    Node {
        name: name(text),
        addresses: vec![address.parse().unwrap()],
        pod_ranges: pods
            .split_whitespace()
            .map(|r| r.parse().unwrap())
            .collect(),
        responders: responder
            .split_whitespace()
            .map(|r| r.parse().unwrap())
            .collect(),
    }
}

fn network(nodes: Vec<Node>) -> Network {
    Network {
        nodes,
        ..Network::default()
    }
}

/// Backends 1 to 9 run on node "one".
fn one() -> Network {
    network(vec![node(
        "one",
        "192.0.2.1",
        "10.0.0.0/29",
        "10.0.0.7:9904",
    )])
}

fn says(owner: &str, network: Network) -> Apply {
    Apply {
        network: Some(network),
        ..by(owner)
    }
}

fn listening(source_address: SourceAddress, set: BackendSet) -> Apply {
    let mut web = Listener::new(
        name("web"),
        ([127, 0, 0, 1], 80).into(),
        Protocol::Tcp,
        name("web"),
    );
    web.source_address = source_address;
    Apply {
        listeners: vec![web],
        backend_sets: vec![set],
        ..by("me")
    }
}

fn means(problem: Option<&str>) -> Means {
    Means {
        problem: problem.map(str::to_owned),
        route_mark: None,
        all_ports: (1_000, 1_999),
        own: HashSet::new(),
    }
}

fn changes(response: &v1::ApplyResponse) -> Vec<(&str, Action)> {
    let all = response.changes.iter();
    all.map(|change| (change.what.as_str(), change.action()))
        .collect()
}

fn node_of(bench: &Bench, n: u32) -> Option<u32> {
    let number = bench.runtime("web", &key(n)).node.load(Relaxed);
    (number != NodeId::NONE).then_some(number)
}

fn path_of(bench: &Bench, node: u32) -> Path {
    bench.fake.table().network.path(PathId {
        node: NodeId(node),
        ipv6: false,
    })
}

fn way(bench: &Bench) -> Provable {
    bench.state.provable(&[]).remove(0)
}

#[tokio::test(start_paused = true)]
async fn an_owners_part_stays_until_it_says_otherwise() {
    let bench = Bench::start();
    let preview = Apply {
        validate_only: true,
        ..says("me", one())
    };
    assert_eq!(
        changes(&bench.apply(&preview).await),
        [("network", Action::Added)]
    );
    assert_eq!(bench.get().network, None, "nobody has said anything");
    assert_eq!(
        changes(&bench.apply(&says("me", one())).await),
        [("network", Action::Added)]
    );
    assert_eq!(changes(&bench.apply(&says("me", one())).await), []);
    assert_eq!(changes(&bench.apply(&by("me")).await), []);
    let status = bench.get().network.unwrap();
    assert_eq!(status.network, Some((&one()).into()));
    assert_eq!(status.transparency_problem, NOT_ASKED);
    assert_eq!(status.paths[0].reason, "not tried yet");
    let two = network(vec![node("two", "192.0.2.2", "", "")]);
    assert_eq!(
        changes(&bench.apply(&says("me", two)).await),
        [("network", Action::Changed)]
    );
    let status = bench.get().network.unwrap();
    assert_eq!(status.paths[0].node, "two");
    assert_eq!(
        status.paths[0].reason,
        "the node has no responder of this IP version"
    );
    let owners = bench.get().owners;
    assert_eq!(owners[0].owner, "me");
    let nothing = Apply {
        replace_owned: true,
        ..by("me")
    };
    assert_eq!(
        changes(&bench.apply(&nothing).await),
        [("network", Action::Removed)]
    );
    assert_eq!(bench.get().network, None);
}

#[tokio::test(start_paused = true)]
async fn two_owners_cannot_say_the_same_differently() {
    let bench = Bench::start();
    let route = |via: &str| Route {
        to: "10.9.0.0/24".parse().unwrap(),
        via: via.parse().unwrap(),
    };
    let share = Some(PortShare { slot: 0, slots: 2 });
    let mine = Network {
        routes: vec![route("192.0.2.1")],
        port_share: share,
        ..one()
    };
    bench.apply(&says("me", mine.clone())).await;
    for (theirs, expected) in [
        (one(), "network.nodes[0].name"),
        (
            Network {
                routes: vec![route("192.0.2.2")],
                ..Network::default()
            },
            "network.routes[0].to",
        ),
        (
            Network {
                port_share: share,
                ..Network::default()
            },
            "network.portShare",
        ),
    ] {
        let before = bench.seen();
        match bench.refused(says("you", theirs)).await {
            Rejected::Conflict { path, .. } => assert_eq!(path, expected),
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.seen(), before);
    }
    // The same way to the same place is no contradiction, and one's own may change.
    let theirs = Network {
        routes: vec![route("192.0.2.1")],
        ..Network::default()
    };
    bench.apply(&says("you", theirs)).await;
    assert_eq!(bench.state.routes_wanted().len(), 1);
    bench.apply(&says("me", one())).await;
    assert_eq!(bench.fake.table().network.ports, None);
}

#[tokio::test(start_paused = true)]
async fn backends_know_their_node_by_name_by_range_or_by_the_way_there() {
    let bench = Bench::start();
    let mut web = set("web", [1, 20, 21]);
    web.backends[2].node = Some(name("two"));
    let mut apply = listening(SourceAddress::PreferTransparent, web);
    apply.network = Some(one());
    bench.apply(&apply).await;
    let first = node_of(&bench, 1);
    assert!(first.is_some(), "by its address");
    assert_eq!((node_of(&bench, 20), node_of(&bench, 21)), (None, None));

    let (one, mut two) = (one(), node("two", "192.0.2.2", "", ""));
    two.addresses.push("192.0.2.3".parse().unwrap());
    let both = network(vec![one.nodes[0].clone(), two]);
    bench.apply(&says("me", both)).await;
    assert_eq!(node_of(&bench, 1), first, "a node keeps its number");
    let second = node_of(&bench, 21);
    assert!(second.is_some() && second != first, "by its name");
    assert_eq!(node_of(&bench, 20), None);

    let homeless = bench.state.homeless_backends();
    assert_eq!(homeless, [key(20).address.ip()]);
    let hop = |text: &str| vec![(homeless[0], Some(text.parse().unwrap()))];
    bench.state.learn_hops(hop("192.0.2.3"));
    assert_eq!(node_of(&bench, 20), second, "by the next hop");
    bench.state.learn_hops(hop("192.0.2.9"));
    assert_eq!(node_of(&bench, 20), None, "that is nobody's address");
}

#[tokio::test(start_paused = true)]
async fn a_proof_is_published_and_told_and_a_lost_answer_takes_it_back() {
    let bench = Bench::start();
    let mut apply = listening(SourceAddress::PreferTransparent, set("web", [1]));
    apply.network = Some(Network {
        port_share: Some(PortShare { slot: 3, slots: 4 }),
        ..one()
    });
    bench.apply(&apply).await;
    bench.state.learn_means(means(None));
    let view = bench.fake.table();
    assert_eq!(view.network.ports, Some((1_750, 1_999)));
    let claimed = "127.0.0.1".parse().unwrap();
    assert!(
        view.network.own().contains(&claimed),
        "a listener's address"
    );
    let number = node_of(&bench, 1).unwrap();
    let mut events = bench.events();
    let told = |events: &mut _| match &drain(events)[..] {
        [Event::Path(path)] => (path.state(), path.bridged, path.reason.clone()),
        other => panic!("{other:?}"),
    };
    let way = way(&bench);
    assert_eq!(way.source.to_string(), "198.18.3.1");
    let proven = Path::Proven { bridged: true };
    for _ in 0..2 {
        bench.state.on_proof(&way, proven, String::new());
    }
    assert_eq!(path_of(&bench, number), proven);
    assert_eq!(told(&mut events), (PathState::Proven, true, String::new()));

    bench.fake.unanswered.tell(bench.runtime("web", &key(1)));
    super::bench::batch().await;
    assert_eq!(path_of(&bench, number), Path::Unproven);
    let (state, _, reason) = told(&mut events);
    assert_eq!(state, PathState::Unproven);
    assert!(reason.starts_with("10.0.0.1:80 did not answer"), "{reason}");

    bench.state.on_proof(&way, proven, String::new());
    drain(&mut events);
    // Another responder: what was found by the old one does not count, nor what it finds yet.
    let moved = network(vec![node(
        "one",
        "192.0.2.1",
        "10.0.0.0/29",
        "10.0.0.6:9904",
    )]);
    bench.apply(&says("me", moved)).await;
    assert_eq!(path_of(&bench, number), Path::Unproven);
    bench.state.on_proof(&way, proven, String::new());
    assert_eq!(path_of(&bench, number), Path::Unproven);
}

#[tokio::test(start_paused = true)]
async fn explaining_says_why_a_backend_does_not_see_its_clients() {
    let bench = Bench::start();
    let message = || {
        let request = v1::ExplainRequest {
            set: "web".to_owned(),
            backend: None,
        };
        let answer = bench.state.explain(&request).unwrap();
        answer.backends[0].message.clone()
    };
    let prefer = SourceAddress::PreferTransparent;
    bench
        .apply(&listening(SourceAddress::Snat, set("web", [1])))
        .await;
    assert_eq!(message(), "there is no health check");
    bench.apply(&listening(prefer, set("web", [1]))).await;
    bench.state.learn_means(means(Some("no privilege")));
    let sees = "there is no health check; sees the proxy's address instead of its clients': ";
    assert_eq!(
        message(),
        format!("{sees}this proxy can imitate nobody: no privilege")
    );
    bench.state.learn_means(means(None));
    assert_eq!(
        message(),
        format!("{sees}it is not known which node it runs on")
    );
    bench.apply(&says("me", one())).await;
    assert_eq!(
        message(),
        format!("{sees}the way to node one is not proven: not tried yet")
    );
    let way = way(&bench);
    bench
        .state
        .on_proof(&way, Path::Failed, "masqueraded by 192.0.2.1".to_owned());
    assert_eq!(
        message(),
        format!("{sees}the way to node one fails: masqueraded by 192.0.2.1")
    );
    let insist = listening(SourceAddress::Transparent, set("web", [1]));
    bench.apply(&insist).await;
    let cannot = "there is no health check; cannot be reached under its clients' addresses: ";
    assert_eq!(
        message(),
        format!("{cannot}the way to node one fails: masqueraded by 192.0.2.1")
    );
    bench
        .state
        .on_proof(&way, Path::Proven { bridged: false }, String::new());
    assert_eq!(message(), "there is no health check");
}

#[tokio::test(start_paused = true)]
async fn the_network_is_there_after_a_restart() {
    let before = Bench::start();
    before.apply(&says("me", one())).await;
    let saved = before.state.saved();
    let after = Bench::start_at(saved.version);
    after.state.restore(saved, std::time::Duration::ZERO);
    assert_eq!(after.get().network, None);
    after.state.restore_owners();
    assert_eq!(after.get().network.unwrap().network, Some((&one()).into()));
}
