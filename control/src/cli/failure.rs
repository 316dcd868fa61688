//! What goes wrong, told so that the reader knows whose fault it is, whether to retry, and what to do.

mod advice;

use std::error::Error;
use std::fmt::Write;
use std::io;
use std::process::ExitCode;

use advice::{advice, is_local};
use podline_api::client::ClientError;
use podline_api::{Invalid, Rejected};
use tonic::Code;

use super::kube::trouble::Trouble;

/// What the process's exit code says; see `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Done = 0,
    DifferentOrMissing = 1,
    Usage = 2,
    Refused = 3,
    Unreachable = 4,
    NotEmpty = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("cannot read {file}")]
    Read {
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("{file} is not valid: nothing was sent")]
    Invalid {
        file: String,
        #[source]
        source: Invalid,
    },
    #[error("the proxy has no {}", .0.join(", no "))]
    NotFound(Vec<String>),
    /// The drain that was waited for did not come to its end.
    #[error("{0}")]
    NotEmpty(String),
    #[error("{source}")]
    Client {
        source: ClientError,
        /// What the request was made of.
        file: Option<String>,
    },
    /// Something on the way through a cluster, or the controller's answer.
    #[error("{0}")]
    Cluster(#[from] Trouble),
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
}

/// A failed call that was not made of a file.
impl From<ClientError> for Failure {
    fn from(source: ClientError) -> Self {
        Self::Client { source, file: None }
    }
}

impl Failure {
    /// A failed call; `file` is what the request was made of.
    pub(super) fn of_file(source: ClientError, file: &str) -> Self {
        Self::Client {
            source,
            file: Some(file.to_owned()),
        }
    }

    /// What the process ends with.
    pub(super) fn exit(&self) -> Exit {
        match self {
            // As after `podline status | head`: the reader has what it wanted.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::NotFound(_) => Exit::DifferentOrMissing,
            Self::NotEmpty(_) => Exit::NotEmpty,
            Self::Usage(_) | Self::Read { .. } | Self::Invalid { .. } | Self::Output(_) => {
                Exit::Usage
            }
            Self::Client { source, .. } => exit(source),
            Self::Cluster(trouble) => trouble.exit,
        }
    }

    /// The lines for the standard error: what is wrong, then what to do.
    pub(super) fn explain(&self) -> String {
        let mut text = String::new();
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return text,
            Self::Invalid { file, source } => list(&mut text, file, source),
            Self::Client {
                source: ClientError::Rejected { source, .. },
                file,
            } => {
                let file = file.as_deref().unwrap_or("request");
                match source {
                    Rejected::Invalid(invalid) => list(&mut text, file, invalid),
                    Rejected::Conflict { path, problem } => {
                        list(&mut text, file, &Invalid::one(path, problem));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        let _ = writeln!(text, "error: {}", self.with_cause());
        let advice = match self {
            Self::Client { source, .. } => advice(source),
            Self::Cluster(trouble) => trouble.advice.clone(),
            _ => Vec::new(),
        };
        for line in advice {
            let _ = writeln!(text, "  {line}");
        }
        text
    }

    /// The failure with the cause that says most: the innermost one.
    pub(super) fn with_cause(&self) -> String {
        let cause = match self {
            Self::Read { source, .. } | Self::Output(source) => Some(source.to_string()),
            Self::Client {
                source: ClientError::Unreachable { source, .. },
                ..
            } => Some(innermost(source)),
            Self::Client {
                source: ClientError::Failed { source, .. },
                ..
            } => Some(call_failed(source)),
            Self::Client {
                source: ClientError::Rejected { source, .. },
                ..
            } => match source {
                Rejected::Invalid(_) | Rejected::Conflict { .. } => None, // listed above
                _ => Some(source.to_string()),
            },
            _ => None,
        };
        cause.map_or_else(|| self.to_string(), |cause| format!("{self}: {cause}"))
    }
}

fn exit(error: &ClientError) -> Exit {
    match error {
        ClientError::BadTarget { .. } | ClientError::BadTls { .. } => Exit::Usage,
        ClientError::Unreachable { .. }
        | ClientError::Untrusted { .. }
        | ClientError::CertificateRefused { .. }
        | ClientError::PlainText { .. } => Exit::Unreachable,
        ClientError::Rejected {
            source: Rejected::NotFound { .. },
            ..
        } => Exit::DifferentOrMissing,
        ClientError::Rejected { .. } => Exit::Refused,
        ClientError::Failed { source, .. } => match source.code() {
            Code::NotFound => Exit::DifferentOrMissing,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
                Exit::Unreachable
            }
            _ if is_local(source) => Exit::Unreachable,
            _ => Exit::Refused,
        },
    }
}

fn list(text: &mut String, file: &str, invalid: &Invalid) {
    for violation in &invalid.violations {
        let _ = writeln!(text, "{file}: {violation}");
    }
}

fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_lowercase()
}

fn call_failed(status: &tonic::Status) -> String {
    let name = format!("{:?}", status.code());
    match (status.source(), status.message()) {
        (Some(source), _) => format!("{} ({name})", innermost(source)),
        (None, "") => name,
        (None, message) => format!("{message} ({name})"),
    }
}

#[cfg(test)]
mod tests;
