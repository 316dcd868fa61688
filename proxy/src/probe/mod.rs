//! Probing backends: when a probe is due ([`schedule`], pure), and doing it. Probes report and never decide: what an
//! outcome means is `lb::health`'s business.

mod attempt;
pub mod finding;
mod grpc;
mod http;
pub mod schedule;
mod status_line;
mod tls;

use crate::state::State;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Probes under way at once: a flood of them would delay their own answers.
const IN_FLIGHT: usize = 512;
/// Probes started between two looks at the clock.
const START_TURN: usize = 128;
/// How long to sleep when nothing is due: new probes ring.
const IDLE: Duration = Duration::from_hours(1);
/// How probes name themselves.
const USER_AGENT: &str = concat!("podline-probe/", env!("CARGO_PKG_VERSION"));

/// Probes what is due, for as long as it is polled.
pub async fn run(state: State) {
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    let tls = tls::connector();
    let mut probes = tokio::task::JoinSet::new();
    loop {
        let (due, next) = state.due_probes(START_TURN);
        let idle = due.is_empty();
        for (id, key) in due {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let (state, tls) = (state.clone(), tls.clone());
            let mark = state.mark(key.address.ip());
            probes.spawn(async move {
                let (outcome, finding) = attempt::probe(&key, mark, &tls).await;
                drop(place);
                if finding.is_of_this_machine() {
                    state.postpone_probe(id);
                } else {
                    state.on_probe(id, outcome, finding);
                }
            });
        }
        while probes.try_join_next().is_some() {}
        if idle {
            tokio::select! {
                () = tokio::time::sleep(next.unwrap_or(IDLE).max(Duration::from_millis(1))) => {}
                () = state.probes_changed() => {}
                Some(_) = probes.join_next() => {}
            }
        }
    }
}
