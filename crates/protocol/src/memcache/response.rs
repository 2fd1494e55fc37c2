//! The response framer, and whether a response can belong to a request. Invariant: a VALUE block is
//! passed over by its length and never looked at, and the line that declares it is one that every
//! client reads alike.

use crate::decimal;
use crate::memcache::commands::class;
use crate::memcache::is_key;
use crate::{Expect, Framed, Limits, ResponseState};

/// See [`crate::Protocol::frame_response`].
pub fn frame(state: &mut ResponseState, bytes: &[u8], limits: &Limits) -> Framed {
    if (bytes.len() as u64) < state.wanted {
        return Framed::Incomplete { need: (state.wanted - bytes.len() as u64) as usize };
    }
    let framed = frame_lines(state, bytes, limits);
    if !matches!(framed, Framed::Incomplete { .. }) {
        *state = ResponseState::default();
    }
    framed
}

fn frame_lines(state: &mut ResponseState, bytes: &[u8], limits: &Limits) -> Framed {
    let mut at = state.scanned as usize;
    let mut searched = state.searched as usize;
    loop {
        let rest = &bytes[at..];
        let end = memchr::memchr(b'\n', &rest[searched..]).map(|offset| searched + offset);
        if end.unwrap_or(rest.len()) > limits.line_size_max {
            return Framed::Broken("line too long");
        }
        let Some(end) = end else {
            *state = ResponseState {
                scanned: at as u64,
                searched: rest.len() as u64,
                wanted: 0,
                elements_left: 0,
            };
            return Framed::Incomplete { need: 1 };
        };
        let Some(line) = rest[..end].strip_suffix(b"\r") else {
            return Framed::Broken("line ends in a bare LF");
        };
        let value_size = match Kind::of(line) {
            Kind::Value { size, .. } => size,
            // Values may be followed by their end, or by what kept the server from the next one.
            Kind::End | Kind::Error => return Framed::Complete { size: at + end + 1 },
            Kind::Word(_) if at == 0 => return Framed::Complete { size: end + 1 },
            Kind::Word(_) => return Framed::Broken("values are not followed by END"),
            Kind::Unknown => return Framed::Broken("unknown response"),
        };
        let next = at as u64 + end as u64 + 1 + value_size + 2;
        if next > limits.response_size_max as u64 {
            return Framed::Broken("response too large");
        }
        let next = next as usize;
        match bytes.get(next - 2..next) {
            Some(b"\r\n") => (at, searched) = (next, 0),
            Some(_) => return Framed::Broken("no line end after a value"),
            None => {
                *state = ResponseState {
                    scanned: at as u64,
                    searched: end as u64,
                    wanted: next as u64,
                    elements_left: 0,
                };
                return Framed::Incomplete { need: next - bytes.len() };
            }
        }
    }
}

/// What a line of a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// The head of a block of `size` bytes.
    Value {
        key: &'a [u8],
        size: u64,
    },
    End,
    /// Everything in one line; the bits are the classes of responses that it may be.
    Word(u8),
    Error,
    Unknown,
}

impl Kind<'_> {
    /// Of a line without its end.
    pub(super) fn of(line: &[u8]) -> Kind<'_> {
        if let Some(fields) = line.strip_prefix(b"VALUE ") {
            return value(fields).unwrap_or(Kind::Unknown);
        }
        // To a client, a CR on its own might be a line end.
        if line.contains(&b'\r') {
            return Kind::Unknown;
        }
        let spaces = line.iter().rev().take_while(|&&byte| byte == b' ').count();
        let line = &line[..line.len() - spaces];
        let word = line.split(|&byte| byte == b' ').next().unwrap_or_default();
        let alone = word.len() == line.len();
        match word {
            b"END" if alone => Kind::End,
            b"STORED" | b"NOT_STORED" | b"EXISTS" if alone => Kind::Word(class::STORED),
            b"NOT_FOUND" if alone => {
                Kind::Word(class::STORED | class::DELETED | class::TOUCHED | class::NUMBER)
            }
            b"DELETED" if alone => Kind::Word(class::DELETED),
            b"TOUCHED" if alone => Kind::Word(class::TOUCHED),
            b"OK" | b"RESET" if alone => Kind::Word(0),
            b"VERSION" => Kind::Word(class::VERSION),
            b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR" => Kind::Error,
            [b'0'..=b'9', ..]
                if alone && word.len() <= 20 && word.iter().all(u8::is_ascii_digit) =>
            {
                Kind::Word(class::NUMBER)
            }
            _ => Kind::Unknown,
        }
    }
}

