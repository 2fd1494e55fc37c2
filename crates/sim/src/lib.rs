//! A deterministic world in which the worker that ships runs and everything breaks.
//!
//! The [`runtime::worker::Worker`] and [`proxy::Proxy`] are those of the shipped program; the event
//! base, the network, the clients, the servers and the clock are simulated, from one seed. Never
//! shipped. Invariant: the same seed gives the same trace, to the last byte.

#![forbid(unsafe_code)]

pub mod base;
pub mod canary;
pub mod changes;
pub mod client;
pub mod commands;
pub mod control;
pub mod ejections;
pub mod oracle;
pub mod plan;
pub mod random;
pub mod registered;
pub mod run;
pub mod server;
pub mod tied;
pub mod wire;
pub mod workload;
pub mod world;

pub use canary::Canary;
pub use plan::Plan;
pub use run::{RunOptions, Verdict, run_plan};

/// Runs one seed.
pub fn run_seed(seed: u64) -> Verdict {
    run_plan(Plan::draw(seed), RunOptions::default())
}
