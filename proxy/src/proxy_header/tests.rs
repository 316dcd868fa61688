//! Headers as others write them, headers as nobody should, and that it does not matter in which pieces one comes.

use super::*;
use podline_api::ProxyHeader;

const V2: ProxyHeader = v2(false, false);

const fn v2(crc32c: bool, unique_id: bool) -> ProxyHeader {
    ProxyHeader::V2 { crc32c, unique_id }
}

fn ends(client: &str, destination: &str) -> Announced {
    Announced {
        client: client.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

fn four() -> Announced {
    ends("192.0.2.7:56324", "198.51.100.1:443")
}

fn six() -> Announced {
    ends("[2001:db8::7]:56324", "[2001:db8:1::1]:443")
}

fn done(bytes: &[u8], announced: Option<Announced>) -> Parsed {
    let length = bytes.len();
    Parsed::Done { length, announced }
}

/// The outcome, which must be that of the first prefix that decides, whatever follows.
fn parsed(bytes: &[u8]) -> Parsed {
    let whole = parse(bytes);
    let first = (0..=bytes.len())
        .map(|end| parse(&bytes[..end]))
        .find(|parsed| *parsed != Parsed::NeedMore);
    assert_eq!(first.unwrap_or(Parsed::NeedMore), whole);
    if let Parsed::Done { length, .. } = whole {
        assert_eq!(parse(&bytes[..length]), whole);
        assert!((0..length).all(|end| parse(&bytes[..end]) == Parsed::NeedMore));
    }
    whole
}

fn refused(bytes: &[u8], refusal: Refusal) {
    let shown = bytes.escape_ascii();
    assert_eq!(parsed(bytes), Parsed::Refused(refusal), "{shown}");
}

/// A header of version 2 by hand.
fn raw(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE, &[command, family][..], &length, rest].concat()
}

const ENDS_4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];

#[test]
fn what_is_written_is_read_as_it_was() {
    let all = [
        ProxyHeader::V1,
        V2,
        v2(true, false),
        v2(false, true),
        v2(true, true),
    ];
    let mixed = ends("192.0.2.7:1", "[2001:db8::1]:65535");
    for form in all {
        for ends in [Some(four()), Some(six()), Some(mixed), None] {
            let header = write(form, ends, u128::MAX - 3);
            let header = header.as_bytes();
            assert_eq!(parsed(header), done(header, ends), "{form:?}");
            let with_data = [header, b"PROXY \r\n\0data"].concat();
            assert_eq!(parsed(&with_data), done(header, ends), "{form:?}");
        }
    }
}

#[test]
fn headers_are_as_the_specification_has_them() {
    let text = |ends| {
        let header = write(ProxyHeader::V1, ends, 0);
        String::from_utf8(header.as_bytes().to_vec()).unwrap()
    };
    let line = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
    assert_eq!(text(Some(four())), line);
    let line = "PROXY TCP6 2001:db8::7 2001:db8:1::1 56324 443\r\n";
    assert_eq!(text(Some(six())), line);
    let mixed = ends("192.0.2.7:1", "[2001:db8::1]:2");
    let line = "PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1 2\r\n";
    assert_eq!(text(Some(mixed)), line);
    assert_eq!(text(None), "PROXY UNKNOWN\r\n");

    let header = write(V2, Some(four()), 0);
    assert_eq!(header.as_bytes(), raw(0x21, 0x11, ENDS_4));
    let header = write(V2, None, 0);
    assert_eq!(header.as_bytes(), raw(0x21, 0, &[]));
    let header = write(v2(true, true), Some(four()), 5);
    let id = [&[5, 0, 16][..], &5u128.to_be_bytes()].concat();
    let sum = &header.as_bytes()[PREFIX + ENDS_4.len() + id.len()..];
    assert_eq!(sum[..3], [3, 0, 4]);
    let zeroed = raw(0x21, 0x11, &[ENDS_4, &id, &[3, 0, 4, 0, 0, 0, 0]].concat());
    assert_eq!(sum[3..], crc32c::crc32c(&[&zeroed]).to_be_bytes());
}

#[test]
fn the_longest_header_fits() {
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let ends = ends(&format!("[{longest}]:65535"), &format!("[{longest}]:65535"));
    for form in [ProxyHeader::V1, v2(true, true)] {
        let header = write(form, Some(ends), u128::MAX);
        assert_eq!(
            parsed(header.as_bytes()),
            done(header.as_bytes(), Some(ends))
        );
    }
}

#[test]
fn ipv4_in_ipv6_form_is_ipv4() {
    for line in [
        "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:c633:6401 56324 443\r\n",
        "PROXY TCP6 0:0:0:0:0:FFFF:C000:0207 ::ffff:198.51.100.1 56324 443\r\n",
    ] {
        assert_eq!(parsed(line.as_bytes()), done(line.as_bytes(), Some(four())));
    }
}

