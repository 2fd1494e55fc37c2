//! What turns the pure core into a running process: one pinned worker for each CPU, their
//! listeners, and the control side that talks to them.
//!
//! The main loop is [`worker::Worker::run`]. Glue: no protocol, no routing, no socket call here.
//! Invariant: a worker shares nothing on the path of a request; it hears from the control side
//! through its mailbox only.

#![forbid(unsafe_code)]

pub mod admin;
pub mod balance;
mod control_listener;
pub mod cpus;
mod listeners;
pub mod mailbox;
pub mod memory;
pub mod process;
pub mod reload;
mod resolver;
pub mod restart;
pub mod snapshot;
mod stats_server;
pub mod worker;

pub use base::address::without_brackets;
pub use base::{Address, Time};
pub use proxy::options::PoolOptions;
pub use proxy::stats::WorkerStats;
