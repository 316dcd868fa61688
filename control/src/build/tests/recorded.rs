//! Streams that a real API server sent, replayed: control/tests/fixtures.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use serde_json::Value;

use super::checked::Checked;
use super::*;
use crate::cluster::service::FINALIZER;
use crate::cluster::testing::key;
use crate::cluster::{Change, Node, Pod, Service, Slice};

/// The finalizer of the script that stood in for us.
const STAND_IN: &str = "service.kubernetes.io/load-balancer-cleanup";
const GONE: &[&str] = &[];

struct Replay {
    lines: Vec<(u64, Value)>,
    next: usize,
    checked: Checked,
}

impl Replay {
    fn of(stream: &str) -> Self {
        let options = Options {
            default_class: true,
            ..Options::default()
        };
        let lines = stream.lines().map(|line| {
            let line: Value = serde_json::from_str(&line.replace(STAND_IN, FINALIZER)).unwrap();
            (line["t_ms"].as_u64().unwrap(), line)
        });
        Self {
            lines: lines.collect(),
            next: 0,
            checked: Checked::new(options),
        }
    }

    /// Replays everything up to and with `t_ms`; each line is built for itself, and every probe passes at once.
    fn until(&mut self, t_ms: u64) -> &mut Self {
        while self.next < self.lines.len() && self.lines[self.next].0 <= t_ms {
            if let Some(change) = change(&self.lines[self.next].1) {
                self.checked.change(change);
                let observed = self.checked.all_pass();
                self.checked.change(Change::Observed(observed));
            }
            self.next += 1;
        }
        self
    }

    fn end(&mut self) -> &mut Self {
        self.until(u64::MAX)
    }

    #[track_caller]
    fn has(&mut self, set: &str, backends: &[&str]) -> &mut Self {
        assert_eq!(self.checked.backends(set), backends);
        self
    }

    fn has_ended(&self, id: &str) -> bool {
        let snapshot = self.checked.builder.snapshot();
        snapshot.ended.iter().any(|it| it.as_str().starts_with(id))
    }

    fn plan(&self, service: &str) -> Option<Arc<Plan>> {
        match self.checked.builder.standings().get(&key(service)) {
            Some(Standing::Ours(plan)) => Some(Arc::clone(plan)),
            _ => None,
        }
    }

    fn reasons(&self, service: &str) -> Vec<&'static str> {
        let plan = self.plan(service).unwrap();
        plan.notes.iter().map(|note| note.reason.as_str()).collect()
    }
}

/// What a line says; `None` for a bookmark.
fn change(line: &Value) -> Option<Change> {
    fn read<T: serde::de::DeserializeOwned, R>(
        object: &Value,
        reader: impl Fn(&T) -> Option<R>,
    ) -> Option<R> {
        reader(&serde_json::from_value(object.clone()).unwrap())
    }
    let (object, is_gone) = (&line["object"], line["type"] == "DELETED");
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    let key = Key::new(text("namespace"), text("name"));
    let change = match line["kind"].as_str().unwrap() {
        "Service" => {
            let service = read(object, Service::read).map(Box::new);
            Change::Service(key, service.filter(|_| !is_gone))
        }
        "EndpointSlice" => {
            let slice = read::<discovery::EndpointSlice, _>(object, Slice::read);
            Change::Slice(key, slice.filter(|_| !is_gone))
        }
        "Pod" => Change::Pod(key, read(object, Pod::read).filter(|_| !is_gone)),
        "Node" => {
            let node = read::<core::Node, _>(object, Node::read);
            Change::Node(key.name, node.filter(|_| !is_gone))
        }
        kind => panic!("{kind}"),
    };
    if line["type"] == "BOOKMARK" {
        let says_nothing = match &change {
            Change::Service(_, object) => object.is_none(),
            Change::Slice(_, object) => object.is_none(),
            Change::Pod(_, object) => object.is_none(),
            Change::Node(_, object) => object.is_none(),
            _ => false,
        };
        assert!(says_nothing, "a bookmark is no object: {line}");
        return None;
    }
    Some(change)
}

