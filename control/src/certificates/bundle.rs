//! Bundles of CAs outside of Secrets, in the webhook configurations: what is wrong with one, and what several have in
//! common. Pure.

use std::fmt;

use super::x509::Certificate;

/// How a bundle differs from what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// There is nothing in it.
    Empty,
    /// It holds what is no certificate, or one twice.
    Unreadable,
    /// It holds a CA that it should not.
    Foreign,
    /// It lacks a CA that it should hold.
    Lacking,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::Unreadable => "cannot be read",
            Self::Foreign => "holds a foreign CA",
            Self::Lacking => "lacks Podline's CA",
        })
    }
}

/// What is wrong with a bundle in PEM. Order, white space and comments make no difference.
pub fn compare(found: &[u8], desired: &[u8]) -> Vec<Mismatch> {
    if found.is_empty() && !desired.is_empty() {
        return vec![Mismatch::Empty];
    }
    let ((found, is_clean), (desired, _)) = (Certificate::list(found), Certificate::list(desired));
    let checks = [
        (Mismatch::Unreadable, !is_clean || found.is_empty()),
        (
            Mismatch::Foreign,
            found.iter().any(|root| !desired.contains(root)),
        ),
        (
            Mismatch::Lacking,
            desired.iter().any(|root| !found.contains(root)),
        ),
    ];
    let wrong = checks.into_iter().filter(|(_, is_so)| *is_so);
    wrong.map(|(mismatch, _)| mismatch).collect()
}

/// What all of them hold, in PEM: whom everybody trusts.
pub fn common(bundles: &[Vec<u8>]) -> Vec<u8> {
    let mut lists = bundles.iter().map(|bundle| Certificate::list(bundle).0);
    let mut common = lists.next().unwrap_or_default();
    for list in lists {
        common.retain(|root| list.contains(root));
    }
    Certificate::pem(&common).into_bytes()
}
