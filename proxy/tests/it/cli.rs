//! The command line: what is wrong is said at once, in words that help, with an exit code for scripts.

use std::process::{Command, Output};

use crate::harness::tcp;

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podline-proxy"));
    command.args(args).output().unwrap()
}

/// Exit code and all that was written.
fn told(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// What `check` says to a file with this text.
fn check(text: &str) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    told(&run(&["check", file.path().to_str().unwrap()]))
}

const GOOD: &str = "
listeners:
- name: web
  address: 127.0.0.1:8080
  protocol: TCP
  backendSet: web
backendSets:
- name: web
  policy: ROUND_ROBIN
  healthCheck: {type: TCP, interval: 5s}
  backends:
  - address: 10.244.1.10:8080
    weight: 10
";

#[test]
fn check_takes_a_good_file_and_says_what_it_needs() {
    let (code, text) = check(GOOD);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("127.0.0.1:8080") && text.contains("descriptors"),
        "{text}"
    );
}

#[test]
fn check_tells_every_kind_of_mistake_with_its_path() {
    let cases = [
        (
            "policy:",
            "polcy:",
            &["backendSets[0].polcy", "did you mean \"policy\""][..],
        ),
        (
            "ROUND_ROBIN",
            "ROUND_ROBBIN",
            &["backendSets[0].policy", "ROUND_ROBIN"],
        ),
        (
            "backendSet: web",
            "backendSet: wob",
            &["listeners[0].backendSet", "wob"],
        ),
        (
            "weight: 10",
            "weight: 101",
            &["backendSets[0].backends[0].weight", "101"],
        ),
        (
            "127.0.0.1:8080",
            "localhost:8080",
            &["listeners[0].address", "localhost:8080"],
        ),
        (
            "interval: 5s",
            "interval: 5",
            &["backendSets[0].healthCheck.interval"],
        ),
        ("  protocol: TCP\n", "", &["listeners[0].protocol", "TCP"]),
        (
            "    weight: 10",
            "  - address: 10.244.1.10:8080",
            &["backendSets[0].backends[1].address"],
        ),
    ];
    for (from, to, wanted) in cases {
        assert!(GOOD.contains(from));
        let (code, text) = check(&GOOD.replacen(from, to, 1));
        assert_eq!(code, Some(2), "{to}: {text}");
        for wanted in wanted {
            assert!(text.contains(wanted), "{to}: {wanted:?} is not in {text:?}");
        }
    }
}

#[test]
fn a_bad_file_at_the_start_is_told_and_nothing_is_served() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        GOOD.replace("backendSet: web", "backendSet: wob"),
    )
    .unwrap();
    let admin = tcp::free_address().to_string();
    let api = tcp::free_address().to_string();
    let path = file.path().to_str().unwrap();
    let output = run(&["--config", path, "--admin", &admin, "--api", &api]);
    let (code, text) = told(&output);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("listeners[0].backendSet"), "{text}");
}

#[test]
fn an_api_that_others_could_reach_is_refused_with_the_reason() {
    let admin = tcp::free_address().to_string();
    for api in ["0.0.0.0:9902", "[::]:9902", "192.0.2.1:9902"] {
        let (code, text) = told(&run(&["--api", api, "--admin", &admin]));
        assert!(code.is_some_and(|code| code != 0), "{api}: {text}");
        assert!(text.contains("mTLS"), "{api}: {text}");
    }
}

#[test]
fn an_admin_address_in_use_is_told_with_the_address() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = holder.local_addr().unwrap().to_string();
    let api = tcp::free_address().to_string();
    let (code, text) = told(&run(&["--admin", &admin, "--api", &api]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&admin), "{text}");
}
