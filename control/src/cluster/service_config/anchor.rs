//! What a fragment of a configuration is about: a listener, a domain of it, or a rule of that domain.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What a listener speaks, as the configuration writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Speech {
    /// Bytes.
    Tcp,
    /// Datagrams.
    Udp,
    /// Bytes inside TLS.
    TcpSsl,
    /// Requests.
    Http,
    /// Requests inside TLS.
    Https,
}

impl Speech {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Udp, Self::TcpSsl, Self::Http, Self::Https];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::TcpSsl => "TCP_SSL",
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
        }
    }

    /// Requests are read.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// From how it is written.
    pub fn parse(text: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|speech| speech.as_str() == text)
    }
}

/// What a fragment is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Anchor {
    /// A listener.
    Listener(Speech, u16),
    /// A domain of a listener of HTTP or HTTPS, in lower case; empty: the address itself.
    Domain(Speech, u16, Arc<str>),
    /// A path of a domain.
    Rule(Speech, u16, Arc<str>, Arc<str>),
}

impl Anchor {
    /// The listener that it belongs to.
    pub const fn listener(&self) -> (Speech, u16) {
        match self {
            Self::Listener(speech, port)
            | Self::Domain(speech, port, _)
            | Self::Rule(speech, port, ..) => (*speech, *port),
        }
    }

    /// The domain; empty if there is none.
    pub fn domain(&self) -> &str {
        match self {
            Self::Listener(..) => "",
            Self::Domain(_, _, domain) | Self::Rule(_, _, domain, _) => domain,
        }
    }

    /// The path; empty if there is none.
    pub fn url(&self) -> &str {
        match self {
            Self::Listener(..) | Self::Domain(..) => "",
            Self::Rule(.., url) => url,
        }
    }
}

/// `TCP/80`, `HTTPS/443 a.example`, `HTTPS/443 a.example /path`.
impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (speech, port) = self.listener();
        write!(f, "{}/{port}", speech.as_str())?;
        match self {
            Self::Listener(..) => Ok(()),
            Self::Domain(_, _, domain) => write!(f, " {domain}"),
            Self::Rule(_, _, domain, url) => write!(f, " {domain} {url}"),
        }
    }
}

impl FromStr for Anchor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, ' ');
        let listener = parts.next().and_then(|text| text.split_once('/'));
        let (speech, port) = listener.ok_or(())?;
        let speech = Speech::parse(speech).ok_or(())?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(())?;
        match (parts.next(), parts.next()) {
            (None, _) => Ok(Self::Listener(speech, port)),
            _ if !speech.is_http() => Err(()),
            (Some(domain), None) => Ok(Self::Domain(speech, port, domain.into())),
            (Some(domain), Some(url)) => Ok(Self::Rule(speech, port, domain.into(), url.into())),
        }
    }
}