const EDITS: &str = include_str!("../../../tests/fixtures/service-edits.jsonl");
const ROLLING: &str = include_str!("../../../tests/fixtures/rolling-update.jsonl");

#[test]
fn a_rolling_update_moves_traffic_pod_by_pod() {
    let mut replay = Replay::of(ROLLING);
    let set = "rolling/web/tcp/80";
    // Waiting for nothing but us: bound before they are ready, or nobody could open their gate.
    replay.until(1_413).has(
        set,
        &[
            "10.244.0.2:9376 dbcc 10",
            "10.244.0.3:9376 f3cc 10",
            "10.244.0.4:9376 12b7 10",
            "10.244.0.5:9376 613f 10",
        ],
    );
    let before = replay.until(5_569).checked.builder.snapshot().version;
    let with_new = [
        "10.244.0.2:9376 dbcc 10",
        "10.244.0.3:9376 f3cc 10",
        "10.244.0.4:9376 12b7 10",
        "10.244.0.5:9376 613f 10",
        "10.244.0.6:9376 ecdb 10",
    ];
    replay.until(5_570).has(set, &with_new);
    // Its gate opens; until the slice says ready it is neither waiting for us nor ready, and must not lose its weight.
    replay.until(6_616).has(set, &with_new);
    let after = replay.checked.builder.snapshot().version;
    assert_eq!(
        after,
        before + 1,
        "the gate's opening changes nothing for the proxies"
    );
    let closed = [
        "10.244.0.2:9376 dbcc 10",
        "10.244.0.3:9376 f3cc 0",
        "10.244.0.4:9376 12b7 10",
        "10.244.0.5:9376 613f 10",
        "10.244.0.6:9376 ecdb 10",
    ];
    replay.until(6_617).has(set, &closed); // at once: the slice follows only at 6658
    replay.until(6_658).has(set, &closed);
    assert!(!replay.has_ended("f3cc"));
    replay.until(9_634).has(
        set,
        &[
            "10.244.0.2:9376 dbcc 0",
            "10.244.0.3:9376 f3cc 0",
            "10.244.0.4:9376 12b7 10",
            "10.244.0.5:9376 613f 10",
            "10.244.0.6:9376 ecdb 10",
            "10.244.0.7:9376 99a7 10",
            "10.244.0.8:9376 09ec 10",
        ],
    );
    let gone = [
        "10.244.0.2:9376 dbcc 0",
        "10.244.0.4:9376 12b7 10",
        "10.244.0.5:9376 613f 10",
        "10.244.0.6:9376 ecdb 10",
        "10.244.0.7:9376 99a7 10",
        "10.244.0.8:9376 09ec 10",
    ];
    replay.until(9_655).has(set, &gone);
    assert!(replay.has_ended("f3cc"), "its connections are cut");
}

#[test]
fn an_address_that_is_used_again_is_another_backend() {
    let mut replay = Replay::of(ROLLING);
    let set = "rolling/web/tcp/80";
    replay.until(9_655);
    replay.until(11_006).has(
        set,
        &[
            "10.244.0.2:9376 dbcc 0",
            "10.244.0.3:9376 8467 10",
            "10.244.0.4:9376 12b7 0",
            "10.244.0.5:9376 613f 10",
            "10.244.0.6:9376 ecdb 10",
            "10.244.0.7:9376 99a7 10",
            "10.244.0.8:9376 09ec 10",
        ],
    );
    assert!(replay.has_ended("f3cc") && !replay.has_ended("8467"));
    replay.end().has(
        set,
        &[
            "10.244.0.3:9376 8467 10",
            "10.244.0.6:9376 ecdb 10",
            "10.244.0.7:9376 99a7 10",
            "10.244.0.8:9376 09ec 10",
        ],
    );
    for id in ["f3cc", "dbcc", "12b7", "613f"] {
        assert!(replay.has_ended(id), "{id}");
    }
}

