//! What API and admin show: the state, and what only the shell knows of readiness and of its own counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use podline_api::v1;

use crate::metrics::{self, Counts};
use crate::state::State;

/// A view of the whole process. Shared by everything that answers questions.
pub(crate) struct Overview {
    pub(crate) state: State,
    pub(crate) counts: Arc<Counts>,
    pub(crate) gate: Gate,
    /// Times that a worker stopped accepting.
    pub(crate) accept_pauses: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// What keeps the process from being ready whatever the state says.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    file_missing: AtomicBool,
    shutting_down: AtomicBool,
}

impl Gate {
    /// Not ready until [`Gate::file_loaded`], if a file was asked for.
    pub(crate) fn new(file_expected: bool) -> Self {
        Self {
            file_missing: file_expected.into(),
            shutting_down: false.into(),
        }
    }

    pub(crate) fn file_loaded(&self) {
        self.file_missing.store(false, Relaxed);
    }

    pub(crate) fn shut_down(&self) {
        self.shutting_down.store(true, Relaxed);
    }

    fn check(&self) -> Result<(), String> {
        if self.shutting_down.load(Relaxed) {
            Err("shutting down".to_owned())
        } else if self.file_missing.load(Relaxed) {
            Err("the configuration file is not loaded yet".to_owned())
        } else {
            Ok(())
        }
    }
}

impl Overview {
    /// Whether clients may be sent here; if not, why.
    pub(crate) fn ready(&self) -> Result<(), String> {
        self.gate.check().and_then(|()| self.state.ready())
    }

    /// The state, with the readiness of the whole process.
    pub(crate) fn get(&self, request: &v1::GetRequest) -> v1::GetResponse {
        let mut answer = self.state.get(request);
        self.mark(&mut answer);
        answer
    }

    /// Puts the readiness of the whole process into an answer of the state.
    pub(crate) fn mark(&self, answer: &mut v1::GetResponse) {
        let ready = self.ready();
        answer.ready = ready.is_ok();
        answer.not_ready_reason = ready.err().unwrap_or_default();
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn metrics(&self) -> String {
        let mut state = self.get(&v1::GetRequest {
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
            let of = |set: &v1::BackendSetStatus| set.set.as_ref().map(|set| set.name.clone());
            let mut details: std::collections::HashMap<_, _> =
                details.into_iter().map(|set| (of(&set), set)).collect();
            for set in &mut state.backend_sets {
                if let Some(whole) = details.remove(&of(set)) {
                    *set = whole;
                }
            }
        }
        metrics::render(&state, &detailed, &self.counts, (self.accept_pauses)())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_opens_with_the_file_and_closes_for_good_at_shutdown() {
        let gate = Gate::new(true);
        assert_eq!(
            gate.check(),
            Err("the configuration file is not loaded yet".to_owned())
        );
        gate.file_loaded();
        assert_eq!(gate.check(), Ok(()));
        gate.shut_down();
        assert_eq!(gate.check(), Err("shutting down".to_owned()));
        assert_eq!(Gate::new(false).check(), Ok(()));
    }
}
