//! Bits 16 to 30 of the standard CRC-32: a hash of 15 bits only.
//!
//! Invariant: at most 32,767. Under ketama nearly every key therefore falls on the lowest points;
//! it is kept for pools that already use it, and `crc32a` is the one to choose.

#[inline]
pub(super) fn hash(key: &[u8]) -> u32 {
    (super::crc32a::hash(key) >> 16) & 0x7fff
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reference_values() {
        assert_eq!(hash(b"apple"), 10542);
        assert_eq!(hash(b"123456789"), 0x4bf4, "from CRC-32's check value, 0xcbf43926");
    }

    proptest! {
        #[test]
        fn has_fifteen_bits(key in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(hash(&key) < 1 << 15);
        }
    }
}
