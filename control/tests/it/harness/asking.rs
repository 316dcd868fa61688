//! Clients that ask toys who they seem to be, one connection a request, and ask once more where a connection is cut before
//! its answer, as clients of HTTP do.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use podline_lab::Namespace;

use super::http::{Client, LIMIT};

/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(5);
/// An answer that takes longer is told.
const SLOW: Duration = Duration::from_millis(300);
/// No load runs longer.
const BOUND: Duration = Duration::from_mins(15);

/// What the clients saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Requests by whom the Pod saw.
    pub(crate) by: BTreeMap<IpAddr, u64>,
    /// Requests that were answered when they were made again: since the start, to whom, why.
    pub(crate) again: Vec<String>,
    /// Requests that were not answered then, either.
    pub(crate) failed: Vec<String>,
    /// The longest that a client was without an answer.
    pub(crate) longest: Duration,
    /// Each time that one was for long: until when since the start, from whom, how long, and whom the Pod saw then.
    pub(crate) slow: Vec<String>,
}

impl Seen {
    /// Requests that were answered.
    pub(crate) fn answered(&self) -> u64 {
        self.by.values().sum()
    }
}

/// Clients at work; they stop when it is dropped.
pub(crate) struct Asking {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    threads: Vec<JoinHandle<()>>,
}

impl Asking {
    /// Two clients of each address.
    pub(crate) fn start(namespace: &Namespace, addresses: &[SocketAddr]) -> Self {
        Self::patient(namespace, addresses, LIMIT)
    }

    /// The same, who give up after so long.
    pub(crate) fn patient(
        namespace: &Namespace,
        addresses: &[SocketAddr],
        patience: Duration,
    ) -> Self {
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Seen>>::default());
        let begun = Instant::now();
        let clients = addresses.iter().flat_map(|address| [*address; 2]);
        let threads = clients.map(|address| {
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            namespace.thread(move || {
                let mut answered = Instant::now();
                while !stop.load(Relaxed) && begun.elapsed() < BOUND {
                    let first = ask_within(address, patience);
                    let told = |error: &std::io::Error| {
                        format!("{:.3} s {address}: {error}", begun.elapsed().as_secs_f32())
                    };
                    let cut = first.as_ref().err().map(told);
                    let second = if first.is_err() {
                        ask_within(address, patience)
                    } else {
                        first
                    };
                    let mut seen = seen.lock().unwrap();
                    match second {
                        Ok(peer) => {
                            *seen.by.entry(peer).or_default() += 1;
                            seen.again.extend(cut);
                            let took = answered.elapsed();
                            seen.longest = seen.longest.max(took);
                            if took > SLOW {
                                let at = begun.elapsed().as_secs_f32();
                                seen.slow
                                    .push(format!("{at:.3} s {address}: {took:?}, as {peer}"));
                            }
                            answered = Instant::now();
                        }
                        Err(error) => {
                            let told = told(&error);
                            seen.failed.push(told);
                        }
                    }
                    drop(seen);
                    std::thread::park_timeout(PAUSE);
                }
            })
        });
        let threads = threads.collect();
        Self {
            stop,
            seen,
            threads,
        }
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Stops, and says what was seen.
    pub(crate) fn stop(mut self) -> Seen {
        self.end();
        self.seen()
    }

    fn end(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok(); // its panic was printed
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whom the Pod saw.
pub(crate) fn ask(address: SocketAddr) -> std::io::Result<IpAddr> {
    ask_within(address, LIMIT)
}

fn ask_within(address: SocketAddr, patience: Duration) -> std::io::Result<IpAddr> {
    let text = Client::within(address, patience)?.get("/")?;
    let peer = text.parse::<SocketAddr>();
    peer.map(|peer| peer.ip())
        .map_err(|error| std::io::Error::other(format!("{error}: {text:?}")))
}
