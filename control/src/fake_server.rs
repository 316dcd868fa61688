//! An API server in this process, for tests: objects of any kind with lists, watches, resourceVersions, conflicts, apply and
//! merge patches, and refusals on demand. It knows objects by the path of their collection.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use k8s_openapi::api::core::v1::Secret;
use kube::client::Body;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

type Answer = UnsyncBoxBody<Bytes, io::Error>;

/// Where the Secrets of the controller's namespace are.
const SECRETS: &str = "/api/v1/namespaces/podline-system/secrets";

#[derive(Debug, Default)]
struct State {
    /// By path.
    objects: BTreeMap<String, Value>,
    version: u64,
    /// What watches tell: the version, the path, the line.
    events: Vec<(u64, String, String)>,
    /// Beginnings of what is refused: "PATCH /api/v1".
    forbidden: Vec<String>,
    writes: usize,
    /// A field of webhooks that is dropped.
    dropped: Option<&'static str>,
    /// Before the next write is taken, somebody else changes the object.
    interferes: bool,
    /// Events: about what, the reason, the words.
    told: Vec<String>,
}

/// Cheap to clone: one server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::default(),
            changed: watch::Sender::new(()),
        }
    }

    pub(crate) fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request| server.clone().answer(request));
        kube::Client::new(service, "podline-system")
    }

    /// Refuses calls that begin so, as "PATCH /api/v1"; nothing any more if there are none.
    pub(crate) fn forbid(&self, calls: &[&str]) {
        let calls = calls.iter().map(|call| (*call).to_owned());
        self.state.lock().unwrap().forbidden = calls.collect();
    }

    /// Drops a field of webhooks, as one does that does not know it.
    pub(crate) fn drop_field(&self, field: &'static str) {
        self.state.lock().unwrap().dropped = Some(field);
    }

    pub(crate) fn interfere(&self) {
        self.state.lock().unwrap().interferes = true;
    }

    /// How many writes were taken.
    pub(crate) fn writes(&self) -> usize {
        self.state.lock().unwrap().writes
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    pub(crate) fn secret(&self, name: &str) -> Option<Secret> {
        let found = self.object(&format!("{SECRETS}/{name}"))?;
        Some(serde_json::from_value(found).unwrap())
    }

    /// As somebody else would.
    pub(crate) fn put_object(&self, path: &str, object: Value) {
        self.state.lock().unwrap().put(path, object);
        self.changed.send_replace(());
    }

    /// As somebody else would.
    pub(crate) fn put(&self, secret: &Secret) {
        let name = secret.metadata.name.clone().unwrap();
        self.put_object(&format!("{SECRETS}/{name}"), json!(secret));
    }

    /// As somebody else would.
    pub(crate) fn delete_object(&self, path: &str) {
        self.state.lock().unwrap().delete(path);
        self.changed.send_replace(());
    }

    /// As somebody else would.
    pub(crate) fn delete(&self, name: &str) {
        self.delete_object(&format!("{SECRETS}/{name}"));
    }

    /// Events: about what, the reason, the words.
    pub(crate) fn told(&self) -> Vec<String> {
        self.state.lock().unwrap().told.clone()
    }

    async fn answer(self, request: Request<Body>) -> io::Result<Response<Answer>> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        let call = format!("{} {path}", parts.method);
        let mut state = self.state.lock().unwrap();
        if state.forbidden.iter().any(|start| call.starts_with(start)) {
            let kind = path.rsplit('/').find(|part| part.ends_with('s'));
            let told = format!("{} is forbidden", kind.unwrap_or_default());
            return Ok(answered(refusal(403, "Forbidden", &told)));
        }
        let of = |field: &str| {
            let mut parts = query.split('&');
            parts.find_map(|part| part.strip_prefix(field)?.strip_prefix('='))
        };
        let selected = of("fieldSelector").and_then(|text| text.strip_prefix("metadata.name%3D"));
        if query.contains("watch=true") {
            let since = of("resourceVersion").unwrap().parse().unwrap();
            drop(state);
            return Ok(self.watch(format!("{path}/{}", selected.unwrap()), since));
        }
        let answer = match (&parts.method, selected) {
            (&Method::GET, Some(name)) => state.list(&format!("{path}/{name}")),
            (&Method::GET, None) => state.get(path),
            (&Method::POST, _) if path.ends_with("/events") => state.tell_of(&body),
            (&Method::PATCH, _) => {
                let kind = parts.headers[http::header::CONTENT_TYPE].to_str().unwrap();
                let change = serde_json::from_slice(&body).unwrap();
                let is_apply = kind.starts_with("application/apply-patch");
                state.patch(path, change, is_apply, of("fieldManager").unwrap())
            }
            (method, _) => {
                let object = serde_json::from_slice(&body).unwrap();
                state.write(method, path, object)
            }
        };
        drop(state);
        self.changed.send_replace(());
        Ok(answered(answer))
    }

    fn watch(&self, path: String, since: u64) -> Response<Answer> {
        let (state, changed) = (Arc::clone(&self.state), self.changed.subscribe());
        let lines = stream::unfold(
            (state, changed, since),
            move |(state, mut changed, since)| {
                let path = path.clone();
                async move {
                    loop {
                        let next = {
                            let state = state.lock().unwrap();
                            let next = state
                                .events
                                .iter()
                                .find(|(version, of, _)| *version > since && *of == path);
                            next.cloned()
                        };
                        if let Some((version, _, line)) = next {
                            let frame = Frame::data(Bytes::from(line));
                            return Some((Ok::<_, io::Error>(frame), (state, changed, version)));
                        }
                        changed.changed().await.ok()?;
                    }
                }
            },
        );
        Response::new(StreamBody::new(lines).boxed_unsync())
    }
}

