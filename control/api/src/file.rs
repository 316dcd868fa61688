//! The configuration file: a [`Document`] in YAML. Text in, document out; it opens no files.

mod named_files;

use std::fmt::Write;

use serde_saphyr::{Budget, Error, Options};

use crate::form::nearest;
use crate::{Document, Invalid, v1};

impl Document {
    /// Reads a configuration file. `{}`, or nothing but comments, is an empty document; no text at all is an error, for
    /// a file that is being written is empty at first, and what it said before would go.
    ///
    /// # Errors
    /// Every offending field with its path. Input that is not of the document's shape (a misspelt field, say) is told
    /// first and alone, with its line.
    pub fn from_yaml(text: &str) -> Result<Self, Invalid> {
        Self::from_yaml_with(text, |_| Err("is for configuration files".to_owned()))
    }

    /// The same; `read` gives the text of the files that certificates are named by, or says why it cannot.
    ///
    /// # Errors
    /// As of [`Self::from_yaml`].
    pub fn from_yaml_with(
        text: &str,
        read: impl FnMut(&str) -> Result<String, String>,
    ) -> Result<Self, Invalid> {
        if text.trim().is_empty() {
            let problem = "the file is empty; one that removes everything says {}";
            return Err(Invalid::one("", problem));
        }
        let mut failed_at = String::new();
        let wire =
            serde_saphyr::with_deserializer_from_str_with_options(text, yaml_options(), |input| {
                serde_path_to_error::deserialize::<_, Option<v1::Document>>(input).map_err(
                    |error| {
                        failed_at = error.path().to_string();
                        error.into_inner()
                    },
                )
            });
        match wire {
            Ok(wire) => {
                let mut wire = wire.unwrap_or_default();
                named_files::fill(&mut wire, read)?;
                Self::try_from(wire)
            }
            Err(error) => Err(explain(&error, &failed_at)),
        }
    }

    /// Writes the document as a configuration file, defaults spelt out. Reading it back gives the same document.
    pub fn to_yaml(&self) -> String {
        v1::Document::from(self).to_yaml()
    }
}

impl v1::Document {
    /// Writes it as a configuration file, whether or not what it says is right.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).expect("a document holds only strings, numbers and lists")
    }
}

/// How YAML files are read, with limits against hostile ones: a document needs a depth of 6, no aliases, and some 8 events
/// for a backend.
pub fn yaml_options() -> Options {
    let mut budget = Budget::default();
    budget.max_depth = 64;
    budget.max_events = 8_000_000;
    budget.max_nodes = 8_000_000;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.strict_booleans = true;
    options.with_snippet = false;
    options
}

/// Says what is not of the document's shape, in the words of people who write files, with its line.
fn explain(error: &Error, path: &str) -> Invalid {
    let error = error.without_snippet();
    let mut path = path.trim_end_matches('?').trim_matches('.').to_owned();
    let mut problem = match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => match nearest(field, expected) {
            Some(name) => format!("unknown field, did you mean \"{name}\"?"),
            None => format!("unknown field, expected one of {}", expected.join(", ")),
        },
        Error::DuplicateMappingKey { key, .. } => {
            let dot = if path.is_empty() { "" } else { "." };
            let _ = write!(path, "{dot}{}", key.as_deref().unwrap_or("?"));
            "stands twice".to_owned()
        }
        Error::Unexpected {
            expected: "mapping start",
            ..
        } => "must hold fields (name: value)".to_owned(),
        Error::Unexpected {
            expected: "sequence start",
            ..
        } => "must be a list (- item)".to_owned(),
        Error::Unexpected {
            expected: "string scalar",
            ..
        } => "must be a single value".to_owned(),
        Error::NullIntoString { .. } => "has no value".to_owned(),
        Error::InvalidScalar { ty: "u32", .. } => "must be a whole number, 0 or more".to_owned(),
        Error::InvalidBooleanStrict { .. } => "must be true or false".to_owned(),
        Error::MultipleDocuments { .. } => "the file holds more than one YAML document".to_owned(),
        Error::Message { msg, .. } => msg.clone(),
        other => without_location(&other.to_string()).to_owned(),
    };
    if let Some(location) = error.location() {
        let _ = write!(problem, " (line {})", location.line());
    }
    Invalid::one(path, problem)
}

/// The parser ends its messages with the place, which we tell in our own way.
fn without_location(message: &str) -> &str {
    message
        .rsplit_once(" at line ")
        .map_or(message, |(message, _)| message)
}
