//! The server's side: requests are queued and sent, responses are paired with them.
//!
//! ```text
//!            first request            Connected                 EOF, error, nonsense, silence
//!   (none) --------------> Connecting ---------> Ready ------------------------------> Closing
//!                              |                                                         |
//!                              | refused, too slow                                Closed |
//!                              +------------------> Closing                              v
//!                                                                                     (none)
//! ```
//!
//! A connection that speaks another version of the protocol than the first is Greeting between
//! Connecting and Ready, until the server has agreed to it: what it executes it must answer in that
//! version. Clients of different versions never share a connection.
//!
//! A connection that breaks fails exactly the requests in its queue, and the next request opens a
//! new one. It is never stopped for a slow client's sake: its responses move to the client's queue.
//! A request that times out is answered with an error and leaves its place in the queue to whatever
//! response still comes, which goes to nobody. Connections that belong to one client are in
//! `dedicated.rs`. Invariant: the n-th response of a connection belongs to the n-th request of its
//! queue.

mod requests;
mod responses;

use std::time::Duration;

use base::slab::Key;
use base::{Buffers, Chain, Kind, RecvEnd, Slab, SocketError, Time, Token};
use protocol::{ResponseState, Version};

use crate::action::Action;
use crate::canary::Canary;
use crate::errors::RequestError;
use crate::proxy::Proxy;
use crate::request::{Fifo, NONE, Owner, Record};
use crate::slow_log::SlowLog;
use crate::stats::ServerStats;
pub(crate) use responses::Answered;

/// Waiting time after the first failed attempt to connect; it doubles with each further one.
const RETRY_MIN_MS: u64 = 5;
/// The same, for a server that can't even be tried.
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(RETRY_MIN_MS);
/// The longest waiting time between two attempts to connect.
const RETRY_MAX_MS: u64 = 320;

/// How long a server that has refused to speak another version of the protocol is not asked again.
const VERSION_RETRY: Duration = Duration::from_millis(RETRY_MAX_MS);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    /// Nothing but the handshake is sent.
    Greeting,
    Ready,
    Closing,
}

impl State {
    /// Whether it is one of the server's open connections.
    fn is_open(self) -> bool {
        matches!(self, State::Greeting | State::Ready)
    }
}

/// Which of the connections to a server that clients share carries somebody's requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane {
    /// Any number; who has the same one shares a connection.
    pub(crate) index: usize,
    /// What is spoken on it.
    pub(crate) version: Version,
}

/// One connection to a server.
#[derive(Debug)]
pub(crate) struct ServerConn {
    pub(crate) pool: u32,
    /// Index in the pool, [`Pool::retired_index`](crate::pool::Pool::retired_index) included.
    pub(crate) server: u32,
    /// Its place among the connections that clients share; `None` when it is dedicated.
    pub(crate) lane: Option<u32>,
    /// What is spoken on it.
    pub(crate) version: Version,
    /// The client that it is dedicated to.
    pub(crate) client: Option<Key>,
    /// When it must have said that it has answered all that this client, who listens, asked for.
    pub(crate) mark_due: Option<Time>,
    /// It carries no new request and is closed with its last response.
    pub(crate) retired: bool,
    /// It is retired or dedicated: a response may be the last.
    reviewed: bool,
    state: State,
    sending: bool,
    pub(crate) dirty: bool,
    /// When the connection's timer fires; `Time::MAX` when none is set.
    timer_at: Time,
    /// When the attempt to connect is given up.
    connect_deadline: Time,
    framer: ResponseState,
    need: usize,
    /// The beginning of a response, when it straddles two receive buffers.
    pub(crate) input: Vec<u8>,
    /// Requests whose responses have not come, sent or not.
    pub(crate) queue: Fifo,
    /// Their bytes.
    queue_size: u64,
    pub(crate) out: Chain,
    /// Requests in `out`.
    out_count: u32,
    /// Requests, and bytes, of the send under way.
    sending_count: u32,
    sending_size: usize,
    /// Bytes forwarded of the request that is about to be queued.
    forwarded_size: u32,
    /// The first request that could not leave in the turn in which it came, or [`NONE`]; only in a
    /// pool with a slow log.
    waiting_first: u32,
}

