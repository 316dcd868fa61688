//! What the two attempts of a proof amount to. Pure.

use std::net::IpAddr;

use crate::host::responder::wire::Saw;
use crate::lb::network::Path;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The responder's line.
    Line(String),
    /// Somebody said that nobody listens there.
    Refused,
    /// No answer came.
    Nothing,
    /// This machine could not, in its own words.
    Failed(String),
}

/// The outcome for a way on which `source` was imitated, with a reason where it is not proven.
pub(crate) fn judge(source: IpAddr, tcp: &Heard, udp: &Heard) -> (Path, String) {
    let (tcp, udp) = match (read(source, tcp), read(source, udp)) {
        (Ok(tcp), Ok(udp)) => (tcp, udp),
        (Err(why), Err(_)) => return (Path::Failed, why),
        (Err(why), Ok(_)) => return (Path::Failed, format!("over TCP: {why}; over UDP it works")),
        (Ok(_), Err(why)) => return (Path::Failed, format!("over UDP: {why}; over TCP it works")),
    };
    let bridged = tcp.is_on_link || udp.is_on_link;
    (Path::Proven { bridged }, String::new())
}

fn read(source: IpAddr, heard: &Heard) -> Result<Saw, String> {
    match heard {
        Heard::Line(line) => {
            let saw: Saw = line
                .parse()
                .map_err(|_| "the responder speaks another language: update it")?;
            let from = saw.peer.ip().to_canonical();
            if from == source {
                Ok(saw)
            } else {
                Err(format!("masqueraded by {from}"))
            }
        }
        Heard::Refused => Err("refused: is the responder running?".to_owned()),
        Heard::Nothing => {
            let why = "no answer: is `podline-proxy return-path` running on the node, or rp_filter strict?";
            Err(why.to_owned())
        }
        Heard::Failed(why) => Err(format!("this proxy cannot send: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tcp: &str, udp: &str, expected: Path, reason: &str) {
        let heard = |text: &str| match text {
            "-" => Heard::Nothing,
            "refused" => Heard::Refused,
            "unreachable" => Heard::Failed("Network is unreachable".to_owned()),
            line => Heard::Line(line.to_owned()),
        };
        let source = "198.18.3.1".parse().unwrap();
        let found = judge(source, &heard(tcp), &heard(udp));
        assert_eq!(found, (expected, reason.to_owned()), "{tcp} | {udp}");
    }

    #[test]
    fn a_way_is_proven_if_both_attempts_saw_whom_we_imitated() {
        let (bridged, routed) = (
            "saw 198.18.3.1:5 on-link=yes",
            "saw 198.18.3.1:5 on-link=no",
        );
        let proven = |bridged| Path::Proven { bridged };
        check(routed, routed, proven(false), "");
        check(bridged, bridged, proven(true), "");
        check(routed, bridged, proven(true), "");
        check(
            "saw [::ffff:198.18.3.1]:5 on-link=no",
            routed,
            proven(false),
            "",
        );
    }

    #[test]
    fn what_else_was_heard_fails_with_words() {
        const NONE: &str =
            "no answer: is `podline-proxy return-path` running on the node, or rp_filter strict?";
        let routed = "saw 198.18.3.1:5 on-link=no";
        let other = "saw 10.88.0.11:5 on-link=no";
        let fails = |tcp, udp, reason: &str| check(tcp, udp, Path::Failed, reason);
        fails("-", "-", NONE);
        fails(other, other, "masqueraded by 10.88.0.11");
        fails(
            other,
            routed,
            "over TCP: masqueraded by 10.88.0.11; over UDP it works",
        );
        fails(routed, "-", &format!("over UDP: {NONE}; over TCP it works"));
        fails("refused", "refused", "refused: is the responder running?");
        fails(
            "unreachable",
            "-",
            "this proxy cannot send: Network is unreachable",
        );
        for odd in [
            "",
            "saw",
            "saw me on-link=no",
            "saw 198.18.3.1:5",
            "saw 198.18.3.1:5 on-link=maybe",
            "HTTP/1.1 400",
        ] {
            fails(odd, odd, "the responder speaks another language: update it");
        }
    }
}
