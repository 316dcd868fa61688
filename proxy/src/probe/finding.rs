//! What a probe found, in a form that is free to copy: it becomes text only when somebody asks.
//!
//! It must not know what a finding means: the same status passes one check and fails another.

use std::fmt;
use std::io::{self, ErrorKind};

use tokio_rustls::rustls::{self, AlertDescription};
use tonic_health::pb::health_check_response::ServingStatus;

/// What one probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The connection was accepted, and nothing more was asked.
    Connected,
    /// An HTTP status.
    Http(u16),
    /// A gRPC status.
    Grpc(u16),
    /// A gRPC service's word.
    Serving(ServingStatus),
    /// Time was up during a step.
    TimedOut(Step),
    /// The backend ended or reset the connection during a step.
    Closed(Step),
    /// The system's error number, during a step.
    System(Step, i32),
    /// No TLS session came about, or it broke.
    Tls(TlsFault),
    /// The answer is no HTTP/1.
    NotHttp,
    /// The answer is no HTTP/2.
    NotHttp2,
    /// The backend refused over HTTP/2.
    Refused(h2::Reason),
    /// The answer is HTTP/2 and no gRPC.
    NotGrpc,
    /// The check's path has characters that HTTP/2 does not take.
    BadPath,
    /// The check's source address is of the other IP version than the backend's.
    SourceVersion,
    /// The check's source address is none of this machine's.
    SourceNotOurs,
    /// A datagram or an echo was answered.
    Answered,
    /// A datagram was answered, and not as expected.
    AnsweredOtherwise,
    /// No datagram or echo came back in time.
    NoAnswer,
    /// The backend's host says that nobody takes datagrams at the port.
    PortUnreachable,
    /// This process may not ping.
    NoPermission,
}

impl Finding {
    /// It says nothing of the backend: this machine had no descriptor, memory, port or permission for the probe.
    pub(crate) fn is_of_this_machine(self) -> bool {
        const OURS: [i32; 6] = [
            libc::EAGAIN, // no port for a datagram
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EADDRNOTAVAIL,
        ];
        match self {
            Self::System(_, number) => OURS.contains(&number),
            finding => finding == Self::NoPermission,
        }
    }
}

/// How far a probe got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Connecting.
    Connect,
    /// The TLS handshake.
    Handshake,
    /// Asking, and waiting for an answer.
    Answer,
}

/// Why there is no TLS session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// What the backend sent is no TLS.
    NotTls,
    /// No version or cipher in common.
    Incompatible,
    /// The backend's alert.
    Alert(AlertDescription),
    /// Anything else: the backend broke the protocol.
    Broken,
}

impl Finding {
    /// What an error of the socket, or of the TLS session over it, says.
    pub(super) fn of_io(step: Step, error: &io::Error) -> Self {
        let inner = error.get_ref();
        if let Some(error) = inner.and_then(|e| e.downcast_ref::<rustls::Error>()) {
            return Self::Tls(TlsFault::of(error));
        }
        match error.raw_os_error() {
            Some(errno) if step == Step::Connect => Self::System(step, errno),
            // Whether an end or a reset is seen first depends on who was quicker.
            _ if is_end(error.kind()) => Self::Closed(step),
            Some(errno) => Self::System(step, errno),
            None => Self::Closed(step),
        }
    }
}

fn is_end(kind: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        kind,
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

impl TlsFault {
    fn of(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(alert) => Self::Alert(*alert),
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::PeerIncompatible(_) => Self::Incompatible,
            _ => Self::Broken,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Connected => f.write_str("connected"),
            Self::Http(status) => write!(f, "HTTP {status}"),
            Self::Grpc(status) => grpc(status, f),
            Self::Serving(status) => f.write_str(status.as_str_name()),
            Self::TimedOut(step) => write!(f, "timed out {step}"),
            Self::Closed(step) => write!(f, "the backend closed the connection {step}"),
            Self::System(step, errno) => system(step, &io::Error::from_raw_os_error(errno), f),
            Self::Tls(fault) => fault.fmt(f),
            Self::NotHttp => f.write_str("answered in a way that is not HTTP/1"),
            Self::NotHttp2 => f.write_str("answered in a way that is not HTTP/2"),
            Self::Refused(reason) => write!(f, "refused over HTTP/2: {reason}"),
            Self::NotGrpc => f.write_str("answered in a way that is not gRPC"),
            Self::BadPath => f.write_str("the check's path cannot be sent over HTTP/2"),
            Self::SourceVersion => {
                f.write_str("the check's source address is of the other IP version")
            }
            Self::SourceNotOurs => {
                f.write_str("the check's source address is none of this machine's")
            }
            Self::Answered => f.write_str("answered"),
            Self::AnsweredOtherwise => f.write_str("answered otherwise"),
            Self::NoAnswer => f.write_str("no answer"),
            Self::PortUnreachable => f.write_str("port unreachable"),
            Self::NoPermission => f.write_str(
                "no permission: grant CAP_NET_RAW, or let net.ipv4.ping_group_range include this process's group",
            ),
        }
    }
}

