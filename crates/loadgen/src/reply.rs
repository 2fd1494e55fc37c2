//! Replies as the client sees them, in each of the four protocols.
//!
//! It is a parser of its own, so that a fault of the proxy's parser is not shared by what checks
//! the proxy. Invariant: a reply is read only when it is whole, and no byte of the next one is
//! touched.

use crate::workload::file::Wire;

/// What stands at the beginning of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// Not yet a whole reply.
    Incomplete,
    /// A reply that takes so many bytes.
    Whole(usize, Reply<'a>),
    /// Not a reply; nothing that follows can be understood.
    Broken(&'static str),
}

/// A reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Done: +OK, STORED, DELETED, TOUCHED, HD, +PONG, VERSION, MN.
    Done,
    /// Not done, since the condition did not hold: NOT_STORED, NS, EXISTS.
    NotStored,
    /// There is no such key: a null, NOT_FOUND, END without a value, EN, NF.
    Miss,
    /// One value; the key, where the protocol repeats it.
    Value {
        /// As the server wrote it.
        key: Option<&'a [u8]>,
        /// The value.
        bytes: &'a [u8],
    },
    /// Several values: to be read with [`Elements`].
    Many(Elements<'a>),
    /// A number.
    Number(i64),
    /// An error; the text of its line.
    Error(&'a [u8]),
    /// A message that answers no request (RESP3's push). It takes no place in the order.
    Push,
    /// Any other well-formed reply.
    Other,
}

/// The elements of [`Reply::Many`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elements<'a> {
    wire: Wire,
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Elements<'a> {
    /// How many; for memcache only those that exist.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes the next one: a value, or a miss where the protocol lists it.
    pub fn take(&mut self) -> Option<Reply<'a>> {
        if self.count == 0 {
            return None;
        }
        self.count -= 1;
        let (size, reply) = match self.wire {
            Wire::Redis | Wire::Redis3 => match redis(self.bytes, self.wire) {
                Read::Whole(size, reply) => (size, reply),
                _ => return None,
            },
            _ => memcache_value(self.bytes)?,
        };
        self.bytes = &self.bytes[size..];
        Some(reply)
    }
}

/// Reads the reply at the beginning of `bytes`.
#[inline]
pub fn read(wire: Wire, bytes: &[u8]) -> Read<'_> {
    match wire {
        Wire::Redis | Wire::Redis3 => redis(bytes, wire),
        Wire::Memcache => memcache(bytes),
        Wire::Meta => meta(bytes),
    }
}

/// A longer line is no reply.
const LINE_SIZE_MAX: usize = 64 << 10;
/// A larger value is none that a cache would hold.
const VALUE_SIZE_MAX: usize = 64 << 20;
/// More elements are none that we have asked for.
const ELEMENTS_MAX: u64 = 1 << 20;
/// Nesting of RESP3's replies, such as HELLO's.
const DEPTH_MAX: usize = 8;

enum Line<'a> {
    Short,
    Bad,
    /// The text, and where the next line begins.
    Whole(&'a [u8], usize),
}

#[inline]
fn line(bytes: &[u8], start: usize) -> Line<'_> {
    let rest = &bytes[start..];
    match memchr::memchr(b'\n', rest) {
        Some(end) if end > 0 && rest[end - 1] == b'\r' => {
            Line::Whole(&rest[..end - 1], start + end + 1)
        }
        Some(_) => Line::Bad,
        None if rest.len() > LINE_SIZE_MAX => Line::Bad,
        None => Line::Short,
    }
}

fn integer(text: &[u8]) -> Option<i64> {
    let (digits, negative) = match text {
        [b'-', rest @ ..] => (rest, true),
        _ => (text, false),
    };
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let mut value: i64 = 0;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i64::from(digit))?;
    }
    Some(if negative { -value } else { value })
}

/// The block of `size` bytes and its line end, from `start`.
fn block(bytes: &[u8], start: usize, size: usize) -> Option<Result<&[u8], ()>> {
    let end = bytes.get(start + size..start + size + 2)?;
    Some(if end == b"\r\n" { Ok(&bytes[start..start + size]) } else { Err(()) })
}

/// A bulk string whose length has at most four digits, which most replies are, without a search
/// for the end of the line. `None` for all else, and for what is not whole.
#[inline]
fn short_bulk(bytes: &[u8]) -> Option<Read<'_>> {
    if bytes.first() != Some(&b'$') {
        return None;
    }
    let (mut at, mut size) = (1, 0);
    while let Some(digit @ 0..=9) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')) {
        size = size * 10 + digit as usize;
        at += 1;
        if at > 5 {
            return None;
        }
    }
    let end = at + 2 + size;
    if at == 1 || bytes.len() < end + 2 {
        return None;
    }
    let line_ends = bytes[at..at + 2] == *b"\r\n" && bytes[end..end + 2] == *b"\r\n";
    let reply = Reply::Value { key: None, bytes: &bytes[at + 2..end] };
    line_ends.then_some(Read::Whole(end + 2, reply))
}

