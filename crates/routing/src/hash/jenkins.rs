//! Bob Jenkins' lookup3 (`hashlittle`) with the initial value 13.
//!
//! Words are read little-endian on every platform, and all bytes are unsigned. Invariant: the last
//! one to twelve bytes get the final mixing, so an empty key gets none at all.

/// Three words are mixed at a time.
const BLOCK: usize = 12;

#[inline]
pub(super) fn hash(key: &[u8]) -> u32 {
    // Lengths wrap at 32 bits, as they do in C's arithmetic.
    let mut state = [0xdead_beef_u32.wrapping_add(key.len() as u32).wrapping_add(13); 3];
    let mut rest = key;
    while rest.len() > BLOCK {
        let (block, after) = rest.split_first_chunk().expect("longer than a block");
        add(&mut state, block);
        mix(&mut state);
        rest = after;
    }
    if !rest.is_empty() {
        let mut padded = [0; BLOCK];
        padded[..rest.len()].copy_from_slice(rest);
        add(&mut state, &padded);
        finish(&mut state);
    }
    state[2]
}

#[inline]
fn add(state: &mut [u32; 3], block: &[u8; BLOCK]) {
    for (word, &bytes) in state.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = word.wrapping_add(u32::from_le_bytes(bytes));
    }
}

#[inline]
fn mix(state: &mut [u32; 3]) {
    let [mut a, mut b, mut c] = *state;
    for (first, second, third) in [(4, 6, 8), (16, 19, 4)] {
        a = a.wrapping_sub(c) ^ c.rotate_left(first);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(second);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(third);
        b = b.wrapping_add(a);
    }
    *state = [a, b, c];
}

#[inline]
fn finish(state: &mut [u32; 3]) {
    let [mut a, mut b, mut c] = *state;
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    *state = [a, b, c];
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// In 64 bits and byte by byte; the mixings as tables of (changed, by, rotation).
    fn oracle(key: &[u8]) -> u32 {
        const MIX: [(usize, usize, u32); 6] =
            [(0, 2, 4), (1, 0, 6), (2, 1, 8), (0, 2, 16), (1, 0, 19), (2, 1, 4)];
        const FINISH: [(usize, usize, u32); 7] =
            [(2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24)];
        let cut = |wide: u64| wide % (1 << 32);
        let rotate = |word: u64, by: u32| cut(word << by) | (word >> (32 - by));
        let minus = |left: u64, right: u64| cut(left + (1 << 32) - right);
        let mut s = [cut(0xdead_beef + key.len() as u64 + 13); 3];
        for (position, &byte) in key.iter().enumerate() {
            if position > 0 && position % 12 == 0 {
                for (x, y, by) in MIX {
                    let z = 3 - x - y;
                    s[x] = minus(s[x], s[y]) ^ rotate(s[y], by);
                    s[y] = cut(s[y] + s[z]);
                }
            }
            let word = &mut s[position % 12 / 4];
            *word = cut(*word + (u64::from(byte) << (8 * (position % 4))));
        }
        if !key.is_empty() {
            for (x, y, by) in FINISH {
                s[x] = minus(s[x] ^ s[y], rotate(s[y], by));
            }
        }
        s[2] as u32
    }

    #[test]
    fn reference_values() {
        assert_eq!(hash(b"apple"), 1442444624);
        assert_eq!(hash(b""), 0xdead_befc, "no mixing");
    }

    proptest! {
        #[test]
        fn equals_the_oracle(key in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(hash(&key), oracle(&key));
        }
    }
}
