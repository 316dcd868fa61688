//! Which proxies there are: the names of --proxy, or the endpoints of --proxy-service. Decides nothing: `push::find` does.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

use crate::cluster::Key;
use crate::cluster::slice::SERVICE_LABEL;
use crate::installation::API_PORT_NAME;
use crate::push::{Target, find};
use crate::settings::Settings;

/// After a watch broke.
const RETRY: Duration = Duration::from_secs(1);

/// Tells which proxies there are, for ever.
pub(crate) async fn follow(
    settings: Settings,
    client: Client,
    targets: watch::Sender<BTreeMap<String, Target>>,
) {
    match settings.proxy_service() {
        Some(service) => slices(client, &service, targets).await,
        None => find::look_up(settings.proxy, targets).await,
    }
}

/// A list replaces what was known; silence changes nothing.
async fn slices(client: Client, service: &Key, targets: watch::Sender<BTreeMap<String, Target>>) {
    let api = Api::<EndpointSlice>::namespaced(client, &service.namespace);
    let config = watcher::Config::default().labels(&format!("{SERVICE_LABEL}={}", service.name));
    let mut stream = std::pin::pin!(watcher::watcher(api, config));
    let (mut known, mut listing) = (BTreeMap::new(), BTreeMap::new());
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => listing.clear(),
            Ok(Event::InitApply(slice)) => {
                listing.insert(slice.name_any(), slice);
                continue;
            }
            Ok(Event::InitDone) => known = std::mem::take(&mut listing),
            Ok(Event::Apply(slice)) => {
                known.insert(slice.name_any(), slice);
            }
            Ok(Event::Delete(slice)) => {
                known.remove(&slice.name_any());
            }
            Err(error) => {
                tracing::debug!(%error, "the watch for proxies is broken; trying again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        }
        let slices: Vec<_> = known.values().cloned().collect();
        let found = find::targets(&slices, API_PORT_NAME);
        targets.send_if_modified(|before| {
            let changed = *before != found;
            *before = found;
            changed
        });
    }
}
