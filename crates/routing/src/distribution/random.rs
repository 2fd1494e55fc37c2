//! `random`: any live member with equal chance, whatever its weight and whatever the key. For
//! servers that are interchangeable.
//!
//! The draws are SplitMix64's: a counter that advances by a fixed odd step, and a mixing of its
//! value. That passes the usual batteries of tests, has no bad seed and is two multiplications; it
//! is predictable, which matters to no one here. Invariant: the same seed gives the same draws.

use super::{Distribute, Point, live_members};
use crate::Member;

/// 2^64 divided by the golden ratio, odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Debug)]
pub(crate) struct Random {
    counter: u64,
    points: Vec<Point>,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { counter: seed.wrapping_add(STEP), points: Vec::new() }
    }

    #[inline]
    fn draw(&self) -> u64 {
        let mut z = self.counter;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
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
        (((self.draw() >> 32) * self.points.len() as u64) >> 32) as usize
    }

    #[inline]
    fn advance(&mut self) {
        self.counter = self.counter.wrapping_add(STEP);
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
    fn draws_are_splitmix64s() {
        // The first values for the seed 1234567, published with the reference implementation.
        let mut random = Random::new(1_234_567);
        for expected in
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        {
            assert_eq!(random.draw(), expected);
            random.advance();
        }
    }

    #[test]
    fn live_members_have_equal_shares_whatever_they_weigh() {
        let members: Vec<Member> =
            [1, 1000, 1, 7].map(|weight| Member { name: String::new(), weight }).into();
        let mut random = Random::new(7);
        random.rebuild(&members, &[true, true, false, true]);
        let mut counts = [0_u32; 4];
        for _ in 0..30_000 {
            counts[random.points()[random.find(0)].server_index as usize] += 1;
            random.advance();
        }
        assert_eq!(counts[2], 0);
        for index in [0, 1, 3] {
            // The standard deviation is 82; the seed is fixed, so this can't be unlucky.
            assert!(counts[index].abs_diff(10_000) < 400, "{counts:?}");
        }
    }
}