#[test]
fn lines_are_taken_only_as_they_are_written() {
    for line in [
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN \r\n",
        "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
        "PROXY UNKNOWN 1 2 3 4 5 -- nobody reads this\r\n",
    ] {
        assert_eq!(
            parsed(line.as_bytes()),
            done(line.as_bytes(), None),
            "{line}"
        );
    }
    for text in [
        "PROXY TCP4 192.0.2.7 198.51.100.1 0 0",
        "PROXY TCP4 0.0.0.0 255.255.255.255 65535 1",
    ] {
        let line = format!("{text}\r\n");
        assert!(matches!(parsed(line.as_bytes()), Parsed::Done { .. }));
        for end in ["\n", "\r", "\r\r\n", " \r\n", "\n\r", "\0\r\n"] {
            let line = format!("{text}{end}x");
            refused(line.as_bytes(), Refusal::Malformed);
        }
    }
    for rest in [
        "TCP4 192.0.2.7 198.51.100.1 1",
        "TCP4 192.0.2.7 198.51.100.1 1 2 3",
        "TCP4 192.0.2.7  198.51.100.1 1 2",
        "TCP4  192.0.2.7 198.51.100.1 1 2",
        "TCP4 192.0.2.7 198.51.100.1 +1 2",
        "TCP4 192.0.2.7 198.51.100.1 -1 2",
        "TCP4 192.0.2.7 198.51.100.1 01 2",
        "TCP4 192.0.2.7 198.51.100.1 1 65536",
        "TCP4 192.0.2.7 198.51.100.1 1 ",
        "TCP4 192.0.2.07 198.51.100.1 1 2",
        "TCP4 192.0.2 198.51.100.1 1 2",
        "TCP4 192.0.2.256 198.51.100.1 1 2",
        "TCP4 0xc0.0.2.1 198.51.100.1 1 2",
        "TCP4 ::1 ::1 1 2",
        "TCP6 192.0.2.7 198.51.100.1 1 2",
        "TCP6 fe80::1%eth0 ::1 1 2",
        "TCP6 [::1] [::1] 1 2",
        "TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2",
        "TCP6 12345::1 ::1 1 2",
        "tcp4 192.0.2.7 198.51.100.1 1 2",
        "UDP4 192.0.2.7 198.51.100.1 1 2",
        "UNKNOWNS",
        "",
        " TCP4 192.0.2.7 198.51.100.1 1 2",
        "TCP4\t192.0.2.7 198.51.100.1 1 2",
        "TCP4 \u{661}92.0.2.7 198.51.100.1 1 2",
    ] {
        refused(format!("PROXY {rest}\r\n").as_bytes(), Refusal::Malformed);
    }
    let odd = b"PROXY UNKNOWN \xff\xfe\0\r\n";
    assert_eq!(parsed(odd), done(odd, None));
    refused(b"PROXY TCP4 \xff\xfe\r\n", Refusal::Malformed);
}

#[test]
fn a_line_has_107_bytes_at_most() {
    let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
    let longest = line(107);
    assert_eq!(parsed(longest.as_bytes()), done(longest.as_bytes(), None));
    refused(line(108).as_bytes(), Refusal::TooLong);
    refused(line(5_000).as_bytes(), Refusal::TooLong);
    assert_eq!(parse(&line(108).as_bytes()[..106]), Parsed::NeedMore);
}

#[test]
fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
    for text in [
        "GET / HTTP/1.1\r\n",
        "PROXI",
        "proxy TCP4",
        "PROXY\t",
        "\r\n\r\n\0\r\nQUIX",
        "\r\n\r\nG",
        "\0",
        "\u{16}\u{3}\u{1}",
    ] {
        let bytes = text.as_bytes();
        refused(bytes, Refusal::NoHeader);
    }
    assert_eq!(parse(b""), Parsed::NeedMore);
    assert_eq!(parse(b"PROXY"), Parsed::NeedMore);
    assert_eq!(parse(b"\r\n\r\n\0\r\nQUIT"), Parsed::NeedMore);
}

#[test]
fn a_local_header_announces_nobody_whatever_it_holds() {
    for (family, rest) in [
        (0, &[][..]),
        (0x11, ENDS_4),
        (0xff, &[3, 0, 4, 0]),
        (0x21, &[1]),
    ] {
        let header = raw(0x20, family, rest);
        assert_eq!(parsed(&header), done(&header, None));
    }
}

#[test]
fn what_is_no_tcp_connection_over_ip_announces_nobody() {
    let udp = raw(0x21, 0x12, ENDS_4);
    let unspecified = raw(0x21, 0, &[1, 2, 3]);
    let unix = raw(0x21, 0x31, &[b'/'; 216]);
    let with_an_empty_part = raw(0x21, 0x32, &[0; 219]);
    for header in [udp, unspecified, unix, with_an_empty_part] {
        assert_eq!(parsed(&header), done(&header, None));
    }
}

