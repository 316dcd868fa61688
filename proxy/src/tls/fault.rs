//! Why a handshake with a client came to nothing: a few kinds, which metrics count. Pure.

use tokio_rustls::rustls::{AlertDescription, Error};

/// Why a client's handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeFault {
    /// It took too long.
    Late,
    /// The client left.
    Left,
    /// What it sent is no TLS.
    NotTls,
    /// It has no version, cipher or kind of signature in common with us.
    NothingInCommon,
    /// It speaks none of the listener's protocols inside TLS.
    NoProtocol,
    /// It shows no certificate, or one that nobody vouches for.
    ClientCertificate,
    /// It does not take ours.
    OursRefused,
    /// It breaks the protocol.
    Broken,
}

impl HandshakeFault {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 8] = [
        Self::Late,
        Self::Left,
        Self::NotTls,
        Self::NothingInCommon,
        Self::NoProtocol,
        Self::ClientCertificate,
        Self::OursRefused,
        Self::Broken,
    ];

    /// For metrics and the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Left => "client-left",
            Self::NotTls => "not-tls",
            Self::NothingInCommon => "nothing-in-common",
            Self::NoProtocol => "no-protocol",
            Self::ClientCertificate => "client-certificate",
            Self::OursRefused => "our-certificate-refused",
            Self::Broken => "broken",
        }
    }

    /// What `error` comes to; `is_first`: nothing of the client was understood before.
    pub(crate) fn of(error: &Error, is_first: bool) -> Self {
        match error {
            Error::NoCertificatesPresented | Error::InvalidCertificate(_) => {
                Self::ClientCertificate
            }
            Error::NoApplicationProtocol => Self::NoProtocol,
            Error::PeerIncompatible(_) => Self::NothingInCommon,
            Error::AlertReceived(alert) => match alert {
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA => Self::OursRefused,
                AlertDescription::UserCanceled | AlertDescription::CloseNotify => Self::Left,
                _ => Self::Broken,
            },
            Error::InvalidMessage(_) if is_first => Self::NotTls,
            _ => Self::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_rustls::rustls::{InvalidMessage, PeerIncompatible};

    #[test]
    fn whose_fault_it_is_can_be_told() {
        for (number, fault) in HandshakeFault::ALL.iter().enumerate() {
            assert_eq!(*fault as usize, number);
        }
        let wrong = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        let incompatible = Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon);
        for (error, is_first, expected) in [
            (wrong.clone(), true, HandshakeFault::NotTls),
            (wrong, false, HandshakeFault::Broken),
            (incompatible, true, HandshakeFault::NothingInCommon),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                false,
                HandshakeFault::OursRefused,
            ),
            (
                Error::NoCertificatesPresented,
                false,
                HandshakeFault::ClientCertificate,
            ),
        ] {
            assert_eq!(HandshakeFault::of(&error, is_first), expected, "{error}");
        }
    }
}
