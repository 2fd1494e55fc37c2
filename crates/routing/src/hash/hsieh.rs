//! Paul Hsieh's SuperFastHash, begun with 0 instead of the key's length.
//!
//! Of the bytes only the third of a tail of three enters as a signed char; the others are unsigned.

use super::widen_signed;

#[inline]
pub(super) fn hash(key: &[u8]) -> u32 {
    let mut h = 0_u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        h = h.wrapping_add(half(word[0], word[1]));
        h = (h << 16) ^ (half(word[2], word[3]) << 11) ^ h;
        h = h.wrapping_add(h >> 11);
    }
    match *tail {
        [a, b, c] => {
            h = h.wrapping_add(half(a, b));
            h ^= h << 16;
            h ^= widen_signed(c) << 18;
            h = h.wrapping_add(h >> 11);
        }
        [a, b] => {
            h = h.wrapping_add(half(a, b));
            h ^= h << 11;
            h = h.wrapping_add(h >> 17);
        }
        [a] => {
            h = h.wrapping_add(u32::from(a));
            h ^= h << 10;
            h = h.wrapping_add(h >> 1);
        }
        _ => {}
    }
    h ^= h << 3;
    h = h.wrapping_add(h >> 5);
    h ^= h << 4;
    h = h.wrapping_add(h >> 17);
    h ^= h << 25;
    h.wrapping_add(h >> 6)
}

/// Two bytes, little-endian.
#[inline]
fn half(low: u8, high: u8) -> u32 {
    u32::from(u16::from_le_bytes([low, high]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::widen_signed_slowly;
    use proptest::prelude::*;

    /// In 64 bits, cut to 32 after each step, with the tail told by counting.
    fn oracle(key: &[u8]) -> u32 {
        let cut = |wide: u64| wide % (1 << 32);
        let half = |at: usize| u64::from(key[at]) + 256 * u64::from(key[at + 1]);
        let mut h = 0_u64;
        let mut at = 0;
        while key.len() - at >= 4 {
            h = cut(h + half(at));
            let mixed = (half(at + 2) << 11) ^ h;
            h = cut(h << 16) ^ mixed;
            h = cut(h + h / 2048);
            at += 4;
        }
        let (left, add) = match key.len() - at {
            3 => {
                h = cut(h + half(at));
                h ^= cut(h << 16) ^ cut(widen_signed_slowly(key[at + 2]) << 18);
                (0, 11)
            }
            2 => {
                h = cut(h + half(at));
                (11, 17)
            }
            1 => {
                h = cut(h + u64::from(key[at]));
                (10, 1)
            }
            _ => (0, 32),
        };
        if left > 0 {
            h ^= cut(h << left);
        }
        h = cut(h + (h >> add));
        for (left, right) in [(3, 5), (4, 17), (25, 6)] {
            h ^= cut(h << left);
            h = cut(h + (h >> right));
        }
        h as u32
    }

    #[test]
    fn reference_values() {
        assert_eq!(hash(b"apple"), 3738850110);
        assert_eq!(hash(b""), 0, "the length does not enter");
    }

    #[test]
    fn only_the_third_byte_of_a_tail_is_a_signed_char() {
        // What an unsigned char would give: bits 26 to 31 are not set before the last mixing.
        let key = [b'a', b'b', 0x80];
        let unsigned = {
            let mut h = half(b'a', b'b');
            h ^= h << 16;
            h ^= 0x80 << 18;
            h = h.wrapping_add(h >> 11);
            for (left, right) in [(3, 5), (4, 17), (25, 6)] {
                h ^= h << left;
                h = h.wrapping_add(h >> right);
            }
            h
        };
        assert_ne!(hash(&key), unsigned);
        assert_eq!(hash(&key), oracle(&key));
    }

    proptest! {
        #[test]
        fn equals_the_oracle(key in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(hash(&key), oracle(&key));
        }
    }
}
