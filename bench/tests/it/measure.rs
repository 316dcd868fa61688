//! What the loads themselves cost, beside wrk and iperf3 against the same Pod with no proxy between. Figures to look at, no
//! assertions: run by hand, in a release build, on a quiet machine.
//!
//! `cargo test --release -p podline-bench --test it measure -- --ignored --nocapture`
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use podline_bench::load::{Pace, Plan, Stop, Work, run};
use podline_bench::pod::{Options, Process};
use podline_bench::wire::port;
use podline_lab::{Lab, Namespace, Segment, SegmentPlan, require_netns};

use crate::support::binary;

const SECONDS: u64 = 2;
const ROUNDS: usize = 3;

/// CPU seconds of this process, and of its children that have ended.
fn cpu() -> [f64; 2] {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks = |from: usize| -> f64 {
        let sum: u64 = fields[from..from + 2]
            .iter()
            .map(|f| f.parse::<u64>().unwrap())
            .sum();
        sum as f64 / 100.0
    };
    [ticks(11), ticks(13)]
}

/// What a tool in the client's namespace says, and the CPU seconds that it took.
fn tool(client: &Namespace, argv: &[&str]) -> (String, f64) {
    let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
    let before = cpu()[1];
    let said = client.run(move || {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).stderr(Stdio::null());
        command.output().map(|output| output.stdout)
    });
    let text = String::from_utf8(said.unwrap_or_default()).unwrap();
    (text, cpu()[1] - before)
}

fn wrk(client: &Namespace, name: &str, url: &str, extra: &[&str]) {
    let seconds = format!("-d{SECONDS}s");
    let argv = [&["wrk", "-t1", "-c64", &seconds][..], extra, &[url]].concat();
    let (text, cpu) = tool(client, &argv);
    let word = |before: &str| -> Option<f64> {
        let (_, after) = text.split_once(before)?;
        after.split_whitespace().next()?.parse().ok()
    };
    let rate = word("Requests/sec:").unwrap_or(0.0);
    let per = cpu / (rate * SECONDS as f64) * 1e6;
    println!("{name:24} {rate:10.0}/s  client {per:6.2} us each");
}

fn iperf(client: &Namespace, name: &str, to: IpAddr, extra: &[&str]) {
    let (to, seconds) = (to.to_string(), SECONDS.to_string());
    let argv = [&["iperf3", "-J", "-c", &to, "-t", &seconds][..], extra].concat();
    let (text, cpu) = tool(client, &argv);
    let said: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let end = &said["end"];
    let number = |value: &serde_json::Value| value.as_f64().unwrap_or(0.0);
    let packets = number(&end["sum"]["packets"]);
    // Only TCP has a sum of what was sent beside that of datagrams.
    let bytes = number(&end["sum"]["bytes"]).max(number(&end["sum_sent"]["bytes"]));
    println!(
        "{name:24} {:10.2} GB/s {:8.0} datagrams/s  client {:6.3} s/GB",
        bytes / 1e9 / SECONDS as f64,
        packets / SECONDS as f64,
        cpu / (bytes / 1e9)
    );
}

