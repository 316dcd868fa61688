//! At the sizes that the proxy is made for. Run by hand, with `--release` for the figures to mean something:
//! `cargo test --release -p podline-proxy --test it -- --ignored --nocapture scale::`

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use podline_lab::{Behaviour, Pod, wait};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::harness::{LONG, Proxy, SECOND, http, pod, tcp, wire};

/// As many descriptors as this process may have; the tests hold both ends of every connection.
fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Processor time that a process has used.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10) // a hundred ticks a second on every Linux that runs this
}

#[test]
#[ignore = "needs 20,000 descriptors; run by hand"]
fn nine_thousand_idle_connections_cost_little_and_all_answer_a_burst() {
    const IDLE: usize = 9000;
    raise_limit();
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::alone();
    let address = proxy.serve(&[pod.address()]);
    http::ask(address).unwrap();
    let before = proxy.resident_bytes();
    let mut clients: Vec<_> = (0..IDLE)
        .map(|_| http::Client::connect(address).unwrap())
        .collect();
    wait::until(LONG, "all are through", || {
        pod.counts().open() == IDLE as u64
    });
    let each = (proxy.resident_bytes() - before) / IDLE as u64;
    println!("{each} bytes for an idle connection");
    assert!(each < 3 << 10, "{each} bytes for an idle connection");
    let start = Instant::now();
    for client in &mut clients {
        client.send("/").unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.answer().unwrap().0, 200);
    }
    println!("all answered after {:?}", start.elapsed());
    drop(clients);
    wait::until(LONG, "all are gone", || proxy.active() == 0);
    assert_eq!(proxy.get().descriptors_in_use, 0);
}

#[test]
#[ignore = "measures; run by hand with --release"]
fn probing_ten_thousand_backends_every_5_s_takes_less_than_15_percent_of_a_core() {
    const MANY: u16 = 10_000;
    // One listener answers for all of 127.0.0.0/8.
    let pod = Pod::start("all", "0.0.0.0:0".parse().unwrap(), Behaviour::NeverAnswer).unwrap();
    let address = |i: u16| {
        SocketAddr::from((
            [127, 1, (i >> 8) as u8, (i & 255) as u8],
            pod.address().port(),
        ))
    };
    let backends: Vec<_> = (1..=MANY).map(address).collect();
    let proxy = Proxy::alone();
    let mut set = wire::set("web", &backends);
    let mut check = wire::fast_check();
    check.interval = wire::time(5 * SECOND);
    set.health_check = Some(check);
    proxy.apply(wire::both(
        wire::listener("web", tcp::free_address(), "web"),
        set,
    ));
    wait::until(LONG * 3, "all are healthy", || {
        proxy.set("web").eligible == u32::from(MANY)
    });
    let (start, accepted, used) = (
        Instant::now(),
        pod.counts().accepted(),
        processor_time(proxy.pid()),
    );
    while start.elapsed() < 15 * SECOND {
        std::thread::park_timeout(SECOND);
    }
    let (took, probes) = (start.elapsed(), pod.counts().accepted() - accepted);
    let busy = processor_time(proxy.pid()).saturating_sub(used);
    let share = busy.as_secs_f64() / took.as_secs_f64();
    println!(
        "{probes} probes in {took:?}, {:.1}% of a core",
        share * 100.0
    );
    assert!((25_000..36_000).contains(&probes), "{probes} probes");
    assert!(share < 0.15, "{:.1}% of a core", share * 100.0);
}
