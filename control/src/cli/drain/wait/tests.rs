//! The steps of a drain, and whole ones against a proxy that only plays a part.

use podline_api::{BackendKey, Name};
use v1::drained::Stage;
use v1::override_request::Action;

use super::*;
use crate::cli::Format;
use crate::cli::fake::{self, Paper, Part};
use crate::cli::sample;

const DRAINED: &str = "\
set/web 10.0.0.2:80 (pod-2): drained until 2023-11-14T22:23:20Z (0s left)
undo: podline undrain set/web 10.0.0.2:80
";

/// By address alone; the proxy knows the id.
fn request() -> Override {
    Override {
        set: Name::try_from("web").unwrap(),
        backend: BackendKey {
            id: None,
            address: "10.0.0.2:80".parse().unwrap(),
        },
        action: OverrideAction::Drain { timeout: None },
        lasts: None,
        note: String::new(),
    }
}

fn drained(id: &str, stage: Stage, forced: u64) -> v1::Drained {
    v1::Drained {
        set: "web".to_owned(),
        backend: Some(v1::Backend {
            node: None,
            id: Some(id.to_owned()),
            address: "10.0.0.2:80".to_owned(),
            weight: Some(10),
        }),
        stage: stage.into(),
        forced,
    }
}

fn overridden(action: Action, ended: bool) -> Event {
    let status = v1::OverrideStatus {
        action: action.into(),
        ..sample::drained()
    };
    Event::Override(v1::OverrideChanged {
        status: Some(status),
        ended,
    })
}

/// A drain that began with the web set's pod-2 `drained_before` or not.
fn waiting(drained_before: bool, present: bool) -> Waiting {
    let mut before = sample::state();
    before.backend_sets[0].backends[1].overriding = drained_before.then(sample::drained);
    let answer = v1::OverrideResponse {
        version: 12,
        status: Some(v1::OverrideStatus {
            present,
            ..sample::drained()
        }),
        changed: true,
    };
    Waiting::new(&request(), answer, &before)
}

#[test]
fn no_connections_mean_empty_only_when_none_can_come() {
    let mut drain = waiting(false, true);
    assert_eq!(drain.on_count(0), Step::Nothing);
    let closed = drained("pod-2", Stage::Closed, 0);
    let step = drain.on_event(&Event::Drained(closed.clone()));
    assert_eq!(step, Step::Closed(closed));
    // The first zero gives way to the event, which knows how many were cut.
    for left in [0, 1, 0] {
        assert_eq!(drain.on_count(left), Step::Nothing);
    }
    assert!(matches!(drain.on_count(0), Step::Empty(_)));
    // No event comes of what happened before, or cannot happen.
    for mut drain in [waiting(true, true), waiting(false, false)] {
        assert_eq!(drain.on_count(0), Step::Nothing);
        assert!(matches!(drain.on_count(0), Step::Empty(_)));
    }
}

#[test]
fn only_this_drain_counts() {
    let mut drain = waiting(false, true);
    let mut check = |event: Event, expected: Step| assert_eq!(drain.on_event(&event), expected);
    // Who was at this address before.
    check(
        Event::Drained(drained("pod-1", Stage::Empty, 0)),
        Step::Nothing,
    );
    let other_set = v1::Drained {
        set: "db".to_owned(),
        ..drained("pod-2", Stage::Empty, 0)
    };
    check(Event::Drained(other_set), Step::Nothing);
    check(overridden(Action::Drain, false), Step::Nothing);
    check(overridden(Action::Weight, true), Step::Nothing);
    check(overridden(Action::Weight, false), Step::Undone);
    check(overridden(Action::Drain, true), Step::Undone);
}

#[test]
fn the_limit_is_what_was_asked_for_or_the_drain_timeout_and_some_more() {
    let check = |limit, timeout: Option<u64>, seconds| {
        let timeout = timeout.map(Duration::from_secs);
        let request = Override {
            action: OverrideAction::Drain { timeout },
            ..request()
        };
        let found = longest(limit, &request, &sample::state());
        assert_eq!(found, Duration::from_secs(seconds));
    };
    check(limit("7s").unwrap(), Some(5), 7);
    check(limit("").unwrap(), Some(5), 15);
    check(limit("").unwrap(), None, 40);
    assert!(limit("soon").unwrap_err().contains("not a duration"));
}

/// What a drain of a proxy that plays `part` writes, and how it ends.
async fn told(part: Part, limit: Limit, format: Format) -> (String, Result<Exit, String>) {
    let (client, _) = fake::proxy(part).await;
    let paper = Paper::default();
    let mut screen = Screen::new(Box::new(paper.clone()), format, false);
    let end = run(&client, &request(), limit, &mut screen).await;
    (paper.text(), end.map_err(|failure| failure.explain()))
}

#[tokio::test]
async fn a_drain_is_followed_to_its_end() {
    let part = || Part {
        events: vec![
            Event::Drained(drained("pod-2", Stage::Closed, 0)),
            Event::Drained(drained("pod-2", Stage::Empty, 2)),
        ],
        left: Some(3),
        state: sample::state(),
        ..Part::default()
    };
    let limit = Limit::Time(Duration::from_mins(1));
    let text = format!(
        "{DRAINED}\
set/web 10.0.0.2:80 (pod-2) is closed: it gets no new connection, 3 connections left
set/web 10.0.0.2:80 (pod-2) is empty: 2 connections were cut at the deadline
"
    );
    let found = told(part(), limit, Format::Table).await;
    assert_eq!(found, (text, Ok(Exit::Done)));

    let (text, end) = told(part(), limit, Format::Json).await;
    assert_eq!(end, Ok(Exit::Done));
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["status"]["action"], "DRAIN");
    assert_eq!(
        [&lines[1]["stage"], &lines[2]["stage"]],
        ["CLOSED", "EMPTY"]
    );
}

#[tokio::test]
async fn what_was_drained_and_empty_before_is_not_waited_for() {
    let mut state = sample::state();
    state.backend_sets[0].backends[1].overriding = Some(sample::drained());
    let part = Part {
        left: Some(0),
        state,
        ..Part::default()
    };
    let limit = Limit::Time(Duration::from_mins(1));
    let text =
        format!("{DRAINED}set/web 10.0.0.2:80 (pod-2) is empty: its last connection ended\n");
    let found = told(part, limit, Format::Table).await;
    assert_eq!(found, (text, Ok(Exit::Done)));
}

#[tokio::test]
async fn what_does_not_end_in_time_is_told_with_what_is_left() {
    let part = Part {
        left: Some(3),
        state: sample::state(),
        ..Part::default()
    };
    let limit = Limit::Time(Duration::from_millis(10));
    let (text, end) = told(part, limit, Format::Table).await;
    assert_eq!(text, DRAINED);
    let expected =
        "error: set/web 10.0.0.2:80 (pod-2): 3 connections left after 10ms; it stays drained\n";
    assert_eq!(end, Err(expected.to_owned()));
    assert_eq!(Failure::NotEmpty(String::new()).exit(), Exit::NotEmpty);
}

#[tokio::test]
async fn a_drain_that_somebody_undoes_is_not_waited_for() {
    let part = Part {
        events: vec![overridden(Action::Drain, true)],
        left: Some(1),
        state: sample::state(),
        ..Part::default()
    };
    let limit = Limit::Time(Duration::from_mins(1));
    let (_, end) = told(part, limit, Format::Table).await;
    let expected =
        "error: set/web 10.0.0.2:80 (pod-2): 1 connection left when the drain was ended\n";
    assert_eq!(end, Err(expected.to_owned()));
}
