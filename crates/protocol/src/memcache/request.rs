//! The request parser: finds the end of a request, checks every field of its line, and says where
//! it goes. Invariant: a request that is forwarded is one that the server frames as it was framed
//! here and answers with exactly one response; a line in any but the canonical form is rewritten.
//!
//! As soon as the length of a data block can be read, its bytes are taken to follow, whatever else
//! is wrong with the line: one error answers for both. Each byte of a line is looked at twice at
//! most to find its end, and twice to read it; a data block is never looked at.

use crate::decimal::{self, Field};
use crate::memcache::commands::{self, Row, Shape};
use crate::memcache::line::{Line, Words};
use crate::memcache::{is_key, meta, response, usual};
use crate::{
    Expect, Forward, KeySpan, Limits, Parsed, Quiet, Request, RequestState, Route, Scratch, Span,
    Then,
};

/// memcached refuses longer blocks as if their length were no number.
const BLOCK_SIZE_MAX: u64 = i32::MAX as u64 - 2;

/// memcached closes a connection on which a longer line does not come at once, those that begin
/// with `get` and `gets` excepted.
pub(super) const SERVER_LINE_SIZE_MAX: usize = 2048;

/// First byte of each request of the binary protocol.
const BINARY_MAGIC: u8 = 0x80;

pub(super) const FORMAT: &str = "CLIENT_ERROR bad command line format";
pub(super) const UNKNOWN: &str = "ERROR";

/// See [`crate::Protocol::parse_request`].
#[inline]
pub fn parse(
    state: &mut RequestState,
    bytes: &[u8],
    limits: &Limits,
    scratch: &mut Scratch,
) -> Parsed {
    if state.scanned == 0
        && let Some(parsed) = usual::parse(bytes, limits, scratch)
    {
        debug_assert_eq!(*state, RequestState::default());
        return parsed;
    }
    parse_any(state, bytes, limits, scratch)
}

/// The general parser.
pub(super) fn parse_any(
    state: &mut RequestState,
    bytes: &[u8],
    limits: &Limits,
    scratch: &mut Scratch,
) -> Parsed {
    if bytes.len() < state.wanted as usize {
        return Parsed::Incomplete { need: state.wanted as usize - bytes.len() };
    }
    scratch.begin();
    // The binary protocol has no lines; whoever speaks it would wait for ever.
    if bytes.first() == Some(&BINARY_MAGIC) {
        return Parsed::Reply { size: 1, then: Then::Close, fault: true };
    }
    let from = state.scanned as usize;
    let end = memchr::memchr(b'\n', &bytes[from..]).map(|offset| from + offset);
    let size = end.unwrap_or(bytes.len());
    if size > limits.line_size_max.min(limits.request_size_max)
        && is_line_too_long(bytes, size, limits)
    {
        *state = RequestState::default();
        return Answer { text: "CLIENT_ERROR line too long", size, quiet: false }.close(scratch);
    }
    let Some(end) = end else {
        state.scanned = bytes.len() as u32;
        return Parsed::Incomplete { need: 1 };
    };
    let parsed = parse_line(bytes, end, limits, scratch);
    *state = match parsed {
        Parsed::Incomplete { need } => RequestState {
            scanned: end as u32,
            arguments_left: 0,
            wanted: (bytes.len() + need) as u32,
        },
        _ => RequestState::default(),
    };
    parsed
}

/// Lines of many keys may be as long as a request, others not as long. Looks at the first bytes
/// only, because it may be called for each byte that comes.
#[cold]
fn is_line_too_long(bytes: &[u8], size: usize, limits: &Limits) -> bool {
    let start = bytes.iter().take(LEADING_SPACES_MAX).take_while(|&&byte| byte == b' ').count();
    let is_of_keys = [b"get ".as_slice(), b"gets ", b"gat ", b"gats "]
        .iter()
        .any(|name| bytes[start..].starts_with(name));
    size > limits.request_size_max || !is_of_keys
}

/// Spaces that may stand before the name in a line that is longer than others.
const LEADING_SPACES_MAX: usize = 64;

/// An answer that is a line of text, or nothing to one who wants no answer.
pub(super) struct Answer<'a> {
    pub(super) text: &'a str,
    pub(super) size: usize,
    pub(super) quiet: bool,
}

impl Answer<'_> {
    #[cold]
    pub(super) fn error(self, scratch: &mut Scratch) -> Parsed {
        self.write(scratch);
        Parsed::Reply { size: self.size, then: Then::Continue, fault: true }
    }

    #[cold]
    fn close(self, scratch: &mut Scratch) -> Parsed {
        self.write(scratch);
        Parsed::Reply { size: self.size, then: Then::Close, fault: true }
    }

    #[cold]
    fn good(self, scratch: &mut Scratch) -> Parsed {
        self.write(scratch);
        Parsed::Reply { size: self.size, then: Then::Continue, fault: false }
    }

    fn write(&self, scratch: &mut Scratch) {
        if !self.quiet && !self.text.is_empty() {
            scratch.reply.extend_from_slice(self.text.as_bytes());
            scratch.reply.extend_from_slice(b"\r\n");
        }
    }
}

