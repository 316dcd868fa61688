//! Takes Pods out of traffic before their deletion begins, waits until the proxies have done so, and gives the weight back
//! where no deletion follows. Decides nothing: `drain` does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use podline_api::{Override, OverrideAction, v1};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::drain::{self, Doomed, Drains, Fate, Place, Todo};
use super::review::Request;
use crate::engine::{Core, Shared};
use crate::metrics::Metrics;
use crate::observed::{Observed, Whose};
use crate::push::Overrides;
use crate::push::overrides::{FEATURE, NOTE, Outcome};

/// How long a deletion waits for the proxies. The API server gives up after 3 s.
const WAIT: Duration = Duration::from_secs(2);
/// How long it may take to have a weight given back; the proxies do it by themselves in the end.
const RESTORE_WITHIN: Duration = Duration::from_secs(10);
/// How often to look for deletions that have not begun.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What became of a question about a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// It is none that is waited for, or the Pod gets no traffic anyway.
    NotOurs,
    /// The Pod is the last that serves, and goes on until it ends.
    Kept,
    /// No proxy that serves sends it anything new.
    Drained,
    /// Some proxy has not said so in time.
    Late,
}

/// Takes Pods out of traffic. Cheap to clone.
#[derive(Clone)]
pub(super) struct Closing {
    shared: Shared,
    overrides: Overrides,
    metrics: Metrics,
    /// Taken after the look at the cluster, never before.
    drains: Arc<Mutex<Drains>>,
    started: Instant,
}

impl Closing {
    pub(super) fn new(shared: Shared, overrides: Overrides, metrics: Metrics) -> Self {
        Self {
            shared,
            overrides,
            metrics,
            drains: Arc::default(),
            started: Instant::now(),
        }
    }

    /// Takes the Pod whose deletion is asked for out of traffic, and waits for that.
    ///
    /// # Cancel safety
    /// Dropped, the Pod stays out until the proxies let it in again by themselves, or its deletion begins.
    pub(super) async fn close(&self, request: &Request) -> Closed {
        let Some((doomed, answers)) = self.begin(request) else {
            return Closed::NotOurs;
        };
        let answers = match answers {
            Begun::Kept => return Closed::Kept,
            Begun::Asked(answers) => answers,
        };
        let begun = Instant::now();
        let answered = timeout(WAIT, join_all(answers.into_iter().map(done))).await;
        let is_late = match &answered {
            Ok(answers) => answers.iter().any(|is_done| !is_done),
            Err(_) => true,
        };
        self.drains().allowed(&doomed.uid, self.now_ms());
        self.metrics.drained(begun.elapsed(), is_late);
        if is_late {
            let pod = &doomed.key;
            tracing::debug!(%pod, "its deletion goes on before every proxy has let go of it");
            return Closed::Late;
        }
        Closed::Drained
    }

    fn begin(&self, request: &Request) -> Option<(Doomed, Begun)> {
        let core = self.shared.look();
        let doomed = drain::doomed(request, &core.cluster)?;
        let mut drains = self.drains();
        let Todo { close, is_kept } = todo(&core, &doomed, &drains);
        if close.is_empty() {
            return is_kept.then_some((doomed, Begun::Kept));
        }
        if !drains.begin(&doomed, &close, self.now_ms()) {
            return None;
        }
        let action = OverrideAction::Drain { timeout: None };
        let answers = self.tell(core.cluster.observed(), &doomed, &close, action, WAIT);
        Some((doomed, Begun::Asked(answers)))
    }

    /// Tells every proxy; the answers of those that serve.
    fn tell(
        &self,
        observed: &Observed,
        doomed: &Doomed,
        places: &[Place],
        action: OverrideAction,
        within: Duration,
    ) -> Vec<oneshot::Receiver<Outcome>> {
        let mut answers = Vec::new();
        for (name, proxy) in &observed.proxies {
            if !proxy.features.contains(FEATURE) {
                continue;
            }
            // What somebody else keeps out stays out, and nobody else's word is undone.
            let is_free = |place: &&Place| proxy.drained.get(*place) != Some(&Whose::Foreign);
            let requests = places.iter().filter(is_free);
            let requests: Vec<_> = requests
                .map(|place| request(doomed, place, action))
                .collect();
            if requests.is_empty() {
                continue;
            }
            let answer = self.overrides.ask(name, requests, within);
            if proxy.serving {
                answers.push(answer);
            }
        }
        answers
    }

    /// Gives weights back where no deletion follows, for ever.
    pub(super) async fn restore(self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            self.restore_due();
        }
    }

    fn restore_due(&self) {
        let core = self.shared.look();
        let fate = |doomed: &Doomed| {
            let pod = core.cluster.living_pod(&doomed.uid);
            match pod {
                Some(pod) if !pod.is_deleting => Fate::Lives,
                _ => Fate::Goes,
            }
        };
        let due = self.drains().due(self.now_ms(), fate);
        for (doomed, places) in due {
            let (observed, action) = (core.cluster.observed(), OverrideAction::Undrain);
            self.metrics.restored();
            // Whether it is done matters no more to anybody: in the end it ends by itself.
            drop(self.tell(observed, &doomed, &places, action, RESTORE_WITHIN));
            let pod = &doomed.key;
            tracing::info!(%pod, "its deletion did not begin: it gets traffic again");
        }
    }

    fn drains(&self) -> MutexGuard<'_, Drains> {
        self.drains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

enum Begun {
    Kept,
    Asked(Vec<oneshot::Receiver<Outcome>>),
}

fn todo(core: &Core, doomed: &Doomed, drains: &Drains) -> Todo {
    let observed = core.cluster.observed();
    let is_closing = |place: &Place| {
        // Another replica may have asked.
        drains.is_closing(place)
            || observed
                .serving()
                .any(|(_, proxy)| proxy.drained.contains_key(place))
    };
    drain::todo(&core.cluster, &core.builder, doomed, is_closing, |_, _| {
        None
    })
}

fn request(doomed: &Doomed, place: &Place, action: OverrideAction) -> v1::OverrideRequest {
    let (set, backend) = place.clone();
    let lasts = match action {
        OverrideAction::Undrain => None,
        _ => Some(Duration::from_millis(drain::LASTS_MS)),
    };
    (&Override {
        set,
        backend,
        action,
        lasts,
        note: note(doomed),
    })
        .into()
}

/// Names are at most 63 and 253 characters long, and a note 253.
fn note(doomed: &Doomed) -> String {
    const MOST: usize = 253;
    const END: &str = " was asked for";
    let pod = doomed.key.to_string();
    let end = pod.floor_char_boundary(MOST - NOTE.len() - END.len());
    format!("{NOTE}{}{END}", &pod[..end])
}

/// Whether a proxy has let go.
async fn done(answer: oneshot::Receiver<Outcome>) -> bool {
    match answer.await {
        Ok(Outcome::Done) => true,
        Ok(Outcome::Failed(why)) => {
            tracing::debug!(why, "a proxy does not let go of a Pod");
            false
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests;
