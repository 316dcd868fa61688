//! What a listener makes of PROXY headers: who has to send one, and what its backends are told.

use super::limits::Ranges;
use podline_api::{ProxyHeader, ProxyProtocol};
use std::net::SocketAddr;

/// A listener's rules; it has none where it neither writes nor reads headers.
#[derive(Debug, PartialEq, Eq)]
pub struct HeaderRules {
    /// Written to backends.
    pub send: Option<ProxyHeader>,
    accept: Option<Accept>,
}

#[derive(Debug, PartialEq, Eq)]
struct Accept {
    /// Never empty.
    from: Ranges,
    timeout_ms: u64,
}

impl HeaderRules {
    /// The rules that the configuration asks for.
    pub fn new(wanted: &ProxyProtocol) -> Option<Self> {
        let accept = wanted.accept.as_ref().map(|accept| Accept {
            from: Ranges::new(&accept.from),
            timeout_ms: u64::try_from(accept.timeout.as_millis()).unwrap_or(u64::MAX),
        });
        (!wanted.is_none()).then_some(Self {
            send: wanted.send,
            accept,
        })
    }

    /// How long a header from `peer` may take, if it has to send one. What others send is data.
    pub fn header_within_ms(&self, peer: SocketAddr) -> Option<u64> {
        let accept = self.accept.as_ref()?;
        let is_trusted = accept.from.contain(peer.ip());
        is_trusted.then_some(accept.timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podline_api::AcceptProxy;
    use std::time::Duration;

    #[test]
    fn only_who_is_named_has_to_send_a_header() {
        let rules = |accept| {
            let send = Some(ProxyHeader::V1);
            HeaderRules::new(&ProxyProtocol { send, accept }).unwrap()
        };
        let from = ["10.0.0.0/8", "2001:db8::/32"];
        let within =
            |rules: &HeaderRules, peer: &str| rules.header_within_ms(peer.parse().unwrap());
        let some = rules(Some(AcceptProxy {
            from: from.map(|range| range.parse().unwrap()).to_vec(),
            timeout: Duration::from_secs(3),
        }));
        for (peer, expected) in [
            ("10.1.2.3:4", Some(3_000)),
            ("[::ffff:10.1.2.3]:4", Some(3_000)),
            ("[2001:db8::1]:4", Some(3_000)),
            ("11.1.2.3:4", None),
            ("[2001:db9::1]:4", None),
        ] {
            assert_eq!(within(&some, peer), expected, "{peer}");
        }
        assert_eq!(within(&rules(None), "10.1.2.3:4"), None);
        assert_eq!(HeaderRules::new(&ProxyProtocol::default()), None);
    }
}
