//! Probing backends: when a probe is due ([`schedule`], pure), and doing it. Probes report and never decide: what an
//! outcome means is `lb::health`'s business.

mod attempt;
mod echo;
pub mod finding;
mod grpc;
mod http;
mod ping;
pub mod schedule;
mod status_line;
mod tls;
mod udp;

use crate::state::State;
use finding::Finding;
use rustix::process::{Resource, getrlimit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Probes under way at once: a flood of them would delay their own answers.
const IN_FLIGHT: usize = 512;
/// The same for those that end with their timeout as a rule, which others must not wait for. Each has a socket.
const PATIENT: usize = 2_048;
/// Descriptors that they may have is this part of the process's limit, at most.
const PATIENT_SHARE: u64 = 16;
/// Probes started between two looks at the clock.
const START_TURN: usize = 128;
/// How long to sleep when nothing is due: new probes ring.
const IDLE: Duration = Duration::from_hours(1);
/// How probes name themselves.
const USER_AGENT: &str = concat!("podline-probe/", env!("CARGO_PKG_VERSION"));

/// Probes what is due, for as long as it is polled.
pub async fn run(state: State) {
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    let patient_places = Arc::new(Semaphore::new(patient_places()));
    let tls = tls::connector();
    let has_told = Arc::new(AtomicBool::new(false));
    let mut probes = tokio::task::JoinSet::new();
    loop {
        let (due, next) = state.due_probes(START_TURN);
        let idle = due.is_empty();
        for (id, key) in due {
            let is_patient = udp::ends_with_the_timeout(&key.check.kind);
            let mut place = None;
            if !is_patient {
                place = Arc::clone(&places).acquire_owned().await.ok();
            }
            let patient_places = Arc::clone(&patient_places);
            let mark = state.mark(key.address.ip());
            let (state, tls, has_told) = (state.clone(), tls.clone(), Arc::clone(&has_told));
            probes.spawn(async move {
                if is_patient {
                    place = patient_places.acquire_owned().await.ok();
                }
                let (outcome, finding) = attempt::probe(&key, mark, &tls).await;
                drop(place);
                if finding.is_of_this_machine() {
                    state.postpone_probe(id, finding);
                    if finding == Finding::NoPermission && !has_told.swap(true, Relaxed) {
                        tracing::warn!("probes of type PING cannot be sent: {finding}");
                    }
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

fn patient_places() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let share = usize::try_from(limit / PATIENT_SHARE).unwrap_or(usize::MAX);
    share.clamp(1, PATIENT)
}
