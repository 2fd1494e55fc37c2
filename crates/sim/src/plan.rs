//! What is drawn for one seed: the topology, the limits, and which faults there are and how often.
//!
//! Swarm style: most faults are off in most seeds, so that rare ones meet undisturbed by the rest.
//! Invariant: one seed in ten has no fault at all, and every reply in it must be right.

use std::time::Duration;

use base::Address;
use protocol::{Limits, Protocol};
use proxy::options::{PoolOptions, ServerAddress, ServerOptions, WorkerLimits};
use routing::{DistributionKind, HashKind, HashTag, HealthOptions};

use crate::canary::Canary;
use crate::random::Random;
use crate::world::{MS, US};

/// The port of the first server; each further one has the next.
pub const PORT_MIN: u16 = 10_000;
/// The port of the first pool's listeners; each further one has the next.
const POOL_PORT_MIN: u16 = 9_000;
/// The first address that no pool has at the start.
const SPARE_PLACE: usize = 10;

/// The address of a place where listeners may be: below a thousand. A pool begins at the place of
/// its own index.
pub fn pool_address(place: usize) -> Address {
    Address::Inet(([10, 0, 0, 1], POOL_PORT_MIN + place as u16).into())
}

/// The place of such an address.
pub fn place_of(address: &Address) -> usize {
    match destination(address) {
        Some(Destination::Listeners(place)) => place,
        other => panic!("not an address of a pool: {other:?}"),
    }
}

/// What can be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// A model server, if there is one of this index.
    Server(usize),
    /// The listeners at a place, if there are any.
    Listeners(usize),
}

/// What an address means. The world has no file system, and so no unix sockets.
pub fn destination(address: &Address) -> Option<Destination> {
    let Address::Inet(address) = address else { return None };
    let port = address.port();
    if port >= PORT_MIN {
        return Some(Destination::Server(usize::from(port - PORT_MIN)));
    }
    (port >= POOL_PORT_MIN).then(|| Destination::Listeners(usize::from(port - POOL_PORT_MIN)))
}

/// How the network behaves. `_pm` are rates in a thousand.
#[derive(Debug, Clone, Default)]
pub struct NetworkPlan {
    /// The longest way of a message.
    pub latency_us_max: u64,
    /// Messages that are cut.
    pub cut_pm: u32,
    /// Bytes that a direction holds before its sender must wait.
    pub capacity: usize,
    /// Receive buffers of each kind of connection in a turn.
    pub buffers_count: u16,
    /// The most that one receive takes.
    pub buffer_size: u32,
    /// Connections passed over by a `wait`.
    pub starve_pm: u32,
    /// Wakes by somebody who has nothing to say.
    pub spurious_wake_pm: u32,
    /// The longest time until a connection's end is told.
    pub close_delay_us: u64,
    /// Faults from here on. Writes after which the connection is reset.
    pub reset_pm: u32,
    /// Connections that are reset when they have opened.
    pub reset_on_connect_pm: u32,
    /// Closes with unread bytes that reset the connection, as kernels do.
    pub reset_on_close_pm: u32,
    /// Connections that are refused.
    pub refuse_pm: u32,
    /// Connections that are never answered.
    pub silent_connect_pm: u32,
    /// Pieces that come very late.
    pub stall_pm: u32,
    /// How late.
    pub stall_ms: u64,
    /// Registrations that fail.
    pub adopt_fails_pm: u32,
    /// Accepts that fail for want of descriptors.
    pub accept_fails_pm: u32,
    /// Steps at which a worker is held up for a while.
    pub pause_pm: u32,
    /// For how long.
    pub pause_ms: u64,
}

