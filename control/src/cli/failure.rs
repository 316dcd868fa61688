//! What goes wrong, told so that the reader knows whose fault it is, whether to retry, and what to do.

use std::error::Error;
use std::fmt::Write;
use std::io;
use std::process::ExitCode;

use podline_api::client::ClientError;
use podline_api::{Invalid, Rejected};
use tonic::Code;

/// What the process's exit code says; see `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Done = 0,
    DifferentOrMissing = 1,
    Usage = 2,
    Refused = 3,
    Unreachable = 4,
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
    #[error("{source}")]
    Client {
        source: ClientError,
        /// What the request was made of.
        file: Option<String>,
    },
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
            Self::Usage(_) | Self::Read { .. } | Self::Invalid { .. } | Self::Output(_) => {
                Exit::Usage
            }
            Self::Client { source, .. } => match source {
                ClientError::BadTarget { .. } => Exit::Usage,
                ClientError::Unreachable { .. } => Exit::Unreachable,
                ClientError::Rejected { .. } => Exit::Refused,
                ClientError::Failed { source, .. } => match source.code() {
                    Code::NotFound => Exit::DifferentOrMissing,
                    Code::Unavailable
                    | Code::DeadlineExceeded
                    | Code::Cancelled
                    | Code::Unknown => Exit::Unreachable,
                    _ => Exit::Refused,
                },
            },
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
        for line in self.advice() {
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

    fn advice(&self) -> Vec<String> {
        let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect();
        let Self::Client { source, .. } = self else {
            return Vec::new();
        };
        match source {
            ClientError::Unreachable { target, .. } => vec![
                format!("nothing was changed; is podline-proxy running with --api {target}?"),
                "another address: --proxy ADDR|unix:PATH or PODLINE_PROXY".to_owned(),
            ],
            ClientError::Rejected { source, .. } => match source {
                Rejected::Invalid(_) => {
                    lines(&["nothing was changed; mend the input, then apply it again"])
                }
                Rejected::Conflict { .. } => lines(&[
                    "nothing was changed; use another name or address, or apply as that owner (--owner)",
                ]),
                Rejected::Version { .. } | Rejected::SetVersion { .. } => lines(&[
                    "nothing was changed; somebody else changed it meanwhile: look at it, then try again",
                ]),
                Rejected::StaleEpoch { .. } => {
                    lines(&["nothing was changed; whoever leads now will do it: do not try again"])
                }
                Rejected::Forbidden { .. } => lines(&[
                    "nothing was changed; use a certificate that allows it (--tls-cert), or ask at the proxy's own host",
                ]),
                Rejected::NotFound { .. } => lines(&["podline status shows what there is"]),
            },
            ClientError::Failed { source, .. } => match source.code() {
                Code::Unimplemented => {
                    lines(&["it is older than this podline, or no podline-proxy at all"])
                }
                Code::DeadlineExceeded => {
                    lines(&["a change may have been made: see podline status"])
                }
                Code::Unavailable => {
                    lines(&["it went away; a change may have been made: see podline status"])
                }
                _ => Vec::new(),
            },
            ClientError::BadTarget { .. } => Vec::new(),
        }
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
    match status.message() {
        "" => name,
        message => format!("{message} ({name})"),
    }
}

#[cfg(test)]
mod tests {
    use podline_api::{Name, Violation};
    use tonic::Status;

    use super::*;

    fn check(failure: &Failure, exit: Exit, text: &str) {
        assert_eq!((failure.explain().as_str(), failure.exit()), (text, exit));
    }

    fn rejected(source: Rejected) -> Failure {
        let target = "x:1".to_owned();
        Failure::of_file(ClientError::Rejected { target, source }, "podline.yaml")
    }

    fn failed(status: Status) -> Failure {
        let (target, source) = ("x:1".to_owned(), Box::new(status));
        ClientError::Failed { target, source }.into()
    }

    fn two_problems() -> Invalid {
        let violation = |path: &str| Violation {
            path: path.to_owned(),
            problem: "is wrong".to_owned(),
        };
        Invalid {
            violations: vec![violation("listeners[0].name"), violation("")],
        }
    }

    #[test]
    fn bad_input_is_listed_line_by_line() {
        let failure = Failure::Invalid {
            file: "podline.yaml".to_owned(),
            source: two_problems(),
        };
        let text = "\
podline.yaml: listeners[0].name: is wrong
podline.yaml: is wrong
error: podline.yaml is not valid: nothing was sent
";
        check(&failure, Exit::Usage, text);
        let source = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let failure = Failure::Read {
            file: "x".to_owned(),
            source,
        };
        check(
            &failure,
            Exit::Usage,
            "error: cannot read x: no such file\n",
        );
    }

    #[test]
    fn refusals_say_what_to_do() {
        let text = "\
podline.yaml: listeners[0].name: is wrong
podline.yaml: is wrong
error: the proxy at x:1 refused the request
  nothing was changed; mend the input, then apply it again
";
        check(
            &rejected(Rejected::Invalid(two_problems())),
            Exit::Refused,
            text,
        );
        let conflict = Rejected::Conflict {
            path: "listeners[0].name".to_owned(),
            problem: "web belongs to file".to_owned(),
        };
        let text = "\
podline.yaml: listeners[0].name: web belongs to file
error: the proxy at x:1 refused the request
  nothing was changed; use another name or address, or apply as that owner (--owner)
";
        check(&rejected(conflict), Exit::Refused, text);
        let set = Name::try_from("web").unwrap();
        let text = "\
error: the proxy at x:1 refused the request: backend set web is at version 2, not 1
  nothing was changed; somebody else changed it meanwhile: look at it, then try again
";
        check(
            &rejected(Rejected::SetVersion {
                set,
                wanted: 1,
                actual: 2,
            }),
            Exit::Refused,
            text,
        );
    }

    #[test]
    fn broken_calls_are_told_apart() {
        check(
            &failed(Status::unimplemented("")),
            Exit::Refused,
            "error: the proxy at x:1 did not answer: Unimplemented\n  it is older than this podline, or no podline-proxy at all\n",
        );
        let text = "\
error: the proxy at x:1 did not answer: shutting down (Unavailable)
  it went away; a change may have been made: see podline status
";
        check(
            &failed(Status::unavailable("shutting down")),
            Exit::Unreachable,
            text,
        );
        let target = "x".to_owned();
        check(
            &ClientError::BadTarget { target }.into(),
            Exit::Usage,
            "error: \"x\" is not a proxy address: write host:port or unix:PATH\n",
        );
        let failure = Failure::NotFound(vec!["set/a".to_owned(), "listener/b".to_owned()]);
        check(
            &failure,
            Exit::DifferentOrMissing,
            "error: the proxy has no set/a, no listener/b\n",
        );
        let failure = Failure::Output(io::ErrorKind::BrokenPipe.into());
        check(&failure, Exit::Done, "");
    }

    #[tokio::test]
    async fn nothing_listening_is_explained() {
        let error = podline_api::client::ProxyClient::connect("unix:/nonexistent/podline.sock")
            .await
            .unwrap_err();
        let text = "\
error: cannot reach the proxy at unix:/nonexistent/podline.sock: no such file or directory
  nothing was changed; is podline-proxy running with --api unix:/nonexistent/podline.sock?
  another address: --proxy ADDR|unix:PATH or PODLINE_PROXY
";
        check(&error.into(), Exit::Unreachable, text);
    }
}
