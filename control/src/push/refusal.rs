//! What a proxy's refusal means: which of the things that were sent it names. Pure.

use podline_api::{Name, v1};

use super::difference::Sent;

/// What one field path of a refusal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// A listener cannot be taken.
    Listener(Name),
    /// A set cannot be taken: because of its settings, or because of a backend.
    Set {
        /// Which.
        name: Name,
        /// A backend of it is to blame.
        is_backend: bool,
    },
    /// Single backends cannot be changed: the whole set may do.
    Change(Name),
    /// The network cannot be taken.
    Network,
    /// Something that has to go cannot: another owner uses it.
    Leftover,
    /// What the proxy has is not what we think.
    Stale,
    /// Nothing that we can leave out.
    Nothing,
}

/// Whom `path` names, of a request that sent this; `is_full` if it was the full state.
pub(super) fn blame(path: &str, sent: &Sent, is_full: bool) -> Blame {
    let (list, index, rest) = split(path);
    let of = |names: &[Name]| index.and_then(|index| names.get(index)).cloned();
    let found = match list {
        _ if sent.network && (path == "network" || path.starts_with("network.")) => {
            Some(Blame::Network)
        }
        "listeners" if rest == ".backendSet" && !is_full => Some(Blame::Stale),
        "listeners" => of(&sent.listeners).map(Blame::Listener),
        "backendSets" if path == list => Some(Blame::Leftover),
        "backendSets" => of(&sent.sets).map(|name| Blame::Set {
            name,
            is_backend: rest.starts_with(".backends["),
        }),
        "backendChanges" => of(&sent.changes).map(Blame::Change),
        "removeListeners" | "removeBackendSets" => Some(Blame::Stale),
        _ => None,
    };
    found.unwrap_or(Blame::Nothing)
}

/// `listeners[3].address` -> `listeners`, 3, `.address`.
fn split(path: &str) -> (&str, Option<usize>, &str) {
    let Some((list, rest)) = path.split_once('[') else {
        return (path, None, "");
    };
    match rest.split_once(']') {
        Some((index, rest)) => (list, index.parse().ok(), rest),
        None => (list, None, ""),
    }
}

/// A refusal's words about one field, without the index that means nothing to whoever reads them later.
pub(super) fn words(problem: &v1::FieldProblem) -> String {
    let (_, _, rest) = split(&problem.path);
    let field = rest.trim_start_matches('.');
    match field {
        "" => problem.problem.clone(),
        field => format!("{field}: {}", problem.problem),
    }
}
