//! How a request or a response grows that straddles receive buffers (decision 001).
//!
//! Sizes only. Invariant: what was only declared never makes more than [`RESERVE_MAX`] bytes of
//! room.

/// It grows by at least so many bytes at a time, when the parser can't say how many it needs.
pub(crate) const SIZE_MIN: usize = 64;

/// So much room is made at once for a length that was declared.
pub(crate) const RESERVE_MAX: usize = 32 << 10;
