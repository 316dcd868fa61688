//! How well a candidate scores for a client: weighted rendezvous hashing in whole numbers, so that every machine agrees.
//!
//! Of candidates with weights w and independent uniform numbers u, the one with the least -log2(u)/w wins with
//! probability w/W (the least of exponential times). Changing one weight moves only clients that come to or leave that
//! candidate.

/// Digits of a logarithm behind the binary point.
const FRACTION: u32 = 25;
/// Bits of the argument that choose a table entry; the next [`STEP`] bits are interpolated.
const INDEX: u32 = 8;
const STEP: u32 = 24;
const ENTRIES: usize = (1 << INDEX) + 1;

/// log2(1 + i / 256) for i = 0 to 256.
static LOGARITHMS: [u32; ENTRIES] = logarithms();

const fn logarithms() -> [u32; ENTRIES] {
    let mut table = [0; ENTRIES];
    let mut i = 0;
    while i < ENTRIES {
        table[i] = logarithm(((1 << INDEX) + i as u64) << (32 - INDEX));
        i += 1;
    }
    table
}

/// log2 of a number from 1 to 2 in units of 2^-32, digit by digit: squaring doubles the logarithm, and a square of 2 or
/// more shows that the next digit is 1.
#[expect(
    clippy::cast_possible_truncation,
    reason = "no other conversion is const; the square of less than 2 is less than 4"
)]
const fn logarithm(mut x: u64) -> u32 {
    let (mut log, mut digit) = (0, 0);
    if x >= 2 << 32 {
        return 1 << FRACTION;
    }
    while digit < FRACTION {
        let square = (x as u128 * x as u128) >> 32;
        x = square as u64;
        log <<= 1;
        if x >= 2 << 32 {
            x >>= 1;
            log |= 1;
        }
        digit += 1;
    }
    log
}

/// -log2 of `hash` in units of 2^-64, as a number from 0 to 65 with [`FRACTION`] binary digits.
pub(super) fn surprise(hash: u64) -> u64 {
    let hash = hash | 1; // 0 has no logarithm
    let zeros = hash.leading_zeros();
    let fraction = hash << zeros << 1; // what follows the leading 1
    let index = (fraction >> (64 - INDEX)) as usize;
    let rest = (fraction << INDEX) >> (64 - STEP);
    let (low, high) = (LOGARITHMS[index], LOGARITHMS[index + 1]);
    let log = u64::from(low) + ((u64::from(high - low) * rest) >> STEP);
    (u64::from(zeros + 1) << FRACTION) - log
}

/// The best candidate so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bid {
    surprise: u64,
    weight: u64,
}

impl Bid {
    /// Of a candidate; none without weight.
    pub(super) fn new(hash: u64, weight: u32) -> Option<Self> {
        (weight > 0).then(|| Self {
            surprise: surprise(hash),
            weight: u64::from(weight),
        })
    }

    /// Whether a candidate has less surprise for its weight, by cross multiplication; then it is the best.
    #[inline]
    pub(super) fn is_beaten_by(&mut self, hash: u64, weight: u32) -> bool {
        let weight = u64::from(weight);
        // -log2(u) is at least 1 - u, which costs nothing and settles it for most; no weight never wins.
        let at_least = !hash >> (64 - FRACTION);
        if at_least * self.weight >= self.surprise * weight {
            return false;
        }
        let surprise = surprise(hash);
        let is_better = surprise * self.weight < self.surprise * weight;
        if is_better {
            *self = Self { surprise, weight };
        }
        is_better
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprises_are_logarithms() {
        let unit = f64::from(1u32 << FRACTION);
        let mut random = crate::lb::pick::SplitMix(1);
        for _ in 0..200_000 {
            let hash = (random.next() >> (random.next() % 40)) | 1;
            let exact = 64.0 - (hash as f64).log2();
            let error = surprise(hash) as f64 / unit - exact;
            assert!(error.abs() < 4e-6, "{hash}: {error}");
        }
        assert_eq!(surprise(1 << 63), 1 << FRACTION);
        assert_eq!(surprise(1), 64 << FRACTION);
        assert_eq!(surprise(0), surprise(1));
    }

    #[test]
    fn a_larger_hash_never_surprises_more() {
        let mut last = u64::MAX;
        for step in 0..1_000_000 {
            let hash = step * (u64::MAX / 1_000_000);
            let now = surprise(hash);
            assert!(now <= last);
            last = now;
        }
        assert!(surprise(u64::MAX) <= last);
    }
}
