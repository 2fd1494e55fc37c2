//! A server pool: its servers, which of them owns a key, and which of them are ejected.
//!
//! No connection is opened here and no byte handled. Invariant: the placement's members that may be
//! chosen are the servers whose health says live.

use base::slab::Key;
use base::{Address, SocketError, Time};
use protocol::{Course, Handshake, Version};
use routing::{Health, Placement, PlacementOptions};

use crate::canary::{Canaries, Canary};
use crate::errors::RequestError;
use crate::latency::Latencies;
use crate::options::PoolOptions;
use crate::stats::{PoolStats, ServerStats};

/// One server of a pool, as one worker sees it.
pub(crate) struct Server {
    /// Where it is; `None` while its name is not resolved.
    pub(crate) address: Option<Address>,
    /// The worker's connections to it that clients share, open or opening, by version.
    pub(crate) lanes: [Vec<Option<Key>>; Version::ALL.len()],
    /// Those that were dedicated to a client and wait for another.
    pub(crate) idle: [Vec<Key>; Version::ALL.len()],
    pub(crate) health: Health,
    /// No connection is tried before this.
    pub(crate) retry_at: Time,
    /// Failed attempts in a row.
    pub(crate) attempts_failed: u32,
    /// Why the last one failed.
    pub(crate) last_error: SocketError,
    /// It has refused to speak another version than the first: it is not asked again before this.
    pub(crate) version_retry_at: Time,
    /// When the server was last ejected.
    pub(crate) ejected_at: Option<Time>,
    /// The probe under way whose answer decides about its return.
    pub(crate) probe: Option<Probe>,
    /// A request of this turn was for it, and its name does not resolve.
    pub(crate) name_failed: bool,
}

/// A probe under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    /// The connection that carries it.
    pub(crate) connection: Key,
    /// Its record in that connection's queue.
    pub(crate) record: u32,
}

impl Server {
    fn new(lanes_count: usize) -> Server {
        Server {
            address: None,
            lanes: Version::ALL.map(|_| vec![None; lanes_count]),
            idle: Default::default(),
            health: Health::new(),
            retry_at: Time::ZERO,
            attempts_failed: 0,
            last_error: SocketError::ConnectionRefused,
            version_retry_at: Time::ZERO,
            ejected_at: None,
            probe: None,
            name_failed: false,
        }
    }
}

fn placement_of(options: &PoolOptions, seed: u64) -> Placement {
    let placement_options = PlacementOptions {
        hash: options.hash,
        distribution: options.distribution,
        hash_tag: options.hash_tag,
    };
    Placement::new(placement_options, options.members(), seed)
}

pub(crate) struct Pool {
    pub(crate) options: PoolOptions,
    pub(crate) servers: Vec<Server>,
    pub(crate) stats: PoolStats,
    /// What a new connection starts with, by its version.
    pub(crate) handshakes: [Handshake; Version::ALL.len()],
    /// It is in the configuration no longer; its clients are closed when they are owed nothing.
    pub(crate) removed: bool,
    pub(crate) canaries: Canaries,
    /// Dedicated connections, idle ones included.
    pub(crate) dedicated_count: usize,
    placement: Placement,
    /// Keys may have other owners since they were last looked at.
    pub(crate) placement_changed: bool,
    /// When the pool's timer fires, which looks for servers to probe; `Time::MAX` when none is set.
    pub(crate) probe_timer_at: Time,
    /// What a client may hold that has been here all the time.
    pub(crate) highest: HighestLimits,
}

/// The highest limits of a pool so far: a lower one that comes with a reload takes back nothing.
/// For the recount only.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HighestLimits {
    pub(crate) requests_inflight: u32,
    pub(crate) output_size: usize,
}

impl HighestLimits {
    fn raise(&mut self, options: &PoolOptions) {
        let requests_inflight = options.client_requests_inflight_max;
        self.requests_inflight = self.requests_inflight.max(requests_inflight);
        self.output_size = self.output_size.max(options.client_output_max);
    }
}

impl Pool {
    /// A pool whose servers are all live and whose names are not resolved. `seed` feeds the
    /// distribution that draws lots.
    pub(crate) fn new(options: PoolOptions, seed: u64) -> Pool {
        let mut pool = Pool {
            handshakes: Default::default(),
            placement: placement_of(&options, seed),
            servers: Vec::new(),
            stats: PoolStats::default(),
            removed: false,
            canaries: Canaries::default(),
            dedicated_count: 0,
            placement_changed: false,
            options,
            probe_timer_at: Time::MAX,
            highest: HighestLimits::default(),
        };
        pool.highest.raise(&pool.options);
        pool.handshakes = pool.new_handshakes();
        let lanes_count = pool.options.server_connections_per_worker as usize;
        let count = pool.options.servers.len();
        pool.servers.extend((0..count).map(|_| Server::new(lanes_count)));
        pool.servers.push(Server::new(0));
        pool.stats.servers.resize(count + 1, ServerStats::default());
        pool.stats.latencies.resize(count + 1, Latencies::default());
        pool
    }

    /// What a connection belongs to whose server is in the configuration no longer: a last entry of
    /// `servers`, and of the statistics, that no key is routed to.
    pub(crate) fn retired_index(&self) -> usize {
        self.options.servers.len()
    }

