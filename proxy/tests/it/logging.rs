//! What the process writes.

use podline_lab::{Behaviour, wait};

use crate::harness::{LONG, Start, http, pod, tcp};

#[test]
fn the_access_log_has_one_line_for_each_connection() {
    let pod = pod("a", Behaviour::Name);
    let args = vec!["--access-log", "--log-format", "json"];
    let proxy = Start {
        args,
        ..Start::default()
    }
    .ready();
    let address = proxy.serve(&[pod.address()]);
    for _ in 0..3 {
        http::ask(address).unwrap();
    }
    let backend = pod.address().to_string();
    let lines = || {
        let log = proxy.log();
        log.lines()
            .filter(|line| line.contains(&backend))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    wait::until(LONG, "three lines", || lines().len() >= 3);
    let lines = lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in lines {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(line.to_string().contains("127.0.0.1:"), "{line}");
    }
}

#[test]
fn nothing_is_logged_for_each_connection_by_default() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Start::default().ready();
    let address = proxy.serve(&[pod.address()]);
    http::ask(address).unwrap();
    proxy.wait_logged("started");
    let before = proxy.log();
    for _ in 0..20 {
        http::ask(address).unwrap();
        tcp::reset(tcp::connect(address));
    }
    wait::until(LONG, "the connections are gone", || proxy.active() == 0);
    assert_eq!(proxy.log(), before);
}
