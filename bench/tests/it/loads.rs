//! Every kind of load against a Pod that does as it should.

use std::net::SocketAddr;
use std::time::Duration;

use podline_bench::load::{self, Outcome, Pace, Stop, Work};
use podline_bench::pod::{Options, Process};
use podline_bench::wire::port;
use podline_lab::wait::until;
use podline_lab::{Lab, Segment, SegmentPlan, require_netns};

use crate::support::{binary, check, plan, pod, run, target};

/// Each kind, small.
const WORKS: &[Work] = &[
    Work::RequestResponse {
        connections: 4,
        bytes: 0,
    },
    Work::RequestResponse {
        connections: 2,
        bytes: 300_000,
    },
    Work::Connections { concurrency: 4 },
    Work::UdpFlows {
        flows: 4,
        bytes: 64,
    },
    Work::UdpFlows {
        flows: 2,
        bytes: 9000,
    },
    Work::Http1 {
        connections: 4,
        bytes: 0,
        close: false,
    },
    Work::Http1 {
        connections: 2,
        bytes: 400_000,
        close: false,
    },
    Work::Http1 {
        connections: 4,
        bytes: 10,
        close: true,
    },
    Work::Http2 {
        connections: 2,
        streams: 4,
        bytes: 0,
    },
    Work::Http2 {
        connections: 1,
        streams: 2,
        bytes: 1_500_000,
    },
    Work::Grpc {
        connections: 2,
        streams: 4,
    },
];

fn check_all_answered(work: Work, outcome: &Outcome, pod: u32) {
    check(outcome);
    assert_eq!(outcome.failed(), 0, "{work:?}: {:?}", outcome.failures);
    assert_eq!(outcome.pods, [(pod, outcome.answered)].into(), "{work:?}");
    assert_eq!(outcome.latency.len(), outcome.answered);
    let pieces: u64 = outcome.pieces.iter().map(|piece| piece.answered).sum();
    assert_eq!(pieces, outcome.answered);
}

#[test]
fn every_closed_load_is_answered() {
    let mut pod = pod(7);
    for work in WORKS {
        let before = pod.stats().unwrap();
        let outcome = run(&plan(*work, Pace::Closed, target(&pod, *work)));
        check_all_answered(*work, &outcome, 7);
        assert!(outcome.answered > 0, "{work:?}");
        let after = pod.stats().unwrap();
        let served = after.requests + after.datagrams - before.requests - before.datagrams;
        assert_eq!(served, outcome.begun, "{work:?}");
    }
}

#[test]
fn an_open_load_keeps_to_its_schedule() {
    let pod = pod(1);
    for work in WORKS {
        let outcome = run(&plan(*work, Pace::Open(200.0), target(&pod, *work)));
        check_all_answered(*work, &outcome, 1);
        assert_eq!(outcome.begun, 60, "{work:?}");
    }
}

#[test]
fn a_fast_schedule_is_split_between_two_threads() {
    let pod = pod(1);
    let work = Work::RequestResponse {
        connections: 3,
        bytes: 0,
    };
    let mut plan = plan(work, Pace::Open(120_000.0), target(&pod, work));
    plan.duration = Duration::from_millis(5);
    let outcome = run(&plan);
    check_all_answered(work, &outcome, 1);
    assert_eq!(outcome.begun, 600);
}

#[test]
fn bulk_goes_both_ways() {
    let mut pod = pod(2);
    for upload in [false, true] {
        let work = Work::Bulk { streams: 2, upload };
        let mut plan = plan(work, Pace::Closed, target(&pod, work));
        plan.duration = Duration::from_millis(500);
        let outcome = run(&plan);
        check(&outcome);
        assert_eq!((outcome.begun, outcome.failed()), (2, 0), "{outcome:?}");
        assert!(outcome.bytes > 1_000_000, "{}", outcome.bytes);
        if upload {
            until(Duration::from_secs(10), "the Pod has it all", || {
                pod.stats().unwrap().bytes > outcome.bytes * 9 / 10
            });
        } else {
            assert_eq!(outcome.pods, [(2, 2)].into());
        }
    }
}

