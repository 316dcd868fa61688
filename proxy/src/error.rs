//! Why the process cannot start, and with which exit code it ends then.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::host::return_path::ReturnPathError;

/// Why the process cannot start. Nothing was served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--log` is no filter.
    #[error("--log {filter:?} is not a log filter")]
    LogFilter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The API would be open to the network without proof of who calls.
    #[error("{0}")]
    OpenApi(String),
    /// The marks or routing tables cannot be used.
    #[error("{0}")]
    Marks(String),
    /// The control threads cannot start.
    #[error("cannot start the control threads")]
    Control(#[source] std::io::Error),
    /// The workers cannot start.
    #[error("cannot start the workers")]
    Workers(#[source] std::io::Error),
    /// An address of ours is taken or not allowed.
    #[error("cannot serve {what} on {address}")]
    Bind {
        /// `the API`, `admin`, `metrics` or `the responder`.
        what: &'static str,
        /// As it was given.
        address: String,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The configuration file cannot be taken.
    #[error(transparent)]
    File(#[from] FileError),
    /// The node agent cannot work.
    #[error(transparent)]
    ReturnPath(#[from] ReturnPathError),
}

/// Why a configuration file was not taken. What was there before stays.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// It says something that cannot be.
    #[error("{}", told(problems))]
    Refused {
        /// Each as `file:line: path: problem`; at least one.
        problems: Vec<String>,
    },
}

fn told(problems: &[String]) -> String {
    problems.join("\n")
}

impl Error {
    /// 2 if a file or a flag was refused, so that scripts can tell it from trouble with the machine; else 1.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::File(FileError::Refused { .. })
            | Self::OpenApi(_)
            | Self::Marks(_)
            | Self::ReturnPath(ReturnPathError::Settings(_)) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

/// An error with its causes on one line, for where it is handled.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once_each_in_order() {
        let source = std::io::Error::other("the disk is gone");
        let error = Error::from(FileError::Read {
            path: "a.yaml".into(),
            source,
        });
        assert_eq!(chain(&error), "cannot read a.yaml: the disk is gone");
        assert_eq!(error.exit_code(), ExitCode::FAILURE);
    }

    #[test]
    fn a_refused_file_has_an_exit_code_of_its_own() {
        let problems = vec!["a.yaml:1: x".to_owned(), "a.yaml:2: y".to_owned()];
        let error = Error::from(FileError::Refused { problems });
        assert_eq!(error.to_string(), "a.yaml:1: x\na.yaml:2: y");
        assert_eq!(error.exit_code(), ExitCode::from(2));
    }
}
