//! Keys of which it is known which of two servers owns them. The servers are named, so placement
//! does not depend on their ports. Invariant: `wire.rs` proves the table on real servers.

/// Names of the two servers of each pool.
pub(crate) const SERVER_NAMES: [&str; 2] = ["left", "right"];

/// Keys of the server of this index.
pub(crate) fn keys_of(server: usize) -> &'static [&'static str] {
    [LEFT, RIGHT][server]
}

#[rustfmt::skip]
const LEFT: &[&str] = &["k10", "k11", "k12", "k13", "k14", "k15", "k16", "k17", "k18", "k19"];
#[rustfmt::skip]
const RIGHT: &[&str] = &["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9"];
