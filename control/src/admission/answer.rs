//! What comes of a review: the shell around `inject` and `drain`. Knows nothing of HTTP.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::closing::{Closed, Closing};
use super::inject::{self, Wanted};
use super::live::Live;
use super::review::{self, Object, Request};
use crate::engine::Shared;
use crate::metrics::Metrics;
use crate::push::Overrides;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Webhook {
    /// What a new Pod is to have.
    Inject,
    /// Whether a Pod may be deleted.
    Drain,
}

impl Webhook {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Inject => "inject",
            Self::Drain => "drain",
        }
    }
}

/// Answers reviews. Cheap to clone.
#[derive(Clone)]
pub struct Reviews {
    shared: Shared,
    live: Live,
    closing: Closing,
    metrics: Metrics,
}

/// What is known of a Pod's Services.
enum Known {
    Wanted(Wanted),
    /// None that is known wants anything of it, and the API server could not be asked for newer ones.
    NotSure,
}

impl Reviews {
    /// Over what was seen of the cluster, and the ways to the proxies.
    pub fn new(
        shared: Shared,
        client: kube::Client,
        overrides: Overrides,
        metrics: Metrics,
    ) -> Self {
        Self {
            closing: Closing::new(shared.clone(), overrides, metrics.clone()),
            live: Live::new(client),
            shared,
            metrics,
        }
    }

    /// Gives weights back where no deletion followed, for ever.
    pub async fn restore(self) {
        self.closing.restore().await;
    }

    /// The answer to a review.
    ///
    /// # Errors
    /// It is none: why, in words.
    pub(super) async fn answer(&self, webhook: Webhook, body: &[u8]) -> Result<Vec<u8>, String> {
        let begun = Instant::now();
        let (answer, outcome) = match review::read(body) {
            Err(problem) => (Err(problem), "refused"),
            Ok(request) => {
                let (patch, outcome) = match webhook {
                    Webhook::Inject => self.inject(&request).await,
                    Webhook::Drain => (None, self.drain(&request).await),
                };
                (Ok(review::allow(&request.uid, patch)), outcome)
            }
        };
        self.metrics
            .reviewed(webhook.as_str(), outcome, begun.elapsed());
        answer
    }

    async fn inject(&self, request: &Request) -> (Option<Vec<u8>>, &'static str) {
        let Some(pod) = inject::candidate(request) else {
            return (None, "not-ours");
        };
        match self.wanted(request.namespace(), pod).await {
            Known::NotSure => (None, "not-sure"),
            Known::Wanted(wanted) if wanted.is_nothing() => (None, "not-ours"),
            Known::Wanted(wanted) => match inject::patch(pod, wanted) {
                Some(patch) => (Some(patch), "patched"),
                None => (None, "unchanged"),
            },
        }
    }

    async fn wanted(&self, namespace: &str, pod: &Object) -> Known {
        let none = BTreeMap::new();
        let labels = pod.labels().unwrap_or(&none);
        let seen = self.wanted_by_seen(namespace, labels);
        // Without labels no Service selects it, whenever it is made.
        if !seen.is_nothing() || labels.is_empty() {
            return Known::Wanted(seen);
        }
        let Some(found) = self.live.look(namespace).await else {
            // What was made this instant may have come by watch while the API server did not answer.
            let seen = self.wanted_by_seen(namespace, labels);
            if seen.is_nothing() {
                return Known::NotSure;
            }
            return Known::Wanted(seen);
        };
        let core = self.shared.look();
        let rules = (core.cluster.switches(), core.builder.options());
        Known::Wanted(inject::wanted(&found, namespace, labels, rules))
    }

    fn wanted_by_seen(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Wanted {
        let core = self.shared.look();
        let rules = (core.cluster.switches(), core.builder.options());
        inject::wanted(&core.cluster, namespace, labels, rules)
    }

    async fn drain(&self, request: &Request) -> &'static str {
        match self.closing.close(request).await {
            Closed::NotOurs => "not-ours",
            Closed::Kept => "kept",
            Closed::Drained => "drained",
            Closed::Late => "late",
        }
    }
}