#[inline]
fn parse_line(bytes: &[u8], end: usize, limits: &Limits, scratch: &mut Scratch) -> Parsed {
    let mut words = Words::new(bytes, end);
    let name = words.next().map_or(&[][..], |span| &bytes[span.range()]);
    let Some(index) = commands::find(name) else {
        return parse_other(name, bytes, end, scratch);
    };
    let row = &commands::ROWS[index];
    if let Shape::Keys { exptime } = row.shape {
        return parse_keys(exptime, index, words, bytes, limits, scratch);
    }
    if let Shape::Meta { .. } = row.shape {
        return meta::parse(index, words, bytes, limits, scratch);
    }
    let line = Line::cut(bytes, end);
    match row.shape {
        Shape::Keys { .. } | Shape::Meta { .. } => unreachable!("handled above"),
        Shape::Store { unique } => parse_store(unique, index, &line, bytes, limits, scratch),
        Shape::Delete => parse_delete(index, &line, bytes, scratch),
        Shape::Arithmetic | Shape::Touch => parse_number(index, &line, bytes, scratch),
        Shape::Flush => parse_flush(index, &line, bytes, scratch),
        // Like memcached, whatever follows the word does not matter.
        Shape::Version => {
            let mut forward = Forward::Verbatim;
            if !line.canonical || line.count > 1 {
                push_word(scratch, line.word(bytes, 0));
                forward = end_line(scratch, Span::default());
            }
            Parsed::Request(request(index, line.size, forward, Route::Any, Quiet::No))
        }
    }
}

#[inline]
pub(super) fn request(
    index: usize,
    size: usize,
    forward: Forward,
    route: Route,
    quiet: Quiet,
) -> Request {
    let Row { class, .. } = commands::ROWS[index];
    let command = &commands::all()[index];
    Request { size, command, forward, route, expect: Expect { class, key_check: 0 }, quiet }
}

/// What `noreply` asks for.
#[inline]
fn silence(quiet: bool) -> Quiet {
    if quiet { Quiet::All } else { Quiet::No }
}

/// Appends a word to a line that is being written.
pub(super) fn push_word(scratch: &mut Scratch, word: &[u8]) {
    if !scratch.rewritten.is_empty() {
        scratch.rewritten.push(b' ');
    }
    scratch.rewritten.extend_from_slice(word);
}

/// Appends a number to a line that is being written.
pub(super) fn push_number(scratch: &mut Scratch, value: impl itoa::Integer) {
    scratch.rewritten.push(b' ');
    decimal::push(&mut scratch.rewritten, value);
}

/// Ends a line that is being written; `tail` follows it.
pub(super) fn end_line(scratch: &mut Scratch, tail: Span) -> Forward {
    scratch.rewritten.extend_from_slice(b"\r\n");
    Forward::Rewritten { tail }
}

/// `words` is behind the name.
#[inline]
fn parse_keys(
    exptime: bool,
    index: usize,
    mut words: Words<'_>,
    bytes: &[u8],
    limits: &Limits,
    scratch: &mut Scratch,
) -> Parsed {
    let size = words.size();
    let fault = |text| Answer { text, size, quiet: false };
    let mut exptime_field = None;
    if exptime {
        let Some(word) = words.next() else {
            return fault(UNKNOWN).error(scratch);
        };
        exptime_field = decimal::signed_field(&bytes[word.range()]);
        if exptime_field.is_none() {
            return fault("CLIENT_ERROR invalid exptime argument").error(scratch);
        }
    }
    let Some(first) = words.next() else {
        return fault(UNKNOWN).error(scratch);
    };
    let mut next = Some(first);
    while let Some(key) = next {
        if !is_key(&bytes[key.range()]) {
            return fault(FORMAT).error(scratch);
        }
        next = words.next();
        // One key alone is not noted: it is in the route.
        if next.is_some() || !scratch.keys.is_empty() {
            scratch.keys.push(KeySpan { key, element: key });
            if scratch.keys.len() > limits.arguments_max {
                return fault("CLIENT_ERROR too many keys").error(scratch);
            }
        }
    }
    let mut forward = Forward::Verbatim;
    if !words.canonical() || exptime_field.is_some_and(|field| !field.canonical) {
        forward = rewrite_keys(index, exptime_field, first, bytes, scratch);
    }
    if exptime && size.max(scratch.rewritten.len()) > SERVER_LINE_SIZE_MAX {
        return fault("CLIENT_ERROR line too long").error(scratch);
    }
    if !scratch.keys.is_empty() {
        return Parsed::Request(request(index, size, forward, Route::Split, Quiet::No));
    }
    let mut request = request(index, size, forward, Route::Key(first), Quiet::No);
    request.expect.key_check = response::key_check(&bytes[first.range()]);
    Parsed::Request(request)
}

