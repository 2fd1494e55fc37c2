//! The fast path of the request parser: `get` and `gets` in the one form in which clients write
//! them. Not a second parser: what is unusual, wrong or not whole is left to `request.rs`, and so
//! is every other name. Invariant: where it gives a request, the general parser gives the same.

use crate::memcache::commands::class;
use crate::memcache::{KEY_SIZE_MAX, commands, key_size, response};
use crate::{Expect, Forward, KeySpan, Limits, Parsed, Quiet, Request, Route, Scratch, Span};

/// Parses `get key... CR LF`, with single spaces. Nothing when it is anything else.
///
/// Each byte is read once, eight at a time: the first that no key has ends a key, and must be the
/// space before the next one or the line end. With the general parser alone a get took 2149 of the
/// whole proxy's instructions, and takes 1780 now; the line of a get of 100 keys took 26,600, and
/// takes 11,300.
#[inline]
pub(super) fn parse(bytes: &[u8], limits: &Limits, scratch: &mut Scratch) -> Option<Parsed> {
    let (index, start) = match bytes.first_chunk()? {
        b"get " => (GET, 4),
        b"gets" if bytes.get(4) == Some(&b' ') => (GETS, 5),
        _ => return None,
    };
    let (first, more) = key_at(bytes, start)?;
    let mut expect = Expect { class: class::VALUES, key_check: 0 };
    let (route, size) = if more {
        scratch.begin();
        (Route::Split, keys_from(first, bytes, limits, scratch)?)
    } else {
        scratch.begin_unused();
        expect.key_check = response::key_check(&bytes[first.range()]);
        (Route::Key(first), first.end as usize + 2)
    };
    // The line is without its LF.
    if size - 1 > limits.line_size_max.min(limits.request_size_max) {
        return None;
    }
    Some(Parsed::Request(Request {
        size,
        command: &commands::all()[index],
        forward: Forward::Verbatim,
        route,
        expect,
        quiet: Quiet::No,
    }))
}

const GET: usize = place_of("get");
const GETS: usize = place_of("gets");

/// Where a name that is there stands in the table.
const fn place_of(name: &str) -> usize {
    let mut i = 0;
    loop {
        let (row, name) = (commands::TABLE[i].name.as_bytes(), name.as_bytes());
        let mut same = row.len() == name.len();
        let mut at = 0;
        while same && at < name.len() {
            same = row[at] == name[at];
            at += 1;
        }
        if same {
            return i;
        }
        i += 1;
    }
}

/// Notes the keys, of which the first is known to be followed by another. Gives where the line
/// ends.
#[inline]
fn keys_from(first: Span, bytes: &[u8], limits: &Limits, scratch: &mut Scratch) -> Option<usize> {
    let mut key = first;
    loop {
        scratch.keys.push(KeySpan { key, element: key });
        let (next, more) = key_at(bytes, key.end as usize + 1)?;
        if !more {
            scratch.keys.push(KeySpan { key: next, element: next });
            let few = scratch.keys.len() <= limits.arguments_max;
            return few.then_some(next.end as usize + 2);
        }
        key = next;
    }
}

/// The key that starts here, and whether a space follows it; else a line end does.
#[inline]
fn key_at(bytes: &[u8], start: usize) -> Option<(Span, bool)> {
    let rest = bytes.get(start..)?;
    let size = key_size(rest);
    if size == 0 || size > KEY_SIZE_MAX {
        return None;
    }
    let span = Span { start: start as u32, end: (start + size) as u32 };
    match rest.get(size..size + 2)? {
        [b' ', _] => Some((span, true)),
        b"\r\n" => Some((span, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
