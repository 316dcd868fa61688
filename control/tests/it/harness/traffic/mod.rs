//! Open-loop clients that check every answer: requests with a connection each, datagrams, and long streams. What is
//! due is sent whether or not earlier answers came, and latency counts from when it was due.
//!
//! They run in the client's namespace on one thread for each kind and proxy, since others need the machine's cores.

mod datagrams;
mod requests;
mod streams;
mod tally;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use podline_lab::{Namespace, wait};

pub(crate) use tally::{Counts, Failure, Kind, Tally};

/// No traffic runs longer.
const BOUND: Duration = Duration::from_mins(10);

/// How much of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// HTTP requests a second, over all proxies; each has a connection of its own.
    pub(crate) requests: u32,
    /// Datagrams a second, over all sockets; none without sockets.
    pub(crate) datagrams: u32,
    pub(crate) sockets: u32,
    /// Connections that last until the Pod ends them.
    pub(crate) streams: u32,
}

impl Plan {
    /// What a rolling update has to bear.
    pub(crate) const FULL: Self = Self {
        requests: 2_000,
        datagrams: 200,
        sockets: 20,
        streams: 200,
    };
}

/// What all clients of one load have in common.
#[derive(Debug)]
struct Shared {
    begun: Instant,
    /// Names of Pods that may answer begin so.
    prefix: String,
    stop: AtomicBool,
    tally: Mutex<Tally>,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.stop.load(Relaxed) || self.begun.elapsed() > BOUND
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap()
    }

    /// The Pod's name, if it is one that may answer.
    fn pod(&self, name: &str) -> Option<String> {
        let rest = name.strip_prefix(&self.prefix)?;
        let is_name = rest
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (is_name && !rest.is_empty()).then(|| name.to_owned())
    }

    fn fail(&self, kind: Kind, proxy: SocketAddr, pod: Option<String>, what: String) {
        self.fail_at(self.begun.elapsed(), kind, proxy, pod, what);
    }

    fn fail_at(
        &self,
        at: Duration,
        kind: Kind,
        proxy: SocketAddr,
        pod: Option<String>,
        what: String,
    ) {
        let failure = Failure {
            at,
            proxy,
            pod,
            what,
        };
        self.tally().of(kind).fail(failure);
    }
}

/// Clients at work; they stop when it is dropped.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Clients of these addresses, one a proxy, for TCP and UDP alike. `deployment` is whose Pods may answer.
    pub(crate) fn start(
        namespace: &Namespace,
        addresses: &[SocketAddr],
        deployment: &str,
        plan: Plan,
    ) -> Self {
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            prefix: format!("{deployment}-"),
            stop: AtomicBool::new(false),
            tally: Mutex::default(),
        });
        let count = u32::try_from(addresses.len()).unwrap();
        let mut threads = Vec::new();
        for address in addresses.iter().copied() {
            let rate = plan.requests / count;
            let own = Arc::clone(&shared);
            threads.push(inside(namespace, async move || {
                requests::run(own, address, rate).await;
            }));
        }
        let (all, own) = (addresses.to_vec(), Arc::clone(&shared));
        threads.push(inside(namespace, async move || {
            datagrams::run(own, &all, plan).await;
        }));
        let (all, own) = (addresses.to_vec(), Arc::clone(&shared));
        threads.push(inside(namespace, async move || {
            streams::run(own, &all, plan.streams).await;
        }));
        Self { shared, threads }
    }

    /// What was seen so far, without the latencies.
    pub(crate) fn tally(&self) -> Tally {
        self.shared.tally().without_latencies()
    }

    /// Waits until so many more requests were answered: then what was changed before has had its effect.
    pub(crate) fn pass(&self, requests: u64) {
        let before = self.tally().requests.done;
        wait::until(super::LONG, "requests are answered", || {
            self.tally().requests.done >= before + requests
        });
    }

    /// Waits until every client has been answered.
    pub(crate) fn wait_running(&self, plan: Plan) {
        wait::until(super::LONG, "every client is answered", || {
            let tally = self.tally();
            let is_answered = |counts: &Counts, most: u32| counts.done >= u64::from(most);
            is_answered(&tally.requests, plan.requests)
                && is_answered(&tally.datagrams, plan.datagrams)
                && tally.open_streams >= u64::from(plan.streams)
        });
    }

    /// Stops, waits for what is still to be answered, and says what was seen.
    pub(crate) fn stop(mut self) -> Tally {
        self.end();
        std::mem::take(&mut *self.shared.tally())
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok(); // its panic was printed
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.end();
    }
}

/// A thread in the namespace with a runtime of its own.
fn inside<F>(namespace: &Namespace, work: impl FnOnce() -> F + Send + 'static) -> JoinHandle<()>
where
    F: Future<Output = ()>,
{
    namespace.thread(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        runtime.block_on(work());
    })
}
