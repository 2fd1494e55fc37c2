//! RESP2, which a Redis or Valkey server speaks with its clients, and RESP3 with those that ask for
//! it. Requests are the same in both.

pub mod commands;
mod inline;
pub mod join;
pub(crate) mod own;
mod reply;
pub mod request;
pub mod response;
pub(crate) mod scan;
pub(crate) mod session;
mod usual;

use crate::Version;

/// Appends an array of bulk strings, which is what every request is.
fn push_request(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    push_header(out, b'*', arguments.len());
    for argument in arguments {
        push_bulk(out, argument);
    }
}

/// Appends a bulk string.
fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    push_header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends the line that begins an array or a bulk string.
fn push_header(out: &mut Vec<u8>, kind: u8, count: usize) {
    out.push(kind);
    crate::decimal::push(out, count);
    out.extend_from_slice(b"\r\n");
}

/// Appends the line that begins a map: in RESP2 an array of names and values in turn.
fn push_map_header(out: &mut Vec<u8>, version: Version, count: usize) {
    match version {
        Version::Basic => push_header(out, b'*', 2 * count),
        Version::Resp3 => push_header(out, b'%', count),
    }
}

/// Appends the line that begins a set: in RESP2 an array.
fn push_set_header(out: &mut Vec<u8>, version: Version, count: usize) {
    push_header(out, if version == Version::Resp3 { b'~' } else { b'*' }, count);
}

/// Appends the line that begins what answers no request: in RESP2 an array.
fn push_push_header(out: &mut Vec<u8>, version: Version, count: usize) {
    push_header(out, if version == Version::Resp3 { b'>' } else { b'*' }, count);
}

/// Appends a text for people: in RESP2 a bulk string.
fn push_text(out: &mut Vec<u8>, version: Version, text: &[u8]) {
    match version {
        Version::Basic => push_bulk(out, text),
        Version::Resp3 => {
            push_header(out, b'=', "txt:".len() + text.len());
            out.extend_from_slice(b"txt:");
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends the absence of a value: in RESP2 that of a bulk string, or of an array.
fn push_null(out: &mut Vec<u8>, version: Version, basic: &[u8]) {
    out.extend_from_slice(if version == Version::Resp3 { b"_\r\n" } else { basic });
}

/// Where the body of the bulk string at the beginning starts and ends, if it is whole and its
/// length has one to four digits. Anything else, wrong or not, is for whoever asks. Nearly all bulk
/// strings are like this, and one word of eight bytes holds the whole header.
#[inline(always)]
fn usual_bulk(bytes: &[u8]) -> Option<(usize, usize)> {
    const LINE_END: u16 = u16::from_le_bytes(*b"\r\n");
    let word = u64::from_le_bytes(*bytes.first_chunk()?);
    let line_ends_at = |i: u32| (word >> (8 * i)) as u16 == LINE_END;
    let digit = |i: u32| usize::from(((word >> (8 * i)) as u8).wrapping_sub(b'0'));
    let [a, b] = [digit(1), digit(2)];
    // A number of several digits does not begin with zero.
    let (size, start, digits_max) = if line_ends_at(3) {
        (a * 10 + b, 5, if a > 0 { a.max(b) } else { 10 })
    } else if line_ends_at(4) {
        (a * 100 + b * 10 + digit(3), 6, if a > 0 { a.max(b).max(digit(3)) } else { 10 })
    } else if line_ends_at(5) {
        let (c, d) = (digit(3), digit(4));
        (a * 1000 + b * 100 + c * 10 + d, 7, if a > 0 { a.max(b).max(c).max(d) } else { 10 })
    } else if line_ends_at(2) {
        (a, 4, a)
    } else {
        return None;
    };
    if word as u8 != b'$' || digits_max > 9 {
        return None;
    }
    let end = start + size;
    (bytes.get(end..end + 2)? == b"\r\n").then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decimal::{NumberLine, number_line};
    use proptest::prelude::*;

    /// The same, by way of the reader of any number.
    fn oracle(bytes: &[u8]) -> Option<(usize, usize)> {
        let NumberLine::Whole { value, next } = number_line(bytes, 1) else { return None };
        let end = next + usize::try_from(value).ok()?;
        let whole = bytes[0] == b'$' && bytes.get(end..end + 2) == Some(b"\r\n");
        whole.then_some((next, end))
    }

    #[test]
    fn the_usual_bulk_strings_are_read() {
        for size in [2, 3, 9, 10, 11, 64, 99, 100, 999, 1000, 9999] {
            let bulk = format!("${size}\r\n{}\r\n", "x".repeat(size));
            assert_eq!(usual_bulk(bulk.as_bytes()), oracle(bulk.as_bytes()), "{size}");
            assert!(usual_bulk(bulk.as_bytes()).is_some(), "{size}");
            assert_eq!(usual_bulk(&bulk.as_bytes()[..bulk.len() - 1]), None, "{size}");
        }
        for unusual in
            ["$-1\r\n....", "$01\r\nx\r\n..", "$00\r\n\r\n..", "$+1\r\nx\r\n..", "$\r\n\r\n...."]
        {
            assert_eq!(usual_bulk(unusual.as_bytes()), None, "{unusual:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn a_usual_bulk_string_is_what_any_reader_sees(
            header in "[$*][0-9:/ -]{0,5}(\r\n|\r|\n\r|\n)[0-9x]{0,3}",
            body_size in 0..120_usize,
            end in prop::sample::select(vec!["\r\n", "\r", "\n\n", ""]),
        ) {
            let text = format!("{header}{}{end}", "\r\n".repeat(body_size / 2));
            let found = usual_bulk(text.as_bytes());
            if found.is_some() {
                prop_assert_eq!(found, oracle(text.as_bytes()));
            }
        }
    }
}