#[test]
fn a_terminating_pod_may_leave_its_slice_before_it_tells() {
    // The same stream, with everything that Pods say a slice event later: the order between kinds means nothing.
    let mut replay = Replay::of(ROLLING);
    let lines = std::mem::take(&mut replay.lines);
    let late = |(t_ms, line): &(u64, Value)| line["kind"] == "Pod" && *t_ms > 9_000;
    let (mut pods, others): (Vec<_>, Vec<_>) = lines.into_iter().partition(late);
    for (t_ms, _) in &mut pods {
        *t_ms += 60;
    }
    replay.lines = [pods, others].concat();
    replay.lines.sort_by_key(|(t_ms, _)| *t_ms);
    replay.until(9_655);
    assert!(
        replay.has_ended("f3cc"),
        "its endpoint left while it was terminating"
    );
    replay.end().has(
        "rolling/web/tcp/80",
        &[
            "10.244.0.3:9376 8467 10",
            "10.244.0.6:9376 ecdb 10",
            "10.244.0.7:9376 99a7 10",
            "10.244.0.8:9376 09ec 10",
        ],
    );
}

#[test]
fn tcp_and_udp_of_one_number_are_told_apart() {
    let mut replay = Replay::of(ROLLING);
    replay.until(5_000);
    let plan = replay.plan("rolling/web").unwrap();
    let ports: Vec<_> = plan
        .ports
        .iter()
        .map(|port| {
            (
                port.port,
                port.protocol.as_str(),
                port.error.map(note::Reason::as_str),
            )
        })
        .collect();
    assert_eq!(
        ports,
        [(80, "TCP", None), (53, "UDP", None), (53, "TCP", None)]
    );
    assert_eq!(replay.reasons("rolling/web"), [""; 0]);
    let first = &replay.checked.backends("rolling/web/tcp/53")[0];
    assert_eq!(first, "10.244.0.2:53 dbcc 10");
}

#[test]
fn scaling_ends_with_the_pods_that_are_left() {
    let mut replay = Replay::of(include_str!("../../../tests/fixtures/scale.jsonl"));
    let set = "scale/web/tcp/80";
    let mut most = 0;
    while replay.next < replay.lines.len() {
        let t_ms = replay.lines[replay.next].0;
        replay.until(t_ms);
        let bound = replay.checked.backends(set);
        most = most.max(
            bound
                .iter()
                .filter(|backend| backend.ends_with(" 10"))
                .count(),
        );
    }
    assert_eq!(most, 50);
    let bound = replay.checked.backends(set);
    assert_eq!(bound.len(), 3, "{bound:?}");
    assert!(bound.iter().all(|backend| backend.ends_with(" 10")));
    assert_eq!(replay.checked.builder.snapshot().ended.len(), 47);
    let memory = replay.checked.builder.memory().clone();
    let besides_plans = Memory {
        last: BTreeMap::new(),
        ..memory
    };
    assert_eq!(besides_plans, Memory::default());
}

