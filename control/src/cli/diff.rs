//! `podline diff`: what `apply` would change. The comparison is ours, field by field, against what Get answers; a
//! listener or set that another owner has is pointed out, because `apply` would be refused.

use std::collections::BTreeMap;
use std::fmt::Write;

use podline_api::{Document, v1};
use serde::Serialize;
use serde_json::Value;

use super::failure::{Exit, Failure};
use super::human::clean;
use super::input::Input;
use super::output::Screen;
use super::selection::{listener_name, set_name};
use super::{Format, connect};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,
}

pub(super) async fn run(
    args: &Args,
    proxy: &str,
    format: Format,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let document = args.input.read()?;
    let answer = connect(proxy).await?.get(v1::GetRequest::default()).await;
    let answer = answer.map_err(|error| Failure::client(error, None))?;
    let owner = args.input.owner.as_str();
    let differences = differences(&document, &answer, owner, args.input.replace);
    match format {
        Format::Json => screen.json(&differences)?,
        Format::Table | Format::Yaml => screen.text(&render(&differences))?,
    }
    Ok(if differences.is_empty() {
        Exit::Done
    } else {
        Exit::DifferentOrMissing
    })
}

/// What would become of one listener or set.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Difference {
    what: String,
    action: Action,
    /// Who has it now, if that is another owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    other_owner: Option<String>,
    fields: Vec<Field>,
    backends: Vec<Backend>,
}

/// In the words of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Action {
    Added,
    Changed,
    Removed,
}

#[derive(Debug, Serialize)]
struct Field {
    path: String,
    from: Value,
    to: Value,
}

#[derive(Debug, Serialize)]
struct Backend {
    who: String,
    action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<u32>,
}

fn differences(
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
        let fields = fields(
            status.and_then(|s| s.listener.as_ref()),
            &v1::Listener::from(listener),
        );
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

/// `healthCheck: {interval: 5s}` -> `healthCheck.interval: 5s`. Lists are the backends, which are compared on their own.
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
        Value::Array(_) => {}
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

fn render(differences: &[Difference]) -> String {
    let mut text = String::new();
    for difference in differences {
        let _ = writeln!(text, "{} {}", sign(difference.action), difference.what);
        if let Some(owner) = &difference.other_owner {
            let _ = writeln!(
                text,
                "  ! belongs to {}: apply would be refused",
                clean(owner)
            );
        }
        for Field { path, from, to } in &difference.fields {
            let _ = match difference.action {
                Action::Added => writeln!(text, "    {path}: {}", shown(to)),
                _ => writeln!(text, "    {path}: {} -> {}", shown(from), shown(to)),
            };
        }
        for backend in &difference.backends {
            let _ = write!(
                text,
                "  {} backend {}",
                sign(backend.action),
                clean(&backend.who)
            );
            let _ = match (backend.from, backend.to) {
                (Some(from), Some(to)) => writeln!(text, ", weight {from} -> {to}"),
                (None, Some(to)) => writeln!(text, ", weight {to}"),
                _ => writeln!(text),
            };
        }
    }
    if text.is_empty() {
        "no differences\n".to_owned()
    } else {
        text
    }
}

fn sign(action: Action) -> char {
    match action {
        Action::Added => '+',
        Action::Changed => '~',
        Action::Removed => '-',
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "(default)".to_owned(),
        Value::String(text) => clean(text),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::get;
    use crate::cli::sample;

    fn wanted() -> Document {
        Document::try_from(get::document(sample::state())).unwrap()
    }

    fn check(wanted: &Document, owner: &str, replace: bool, expected: &str) {
        assert_eq!(
            render(&differences(wanted, &sample::state(), owner, replace)),
            expected
        );
    }

    #[test]
    fn what_is_there_already_makes_no_difference() {
        let mut wanted = wanted();
        wanted.listeners.truncate(1);
        wanted.backend_sets.truncate(1);
        check(&wanted, "file", false, "no differences\n");
        check(&wanted, "file", true, "no differences\n");
        check(&Document::default(), "cli", true, "no differences\n");
    }

    #[test]
    fn fields_and_backends_are_compared() {
        let file = "
listeners:
- {name: web, address: 127.0.0.1:8081, protocol: TCP, backendSet: web}
- {name: new, address: '[::1]:80', protocol: TCP, backendSet: web, idleTimeout: 1m}
backendSets:
- name: web
  policy: LEAST_CONNECTIONS
  drainTimeout: 0s
  backends: [{address: 10.0.0.1:80, weight: 20}, {id: pod-3, address: 10.0.0.3:80}]
";
        let text = "\
~ listener/web
    address: 127.0.0.1:8080 -> 127.0.0.1:8081
+ listener/new
    address: [::1]:80
    backendSet: web
    drainTimeout: 30s
    halfClosedTimeout: 1m
    idleTimeout: 1m
    protocol: TCP
~ set/web
    drainTimeout: 30s -> 0s
    policy: ROUND_ROBIN -> LEAST_CONNECTIONS
    healthCheck.healthyThreshold: 3 -> (default)
    healthCheck.interval: 5s -> (default)
    healthCheck.timeout: 2s -> (default)
    healthCheck.type: TCP -> (default)
    healthCheck.unhealthyThreshold: 3 -> (default)
  ~ backend 10.0.0.1:80, weight 10 -> 20
  + backend 10.0.0.3:80 (pod-3), weight 10
";
        check(&Document::from_yaml(file).unwrap(), "file", false, text);
    }

    #[test]
    fn a_new_id_at_an_old_address_is_another_backend() {
        let file = "backendSets: [{name: web, healthCheck: {type: TCP}, backends: [{id: pod-9, address: 10.0.0.1:80}]}]";
        let text =
            "~ set/web\n  + backend 10.0.0.1:80 (pod-9), weight 10\n  - backend 10.0.0.1:80\n";
        check(&Document::from_yaml(file).unwrap(), "file", false, text);
    }

    #[test]
    fn what_a_full_state_leaves_out_is_removed() {
        check(&Document::default(), "file", false, "no differences\n");
        check(
            &Document::default(),
            "file",
            true,
            "- listener/web\n- set/web\n",
        );
    }

    #[test]
    fn what_another_owner_has_is_pointed_out() {
        let mut wanted = wanted();
        wanted.listeners.remove(0);
        wanted.backend_sets.clear();
        let text = "~ listener/db\n  ! belongs to k8s/east: apply would be refused\n";
        check(&wanted, "cli", false, text);
    }

    #[test]
    fn the_json_form_uses_the_words_of_the_api() {
        let file = "backendSets: [{name: db, policy: ROUND_ROBIN, backends: [{address: '[fd00::1]:5432', weight: 0}]}]";
        let found = differences(
            &Document::from_yaml(file).unwrap(),
            &sample::state(),
            "cli",
            false,
        );
        let json = r#"[{"what":"set/db","action":"CHANGED","otherOwner":"k8s/east","fields":[{"path":"policy","from":"LEAST_CONNECTIONS","to":"ROUND_ROBIN"}],"backends":[{"who":"[fd00::1]:5432","action":"CHANGED","from":10,"to":0}]}]"#;
        assert_eq!(serde_json::to_string(&found).unwrap(), json);
    }
}