impl ServerConn {
    fn token(key: Key) -> Token {
        Token::new(Kind::Server, key.index, key.generation)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state == State::Closing
    }

    /// Lets a part of a request be written to what is sent next. `size` is about how large it will
    /// be. Returns how large it is, which is for the worker to count.
    #[inline]
    pub(crate) fn forward(
        &mut self,
        size: usize,
        buffers: &mut Buffers,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let added = self.out.append(size, buffers, write);
        self.forwarded_size += added as u32;
        added
    }
}

/// For the slow log.
impl ServerConn {
    /// A request has been put into the queue.
    #[cold]
    #[inline(never)]
    fn note_queued(&mut self, index: u32, slow_log: &mut SlowLog, now: Time) {
        slow_log.note_server(index, self.server);
        if self.state == State::Ready && !self.sending {
            slow_log.note_sent(index, now);
        } else if self.waiting_first == NONE {
            self.waiting_first = index;
        }
    }

    /// The server has answered the first request that waits, which it was not asked yet.
    #[cold]
    #[inline(never)]
    fn note_waiting_answered(&mut self, records: &Slab<Record>) {
        self.waiting_first = self.queue.next(records, self.waiting_first);
    }
}

/// What the event base tells about servers.
impl Proxy {
    pub(crate) fn server_connected(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.state != State::Connecting {
            return;
        }
        let pool = &mut self.pools[conn.pool as usize];
        pool.stats.servers[conn.server as usize].connections += 1;
        pool.servers[conn.server as usize].attempts_failed = 0;
        self.actions.push_back(Action::RecvStart(ServerConn::token(key), usize::MAX));
        if conn.version == Version::Basic {
            conn.state = State::Ready;
            self.mark_server_dirty(key);
        } else {
            self.greet(key);
        }
    }

