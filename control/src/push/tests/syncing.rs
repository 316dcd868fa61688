//! What a proxy is sent, case by case.

use std::sync::Arc;

use podline_api::{
    Affinity, AffinityKind, BackendSet, Http, HttpRoute, Listener, Name, PathMatch, Policy,
    Protocol, RouteAction, v1,
};

use super::model::{BAD_RETRIES, BAD_WEIGHT, Bench};
use super::{Build, backend, key, listener, name, set, web};
use crate::push::Reign;
use crate::push::sync::Step;
use crate::snapshot::Snapshot;

/// A request in short: what it puts and removes.
fn short(request: &v1::ApplyRequest) -> String {
    let mut words = Vec::new();
    if request.replace_owned {
        words.push("full".to_owned());
    }
    if let Some(network) = &request.network {
        let nodes: Vec<_> = network.nodes.iter().map(|node| &*node.name).collect();
        let share = network.port_share.map_or_else(String::new, |share| {
            format!(" {}/{}", share.slot, share.slots)
        });
        if !nodes.is_empty() || !share.is_empty() {
            words.push(format!("network {}{share}", nodes.join("+")));
        }
    }
    words.extend(
        request
            .backend_sets
            .iter()
            .map(|s| format!("set {}", s.name)),
    );
    for change in &request.backend_changes {
        let short = |sign: char, b: &v1::Backend| format!("{sign}{}", b.id.as_deref().unwrap());
        let upsert = change.upsert.iter().map(|b| short('+', b));
        let remove = change.remove.iter().map(|b| short('-', b));
        let what: Vec<String> = upsert.chain(remove).collect();
        let cut = change.drain_timeout.map_or("", |_| " cut");
        words.push(format!("{} {}{cut}", change.set, what.join(" ")));
    }
    words.extend(
        request
            .listeners
            .iter()
            .map(|l| format!("listener {}", l.name)),
    );
    let gone = request.remove_listeners.iter();
    words.extend(gone.map(|l| format!("no listener {l}")));
    let gone = request.remove_backend_sets.iter();
    words.extend(gone.map(|s| format!("no set {s}")));
    words.join(", ")
}

impl Bench {
    /// What was sent since the last call.
    pub(super) fn said(&mut self) -> Vec<String> {
        self.run();
        self.sent.drain(..).map(|request| short(&request)).collect()
    }

    pub(super) fn check(&mut self, snapshot: &Snapshot, expected: &[&str]) {
        self.want(snapshot);
        assert_eq!(self.said(), expected);
    }
}

fn with_retries(set: BackendSet, connect_retries: u8) -> BackendSet {
    let mut set = set;
    set.settings.connect_retries = connect_retries;
    set
}

#[test]
fn a_follower_and_a_leader_that_has_built_nothing_push_nothing() {
    let mut bench = Bench::apart();
    bench.connect(&super::FEATURES);
    bench.check(&web(), &[]);
    let mut bench = Bench::new();
    bench.pass(60_000);
    assert_eq!((bench.said(), bench.reads), (vec![], 0));
    bench.check(&web(), &["full, set web, listener web"]);
    let request = {
        bench.pass(2_000);
        bench.sent.pop().unwrap()
    };
    assert_eq!(
        (request.owner.as_str(), request.epoch),
        ("k8s/east", Some(1))
    );
}

#[test]
fn every_connection_begins_with_the_full_state_and_ends_what_is_left_over() {
    let mut bench = Bench::new();
    let old = web()
        .with_set(set("old", [7]))
        .with(listener("old", 81, "old"));
    bench.check(
        &old,
        &["full, set old, set web, listener old, listener web"],
    );
    assert_eq!(bench.sync.acked(), 1);
    bench.sync.disconnected();
    let new = old.next().without("old").without_set("old");
    bench.check(&new, &[]);
    bench.connect(&super::FEATURES);
    assert_eq!(bench.sync.acked(), 0, "not known since");
    bench.check(&new, &["full, set web, listener web"]);
    bench.model.check_is(&new);
    assert_eq!((bench.sync.acked(), bench.reads), (2, 2));
}

