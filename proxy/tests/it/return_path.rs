//! Pods on other nodes see their clients' own addresses, because the node agent sends their replies back through the
//! proxy. Skipped where namespaces cannot be made, unless `PODLINE_REQUIRE=netns`.

mod scene;
mod through;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use podline_lab::{Behaviour, Cni, Lab, Namespace, Pod, Segment, require_netns, wait};
use podline_proxy::host::nft::{Action, Chain, Hook, Match, Rule, Seen, Table};
use podline_proxy::host::responder::wire::Saw;
use podline_proxy::host::routes::{Route, Way, default_of};
use podline_proxy::host::rules::MarkRule;
use podline_proxy::host::{Bits, Family, Routing, Ruleset};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::harness::{LONG, SECOND};
use scene::{Process, RESPONDER, Scene, client, imitating, once};

/// Of the agent.
const TABLE: &str = "podline_return";
/// Within which the agent mends what others break.
const MENDED: Duration = Duration::from_secs(5);

#[test]
fn a_network_plugin_that_masquerades_does_not_hide_the_client() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Cni::Bridge, true, 1);
    let _agents = [scene.agent(0, &[]), scene.agent(1, &[])];
    scene.wait_way(0, 0);
    let proxy = &scene.segment.proxies[0];
    proxy.run(|| {
        let pods = ["10.244.0.0/16", "fd00:244::/32"].map(|net| net.parse().unwrap());
        // As flannel's: what goes to Pods and does not come from Pods.
        let rules = pods.map(|net| {
            let matches = [Match::NotSource(net), Match::Destination(net)];
            Rule::new(matches, [Action::Masquerade])
        });
        let ruleset = Ruleset {
            family: None,
            table: "plugin".to_owned(),
            comment: "a network plugin's".to_owned(),
            chains: vec![Chain {
                name: "post".to_owned(),
                hook: Hook::PostroutingNat,
                priority: Chain::SOURCE_NAT,
                rules: rules.into(),
            }],
        };
        Table::open("plugin").unwrap().put(&ruleset).unwrap();
    });
    for family in [0, 1] {
        let to = SocketAddr::new(Segment::pod(0, 0)[family], RESPONDER);
        let own = SocketAddr::new(Segment::proxy(0)[family], 0);
        let line = proxy.run(move || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
            socket.bind(&own.into()).unwrap();
            socket.connect_timeout(&to.into(), SECOND).unwrap();
            let mut line = String::new();
            TcpStream::from(socket).read_to_string(&mut line).unwrap();
            line
        });
        let saw: Saw = line.parse().unwrap();
        assert_ne!(saw.peer.ip(), own.ip(), "it does masquerade");
        scene.wait_proven(0, family);
        assert_eq!(scene.ask(0, family).unwrap(), Segment::CLIENT[family]);
        scene.assert_seen(0, family, 100);
    }
}

#[test]
fn traffic_that_does_not_come_from_a_proxy_is_not_disturbed() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Cni::PointToPoint, false, 1);
    let _agents = [scene.agent(0, &[]), scene.agent(1, &[])];
    scene.wait_way(0, 0);
    scene.wait_way(0, 1);
    let (here, there) = (&scene.segment.nodes[0], &scene.segment.nodes[1]);
    for family in [0, 1] {
        let pod = Segment::pod(0, 0)[family];
        let to = SocketAddr::new(pod, RESPONDER);
        // The same port as a client that the proxy imitated a moment ago.
        scene.assert_seen(0, family, 20);
        let direct = scene.segment.client.run(move || seen(to, 10_000, 50));
        assert_eq!(direct, Segment::CLIENT[family]);
        scene.assert_seen(0, family, 20);
        assert_eq!(
            there.pods[0].run(move || seen(to, 0, 50)),
            Segment::pod(1, 0)[family]
        );
        assert_eq!(
            there.host.run(move || seen(to, 0, 50)),
            Segment::node(1)[family]
        );
        let server = here
            .host
            .run(move || echo((Segment::node(0)[family], 0).into()));
        for (from, expected) in [
            (&scene.segment.client, Segment::CLIENT[family]),
            (&there.pods[0], Segment::pod(1, 0)[family]),
            (&here.pods[0], pod),
            (&scene.segment.proxies[0], Segment::proxy(0)[family]),
        ] {
            let address = server.0;
            from.run(move || TcpStream::connect_timeout(&address, 3 * SECOND).unwrap());
            assert_eq!(server.1.recv_timeout(3 * SECOND).unwrap().ip(), expected);
        }
    }
}

