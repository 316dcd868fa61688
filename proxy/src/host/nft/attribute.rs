//! Netlink messages and their attributes as bytes: types and lengths in the machine's order, values as they are given.
//! Pure.

use crate::host::netlink::{aligned, u16_at};

/// An attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// Bits of an attribute's type that name it.
const NAME: u16 = 0x3fff;

/// Messages in the making.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A message of `kind`; its body is written by `body`.
    pub(super) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        body(self);
        let len = u32::try_from(self.bytes.len() - start).expect("our messages are short");
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// Bytes as they are, for the header of a family of messages.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.put(kind, |writer| writer.raw(value));
    }

    /// Numbers are in the network's order throughout nf_tables.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Names end with a zero.
    pub(super) fn name(&mut self, kind: u16, value: &str) {
        self.put(kind, |writer| {
            writer.raw(value.as_bytes());
            writer.raw(&[0]);
        });
    }

    pub(super) fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        self.put(kind | NESTED, content);
    }

    fn put(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        content(self);
        let end = self.bytes.len();
        let len = u16::try_from(end - start).expect("our attributes are short");
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.bytes.resize(start + aligned(end - start), 0);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The value of the first attribute of this kind.
pub(super) fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(u16_at(attributes, 0));
        let value = attributes.get(4..len)?;
        if u16_at(attributes, 2) & NAME == kind {
            return Some(value);
        }
        attributes = attributes.get(aligned(len)..)?;
    }
}

/// A number in the network's order.
pub(super) fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    let bytes = find(attributes, kind)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found_again() {
        let mut writer = Writer::default();
        writer.name(1, "abc");
        writer.nested(2, |inner| inner.number(3, 0x700));
        let bytes = writer.into_bytes();
        let expected = [
            &8_u16.to_ne_bytes()[..],
            &1_u16.to_ne_bytes(),
            b"abc\0",
            &12_u16.to_ne_bytes(),
            &0x8002_u16.to_ne_bytes(),
            &8_u16.to_ne_bytes(),
            &3_u16.to_ne_bytes(),
            &[0, 0, 7, 0],
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(find(&bytes, 1), Some(&b"abc\0"[..]));
        assert_eq!(number(find(&bytes, 2).unwrap(), 3), Some(0x700));
        assert_eq!(find(&bytes, 3), None);
    }

    #[test]
    fn broken_attributes_end_the_search() {
        for bytes in [&[][..], &[0; 8], &[3, 0, 9, 0], &[200, 0, 9, 0, 1]] {
            assert_eq!(find(bytes, 1), None);
        }
    }
}