#[test]
fn only_what_differs_is_sent() {
    let first = web();
    let mut bench = Bench::with(&first);
    bench.check(&first.next(), &[]);
    assert_eq!(bench.sync.acked(), 2, "nothing to say is in step");
    let mut second = set("web", 2..=4);
    second.backends[0] = backend(2, 50);
    let second = first.next().next().with_set(second);
    bench.check(&second, &["web +pod-2 +pod-4 -pod-1"]);
    bench.model.check_is(&second);
    // The versions that guard changes are those of the answers.
    let third = second.next().with_set(set("web", 2..=5));
    bench.want(&third);
    bench.run();
    assert_eq!(bench.sent[0].backend_changes[0].if_version, Some(2));
    assert_eq!(bench.said(), ["web +pod-2 +pod-5"]);
    let all = third
        .next()
        .with_set(set("api", [9]))
        .with(listener("api", 81, "api"))
        .without("web")
        .without_set("web");
    bench.check(
        &all,
        &["set api, listener api, no listener web, no set web"],
    );
    bench.model.check_is(&all);
    // A copy that is equal is no difference, and is not looked at again.
    let copy = all.next().with_set(set("api", [9]));
    bench.check(&copy, &[]);
}

#[test]
fn settings_go_with_the_whole_set() {
    let mut bench = Bench::with(&web());
    let changed = with_retries(set("web", 1..=4), 5);
    let second = web().next().with_set(changed);
    bench.check(&second, &["set web"]);
    bench.model.check_is(&second);
}

#[test]
fn one_request_is_under_way_and_the_newest_snapshot_wins() {
    let mut bench = Bench::with(&web());
    let second = web().next().with_set(set("web", 1..=4));
    bench.want(&second);
    let Step::Send(first) = bench.sync.poll(0) else {
        panic!("nothing is sent");
    };
    assert_eq!(short(&first), "web +pod-4");
    let mut last = second;
    for n in 5..=20 {
        last = last.next().with_set(set("web", 1..=n));
        bench.want(&last);
        assert_eq!(bench.said(), [""; 0]);
    }
    let answer = bench.model.apply(*first);
    bench.now_ms = 700;
    bench.answer(&answer);
    assert_eq!(bench.sync.acked(), 2);
    assert_eq!(bench.sync.behind_since_ms(), Some(0), "since version 3");
    assert_eq!(bench.said().len(), 1);
    bench.model.check_is(&last);
    assert_eq!(bench.sync.acked(), last.version);
    assert_eq!(bench.sync.behind_since_ms(), None);
}

#[test]
fn an_answer_that_does_not_come_loses_the_connection() {
    let mut bench = Bench::new();
    bench.want(&web());
    assert!(matches!(bench.sync.poll(0), Step::Read));
    assert!(matches!(bench.sync.poll(4_999), Step::Wait(Some(5_000))));
    assert!(matches!(bench.sync.poll(5_000), Step::Lost));
    let mut bench = Bench::with(&web());
    assert!(matches!(bench.sync.poll(2_000), Step::Send(_)));
    assert!(matches!(bench.sync.poll(7_000), Step::Lost));
}

#[test]
fn a_set_that_somebody_else_changed_goes_whole() {
    let mut bench = Bench::with(&web());
    let (theirs, version) = bench.model.sets.get_mut(&name("web")).unwrap();
    *theirs = set("web", [77]);
    *version = 99;
    let second = web().next().with_set(set("web", 1..=4));
    bench.check(&second, &["web +pod-4", "set web"]);
    bench.model.check_is(&second);
    // Also where only the backends are not those that we know.
    let (theirs, _) = bench.model.sets.get_mut(&name("web")).unwrap();
    *theirs = set("web", [77]);
    let third = second.next().with_set(set("web", 1..=3));
    bench.check(&third, &["web -pod-4", "set web"]);
    bench.model.check_is(&third);
}

