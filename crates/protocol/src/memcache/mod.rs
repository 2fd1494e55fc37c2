//! The text protocol of memcached, classic and meta commands. The binary protocol is not spoken.

mod base64;
pub mod commands;
pub mod join;
mod line;
mod meta;
pub mod request;
pub mod response;
mod usual;

/// memcached's limit, in bytes.
const KEY_SIZE_MAX: usize = 250;

/// Whether a key is one that cannot be read as two, or as a line end, by any server. memcached
/// itself takes control bytes; they are of no use to anyone but an attacker.
#[inline]
fn is_key(key: &[u8]) -> bool {
    // No early exit: most keys are good, and a loop without one is made into wide instructions.
    let bad = key.iter().fold(false, |bad, &byte| bad | (byte <= b' ') | (byte == 0x7f));
    !bad && !key.is_empty() && key.len() <= KEY_SIZE_MAX
}

/// Bytes up to the first one that no key has (see [`is_key`]), or more than a key may have. Eight
/// at a time, each byte by itself: nothing is carried from one to the next.
#[inline]
fn key_size(bytes: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let (chunks, tail) = bytes.as_chunks();
    let mut size = 0;
    for chunk in chunks.iter().take(KEY_SIZE_MAX / 8 + 1) {
        let word = u64::from_le_bytes(*chunk);
        // Without bit 7: DEL becomes 0, other bytes one more than they are; so those that no key
        // has are less than 0x22, and do not reach bit 7 again.
        let next = (word & (EACH * 0x7f)) + EACH;
        let inside = (next & (EACH * 0x7f)) + EACH * (0x80 - 0x22);
        let ends = !(inside | word) & (EACH * 0x80);
        if ends != 0 {
            return size + (ends.trailing_zeros() / 8) as usize;
        }
        size += 8;
    }
    if size > KEY_SIZE_MAX {
        return size;
    }
    let is_end = |byte: &u8| *byte <= b' ' || *byte == 0x7f;
    size + tail.iter().take_while(|byte| !is_end(byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_ends_at_the_first_byte_that_no_key_has() {
        for size in (0..40).chain(240..=KEY_SIZE_MAX) {
            for byte in 0..=u8::MAX {
                let mut bytes = vec![b'!'; size];
                bytes.push(byte);
                bytes.extend_from_slice(b"~\xff ~");
                let expected = if is_key(&[byte]) { size + 3 } else { size };
                assert_eq!(key_size(&bytes).min(253), expected.min(253), "{size}, {byte}");
                // Nothing but the end of the bytes ends it.
                assert_eq!(key_size(&bytes[..size]), size);
            }
        }
        assert!(key_size(&[b'x'; 300]) > KEY_SIZE_MAX);
    }
}
