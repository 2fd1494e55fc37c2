//! CRC-16/XMODEM, but never cut to 16 bits: the low half is the CRC of the key, and the high half
//! holds what was shifted out of it. All 32 bits take part in placement.
//!
//! Invariant: the two bytes of the high half are the high bytes of the CRCs of the key without its
//! last two bytes and without its last byte.

/// Remainders of every byte under x^16 + x^12 + x^5 + 1, most significant bit first.
const TABLE: [u16; 256] = {
    let mut table = [0_u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            remainder =
                if remainder & 0x8000 == 0 { remainder << 1 } else { (remainder << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
};

#[inline]
pub(super) fn hash(key: &[u8]) -> u32 {
    key.iter()
        .fold(0, |h: u32, &byte| (h << 8) ^ u32::from(TABLE[usize::from((h >> 8) as u8 ^ byte)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The CRC bit by bit, without a table.
    fn crc(key: &[u8]) -> u16 {
        let mut remainder = 0_u16;
        for bit in key.iter().flat_map(|&byte| (0..8).rev().map(move |n| byte >> n & 1)) {
            let carry = (remainder >> 15) as u8 ^ bit;
            remainder <<= 1;
            if carry == 1 {
                remainder ^= 0x1021;
            }
        }
        remainder
    }

    /// The history in the high half, put together from the CRCs of the key's prefixes.
    fn oracle(key: &[u8]) -> u32 {
        let without = |count: usize| u32::from(crc(&key[..key.len().saturating_sub(count)]));
        (without(2) >> 8 << 24) | (without(1) >> 8 << 16) | without(0)
    }

    #[test]
    fn reference_values() {
        assert_eq!(hash(b"apple"), 3662830516);
        assert_eq!(hash(b"123456789") as u16, 0x31c3, "the check value of CRC-16/XMODEM");
    }

    #[test]
    fn the_high_half_is_kept() {
        assert_ne!(hash(b"apple") >> 16, 0);
    }

    proptest! {
        #[test]
        fn equals_the_oracle(key in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(hash(&key), oracle(&key));
        }
    }
}