/// Writes a line of keys in its canonical form.
#[cold]
fn rewrite_keys(
    index: usize,
    exptime: Option<Field<i32>>,
    first: Span,
    bytes: &[u8],
    scratch: &mut Scratch,
) -> Forward {
    push_word(scratch, commands::ROWS[index].name.as_bytes());
    if let Some(exptime) = exptime {
        push_number(scratch, exptime.value);
    }
    if scratch.keys.is_empty() {
        push_word(scratch, &bytes[first.range()]);
    }
    for i in 0..scratch.keys.len() {
        let key = scratch.keys[i].key;
        push_word(scratch, &bytes[key.range()]);
    }
    end_line(scratch, Span::default())
}

fn parse_store(
    unique: bool,
    index: usize,
    line: &Line,
    bytes: &[u8],
    limits: &Limits,
    scratch: &mut Scratch,
) -> Parsed {
    let fields_count = 5 + usize::from(unique);
    let quiet = line.is_quiet(bytes) && (5..=fields_count + 1).contains(&line.count);
    let of_line = |text| Answer { text, size: line.size, quiet };
    if line.count < 5 {
        return of_line(UNKNOWN).error(scratch);
    }
    let (length, size) = match block_of(line.word(bytes, 4), line.size, quiet, limits, scratch) {
        Ok(block) => block,
        Err(parsed) => return parsed,
    };
    let whole = |text| Answer { text, size, quiet };
    if line.count < fields_count || line.count > fields_count + 1 {
        return whole(UNKNOWN).error(scratch);
    }
    let flags = decimal::unsigned_field(line.word(bytes, 2));
    let exptime = decimal::signed_field(line.word(bytes, 3));
    let cas = match unique {
        true => decimal::unsigned_field(line.word(bytes, 5)),
        false => Some(Field { value: 0, canonical: true }),
    };
    let (Some(flags), Some(exptime), Some(cas)) = (flags, exptime, cas) else {
        return whole(FORMAT).error(scratch);
    };
    if !is_key(line.word(bytes, 1)) || flags.value > u64::from(u32::MAX) {
        return whole(FORMAT).error(scratch);
    }
    match bytes.get(size - 2..size) {
        Some(b"\r\n") => {}
        Some(_) => return whole("CLIENT_ERROR bad data chunk").error(scratch),
        None => return Parsed::Incomplete { need: size - bytes.len() },
    }
    let canonical = line.canonical && line.count == fields_count;
    let fields_canonical =
        flags.canonical && exptime.canonical && length.canonical && cas.canonical;
    let mut forward = Forward::Verbatim;
    if !canonical || !fields_canonical {
        push_word(scratch, line.word(bytes, 0));
        push_word(scratch, line.word(bytes, 1));
        push_number(scratch, flags.value);
        push_number(scratch, exptime.value);
        push_number(scratch, length.value);
        if unique {
            push_number(scratch, cas.value);
        }
        let block = Span { start: line.size as u32, end: size as u32 };
        forward = end_line(scratch, block);
    }
    Parsed::Request(request(index, size, forward, Route::Key(line.span(1)), silence(quiet)))
}

/// What a word says of the data block behind the line: its length, and the size of both.
#[inline]
pub(super) fn block_of(
    word: &[u8],
    line_size: usize,
    quiet: bool,
    limits: &Limits,
    scratch: &mut Scratch,
) -> Result<(Field<u64>, usize), Parsed> {
    let of_line = Answer { text: FORMAT, size: line_size, quiet };
    let Some(length) = decimal::unsigned_field(word) else {
        // A number that is too large to be read is followed by something, but none can wait for it.
        return Err(match word.iter().all(u8::is_ascii_digit) {
            true => of_line.close(scratch),
            false => of_line.error(scratch),
        });
    };
    if length.value > BLOCK_SIZE_MAX {
        return Err(of_line.close(scratch));
    }
    let size = line_size + length.value as usize + 2;
    if size > limits.request_size_max {
        let text = "SERVER_ERROR object too large for cache";
        return Err(Answer { text, size, quiet }.error(scratch));
    }
    Ok((length, size))
}