#[test]
fn what_is_refused_does_not_hold_back_the_rest() {
    let mut bench = Bench::with(&web());
    bench.model.taken.insert(super::at(81));
    let second = web()
        .next()
        .with_set(set("api", [9]))
        .with(listener("a", 81, "api"))
        .with(listener("b", 82, "api"));
    bench.check(
        &second,
        &["set api, listener a, listener b", "set api, listener b"],
    );
    bench.model.check_is(&second.clone().without("a"));
    let words = ("a".to_owned(), "address: is taken".to_owned());
    assert_eq!(bench.refused(), [words]);
    assert_eq!(bench.sync.acked(), 2);
    // As long as it is wanted as it was, it is not tried; after a while it is.
    bench.check(&second.next(), &[]);
    bench.pass(29_000);
    bench.sent.retain(|request| !short(request).is_empty());
    assert_eq!(bench.said(), [""; 0]);
    bench.model.taken.clear();
    bench.pass(2_000);
    bench.sent.retain(|request| !short(request).is_empty());
    assert_eq!(bench.said(), ["listener a"]);
    bench.model.check_is(&second);
    assert_eq!(bench.refused(), []);
}

#[test]
fn what_was_refused_is_tried_at_once_when_it_is_wanted_otherwise() {
    let mut bench = Bench::new();
    bench.model.taken.insert(super::at(80));
    bench.check(&web(), &["full, set web, listener web", "full, set web"]);
    let second = web().next().with(listener("web", 81, "web"));
    bench.check(&second, &["listener web"]);
    assert_eq!(bench.refused(), []);
    // One that was taken before stays where it was.
    let third = second.next().with(listener("web", 80, "web"));
    bench.check(&third, &["listener web"]);
    assert_eq!(bench.model.listeners[&name("web")].address, super::at(81));
    // But not where another is to be.
    let fourth = third.next().with(listener("new", 81, "web"));
    bench.check(&fourth, &["listener new, no listener web"]);
    assert_eq!(bench.refused().len(), 1);
}

#[test]
fn a_set_that_was_never_taken_takes_its_listeners_with_it() {
    let mut bench = Bench::with(&web());
    bench.model.foreign.insert(name("api"));
    let second = web()
        .next()
        .with_set(set("api", [9]))
        .with(listener("api", 81, "api"));
    bench.check(&second, &["set api, listener api"]);
    bench.model.check_is(&web());
    let words = "name: belongs to another; its backend set \"api\" was refused";
    assert_eq!(bench.refused(), [("api".to_owned(), words.to_owned())]);
}

#[test]
fn a_set_keeps_its_old_settings_and_gets_new_backends_when_new_settings_are_refused() {
    let mut bench = Bench::with(&web());
    let second = web()
        .next()
        .with_set(with_retries(set("web", 1..=4), BAD_RETRIES));
    bench.check(&second, &["set web", "web +pod-4"]);
    bench.model.check_is(&web().with_set(set("web", 1..=4)));
    let third = second
        .next()
        .with_set(with_retries(set("web", 3..=5), BAD_RETRIES));
    bench.check(&third, &["web +pod-5 -pod-1 -pod-2"]);
    let words = ("web".to_owned(), "connectRetries: is bad".to_owned());
    assert_eq!(bench.refused(), [words]);
    // Also after a new connection: what the proxy has is read.
    bench.sync.disconnected();
    bench.connect(&super::FEATURES);
    assert_eq!(bench.said().len(), 2);
    bench.model.check_is(&web().with_set(set("web", 3..=5)));
    let fourth = third.next().with_set(with_retries(set("web", 3..=5), 1));
    bench.check(&fourth, &["set web"]);
    bench.model.check_is(&fourth);
}