/// Reads `key flags bytes [unique]`.
fn value(fields: &[u8]) -> Option<Kind<'_>> {
    let mut fields = fields.split(|&byte| byte == b' ');
    let key = fields.next().filter(|key| is_key(key))?;
    let number = |field| decimal::unsigned_field(field).filter(|number| number.canonical);
    // Some servers have flags of 64 bits.
    let _flags = number(fields.next()?)?;
    let size = number(fields.next()?)?.value;
    let unique_good = fields.next().is_none_or(|unique| number(unique).is_some());
    let good = unique_good && fields.next().is_none() && size <= u64::from(u32::MAX);
    good.then_some(Kind::Value { key, size })
}

/// One block of a response.
pub(super) struct Block<'a> {
    pub(super) key: &'a [u8],
    /// The line, the value, and the line end behind it.
    pub(super) bytes: &'a [u8],
}

/// Takes the next block off a response that was framed, or gives what is left: its last line.
pub(super) fn next_block<'a>(rest: &mut &'a [u8]) -> Result<Block<'a>, &'a [u8]> {
    let end = memchr::memchr(b'\n', rest).ok_or(*rest)?;
    let line = rest[..end].strip_suffix(b"\r").ok_or(*rest)?;
    let Kind::Value { key, size } = Kind::of(line) else {
        return Err(rest);
    };
    let (bytes, left) = rest.split_at_checked(end + 1 + size as usize + 2).ok_or(*rest)?;
    *rest = left;
    Ok(Block { key, bytes })
}

/// The check sum that stands for a key in [`Expect`]. It is there to see a server out of step, not
/// to withstand anyone. Never zero.
#[inline]
pub(super) fn key_check(key: &[u8]) -> u32 {
    let mut sum = key.len() as u64;
    let mut mix = |word: u64| {
        let product = u128::from(sum ^ word) * 0x9E37_79B9_7F4A_7C15;
        sum = product as u64 ^ (product >> 64) as u64;
    };
    let (chunks, tail) = key.as_chunks::<8>();
    chunks.iter().for_each(|&chunk| mix(u64::from_le_bytes(chunk)));
    mix(tail.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)));
    ((sum >> 32) as u32 ^ sum as u32).max(1)
}

/// See [`crate::Protocol::accepts`].
#[inline]
pub fn accepts(expect: Expect, response: &[u8]) -> bool {
    if expect.class == 0 {
        return true;
    }
    let mut rest = response;
    loop {
        match next_block(&mut rest) {
            Ok(_) if expect.class & class::VALUES == 0 => return false,
            Ok(block) if expect.key_check != 0 => {
                // One key, so one block at most.
                return key_check(block.key) == expect.key_check
                    && (rest == b"END\r\n" || is_error(rest));
            }
            Ok(_) => {}
            Err(line) => return accepts_line(expect, line),
        }
    }
}

fn accepts_line(expect: Expect, line: &[u8]) -> bool {
    match line.strip_suffix(b"\r\n").map(Kind::of) {
        Some(Kind::Error) => true,
        Some(Kind::End) => expect.class & class::VALUES != 0,
        Some(Kind::Word(classes)) => expect.class & classes != 0,
        _ => false,
    }
}

/// Whether the last line of a response is an error.
pub(super) fn is_error(line: &[u8]) -> bool {
    line.strip_suffix(b"\r\n").map(Kind::of) == Some(Kind::Error)
}

#[cfg(test)]
mod tests;
