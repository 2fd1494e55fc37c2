//! Requests that tie a client to a connection of its own: those that wait, transactions, and
//! subscriptions. Not which connection that is. Invariant: nothing that this lets through leaves a
//! connection in another state than it was in, once the session has ended as the server sees it.

use crate::decimal::{self, NumberLine};
use crate::redis::commands::{self, Answer, Keys, Place, Row};
use crate::redis::reply;
use crate::redis::request::{self, parse_any, route_rarer, stream_keys};
use crate::{
    Expect, Forward, KeySpan, Limits, Notice, Own, Parsed, Request, RequestState, Route, Scratch,
    Session, Then, Tie,
};

/// See [`crate::Protocol::transaction_begin`].
pub(crate) const BEGIN: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
/// See [`crate::Protocol::transaction_abort`].
pub(crate) const ABORT: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";
/// See [`crate::Protocol::transaction_aborted`].
pub(crate) const ABORTED: &[u8] =
    b"-EXECABORT Transaction discarded because of previous errors.\r\n";
/// See [`crate::Protocol::subscription_mark`].
pub(crate) const MARK: &[u8] = b"*2\r\n$4\r\nPING\r\n$18\r\nweir: all answered\r\n";
/// The answers to it: while there are subscriptions, and when there are none.
const MARK_REPLIES: [&[u8]; 2] =
    [b"*2\r\n$4\r\npong\r\n$18\r\nweir: all answered\r\n", b"$18\r\nweir: all answered\r\n"];

/// See [`crate::Protocol::parse_in_session`].
pub(crate) fn parse(
    session: Session,
    state: &mut RequestState,
    bytes: &[u8],
    limits: &Limits,
    scratch: &mut Scratch,
) -> Parsed {
    scratch.session = Some(session);
    let parsed = parse_any(state, bytes, limits, scratch);
    scratch.session = None;
    parsed
}

/// Notes the keys of a request that waits. Where a count is wrong there are none, and any server
/// says so.
pub(super) fn waiting(keys: Keys, bytes: &[u8], scratch: &mut Scratch) -> Route {
    let last = scratch.arguments.len() - 1;
    let range = match keys {
        Keys::AllButLast => 1..last,
        Keys::FirstTwo => 1..3,
        Keys::CountedSecond => match decimal::integer(&bytes[scratch.arguments[2].range()]) {
            Some(count) if count > 0 && count <= last as i64 - 2 => 3..3 + count as usize,
            _ => 3..3,
        },
    };
    note_keys(range, scratch);
    Route::Dedicated(Tie::Waits)
}

/// The same of XREAD and XREADGROUP that wait.
pub(super) fn waiting_for_streams(bytes: &[u8], scratch: &mut Scratch) -> Route {
    let range = stream_keys(bytes, &scratch.arguments).unwrap_or(0..0);
    note_keys(range, scratch);
    Route::Dedicated(Tie::Waits)
}

fn note_keys(places: impl Iterator<Item = usize>, scratch: &mut Scratch) {
    let Scratch { keys, arguments, .. } = scratch;
    keys.extend(places.map(|i| KeySpan { key: arguments[i], element: arguments[i] }));
}

/// What becomes of WATCH, MULTI and their like outside of a transaction.
pub(super) fn transaction(tie: Tie, size: usize, scratch: &mut Scratch) -> Result<Route, Parsed> {
    Err(match tie {
        Tie::Watches => {
            note_keys(1..scratch.arguments.len(), scratch);
            return Ok(Route::Dedicated(tie));
        }
        Tie::Begins => {
            scratch.reply.extend_from_slice(b"+OK\r\n");
            return Ok(Route::Dedicated(tie));
        }
        Tie::Commits => reply::error(&[b"EXEC without MULTI"], size, scratch),
        Tie::Aborts => reply::error(&[b"DISCARD without MULTI"], size, scratch),
        _ => {
            scratch.reply.extend_from_slice(b"+OK\r\n");
            Parsed::Reply { size, then: Then::Continue, fault: false }
        }
    })
}

