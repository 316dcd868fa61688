//! Takes the steps. Decides nothing: what is done and in which order is `plan`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use podline_api::client::ClientTls;
use podline_api::{Apply, Owner, v1};
use serde_json::json;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

use super::gate::Gated;
use super::lease::{Verdict, Watch};
use super::nodes;
use super::objects::Thing;
use super::plan::{self, Step};
use super::survey::Survey;
use super::trace::{self, Part, Sort, Trace, Traced};
use crate::cli::failure::{Exit, Failure};
use crate::cli::human::count;
use crate::cli::kube::Cluster;
use crate::cli::kube::trouble::{Call, Trouble};
use crate::cli::output::Screen;
use crate::cluster::service::MANAGER;
use crate::installation::{CONTROL, LEASE};

/// Our writes that are not the controller's carry this name.
const UNINSTALLER: &str = "podline-uninstall";
/// For the controller's Pods to end, and for everything to be gone at the end.
const PATIENCE: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_millis(500);
/// For what is on the nodes to be taken away.
const NODES_LIMIT: Duration = Duration::from_secs(30);
/// For a proxy to let go.
const PROXY_LIMIT: Duration = Duration::from_secs(15);
/// Somebody else may write in between; more often would be a fight.
const ATTEMPTS: usize = 5;

/// The cluster that is worked on, and what did not work.
pub(super) struct Work<'a> {
    cluster: &'a Cluster,
    /// Whose the controllers' state is in the proxies: their Deployments are gone when it is asked again.
    owners: Vec<Owner>,
    /// Why a step failed, by what it was about.
    failed: BTreeMap<String, String>,
    /// For proxies; read once.
    tls: OnceCell<Option<ClientTls>>,
    patience: Duration,
}

impl<'a> Work<'a> {
    pub(super) fn new(cluster: &'a Cluster, owners: Vec<Owner>) -> Self {
        let patience = if cfg!(test) { PAUSE * 3 } else { PATIENCE };
        Self {
            cluster,
            owners,
            failed: BTreeMap::new(),
            tls: OnceCell::new(),
            patience,
        }
    }

    /// Remembers why a step failed.
    pub(super) fn failed(&mut self, step: &Step, problem: String) {
        let about = match step {
            Step::Delete(thing) | Step::Stop(thing) => thing.to_string(),
            Step::Clear(trace) => format!("{} {}/{}", trace.sort, trace.namespace, trace.name),
            Step::Forget(events) => count(events.len(), "Event"),
            Step::OpenGates(gates) => count(gates.len(), "readiness gate"),
            // Told when it happens; the proxies go anyway.
            Step::Release { .. } | Step::AwaitStop | Step::ClearNodes(_) => return,
        };
        self.failed.insert(about, problem);
    }

    /// Takes a step; what there is to say about it.
    pub(super) async fn take(&self, step: &Step) -> Result<String, Failure> {
        match step {
            Step::Stop(thing) => self.stop(thing).await?,
            Step::AwaitStop => return self.await_stop().await.map_err(Failure::from),
            Step::Clear(trace) => {
                let cleared = match trace.sort {
                    Sort::Service => self.clear::<Service>(trace).await,
                    Sort::Ingress => self.clear::<Ingress>(trace).await,
                    Sort::ConfigMap => self.clear::<ConfigMap>(trace).await,
                };
                return cleared.map_err(Failure::from);
            }
            Step::Release { pod, owner } => return self.release(pod, owner).await,
            Step::ClearNodes(thing) => return self.clear_nodes(thing).await.map_err(Failure::from),
            Step::Forget(events) => self.forget(events).await?,
            Step::OpenGates(gates) => self.open_gates(gates).await?,
            Step::Delete(thing) => self.delete(thing).await?,
        }
        Ok(String::new())
    }

    async fn stop(&self, thing: &Thing) -> Result<(), Trouble> {
        let call = Call::new("patch", "deployments").within(&self.cluster.namespace);
        let api = self.cluster.own::<Deployment>();
        let params = PatchParams {
            field_manager: Some(UNINSTALLER.to_owned()),
            ..PatchParams::default()
        };
        let none = Patch::Merge(json!({"metadata": {"uid": thing.uid}, "spec": {"replicas": 0}}));
        self.cluster
            .answer(call, api.patch(&thing.name, &params, &none))
            .await?;
        Ok(())
    }

