//! What each failure tells, with its exit code.

use podline_api::{Name, Violation};
use tonic::Status;

use super::*;

mod tls;

fn check(failure: &Failure, exit: Exit, text: &str) {
    assert_eq!((failure.explain().as_str(), failure.exit()), (text, exit));
}

fn rejected(source: Rejected) -> Failure {
    let target = "x:1".to_owned();
    Failure::of_file(ClientError::Rejected { target, source }, "podline.yaml")
}

fn failed(status: Status) -> Failure {
    let (target, source) = ("x:1".to_owned(), Box::new(status));
    ClientError::Failed { target, source }.into()
}

fn two_problems() -> Invalid {
    let violation = |path: &str| Violation {
        path: path.to_owned(),
        problem: "is wrong".to_owned(),
    };
    Invalid {
        violations: vec![violation("listeners[0].name"), violation("")],
    }
}

#[test]
fn bad_input_is_listed_line_by_line() {
    let failure = Failure::Invalid {
        file: "podline.yaml".to_owned(),
        source: two_problems(),
    };
    let text = "\
podline.yaml: listeners[0].name: is wrong
podline.yaml: is wrong
error: podline.yaml is not valid: nothing was sent
";
    check(&failure, Exit::Usage, text);
    let source = io::Error::new(io::ErrorKind::NotFound, "no such file");
    let failure = Failure::Read {
        file: "x".to_owned(),
        source,
    };
    check(
        &failure,
        Exit::Usage,
        "error: cannot read x: no such file\n",
    );
}

#[test]
fn refusals_say_what_to_do() {
    let text = "\
podline.yaml: listeners[0].name: is wrong
podline.yaml: is wrong
error: the proxy at x:1 refused the request
  nothing was changed; mend the input, then apply it again
";
    check(
        &rejected(Rejected::Invalid(two_problems())),
        Exit::Refused,
        text,
    );
    let conflict = Rejected::Conflict {
        path: "listeners[0].name".to_owned(),
        problem: "web belongs to file".to_owned(),
    };
    let text = "\
podline.yaml: listeners[0].name: web belongs to file
error: the proxy at x:1 refused the request
  nothing was changed; use another name or address, or apply as that owner (--owner)
";
    check(&rejected(conflict), Exit::Refused, text);
    let set = Name::try_from("web").unwrap();
    let text = "\
error: the proxy at x:1 refused the request: backend set web is at version 2, not 1
  nothing was changed; somebody else changed it meanwhile: look at it, then try again
";
    check(
        &rejected(Rejected::SetVersion {
            set,
            wanted: 1,
            actual: 2,
        }),
        Exit::Refused,
        text,
    );
}

#[test]
fn refusals_of_who_asks_and_what_for_say_what_to_do() {
    let told = |source, exit, cause: &str, advice: &str| {
        let text = format!("error: the proxy at x:1 refused the request: {cause}\n  {advice}\n");
        check(&rejected(source), exit, &text);
    };
    let owner = podline_api::Owner::try_from("k8s/east").unwrap();
    told(
        Rejected::StaleEpoch {
            owner,
            epoch: Some(6),
            current: 7,
        },
        Exit::Refused,
        "owner \"k8s/east\" is at epoch 7, and this request has epoch 6: another one leads now",
        "nothing was changed; whoever leads now will do it: do not try again",
    );
    let problem = "the certificate is for k8s/east, not for file".to_owned();
    told(
        Rejected::Forbidden { problem },
        Exit::Refused,
        "the certificate is for k8s/east, not for file",
        "nothing was changed; use a certificate that allows it (--tls-cert), or ask at the proxy's own host",
    );
    told(
        Rejected::NotFound {
            path: "set".to_owned(),
            problem: "there is no backend set \"wob\"".to_owned(),
        },
        Exit::DifferentOrMissing,
        "set: there is no backend set \"wob\"",
        "podline status shows what there is",
    );
}

#[test]
fn broken_calls_are_told_apart() {
    check(
        &failed(Status::unimplemented("")),
        Exit::Refused,
        "error: the proxy at x:1 did not answer: Unimplemented\n  it is older than this podline, or no podline-proxy at all\n",
    );
    let text = "\
error: the proxy at x:1 did not answer: shutting down (Unavailable)
  it went away; a change may have been made: see podline status
";
    check(
        &failed(Status::unavailable("shutting down")),
        Exit::Unreachable,
        text,
    );
    let target = "x".to_owned();
    check(
        &ClientError::BadTarget { target }.into(),
        Exit::Usage,
        "error: \"x\" is not a proxy address: write host:port or unix:PATH\n",
    );
    let failure = Failure::NotFound(vec!["set/a".to_owned(), "listener/b".to_owned()]);
    check(
        &failure,
        Exit::DifferentOrMissing,
        "error: the proxy has no set/a, no listener/b\n",
    );
    let failure = Failure::Output(io::ErrorKind::BrokenPipe.into());
    check(&failure, Exit::Done, "");
}

#[tokio::test]
async fn nothing_listening_is_explained() {
    let error = podline_api::client::ProxyClient::connect("unix:/nonexistent/podline.sock")
        .await
        .unwrap_err();
    let text = "\
error: cannot reach the proxy at unix:/nonexistent/podline.sock: no such file or directory
  nothing was changed; is podline-proxy running with --api unix:/nonexistent/podline.sock?
  another address: --proxy ADDR|unix:PATH or PODLINE_PROXY
";
    check(&error.into(), Exit::Unreachable, text);
}
