//! Keeps the means to imitate clients in place while anybody wants them, and proves ways again and again: what ties the
//! host's side to the state.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use podline_api::{Name, v1};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::proof;
use super::transparency::{Marks, Transparency};
use crate::lb::network::PathId;
use crate::state::State;
use crate::state::network::{Means, NOT_ASKED, Provable};

/// How often everything is looked at, and each way proven.
const INTERVAL: Duration = Duration::from_secs(5);
/// Ways are proven up to so much earlier, so that they do not stay in step.
const JITTER_MS: u64 = 500;
/// Changes within so long are looked at together.
const PAUSE: Duration = Duration::from_millis(200);
/// Proofs under way at once.
const IN_FLIGHT: usize = 64;

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Prover {
    state: State,
    transparency: Arc<Mutex<Transparency>>,
    places: Arc<Semaphore>,
    /// Something was put in place once.
    has_kept: Arc<AtomicBool>,
}

/// When each way is due; none: it is being proven.
type Due = HashMap<PathId, Option<Instant>>;

impl Prover {
    /// Nothing is done yet.
    pub(crate) fn new(state: State, marks: Marks) -> Self {
        Self {
            state,
            transparency: Arc::new(Mutex::new(Transparency::new(marks))),
            places: Arc::new(Semaphore::new(IN_FLIGHT)),
            has_kept: Arc::default(),
        }
    }

    /// Works for as long as it is polled.
    pub(crate) async fn run(self) {
        let mut due = Due::new();
        let mut running = JoinSet::new();
        loop {
            while !self.is_wanted() {
                self.state.network_changed().await;
            }
            let begun = Instant::now();
            let can_imitate = self.keep().await;
            let next_look = begun + INTERVAL;
            // Until it is time to look again, or something has changed.
            loop {
                while let Some(Ok((id, next))) = running.try_join_next() {
                    due.insert(id, Some(next));
                }
                if can_imitate {
                    self.start_due(&mut due, &mut running);
                }
                let earliest = due.values().flatten().min().copied();
                let wake = earliest
                    .filter(|_| can_imitate)
                    .unwrap_or(next_look)
                    .min(next_look);
                tokio::select! {
                    () = tokio::time::sleep_until(wake) => {}
                    Some(ended) = running.join_next() => {
                        if let Ok((id, next)) = ended {
                            due.insert(id, Some(next));
                        }
                    }
                    () = self.state.network_changed() => {
                        sleep(PAUSE.saturating_sub(begun.elapsed())).await;
                        break;
                    }
                }
                if Instant::now() >= next_look {
                    break;
                }
            }
        }
    }

    /// There is something to keep in place, or was.
    fn is_wanted(&self) -> bool {
        self.has_kept.load(Relaxed)
            || self.state.wants_imitation()
            || !self.state.routes_wanted().is_empty()
    }

    fn start_due(&self, due: &mut Due, running: &mut JoinSet<(PathId, Instant)>) {
        let now = Instant::now();
        let ways = self.state.provable(&[]);
        let known: std::collections::HashSet<_> = ways.iter().map(|way| way.id).collect();
        due.retain(|id, at| at.is_none() || known.contains(id));
        for way in ways {
            let at = due.entry(way.id).or_insert(Some(now));
            if at.is_some_and(|at| at <= now) {
                *at = None;
                let prover = self.clone();
                running.spawn(async move {
                    prover.prove_one(&way).await;
                    (way.id, Instant::now() + pause())
                });
            }
        }
    }

    async fn prove_one(&self, way: &Provable) {
        let Ok(_place) = self.places.acquire().await else {
            return;
        };
        let (path, reason) = proof::prove(way).await;
        self.state.on_proof(way, path, reason);
    }

    /// Proves the ways to `nodes`, or all, now. What is needed for it is put in place, if nobody asked for it so far.
    pub(crate) async fn prove(&self, nodes: &[Name]) -> v1::ProveResponse {
        self.state.ask_for_proof();
        if self.keep().await {
            let mut running = JoinSet::new();
            for way in self.state.provable(nodes) {
                let prover = self.clone();
                running.spawn(async move { prover.prove_one(&way).await });
            }
            running.join_all().await;
        }
        self.state.paths(nodes)
    }

    /// Puts in place, or repairs, what is wanted; whether clients can be imitated.
    async fn keep(&self) -> bool {
        self.has_kept.store(true, Relaxed);
        let imitate = self.state.wants_imitation();
        let routes = self.state.routes_wanted();
        let transparency = Arc::clone(&self.transparency);
        let homeless = if imitate {
            self.state.homeless_backends()
        } else {
            Vec::new()
        };
        let kept = tokio::task::spawn_blocking(move || {
            let mut transparency = transparency.lock().unwrap_or_else(PoisonError::into_inner);
            let found = transparency.keep(imitate, &routes);
            (found, transparency.next_hops(&homeless))
        });
        let Ok((found, hops)) = kept.await else {
            return false; // the process ends
        };
        let can_imitate = imitate && found.problem.is_none();
        self.state.learn_means(Means {
            problem: if imitate {
                found.problem
            } else {
                Some(NOT_ASKED.to_owned())
            },
            route_mark: found.route_mark,
            all_ports: found.all_ports,
            own: found.own,
        });
        self.state.learn_hops(hops);
        can_imitate
    }
}

/// Until the next proof of a way.
fn pause() -> Duration {
    let chance = RandomState::new().hash_one(0_u8) % JITTER_MS;
    INTERVAL.saturating_sub(Duration::from_millis(chance))
}
