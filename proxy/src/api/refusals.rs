//! Callers of the API that were refused: each is counted by its reason, and few of them are logged.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::Counts;
use crate::quiet::Quiet;

/// How often to look whether a minute is over.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why a caller was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// It speaks plain text where TLS is spoken.
    PlainText,
    /// It shows no certificate.
    NoCertificate,
    /// Its certificate was signed by nobody that we believe.
    UnknownCa,
    /// Its certificate is over.
    Expired,
    /// The handshake failed in another way.
    Handshake,
    /// It did not end its handshake in time.
    Timeout,
    /// Its certificate does not allow what it asked for.
    Forbidden,
}

impl Reason {
    /// All, in the order of their numbers.
    pub(crate) const ALL: [Self; 7] = [
        Self::PlainText,
        Self::NoCertificate,
        Self::UnknownCa,
        Self::Expired,
        Self::Handshake,
        Self::Timeout,
        Self::Forbidden,
    ];

    /// As metrics and logs call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PlainText => "plain_text",
            Self::NoCertificate => "no_certificate",
            Self::UnknownCa => "unknown_ca",
            Self::Expired => "expired",
            Self::Handshake => "handshake",
            Self::Timeout => "timeout",
            Self::Forbidden => "forbidden",
        }
    }
}

/// Counts and logs refusals.
#[derive(Debug)]
pub(crate) struct Refusals {
    counts: Arc<Counts>,
    quiet: Mutex<Quiet<(Reason, IpAddr)>>,
}

impl Refusals {
    pub(crate) fn new(counts: Arc<Counts>) -> Self {
        Self {
            counts,
            quiet: Mutex::default(),
        }
    }

    /// Takes in a refusal of a caller at `from`.
    pub(crate) fn add(&self, reason: Reason, from: IpAddr, detail: &str) {
        self.counts.count_api_refusal(reason);
        let line = self.quiet(|quiet| quiet.is_worth_a_line((reason, from), Instant::now()));
        if line {
            let reason = reason.name();
            tracing::warn!(reason, %from, detail, "a caller of the API was refused");
        }
    }

    /// Sums up what had no line of its own, for ever.
    pub(crate) async fn sum_up(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(callers) = self.quiet(|quiet| quiet.summary(Instant::now())) {
                tracing::warn!(callers, "further callers of the API were refused");
            }
        }
    }

    fn quiet<T>(&self, act: impl FnOnce(&mut Quiet<(Reason, IpAddr)>) -> T) -> T {
        act(&mut self.quiet.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
