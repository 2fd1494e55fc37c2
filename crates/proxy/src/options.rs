//! What the proxy can be told: one struct a server pool, one a worker. Values only, already checked
//! by `validate`; where they were typed, and how, is not known here.
//!
//! Invariant: every number has a unit in its name or type, a range, and a default with a reason.

use std::fmt;
use std::time::Duration;

use base::Address;
pub use protocol::{Limits, Protocol};
use routing::{DistributionKind, HashKind, HashTag, HealthOptions, Member};

/// Where a pool accepts clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOptions {
    /// The address.
    pub address: Address,
    /// Permission bits of a unix socket, 0 to 0o777; `None` leaves what the umask gives.
    pub unix_mode: Option<u32>,
    /// Connections that the kernel holds for each worker until they are accepted. 0 to 65535.
    /// Default 512, as in twemproxy.
    pub backlog: u32,
    /// Whether the kernel probes idle client connections. Default false, as in twemproxy.
    pub keepalive: bool,
}

/// How to reach one server. A name is resolved by the control side, never by a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    /// A host name or address, and a port of 1 to 65535.
    Inet {
        /// As typed.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// A unix socket.
    Unix(std::path::PathBuf),
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Inet { host, port } => write!(f, "{host}:{port}"),
            ServerAddress::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// One upstream node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// The name that is hashed, used for ordering and shown in statistics.
    pub name: String,
    /// Where it is.
    pub address: ServerAddress,
    /// Its share of the keys, relative to the others'. At least 1.
    pub weight: u32,
}

/// One server pool: a listening address and the servers behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolOptions {
    /// Unique; shown in statistics.
    pub name: String,
    /// What clients and servers speak.
    pub protocol: Protocol,
    /// Where clients connect.
    pub listen: ListenOptions,
    /// How keys are hashed. Default fnv1a_64, as in twemproxy.
    pub hash: HashKind,
    /// How hashes become servers. Default ketama, as in twemproxy.
    pub distribution: DistributionKind,
    /// Hash only the part of a key between these two bytes. Default none.
    pub hash_tag: Option<HashTag>,
    /// At least one, in the order of [`routing::name_order`].
    pub servers: Vec<ServerOptions>,
    /// How long a request may wait for its response, connecting included. 1 ms to 1 h; `None`, the
    /// default as in twemproxy, is for ever.
    pub request_timeout: Option<Duration>,
    /// How long a connection to a server may take to open. 1 ms to 1 h. Default 5 s: three SYNs.
    pub connect_timeout: Duration,
    /// Connections that each worker opens to each server. 1 to 64. Default 1: one pipelined
    /// connection carries more requests a system call than several idle ones.
    pub server_connections_per_worker: u32,
    /// Open the connections at start instead of with the first request. Default false.
    pub preconnect: bool,
    /// Whether, and when, a failing server leaves the continuum.
    pub health: HealthOptions,
    /// Clients of this pool in the whole process; beyond it they are closed at once. One proxy
    /// takes no more by itself, and the runtime counts those of all workers together. 0, the
    /// default, is no limit but the process's descriptors.
    pub client_connections_max: u32,
    /// What clients must, and servers are, told first. Default none.
    pub password: Option<Vec<u8>>,
    /// The database selected on each server connection. Default 0.
    pub database: u32,
    /// Whether clients may empty every server of the pool. Default false: others share them.
    pub allow_flush: bool,
    /// Sizes of requests and responses.
    pub limits: Limits,
    /// Requests of one client that may be on their way. Beyond it no more of its bytes are parsed.
    /// 1 to 1,000,000. Default 1024: deep enough for a batch, shallow enough that one client can't
    /// fill a server's queue.
    pub client_requests_inflight_max: u32,
    /// Bytes of replies that wait for one client before no more of its bytes are parsed.
    /// Default 1 MiB.
    pub client_output_high_water: usize,
    /// Bytes of replies that wait for one client before it is closed. Default 256 MiB: its own
    /// requests in flight times the largest common value.
    pub client_output_max: usize,
    /// Requests that one server connection may owe. Beyond it requests fail at once.
    /// Default 65,536.
    pub server_requests_inflight_max: u32,
    /// Connections of each worker that belong to one client at a time: for requests that wait,
    /// transactions and subscriptions. Beyond it such requests fail at once. 0 to 1,000,000.
    /// Default 1024.
    pub dedicated_connections_max: u32,
    /// How long a client may leave a request half sent. `None` is for ever. Default 60 s.
    pub client_stall_timeout: Option<Duration>,
    /// Requests that take so long are remembered. 1 ms to 1 h; `None`, the default, is never.
    pub slow_threshold: Option<Duration>,
}