#[test]
fn prefixes_that_the_specification_does_not_know_are_refused() {
    for command in [0x00, 0x01, 0x11, 0x22, 0x2f, 0x31, 0xff] {
        refused(&raw(command, 0x11, ENDS_4), Refusal::Malformed);
    }
    for family in [0x13, 0x1f, 0x41, 0xf1] {
        refused(&raw(0x21, family, &[0; 300]), Refusal::Malformed);
    }
    for (family, size) in [(0x11, 11), (0x21, 35), (0x31, 215), (0x12, 0)] {
        refused(&raw(0x21, family, &vec![0; size]), Refusal::Malformed);
    }
}

#[test]
fn the_length_is_bounded_before_anything_of_it_has_come() {
    let longest = [ENDS_4, &[4, 0xf, 0xe1], &[7; 0xfe1]].concat();
    let longest = raw(0x21, 0x11, &longest);
    assert_eq!(longest.len(), MAX_LENGTH);
    assert_eq!(parsed(&longest), done(&longest, Some(four())));
    let mut header = raw(0x21, 0x11, &[]);
    header[14..].copy_from_slice(
        &u16::try_from(MAX_LENGTH - PREFIX + 1)
            .unwrap()
            .to_be_bytes(),
    );
    refused(&header, Refusal::TooLong);
    header[12..].copy_from_slice(&[0x20, 0, 0xff, 0xff]);
    refused(&header, Refusal::TooLong);
}

#[test]
fn parts_behind_the_addresses_have_to_fit() {
    let header = |tlvs: &[u8]| raw(0x21, 0x11, &[ENDS_4, tlvs].concat());
    let long_id = [&[5, 0, 129][..], &[0; 129]].concat();
    for tlvs in [
        &[1][..],
        &[1, 0],
        &[1, 0, 1],
        &[1, 0xff, 0xff, 1],
        &[1, 0, 1, b'x', 2],
        &[3, 0, 3, 0, 0, 0],
        &[3, 0, 5, 0, 0, 0, 0, 0],
        &[3, 0, 4, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0],
        &long_id,
    ] {
        refused(&header(tlvs), Refusal::Malformed);
    }
    let authority = header(b"\x02\0\x0bexample.com\x04\0\0\xee\0\x02ab");
    assert_eq!(parsed(&authority), done(&authority, Some(four())));
}

#[test]
fn a_wrong_checksum_is_refused_wherever_the_fault_is() {
    let header = write(v2(true, true), Some(six()), 9);
    for at in 13..header.as_bytes().len() {
        for bit in 0..8 {
            let mut broken = header.as_bytes().to_vec();
            broken[at] ^= 1 << bit;
            let parsed = parsed(&broken);
            let is_taken = matches!(
                parsed,
                Parsed::Done {
                    announced: Some(_),
                    ..
                }
            );
            assert!(!is_taken || at >= broken.len() - 7, "byte {at}, bit {bit}");
        }
    }
    let mut broken = header.as_bytes().to_vec();
    broken[20] ^= 1;
    refused(&broken, Refusal::WrongChecksum);
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[7]
    }
}

#[test]
fn mutated_headers_mean_the_same_in_whatever_pieces_they_come() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut outcomes = [0; 3];
    for round in 0..20_000 {
        let form = [ProxyHeader::V1, V2, v2(true, false), v2(true, true)][round % 4];
        let ends = if random.next().is_multiple_of(2) {
            four()
        } else {
            six()
        };
        let mut bytes = write(form, Some(ends), random.next().into())
            .as_bytes()
            .to_vec();
        for _ in 0..random.next() % 3 {
            let at = usize::try_from(random.next()).unwrap() % bytes.len();
            bytes[at] = [random.byte(), b' ', b'\r', b'\n', b'0'][usize::from(random.byte() % 5)];
        }
        bytes.extend((0..random.next() % 20).map(|_| random.byte()));
        outcomes[match parsed(&bytes) {
            Parsed::NeedMore => 0,
            Parsed::Done { .. } => 1,
            Parsed::Refused(_) => 2,
        }] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 100), "{outcomes:?}");
}

#[test]
fn random_bytes_are_no_header() {
    let mut random = Random(7);
    for _ in 0..20_000 {
        let mut bytes = raw(0x20 + random.byte() % 2, random.byte() % 0x40, &[]);
        bytes.truncate(usize::from(random.byte()) % (bytes.len() + 1));
        bytes.extend((0..random.next() % 300).map(|_| random.byte()));
        let _ = parsed(&bytes);
    }
}
