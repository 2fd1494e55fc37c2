//! Conversations that must go through the proxy as they go with a server alone. What is in them is
//! in `redis.rs` and `memcached.rs`; here is how one is held. Invariant: every conversation finds
//! the keys that it uses absent.

pub(crate) mod memcached;
pub(crate) mod redis;

use std::fmt;

use crate::support::servers::Kind;
use crate::support::wire::{Wire, bulk, request};

/// A name that says what is asked, and the bytes that the client sends.
pub(crate) type Conversation = (&'static str, Vec<u8>);

/// What came back, and whether the connection was closed then.
#[derive(PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) closed: bool,
}

/// Bytes of an answer that a failed test shows.
const SHOWN_MAX: usize = 400;

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.bytes[..self.bytes.len().min(SHOWN_MAX)];
        let end = if self.closed { ", then closed" } else { "" };
        write!(f, "{} bytes{end}: {}", self.bytes.len(), shown.escape_ascii())
    }
}

/// The keys that conversations may use: ten on each server.
pub(crate) fn keys() -> Vec<&'static str> {
    (0..2).flat_map(|server| crate::support::keys::keys_of(server).iter().copied()).collect()
}

/// A key of no conversation, whose value is [`END`].
const END: &str = "the-end-of-it";

/// Makes the keys absent.
pub(crate) fn reset(kind: Kind, wire: &mut Wire) {
    match kind {
        Kind::Redis => {
            let mut words = vec!["DEL"];
            words.extend(keys());
            wire.ask(&words);
        }
        Kind::Memcached => {
            let lines: String = keys().iter().map(|key| format!("delete {key}\r\n")).collect();
            wire.send(lines.as_bytes());
            keys().iter().for_each(|_| drop(wire.memcached_reply()));
            assert_eq!(kind.set(wire, END, END), kind.stored());
        }
    }
}

/// Sends the pieces, with a call of `between` after each but the last, and takes the answer.
pub(crate) fn hold(
    kind: Kind,
    mut wire: Wire,
    pieces: &[&[u8]],
    mut between: impl FnMut(),
) -> Answer {
    let (question, mark) = match kind {
        Kind::Redis => (request(&["ECHO", END]), bulk(END.as_bytes())),
        Kind::Memcached => (kind.get_request(END), kind.found(END, END)),
    };
    for (i, piece) in pieces.iter().enumerate() {
        if i > 0 {
            between();
        }
        // It may have closed at an earlier piece.
        if wire.try_send(piece).is_err() {
            break;
        }
    }
    // So that the end of the answer is known without waiting for silence.
    let _ = wire.try_send(&question);
    let (mut bytes, ended) = wire.up_to(&mark);
    if ended.is_none() {
        bytes.truncate(bytes.len() - mark.len());
    }
    wire.reset();
    Answer { bytes, closed: ended.is_some() }
}