    pub(crate) fn server_connect_failed(&mut self, key: Key, error: SocketError) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.state != State::Connecting {
            return;
        }
        let wait = self.retry_wait(key);
        let conn = self.conns.at_mut(key.index);
        let server = &mut self.pools[conn.pool as usize].servers[conn.server as usize];
        server.attempts_failed = server.attempts_failed.saturating_add(1);
        server.retry_at = self.now + wait;
        server.last_error = error;
        self.break_connection(key, RequestError::Connection(error));
    }

    /// Doubles with each failure; half of it is drawn, so that workers do not knock together.
    fn retry_wait(&mut self, key: Key) -> Duration {
        let conn = self.conns.at(key.index);
        let server = &self.pools[conn.pool as usize].servers[conn.server as usize];
        let full_ms = (RETRY_MIN_MS << server.attempts_failed.min(6)).min(RETRY_MAX_MS);
        let drawn_us = self.random.draw() % (full_ms * 500);
        Duration::from_micros(full_ms * 500 + drawn_us)
    }

    pub(crate) fn server_received(&mut self, key: Key, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if !conn.state.is_open() {
            return;
        }
        self.take_responses(key, bytes);
        let conn = self.conns.at(key.index);
        let stats = &mut self.pools[conn.pool as usize].stats;
        std::mem::take(&mut self.answered).count_into(stats, conn.server as usize, self.now);
    }

    pub(crate) fn server_recv_end(&mut self, key: Key, end: RecvEnd) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.state == State::Closing {
            return;
        }
        match end {
            RecvEnd::Credit | RecvEnd::Stopped => {
                self.actions.push_back(Action::RecvStart(ServerConn::token(key), usize::MAX));
            }
            RecvEnd::Eof => {
                let idle = conn.queue.is_empty();
                let pool = &mut self.pools[conn.pool as usize];
                pool.stats.servers[conn.server as usize].eof_count += 1;
                self.drop_connection(key, RequestError::ServerClosed, !idle);
            }
            RecvEnd::Error(error) => {
                self.break_connection(key, RequestError::Connection(error));
            }
        }
    }

    pub(crate) fn server_sent(&mut self, key: Key, mut chain: Chain, failed: Option<SocketError>) {
        self.buffered_bytes -= chain.len();
        chain.recycle(&mut self.buffers);
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.sending = false;
        conn.sending_count = 0;
        conn.sending_size = 0;
        if conn.state == State::Closing {
            return;
        }
        match failed {
            // What the server said before it closed may still be on its way to us, so the receive
            // operation has the last word; it ends soon, since the connection is broken.
            Some(SocketError::BrokenPipe | SocketError::ConnectionReset) => {}
            Some(error) => self.break_connection(key, RequestError::Connection(error)),
            None if !conn.out.is_empty() => self.mark_server_dirty(key),
            None => {}
        }
    }

    pub(crate) fn server_closed(&mut self, key: Key) {
        let conn = self.conns.remove(key);
        debug_assert!(conn.is_none_or(|conn| conn.state == State::Closing));
    }

    /// A connection has not opened, or the oldest request not been answered, in time.
    pub(crate) fn server_timer(&mut self, key: Key) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.state == State::Closing || now < conn.timer_at {
            // An entry that an earlier one has overtaken.
            return;
        }
        conn.timer_at = Time::MAX;
        if conn.state == State::Connecting && conn.connect_deadline <= now {
            let stats = &mut self.pools[conn.pool as usize].stats.servers[conn.server as usize];
            stats.timedout_count += 1;
            self.server_connect_failed(key, SocketError::TimedOut);
            return;
        }
        let (pool, server) = (conn.pool as usize, conn.server as usize);
        if conn.lane.is_none() && self.next_due(key).is_some_and(|due| due <= now) {
            self.pools[pool].stats.servers[server].timedout_count += 1;
            self.break_connection(key, RequestError::TimedOut);
            return;
        }
        let grace = self.grace(pool);
        let mut expired_count = 0;
        let mut index = self.conns.at(key.index).queue.head();
        while index != NONE {
            let next = self.conns.at(key.index).queue.next(&self.records, index);
            let record = self.records.at_mut(index);
            let neighbour = expired_count == 1 && self.canaries.sings(Canary::TimeoutHitsNeighbour);
            match (record.deadline, record.owner) {
                (Some(deadline), _) if deadline > now && !neighbour => break,
                (Some(deadline), Owner::Nobody) => {
                    // Already answered with an error, or the client is gone: for how long may the
                    // server keep its neighbours waiting?
                    if deadline + grace <= now {
                        self.break_connection(key, RequestError::TimedOut);
                        return;
                    }
                }
                (Some(_), _) => {
                    expired_count += 1;
                    self.count_failed(pool, server, index);
                    self.fail(index, RequestError::TimedOut);
                    self.records.at_mut(index).owner = Owner::Nobody;
                    if self.canaries.sings(Canary::LateReplyToNext) {
                        self.forget_head(key);
                    }
                }
                (None, _) => {}
            }
            index = next;
        }
        self.pools[pool].stats.servers[server].timedout_count += expired_count;
        if expired_count > 0 {
            self.pools[pool].record_failure(server, now);
            self.set_pool_timer(pool);
        }
        self.set_server_timer(key);
    }
}

/// Connections end.
impl Proxy {
    /// The deliberate bug [`Canary::LateReplyToNext`].
    #[cold]
    fn forget_head(&mut self, key: Key) {
        let conn = self.conns.at_mut(key.index);
        if let Some(head) = conn.queue.pop(&mut self.records) {
            conn.queue_size -= u64::from(self.records.at(head).size);
            self.free_if_unqueued(head);
        }
    }

    /// A time-out that has become shorter holds for what is on its way, too.
    pub(crate) fn shorten_deadlines(&mut self, key: Key, timeout: Duration) {
        let latest = self.now + timeout;
        let mut index = self.conns.at(key.index).queue.head();
        while index != NONE {
            let record = self.records.at_mut(index);
            if !record.waits {
                let deadline = record.deadline.map_or(latest, |deadline| deadline.min(latest));
                record.deadline = Some(deadline);
            }
            index = self.conns.at(key.index).queue.next(&self.records, index);
        }
        self.set_server_timer(key);
    }

