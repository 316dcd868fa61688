//! An API server in this process that knows one Lease: resourceVersions, conflicts, and failures on demand.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use k8s_openapi::api::coordination::v1::Lease;
use kube::client::Body;
use serde_json::json;

/// How it behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    #[default]
    Fine,
    /// Never answers, and does nothing.
    Hangs,
    /// Does what it is told to, but never says so.
    Mute,
    Forbids,
    /// Its namespace is not there.
    Homeless,
}

#[derive(Debug, Default)]
struct State {
    lease: Option<Lease>,
    version: u64,
    mood: Mood,
    writes: u64,
    calls: u64,
}

/// Cheap to clone: one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Server(Arc<Mutex<State>>);

impl Server {
    pub(super) fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request| server.clone().answer(request));
        kube::Client::new(service, "podline-system")
    }

    pub(super) fn set(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    pub(super) fn lease(&self) -> Option<Lease> {
        self.0.lock().unwrap().lease.clone()
    }

    pub(super) fn writes(&self) -> u64 {
        self.0.lock().unwrap().writes
    }

    /// How many calls came while it had no namespace.
    pub(super) fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }

    /// Changes the Lease as somebody else would.
    pub(super) fn edit(&self, change: impl FnOnce(&mut Option<Lease>)) {
        let mut state = self.0.lock().unwrap();
        change(&mut state.lease);
        state.bump();
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
        let (parts, body) = request.into_parts();
        assert!(
            parts
                .uri
                .path()
                .contains("/namespaces/podline-system/leases"),
            "{}",
            parts.uri
        );
        let body = body.collect_bytes().await.unwrap();
        let mood = self.0.lock().unwrap().mood;
        if mood == Mood::Hangs {
            std::future::pending::<()>().await;
        }
        let (code, body) = self.0.lock().unwrap().act(&parts.method, &body);
        if mood == Mood::Mute {
            std::future::pending::<()>().await;
        }
        Ok(Response::builder()
            .status(code)
            .body(Body::from(body))
            .unwrap())
    }
}

impl State {
    fn bump(&mut self) {
        self.version += 1;
        if let Some(lease) = &mut self.lease {
            lease.metadata.resource_version = Some(self.version.to_string());
        }
    }

    fn act(&mut self, method: &Method, body: &[u8]) -> (u16, Vec<u8>) {
        if self.mood == Mood::Forbids {
            return status(
                403,
                "Forbidden",
                "leases.coordination.k8s.io \"podline\" is forbidden",
            );
        }
        if self.mood == Mood::Homeless {
            self.calls += 1;
            return status(404, "NotFound", "namespaces \"podline-system\" not found");
        }
        let known = self.lease.clone();
        let sent: Option<Lease> = serde_json::from_slice(body).ok();
        match (method.as_str(), sent) {
            ("GET", _) => {}
            ("POST", Some(_)) if known.is_some() => {
                return status(409, "AlreadyExists", "leases \"podline\" already exists");
            }
            ("POST", Some(sent)) => self.write(sent),
            ("PUT", Some(sent)) => match known {
                Some(known)
                    if known.metadata.resource_version == sent.metadata.resource_version =>
                {
                    self.write(sent);
                }
                Some(_) => return status(409, "Conflict", "the object has been modified"),
                // Its uid is a precondition.
                None => return status(409, "Conflict", "the uid is another"),
            },
            (method, _) => panic!("{method} is not for Leases"),
        }
        match &self.lease {
            Some(lease) => (200, serde_json::to_vec(lease).unwrap()),
            None => status(404, "NotFound", "leases \"podline\" not found"),
        }
    }

    fn write(&mut self, lease: Lease) {
        self.lease = Some(lease);
        self.writes += 1;
        self.bump();
    }
}

fn status(code: u16, reason: &str, message: &str) -> (u16, Vec<u8>) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    (code, serde_json::to_vec(&status).unwrap())
}
