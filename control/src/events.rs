//! Events: one for each fact of each object, by its words. A fact that holds again is counted, also after a restart.
//!
//! `kube`'s own recorder takes all events of one reason and object for one, and tells the words of the first only.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::build::note::Note;
use crate::cluster::service::MANAGER;
use crate::cluster::{Front, Key};
use crate::fault;

/// What an event may hold.
const MAX_NOTE_BYTES: usize = 1_000;
/// Counts that are remembered; without one, counting begins anew.
const MOST_COUNTS: usize = 10_000;

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regarding {
    /// "v1", "apps/v1", ...
    pub api_version: &'static str,
    /// "Service", "Pod", ...
    pub kind: &'static str,
    /// Empty for what has none: such events are in `default`.
    pub namespace: Arc<str>,
    /// What it is called.
    pub name: Arc<str>,
    /// Of that very object.
    pub uid: Arc<str>,
}

impl Regarding {
    /// A Service.
    pub fn service(key: &Key, uid: &Arc<str>) -> Self {
        Self::of("v1", "Service", key, uid)
    }

    /// A Service, or an Ingress.
    pub fn front(front: &Front, uid: &Arc<str>) -> Self {
        Self::of(front.api_version(), front.kind(), front.key(), uid)
    }

    /// A Pod.
    pub fn pod(key: &Key, uid: &Arc<str>) -> Self {
        Self::of("v1", "Pod", key, uid)
    }

    /// Any object of a namespace.
    pub fn of(api_version: &'static str, kind: &'static str, key: &Key, uid: &Arc<str>) -> Self {
        Self {
            api_version,
            kind,
            namespace: Arc::clone(&key.namespace),
            name: Arc::clone(&key.name),
            uid: Arc::clone(uid),
        }
    }

    /// Where its events are.
    fn events_in(&self) -> &str {
        match &*self.namespace {
            "" => "default",
            namespace => namespace,
        }
    }
}

/// Where events go. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    client: Client,
    identity: Arc<str>,
    counts: Arc<Mutex<HashMap<String, i32>>>,
}

impl Events {
    /// Events of the replica with this name.
    pub fn new(client: Client, identity: &str) -> Self {
        Self {
            client,
            identity: identity.into(),
            counts: Arc::default(),
        }
    }

    /// Tells a fact of an object.
    ///
    /// # Errors
    /// The API server refused.
    pub async fn publish(&self, regarding: &Regarding, note: &Note) -> Result<(), kube::Error> {
        let api = Api::<Event>::namespaced(self.client.clone(), regarding.events_in());
        let now = Timestamp::now();
        let event = event(regarding, note, &self.identity, now);
        let created = api.create(&PostParams::default(), &event).await;
        match created {
            Err(error) if fault::is_conflict(&error) => {}
            answer => return answer.map(|_| ()),
        }
        let name = event.metadata.name.unwrap_or_default();
        let count = self.count(&name);
        let again = json!({"series": {"count": count, "lastObservedTime": MicroTime(now)}});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&again))
            .await?;
        Ok(())
    }

    /// How often it was told that is told again now.
    fn count(&self, name: &str) -> i32 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MOST_COUNTS {
            counts.clear();
        }
        let count = counts.entry(name.to_owned()).or_insert(1);
        *count = count.saturating_add(1);
        *count
    }
}

fn event(about: &Regarding, note: &Note, identity: &str, now: Timestamp) -> Event {
    let end = note.message.floor_char_boundary(MAX_NOTE_BYTES);
    let severity = if note.reason.is_warning() {
        "Warning"
    } else {
        "Normal"
    };
    Event {
        metadata: ObjectMeta {
            name: Some(name(about, note)),
            namespace: Some(about.events_in().to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        action: Some("Sync".to_owned()),
        reason: Some(note.reason.to_string()),
        note: Some(note.message[..end].to_owned()),
        type_: Some(severity.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(about.api_version.to_owned()),
            kind: Some(about.kind.to_owned()),
            name: Some(about.name.to_string()),
            namespace: Some(about.namespace.to_string()).filter(|name| !name.is_empty()),
            uid: Some(about.uid.to_string()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(MANAGER.to_owned()),
        reporting_instance: Some(identity.to_owned()),
        ..Event::default()
    }
}

/// The same for the same fact of the same object, and no other.
fn name(about: &Regarding, note: &Note) -> String {
    let mut hasher = DefaultHasher::new();
    (&about.uid, note.reason.as_str(), &note.message).hash(&mut hasher);
    format!("{}.{:016x}", about.name, hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::note::Reason;
    use crate::cluster::testing::key;

    #[test]
    fn each_fact_has_an_event_of_its_own() {
        let about = |uid: &str| Regarding::service(&key("default/web"), &uid.into());
        let note = |message: &str| Note::new(Reason::PortConflict, message);
        let first = name(&about("a"), &note("x"));
        assert_eq!(first, name(&about("a"), &note("x")));
        assert_ne!(first, name(&about("a"), &note("y")));
        assert_ne!(first, name(&about("b"), &note("x")));
        let long = note(&"é".repeat(5_000));
        let event = event(&about("a"), &long, "me", Timestamp::UNIX_EPOCH);
        assert_eq!(event.note.unwrap().len(), MAX_NOTE_BYTES);
    }

    #[test]
    fn what_has_no_namespace_is_told_of_in_the_default_one() {
        let about = Regarding::of(
            "v1",
            "Node",
            &crate::cluster::Key::new("", "a"),
            &"u".into(),
        );
        let event = event(
            &about,
            &Note::new(Reason::PortConflict, "x"),
            "me",
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.regarding.unwrap().namespace, None);
    }
}
