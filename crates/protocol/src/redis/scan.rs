//! SCAN through all servers: one after the other, each from its first cursor to its last. Clients
//! bring back a cursor as they were given it, so that all that must be remembered is in it.
//! Invariant: no cursor but the last is 0, and all are below 2^63, which is what clients can hold.
//!
//! ```text
//!   bit 61                    24          16             0
//!        the server's own cursor | check   | its index    |
//! ```

use crate::decimal::{self, NumberLine};
use crate::redis::join::{Fault, UNEXPECTED, answer_fault, response_of};
use crate::redis::{push_bulk, push_header};
use crate::{Course, Cursor, Part, Span, Step};

const INDEX_BITS: u32 = 16;
const CHECK_BITS: u32 = 8;
/// What a server's own cursor may have. It has as many as the server has buckets, in a power of 2.
const OWN_BITS: u32 = 38;
const _: () = assert!(INDEX_BITS + CHECK_BITS + OWN_BITS < 63);

/// Reads a cursor as a client sends it.
pub(super) fn parse(word: &[u8]) -> Option<Cursor> {
    decimal::integer(word).and_then(|value| u64::try_from(value).ok()).map(Cursor)
}

/// See [`crate::Protocol::walk_step`].
pub(crate) fn step(cursor: Cursor, course: Course) -> Option<Step> {
    let Cursor(value) = cursor;
    if value == 0 {
        return Some(Step { server: 0, cursor: 0, course });
    }
    let server = (value & ((1 << INDEX_BITS) - 1)) as usize;
    let check = (value >> INDEX_BITS) as u8;
    let own = value >> (INDEX_BITS + CHECK_BITS);
    let known = server < course.servers_count && check == course.check && own >> OWN_BITS == 0;
    known.then_some(Step { server, cursor: own, course })
}

/// What a client is to bring back; `None` when a server's own cursor does not fit.
fn cursor(server: usize, own: u64, course: Course) -> Option<u64> {
    if server == course.servers_count {
        return Some(0);
    }
    let fits = own >> OWN_BITS == 0 && server >> INDEX_BITS == 0;
    let place = server as u64 | u64::from(course.check) << INDEX_BITS;
    fits.then_some(place | own << (INDEX_BITS + CHECK_BITS))
}

/// See [`crate::Protocol::encode_step`].
pub(crate) fn encode(step: &Step, bytes: &[u8], arguments: &[Span], out: &mut Vec<u8>) {
    push_header(out, b'*', arguments.len());
    let mut digits = itoa::Buffer::new();
    for (i, argument) in arguments.iter().enumerate() {
        push_bulk(
            out,
            match i {
                1 => digits.format(step.cursor).as_bytes(),
                _ => &bytes[argument.range()],
            },
        );
    }
}

/// Puts the client's next cursor in the place of the server's.
pub(crate) fn join(step: &Step, parts: &[Part<'_>], out: &mut Vec<u8>) {
    let start = out.len();
    if let Err(fault) = joined(step, parts, out) {
        out.truncate(start);
        answer_fault(fault, out);
    }
}

fn joined<'a>(step: &Step, parts: &[Part<'a>], out: &mut Vec<u8>) -> Result<(), Fault<'a>> {
    let response = parts.first().map_or(Err(UNEXPECTED), response_of)?;
    let (own, keys) = cut(response).ok_or(UNEXPECTED)?;
    let (server, own) = if own == 0 { (step.server + 1, 0) } else { (step.server, own) };
    let next = cursor(server, own, step.course);
    let next = next.ok_or(Fault::Text("the server's cursor is too large for the proxy"))?;
    push_header(out, b'*', 2);
    push_bulk(out, itoa::Buffer::new().format(next).as_bytes());
    out.extend_from_slice(keys);
    Ok(())
}

/// The cursor in a response, and what follows it.
fn cut(response: &[u8]) -> Option<(u64, &[u8])> {
    let rest = response.strip_prefix(b"*2\r\n$".as_slice())?;
    let NumberLine::Whole { value, next } = decimal::number_line(rest, 0) else { return None };
    let (digits, rest) = rest[next..].split_at_checked(usize::try_from(value).ok()?)?;
    let own = decimal::unsigned_field(digits).filter(|field| field.canonical)?.value;
    Some((own, rest.strip_prefix(b"\r\n")?))
}

#[cfg(test)]
mod tests;
