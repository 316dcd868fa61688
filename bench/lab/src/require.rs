//! What tests need of the machine: where it is not there they are skipped and say why, and where the environment's
//! `PODLINE_REQUIRE` names it they fail, so that CI cannot skip by accident.

use std::fmt::Display;

use crate::lab::Lab;

/// What was `found`, or nothing, for a test to be skipped by; why is printed.
///
/// # Panics
/// It was not found, and `PODLINE_REQUIRE` contains `word`.
pub fn require<T>(word: &str, found: Result<T, impl Display>) -> Option<T> {
    let reason = match found {
        Ok(found) => return Some(found),
        Err(reason) => reason,
    };
    let required = std::env::var("PODLINE_REQUIRE").is_ok_and(|value| value.contains(word));
    assert!(!required, "{word} is required, but: {reason}");
    eprintln!("skipped, no {word}: {reason}");
    None
}

/// Whether network namespaces can be made and used, for the first line of a test: `if !require_netns() { return; }`.
///
/// # Panics
/// They cannot, and `PODLINE_REQUIRE` contains `netns`.
pub fn require_netns() -> bool {
    require("netns", Lab::available()).is_some()
}