/// How servers behave.
#[derive(Debug, Clone, Default)]
pub struct ServerPlan {
    /// The longest time that a reply takes.
    pub think_us_max: u64,
    /// Replies after which nothing is read for a while.
    pub pause_pm: u32,
    /// For how long.
    pub pause_ms: u64,
    /// Requests after which the server stops, loses its data and starts again.
    pub restart_pm: u32,
    /// For how long it is down.
    pub down_ms: u64,
    /// Whether nobody refuses connections while it is down.
    pub down_silently: bool,
    /// Replies in whose place nonsense is sent.
    pub garbage_pm: u32,
    /// Replies that are followed by another that nobody asked for.
    pub extra_pm: u32,
    /// Replies of which only a part is sent before the connection ends.
    pub half_pm: u32,
    /// Replies after which nothing more is sent, ever.
    pub hang_pm: u32,
    /// Replies that declare more than is allowed.
    pub huge_pm: u32,
    /// Values under another key than was asked for.
    pub wrong_key_pm: u32,
    /// Replies after which the server ends its direction, but still reads.
    pub half_close_pm: u32,
    /// Replies after which the server closes the connection in an orderly way.
    pub close_pm: u32,
    /// Requests after which a server's name is not resolved for a while.
    pub unresolved_pm: u32,
}

/// How clients behave.
#[derive(Debug, Clone, Default)]
pub struct ClientPlan {
    /// Clients.
    pub count: usize,
    /// Requests of each.
    pub requests_count: usize,
    /// Requests on their way at once.
    pub depth_max: usize,
    /// The longest pause between batches.
    pub think_us_max: u64,
    /// The largest value.
    pub value_size_max: u64,
    /// Clients that leave without a word.
    pub vanish_pm: u32,
    /// Clients that stop to read.
    pub deaf_pm: u32,
    /// Requests that are malformed.
    pub malformed_pm: u32,
    /// Clients that end their direction when all is asked.
    pub half_close_pm: u32,
    /// Requests that stand for many.
    pub multi_pm: u32,
    /// Requests that want no reply.
    pub quiet_pm: u32,
    /// Keys that others use too.
    pub shared_pm: u32,
    /// Clients that say goodbye.
    pub quit_pm: u32,
    /// Clients that read slowly.
    pub slow_pm: u32,
    /// Requests that want a connection of their own.
    pub own_connection_pm: u32,
}

/// One pool.
#[derive(Debug, Clone)]
pub struct PoolPlan {
    /// As the proxy gets them.
    pub options: PoolOptions,
    /// Index of its first server among all.
    pub server_first: usize,
    /// How many it has.
    pub servers_count: usize,
}

/// No client of a plan is owed so much: it is the default.
const OUTPUT_UNLIMITED: usize = 256 << 20;

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Nothing breaks and nobody misbehaves.
    pub is_fault_free: bool,
    /// Workers.
    pub workers_count: usize,
    /// Server pools.
    pub pools: Vec<PoolPlan>,
    /// Of each worker.
    pub limits: WorkerLimits,
    /// The network.
    pub network: NetworkPlan,
    /// All servers.
    pub server: ServerPlan,
    /// All clients.
    pub client: ClientPlan,
    /// Changes of the configuration, in the order of their time.
    pub reloads: Vec<ReloadPlan>,
    /// When all workers are told to end, in nanoseconds.
    pub drain_at: Option<u64>,
    /// A bug planted in the event base.
    pub canary: Option<Canary>,
}

/// A new configuration.
#[derive(Debug, Clone)]
pub struct ReloadPlan {
    /// When, in nanoseconds.
    pub at: u64,
    /// By index of the pool in the plan; `None` for one that is not configured.
    pub pools: Vec<Option<PoolOptions>>,
}

impl Plan {
    /// What this seed stands for.
    pub fn draw(seed: u64) -> Plan {
        let mut random = Random::new(seed);
        let is_fault_free = seed.is_multiple_of(10);
        let workers_count = random.between(1, 4) as usize;
        let pools_count = if random.chance(300) { 2 } else { 1 };
        let mut pools: Vec<PoolPlan> = Vec::new();
        for index in 0..pools_count {
            let first = pools.last().map_or(0, |pool| pool.server_first + pool.servers_count);
            pools.push(draw_pool(&mut random, index, first, is_fault_free));
        }
        let mut limits = WorkerLimits::default();
        if !is_fault_free && random.chance(150) {
            limits.buffered_bytes_max = random.between(10_000, 300_000) as usize;
        }
        if !is_fault_free && random.chance(100) {
            limits.clients_max = random.between(1, 4) as u32;
        }
        let network = draw_network(&mut random, is_fault_free);
        let server = draw_server(&mut random, is_fault_free);
        let client = draw_client(&mut random, is_fault_free);
        let reloads = draw_reloads(&mut random, &pools, is_fault_free);
        let drain_at = random.chance(100).then(|| MS + random.skewed(50_000) * US);
        Plan {
            seed,
            is_fault_free,
            workers_count,
            pools,
            limits,
            network,
            server,
            client,
            reloads,
            drain_at,
            canary: None,
        }
    }

