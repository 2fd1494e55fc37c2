//! The counters of all workers as one, and as the JSON line that twemproxy's users read.
//!
//! Invariant: a sum never loses a counter; new counters get new names beside twemproxy's.

use base::Time;
use proxy::options::PoolOptions;
use proxy::stats::{PoolStats, ServerStats, WorkerStats};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// What stands at the head of the JSON line.
#[derive(Debug, Clone, Serialize)]
pub struct Header {
    /// Constant `nutcracker`, since monitoring looks for it.
    pub service: &'static str,
    /// Name of this host.
    pub source: String,
    /// Version of this program.
    pub version: &'static str,
    /// Seconds since the start.
    pub uptime: u64,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// One a worker.
    pub workers: Vec<WorkerFields>,
}

/// What is told of each worker by itself.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerFields {
    /// Client connections now.
    pub clients: u32,
}

/// One counter of the JSON line: a row is all that a new one needs.
pub(crate) struct Counter<S> {
    pub(crate) name: &'static str,
    pub(crate) kind: CounterKind,
    pub(crate) meaning: &'static str,
    pub(crate) value: fn(&S, Clocks) -> u64,
}

/// How a value behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CounterKind {
    /// It only grows.
    Total,
    /// It is what it is now.
    Gauge,
}
use CounterKind::{Gauge, Total};

macro_rules! counters {
    ($($name:literal, $kind:ident, $meaning:literal, $value:expr;)*) => {
        &[$(Counter { name: $name, kind: $kind, meaning: $meaning, value: $value }),*]
    };
}

pub(crate) const POOL_COUNTERS: &[Counter<PoolStats>] = counters! {
    "client_eof", Total, "clients that closed their connection", |s, _| s.client_eof;
    "client_err", Total, "clients whose connection broke or was closed by us", |s, _| s.client_err;
    "client_connections", Gauge, "clients now", |s, _| s.client_connections;
    "server_ejects", Total, "times that a server was ejected",
        |s, _| s.servers.iter().map(|server| server.ejects).sum();
    "forward_error", Total, "requests answered with an error because a server gave no response",
        |s, _| s.forward_errors;
    "fragments", Total, "parts that requests with several keys were divided into",
        |s, _| s.fragments;
    "client_requests", Total, "well-formed requests", |s, _| s.client_requests;
    "client_faults", Total, "requests refused with an error by the client's fault",
        |s, _| s.client_faults;
    "client_refused", Total, "clients turned away at the limit", |s, _| s.client_refused;
};

pub(crate) const SERVER_COUNTERS: &[Counter<ServerStats>] = counters! {
    "server_eof", Total, "connections that the server closed", |s, _| s.eof_count;
    "server_err", Total, "connections that broke, could not be opened or carried nonsense",
        |s, _| s.error_count;
    "server_timedout", Total, "requests and connects that took too long", |s, _| s.timedout_count;
    "server_connections", Gauge, "connections now", |s, _| s.connections;
    "server_ejected_at", Gauge, "time of the last ejection, microseconds since 1970",
        |s, clocks| s.ejected_at.map_or(0, |at| clocks.unix_us(at));
    "server_ejected", Gauge, "workers that have it ejected now", |s, _| s.ejected;
    "server_probes", Total, "probes of it while it was ejected", |s, _| s.probes;
    "requests", Total, "requests sent or to be sent", |s, _| s.requests;
    "request_bytes", Total, "their bytes", |s, _| s.request_bytes;
    "responses", Total, "responses received", |s, _| s.responses;
    "response_bytes", Total, "their bytes", |s, _| s.response_bytes;
    "in_queue", Gauge, "requests that are not sent yet", |s, _| s.in_queue;
    "in_queue_bytes", Gauge, "their bytes", |s, _| s.in_queue_bytes;
    "out_queue", Gauge, "requests that are sent and wait for a response", |s, _| s.out_queue;
    "out_queue_bytes", Gauge, "their bytes", |s, _| s.out_queue_bytes;
};

/// What the counters mean, as lines: twemproxy's catalogue with ours beside it.
pub fn describe() -> String {
    let mut text = String::new();
    describe_table("pool stats:", POOL_COUNTERS, &mut text);
    text.push('\n');
    describe_table("server stats:", SERVER_COUNTERS, &mut text);
    text
}

fn describe_table<S>(heading: &str, counters: &[Counter<S>], text: &mut String) {
    text.push_str(heading);
    text.push('\n');
    for counter in counters {
        text.push_str(&format!("  {:<20}\"{}\"\n", counter.name, counter.meaning));
    }
}

