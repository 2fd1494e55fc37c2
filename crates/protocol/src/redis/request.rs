//! The request parser: finds the end of a request, where its arguments are, and where it goes.
//! Inline commands are turned into the usual form by `inline.rs`; what the proxy answers itself is
//! in `own.rs`. Invariant: a request that is forwarded is an array of bulk strings whose lengths
//! have one spelling and whose line ends are all in place, so that the server cannot see another
//! frame than the one that was found here.
//!
//! Each byte of a header is looked at twice at most: once when it comes, and once more when the
//! request is whole, if it came in more than one piece. The body of an argument is never looked at
//! for its end.

use crate::decimal::{self, NumberLine};
use crate::redis::commands::{self, Place, Row};
use crate::redis::{inline, push_request, reply, scan, session, usual, usual_bulk};
use crate::{
    Expect, Forward, Handshake, KeySpan, Limits, Own, Parsed, Request, RequestState, Route,
    Scratch, Span, Then, Version,
};

/// See [`crate::Protocol::parse_request`].
#[inline]
pub fn parse(
    state: &mut RequestState,
    bytes: &[u8],
    limits: &Limits,
    scratch: &mut Scratch,
) -> Parsed {
    if bytes.len() < state.wanted as usize {
        return Parsed::Incomplete { need: state.wanted as usize - bytes.len() };
    }
    if state.scanned == 0
        && let Some(parsed) = usual::parse(bytes, limits)
    {
        scratch.begin_unused();
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
    scratch.begin();
    let parsed = match bytes.first() {
        None => return Parsed::Incomplete { need: 1 },
        Some(b'*') => parse_array(state, bytes, limits, scratch),
        Some(_) => inline::parse(state, bytes, limits, scratch),
    };
    if !matches!(parsed, Parsed::Incomplete { .. }) {
        *state = RequestState::default();
    }
    parsed
}

/// See [`crate::Protocol::handshake`]. The password comes first: a server that wants one refuses
/// everything else.
pub fn handshake(version: Version, password: Option<&[u8]>, database: u32) -> Handshake {
    let mut handshake = Handshake::default();
    let first: &[&[u8]] = match (version, password) {
        (Version::Basic, None) => &[],
        (Version::Basic, Some(password)) => &[b"AUTH", password],
        (Version::Resp3, None) => &[b"HELLO", b"3"],
        // `default` is the user to whom a password without a user's name belongs.
        (Version::Resp3, Some(password)) => &[b"HELLO", b"3", b"AUTH", b"default", password],
    };
    if !first.is_empty() {
        push_request(&mut handshake.bytes, first);
        handshake.responses_count += 1;
    }
    if database > 0 {
        let mut digits = itoa::Buffer::new();
        let database = digits.format(database).as_bytes();
        push_request(&mut handshake.bytes, &[b"SELECT", database]);
        handshake.responses_count += 1;
    }
    handshake
}

#[inline]
fn parse_array(
    state: &mut RequestState,
    bytes: &[u8],
    limits: &Limits,
    scratch: &mut Scratch,
) -> Parsed {
    let resumed = state.scanned != 0;
    let (mut at, mut left) = if resumed {
        (state.scanned as usize, state.arguments_left as usize)
    } else {
        match decimal::number_line(bytes, 1) {
            NumberLine::Whole { value, next } if value > 0 => {
                if value as u64 > limits.arguments_max as u64 {
                    return broken(scratch, 1, "invalid multibulk length");
                }
                (next, value as usize)
            }
            // A request of no arguments has no reply.
            NumberLine::Whole { next, .. } => {
                return Parsed::Reply { size: next, then: Then::Continue, fault: false };
            }
            NumberLine::Short => return Parsed::Incomplete { need: 1 },
            NumberLine::Bad => return broken(scratch, 1, "invalid multibulk length"),
        }
    };
    while left > 0 {
        match argument_at(bytes, at, limits) {
            Argument::Whole(span) => {
                scratch.arguments.push(span);
                at = span.end as usize + 2;
                left -= 1;
            }
            Argument::Short { wanted } => {
                let wanted = wanted.max(bytes.len() + 1);
                *state = RequestState {
                    scanned: at as u32,
                    arguments_left: left as u32,
                    wanted: wanted as u32,
                };
                return Parsed::Incomplete { need: wanted - bytes.len() };
            }
            Argument::Bad(fault) => return bad_argument(scratch, bytes, at, fault),
        }
    }
    if resumed {
        // The request is whole and right; its arguments are wanted in one piece.
        *state = RequestState::default();
        scratch.arguments.clear();
        return parse_array(state, bytes, limits, scratch);
    }
    dispatch(bytes, at, scratch)
}

pub(super) enum Argument {
    Whole(Span),
    /// With fewer bytes than `wanted` it cannot be whole; 0 when its length has not come.
    Short {
        wanted: usize,
    },
    Bad(Fault),
}

pub(super) enum Fault {
    Type,
    Length,
    LineEnd,
}

/// Reads the argument whose header starts at `at`.
#[inline]
pub(super) fn argument_at(bytes: &[u8], at: usize, limits: &Limits) -> Argument {
    if let Some((start, end)) = bytes.get(at..).and_then(usual_bulk)
        && at + end + 2 <= limits.request_size_max
    {
        return Argument::Whole(Span { start: (at + start) as u32, end: (at + end) as u32 });
    }
    match bytes.get(at) {
        Some(b'$') => {}
        Some(_) => return Argument::Bad(Fault::Type),
        None => return Argument::Short { wanted: 0 },
    }
    let (value, start) = match decimal::number_line(bytes, at + 1) {
        NumberLine::Whole { value, next } => (value, next),
        NumberLine::Short => return Argument::Short { wanted: 0 },
        NumberLine::Bad => return Argument::Bad(Fault::Length),
    };
    if value < 0 || value as u64 + start as u64 + 2 > limits.request_size_max as u64 {
        return Argument::Bad(Fault::Length);
    }
    let end = start + value as usize;
    match bytes.get(end..end + 2) {
        Some(b"\r\n") => Argument::Whole(Span { start: start as u32, end: end as u32 }),
        Some(_) => Argument::Bad(Fault::LineEnd),
        None => Argument::Short { wanted: end + 2 },
    }
}

#[cold]
fn bad_argument(scratch: &mut Scratch, bytes: &[u8], at: usize, fault: Fault) -> Parsed {
    match fault {
        Fault::Length => broken(scratch, at + 1, "invalid bulk length"),
        Fault::LineEnd => broken(scratch, at + 1, "expected CRLF after bulk"),
        Fault::Type => {
            let got = match bytes[at] {
                b'\r' | b'\n' | b'\0' => b' ',
                byte => byte,
            };
            scratch.reply.clear();
            scratch.reply.extend_from_slice(b"-ERR Protocol error: expected '$', got '");
            scratch.reply.push(got);
            scratch.reply.extend_from_slice(b"'\r\n");
            Parsed::Reply { size: at + 1, then: Then::Close, fault: true }
        }
    }
}

/// The client does not speak the protocol; where its next request would begin is not known.
#[cold]
pub(super) fn broken(scratch: &mut Scratch, size: usize, text: &str) -> Parsed {
    scratch.reply.clear();
    scratch.reply.extend_from_slice(b"-ERR Protocol error: ");
    scratch.reply.extend_from_slice(text.as_bytes());
    scratch.reply.extend_from_slice(b"\r\n");
    Parsed::Reply { size, then: Then::Close, fault: true }
}

/// Decides what becomes of a whole request, whose arguments (one at least) are in `scratch`.
#[inline]
pub(super) fn dispatch(bytes: &[u8], size: usize, scratch: &mut Scratch) -> Parsed {
    let name = &bytes[scratch.arguments[0].range()];
    let Some(index) = commands::find(name) else {
        return reply::unknown(bytes, size, scratch);
    };
    let row = &commands::ROWS[index];
    let count = scratch.arguments.len();
    if !row.takes(count) {
        return session::wrong_arity(index, size, scratch);
    }
    if let Some(session) = scratch.session {
        return session::dispatch(session, index, bytes, size, scratch);
    }
    let route = match row.place {
        Place::Key(place) => Route::Key(scratch.arguments[place as usize]),
        Place::Split { step: 1, .. } if count == 2 => Route::Key(scratch.arguments[1]),
        _ => match route_rarer(row, bytes, size, scratch) {
            Ok(route) => route,
            Err(parsed) => return parsed,
        },
    };
    Parsed::Request(Request {
        size,
        command: &commands::all()[index],
        forward: Forward::Verbatim,
        route,
        expect: Expect::default(),
        quiet: crate::Quiet::No,
    })
}

pub(super) fn route_rarer(
    row: &Row,
    bytes: &[u8],
    size: usize,
    scratch: &mut Scratch,
) -> Result<Route, Parsed> {
    let arguments = &scratch.arguments;
    let word = |i: usize| &bytes[arguments[i].range()];
    Ok(match row.place {
        Place::Key(place) => Route::Key(arguments[place as usize]),
        Place::Any => Route::Any,
        Place::Split { step, .. } => {
            let step = step as usize;
            if !(arguments.len() - 1).is_multiple_of(step) {
                return Err(reply::wrong_arity(row.name, size, scratch));
            }
            split_keys(step, scratch)
        }
        // A wrong count gets its error from a server, and any will do.
        Place::Script => match decimal::integer(word(2)) {
            Some(count) if count > 0 && count <= arguments.len() as i64 - 3 => {
                Route::Key(arguments[3])
            }
            _ => Route::Any,
        },
        Place::Counted => match decimal::integer(word(1)) {
            Some(1..) => Route::Key(arguments[2]),
            _ => Route::Any,
        },
        Place::Streams => match stream_key(bytes, arguments) {
            Some(Stream::Key(span)) => Route::Key(span),
            Some(Stream::Blocks) => session::waiting_for_streams(bytes, scratch),
            None => Route::Any,
        },
        // HELP, or too few arguments, which a server explains best.
        Place::Subcommand if arguments.len() == 2 => Route::Any,
        Place::Subcommand => Route::Key(arguments[2]),
        Place::Memory => match (word(1).to_ascii_lowercase().as_slice(), arguments.len()) {
            (b"help", 2) => Route::Any,
            (b"usage", 3..) => Route::Key(arguments[2]),
            (b"usage", _) => return Err(reply::wrong_arity("memory|usage", size, scratch)),
            _ => return Err(reply::refused(row.name, size, scratch)),
        },
        Place::Scripts => match word(1).to_ascii_lowercase().as_slice() {
            b"load" | b"exists" => Route::Everywhere,
            b"help" => Route::Any,
            _ => return Err(reply::refused("script", size, scratch)),
        },
        Place::Everywhere { .. } => Route::Everywhere,
        Place::Scan => match scan::parse(word(1)) {
            Some(cursor) => Route::Walk(cursor),
            None => return Err(reply::error(&[b"invalid cursor"], size, scratch)),
        },
        Place::Waits(keys) => session::waiting(keys, bytes, scratch),
        Place::Transaction(tie) => return session::transaction(tie, size, scratch),
        Place::Subscribe => return session::subscribe(row, size),
        Place::Flush => Route::Everywhere,
        Place::Own(answer) => return Err(Parsed::Own(Own { size, answer })),
        Place::Refused => return Err(reply::refused(row.name, size, scratch)),
    })
}

/// Notes the keys of a request that goes to several servers. An element of it reaches from the
/// header of the key to the end of the last of its arguments.
fn split_keys(step: usize, scratch: &mut Scratch) -> Route {
    if scratch.arguments.len() == 1 + step {
        return Route::Key(scratch.arguments[1]);
    }
    let arguments = &scratch.arguments;
    scratch.keys.extend((1..arguments.len()).step_by(step).map(|i| KeySpan {
        key: arguments[i],
        element: Span { start: arguments[i - 1].end + 2, end: arguments[i + step - 1].end + 2 },
    }));
    Route::Split
}

enum Stream {
    Key(Span),
    Blocks,
}

/// Walks the options of XREAD and XREADGROUP as a server does. `None` when it would find them
/// wrong; it stops at the same word.
fn stream_key(bytes: &[u8], arguments: &[Span]) -> Option<Stream> {
    let mut i = 1;
    loop {
        let word = &bytes[arguments.get(i)?.range()];
        i += match word.len() {
            7 if word.eq_ignore_ascii_case(b"streams") => {
                return arguments.get(i + 1).map(|&span| Stream::Key(span));
            }
            5 if word.eq_ignore_ascii_case(b"block") => return Some(Stream::Blocks),
            5 if word.eq_ignore_ascii_case(b"count") => 2,
            5 if word.eq_ignore_ascii_case(b"group") => 3,
            5 if word.eq_ignore_ascii_case(b"noack") => 1,
            _ => return None,
        };
    }
}

/// Which arguments are the keys of XREAD and XREADGROUP: the first half of what follows STREAMS.
/// `None` when a server would find them wrong.
pub(super) fn stream_keys(bytes: &[u8], arguments: &[Span]) -> Option<std::ops::Range<usize>> {
    let is_streams = |span: &Span| bytes[span.range()].eq_ignore_ascii_case(b"streams");
    let start = arguments.iter().position(is_streams)? + 1;
    let count = (arguments.len() - start) / 2;
    (count > 0).then_some(start..start + count)
}

#[cfg(test)]
mod tests;
