//! What is known of a proxy by its events and answers, case by case.

use podline_api::v1;
use podline_api::v1::change::Action;
use podline_api::v1::drained::Stage;
use podline_api::v1::listener_status::State;
use podline_api::v1::watch_response::Event;

use super::{key, listener, name, owner, set};
use crate::push::observe::Observation;

fn status(text: &str, backends: &[(u8, v1::Health)]) -> v1::BackendSetStatus {
    let backends = backends.iter().map(|(n, health)| v1::BackendStatus {
        backend: Some((&key(*n)).into()),
        health: (*health).into(),
        ..Default::default()
    });
    v1::BackendSetStatus {
        set: Some(set(text, []).settings.to_wire(&name(text))),
        owner: "k8s/east".to_owned(),
        backends: backends.collect(),
        ..Default::default()
    }
}

fn state(version: u64, sets: Vec<v1::BackendSetStatus>) -> v1::GetResponse {
    v1::GetResponse {
        version,
        ready: true,
        backend_sets: sets,
        ..Default::default()
    }
}

fn health(version: u64, text: &str, n: u8, to: v1::Health) -> Event {
    Event::Health(v1::HealthChanged {
        set: text.to_owned(),
        backend: Some((&key(n)).into()),
        to: to.into(),
        version,
        ..Default::default()
    })
}

fn applied(by: &str, what: &str, action: Action) -> Event {
    Event::Applied(v1::Applied {
        version: 0,
        owner: by.to_owned(),
        changes: vec![v1::Change {
            what: what.to_owned(),
            action: action.into(),
            ..Default::default()
        }],
    })
}

fn empty(text: &str, n: u8) -> Event {
    Event::Drained(v1::Drained {
        set: text.to_owned(),
        backend: Some((&key(n)).into()),
        stage: Stage::Empty.into(),
        forced: 0,
    })
}

fn listener_is(text: &str, state: State, reason: &str) -> Event {
    Event::Listener(v1::ListenerChanged {
        name: text.to_owned(),
        state: state.into(),
        reason: reason.to_owned(),
    })
}

fn check(seen: &Observation, text: &str, expected: Option<&[u8]>) {
    let healthy = seen.healthy().0.get(&name(text));
    let healthy = healthy.map(|set| set.iter().cloned().collect::<Vec<_>>());
    let expected = expected.map(|all| all.iter().copied().map(key).collect::<Vec<_>>());
    assert_eq!(healthy, expected);
}

use v1::Health::{Detecting, Disabled, Healthy, Unhealthy};

/// Set `web` of ours with a healthy backend, one without a check and two others; a foreign one beside it.
fn started() -> Observation {
    let mut seen = Observation::new(owner());
    let mut draining = status("web", &[(5, Healthy)]).backends;
    draining[0].draining = true;
    let mut ours = status(
        "web",
        &[(1, Healthy), (2, Disabled), (3, Unhealthy), (4, Detecting)],
    );
    ours.backends.extend(draining);
    let foreign = v1::BackendSetStatus {
        owner: "file".to_owned(),
        ..status("theirs", &[(1, Healthy)])
    };
    seen.start(state(5, vec![ours, foreign]));
    seen
}

#[test]
fn health_of_our_backends_is_followed() {
    let mut seen = started();
    check(&seen, "web", Some(&[1, 2]));
    check(&seen, "theirs", None);
    let revision = seen.healthy().1;
    seen.on(health(6, "web", 4, Healthy));
    seen.on(health(6, "web", 1, Unhealthy));
    seen.on(health(6, "theirs", 4, Healthy));
    check(&seen, "web", Some(&[2, 4]));
    check(&seen, "theirs", None);
    assert_eq!(seen.healthy().1, revision + 2);
    seen.on(health(7, "web", 1, Unhealthy));
    assert_eq!(seen.healthy().1, revision + 2, "nothing changed");
}

#[test]
fn what_failing_probes_say_is_followed() {
    let mut seen = started();
    let words = |seen: &Observation, n| {
        let set = name("web");
        let key = key(n);
        let keys = seen.unhealthy().get(&set);
        keys.and_then(|keys| keys.get(&key))
            .map(ToString::to_string)
    };
    assert_eq!(words(&seen, 3).as_deref(), Some(""));
    assert_eq!(words(&seen, 1), None);
    let revision = seen.healthy().1;
    let mut refused = health(6, "web", 1, Unhealthy);
    if let Event::Health(health) = &mut refused {
        "refused".clone_into(&mut health.reason);
    }
    seen.on(refused);
    assert_eq!(words(&seen, 1).as_deref(), Some("refused"));
    assert_eq!(seen.healthy().1, revision + 1);
    seen.on(health(7, "web", 1, Healthy));
    seen.on(health(7, "web", 3, Detecting));
    assert!(seen.unhealthy().is_empty());
    assert_eq!(seen.healthy().1, revision + 3);
}

