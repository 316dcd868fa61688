//! Watches the API server and tells what changed, in our own words. Must not know what it is good for.
//!
//! One stream a kind, each with a list first. Silence never deletes: what is gone is told by a deletion, or by a whole
//! list that lacks it. A broken watch is resumed where it was, or listed anew where the API server has forgotten (410).

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cluster::slice::SERVICE_LABEL;
use crate::cluster::switches::{NAME, NAMESPACE};
use crate::cluster::{
    Change, Ingress, Key, Kind, Node, Pod, Service, ServiceConfig, Slice, Switches,
};
use crate::crd::TkeServiceConfig;
use crate::fault;

/// After the first failure, then doubling.
pub(crate) const FIRST_RETRY: Duration = Duration::from_millis(100);
/// At most: an API server that is back should not wait for us.
pub(crate) const LAST_RETRY: Duration = Duration::from_secs(3);
/// A watch that held so long was well.
pub(crate) const WELL_AFTER: Duration = Duration::from_secs(30);
/// Objects in one page of a list.
const PAGE: u32 = 500;

/// What was seen, and when.
#[derive(Debug)]
pub struct Seen {
    /// When it came in.
    pub at: Instant,
    /// What.
    pub what: What,
}

/// What was seen.
#[derive(Debug)]
pub enum What {
    /// One thing changed.
    Change(Change),
    /// All there is of a kind, with its keys: what is not among them is gone.
    Listed(Kind, Vec<(Key, Change)>),
    /// A watch is broken; it is tried again.
    Failed(Kind, String),
}

/// How objects of a kind are read.
trait Read: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static {
    const KIND: Kind;
    /// The API server may not know the kind.
    const MAY_LACK: bool = false;

    /// `None` if it is none of ours to know.
    fn read(&self) -> Option<(Key, Change)>;
    /// That it is gone.
    fn gone(&self) -> Change;

    fn key(&self) -> Key {
        let meta = self.meta();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Key::new(&text(&meta.namespace), &text(&meta.name))
    }
}

impl Read for core::Service {
    const KIND: Kind = Kind::Service;

    fn read(&self) -> Option<(Key, Change)> {
        let service = Service::read(self)?;
        let key = service.key.clone();
        Some((key.clone(), Change::Service(key, Some(Box::new(service)))))
    }

    fn gone(&self) -> Change {
        Change::Service(self.key(), None)
    }
}

impl Read for networking::Ingress {
    const KIND: Kind = Kind::Ingress;

    fn read(&self) -> Option<(Key, Change)> {
        let ingress = Ingress::read(self)?;
        let key = ingress.key.clone();
        Some((key.clone(), Change::Ingress(key, Some(Box::new(ingress)))))
    }

    fn gone(&self) -> Change {
        Change::Ingress(self.key(), None)
    }
}

impl Read for discovery::EndpointSlice {
    const KIND: Kind = Kind::Slice;

    fn read(&self) -> Option<(Key, Change)> {
        let slice = Slice::read(self)?;
        Some((
            slice.key.clone(),
            Change::Slice(slice.key.clone(), Some(slice)),
        ))
    }

    fn gone(&self) -> Change {
        Change::Slice(self.key(), None)
    }
}

impl Read for core::Pod {
    const KIND: Kind = Kind::Pod;

    fn read(&self) -> Option<(Key, Change)> {
        let pod = Pod::read(self)?;
        Some((pod.key.clone(), Change::Pod(pod.key.clone(), Some(pod))))
    }

    fn gone(&self) -> Change {
        Change::Pod(self.key(), None)
    }
}

impl Read for core::Node {
    const KIND: Kind = Kind::Node;

    fn read(&self) -> Option<(Key, Change)> {
        let node = Node::read(self)?;
        Some((self.key(), Change::Node(Arc::clone(&node.name), Some(node))))
    }

    fn gone(&self) -> Change {
        Change::Node(self.key().name, None)
    }
}

impl Read for core::ConfigMap {
    const KIND: Kind = Kind::Switches;

    fn read(&self) -> Option<(Key, Change)> {
        Some((self.key(), Change::Switches(Switches::read(Some(self)))))
    }

    fn gone(&self) -> Change {
        Change::Switches(Switches::default())
    }
}

