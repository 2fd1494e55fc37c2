//! The low 32 bits of the 64-bit FNV-1 hash, which need only the low halves of its constants.
//!
//! Bytes enter as signed chars, so keys that are not ASCII differ from the published function.

use super::widen_signed;

const OFFSET_BASIS: u32 = 0x8422_2325;
const PRIME: u32 = 0x1b3;

#[inline]
pub(super) fn hash(key: &[u8]) -> u32 {
    key.iter().fold(OFFSET_BASIS, |h, &byte| h.wrapping_mul(PRIME) ^ widen_signed(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::widen_signed_slowly;
    use proptest::prelude::*;

    /// The full 64-bit hash, cut at the end.
    fn oracle(key: &[u8]) -> u32 {
        let mut h = 0xcbf2_9ce4_8422_2325_u64;
        for &byte in key {
            h = h.wrapping_mul(0x0100_0000_01b3);
            h ^= widen_signed_slowly(byte);
        }
        h as u32
    }

    #[test]
    fn reference_values() {
        assert_eq!(hash(b"apple"), 473199127);
        assert_eq!(hash(b"foobar"), 0xa4dd_a9c2, "a published value");
    }

    #[test]
    fn a_high_byte_enters_as_a_signed_char() {
        assert_eq!(hash(&[0x80]), OFFSET_BASIS.wrapping_mul(PRIME) ^ 0xffff_ff80);
        assert_ne!(hash(&[0x80]), OFFSET_BASIS.wrapping_mul(PRIME) ^ 0x80);
    }

    proptest! {
        #[test]
        fn equals_the_oracle(key in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(hash(&key), oracle(&key));
        }
    }
}
