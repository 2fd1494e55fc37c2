//! One request to many servers, and many responses to one.
//!
//! A request with several keys becomes one part a server, not one a key; each part is a record of
//! its own in its server's queue, and the request's own record waits in the client's queue for
//! them. Unlike a request of one key, which allocates nothing, a split one allocates five to seven
//! times whatever its size: for the parts, their replies, and how they are joined. For a request of
//! 100 keys that is some 2 % of its instructions. Invariant: the record of a split request lives
//! until its last part has come or failed.

use base::slab::Key;
use protocol::Request;

use crate::canary::Canary;
use crate::errors::RequestError;
use crate::proxy::Proxy;
use crate::request::{Owner, Parts, Record, Reply};

/// No part of this request is for this server.
const NO_PART: u32 = u32::MAX;

/// Working memory for splitting, reused for each request.
#[derive(Debug, Default)]
pub(crate) struct SplitScratch {
    /// The server of each key.
    servers: Vec<u32>,
    /// The part of each server of the pool, or [`NO_PART`].
    parts: Vec<u32>,
    /// The keys, by part, in the order of the request within each.
    picks: Vec<u32>,
    /// Where the keys of each part begin in `picks`; one more for the end.
    starts: Vec<u32>,
}

impl SplitScratch {
    /// Numbers the servers that own a key, by their index. Returns how many there are, and the part
    /// of each key.
    fn number_parts(&mut self, servers_count: usize) -> (usize, Vec<u32>) {
        self.parts.clear();
        self.parts.resize(servers_count, NO_PART);
        for server in &self.servers {
            self.parts[*server as usize] = 0;
        }
        let mut count = 0;
        for part in self.parts.iter_mut().filter(|part| **part != NO_PART) {
            *part = count;
            count += 1;
        }
        let part_of_key: Vec<u32> =
            self.servers.iter().map(|server| self.parts[*server as usize]).collect();
        self.group(count as usize, &part_of_key);
        (count as usize, part_of_key)
    }

    /// A counting sort of the keys by their part.
    fn group(&mut self, parts_count: usize, part_of_key: &[u32]) {
        self.starts.clear();
        self.starts.resize(parts_count + 1, 0);
        for part in part_of_key {
            self.starts[*part as usize + 1] += 1;
        }
        for part in 0..parts_count {
            self.starts[part + 1] += self.starts[part];
        }
        self.picks.clear();
        self.picks.resize(part_of_key.len(), 0);
        for (key, part) in (0..).zip(part_of_key) {
            let next = &mut self.starts[*part as usize];
            self.picks[*next as usize] = key;
            *next += 1;
        }
        // Each start has moved to the end of its part, which is the start of the next.
        self.starts.rotate_right(1);
        self.starts[0] = 0;
    }
}

impl Proxy {
    /// Sends a request with several keys to their owners. When it may go as it is to the one owner
    /// that they have in common nothing is sent and that owner returned; `None` says that all is
    /// done.
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
        let lowest = scratch.servers.iter().copied().min().unwrap_or(0);
        let highest = scratch.servers.iter().copied().max().unwrap_or(0);
        // Where responses name their keys even one part is joined, since that is what checks them.
        if lowest == highest && !pool.options.protocol.responses_name_keys() {
            return Some(Ok(lowest as usize));
        }
        let (parts_count, mut part_of_key) = scratch.number_parts(pool.servers.len());
        if self.canaries.sings(Canary::FragmentsSwapped) {
            part_of_key.reverse();
        }
        let protocol = pool.options.protocol;
        let join = protocol.plan_join(request, wire, &self.scratch.keys, part_of_key);
        let replies = (0..parts_count).map(|_| Reply::Waiting).collect();
        let parts = Parts { join, replies, waiting_count: parts_count };
        self.records.at_mut(index).reply = Reply::Parts(Box::new(parts));
        self.pools[pool_index].stats.fragments += parts_count as u64;
        for server in lowest..=highest {
            let part = self.split_scratch.parts[server as usize];
            if part != NO_PART {
                self.send_part(client, index, part, server, request, frame);
            }
        }
        None
    }

    /// Sends a request that is about no key to every server of the pool, as it is.
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
        let servers_count = pool.retired_index();
        let wire = request.bytes(frame, &self.scratch);
        let join = pool.options.protocol.plan_join(request, wire, &[], Vec::new());
        let replies = (0..servers_count).map(|_| Reply::Waiting).collect();
        let parts = Parts { join, replies, waiting_count: servers_count };
        self.records.at_mut(index).reply = Reply::Parts(Box::new(parts));
        pool.stats.fragments += servers_count as u64;
        for server in 0..servers_count {
            let part = self.begin_part(index, server as u32, request, pool_index);
            let owner = &self.pools[pool_index].servers[server];
            if !owner.health.is_live() {
                // An ejected server gets nothing but probes.
                let error = RequestError::Connection(owner.last_error);
                self.fail(part, error);
                continue;
            }
            match self.connection_for(pool_index, server, client.index as usize) {
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
        part: u32,
        server: u32,
        request: &Request,
        frame: &[u8],
    ) {
        let pool_index = self.clients.at(client.index).pool as usize;
        let index = self.begin_part(parent, part, request, pool_index);
        let connection =
            match self.connection_for(pool_index, server as usize, client.index as usize) {
                Ok(connection) => connection,
                Err(error) => return self.fail(index, error),
            };
        let protocol = self.pools[pool_index].options.protocol;
        let scratch = &self.split_scratch;
        let range = scratch.starts[part as usize]..scratch.starts[part as usize + 1];
        let picks = &scratch.picks[range.start as usize..range.end as usize];
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
        let Reply::Parts(parts) = std::mem::replace(&mut record.reply, Reply::Waiting) else {
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
        for reply in parts.replies {
            if let Reply::Bytes(bytes) = reply {
                self.buffered_bytes -= bytes.len();
                self.buffers.give(bytes);
            }
        }
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