#[test]
fn a_set_stays_as_it_was_when_a_backend_is_refused() {
    let mut bench = Bench::with(&web());
    let mut bad = set("web", 1..=4);
    bad.backends[3] = backend(4, BAD_WEIGHT.into());
    let second = web().next().with_set(bad);
    // The last makes sure that it has what it had.
    bench.check(&second, &["web +pod-4", "set web", "set web"]);
    bench.model.check_is(&web());
    let words = "backends[3].weight: is bad".to_owned();
    assert_eq!(bench.refused(), [("web".to_owned(), words)]);
    let third = second.next().with_set(set("web", 2..=4));
    bench.check(&third, &["web +pod-4 -pod-1"]);
    bench.model.check_is(&third);
}

#[test]
fn a_set_that_others_use_stays_and_holds_back_nothing() {
    let first = web().with_set(set("old", [7]));
    let mut bench = Bench::with(&first);
    bench.model.used.insert(name("old"));
    let second = first.next().without_set("old").with_set(set("web", 1..=4));
    // The refusal of the full state does not say which set, so all that would go stay.
    bench.check(
        &second,
        &[
            "web +pod-4, no set old",
            "full, set web, listener web",
            "full, set old, set web, listener web",
        ],
    );
    bench
        .model
        .check_is(&second.clone().with_set(set("old", [7])));
    assert_eq!(bench.sync.acked(), 2);
    let words = "cannot be removed: is still used".to_owned();
    assert_eq!(bench.refused(), [("old".to_owned(), words)]);
    bench.model.used.clear();
    bench.pass(31_000);
    bench.model.check_is(&second);
}

#[test]
fn a_proxy_that_refuses_everything_is_left_alone_for_longer_and_longer() {
    let mut bench = Bench::with(&web());
    bench.model.stubborn = Some("not with this certificate".to_owned());
    bench.check(
        &web().next().with_set(set("web", [1])),
        &["web -pod-2 -pod-3"],
    );
    assert_eq!(bench.sync.blocked(), Some("not with this certificate"));
    let mut tries = Vec::new();
    for _ in 0..120 {
        bench.pass(1_000);
        tries.extend(bench.said().iter().map(|_| bench.now_ms / 1_000));
    }
    assert_eq!(tries, [1, 3, 7, 15, 31, 61, 91]);
    bench.model.stubborn = None;
    bench.pass(30_000);
    assert_eq!(bench.sync.blocked(), None);
    bench.model.check_is(&web().with_set(set("web", [1])));
}

#[test]
fn a_leader_that_was_deposed_pushes_nothing_until_it_reigns_anew() {
    let mut bench = Bench::with(&web());
    bench.model.epoch = Some(5);
    let second = web().next().with_set(set("web", [1]));
    bench.check(&second, &["web -pod-2 -pod-3"]);
    assert!(bench.sync.is_deposed());
    bench.check(&second.next(), &[]);
    bench.pass(60_000);
    assert_eq!(bench.said(), [""; 0]);
    bench.sync.reign(Reign::Leader { epoch: 6 }, bench.now_ms);
    assert_eq!(bench.said(), ["full, set web, listener web"]);
    assert_eq!(bench.model.epoch, Some(6));
    bench.sync.reign(Reign::Follower, bench.now_ms);
    bench.check(&second.next().next().without("web"), &[]);
}

#[test]
fn a_proxy_is_asked_every_two_seconds_whether_it_is_well() {
    let mut bench = Bench::with(&web());
    assert_eq!(bench.run(), Some(2_000));
    bench.pass(7_000);
    let beats: Vec<_> = bench.sent.drain(..).collect();
    let beat = v1::ApplyRequest {
        owner: "k8s/east".to_owned(),
        epoch: Some(1),
        ..Default::default()
    };
    assert_eq!(beats, vec![beat; 3]);
    assert_eq!(bench.sync.last_ack_ms(), Some(6_000));
}

