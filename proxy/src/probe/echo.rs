//! ICMP echo messages. Pure.

use std::net::IpAddr;

/// What tells one probe's reply from all others: nobody else knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonce(pub(super) u128);

/// Type, code, checksum, identifier, sequence number.
const HEAD: usize = 8;
const NONCE: usize = size_of::<u128>();
/// A whole message.
pub(super) const LENGTH: usize = HEAD + NONCE;
/// The longest IPv4 header, which raw sockets show, and a message.
pub(super) const LONGEST_REPLY: usize = 60 + LENGTH;

/// An echo request to an address like `to`. The kernel puts in what depends on the socket: the identifier of one that is
/// not raw, and the checksum over IPv6.
pub(super) fn request(to: IpAddr, nonce: Nonce) -> [u8; LENGTH] {
    let mut message = [0; LENGTH];
    message[0] = if to.is_ipv4() { 8 } else { 128 };
    // Identifier and sequence number; the nonce is what counts.
    message[4..HEAD].copy_from_slice(&nonce.0.to_be_bytes()[NONCE - 4..]);
    message[HEAD..].copy_from_slice(&nonce.0.to_be_bytes());
    if to.is_ipv4() {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// Whether what came from an address like `from` is the reply to the request with this nonce.
pub(super) fn is_reply(from: IpAddr, is_raw: bool, bytes: &[u8], nonce: Nonce) -> bool {
    let (kind, message) = match from {
        IpAddr::V4(_) if is_raw => (0, behind_ipv4(bytes)),
        IpAddr::V4(_) => (0, Some(bytes)),
        IpAddr::V6(_) => (129, Some(bytes)),
    };
    let Some([found, 0, _, _, identity @ ..]) = message else {
        return false;
    };
    let asked = request(from, nonce);
    // What follows the nonce is of no account.
    let Some(told) = identity.get(..LENGTH - 4) else {
        return false;
    };
    let is_ours = told[4..] == asked[HEAD..] && told[2..4] == asked[6..HEAD];
    *found == kind && is_ours && (!is_raw || told[..2] == asked[4..6])
}

/// What follows an IPv4 header.
fn behind_ipv4(bytes: &[u8]) -> Option<&[u8]> {
    let first = bytes.first()?;
    let length = usize::from(first & 0xf) * 4;
    let is_header = first >> 4 == 4 && length >= 20;
    bytes.get(length..).filter(|_| is_header)
}

/// The internet checksum of a message whose own checksum is still 0.
fn checksum(message: &[u8; LENGTH]) -> u16 {
    let words = message.chunks_exact(2);
    let sum: u32 = words
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    let folded = (folded >> 16) + (folded & 0xffff);
    !u16::try_from(folded).unwrap_or(0) // folded twice, it has 16 bits
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Nonce = Nonce(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);

    fn reply(to: IpAddr) -> Vec<u8> {
        let mut message = request(to, ASKED).to_vec();
        message[0] = if to.is_ipv4() { 0 } else { 129 };
        message
    }

    fn hosts() -> [IpAddr; 2] {
        ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap())
    }

    #[test]
    fn a_checksum_makes_the_sum_come_out() {
        let message = request(hosts()[0], Nonce(u128::MAX));
        assert_eq!(
            checksum(&message),
            0,
            "the sum over all, its checksum included"
        );
        assert_eq!(request(hosts()[1], ASKED)[2..4], [0, 0], "is the kernel's");
    }

    #[test]
    fn only_the_reply_to_what_was_asked_counts() {
        for host in hosts() {
            let right = reply(host);
            assert!(is_reply(host, false, &right, ASKED));
            let longer = [&right[..], b"more"].concat();
            assert!(is_reply(host, false, &longer, ASKED));
            assert!(
                !is_reply(host, false, &request(host, ASKED), ASKED),
                "the request itself"
            );
            assert!(!is_reply(host, false, &right, Nonce(ASKED.0 ^ (1 << 100))));
            for end in 0..right.len() {
                assert!(!is_reply(host, false, &right[..end], ASKED), "{end}");
            }
            // The kernel changes and checks checksum and identifier.
            for at in [0, 1].into_iter().chain(6..LENGTH) {
                let mut wrong = right.clone();
                wrong[at] ^= 1;
                assert!(!is_reply(host, false, &wrong, ASKED), "byte {at}");
            }
            let mut of_another = right.clone();
            of_another[4] ^= 1;
            assert!(is_reply(host, false, &of_another, ASKED));
        }
    }

    #[test]
    fn a_raw_socket_shows_the_ip_header_and_everybodys_replies() {
        let [v4, v6] = hosts();
        for length in [20_u8, 24, 60] {
            let mut header = vec![0; usize::from(length)];
            header[0] = 0x40 + length / 4;
            let whole = [header, reply(v4)].concat();
            assert!(is_reply(v4, true, &whole, ASKED));
            assert!(!is_reply(v4, true, &whole[1..], ASKED));
            assert!(!is_reply(v4, true, &whole[..whole.len() - 1], ASKED));
        }
        assert!(!is_reply(v4, true, &reply(v4), ASKED));
        assert!(!is_reply(v4, true, &[0x4f], ASKED) && !is_reply(v4, true, &[], ASKED));
        assert!(is_reply(v6, true, &reply(v6), ASKED));
        let mut of_another = reply(v6);
        of_another[4] ^= 1;
        assert!(!is_reply(v6, true, &of_another, ASKED));
    }
}
