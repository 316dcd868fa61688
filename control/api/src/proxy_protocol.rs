//! The PROXY protocol of a listener: what is written to backends, and from whom a header is read.

use std::time::Duration;

use ipnet::IpNet;

use crate::invalid::Checks;
use crate::limits::source_range;
use crate::{Invalid, duration, form, v1};

/// Headers that tell who the client is. The default writes and reads none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Written to backends.
    pub send: Option<ProxyHeader>,
    /// Read from clients; absent: whatever comes is data.
    pub accept: Option<AcceptProxy>,
}

/// What is written before a connection's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyHeader {
    /// Text.
    V1,
    /// Binary, with what else it carries.
    V2 {
        /// A CRC32c of the header.
        crc32c: bool,
        /// A unique id of the connection.
        unique_id: bool,
    },
}

/// Whom a header is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptProxy {
    /// Who has to send one; never empty, networks without host bits.
    pub from: Vec<IpNet>,
    /// How long it may take: 100 ms to 60 s, default 3 s.
    pub timeout: Duration,
}

const MAX_RANGES: usize = 1_000;
const TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_mins(1));

impl ProxyProtocol {
    /// Nothing is written or read.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn read(wire: Option<&v1::ProxyProtocol>) -> Result<Self, Invalid> {
        use v1::proxy_protocol::Version;
        let Some(wire) = wire else {
            return Ok(Self::default());
        };
        let mut checks = Checks::default();
        let send = checks.take("send", form::optional::<Version>(wire.send));
        if send.flatten() != Some(Version::V2) {
            for (field, is_set) in [("crc32c", wire.crc32c), ("uniqueId", wire.unique_id)] {
                if is_set {
                    checks.refuse(field, "is for `send: V2`");
                }
            }
        }
        let accept = wire.accept.as_ref().map(AcceptProxy::read).transpose();
        let accept = checks.take("accept", accept);
        let value = || {
            Some(Self {
                send: match send? {
                    None | Some(Version::Unspecified) => None, // `optional` refuses UNSPECIFIED
                    Some(Version::V1) => Some(ProxyHeader::V1),
                    Some(Version::V2) => Some(ProxyHeader::V2 {
                        crc32c: wire.crc32c,
                        unique_id: wire.unique_id,
                    }),
                },
                accept: accept?,
            })
        };
        let value = value();
        checks.finish(value)
    }

    pub(crate) fn to_wire(&self) -> Option<v1::ProxyProtocol> {
        use v1::proxy_protocol::Version;
        if self.is_none() {
            return None;
        }
        let (send, crc32c, unique_id) = match self.send {
            None => (None, false, false),
            Some(ProxyHeader::V1) => (Some(Version::V1), false, false),
            Some(ProxyHeader::V2 { crc32c, unique_id }) => (Some(Version::V2), crc32c, unique_id),
        };
        Some(v1::ProxyProtocol {
            send: send.map(Into::into),
            crc32c,
            unique_id,
            accept: self.accept.as_ref().map(|accept| v1::ProxyProtocolAccept {
                from: accept.from.iter().map(ToString::to_string).collect(),
                timeout: Some(duration::to_wire(accept.timeout)),
            }),
        })
    }
}

impl AcceptProxy {
    fn read(wire: &v1::ProxyProtocolAccept) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        match wire.from.len() {
            0 => checks.refuse("from", "is required: name who may send a header"),
            1..=MAX_RANGES => {}
            many => {
                let problem = format!("{many} entries are too many: use {MAX_RANGES} at most");
                checks.refuse("from", problem);
            }
        }
        let from = wire.from.iter().take(MAX_RANGES).map(String::as_str);
        let from = checks.each("from", from.collect(), source_range);
        let timeout = duration::from_wire(wire.timeout, TIMEOUT, TIMEOUTS.0..=TIMEOUTS.1);
        let timeout = checks.take("timeout", timeout);
        checks.finish(timeout.map(|timeout| Self {
            from: from.into_iter().map(|(_, range)| range).collect(),
            timeout,
        }))
    }
}
