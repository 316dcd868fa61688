//! What to do about a call that failed. Pure.

use std::error::Error;

use podline_api::Rejected;
use podline_api::client::ClientError;
use tonic::Code;

/// The lines under the error.
pub(super) fn advice(error: &ClientError) -> Vec<String> {
    if let ClientError::Unreachable { target, .. } = error {
        return vec![
            format!("nothing was changed; is podline-proxy running with --api {target}?"),
            "another address: --proxy ADDR|unix:PATH or PODLINE_PROXY".to_owned(),
        ];
    }
    let lines: &[&str] = match error {
        ClientError::Rejected { source, .. } => refused(source),
        ClientError::Failed { source, .. } => broken(source),
        ClientError::BadTls { .. } => {
            &["nothing was sent; see --tls-ca, --tls-cert, --tls-key and --tls-server-name"]
        }
        ClientError::Untrusted { .. } => &[
            "nothing was sent; --tls-ca must hold the CA that signed the proxy's certificate,",
            "and --tls-server-name the name in it",
        ],
        ClientError::CertificateRefused { .. } => &[
            "nothing was changed; use a certificate that its client CA signed: --tls-cert and --tls-key",
        ],
        ClientError::PlainText { .. } => &[
            "nothing was sent; leave --tls-ca, --tls-cert and --tls-key (PODLINE_TLS_...) out, or mend --proxy",
        ],
        ClientError::BadTarget { .. } | ClientError::Unreachable { .. } => &[],
    };
    lines.iter().map(ToString::to_string).collect()
}

fn refused(rejected: &Rejected) -> &'static [&'static str] {
    match rejected {
        Rejected::Invalid(_) => &["nothing was changed; mend the input, then apply it again"],
        Rejected::Conflict { .. } => {
            &["nothing was changed; use another name or address, or apply as that owner (--owner)"]
        }
        Rejected::Version { .. } | Rejected::SetVersion { .. } => {
            &["nothing was changed; somebody else changed it meanwhile: look at it, then try again"]
        }
        Rejected::StaleEpoch { .. } => {
            &["nothing was changed; whoever leads now will do it: do not try again"]
        }
        Rejected::Forbidden { .. } => &[
            "nothing was changed; use a certificate that allows it (--tls-cert), or ask at the proxy's own host",
        ],
        Rejected::NotFound { .. } => &["podline status shows what there is"],
    }
}

fn broken(status: &tonic::Status) -> &'static [&'static str] {
    match status.code() {
        Code::Unimplemented => &["it is older than this podline, or no podline-proxy at all"],
        Code::DeadlineExceeded => &["a change may have been made: see podline status"],
        Code::Unavailable => &["it went away; a change may have been made: see podline status"],
        // A port that wants TLS hangs up on plain text, and cannot be told from a proxy that broke off.
        _ if is_local(status) => &[
            "if that port wants TLS: use --tls-ca, --tls-cert and --tls-key",
            "if not, it broke off; a change may have been made: see podline status",
        ],
        _ => &[],
    }
}

/// Whether the status was made here, out of a connection that broke; the proxy's own have no source.
pub(super) fn is_local(status: &tonic::Status) -> bool {
    status.source().is_some()
}
