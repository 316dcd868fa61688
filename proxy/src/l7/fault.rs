//! Why a request is answered by the proxy and not by a backend. Pure.

use crate::lb::backend::REASONS;

/// Whose fault it is that a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// What it sent cannot be served.
    Client,
    /// It did not answer, or not in HTTP.
    Backend,
    /// The configuration has nobody for it.
    Operator,
}

impl Whose {
    /// The value of the label `fault`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Operator => "operator",
        }
    }
}

/// One reason, with the status that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is no HTTP, or breaks its grammar.
    Malformed,
    /// Its length can be read in two ways.
    AmbiguousLength,
    /// It has no host where it must, several, or an invalid one.
    BadHost,
    /// No route takes its host and path.
    NoRoute,
    /// The host is one that another of the listener's certificates is for, and the client was shown this one.
    Misdirected,
    /// The head did not come in time.
    HeadTimeout,
    /// The body did not come in time.
    BodyTimeout,
    /// The body is longer than allowed.
    BodyTooLarge,
    /// The request line is longer than a head may be.
    TargetTooLong,
    /// The head is longer than allowed, or has too many fields.
    HeadTooLarge,
    /// The method or a transfer coding is none that can be forwarded.
    NotImplemented,
    /// An HTTP version that is not spoken.
    VersionNotSupported,
    /// No backend could be connected to.
    ConnectFailed,
    /// The backend's answer is no HTTP, or its length can be read in two ways.
    BadResponse,
    /// The backend went away before it answered.
    BackendClosed,
    /// The set has nobody who could take it.
    NoBackend,
    /// Backends did not take the connection in time.
    ConnectTimeout,
    /// The backend did not answer in time.
    ResponseTimeout,
    /// The backend does not speak TLS, or shows a certificate that nobody vouches for.
    TlsFailed,
}

impl Fault {
    /// All, in the order of metrics.
    pub(crate) const ALL: [Self; REASONS] = [
        Self::Malformed,
        Self::AmbiguousLength,
        Self::BadHost,
        Self::NoRoute,
        Self::Misdirected,
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::BodyTooLarge,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::NotImplemented,
        Self::VersionNotSupported,
        Self::ConnectFailed,
        Self::BadResponse,
        Self::BackendClosed,
        Self::NoBackend,
        Self::ConnectTimeout,
        Self::ResponseTimeout,
        Self::TlsFailed,
    ];

    /// The status of the answer.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::AmbiguousLength | Self::BadHost => 400,
            Self::NoRoute => 404,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Misdirected => 421,
            Self::HeadTooLarge => 431,
            Self::NotImplemented => 501,
            Self::ConnectFailed | Self::BadResponse | Self::BackendClosed | Self::TlsFailed => 502,
            Self::NoBackend => 503,
            Self::ConnectTimeout | Self::ResponseTimeout => 504,
            Self::VersionNotSupported => 505,
        }
    }

    /// The value of the answer's `x-podline-reason` field and of the metric's `reason` label.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::AmbiguousLength => "ambiguous-length",
            Self::BadHost => "bad-host",
            Self::NoRoute => "no-route",
            Self::Misdirected => "misdirected",
            Self::HeadTimeout => "head-timeout",
            Self::BodyTimeout => "body-timeout",
            Self::BodyTooLarge => "body-too-large",
            Self::TargetTooLong => "target-too-long",
            Self::HeadTooLarge => "head-too-large",
            Self::NotImplemented => "not-implemented",
            Self::VersionNotSupported => "version-not-supported",
            Self::ConnectFailed => "connect-failed",
            Self::BadResponse => "bad-response",
            Self::BackendClosed => "backend-closed",
            Self::NoBackend => "no-backend",
            Self::ConnectTimeout => "connect-timeout",
            Self::ResponseTimeout => "response-timeout",
            Self::TlsFailed => "tls-failed",
        }
    }

    /// Whose fault it is.
    pub(crate) const fn whose(self) -> Whose {
        match self.status() {
            404 | 503 => Whose::Operator,
            502 | 504 => Whose::Backend,
            _ => Whose::Client,
        }
    }
}
