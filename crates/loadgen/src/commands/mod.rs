//! What the program does, one file a command.
//!
//! Invariant: a command returns what it found and whether that is a failure; only `main` ends the
//! process.

pub mod agent;
pub mod args;
pub mod calibrate;
pub mod compare;
pub mod coordinator;
pub mod curve;
mod messages;
pub mod run;
pub mod search;
pub mod self_check;
pub mod serve;
pub mod storm;

/// How a command ended, when it ended at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As hoped.
    Good,
    /// It did its work, and what it found is bad: wrong replies, a failed calibration, an SLO that
    /// is never met.
    Bad,
}
