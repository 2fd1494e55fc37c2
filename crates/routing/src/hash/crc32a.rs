//! The standard CRC-32, as in zlib and Ethernet.
//!
//! The `crc32fast` crate computes it.

#[inline]
pub(super) fn hash(key: &[u8]) -> u32 {
    crc32fast::hash(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bit by bit, least significant first.
    fn oracle(key: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for &byte in key {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xedb8_8320 };
            }
        }
        !crc
    }

    #[test]
    fn reference_values() {
        assert_eq!(hash(b"apple"), 2838417488);
        assert_eq!(hash(b"123456789"), 0xcbf4_3926, "the check value of CRC-32");
    }

    proptest! {
        #[test]
        fn equals_the_oracle(key in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(hash(&key), oracle(&key));
        }
    }
}