/// Whom a responder sees of so many connections and datagrams, from a port or from any.
fn seen(to: SocketAddr, port: u16, times: u16) -> IpAddr {
    let any: IpAddr = if to.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let mut found = Vec::new();
    for at in 0..times {
        let from = SocketAddr::new(any, if port == 0 { 0 } else { port + at });
        found.push(scene::ask_tcp(from, to, 3 * SECOND).unwrap().peer.ip());
        found.push(scene::ask_udp(from, to, 3 * SECOND).unwrap().peer.ip());
    }
    found.dedup();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}

/// A server that tells who connected.
fn echo(address: SocketAddr) -> (SocketAddr, mpsc::Receiver<SocketAddr>) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((_, peer)) = listener.accept() {
            if tell.send(peer).is_err() {
                return;
            }
        }
    });
    (address, told)
}

#[test]
fn errors_about_packets_come_back_to_the_proxy() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Cni::PointToPoint, false, 1);
    let _agent = scene.agent(0, &[]);
    scene.wait_way(0, 0);
    let node = &scene.segment.nodes[0];
    // Shorter than what the Pod says of itself.
    node.host.mtu("pod0", 1300).unwrap();
    for family in [0, 1] {
        let pod = Segment::pod(0, 0)[family];
        let proxy = &scene.segment.proxies[0];
        // From the Pod itself.
        let refused = proxy.run(move || scene::ask_udp(client(pod, 9000), (pod, 9).into(), SECOND));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        // From the node, which has no such Pod.
        let nobody = beside(pod);
        let start = Instant::now();
        let lost = proxy.run(move || scene::ask_tcp(client(pod, 9001), (nobody, 80).into(), LONG));
        let kind = lost.unwrap_err().kind();
        let unreachable = [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable];
        assert!(unreachable.contains(&kind), "{kind:?}");
        // The kernel leaves an error alone that comes while it is still sending: then the next attempt's counts.
        assert!(start.elapsed() < 10 * SECOND, "{:?}", start.elapsed());
        // A packet that is too long for the last link.
        let drain = Pod::start_in(
            &node.pods[0],
            "drain",
            (pod, 7).into(),
            Behaviour::NeverAnswer,
        );
        let drain = drain.unwrap();
        let stream = proxy.run(move || {
            let socket = imitating(client(pod, 9002), Type::STREAM).unwrap();
            socket
                .connect_timeout(&SocketAddr::new(pod, 7).into(), SECOND)
                .unwrap();
            let mut stream: TcpStream = socket.into();
            stream.write_all(&vec![1; 100_000]).unwrap();
            stream
        });
        wait::until(LONG, "long packets are sent again as short ones", || {
            drain.counts().received() == 100_000
        });
        drop(stream);
    }
}

/// Another address of the same node's Pods.
fn beside(pod: IpAddr) -> IpAddr {
    match pod {
        IpAddr::V4(pod) => IpAddr::V4((pod.to_bits() + 90).into()),
        IpAddr::V6(pod) => IpAddr::V6((pod.to_bits() + 0x90).into()),
    }
}

