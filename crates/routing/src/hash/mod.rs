//! The table of key hashes. Each row is one file beside this one, with one function from bytes to a
//! `u32`.
//!
//! Hash tags and the rule for empty keys are applied before a hash is called; see
//! [`crate::Placement`]. Invariant: every function is total, and gives on every platform what
//! twemproxy gives where C's `char` is signed, as on x86-64.

mod crc16;
mod crc32;
mod crc32a;
mod fnv1_32;
mod fnv1_64;
mod fnv1a_32;
mod fnv1a_64;
mod hsieh;
mod jenkins;
mod md5;
mod murmur;
mod one_at_a_time;

macro_rules! hashes {
    ($($kind:ident $name:literal $module:ident;)*) => {
        /// A key hash, as the configuration names it.
        // Fnv1a_64 is easier to read than Fnv1a64.
        #[allow(non_camel_case_types)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum HashKind {
            $(#[doc = concat!("`", $name, "`")] $kind,)*
        }

        impl HashKind {
            /// Every hash, in the order of the table.
            pub const ALL: &[HashKind] = &[$(HashKind::$kind),*];

            /// The configuration's word for it.
            pub fn name(self) -> &'static str {
                match self {
                    $(HashKind::$kind => $name,)*
                }
            }

            /// The hash of all of `key`.
            #[inline]
            pub fn hash(self, key: &[u8]) -> u32 {
                match self {
                    $(HashKind::$kind => $module::hash(key),)*
                }
            }
        }
    };
}

hashes! {
    // kind    name            file
    OneAtATime "one_at_a_time" one_at_a_time;
    Md5        "md5"           md5;
    Crc16      "crc16"         crc16;
    Crc32      "crc32"         crc32;
    Crc32a     "crc32a"        crc32a;
    Fnv1_64    "fnv1_64"       fnv1_64;
    Fnv1a_64   "fnv1a_64"      fnv1a_64;
    Fnv1_32    "fnv1_32"       fnv1_32;
    Fnv1a_32   "fnv1a_32"      fnv1a_32;
    Hsieh      "hsieh"         hsieh;
    Murmur     "murmur"        murmur;
    Jenkins    "jenkins"       jenkins;
}

impl HashKind {
    /// The hashes of several keys, which may take less time than one after the other. Only for the
    /// default hash it does.
    #[inline]
    pub fn hash_each<const COUNT: usize>(self, keys: [&[u8]; COUNT]) -> [u32; COUNT] {
        match self {
            HashKind::Fnv1a_64 => fnv1a_64::hash_each(keys),
            _ => keys.map(|key| self.hash(key)),
        }
    }

    /// The hash of that name, which is case-sensitive.
    pub fn from_name(name: &str) -> Option<HashKind> {
        HashKind::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// A byte as C's signed `char` becomes an unsigned int: 0x80 to 0xff become 0xffffff80 to
/// 0xffffffff. Several of twemproxy's hashes do this, and keys that are not ASCII are placed
/// accordingly.
#[inline]
fn widen_signed(byte: u8) -> u32 {
    byte as i8 as u32
}

/// What [`widen_signed`] does, written the other way round, for the slow oracles of the tests.
#[cfg(test)]
fn widen_signed_slowly(byte: u8) -> u64 {
    if byte < 0x80 { u64::from(byte) } else { 0xffff_ff00 + u64::from(byte) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_hash() {
        assert_eq!(HashKind::ALL.len(), 12);
        for &kind in HashKind::ALL {
            assert_eq!(HashKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(HashKind::from_name("FNV1A_64"), None);
        assert_eq!(HashKind::from_name(""), None);
    }

    #[test]
    fn both_widenings_agree_on_every_byte() {
        for byte in 0..=u8::MAX {
            assert_eq!(u64::from(widen_signed(byte)), widen_signed_slowly(byte));
        }
        assert_eq!(widen_signed(0x80), 0xffff_ff80);
    }
}
