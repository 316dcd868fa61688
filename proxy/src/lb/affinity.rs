//! Which host each client is with: a memory of fixed size that all workers share without locks. Time is an argument.
//!
//! A bucket is one cache line of eight entries; a client has its place in one of them. Where that is full, the longest
//! unseen gives way, so that a flood of clients that never come back cannot drive out those who do for long, and
//! whoever is forgotten goes by the hash again, which is where most clients were anyway. An entry is one word: a
//! reader sees one client's host or another's, never a mixture. Its time stands beside it and only decides who is
//! old: between two writers an entry may pass for younger or older than it is.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::hash::HOST_BITS;

const WAYS: usize = 8;
const BUCKETS: usize = 1 << 17;
/// The lower bits of an entry are the host, the upper ones tell clients of a bucket apart.
const HOST: u64 = (1 << HOST_BITS) - 1;

/// Who is where. At first use it takes its 12 MiB, and never more.
#[derive(Debug, Default)]
pub struct Memory {
    buckets: OnceLock<Box<[Bucket]>>,
    /// Entries that hold a client, be it a forgotten one.
    taken: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(32))]
struct Bucket {
    entries: [AtomicU64; WAYS],
    /// When each was last seen, in seconds.
    seen: [AtomicU32; WAYS],
}

impl Memory {
    /// Clients that can be remembered.
    pub const CAPACITY: u64 = (BUCKETS * WAYS) as u64;

    /// Takes the room, so that no client waits for it.
    pub fn prepare(&self) {
        self.buckets();
    }

    /// Clients that are remembered, those whose time is over and whose place nobody needed included.
    pub fn clients(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// The host that `client`, a hash, was with within the last `timeout` seconds; seen now.
    pub fn find(&self, client: u64, now: u32, timeout: u32) -> Option<u64> {
        let bucket = self.bucket(client);
        let (way, entry) = holding(&bucket.load(), client)?;
        let age = now.saturating_sub(bucket.seen[way].load(Relaxed));
        if age > timeout {
            return None;
        }
        if age > 0 {
            // Once a second at most, however often it comes: what many read is seldom written.
            bucket.seen[way].store(now, Relaxed);
        }
        Some(entry & HOST)
    }

    /// `client` is with `host` from `now` on.
    pub fn put(&self, client: u64, host: u64, now: u32) {
        let bucket = self.bucket(client);
        for _ in 0..WAYS {
            let entries = bucket.load();
            let (way, before) = holding(&entries, client)
                .or_else(|| bucket.longest_unseen(&entries))
                .unwrap_or((0, 0));
            bucket.seen[way].store(now, Relaxed);
            let entry = tag(client) | host & HOST;
            let put = bucket.entries[way].compare_exchange(before, entry, Relaxed, Relaxed);
            // Else another worker was quicker, perhaps with the same client.
            if put.is_ok() {
                self.taken.fetch_add(u64::from(before == 0), Relaxed);
                return;
            }
        }
    }

    fn buckets(&self) -> &[Bucket] {
        self.buckets
            .get_or_init(|| (0..BUCKETS).map(|_| Bucket::default()).collect())
    }

    fn bucket(&self, client: u64) -> &Bucket {
        let place = usize::try_from(client % BUCKETS as u64).unwrap_or(0);
        &self.buckets()[place]
    }
}

impl Bucket {
    /// All at one look: who finds the same puts a client into the same place, so that nobody is there twice.
    fn load(&self) -> [u64; WAYS] {
        std::array::from_fn(|way| self.entries[way].load(Relaxed))
    }

    /// An empty place, or the one whose client has not come for longest; and what it holds.
    fn longest_unseen(&self, entries: &[u64; WAYS]) -> Option<(usize, u64)> {
        let seen = |(way, entry): &(usize, u64)| match *entry {
            0 => 0,
            _ => self.seen[*way].load(Relaxed).max(1),
        };
        entries.iter().copied().enumerate().min_by_key(seen)
    }
}

/// Where `client` is, and the entry.
fn holding(entries: &[u64; WAYS], client: u64) -> Option<(usize, u64)> {
    let is_its = |entry: u64| entry != 0 && entry & !HOST == tag(client);
    let way = entries.iter().position(|entry| is_its(*entry))?;
    Some((way, entries[way]))
}

/// What tells clients of one bucket apart: other bits than those that choose the bucket.
fn tag(client: u64) -> u64 {
    client & !HOST
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lb::hash::mix;

    #[test]
    fn a_client_is_remembered_until_it_stays_away_for_too_long() {
        let memory = Memory::default();
        let client = mix(1);
        assert_eq!(memory.find(client, 100, 60), None);
        memory.put(client, 7, 100);
        assert_eq!(memory.find(client, 160, 60), Some(7));
        assert_eq!(
            memory.find(client, 220, 60),
            Some(7),
            "each visit renews it"
        );
        assert_eq!(memory.find(client, 281, 60), None);
        memory.put(client, 8, 300);
        assert_eq!(memory.find(client, 300, 60), Some(8));
        assert_eq!(memory.clients(), 1);
        assert_eq!(memory.find(mix(2), 300, 60), None);
    }

    #[test]
    fn ten_million_clients_take_no_more_room_and_the_latest_are_remembered() {
        let memory = Memory::default();
        let regulars: Vec<u64> = (0..1_000).map(|n| mix(n + (1 << 40))).collect();
        for n in 0..10_000_000u32 {
            memory.put(mix(u64::from(n)), 1 + u64::from(n % 100), 10 + n / 100_000);
            if n.is_multiple_of(100_000) {
                for regular in &regulars {
                    if memory.find(*regular, 10 + n / 100_000, 3_600).is_none() {
                        memory.put(*regular, 5, 10 + n / 100_000);
                    }
                }
            }
        }
        assert_eq!(size_of_val(memory.buckets()), 12 << 20);
        assert!(memory.clients() <= Memory::CAPACITY);
        let kept = regulars
            .iter()
            .filter(|client| memory.find(**client, 110, 3_600) == Some(5));
        assert_eq!(
            kept.count(),
            1_000,
            "who comes back every second outlives a flood"
        );
        let last = (9_900_000..10_000_000u64).filter(|n| memory.find(mix(*n), 110, 60).is_some());
        assert!(last.count() > 99_000);
    }
}
