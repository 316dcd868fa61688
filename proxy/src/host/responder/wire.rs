//! What a responder says, and how it is read: the whole protocol. Pure.
//!
//! - TCP: whoever connects reads one line, `saw ADDRESS:PORT on-link=yes|no`, and the end.
//! - UDP: a datagram of 16 bytes is answered by the same 16 bytes and the same line; others are not answered.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// Where a responder listens as a rule.
pub const PORT: u16 = 9904;
/// Bytes of a datagram that is answered: chance, so that nobody else can answer in the responder's name.
pub const NONCE: usize = 16;
/// A line is no longer, with the end of the line.
pub const LINE: usize = 64;

/// What a responder saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saw {
    /// The other end, as it looks from there. An IPv4 address is told as one.
    pub peer: SocketAddr,
    /// Whether the responder reaches its neighbours without a gateway, as behind a bridge CNI.
    pub is_on_link: bool,
}

impl fmt::Display for Saw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port());
        let on_link = if self.is_on_link { "yes" } else { "no" };
        write!(f, "saw {peer} on-link={on_link}")
    }
}

/// What was read is not what a responder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a responder's answer")]
pub struct NotAnAnswer;

impl FromStr for Saw {
    type Err = NotAnAnswer;

    /// Reads the line, with or without its end. Later releases may say more behind it.
    fn from_str(line: &str) -> Result<Self, NotAnAnswer> {
        let mut words = line.split_whitespace();
        let mut next = || words.next().ok_or(NotAnAnswer);
        if next()? != "saw" {
            return Err(NotAnAnswer);
        }
        Ok(Self {
            peer: next()?.parse().map_err(|_| NotAnAnswer)?,
            is_on_link: match next()? {
                "on-link=yes" => true,
                "on-link=no" => false,
                _ => return Err(NotAnAnswer),
            },
        })
    }
}

impl Saw {
    /// The line that is sent over TCP.
    pub fn line(&self) -> String {
        format!("{self}\n")
    }

    /// The answer to a datagram, if it gets one.
    pub fn answer(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        let nonce = <[u8; NONCE]>::try_from(datagram).ok()?;
        Some([&nonce, self.line().as_bytes()].concat())
    }

    /// Reads the answer to a datagram that held `nonce`.
    pub fn read_answer(nonce: [u8; NONCE], datagram: &[u8]) -> Result<Self, NotAnAnswer> {
        let line = datagram.strip_prefix(&nonce).ok_or(NotAnAnswer)?;
        let line = std::str::from_utf8(line).map_err(|_| NotAnAnswer)?;
        line.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saw(peer: &str, is_on_link: bool) -> Saw {
        let peer = peer.parse().unwrap();
        Saw { peer, is_on_link }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let longest = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        for (peer, is_on_link) in [
            ("10.0.0.1:1", true),
            ("[fd00::1]:80", false),
            (longest, true),
        ] {
            let saw = saw(peer, is_on_link);
            assert!(saw.line().len() <= LINE, "{saw}");
            assert_eq!(saw.line().parse(), Ok(saw));
            assert_eq!(saw.to_string().parse(), Ok(saw));
            assert_eq!(format!("{saw} more=yes").parse(), Ok(saw));
        }
        assert_eq!(
            saw("10.0.0.1:1", true).line(),
            "saw 10.0.0.1:1 on-link=yes\n"
        );
    }

    #[test]
    fn a_mapped_address_is_told_as_the_ipv4_address_that_it_is() {
        let mapped = saw("[::ffff:10.0.0.1]:1", false);
        assert_eq!(mapped.to_string(), "saw 10.0.0.1:1 on-link=no");
    }

    #[test]
    fn only_a_nonce_is_answered_and_the_answer_is_small() {
        let saw = saw("10.0.0.1:1", false);
        for len in (0..100).filter(|len| *len != NONCE) {
            assert_eq!(saw.answer(&vec![7; len]), None);
        }
        let answer = saw.answer(&[7; NONCE]).unwrap();
        assert!(answer.len() <= NONCE + LINE);
        assert_eq!(Saw::read_answer([7; NONCE], &answer), Ok(saw));
        assert_eq!(Saw::read_answer([8; NONCE], &answer), Err(NotAnAnswer));
    }

    #[test]
    fn other_lines_are_no_answers() {
        for line in [
            "",
            "saw",
            "saw 10.0.0.1 on-link=yes",
            "saw 10.0.0.1:1 on-link=maybe",
            "saw 10.0.0.1:1",
            "SAW 10.0.0.1:1 on-link=yes",
        ] {
            assert_eq!(line.parse::<Saw>(), Err(NotAnAnswer), "{line:?}");
        }
    }
}
