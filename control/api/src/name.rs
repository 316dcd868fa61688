//! What things are called, and who put them there.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::Invalid;

const MAX_LEN: usize = 253;

/// The name of a listener or backend set: 1 to 253 of `A-Z a-z 0-9 . _ / -`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Who owns a part of a proxy's state, as `file` or `k8s/east`: a [`Name`] that may hold `:`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(Arc<str>);

fn check(text: &str, extra: &[char], allowed: &str) -> Result<Arc<str>, Invalid> {
    let problem = if text.is_empty() {
        "is required".to_owned()
    } else if text.len() > MAX_LEN {
        format!("is longer than {MAX_LEN} characters")
    } else if let Some(odd) = text
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !"._/-".contains(*c) && !extra.contains(c))
    {
        format!("must not hold {odd:?}: use {allowed}")
    } else {
        return Ok(text.into());
    };
    Err(Invalid::one("", problem))
}

macro_rules! text_type {
    ($type:ident, $extra:expr, $allowed:expr) => {
        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $type {
            type Error = Invalid;

            fn try_from(text: &str) -> Result<Self, Invalid> {
                check(text, $extra, $allowed).map(Self)
            }
        }

        impl TryFrom<String> for $type {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::try_from(text.as_str())
            }
        }

        impl FromStr for $type {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::try_from(text)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<&$type> for String {
            fn from(value: &$type) -> Self {
                value.0.as_ref().to_owned()
            }
        }
    };
}

text_type!(Name, &[], "A-Z a-z 0-9 . _ / -");
text_type!(Owner, &[':'], "A-Z a-z 0-9 . _ / - :");

impl Owner {
    /// Whether `other` is this owner or lies under it: `k8s` covers `k8s` and `k8s/east`, not `k8sx`.
    pub fn covers(&self, other: &Self) -> bool {
        let rest = other.as_str().strip_prefix(self.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_what_they_may() {
        let longest = "x".repeat(MAX_LEN);
        for text in ["a", "web", "k8s/east/default.web_1-2", &longest] {
            assert_eq!(Name::try_from(text).unwrap().as_str(), text);
            assert_eq!(Owner::try_from(text).unwrap().as_str(), text);
        }
        assert_eq!(Owner::try_from("k8s:east").unwrap().to_string(), "k8s:east");
    }

    #[test]
    fn an_owner_covers_itself_and_what_lies_under_it() {
        let owner = |text: &str| Owner::try_from(text).unwrap();
        for (other, covered) in [
            ("k8s/east", true),
            ("k8s/east/a", true),
            ("k8s", false),
            ("k8s/eastern", false),
            ("file", false),
        ] {
            assert_eq!(owner("k8s/east").covers(&owner(other)), covered, "{other}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        let check = |text: &str, problem: &str| {
            assert_eq!(text.parse::<Name>(), Err(Invalid::one("", problem)));
        };
        check("", "is required");
        check(&"x".repeat(MAX_LEN + 1), "is longer than 253 characters");
        check("a b", "must not hold ' ': use A-Z a-z 0-9 . _ / -");
        check("k8s:east", "must not hold ':': use A-Z a-z 0-9 . _ / -");
        check("a\0", "must not hold '\\0': use A-Z a-z 0-9 . _ / -");
        check("é", "must not hold 'é': use A-Z a-z 0-9 . _ / -");
    }
}