    fn new_handshakes(&self) -> [Handshake; Version::ALL.len()] {
        let PoolOptions { protocol, password, database, .. } = &self.options;
        Version::ALL.map(|version| protocol.handshake(version, password.as_deref(), *database))
    }

    /// Takes new options for the same pool. Says for each server that there was which one it is
    /// now; one that is gone, or that must be spoken to otherwise, is the retired one. `seed` is
    /// for a distribution that draws lots.
    pub(crate) fn reconfigure(&mut self, options: PoolOptions, seed: u64) -> Vec<usize> {
        let before = std::mem::replace(&mut self.options, options);
        self.highest.raise(&self.options);
        let handshakes = self.new_handshakes();
        let same_words = handshakes == self.handshakes;
        self.handshakes = handshakes;
        self.removed = false;
        let lanes_count = self.options.server_connections_per_worker as usize;
        let mut servers: Vec<Server> =
            self.options.servers.iter().map(|_| Server::new(lanes_count)).collect();
        let mut stats = vec![ServerStats::default(); servers.len() + 1];
        let mut latencies = vec![Latencies::default(); servers.len() + 1];
        let retired = servers.len();
        let mut places = Vec::with_capacity(before.servers.len() + 1);
        let mut old = std::mem::take(&mut self.servers);
        let retired_server = old.pop().expect("the last entry is the retired one");
        for (index, (was, server)) in before.servers.iter().zip(old).enumerate() {
            let place = self
                .options
                .servers
                .iter()
                .position(|is| same_words && is.name == was.name && is.address == was.address);
            places.push(place.unwrap_or(retired));
            stats[place.unwrap_or(retired)].add(&self.stats.servers[index]);
            latencies[place.unwrap_or(retired)].add(&self.stats.latencies[index]);
            if let Some(place) = place {
                servers[place] = server;
                for lanes in &mut servers[place].lanes {
                    lanes.resize(lanes_count, None);
                }
                if !self.options.health.eject {
                    servers[place].health = Health::new();
                    servers[place].probe = None;
                }
            }
        }
        places.push(retired);
        stats[retired].add(&self.stats.servers[before.servers.len()]);
        servers.push(retired_server);
        self.servers = servers;
        self.stats.servers = stats;
        self.stats.latencies = latencies;
        self.placement = placement_of(&self.options, seed);
        self.rebuild();
        places
    }

    /// The hash that places a key, also where there is but one server.
    pub(crate) fn key_hash(&self, key: &[u8]) -> u32 {
        self.options.hash.hash(self.options.hash_tag.map_or(key, |tag| tag.extract(key)))
    }

    /// How the pool decides where a key goes now, and how it would with every server live, but for
    /// a distribution that draws lots.
    pub(crate) fn explain<'key>(&self, key: &'key [u8]) -> [routing::Explanation<'key>; 2] {
        [self.placement.explain(key), placement_of(&self.options, 0).explain(key)]
    }

    /// What a walk through all servers goes through.
    pub(crate) fn course(&self) -> Course {
        let servers = &self.options.servers;
        let names = servers.iter().flat_map(|server| server.name.bytes().chain([0]));
        let check = names.fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        Course { servers_count: servers.len(), check: (check >> 11) as u8 }
    }

    /// The index of the server that owns a key.
    #[inline]
    pub(crate) fn route(&mut self, key: &[u8]) -> Result<usize, RequestError> {
        self.placement.server_for(key).ok_or(RequestError::NoLiveServer)
    }

    /// Adds the index of the server that owns each key to `servers`.
    #[inline]
    pub(crate) fn route_each<'key>(
        &mut self,
        keys: impl ExactSizeIterator<Item = &'key [u8]>,
        servers: &mut Vec<u32>,
    ) -> Result<(), RequestError> {
        self.placement.servers_for(keys, servers).ok_or(RequestError::NoLiveServer)
    }

    /// A connection to the server failed, or a response came too late. A probe that is under way
    /// when this ejects the server says nothing about what comes after it.
    pub(crate) fn record_failure(&mut self, server: usize, now: Time) {
        let retired = server == self.retired_index();
        if !retired && self.servers[server].health.record_failure(&self.options.health, now) {
            self.servers[server].probe = None;
            self.count_ejection(server, now);
            self.rebuild();
        }
    }

    /// The server answered.
    #[inline]
    pub(crate) fn record_success(&mut self, server: usize) {
        self.servers[server].health.record_success();
    }

    /// The probe under way failed, or none could be sent.
    pub(crate) fn record_failed_probe(&mut self, server: usize, now: Time) {
        self.servers[server].probe = None;
        self.servers[server].health.record_failed_probe(&self.options.health, now);
        self.count_ejection(server, now);
    }

    /// The server answered the probe under way.
    pub(crate) fn readmit(&mut self, server: usize) {
        self.servers[server].probe = None;
        if self.servers[server].health.readmit() {
            self.rebuild();
        }
    }

    fn count_ejection(&mut self, server: usize, now: Time) {
        self.stats.servers[server].ejects += 1;
        self.servers[server].ejected_at = Some(now);
    }

    #[cold]
    fn rebuild(&mut self) {
        let servers = &self.servers[..self.retired_index()];
        let blind = self.canaries.sings(Canary::EjectedServerUsed);
        let live: Vec<bool> =
            servers.iter().map(|server| blind || server.health.is_live()).collect();
        self.placement.rebuild(&live);
        self.placement_changed = true;
    }
}
