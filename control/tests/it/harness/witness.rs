//! What becomes of a namespace's Pods and endpoints, with the time of each change: what a failure is to be explained by.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::runtime::watcher::{self, Event};
use tokio::task::JoinHandle;

use super::objects::GATE;
use super::scene::Scene;

/// Looks on until it is dropped.
pub(crate) struct Witness {
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    last: BTreeMap<String, String>,
    changes: Vec<(Instant, String)>,
}

impl Witness {
    /// Looks at the test's namespace.
    pub(crate) fn start(scene: &Scene) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let (client, namespace) = (scene.cluster.client.clone(), scene.namespace.clone());
        let (pods, slices) = (Arc::clone(&seen), Arc::clone(&seen));
        let api = Api::<Pod>::namespaced(client.clone(), &namespace);
        let of_pods = scene.cluster.spawn(follow(api, move |pod, is_gone| {
            let name = pod.metadata.name.clone().unwrap_or_default();
            pods.lock()
                .unwrap()
                .note(format!("pod {name}"), told(pod, is_gone));
        }));
        let api = Api::<EndpointSlice>::namespaced(client, &namespace);
        let of_slices = scene.cluster.spawn(follow(api, move |slice, is_gone| {
            for (name, state) in endpoints(slice, is_gone) {
                slices.lock().unwrap().note(name, state);
            }
        }));
        Self {
            seen,
            tasks: vec![of_pods, of_slices],
        }
    }

    /// Each change, with the time since `begun`.
    pub(crate) fn changes(&self, begun: Instant) -> Vec<(Duration, String)> {
        let seen = self.seen.lock().unwrap();
        let changes = seen.changes.iter();
        changes
            .map(|(at, what)| (at.saturating_duration_since(begun), what.clone()))
            .collect()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Seen {
    fn note(&mut self, name: String, state: String) {
        if self.last.get(&name) != Some(&state) {
            self.changes
                .push((Instant::now(), format!("{name}: {state}")));
            self.last.insert(name, state);
        }
    }
}

async fn follow<K>(api: Api<K>, mut see: impl FnMut(&K, bool))
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => see(&object, false),
            Ok(Event::Delete(object)) => see(&object, true),
            Ok(_) | Err(_) => {}
        }
    }
}

fn told(pod: &Pod, is_gone: bool) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let mut text = status.phase.unwrap_or_default();
    if let Some(address) = status.pod_ip {
        write!(text, " {address}").unwrap();
    }
    for (kind, word) in [
        ("ContainersReady", "containers"),
        (GATE, "gate"),
        ("Ready", "ready"),
    ] {
        if conditions
            .iter()
            .any(|c| c.type_ == kind && c.status == "True")
        {
            write!(text, " {word}").unwrap();
        }
    }
    if pod.metadata.deletion_timestamp.is_some() {
        text.push_str(" deleting");
    }
    if is_gone {
        text.push_str(" gone");
    }
    text
}

fn endpoints(slice: &EndpointSlice, is_gone: bool) -> Vec<(String, String)> {
    let protocols = slice.ports.iter().flatten();
    let protocols: Vec<_> = protocols
        .filter_map(|port| port.protocol.as_deref())
        .collect();
    let endpoints = slice.endpoints.iter().flatten();
    let told = endpoints.map(|endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let words = [
            (conditions.ready, "ready"),
            (conditions.serving, "serving"),
            (conditions.terminating, "terminating"),
            (Some(is_gone), "gone"),
        ];
        let state: Vec<_> = words
            .into_iter()
            .filter_map(|(is, word)| is.unwrap_or_default().then_some(word))
            .collect();
        let target = endpoint
            .target_ref
            .as_ref()
            .and_then(|target| target.name.as_deref());
        let name = format!("endpoint {} {}", target.unwrap_or("?"), protocols.join("+"));
        (name, state.join(" "))
    });
    told.collect()
}
