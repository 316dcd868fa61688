//! What the Kubernetes API server said when it refused, in words for a log, an event or /readyz.

use std::error::Error;

use kube::runtime::watcher;

/// The server's own message, or why nothing answered, with the whole chain of causes. Never empty.
pub(crate) fn said(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return match (status.message.as_str(), status.reason.as_str()) {
            ("", "") => format!("the API server answered {}", status.code),
            ("", reason) => reason.to_owned(),
            (message, _) => message.to_owned(),
        };
    }
    match error {
        kube::Error::Service(cause) => format!("cannot reach the API server: {}", chain(&**cause)),
        other => chain(other),
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Many a wrapper repeats what it wraps.
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        cause = error.source();
    }
    told
}

/// Why a watch does not work; it is tried again by itself.
pub(crate) fn watching(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => said(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

/// Whether somebody else wrote first: look again, then decide anew.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Whether we lack the right.
pub(crate) fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// The same, of a watch.
pub(crate) fn is_watch_forbidden(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => is_forbidden(error),
        watcher::Error::WatchError(status) => status.code == 403,
        watcher::Error::NoResourceVersion => false,
    }
}

/// Whether a watched kind is not there.
pub(crate) fn is_watch_absent(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => is_absent(error),
        watcher::Error::WatchError(status) => status.code == 404,
        watcher::Error::NoResourceVersion => false,
    }
}

/// Whether the object is not there. From a creation it means that its namespace is not.
pub(crate) fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn refused(code: u16, message: &str, reason: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status {
            code,
            message: message.to_owned(),
            reason: reason.to_owned(),
            ..Status::default()
        }))
    }

    #[test]
    fn the_servers_words_come_first() {
        let told = |message, reason| said(&refused(403, message, reason));
        assert_eq!(told("may not", "Forbidden"), "may not");
        assert_eq!(told("", "Forbidden"), "Forbidden");
        assert_eq!(told("", ""), "the API server answered 403");
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let told = said(&kube::Error::Service(Box::new(refused)));
        assert_eq!(told, "cannot reach the API server: connection refused");
    }

    #[test]
    fn what_changed_under_us_is_a_conflict() {
        for code in [403, 404, 409, 410, 500] {
            let error = refused(code, "", "");
            assert_eq!(is_conflict(&error), code == 409, "{code}");
            assert_eq!(is_absent(&error), code == 404, "{code}");
        }
    }
}
