//! `modula`: the hash modulo the sum of the live weights. Each live member owns as many consecutive
//! remainders as it weighs, in index order. Cheap and even, but a member that leaves or returns
//! moves most keys.
//!
//! One point holds all remainders of a member, so that memory doesn't grow with the weights.
//! Invariant: the last point's value is the largest remainder there can be.

use super::continuum::Continuum;
use super::{Distribute, Point, live_members};
use crate::Member;

#[derive(Debug, Default)]
pub(crate) struct Modula {
    continuum: Continuum,
    /// The sum of the live weights; 0 if it exceeds every hash, so that a hash is its own remainder
    /// and the members at the end may own none.
    divisor: u32,
}

impl Distribute for Modula {
    fn rebuild(&mut self, members: &[Member], live: &[bool]) {
        let mut weights_sum = 0_u64;
        self.continuum.replace(live_members(members, live).map(|(server_index, member)| {
            weights_sum += u64::from(member.weight);
            let value = u32::try_from(weights_sum - 1).unwrap_or(u32::MAX);
            Point { value, server_index }
        }));
        self.divisor = u32::try_from(weights_sum).unwrap_or(0);
    }

    #[inline]
    fn find(&self, hash: u32) -> usize {
        self.continuum.at_or_after(hash.checked_rem(self.divisor).unwrap_or(hash))
    }

    #[inline]
    fn points(&self) -> &[Point] {
        self.continuum.points()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(weights: &[u32]) -> Vec<Member> {
        weights.iter().map(|&weight| Member { name: String::new(), weight }).collect()
    }

    fn server_index(modula: &Modula, hash: u32) -> u32 {
        modula.points()[modula.find(hash)].server_index
    }

    #[test]
    fn weights_beyond_all_hashes_leave_every_hash_an_owner() {
        let mut modula = Modula::default();
        modula.rebuild(&members(&[u32::MAX, 1, u32::MAX]), &[true; 3]);
        assert_eq!(server_index(&modula, u32::MAX - 1), 0);
        assert_eq!(server_index(&modula, u32::MAX), 1);
        modula.rebuild(&members(&[u32::MAX, 1, u32::MAX]), &[true, false, true]);
        assert_eq!(server_index(&modula, u32::MAX), 2);
    }

    proptest! {
        /// The oracle holds one element for each remainder.
        #[test]
        fn equals_an_array_with_weight_copies_of_each_live_member(
            weighted in proptest::collection::vec((1..50_u32, any::<bool>()), 1..20),
            hash in any::<u32>(),
        ) {
            let (weights, live): (Vec<u32>, Vec<bool>) = weighted.into_iter().unzip();
            prop_assume!(live.contains(&true));
            let mut modula = Modula::default();
            modula.rebuild(&members(&weights), &live);
            let copies: Vec<u32> = (0..)
                .zip(&weights)
                .filter(|&(index, _)| live[index as usize])
                .flat_map(|(index, &weight)| vec![index; weight as usize])
                .collect();
            for hash in [hash, 0, 1, u32::MAX] {
                prop_assert_eq!(server_index(&modula, hash), copies[hash as usize % copies.len()]);
            }
        }
    }
}
