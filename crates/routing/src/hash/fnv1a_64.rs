//! The low 32 bits of the 64-bit FNV-1a hash, which need only the low halves of its constants.
//! The default hash of a pool.
//!
//! Bytes enter as signed chars, so keys that are not ASCII differ from the published function.

use super::widen_signed;

const OFFSET_BASIS: u32 = 0x8422_2325;
const PRIME: u32 = 0x1b3;

#[inline]
pub(super) fn hash(key: &[u8]) -> u32 {
    key.iter().fold(OFFSET_BASIS, step)
}

#[inline]
fn step(h: u32, byte: &u8) -> u32 {
    (h ^ widen_signed(*byte)).wrapping_mul(PRIME)
}

/// The hashes of several keys. Each is a chain of multiplications that wait for each other, so
/// several go hand in hand as far as the shortest key reaches.
#[inline]
pub(super) fn hash_each<const COUNT: usize>(keys: [&[u8]; COUNT]) -> [u32; COUNT] {
    let common = keys.iter().map(|key| key.len()).min().unwrap_or(0);
    let heads = keys.map(|key| &key[..common]);
    let mut hashes = [OFFSET_BASIS; COUNT];
    for i in 0..common {
        for (h, head) in hashes.iter_mut().zip(&heads) {
            *h = step(*h, &head[i]);
        }
    }
    for (h, key) in hashes.iter_mut().zip(keys) {
        *h = key[common..].iter().fold(*h, step);
    }
    hashes
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
            h ^= widen_signed_slowly(byte);
            h = h.wrapping_mul(0x0100_0000_01b3);
        }
        h as u32
    }

    #[test]
    fn reference_values() {
        assert_eq!(hash(b"apple"), 1488911807);
        assert_eq!(hash(b"foobar"), 0xf739_67e8, "a published value");
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

        #[test]
        fn several_at_once_equal_the_oracle(
            keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 4),
        ) {
            let slices = std::array::from_fn::<_, 4, _>(|i| keys[i].as_slice());
            prop_assert_eq!(hash_each(slices), slices.map(oracle));
        }
    }
}
