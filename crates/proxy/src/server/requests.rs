//! Requests go out: connections are opened, greeted, and sent what was queued for them.
//!
//! Nothing is read here. Invariant: what stands in a connection's queue and not in `out` was sent,
//! or is with the send under way.

use std::time::Duration;

use base::slab::Key;
use base::{Chain, Time};
use protocol::{Expect, ResponseState, Version};

use crate::action::Action;
use crate::canary::Canary;
use crate::errors::RequestError;
use crate::proxy::{Proxy, Timer};
use crate::request::{Fifo, NONE, Owner, Record, Side};

use super::{Lane, ServerConn, State, VERSION_RETRY};

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
            server.name_failed = true;
            self.names_failed = true;
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
    pub(super) fn greet(&mut self, key: Key) {
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
    pub(super) fn own_response_came(&mut self, key: Key, record: u32, response: &[u8]) -> bool {
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
    pub(super) fn pushed(&mut self, key: Key, message: &[u8]) -> bool {
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

    pub(super) fn mark_server_dirty(&mut self, key: Key) {
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
    pub(super) fn set_server_timer(&mut self, key: Key) {
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
    pub(super) fn next_due(&self, key: Key) -> Option<Time> {
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
    pub(super) fn grace(&self, pool: usize) -> Duration {
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