#[test]
fn a_version_counts_once_every_worker_acts_on_it() {
    let mut bench = Bench::with(&web());
    bench.model.silent_workers = vec![1];
    bench.check(
        &web().next().with_set(set("web", [1])),
        &["web -pod-2 -pod-3"],
    );
    bench.pass(9_000);
    assert_eq!(bench.sync.acked(), 1);
    assert_eq!(bench.sync.behind_since_ms(), Some(0));
    bench.model.silent_workers.clear();
    bench.pass(2_000);
    assert_eq!(bench.sync.acked(), 2);
    assert_eq!(bench.sync.behind_since_ms(), None);
}

#[test]
fn connections_of_what_ended_are_cut_before_others_leave() {
    let first = web().with_set(set("web", 1..=6));
    let mut bench = Bench::with(&first);
    // One kind alone goes with everything else.
    let second = first.next().with_set(set("web", 2..=7)).ended([1]);
    bench.check(&second, &["web +pod-7 -pod-1 cut"]);
    // Both kinds.
    let mut third = set("web", 4..=8);
    third.backends[2].key.id = key(99).id; // another takes the address of 6, which ended
    let third = second.next().with_set(third).ended([1, 2, 6]);
    let expected = ["web +pod-99 -pod-2 cut", "web +pod-8 -pod-3"];
    bench.check(&third, &expected);
    bench.model.check_is(&third);
    // Before other settings.
    let fourth = with_retries(set("web", 5..=5), 1);
    let fourth = third.next().with_set(fourth).ended([4]);
    bench.check(&fourth, &["web -pod-4 cut", "set web"]);
    bench.model.check_is(&fourth);
    assert_eq!(bench.sync.acked(), 4);
}

#[test]
fn what_ended_and_is_still_wanted_is_not_cut() {
    let mut bench = Bench::with(&web());
    let mut second = set("web", 1..=2);
    second.backends[1] = backend(2, 0);
    let second = web().next().with_set(second).ended([2]);
    bench.check(&second, &["web +pod-2 -pod-3"]);
}

#[test]
fn a_request_that_is_not_the_last_of_its_version_does_not_complete_it() {
    let mut bench = Bench::with(&web());
    bench.want(&web().next().with_set(set("web", [3])).ended([1]));
    assert!(bench.step().is_continue());
    assert_eq!(bench.sync.acked(), 1);
    bench.run();
    assert_eq!(bench.sync.acked(), 2);
}

#[test]
fn an_older_proxy_is_sent_nothing_that_it_does_not_know() {
    let mut bench = Bench::new();
    bench.connect(&["limits"]);
    let mut hashed = set("hashed", [5]);
    hashed.settings.policy = Policy::Maglev(podline_api::HashKey::ClientIp);
    let first = web()
        .with_set(hashed.clone())
        .with(listener("hashed", 81, "hashed"));
    bench.check(&first, &["full, set web, listener web"]);
    let refused = bench.refused();
    assert_eq!(refused.len(), 1);
    let words = "ProxyTooOld: the proxy cannot do maglev; update it";
    assert!(refused[0].1.starts_with(words), "{refused:?}");
    let second = first.next().with_set(set("web", 2..=3)).ended([1]);
    bench.check(&second, &["web -pod-1"]);
    bench.pass(60_000);
    bench.sent.retain(|request| !short(request).is_empty());
    assert_eq!(bench.said(), [""; 0]);
    // A set that it has goes on with what it can.
    let mut web_hashed = set("web", 2..=5);
    web_hashed.settings.policy = hashed.settings.policy;
    bench.check(&second.next().with_set(web_hashed), &["web +pod-4 +pod-5"]);
    bench.sync.disconnected();
    bench.connect(&super::FEATURES);
    assert_eq!(
        bench.said(),
        ["full, set hashed, set web, listener hashed, listener web"]
    );
    assert_eq!(bench.refused(), []);
}

