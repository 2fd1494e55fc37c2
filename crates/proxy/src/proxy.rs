//! The proxy of one worker as a whole: its state, one entry for each event, and what is to be done.
//!
//! A turn is: [`Proxy::begin_turn`] with the time, the `handle_*` of every event, then
//! [`Proxy::end_turn`], then [`Proxy::poll_action`] until it has nothing more, which starts one
//! send for each connection that became dirty. Invariant: after the last action of a turn no dirty
//! connection is left that could be sending.

use std::collections::VecDeque;

use base::slab::Key;
use base::{
    Address, Buffers, Chain, Kind, RecvEnd, Slab, SocketError, SplitMix64, Time, TimerWheel, Token,
};
use protocol::{Quiet, Scratch, Version};

use crate::action::Action;
use crate::canary::{Canaries, Canary};
use crate::client::Client;
use crate::fragment::{SpareParts, SplitScratch};
use crate::hold::Held;
use crate::options::{PoolOptions, WorkerLimits};
use crate::pool::Pool;
use crate::request::{NONE, Owner, Record, Reply};
use crate::server::{Answered, Lane, ServerConn};
use crate::slow_log::SlowLog;
use crate::stats::WorkerStats;

/// Whom a timer of the wheel belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    Client(Key),
    Server(Key),
    /// Of this index; it probes ejected servers.
    Pool(u32),
}

/// Numbers for clients, none of which is given twice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientIds {
    pub(crate) next: u64,
    pub(crate) step: u64,
}

/// See the module's text and the crate's.
pub struct Proxy {
    pub(crate) pools: Vec<Pool>,
    pub(crate) limits: WorkerLimits,
    pub(crate) clients: Slab<Client>,
    pub(crate) conns: Slab<ServerConn>,
    pub(crate) records: Slab<Record>,
    pub(crate) buffers: Buffers,
    pub(crate) scratch: Scratch,
    pub(crate) split_scratch: SplitScratch,
    pub(crate) spare_parts: SpareParts,
    pub(crate) wheel: TimerWheel<Timer>,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) clients_dirty: Vec<Key>,
    pub(crate) conns_dirty: Vec<Key>,
    pub(crate) clients_resumable: Vec<Key>,
    pub(crate) held: Held,
    /// Bytes of unfinished requests, forwarded requests and waiting replies.
    pub(crate) buffered_bytes: usize,
    pub(crate) random: SplitMix64,
    /// Clients are closed as soon as they are owed nothing.
    pub(crate) draining: bool,
    /// The same for some clients at least: a pool was removed.
    pub(crate) ending: bool,
    pub(crate) client_ids: ClientIds,
    pub(crate) canaries: Canaries,
    pub(crate) now: Time,
    pub(crate) stats_sends: u64,
    pub(crate) slow_log: SlowLog,
    pub(crate) answered: Answered,
    /// A request of this turn belongs to a server whose name does not resolve.
    pub(crate) names_failed: bool,
    timers_due: Vec<Timer>,
}

impl Proxy {
    /// A proxy for these pools, none of whose servers is resolved yet. `seed` feeds what is drawn:
    /// the distribution `random` and the jitter of reconnecting.
    pub fn new(pools: Vec<PoolOptions>, limits: WorkerLimits, seed: u64, now: Time) -> Proxy {
        let mut random = SplitMix64::new(seed);
        let pools: Vec<Pool> =
            pools.into_iter().map(|options| Pool::new(options, random.draw())).collect();
        Proxy {
            slow_log: SlowLog::new(&pools),
            pools,
            limits,
            clients: Slab::new(),
            conns: Slab::new(),
            records: Slab::new(),
            buffers: Buffers::new(),
            scratch: Scratch::default(),
            split_scratch: SplitScratch::default(),
            spare_parts: SpareParts::default(),
            wheel: TimerWheel::new(now),
            actions: VecDeque::new(),
            clients_dirty: Vec::new(),
            conns_dirty: Vec::new(),
            clients_resumable: Vec::new(),
            held: Held::default(),
            buffered_bytes: 0,
            random,
            draining: false,
            ending: false,
            client_ids: ClientIds { next: 1, step: 1 },
            canaries: Canaries::default(),
            now,
            stats_sends: 0,
            answered: Answered::default(),
            names_failed: false,
            timers_due: Vec::new(),
        }
    }

    /// Clients get the numbers `first`, `first + step` and so on, so that those of several workers
    /// differ. 1 and 1 unless this is called, which is to be done before the first client comes.
    pub fn number_clients(&mut self, first: u64, step: u64) {
        self.client_ids = ClientIds { next: first, step };
    }

    /// Says where a server is, or that its name can't be resolved. Connections that are open stay.
    pub fn set_address(&mut self, pool: usize, server: usize, address: Option<Address>) {
        self.pools[pool].servers[server].address = address;
    }

