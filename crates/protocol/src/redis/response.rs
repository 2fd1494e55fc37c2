//! The response framer: finds the end of a response. Not what it says. What RESP3 has beyond RESP2
//! is in `resp3.rs`, and is taken on a connection that speaks it only. Invariant: nested arrays are
//! counted, not descended into, so depth costs nothing, and bodies are skipped, not looked at.

mod resp3;

use crate::decimal::{self, NumberLine};
use crate::redis::usual_bulk;
use crate::{Framed, Limits, ResponseState, Version};

/// The smallest element is `+` and a line end.
const ELEMENT_SIZE_MIN: u64 = 3;

/// See [`crate::Protocol::frame_response`].
#[inline]
pub fn frame(state: &mut ResponseState, bytes: &[u8], limits: &Limits) -> Framed {
    if (bytes.len() as u64) < state.wanted {
        return Framed::Incomplete { need: (state.wanted - bytes.len() as u64) as usize };
    }
    let mut at = state.scanned as usize;
    let mut left = state.elements_left.max(1);
    let mut searched = state.searched as usize;
    while left > 0 {
        if let Some((_, end)) = usual_bulk(&bytes[at..])
            && at + end + 2 <= limits.response_size_max
        {
            (at, searched) = (at + end + 2, 0);
            left -= 1;
            if left * ELEMENT_SIZE_MIN > (limits.response_size_max - at) as u64 {
                state.reset();
                return Framed::Broken("response too large");
            }
            continue;
        }
        match element_at(bytes, at, searched, limits, state.version) {
            Element::Whole { next, elements } => {
                at = next;
                searched = 0;
                left = left - 1 + elements;
                // No more elements than there is room for.
                let room = (limits.response_size_max as u64).saturating_sub(at as u64);
                if left > room / ELEMENT_SIZE_MIN {
                    state.reset();
                    return Framed::Broken("response too large");
                }
            }
            Element::Short { wanted, searched } => {
                let wanted = wanted.max(bytes.len() + 1);
                *state = ResponseState {
                    scanned: at as u64,
                    searched: searched as u64,
                    wanted: wanted as u64,
                    elements_left: left,
                    ..ResponseState::new(state.version)
                };
                return Framed::Incomplete { need: wanted - bytes.len() };
            }
            Element::Bad(text) => {
                state.reset();
                return Framed::Broken(text);
            }
        }
    }
    state.reset();
    if bytes[0] == b'>' { Framed::Push { size: at } } else { Framed::Complete { size: at } }
}

enum Element {
    /// The element, or the header of an array, ends before `next`; `elements` more belong to it, at
    /// most 2^63.
    Whole {
        next: usize,
        elements: u64,
    },
    /// It cannot be whole with fewer bytes than `wanted`, and `searched` bytes of it hold no line
    /// end.
    Short {
        wanted: usize,
        searched: usize,
    },
    Bad(&'static str),
}

const SHORT: Element = Element::Short { wanted: 0, searched: 0 };

/// Reads the element that starts at `at`.
#[inline]
fn element_at(
    bytes: &[u8],
    at: usize,
    searched: usize,
    limits: &Limits,
    version: Version,
) -> Element {
    let Some(&kind) = bytes.get(at) else {
        return SHORT;
    };
    match kind {
        b'$' => match decimal::number_line(bytes, at + 1) {
            NumberLine::Whole { value: -1, next } => Element::Whole { next, elements: 0 },
            NumberLine::Whole { value: value @ 0.., next: start } => {
                bulk_at(bytes, start, value as u64, limits)
            }
            NumberLine::Short => SHORT,
            _ => Element::Bad("invalid bulk length"),
        },
        b'*' => match decimal::number_line(bytes, at + 1) {
            NumberLine::Whole { value: -1, next } => Element::Whole { next, elements: 0 },
            NumberLine::Whole { value: value @ 0.., next } => {
                Element::Whole { next, elements: value as u64 }
            }
            NumberLine::Short => SHORT,
            _ => Element::Bad("invalid array length"),
        },
        b'+' | b'-' | b':' => line_at(bytes, at, searched, limits),
        _ if version == Version::Resp3 => resp3::element_at(bytes, at, searched, limits),
        _ => Element::Bad("unknown type"),
    }
}

/// Reads the body of a bulk string.
#[inline]
fn bulk_at(bytes: &[u8], start: usize, size: u64, limits: &Limits) -> Element {
    if start as u64 + size + 2 > limits.response_size_max as u64 {
        return Element::Bad("response too large");
    }
    let end = start + size as usize;
    match bytes.get(end..end + 2) {
        Some(b"\r\n") => Element::Whole { next: end + 2, elements: 0 },
        Some(_) => Element::Bad("no line end after bulk"),
        None => Element::Short { wanted: end + 2, searched: 0 },
    }
}

/// Reads a line. A CR or LF on its own might be a line end to a client.
fn line_at(bytes: &[u8], at: usize, searched: usize, limits: &Limits) -> Element {
    let line = &bytes[at..];
    let end = memchr::memchr2(b'\r', b'\n', &line[searched..]).map(|offset| searched + offset);
    if end.unwrap_or(line.len()) > limits.line_size_max {
        return Element::Bad("line too long");
    }
    let Some(end) = end else {
        return Element::Short { wanted: 0, searched: line.len() };
    };
    match (line[end], line.get(end + 1)) {
        (b'\r', None) => Element::Short { wanted: 0, searched: end },
        (b'\r', Some(b'\n')) if line[0] == b':' && !is_integer(&line[1..end]) => {
            Element::Bad("invalid integer")
        }
        (b'\r', Some(b'\n')) => Element::Whole { next: at + end + 2, elements: 0 },
        _ => Element::Bad("invalid line end"),
    }
}

/// Whether the text is a number; which one, is nobody's business here.
fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    (1..=20).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests;
