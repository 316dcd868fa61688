//! What is said is what others know, what is read is what others say, and nothing that is read is a panic.

use super::*;

const OWN: Mac = Mac([2, 0, 0, 0, 0, 5]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 7]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn heard(from: Mac, said: Said) -> Heard {
    Heard { from, said }
}

#[test]
fn what_is_said_is_understood() {
    for address in ["192.0.2.10", "2001:db8::10"].map(ip) {
        let probe = probe(OWN, address);
        assert_eq!(read(&probe), Some((address, heard(OWN, Said::Probes))));
        let announced = Said::Announced(Some(u64::MAX - 3));
        for frame in announcements(OWN, address, u64::MAX - 3) {
            assert_eq!(read(&frame), Some((address, heard(OWN, announced))));
        }
    }
}

#[test]
fn an_arp_announcement_is_what_every_host_knows() {
    let frames = announcements(OWN, ip("192.0.2.10"), 7);
    let expected = |operation| {
        let mut all = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 5, 8, 6];
        all.extend([0, 1, 8, 0, 6, 4, 0, operation]);
        all.extend([
            2, 0, 0, 0, 0, 5, 192, 0, 2, 10, 2, 0, 0, 0, 0, 5, 192, 0, 2, 10,
        ]);
        all.extend(b"PODL\0\0\0\0\0\0\0\x07\0\0\0\0\0\0");
        all
    };
    assert_eq!(frames, [expected(1), expected(2)]);
}

#[test]
fn the_sum_over_a_packet_with_its_checksum_is_nothing() {
    let address = ip("2001:db8::10");
    let mut frames = announcements(OWN, address, 7);
    frames.push(probe(OWN, address));
    for frame in frames {
        let from = v6(&frame, 22).unwrap();
        let to = v6(&frame, 38).unwrap();
        assert_eq!(checksum(from, to, &frame[ICMPV6_AT..]), 0);
        assert_eq!(
            usize::from(u16_at(&frame, 18).unwrap()),
            frame.len() - ICMPV6_AT
        );
    }
}

#[test]
fn a_probe_goes_to_those_who_may_have_the_address() {
    let frame = probe(OWN, ip("2001:db8::12:3456"));
    assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    assert_eq!(
        v6(&frame, 38).unwrap(),
        "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap()
    );
    assert!(v6(&frame, 22).unwrap().is_unspecified());
}

#[test]
fn others_announce_without_an_epoch() {
    let mut frame = announcements(OTHER, ip("192.0.2.10"), 7).remove(0);
    frame.truncate(ARP_LEN);
    let announced = Said::Announced(None);
    assert_eq!(
        read(&frame),
        Some((ip("192.0.2.10"), heard(OTHER, announced)))
    );
    let mut frame = announcements(OTHER, ip("2001:db8::10"), 7).remove(0);
    frame.truncate(ICMPV6_AT + 24 + 8);
    let address = ip("2001:db8::10");
    assert_eq!(read(&frame), Some((address, heard(OTHER, announced))));
    // An answer to whoever asked.
    frame[ICMPV6_AT + 4] |= SOLICITED;
    assert_eq!(read(&frame), Some((address, heard(OTHER, Said::Has))));
}

#[test]
fn who_asks_for_a_neighbour_has_the_address_that_it_asks_from() {
    let sender = "192.0.2.10".parse().unwrap();
    let frame = arp(REQUEST, OTHER, sender, "192.0.2.1".parse().unwrap(), None);
    assert_eq!(
        read(&frame),
        Some((ip("192.0.2.10"), heard(OTHER, Said::Has)))
    );
}

#[test]
fn cut_and_damaged_frames_are_no_panic() {
    let mut frames = announcements(OWN, ip("192.0.2.10"), 7);
    frames.extend(announcements(OWN, ip("2001:db8::10"), 7));
    frames.push(probe(OWN, ip("2001:db8::10")));
    for frame in frames {
        for len in 0..frame.len() {
            let _ = read(&frame[..len]);
        }
        for at in 0..frame.len() {
            for bit in 0..8 {
                let mut odd = frame.clone();
                odd[at] ^= 1 << bit;
                let _ = read(&odd);
            }
        }
    }
}