    /// The pool that a server belongs to.
    pub fn pool_of(&self, server: usize) -> usize {
        self.pools
            .iter()
            .rposition(|pool| pool.server_first <= server)
            .expect("each server belongs to a pool")
    }

    /// Every configuration that a pool has at some time.
    pub fn options_of(&self, pool: usize) -> impl Iterator<Item = &PoolOptions> {
        let later = self.reloads.iter().filter_map(move |reload| reload.pools[pool].as_ref());
        std::iter::once(&self.pools[pool].options).chain(later)
    }

    /// Every configuration of every pool.
    pub fn all_options(&self) -> impl Iterator<Item = &PoolOptions> {
        (0..self.pools.len()).flat_map(|pool| self.options_of(pool))
    }

    /// Whether a server may seem to have failed without its doing.
    pub fn may_fail_servers(&self) -> bool {
        let network = &self.network;
        network.reset_pm + network.reset_on_connect_pm + network.refuse_pm > 0
            || network.silent_connect_pm + network.stall_pm + network.pause_pm > 0
            || self.all_options().any(|options| {
                options.request_timeout.is_some()
                    || options.connect_timeout < Duration::from_secs(1)
                    || options.limits != Limits::default()
            })
    }

    /// Whether no connection to a server is ever lost, and no server leaves.
    pub fn keeps_servers(&self) -> bool {
        self.is_fault_free && self.reloads.is_empty()
    }

    /// The longest that a request may take by its pool's own time-out; `None` when something else
    /// may hold it up.
    pub fn reply_ns_max(&self, pool: usize) -> Option<u64> {
        let network = &self.network;
        let held_up = network.pause_pm + network.stall_pm > 0
            || network.accept_fails_pm + self.client.deaf_pm > 0
            || network.capacity < 200_000
            || self.client.value_size_max > 300
            || self.options_of(pool).any(|options| {
                options.client_output_high_water < 1 << 20
                    || options.client_requests_inflight_max < 1_000
            });
        let timeouts: Option<Vec<Duration>> =
            self.options_of(pool).map(|options| options.request_timeout).collect();
        let longest = timeouts?.into_iter().max().filter(|_| !held_up)?;
        Some(longest.as_nanos() as u64 + 300 * MS)
    }

    /// Whether a well-behaved client may lose its connection.
    pub fn may_lose_clients(&self) -> bool {
        let network = &self.network;
        network.reset_pm > 0
            || network.stall_pm > 0
            || network.pause_pm > 0
            || network.adopt_fails_pm > 0
            || self.limits.clients_max < 1000
            || self.limits.buffered_bytes_max < 1 << 20
            || self.all_options().any(|options| {
                options.client_connections_max > 0 || options.client_output_max < OUTPUT_UNLIMITED
            })
    }
}

/// Pools and servers come and go, move, get other names; weights, distributions and limits change.
fn draw_reloads(random: &mut Random, pools: &[PoolPlan], is_fault_free: bool) -> Vec<ReloadPlan> {
    if !random.chance(200) {
        return Vec::new();
    }
    let moves = random.chance(300);
    let mut at = MS;
    (0..random.between(1, 4) as usize)
        .map(|number| {
            at += random.skewed(20_000) * US;
            let mut draw = |(index, pool): (usize, &PoolPlan)| {
                let mut options = reloaded(random, &pool.options);
                if !is_fault_free && random.chance(300) {
                    draw_limits(random, &mut options);
                    // Whether a request is too large is settled once for a seed.
                    options.limits = pool.options.limits;
                }
                if moves && random.chance(300) {
                    options.listen.address = pool_address(SPARE_PLACE + index * 10 + number);
                }
                if moves && random.chance(200) {
                    options.name = format!("renamed{index}-{number}");
                }
                (!moves || random.chance(800)).then_some(options)
            };
            let pools = pools.iter().enumerate().map(&mut draw).collect();
            ReloadPlan { at, pools }
        })
        .collect()
}