/// What becomes of SUBSCRIBE and its like for a client that listens to nothing.
pub(super) fn subscribe(row: &Row, size: usize) -> Result<Route, Parsed> {
    if !row.name.contains("unsubscribe") {
        return Ok(Route::Dedicated(Tie::Listens));
    }
    Err(Parsed::Own(Own { size, answer: Answer::Unsubscribe }))
}

/// What becomes of a request of too few or too many words. EXEC ends its transaction all the same,
/// and says so.
#[cold]
pub(super) fn wrong_arity(index: usize, size: usize, scratch: &mut Scratch) -> Parsed {
    let row = &commands::ROWS[index];
    if row.place != Place::Transaction(Tie::Commits) {
        return reply::wrong_arity(row.name, size, scratch);
    }
    let text = b"Transaction discarded because of: wrong number of arguments for 'exec' command";
    let parsed = reply::error_of_kind("EXECABORT", &[text], size, scratch);
    match scratch.session {
        Some(Session::Transaction) => for_connection(index, size, Tie::Commits),
        _ => parsed,
    }
}

/// A request that goes to the client's own connection.
fn for_connection(index: usize, size: usize, tie: Tie) -> Parsed {
    Parsed::Request(Request {
        size,
        command: &commands::all()[index],
        forward: Forward::Verbatim,
        route: Route::Dedicated(tie),
        expect: Expect::default(),
        quiet: crate::Quiet::No,
    })
}

/// Decides what becomes of a whole request of a client in a session.
#[cold]
pub(super) fn dispatch(
    session: Session,
    index: usize,
    bytes: &[u8],
    size: usize,
    scratch: &mut Scratch,
) -> Parsed {
    let row = &commands::ROWS[index];
    if row.place == Place::Own(Answer::Quit) {
        return Parsed::Own(Own { size, answer: Answer::Quit });
    }
    let route = match session {
        Session::Transaction => in_transaction(row, bytes, size, scratch),
        Session::Subscription => Ok(in_subscription(row, scratch)),
        Session::PushedSubscription if row.place == Place::Subscribe => Ok(Tie::Listens),
        Session::PushedSubscription => return beside_messages(row, bytes, size, scratch),
    };
    match route {
        Ok(tie) => for_connection(index, size, tie),
        Err(parsed) => parsed,
    }
}

fn in_transaction(
    row: &Row,
    bytes: &[u8],
    size: usize,
    scratch: &mut Scratch,
) -> Result<Tie, Parsed> {
    match row.place {
        Place::Own(Answer::Ping | Answer::Echo) => return Ok(Tie::Keeps),
        Place::Own(_) | Place::Subscribe | Place::Refused => {}
        Place::Transaction(tie) => {
            match tie {
                Tie::Begins => {
                    scratch.reply.extend_from_slice(b"-ERR MULTI calls can not be nested\r\n");
                }
                Tie::Watches => {
                    note_keys(1..scratch.arguments.len(), scratch);
                    scratch.reply.extend_from_slice(b"-ERR WATCH inside MULTI is not allowed\r\n");
                }
                Tie::Commits => scratch.reply.extend_from_slice(b"*0\r\n"),
                Tie::Aborts => scratch.reply.extend_from_slice(b"+OK\r\n"),
                _ => {}
            }
            return Ok(tie);
        }
        // That a key has no value is found when the transaction runs.
        Place::Split { step, .. } => {
            note_keys((1..scratch.arguments.len()).step_by(step.into()), scratch);
            return Ok(Tie::Keeps);
        }
        _ => match route_rarer(row, bytes, size, scratch)? {
            Route::Key(key) => {
                scratch.keys.push(KeySpan { key, element: key });
                return Ok(Tie::Keeps);
            }
            Route::Any | Route::Split => return Ok(Tie::Keeps),
            Route::Dedicated(tie) => return Ok(tie),
            Route::Everywhere | Route::Decoded | Route::Walk(_) => {}
        },
    }
    let text = [b"'", row.name.as_bytes(), b"' is not possible in a transaction through the proxy"];
    Err(reply::error(&text, size, scratch))
}

