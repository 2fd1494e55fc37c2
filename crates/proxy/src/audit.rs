//! A recount of everything that a proxy holds, for checkers: the sums that it keeps while it works
//! must equal those of what is there.
//!
//! It changes nothing and is never called on the path of a request. Invariant: it walks each queue
//! and table once.

use base::slab::Key;

use crate::proxy::Proxy;
use crate::request::{Fifo, NONE, Reply, Side};
use crate::server::ServerConn;

impl Proxy {
    /// Bytes held, those excepted that are with the event base as sends under way.
    ///
    /// # Panics
    ///
    /// When a queue and a record disagree, or a client or a connection exceeds a limit.
    pub fn audit(&self) -> usize {
        let mut bytes = 0;
        let (mut in_clients, mut in_servers) = (0, 0);
        for (_, client) in self.clients.iter() {
            bytes += client.input_size() + client.out.len();
            let limits = self.pools[client.pool as usize].highest;
            in_clients += self.audit_queue(&client.requests, Side::Client);
            assert_eq!(client.held_size, self.held_in(&client.requests), "a client's held bytes");
            let waits = !client.is_closing() && client.sending && !client.out.is_empty();
            assert!(
                !waits || client.output_size() <= limits.output_size,
                "a client that does not read is kept: {} bytes, {} of them held",
                client.output_size(),
                client.held_size
            );
            assert!(
                client.requests.len() <= limits.requests_inflight.saturating_add(1),
                "a client has too many requests"
            );
        }
        for (key, conn) in self.conns.iter() {
            bytes += conn.input.len() + conn.out.len();
            in_servers += self.audit_queue(&conn.queue, Side::Server);
            self.audit_dedicated(key, conn);
        }
        let mut queued = (0, 0);
        for (_, record) in self.records.iter() {
            queued.0 += usize::from(record.in_client);
            queued.1 += usize::from(record.in_server);
            let orphan = !record.in_client && !record.in_server;
            match &record.reply {
                Reply::Bytes(reply) => bytes += reply.len(),
                Reply::Parts(parts) => {
                    for reply in &parts.replies {
                        if let Reply::Bytes(reply) = reply {
                            bytes += reply.len();
                        }
                    }
                    continue;
                }
                Reply::Waiting | Reply::Failed(_) => {}
            }
            assert!(!orphan, "a record stands in no queue and was not freed");
        }
        assert_eq!(queued, (in_clients, in_servers), "each record stands where it says");
        bytes
    }

    /// Whose a connection is, both sides know alike.
    fn audit_dedicated(&self, key: Key, conn: &ServerConn) {
        let idle = &self.pools[conn.pool as usize].servers[conn.server as usize].idle
            [conn.version as usize];
        let owner = conn.client.map(|client| self.clients.at(client.index).mode.connection());
        match (conn.lane, owner) {
            (Some(_), owner) => assert!(owner.is_none(), "a shared connection has a client"),
            (None, Some(owned)) => assert_eq!(owned, Some(key), "a connection is its client's"),
            (None, None) => assert!(
                conn.is_closing() || idle.contains(&key),
                "a dedicated connection is nobody's, and not idle"
            ),
        }
    }

    /// Bytes of the replies in a client's queue, those of parts included.
    fn held_in(&self, queue: &Fifo) -> usize {
        let mut bytes = 0;
        let mut index = queue.head();
        while index != NONE {
            bytes += match &self.records.at(index).reply {
                Reply::Parts(parts) => parts.replies.iter().map(Reply::size).sum(),
                reply => reply.size(),
            };
            index = queue.next(&self.records, index);
        }
        bytes
    }

    /// Walks one queue and returns its length.
    fn audit_queue(&self, queue: &Fifo, side: Side) -> usize {
        let mut count = 0;
        let mut index = queue.head();
        while index != NONE {
            let record = self.records.at(index);
            let stands = if side == Side::Client { record.in_client } else { record.in_server };
            assert!(stands, "a record in a queue says so");
            count += 1;
            index = queue.next(&self.records, index);
        }
        assert_eq!(count, queue.len() as usize, "a queue knows its length");
        count
    }
}