/// Of a pool that stays where it was, or comes back to it.
fn reloaded(random: &mut Random, before: &PoolOptions) -> PoolOptions {
    let mut options = before.clone();
    options.servers.retain(|_| random.chance(700));
    if options.servers.is_empty() {
        options.servers.push(before.servers[0].clone());
    }
    for server in &mut options.servers {
        if random.chance(200) {
            server.weight = random.between(1, 9) as u32;
        }
    }
    if random.chance(300) {
        options.distribution = random.pick(DistributionKind::ALL);
    }
    if random.chance(200) {
        options.hash = random.pick(HashKind::ALL);
    }
    if random.chance(300) {
        options.server_connections_per_worker = random.pick(&[1, 2, 3]);
    }
    if random.chance(200) {
        options.client_requests_inflight_max = random.pick(&[1, 3, 1024]);
        options.client_output_high_water = random.pick(&[1, 5_000, 1 << 20]);
        options.client_output_max = options.client_output_max.max(options.client_output_high_water);
    }
    options
}

/// A rate that is zero in three of four seeds.
fn seldom(random: &mut Random, high: u64) -> u32 {
    if random.chance(250) { random.between(1, high) as u32 } else { 0 }
}

fn draw_pool(random: &mut Random, index: usize, first: usize, fault_free: bool) -> PoolPlan {
    let protocol = random.pick(&[Protocol::Redis, Protocol::Memcache]);
    let servers_count = random.between(1, 5) as usize;
    let servers = (0..servers_count)
        .map(|server| ServerOptions {
            name: format!("s{server}"),
            address: ServerAddress::Inet {
                host: "10.0.0.1".to_owned(),
                port: PORT_MIN + (first + server) as u16,
            },
            weight: if random.chance(300) { random.between(1, 9) as u32 } else { 1 },
        })
        .collect();
    let address = pool_address(index);
    let mut options = PoolOptions::new(&format!("pool{index}"), protocol, address, servers);
    options.hash = random.pick(HashKind::ALL);
    options.distribution = match random.below(10) {
        0 => DistributionKind::Random,
        1..=3 => DistributionKind::Modula,
        _ => DistributionKind::Ketama,
    };
    options.hash_tag = random.chance(300).then(|| HashTag::new(b'{', b'}'));
    options.server_connections_per_worker = random.pick(&[1, 1, 1, 2, 3]);
    options.preconnect = random.chance(200);
    options.allow_flush = random.chance(500);
    if protocol == Protocol::Redis {
        options.password = random.chance(150).then(|| b"secret".to_vec());
        options.database = random.pick(&[0, 0, 0, 3]);
    }
    // Not drawn: it changes nothing that a peer sees.
    options.slow_threshold = servers_count.is_multiple_of(2).then_some(Duration::from_millis(1));
    options.client_requests_inflight_max = random.pick(&[1, 2, 3, 8, 1024, 1024]);
    options.client_output_high_water = random.pick(&[1, 100, 5_000, 1 << 20, 1 << 20]);
    if !fault_free {
        draw_limits(random, &mut options);
    }
    PoolPlan { options, server_first: first, servers_count }
}

fn draw_limits(random: &mut Random, options: &mut PoolOptions) {
    let ms = Duration::from_millis;
    if random.chance(600) {
        options.request_timeout = Some(ms(random.pick(&[1, 5, 20, 100, 400, 2_000])));
    }
    options.connect_timeout = ms(random.pick(&[2, 20, 100, 1_000]));
    if random.chance(400) {
        options.health = HealthOptions {
            eject: true,
            failure_limit: random.between(1, 4) as u32,
            retry_timeout: ms(random.pick(&[10, 100, 1_000, 30_000])),
        };
    }
    if random.chance(300) {
        options.client_output_max =
            options.client_output_high_water.max(random.skewed(100_000) as usize);
    }
    if random.chance(150) {
        options.server_requests_inflight_max = random.between(1, 20) as u32;
    }
    if random.chance(100) {
        options.client_connections_max = random.between(1, 5) as u32;
    }
    if random.chance(150) {
        options.dedicated_connections_max = random.below(3) as u32;
    }
    if random.chance(200) {
        options.limits = Limits {
            request_size_max: random.pick(&[2_000, 20_000, 1 << 20]),
            response_size_max: random.pick(&[2_000, 20_000, 1 << 20]),
            arguments_max: random.pick(&[40, 1_000]),
            line_size_max: random.pick(&[1_000, 64 << 10]),
        };
    }
    if random.chance(200) {
        options.client_stall_timeout = Some(ms(random.pick(&[50, 500, 5_000])));
    }
}