    /// Opens the connections, those that are not open, of the pools that want them before the first
    /// request; but none to a server that is ejected.
    pub fn preconnect(&mut self) {
        for pool in 0..self.pools.len() {
            if !self.pools[pool].options.preconnect || self.pools[pool].removed {
                continue;
            }
            for server in 0..self.pools[pool].retired_index() {
                if !self.pools[pool].servers[server].health.is_live() {
                    continue;
                }
                let lanes_count = self.pools[pool].options.server_connections_per_worker as usize;
                for index in 0..lanes_count {
                    // Those of another version are opened when a client has chosen that. A name
                    // that is not resolved yet is tried again by the first request.
                    let lane = Lane { index, version: Version::Basic };
                    let _ = self.connection_for(pool, server, lane);
                }
            }
        }
    }

    /// Starts a turn; `now` is the time for everything in it.
    pub fn begin_turn(&mut self, now: Time) {
        self.now = now;
    }

    /// See the contract in docs/event-base.md: a connection to a server opened.
    pub fn handle_connected(&mut self, token: Token) {
        self.server_connected(key_of(token));
    }

    /// A connection to a server could not be opened.
    pub fn handle_connect_failed(&mut self, token: Token, error: SocketError) {
        self.server_connect_failed(key_of(token), error);
    }

    /// Bytes arrived. They are not needed after the call.
    #[inline]
    pub fn handle_received(&mut self, token: Token, bytes: &[u8]) {
        match token.kind() {
            Kind::Client => self.client_received(key_of(token), bytes),
            Kind::Server => self.server_received(key_of(token), bytes),
            Kind::Listener => {}
        }
    }

    /// Receiving ended.
    pub fn handle_recv_end(&mut self, token: Token, end: RecvEnd) {
        match token.kind() {
            Kind::Client => self.client_recv_end(key_of(token), end),
            Kind::Server => self.server_recv_end(key_of(token), end),
            Kind::Listener => {}
        }
    }

    /// A send is done.
    #[inline]
    pub fn handle_sent(&mut self, token: Token, chain: Chain) {
        match token.kind() {
            Kind::Client => self.client_sent(key_of(token), chain, false),
            Kind::Server => self.server_sent(key_of(token), chain, None),
            Kind::Listener => {}
        }
    }

    /// A send failed.
    pub fn handle_send_failed(&mut self, token: Token, chain: Chain, error: SocketError) {
        match token.kind() {
            Kind::Client => self.client_sent(key_of(token), chain, true),
            Kind::Server => self.server_sent(key_of(token), chain, Some(error)),
            Kind::Listener => {}
        }
    }

    /// A connection is gone; its token may be used again. Gives the pool that a client was of.
    pub fn handle_closed(&mut self, token: Token) -> Option<usize> {
        match token.kind() {
            Kind::Client => return self.client_closed(key_of(token)),
            Kind::Server => self.server_closed(key_of(token)),
            Kind::Listener => {}
        }
        None
    }

    /// Ends a turn: timers fire, and clients that were paused and owe little by now go on. Replies
    /// that came in the same turn were handled before, so that none of them counts as late.
    pub fn end_turn(&mut self) {
        let mut due = std::mem::take(&mut self.timers_due);
        self.wheel.expire(self.now, &mut due);
        for timer in due.drain(..) {
            match timer {
                Timer::Client(key) => self.client_timer(key),
                Timer::Server(key) => self.server_timer(key),
                Timer::Pool(index) => self.pool_timer(index as usize),
            }
        }
        self.timers_due = due;
        let mut resumable = std::mem::take(&mut self.clients_resumable);
        for key in resumable.drain(..) {
            self.client_resume(key);
        }
        // Resuming one client may have made another resumable: it goes on next turn.
        std::mem::swap(&mut self.clients_resumable, &mut resumable);
        self.clients_resumable.append(&mut resumable);
        self.review_held();
        if self.names_failed {
            self.count_failed_names();
        }
    }

