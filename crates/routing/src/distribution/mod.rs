//! The table of distributions: how hashes become members. Each row is one file beside this one,
//! with one type that implements [`Distribute`].
//!
//! Which members are live is decided elsewhere ([`crate::Health`]). Invariant: after a rebuild with
//! at least one live member there is at least one point, and every point is a live member's.

mod continuum;
pub(crate) mod ketama;
mod modula;
mod random;

use crate::Member;

/// A place on a continuum, and the member that owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// `ketama`: a hash. `modula`: a remainder. The point owns every value from the one after the
    /// point before it up to and including its own. `random`: 0, without meaning.
    pub value: u32,
    /// Index of the member.
    pub server_index: u32,
}

/// What a distribution does. The caller never asks for a point before the first rebuild.
pub(crate) trait Distribute {
    /// Places the points of the live members, of which there is at least one. Both slices are of
    /// the same length, and weights are at least 1.
    fn rebuild(&mut self, members: &[Member], live: &[bool]);

    /// The members that own several hashes, one choice after the other.
    #[inline]
    fn choose<const COUNT: usize>(&mut self, hashes: [u32; COUNT]) -> [u32; COUNT] {
        hashes.map(|hash| {
            let point = self.points()[self.find(hash)];
            self.advance();
            point.server_index
        })
    }

    /// The index of the point on which a hash falls.
    fn find(&self, hash: u32) -> usize;

    /// Called after each choice; for distributions that don't give the same answer twice.
    fn advance(&mut self) {}

    /// The points in their order. Not empty after a rebuild.
    fn points(&self) -> &[Point];
}

macro_rules! distributions {
    ($($kind:ident $name:literal $new:expr;)*) => {
        /// A distribution, as the configuration names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DistributionKind {
            $(#[doc = concat!("`", $name, "`")] $kind,)*
        }

        impl DistributionKind {
            /// Every distribution, in the order of the table.
            pub const ALL: &[DistributionKind] = &[$(DistributionKind::$kind),*];

            /// The configuration's word for it.
            pub fn name(self) -> &'static str {
                match self {
                    $(DistributionKind::$kind => $name,)*
                }
            }
        }

        /// The points of one pool. An enum and not a trait object, so that a look-up is inlined.
        #[derive(Debug)]
        pub(crate) enum Distribution {
            $($kind($kind),)*
        }

        impl Distribution {
            pub(crate) fn new(kind: DistributionKind, seed: u64) -> Distribution {
                match kind {
                    $(DistributionKind::$kind => {
                        let new: fn(u64) -> $kind = $new;
                        Distribution::$kind(new(seed))
                    })*
                }
            }
        }

        impl Distribute for Distribution {
            fn rebuild(&mut self, members: &[Member], live: &[bool]) {
                match self {
                    $(Distribution::$kind(distribution) => distribution.rebuild(members, live),)*
                }
            }

            #[inline]
            fn choose<const COUNT: usize>(&mut self, hashes: [u32; COUNT]) -> [u32; COUNT] {
                match self {
                    $(Distribution::$kind(distribution) => distribution.choose(hashes),)*
                }
            }

            #[inline]
            fn find(&self, hash: u32) -> usize {
                match self {
                    $(Distribution::$kind(distribution) => distribution.find(hash),)*
                }
            }

            #[inline]
            fn advance(&mut self) {
                match self {
                    $(Distribution::$kind(distribution) => distribution.advance(),)*
                }
            }

            #[inline]
            fn points(&self) -> &[Point] {
                match self {
                    $(Distribution::$kind(distribution) => distribution.points(),)*
                }
            }
        }
    };
}

use ketama::Ketama;
use modula::Modula;
use random::Random;

distributions! {
    // kind  name     from a seed
    Ketama "ketama" |_| Ketama::default();
    Modula "modula" |_| Modula::default();
    Random "random" Random::new;
}

impl DistributionKind {
    /// The distribution of that name, which is case-sensitive.
    pub fn from_name(name: &str) -> Option<DistributionKind> {
        DistributionKind::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// The live members and their indices.
fn live_members<'a>(
    members: &'a [Member],
    live: &'a [bool],
) -> impl Iterator<Item = (u32, &'a Member)> {
    (0..).zip(members).zip(live).filter(|&(_, &live)| live).map(|(member, _)| member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_distribution() {
        assert_eq!(DistributionKind::ALL.len(), 3);
        for &kind in DistributionKind::ALL {
            assert_eq!(DistributionKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(DistributionKind::from_name("Ketama"), None);
    }
}
