//! The Services and Ingresses of a namespace as the API server has them this moment: what was made an instant ago may not
//! have come by watch. Asked for on a miss only: one look at a namespace at a time, for all who wait for it, and a few
//! within a second.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use crate::cluster::{Change, Cluster, Ingress, Service};
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
/// Objects of a kind and namespace that are looked at: as many as one list brings.
const OBJECTS: u32 = 2_000;

/// The Services and Ingresses of a namespace; none if it could not be asked.
pub(super) type Found = Option<Arc<Cluster>>;

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

    /// The Ingresses of a namespace, and its Services: those of type LoadBalancer, or all of them if an Ingress may name
    /// others.
    pub(super) async fn look(&self, namespace: &str) -> Found {
        let came = Instant::now();
        let place = self.place(namespace)?;
        // Whoever asks answers in time; one limit for the wait and for the list.
        let found = timeout(LIMIT, async {
            let mut answer = place.lock().await;
            if let Some(answer) = answer.as_ref().filter(|answer| answer.counts_for(came)) {
                return answer.found.clone();
            }
            let asked = Instant::now();
            let found = self.lists(namespace).await;
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

    async fn lists(&self, namespace: &str) -> Found {
        let all = ListParams::default().limit(OBJECTS);
        let ingresses = self.list::<networking::Ingress>(namespace, &all).await?;
        let ingresses: Vec<_> = ingresses.iter().filter_map(Ingress::read).collect();
        let balancers = all.clone().fields("spec.type=LoadBalancer");
        let wanted = if ingresses.is_empty() { balancers } else { all };
        let services = self.list::<core::Service>(namespace, &wanted).await?;
        let mut cluster = Cluster::default();
        for ingress in ingresses {
            cluster.apply(Change::Ingress(
                ingress.key.clone(),
                Some(Box::new(ingress)),
            ));
        }
        for service in services.iter().filter_map(Service::read) {
            cluster.apply(Change::Service(
                service.key.clone(),
                Some(Box::new(service)),
            ));
        }
        Some(Arc::new(cluster))
    }

    async fn list<K>(&self, namespace: &str, wanted: &ListParams) -> Option<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        match api.list(wanted).await {
            Ok(list) => Some(list.items),
            Err(error) => {
                let (kind, problem) = (K::kind(&()), fault::said(&error));
                tracing::debug!(namespace, %kind, problem, "cannot list objects for a new Pod");
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

#[cfg(test)]
mod tests;
