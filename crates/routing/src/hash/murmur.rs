//! MurmurHash2 with a seed that depends on the key's length.
//!
//! Words are read little-endian on every platform, and all bytes are unsigned.

const MULTIPLIER: u32 = 0x5bd1_e995;

#[inline]
pub(super) fn hash(key: &[u8]) -> u32 {
    // Lengths wrap at 32 bits, as they do in C's arithmetic.
    let length = key.len() as u32;
    let seed = length.wrapping_mul(0xdead_beef);
    let mut h = seed ^ length;
    let (words, tail) = key.as_chunks::<4>();
    for &word in words {
        let mut k = u32::from_le_bytes(word).wrapping_mul(MULTIPLIER);
        k ^= k >> 24;
        h = h.wrapping_mul(MULTIPLIER) ^ k.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        for (position, &byte) in tail.iter().enumerate() {
            h ^= u32::from(byte) << (8 * position);
        }
        h = h.wrapping_mul(MULTIPLIER);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(MULTIPLIER);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// In 64 bits, one word after another taken off the front of the key.
    fn oracle(key: &[u8]) -> u32 {
        let times = |wide: u64, factor: u64| wide * factor % (1 << 32);
        let m = 0x5bd1_e995;
        let mut h = times(key.len() as u64, 0xdead_beef) ^ key.len() as u64;
        let mut rest = key;
        while let [a, b, c, d, after @ ..] = rest {
            let word = [a, b, c, d].iter().rev().fold(0, |w, &&byte| w * 256 + u64::from(byte));
            let k = times(word, m);
            h = times(h, m) ^ times(k ^ (k >> 24), m);
            rest = after;
        }
        match *rest {
            [a] => h = times(h ^ u64::from(a), m),
            [a, b] => h = times(h ^ u64::from(a) ^ (u64::from(b) << 8), m),
            [a, b, c] => {
                h = times(h ^ u64::from(a) ^ (u64::from(b) << 8) ^ (u64::from(c) << 16), m);
            }
            _ => {}
        }
        h = times(h ^ (h >> 13), m);
        (h ^ (h >> 15)) as u32
    }

    #[test]
    fn reference_values() {
        assert_eq!(hash(b"apple"), 4142305122);
        assert_eq!(hash(b""), 0);
    }

    proptest! {
        #[test]
        fn equals_the_oracle(key in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(hash(&key), oracle(&key));
        }
    }
}