fn in_subscription(row: &Row, scratch: &mut Scratch) -> Tie {
    if matches!(row.place, Place::Subscribe | Place::Own(Answer::Ping)) {
        return Tie::Listens;
    }
    let text = [
        b"Can't execute '",
        row.name.as_bytes(),
        b"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT are allowed in this context",
    ];
    reply::error(&text, 0, scratch);
    Tie::Keeps
}

/// What becomes of a request that has nothing to do with the subscription: what becomes of
/// anybody's, unless it wants a connection of its own as well, or would end the subscription.
fn beside_messages(row: &Row, bytes: &[u8], size: usize, scratch: &mut Scratch) -> Parsed {
    let session = scratch.session.take();
    let parsed = request::dispatch(bytes, size, scratch);
    scratch.session = session;
    match parsed {
        Parsed::Request(Request { route: Route::Dedicated(_), .. })
        | Parsed::Own(Own { answer: Answer::Hello | Answer::Reset, .. }) => {
            scratch.reply.clear();
            let name = row.name.as_bytes();
            reply::error(
                &[b"'", name, b"' is not possible while the client listens"],
                size,
                scratch,
            )
        }
        parsed => parsed,
    }
}

/// See [`crate::Protocol::notice`].
pub(crate) fn notice(response: &[u8]) -> Notice {
    if MARK_REPLIES.contains(&response) {
        return Notice::Mark;
    }
    match counted(response) {
        Some(notice) => notice,
        None if is_for_a_listener(response) => Notice::Other,
        None => Notice::Nonsense,
    }
}

/// Whether this may be a message, an answer to PING, or an error.
fn is_for_a_listener(response: &[u8]) -> bool {
    match response {
        [b'*' | b'>', count, b'\r', b'\n', rest @ ..] => {
            let kind = bulk(rest).map_or(&[][..], |(kind, _)| kind);
            matches!(
                (count, kind),
                (b'2', b"pong") | (b'3', b"message" | b"smessage") | (b'4', b"pmessage")
            )
        }
        [b'$' | b'-', ..] => true,
        _ => response == b"+PONG\r\n",
    }
}

/// Reads `kind channel count`, the answer to SUBSCRIBE and its like, which RESP3 pushes.
fn counted(response: &[u8]) -> Option<Notice> {
    let rest = response.strip_prefix(b"*").or(response.strip_prefix(b">"))?;
    let rest = rest.strip_prefix(b"3\r\n".as_slice())?;
    let (kind, rest) = bulk(rest)?;
    let sharded = match kind {
        b"subscribe" | b"psubscribe" | b"unsubscribe" | b"punsubscribe" => false,
        b"ssubscribe" | b"sunsubscribe" => true,
        _ => return None,
    };
    let null = rest.strip_prefix(b"$-1\r\n".as_slice()).or(rest.strip_prefix(b"_\r\n".as_slice()));
    let rest = match null {
        Some(rest) => rest,
        None => bulk(rest)?.1,
    };
    match decimal::number_line(rest.strip_prefix(b":")?, 0) {
        NumberLine::Whole { value, .. } => {
            Some(Notice::Left { sharded, count: u32::try_from(value).ok()? })
        }
        _ => None,
    }
}

/// The bulk string at the beginning, and what follows.
fn bulk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let NumberLine::Whole { value, next } = decimal::number_line(bytes.strip_prefix(b"$")?, 0)
    else {
        return None;
    };
    let start = next + 1;
    let body = bytes.get(start..start.checked_add(usize::try_from(value).ok()?)?)?;
    Some((body, bytes.get(start + body.len() + 2..)?))
}

#[cfg(test)]
mod tests;