#[test]
fn a_flapping_pod_loses_its_weight_and_nothing_else() {
    let mut replay = Replay::of(include_str!("../../../tests/fixtures/flap.jsonl"));
    replay.checked.builder.options.default_direct = true;
    let set = "flap/web/tcp/80";
    let (b, c) = ("10.244.0.3:9376 4fb0 10", "10.244.0.4:9376 42be 10");
    replay
        .until(3_228)
        .has(set, &["10.244.0.2:9376 c97a 10", b, c]);
    for (t_ms, weight) in [
        (3_229, 0),
        (5_240, 10),
        (7_286, 0),
        (9_307, 10),
        (11_345, 0),
        (11_486, 10),
        (11_645, 0),
        (11_806, 10),
        (11_962, 0),
        (12_020, 10),
    ] {
        let a = format!("10.244.0.2:9376 c97a {weight}");
        replay.until(t_ms).has(set, &[&a, b, c]);
    }
    // Terminating and serving, then not serving: weight 0 from the first moment, and bound until it has ended.
    replay
        .until(14_016)
        .has(set, &["10.244.0.2:9376 c97a 0", b, c]);
    replay
        .until(19_038)
        .has(set, &["10.244.0.2:9376 c97a 0", b, c]);
    replay.until(19_039).has(set, &[b, c]);
    assert!(replay.has_ended("c97a"));
    // Failed, without any deletion.
    replay.until(20_618).has(set, &[b, c]);
    replay.until(20_619).has(set, &[c]);
    assert!(replay.has_ended("4fb0"));
    // Deleted by force: the last one keeps its weight until it is gone.
    replay.until(22_624).has(set, &[c]);
    replay.until(22_628).has(set, GONE);
    assert!(replay.has_ended("42be"));
    // The same name and address again is another backend; it leaves by its label, and lives on.
    replay.until(25_366).has(set, &["10.244.0.2:9376 4afb 0"]);
    replay.until(26_672).has(set, &["10.244.0.2:9376 4afb 10"]);
    replay.end().has(set, GONE);
    assert!(!replay.has_ended("4afb"));
}

#[test]
fn pods_of_a_dead_node_get_nothing_new() {
    let mut replay = Replay::of(include_str!("../../../tests/fixtures/nodes.jsonl"));
    let web = "nodes/web/tcp/80/nodeport";
    let port = replay.until(2_580).checked.backends(web)[0].clone();
    let port = port.split([':', ' ']).nth(1).unwrap().to_owned();
    let all = [10, 11, 12];
    let bound = |replay: &Replay| -> Vec<u8> {
        let backends = replay.checked.backends(web);
        let prefix = "10.199.0.";
        let last = |text: &String| {
            let (host, rest) = text.strip_prefix(prefix)?.split_once(':')?;
            assert!(rest.starts_with(&port) && rest.ends_with(" 10"), "{text}");
            host.parse().ok()
        };
        backends.iter().filter_map(last).collect()
    };
    assert_eq!(bound(&replay), all);
    replay.until(4_604);
    assert_eq!(bound(&replay), all, "not ready: probes know better");
    replay.until(14_703);
    assert_eq!(bound(&replay), all, "cordoned: nothing to do with traffic");
    replay.until(23_887);
    assert_eq!(bound(&replay), [11, 12], "kept out by its label");
    assert!(
        replay.checked.builder.snapshot().ended.is_empty(),
        "it is no dead node"
    );
    replay.until(30_170);
    assert_eq!(bound(&replay), all);
    replay.until(99_677);
    assert_eq!(bound(&replay), all);
    replay.until(105_888);
    assert_eq!(bound(&replay), [10, 11]);
    assert_eq!(
        replay.checked.builder.snapshot().ended.len(),
        1,
        "a dead node"
    );

    // The same straight to Pods.
    let mut replay = Replay::of(include_str!("../../../tests/fixtures/nodes.jsonl"));
    replay.checked.builder.options.default_direct = true;
    let set = "nodes/web/tcp/80";
    let (b, c) = ("10.244.0.4:9376 11eb 10", "10.244.0.5:9376 7dfa 10");
    let lost = "10.244.3.2:9376 7713 0";
    replay
        .until(84_569)
        .has(set, &[b, c, "10.244.3.2:9376 7713 10"]);
    replay.until(84_570).has(set, &[b, c, lost]);
    replay.until(99_666).has(set, &[b, c, lost]);
    replay.until(106_615).has(set, &[b, c, lost]);
    assert!(!replay.has_ended("7713"), "nobody knows");
    replay
        .until(106_616)
        .has(set, &["10.244.0.2:9376 a1ca 10", b, c]);
    assert!(replay.has_ended("7713"));
    replay.end().has(set, &["10.244.0.2:9376 a1ca 10", b, c]);
}