fn grpc(status: u16, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "gRPC status {status}")?;
    let code = tonic::Code::from_i32(status.into());
    if i32::from(status) == code as i32 {
        write!(f, " ({code:?})")?;
    }
    Ok(())
}

fn system(step: Step, error: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match (step, error.kind()) {
        (_, ErrorKind::ConnectionRefused) => f.write_str("connection refused"),
        (_, ErrorKind::ConnectionReset) => f.write_str("connection reset"),
        (_, ErrorKind::HostUnreachable) => f.write_str("host unreachable"),
        (_, ErrorKind::NetworkUnreachable) => f.write_str("network unreachable"),
        (_, ErrorKind::TimedOut) => write!(f, "timed out {step}"),
        (Step::Connect, _) => write!(f, "cannot connect: {error}"),
        _ => write!(f, "the connection broke {step}: {error}"),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "while connecting",
            Self::Handshake => "in the TLS handshake",
            Self::Answer => "before it answered",
        })
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TLS handshake failed: ")?;
        match self {
            Self::NotTls => f.write_str("the backend does not speak TLS"),
            Self::Incompatible => f.write_str("no version or cipher in common"),
            Self::Alert(alert) => write!(f, "the backend's alert is {alert:?}"),
            Self::Broken => f.write_str("the backend broke the protocol"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    fn tls(error: rustls::Error) -> io::Error {
        io::Error::new(ErrorKind::InvalidData, error)
    }

    #[test]
    fn want_of_descriptors_says_nothing_of_a_backend() {
        for (number, is_ours) in [
            (libc::EMFILE, true),
            (libc::ENFILE, true),
            (libc::ECONNREFUSED, false),
        ] {
            let finding = Finding::of_io(Step::Connect, &errno(number));
            assert_eq!(finding.is_of_this_machine(), is_ours, "{finding}");
        }
        assert!(Finding::NoPermission.is_of_this_machine());
        assert!(!Finding::NoAnswer.is_of_this_machine());
    }

    #[test]
    fn errors_are_told_in_the_operators_words() {
        use rustls::{Error, InvalidMessage};
        let check = |step, error: io::Error, text: &str| {
            assert_eq!(Finding::of_io(step, &error).to_string(), text);
        };
        check(
            Step::Connect,
            errno(libc::ECONNREFUSED),
            "connection refused",
        );
        check(Step::Connect, errno(libc::ECONNRESET), "connection reset");
        check(Step::Connect, errno(libc::EHOSTUNREACH), "host unreachable");
        check(
            Step::Connect,
            errno(libc::ENETUNREACH),
            "network unreachable",
        );
        check(
            Step::Connect,
            errno(libc::ETIMEDOUT),
            "timed out while connecting",
        );
        let text = "cannot connect: Too many open files (os error 24)";
        check(Step::Connect, errno(libc::EMFILE), text);
        let text = "the backend closed the connection before it answered";
        for number in [libc::ECONNRESET, libc::EPIPE] {
            check(Step::Answer, errno(number), text);
        }
        check(Step::Answer, ErrorKind::UnexpectedEof.into(), text);
        let text = "the backend closed the connection in the TLS handshake";
        check(Step::Handshake, ErrorKind::UnexpectedEof.into(), text);
        let text = "host unreachable";
        check(Step::Answer, errno(libc::EHOSTUNREACH), text);
        let text = "TLS handshake failed: the backend does not speak TLS";
        let error = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        check(Step::Handshake, tls(error), text);
        let text = "TLS handshake failed: the backend's alert is CertificateRequired";
        let error = Error::AlertReceived(AlertDescription::CertificateRequired);
        check(Step::Answer, tls(error), text);
    }

    #[test]
    fn answers_are_told_as_they_were() {
        for (finding, text) in [
            (Finding::Http(503), "HTTP 503"),
            (Finding::Grpc(14), "gRPC status 14 (Unavailable)"),
            (Finding::Grpc(77), "gRPC status 77"),
            (Finding::Serving(ServingStatus::NotServing), "NOT_SERVING"),
            (
                Finding::TimedOut(Step::Answer),
                "timed out before it answered",
            ),
        ] {
            assert_eq!(finding.to_string(), text);
        }
    }

    /// Two thousand a second are handed over by value.
    #[test]
    fn a_finding_is_small() {
        assert!(size_of::<Finding>() <= 12);
    }
}
