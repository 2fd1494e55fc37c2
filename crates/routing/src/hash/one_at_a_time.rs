//! Jenkins' one-at-a-time hash.
//!
//! Bytes enter as signed chars, so keys that are not ASCII differ from the published function.

use super::widen_signed;

#[inline]
pub(super) fn hash(key: &[u8]) -> u32 {
    let mut h = 0_u32;
    for &byte in key {
        h = h.wrapping_add(widen_signed(byte));
        h = h.wrapping_add(h << 10);
        h ^= h >> 6;
    }
    h = h.wrapping_add(h << 3);
    h ^= h >> 11;
    h.wrapping_add(h << 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::widen_signed_slowly;
    use proptest::prelude::*;

    /// In 64 bits, cut to 32 after each step.
    fn oracle(key: &[u8]) -> u32 {
        let cut = |wide: u64| wide % (1 << 32);
        let mut h = 0_u64;
        for &byte in key {
            h = cut(h + widen_signed_slowly(byte));
            h = cut(h * 1025);
            h ^= h / 64;
        }
        h = cut(h * 9);
        h ^= h / 2048;
        cut(h * 32769) as u32
    }

    #[test]
    fn reference_values() {
        assert_eq!(hash(b"apple"), 2297466611);
        assert_eq!(hash(b""), 0);
    }

    #[test]
    fn a_high_byte_enters_as_a_signed_char() {
        // With an unsigned char: 0xff * 1025 and so on.
        let unsigned = {
            let mut h = 0xff_u32 * 1025;
            h ^= h >> 6;
            h = h.wrapping_mul(9);
            h ^= h >> 11;
            h.wrapping_mul(32769)
        };
        assert_ne!(hash(&[0xff]), unsigned);
        assert_eq!(hash(&[0xff]), oracle(&[0xff]));
    }

    proptest! {
        #[test]
        fn equals_the_oracle(key in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(hash(&key), oracle(&key));
        }
    }
}
