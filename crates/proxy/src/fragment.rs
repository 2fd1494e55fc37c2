//! One request to many servers, and many responses to one.
//!
//! A request with several keys becomes one part a server, not one a key; each part is a record of
//! its own in its server's queue, and the request's own record waits in the client's queue for
//! them. What is written down about them is kept and used again; only to join them two small pieces
//! of memory are allocated. Invariant: the record of a split request lives until its last part has
//! come or failed.

use base::slab::Key;
use protocol::{Cursor, Join, Request};

use crate::canary::Canary;
use crate::errors::RequestError;
use crate::proxy::Proxy;
use crate::request::{Owner, Parts, Record, Reply};
use crate::server::Lane;

/// Working memory for splitting, reused for each request.
#[derive(Debug, Default)]
pub(crate) struct SplitScratch {
    /// The server of each key.
    servers: Vec<u32>,
    /// Of each server of the pool.
    shares: Vec<Share>,
    /// In the order of their servers.
    parts: Vec<ServerPart>,
    part_of_key: Vec<u32>,
    /// The keys, by part, in the order of the request within each.
    picks: Vec<u32>,
}

/// The keys of one server, while a request is split.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    /// How many they are; then, the place in `picks` of the next one.
    count: u32,
    part: u32,
}

#[derive(Debug)]
struct ServerPart {
    server: u32,
    /// Where its keys begin in `picks`.
    start: u32,
}

impl SplitScratch {
    /// Numbers the servers that own a key, by their index.
    fn number_parts(&mut self, servers_count: usize) {
        self.shares.clear();
        self.shares.resize(servers_count, Share::default());
        for server in &self.servers {
            self.shares[*server as usize].count += 1;
        }
        self.parts.clear();
        let mut start = 0;
        for (server, share) in (0..).zip(&mut self.shares).filter(|(_, share)| share.count > 0) {
            share.part = self.parts.len() as u32;
            self.parts.push(ServerPart { server, start });
            start += std::mem::replace(&mut share.count, start);
        }
    }

    /// Groups the keys by their parts, which were numbered: a counting sort.
    fn group(&mut self) {
        self.part_of_key.clear();
        self.picks.clear();
        self.picks.resize(self.servers.len(), 0);
        let shares = &mut self.shares;
        let picks = &mut self.picks;
        self.part_of_key.extend((0..).zip(&self.servers).map(|(key, server)| {
            let share = &mut shares[*server as usize];
            picks[share.count as usize] = key;
            share.count += 1;
            share.part
        }));
    }

    /// The keys of a part.
    fn picks(&self, part: usize) -> &[u32] {
        let end = self.parts.get(part + 1).map_or(self.picks.len(), |next| next.start as usize);
        &self.picks[self.parts[part].start as usize..end]
    }
}

/// What is kept of split requests that are done with, for the next ones.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is kept: records hold them")]
pub(crate) struct SpareParts(Vec<Box<Parts>>);

impl SpareParts {
    /// So many at the most: those of a turn with many such requests.
    const COUNT_MAX: usize = 128;
    /// None that holds more bytes than this.
    const CAPACITY_MAX: usize = 8 << 10;

    /// For a request of so many parts.
    fn take(&mut self, count: usize, plan: impl FnOnce(Join) -> Join) -> Box<Parts> {
        let mut parts = self.0.pop().unwrap_or_default();
        parts.join = plan(std::mem::take(&mut parts.join));
        parts.replies.extend((0..count).map(|_| Reply::Waiting));
        parts.waiting_count = count;
        parts
    }