#[inline]
fn redis(bytes: &[u8], wire: Wire) -> Read<'_> {
    if let Some(read) = short_bulk(bytes) {
        return read;
    }
    if bytes.starts_with(b"+OK\r\n") {
        return Read::Whole(5, Reply::Done);
    }
    any_redis(bytes, wire)
}

fn any_redis(bytes: &[u8], wire: Wire) -> Read<'_> {
    let Some(&kind) = bytes.first() else {
        return Read::Incomplete;
    };
    let (text, next) = match line(bytes, 1) {
        Line::Short => return Read::Incomplete,
        Line::Bad => return Read::Broken("a line does not end in CR LF"),
        Line::Whole(text, next) => (text, next),
    };
    match kind {
        b'$' | b'=' => match integer(text) {
            Some(-1) => Read::Whole(next, Reply::Miss),
            Some(size @ 0..) if size as usize <= VALUE_SIZE_MAX => {
                match block(bytes, next, size as usize) {
                    None => Read::Incomplete,
                    Some(Ok(value)) => Read::Whole(
                        next + value.len() + 2,
                        Reply::Value { key: None, bytes: value },
                    ),
                    Some(Err(())) => Read::Broken("no line end after a value"),
                }
            }
            _ => Read::Broken("a bulk length is no number"),
        },
        b'+' => Read::Whole(next, Reply::Done),
        b'-' => Read::Whole(next, Reply::Error(text)),
        b':' => match integer(text) {
            Some(number) => Read::Whole(next, Reply::Number(number)),
            None => Read::Broken("an integer is no number"),
        },
        b'_' if text.is_empty() => Read::Whole(next, Reply::Miss),
        b'#' | b',' | b'(' => Read::Whole(next, Reply::Other),
        b'*' | b'~' | b'%' | b'>' => redis_elements(bytes, wire, kind, text, next),
        _ => Read::Broken("unknown type of reply"),
    }
}

fn redis_elements<'a>(
    bytes: &'a [u8],
    wire: Wire,
    kind: u8,
    text: &[u8],
    start: usize,
) -> Read<'a> {
    let count = match integer(text) {
        Some(-1) if kind == b'*' => return Read::Whole(start, Reply::Miss),
        Some(count @ 0..) if (count as u64) <= ELEMENTS_MAX => count as usize,
        _ => return Read::Broken("an array's length is no number"),
    };
    let fields = if kind == b'%' { count * 2 } else { count };
    let end = match skip(bytes, start, fields, 0) {
        Ok(Some(end)) => end,
        Ok(None) => return Read::Incomplete,
        Err(why) => return Read::Broken(why),
    };
    let reply = match kind {
        b'*' => Reply::Many(Elements { wire, count, bytes: &bytes[start..end] }),
        b'>' => Reply::Push,
        _ => Reply::Other,
    };
    Read::Whole(end, reply)
}

/// Where `count` elements that begin at `start` end.
fn skip(
    bytes: &[u8],
    mut start: usize,
    count: usize,
    depth: usize,
) -> Result<Option<usize>, &'static str> {
    if depth > DEPTH_MAX {
        return Err("nested too deep");
    }
    for _ in 0..count {
        let Some(&kind) = bytes.get(start) else {
            return Ok(None);
        };
        let (text, next) = match line(bytes, start + 1) {
            Line::Short => return Ok(None),
            Line::Bad => return Err("a line does not end in CR LF"),
            Line::Whole(text, next) => (text, next),
        };
        start = match (kind, integer(text)) {
            (b'$' | b'*', Some(-1)) => next,
            (b'$' | b'=', Some(size @ 0..)) if size as usize <= VALUE_SIZE_MAX => {
                match block(bytes, next, size as usize) {
                    None => return Ok(None),
                    Some(Ok(value)) => next + value.len() + 2,
                    Some(Err(())) => return Err("no line end after a value"),
                }
            }
            (b'*' | b'~' | b'%', Some(count @ 0..)) if (count as u64) <= ELEMENTS_MAX => {
                let fields = count as usize * if kind == b'%' { 2 } else { 1 };
                match skip(bytes, next, fields, depth + 1)? {
                    None => return Ok(None),
                    Some(end) => end,
                }
            }
            (b'+' | b'-' | b'_' | b'#' | b',' | b'(', _) | (b':', Some(_)) => next,
            _ => return Err("unknown type of reply"),
        };
    }
    Ok(Some(start))
}

