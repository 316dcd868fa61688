//! Keeps the objects of `registration` as they are to be: watches them, and writes them at once if this replica leads. What
//! is wrong is found by `registration`, whether it is mended now is decided by `decide`.
//!
//! Fields of ours go by server-side apply, so that nobody else's are lost. Where something foreign stays that changes who
//! is called, the whole list is written. Nothing is written when nothing differs.

mod decide;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use self::decide::{Cause, Record, Sight, Verdict};
use super::registration::{self, Basis, KEPT, KINDS, Kept, SWITCHES};
use crate::build::note::{Note, Reason};
use crate::certificates::{Callers, Connections, common};
use crate::cluster::Key;
use crate::cluster::service::MANAGER;
use crate::events::Regarding;
use crate::{fault, managers};

/// How long one call of the API server may take.
const CALL: Duration = Duration::from_secs(5);
/// What could not be mended is tried again after so long.
const AGAIN: Duration = Duration::from_secs(5);

/// Why an object was not written.
enum Failure {
    /// Somebody else wrote first: what the watch tells next is looked at.
    Lost,
    /// We lack the right; in the server's words.
    Forbidden(String),
    /// Anything else; in words.
    Failed(String),
}

/// What is known of one object.
struct Known {
    kept: &'static Kept,
    api: Api<DynamicObject>,
    /// An answer has come.
    is_seen: bool,
    /// Absent if there is none.
    object: Option<Value>,
    /// Of the last one there was.
    metadata: ObjectMeta,
    /// What it was to be when it last was so.
    agreed: Option<Value>,
    record: Record,
    /// Since when it is known to be damaged.
    damaged: Option<Instant>,
    /// Why it cannot be watched, and whether that is for want of a right.
    unwatched: Option<(String, bool)>,
    /// Why it could not be written.
    unwritten: Option<String>,
}

/// Keeps the objects.
pub struct Repair {
    connections: Connections,
    namespace: String,
    is_on: bool,
    bundle: watch::Receiver<Option<Arc<[u8]>>>,
    /// Whether TKE's controller is known not to be here.
    alone: watch::Receiver<bool>,
    known: Vec<Known>,
    start: Instant,
    /// What all configurations have in their bundles, and since when.
    common: Option<(Vec<u8>, i64)>,
    /// Absent if nobody is called through the objects.
    callers: Option<watch::Sender<Option<Callers>>>,
    troubles: watch::Sender<Vec<String>>,
}

impl Repair {
    /// For controllers in `namespace`. If webhooks are off (`is_on`), what an earlier controller registered is emptied, so
    /// that the API server does not call nobody. `callers` is told whom the configurations trust; `bundle` says whom they
    /// are to trust.
    pub fn new(
        connections: Connections,
        namespace: &str,
        is_on: bool,
        bundle: watch::Receiver<Option<Arc<[u8]>>>,
        callers: watch::Sender<Option<Callers>>,
    ) -> Self {
        Self::of(KEPT, connections, (namespace, is_on), bundle, Some(callers))
    }

    /// For the kinds of objects that Podline brings along.
    pub fn of_kinds(connections: Connections, namespace: &str) -> Self {
        let (_, nothing) = watch::channel(None);
        Self::of(KINDS, connections, (namespace, true), nothing, None)
    }

    /// For the ConfigMap of switches, while TKE's controller is known not to be here.
    pub fn of_switches(
        connections: Connections,
        namespace: &str,
        alone: watch::Receiver<bool>,
    ) -> Self {
        let (_, nothing) = watch::channel(None);
        Self {
            alone,
            ..Self::of(SWITCHES, connections, (namespace, true), nothing, None)
        }
    }

