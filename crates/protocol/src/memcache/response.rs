//! The response framer, and whether a response can belong to a request. Invariant: a VALUE block is
//! passed over by its length and never looked at, and the line that declares it is one that every
//! client reads alike.
//!
//! A response is read once, in [`frame`]; what `accepts` asks about is noticed on the way.

use crate::decimal;
use crate::memcache::commands::class;
use crate::memcache::{KEY_SIZE_MAX, key_size, meta};
use crate::{Expect, Framed, Limits, ResponseState, Seen};

/// See [`crate::Protocol::frame_response`].
pub fn frame(state: &mut ResponseState, bytes: &[u8], limits: &Limits) -> Framed {
    if (bytes.len() as u64) < state.wanted {
        return Framed::Incomplete { need: (state.wanted - bytes.len() as u64) as usize };
    }
    let mut at = state.scanned as usize;
    let mut searched = state.searched as usize;
    let mut seen = if at == 0 { Seen::default() } else { state.seen };
    loop {
        // What was cut once is not worth a second try, which would look at its bytes again.
        if searched == 0 && limits.line_size_max >= USUAL_LINE_SIZE_MAX {
            at = pass_blocks(bytes, at, limits, &mut seen);
            if let Some((size, classes)) = usual_end(&bytes[at..], at == 0) {
                return complete(state, at + size, Seen { classes, ..seen });
            }
        }
        let line = match any_line(&bytes[at..], searched, limits) {
            Ok(line) => line,
            Err(Stop::Broken(text)) => return broken(state, text),
            Err(Stop::Short) => {
                *state = ResponseState {
                    scanned: at as u64,
                    searched: (bytes.len() - at) as u64,
                    seen,
                    ..ResponseState::default()
                };
                return Framed::Incomplete { need: 1 };
            }
        };
        let (block, size) = match line.kind {
            Kind::Value { key_size, size } => (Block::Value { key_size }, size),
            Kind::Meta { size: Some(size), seen } if at == 0 => (Block::Meta(seen), size),
            Kind::Meta { size: None, seen } if at == 0 => return complete(state, line.size, seen),
            kind => {
                return match classes_of_end(kind, at == 0) {
                    Ok(classes) => complete(state, at + line.size, Seen { classes, ..seen }),
                    Err(text) => broken(state, text),
                };
            }
        };
        let next = at as u64 + line.size as u64 + size + 2;
        if next > limits.response_size_max as u64 {
            return broken(state, "response too large");
        }
        let next = next as usize;
        match bytes.get(next - 2..next) {
            Some(b"\r\n") => match block {
                Block::Meta(seen) => return complete(state, next, seen),
                Block::Value { key_size } => {
                    notice_value(&mut seen, &bytes[at + VALUE.len()..][..key_size]);
                    (at, searched) = (next, 0);
                }
            },
            Some(_) => return broken(state, "no line end after a value"),
            None => {
                *state = ResponseState {
                    scanned: at as u64,
                    searched: line.size as u64 - 1,
                    wanted: next as u64,
                    seen,
                    ..ResponseState::default()
                };
                return Framed::Incomplete { need: next - bytes.len() };
            }
        }
    }
}

#[inline]
fn complete(state: &mut ResponseState, size: usize, seen: Seen) -> Framed {
    *state = ResponseState { seen, ..ResponseState::default() };
    Framed::Complete { size }
}

#[cold]
fn broken(state: &mut ResponseState, text: &'static str) -> Framed {
    *state = ResponseState::default();
    Framed::Broken(text)
}

/// The fast path: passes over the blocks that are whole, each read in one forward pass that needs
/// no search for the line end, and stops at whatever else there is. Before, the end of each line
/// was searched for, the line cut into words, and all of it done again to see whether the response
/// is accepted, and again to join it. Of the whole proxy's instructions a get of 64 bytes took 3094
/// then and takes 2150 now, and a get of 100 keys took 233,600 and takes 111,200.
#[inline]
fn pass_blocks(bytes: &[u8], mut at: usize, limits: &Limits, seen: &mut Seen) -> usize {
    while let Some(line) = value_line(&bytes[at..]) {
        let next = at as u64 + line.end as u64 + line.value_size + 2;
        if next > limits.response_size_max as u64 {
            break;
        }
        let next = next as usize;
        if bytes.get(next - 2..next) != Some(b"\r\n") {
            break;
        }
        notice_value(seen, &bytes[at + VALUE.len()..][..line.key_size]);
        at = next;
    }
    at
}