#[test]
fn a_set_that_changed_is_asked_for_and_newer_events_count() {
    let mut seen = started();
    assert_eq!(seen.ask(true).backend_sets, [" "], "readiness alone");
    seen.answered(&state(5, vec![]));
    seen.on(applied("file", "set/web", Action::Changed));
    assert!(!seen.is_in_doubt());
    seen.on(applied("k8s/east", "set/web", Action::Changed));
    seen.on(applied("k8s/east", "set/new", Action::Added));
    check(&seen, "new", Some(&[]));
    assert!(seen.is_in_doubt());
    assert_eq!(seen.ask(false).backend_sets, [" "]);
    let asked = seen.ask(true);
    assert_eq!(asked.backend_sets, ["new", "web"]);
    assert!(!seen.is_in_doubt());
    // One was before the answer, one behind it.
    seen.on(health(8, "web", 1, Unhealthy));
    seen.on(health(9, "web", 2, Unhealthy));
    let sets = vec![
        status("web", &[(1, Healthy), (2, Healthy), (6, Disabled)]),
        status("new", &[(7, Disabled)]),
    ];
    seen.answered(&state(8, sets));
    check(&seen, "web", Some(&[1, 6]));
    check(&seen, "new", Some(&[7]));
}

#[test]
fn an_answer_to_what_was_asked_before_a_watch_began_anew_is_too_old() {
    let mut seen = started();
    seen.on(applied("k8s/east", "set/web", Action::Changed));
    assert_eq!(seen.ask(true).backend_sets, ["web"]);
    seen.start(state(9, vec![status("web", &[(7, Healthy)])]));
    seen.answered(&state(8, vec![status("web", &[(1, Healthy)])]));
    check(&seen, "web", Some(&[7]));
}

#[test]
fn what_is_gone_is_not_healthy() {
    let mut seen = started();
    // A backend that comes back behind its drain is a new one.
    seen.on(empty("web", 1));
    check(&seen, "web", Some(&[2]));
    assert!(seen.is_in_doubt());
    let _ = seen.ask(true);
    seen.answered(&state(9, vec![]));
    check(&seen, "web", None);
    let mut seen = started();
    seen.on(applied("k8s/east", "set/web", Action::Removed));
    check(&seen, "web", None);
    seen.on(health(9, "web", 1, Healthy));
    check(&seen, "web", None);
    assert!(!seen.is_in_doubt());
}

#[test]
fn listeners_that_cannot_be_bound_are_told() {
    let mut seen = Observation::new(owner());
    let status = |text: &str, by: &str, state: State| v1::ListenerStatus {
        listener: Some((&listener(text, 80, "web")).into()),
        owner: by.to_owned(),
        state: state.into(),
        reason: "taken".to_owned(),
        ..Default::default()
    };
    seen.start(v1::GetResponse {
        listeners: vec![
            status("a", "k8s/east", State::Failed),
            status("b", "k8s/east", State::Listening),
            status("c", "file", State::Failed),
            status("d", "k8s/east", State::Draining),
        ],
        ..Default::default()
    });
    let failed = |seen: &Observation| {
        let failed = seen.failed_listeners();
        let texts = failed.iter().map(|(name, why)| format!("{name} {why}"));
        texts.collect::<Vec<_>>()
    };
    assert_eq!(failed(&seen), ["a taken"]);
    seen.on(listener_is("a", State::Listening, ""));
    seen.on(listener_is("b", State::Failed, "no rights"));
    seen.on(listener_is("c", State::Failed, "taken"));
    seen.on(applied("k8s/east", "listener/new", Action::Added));
    seen.on(listener_is("new", State::Failed, "taken"));
    assert_eq!(failed(&seen), ["b no rights", "new taken"]);
    seen.on(applied("k8s/east", "listener/b", Action::Removed));
    assert_eq!(failed(&seen), ["new taken"]);
}

#[test]
fn readiness_and_the_highest_epoch_come_with_every_answer() {
    let mut seen = started();
    assert_eq!((seen.not_ready(), seen.epoch()), (None, None));
    seen.answered(&v1::GetResponse {
        not_ready_reason: "starting".to_owned(),
        owners: vec![v1::OwnerStatus {
            owner: "k8s/east".to_owned(),
            epoch: Some(7),
            ..Default::default()
        }],
        ..state(5, vec![])
    });
    assert_eq!(seen.not_ready(), None, "it says that it is");
    let unready = v1::GetResponse {
        ready: false,
        not_ready_reason: "starting".to_owned(),
        ..state(5, vec![])
    };
    assert_eq!(seen.epoch(), Some(7));
    seen.answered(&unready);
    assert_eq!(seen.not_ready(), Some("starting"));
    // A new connection begins anew.
    seen.start(state(1, vec![]));
    assert_eq!(seen.not_ready(), None);
    check(&seen, "web", None);
}

fn path(node: &str, state: v1::path_status::State, reason: &str) -> v1::PathStatus {
    v1::PathStatus {
        node: node.to_owned(),
        state: state.into(),
        reason: reason.to_owned(),
        ..Default::default()
    }
}