fn ours(client: &Namespace, pod: &mut Process, name: &str, work: Work, pace: Pace) {
    let port = match work {
        Work::Http1 { .. } | Work::Http2 { .. } | Work::Grpc { .. } => port::HTTP,
        _ => port::FRAMES,
    };
    let plan = Plan {
        work,
        pace,
        target: SocketAddr::new(pod.options().address, port),
        ports: 1,
        tls: None,
        duration: Duration::from_secs(SECONDS),
        patience: Duration::from_secs(2),
    };
    let arrived = pod.stats().unwrap().datagrams;
    let before = cpu()[0];
    let outcome = run(client, &plan, &Stop::default()).unwrap();
    let cpu = cpu()[0] - before;
    let arrived = pod.stats().unwrap().datagrams - arrived;
    let seconds = outcome.elapsed.as_secs_f64();
    let us = |share: f64| outcome.latency.value_at_quantile(share) as f64 / 1000.0;
    if let Work::Bulk { .. } | Work::UdpBulk { .. } = work {
        let gigabytes = outcome.bytes as f64 / 1e9;
        let datagrams = if arrived > 0 {
            outcome.answered as f64 / seconds
        } else {
            0.0
        };
        println!(
            "{name:24} {:10.2} GB/s {datagrams:8.0} datagrams/s  client {:6.3} s/GB, arrived {arrived}, failed {:?}",
            gigabytes / seconds,
            cpu / gigabytes,
            outcome.failures
        );
        return;
    }
    println!(
        "{name:24} {:10.0}/s  client {:6.2} us each, p50 {:.0} us, p99 {:.0} us, failed {:?}",
        outcome.answered as f64 / seconds,
        cpu / outcome.answered as f64 * 1e6,
        us(0.5),
        us(0.99),
        outcome.failures
    );
}

#[test]
#[ignore = "a measurement, run by hand"]
fn loads_beside_wrk_and_iperf3() {
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
    let (client, home) = (&segment.client, &segment.nodes[0].pods[0]);
    let address = Segment::pod(0, 0)[0];
    let mut pod = Process::start(home, binary(), &Options::new(1, address)).unwrap();
    let mut server = Command::new("iperf3");
    server.arg("-s").stdout(Stdio::null()).stderr(Stdio::null());
    let _server = home.spawn(server).unwrap();
    for round in 0..ROUNDS {
        println!("round {round}");
        one_round(client, &mut pod);
    }
}

fn one_round(client: &Namespace, pod: &mut Process) {
    let address = pod.options().address;
    let url = format!("http://{address}:{}/", port::HTTP);
    let close = ["-H", "Connection: close"];
    let http = |bytes, close| Work::Http1 {
        connections: 64,
        bytes,
        close,
    };
    let closed = Pace::Closed;
    wrk(client, "wrk", &url, &[]);
    ours(client, pod, "http1", http(0, false), closed);
    let rr = |connections, bytes| Work::RequestResponse { connections, bytes };
    ours(client, pod, "rr", rr(64, 0), closed);
    ours(client, pod, "rr, one connection", rr(1, 0), closed);
    wrk(client, "wrk 40 kB", &format!("{url}bytes/40000"), &[]);
    ours(client, pod, "http1 40 kB", http(40_000, false), closed);
    ours(client, pod, "rr 40 kB", rr(64, 40_000), closed);
    wrk(client, "wrk close", &url, &close);
    ours(client, pod, "http1 close", http(0, true), closed);
    let connections = Work::Connections { concurrency: 64 };
    ours(client, pod, "connections", connections, closed);
    let flows = Work::UdpFlows {
        flows: 64,
        bytes: 64,
    };
    ours(client, pod, "udp flows", flows, closed);
    let http2 = Work::Http2 {
        connections: 8,
        streams: 8,
        bytes: 0,
    };
    ours(client, pod, "http2", http2, closed);
    let grpc = Work::Grpc {
        connections: 8,
        streams: 8,
    };
    ours(client, pod, "grpc", grpc, closed);
    ours(
        client,
        pod,
        "rr open 10k/s",
        rr(64, 0),
        Pace::Open(10_000.0),
    );
    ours(
        client,
        pod,
        "http1 open 10k/s",
        http(0, false),
        Pace::Open(10_000.0),
    );
    iperf(client, "iperf3 down", address, &["-P", "4", "-R"]);
    iperf(client, "iperf3 up", address, &["-P", "4"]);
    for upload in [false, true] {
        let bulk = Work::Bulk { streams: 4, upload };
        let name = if upload { "bulk up" } else { "bulk down" };
        ours(client, pod, name, bulk, closed);
    }
    iperf(
        client,
        "iperf3 udp",
        address,
        &["-u", "-b", "0", "-l", "512"],
    );
    let datagrams = Work::UdpBulk { bytes: 512 };
    ours(client, pod, "udp bulk", datagrams, closed);
}