impl Read for TkeServiceConfig {
    const KIND: Kind = Kind::ServiceConfig;
    const MAY_LACK: bool = true;

    fn read(&self) -> Option<(Key, Change)> {
        let config = ServiceConfig::read(self)?;
        let key = config.key.clone();
        let change = Change::ServiceConfig(key.clone(), Some(Box::new(config)));
        Some((key, change))
    }

    fn gone(&self) -> Change {
        Change::ServiceConfig(self.key(), None)
    }
}

/// Watches everything that a build needs, for as long as somebody listens to `seen`.
pub async fn run(client: Client, seen: mpsc::Sender<Seen>) {
    let all = watcher::Config::default().page_size(PAGE);
    let of_services = all.clone().labels(SERVICE_LABEL);
    let switches = all.clone().fields(&format!("metadata.name={NAME}"));
    let api = || client.clone();
    tokio::join!(
        follow(Api::<core::Service>::all(api()), all.clone(), &seen),
        follow(Api::<networking::Ingress>::all(api()), all.clone(), &seen),
        follow(
            Api::<discovery::EndpointSlice>::all(api()),
            of_services,
            &seen
        ),
        follow(Api::<core::Pod>::all(api()), all.clone(), &seen),
        follow(Api::<core::Node>::all(api()), all, &seen),
        follow(
            Api::<core::ConfigMap>::namespaced(api(), NAMESPACE),
            switches,
            &seen
        ),
        follow_while_known(
            Api::<TkeServiceConfig>::all(api()),
            watcher::Config::default().page_size(PAGE),
            &seen
        ),
    );
}

/// Follows a kind that the API server may not know: there are no objects of it then, and it is asked for in silence,
/// since a watch would log each refusal.
async fn follow_while_known<K: Read>(
    api: Api<K>,
    config: watcher::Config,
    seen: &mpsc::Sender<Seen>,
) {
    let one = ListParams::default().limit(1);
    loop {
        let mut told = false;
        while let Err(error) = api.list_metadata(&one).await
            && fault::is_absent(&error)
        {
            if !std::mem::replace(&mut told, true)
                && !send(seen, What::Listed(K::KIND, Vec::new())).await
            {
                return;
            }
            tokio::time::sleep(LAST_RETRY).await;
        }
        follow(api.clone(), config.clone(), seen).await;
        if seen.is_closed() {
            return;
        }
    }
}

async fn follow<K: Read>(api: Api<K>, config: watcher::Config, seen: &mpsc::Sender<Seen>) {
    let mut stream = std::pin::pin!(watcher::watcher(api, config));
    let mut list: Option<Vec<(Key, Change)>> = None;
    let mut retry = FIRST_RETRY;
    let mut since = Instant::now();
    while let Some(event) = stream.next().await {
        let what = match event {
            Ok(event) => take(event, &mut list),
            Err(error) if K::MAY_LACK && fault::is_watch_absent(&error) => return,
            Err(error) => {
                if since.elapsed() > WELL_AFTER {
                    retry = FIRST_RETRY;
                }
                let told = send(seen, What::Failed(K::KIND, told(&error))).await;
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(LAST_RETRY);
                since = Instant::now();
                if !told {
                    return;
                }
                continue;
            }
        };
        if let Some(what) = what
            && !send(seen, what).await
        {
            return;
        }
    }
}

fn take<K: Read>(event: Event<K>, list: &mut Option<Vec<(Key, Change)>>) -> Option<What> {
    match event {
        Event::Init => {
            *list = Some(Vec::new());
            None
        }
        Event::InitApply(object) => {
            list.get_or_insert_default().extend(object.read());
            None
        }
        Event::InitDone => Some(What::Listed(K::KIND, list.take().unwrap_or_default())),
        Event::Apply(object) => match object.read() {
            Some((_, change)) => Some(What::Change(change)),
            // It was ours to know, and is no more: a slice without its label.
            None => Some(What::Change(object.gone())),
        },
        Event::Delete(object) => Some(What::Change(object.gone())),
    }
}

async fn send(seen: &mpsc::Sender<Seen>, what: What) -> bool {
    let at = Instant::now();
    seen.send(Seen { at, what }).await.is_ok()
}

fn told(error: &watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => {
            crate::fault::said(error)
        }
        WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => "a list came without a resourceVersion".to_owned(),
    }
}
