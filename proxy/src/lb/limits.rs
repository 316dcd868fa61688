//! What a listener takes at most, from whom: source ranges, open connections, connections a second, over all clients
//! and for each of them. Time is an argument; workers share the counts.
//!
//! Clients are counted in count-min sketches of fixed size, whatever addresses they make up: one may be counted too
//! high by sharing all its places with others, never too low. The sketches' hashes are seeded by chance, so that
//! nobody can aim at another's places.

use ipnet::IpNet;
use pingora_limits::estimator::Estimator;
use podline_api::Limits;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The limit that a connection exceeded. In the order of the API's `ShedConnections`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// Its client may not connect.
    SourceRanges,
    /// Too many are open.
    MaxConnections,
    /// Too many came in this second.
    MaxConnectionsPerSecond,
    /// Its client has too many open.
    ClientMaxConnections,
    /// Its client made too many in this second.
    ClientMaxConnectionsPerSecond,
}

impl Shed {
    /// All, in order.
    pub const ALL: [Self; 5] = [
        Self::SourceRanges,
        Self::MaxConnections,
        Self::MaxConnectionsPerSecond,
        Self::ClientMaxConnections,
        Self::ClientMaxConnectionsPerSecond,
    ];

    /// As the configuration calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SourceRanges => "sourceRanges",
            Self::MaxConnections => "maxConnections",
            Self::MaxConnectionsPerSecond => "maxConnectionsPerSecond",
            Self::ClientMaxConnections => "clientLimits.maxConnections",
            Self::ClientMaxConnectionsPerSecond => "clientLimits.maxConnectionsPerSecond",
        }
    }
}

/// One listener's limits and what counts towards them. What counts outlives changes of the limits.
#[derive(Debug)]
pub struct Limiter {
    limits: Limits,
    ranges: Ranges,
    pace: Arc<Pace>,
    rates: Option<Arc<Rates>>,
    open: Option<Arc<Open>>,
}

impl PartialEq for Limiter {
    fn eq(&self, other: &Self) -> bool {
        self.limits == other.limits
    }
}

impl Eq for Limiter {}

impl Limiter {
    /// A limiter, unless nothing is limited; it goes on with what `before` has counted.
    pub fn new(limits: &Limits, before: Option<&Self>) -> Option<Self> {
        if limits.is_none() {
            return None;
        }
        let rates = before.and_then(|before| before.rates.clone());
        let open = before.and_then(|before| before.open.clone());
        Some(Self {
            ranges: Ranges::new(&limits.source_ranges),
            pace: before.map_or_else(Arc::default, |before| Arc::clone(&before.pace)),
            rates: limits
                .per_client
                .per_second
                .map(|_| rates.unwrap_or_default()),
            open: limits
                .per_client
                .connections
                .map(|_| open.unwrap_or_default()),
            limits: limits.clone(),
        })
    }

    /// Whether a connection from `peer` may be served; if so, it counts in `active` and as its client's.
    pub fn admit(&self, peer: SocketAddr, active: &AtomicU64, now_ms: u64) -> Result<(), Shed> {
        if !self.ranges.contain(peer.ip()) {
            return Err(Shed::SourceRanges);
        }
        self.admit_unknown(active, now_ms)?;
        let shed = self.admit_client(Client::of(peer.ip()), now_ms);
        shed.map_or(Ok(()), |shed| {
            active.fetch_sub(1, Relaxed);
            Err(shed)
        })
    }

    /// The first half of [`Self::admit`], for a connection whose client is not known yet: what goes for all clients
    /// together. If it may stay, it counts in `active`.
    pub fn admit_unknown(&self, active: &AtomicU64, now_ms: u64) -> Result<(), Shed> {
        let total = self.limits.total;
        if total
            .per_second
            .is_some_and(|most| !self.pace.take(most, now_ms))
        {
            return Err(Shed::MaxConnectionsPerSecond);
        }
        let before = active.fetch_add(1, Relaxed);
        if total.connections.is_some_and(|most| before >= most.into()) {
            active.fetch_sub(1, Relaxed);
            return Err(Shed::MaxConnections);
        }
        Ok(())
    }

    /// The second half, once the client is known: whether it may be served. If so, it counts as its client's; if not,
    /// it still counts in `active`.
    pub fn admit_known(&self, client: SocketAddr, now_ms: u64) -> Result<(), Shed> {
        if !self.ranges.contain(client.ip()) {
            return Err(Shed::SourceRanges);
        }
        let shed = self.admit_client(Client::of(client.ip()), now_ms);
        shed.map_or(Ok(()), Err)
    }

    fn admit_client(&self, client: Client, now_ms: u64) -> Option<Shed> {
        let most = self.limits.per_client;
        if let (Some(rates), Some(most)) = (&self.rates, most.per_second)
            && rates.add(client, now_ms) > u64::from(most)
        {
            return Some(Shed::ClientMaxConnectionsPerSecond);
        }
        if let (Some(open), Some(most)) = (&self.open, most.connections)
            && !open.admit(client, isize::try_from(most).unwrap_or(isize::MAX))
        {
            return Some(Shed::ClientMaxConnections);
        }
        None
    }

    /// Counts what another limiter admitted, in `active` and as its client's, without a question.
    pub fn take_over(&self, peer: SocketAddr, active: &AtomicU64) {
        active.fetch_add(1, Relaxed);
        if let Some(open) = &self.open {
            open.sketch.incr(Client::of(peer.ip()), 1);
        }
    }

