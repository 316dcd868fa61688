//! Keeps the means to imitate clients in place while anybody wants them, and proves ways again and again: what ties the
//! host's side to the state.

mod proofs;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use podline_api::{Name, Route, v1};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::proof;
use super::transparency::{Marks, Transparency, words};
use crate::state::State;
use crate::state::network::{Means, NOT_ASKED, Provable};
use proofs::Proofs;

/// How often everything is looked at, and each way proven.
const INTERVAL: Duration = Duration::from_secs(5);
/// Changes within so long are looked at together.
const PAUSE: Duration = Duration::from_millis(200);
/// Proofs under way at once.
const IN_FLIGHT: usize = 256;

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Prover {
    state: State,
    transparency: Arc<Mutex<Transparency>>,
    places: Arc<Semaphore>,
    /// Something was put in place once.
    has_kept: Arc<AtomicBool>,
}

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
        let mut proofs = Proofs::default();
        loop {
            while !self.is_wanted() {
                self.state.network_changed().await;
            }
            let begun = Instant::now();
            let can_imitate = self.keep().await;
            let wanted = self.wanted();
            let next_look = begun + INTERVAL;
            while Instant::now() < next_look {
                let next = if can_imitate {
                    proofs.start_due(&self).min(next_look)
                } else {
                    next_look
                };
                tokio::select! {
                    () = sleep_until(next) => {}
                    () = proofs.ended() => {}
                    () = self.state.network_changed() => {
                        sleep(PAUSE).await;
                        if wanted != self.wanted() {
                            break;
                        }
                        self.find_hops().await;
                    }
                }
            }
        }
    }

    /// What has to be in place.
    fn wanted(&self) -> (bool, Vec<Route>) {
        (self.state.wants_imitation(), self.state.routes_wanted())
    }

    /// There is something to keep in place, or was.
    fn is_wanted(&self) -> bool {
        self.has_kept.load(Relaxed)
            || self.state.wants_imitation()
            || !self.state.routes_wanted().is_empty()
    }

    /// Takes away what was put in place to imitate clients.
    pub(crate) async fn clear(&self) {
        let cleared = self.with_kernel(Transparency::clear).await;
        match cleared {
            Some(Ok(told)) => {
                for told in told {
                    tracing::info!("nobody imitates clients any more: {told}");
                }
            }
            Some(Err(error)) => {
                let why = words(&error);
                tracing::warn!(why, "rules and routes to imitate clients may be left");
            }
            None => {}
        }
    }

    /// Has the kernel deliver what is for sockets whose address goes to another host.
    ///
    /// # Errors
    /// Why that cannot be, for the operator.
    pub(crate) async fn deliver(&self) -> Result<(), String> {
        let ending = || Err("the process ends".to_owned());
        let done = self.with_kernel(Transparency::deliver).await;
        done.unwrap_or_else(ending)
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
        self.state.ask_for_imitation();
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
        let (imitate, routes) = self.wanted();
        let keep = move |transparency: &mut Transparency| transparency.keep(imitate, &routes);
        let Some(found) = self.with_kernel(keep).await else {
            return false;
        };
        let problem = if imitate {
            found.problem
        } else {
            Some(NOT_ASKED.to_owned())
        };
        let can_imitate = problem.is_none();
        self.state.learn_means(Means {
            problem,
            route_mark: found.route_mark,
            all_ports: found.all_ports,
            own: found.own,
        });
        self.find_hops().await;
        can_imitate
    }

    /// Asks the kernel for the way to backends whose node nobody names.
    async fn find_hops(&self) {
        if !self.state.wants_imitation() {
            return;
        }
        let homeless = self.state.homeless_backends();
        if homeless.is_empty() {
            return;
        }
        let ask = move |transparency: &mut Transparency| transparency.next_hops(&homeless);
        if let Some(hops) = self.with_kernel(ask).await {
            self.state.learn_hops(hops);
        }
    }

    /// Does what waits for the kernel where nobody else has to wait for it; nothing if the process ends.
    async fn with_kernel<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Transparency) -> T + Send + 'static,
    ) -> Option<T> {
        let transparency = Arc::clone(&self.transparency);
        let done = tokio::task::spawn_blocking(move || {
            let mut transparency = transparency.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut transparency)
        });
        done.await.ok()
    }
}
