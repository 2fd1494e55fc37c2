//! The slow log: requests that took longer than their pool allows, and where the time went.
//!
//! A worker keeps the last [`ENTRIES_MAX`]. Times are those of turns. Pools without a threshold pay
//! a comparison for each request and nothing else; the others note when a request is sent and
//! answered, in a table beside the records. A request is judged when its reply's turn has come.
//! Invariant: nothing here decides what happens to a request.

use std::collections::VecDeque;
use std::time::Duration;

use base::slab::Key;
use base::{Address, Time, Token};

use crate::client::Client;
use crate::pool::Pool;
use crate::proxy::Proxy;
use crate::request::{NONE, Owner};

/// Requests that a worker remembers.
pub const ENTRIES_MAX: usize = 128;

/// Clients whose addresses are looked up in one turn: each costs a system call, and when everything
/// is slow there is no time for that.
const NAMED_MAX: usize = 8;

/// A request that took long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowEntry {
    /// When its reply's turn came, on the worker's clock.
    pub at: Time,
    /// Index of its pool.
    pub pool: usize,
    /// Its client's name with the event base; the client may be gone.
    pub client: Token,
    /// How that calls itself; empty when it has not said.
    pub name: Vec<u8>,
    /// Where it is, if it was looked up in time.
    pub address: Option<Address>,
    /// Place of its command in the protocol's table.
    pub command: usize,
    /// The hash of its first key, by the pool's function, which gives the placement.
    pub key_hash: u32,
    /// The server that answered, or answered last, by index; `None` if it is gone, or was never
    /// asked.
    pub server: Option<usize>,
    /// From its arrival until it was sent.
    pub queued: Duration,
    /// From then until the response came, or the error in its place.
    pub server_time: Duration,
    /// From then until the reply was handed to the system: it waits for earlier replies, and for a
    /// client that does not read. `None` while it waits.
    pub unwritten: Option<Duration>,
    /// When the response came.
    answered_at: Time,
}

/// What is noted of a request on its way.
#[derive(Debug, Clone, Copy)]
struct Timing {
    /// That of the record, so that what is left of an earlier one in its place is not taken for it.
    arrived_at: Time,
    sent_at: Option<Time>,
    answered_at: Option<Time>,
    key_hash: u32,
    server: u32,
}

/// A request whose reply's turn has come.
pub(crate) struct SlowRequest {
    /// Of its record.
    pub(crate) index: u32,
    pub(crate) arrived_at: Time,
    pub(crate) command: u16,
    pub(crate) now: Time,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct SlowLog {
    /// The lowest threshold of all pools, in nanoseconds; `u64::MAX` without any.
    threshold_ns: u64,
    /// By the index of the record.
    timings: Vec<Timing>,
    entries: VecDeque<SlowEntry>,
    /// There are entries whose reply waits.
    has_unwritten: bool,
    /// Entries of this turn, at the end of `entries`, whose clients' addresses are wanted.
    unnamed_count: usize,
}

impl SlowLog {
    pub(crate) fn new(pools: &[Pool]) -> SlowLog {
        let mut log = SlowLog {
            threshold_ns: 0,
            timings: Vec::new(),
            entries: VecDeque::new(),
            has_unwritten: false,
            unnamed_count: 0,
        };
        log.set_thresholds(pools);
        log
    }

    /// The pools have other options.
    pub(crate) fn set_thresholds(&mut self, pools: &[Pool]) {
        let thresholds = pools.iter().filter_map(|pool| pool.options.slow_threshold);
        self.threshold_ns = thresholds.min().map_or(u64::MAX, nanoseconds);
    }

    /// The servers of a pool have other indices: `places` gives the new one of each old one, and
    /// `retired` for one that is gone.
    pub(crate) fn renumber(&mut self, pool: usize, places: &[usize], retired: usize) {
        for entry in self.entries.iter_mut().filter(|entry| entry.pool == pool) {
            let place = entry.server.map(|server| places[server]);
            entry.server = place.filter(|place| *place != retired);
        }
    }

    /// A request of a pool with a threshold has been parsed.
    #[cold]
    #[inline(never)]
    pub(crate) fn begin(&mut self, index: u32, arrived_at: Time, key_hash: u32) {
        let timing =
            Timing { arrived_at, sent_at: None, answered_at: None, key_hash, server: NONE };
        let index = index as usize;
        if self.timings.len() <= index {
            self.timings.resize(index + 1, timing);
        }
        self.timings[index] = timing;
    }

    /// It was queued for this server.
    pub(crate) fn note_server(&mut self, index: u32, server: u32) {
        if let Some(timing) = self.timings.get_mut(index as usize) {
            timing.server = server;
        }
    }

