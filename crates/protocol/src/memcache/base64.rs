//! Keys in base64 (RFC 4648, with padding), as the flag `b` of the meta commands has them. Only
//! decoding, since what was encoded is forwarded. Invariant: what is accepted here is decoded by
//! memcached to the same bytes; it also accepts texts that are no base64, which are refused here.

/// Decodes a text into `out`, which is emptied first. Whether it is one.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    let (groups, []) = text.as_chunks::<4>() else { return false };
    let Some((last, before)) = groups.split_last() else { return false };
    for group in before {
        let Some(bits) = bits_of(group) else { return false };
        out.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    let padding = last.iter().rev().take_while(|&&byte| byte == b'=').count();
    if padding > 2 {
        return false;
    }
    let mut last = *last;
    last[4 - padding..].fill(b'A');
    let Some(bits) = bits_of(&last) else { return false };
    out.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    true
}

/// The 24 bits of four letters.
fn bits_of(group: &[u8; 4]) -> Option<u32> {
    group.iter().try_fold(0, |bits, &letter| Some(bits << 6 | value_of(letter)?))
}

fn value_of(letter: u8) -> Option<u32> {
    Some(u32::from(match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_decoded_to_what_they_were_made_of() {
        for (text, bytes) in [
            ("Zg==", &b"f"[..]),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYg==", b"foob"),
            ("AP/+", b"\0\xff\xfe"),
            // The bits that do not matter.
            ("Zh==", b"f"),
        ] {
            let mut out = b"old".to_vec();
            assert!(decode(text.as_bytes(), &mut out), "{text}");
            assert_eq!(out, bytes, "{text}");
        }
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in
            ["", "Z", "Zm9", "Zm9v=", "Zm=v", "====", "Z===", "Zm9-", "Zm9v!!!!", "Zg==Zg=="]
        {
            assert!(!decode(text.as_bytes(), &mut Vec::new()), "{text}");
        }
    }
}