#[test]
fn gated_pods_of_a_dead_node_get_nothing_new() {
    // As recorded, but the Pods have our gate, and had it opened.
    let gate = crate::cluster::pod::GATE;
    let mut replay = Replay::of(include_str!("../../../tests/fixtures/nodes.jsonl"));
    replay.checked.builder.options.default_direct = true;
    for (_, line) in &mut replay.lines {
        if line["kind"] == "Pod" && line["type"] != "BOOKMARK" {
            line["object"]["spec"]["readinessGates"] =
                serde_json::json!([{ "conditionType": gate }]);
            if let Some(conditions) = line["object"]["status"]["conditions"].as_array_mut() {
                conditions.push(serde_json::json!({ "type": gate, "status": "True" }));
            }
        }
    }
    let set = "nodes/web/tcp/80";
    let (b, c) = ("10.244.0.4:9376 11eb 10", "10.244.0.5:9376 7dfa 10");
    replay
        .until(84_540)
        .has(set, &[b, c, "10.244.3.2:9376 7713 10"]);
    for t_ms in [84_570, 90_000, 99_666, 106_615] {
        replay
            .until(t_ms)
            .has(set, &[b, c, "10.244.3.2:9376 7713 0"]);
    }
}

#[test]
fn edits_of_a_service_are_followed() {
    let mut replay = Replay::of(EDITS);
    let through_nodes = |port: u16| [format!("10.199.0.10:{port}"), format!("10.199.0.11:{port}")];
    let check_nodes = |replay: &Replay, set: &str, port: u16| {
        let backends = replay.checked.backends(set);
        let addresses: Vec<_> = backends
            .iter()
            .filter_map(|text| text.split(' ').next())
            .collect();
        assert_eq!(addresses, through_nodes(port), "{set}");
    };
    replay.until(3_536);
    check_nodes(&replay, "edits/web/tcp/80/nodeport", 31_568);
    assert_eq!(replay.reasons("edits/web"), ["NodePortMode"]);
    replay.until(3_537);
    check_nodes(&replay, "edits/web/tcp/443/nodeport", 30_090);
    replay
        .until(5_048)
        .has("edits/web/tcp/443/nodeport", &["no set"]);
    replay
        .until(6_550)
        .has("edits/web/tcp/80/nodeport", &["no set"]);
    check_nodes(&replay, "edits/web/tcp/8080/nodeport", 31_568);
    replay.until(16_000);
    check_nodes(&replay, "edits/web/tcp/80/nodeport", 31_568);
    let affinity = |replay: &Replay| {
        let sets = &replay.checked.builder.snapshot().sets;
        sets["edits/web/tcp/80/nodeport"].settings.affinity.clone()
    };
    assert_eq!(affinity(&replay), None);
    replay.until(17_093);
    assert!(affinity(&replay).is_some());
    replay.until(20_105);
    assert_eq!(affinity(&replay), None);
    replay.until(21_617);
    let check = |replay: &Replay| {
        let sets = &replay.checked.builder.snapshot().sets;
        sets["edits/web/tcp/80/nodeport"]
            .settings
            .health_check
            .clone()
            .unwrap()
            .port
    };
    assert!(
        check(&replay).is_some(),
        "Local: nodes say whether they have Pods"
    );
    replay.until(24_629);
    assert_eq!(check(&replay), None);
    let ranges = |replay: &Replay| {
        let listener = &replay.checked.builder.snapshot().listeners["edits/web/tcp/80"];
        format!("{:?}", listener.limits.source_ranges)
    };
    assert_eq!(ranges(&replay), "[192.0.2.0/24]");
}