/// The version number in a reply to `gets` or `mg ... c`, if it has one.
pub fn unique(wire: Wire, reply: &[u8]) -> Option<u64> {
    let Line::Whole(text, _) = line(reply, 0) else { return None };
    let mut fields = text.split(|&byte| byte == b' ');
    let digits = match wire {
        Wire::Memcache if fields.next()? == b"VALUE" => fields.nth(3)?,
        Wire::Meta if fields.next()? == b"VA" => {
            fields.skip(1).find_map(|flag| flag.strip_prefix(b"c"))?
        }
        _ => return None,
    };
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// One `VALUE key flags size` block: its size and its value. `None` when it is not whole.
fn memcache_value(bytes: &[u8]) -> Option<(usize, Reply<'_>)> {
    let Line::Whole(text, next) = line(bytes, 0) else {
        return None;
    };
    let (key, size) = value_line(text)?;
    let value = block(bytes, next, size)?.ok()?;
    Some((next + size + 2, Reply::Value { key: Some(key), bytes: value }))
}

fn value_line(text: &[u8]) -> Option<(&[u8], usize)> {
    let mut fields = text.strip_prefix(b"VALUE ")?.split(|&byte| byte == b' ');
    let key = fields.next()?;
    let _flags = fields.next()?;
    let size = usize::try_from(integer(fields.next()?)?).ok()?;
    (size <= VALUE_SIZE_MAX).then_some((key, size))
}

fn memcache(bytes: &[u8]) -> Read<'_> {
    let (mut at, mut count) = (0, 0);
    loop {
        let (text, next) = match line(bytes, at) {
            Line::Short => return Read::Incomplete,
            Line::Bad => return Read::Broken("a line does not end in CR LF"),
            Line::Whole(text, next) => (text, next),
        };
        if let Some((_, size)) = value_line(text) {
            match block(bytes, next, size) {
                None => return Read::Incomplete,
                Some(Err(())) => return Read::Broken("no line end after a value"),
                Some(Ok(_)) => (at, count) = (next + size + 2, count + 1),
            }
            continue;
        }
        if text != b"END" && count > 0 {
            let is_error = matches!(memcache_word(text), Some(Reply::Error(_)));
            return match is_error {
                true => Read::Whole(next, Reply::Error(text)),
                false => Read::Broken("values are not followed by END"),
            };
        }
        let reply = match (text, count) {
            (b"END", 0) => Reply::Miss,
            (b"END", 1) => memcache_value(bytes).map_or(Reply::Other, |(_, reply)| reply),
            (b"END", _) => {
                Reply::Many(Elements { wire: Wire::Memcache, count, bytes: &bytes[..at] })
            }
            _ => match memcache_word(text) {
                Some(reply) => reply,
                None => return Read::Broken("unknown reply"),
            },
        };
        return Read::Whole(next, reply);
    }
}

fn memcache_word(text: &[u8]) -> Option<Reply<'_>> {
    let word = text.split(|&byte| byte == b' ').next().unwrap_or_default();
    Some(match word {
        b"STORED" | b"DELETED" | b"TOUCHED" | b"OK" | b"VERSION" => Reply::Done,
        b"NOT_STORED" | b"EXISTS" => Reply::NotStored,
        b"NOT_FOUND" => Reply::Miss,
        b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR" => Reply::Error(text),
        [b'0'..=b'9', ..] => Reply::Number(integer(word)?),
        _ => return None,
    })
}