/// Bytes that a client may send before the proxy looks whether it may send more; also the most that
/// a client which is not read occupies.
pub const CLIENT_CREDIT: usize = 256 << 10;

/// What one worker may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerLimits {
    /// Bytes of unfinished requests and waiting replies of all clients together. Beyond it no
    /// client may begin a large request. Default 1 GiB.
    pub buffered_bytes_max: usize,
    /// Client connections of all pools together. Default 1,000,000.
    pub clients_max: u32,
    /// How long replies to a client may wait for others that are owed to it, so that they leave in
    /// one send. 0 to 1 ms. Default 100 us: about what a server needs for a batch of requests.
    pub hold_max: Duration,
}

impl Default for WorkerLimits {
    fn default() -> WorkerLimits {
        WorkerLimits {
            buffered_bytes_max: 1 << 30,
            clients_max: 1_000_000,
            hold_max: Duration::from_micros(100),
        }
    }
}

impl PoolOptions {
    /// A pool with every option at its default.
    pub fn new(
        name: &str,
        protocol: Protocol,
        address: Address,
        servers: Vec<ServerOptions>,
    ) -> PoolOptions {
        PoolOptions {
            name: name.to_owned(),
            protocol,
            listen: ListenOptions { address, unix_mode: None, backlog: 512, keepalive: false },
            hash: HashKind::Fnv1a_64,
            distribution: DistributionKind::Ketama,
            hash_tag: None,
            servers,
            request_timeout: None,
            connect_timeout: Duration::from_secs(5),
            server_connections_per_worker: 1,
            preconnect: false,
            health: HealthOptions {
                eject: false,
                failure_limit: 2,
                retry_timeout: Duration::from_secs(30),
            },
            client_connections_max: 0,
            password: None,
            database: 0,
            allow_flush: false,
            limits: Limits::default(),
            client_requests_inflight_max: 1024,
            client_output_high_water: 1 << 20,
            client_output_max: 256 << 20,
            server_requests_inflight_max: 65_536,
            dedicated_connections_max: 1024,
            client_stall_timeout: Some(Duration::from_secs(60)),
            slow_threshold: None,
        }
    }

    /// The servers as the placement wants them.
    pub fn members(&self) -> Vec<Member> {
        self.servers
            .iter()
            .map(|server| Member { name: server.name.clone(), weight: server.weight })
            .collect()
    }

    /// Everything that is wrong with the values, in words that name the option and its range.
    pub fn validate(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |right: bool, text: String| {
            if !right {
                wrong.push(text);
            }
        };
        let hour = Duration::from_secs(3600);
        let ms = Duration::from_millis(1);
        check(!self.servers.is_empty(), "servers: at least one is needed".to_owned());
        if let Some(timeout) = self.request_timeout {
            check(
                (ms..=hour).contains(&timeout),
                format!("request timeout {timeout:?}: must be 1 ms to 1 h"),
            );
        }
        check(
            (ms..=hour).contains(&self.connect_timeout),
            format!("connect timeout {:?}: must be 1 ms to 1 h", self.connect_timeout),
        );
        if let Some(threshold) = self.slow_threshold {
            check(
                (ms..=hour).contains(&threshold),
                format!("slow threshold {threshold:?}: must be 1 ms to 1 h"),
            );
        }
        check(
            (1..=64).contains(&self.server_connections_per_worker),
            format!("server connections {}: must be 1 to 64", self.server_connections_per_worker),
        );
        for (name, least, count) in [
            ("client requests in flight", 1, self.client_requests_inflight_max),
            ("server requests in flight", 1, self.server_requests_inflight_max),
            ("dedicated connections", 0, self.dedicated_connections_max),
        ] {
            check(
                (least..=1_000_000).contains(&count),
                format!("{name} {count}: must be {least} to 1000000"),
            );
        }
        if let Some(timeout) = self.client_stall_timeout {
            check(
                (ms..=hour).contains(&timeout),
                format!("client stall timeout {timeout:?}: must be 1 ms to 1 h"),
            );
        }
        check(
            (1..=1 << 24).contains(&self.limits.arguments_max),
            format!("arguments {}: must be 1 to 16777216", self.limits.arguments_max),
        );
        check(
            self.limits.response_size_max < 4 << 30,
            format!("response size {}: must be below 4 GiB", self.limits.response_size_max),
        );
        check(
            self.limits.request_size_max <= 1 << 30,
            format!("request size {}: must be at most 1 GiB", self.limits.request_size_max),
        );
        check(
            self.client_output_high_water <= self.client_output_max,
            "client output: the high water mark must not exceed the maximum".to_owned(),
        );
        wrong
    }
}
