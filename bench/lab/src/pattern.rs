//! Bytes that tell where they belong: a stream of them shows a lost, doubled or misplaced piece at once.

use std::sync::LazyLock;

/// A prime, so that no buffer size of the code under test divides it.
const PERIOD: usize = 1_048_573;

/// Two periods, so that a slice of up to one period can start anywhere.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes: Vec<u8> = Vec::with_capacity(2 * PERIOD);
    while bytes.len() < PERIOD {
        // xorshift64: no piece of it repeats within the period
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(PERIOD);
    bytes.extend_from_within(..);
    bytes
});

/// The bytes of the stream from `offset` on: `len` of them, at most 1 MiB.
pub fn at(offset: u64, len: usize) -> &'static [u8] {
    let start = usize::try_from(offset % PERIOD as u64).expect("less than the period");
    &BYTES[start..start + len.min(PERIOD)]
}

/// Panics unless `bytes` are those of the stream from `offset` on.
pub fn check(offset: u64, bytes: &[u8]) {
    for (index, piece) in bytes.chunks(PERIOD).enumerate() {
        let offset = offset + (index * PERIOD) as u64;
        let wanted = at(offset, piece.len());
        if piece != wanted {
            let wrong = piece.iter().zip(wanted).position(|(a, b)| a != b);
            let wrong = wrong.expect("they differ and are equally long");
            panic!("the stream differs at byte {}", offset + wrong as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_joins_over_its_period() {
        let joined = [at(PERIOD as u64 - 10, 10), at(PERIOD as u64, 10)].concat();
        check(PERIOD as u64 - 10, &joined);
        assert_eq!(at(PERIOD as u64 - 10, 20), joined);
    }

    #[test]
    #[should_panic(expected = "the stream differs at byte 105")]
    fn a_lost_byte_is_found() {
        let mut bytes = at(100, 50).to_vec();
        bytes.remove(5);
        check(100, &bytes);
    }
}
