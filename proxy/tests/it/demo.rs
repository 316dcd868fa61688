//! The demo runs by itself, and no request fails in it.

use std::process::Command;

use crate::harness::turn::Turn;

#[test]
fn the_demo_ends_well_and_sums_up() {
    let _turn = Turn::alone();
    let mut command = Command::new(env!("CARGO_BIN_EXE_podline-proxy"));
    let output = command
        .args(["demo", "--exit-after", "18s"])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    for part in [
        "pod-b healthy -> unhealthy",
        "pod-b unhealthy -> healthy",
        "pod-c empty: its last connection has ended by itself",
        "pod-d detecting -> healthy",
        "no new connection from then on",
        ", 0 failed; latency p50",
        "over HTTP on kept connections (0 reconnects): pod-a ",
    ] {
        assert!(told.contains(part), "no {part:?} in\n{told}");
    }
    assert!(!told.contains('\x1b'), "no colours outside a terminal");
    assert!(output.stderr.is_empty(), "no log noise");
}
