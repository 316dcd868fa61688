//! Input that was refused: every offending field with its path, in the words of the file (camelCase).
//!
//! Must not know what the fields mean.

use std::fmt;

/// One thing that is wrong with a request or a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as `backendSets[2].backends[0].weight`; empty means the whole input.
    pub path: String,
    /// What is wrong with it and what to write instead; lower case, no full stop.
    pub problem: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.problem)
        } else {
            write!(f, "{}: {}", self.path, self.problem)
        }
    }
}

/// What is wrong with a request or a file: at least one violation, at most [`Invalid::MAX`] and a note that there are more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// In the order of the input.
    pub violations: Vec<Violation>,
}

impl Invalid {
    /// How many violations are listed; a hostile request cannot make the answer grow without bound.
    pub const MAX: usize = 100;

    /// A single violation.
    pub fn one(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            violations: vec![Violation {
                path: path.into(),
                problem: problem.into(),
            }],
        }
    }

    /// The same, seen from one level further out: `at("backends[0]")` turns `weight` into `backends[0].weight`.
    #[must_use]
    pub fn at(mut self, prefix: impl fmt::Display) -> Self {
        let prefix = prefix.to_string();
        for violation in &mut self.violations {
            let path = &violation.path;
            let joined = prefix.is_empty() || path.is_empty() || path.starts_with('[');
            violation.path = format!("{prefix}{}{path}", if joined { "" } else { "." });
        }
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.violations.as_slice() {
            [] => f.write_str("invalid"),
            [only] => only.fmt(f),
            [first, rest @ ..] => write!(f, "{first} (and {} more)", rest.len()),
        }
    }
}

/// Collects the violations of one message, so that all of them are told at once.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    violations: Vec<Violation>,
}

impl Checks {
    /// Notes a violation of the field `path`.
    pub(crate) fn refuse(&mut self, path: impl fmt::Display, problem: impl Into<String>) {
        self.absorb(Invalid::one(path.to_string(), problem));
    }

    /// The value, or `None` after noting what is wrong with it.
    pub(crate) fn take<T>(
        &mut self,
        path: impl fmt::Display,
        result: Result<T, Invalid>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(invalid) => {
                self.absorb(invalid.at(path));
                None
            }
        }
    }

    /// The values that are right, in order; `path` is the name of the list.
    pub(crate) fn each<W, T>(
        &mut self,
        path: &str,
        values: Vec<W>,
        parse: impl Fn(W) -> Result<T, Invalid>,
    ) -> Vec<(usize, T)> {
        let mut out = Vec::with_capacity(values.len());
        for (i, value) in values.into_iter().enumerate() {
            out.extend(
                self.take(format_args!("{path}[{i}]"), parse(value))
                    .map(|value| (i, value)),
            );
        }
        out
    }

    /// `value` if nothing was wrong. `None` is only for values that could not be made, after their violation was noted.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Invalid> {
        match value {
            Some(value) if self.violations.is_empty() => Ok(value),
            _ => Err(Invalid {
                violations: self.violations,
            }),
        }
    }

    fn absorb(&mut self, invalid: Invalid) {
        for violation in invalid.violations {
            match self.violations.len() {
                0..Invalid::MAX => self.violations.push(violation),
                Invalid::MAX => self.violations.push(Violation {
                    path: String::new(),
                    problem: format!(
                        "there are more problems; the first {} are listed",
                        Invalid::MAX
                    ),
                }),
                _ => return,
            }
        }
    }
}
