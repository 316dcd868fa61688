//! The configuration file: a [`Document`] in YAML. Text in, document out; it opens no files.

use serde_saphyr::{Budget, Error, Options};

use crate::form::nearest;
use crate::{Document, Invalid, v1};

impl Document {
    /// Reads a configuration file. An empty one is an empty document.
    ///
    /// # Errors
    /// Every offending field with its path. Input that is not of the document's shape (a misspelt field, say) is told
    /// first and alone, with its line.
    pub fn from_yaml(text: &str) -> Result<Self, Invalid> {
        let mut failed_at = String::new();
        let wire =
            serde_saphyr::with_deserializer_from_str_with_options(text, options(), |input| {
                serde_path_to_error::deserialize::<_, v1::Document>(input).map_err(|error| {
                    failed_at = error.path().to_string();
                    error.into_inner()
                })
            });
        match wire {
            Ok(wire) => Self::try_from(wire),
            Err(error) => Err(explain(&error, &failed_at)),
        }
    }

    /// Writes the document as a configuration file, defaults spelt out. Reading it back gives the same document.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(&v1::Document::from(self))
            .expect("a document holds only strings, numbers and lists")
    }
}

/// Limits against hostile files: a document needs a depth of 6, no aliases, and some 8 events for a backend.
fn options() -> Options {
    let mut budget = Budget::default();
    budget.max_depth = 64;
    budget.max_events = 8_000_000;
    budget.max_nodes = 8_000_000;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.with_snippet = false;
    options
}

fn explain(error: &Error, path: &str) -> Invalid {
    let error = error.without_snippet();
    let problem = match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => match nearest(field, expected) {
            Some(name) => format!("unknown field, did you mean \"{name}\"?"),
            None => format!("unknown field, expected one of {}", expected.join(", ")),
        },
        other => other.to_string(),
    };
    Invalid::one(path.trim_start_matches('.'), problem)
}
