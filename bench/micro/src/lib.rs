//! What the binaries of this folder share: the requests that they send, and the event base that
//! they run on.
//!
//! Nothing here is shipped. Invariant: keys are of one length, so that requests of one shape are
//! too.

#![forbid(unsafe_code)]

pub mod base_choice;
pub mod requests;

pub use base_choice::BaseName;
