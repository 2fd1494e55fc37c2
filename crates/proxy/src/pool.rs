//! A server pool: its servers, which of them owns a key, and which of them are ejected.
//!
//! No connection is opened here and no byte handled. Invariant: the placement's members that may be
//! chosen are the servers whose health says live, as of the last request that was routed.

use base::slab::Key;
use base::{Address, SocketError, Time};
use routing::{Health, Placement, PlacementOptions};

use crate::errors::RequestError;
use crate::options::PoolOptions;
use crate::stats::PoolStats;

/// One server of a pool, as one worker sees it.
pub(crate) struct Server {
    /// Where it is; `None` while its name is not resolved.
    pub(crate) address: Option<Address>,
    /// The worker's connections to it, open or opening.
    pub(crate) lanes: Vec<Option<Key>>,
    pub(crate) health: Health,
    /// No connection is tried before this.
    pub(crate) retry_at: Time,
    /// Failed attempts in a row.
    pub(crate) attempts_failed: u32,
    /// Why the last one failed.
    pub(crate) last_error: SocketError,
    /// When the server was last ejected.
    pub(crate) ejected_at: Option<Time>,
}

pub(crate) struct Pool {
    pub(crate) options: PoolOptions,
    pub(crate) servers: Vec<Server>,
    pub(crate) stats: PoolStats,
    pub(crate) handshake: protocol::Handshake,
    placement: Placement,
    /// When an ejected server comes back; looked at by the next request.
    returns_at: Option<Time>,
}

impl Pool {
    /// A pool whose servers are all live and whose names are not resolved. `seed` feeds the
    /// distribution that draws lots.
    pub(crate) fn new(options: PoolOptions, seed: u64) -> Pool {
        let lanes_count = options.server_connections_per_worker as usize;
        let placement_options = PlacementOptions {
            hash: options.hash,
            distribution: options.distribution,
            hash_tag: options.hash_tag,
        };
        let servers = options
            .servers
            .iter()
            .map(|_| Server {
                address: None,
                lanes: vec![None; lanes_count],
                health: Health::new(),
                retry_at: Time::ZERO,
                attempts_failed: 0,
                last_error: SocketError::ConnectionRefused,
                ejected_at: None,
            })
            .collect();
        let mut stats = PoolStats::default();
        stats.servers.resize(options.servers.len(), Default::default());
        Pool {
            handshake: options.protocol.handshake(options.password.as_deref(), options.database),
            placement: Placement::new(placement_options, options.members(), seed),
            servers,
            stats,
            options,
            returns_at: None,
        }
    }

    /// The index of the server that owns a key.
    #[inline]
    pub(crate) fn route(&mut self, key: &[u8], now: Time) -> Result<usize, RequestError> {
        if self.returns_at.is_some_and(|at| at <= now) {
            self.rebuild(now);
        }
        self.placement.server_for(key).ok_or(RequestError::NoLiveServer)
    }

    /// A connection to the server failed, or a response came too late.
    pub(crate) fn record_failure(&mut self, server: usize, now: Time) {
        if self.servers[server].health.record_failure(&self.options.health, now) {
            self.stats.servers[server].ejects += 1;
            self.servers[server].ejected_at = Some(now);
            self.rebuild(now);
        }
    }

    /// The server answered.
    #[inline]
    pub(crate) fn record_success(&mut self, server: usize) {
        self.servers[server].health.record_success();
    }

    #[cold]
    fn rebuild(&mut self, now: Time) {
        for server in &mut self.servers {
            server.health.return_if_due(now);
        }
        let live: Vec<bool> =
            self.servers.iter().map(|server| server.health.is_live(now)).collect();
        self.returns_at =
            self.servers.iter().filter_map(|server| server.health.ejected_until()).min();
        self.placement.rebuild(&live);
    }
}