/// The last line of nearly all responses: its size, and the classes of responses that it means.
#[inline]
fn usual_end(rest: &[u8], alone: bool) -> Option<(usize, u16)> {
    if rest.starts_with(b"END\r\n") {
        return Some((5, class::VALUES));
    }
    (alone && rest.starts_with(b"STORED\r\n")).then_some((8, class::STORED))
}

/// No line that [`value_line`] reads is longer: VALUE, a key, and three numbers, with its end.
const USUAL_LINE_SIZE_MAX: usize = VALUE.len() + KEY_SIZE_MAX + 3 * 21 + 2;

/// Notes a block; of several, none is the one that a request of one key asked for.
#[inline]
fn notice_value(seen: &mut Seen, key: &[u8]) {
    seen.key_check = if seen.key_check == 0 { key_check(key) } else { KEY_CHECK_SEVERAL };
}

/// The classes of responses that the last line means. Values may be followed by their end, or by
/// what kept the server from the next one.
fn classes_of_end(kind: Kind, alone: bool) -> Result<u16, &'static str> {
    match kind {
        Kind::End => Ok(class::VALUES),
        Kind::Error if alone => Ok(class::ALL),
        Kind::Error => Ok(class::VALUES),
        Kind::Word(classes) if alone => Ok(classes),
        Kind::Word(_) | Kind::Meta { .. } => Err("values are not followed by END"),
        Kind::Value { .. } | Kind::Unknown => Err("unknown response"),
    }
}

/// A line of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    kind: Kind,
    /// Bytes of the line with its end.
    size: usize,
}

enum Stop {
    /// The line has no end yet.
    Short,
    Broken(&'static str),
}

/// Reads the line at the beginning, in the first `searched` bytes of which there is no line end.
fn any_line(rest: &[u8], searched: usize, limits: &Limits) -> Result<Line, Stop> {
    let end = memchr::memchr(b'\n', &rest[searched..]).map(|offset| searched + offset);
    if end.unwrap_or(rest.len()) > limits.line_size_max {
        return Err(Stop::Broken("line too long"));
    }
    let line = &rest[..end.ok_or(Stop::Short)? + 1];
    let Some(text) = line.strip_suffix(b"\r\n") else {
        return Err(Stop::Broken("line ends in a bare LF"));
    };
    let kind = match text.starts_with(VALUE) {
        true => value_line(line).map_or(Kind::Unknown, |line| Kind::Value {
            key_size: line.key_size,
            size: line.value_size,
        }),
        false => Kind::of(text),
    };
    Ok(Line { kind, size: line.len() })
}

/// What stands behind the line of a block.
#[derive(Debug, Clone, Copy)]
enum Block {
    Value { key_size: usize },
    Meta(Seen),
}

/// What a line of a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The head of a block of `size` bytes; the key stands behind [`VALUE`].
    Value {
        key_size: usize,
        size: u64,
    },
    End,
    /// Everything in one line; the bits are the classes of responses that it may be.
    Word(u16),
    /// The line of a response to a meta command, with the size of the block that follows it.
    Meta {
        size: Option<u64>,
        seen: Seen,
    },
    Error,
    Unknown,
}

