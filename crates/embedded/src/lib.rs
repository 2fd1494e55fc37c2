//! A small in-memory server of both protocols: what `weir demo` starts, what the load generator
//! measures itself against, and what the simulation takes for the truth.
//!
//! Pure: bytes and the time come in, bytes go out; there is no socket, clock, thread or random
//! number here, and the same calls give the same bytes in every run. It parses requests with code
//! of its own, which is plain and slow beside that of crate `protocol`, so that the two can be
//! compared. It is not a cache: nothing is evicted, and a write beyond the limit is refused.
//!
//! Replies are those of Redis 7.0 and memcached 1.6.18, byte for byte, with these exceptions: sets
//! and hashes are listed in the order of their bytes, inline requests know no quotes, `COMMAND` is
//! an empty array, `AUTH` succeeds where no password is set, and a long line is judged by its
//! length alone and not by how it was cut.
//!
//! ```
//! use base::Time;
//! use embedded::{Outcome, Session, Store, StoreOptions};
//! use protocol::Protocol;
//!
//! let mut store = Store::new(StoreOptions::default());
//! let mut session = Session::new(Protocol::Redis);
//! let mut out = Vec::new();
//! let outcome = session.handle(&mut store, b"SET a 1\r\nINCR a\r\n", Time::ZERO, &mut out);
//! assert_eq!((out.as_slice(), outcome), (b"+OK\r\n:2\r\n".as_slice(), Outcome::Open));
//! ```
#![forbid(unsafe_code)]

use std::mem;

use base::Time;
pub use protocol::Protocol;

mod memcache;
mod redis;
mod store;
mod value;

pub use memcache::{GET_LINE_SIZE_MAX, ITEM_SIZE_MAX, LINE_SIZE_MAX};
pub use redis::{ARGUMENTS_MAX, HEADER_SIZE_MAX, REQUEST_SIZE_MAX};
pub use store::{DATABASES_COUNT, Mode, Store, StoreOptions};
pub use value::{Data, Value};

/// Most bytes that a session keeps between two calls: the beginning of one request, and of a line
/// that may turn out to make it too large.
pub const PENDING_SIZE_MAX: usize = REQUEST_SIZE_MAX + HEADER_SIZE_MAX + 2;
const _: () = assert!(PENDING_SIZE_MAX >= GET_LINE_SIZE_MAX);
const _: () = assert!(PENDING_SIZE_MAX >= LINE_SIZE_MAX + ITEM_SIZE_MAX);

/// Whether a connection stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// More requests may follow.
    Open,
    /// Send the replies, then close. Later input is ignored.
    Close,
}

/// One client connection of a server: what was received of a request that is not yet complete, and
/// what the client has chosen (database) or shown (password).
#[derive(Debug)]
pub struct Session {
    /// Starts at the first byte of a request. At most [`PENDING_SIZE_MAX`] bytes.
    pending: Vec<u8>,
    connection: Connection,
    outcome: Outcome,
}

#[derive(Debug)]
enum Connection {
    Redis(redis::Connection),
    Memcache(memcache::Connection),
}

impl Session {
    /// A new connection that speaks `protocol`.
    pub fn new(protocol: Protocol) -> Session {
        let connection = match protocol {
            Protocol::Redis => Connection::Redis(redis::Connection::default()),
            Protocol::Memcache => Connection::Memcache(memcache::Connection::default()),
        };
        Session { pending: Vec::new(), connection, outcome: Outcome::Open }
    }

    /// Takes `input`, executes every request that is now complete against `store` at `now`, and
    /// appends the replies to `out`. Returns whether the connection stays open; once it does not,
    /// further input is ignored. `now` must not go back between calls on the same store.
    pub fn handle(
        &mut self,
        store: &mut Store,
        input: &[u8],
        now: Time,
        out: &mut Vec<u8>,
    ) -> Outcome {
        if self.outcome == Outcome::Close {
            return Outcome::Close;
        }
        if self.pending.is_empty() {
            let consumed = self.run(store, input, now, out);
            self.pending.extend_from_slice(&input[consumed..]);
        } else {
            let mut bytes = mem::take(&mut self.pending);
            bytes.extend_from_slice(input);
            let consumed = self.run(store, &bytes, now, out);
            // An idle connection holds no memory: only an incomplete request keeps the buffer.
            if consumed < bytes.len() {
                bytes.drain(..consumed);
                self.pending = bytes;
            }
        }
        assert!(self.pending.len() <= PENDING_SIZE_MAX);
        self.outcome
    }

    /// Returns how many of `bytes` need not be seen again.
    fn run(&mut self, store: &mut Store, bytes: &[u8], now: Time, out: &mut Vec<u8>) -> usize {
        let (consumed, outcome) = match &mut self.connection {
            Connection::Redis(connection) => connection.run(store, bytes, now, out),
            Connection::Memcache(connection) => connection.run(store, bytes, now, out),
        };
        self.outcome = outcome;
        consumed
    }
}
