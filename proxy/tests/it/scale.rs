//! At the sizes that the proxy is made for. Run by hand, with `--release` for the figures to mean something:
//! `cargo test --release -p podline-proxy --test it -- --ignored --nocapture scale::`

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use podline_api::v1::{self, health_check::Type};
use podline_lab::{Behaviour, Lab, Pod, Topology, wait};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::checks::check;
use crate::harness::{LONG, Proxy, SECOND, Start, http, pod, wire};

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

/// What probing 10,000 addresses of 127.0.0.0/8 every 5 s takes of a core; `seen` says how many probes came so far.
fn probe_ten_thousand(
    proxy: &Proxy,
    port: u16,
    check: v1::HealthCheck,
    seen: impl Fn() -> u64,
) -> f64 {
    const MANY: u16 = 10_000;
    let backends: Vec<_> = (1..=MANY).map(|n| many(n, port)).collect();
    let mut set = wire::set("web", &backends);
    set.health_check = Some(v1::HealthCheck {
        interval: wire::time(5 * SECOND),
        ..check
    });
    proxy.apply(v1::ApplyRequest {
        backend_sets: vec![set],
        ..wire::request()
    });
    wait::until(LONG * 3, "all are healthy", || {
        proxy.set("web").eligible == u32::from(MANY)
    });
    let (start, before, used) = (Instant::now(), seen(), processor_time(proxy.pid()));
    while start.elapsed() < 15 * SECOND {
        std::thread::park_timeout(SECOND);
    }
    let (took, probes) = (start.elapsed(), seen() - before);
    let busy = processor_time(proxy.pid()).saturating_sub(used);
    let share = busy.as_secs_f64() / took.as_secs_f64();
    let percent = share * 100.0;
    println!("{probes} probes in {took:?}, {percent:.1}% of a core");
    assert!((25_000..36_000).contains(&probes), "{probes} probes");
    share
}

/// The address of backend `n` of many.
fn many(n: u16, port: u16) -> SocketAddr {
    let [high, low] = n.to_be_bytes();
    ([127, 1, high, low], port).into()
}

#[test]
#[ignore = "measures; run by hand with --release"]
fn probing_ten_thousand_backends_every_5_s_takes_less_than_15_percent_of_a_core() {
    // One listener answers for all of 127.0.0.0/8.
    let pod = Pod::start("all", "0.0.0.0:0".parse().unwrap(), Behaviour::NeverAnswer).unwrap();
    let (proxy, port) = (Proxy::alone(), pod.address().port());
    let seen = || pod.counts().accepted();
    let share = probe_ten_thousand(&proxy, port, wire::fast_check(), seen);
    assert!(share < 0.15, "{:.1}% of a core", share * 100.0);
}

#[test]
#[ignore = "measures; run by hand with --release"]
fn probing_ten_thousand_backends_by_datagram_takes_less_than_15_percent_of_a_core() {
    raise_limit();
    let proxy = Proxy::alone();
    let seen = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    // A socket for each: a shared one would answer from another address.
    for n in 1..=10_000 {
        let seen = Arc::clone(&seen);
        runtime.spawn(async move {
            let socket = tokio::net::UdpSocket::bind(many(n, 7_000)).await.unwrap();
            let mut room = [0; 16];
            while let Ok((length, from)) = socket.recv_from(&mut room).await {
                seen.fetch_add(1, Relaxed);
                if length > 0 {
                    let _ = socket.send_to(&room[..length], from).await;
                }
            }
        });
    }
    for send in [Some("ping".to_owned()), None] {
        println!("answered: {}", send.is_some());
        let check = v1::HealthCheck {
            udp: Some(v1::UdpCheck {
                send_text: send,
                ..Default::default()
            }),
            ..check(Type::Udp)
        };
        let share = probe_ten_thousand(&proxy, 7_000, check, || seen.load(Relaxed));
        assert!(share < 0.15, "{:.1}% of a core", share * 100.0);
        let gone = vec!["web".to_owned()];
        proxy.apply(v1::ApplyRequest {
            remove_backend_sets: gone,
            ..wire::request()
        });
    }
}

#[test]
#[ignore = "measures; run by hand with --release"]
fn pinging_ten_thousand_hosts_takes_less_than_15_percent_of_a_core() {
    let lab = Lab::new().unwrap();
    let topology = Topology::build(&lab, 0).unwrap();
    for groups in ["0 2147483647", "1 0"] {
        println!("groups that may ping: {groups}");
        let host = &topology.proxy;
        host.sysctl("net/ipv4/ping_group_range", groups).unwrap();
        let proxy = Start {
            alone: true,
            namespace: Some(host),
            ..Start::default()
        }
        .ready();
        let seen = || host.run(echoes);
        let share = probe_ten_thousand(&proxy, 80, check(Type::Ping), seen);
        assert!(share < 0.15, "{:.1}% of a core", share * 100.0);
    }
}

/// Echo requests that came, in the namespace of the calling thread.
fn echoes() -> u64 {
    let all = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut rows = all.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let [names, numbers] = [(); 2].map(|()| rows.next().unwrap().split(' '));
    let mut both = names.zip(numbers);
    let (_, number) = both.find(|(name, _)| *name == "InEchos").unwrap();
    number.parse().unwrap()
}
