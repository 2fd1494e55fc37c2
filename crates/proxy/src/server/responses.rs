//! Responses come in: they are gathered where they straddle, and paired with requests.
//!
//! What becomes of a response is not decided here. Invariant: the n-th response of a connection
//! belongs to the n-th request of its queue, or the connection ends.

use base::Time;
use base::slab::Key;
use protocol::Framed;

use crate::errors::RequestError;
use crate::gather::{RESERVE_MAX, SIZE_MIN};
use crate::proxy::Proxy;
use crate::request::{NONE, Record};
use crate::stats::PoolStats;

/// A run of responses of one connection to requests of one command that arrived together, which are
/// counted together: the batches of pipelining clients come as such runs.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    command: u16,
    arrived_at: Time,
    count: u64,
    bytes: u64,
}

impl Answered {
    pub(super) fn count_into(&self, stats: &mut PoolStats, server: usize, now: Time) {
        if self.count == 0 {
            return;
        }
        stats.servers[server].responses += self.count;
        stats.servers[server].response_bytes += self.bytes;
        if self.arrived_at == Time::MAX {
            // They were to wait, which says nothing about the server.
            return;
        }
        let took_ns = now.as_ns().saturating_sub(self.arrived_at.as_ns());
        stats.latencies[server].record(self.command, took_ns, self.count);
    }
}

/// A whole response.
enum Response<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

/// Responses come in.
impl Proxy {
    pub(super) fn take_responses(&mut self, key: Key, bytes: &[u8]) {
        let conn = self.conns.at_mut(key.index);
        let mut rest = bytes;
        if !conn.input.is_empty() {
            rest = match self.gather_response(key, rest) {
                Some(rest) => rest,
                None => return,
            };
        }
        while !rest.is_empty() {
            let conn = self.conns.at_mut(key.index);
            let options = &self.pools[conn.pool as usize].options;
            let framed = options.protocol.frame_response(&mut conn.framer, rest, &options.limits);
            match framed {
                Framed::Complete { size } => {
                    if !self.pair(key, Response::Borrowed(&rest[..size])) {
                        return;
                    }
                    rest = &rest[size..];
                }
                Framed::Push { size } => {
                    if !self.pushed(key, &rest[..size]) {
                        return;
                    }
                    rest = &rest[size..];
                }
                Framed::Incomplete { need } => {
                    debug_assert!(need > 0);
                    conn.need = need;
                    conn.input = self.buffers.take(rest.len() + need.min(RESERVE_MAX));
                    conn.input.extend_from_slice(rest);
                    self.buffered_bytes += rest.len();
                    return;
                }
                Framed::Broken(_) => {
                    self.break_connection(key, RequestError::ServerMisbehaved);
                    return;
                }
            }
        }
    }

    /// Completes the response at the beginning of `input` with the first of `rest`, and returns
    /// what is left of it. `None` when there is nothing left, or the connection broke.
    fn gather_response<'a>(&mut self, key: Key, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        while !rest.is_empty() {
            let conn = self.conns.at_mut(key.index);
            let size = conn.need.max(SIZE_MIN).min(rest.len());
            conn.input.extend_from_slice(&rest[..size]);
            self.buffered_bytes += size;
            if size < conn.need {
                conn.need -= size;
                return None;
            }
            let options = &self.pools[conn.pool as usize].options;
            let framed =
                options.protocol.frame_response(&mut conn.framer, &conn.input, &options.limits);
            match framed {
                Framed::Complete { size: response_size } => {
                    let mut response = std::mem::take(&mut conn.input);
                    self.buffered_bytes -= response.len();
                    let before = response.len() - size;
                    debug_assert!(response_size > before);
                    // What was gathered beyond the response is still in the receive buffer.
                    response.truncate(response_size);
                    return self
                        .pair(key, Response::Owned(response))
                        .then(|| &rest[response_size - before..]);
                }
                Framed::Push { size: push_size } => {
                    let mut message = std::mem::take(&mut conn.input);
                    self.buffered_bytes -= message.len();
                    let before = message.len() - size;
                    message.truncate(push_size);
                    let goes_on = self.pushed(key, &message);
                    self.buffers.give(message);
                    return goes_on.then(|| &rest[push_size - before..]);
                }
                Framed::Incomplete { need } => {
                    conn.need = need;
                    rest = &rest[size..];
                }
                Framed::Broken(_) => {
                    self.break_connection(key, RequestError::ServerMisbehaved);
                    return None;
                }
            }
        }
        None
    }

    /// Gives a response to the oldest request. `false` when the connection broke over it.
    #[inline]
    fn pair(&mut self, key: Key, response: Response<'_>) -> bool {
        let conn = self.conns.at_mut(key.index);
        let bytes = match &response {
            Response::Borrowed(bytes) => bytes,
            Response::Owned(bytes) => bytes.as_slice(),
        };
        let head = conn.queue.head();
        let pool = &mut self.pools[conn.pool as usize];
        let mut request = None;
        if head != NONE {
            let Record { expect, size, command, arrived_at, .. } = *self.records.at(head);
            if pool.options.protocol.accepts_framed(expect, &conn.framer) {
                request = Some((size, command, arrived_at));
            }
        }
        let Some((request_size, command, arrived_at)) = request else {
            if head == NONE && self.relay(key, bytes) {
                return !self.conns.at(key.index).is_closing();
            }
            // A response to nothing, or to something else: nobody knows whose the next one is.
            self.break_connection(key, RequestError::ServerMisbehaved);
            return false;
        };
        let (mut conn, mut pool, mut took_ns) = (conn, pool, 0);
        if request_size > 0 {
            took_ns = self.now.as_ns().saturating_sub(arrived_at.as_ns());
            let run = &mut self.answered;
            if (run.command, run.arrived_at) != (command, arrived_at) {
                run.count_into(&mut pool.stats, conn.server as usize, self.now);
                *run = Answered { command, arrived_at, ..Answered::default() };
            }
            run.count += 1;
            run.bytes += bytes.len() as u64;
        } else {
            // What answers the handshake or a probe answers no request.
            if !self.own_response_came(key, head, bytes) {
                return false;
            }
            conn = self.conns.at_mut(key.index);
            pool = &mut self.pools[conn.pool as usize];
        }
        pool.record_success(conn.server as usize);
        conn.queue_size -= u64::from(request_size);
        if conn.waiting_first == head {
            conn.note_waiting_answered(&self.records);
        }
        conn.queue.pop(&mut self.records);
        let reviewed = conn.reviewed;
        match response {
            Response::Borrowed(bytes) => {
                if self.slow_log.is_slow(took_ns) {
                    self.log_if_in_turn(head);
                }
                self.complete(head, bytes);
            }
            Response::Owned(bytes) => self.complete_owned(head, bytes),
        }
        !(reviewed && self.review(key))
    }
}
