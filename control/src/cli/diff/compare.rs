//! The comparison behind `podline diff`: ours, field by field, of a file with what Get answers. A listener or set
//! that another owner has is pointed out, because `apply` would be refused. Pure.

use std::collections::BTreeMap;

use podline_api::{Document, v1};
use serde::Serialize;
use serde_json::Value;

use crate::cli::selection::{listener_name, set_name};

/// What would become of one listener or set.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Difference {
    pub(super) what: String,
    pub(super) action: Action,
    /// Who has it now, if that is another owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) other_owner: Option<String>,
    pub(super) fields: Vec<Field>,
    pub(super) backends: Vec<Backend>,
}

/// In the words of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Action {
    Added,
    Changed,
    Removed,
}

#[derive(Debug, Serialize)]
pub(super) struct Field {
    pub(super) path: String,
    pub(super) from: Value,
    pub(super) to: Value,
}

#[derive(Debug, Serialize)]
pub(super) struct Backend {
    pub(super) who: String,
    pub(super) action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<u32>,
}

pub(super) fn differences(
    wanted: &Document,
    found: &v1::GetResponse,
    owner: &str,
    replace: bool,
) -> Vec<Difference> {
    let mut out = Vec::new();
    // What drains was removed already.
    let stays =
        |status: &&v1::ListenerStatus| status.state() != v1::listener_status::State::Draining;
    let mut listeners: BTreeMap<&str, _> = found
        .listeners
        .iter()
        .filter(stays)
        .map(|status| (listener_name(status), status))
        .collect();
    for listener in &wanted.listeners {
        let status = listeners.remove(listener.name.as_str());
        let fields = fields(status.and_then(|s| s.listener.as_ref()), &listener.shown());
        let owned_by = status.map(|status| status.owner.as_str());
        out.extend(difference(
            format!("listener/{}", listener.name),
            owned_by,
            owner,
            fields,
            Vec::new(),
        ));
    }
    let mut sets: BTreeMap<&str, _> = found
        .backend_sets
        .iter()
        .map(|status| (set_name(status), status))
        .collect();
    for set in &wanted.backend_sets {
        let status = sets.remove(set.name.as_str());
        let fields = fields(
            status.and_then(|status| status.set.as_ref()),
            &set.settings.to_wire(&set.name),
        );
        let backends = backends(
            status.map_or(&[], |status| &status.backends),
            &v1::BackendSet::from(set).backends,
        );
        let owned_by = status.map(|status| status.owner.as_str());
        out.extend(difference(
            format!("set/{}", set.name),
            owned_by,
            owner,
            fields,
            backends,
        ));
    }
    if replace {
        let rest = listeners
            .values()
            .map(|status| ("listener", listener_name(status), &status.owner));
        let rest = rest.chain(
            sets.values()
                .map(|status| ("set", set_name(status), &status.owner)),
        );
        out.extend(
            rest.filter(|(_, _, owned_by)| *owned_by == owner)
                .map(|(kind, name, _)| removed(kind, name)),
        );
    }
    out
}

fn removed(kind: &str, name: &str) -> Difference {
    let what = format!("{kind}/{name}");
    Difference {
        what,
        action: Action::Removed,
        other_owner: None,
        fields: Vec::new(),
        backends: Vec::new(),
    }
}

/// `None` if `apply` would leave it as it is.
fn difference(
    what: String,
    owned_by: Option<&str>,
    owner: &str,
    fields: Vec<Field>,
    backends: Vec<Backend>,
) -> Option<Difference> {
    let action = if owned_by.is_some() {
        Action::Changed
    } else {
        Action::Added
    };
    let other_owner = owned_by
        .filter(|owned_by| *owned_by != owner)
        .map(str::to_owned);
    let differs = action == Action::Added
        || other_owner.is_some()
        || !fields.is_empty()
        || !backends.is_empty();
    differs.then_some(Difference {
        what,
        action,
        other_owner,
        fields,
        backends,
    })
}

/// The fields that differ, as the file names them; the name and the backends are left to the caller.
fn fields<T: Serialize>(from: Option<&T>, to: &T) -> Vec<Field> {
    let flat = |value: &T| {
        let mut out = BTreeMap::new();
        flatten(
            String::new(),
            serde_json::to_value(value).unwrap_or_default(),
            &mut out,
        );
        out.remove("name");
        out.remove("backends");
        out
    };
    let mut from = from.map(flat).unwrap_or_default();
    let mut out = Vec::new();
    for (path, to) in flat(to) {
        let from = from.remove(&path).unwrap_or_default();
        if from != to {
            out.push(Field { path, from, to });
        }
    }
    out.extend(from.into_iter().map(|(path, from)| Field {
        path,
        from,
        to: Value::Null,
    }));
    out
}

/// `healthCheck: {interval: 5s}` -> `healthCheck.interval: 5s`. A list is one value.
fn flatten(path: String, value: Value, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() {
                    name
                } else {
                    format!("{path}.{name}")
                };
                flatten(path, value, out);
            }
        }
        value => drop(out.insert(path, value)),
    }
}

/// A backend is the same only if its id is, too: another id at the same address is a removal and an addition.
fn backends(from: &[v1::BackendStatus], to: &[v1::Backend]) -> Vec<Backend> {
    let key = |backend: &v1::Backend| match &backend.id {
        Some(id) => format!("{} ({id})", backend.address),
        None => backend.address.clone(),
    };
    let weight = |backend: &v1::Backend| {
        backend
            .weight
            .unwrap_or(podline_api::Weight::DEFAULT.get().into())
    };
    let stays = from
        .iter()
        .filter(|status| !status.draining)
        .filter_map(|status| status.backend.as_ref());
    let mut from: BTreeMap<String, u32> = stays
        .map(|backend| (key(backend), weight(backend)))
        .collect();
    let mut out = Vec::new();
    for wanted in to {
        let (who, to) = (key(wanted), weight(wanted));
        match from.remove(&who) {
            None => out.push(Backend {
                who,
                action: Action::Added,
                from: None,
                to: Some(to),
            }),
            Some(from) if from != to => {
                out.push(Backend {
                    who,
                    action: Action::Changed,
                    from: Some(from),
                    to: Some(to),
                });
            }
            Some(_) => {}
        }
    }
    let gone = |(who, from)| Backend {
        who,
        action: Action::Removed,
        from: Some(from),
        to: None,
    };
    out.extend(from.into_iter().map(gone));
    out
}