#[test]
fn a_refusal_is_about_what_was_sent_and_not_about_what_is_wanted_now() {
    let mut bench = Bench::with(&web());
    bench.model.taken.insert(super::at(81));
    bench.want(&web().next().with(listener("web", 81, "web")));
    let Step::Send(request) = bench.sync.poll(0) else {
        panic!("nothing is sent");
    };
    let third = web().next().next().with(listener("web", 82, "web"));
    bench.want(&third);
    let answer = bench.model.apply(*request);
    bench.answer(&answer);
    assert_eq!(bench.said(), ["listener web"]);
    bench.model.check_is(&third);
    assert_eq!(bench.refused(), []);
}

#[test]
fn sharing_is_not_needed_for_a_difference_to_be_small() {
    let mut bench = Bench::with(&web());
    let mut copy = web().next();
    for set in copy.sets.values_mut() {
        *set = Arc::new((**set).clone());
    }
    bench.check(&copy, &[]);
    let names: Vec<&Name> = bench.model.sets.keys().collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn a_network_goes_alone_and_not_more_often_than_it_has_to() {
    let first = web().with_nodes(&["n1"]);
    let mut bench = Bench::new();
    bench.check(&first, &["full, network n1, set web, listener web"]);
    // Made anew, and the same.
    bench.check(&first.next().with_nodes(&["n1"]), &[]);
    let second = first.next().next().with_nodes(&["n1", "n2"]);
    bench.check(&second, &[]);
    assert_eq!(bench.sync.acked(), 3, "nobody waits for it");
    // What else differs does not wait.
    let third = second.next().with_set(set("web", 1..=4));
    bench.check(&third, &["web +pod-4"]);
    bench.pass(999);
    assert_eq!(bench.said(), [""; 0]);
    bench.pass(1);
    assert_eq!(bench.said(), ["network n1+n2"]);
    assert_eq!(bench.model.network.as_ref(), Some(&*third.network));
    bench.pass(1_500);
    bench.said();
    bench.check(&third.next().with_nodes(&["n2"]), &["network n2"]);
}

#[test]
fn each_proxy_has_its_share_of_the_ports() {
    let first = web().with_nodes(&["n1"]);
    let share = |slot, slots| Some(podline_api::PortShare { slot, slots });
    let mut bench = Bench::new();
    bench.sync.share(share(1, 2));
    bench.check(&first, &["full, network n1 1/2, set web, listener web"]);
    bench.pass(1_500);
    bench.sync.share(share(1, 2));
    assert_eq!(bench.said(), [""; 0]);
    bench.sync.share(share(2, 4));
    assert_eq!(bench.said(), ["network n1 2/4"]);
}

#[test]
fn a_network_that_is_refused_keeps_nothing_else_back() {
    let mut bench = Bench::new();
    bench.model.bad_node = Some(name("n2"));
    let first = web().with_nodes(&["n1", "n2"]);
    let whole = "full, network n1+n2, set web, listener web";
    bench.check(&first, &[whole, "full, set web, listener web"]);
    bench.model.check_is(&first);
    assert_eq!(
        bench.refused(),
        [("network".to_owned(), "name: is bad".to_owned())]
    );
    bench.check(&first.next().with_set(set("web", 1..=4)), &["web +pod-4"]);
    bench.pass(1_000);
    let second = first.next().next().with_set(set("web", 1..=4));
    bench.check(&second.with_nodes(&["n1"]), &["network n1"]);
    assert!(bench.refused().is_empty());
}

#[test]
fn who_knows_no_network_is_told_of_none() {
    let mut bench = Bench::apart();
    bench.sync.reign(Reign::Leader { epoch: 1 }, 0);
    bench.connect(&super::FEATURES[..7]);
    let first = web().with_nodes(&["n1"]);
    bench.check(&first, &["full, set web, listener web"]);
    bench.check(&first.next().with_nodes(&["n2"]), &[]);
    assert_eq!((bench.sync.acked(), bench.refused().len()), (2, 0));
}

#[test]
fn clients_are_imitated_by_who_can() {
    use podline_api::SourceAddress::{PreferTransparent, Transparent};
    use v1::listener::SourceAddress as Wire;
    let wanting = |source_address| {
        let listener = podline_api::Listener {
            source_address,
            ..listener("web", 80, "web")
        };
        web().with(listener)
    };
    let sent = |bench: &mut Bench| {
        bench.run();
        let sent = bench.sent.drain(..).filter(|it| it.replace_owned);
        let listeners = sent.flat_map(|request| request.listeners);
        listeners.map(|l| l.source_address()).collect::<Vec<_>>()
    };
    // One that does not know the wish would do the same.
    let mut old = Bench::new();
    old.want(&wanting(PreferTransparent));
    assert_eq!(sent(&mut old), [Wire::Unspecified]);
    assert!(old.refused().is_empty());
    old.pass(10_000);
    assert!(
        old.sent.iter().all(|it| it.listeners.is_empty()),
        "told once"
    );
    let mut old = Bench::new();
    old.want(&wanting(Transparent));
    assert_eq!(sent(&mut old), []);
    assert!(old.refused()[0].1.contains("cannot do source-address"));
    let mut new = Bench::apart();
    new.sync.reign(Reign::Leader { epoch: 1 }, 0);
    new.connect(&[&super::FEATURES[..], &["source-address"]].concat());
    new.want(&wanting(PreferTransparent));
    assert_eq!(sent(&mut new), [Wire::PreferTransparent]);
}

/// Requests for this path go to `set`, all others to `web`.
fn routed(path: &str, set: &str) -> Listener {
    let route = HttpRoute {
        hosts: Vec::new(),
        path: PathMatch::Prefix(path.to_owned()),
        action: RouteAction::Forward(name(set)),
    };
    Listener {
        protocol: Protocol::Http,
        http: Some(Http {
            routes: vec![route],
            ..Http::default()
        }),
        ..listener("site", 82, "web")
    }
}

#[test]
fn requests_are_for_proxies_that_know_them() {
    let mut sticky = set("sticky", [5]);
    let kind = AffinityKind::Cookie {
        name: None,
        timeout: None,
    };
    sticky.settings.affinity = Some(Affinity { kind, group: None });
    let wanted = web().with_set(sticky).with(routed("/a", "sticky"));
    let mut bench = Bench::new();
    bench.check(&wanted, &["full, set web, listener web"]);
    let words = "ProxyTooOld: the proxy cannot do http; update it";
    let refused = bench.refused();
    let names: Vec<_> = refused.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["site", "sticky"]);
    let told = |(_, said): &(String, String)| said.starts_with(words);
    assert!(refused.iter().all(told), "{refused:?}");
    bench.sync.disconnected();
    bench.connect(&[&super::FEATURES[..], &["http"]].concat());
    assert_eq!(
        bench.said(),
        ["full, set sticky, set web, listener site, listener web"]
    );
    assert_eq!(bench.refused(), []);
}

#[test]
fn a_set_that_was_never_taken_takes_the_listeners_of_its_routes_with_it() {
    let mut bench = Bench::apart();
    bench.sync.reign(Reign::Leader { epoch: 1 }, 0);
    bench.connect(&[&super::FEATURES[..], &["http"]].concat());
    bench.check(&web(), &["full, set web, listener web"]);
    bench.model.foreign.insert(name("api"));
    let second = web()
        .next()
        .with_set(set("api", [9]))
        .with(routed("/api", "api"));
    bench.check(&second, &["set api, listener site"]);
    bench.model.check_is(&web());
    let refused = bench.refused();
    let words = "its backend set \"api\" was refused".to_owned();
    assert_eq!(refused[1], ("site".to_owned(), words));
}