impl Kind {
    /// Of a line that does not begin with [`VALUE`], without its end.
    fn of(line: &[u8]) -> Kind {
        // To a client, a CR on its own might be a line end.
        if line.contains(&b'\r') {
            return Kind::Unknown;
        }
        let spaces = line.iter().rev().take_while(|&&byte| byte == b' ').count();
        let line = &line[..line.len() - spaces];
        let mut words = line.split(|&byte| byte == b' ');
        let word = words.next().unwrap_or_default();
        let alone = word.len() == line.len();
        match word {
            b"END" if alone => Kind::End,
            b"STORED" | b"NOT_STORED" | b"EXISTS" if alone => Kind::Word(class::STORED),
            b"NOT_FOUND" if alone => {
                Kind::Word(class::STORED | class::DELETED | class::TOUCHED | class::NUMBER)
            }
            b"DELETED" if alone => Kind::Word(class::DELETED),
            b"TOUCHED" if alone => Kind::Word(class::TOUCHED),
            b"OK" if alone => Kind::Word(class::OK),
            b"RESET" if alone => Kind::Word(0),
            b"VERSION" => Kind::Word(class::VERSION),
            b"MN" if alone => Kind::Word(0),
            &[a @ b'A'..=b'Z', b @ b'A'..=b'Z'] => meta_line([a, b], words),
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

/// Reads the line of a response to a meta command; `words` is behind the code.
#[cold]
fn meta_line<'a>(code: [u8; 2], mut words: impl Iterator<Item = &'a [u8]>) -> Kind {
    use class::{META_ARITHMETIC, META_DEBUG, META_DELETE, META_GET, META_SET};
    let classes = match &code {
        b"VA" => META_GET | META_ARITHMETIC,
        b"HD" => META_GET | META_SET | META_DELETE | META_ARITHMETIC,
        b"EN" => META_GET | META_DEBUG,
        b"NF" => META_SET | META_DELETE | META_ARITHMETIC,
        b"NS" => META_SET | META_ARITHMETIC,
        b"EX" => META_SET | META_DELETE | META_ARITHMETIC,
        b"ME" => META_DEBUG,
        _ => return Kind::Unknown,
    };
    let mut size = None;
    if &code == b"VA" {
        let field = words.next().and_then(decimal::unsigned_field);
        let Some(field) = field.filter(|field| field.canonical) else { return Kind::Unknown };
        if field.value > u64::from(u32::MAX) {
            return Kind::Unknown;
        }
        size = Some(field.value);
    }
    let key_check = match &code {
        // The key, and words that are no flags.
        b"ME" => 0,
        b"VA" | b"HD" => meta::echo(words).unwrap_or(NO_ECHO),
        // Before 1.6.18, memcached did not echo anything with a miss.
        _ => meta::echo(words).unwrap_or(0),
    };
    Kind::Meta { size, seen: Seen { classes, key_check } }
}

/// What the head of a block begins with.
const VALUE: &[u8] = b"VALUE ";

/// The head of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ValueLine {
    /// Bytes of the key, which stands behind [`VALUE`].
    key_size: usize,
    value_size: u64,
    /// Where the value begins.
    end: usize,
}

/// Reads `VALUE key flags bytes [unique]` and the line end. Nothing when it is something else, or
/// is not whole.
#[inline]
fn value_line(rest: &[u8]) -> Option<ValueLine> {
    let fields = rest.strip_prefix(VALUE)?;
    let key_size = key_size(fields);
    if key_size == 0 || key_size > KEY_SIZE_MAX {
        return None;
    }
    let (value_size, end) = value_numbers(rest, VALUE.len() + key_size)?;
    Some(ValueLine { key_size, value_size, end })
}

/// Reads what follows the key, from `at` on: flags, the size of the value, perhaps a unique number,
/// and the line end. The size, and where the value begins.
#[inline(always)]
fn value_numbers(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    // Nearly all flags are of one digit, and nearly all sizes of a few, with nothing behind them.
    if let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk)
        && let Some(size) = two_digits(u64::from_le_bytes(*chunk))
    {
        return Some((size, at + 7));
    }
    any_value_numbers(bytes, at)
}

