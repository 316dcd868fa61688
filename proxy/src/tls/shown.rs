//! For which names a connection was shown its certificate. Pure, but for the one place where a handshake leaves it.
//!
//! A client that has a connection for one name may send requests for another on it. Where another certificate of the
//! listener is for that one, the client was never shown it: what certificates tell apart stays apart (RFC 9110, 7.4).

use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// What the last handshake of this thread that asked for a name was shown.
    static LAST: RefCell<Option<Shown>> = const { RefCell::new(None) };
}

/// The names of the certificate that a connection was shown, in lower case; `*.` stands for one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown(Arc<[String]>);

impl Shown {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self(names.into())
    }

    /// Whether the certificate is for `host`, which has no port.
    pub(super) fn is_for(&self, host: &str) -> bool {
        let is_below = |domain: &str| {
            let rest = host.split_once('.').map(|(_, rest)| rest);
            rest.is_some_and(|rest| rest.eq_ignore_ascii_case(domain))
        };
        self.0.iter().any(|name| match name.strip_prefix("*.") {
            Some(domain) => is_below(domain),
            None => name.eq_ignore_ascii_case(host),
        })
    }

    /// Leaves it for the connection whose handshake goes on at this moment: rustls' own types for it tell nobody which name
    /// was asked for.
    pub(super) fn leave(self) {
        LAST.set(Some(self));
    }

    /// What was left since the last time.
    pub(super) fn take() -> Option<Self> {
        LAST.take()
    }
}

/// The wildcard that `host` falls under.
pub(super) fn wildcard(host: &str) -> Option<String> {
    let (_, rest) = host.split_once('.')?;
    Some(format!("*.{rest}"))
}
