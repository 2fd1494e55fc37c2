//! `random`: any live member with equal chance, whatever its weight and whatever the key. For
//! servers that are interchangeable.
//!
//! Invariant: the same seed gives the same draws.

use base::SplitMix64;

use super::{Distribute, Point, live_members};
use crate::Member;

#[derive(Debug)]
pub(crate) struct Random {
    draws: SplitMix64,
    points: Vec<Point>,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { draws: SplitMix64::new(seed), points: Vec::new() }
    }
}

impl Distribute for Random {
    fn rebuild(&mut self, members: &[Member], live: &[bool]) {
        self.points.clear();
        self.points.extend(
            live_members(members, live).map(|(server_index, _)| Point { value: 0, server_index }),
        );
    }

    /// The same point until the next `advance`; the hash is not used.
    #[inline]
    fn find(&self, _hash: u32) -> usize {
        // A 32-bit draw scaled to the count, without a division: biased by less than count / 2^32.
        (((self.draws.peek() >> 32) * self.points.len() as u64) >> 32) as usize
    }

    #[inline]
    fn advance(&mut self) {
        self.draws.draw();
    }

    #[inline]
    fn points(&self) -> &[Point] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_stands_until_the_next_and_is_the_seeds() {
        let members = ["a", "b", "c"].map(|name| Member { name: name.to_owned(), weight: 1 });
        let [mut one, mut two] = [7, 7].map(Random::new);
        one.rebuild(&members, &[true; 3]);
        two.rebuild(&members, &[true; 3]);
        let mut found = std::collections::BTreeSet::new();
        for hash in 0..100 {
            assert_eq!(one.find(hash), one.find(!hash));
            assert_eq!(one.find(hash), two.find(hash));
            found.insert(one.find(hash));
            one.advance();
            two.advance();
        }
        assert_eq!(found.len(), 3);
    }
}