/// Reads ` F NN CR LF`, of which F is one digit and N are two, from the lower bytes of a word.
#[inline(always)]
fn two_digits(word: u64) -> Option<u64> {
    const SHAPE: u64 = u64::from_le_bytes(*b" \0 \0\0\r\n\0");
    const DIGITS: u64 = u64::from_le_bytes([0, 0xff, 0, 0xff, 0xff, 0, 0, 0xff]);
    let digit = |i: u32| ((word >> (8 * i)) as u8).wrapping_sub(b'0');
    let (flags, tens, ones) = (digit(1), digit(3), digit(4));
    let good = word & !DIGITS == SHAPE && flags <= 9 && tens.wrapping_sub(1) <= 8 && ones <= 9;
    good.then_some(u64::from(tens) * 10 + u64::from(ones))
}

/// The same of any line; a function of its own, so that it costs the usual line no registers.
#[inline(never)]
fn any_value_numbers(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let rest = bytes.get(at..)?;
    if let [b' ', b'0'..=b'9', b' ', digits @ ..] = rest
        && let Some((size, line_end)) = decimal::short_line(digits)
    {
        return Some((size, at + 3 + line_end));
    }
    let number_at = |at: usize| match bytes.get(at) {
        Some(b' ') => decimal::number(bytes, at + 1),
        _ => None,
    };
    // Some servers have flags of 64 bits.
    let (_flags, at) = number_at(at)?;
    let (size, mut at) = number_at(at)?;
    if bytes.get(at) == Some(&b' ') {
        (_, at) = number_at(at)?;
    }
    let good = bytes.get(at..at + 2) == Some(b"\r\n") && size <= u64::from(u32::MAX);
    good.then_some((size, at + 2))
}

/// Whether a block stands at the beginning of what is left of a response.
pub(super) fn is_block(rest: &[u8]) -> bool {
    rest.starts_with(VALUE)
}

/// Bytes of the block at the beginning of what is left of a framed response, its line and line ends
/// included, when it is one of this key. Nothing is searched for: the key says where it ends.
#[inline]
pub(super) fn block_size(rest: &[u8], key: &[u8]) -> Option<usize> {
    rest.strip_prefix(VALUE)?.strip_prefix(key)?;
    let (size, end) = value_numbers(rest, VALUE.len() + key.len())?;
    Some(end + size as usize + 2)
}

/// The check sum that stands for a key in [`Expect`]. It is there to see a server out of step, not
/// to withstand anyone. Not zero, [`NO_ECHO`] or
/// [`KEY_CHECK_SEVERAL`].
#[inline]
pub(crate) fn key_check(key: &[u8]) -> u32 {
    let mut sum = key.len() as u64;
    let mut mix = |word: u64| {
        let product = u128::from(sum ^ word) * 0x9E37_79B9_7F4A_7C15;
        sum = product as u64 ^ (product >> 64) as u64;
    };
    let (chunks, tail) = key.as_chunks::<8>();
    chunks.iter().for_each(|&chunk| mix(u64::from_le_bytes(chunk)));
    match key.last_chunk::<8>() {
        Some(&last) => mix(u64::from_le_bytes(last)),
        None => mix(tail.iter().fold(0, |word, &byte| word << 8 | u64::from(byte))),
    }
    ((sum >> 32) as u32 ^ sum as u32).clamp(1, NO_ECHO - 1)
}

/// Stands for an opaque token and a key that a meta command did not ask to be echoed.
pub(crate) const NO_ECHO: u32 = u32::MAX - 1;

/// Stands for the keys of more blocks than one in [`Seen`]: what no key has.
const KEY_CHECK_SEVERAL: u32 = u32::MAX;

/// See [`crate::Protocol::accepts_framed`].
#[inline]
pub(crate) fn accepts(expect: Expect, seen: Seen) -> bool {
    if expect.class == 0 {
        return true;
    }
    let key_right =
        expect.key_check == 0 || seen.key_check == 0 || seen.key_check == expect.key_check;
    expect.class & seen.classes != 0 && key_right
}

/// Whether the last line of a response is an error.
pub(super) fn is_error(line: &[u8]) -> bool {
    line.strip_suffix(b"\r\n").map(Kind::of) == Some(Kind::Error)
}

#[cfg(test)]
mod tests;
