//! What an override may say.

use podline_api::{Override, v1};
use v1::override_request::Action;

fn request(action: Action) -> v1::OverrideRequest {
    v1::OverrideRequest {
        set: "web".to_owned(),
        backend: Some(v1::Backend {
            address: "10.0.0.1:80".to_owned(),
            ..Default::default()
        }),
        action: action.into(),
        ..Default::default()
    }
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

#[test]
fn an_override_survives_the_wire() {
    let drain = v1::OverrideRequest {
        lasts: Some(seconds(3_600)),
        drain_timeout: Some(seconds(0)),
        note: "disk is noisy".to_owned(),
        ..request(Action::Drain)
    };
    let weight = v1::OverrideRequest {
        weight: Some(0),
        ..request(Action::Weight)
    };
    for wire in [
        drain,
        weight,
        request(Action::Undrain),
        request(Action::Drain),
    ] {
        let read = Override::try_from(wire.clone()).unwrap();
        assert_eq!(v1::OverrideRequest::from(&read), wire);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let check = |wire: v1::OverrideRequest, expected: &[&str]| {
        let invalid = Override::try_from(wire).unwrap_err();
        let found: Vec<_> = invalid.violations.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    };
    check(
        v1::OverrideRequest::default(),
        &[
            "action: is unspecified: use DRAIN or WEIGHT or UNDRAIN",
            "set: is required",
            "backend: is required",
        ],
    );
    check(
        request(Action::Weight),
        &["weight: is required for action WEIGHT"],
    );
    let wire = v1::OverrideRequest {
        weight: Some(3),
        lasts: Some(seconds(0)),
        note: "two\nlines".to_owned(),
        ..request(Action::Drain)
    };
    check(
        wire,
        &[
            "weight: is for action WEIGHT",
            "lasts: must be 1s to 720h",
            "note: must be one line of 253 characters at most",
        ],
    );
    let wire = v1::OverrideRequest {
        drain_timeout: Some(seconds(1)),
        ..request(Action::Undrain)
    };
    check(wire, &["drainTimeout: is for action DRAIN"]);
}
