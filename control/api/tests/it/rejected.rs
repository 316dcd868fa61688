//! A refusal arrives at the client as it left the proxy.

use podline_api::{Invalid, Name, Rejected, Violation};
use tonic::{Code, Status};

fn violations(count: usize, length: usize) -> Invalid {
    let violation = |i| Violation {
        path: format!("listeners[{i}]"),
        problem: "x".repeat(length),
    };
    Invalid {
        violations: (0..count).map(violation).collect(),
    }
}

#[test]
fn refusals_survive_the_wire() {
    let check = |rejected: Rejected, code| {
        let status = Status::from(rejected.clone());
        assert_eq!(status.code(), code);
        assert_eq!(status.message(), rejected.to_string());
        assert_eq!(Rejected::from_status(&status), Some(rejected));
    };
    check(
        Rejected::Invalid(violations(100, 30)),
        Code::InvalidArgument,
    );
    let (path, problem) = (
        "listeners[0].name".to_owned(),
        "web belongs to file".to_owned(),
    );
    check(Rejected::Conflict { path, problem }, Code::AlreadyExists);
    check(
        Rejected::Version {
            wanted: 1,
            actual: u64::MAX,
        },
        Code::Aborted,
    );
    let set = Name::try_from("web").unwrap();
    check(
        Rejected::SetVersion {
            set,
            wanted: 7,
            actual: 9,
        },
        Code::Aborted,
    );
    for epoch in [None, Some(0)] {
        check(
            Rejected::StaleEpoch {
                owner: "k8s/east".parse().unwrap(),
                epoch,
                current: 3,
            },
            Code::FailedPrecondition,
        );
    }
    let problem = "not yours".to_owned();
    check(Rejected::Forbidden { problem }, Code::PermissionDenied);
    let (path, problem) = ("set".to_owned(), "there is none".to_owned());
    check(Rejected::NotFound { path, problem }, Code::NotFound);
}

#[test]
fn other_statuses_are_no_refusals() {
    for status in [
        Status::ok(""),
        Status::invalid_argument("x"),
        Status::aborted("listeners"),
    ] {
        assert_eq!(Rejected::from_status(&status), None);
    }
}

#[test]
fn a_long_refusal_fits_a_header() {
    let status = Status::from(Rejected::Invalid(violations(100, 1_000)));
    let size = status.details().len() * 4 / 3 + status.message().len();
    assert!(size < 15_000, "{size} bytes");
    let Some(Rejected::Invalid(invalid)) = Rejected::from_status(&status) else {
        panic!("{status:?}")
    };
    let last = invalid.violations.last().unwrap();
    assert_eq!(
        last.problem,
        format!(
            "there are more problems; the first {} of 100 are listed",
            invalid.violations.len() - 1
        )
    );
}
