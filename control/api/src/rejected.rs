//! Why a proxy refused an Apply, and how that travels: as a gRPC status with google.rpc.ErrorInfo and BadRequest.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{Invalid, Name, Violation};

const DOMAIN: &str = "podline.v1";
/// Details ride in a header, and HTTP/2 peers cap those at 16 KiB (base64 makes 3 bytes 4).
const MAX_DETAIL_BYTES: usize = 8 << 10;

/// Why a proxy refused an Apply. Nothing of it was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The request is wrong: mend it, do not retry.
    #[error("invalid request: {0}")]
    Invalid(Invalid),
    /// Another owner has what the request wants: do not retry.
    #[error("{path}: {problem}")]
    Conflict {
        /// The field that names it.
        path: String,
        /// Who has it.
        problem: String,
    },
    /// The proxy is at another version: Get, then retry.
    #[error("the proxy is at version {actual}, not {wanted}")]
    Version {
        /// The request's `ifVersion`.
        wanted: u64,
        /// The proxy's version.
        actual: u64,
    },
    /// A set is at another version: send the whole set.
    #[error("backend set {set} is at version {actual}, not {wanted}")]
    SetVersion {
        /// The set.
        set: Name,
        /// The change's `ifVersion`.
        wanted: u64,
        /// The set's version.
        actual: u64,
    },
}

impl From<Invalid> for Rejected {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<Rejected> for Status {
    fn from(rejected: Rejected) -> Self {
        let message = cut(&rejected.to_string(), 1024);
        let (code, reason, metadata, violations) = match rejected {
            Rejected::Invalid(invalid) => (
                Code::InvalidArgument,
                "INVALID",
                HashMap::new(),
                invalid.violations,
            ),
            Rejected::Conflict { path, problem } => (
                Code::AlreadyExists,
                "CONFLICT",
                HashMap::new(),
                vec![Violation { path, problem }],
            ),
            Rejected::Version { wanted, actual } => (
                Code::Aborted,
                "VERSION",
                versions(wanted, actual).into(),
                Vec::new(),
            ),
            Rejected::SetVersion {
                set,
                wanted,
                actual,
            } => {
                let mut metadata = HashMap::from(versions(wanted, actual));
                metadata.insert("set".to_owned(), set.to_string());
                (Code::Aborted, "SET_VERSION", metadata, Vec::new())
            }
        };
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
        if !violations.is_empty() {
            details.set_bad_request(fitting(violations));
        }
        Self::with_error_details(code, message, details)
    }
}

fn versions(wanted: u64, actual: u64) -> [(String, String); 2] {
    [
        ("wanted".to_owned(), wanted.to_string()),
        ("actual".to_owned(), actual.to_string()),
    ]
}

/// As many violations as a header can carry, and a note if that is not all.
fn fitting(violations: Vec<Violation>) -> Vec<FieldViolation> {
    let total = violations.len();
    let mut left = MAX_DETAIL_BYTES;
    let mut out = Vec::new();
    for violation in violations {
        let (path, problem) = (cut(&violation.path, 512), cut(&violation.problem, 512));
        let Some(rest) = left.checked_sub(path.len() + problem.len() + 8) else {
            let problem = format!(
                "there are more problems; the first {} of {total} are listed",
                out.len()
            );
            out.push(FieldViolation::new("", problem));
            break;
        };
        left = rest;
        out.push(FieldViolation::new(path, problem));
    }
    out
}

fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

impl Rejected {
    /// Reads a status back; `None` if it does not say that a proxy refused a request for a reason of ours.
    pub fn from_status(status: &Status) -> Option<Self> {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN)?;
        let mut violations = details
            .bad_request()
            .map(|request| request.field_violations.clone())
            .unwrap_or_default();
        let number = |key: &str| {
            info.metadata
                .get(key)
                .and_then(|text| text.parse::<u64>().ok())
        };
        Some(match info.reason.as_str() {
            "INVALID" if !violations.is_empty() => {
                let violation = |v: FieldViolation| Violation {
                    path: v.field,
                    problem: v.description,
                };
                Self::Invalid(Invalid {
                    violations: violations.into_iter().map(violation).collect(),
                })
            }
            "CONFLICT" if !violations.is_empty() => {
                let violation = violations.swap_remove(0);
                Self::Conflict {
                    path: violation.field,
                    problem: violation.description,
                }
            }
            "VERSION" => Self::Version {
                wanted: number("wanted")?,
                actual: number("actual")?,
            },
            "SET_VERSION" => Self::SetVersion {
                set: Name::try_from(info.metadata.get("set")?.as_str()).ok()?,
                wanted: number("wanted")?,
                actual: number("actual")?,
            },
            _ => return None,
        })
    }
}
