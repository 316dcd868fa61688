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
        "1",
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
        "20",
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

/// What a scenario of a few short cells ends with, and its result.
fn tiny(file: &Path, arguments: &[&str]) -> (Output, RunResult) {
    let short = ["--rounds", "1", "--seconds", "1", "--result"];
    let all = [arguments, &short, &[file.to_str().unwrap()]].concat();
    let run = bench(&all);
    let seen = result::read(file).unwrap_or_else(|error| panic!("{error}: {}", text(&run.stderr)));
    (run, seen)
}

#[test]
fn more_of_everything_is_measured_step_by_step() {
    if !require_netns() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scale.json");
    let tests = "crr-backends-20,rr-backends-2000,crr-listeners-10,crr-connections-100";
    let arguments = ["run", "scale", "--subjects", "direct", "--tests", tests];
    let (run, seen) = tiny(&file, &arguments);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let steps = seen.cells.iter().map(|cell| {
        let step = cell.step.clone().unwrap();
        assert_eq!(
            cell.test,
            format!("{}-{}-{}", step.load, step.of, step.count)
        );
        (cell.void.clone(), cell.rounds[0].failed(), step.count)
    });
    let steps: Vec<_> = steps.collect();
    assert_eq!(
        steps,
        [
            (None, 0, 20),
            (None, 0, 2_000),
            (None, 0, 10),
            (None, 0, 100)
        ]
    );
    for cell in &seen.cells {
        let round = &cell.rounds[0];
        assert!(round.units > 0.0 && round.proxy_kib.is_some(), "{cell:#?}");
        assert!(round.proxy_cpu.is_some() && round.quantile(0.99).is_some());
        let pods: Vec<_> = round.pods.keys().copied().collect();
        assert_eq!(pods, [0, 1], "{}", cell.test);
    }
    let shown = text(&run.stdout);
    assert!(shown.contains("crr by connections"), "{shown}");
    let drawn = bench(&["report", file.to_str().unwrap()]);
    assert!(drawn.status.success(), "{}", text(&drawn.stderr));
    let page = std::fs::read_to_string(folder.path().join("scale.html")).unwrap();
    assert!(page.contains("<h2>crr by listeners</h2>"));
}

/// A program that does this.
fn script(folder: &Path, name: &str, lines: &str) {
    use std::os::unix::fs::PermissionsExt;
    let program = folder.join(name);
    std::fs::write(&program, format!("#!/bin/sh\n{lines}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_run_with_a_subject_that_died_ends_with_a_status_of_its_own() {
    if !require_netns() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("died.json");
    let dies = "[ \"$1\" = --version ] && echo envoy version: none && exit 0\nexit 7";
    script(folder.path(), "envoy", dies);
    script(folder.path(), "traefik", "exit 3");
    let peers = folder.path().to_str().unwrap();
    let arguments = |subjects| {
        let what = ["run", "source-address", "--tests", "crr"];
        [&what[..], &["--peers", peers, "--subjects", subjects]].concat()
    };
    let (run, seen) = tiny(&file, &arguments("pod,envoy"));
    assert_eq!(run.status.code(), Some(3), "{}", text(&run.stderr));
    let void = seen.cells[1].void.clone().unwrap();
    assert!(void.contains("exit status: 7"), "{void}");
    assert_eq!(seen.cells[0].void, None);
    // What does not run is named and skipped, and that is all.
    let (run, seen) = tiny(&file, &arguments("pod,traefik"));
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let skipped = &seen.skipped["traefik"];
    assert!(skipped.contains("does not run"), "{skipped}");
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
