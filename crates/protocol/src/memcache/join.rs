//! Requests of several keys: what each server gets, and how the responses become one. Invariant:
//! the one response has a value for no key but those that were asked for, in the order in which
//! they were, and ends once.

use crate::memcache::response::{block_size, is_block, is_error};
use crate::{KeySpan, Part, Span};

/// See [`crate::Protocol::plan_join`].
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The request from the first key to the last.
    key_bytes: Vec<u8>,
    /// For each key, where it is in `key_bytes`, and its part.
    keys: Vec<(Span, u32)>,
}

impl Plan {
    pub(crate) fn set(&mut self, bytes: &[u8], keys: &[KeySpan], part_of_key: &[u32]) {
        let start = keys.first().map_or(0, |key| key.key.start);
        let end = keys.last().map_or(0, |key| key.key.end);
        let place = |span: Span| Span { start: span.start - start, end: span.end - start };
        self.keys.clear();
        self.keys.extend(keys.iter().zip(part_of_key).map(|(key, &part)| (place(key.key), part)));
        self.key_bytes.clear();
        self.key_bytes.extend_from_slice(&bytes[start as usize..end as usize]);
    }

    /// In bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.key_bytes.capacity() + self.keys.capacity() * size_of::<(Span, u32)>()
    }
}

/// See [`crate::Protocol::encode_part`]. What stands before the keys, the name and perhaps a time,
/// goes to each server.
pub(crate) fn encode_part(bytes: &[u8], keys: &[KeySpan], picks: &[u32], out: &mut Vec<u8>) {
    let head_end = keys.first().map_or(0, |key| key.key.start) as usize;
    let words = bytes[..head_end].split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    for (i, word) in words.enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
    for &pick in picks {
        let key = keys[pick as usize].key;
        // With the space that stands before it.
        out.extend_from_slice(&bytes[key.start as usize - 1..key.end as usize]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The response to a part.
struct Cursor<'a> {
    /// What is left of it.
    rest: &'a [u8],
    /// Why there is none.
    failed: Option<&'a str>,
}

#[derive(Clone, Copy)]
enum Fault<'a> {
    /// A server's own error line.
    Answered(&'a [u8]),
    Text(&'a str),
}

const UNEXPECTED: Fault<'static> = Fault::Text("unexpected response to a part of the request");

impl Fault<'_> {
    /// Appends the line that tells of it.
    fn push(self, out: &mut Vec<u8>) {
        match self {
            Fault::Answered(line) => out.extend_from_slice(line),
            Fault::Text(text) => {
                out.extend_from_slice(b"SERVER_ERROR ");
                out.extend_from_slice(text.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
    }
}

impl<'a> Cursor<'a> {
    fn new(part: &Part<'a>) -> Cursor<'a> {
        match *part {
            Part::Failed(text) => Cursor { rest: &[], failed: Some(text) },
            Part::Response(rest) => Cursor { rest, failed: None },
        }
    }

    /// The block of this key, if it is the next. What a server leaves out it does not have.
    #[inline]
    fn take(&mut self, key: &[u8]) -> Option<&'a [u8]> {
        let (block, rest) = self.rest.split_at_checked(block_size(self.rest, key)?)?;
        self.rest = rest;
        Some(block)
    }

    /// What is wrong with the response, all of whose blocks were taken.
    fn fault(&self) -> Option<Fault<'a>> {
        Some(match (self.failed, self.rest) {
            (Some(text), _) => Fault::Text(text),
            (None, b"END\r\n") => return None,
            (None, rest) if is_block(rest) => {
                Fault::Text("a server answered a key that was not asked for")
            }
            (None, rest) if is_error(rest) => Fault::Answered(rest),
            (None, _) => UNEXPECTED,
        })
    }
}

/// See [`crate::Protocol::join`]. When a part has failed, what the others have found is sent, and
/// the first error stands in the place of the end.
pub(crate) fn join(plan: &Plan, parts: &[Part<'_>], out: &mut Vec<u8>) {
    if plan.keys.is_empty() {
        return join_ok(parts, out);
    }
    let mut cursors: Vec<Cursor<'_>> = parts.iter().map(Cursor::new).collect();
    for &(key, part) in &plan.keys {
        let key = &plan.key_bytes[key.range()];
        if let Some(block) = cursors.get_mut(part as usize).and_then(|cursor| cursor.take(key)) {
            out.extend_from_slice(block);
        }
    }
    match cursors.iter().find_map(Cursor::fault) {
        None => out.extend_from_slice(b"END\r\n"),
        Some(fault) => fault.push(out),
    }
}

/// Of a request without a key, which went to every server: done when each has done it.
#[cold]
fn join_ok(parts: &[Part<'_>], out: &mut Vec<u8>) {
    let failed = parts.iter().find(|part| !matches!(part, Part::Response(b"OK\r\n")));
    match failed.map(|part| Cursor::new(part).fault()) {
        None => out.extend_from_slice(b"OK\r\n"),
        Some(fault) => fault.unwrap_or(UNEXPECTED).push(out),
    }
}

#[cfg(test)]
mod tests;