#[test]
fn connections_outlive_the_agent_and_its_successor_goes_on() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Cni::PointToPoint, false, 2);
    let agent = scene.agent(0, &[]);
    scene.wait_way(0, 0);
    scene.wait_way(1, 0);
    let pod = &scene.segment.nodes[0].pods[0];
    let echo = Segment::pod(0, 0)
        .map(|address| Pod::start_in(pod, "echo", (address, 7).into(), Behaviour::Echo).unwrap());
    let mut streams = Vec::new();
    for (proxy, namespace) in (0..).zip(&scene.segment.proxies) {
        for pod in &echo {
            let to = pod.address();
            for port in 0..20 {
                let from = client(to.ip(), 20_000 + 1000 * proxy + port);
                let stream = namespace.run(move || {
                    let socket = imitating(from, Type::STREAM).unwrap();
                    socket.connect_timeout(&to.into(), SECOND).unwrap();
                    TcpStream::from(socket)
                });
                stream.set_read_timeout(Some(2 * SECOND)).unwrap();
                streams.push(stream);
            }
        }
    }
    assert_alive(&mut streams, "at first");
    agent.end(Signal::TERM);
    assert_alive(&mut streams, "after the agent was told to stop");
    scene.assert_seen(0, 0, 20);
    // The other order, which the numbers must survive.
    let list = [Segment::proxy(1), Segment::proxy(0)].concat();
    let list = list
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let host = &scene.segment.nodes[0].host;
    let second = Process::start(host, &["return-path", "--proxy", &list]);
    second.wait_log("put the table");
    assert_alive(&mut streams, "with the second agent");
    let third = scene.agent(0, &[]);
    third.wait_log("another process holds it");
    second.end(Signal::KILL);
    third.wait_log("all is as it should be again");
    assert_alive(&mut streams, "after the second agent was killed");
    for family in [0, 1] {
        scene.assert_seen(0, family, 20);
        scene.assert_seen(1, family, 20);
    }
}

fn assert_alive(streams: &mut [TcpStream], when: &str) {
    for stream in streams {
        let mut answer = [0; 4];
        let alive = stream
            .write_all(b"ping")
            .and_then(|()| stream.read_exact(&mut answer));
        alive.unwrap_or_else(|error| panic!("cut {when}: {error}"));
    }
}

#[test]
fn what_others_break_and_what_changes_is_mended_within_five_seconds() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Cni::Bridge, false, 1);
    let agent = scene.agent(0, &[]);
    scene.wait_way(0, 0);
    let (node, proxy) = (&scene.segment.nodes[0].host, &scene.segment.proxies[0]);
    let mended = |what: &str| {
        let start = Instant::now();
        scene.wait_way(0, 0);
        assert!(
            start.elapsed() < MENDED,
            "{what} took {:?}",
            start.elapsed()
        );
    };
    let broken = node.run(|| {
        let mut routing = Routing::open().unwrap();
        let mut broken = 0;
        for family in Routing::families() {
            for rule in routing.rules(family).unwrap() {
                routing.delete_rule(rule).unwrap();
                broken += 1;
            }
            for route in routing.routes(family, None).unwrap() {
                routing.delete_route(route).unwrap();
                broken += 1;
            }
        }
        broken
    });
    assert_eq!(broken, 4);
    mended("what was flushed");
    // The table is the agent's alone where the kernel knows owners, else it is mended too.
    let removed = node.run(|| Table::open(TABLE).unwrap().remove());
    assert_eq!(removed.is_err(), agent_owns(node));
    mended("the table");
    let flushed = node.run(|| Command::new("nft").args(["flush", "ruleset"]).status());
    assert!(flushed.unwrap().success());
    mended("what a foreign flush took away");
    node.sysctl("net/ipv4/conf/eth0/rp_filter", "1").unwrap();
    agent.wait_log("set net.ipv4.conf.eth0.rp_filter=2");
    node.sysctl("net/ipv4/conf/eth0/rp_filter", "0").unwrap();
    proxy.set_mac("eth0", [2, 0, 0, 0, 0x88, 1]).unwrap();
    let start = Instant::now();
    wait::until(MENDED, "another Ethernet address is followed", || {
        let to = SocketAddr::new(Segment::pod(0, 0)[0], RESPONDER);
        let saw = proxy.run(move || scene::ask_udp(client(to.ip(), 0), to, SECOND / 5));
        saw.is_ok()
    });
    assert!(start.elapsed() < MENDED);
}

fn agent_owns(node: &Namespace) -> bool {
    node.run(|| Table::open(TABLE).unwrap().is_owned())
}

