//! Subjects in front of toy Pods: each that is installed forwards, takes a change, and is told by name when it fails.

pub(crate) mod scene;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use podline_bench::account::{Meter, pss_kib, tracked};
use podline_bench::subject::{Layer, Options, Subject, node_port};
use podline_lab::{Behaviour, Lab, Segment, require_netns, wait};

use scene::{Scene, is_here, pod_name, tools};

const L4: Options = Options {
    workers: 2,
    layer: Layer::L4,
    listeners: None,
    has_checks: false,
};
const L7: Options = Options {
    workers: 2,
    layer: Layer::L7,
    listeners: None,
    has_checks: false,
};
const TLS: Options = Options {
    layer: Layer::Tls,
    ..L7
};
const LONG: Duration = Duration::from_secs(10);
/// Requests after which each of two Pods has had some, whoever chooses.
const MANY: usize = 40;

#[test]
fn connections_and_datagrams_reach_all_pods_and_follow_a_change() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Behaviour::Name);
    for subject in Subject::ALL {
        if subject.is_nodeport() || subject.fits_layer(Layer::L4).is_err() || !is_here(subject) {
            continue;
        }
        let site = scene.site();
        let mut running = subject.start(&site, &tools(), &L4).unwrap();
        let meter = Meter::begin(&running.pids());
        let both: BTreeSet<String> = [0, 1].map(pod_name).into();
        let expected = match subject {
            Subject::Pod => [pod_name(0)].into(),
            _ => both,
        };
        assert_eq!(scene.names(running.entry.http, MANY), expected, "{subject}");
        scene.echo(running.entry.frames);
        scene.echo(running.entry.bulk);
        if subject != Subject::Haproxy {
            scene.echo_datagram(running.entry.frames);
        }
        running.check().unwrap();
        assert_eq!(running.pids().is_empty(), subject == Subject::Pod);
        assert_eq!(pss_kib(&running.pids()).is_some(), subject != Subject::Pod);

        for only in [1, 0] {
            running.change(&site.backends[only..=only]).unwrap();
            let names = scene.names(running.entry.http, MANY);
            assert_eq!(names, [pod_name(only)].into(), "{subject}");
            scene.echo(running.entry.frames);
        }
        running.change(&site.backends).unwrap();
        let names = scene.names(running.entry.http, MANY);
        assert_eq!(names, expected, "{subject} after all");
        running.change(&[]).unwrap_err();

        let cost = meter.end();
        println!("{subject}: {cost:?}, {:?} KiB", pss_kib(&running.pids()));
        assert_eq!(
            cost.proxy_cpu.is_some_and(|cpu| cpu > 0.0),
            subject != Subject::Pod
        );
        let pids = running.pids();
        running.end().unwrap();
        assert_gone(&pids);
    }
}

#[test]
fn requests_are_answered_over_one_connection_by_all_pods() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Behaviour::Name);
    for subject in Subject::ALL {
        let reads = subject.is_peer() || subject == Subject::Direct;
        if !reads || !is_here(subject) {
            continue;
        }
        let site = scene.site();
        let mut running = subject.start(&site, &tools(), &L7).unwrap();
        let names = scene.names_on_one(running.entry.http, MANY);
        assert_eq!(names, [0, 1].map(pod_name).into(), "{subject}");
        running.change(&site.backends[1..]).unwrap();
        let names = scene.names(running.entry.http, MANY);
        assert_eq!(names, [pod_name(1)].into(), "{subject}");
        running.check().unwrap();
    }
    let error = Subject::DirectTransparent.start(&scene.site(), &tools(), &L7);
    let reason = "direct-transparent is measured by its connections";
    assert_eq!(error.unwrap_err(), reason);
}

#[test]
fn requests_inside_tls_are_answered_by_all_pods_and_follow_a_change() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Behaviour::Name);
    for subject in Subject::ALL {
        if subject.fits_layer(Layer::Tls).is_err() || !is_here(subject) {
            continue;
        }
        let site = scene.site();
        let mut running = subject.start(&site, &tools(), &TLS).unwrap();
        let names = scene.names_over_tls(running.entry.http, MANY);
        assert_eq!(names, [0, 1].map(pod_name).into(), "{subject}");
        running.change(&site.backends[1..]).unwrap();
        let names = scene.names_over_tls(running.entry.http, MANY);
        assert_eq!(names, [pod_name(1)].into(), "{subject}");
        running.check().unwrap();
    }
    let error = Subject::Pod.start(&scene.site(), &tools(), &TLS);
    assert_eq!(error.unwrap_err(), "pod speaks no TLS");
}

