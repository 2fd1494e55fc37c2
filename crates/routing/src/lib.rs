//! Which server of a pool a key belongs to: hash tag, hash function, distribution, and the ejection
//! and return of servers. The placement is twemproxy's to the bit.
//!
//! Pure: time and randomness come in as arguments. No address and no connection is known here; a
//! server is a name, a weight and an index. Invariant: [`Placement::server_for`] gives a member
//! that is live, or `None` when there is none; it neither allocates nor panics for any key.

#![forbid(unsafe_code)]

mod distribution;
mod hash;
mod hash_tag;
mod health;
mod placement;

#[cfg(test)]
mod golden;

pub use distribution::{DistributionKind, Point};
pub use hash::HashKind;
pub use hash_tag::HashTag;
pub use health::{Health, HealthOptions};
pub use placement::{Explanation, Member, Placement, PlacementOptions, name_order};