    /// What it installed outlives it, so it is told to take it away, and waited for: each of its Pods runs to its end.
    async fn clear_nodes(&self, thing: &Thing) -> Result<String, Trouble> {
        let api = self.cluster.own::<DaemonSet>();
        let call = Call::new("get", "daemonsets").within(&self.cluster.namespace);
        let found = self.cluster.answer(call, api.get_opt(&thing.name)).await?;
        let uid = Some(&thing.uid);
        let Some(set) = found.filter(|set| set.metadata.uid.as_ref() == uid) else {
            return Ok("it is gone".to_owned());
        };
        let call = Call::new("patch", "daemonsets").within(&self.cluster.namespace);
        let params = PatchParams {
            field_manager: Some(UNINSTALLER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Strategic(nodes::removing(&set));
        let patched = api.patch(&thing.name, &params, &patch);
        self.cluster.answer(call, patched).await?;
        let begun = Instant::now();
        loop {
            let call = Call::new("get", "daemonsets").within(&self.cluster.namespace);
            let set = self.cluster.answer(call, api.get(&thing.name)).await?;
            let pods = self.cluster.pods(&thing.name).await?;
            let left = nodes::left(&set, &pods);
            let Some(left) = left else {
                return Ok(count(pods.len(), "node"));
            };
            if begun.elapsed() > self.patience.min(NODES_LIMIT) {
                return Err(nodes::kept(left));
            }
            sleep(PAUSE).await;
        }
    }

    async fn await_stop(&self) -> Result<String, Trouble> {
        let begun = Instant::now();
        loop {
            let pods = self.cluster.pods(CONTROL).await?;
            let over = |pod: &&Pod| {
                let phase = pod
                    .status
                    .as_ref()
                    .and_then(|status| status.phase.as_deref());
                matches!(phase, Some("Succeeded" | "Failed"))
            };
            let names = pods.iter().filter(|pod| !over(pod));
            let names: Vec<_> = names.filter_map(|pod| pod.metadata.name.clone()).collect();
            if names.is_empty() {
                break;
            }
            if begun.elapsed() > self.patience {
                return Err(still(&self.cluster.namespace, &names));
            }
            sleep(PAUSE).await;
        }
        self.await_lease(begun).await
    }

    async fn await_lease(&self, begun: Instant) -> Result<String, Trouble> {
        let (mut watch, mut holder) = (Watch::default(), String::new());
        let api = self.cluster.own::<Lease>();
        loop {
            let call = Call::new("get", "leases").within(&self.cluster.namespace);
            let lease = self.cluster.answer(call, api.get_opt(LEASE)).await?;
            let spec = lease.as_ref().and_then(|lease| lease.spec.clone());
            let now = spec
                .and_then(|spec| spec.holder_identity)
                .unwrap_or_default();
            if !now.is_empty() {
                holder = now;
            }
            match watch.look(lease.as_ref(), begun.elapsed()) {
                Verdict::Free if holder.is_empty() => return Ok(String::new()),
                Verdict::Free => return Ok(format!("the Lease of {holder} has run out")),
                Verdict::Wait => sleep(PAUSE).await,
                Verdict::Renewed => return Err(renewed(&self.cluster.namespace, &holder)),
            }
        }
    }

    /// Status before metadata: an object that is let go may vanish with its finalizer.
    async fn clear<K: Traced>(&self, first: &Trace) -> Result<String, Trouble> {
        let api: Api<K> = Api::namespaced(self.cluster.client.clone(), &first.namespace);
        for attempt in 0..ATTEMPTS {
            let call = Call::new("get", K::PLURALS[0]).within(&first.namespace);
            let found = self.cluster.answer(call, api.get_opt(&first.name)).await?;
            let found = found.filter(|it| it.meta().uid.as_deref() == Some(&first.uid));
            let Some((object, trace)) = found.and_then(|object| {
                let trace = trace::of(&object)?;
                Some((object, trace))
            }) else {
                return Ok(first.what());
            };
            let by_name =
                attempt > 0 || !(trace.has(Part::Applied) || trace.has(Part::AppliedStatus));
            self.clear_once(&api, &object, &trace, by_name).await?;
        }
        Err(Trouble::new(
            Exit::Refused,
            format!("somebody writes it again: {}", first.what()),
            [],
        ))
    }

    async fn clear_once<K: Traced>(
        &self,
        api: &Api<K>,
        object: &K,
        trace: &Trace,
        by_name: bool,
    ) -> Result<(), Trouble> {
        let [whole, status] = K::PLURALS;
        let name = &trace.name;
        let ours = PatchParams::apply(MANAGER).force();
        let plain = |manager: String| PatchParams {
            field_manager: Some(manager),
            ..PatchParams::default()
        };
        if trace.has(Part::AppliedStatus) {
            let nothing = Patch::Apply(trace.nothing());
            self.write(trace, status, api.patch_status(name, &ours, &nothing))
                .await?;
        }
        if by_name && let Some(patch) = trace::status_without(object) {
            let (params, patch) = (plain(UNINSTALLER.to_owned()), Patch::Merge(patch));
            self.write(trace, status, api.patch_status(name, &params, &patch))
                .await?;
            // The next patch names the version that was seen.
            return Ok(());
        }
        if trace.has(Part::MadeDirect) {
            let (params, patch) = (
                plain(trace::defaults_manager()),
                Patch::Merge(trace.not_direct()),
            );
            self.write(trace, whole, api.patch(name, &params, &patch))
                .await?;
        }
        if trace.has(Part::Applied) {
            let nothing = Patch::Apply(trace.nothing());
            self.write(trace, whole, api.patch(name, &ours, &nothing))
                .await?;
        }
        if by_name && let Some(patch) = trace::metadata_without(object.meta()) {
            let (params, patch) = (plain(UNINSTALLER.to_owned()), Patch::Merge(patch));
            self.write(trace, whole, api.patch(name, &params, &patch))
                .await?;
        }
        Ok(())
    }

    /// A write that came too late is none: the next look decides.
    async fn write<K>(
        &self,
        trace: &Trace,
        resource: &str,
        write: impl Future<Output = kube::Result<K>>,
    ) -> Result<(), Trouble> {
        let call = Call::new("patch", resource).within(&trace.namespace);
        let write = async {
            match write.await {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
                written => written.map(drop),
            }
        };
        self.cluster.answer(call, write).await
    }

    /// Whoever asks for this means the owner as it is now, so it speaks as the one that leads.
    async fn release(&self, pod: &str, owner: &Owner) -> Result<String, Failure> {
        let tls = self.tls.get_or_try_init(|| self.cluster.tls()).await?;
        let released = timeout(PROXY_LIMIT, self.release_once(pod, owner, tls.as_ref()));
        released.await.unwrap_or_else(|_| {
            let limit = PROXY_LIMIT.as_secs();
            let problem = format!("it did not answer within {limit} s");
            Err(Trouble::new(Exit::Unreachable, problem, []).into())
        })
    }

    async fn release_once(
        &self,
        pod: &str,
        owner: &Owner,
        tls: Option<&ClientTls>,
    ) -> Result<String, Failure> {
        let call = Call::new("get", "pods").within(&self.cluster.namespace);
        let pods = self.cluster.own::<Pod>();
        let Some(found) = self.cluster.answer(call, pods.get_opt(pod)).await? else {
            return Ok("it is gone".to_owned());
        };
        let proxy = self.cluster.proxy_of(&found, tls).await?;
        let request = v1::GetRequest {
            summary: true,
            ..Default::default()
        };
        let state = proxy.get(request).await?;
        let mut owners = state.owners.iter();
        let Some(status) = owners.find(|status| status.owner == owner.as_str()) else {
            return Ok("it had nothing".to_owned());
        };
        let nothing = Apply {
            replace_owned: true,
            epoch: status.epoch,
            ..Apply::new(owner.clone())
        };
        proxy.apply(&nothing).await?;
        let (listeners, sets) = (status.listeners as usize, status.backend_sets as usize);
        Ok(format!(
            "{}, {}",
            count(listeners, "listener"),
            count(sets, "set")
        ))
    }

    async fn forget(&self, events: &[(String, String)]) -> Result<(), Trouble> {
        for (namespace, name) in events {
            let api: Api<Event> = Api::namespaced(self.cluster.client.clone(), namespace);
            let call = Call::new("delete", "events").within(namespace);
            let deleted = async { gone(api.delete(name, &DeleteParams::default()).await) };
            self.cluster.answer(call, deleted).await?;
        }
        Ok(())
    }

    /// A Pod that is gone, or another one of its name, needs none.
    async fn open_gates(&self, gates: &[Gated]) -> Result<(), Trouble> {
        let params = PatchParams {
            field_manager: Some(UNINSTALLER.to_owned()),
            ..PatchParams::default()
        };
        for gate in gates {
            let api: Api<Pod> = Api::namespaced(self.cluster.client.clone(), gate.namespace());
            let call = Call::new("patch", "pods/status").within(gate.namespace());
            let patch = Patch::Strategic(gate.opened(Timestamp::now()));
            let opened = async {
                match api.patch_status(gate.name(), &params, &patch).await {
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {
                        Ok(())
                    }
                    opened => opened.map(drop),
                }
            };
            self.cluster.answer(call, opened).await?;
        }
        Ok(())
    }

    async fn delete(&self, thing: &Thing) -> Result<(), Trouble> {
        let (client, resource) = (self.cluster.client.clone(), thing.kind.resource());
        let call = Call::new("delete", thing.kind.plural);
        let (api, call): (Api<DynamicObject>, _) = match &thing.namespace {
            Some(namespace) => (
                Api::namespaced_with(client, namespace, &resource),
                call.within(namespace),
            ),
            None => (Api::all_with(client, &resource), call),
        };
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(thing.uid.clone()),
                resource_version: None,
            }),
            // What it made goes with it.
            ..DeleteParams::background()
        };
        let deleted = async { gone(api.delete(&thing.name, &params).await) };
        self.cluster.answer(call, deleted).await
    }

    /// Waits until nothing is left, for a while, and says what is, and why.
    pub(super) async fn left(
        &self,
        before: &Survey,
        screen: &mut Screen,
    ) -> Result<Vec<(String, String)>, Failure> {
        let begun = Instant::now();
        let mut waiting = false;
        loop {
            let mut survey = Survey::take(self.cluster).await?;
            survey.owners.clone_from(&self.owners);
            let left = plan::left(&survey);
            let hopeless =
                |(what, why): &(String, String)| self.failed.contains_key(what) || !why.is_empty();
            if left.iter().all(hopeless) || begun.elapsed() > self.patience {
                return Ok(left
                    .into_iter()
                    .map(|(what, why)| self.why(what, why))
                    .collect());
            }
            if !std::mem::replace(&mut waiting, true) {
                let namespace = &before.namespace;
                super::tell(
                    "wait until everything is gone",
                    "waiting",
                    namespace,
                    screen,
                )?;
            }
            sleep(PAUSE).await;
        }
    }

    fn why(&self, what: String, why: String) -> (String, String) {
        let why = match self.failed.get(&what) {
            Some(problem) => problem.clone(),
            None if why.is_empty() => "it is not gone yet, or was made again".to_owned(),
            None => why,
        };
        (what, why)
    }
}

/// Whether it is gone by us, by another, or made anew, is all the same.
fn gone<T>(deleted: kube::Result<T>) -> kube::Result<()> {
    match deleted {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        deleted => deleted.map(drop),
    }
}

fn still(namespace: &str, pods: &[String]) -> Trouble {
    Trouble::new(
        Exit::Refused,
        format!("Pods of the controller still run: {}", pods.join(", ")),
        [
            "nothing was taken back; who makes them? a Deployment that Podline's labels are not on?"
                .to_owned(),
            format!("stop them (kubectl -n {namespace} get pods --show-labels), then try again"),
        ],
    )
}

fn renewed(namespace: &str, holder: &str) -> Trouble {
    Trouble::new(
        Exit::Refused,
        format!("{holder} leads, and is none of the Pods that were stopped"),
        [
            "nothing was taken back: it would be written again".to_owned(),
            format!("stop that {CONTROL} (Lease {namespace}/{LEASE}), then try again"),
        ],
    )
}