#[test]
fn datagrams_in_bulk_are_counted_by_the_pod() {
    let mut pod = pod(1);
    let work = Work::UdpBulk { bytes: 512 };
    let outcome = run(&plan(work, Pace::Open(1000.0), target(&pod, work)));
    check(&outcome);
    assert_eq!((outcome.answered, outcome.failed()), (300, 0));
    assert_eq!(outcome.bytes, outcome.answered * 512);
    until(Duration::from_secs(10), "they have come", || {
        pod.stats().unwrap().datagrams == outcome.answered
    });
    let closed = run(&plan(work, Pace::Closed, target(&pod, work)));
    check(&closed);
    assert!(closed.answered > outcome.answered && closed.failed() == 0);
}

#[test]
fn idle_connections_are_asked_at_both_ends() {
    let mut pod = pod(1);
    for (work, all) in [
        (Work::Idle { connections: 700 }, 700),
        (Work::IdleHttp { connections: 300 }, 1000),
    ] {
        let outcome = run(&plan(work, Pace::Closed, target(&pod, work)));
        check_all_answered(work, &outcome, 1);
        assert_eq!(pod.stats().unwrap().accepted, all);
        assert_eq!(pod.stats().unwrap().requests, 2 * all);
    }
}

#[test]
fn a_stopped_load_tells_what_it_saw() {
    let mut pod = pod(1);
    let all = WORKS.iter().copied().chain([
        Work::Idle { connections: 4 },
        Work::IdleHttp { connections: 4 },
        Work::Bulk {
            streams: 1,
            upload: false,
        },
        Work::UdpBulk { bytes: 100 },
    ]);
    for work in all {
        let mut plan = plan(work, Pace::Closed, target(&pod, work));
        plan.duration = Duration::from_hours(1);
        let asked = |pod: &mut Process| {
            let stats = pod.stats().unwrap();
            stats.requests + stats.datagrams
        };
        let before = asked(&mut pod);
        let handle = load::spawn_here(&plan);
        // More than can be under way at once.
        let some = match work {
            Work::Bulk { .. } => 0,
            Work::Idle { .. } | Work::IdleHttp { .. } => 3,
            _ => 20,
        };
        until(Duration::from_secs(10), "it is asked", || {
            asked(&mut pod) > before + some
        });
        assert!(!handle.is_over());
        handle.stop();
        let outcome = handle.finish().unwrap();
        check(&outcome);
        assert_eq!(outcome.failed(), 0, "{work:?}");
        assert!(outcome.answered > 0 || some < 20, "{work:?}");
    }
    let stop = Stop::default();
    stop.stop();
    let plan = plan(WORKS[0], Pace::Closed, target(&pod, WORKS[0]));
    assert_eq!(load::run_here(&plan, &stop).unwrap().failed(), 0);
}

#[test]
fn loads_run_in_the_clients_namespace() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let small = SegmentPlan {
        proxies: 0,
        nodes: 1,
        ..SegmentPlan::default()
    };
    let segment = Segment::build(&lab, small).unwrap();
    let home = &segment.nodes[0].pods[0];
    for family in [0, 1] {
        let address = Segment::pod(0, 0)[family];
        let mut pod = Process::start(home, binary(), &Options::new(3, address)).unwrap();
        for (work, port) in [
            (WORKS[0], port::FRAMES),
            (WORKS[3], port::FRAMES),
            (WORKS[5], port::HTTP),
            (WORKS[8], port::HTTP),
        ] {
            let target = SocketAddr::new(address, port);
            let plan = plan(work, Pace::Open(300.0), target);
            let outcome = load::run(&segment.client, &plan, &Stop::default()).unwrap();
            check_all_answered(work, &outcome, 3);
        }
        let stats = pod.stats().unwrap();
        let client = Segment::CLIENT[family];
        assert_eq!(stats.sources.keys().collect::<Vec<_>>(), [&client]);
        // The node routes between them: one hop.
        let ttl = (family == 0).then_some(63);
        assert_eq!((stats.tcp_ttl, stats.udp_ttl), (ttl, ttl));
    }
}
