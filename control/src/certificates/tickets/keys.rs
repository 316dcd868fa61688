//! The keys that seal session tickets: which there are, and when which becomes which. Pure: the time and the next key are
//! arguments.
//!
//! There are three. One seals; the one before it still opens what it sealed; the next opens already, and seals after the
//! coming rotation. Proxies are told one after the other, so some seal with a key before others have heard that it does:
//! by then all have had it for a whole period. With a current and a previous key alone such tickets would be refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use podline_api::TicketKey;

/// Seconds for which a key seals; what it sealed can be opened for as long again.
pub(super) const PERIOD: i64 = 12 * 3_600;

const CURRENT: &str = "current";
const NEXT: &str = "next";
const PREVIOUS: &str = "previous";
const ROTATED: &str = "rotated";

/// The keys, as the Secret holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// Seals.
    current: TicketKey,
    /// Seals after the next rotation.
    next: TicketKey,
    /// Sealed before the last one; absent before the first.
    previous: Option<TicketKey>,
    /// When that was, in seconds since 1970.
    rotated: i64,
}

/// Why keys are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// There were none.
    New,
    /// Their time is over.
    Due,
    /// The Secret is gone or damaged, and they are known.
    Restored,
    /// The Secret is damaged, and nobody knows what it held.
    Lost,
}

impl Keys {
    fn new(draw: &mut dyn FnMut() -> TicketKey, now: i64) -> Self {
        Self {
            current: draw(),
            next: draw(),
            previous: None,
            rotated: now,
        }
    }

    fn rotate(&self, draw: &mut dyn FnMut() -> TicketKey, now: i64) -> Self {
        Self {
            current: self.next.clone(),
            next: draw(),
            previous: Some(self.current.clone()),
            rotated: now,
        }
    }

    /// A clock that was set far back must not keep a key for ever.
    fn is_due(&self, now: i64) -> bool {
        now.abs_diff(self.rotated) >= PERIOD.unsigned_abs()
    }

    /// What a Secret's data says; nothing if that is damaged.
    pub(super) fn read(data: &BTreeMap<String, Vec<u8>>) -> Option<Self> {
        let key = |name: &str| {
            let bytes = data.get(name)?.as_slice();
            Some(TicketKey::new(bytes.try_into().ok()?))
        };
        let rotated = std::str::from_utf8(data.get(ROTATED)?).ok()?;
        let previous = if data.contains_key(PREVIOUS) {
            Some(key(PREVIOUS)?)
        } else {
            None
        };
        Some(Self {
            current: key(CURRENT)?,
            next: key(NEXT)?,
            previous,
            rotated: rotated.parse::<Timestamp>().ok()?.as_second(),
        })
    }

    /// The Secret's data.
    pub(super) fn data(&self) -> BTreeMap<String, Vec<u8>> {
        let bytes = |key: &TicketKey| [key.name(), key.reveal()].concat();
        let rotated = Timestamp::from_second(self.rotated).unwrap_or_default();
        let mut data = BTreeMap::from([
            (CURRENT.to_owned(), bytes(&self.current)),
            (NEXT.to_owned(), bytes(&self.next)),
            (ROTATED.to_owned(), rotated.to_string().into_bytes()),
        ]);
        let previous = self.previous.as_ref();
        data.extend(previous.map(|key| (PREVIOUS.to_owned(), bytes(key))));
        data
    }

    /// What listeners are to have: the first seals, all open.
    pub(super) fn told(&self) -> Arc<[TicketKey]> {
        let [current, next] = [&self.current, &self.next].map(Clone::clone);
        [current, next]
            .into_iter()
            .chain(self.previous.clone())
            .collect()
    }
}

/// What the Secret is to hold, and why; nothing if that is what it holds. `found` is what it holds, `is_there` whether it
/// is there at all, `known` what it held when it was last right.
pub(super) fn next(
    found: Option<&Keys>,
    is_there: bool,
    known: Option<&Keys>,
    draw: &mut dyn FnMut() -> TicketKey,
    now: i64,
) -> Option<(Keys, Why)> {
    match (found, known) {
        (Some(found), _) if found.is_due(now) => Some((found.rotate(draw, now), Why::Due)),
        (Some(_), _) => None,
        (None, Some(known)) => Some((known.clone(), Why::Restored)),
        (None, None) if is_there => Some((Keys::new(draw, now), Why::Lost)),
        (None, None) => Some((Keys::new(draw, now), Why::New)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_750_000_000;

    /// Keys of one byte each, counted.
    fn counting() -> impl FnMut() -> TicketKey {
        let mut n = 0;
        move || {
            n += 1;
            TicketKey::new([n; TicketKey::LENGTH])
        }
    }

    fn told(keys: &Keys) -> Vec<u8> {
        keys.told().iter().map(|key| key.reveal()[0]).collect()
    }

    #[test]
    fn a_key_opens_before_it_seals_and_after() {
        let draw = &mut counting();
        let (mut keys, why) = next(None, false, None, draw, START).unwrap();
        assert_eq!((told(&keys), why), (vec![1, 2], Why::New));
        assert_eq!(
            next(Some(&keys), true, None, draw, START + PERIOD - 1),
            None
        );
        for (n, expected) in (1..).zip([[2, 3, 1], [3, 4, 2], [4, 5, 3]]) {
            let now = START + n * PERIOD;
            let (rotated, why) = next(Some(&keys), true, Some(&keys), draw, now).unwrap();
            assert_eq!((told(&rotated), why), (expected.to_vec(), Why::Due));
            // Whoever has not heard of it yet opens what the others seal, and they what it seals.
            assert!(told(&keys).contains(&told(&rotated)[0]));
            assert!(told(&rotated).contains(&told(&keys)[0]));
            keys = rotated;
        }
        assert!(next(Some(&keys), true, None, draw, START - PERIOD).is_some());
    }

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_restored() {
        let draw = &mut counting();
        let (first, _) = next(None, false, None, draw, START).unwrap();
        let (keys, _) = next(Some(&first), true, None, draw, START + PERIOD).unwrap();
        for keys in [&first, &keys] {
            let data = keys.data();
            assert_eq!(Keys::read(&data).as_ref(), Some(keys));
            for name in data.keys().filter(|name| *name != PREVIOUS) {
                let mut damaged = data.clone();
                damaged.remove(name);
                assert_eq!(Keys::read(&damaged), None, "{name}");
                damaged.insert(name.clone(), b"short".to_vec());
                assert_eq!(Keys::read(&damaged), None, "{name}");
            }
        }
        let now = START + 2 * PERIOD;
        for is_there in [true, false] {
            let restored = next(None, is_there, Some(&keys), draw, now);
            assert_eq!(restored, Some((keys.clone(), Why::Restored)));
        }
        let (_, why) = next(None, true, None, draw, now).unwrap();
        assert_eq!(why, Why::Lost);
        assert!(!format!("{keys:?}").contains(&"03".repeat(17)), "{keys:?}");
    }
}
