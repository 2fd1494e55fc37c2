//! The kinds of elements that RESP3 adds. Not those whose lengths are not known when they begin,
//! which no server sends. Invariant: what is taken here every client of RESP3 takes, too.

use super::{Element, SHORT, bulk_at, line_at};
use crate::Limits;
use crate::decimal::{self, NumberLine};

/// Elements of a map beyond which it is as much too large as any.
const PAIRS_MAX: i64 = 1 << 61;

/// Reads the element that starts at `at`, where there is a byte, of none of RESP2's kinds.
#[cold]
#[inline(never)]
pub(super) fn element_at(bytes: &[u8], at: usize, searched: usize, limits: &Limits) -> Element {
    match bytes[at] {
        b'%' => many(bytes, at, |count| 2 * count),
        b'~' => many(bytes, at, |count| count),
        // It stands before an element, and is none.
        b'|' => many(bytes, at, |count| 2 * count + 1),
        // Pushed messages stand between responses.
        b'>' if at == 0 => match many(bytes, at, |count| count) {
            Element::Whole { elements: 0, .. } => Element::Bad("empty push"),
            element => element,
        },
        b'_' => fixed(bytes, at, &[b"_\r\n"]),
        b'#' => fixed(bytes, at, &[b"#t\r\n", b"#f\r\n"]),
        b'!' => body(bytes, at, limits),
        b'=' => verbatim(bytes, at, limits),
        b',' => checked_line(bytes, at, searched, limits, is_double),
        b'(' => checked_line(bytes, at, searched, limits, is_big_number),
        _ => Element::Bad("unknown type"),
    }
}

/// Reads the header of something with elements, of which there are as many as `elements` says.
fn many(bytes: &[u8], at: usize, elements: impl Fn(u64) -> u64) -> Element {
    match decimal::number_line(bytes, at + 1) {
        NumberLine::Whole { value: value @ 0..=PAIRS_MAX, next } => {
            Element::Whole { next, elements: elements(value as u64) }
        }
        NumberLine::Short => SHORT,
        _ => Element::Bad("invalid count"),
    }
}

/// Reads one of a few lines of the same length.
fn fixed(bytes: &[u8], at: usize, lines: &[&[u8]]) -> Element {
    let size = lines[0].len();
    let Some(line) = bytes.get(at..at + size) else {
        return Element::Short { wanted: at + size, searched: 0 };
    };
    if !lines.contains(&line) {
        return Element::Bad("invalid line");
    }
    Element::Whole { next: at + size, elements: 0 }
}

/// Reads what has the form of a bulk string, and is never absent.
fn body(bytes: &[u8], at: usize, limits: &Limits) -> Element {
    match decimal::number_line(bytes, at + 1) {
        NumberLine::Whole { value: value @ 0.., next } => {
            bulk_at(bytes, next, value as u64, limits)
        }
        NumberLine::Short => SHORT,
        _ => Element::Bad("invalid bulk length"),
    }
}

/// Reads a text whose format is named by its first three bytes, and a colon. What is wrong with the
/// text is found when all of it is there: so the same is found wherever the stream is cut.
fn verbatim(bytes: &[u8], at: usize, limits: &Limits) -> Element {
    const WRONG: Element = Element::Bad("invalid verbatim string");
    match (decimal::number_line(bytes, at + 1), body(bytes, at, limits)) {
        (NumberLine::Whole { value: 0..4, .. }, _) => WRONG,
        (NumberLine::Whole { next, .. }, Element::Whole { .. }) if bytes[next + 3] != b':' => WRONG,
        (_, element) => element,
    }
}

/// Reads a line that says something of a certain form.
fn checked_line(
    bytes: &[u8],
    at: usize,
    searched: usize,
    limits: &Limits,
    is_right: impl Fn(&[u8]) -> bool,
) -> Element {
    match line_at(bytes, at, searched, limits) {
        Element::Whole { next, .. } if !is_right(&bytes[at + 1..next - 2]) => {
            Element::Bad("invalid number")
        }
        element => element,
    }
}

/// Whether the text is a number that may have a fraction and an exponent.
fn is_double(text: &[u8]) -> bool {
    let unsigned = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    let plausible = |byte: &u8| byte.is_ascii_digit() || b".eE+-".contains(byte);
    matches!(unsigned, b"inf" | b"nan")
        || unsigned.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.')
            && text.iter().all(plausible)
            && std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok())
}

/// Whether the text is an integer of any size.
fn is_big_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}