#[test]
fn a_service_goes_direct_and_leaves_and_returns() {
    let mut replay = Replay::of(EDITS);
    replay.until(26_135);
    // Annotated: straight to Pods from now on, and nothing is cut.
    let pods = ["10.244.0.6:9376 99c2 10", "10.244.0.7:9376 b13c 10"];
    replay.until(26_136).has("edits/web/tcp/80", &pods);
    replay.has("edits/web/tcp/80/nodeport", &["no set"]);
    assert_eq!(replay.reasons("edits/web"), [""; 0]);
    assert!(replay.checked.builder.snapshot().ended.is_empty());
    // No load balancer any more: held until we have let go.
    replay.until(27_643).has("edits/web/tcp/80", &["no set"]);
    let standings = |replay: &Replay| replay.checked.builder.standings().clone();
    assert_eq!(
        standings(&replay),
        [(key("edits/web"), Standing::Leaving)].into()
    );
    replay.until(29_150);
    assert_eq!(standings(&replay), [].into());
    replay.until(30_962).has("edits/web/tcp/80", &pods);
    replay.until(33_484);
    assert_eq!(
        standings(&replay).len(),
        1,
        "the other one is of another class"
    );
    replay.until(36_508);
    assert_eq!(
        standings(&replay),
        [(key("edits/web"), Standing::Leaving)].into()
    );
    replay.end();
    assert_eq!(standings(&replay), [].into());
    let snapshot = replay.checked.builder.snapshot();
    assert!(snapshot.listeners.is_empty() && snapshot.sets.is_empty());
    assert!(snapshot.ended.is_empty(), "its Pods live on");
}

#[test]
fn target_ports_and_selectors_are_followed_straight_to_pods() {
    let mut replay = Replay::of(EDITS);
    replay.checked.builder.options.default_direct = true;
    let pods = ["10.244.0.6:9376 99c2 10", "10.244.0.7:9376 b13c 10"];
    let set = "edits/web/tcp/80";
    replay.until(3_536).has(set, &pods);
    let tls = ["10.244.0.6:9443 99c2 10", "10.244.0.7:9443 b13c 10"];
    replay
        .until(3_542)
        .has(set, &pods)
        .has("edits/web/tcp/443", &tls);
    replay
        .until(6_554)
        .has("edits/web/tcp/8080", &pods)
        .has(set, &["no set"]);
    replay.until(9_558).has(set, &pods);
    replay.until(9_564).has(set, GONE); // the target port is on no container
    assert_eq!(replay.reasons("edits/web"), ["PortNotOnPod"]);
    replay.until(11_070).has(set, &pods);
    assert_eq!(replay.reasons("edits/web"), [""; 0]);
    replay.until(12_574).has(set, &["10.244.0.3:9376 c4c1 10"]);
    replay.until(14_084).has(set, GONE);
    replay.until(15_590).has(set, &pods);
    assert!(
        replay.checked.builder.snapshot().ended.is_empty(),
        "all of them live on"
    );
}

#[test]
fn a_service_without_a_selector_goes_where_its_slice_says() {
    let text = include_str!("../../../tests/fixtures/selectorless.json");
    let lists: Value = serde_json::from_str(text).unwrap();
    let mut replay = Replay::of("");
    replay.checked.builder.options.default_direct = true;
    for (list, kind) in [("endpointSlices", "EndpointSlice"), ("services", "Service")] {
        for object in lists[list].as_array().unwrap() {
            let line = serde_json::json!({ "type": "ADDED", "kind": kind, "object": object });
            replay.checked.change(change(&line).unwrap());
        }
    }
    replay.has(
        "big/external-db/tcp/5432",
        &[
            "192.0.2.11:5432 - 10", // says nothing, which is ready
            "192.0.2.12:5432 - 0",
            "192.0.2.13:5432 - 10",
        ],
    );
    assert_eq!(replay.reasons("big/external-db"), [""; 0]);
    assert!(replay.plan("big/mirrored").is_none(), "no load balancer");
}
