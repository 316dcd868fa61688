//! Events: one for each fact of each Service, by its words. A fact that holds again is counted, also after a restart.
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

use super::Job;
use crate::build::note::Note;
use crate::cluster::service::MANAGER;
use crate::fault;

/// What an event may hold.
const MAX_NOTE_BYTES: usize = 1_000;
/// Counts that are remembered; without one, counting begins anew.
const MOST_COUNTS: usize = 10_000;

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

    /// Tells a fact of a Service.
    ///
    /// # Errors
    /// The API server refused.
    pub(super) async fn publish(&self, job: &Job, note: &Note) -> Result<(), kube::Error> {
        let api = Api::<Event>::namespaced(self.client.clone(), &job.key.namespace);
        let now = Timestamp::now();
        let event = event(job, note, &self.identity, now);
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

fn event(job: &Job, note: &Note, identity: &str, now: Timestamp) -> Event {
    let end = note.message.floor_char_boundary(MAX_NOTE_BYTES);
    let severity = if note.reason.is_warning() {
        "Warning"
    } else {
        "Normal"
    };
    Event {
        metadata: ObjectMeta {
            name: Some(name(job, note)),
            namespace: Some(job.key.namespace.to_string()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        action: Some("Sync".to_owned()),
        reason: Some(note.reason.to_string()),
        note: Some(note.message[..end].to_owned()),
        type_: Some(severity.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            name: Some(job.key.name.to_string()),
            namespace: Some(job.key.namespace.to_string()),
            uid: Some(job.uid.to_string()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(MANAGER.to_owned()),
        reporting_instance: Some(identity.to_owned()),
        ..Event::default()
    }
}

/// The same for the same fact of the same object, and no other.
fn name(job: &Job, note: &Note) -> String {
    let mut hasher = DefaultHasher::new();
    (&job.uid, note.reason.as_str(), &note.message).hash(&mut hasher);
    format!("{}.{:016x}", job.key.name, hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::note::Reason;
    use crate::cluster::testing::key;
    use crate::reconcile::difference::Writes;

    #[test]
    fn each_fact_has_an_event_of_its_own() {
        let job = |uid: &str| Job {
            key: key("default/web"),
            uid: uid.into(),
            resource_version: "1".to_owned(),
            writes: Writes::default(),
            notes: Vec::new(),
        };
        let note = |message: &str| Note::new(Reason::PortConflict, message);
        let first = name(&job("a"), &note("x"));
        assert_eq!(first, name(&job("a"), &note("x")));
        assert_ne!(first, name(&job("a"), &note("y")));
        assert_ne!(first, name(&job("b"), &note("x")));
        let long = note(&"é".repeat(5_000));
        let event = event(&job("a"), &long, "me", Timestamp::UNIX_EPOCH);
        assert_eq!(event.note.unwrap().len(), MAX_NOTE_BYTES);
    }
}