    /// A connection that this limiter admitted is gone.
    pub fn release(&self, peer: SocketAddr) {
        if let Some(open) = &self.open {
            open.sketch.decr(Client::of(peer.ip()), 1);
        }
    }
}

/// Whom limits of single clients go by: an IPv4 address, or an IPv6 /64, which is what one subscriber has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Client {
    is_v6: bool,
    network: u64,
}

impl Client {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self {
                is_v6: false,
                network: u64::from(u32::from(v4)),
            },
            IpAddr::V6(v6) => Self {
                is_v6: true,
                network: u64::try_from(u128::from(v6) >> 64).unwrap_or(0),
            },
        }
    }
}

/// Rows of a sketch, and places in each. With 16,384 clients a second, half of one row's places are taken; a client is
/// counted too high if that is so in all four, by what the least of them holds.
const ROWS: usize = 4;
const PLACES: usize = 16_384;

/// Open connections by client. 512 KiB.
struct Open {
    sketch: Estimator,
    counting: Counting,
}

/// Held while a connection is counted in a sketch's rows, one after the other: of two that are counted at once each may
/// else be the first in some row, and its least place tells of neither.
type Counting = Mutex<()>;

fn one_at_a_time(counting: &Counting) -> MutexGuard<'_, ()> {
    counting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Open {
    fn default() -> Self {
        Self {
            sketch: Estimator::new(ROWS, PLACES),
            counting: Counting::default(),
        }
    }
}

impl Open {
    /// Counts a connection, unless its client has `most`.
    fn admit(&self, client: Client, most: isize) -> bool {
        let _alone = one_at_a_time(&self.counting);
        let is_within = self.sketch.incr(client, 1) <= most;
        if !is_within {
            self.sketch.decr(client, 1);
        }
        is_within
    }
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

/// New connections by client, in this second and the one before. 1 MiB.
struct Rates {
    /// The second that is counted in the sketch of its number's parity.
    second: AtomicU64,
    sketches: [Estimator; 2],
    counting: Counting,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            second: AtomicU64::new(0),
            sketches: [Estimator::new(ROWS, PLACES), Estimator::new(ROWS, PLACES)],
            counting: Counting::default(),
        }
    }
}

impl std::fmt::Debug for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rates").finish_non_exhaustive()
    }
}

impl Rates {
    /// Counts a connection; how many the client made within the last second, the one before counted as evenly spread.
    fn add(&self, client: Client, now_ms: u64) -> u64 {
        let second = now_ms / 1_000;
        self.turn(second);
        let (now, before) = match second % 2 {
            0 => (&self.sketches[0], &self.sketches[1]),
            _ => (&self.sketches[1], &self.sketches[0]),
        };
        let count = |n: isize| u64::try_from(n).unwrap_or(0);
        let left = 1_000 - now_ms % 1_000;
        let _alone = one_at_a_time(&self.counting);
        count(now.incr(client, 1)) + count(before.get(client)) * left / 1_000
    }

    /// The first worker of a new second empties the sketch that it will be counted in, and the other one as well if it
    /// holds no second that still counts.
    fn turn(&self, second: u64) {
        let last = self.second.load(Acquire);
        if second <= last
            || self
                .second
                .compare_exchange(last, second, AcqRel, Acquire)
                .is_err()
        {
            return;
        }
        let parity = usize::from(second % 2 == 1);
        self.sketches[parity].reset();
        if second > last + 1 {
            self.sketches[1 - parity].reset();
        }
    }
}

/// A limit on how often something may happen: so many a second, a second's worth at once at most.
#[derive(Debug, Default)]
struct Pace(
    /// Up to when what was taken has been earned, in nanoseconds.
    AtomicU64,
);

impl Pace {
    const SECOND_NS: u64 = 1_000_000_000;

    fn take(&self, per_second: u32, now_ms: u64) -> bool {
        let now = now_ms.saturating_mul(1_000_000);
        let each = Self::SECOND_NS / u64::from(per_second.max(1));
        let step = |spent: u64| {
            let spent = spent.max(now) + each;
            (spent <= now + Self::SECOND_NS).then_some(spent)
        };
        self.0.fetch_update(AcqRel, Relaxed, step).is_ok()
    }
}

/// Address ranges, merged and in order. None given: everybody.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Ranges {
    /// The ranges that these networks cover.
    pub fn new(nets: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push((net.network().into(), net.broadcast().into())),
                IpNet::V6(net) => v6.push((net.network().into(), net.broadcast().into())),
            }
        }
        Self {
            v4: merged(v4),
            v6: merged(v6),
        }
    }

    pub(super) fn contain(&self, ip: IpAddr) -> bool {
        if self.v4.is_empty() && self.v6.is_empty() {
            return true;
        }
        match ip.to_canonical() {
            IpAddr::V4(ip) => holds(&self.v4, ip.into()),
            IpAddr::V6(ip) => holds(&self.v6, ip.into()),
        }
    }
}

/// Ranges in order, without those that lie in another. (Networks never overlap in part.)
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
    let mut kept: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        if kept.last().is_none_or(|(_, end)| *end < first) {
            kept.push((first, last));
        }
    }
    kept
}

fn holds<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind
        .checked_sub(1)
        .and_then(|place| ranges.get(place))
        .is_some_and(|(_, last)| address <= *last)
}

#[cfg(test)]
mod tests;
