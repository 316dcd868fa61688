//! CRC32c (Castagnoli) of a few hundred bytes: a table, since the headers it is for are short and rare.

const TABLE: [u32; 256] = {
    const REVERSED_POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut table = [0; 256];
    let mut index: u32 = 0;
    while index < 256 {
        let mut value = index;
        let mut bit = 0;
        while bit < 8 {
            let is_odd = value & 1 == 1;
            value >>= 1;
            if is_odd {
                value ^= REVERSED_POLYNOMIAL;
            }
            bit += 1;
        }
        table[index as usize] = value;
        index += 1;
    }
    table
};

/// The checksum of all parts, one after the other.
pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().copied().flatten();
    !bytes.fold(u32::MAX, |crc, byte| {
        TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8)
    })
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    /// RFC 3720, B.4, and the usual check value.
    #[test]
    fn known_sums_come_out() {
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, sum) in [
            (&b"123456789"[..], 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&[], 0),
        ] {
            assert_eq!(crc32c(&[bytes]), sum);
            let (one, other) = bytes.split_at(bytes.len() / 3);
            assert_eq!(crc32c(&[one, other]), sum);
        }
    }
}
