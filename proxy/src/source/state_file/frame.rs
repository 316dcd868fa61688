//! How bytes stand in the state file: behind a header that tells whether they are ours, whole and understood. Pure.
//!
//! ```text
//! magic 8 | format version u32 | length of the payload u64 | CRC-32 of the payload u32 | payload     (big endian)
//! ```

const MAGIC: &[u8; 8] = b"PODLINE\x1a";
/// Grows when older releases cannot read what we write.
const VERSION: u32 = 1;
const HEADER: usize = 8 + 4 + 8 + 4;

/// What is wrong with a state file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    /// Somebody else wrote it.
    #[error("it is no state file of Podline")]
    Foreign,
    /// A newer release wrote it.
    #[error("it has format version {0}, and this release reads {VERSION}")]
    Future(u32),
    /// It does not have the length that it tells.
    #[error("it has {actual} bytes instead of {told}")]
    Length {
        /// As the header tells.
        told: u64,
        /// As found.
        actual: u64,
    },
    /// Its bytes are not those that were written.
    #[error("its checksum does not match")]
    Checksum,
    /// What it says cannot be.
    #[error("its content cannot be: {0}")]
    Content(String),
}

/// The file that holds `payload`.
pub(super) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER + payload.len());
    file.extend(MAGIC);
    file.extend(VERSION.to_be_bytes());
    file.extend((payload.len() as u64).to_be_bytes());
    file.extend(crc32fast::hash(payload).to_be_bytes());
    file.extend(payload);
    file
}

/// The payload of a file.
pub(super) fn payload(file: &[u8]) -> Result<&[u8], Damage> {
    let rest = file.strip_prefix(MAGIC).ok_or_else(|| {
        if MAGIC.starts_with(file) {
            cut(HEADER as u64, file)
        } else {
            Damage::Foreign
        }
    })?;
    let short = || cut(HEADER as u64, file);
    let (version, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (sum, payload) = rest.split_first_chunk().ok_or_else(short)?;
    let version = u32::from_be_bytes(*version);
    if version != VERSION {
        return Err(Damage::Future(version));
    }
    let length = u64::from_be_bytes(*length);
    if length != payload.len() as u64 {
        return Err(cut(length.saturating_add(HEADER as u64), file));
    }
    if crc32fast::hash(payload) != u32::from_be_bytes(*sum) {
        return Err(Damage::Checksum);
    }
    Ok(payload)
}

fn cut(told: u64, file: &[u8]) -> Damage {
    let actual = file.len() as u64;
    Damage::Length { told, actual }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        for written in [&b""[..], b"x", &[7; 1000]] {
            assert_eq!(payload(&frame(written)), Ok(written));
        }
    }

    #[test]
    fn each_damage_has_its_name() {
        let file = frame(b"payload");
        let check = |file: &[u8], damage: Damage| assert_eq!(payload(file), Err(damage));
        check(b"#!/bin/sh\nexit 0", Damage::Foreign);
        let (told, actual) = (HEADER as u64, 0);
        check(b"", Damage::Length { told, actual });
        let (told, actual) = (file.len() as u64, file.len() as u64 - 1);
        check(&file[..file.len() - 1], Damage::Length { told, actual });
        let mut odd = file.clone();
        odd[11] = 2;
        check(&odd, Damage::Future(2));
        let mut odd = file.clone();
        *odd.last_mut().unwrap() ^= 1;
        check(&odd, Damage::Checksum);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_seen() {
        let file = frame(b"listeners and backend sets");
        for end in 0..file.len() {
            payload(&file[..end]).unwrap_err();
        }
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut odd = file.clone();
                odd[at] ^= 1 << bit;
                payload(&odd).unwrap_err();
            }
        }
        let mut longer = file;
        longer.push(0);
        payload(&longer).unwrap_err();
    }
}
