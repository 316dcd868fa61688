//! What is to be written and told now. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Asked, Gates, Waiting, reason};
use crate::build::note::{self, Note};
use crate::cluster::Key;
use crate::events::Regarding;
use crate::gate::stand::Stand;
use crate::gate::verdict::{Said, Verdict};

/// A Pod that can never be bound is let through when that has held so long: objects that belong together are seen one
/// after the other.
pub(crate) const FORCED_AFTER_MS: u64 = 2_000;
/// Why a gate is closed is written when that has held so long: a Pod that comes as it should is written to once.
pub(crate) const CLOSED_AFTER_MS: u64 = 5_000;
/// Other words for the same reason are not written sooner.
const REPHRASED_AFTER_MS: u64 = 60_000;
/// What was asked for is asked for again if the Pod still says something else after so long.
const AGAIN_AFTER_MS: u64 = 30_000;
/// That no proxy serves is told after so long.
const SILENT_AFTER_MS: u64 = 60_000;
/// That a Pod waits is told after so long.
const SLOW_AFTER_MS: u64 = 120_000;

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Conditions to write.
    pub asks: Vec<Ask>,
    /// Facts to tell by events.
    pub news: Vec<News>,
}

/// A condition to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Of which Pod.
    pub pod: Key,
    /// Of that very object.
    pub uid: Arc<str>,
    /// What it is to say.
    pub said: Said,
    /// It says something already: the gate was closed before, and since when stays as it is.
    pub is_there: bool,
}

/// A fact to tell, and about what.
pub type News = (Regarding, Note);

impl Gates {
    /// What is to be written and told now by whoever leads. What was asked for is not asked for again soon.
    pub fn act(&mut self, now_ms: u64) -> Orders {
        let mut orders = Orders::default();
        for (key, waiting) in &mut self.pods {
            if let Some(said) = waiting.due(now_ms) {
                waiting.asked = Some(Asked {
                    said: said.clone(),
                    at_ms: now_ms,
                });
                orders.asks.push(Ask {
                    pod: key.clone(),
                    uid: Arc::clone(&waiting.uid),
                    said,
                    is_there: waiting.said.is_some(),
                });
            }
            waiting.tell(key, now_ms, &mut orders.news);
        }
        self.tell_silence(now_ms, &mut orders.news);
        orders
    }

    fn tell_silence(&mut self, now_ms: u64, news: &mut Vec<News>) {
        let is_over = |since: u64| now_ms.saturating_sub(since) >= SILENT_AFTER_MS;
        if !self.silent_since_ms.is_some_and(is_over) {
            return;
        }
        let waiting = self.pods.values();
        let waiting = waiting.filter(|waiting| matches!(waiting.verdict, Verdict::Closed(_)));
        let stands = waiting.flat_map(|waiting| &waiting.stands);
        let bound =
            stands.filter(|(_, stand)| stand.iter().any(|stand| matches!(stand, Stand::Bound(_))));
        let services: BTreeSet<Key> = bound.map(|(service, _)| service.clone()).collect();
        for service in services {
            let Some(entry) = self.services.get(&service) else {
                continue;
            };
            if self.told_silent.insert(service.clone()) {
                let message = "no proxy serves, so new Pods do not become ready: podline --kube status says why";
                let note = Note::new(note::Reason::NoServingProxy, message);
                news.push((Regarding::service(&service, &entry.service.uid), note));
            }
        }
    }

    /// How many Pods wait, by what keeps them.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for waiting in self.pods.values() {
            let word = reason(&waiting.verdict).map_or("Pending", |reason| reason.as_str());
            *counts.entry(word).or_default() += 1;
        }
        counts
    }
}

impl Waiting {
    /// What its condition is to say, if that has to be written now.
    fn due(&self, now_ms: u64) -> Option<Said> {
        let since = |ms: u64| now_ms.saturating_sub(ms);
        if let Some(asked) = self.asked.as_ref().filter(|it| it.said.reason.opens()) {
            // Once open it stays so, whatever became of the Pod meanwhile.
            return (since(asked.at_ms) >= AGAIN_AFTER_MS).then(|| asked.said.clone());
        }
        let held = since(self.since_ms);
        let said = match &self.verdict {
            Verdict::Pending(_) => return None,
            Verdict::Open { said, at_once } => {
                let is_due = *at_once || held >= FORCED_AFTER_MS;
                return is_due.then(|| said.clone());
            }
            Verdict::Closed(said) => said,
        };
        if held < CLOSED_AFTER_MS {
            return None;
        }
        let asked = self.asked.as_ref();
        let is_same = asked.is_some_and(|asked| asked.said == *said);
        if is_same && asked.is_some_and(|asked| since(asked.at_ms) < AGAIN_AFTER_MS) {
            return None;
        }
        let is_rephrased = asked.is_some_and(|asked| {
            let is_recent = since(asked.at_ms) < REPHRASED_AFTER_MS;
            asked.said.reason == said.reason && !is_same && is_recent
        });
        let is_there = self
            .said
            .as_ref()
            .is_some_and(|it| *it.reason == *said.reason.as_str() && *it.message == *said.message);
        (!is_there && !is_rephrased).then(|| said.clone())
    }

    /// Tells that it waits for long, once.
    fn tell(&mut self, key: &Key, now_ms: u64, news: &mut Vec<News>) {
        let is_slow = |since: u64| now_ms.saturating_sub(since) >= SLOW_AFTER_MS;
        if self.is_told || !self.waits_since_ms.is_some_and(is_slow) {
            return;
        }
        let why = match &self.verdict {
            Verdict::Closed(said) => format!("{}: {}", said.reason, said.message),
            Verdict::Pending(why) => (*why).to_owned(),
            Verdict::Open { .. } => return,
        };
        self.is_told = true;
        let message = format!("it waits for the load balancer to open its readiness gate: {why}");
        let note = |message: String| Note::new(note::Reason::GateClosed, message);
        news.push((Regarding::pod(key, &self.uid), note(message)));
        let owner = self.owner.as_ref().filter(|it| it.kind == "StatefulSet");
        if let Some(owner) = owner {
            let name = Key {
                namespace: Arc::clone(&key.namespace),
                name: owner.name.as_str().into(),
            };
            let about = Regarding::of("apps/v1", "StatefulSet", &name, &owner.uid.as_str().into());
            let message = format!(
                "the next Pod waits for {}, whose readiness gate is closed: {why}",
                key.name
            );
            news.push((about, note(message)));
        }
    }
}