#[test]
fn ways_to_nodes_are_followed() {
    use v1::path_status::State as Way;
    let mut seen = started();
    let shown = |seen: &Observation| -> Vec<String> {
        let ways = seen.network().0.iter();
        ways.map(|((node, family), way)| {
            format!(
                "{node} {family} {} {} {}",
                way.is_proven, way.has_failed, way.reason
            )
        })
        .collect()
    };
    assert_eq!(shown(&seen), [""; 0]);
    let network = |paths, problem: &str| v1::NetworkStatus {
        paths,
        transparency_problem: problem.to_owned(),
        ..Default::default()
    };
    let mut whole = state(5, vec![]);
    whole.network = Some(network(vec![path("n1", Way::Proven, "")], "no rights"));
    seen.start(whole.clone());
    assert_eq!(
        (shown(&seen), seen.network().1),
        (vec!["n1 IPv4 true false ".to_owned()], "no rights")
    );
    let of_v6 = v1::PathStatus {
        ipv6: true,
        ..path("n1", Way::Failed, "no answer")
    };
    seen.on(Event::Path(of_v6));
    seen.on(Event::Path(path("n1", Way::Unproven, "nobody to ask")));
    seen.on(Event::Path(path("no such name!", Way::Proven, "")));
    let ways = [
        "n1 IPv4 false false nobody to ask",
        "n1 IPv6 false true no answer",
    ];
    assert_eq!(shown(&seen), ways);
    seen.answered(&state(6, vec![]));
    assert_eq!(shown(&seen), ways, "nothing was said of them");
    whole.network = Some(network(vec![], ""));
    seen.answered(&whole);
    assert_eq!((shown(&seen), seen.network().1), (vec![], ""));
}

#[test]
fn what_is_kept_out_beside_its_owner_is_followed() {
    use crate::observed::{Drained, Whose};
    use v1::override_request::Action;
    let over = |n: u8, action: Action, note: &str| v1::OverrideStatus {
        set: "web".to_owned(),
        backend: Some((&key(n)).into()),
        action: action.into(),
        note: note.to_owned(),
        ..v1::OverrideStatus::default()
    };
    let told = |status: v1::OverrideStatus, ended: bool| {
        let status = Some(status);
        Event::Override(v1::OverrideChanged { status, ended })
    };
    let check = |seen: &Observation, expected: &[(u8, Whose)]| {
        let expected = expected
            .iter()
            .map(|(n, whose)| ((name("web"), key(*n)), *whose));
        assert_eq!(seen.drained(), &expected.collect::<Drained>());
    };
    let ours = "the deletion of Pod shop/web-1 was asked for";
    let mut seen = Observation::new(owner());
    seen.start(v1::GetResponse {
        overrides: vec![over(1, Action::Drain, "disk"), over(2, Action::Weight, "")],
        ..state(5, Vec::new())
    });
    check(&seen, &[(1, Whose::Foreign)]);
    let revision = seen.healthy().1;
    seen.on(told(over(3, Action::Drain, ours), false));
    check(&seen, &[(1, Whose::Foreign), (3, Whose::Ours)]);
    assert_eq!(seen.healthy().1, revision + 1);
    seen.on(told(over(3, Action::Drain, ours), false));
    assert_eq!(seen.healthy().1, revision + 1, "nothing changed");
    seen.on(told(over(1, Action::Weight, ""), false));
    seen.on(told(over(3, Action::Drain, ours), true));
    seen.on(Event::Override(v1::OverrideChanged::default()));
    check(&seen, &[]);
    assert_eq!(seen.healthy().1, revision + 3);
}

#[test]
fn how_addresses_do_is_told_by_events_and_answers_and_that_the_proxy_leaves() {
    use crate::observed::AddressState;
    let mut seen = Observation::new(owner());
    let address = |state: v1::address_status::State| v1::AddressStatus {
        address: "192.0.2.10".to_owned(),
        state: state.into(),
        epoch: 7,
        ..Default::default()
    };
    let of = |seen: &Observation| {
        let told = seen.addresses().get(&"192.0.2.10".parse().unwrap());
        told.map(|told| (told.state, told.epoch))
    };
    seen.start(state(1, vec![]));
    assert_eq!(of(&seen), None);
    seen.on(Event::Address(address(v1::address_status::State::Holding)));
    assert_eq!(of(&seen), Some((AddressState::Holding, 7)));
    let mut answer = state(1, vec![]);
    answer.network = Some(v1::NetworkStatus {
        addresses: vec![
            address(v1::address_status::State::Conflict),
            v1::AddressStatus::default(),
        ],
        ..Default::default()
    });
    seen.ask(false);
    seen.answered(&answer);
    assert_eq!(of(&seen), Some((AddressState::Conflict, 7)));
    assert!(!seen.is_leaving());
    seen.on(Event::Leaving(v1::Leaving::default()));
    assert!(seen.is_leaving());
    seen.start(state(1, vec![]));
    assert!(!seen.is_leaving(), "another process");
    let mut leaves = state(1, vec![]);
    leaves.leaving = true;
    seen.start(leaves);
    assert!(seen.is_leaving(), "it said so before this one listened");
}
