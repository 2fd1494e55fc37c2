//! The classic text protocol of memcached. The binary and the meta protocol are not spoken.

pub mod commands;
pub mod join;
mod line;
pub mod request;
pub mod response;

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