fn draw_network(random: &mut Random, fault_free: bool) -> NetworkPlan {
    let mut plan = NetworkPlan {
        latency_us_max: random.pick(&[0, 10, 200, 2_000]),
        cut_pm: random.pick(&[0, 50, 500, 900]),
        capacity: random.pick(&[64, 4_096, 200_000, usize::MAX / 2]),
        buffers_count: random.pick(&[2, 16, 256, 256]),
        buffer_size: random.pick(&[64, 512, 16 << 10, 16 << 10]),
        starve_pm: random.pick(&[0, 0, 100, 500]),
        spurious_wake_pm: random.pick(&[0, 0, 50, 500]),
        close_delay_us: random.pick(&[0, 0, 100, 20_000]),
        ..NetworkPlan::default()
    };
    if fault_free {
        return plan;
    }
    plan.reset_pm = seldom(random, 20);
    plan.reset_on_connect_pm = seldom(random, 200);
    plan.reset_on_close_pm = seldom(random, 1000);
    plan.refuse_pm = seldom(random, 300);
    plan.silent_connect_pm = seldom(random, 200);
    plan.stall_pm = seldom(random, 20);
    plan.stall_ms = random.pick(&[10, 300, 7_000]);
    plan.adopt_fails_pm = seldom(random, 200);
    plan.accept_fails_pm = seldom(random, 300);
    plan.pause_pm = seldom(random, 5);
    plan.pause_ms = random.pick(&[10, 300, 5_000]);
    plan
}

fn draw_server(random: &mut Random, fault_free: bool) -> ServerPlan {
    let mut plan =
        ServerPlan { think_us_max: random.pick(&[0, 50, 1_000, 10_000]), ..ServerPlan::default() };
    if fault_free {
        return plan;
    }
    plan.pause_pm = seldom(random, 20);
    plan.pause_ms = random.pick(&[5, 50, 500, 3_000]);
    plan.restart_pm = seldom(random, 20);
    plan.down_ms = random.pick(&[0, 5, 50, 1_000]);
    plan.down_silently = random.chance(300);
    plan.garbage_pm = seldom(random, 30);
    plan.extra_pm = if random.chance(100) { random.between(1, 30) as u32 } else { 0 };
    plan.half_pm = seldom(random, 30);
    plan.hang_pm = seldom(random, 15);
    plan.huge_pm = seldom(random, 20);
    plan.wrong_key_pm = seldom(random, 50);
    plan.half_close_pm = seldom(random, 15);
    plan.close_pm = seldom(random, 50);
    plan.unresolved_pm = if random.chance(100) { random.between(1, 10) as u32 } else { 0 };
    plan
}

fn draw_client(random: &mut Random, fault_free: bool) -> ClientPlan {
    let count = random.between(1, 12) as usize;
    let total = random.between(50, 500) as usize;
    let mut plan = ClientPlan {
        count,
        requests_count: total / count + 1,
        depth_max: random.pick(&[1, 2, 8, 50, 1_000]),
        think_us_max: random.pick(&[0, 100, 5_000]),
        value_size_max: random.pick(&[20, 300, 300, 10_000, 100_000]),
        half_close_pm: random.pick(&[0, 300]),
        multi_pm: random.pick(&[0, 100, 500]),
        quiet_pm: random.pick(&[0, 100, 400]),
        shared_pm: random.pick(&[0, 200, 900]),
        quit_pm: random.pick(&[0, 300]),
        slow_pm: random.pick(&[0, 300]),
        own_connection_pm: random.pick(&[0, 0, 30, 200]),
        ..ClientPlan::default()
    };
    if fault_free {
        return plan;
    }
    plan.vanish_pm = if random.chance(300) { 300 } else { 0 };
    plan.deaf_pm = if random.chance(250) { 400 } else { 0 };
    plan.malformed_pm = seldom(random, 100);
    plan
}
