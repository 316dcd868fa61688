//! Scenarios whose load balancers read requests: all that are installed answer each kind, in the clear and inside TLS.

use std::process::Command;

use podline_bench::result::{self, RunResult};
use podline_lab::require_netns;

const PEERS: &str = "haproxy,nginx,envoy,traefik";
const ALL: &str = "direct,haproxy,nginx,envoy,traefik";

/// A run of one short round. Its status is not looked at: where a machine is busy one may be too slow for its figures to
/// mean anything.
fn run(scenario: &str, subjects: &str, tests: &str) -> RunResult {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seen.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_podline-bench"));
    command.args(["run", scenario, "--subjects", subjects, "--tests", tests]);
    let proxy = std::env::var_os("PODLINE_BENCH_PROXY").into_iter();
    command.args(proxy.flat_map(|proxy| ["--podline".into(), proxy]));
    command.args(["--rounds", "1", "--seconds", "0.3", "--result"]);
    let output = command.arg(&file).output().unwrap();
    result::read(&file).unwrap_or_else(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        panic!("{error}: {said}");
    })
}

#[test]
fn each_kind_of_requests_is_answered_in_the_clear_and_inside_tls() {
    if !require_netns() {
        return;
    }
    for (scenario, subjects, tests) in [
        ("http-l7", PEERS, "http2,grpc"),
        ("https-l7", ALL, "https,https-1k,https-close"),
        ("https-l7", PEERS, "http2,grpc"),
    ] {
        let seen = run(scenario, subjects, tests);
        let has_tls = scenario == "https-l7";
        for cell in &seen.cells {
            let name = format!("{scenario} {} {}", cell.test, cell.subject);
            assert_eq!(cell.void, None, "{name}");
            let round = &cell.rounds[0];
            assert!(
                round.failures.is_empty() && round.units > 0.0,
                "{name}: {round:?}"
            );
            assert_eq!(round.suites.is_empty(), !has_tls, "{name}");
            assert!(round.suites.keys().all(|suite| suite.starts_with("TLS13_")));
        }
        for subject in subjects.split(',') {
            let cells = seen.cells.iter().filter(|cell| cell.subject == subject);
            let is_skipped = seen.skipped.contains_key(subject);
            let expected = if is_skipped {
                0
            } else {
                tests.split(',').count()
            };
            assert_eq!(cells.count(), expected, "{scenario} {subject}");
        }
    }
}
