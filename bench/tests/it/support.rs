//! Pods on loopback, and plans for them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use podline_bench::load::{Outcome, Pace, Plan, Stop, Work, run_here};
use podline_bench::pod::{Options, Process};
use podline_lab::own_loopback;

pub(crate) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The program under test, which is also its Pods.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_podline-bench"))
}

/// A Pod's options, with a place of its own on the loopback.
pub(crate) fn local(index: u32) -> Options {
    let own = own_loopback();
    Options {
        http_port: own.port(),
        frames_port: own.port() + 1,
        ..Options::new(index, own.ip())
    }
}

pub(crate) fn pod(index: u32) -> Process {
    Process::start_here(binary(), &local(index)).unwrap()
}

/// Where a work's requests go.
pub(crate) fn target(pod: &Process, work: Work) -> SocketAddr {
    let options = pod.options();
    let port = match work {
        Work::Http1 { .. } | Work::Http2 { .. } | Work::Grpc { .. } | Work::IdleHttp { .. } => {
            options.http_port
        }
        _ => options.frames_port,
    };
    (options.address, port).into()
}

/// A short plan that waits for an answer as long as a slow machine may need.
pub(crate) fn plan(work: Work, pace: Pace, target: SocketAddr) -> Plan {
    Plan {
        work,
        pace,
        target,
        ports: 1,
        tls: None,
        duration: Duration::from_millis(300),
        patience: Duration::from_secs(5),
    }
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    run_here(plan, &Stop::default()).unwrap()
}

/// What holds of every outcome.
pub(crate) fn check(outcome: &Outcome) {
    assert_eq!(
        outcome.begun,
        outcome.answered + outcome.failed(),
        "{outcome:?}"
    );
    assert!(outcome.curve().is_sorted());
}