fn parse_delete(index: usize, line: &Line, bytes: &[u8], scratch: &mut Scratch) -> Parsed {
    let quiet = line.is_quiet(bytes) && (3..=4).contains(&line.count);
    let fault = |text| Answer { text, size: line.size, quiet };
    if !(2..=4).contains(&line.count) {
        return fault(UNKNOWN).error(scratch);
    }
    // Old clients send a time, which may only be zero.
    let time_count = line.count - 2 - usize::from(quiet);
    if time_count > 1 || (time_count == 1 && line.word(bytes, 2) != b"0") {
        let text = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";
        return fault(text).error(scratch);
    }
    if !is_key(line.word(bytes, 1)) {
        return fault(FORMAT).error(scratch);
    }
    let mut forward = Forward::Verbatim;
    if !line.canonical || line.count > 2 {
        push_word(scratch, line.word(bytes, 0));
        push_word(scratch, line.word(bytes, 1));
        forward = end_line(scratch, Span::default());
    }
    Parsed::Request(request(index, line.size, forward, Route::Key(line.span(1)), silence(quiet)))
}

/// Commands of a key and a number.
fn parse_number(index: usize, line: &Line, bytes: &[u8], scratch: &mut Scratch) -> Parsed {
    let quiet = line.is_quiet(bytes) && (3..=4).contains(&line.count);
    let fault = |text| Answer { text, size: line.size, quiet };
    if !(3..=4).contains(&line.count) {
        return fault(UNKNOWN).error(scratch);
    }
    if !is_key(line.word(bytes, 1)) {
        return fault(FORMAT).error(scratch);
    }
    let number = line.word(bytes, 2);
    let exptime = commands::ROWS[index].shape == Shape::Touch;
    let field = match exptime {
        true => decimal::signed_field(number)
            .map(|field| Field { value: field.value as u64, canonical: field.canonical }),
        false => decimal::unsigned_field(number),
    };
    let Some(field) = field else {
        let text = match exptime {
            true => "CLIENT_ERROR invalid exptime argument",
            false => "CLIENT_ERROR invalid numeric delta argument",
        };
        return fault(text).error(scratch);
    };
    let mut forward = Forward::Verbatim;
    if !line.canonical || line.count > 3 || !field.canonical {
        push_word(scratch, line.word(bytes, 0));
        push_word(scratch, line.word(bytes, 1));
        match exptime {
            true => push_number(scratch, field.value as i32),
            false => push_number(scratch, field.value),
        }
        forward = end_line(scratch, Span::default());
    }
    Parsed::Request(request(index, line.size, forward, Route::Key(line.span(1)), silence(quiet)))
}

#[cold]
fn parse_flush(index: usize, line: &Line, bytes: &[u8], scratch: &mut Scratch) -> Parsed {
    let quiet = line.is_quiet(bytes) && line.count <= 3;
    let fault = |text| Answer { text, size: line.size, quiet };
    if line.count > 3 {
        return fault(UNKNOWN).error(scratch);
    }
    let mut delay = None;
    if line.count > 1 + usize::from(quiet) {
        delay = decimal::signed_field(line.word(bytes, 1));
        if delay.is_none() {
            return fault("CLIENT_ERROR invalid exptime argument").error(scratch);
        }
    }
    let mut forward = Forward::Verbatim;
    let words_count = 1 + usize::from(delay.is_some());
    let canonical = line.canonical && line.count == words_count;
    if !canonical || delay.is_some_and(|delay| !delay.canonical) {
        push_word(scratch, line.word(bytes, 0));
        if let Some(delay) = delay {
            push_number(scratch, delay.value);
        }
        forward = end_line(scratch, Span::default());
    }
    Parsed::Request(request(index, line.size, forward, Route::Everywhere, silence(quiet)))
}

/// Everything that no server sees.
#[cold]
fn parse_other(name: &[u8], bytes: &[u8], end: usize, scratch: &mut Scratch) -> Parsed {
    let line = Line::cut(bytes, end);
    let size = line.size;
    let quiet = line.is_quiet(bytes) && line.count >= 2;
    let answer = |text| Answer { text, size, quiet };
    match name {
        b"quit" => Parsed::Reply { size, then: Then::Close, fault: false },
        b"verbosity" if line.count < 2 => answer(UNKNOWN).error(scratch),
        b"verbosity" => match decimal::unsigned_field(line.word(bytes, 1)) {
            Some(_) => answer("OK").good(scratch),
            None => answer(FORMAT).error(scratch),
        },
        // It comes in its turn, so everything before it is answered then, which is all it says.
        b"mn" => Answer { text: "MN", size, quiet: false }.good(scratch),
        // A browser was made to send this; it must not be led on to send more.
        _ if Words::new(bytes, end)
            .last()
            .is_some_and(|word| bytes[word.range()].starts_with(b"HTTP/")) =>
        {
            Parsed::Reply { size, then: Then::Close, fault: true }
        }
        _ => Answer { text: UNKNOWN, size, quiet: false }.error(scratch),
    }
}

#[cfg(test)]
mod tests;