#[test]
fn podline_shows_pods_their_clients_and_leaves_nothing_behind() {
    if !require_netns() || !is_here(Subject::DirectTransparent) {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Behaviour::Peer);
    let site = scene.site();
    let client = Segment::CLIENT[0];
    let proxy = Segment::proxy(0)[0];
    for (subject, seen) in [
        (Subject::Direct, proxy),
        (Subject::DirectTransparent, client),
        (Subject::Direct, proxy), // and the way back, which is gone, does not matter to it
    ] {
        let running = subject.start(&site, &tools(), &L4).unwrap();
        let peers = scene.names(running.entry.http, MANY);
        let ip = |peer: &String| peer.parse::<std::net::SocketAddr>().unwrap().ip();
        let peers: BTreeSet<IpAddr> = peers.iter().map(ip).collect();
        assert_eq!(peers, [seen].into(), "{subject}");
        scene.echo_datagram(running.entry.frames);
        let is_imitating = subject == Subject::DirectTransparent;
        assert_eq!(running.helpers().len(), if is_imitating { 2 } else { 0 });
        let tracking = tracked(&[site.proxy, site.nodes[0].0]);
        println!("{subject}: connections tracked: {tracking:?}");
        let helpers = running.helpers();
        running.end().unwrap();
        assert_gone(&helpers);
        for (namespace, table) in [(site.proxy, "700"), (site.nodes[0].0, "710")] {
            let left = scene::shell(
                namespace,
                &format!("ip rule; ip route show table {table} 2>&1; nft list tables"),
            );
            assert!(!left.contains("0x7") && !left.contains("podline"), "{left}");
        }
    }
}

#[test]
fn podline_drains_a_pod_when_told() {
    if !require_netns() || !is_here(Subject::Direct) {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Behaviour::Name);
    let site = scene.site();
    let running = Subject::Direct.start(&site, &tools(), &L4).unwrap();
    running.drain(&site.backends[0]).unwrap();
    let names = scene.names(running.entry.http, MANY);
    assert_eq!(names, [pod_name(1)].into());
}

#[test]
fn with_nodeports_nodes_are_asked_and_with_local_those_that_have_pods() {
    if !require_netns() || !is_here(Subject::Direct) {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Behaviour::Name);
    // In place of rules, servers at the nodes' ports.
    let servers = scene.serve_nodes([node_port::HTTP, node_port::FRAMES]);
    let site = scene.site();
    for (subject, all, local) in [
        (Subject::NodeportIptablesCluster, [0, 1], &[0, 1][..]),
        (Subject::NodeportNftablesLocal, [0, 1], &[1]),
    ] {
        let mut running = subject.start(&site, &tools(), &L4).unwrap();
        let names = |indexes: &[usize]| indexes.iter().map(|n| format!("node-{n}")).collect();
        assert_eq!(scene.names(running.entry.http, MANY), names(&all));
        scene.echo(running.entry.frames);
        running.change(&site.backends[1..]).unwrap();
        assert_eq!(
            scene.names(running.entry.http, MANY),
            names(local),
            "{subject}"
        );
        running.drain(&site.backends[0]).unwrap_err();
    }
    drop(servers);
}

#[test]
fn who_cannot_start_or_dies_is_named_with_the_end_of_its_log() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Behaviour::Name);
    for subject in Subject::ALL {
        let layer = match subject {
            Subject::Pingora => L7,
            _ => L4,
        };
        let is_one_of_many = subject.is_nodeport() || subject == Subject::DirectTransparent;
        if subject == Subject::Pod || is_one_of_many || !is_here(subject) {
            continue;
        }
        let mut site = scene.site();
        site.front = [192, 0, 2, 99].into(); // of nobody here
        let error = subject.start(&site, &tools(), &layer).unwrap_err();
        println!("{error}\n");
        assert!(error.starts_with(&format!("{subject} ")), "{error}");
        assert!(error.contains("log ends with:\n"), "{error}");

        let site = scene.site();
        let mut running = subject.start(&site, &tools(), &layer).unwrap();
        running.check().unwrap();
        let main = running.pids().into_iter().min().unwrap();
        scene::kill(main);
        wait::until(LONG, "its end is noticed", || running.check().is_err());
        let error = running.check().unwrap_err();
        assert!(
            error.starts_with(&format!("{subject} ended with signal: 9 (SIGKILL)")),
            "{error}"
        );
        running.change(&site.backends[1..]).unwrap_err();
    }
}

#[test]
fn who_is_not_here_is_told_by_what_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut tools = tools();
    tools.podline_proxy = folder.path().join("podline-proxy");
    let error = tools.version(Subject::Direct).unwrap_err();
    assert!(error.to_string().contains("podline-proxy"), "{error}");
    for subject in Subject::ALL {
        println!("{subject}: {:?}", scene::version(subject));
    }
}

fn assert_gone(pids: &[u32]) {
    for pid in pids {
        let is_gone = || !std::path::Path::new(&format!("/proc/{pid}/exe")).exists();
        wait::until(LONG, "its processes are gone", is_gone);
    }
}
