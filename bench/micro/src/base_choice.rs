//! Which event base a binary runs on, by name.
//!
//! Not the choice that Weir makes: here nothing falls back, since a figure must be of what was
//! asked for.

use clap::ValueEnum;
use event::{Readiness, ReadinessOptions};

/// An event base by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BaseName {
    /// io_uring.
    Uring,
    /// The readiness back end.
    Polling,
}

/// An event base on io_uring, as a worker of Weir has it.
///
/// # Panics
///
/// When the kernel refuses.
#[cfg(target_os = "linux")]
pub fn uring() -> event::Uring {
    let tier = event::uring_supported().unwrap_or_else(|refused| panic!("io_uring: {refused}"));
    event::Uring::new(event::UringOptions::new(tier)).expect("it is supported")
}

/// The readiness back end, as a worker of Weir has it.
///
/// # Panics
///
/// When descriptors are short.
pub fn polling() -> Readiness {
    Readiness::new(ReadinessOptions::default()).expect("there are descriptors left")
}