/// The sum of all workers' counters.
pub fn sum(workers: &[WorkerStats]) -> WorkerStats {
    let mut total = WorkerStats::default();
    for worker in workers {
        total.now = total.now.max(worker.now);
        total.buffered_bytes += worker.buffered_bytes;
        total.sends += worker.sends;
        total.pools.resize(worker.pools.len().max(total.pools.len()), PoolStats::default());
        for (into, from) in total.pools.iter_mut().zip(&worker.pools) {
            into.add(from);
        }
    }
    total
}

/// One pool: what it is and what was counted.
pub type PoolRow<'a> = (&'a PoolOptions, &'a PoolStats);

/// The JSON line, its line end included.
pub fn to_json(header: &Header, pools: &[PoolRow<'_>], total: &WorkerStats) -> Vec<u8> {
    let mut line = serde_json::to_vec(&Document { header, pools, total })
        .expect("maps with string keys and integers always serialize");
    line.push(b'\n');
    line
}

struct Document<'a> {
    header: &'a Header,
    pools: &'a [PoolRow<'a>],
    total: &'a WorkerStats,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let clients: u64 = self.total.pools.iter().map(|pool| pool.client_connections_total).sum();
        let current: u64 = self.total.pools.iter().map(current_connections).sum();
        let clocks = Clocks { worker: self.total.now, unix_s: self.header.timestamp };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("service", self.header.service)?;
        map.serialize_entry("source", &self.header.source)?;
        map.serialize_entry("version", self.header.version)?;
        map.serialize_entry("uptime", &self.header.uptime)?;
        map.serialize_entry("timestamp", &self.header.timestamp)?;
        map.serialize_entry("total_connections", &clients)?;
        map.serialize_entry("curr_connections", &current)?;
        map.serialize_entry("weir_workers", &self.header.workers)?;
        map.serialize_entry("buffered_bytes", &self.total.buffered_bytes)?;
        for (options, stats) in self.pools.iter().copied() {
            map.serialize_entry(&options.name, &Pool { options, stats, clocks })?;
        }
        map.end()
    }
}

fn current_connections(pool: &PoolStats) -> u64 {
    pool.client_connections + pool.servers.iter().map(|server| server.connections).sum::<u64>()
}

struct Pool<'a> {
    options: &'a PoolOptions,
    stats: &'a PoolStats,
    clocks: Clocks,
}

impl Serialize for Pool<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stats = self.stats;
        let mut map = serializer.serialize_map(None)?;
        for counter in POOL_COUNTERS {
            map.serialize_entry(counter.name, &(counter.value)(stats, self.clocks))?;
        }
        for (server, stats) in self.options.servers.iter().zip(&stats.servers) {
            map.serialize_entry(&server.name, &Server { stats, clocks: self.clocks })?;
        }
        map.end()
    }
}

struct Server<'a> {
    stats: &'a ServerStats,
    clocks: Clocks,
}

/// The same moment on two clocks.
#[derive(Clone, Copy)]
pub(crate) struct Clocks {
    pub(crate) worker: Time,
    pub(crate) unix_s: u64,
}

impl Clocks {
    /// Microseconds since 1970 of a point on the workers' clock, right to the second.
    fn unix_us(self, at: Time) -> u64 {
        let ago = u64::try_from((self.worker - at).as_micros()).unwrap_or(u64::MAX);
        (self.unix_s * 1_000_000).saturating_sub(ago)
    }
}

impl Serialize for Server<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for counter in SERVER_COUNTERS {
            map.serialize_entry(counter.name, &(counter.value)(self.stats, self.clocks))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn counters_are_summed_and_gauges_too() {
        let worker = |count| {
            let server = ServerStats { requests: count, in_queue: 1, ..ServerStats::default() };
            let pool =
                PoolStats { client_eof: count, servers: vec![server], ..PoolStats::default() };
            WorkerStats { pools: vec![pool], ..WorkerStats::default() }
        };
        let total = sum(&[worker(3), worker(4)]);
        assert_eq!(total.pools[0].client_eof, 7);
        assert_eq!(total.pools[0].servers[0].requests, 7);
        assert_eq!(total.pools[0].servers[0].in_queue, 2);
        assert_eq!(sum(&[]), WorkerStats::default());
    }

    #[test]
    fn points_on_the_workers_clock_become_unix_time() {
        let worker = Time::from_ns(50_000_000_000);
        let clocks = Clocks { worker, unix_s: 1_000_000 };
        assert_eq!(clocks.unix_us(worker), 1_000_000_000_000);
        let before = Time::ZERO + Duration::from_secs(40);
        assert_eq!(clocks.unix_us(before), 999_990_000_000);
    }
}