    /// The next thing to do, or `None` when the turn is over.
    #[inline]
    pub fn poll_action(&mut self) -> Option<Action> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            if let Some(key) = self.conns_dirty.pop() {
                if let Some(action) = self.server_flush(key) {
                    return Some(action);
                }
            } else if let Some(key) = self.clients_dirty.pop() {
                if let Some(action) = self.client_flush(key) {
                    return Some(action);
                }
            } else {
                self.end_review();
                return None;
            }
        }
    }

    /// When the next turn must begin at the latest, or `None` when only an event can be a reason.
    pub fn poll_deadline(&self) -> Option<Time> {
        if !self.clients_resumable.is_empty() {
            return Some(self.now);
        }
        self.wheel.next_deadline().into_iter().chain(self.held_until()).min()
    }

    /// From now on clients are closed when everything that they asked for is answered and sent;
    /// those that ask for nothing after a moment, in which a request on its way may still come, and
    /// which is longer for a client that is new. A request that is half received is waited for.
    pub fn drain(&mut self) {
        self.draining = true;
        self.ending = true;
        let clients: Vec<Key> = self.clients.iter().map(|(key, _)| key).collect();
        for key in clients {
            if self.canaries.sings(Canary::DrainCuts) {
                self.client_close(key);
            }
            self.client_drain(key);
        }
    }

    /// Closes every connection.
    pub fn shutdown(&mut self) {
        let clients: Vec<Key> = self.clients.iter().map(|(key, _)| key).collect();
        for key in clients {
            self.client_close(key);
        }
    }

    /// A copy of the counters.
    pub fn stats(&self) -> WorkerStats {
        let pools = self.pools.iter().enumerate().map(|(pool_index, pool)| {
            let mut stats = pool.stats.clone();
            // What retired connections still do is nobody's any more.
            stats.servers.truncate(pool.retired_index());
            stats.latencies.truncate(pool.retired_index());
            for (server_index, server) in stats.servers.iter_mut().enumerate() {
                self.measure_queues(pool_index, server_index, server);
            }
            stats
        });
        WorkerStats {
            now: self.now,
            pools: pools.collect(),
            buffered_bytes: self.buffered_bytes as u64,
            sends: self.stats_sends,
        }
    }

    /// Bytes of unfinished requests, forwarded requests and waiting replies.
    pub fn buffered_bytes(&self) -> u64 {
        self.buffered_bytes as u64
    }

    /// Clients now.
    pub fn clients_count(&self) -> usize {
        self.clients.len()
    }

    /// Requests, and parts of requests, that are on their way.
    pub fn requests_count(&self) -> usize {
        self.records.len()
    }

    /// Connections to servers, those that are being opened or closed included.
    pub fn server_connections_count(&self) -> usize {
        self.conns.len()
    }

    /// Gives back what a burst left in spare buffers and empty tables.
    pub fn release_memory(&mut self) {
        self.buffers.clear();
        self.spare_parts.clear();
        self.records.shrink_if_empty();
    }
}

/// A request is answered.
impl Proxy {
    /// Gives a response that lies in a receive buffer to whom it belongs. The record has left its
    /// server's queue.
    #[inline]
    pub(crate) fn complete(&mut self, index: u32, bytes: &[u8]) {
        let record = self.records.at_mut(index);
        if let Owner::Client(key) = record.owner {
            let client = self.clients.at_mut(key.index);
            if client.requests.head() == index {
                // Its turn has come: straight into what is sent next.
                let quiet =
                    record.quiet.drops(bytes) && !self.canaries.sings(Canary::QuietAnswered);
                client.requests.pop(&mut self.records);
                self.records.remove_at(index);
                if !quiet {
                    client.out.push(bytes, &mut self.buffers);
                    self.buffered_bytes += bytes.len();
                    client.mark_dirty(key, &mut self.clients_dirty);
                }
                // For most there is no more to do.
                let next = client.requests.head();
                let follows = next != NONE && self.records.at(next).is_answered();
                if follows || client.is_watched() || self.ending {
                    self.release(key);
                }
                return;
            }
            if self.canaries.sings(Canary::OrderIgnored) && !record.quiet.drops(bytes) {
                record.quiet = Quiet::All;
                client.out.push(bytes, &mut self.buffers);
                self.buffered_bytes += bytes.len();
                client.mark_dirty(key, &mut self.clients_dirty);
            }
        } else if record.owner == Owner::Nobody {
            self.free_if_unqueued(index);
            return;
        }
        let mut copy = self.buffers.take(bytes.len());
        copy.extend_from_slice(bytes);
        self.complete_owned(index, copy);
    }

    /// Gives a response that is alone in a buffer to whom it belongs.
    pub(crate) fn complete_owned(&mut self, index: u32, bytes: Vec<u8>) {
        if self.records.at(index).owner == Owner::Nobody {
            self.buffers.give(bytes);
            self.free_if_unqueued(index);
            return;
        }
        self.complete_with(index, Reply::Bytes(bytes));
    }

    /// Frees a record that nobody waits for any more, unless a queue still holds it.
    pub(crate) fn free_if_unqueued(&mut self, index: u32) {
        let record = self.records.at(index);
        if !record.in_server && !record.in_client {
            self.records.remove_at(index);
        }
    }

    /// Answers a request that waits: with bytes, which are counted from here on, or an error.
    pub(crate) fn complete_with(&mut self, index: u32, reply: Reply) {
        let size = reply.size();
        self.buffered_bytes += size;
        let record = self.records.at_mut(index);
        match record.owner {
            Owner::Client(key) => {
                record.reply = reply;
                self.slow_log.note_answered(index, self.now);
                self.hold(key, size);
                let in_turn = self.clients.at(key.index).requests.head() == index;
                if in_turn {
                    self.release(key);
                }
            }
            Owner::Part { parent, part } => {
                record.owner = Owner::Nobody;
                self.slow_log.note_answered(index, self.now);
                self.slow_log.note_part(index, parent);
                self.free_if_unqueued(index);
                self.complete_part(parent, part, reply);
            }
            Owner::Nobody => {
                debug_assert!(matches!(reply, Reply::Failed(_)));
                self.free_if_unqueued(index);
            }
        }
    }
}

#[inline]
pub(crate) fn key_of(token: Token) -> Key {
    Key { index: token.index(), generation: token.generation() }
}