#[test]
fn a_dry_run_changes_nothing_and_a_removal_leaves_nothing_of_ours_and_all_of_others() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Cni::PointToPoint, false, 1);
    let node = &scene.segment.nodes[0].host;
    node.run(|| {
        let mut table = Table::open("foreign").unwrap().shared();
        table.put(&empty("foreign")).unwrap();
    });
    let before = dump(node);
    let list = Segment::proxy(0)
        .map(|address| address.to_string())
        .join(",");
    let dry = once(node, &["return-path", "--proxy", &list, "--dry-run"]);
    for text in [
        "table inet podline_return",
        "ct mark set",
        "ip -6 rule",
        "table 710",
    ] {
        assert!(dry.contains(text), "{dry}");
    }
    assert_eq!(dump(node), before);

    let agent = scene.agent(0, &[]);
    scene.wait_way(0, 0);
    let during = dump(node);
    assert_ne!(during, before);
    agent.end(Signal::TERM);
    assert_eq!(settled(&dump(node)), settled(&during), "it stays");
    let told = once(node, &["return-path", "--remove", "--dry-run"]);
    assert_eq!(settled(&dump(node)), settled(&during));
    assert_eq!(once(node, &["return-path", "--remove"]), told);
    assert_eq!(dump(node), before);
    assert_eq!(once(node, &["return-path", "--remove"]), "");

    // What a proxy that lives keeps there stays; what one that has gone left goes.
    node.run(keep_as_a_proxy);
    let held = node.run(|| {
        let put = |family: Option<Family>, name: &str| {
            let mut table = Table::of(family, name).unwrap();
            let ruleset = Ruleset {
                family,
                ..empty(name)
            };
            table.put(&ruleset).unwrap();
            table
        };
        [
            put(None, "podline"),
            put(Some(Family::V4), "podline_handover"),
            put(Some(Family::V6), "podline_handover"),
        ]
    });
    assert!(node.run(|| Table::open("podline").unwrap().is_owned()));
    let during = dump(node);
    assert_eq!(once(node, &["return-path", "--remove"]), "");
    assert_eq!(dump(node), during);
    drop(held);
    let told = once(node, &["return-path", "--remove", "--dry-run"]);
    for family in [
        "inet podline",
        "ip podline_handover",
        "ip6 podline_handover",
    ] {
        assert!(told.contains(&format!("table {family}\n")), "{told}");
    }
    assert_eq!(settled(&dump(node)), settled(&during));
    assert_eq!(once(node, &["return-path", "--remove"]), told);
    assert_eq!(dump(node), before);
}

fn empty(table: &str) -> Ruleset {
    Ruleset {
        family: None,
        table: table.to_owned(),
        comment: "for a test".to_owned(),
        chains: Vec::new(),
    }
}

/// The rules and routes with which a proxy imitates clients.
fn keep_as_a_proxy() {
    let mut routing = Routing::open().unwrap();
    for family in Routing::families() {
        let rule = MarkRule {
            family,
            priority: 7_000,
            mark: Bits::new(0x700, 0xfff).unwrap(),
            table: 700,
        };
        routing.add_rule(rule).unwrap();
        let route = Route {
            table: 700,
            to: default_of(family),
            way: Way::Local { link: 1 },
        };
        routing.replace_route(route).unwrap();
    }
}

/// All rules, routes and tables of a namespace: as far as we read them ourselves, and as the system's tools tell it
/// where they are installed.
fn dump(namespace: &Namespace) -> String {
    const TOOLS: &str = "ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; nft list ruleset";
    namespace.run(|| {
        let mut routing = Routing::open().unwrap();
        let mut told = String::new();
        for family in Routing::families() {
            let rules = routing.rules(family).unwrap();
            let routes = routing.routes(family, None).unwrap();
            told = format!("{told}{rules:?}\n{routes:?}\n");
        }
        for table in [TABLE, "foreign"] {
            let seen = Table::open(table).unwrap().look().unwrap();
            told = format!("{told}{table}: {}\n", seen != Seen::Missing);
        }
        let tools = Command::new("sh").args(["-c", TOOLS]).output().unwrap();
        told + &String::from_utf8_lossy(&tools.stdout)
    })
}

/// Without what says that an owner lives.
fn settled(dump: &str) -> String {
    let lines = dump.lines().filter(|line| !line.contains("flags"));
    let named = lines.map(|line| line.split(" # progname").next().unwrap_or_default());
    named.collect::<Vec<_>>().join("\n")
}

#[test]
fn without_the_right_to_it_the_agent_says_what_is_missing() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let namespace = lab.namespace("host").unwrap();
    let binary = env!("CARGO_BIN_EXE_podline-proxy");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin", binary]);
    command.args(["return-path", "--proxy", "10.88.0.100"]);
    let Ok(output) = namespace.run(move || command.output()) else {
        return; // util-linux is not installed
    };
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("CAP_NET_ADMIN is needed"), "{told}");
}