    /// It leaves in this turn.
    pub(crate) fn note_sent(&mut self, index: u32, now: Time) {
        if let Some(timing) = self.timings.get_mut(index as usize) {
            timing.sent_at.get_or_insert(now);
        }
    }

    /// Its response has come.
    pub(crate) fn note_answered(&mut self, index: u32, now: Time) {
        if let Some(timing) = self.timings.get_mut(index as usize) {
            timing.answered_at = Some(now);
        }
    }

    /// A part of a split request has ended: what is noted of it is that of the whole, until another
    /// part ends.
    pub(crate) fn note_part(&mut self, part: u32, parent: u32) {
        let noted = self.timings.get(part as usize).copied();
        if let (Some(noted), Some(whole)) = (noted, self.timings.get_mut(parent as usize)) {
            *whole = Timing { key_hash: whole.key_hash, ..noted };
        }
    }

    /// Whether a request that took so long may be slow for its pool.
    #[inline]
    pub(crate) fn is_slow(&self, took_ns: u64) -> bool {
        took_ns >= self.threshold_ns
    }

    /// Whether a send to a client may be what an entry waits for.
    #[inline]
    pub(crate) fn has_unwritten(&self) -> bool {
        self.has_unwritten
    }

    /// What a client was to be sent is handed to the system.
    #[cold]
    pub(crate) fn note_written(&mut self, client: Token, now: Time) {
        self.has_unwritten = false;
        for entry in self.entries.iter_mut().filter(|entry| entry.unwritten.is_none()) {
            if entry.client == client {
                entry.unwritten = Some(now - entry.answered_at);
            } else {
                self.has_unwritten = true;
            }
        }
    }

    /// The turn of a reply has come, so late that some pool calls it slow. Its record, with this
    /// index, may be gone.
    #[cold]
    #[inline(never)]
    pub(crate) fn log(&mut self, pool: &Pool, client: &Client, key: Key, request: SlowRequest) {
        let SlowRequest { index, arrived_at, command, now } = request;
        let threshold = pool.options.slow_threshold;
        if threshold.is_none_or(|threshold| now - arrived_at < threshold) {
            return;
        }
        let timing = self.timings.get(index as usize).copied();
        // Of what was on its way when the threshold was set only the whole is known.
        let timing = timing.filter(|timing| timing.arrived_at == arrived_at);
        let answered_at = timing.and_then(|timing| timing.answered_at).unwrap_or(now);
        let sent_at = timing.map_or(arrived_at, |timing| timing.sent_at.unwrap_or(answered_at));
        let server = timing.map(|timing| timing.server as usize);
        self.push(SlowEntry {
            at: now,
            pool: client.pool as usize,
            client: Client::token(key),
            name: client.profile.name().to_vec(),
            address: None,
            command: usize::from(command),
            key_hash: timing.map_or(0, |timing| timing.key_hash),
            server: server.filter(|server| *server < pool.retired_index()),
            queued: sent_at - arrived_at,
            server_time: answered_at - sent_at,
            unwritten: (!client.sending).then(|| now - answered_at),
            answered_at,
        });
    }

    fn push(&mut self, entry: SlowEntry) {
        if self.entries.len() == ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.has_unwritten |= entry.unwritten.is_none();
        self.unnamed_count = (self.unnamed_count + 1).min(ENTRIES_MAX);
        self.entries.push_back(entry);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Proxy {
    /// The requests that took long, oldest first.
    pub fn slow_log(&self) -> impl Iterator<Item = &SlowEntry> {
        self.slow_log.entries.iter()
    }

    /// A response is about to be given to its request: when its turn has come, that is its end.
    /// Otherwise it is judged when it is released.
    #[cold]
    #[inline(never)]
    pub(crate) fn log_if_in_turn(&mut self, index: u32) {
        let record = self.records.at(index);
        let Owner::Client(key) = record.owner else { return };
        let client = self.clients.at(key.index);
        if client.requests.head() == index {
            let pool = &self.pools[client.pool as usize];
            let (arrived_at, command) = (record.arrived_at, record.command);
            let request = SlowRequest { index, arrived_at, command, now: self.now };
            self.slow_log.log(pool, client, key, request);
        }
    }

    /// Looks up where the clients of this turn's slow requests are, those of the first few. To be
    /// called before the turn's actions, which may close them.
    #[inline]
    pub fn name_slow_clients(&mut self, address: impl Fn(Token) -> Option<Address>) {
        if self.slow_log.unnamed_count > 0 {
            let count = std::mem::take(&mut self.slow_log.unnamed_count);
            let first = self.slow_log.entries.len() - count;
            for entry in self.slow_log.entries.range_mut(first..).take(NAMED_MAX) {
                entry.address = address(entry.client);
            }
        }
    }
}
