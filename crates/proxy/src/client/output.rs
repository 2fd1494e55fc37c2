//! From replies to the bytes that a client is sent.
//!
//! Invariant: replies leave in the order of the requests; at most one send is under way.

use base::slab::Key;

use super::Client;
use crate::action::Action;
use crate::canary::Canary;
use crate::errors::RequestError;
use crate::proxy::Proxy;
use crate::request::{NONE, Owner, Record, Reply};
use crate::slow_log::SlowRequest;

/// From replies to bytes.
impl Proxy {
    /// An answer of ours takes its place in the client's queue.
    pub(super) fn reply_now(&mut self, key: Key, reply: &[u8]) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if reply.is_empty() {
            return;
        }
        self.buffered_bytes += reply.len();
        if client.requests.is_empty() {
            client.out.push(reply, &mut self.buffers);
            client.mark_dirty(key, &mut self.clients_dirty);
            return;
        }
        let mut bytes = self.buffers.take(reply.len());
        bytes.extend_from_slice(reply);
        let record = Record { reply: Reply::Bytes(bytes), ..Record::new(Owner::Client(key)) };
        let index = self.records.insert(record).index;
        client.requests.push(&mut self.records, index);
        self.hold(key, reply.len());
    }

    pub(super) fn reply_scratch(&mut self, key: Key) {
        let reply = std::mem::take(&mut self.scratch.reply);
        self.reply_now(key, &reply);
        self.scratch.reply = reply;
    }

    /// Lets every answered request at the head of the client's queue go.
    pub(crate) fn release(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let pool = &mut self.pools[client.pool as usize];
        loop {
            let head = client.requests.head();
            if head == NONE || !self.records.at(head).is_answered() {
                break;
            }
            client.requests.pop(&mut self.records);
            let record = self.records.at_mut(head);
            match std::mem::replace(&mut record.reply, Reply::Waiting) {
                Reply::Bytes(bytes) if record.quiet.drops(&bytes) => {
                    client.held_size -= bytes.len();
                    self.buffered_bytes -= bytes.len();
                    self.buffers.give(bytes);
                }
                Reply::Bytes(bytes) => {
                    client.held_size -= bytes.len();
                    client.out.push_owned(bytes, &mut self.buffers);
                }
                Reply::Failed(error) => {
                    pool.stats.forward_errors += 1;
                    if !record.quiet.drops_errors() {
                        let mut bytes = self.buffers.take(64);
                        pool.options.protocol.encode_error(error.text(), &mut bytes);
                        self.buffered_bytes += bytes.len();
                        client.out.push(&bytes, &mut self.buffers);
                        self.buffers.give(bytes);
                    }
                }
                Reply::Waiting | Reply::Parts(_) => unreachable!("the head is answered"),
            }
            let (arrived_at, command) = (record.arrived_at, record.command);
            if !record.in_server {
                self.records.remove_at(head);
            }
            let took_ns = self.now.as_ns().saturating_sub(arrived_at.as_ns());
            if self.slow_log.is_slow(took_ns) {
                let request = SlowRequest { index: head, arrived_at, command, now: self.now };
                self.slow_log.log(pool, client, key, request);
            }
        }
        if !client.out.is_empty() {
            client.mark_dirty(key, &mut self.clients_dirty);
        }
        if client.is_watched() || self.ending {
            self.client_may_resume(key);
            self.client_finish_if_done(key);
        }
    }

    /// Counts bytes of a reply that came before its turn. A client for which too many wait is
    /// looked at when this turn ends.
    pub(crate) fn hold(&mut self, key: Key, size: usize) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.held_size += size;
        let options = &self.pools[client.pool as usize].options;
        if client.output_size() > options.client_output_max {
            client.mark_dirty(key, &mut self.clients_dirty);
        }
    }

    /// Starts the one send of this turn, or closes a client that has let too much pile up.
    pub(crate) fn client_flush(&mut self, key: Key) -> Option<Action> {
        if self.canaries.sings(Canary::OutputsSwapped) {
            self.swap_outputs(key);
        }
        let client = self.clients.get_mut(key)?;
        client.dirty = false;
        if client.is_closing() {
            return None;
        }
        let options = &self.pools[client.pool as usize].options;
        let crowded = self.buffered_bytes > self.limits.buffered_bytes_max;
        let output_max =
            if crowded { options.client_output_high_water } else { options.client_output_max };
        // What can be sent at once is not piling up, however large it is.
        let unbounded = self.canaries.sings(Canary::OutputUnbounded);
        let piles_up = client.sending || client.held_size > output_max;
        if piles_up && client.output_size() > output_max && !unbounded {
            self.client_close(key);
            return None;
        }
        let busy = client.sending && !self.canaries.sings(Canary::ClientTwoSends);
        if busy || client.out.is_empty() {
            return None;
        }
        if self.holds(key) {
            return None;
        }
        let client = self.clients.at_mut(key.index);
        client.sending = true;
        client.sending_size = client.out.len();
        self.stats_sends += 1;
        let token = Client::token(key);
        let out = client.out.take();
        if self.slow_log.has_unwritten() {
            self.slow_log.note_written(token, self.now);
        }
        Some(Action::Send(token, out))
    }

    /// A request gets an error in place of a response.
    pub(crate) fn fail(&mut self, index: u32, error: RequestError) {
        let is_whole = matches!(self.records.at(index).owner, Owner::Client(_));
        if is_whole && self.canaries.sings(Canary::FailureAcknowledged) {
            self.complete_with(index, Reply::Bytes(b"+OK\r\n".to_vec()));
            return;
        }
        self.complete_with(index, Reply::Failed(error));
    }
}