    /// Takes a connection out of use that is counted to `server` so far.
    pub(crate) fn retire(&mut self, key: Key, server: usize) {
        let conn = self.conns.at_mut(key.index);
        let pool = &mut self.pools[conn.pool as usize];
        let retired = pool.retired_index();
        if conn.state.is_open() && server != retired {
            pool.stats.servers[server].connections -= 1;
            pool.stats.servers[retired].connections += 1;
        }
        conn.server = retired as u32;
        conn.retired = true;
        conn.reviewed = true;
        self.review(key);
    }

    /// After a response, or when it was retired: whether the connection is closed by now.
    #[cold]
    fn review(&mut self, key: Key) -> bool {
        let conn = self.conns.at(key.index);
        if conn.client.is_some() {
            return self.review_dedicated(key);
        }
        let cut = self.canaries.sings(Canary::RetiredCut);
        let done = conn.retired && (conn.queue.is_empty() || cut) && conn.state != State::Closing;
        if done {
            self.drop_connection(key, RequestError::ServerClosed, false);
        }
        done
    }

    pub(crate) fn break_connection(&mut self, key: Key, error: RequestError) {
        let conn = self.conns.at(key.index);
        let stats = &mut self.pools[conn.pool as usize].stats.servers[conn.server as usize];
        stats.error_count += 1;
        if self.canaries.sings(Canary::BreakHitsNeighbour)
            && let Some(other) = self.server_of_another(key)
        {
            self.drop_connection(other, error, false);
        }
        self.drop_connection(key, error, true);
    }

    /// Closes a connection and fails every request in its queue.
    pub(crate) fn drop_connection(&mut self, key: Key, error: RequestError, is_failure: bool) {
        let conn = self.conns.at_mut(key.index);
        debug_assert!(conn.state != State::Closing);
        let pool = &mut self.pools[conn.pool as usize];
        if conn.state.is_open() {
            pool.stats.servers[conn.server as usize].connections -= 1;
        }
        conn.state = State::Closing;
        let (pool_index, server_index) = (conn.pool as usize, conn.server as usize);
        if let (false, Some(lane)) = (conn.retired, conn.lane) {
            pool.servers[server_index].lanes[conn.version as usize][lane as usize] = None;
        }
        self.buffered_bytes -= conn.out.len() + conn.input.len();
        conn.out.recycle(&mut self.buffers);
        self.buffers.give(std::mem::take(&mut conn.input));
        self.actions.push_back(Action::Close(ServerConn::token(key)));
        let client = if conn.lane.is_none() { self.forget_dedicated(key) } else { None };
        if is_failure {
            self.server_failed(pool_index, server_index, key);
        }
        while let Some(index) = self.conns.at_mut(key.index).queue.pop(&mut self.records) {
            self.count_failed(pool_index, server_index, index);
            self.fail(index, error);
        }
        if let Some(client) = client {
            self.client_untied(client);
        }
    }

    /// A request that somebody waits for gets an error in place of the server's response.
    fn count_failed(&mut self, pool: usize, server: usize, index: u32) {
        let record = self.records.at(index);
        if record.size > 0 && record.owner != Owner::Nobody && !record.waits {
            let took_ns = self.now.as_ns().saturating_sub(record.arrived_at.as_ns());
            self.pools[pool].stats.latencies[server].record(record.command, took_ns, 1);
        }
    }

    /// Fills in what is not counted but looked up: the queues of a server now.
    pub(crate) fn measure_queues(&self, pool: usize, server: usize, stats: &mut ServerStats) {
        let server = &self.pools[pool].servers[server];
        stats.ejected_at = server.ejected_at;
        stats.ejected = u64::from(!server.health.is_live());
        for key in server.lanes.iter().flatten().flatten() {
            let conn = self.conns.at(key.index);
            let unsent_count = conn.out_count + conn.sending_count;
            let unsent_size = (conn.out.len() + conn.sending_size) as u64;
            stats.in_queue += u64::from(unsent_count);
            stats.in_queue_bytes += unsent_size;
            // The handshake's bytes are in no request.
            stats.out_queue += u64::from(conn.queue.len().saturating_sub(unsent_count));
            stats.out_queue_bytes += conn.queue_size.saturating_sub(unsent_size);
        }
    }
}
