//! Limits at given times.

use super::*;
use crate::lb::pick::SplitMix;
use podline_api::Caps;

fn peer(text: &str) -> SocketAddr {
    SocketAddr::new(text.parse().unwrap(), 1)
}

fn ranges(nets: &[&str]) -> Ranges {
    let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
    Ranges::new(&nets)
}

#[test]
fn ranges_hold_what_lies_in_them() {
    let some = ranges(&["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1/32", "2001:db8::/32"]);
    assert_eq!(some.v4.len(), 2, "one lay in another");
    for (ip, inside) in [
        ("10.0.0.0", true),
        ("10.255.255.255", true),
        ("11.0.0.0", false),
        ("9.255.255.255", false),
        ("192.0.2.1", true),
        ("192.0.2.2", false),
        ("2001:db8:ffff::1", true),
        ("2001:db9::", false),
        ("::ffff:10.1.2.3", true),
        ("0.0.0.0", false),
    ] {
        assert_eq!(some.contain(ip.parse().unwrap()), inside, "{ip}");
    }
    assert!(ranges(&[]).contain("192.0.2.9".parse().unwrap()));
    assert!(!ranges(&["10.0.0.0/8"]).contain("::1".parse().unwrap()));
    assert!(ranges(&["0.0.0.0/0", "::/0"]).contain("255.255.255.255".parse().unwrap()));
}

/// Random ranges against asking each of them.
#[test]
fn many_ranges_agree_with_asking_each() {
    let mut random = SplitMix(9);
    for _ in 0..50 {
        let nets: Vec<IpNet> = (0..200)
            .map(|_| {
                let address = u32::try_from(random.next() >> 32).unwrap();
                let length = u8::try_from(4 + random.next() % 29).unwrap();
                let net = ipnet::Ipv4Net::new(address.into(), length).unwrap();
                IpNet::V4(net.trunc())
            })
            .collect();
        let all = Ranges::new(&nets);
        for _ in 0..200 {
            let ip = IpAddr::from(std::net::Ipv4Addr::from(
                u32::try_from(random.next() >> 32).unwrap(),
            ));
            assert_eq!(
                all.contain(ip),
                nets.iter().any(|net| net.contains(&ip)),
                "{ip}"
            );
        }
    }
}

#[test]
fn a_second_s_worth_may_come_at_once_and_no_more() {
    let pace = Pace::default();
    let taken = |now_ms: u64, tries: usize| (0..tries).filter(|_| pace.take(10, now_ms)).count();
    assert_eq!(taken(5_000, 100), 10);
    assert_eq!(taken(5_099, 100), 0);
    assert_eq!(taken(5_100, 100), 1);
    assert_eq!(taken(5_600, 100), 5);
    assert_eq!(taken(60_000, 100), 10);
    // A faster pace counts from now on.
    assert!((0..90).all(|_| pace.take(1_000, 61_000)));
}

fn limiter(total: Caps, per_client: Caps) -> Limiter {
    let limits = Limits {
        source_ranges: vec!["10.0.0.0/8".parse().unwrap()],
        total,
        per_client,
    };
    Limiter::new(&limits, None).unwrap()
}

fn caps(connections: u32, per_second: u32) -> Caps {
    let some = |n| (n > 0).then_some(n);
    Caps {
        connections: some(connections),
        per_second: some(per_second),
    }
}

#[test]
fn each_limit_sheds_the_excess_and_lets_in_again() {
    let active = AtomicU64::new(0);
    let limiter = limiter(caps(3, 0), caps(2, 0));
    let (one, other) = (peer("10.0.0.1"), peer("10.0.0.2"));
    assert_eq!(
        limiter.admit(peer("11.0.0.1"), &active, 0),
        Err(Shed::SourceRanges)
    );
    assert_eq!(limiter.admit(one, &active, 0), Ok(()));
    assert_eq!(limiter.admit(one, &active, 0), Ok(()));
    assert_eq!(
        limiter.admit(one, &active, 0),
        Err(Shed::ClientMaxConnections)
    );
    assert_eq!(limiter.admit(other, &active, 0), Ok(()));
    assert_eq!(limiter.admit(other, &active, 0), Err(Shed::MaxConnections));
    assert_eq!(active.load(Relaxed), 3);
    limiter.release(one);
    active.fetch_sub(1, Relaxed);
    assert_eq!(limiter.admit(one, &active, 0), Ok(()));
}

#[test]
fn the_rate_of_one_client_leaves_the_others_alone() {
    let active = AtomicU64::new(0);
    let limiter = limiter(caps(0, 0), caps(0, 5));
    let admitted = |client: &str, now_ms: u64| {
        let tries = (0..50).filter(|_| limiter.admit(peer(client), &active, now_ms).is_ok());
        tries.count()
    };
    assert_eq!(admitted("10.0.0.1", 10_000), 5);
    assert_eq!(admitted("10.0.0.2", 10_000), 5);
    // Tries count, too: who hammers stays out.
    assert_eq!(admitted("10.0.0.1", 10_999), 0);
    assert_eq!(admitted("10.0.0.1", 11_500), 0);
    assert_eq!(admitted("10.0.0.1", 20_000), 5);
}

#[test]
fn clients_are_told_apart_by_address_and_by_64_bits_of_ipv6() {
    let of = |text: &str| Client::of(text.parse().unwrap());
    assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
    assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    assert_eq!(of("2001:db8::1"), of("2001:db8::2:3"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_ne!(of("0.0.0.1"), of("0:0:0:1::"));
}

#[test]
fn what_counts_outlives_a_change_of_the_limits() {
    let active = AtomicU64::new(0);
    let first = limiter(caps(0, 10), caps(2, 0));
    let client = peer("10.0.0.1");
    for _ in 0..2 {
        first.admit(client, &active, 0).unwrap();
    }
    let limits = Limits {
        per_client: caps(3, 0),
        ..first.limits.clone()
    };
    let second = Limiter::new(&limits, Some(&first)).unwrap();
    assert_eq!(second.admit(client, &active, 0), Ok(()));
    assert_eq!(
        second.admit(client, &active, 0),
        Err(Shed::ClientMaxConnections)
    );
    first.release(client);
    assert_eq!(second.admit(client, &active, 0), Ok(()));
    assert!(Limiter::new(&Limits::default(), Some(&second)).is_none());
}

#[test]
fn a_flood_of_made_up_clients_takes_no_more_room() {
    let active = AtomicU64::new(0);
    let limiter = limiter(caps(0, 0), caps(100, 100));
    let mut random = SplitMix(4);
    for _ in 0..100_000 {
        let [_, b, c, d, ..] = random.next().to_be_bytes();
        let from = SocketAddr::from(([10, b, c, d], 1));
        let _ = limiter.admit(from, &active, 1_000);
    }
    // 100,000 in one second: six a place on average; an honest client still gets in.
    assert_eq!(limiter.admit(peer("10.0.0.1"), &active, 1_000), Ok(()));
}
