//! The Services of a namespace as the API server has them this moment: what was made an instant ago may not have come by
//! watch. Asked for on a miss only: one list a namespace at a time, for all who wait for it, and a few within a second.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::time::{Instant, timeout};

use crate::build::annotation::Read;
use crate::cluster::{Entry, Service};
use crate::fault;

/// How long lists of a namespace count towards [`LISTS`], and the last of them for those who come then.
const FRESH: Duration = Duration::from_secs(1);
/// Lists of a namespace within that time: a few Services may be made in one second, each with its Pods; a namespace whose
/// Pods have no Services makes misses without end.
const LISTS: u32 = 5;
/// How long a list may take.
const LIMIT: Duration = Duration::from_secs(1);
/// Namespaces that are asked about within a second; of more nothing is known.
const NAMESPACES: usize = 256;
/// Services of a namespace that are looked at: as many as one list brings.
const SERVICES: u32 = 2_000;

/// The Services of a namespace; none if it could not be asked.
pub(super) type Found = Option<Arc<[Entry]>>;

/// What asks. Cheap to clone.
#[derive(Clone)]
pub(super) struct Live {
    client: Client,
    asked: Arc<Mutex<HashMap<String, Place>>>,
}

/// A namespace: whoever holds the lock asks, and the others wait for the answer.
type Place = Arc<tokio::sync::Mutex<Option<Answer>>>;

/// What was found last.
struct Answer {
    /// When the list was asked for: whoever came before that is answered by it.
    asked: Instant,
    /// Since when lists are counted, and how many there were.
    since: Instant,
    lists: u32,
    found: Found,
}

impl Answer {
    /// Whether it answers somebody who came at `came`.
    fn counts_for(&self, came: Instant) -> bool {
        self.asked >= came || self.is_fresh() && self.lists >= LISTS
    }

    fn is_fresh(&self) -> bool {
        self.since.elapsed() < FRESH
    }
}

impl Live {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            asked: Arc::default(),
        }
    }

    /// The Services of type LoadBalancer of a namespace.
    pub(super) async fn services(&self, namespace: &str) -> Found {
        let came = Instant::now();
        let place = self.place(namespace)?;
        // Whoever asks answers in time; one limit for the wait and for the list.
        let found = timeout(LIMIT, async {
            let mut answer = place.lock().await;
            if let Some(answer) = answer.as_ref().filter(|answer| answer.counts_for(came)) {
                return answer.found.clone();
            }
            let asked = Instant::now();
            let found = self.list(namespace).await;
            let earlier = answer.take().filter(Answer::is_fresh);
            let (since, lists) = earlier.map_or((asked, 0), |it| (it.since, it.lists));
            *answer = Some(Answer {
                asked,
                since,
                lists: lists + 1,
                found: found.clone(),
            });
            found
        });
        found.await.ok().flatten()
    }

    fn place(&self, namespace: &str) -> Option<Place> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() >= NAMESPACES && !asked.contains_key(namespace) {
            asked.retain(|_, place| is_used(place));
            if asked.len() >= NAMESPACES {
                return None;
            }
        }
        Some(match asked.entry(namespace.to_owned()) {
            Slot::Occupied(place) => Arc::clone(place.get()),
            Slot::Vacant(slot) => Arc::clone(slot.insert(Arc::default())),
        })
    }

    async fn list(&self, namespace: &str) -> Found {
        let api = Api::<core::Service>::namespaced(self.client.clone(), namespace);
        let balancers = ListParams::default()
            .fields("spec.type=LoadBalancer")
            .limit(SERVICES);
        match api.list(&balancers).await {
            Ok(list) => Some(list.items.iter().filter_map(entry).collect()),
            Err(error) => {
                let problem = fault::said(&error);
                tracing::debug!(namespace, problem, "cannot list Services for a new Pod");
                None
            }
        }
    }
}

/// Somebody asks, or the answer counts still.
fn is_used(place: &Place) -> bool {
    match place.try_lock() {
        Ok(answer) => answer.as_ref().is_some_and(Answer::is_fresh),
        Err(_) => true,
    }
}

fn entry(object: &core::Service) -> Option<Entry> {
    let service = Service::read(object)?;
    Some(Entry {
        annotations: Read::of(&service, None),
        service,
    })
}

#[cfg(test)]
mod tests;
