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

use std::time::Duration;

use base::slab::Key;
use base::{Buffers, Chain, Kind, RecvEnd, Slab, SocketError, Time, Token};
use protocol::{Expect, Framed, ResponseState, Version};

use crate::action::Action;
use crate::canary::Canary;
use crate::errors::RequestError;
use crate::gather::{RESERVE_MAX, SIZE_MIN};
use crate::proxy::{Proxy, Timer};
use crate::request::{Fifo, NONE, Owner, Record, Side};
use crate::slow_log::SlowLog;
use crate::stats::{PoolStats, ServerStats};

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

    fn take_responses(&mut self, key: Key, bytes: &[u8]) {
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

/// Requests go out.
impl Proxy {
    /// The connection that carries the requests of a lane to this server; opened if there is none.
    pub(crate) fn connection_for(
        &mut self,
        pool_index: usize,
        server_index: usize,
        lane: Lane,
    ) -> Result<Key, RequestError> {
        let pool = &mut self.pools[pool_index];
        let server = &mut pool.servers[server_index];
        // A client always uses the same connection to a server, so that its requests stay in order.
        let Lane { index, mut version } = lane;
        if self.canaries.sings(Canary::VersionsMixed) {
            version = Version::Basic;
        }
        let lanes = &server.lanes[version as usize];
        // Nearly all pools have one, and a division takes as long as twenty other instructions.
        let lane = if lanes.len() == 1 { 0 } else { index % lanes.len() };
        if let Some(key) = lanes[lane] {
            let inflight_max = pool.options.server_requests_inflight_max;
            if self.conns.at(key.index).queue.len() >= inflight_max {
                return Err(RequestError::ServerQueueFull);
            }
            return Ok(key);
        }
        let key = self.open_connection(pool_index, server_index, Some(lane as u32), version)?;
        self.pools[pool_index].servers[server_index].lanes[version as usize][lane] = Some(key);
        Ok(key)
    }

    /// Begins to open a connection.
    pub(crate) fn open_connection(
        &mut self,
        pool_index: usize,
        server_index: usize,
        lane: Option<u32>,
        version: Version,
    ) -> Result<Key, RequestError> {
        let pool = &mut self.pools[pool_index];
        let server = &mut pool.servers[server_index];
        if self.now < server.retry_at {
            return Err(RequestError::Connection(server.last_error));
        }
        if version != Version::Basic && self.now < server.version_retry_at {
            return Err(RequestError::VersionRefused);
        }
        let Some(address) = server.address.clone() else {
            return Err(RequestError::Unresolved);
        };
        let conn = ServerConn {
            pool: pool_index as u32,
            server: server_index as u32,
            lane,
            version,
            client: None,
            mark_due: None,
            retired: false,
            reviewed: lane.is_none(),
            state: State::Connecting,
            sending: false,
            dirty: false,
            timer_at: Time::MAX,
            connect_deadline: self.now + pool.options.connect_timeout,
            framer: ResponseState::new(version),
            need: 0,
            input: Vec::new(),
            queue: Fifo::new(Side::Server),
            queue_size: 0,
            out: Chain::new(),
            out_count: 0,
            sending_count: 0,
            sending_size: 0,
            forwarded_size: 0,
            waiting_first: NONE,
        };
        let key = self.conns.insert(conn);
        self.actions.push_back(Action::Connect(ServerConn::token(key), address));
        self.queue_handshake(key);
        self.set_server_timer(key);
        Ok(key)
    }

    /// What a new connection starts with. Where the server must agree first it does not stand
    /// before the requests in what is sent next, but is sent alone: see `greet`.
    fn queue_handshake(&mut self, key: Key) {
        let conn = self.conns.at(key.index);
        let handshake = &self.pools[conn.pool as usize].handshakes[conn.version as usize];
        if handshake.responses_count > 0 {
            let protocol::Handshake { mut bytes, responses_count } = handshake.clone();
            if conn.version != Version::Basic {
                bytes.clear();
            }
            self.queue_own(key, &bytes, responses_count);
        }
    }

    /// Proposes the connection's version to the server.
    fn greet(&mut self, key: Key) {
        let conn = self.conns.at_mut(key.index);
        let pool = &self.pools[conn.pool as usize];
        let bytes = &pool.handshakes[conn.version as usize].bytes;
        conn.state = State::Greeting;
        conn.sending = true;
        conn.sending_size = bytes.len();
        let mut out = Chain::new();
        out.push(bytes, &mut self.buffers);
        self.buffered_bytes += bytes.len();
        self.stats_sends += 1;
        self.actions.push_back(Action::Send(ServerConn::token(key), out));
    }

    /// The first response to the handshake has come. `false` when the server does not agree, and
    /// the connection is closed. That is no failure: the server lives.
    fn end_greeting(&mut self, key: Key, response: &[u8]) -> bool {
        let conn = self.conns.at_mut(key.index);
        let pool = &mut self.pools[conn.pool as usize];
        if pool.options.protocol.is_version_agreed(conn.version, response) {
            conn.state = State::Ready;
            self.mark_server_dirty(key);
            return true;
        }
        pool.servers[conn.server as usize].version_retry_at = self.now + VERSION_RETRY;
        self.drop_connection(key, RequestError::VersionRefused, false);
        false
    }

    /// A response came to something that no client has asked for. `false` when the connection is
    /// closed.
    #[cold]
    fn own_response_came(&mut self, key: Key, record: u32, response: &[u8]) -> bool {
        if self.conns.at(key.index).state == State::Greeting {
            return self.end_greeting(key, response);
        }
        self.handle_own_response(key, record, response);
        true
    }

    /// A message that answers no request. Who listens gets it. Anybody else has not asked to be
    /// told anything, and it is dropped: that it is no answer is certain, so the connection is in
    /// step as before. `false` when the connection is closed.
    #[cold]
    fn pushed(&mut self, key: Key, message: &[u8]) -> bool {
        self.relay(key, message);
        !self.conns.at(key.index).is_closing()
    }

    /// Sends something of our own, whose responses go to nobody. Returns the last one's record.
    pub(crate) fn queue_own(&mut self, key: Key, bytes: &[u8], responses_count: usize) -> u32 {
        let conn = self.conns.at_mut(key.index);
        conn.out.push(bytes, &mut self.buffers);
        self.buffered_bytes += bytes.len();
        let options = &self.pools[conn.pool as usize].options;
        let deadline = self.now + options.request_timeout.unwrap_or(options.connect_timeout);
        let mut last = NONE;
        for _ in 0..responses_count {
            let record = Record { deadline: Some(deadline), ..Record::new(Owner::Nobody) };
            last = self.records.insert(record).index;
            conn.queue.push(&mut self.records, last);
        }
        if conn.state == State::Ready {
            self.mark_server_dirty(key);
        }
        self.fire_by(key, deadline);
        last
    }

    /// Adds a part of a request to what is sent next.
    #[inline]
    pub(crate) fn forward_bytes(&mut self, key: Key, bytes: &[u8]) {
        let conn = self.conns.at_mut(key.index);
        let write = |out: &mut Vec<u8>| out.extend_from_slice(bytes);
        self.buffered_bytes += conn.forward(bytes.len(), &mut self.buffers, write);
    }

    pub(crate) fn forward_owned(&mut self, key: Key, bytes: Vec<u8>) {
        let conn = self.conns.at_mut(key.index);
        self.buffered_bytes += bytes.len();
        conn.forwarded_size += bytes.len() as u32;
        conn.out.push_owned(bytes, &mut self.buffers);
    }

    /// Puts the record of a request that was forwarded into the connection's queue.
    #[inline]
    pub(crate) fn enqueue(&mut self, key: Key, index: u32, expect: Expect) {
        let conn = self.conns.at_mut(key.index);
        let pool = &mut self.pools[conn.pool as usize];
        let record = self.records.at_mut(index);
        let timeout = pool.options.request_timeout.filter(|_| !record.waits);
        let deadline = timeout.map(|timeout| self.now + timeout);
        record.expect = expect;
        record.deadline = deadline;
        record.size = std::mem::take(&mut conn.forwarded_size);
        conn.queue_size += u64::from(record.size);
        conn.out_count += 1;
        let stats = &mut pool.stats.servers[conn.server as usize];
        stats.requests += 1;
        stats.request_bytes += u64::from(record.size);
        conn.queue.push(&mut self.records, index);
        if pool.options.slow_threshold.is_some() {
            conn.note_queued(index, &mut self.slow_log, self.now);
        }
        if conn.state == State::Ready && !conn.dirty {
            conn.dirty = true;
            self.conns_dirty.push(key);
        }
        if let Some(deadline) = deadline {
            self.fire_by(key, deadline);
        }
    }

    fn mark_server_dirty(&mut self, key: Key) {
        let conn = self.conns.at_mut(key.index);
        if !conn.dirty {
            conn.dirty = true;
            self.conns_dirty.push(key);
        }
    }

    /// Starts the one send of this turn.
    pub(crate) fn server_flush(&mut self, key: Key) -> Option<Action> {
        let conn = self.conns.get_mut(key)?;
        conn.dirty = false;
        let busy = conn.sending && !self.canaries.sings(Canary::TwoSends);
        if conn.state != State::Ready || busy || conn.out.is_empty() {
            return None;
        }
        conn.sending = true;
        conn.sending_count = std::mem::take(&mut conn.out_count);
        conn.sending_size = conn.out.len();
        self.stats_sends += 1;
        let out = conn.out.take();
        if conn.waiting_first != NONE {
            self.note_waiting_sent(key);
        }
        Some(Action::Send(ServerConn::token(key), out))
    }

    /// Requests that have waited are sent now.
    #[cold]
    fn note_waiting_sent(&mut self, key: Key) {
        let conn = self.conns.at_mut(key.index);
        let mut index = std::mem::replace(&mut conn.waiting_first, NONE);
        while index != NONE {
            self.slow_log.note_sent(index, self.now);
            index = conn.queue.next(&self.records, index);
        }
    }

    /// Arms the connection's one timer for the next thing that may go wrong.
    fn set_server_timer(&mut self, key: Key) {
        let conn = self.conns.at_mut(key.index);
        if conn.state == State::Closing {
            return;
        }
        let connect = (conn.state == State::Connecting).then_some(conn.connect_deadline);
        if let Some(deadline) = [connect, self.next_due(key)].into_iter().flatten().min() {
            self.fire_by(key, deadline);
        }
    }

    /// When the first request of a connection's queue runs out of time, or, when it has had its
    /// error, the server's time to answer it all the same, which on a dedicated connection is none.
    fn next_due(&self, key: Key) -> Option<Time> {
        let conn = self.conns.at(key.index);
        let dedicated = conn.lane.is_none();
        let mut given_up = conn.mark_due;
        let mut index = conn.queue.head();
        while index != NONE {
            match self.records.at(index).deadline {
                Some(deadline) if deadline > self.now => {
                    return Some(given_up.map_or(deadline, |at: Time| at.min(deadline)));
                }
                // What would come after it makes no sense without it.
                Some(deadline) if dedicated => return Some(deadline),
                Some(deadline) => {
                    given_up.get_or_insert(deadline + self.grace(conn.pool as usize));
                }
                None => {}
            }
            index = conn.queue.next(&self.records, index);
        }
        given_up
    }

    /// How long a server that has let a request's deadline pass may keep those behind it waiting.
    fn grace(&self, pool: usize) -> Duration {
        let options = &self.pools[pool].options;
        options.request_timeout.unwrap_or(options.connect_timeout)
    }

    /// Sets the connection's timer, unless it fires by then anyway.
    #[inline]
    fn fire_by(&mut self, key: Key, deadline: Time) {
        let conn = self.conns.at_mut(key.index);
        if deadline < conn.timer_at {
            conn.timer_at = deadline;
            self.wheel.insert(deadline, Timer::Server(key));
        }
    }
}

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
    fn count_into(&self, stats: &mut PoolStats, server: usize, now: Time) {
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
