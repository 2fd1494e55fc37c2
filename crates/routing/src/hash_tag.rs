//! Hash tags: the part of a key that decides its placement, so that keys can be kept together.
//!
//! The key itself is never changed. Invariant: what [`HashTag::extract`] gives is a part of the
//! key, and is empty only if the key is.

use std::fmt;

/// The two bytes that enclose the hashed part of a key. They may be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashTag {
    open: u8,
    close: u8,
}

impl HashTag {
    /// A tag between `open` and `close`, which may be any bytes.
    pub fn new(open: u8, close: u8) -> HashTag {
        HashTag { open, close }
    }

    /// The bytes between the first `open` and the first `close` after it; the whole key if either
    /// is missing or nothing lies between. A later `open` is never tried.
    #[inline]
    pub fn extract(self, key: &[u8]) -> &[u8] {
        let Some(opened) = key.iter().position(|&byte| byte == self.open) else {
            return key;
        };
        let inner = &key[opened + 1..];
        match inner.iter().position(|&byte| byte == self.close) {
            Some(size) if size > 0 => &inner[..size],
            _ => key,
        }
    }
}

impl fmt::Display for HashTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.open.escape_ascii(), self.close.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_opening_byte_decides() {
        let cases: [(&str, &str); 13] = [
            ("", ""),
            ("plain", "plain"),
            ("{user}:a", "user"),
            ("a{b}c{d}", "b"),
            ("{}x", "{}x"),
            ("{x", "{x"),
            ("x}", "x}"),
            ("}{", "}{"),
            ("{{x}}y", "{x"),
            ("{}{u}", "{}{u}"),
            ("}{u}", "u"),
            ("{", "{"),
            ("ab{c}", "c"),
        ];
        for (key, hashed) in cases {
            let extracted = HashTag::new(b'{', b'}').extract(key.as_bytes());
            assert_eq!(extracted, hashed.as_bytes(), "{key}");
        }
    }

    #[test]
    fn both_bytes_may_be_equal() {
        let tag = HashTag::new(b'|', b'|');
        assert_eq!(tag.extract(b"a|b|c|d|"), b"b");
        assert_eq!(tag.extract(b"||b|"), b"||b|");
        assert_eq!(tag.extract(b"|b"), b"|b");
    }

    proptest! {
        #[test]
        fn equals_a_search_of_all_pairs(key in "[ab{}]{0,10}") {
            let bytes = key.as_bytes();
            let expected = (0..bytes.len())
                .flat_map(|open| (open + 1..bytes.len()).map(move |close| (open, close)))
                .find(|&(open, close)| bytes[open] == b'{' && bytes[close] == b'}')
                .filter(|&(open, close)| close - open > 1 && !bytes[..open].contains(&b'{'))
                .map_or(bytes, |(open, close)| &bytes[open + 1..close]);
            prop_assert_eq!(HashTag::new(b'{', b'}').extract(bytes), expected);
        }
    }
}
