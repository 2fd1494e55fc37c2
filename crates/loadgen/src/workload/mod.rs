//! What is asked for: the laws of a workload, and the stream of requests that follows from them.
//!
//! Pure: no clock, socket or thread. Invariant: a request is a function of the plan's seed and of
//! its own number, so the stream is the same for any number of threads and machines.

pub mod alias;
pub mod file;
pub mod keys;
pub mod law;
pub mod plan;
pub mod presets;
pub mod schedule;
pub mod stream;
pub mod value;
pub mod zipf;

pub use file::Settings;
pub use plan::Plan;
