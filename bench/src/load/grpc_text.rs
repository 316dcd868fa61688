//! gRPC's framing of messages. It must not know of sockets.

use bytes::{BufMut, Bytes, BytesMut};

/// What stands before a message: not compressed, and its length.
pub(crate) const PREFIX: usize = 5;

/// A message as it is sent.
pub(crate) fn message(parts: &[&[u8]]) -> Bytes {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = BytesMut::with_capacity(PREFIX + len);
    out.put_u8(0);
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    for part in parts {
        out.put_slice(part);
    }
    out.freeze()
}

/// The message that `bytes` are, if they are one and nothing else.
pub(crate) fn of_message(bytes: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = bytes.split_first_chunk::<PREFIX>()?;
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    let is_whole = prefix[0] == 0 && usize::try_from(len) == Ok(message.len());
    is_whole.then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_told_from_anything_else() {
        let bytes = message(&[b"ab", b"c"]);
        assert_eq!(&bytes[..], b"\0\0\0\0\x03abc");
        assert_eq!(of_message(&bytes), Some(&b"abc"[..]));
        assert_eq!(of_message(&bytes[..7]), None);
        assert_eq!(of_message(b"\x01\0\0\0\x03abc"), None);
        assert_eq!(of_message(b"\0\0"), None);
    }
}
