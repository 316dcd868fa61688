//! An API server in this process that knows Secrets: lists, watches, resourceVersions, conflicts, and refusals on demand.

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
use serde_json::{Value, json};
use tokio::sync::watch;

type Answer = UnsyncBoxBody<Bytes, io::Error>;

#[derive(Debug, Default)]
struct State {
    secrets: BTreeMap<String, Secret>,
    version: u64,
    /// What watches tell: the version, the name, the line.
    events: Vec<(u64, String, String)>,
    forbids: bool,
    writes: usize,
    /// Events: about what, the reason, the words.
    told: Vec<String>,
    /// Before the next write is taken, somebody else changes the Secret.
    interferes: bool,
}

/// Cheap to clone: one server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            state: Arc::default(),
            changed: watch::Sender::new(()),
        }
    }

    pub(super) fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request| server.clone().answer(request));
        kube::Client::new(service, "podline-system")
    }

    pub(super) fn forbid(&self, forbids: bool) {
        self.state.lock().unwrap().forbids = forbids;
    }

    pub(super) fn interfere(&self) {
        self.state.lock().unwrap().interferes = true;
    }

    pub(super) fn writes(&self) -> usize {
        self.state.lock().unwrap().writes
    }

    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        self.state.lock().unwrap().secrets.get(name).cloned()
    }

    /// Events: about what, the reason, the words.
    pub(super) fn told(&self) -> Vec<String> {
        self.state.lock().unwrap().told.clone()
    }

    /// As somebody else would.
    pub(super) fn put(&self, secret: Secret) {
        self.state.lock().unwrap().put(secret);
        self.changed.send_replace(());
    }

    /// As somebody else would.
    pub(super) fn delete(&self, name: &str) {
        self.state.lock().unwrap().delete(name);
        self.changed.send_replace(());
    }

    async fn answer(self, request: Request<Body>) -> io::Result<Response<Answer>> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        if let Some(event) = path.strip_prefix("/apis/events.k8s.io/") {
            assert_eq!(event, "v1/namespaces/podline-system/events");
            let event: Value = serde_json::from_slice(&body).unwrap();
            let text = |field: &str| event[field].as_str().unwrap().to_owned();
            let about = event["regarding"]["name"].as_str().unwrap();
            let told = format!("{about}: {}: {}", text("reason"), text("note"));
            self.state.lock().unwrap().told.push(told);
            return Ok(answered((201, event)));
        }
        let (_, name) = path
            .split_once("/namespaces/podline-system/secrets")
            .unwrap();
        let selected = query
            .split('&')
            .find_map(|part| part.strip_prefix("fieldSelector=metadata.name%3D"));
        if self.state.lock().unwrap().forbids {
            return Ok(answered(refusal(403, "Forbidden", "secrets is forbidden")));
        }
        if query.contains("watch=true") {
            return Ok(self.watch(selected.unwrap().to_owned(), query));
        }
        let answer = match (&parts.method, name.trim_start_matches('/')) {
            (&Method::GET, "") => self.state.lock().unwrap().list(selected.unwrap()),
            (&Method::GET, name) => self.state.lock().unwrap().get(name),
            (method, name) => {
                let secret = serde_json::from_slice(&body).unwrap();
                self.state.lock().unwrap().write(method, name, secret)
            }
        };
        self.changed.send_replace(());
        Ok(answered(answer))
    }

    fn watch(&self, name: String, query: &str) -> Response<Answer> {
        let since = query
            .split('&')
            .find_map(|part| part.strip_prefix("resourceVersion="));
        let since: u64 = since.unwrap().parse().unwrap();
        let (state, changed) = (Arc::clone(&self.state), self.changed.subscribe());
        let lines = stream::unfold(
            (state, changed, since),
            move |(state, mut changed, since)| {
                let name = name.clone();
                async move {
                    loop {
                        let next = {
                            let state = state.lock().unwrap();
                            let next = state
                                .events
                                .iter()
                                .find(|(version, of, _)| *version > since && *of == name);
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
    fn put(&mut self, mut secret: Secret) {
        self.version += 1;
        let name = secret.metadata.name.clone().unwrap();
        secret.metadata.resource_version = Some(self.version.to_string());
        secret.metadata.namespace = Some("podline-system".to_owned());
        let kind = if self.secrets.contains_key(&name) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        self.tell(kind, &secret);
        self.secrets.insert(name, secret);
    }

    fn delete(&mut self, name: &str) {
        if let Some(mut secret) = self.secrets.remove(name) {
            self.version += 1;
            secret.metadata.resource_version = Some(self.version.to_string());
            self.tell("DELETED", &secret);
        }
    }

    fn tell(&mut self, kind: &str, secret: &Secret) {
        let name = secret.metadata.name.clone().unwrap();
        let line = format!("{}\n", json!({"type": kind, "object": secret}));
        self.events.push((self.version, name, line));
    }

    fn list(&self, name: &str) -> (u16, Value) {
        let items: Vec<_> = self.secrets.get(name).into_iter().collect();
        let metadata = json!({"resourceVersion": self.version.to_string()});
        let list =
            json!({"kind": "SecretList", "apiVersion": "v1", "metadata": metadata, "items": items});
        (200, list)
    }

    fn get(&self, name: &str) -> (u16, Value) {
        match self.secrets.get(name) {
            Some(secret) => (200, json!(secret)),
            None => refusal(404, "NotFound", "secrets not found"),
        }
    }

    fn write(&mut self, method: &Method, name: &str, secret: Secret) -> (u16, Value) {
        if std::mem::take(&mut self.interferes) {
            let mut other = secret.clone();
            other.data = None;
            self.put(other);
        }
        let name = secret
            .metadata
            .name
            .clone()
            .unwrap_or_else(|| name.to_owned());
        match (method, self.secrets.get(&name)) {
            (&Method::POST, Some(_)) => {
                return refusal(409, "AlreadyExists", "secrets already exists");
            }
            (&Method::PUT, None) => return refusal(404, "NotFound", "secrets not found"),
            (&Method::PUT, Some(known))
                if known.metadata.resource_version != secret.metadata.resource_version =>
            {
                return refusal(409, "Conflict", "the object has been modified");
            }
            _ => {}
        }
        self.writes += 1;
        self.put(secret);
        self.get(&name)
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