impl State {
    fn put(&mut self, path: &str, mut object: Value) {
        self.version += 1;
        let (_, name) = path.rsplit_once('/').unwrap();
        let before = self.objects.get(path);
        let uid = before.map(|before| before["metadata"]["uid"].clone());
        let metadata = &mut object["metadata"];
        metadata["name"] = json!(name);
        metadata["resourceVersion"] = json!(self.version.to_string());
        metadata["uid"] = uid.unwrap_or_else(|| json!(format!("uid-{}", self.version)));
        if let Some((_, place)) = path.split_once("/namespaces/") {
            metadata["namespace"] = json!(place.split('/').next());
        }
        let kind = if before.is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        self.tell(path, kind, &object);
        self.objects.insert(path.to_owned(), object);
    }

    fn delete(&mut self, path: &str) {
        if let Some(mut object) = self.objects.remove(path) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.tell(path, "DELETED", &object);
        }
    }

    fn tell(&mut self, path: &str, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        self.events.push((self.version, path.to_owned(), line));
    }

    fn tell_of(&mut self, body: &[u8]) -> (u16, Value) {
        let event: Value = serde_json::from_slice(body).unwrap();
        let text = |field: &str| event[field].as_str().unwrap();
        let about = event["regarding"]["name"].as_str().unwrap();
        let kind = event["regarding"]["kind"].as_str().unwrap();
        let told = format!("{kind}/{about}: {}: {}", text("reason"), text("note"));
        self.told.push(told);
        (201, event)
    }

    fn list(&self, path: &str) -> (u16, Value) {
        let items: Vec<_> = self.objects.get(path).into_iter().collect();
        let metadata = json!({"resourceVersion": self.version.to_string()});
        let list =
            json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items});
        (200, list)
    }

    fn get(&self, path: &str) -> (u16, Value) {
        match self.objects.get(path) {
            Some(object) => (200, object.clone()),
            None => refusal(404, "NotFound", "it is not found"),
        }
    }

    fn write(&mut self, method: &Method, path: &str, object: Value) -> (u16, Value) {
        let path = match *method {
            Method::POST => format!("{path}/{}", object["metadata"]["name"].as_str().unwrap()),
            _ => path.to_owned(),
        };
        self.interfere_with(&path, &object);
        match (method, self.objects.get(&path)) {
            (&Method::POST, Some(_)) => return refusal(409, "AlreadyExists", "it already exists"),
            (&Method::PUT, None) => return refusal(404, "NotFound", "it is not found"),
            (&Method::PUT, Some(known))
                if known["metadata"]["resourceVersion"]
                    != object["metadata"]["resourceVersion"] =>
            {
                return refusal(409, "Conflict", "the object has been modified");
            }
            _ => {}
        }
        self.writes += 1;
        self.put(&path, object);
        self.get(&path)
    }

    fn interfere_with(&mut self, path: &str, object: &Value) {
        if std::mem::take(&mut self.interferes) {
            let mut other = object.clone();
            other.as_object_mut().unwrap().remove("data");
            self.put(path, other);
        }
    }

    fn patch(&mut self, path: &str, change: Value, applies: bool, by: &str) -> (u16, Value) {
        let known = self.objects.get(path).cloned();
        let mut object = match (known, applies) {
            (None, true) => change,
            (None, false) => return refusal(404, "NotFound", "it is not found"),
            (Some(known), true) => applied(&known, &change),
            (Some(known), false) => {
                let wanted = &change["metadata"]["resourceVersion"];
                if !wanted.is_null() && *wanted != known["metadata"]["resourceVersion"] {
                    return refusal(409, "Conflict", "the object has been modified");
                }
                merged(&known, &change)
            }
        };
        let webhooks = object["webhooks"].as_array_mut().into_iter().flatten();
        for webhook in webhooks {
            if let Some(field) = self.dropped {
                webhook.as_object_mut().unwrap().remove(field);
            }
        }
        let webhooks = object["webhooks"].as_array().into_iter().flatten();
        let is_torn = |webhook: &Value| {
            webhook["clientConfig"].get("url").is_some()
                && webhook["clientConfig"].get("service").is_some()
        };
        if webhooks.clone().any(is_torn) {
            return refusal(422, "Invalid", "exactly one of url or service is required");
        }
        let entry = json!({"manager": by, "operation": if applies { "Apply" } else { "Update" }});
        let managers = object["metadata"]["managedFields"].as_array();
        let mut managers = managers.cloned().unwrap_or_default();
        if !managers.contains(&entry) {
            managers.push(entry);
        }
        object["metadata"]["managedFields"] = json!(managers);
        if self.objects.get(path) != Some(&object) {
            self.writes += 1;
            self.put(path, object);
        }
        self.get(path)
    }
}

