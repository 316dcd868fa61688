//! Why a proxy refused an Apply, and how that travels: as a gRPC status with google.rpc.ErrorInfo and BadRequest.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{Invalid, Name, Owner, Violation, v1};

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
    /// Another process has taken over as this owner: stop, do not retry.
    #[error("{}", stale(owner, *epoch, *current))]
    StaleEpoch {
        /// The owner.
        owner: Owner,
        /// The request's epoch; absent if it named none.
        epoch: Option<u64>,
        /// The owner's highest so far.
        current: u64,
    },
    /// The caller's certificate does not allow it: use one that does.
    #[error("{problem}")]
    Forbidden {
        /// What is not allowed, and what the certificate is for.
        problem: String,
    },
    /// What the request names is not there: do not retry before it is.
    #[error("{path}: {problem}")]
    NotFound {
        /// The field that names it.
        path: String,
        /// What is missing.
        problem: String,
    },
}

fn stale(owner: &Owner, epoch: Option<u64>, current: u64) -> String {
    let sent = epoch.map_or("no epoch".to_owned(), |epoch| format!("epoch {epoch}"));
    format!(
        "owner \"{owner}\" is at epoch {current}, and this request has {sent}: another one leads now"
    )
}

impl From<Invalid> for Rejected {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// The answer to a refused request of a Push.
impl From<Rejected> for v1::Refusal {
    fn from(rejected: Rejected) -> Self {
        let (reason, message) = (rejected.reason().to_owned(), rejected.to_string());
        let violations = match rejected {
            Rejected::Invalid(invalid) => invalid.violations,
            Rejected::Conflict { path, problem } | Rejected::NotFound { path, problem } => {
                vec![Violation { path, problem }]
            }
            _ => Vec::new(),
        };
        let problem = |v: Violation| v1::FieldProblem {
            path: v.path,
            problem: v.problem,
        };
        Self {
            reason,
            message,
            problems: violations.into_iter().map(problem).collect(),
        }
    }
}

impl From<Rejected> for Status {
    fn from(rejected: Rejected) -> Self {
        let message = cut(&rejected.to_string(), 1024);
        let reason = rejected.reason();
        let (code, metadata, violations) = match rejected {
            Rejected::Invalid(invalid) => {
                (Code::InvalidArgument, HashMap::new(), invalid.violations)
            }
            Rejected::Conflict { path, problem } => (
                Code::AlreadyExists,
                HashMap::new(),
                vec![Violation { path, problem }],
            ),
            Rejected::Version { wanted, actual } => {
                (Code::Aborted, versions(wanted, actual).into(), Vec::new())
            }
            Rejected::SetVersion {
                set,
                wanted,
                actual,
            } => {
                let mut metadata = HashMap::from(versions(wanted, actual));
                metadata.insert("set".to_owned(), set.to_string());
                (Code::Aborted, metadata, Vec::new())
            }
            Rejected::StaleEpoch {
                owner,
                epoch,
                current,
            } => {
                let mut metadata = HashMap::from([
                    ("owner".to_owned(), owner.to_string()),
                    ("current".to_owned(), current.to_string()),
                ]);
                metadata.extend(epoch.map(|epoch| ("epoch".to_owned(), epoch.to_string())));
                (Code::FailedPrecondition, metadata, Vec::new())
            }
            Rejected::Forbidden { problem } => {
                let path = String::new();
                let violation = vec![Violation { path, problem }];
                (Code::PermissionDenied, HashMap::new(), violation)
            }
            Rejected::NotFound { path, problem } => {
                let violation = vec![Violation { path, problem }];
                (Code::NotFound, HashMap::new(), violation)
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
    /// The word that programs tell refusals apart by; as in `google.rpc.ErrorInfo` and [`v1::Refusal`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "INVALID",
            Self::Conflict { .. } => "CONFLICT",
            Self::Version { .. } => "VERSION",
            Self::SetVersion { .. } => "SET_VERSION",
            Self::StaleEpoch { .. } => "STALE_EPOCH",
            Self::Forbidden { .. } => "FORBIDDEN",
            Self::NotFound { .. } => "NOT_FOUND",
        }
    }

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
            "FORBIDDEN" if !violations.is_empty() => Self::Forbidden {
                problem: violations.swap_remove(0).description,
            },
            "NOT_FOUND" if !violations.is_empty() => {
                let violation = violations.swap_remove(0);
                Self::NotFound {
                    path: violation.field,
                    problem: violation.description,
                }
            }
            "STALE_EPOCH" => Self::StaleEpoch {
                owner: Owner::try_from(info.metadata.get("owner")?.as_str()).ok()?,
                epoch: number("epoch"),
                current: number("current")?,
            },
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
