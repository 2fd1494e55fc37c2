//! The first four bytes of the MD5 digest, little-endian. With ketama it gives the placement of
//! libmemcached's weighted ketama.
//!
//! The digest is the `md-5` crate's.

use ::md5::{Digest, Md5};

#[inline]
pub(super) fn hash(key: &[u8]) -> u32 {
    let digest = Md5::digest(key);
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_values() {
        assert_eq!(hash(b"apple"), 3195025439);
        // The digests that RFC 1321 prints begin with these bytes.
        assert_eq!(hash(b"").to_le_bytes(), [0xd4, 0x1d, 0x8c, 0xd9]);
        assert_eq!(hash(b"message digest").to_le_bytes(), [0xf9, 0x6b, 0x69, 0x7d]);
    }

    #[test]
    fn a_high_byte_is_an_octet_as_in_any_md5() {
        assert_eq!(hash(&[0xff]).to_le_bytes(), [0x00, 0x59, 0x4f, 0xd4]);
    }
}
