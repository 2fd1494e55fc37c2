//! Whether workers leave ejected servers alone, and take them back for a reason only.
//!
//! What a worker has ejected is what it says; the rest is seen from outside. Until its time has
//! come such a server is not connected to; then nothing but a probe is sent on a new connection;
//! and it is back only when it has answered one. Invariant: what a worker did before it ejected a
//! server is not held against it.

use protocol::Protocol;
use proxy::stats::ServerStats;

use crate::wire::{self, Cut};
use crate::world::{Peer, World};

/// A server that a worker may not choose.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ejection {
    /// Ejections that the worker has counted.
    pub count: u64,
    /// Until when it may not even connect.
    pub until: u64,
    /// It may connect and probe, and nothing else.
    pub is_out: bool,
    /// The server has answered a probe of this worker since the last ejection.
    pub is_answered: bool,
    /// Something else than a probe was sent on a connection that was opened for one.
    was_early: bool,
}

impl World {
    /// A worker sends on a connection that it opened while the server was ejected for this time.
    pub(crate) fn watch_probe(
        &mut self,
        worker: usize,
        connection: usize,
        count: u64,
        sent: &[u8],
    ) {
        let Peer::Server(server) = self.connections[connection].peer else { return };
        let ejection = &self.bases[worker].ejections[server];
        if !ejection.is_out || ejection.count != count {
            return;
        }
        let protocol = self.plan.pools[self.plan.pool_of(server)].options.protocol;
        // In this turn it may have learnt that the server is back.
        self.bases[worker].ejections[server].was_early |= !is_all_ours(protocol, sent);
    }

    /// A server answers a probe as one that lives.
    pub(crate) fn note_probe_answered(&mut self, connection: usize, server: usize) {
        if let Some((worker, ..)) = self.connections[connection].place {
            self.bases[worker].ejections[server].is_answered = true;
        }
    }

    /// Looks at what a worker says of a server after a step.
    pub(crate) fn follow_ejection(
        &mut self,
        worker: usize,
        pool: usize,
        server: usize,
        counted: &ServerStats,
    ) {
        let until = self.now + self.plan.pools[pool].options.health.retry_timeout.as_nanos() as u64;
        let mut ejection = self.bases[worker].ejections[server];
        if ejection.count != counted.ejects {
            ejection =
                Ejection { count: counted.ejects, until, is_out: true, ..Ejection::default() };
            self.note("ejects", worker as u64, server as u64);
        }
        if ejection.is_out && counted.ejected == 0 {
            if !ejection.is_answered {
                self.fail(format!("server {server} is back and has answered no probe"));
            }
            ejection.is_out = false;
            self.note("readmits", worker as u64, server as u64);
        }
        if ejection.is_out && ejection.was_early {
            self.fail(format!("server {server} got requests before it answered a probe"));
        }
        ejection.was_early = false;
        self.bases[worker].ejections[server] = ejection;
    }
}

/// Whether these are whole requests that no client makes: a handshake and a probe.
fn is_all_ours(protocol: Protocol, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let cut = match protocol {
            Protocol::Redis => wire::redis_request(bytes),
            Protocol::Memcache => wire::memcache_request(bytes),
        };
        let Cut::Whole(size, words) = cut else { return false };
        if !wire::is_probe(protocol, &words) && !wire::is_handshake(protocol, &words) {
            return false;
        }
        bytes = &bytes[size..];
    }
    true
}