/// As RFC 7396 has it.
fn merged(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut target = target.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            let before = target.get(key).cloned().unwrap_or_default();
            target.insert(key.clone(), merged(&before, value));
        }
    }
    Value::Object(target)
}

/// Roughly server-side apply: lists whose elements have names are merged by name, selectors are replaced; what somebody
/// else added stays. A list that is applied empty loses what is ours.
fn applied(target: &Value, patch: &Value) -> Value {
    let is_named = |list: &[Value]| list.iter().all(|value| value["name"].is_string());
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            let mut all: Map<_, _> = target.clone();
            for (key, value) in patch {
                let is_whole = key.to_lowercase().ends_with("selector");
                let before = target.get(key).filter(|_| !is_whole);
                let value = before.map_or_else(|| value.clone(), |before| applied(before, value));
                all.insert(key.clone(), value);
            }
            Value::Object(all)
        }
        (Value::Array(target), Value::Array(patch)) if patch.is_empty() => {
            let is_ours = |value: &&Value| {
                let name = value["name"].as_str();
                name.is_some_and(|name| name.ends_with(".podline.io"))
            };
            let rest = target.iter().filter(|value| !is_ours(value));
            Value::Array(rest.cloned().collect())
        }
        (Value::Array(target), Value::Array(patch)) if is_named(target) && is_named(patch) => {
            let mut all = Vec::new();
            for value in patch {
                let before = target.iter().find(|before| before["name"] == value["name"]);
                all.push(before.map_or_else(|| value.clone(), |before| applied(before, value)));
            }
            let is_patched = |value: &&Value| patch.iter().any(|own| own["name"] == value["name"]);
            all.extend(target.iter().filter(|value| !is_patched(value)).cloned());
            Value::Array(all)
        }
        _ => patch.clone(),
    }
}

fn refusal(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    (code, status)
}

fn answered((code, body): (u16, Value)) -> Response<Answer> {
    let body = Full::new(Bytes::from(body.to_string()));
    let body = body.map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}
