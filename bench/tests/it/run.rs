//! `podline-bench run` and what follows it, as a person uses them.

use std::path::Path;
use std::process::{Command, Output};

use podline_bench::result::{self, RunResult};
use podline_lab::require_netns;

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podline-bench"));
    command.args(arguments);
    let proxy = std::env::var_os("PODLINE_BENCH_PROXY");
    if let (Some("run"), Some(proxy)) = (arguments.first().copied(), proxy) {
        command.arg("--podline").arg(proxy);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A short run of the headline; its result.
fn short(file: &Path, subjects: &str, tests: &str) -> RunResult {
    let file_name = file.to_str().unwrap();
    let run = bench(&[
        "run",
        "direct-vs-nodeport",
        "--subjects",
        subjects,
        "--tests",
        tests,
        "--rounds",
        "1",
        "--seconds",
        "0.3",
        "--result",
        file_name,
    ]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let shown = text(&run.stdout);
    for name in [
        "throughput",
        "hops from client to Pod",
        "client's address survived",
    ] {
        assert!(shown.contains(name), "{name} is missing in\n{shown}");
    }
    result::read(file).unwrap()
}

#[test]
fn paths_are_measured_side_by_side_compared_and_drawn() {
    if !require_netns() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.json");
    let subjects = "pod,direct,nodeport-iptables-cluster,nodeport-nftables-local";
    let seen = short(&file, subjects, "crr,udp");
    assert!(!seen.is_cut_short && seen.skipped.is_empty(), "{seen:#?}");
    assert_eq!(seen.cells.len(), 2 * 4);
    let round = |test: &str, subject: &str| {
        let mut cells = seen.cells.iter();
        let cell = cells.find(|cell| cell.test == test && cell.subject == subject);
        cell.unwrap().rounds[0].clone()
    };
    for cell in &seen.cells {
        assert_eq!(cell.void, None, "{} {}", cell.test, cell.subject);
        assert!(cell.rounds[0].units > 0.0, "{} {}", cell.test, cell.subject);
        assert_eq!(cell.rounds[0].failed(), 0, "{} {}", cell.test, cell.subject);
    }
    let hops = |subject: &str| round("crr", subject).hops;
    assert_eq!(hops("pod"), Some(1), "the node");
    assert_eq!(hops("direct"), Some(2), "the proxy and the node");
    assert_eq!(
        hops("nodeport-iptables-cluster"),
        Some(3),
        "and another node"
    );
    assert_eq!(hops("nodeport-nftables-local"), Some(2));
    assert_eq!(
        round("crr", "direct").tracked.unwrap_or(0),
        0,
        "nobody translates addresses"
    );
    assert!(
        round("crr", "nodeport-iptables-cluster")
            .tracked
            .unwrap_or(0)
            > 0
    );
    let sources = |subject: &str| {
        round("crr", subject)
            .sources
            .into_keys()
            .collect::<Vec<_>>()
    };
    assert_eq!(sources("pod"), ["client"]);
    assert_eq!(sources("direct"), ["proxy"]);
    assert_eq!(sources("nodeport-iptables-cluster"), ["node"]);
    assert_eq!(sources("nodeport-nftables-local"), ["proxy"]);

    let name = file.to_str().unwrap();
    let compared = bench(&["compare", name, name]);
    assert!(compared.status.success(), "{}", text(&compared.stderr));
    let drawn = bench(&["report", name]);
    assert!(drawn.status.success(), "{}", text(&drawn.stderr));
    let page = std::fs::read_to_string(folder.path().join("a.html")).unwrap();
    assert!(page.contains("nodeport-nftables-local") && page.contains("<svg"));
}

#[test]
fn every_pod_is_replaced_under_load() {
    if !require_netns() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roll.json");
    let run = bench(&[
        "run",
        "rollout",
        "--subjects",
        "direct",
        "--seconds",
        "14",
        "--result",
        file.to_str().unwrap(),
    ]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let seen = result::read(&file).unwrap();
    let round = &seen.cells[0].rounds[0];
    assert_eq!(round.failed(), 0, "{:?}", round.failures);
    let ended = round
        .marks
        .iter()
        .filter(|(_, what)| what.ends_with("ends"));
    assert_eq!(ended.count(), 4, "{:?}", round.marks);
    assert!(
        round.pods.keys().any(|pod| *pod >= 4),
        "new Pods answer: {:?}",
        round.pods
    );
}

#[test]
fn what_is_misspelt_is_answered_with_what_there_is() {
    let fails = |arguments: &[&str], with: &str| {
        let run = bench(arguments);
        assert!(!run.status.success());
        let error = text(&run.stderr);
        assert!(error.contains(with), "{error}");
    };
    fails(&["run", "headline"], "direct-vs-nodeport, throughput");
    fails(&["run", "udp", "--tests", "tcp"], "it has: udp, udp-bulk");
    fails(&["run", "udp", "--subjects", "haprox"], "haproxy, nginx");
    fails(
        &["run", "udp", "--result", "/nowhere/at/all.json"],
        "/nowhere/at",
    );
    fails(
        &["compare", "/nowhere.json", "/nowhere.json"],
        "/nowhere.json",
    );
    fails(&["run", "udp", "--seconds", "0"], "0.1 to 86400");
}