    fn of(
        list: &'static [Kept],
        connections: Connections,
        (namespace, is_on): (&str, bool),
        bundle: watch::Receiver<Option<Arc<[u8]>>>,
        callers: Option<watch::Sender<Option<Callers>>>,
    ) -> Self {
        let known = list.iter().map(|kept| Known {
            kept,
            api: api(&connections.client, kept, namespace),
            is_seen: false,
            object: None,
            metadata: ObjectMeta::default(),
            agreed: None,
            record: Record::default(),
            damaged: None,
            unwatched: None,
            unwritten: None,
        });
        Self {
            known: known.collect(),
            connections,
            namespace: namespace.to_owned(),
            is_on,
            bundle,
            alone: watch::channel(false).1,
            start: Instant::now(),
            common: None,
            callers,
            troubles: watch::Sender::new(Vec::new()),
        }
    }

    /// What cannot be watched or written, and why: for /readyz. Empty if webhooks are off.
    pub fn troubles(&self) -> watch::Receiver<Vec<String>> {
        self.troubles.subscribe()
    }

    /// Watches until `shutdown`, and writes whenever this replica leads.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let events = self.events();
        tokio::pin!(events);
        let mut reign = self.connections.leadership.reign();
        let (mut bundle, mut alone) = (self.bundle.clone(), self.alone.clone());
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                Some((i, event)) = events.next() => self.known[i].take(event),
                Ok(()) = reign.changed() => {}
                Ok(()) = bundle.changed() => {}
                Ok(()) = alone.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = self.work() => {}
            }
        }
    }

    /// What the watches say, which try again by themselves.
    fn events(
        &self,
    ) -> impl Stream<Item = (usize, watcher::Result<Option<DynamicObject>>)> + use<> {
        let watches = self.known.iter().enumerate().map(|(i, known)| {
            watcher::watch_object(known.api.clone(), known.kept.name)
                .default_backoff()
                .map(move |event| (i, event))
                .boxed()
        });
        stream::select_all(watches.collect::<Vec<_>>())
    }

    async fn work(&mut self) {
        let bundle = self.bundle.borrow().clone();
        let mut notes = Vec::new();
        for i in 0..self.known.len() {
            notes.extend(self.mend(i, bundle.as_deref()).await);
        }
        self.tell();
        for (regarding, note) in notes {
            let told = timeout(CALL, self.connections.events.publish(&regarding, &note)).await;
            if let Ok(Err(error)) = told {
                tracing::warn!("cannot tell {note}: {}", fault::said(&error));
            }
        }
    }

    /// Looks at one object, and writes it if need be: what there is to tell.
    async fn mend(&mut self, i: usize, bundle: Option<&[u8]>) -> Option<(Regarding, Note)> {
        let basis = Basis {
            namespace: &self.namespace,
            is_on: self.is_on,
            bundle,
            is_alone: *self.alone.borrow(),
        };
        let now = self.start.elapsed();
        let leads = self.connections.leadership.is_held(Instant::now());
        let known = &mut self.known[i];
        if !known.is_seen {
            return None;
        }
        let Some(wish) = (known.kept.wish)(&basis, known.object.as_ref()) else {
            known.damaged = None;
            known.unwritten = None;
            return None;
        };
        let flaws = known.flaws(&wish);
        let sight = Sight {
            flaws: &flaws,
            is_missing: known.object.is_none(),
            is_untouched: known.is_untouched(),
        };
        match known.record.cause(&sight) {
            Some(Cause::Damage) => {
                known.damaged.get_or_insert_with(Instant::now);
            }
            Some(_) => {}
            None => {
                known.damaged = None;
                known.unwritten = None;
                known.agreed = Some(wish.clone());
            }
        }
        if !leads {
            return None;
        }
        match known.record.look(&sight, now) {
            Verdict::Well | Verdict::Wait => None,
            Verdict::Yield(pause) => Some(known.yields(&self.namespace, &flaws, pause)),
            Verdict::Write(cause) => {
                let note = known
                    .write(&wish, flaws, cause, now, &self.connections)
                    .await?;
                Some((known.regarding(&self.namespace), note))
            }
        }
    }

    /// Publishes how things are.
    fn tell(&mut self) {
        let metrics = &self.connections.metrics;
        let mut troubles = Vec::new();
        for known in &self.known {
            let trouble = known.trouble().filter(|_| self.is_on);
            metrics.damaged(known.label(), known.damaged.is_some());
            metrics.blocked(known.label(), trouble.is_some());
            troubles.extend(trouble);
        }
        self.troubles.send_if_modified(|known| {
            if *known == troubles {
                return false;
            }
            for trouble in troubles.iter().filter(|trouble| !known.contains(trouble)) {
                let about = if self.callers.is_some() {
                    "webhooks: "
                } else {
                    ""
                };
                tracing::warn!("{about}{trouble}");
            }
            *known = troubles;
            true
        });
        self.tell_callers();
    }

    /// Tells whom the configurations trust, once every one was seen, or may not be.
    fn tell_callers(&mut self) {
        let Some(callers) = &self.callers else {
            return;
        };
        let is_known = |known: &Known| {
            known.is_seen
                || known
                    .unwatched
                    .as_ref()
                    .is_some_and(|(_, is_denied)| *is_denied)
        };
        if !self.known.iter().all(is_known) {
            return;
        }
        let nothing = Value::Null;
        let bundles = self.known.iter().flat_map(|known| {
            let object = known.object.as_ref().unwrap_or(&nothing);
            (known.kept.bundles)(object)
        });
        let common = common(&bundles.collect::<Vec<_>>());
        if self
            .common
            .as_ref()
            .is_some_and(|(known, _)| *known == common)
        {
            return;
        }
        let since = Timestamp::now().as_second();
        callers.send_replace(Some(Callers::new(&common, since)));
        self.common = Some((common, since));
    }
}

