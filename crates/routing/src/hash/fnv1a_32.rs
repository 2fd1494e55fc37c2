//! The 32-bit FNV-1a hash.
//!
//! Bytes enter as signed chars, so keys that are not ASCII differ from the published function.

use super::widen_signed;

const OFFSET_BASIS: u32 = 2_166_136_261;
const PRIME: u32 = 16_777_619;

#[inline]
pub(super) fn hash(key: &[u8]) -> u32 {
    key.iter().fold(OFFSET_BASIS, |h, &byte| (h ^ widen_signed(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::widen_signed_slowly;
    use proptest::prelude::*;

    /// In 64 bits, cut to 32 after each product.
    fn oracle(key: &[u8]) -> u32 {
        let mut h = 2_166_136_261_u64;
        for &byte in key {
            h ^= widen_signed_slowly(byte);
            h = h * 16_777_619 % (1 << 32);
        }
        h as u32
    }

    #[test]
    fn reference_values() {
        assert_eq!(hash(b"apple"), 280767167);
        assert_eq!(hash(b"foobar"), 0xbf9c_f968, "a published value");
    }

    #[test]
    fn a_high_byte_enters_as_a_signed_char() {
        assert_eq!(hash(&[0x80]), (OFFSET_BASIS ^ 0xffff_ff80).wrapping_mul(PRIME));
        assert_ne!(hash(&[0x80]), (OFFSET_BASIS ^ 0x80).wrapping_mul(PRIME));
    }

    proptest! {
        #[test]
        fn equals_the_oracle(key in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(hash(&key), oracle(&key));
        }
    }
}
