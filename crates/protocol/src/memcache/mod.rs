//! The classic text protocol of memcached. The binary and the meta protocol are not spoken.

pub mod commands;
pub mod join;
mod line;
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

/// Bytes up to the first one that no key has (see [`is_key`]), or more than a key
/// may have. Eight at a time: the lowest byte that a subtraction borrows from is found exactly.
#[inline]
fn key_size(bytes: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut size = 0;
    while let Some(chunk) = bytes[size..].first_chunk()
        && size <= KEY_SIZE_MAX
    {
        let word = u64::from_le_bytes(*chunk);
        let blank = word.wrapping_sub(EACH * (b' ' as u64 + 1)) & !word;
        let flipped = word ^ (EACH * 0x7f);
        let delete = flipped.wrapping_sub(EACH) & !flipped;
        let ends = (blank | delete) & (EACH * 0x80);
        if ends != 0 {
            return size + (ends.trailing_zeros() / 8) as usize;
        }
        size += 8;
    }
    let is_end = |byte: &u8| *byte <= b' ' || *byte == 0x7f;
    size + bytes[size..].iter().take(8).take_while(|byte| !is_end(byte)).count()
}
