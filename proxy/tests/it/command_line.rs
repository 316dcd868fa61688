//! Flags, environment, `check`, and how the process ends when it cannot start.

use std::process::{Command, Output};

use podline_lab::wait;
use rustix::process::Signal;

use crate::harness::{LONG, Proxy, Start, http, pod, tcp};
use podline_lab::Behaviour;

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podline-proxy"));
    command.args(arguments).envs(environment.iter().copied());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn refused(arguments: &[&str], environment: &[(&str, &str)], code: i32, told: &str) {
    let output = run(arguments, environment);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(told), "no {told:?} in {error}");
}

#[test]
fn what_cannot_run_ends_at_once_and_says_why() {
    refused(&["--api", "0.0.0.0:9902"], &[], 2, "mTLS");
    refused(&[], &[("PODLINE_API", "unix:a,0.0.0.0:9902")], 2, "mTLS");
    let some = ["--api", "0.0.0.0:9902", "--api-cert", "c.pem"];
    refused(&some, &[], 2, "give --api-key and --api-client-ca too");
    refused(&["--workers", "0"], &[], 2, "--workers");
    refused(&["--log", "a=b=c"], &[], 1, "a=b=c");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken
        .local_addr()
        .map(|address| (taken, address.to_string()));
    let (_taken, address) = taken.unwrap();
    refused(
        &["--admin", &address, "--api", "127.0.0.1:0"],
        &[],
        1,
        &address,
    );
    let missing = [
        "--api",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--config",
        "/no/such.yaml",
    ];
    refused(&missing, &[], 1, "/no/such.yaml: No such file");
}

#[test]
fn check_tells_the_needs_of_a_good_file_and_every_problem_of_a_bad_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let path = path.to_str().unwrap();
    let good = "
listeners:
- {name: web, address: '127.0.0.1:8080', protocol: TCP, backendSet: web}
backendSets:
- name: web
  backends:
  - address: 10.0.0.1:80
";
    std::fs::write(path, good).unwrap();
    let output = run(&["check", path], &[]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}");
    for part in [
        "is valid: 1 listener, 1 backend set, 1 backend",
        "127.0.0.1:8080",
        "descriptors",
    ] {
        assert!(told.contains(part), "{told}");
    }

    let bad = good.replace("TCP, backendSet: web", "TPC, backendSet: web");
    std::fs::write(path, bad).unwrap();
    refused(
        &["check", path],
        &[],
        2,
        &format!("{path}:3: listeners[0].protocol: "),
    );
    let bad = good.replace("10.0.0.1:80", "10.0.0.1\n    weight: 101");
    std::fs::write(path, bad).unwrap();
    refused(
        &["check", path],
        &[],
        2,
        &format!("{path}:7: backendSets[0].backends[0].address: "),
    );
    refused(
        &["check", path],
        &[],
        2,
        &format!("{path}:8: backendSets[0].backends[0].weight: "),
    );
    // The daemon refuses it in the same words.
    let daemon = [
        "--api",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--config",
        path,
    ];
    refused(
        &daemon,
        &[],
        2,
        &format!("{path}:8: backendSets[0].backends[0].weight: "),
    );
}

#[test]
fn logs_are_objects_when_asked_for() {
    const ACCESS: &str = "podline::access";
    // The access log was asked for, whatever else is wanted.
    let args = vec![
        "--log-format",
        "json",
        "--access-log",
        "--log",
        "warn,podline_proxy::app=info",
    ];
    let proxy: Proxy = Start {
        args,
        ..Start::default()
    }
    .ready();
    let pod = pod("a", Behaviour::Name);
    let address = proxy.serve(&[pod.address()]);
    assert_eq!(http::ask(address).unwrap(), "a");
    wait::until(LONG, "the connection is logged", || {
        proxy.log().contains(ACCESS)
    });
    proxy.signal(Signal::TERM);
    proxy.wait_end(LONG).unwrap();
    for line in proxy.log().lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect(line);
        let said = object["message"].as_str().unwrap_or_default();
        let is_slow = said.starts_with("workers do not "); // on a machine that stands still
        assert!(object["level"] == "INFO" || is_slow, "{line}");
        assert!(
            object.get("message").is_some() || object["target"] == ACCESS,
            "{line}"
        );
    }
}

#[test]
fn the_metrics_address_serves_metrics_and_nothing_else() {
    let metrics = tcp::free_address();
    let address = metrics.to_string();
    let args = vec!["--metrics", &address];
    let proxy = Start {
        args,
        ..Start::default()
    }
    .ready();
    let pod = pod("a", Behaviour::Name);
    assert_eq!(http::ask(proxy.serve(&[pod.address()])).unwrap(), "a");
    let (status, page) = http::page(metrics, "/metrics").unwrap();
    assert_eq!(status, 200);
    assert!(
        page.contains("podline_connections_accepted_total{listener=\"web\"} 1"),
        "{page}"
    );
    assert_eq!(http::page(metrics, "/state").unwrap().0, 404);
}
