//! Clients that ask without end, each answer checked: who failed, when and how, and which Pods answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use podline_lab::Namespace;

use super::http::Client;

/// Requests on one connection, unless it is long.
const PER_CONNECTION: usize = 20;
/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(2);
/// No load runs longer.
const BOUND: Duration = Duration::from_mins(5);

/// What the clients saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    /// Since the start, on which connection, in words.
    pub(crate) failures: Vec<String>,
    pub(crate) answered_by: BTreeMap<String, u64>,
    pub(crate) slowest: Duration,
}

/// Clients at work; they stop when it is dropped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// For each address a client with short connections and one with a single long one.
    pub(crate) fn start(namespace: &Namespace, addresses: &[SocketAddr]) -> Self {
        let (stop, tally) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Tally>>::default());
        let begun = Instant::now();
        let clients = addresses
            .iter()
            .flat_map(|address| [(*address, false), (*address, true)]);
        let threads = clients.map(|(address, is_long)| {
            let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
            namespace.thread(move || {
                while !stop.load(Relaxed) && begun.elapsed() < BOUND {
                    let most = if is_long { usize::MAX } else { PER_CONNECTION };
                    if let Err(error) = connection(address, most, &stop, &tally) {
                        let kind = if is_long { "long" } else { "short" };
                        let told = format!(
                            "{:.3} s {address} {kind}: {error}",
                            begun.elapsed().as_secs_f32()
                        );
                        tally.lock().unwrap().failures.push(told);
                        std::thread::park_timeout(Duration::from_millis(20));
                    }
                }
            })
        });
        let threads = threads.collect();
        Self {
            stop,
            tally,
            threads,
        }
    }

    /// What was seen so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Waits until so many more requests were answered: then what was changed before has had its effect.
    pub(crate) fn pass(&self, requests: u64) {
        let before = self.tally().requests;
        podline_lab::wait::until(super::LONG, "requests are answered", || {
            self.tally().requests >= before + requests
        });
    }

    /// Stops, and says what was seen.
    pub(crate) fn stop(mut self) -> Tally {
        self.end();
        self.tally()
    }

    fn end(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok(); // its panic was printed
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn connection(
    address: SocketAddr,
    most: usize,
    stop: &AtomicBool,
    tally: &Mutex<Tally>,
) -> std::io::Result<()> {
    let mut client = Client::connect(address)?;
    for _ in 0..most {
        if stop.load(Relaxed) {
            break;
        }
        let asked = Instant::now();
        let name = client.get("/")?;
        let mut tally = tally.lock().unwrap();
        tally.requests += 1;
        tally.slowest = tally.slowest.max(asked.elapsed());
        *tally.answered_by.entry(name).or_default() += 1;
        drop(tally);
        if client.is_over {
            break;
        }
        std::thread::park_timeout(PAUSE);
    }
    Ok(())
}
