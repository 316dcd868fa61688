//! What a Pod counts, shared by the thread that serves and the one that answers questions.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Different keys that are told apart; the rest is summed.
const MAX_KEYS: usize = 1000;
/// Longest forwarded header that is kept.
const MAX_FORWARDED: usize = 128;

/// What a Pod has seen since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Which Pod.
    pub pod: u32,
    /// TCP connections that it accepted.
    pub accepted: u64,
    /// TCP connections that are open.
    pub open: u64,
    /// Requests over TCP: frames, HTTP, gRPC.
    pub requests: u64,
    /// Datagrams, answered or not.
    pub datagrams: u64,
    /// Bytes that came, over TCP (of HTTP/2: bodies only) and in datagrams.
    pub bytes: u64,
    /// Connections and datagrams by the address that they came from, at most 1,000 addresses.
    pub sources: BTreeMap<IpAddr, u64>,
    /// Those from further addresses.
    pub other_sources: u64,
    /// What the first HTTP request of a connection said in X-Forwarded-For, at most 1,000 different.
    pub forwarded: BTreeMap<String, u64>,
    /// The smallest time to live of the first 256 TCP packets to its ports since the last question, or of those before they
    /// were so many; IPv4 only, needs CAP_NET_RAW.
    pub tcp_ttl: Option<u8>,
    /// The same of a datagram.
    pub udp_ttl: Option<u8>,
}

/// A count for each key, for not too many keys.
#[derive(Debug)]
struct Counts<K> {
    known: HashMap<K, u64>,
    rest: u64,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            rest: 0,
        }
    }
}

impl<K: std::hash::Hash + Eq> Counts<K> {
    fn count(&mut self, key: K, times: u64) {
        if let Some(count) = self.known.get_mut(&key) {
            *count += times;
        } else if self.known.len() < MAX_KEYS {
            self.known.insert(key, times);
        } else {
            self.rest += times;
        }
    }
}

/// A time to live that is looked for when somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Hop {
    /// 256 less the smallest time to live; 0 is none.
    seen: AtomicU64,
    /// Woken when it is to be looked for again.
    pub(crate) wanted: Notify,
}

impl Hop {
    pub(crate) fn found(&self, ttl: u8) {
        self.seen.fetch_max(256 - u64::from(ttl), Relaxed);
    }

    /// The smallest that was found; it is looked for again.
    fn take(&self) -> Option<u8> {
        let seen = self.seen.swap(0, Relaxed);
        self.wanted.notify_one();
        u8::try_from(256 - seen).ok() // 256 where none was
    }
}

/// The counters of a running Pod.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) pod: u32,
    pub(crate) accepted: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) datagrams: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) tcp_hop: Hop,
    pub(crate) udp_hop: Hop,
    sources: Mutex<Counts<IpAddr>>,
    forwarded: Mutex<Counts<String>>,
    /// Whether no further connection is taken.
    is_stopping: AtomicBool,
    /// Whether connections end with their next answer.
    is_closing: AtomicBool,
    /// Woken when one of these becomes so, and when the last connection has ended.
    pub(crate) changed: Notify,
}

impl State {
    pub(crate) fn new(pod: u32) -> Self {
        Self {
            pod,
            ..Self::default()
        }
    }

    /// A connection came; it is counted as open while the answer lives.
    pub(crate) fn connected(&self, from: SocketAddr) -> Open<'_> {
        self.accepted.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        self.came_from(from.ip(), 1);
        Open(self)
    }

    /// So many connections or datagrams came from there.
    pub(crate) fn came_from(&self, address: IpAddr, times: u64) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.count(address.to_canonical(), times);
    }

    /// An HTTP request said that it was forwarded for this one.
    pub(crate) fn was_forwarded(&self, header: &[u8]) {
        let text = String::from_utf8_lossy(&header[..header.len().min(MAX_FORWARDED)]);
        let mut forwarded = self
            .forwarded
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        forwarded.count(text.into_owned(), 1);
    }

    pub(crate) fn requested(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Relaxed)
    }

    /// From now on no further connection is taken.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Relaxed);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Relaxed)
    }

    /// From now on connections end with their next answer.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Relaxed);
        self.changed.notify_waiters();
    }

    /// What was seen; the times to live are looked for again.
    pub(crate) fn stats(&self) -> Stats {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let forwarded = self
            .forwarded
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let pairs = forwarded.known.iter();
        Stats {
            pod: self.pod,
            accepted: self.accepted.load(Relaxed),
            open: self.open.load(Relaxed),
            requests: self.requests.load(Relaxed),
            datagrams: self.datagrams.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            sources: sources
                .known
                .iter()
                .map(|(key, count)| (*key, *count))
                .collect(),
            other_sources: sources.rest,
            forwarded: pairs.map(|(key, count)| (key.clone(), *count)).collect(),
            tcp_ttl: self.tcp_hop.take(),
            udp_ttl: self.udp_hop.take(),
        }
    }
}

/// An open connection.
pub(crate) struct Open<'a>(&'a State);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Relaxed) == 1 && self.0.is_closing() {
            self.0.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_beyond_count_are_summed() {
        let state = State::new(1);
        for index in 0..1200_u32 {
            state.came_from(IpAddr::from((index + 1).to_be_bytes()), 1);
        }
        state.came_from("0.0.0.1".parse().unwrap(), 1);
        let seen = state.stats();
        assert_eq!((seen.sources.len(), seen.other_sources), (1000, 200));
        assert_eq!(seen.sources[&"0.0.0.1".parse::<IpAddr>().unwrap()], 2);
    }

    #[test]
    fn the_longest_way_is_told_once() {
        let state = State::new(1);
        for ttls in [[63, 62, 63], [0, 255, 255]] {
            for ttl in ttls {
                state.udp_hop.found(ttl);
            }
            assert_eq!(state.stats().udp_ttl, ttls.into_iter().min());
            assert_eq!(state.stats().udp_ttl, None);
        }
        state.udp_hop.found(255);
        assert_eq!(state.stats().udp_ttl, Some(255));
    }

    #[test]
    fn stats_survive_their_json() {
        let state = State::new(1);
        let from = "[::ffff:10.0.0.1]:5".parse().unwrap();
        let open = state.connected(from);
        state.was_forwarded(b"10.0.0.9");
        let seen = state.stats();
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<Stats>(&text).unwrap(), seen);
        assert_eq!(seen.sources[&"10.0.0.1".parse::<IpAddr>().unwrap()], 1);
        drop(open);
        assert_eq!(state.stats().open, 0);
    }
}