    /// Whose replies were taken out.
    fn give(&mut self, parts: Box<Parts>) {
        debug_assert!(parts.replies.is_empty());
        let capacity = parts.replies.capacity() * size_of::<Reply>() + parts.join.capacity();
        if self.0.len() < SpareParts::COUNT_MAX && capacity <= SpareParts::CAPACITY_MAX {
            self.0.push(parts);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

impl Proxy {
    /// Sends a request with several keys to their owners. When it may go as it is to the one owner
    /// that they have in common nothing is sent and that owner returned; `None` says that all is
    /// done. Not a part of whoever calls it, which has enough to do for requests of one key.
    #[inline(never)]
    pub(crate) fn split(
        &mut self,
        client: Key,
        index: u32,
        request: &Request,
        frame: &[u8],
    ) -> Option<Result<usize, RequestError>> {
        let pool_index = self.clients.at(client.index).pool as usize;
        let pool = &mut self.pools[pool_index];
        let wire = request.bytes(frame, &self.scratch);
        let scratch = &mut self.split_scratch;
        scratch.servers.clear();
        let keys = self.scratch.keys.iter().map(|key| &wire[key.key.range()]);
        if let Err(error) = pool.route_each(keys, &mut scratch.servers) {
            return Some(Err(error));
        }
        scratch.number_parts(pool.servers.len());
        let protocol = pool.options.protocol;
        // Where responses name their keys even one part is joined, since that is what checks them.
        if let [only] = scratch.parts.as_slice()
            && !protocol.responses_name_keys()
        {
            return Some(Ok(only.server as usize));
        }
        scratch.group();
        if self.canaries.sings(Canary::FragmentsSwapped) {
            scratch.part_of_key.reverse();
        }
        let parts_count = scratch.parts.len();
        let parts = self.spare_parts.take(parts_count, |used| {
            protocol.plan_join(request, wire, &self.scratch.keys, &scratch.part_of_key, used)
        });
        self.records.at_mut(index).reply = Reply::Parts(parts);
        pool.stats.fragments += parts_count as u64;
        for part in 0..parts_count {
            self.send_part(client, index, part, request, frame);
        }
        None
    }

    /// Sends a request that is about no key to every server of the pool, as it is, unless it would
    /// empty them and the pool does not allow that. A server that can't be asked fails the whole:
    /// what must be done everywhere is not done.
    #[cold]
    pub(crate) fn send_everywhere(
        &mut self,
        client: Key,
        index: u32,
        request: &Request,
        frame: &[u8],
    ) {
        let pool_index = self.clients.at(client.index).pool as usize;
        let pool = &mut self.pools[pool_index];
        if request.command.flushes && !pool.options.allow_flush {
            pool.stats.client_faults += 1;
            let refusal = pool.options.protocol.flush_refused().to_vec();
            return self.complete_with(index, Reply::Bytes(refusal));
        }
        let servers_count = pool.retired_index();
        let lane = self.clients.at(client.index).lane(client);
        let wire = request.bytes(frame, &self.scratch);
        let parts = self.spare_parts.take(servers_count, |used| {
            pool.options.protocol.plan_join(request, wire, &[], &[], used)
        });
        self.records.at_mut(index).reply = Reply::Parts(parts);
        pool.stats.fragments += servers_count as u64;
        for server in 0..servers_count {
            let part = self.begin_part(index, server as u32, request, pool_index);
            match self.live_connection(pool_index, server, lane) {
                Ok(connection) => {
                    let mut whole = self.buffers.take(request.size);
                    request.append_whole(frame, &self.scratch, &mut whole);
                    self.forward_owned(connection, whole);
                    let expect = self.pools[pool_index].options.protocol.expect_of_part(request);
                    self.enqueue(connection, part, expect);
                }
                Err(error) => self.fail(part, error),
            }
        }
    }

    /// Sends a request of a walk through all servers to the one whose turn it is. Its response is a
    /// part, since what the client gets is made of it.
    #[cold]
    pub(crate) fn send_step(
        &mut self,
        client: Key,
        index: u32,
        cursor: Cursor,
        request: &Request,
        frame: &[u8],
    ) {
        let pool_index = self.clients.at(client.index).pool as usize;
        let pool = &mut self.pools[pool_index];
        let protocol = pool.options.protocol;
        let Some(step) = protocol.walk_step(cursor, pool.course()) else {
            // No server is to blame.
            pool.stats.client_faults += 1;
            let mut told = self.buffers.take(64);
            protocol.encode_error(RequestError::OtherServers.text(), &mut told);
            return self.complete_with(index, Reply::Bytes(told));
        };
        let parts = self.spare_parts.take(1, |_| protocol.plan_step(step));
        self.records.at_mut(index).reply = Reply::Parts(parts);
        pool.stats.fragments += 1;
        let part = self.begin_part(index, 0, request, pool_index);
        let lane = self.clients.at(client.index).lane(client);
        match self.live_connection(pool_index, step.server, lane) {
            Ok(connection) => {
                let mut whole = self.buffers.take(request.size);
                protocol.encode_step(&step, frame, &self.scratch, &mut whole);
                self.forward_owned(connection, whole);
                self.enqueue(connection, part, protocol.expect_of_part(request));
            }
            Err(error) => self.fail(part, error),
        }
    }

    /// A connection to a server that is not chosen by a key. An ejected one gets nothing but
    /// probes.
    fn live_connection(
        &mut self,
        pool_index: usize,
        server: usize,
        lane: Lane,
    ) -> Result<Key, RequestError> {
        let owner = &self.pools[pool_index].servers[server];
        if !owner.health.is_live() {
            return Err(RequestError::Connection(owner.last_error));
        }
        self.connection_for(pool_index, server, lane)
    }

    /// Makes the record of a part. Its request arrived in this turn.
    fn begin_part(&mut self, parent: u32, part: u32, request: &Request, pool_index: usize) -> u32 {
        let record = Record {
            command: request.command.index,
            arrived_at: self.now,
            ..Record::new(Owner::Part { parent, part })
        };
        let index = self.records.insert(record).index;
        if self.pools[pool_index].options.slow_threshold.is_some() {
            self.slow_log.begin(index, self.now, 0);
        }
        index
    }

    fn send_part(
        &mut self,
        client: Key,
        parent: u32,
        part: usize,
        request: &Request,
        frame: &[u8],
    ) {
        let pool_index = self.clients.at(client.index).pool as usize;
        let server = self.split_scratch.parts[part].server as usize;
        let index = self.begin_part(parent, part as u32, request, pool_index);
        let lane = self.clients.at(client.index).lane(client);
        let connection = match self.connection_for(pool_index, server, lane) {
            Ok(connection) => connection,
            Err(error) => return self.fail(index, error),
        };
        let protocol = self.pools[pool_index].options.protocol;
        let picks = self.split_scratch.picks(part);
        let wire = request.bytes(frame, &self.scratch);
        let keys = &self.scratch.keys;
        let size = protocol.part_size(keys, picks);
        let conn = self.conns.at_mut(connection.index);
        self.buffered_bytes += conn.forward(size, &mut self.buffers, |out| {
            protocol.encode_part(request, wire, keys, picks, out);
        });
        self.enqueue(connection, index, protocol.expect_of_part(request));
    }

    /// One part has come or failed; with the last one the request is answered.
    pub(crate) fn complete_part(&mut self, parent: u32, part: u32, reply: Reply) {
        let record = self.records.at_mut(parent);
        let Reply::Parts(parts) = &mut record.reply else {
            unreachable!("a split request waits until its last part has come");
        };
        debug_assert!(matches!(parts.replies[part as usize], Reply::Waiting));
        let size = reply.size();
        parts.replies[part as usize] = reply;
        parts.waiting_count -= 1;
        let left = parts.waiting_count;
        let came = parts.replies.len() - left;
        if left > 0 {
            if let Owner::Client(key) = record.owner {
                self.hold(key, size);
            }
            self.note_part(came, left);
            return;
        }
        let Reply::Parts(mut parts) = std::mem::replace(&mut record.reply, Reply::Waiting) else {
            unreachable!("seen above");
        };
        let owner = record.owner;
        self.note_part(came, left);
        if let Owner::Client(key) = owner {
            // All parts but the last were held for the client.
            let held: usize = parts.replies.iter().map(Reply::size).sum();
            self.clients.at_mut(key.index).held_size -= held - size;
            let joined = self.join(key, &parts);
            self.complete_with(parent, Reply::Bytes(joined));
        } else {
            self.records.remove_at(parent);
        }
        for reply in parts.replies.drain(..) {
            if let Reply::Bytes(bytes) = reply {
                self.buffered_bytes -= bytes.len();
                self.buffers.give(bytes);
            }
        }
        self.spare_parts.give(parts);
    }

    fn join(&mut self, client: Key, parts: &Parts) -> Vec<u8> {
        let pool = &mut self.pools[self.clients.at(client.index).pool as usize];
        let mut views = Vec::with_capacity(parts.replies.len());
        let mut size = 64;
        for reply in &parts.replies {
            views.push(match reply {
                Reply::Bytes(bytes) => {
                    size += bytes.len();
                    protocol::Part::Response(bytes)
                }
                Reply::Failed(error) => protocol::Part::Failed(error.text()),
                Reply::Waiting | Reply::Parts(_) => unreachable!("no part is awaited any more"),
            });
        }
        if parts.replies.iter().any(|reply| matches!(reply, Reply::Failed(_))) {
            pool.stats.forward_errors += 1;
        }
        let mut joined = self.buffers.take(size);
        pool.options.protocol.join(&parts.join, &views, &mut joined);
        joined
    }
}
