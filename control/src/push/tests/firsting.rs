//! What is heard of single backends, case by case.

use std::time::Duration;

use jiff::Timestamp;
use podline_api::v1;
use podline_api::v1::change::Action;
use podline_api::v1::drained::Stage;
use podline_api::v1::watch_response::Event;

use super::{key, name, set};
use crate::push::firsts::Firsts;
use crate::timeline::{Told, Wanted, What};

const NOW: i64 = 1_700_000_000_000;
/// How far the proxy's clock is ahead.
const AHEAD: i64 = 250_000;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(NOW + ms).unwrap()
}

fn theirs(ms: i64) -> prost_types::Timestamp {
    let ms = NOW + AHEAD + ms;
    let nanos = i32::try_from(ms % 1_000).unwrap() * 1_000_000;
    let seconds = ms / 1_000;
    prost_types::Timestamp { seconds, nanos }
}

/// Backends of set "web" with their firsts, as told 10 ms before it is heard.
fn state(backends: &[(u8, Option<i64>, Option<i64>)]) -> v1::GetResponse {
    let backends = backends
        .iter()
        .map(|(n, probe, connection)| v1::BackendStatus {
            backend: Some((&key(*n)).into()),
            first_probe: probe.map(theirs),
            first_connection: connection.map(theirs),
            ..Default::default()
        });
    let status = v1::BackendSetStatus {
        set: Some(set("web", []).settings.to_wire(&name("web"))),
        backends: backends.collect(),
        ..Default::default()
    };
    v1::GetResponse {
        now: Some(theirs(-10)),
        started: Some(theirs(-5_000)),
        backend_sets: vec![status],
        ..Default::default()
    }
}

fn wanted(backends: &[u8]) -> Wanted {
    [(name("web"), backends.iter().copied().map(key).collect())].into()
}

fn told(n: u8, what: What) -> Told {
    Told {
        proxy: "a".into(),
        set: name("web"),
        backend: key(n),
        what,
    }
}

fn firsts(probe: Option<i64>, connection: Option<i64>) -> What {
    What::Firsts {
        started: at(-5_000),
        probe: probe.map(at),
        connection: connection.map(at),
    }
}

const TOOK: Duration = Duration::from_millis(20);

#[test]
fn what_is_asked_for_is_told_in_our_time() {
    let mut heard = Firsts::new("a");
    let state = state(&[
        (1, Some(-900), None),
        (2, Some(-800), Some(-100)),
        (3, None, None),
    ]);
    heard.answered(&state, at(0), TOOK);
    assert_eq!(heard.take(), [], "nobody asked");
    heard.want(&wanted(&[2, 3, 4]));
    // One answer may have been on its way.
    for _ in 0..2 {
        heard.answered(&state, at(0), TOOK);
        assert_eq!(heard.take(), [told(2, firsts(Some(-800), Some(-100)))]);
    }
    heard.answered(&state, at(0), TOOK);
    assert_eq!(heard.take(), [], "it was answered");
}

#[test]
fn a_proxy_that_does_not_tell_its_time_is_not_believed() {
    let mut heard = Firsts::new("a");
    heard.want(&wanted(&[2]));
    let told = state(&[(2, Some(-800), None)]);
    let timeless = v1::GetResponse {
        now: None,
        ..told.clone()
    };
    heard.answered(&timeless, at(0), TOOK);
    let absurd = Some(prost_types::Timestamp {
        seconds: i64::MAX,
        nanos: -1,
    });
    let absurd = v1::GetResponse {
        now: absurd,
        ..told
    };
    heard.answered(&absurd, at(0), TOOK);
    assert_eq!(heard.take(), []);
}

#[test]
fn drains_are_told_as_they_end_and_what_is_removed_is_not_waited_for() {
    let mut heard = Firsts::new("a");
    let drained = |stage: Stage| {
        Event::Drained(v1::Drained {
            set: "web".to_owned(),
            backend: Some((&key(1)).into()),
            stage: stage.into(),
            forced: 0,
        })
    };
    heard.on(&drained(Stage::Closed), at(1));
    heard.on(&drained(Stage::Empty), at(2));
    heard.on(&drained(Stage::Unspecified), at(3));
    let ended = |ended| {
        Event::Override(v1::OverrideChanged {
            status: Some(v1::OverrideStatus {
                set: "web".to_owned(),
                backend: Some((&key(1)).into()),
                ..Default::default()
            }),
            ended,
        })
    };
    heard.on(&ended(false), at(4));
    heard.on(&ended(true), at(5));
    let expected = [What::Closed(at(1)), What::Empty(at(2)), What::Reopened];
    assert_eq!(heard.take(), expected.map(|what| told(1, what)));
    heard.want(&wanted(&[1]));
    heard.on(
        &Event::Applied(v1::Applied {
            changes: vec![v1::Change {
                what: "set/web".to_owned(),
                action: Action::Removed.into(),
                ..Default::default()
            }],
            ..Default::default()
        }),
        at(6),
    );
    heard.answered(&state(&[(1, Some(-9), None)]), at(10), TOOK);
    assert_eq!(heard.take(), []);
}