impl Known {
    fn label(&self) -> String {
        format!("{}/{}", self.kept.kind, self.kept.name)
    }

    fn take(&mut self, event: watcher::Result<Option<DynamicObject>>) {
        match event {
            Ok(object) => {
                self.is_seen = true;
                self.unwatched = None;
                self.see(object);
            }
            Err(error) => {
                let is_denied = fault::is_watch_forbidden(&error);
                self.unwatched = Some((fault::watching(&error), is_denied));
            }
        }
    }

    /// The watch may tell of an object as it was before our last write.
    fn see(&mut self, object: Option<DynamicObject>) {
        let Some(object) = object else {
            self.object = None;
            return;
        };
        let version = |metadata: &ObjectMeta| {
            let version = metadata.resource_version.as_ref()?;
            version.parse::<u64>().ok()
        };
        let is_same = self.object.is_some() && self.metadata.uid == object.metadata.uid;
        if is_same && version(&object.metadata) < version(&self.metadata) {
            return;
        }
        self.record.seen();
        self.metadata = object.metadata.clone();
        self.object = serde_json::to_value(object).ok();
    }

    fn flaws(&self, wish: &Value) -> Vec<String> {
        match &self.object {
            Some(object) => registration::flaws(&(self.kept.view)(object), wish),
            None => vec!["is missing".to_owned()],
        }
    }

    /// Whether what is wrong with it can be nobody else's doing: it is as it was to be before. A process that did not see
    /// it so goes by who wrote to it: another release of Podline may have made it otherwise.
    fn is_untouched(&self) -> bool {
        match &self.agreed {
            Some(agreed) => self.flaws(agreed).is_empty(),
            None => self.kept.is_of_others || managers::other(&self.metadata).is_none(),
        }
    }

    fn regarding(&self, namespace: &str) -> Regarding {
        let namespace = (self.kept.home)(namespace).unwrap_or_default();
        let uid = self.metadata.uid.clone().unwrap_or_default().into();
        let key = Key::new(namespace, self.kept.name);
        Regarding::of(self.kept.api_version, self.kept.kind, &key, &uid)
    }

    /// Why it cannot be kept.
    fn trouble(&self) -> Option<String> {
        let (kind, name) = (self.kept.kind, self.kept.name);
        if let Some((problem, _)) = &self.unwatched {
            return Some(format!("cannot watch {kind} {name}: {problem}"));
        }
        let problem = self.unwritten.as_ref()?;
        Some(format!("cannot write {kind} {name}: {problem}"))
    }