fn meta(bytes: &[u8]) -> Read<'_> {
    let (text, next) = match line(bytes, 0) {
        Line::Short => return Read::Incomplete,
        Line::Bad => return Read::Broken("a line does not end in CR LF"),
        Line::Whole(text, next) => (text, next),
    };
    let mut fields = text.split(|&byte| byte == b' ');
    let reply = match fields.next().unwrap_or_default() {
        b"VA" => {
            let size = fields.next().and_then(integer).and_then(|size| usize::try_from(size).ok());
            let Some(size) = size.filter(|&size| size <= VALUE_SIZE_MAX) else {
                return Read::Broken("a value's size is no number");
            };
            let key = fields.find_map(|flag| flag.strip_prefix(b"k"));
            return match block(bytes, next, size) {
                None => Read::Incomplete,
                Some(Err(())) => Read::Broken("no line end after a value"),
                Some(Ok(value)) => Read::Whole(next + size + 2, Reply::Value { key, bytes: value }),
            };
        }
        b"HD" | b"MN" => Reply::Done,
        b"NS" | b"EX" => Reply::NotStored,
        b"EN" | b"NF" => Reply::Miss,
        b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR" => Reply::Error(text),
        _ => return Read::Broken("unknown reply"),
    };
    Read::Whole(next, reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(key: Option<&'a str>, bytes: &'a str) -> Reply<'a> {
        Reply::Value { key: key.map(str::as_bytes), bytes: bytes.as_bytes() }
    }

    /// Each reply is also read with another one behind it, and not read with any byte missing.
    #[test]
    fn replies_are_read_whole_or_not_at_all() {
        use Wire::{Memcache, Meta, Redis, Redis3};
        let cases: Vec<(Wire, &str, Reply<'_>)> = vec![
            (Redis, "+OK\r\n", Reply::Done),
            (Redis, "$-1\r\n", Reply::Miss),
            (Redis, "$3\r\na\r\n\r\n", value(None, "a\r\n")),
            (Redis, ":42\r\n", Reply::Number(42)),
            (Redis, "-ERR no\r\n", Reply::Error(b"ERR no")),
            (Redis3, "_\r\n", Reply::Miss),
            (Redis3, "#t\r\n", Reply::Other),
            (Redis3, "%1\r\n$5\r\nproto\r\n:3\r\n", Reply::Other),
            (Redis3, ">2\r\n+invalidate\r\n*1\r\n+k\r\n", Reply::Push),
            (Memcache, "END\r\n", Reply::Miss),
            (Memcache, "VALUE k 0 4\r\nEND\r\r\nEND\r\n", value(Some("k"), "END\r")),
            (Memcache, "STORED\r\n", Reply::Done),
            (Memcache, "NOT_STORED\r\n", Reply::NotStored),
            (Memcache, "NOT_FOUND\r\n", Reply::Miss),
            (Memcache, "17\r\n", Reply::Number(17)),
            (Memcache, "SERVER_ERROR x y\r\n", Reply::Error(b"SERVER_ERROR x y")),
            (Meta, "HD\r\n", Reply::Done),
            (Meta, "VA 2 kkey:1\r\nab\r\n", value(Some("key:1"), "ab")),
            (Meta, "EN\r\n", Reply::Miss),
            (Meta, "NS\r\n", Reply::NotStored),
        ];
        for (wire, text, reply) in cases {
            let twice = text.repeat(2);
            assert_eq!(read(wire, twice.as_bytes()), Read::Whole(text.len(), reply), "{text:?}");
            for cut in 0..text.len() {
                assert_eq!(read(wire, &text.as_bytes()[..cut]), Read::Incomplete, "{text:?} {cut}");
            }
        }
    }

    #[test]
    fn several_values_are_read_one_by_one() {
        let redis = "*3\r\n$1\r\na\r\n$-1\r\n$1\r\nc\r\n";
        let memcache = "VALUE a 0 1\r\n1\r\nVALUE c 0 1\r\n3\r\nEND\r\n";
        let cases = [
            (Wire::Redis, redis, vec![value(None, "a"), Reply::Miss, value(None, "c")]),
            (Wire::Memcache, memcache, vec![value(Some("a"), "1"), value(Some("c"), "3")]),
        ];
        for (wire, text, expected) in cases {
            let Read::Whole(size, Reply::Many(mut elements)) = read(wire, text.as_bytes()) else {
                panic!("{text:?} is not read");
            };
            assert_eq!(size, text.len());
            assert_eq!(elements.count(), expected.len());
            for reply in expected {
                assert_eq!(elements.take(), Some(reply));
            }
            assert_eq!(elements.take(), None);
            for cut in 0..text.len() {
                assert_eq!(read(wire, &text.as_bytes()[..cut]), Read::Incomplete);
            }
        }
    }

    #[test]
    fn version_numbers_are_found_where_they_are() {
        for (wire, text, expected) in [
            (Wire::Memcache, "VALUE k 0 1 77\r\na\r\nEND\r\n", Some(77)),
            (Wire::Memcache, "VALUE k 0 1\r\na\r\nEND\r\n", None),
            (Wire::Memcache, "END\r\n", None),
            (Wire::Meta, "VA 1 kckey c18446744073709551615\r\na\r\n", Some(u64::MAX)),
            (Wire::Meta, "EN\r\n", None),
        ] {
            assert_eq!(unique(wire, text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn garbage_is_told() {
        for (wire, text) in [
            (Wire::Redis, "HTTP/1.1 400\r\n"),
            (Wire::Redis, "$x\r\n"),
            (Wire::Redis, "$1\r\nab\r\n"),
            (Wire::Redis, "+OK\n"),
            (Wire::Redis, "*99999999999\r\n"),
            (Wire::Memcache, "HTTP/1.1 400\r\n"),
            (Wire::Memcache, "VALUE k 0 1\r\nabcd"),
            (Wire::Memcache, "VALUE k 0 1\r\na\r\nSTORED\r\n"),
            (Wire::Meta, "STORED\r\n"),
            (Wire::Meta, "VA x\r\n"),
        ] {
            assert!(matches!(read(wire, text.as_bytes()), Read::Broken(_)), "{text:?}");
        }
    }
}
