//! What API and admin show: the state, and what the shell itself counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use podline_api::v1;
use tokio::sync::Notify;

use crate::host::prover::Prover;
use crate::metrics::{self, Counts};
use crate::state::State;

/// A view of the whole process. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Overview {
    pub(crate) state: State,
    pub(crate) counts: Arc<Counts>,
    /// Proves ways, when asked.
    pub(crate) prover: Prover,
    /// Set at shutdown: what is being taken down must not be changed any more.
    pub(crate) stopping: Arc<AtomicBool>,
    /// Rung when an owner sent its full state by API.
    pub(crate) full_state: Arc<Notify>,
}

impl Overview {
    /// Everything in Prometheus' text format.
    pub(crate) fn metrics(&self) -> String {
        let mut state = self.state.get(&v1::GetRequest {
            summary: true,
            ..Default::default()
        });
        let detailed = metrics::detailed_sets(&state);
        if !detailed.0.is_empty() {
            let request = v1::GetRequest {
                backend_sets: detailed.0.clone(),
                ..Default::default()
            };
            let details = self.state.get(&request).backend_sets;
            let name = |set: &v1::BackendSetStatus| set.set.as_ref().map(|set| set.name.clone());
            let mut details: HashMap<_, _> =
                details.into_iter().map(|set| (name(&set), set)).collect();
            for set in &mut state.backend_sets {
                if let Some(whole) = details.remove(&name(set)) {
                    *set = whole;
                }
            }
        }
        metrics::render(
            &state,
            &detailed,
            &self.counts,
            [self.state.accept_pauses(), self.state.stray_datagrams()],
        )
    }
}