    fn yields(&self, namespace: &str, flaws: &[String], pause: Duration) -> (Regarding, Note) {
        let other = managers::other(&self.metadata);
        let what = format!(
            "is left alone for {} s: {}",
            pause.as_secs(),
            flaws.join("; ")
        );
        let told = managers::contested(other.as_ref(), &what);
        tracing::warn!(object = self.label(), "{told}");
        (
            self.regarding(namespace),
            Note::new(Reason::RepairContested, told),
        )
    }

    /// Writes it: what there is to tell.
    async fn write(
        &mut self,
        wish: &Value,
        flaws: Vec<String>,
        cause: Cause,
        now: Duration,
        connections: &Connections,
    ) -> Option<Note> {
        match self.patch(wish).await {
            Ok(written) => {
                self.metadata = written.metadata.clone();
                self.object = serde_json::to_value(written).ok();
            }
            Err(Failure::Lost) => return None,
            Err(Failure::Forbidden(problem) | Failure::Failed(problem)) => {
                self.unwritten = Some(problem);
                return None;
            }
        }
        let left = self.flaws(wish);
        if !left.is_empty() {
            self.unwritten = Some(format!("it stays so: {}", left.join("; ")));
            self.record.seen();
            self.record.refused(now);
            return None;
        }
        self.unwritten = None;
        let text = flaws.join("; ");
        self.record.mended(flaws, cause, now);
        tracing::info!(object = self.label(), ?cause, "written: {text}");
        let since = self.damaged.take();
        match cause {
            Cause::Update => None,
            Cause::First => Some(Note::new(Reason::Registered, self.kept.made)),
            Cause::Damage => {
                let took = since.map_or(Duration::ZERO, |since| since.elapsed());
                connections.metrics.repaired(self.label(), took);
                Some(Note::new(Reason::Repaired, format!("{text}; mended")))
            }
        }
    }

    /// Our fields by server-side apply; where that leaves a flaw, or cannot be, whole lists.
    async fn patch(&self, wish: &Value) -> Result<DynamicObject, Failure> {
        let name = self.kept.name;
        let ours = PatchParams::apply(MANAGER).force();
        let apply = Patch::Apply(wish);
        let applied = timeout(CALL, self.api.patch(name, &ours, &apply)).await;
        let found = match settled(applied) {
            Ok(applied) => {
                let value = serde_json::to_value(&applied).unwrap_or_default();
                if registration::flaws(&(self.kept.view)(&value), wish).is_empty() {
                    return Ok(applied);
                }
                value
            }
            Err(Failure::Failed(problem)) => match &self.object {
                Some(object) if !self.kept.is_of_others => object.clone(),
                _ => return Err(Failure::Failed(problem)),
            },
            Err(failure) => return Err(failure),
        };
        let version = &found["metadata"]["resourceVersion"];
        let whole = registration::merge(&(self.kept.view)(&found), wish, version);
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let merge = Patch::Merge(&whole);
        settled(timeout(CALL, self.api.patch(name, &params, &merge)).await)
    }
}

fn api(client: &kube::Client, kept: &Kept, namespace: &str) -> Api<DynamicObject> {
    let (group, version) = kept
        .api_version
        .split_once('/')
        .unwrap_or(("", kept.api_version));
    let kind = GroupVersionKind::gvk(group, version, kept.kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, kept.plural);
    match (kept.home)(namespace) {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

fn settled<T>(answer: Result<kube::Result<T>, tokio::time::error::Elapsed>) -> Result<T, Failure> {
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if fault::is_conflict(&error) => Err(Failure::Lost),
        Ok(Err(error)) if fault::is_forbidden(&error) => {
            Err(Failure::Forbidden(fault::said(&error)))
        }
        Ok(Err(error)) => Err(Failure::Failed(fault::said(&error))),
        Err(_) => Err(Failure::Failed(
            "the API server did not answer in time".to_owned(),
        )),
    }
}
