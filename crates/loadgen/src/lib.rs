//! weir-bench: a load generator for memcached and Redis that tells the truth about latency.
//!
//! Requests begin when a schedule says so, whether or not the server keeps up, and latency runs
//! from that intended start; each reply is compared with what was stored; and each run judges
//! itself before anyone trusts its figures. How to use it is in `docs/benchmarking.md`. The pure
//! part (`workload`, `driver`, `verify`, `record`) knows neither clock nor socket; `worker` joins
//! it to an event base. Invariant: histograms are merged, never percentiles.
#![forbid(unsafe_code)]

pub mod arrivals;
pub mod commands;
pub mod driver;
pub mod engine;
pub mod environment;
pub mod marks;
pub mod record;
pub mod reply;
pub mod report;
pub mod rng;
pub mod server;
pub mod stats;
pub mod summary;
pub mod template;
pub mod verdict;
pub mod verify;
pub mod wire;
pub mod worker;
pub mod workload;
