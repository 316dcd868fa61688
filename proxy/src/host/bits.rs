//! A value in some bits of a packet mark. The other bits belong to others and stay as they are. Pure.

use std::fmt;

/// `value` in the bits of `mask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bits {
    value: u32,
    mask: u32,
}

impl Bits {
    /// Absent if `value` has bits outside of `mask`, or is zero: every packet without a mark would match it.
    pub const fn new(value: u32, mask: u32) -> Option<Self> {
        if value == 0 || value & !mask != 0 {
            return None;
        }
        Some(Self { value, mask })
    }

    /// The value, without bits outside of the mask.
    pub const fn value(self) -> u32 {
        self.value
    }

    /// The bits that it is in.
    pub const fn mask(self) -> u32 {
        self.mask
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_within_its_mask_and_is_not_zero() {
        assert_eq!(Bits::new(0x701, 0xfff).unwrap().to_string(), "0x701/0xfff");
        assert_eq!(Bits::new(0x1701, 0xfff), None);
        assert_eq!(Bits::new(0, 0xfff), None);
    }
}
