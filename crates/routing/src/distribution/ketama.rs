//! `ketama`: consistent hashing. Each live member owns points spread over all hashes in number by
//! its weight, so that a member that leaves or returns moves only its share of the keys.
//!
//! Invariant: at least one point for every rebuild. Of n live members the heaviest has at least 1/n
//! of the weight, hence 40 digests less what rounding takes, which is at most one; so it has 156
//! points or more. Members that are light beside it may have none, and then get no keys.

use std::io::Write;

use ::md5::{Digest, Md5};

use super::continuum::Continuum;
use super::{Distribute, Point, live_members};
use crate::Member;

/// Points of each member when all weigh the same.
const POINTS_PER_MEMBER: f32 = 160.0;

/// Points that one digest gives.
const POINTS_PER_DIGEST: usize = 4;

/// Bytes of a point's string that are hashed; what is longer is cut there.
const STRING_SIZE_MAX: usize = 272;

#[derive(Debug, Default)]
pub(crate) struct Ketama {
    continuum: Continuum,
}

impl Distribute for Ketama {
    fn rebuild(&mut self, members: &[Member], live: &[bool]) {
        let live_count = live_members(members, live).count();
        // In 64 bits, so that no weights make it wrap. twemproxy's sum wraps at 2^32, so that from
        // there on the placements differ.
        let weight_total: u64 =
            live_members(members, live).map(|(_, member)| u64::from(member.weight)).sum();
        let mut string = Vec::new();
        let points = live_members(members, live).flat_map(|(server_index, member)| {
            let digests = digests_count(member.weight, weight_total, live_count);
            (0..digests)
                .flat_map(|number| {
                    string.clear();
                    write!(string, "{}-{number}", member.name).expect("a Vec takes every write");
                    string.truncate(STRING_SIZE_MAX);
                    point_values(&string)
                })
                .map(|value| Point { value, server_index })
                .collect::<Vec<Point>>()
        });
        self.continuum.replace(points);
    }

    #[inline]
    fn find(&self, hash: u32) -> usize {
        let index = self.continuum.at_or_after(hash);
        // Past the last point the continuum begins anew.
        if index == self.points().len() { 0 } else { index }
    }

    #[inline]
    fn points(&self) -> &[Point] {
        self.continuum.points()
    }
}

/// Digests, of four points each, for a member of this weight. Each step is rounded to an `f32`:
/// with wider or exact arithmetic 25 equal members would get 40 digests each, not twemproxy's 39.
fn digests_count(weight: u32, weight_total: u64, live_count: usize) -> u32 {
    let share = weight as f32 / weight_total as f32;
    let digests = share * POINTS_PER_MEMBER / POINTS_PER_DIGEST as f32 * live_count as f32;
    (f64::from(digests) + 1e-10) as f32 as u32
}

/// The four points of one string: its MD5 digest as little-endian words.
pub(crate) fn point_values(string: &[u8]) -> [u32; POINTS_PER_DIGEST] {
    let digest: [u8; 16] = Md5::digest(string).into();
    std::array::from_fn(|word| {
        u32::from_le_bytes(std::array::from_fn(|byte| digest[word * 4 + byte]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[u32]) -> Vec<Member> {
        (100..)
            .zip(weights)
            .map(|(number, &weight)| Member { name: format!("s{number}"), weight })
            .collect()
    }

    fn counts(members: &[Member], live: &[bool]) -> Vec<usize> {
        let mut ketama = Ketama::default();
        ketama.rebuild(members, live);
        let owned =
            |index| ketama.points().iter().filter(move |p| p.server_index as usize == index);
        (0..members.len()).map(|index| owned(index).count()).collect()
    }

    /// The counts of equal members, up to 250, for which single precision loses a digest.
    #[test]
    fn rounding_takes_a_digest_exactly_where_twemproxy_loses_one() {
        let short: Vec<usize> = (1..=250)
            .filter(|&count| match digests_count(1, count as u64, count) {
                40 => false,
                39 => true,
                other => panic!("{other} digests for {count} members"),
            })
            .collect();
        let expected = [
            25, 47, 50, 55, 61, 71, 94, 100, 107, 109, 110, 115, 122, 142, 159, 163, 188, 193, 200,
            209, 214, 218, 219, 220, 230, 237, 243, 244,
        ];
        assert_eq!(short, expected);
    }

    #[test]
    fn points_follow_the_weights_of_the_live() {
        let weights = members(&[1, 2, 10, 5]);
        assert_eq!(counts(&weights, &[true; 4]), [32, 68, 352, 176]);
        assert_eq!(counts(&weights, &[true, false, true, true]), [28, 0, 300, 148]);
        assert_eq!(counts(&weights, &[false, true, false, false]), [0, 160, 0, 0]);
    }

    #[test]
    fn a_member_too_light_for_a_digest_has_no_points() {
        assert_eq!(counts(&members(&[100_000, 1]), &[true; 2]), [316, 0]);
    }

    #[test]
    fn the_heaviest_member_has_points_whatever_the_weights() {
        for heaviest in [1, 3, 1000, 1 << 24, i32::MAX as u32, u32::MAX] {
            for count in [1, 2, 25, 100, 1000, 65_536] {
                let equal = u64::from(heaviest) * count as u64;
                assert!(digests_count(heaviest, equal, count) >= 39, "{heaviest} of {count}");
            }
        }
        // The sum of these weights is 0 in 32 bits.
        assert_eq!(counts(&members(&[1 << 31, 1 << 31]), &[true; 2]), [160, 160]);
        assert_eq!(counts(&members(&[u32::MAX; 3]), &[true; 3]), [160, 160, 160]);
    }

    #[test]
    fn a_long_name_is_cut_with_its_number() {
        let long = [Member { name: "n".repeat(STRING_SIZE_MAX + 8), weight: 1 }];
        let mut ketama = Ketama::default();
        ketama.rebuild(&long, &[true]);
        let mut values = point_values("n".repeat(STRING_SIZE_MAX).as_bytes());
        values.sort_unstable();
        let expected: Vec<u32> = values.iter().flat_map(|&value| [value; 40]).collect();
        assert_eq!(ketama.points().iter().map(|p| p.value).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_contested_value_is_the_lower_members() {
        // Two names that are equal where they are cut.
        let name = |end: &str| "n".repeat(STRING_SIZE_MAX) + end;
        let contested =
            [Member { name: name("a"), weight: 1 }, Member { name: name("b"), weight: 1 }];
        let mut ketama = Ketama::default();
        ketama.rebuild(&contested, &[true; 2]);
        for point in ketama.points().to_vec() {
            assert_eq!(ketama.points()[ketama.find(point.value)].server_index, 0);
        }
    }

    #[test]
    fn a_hash_belongs_to_the_point_at_or_after_it() {
        let mut ketama = Ketama::default();
        ketama.rebuild(&members(&[1, 1, 1]), &[true; 3]);
        let last = ketama.points().len() - 1;
        let value = |index: usize| ketama.points()[index].value;
        assert_eq!(ketama.find(0), 0);
        assert_eq!(ketama.find(value(7)), 7);
        assert_eq!(ketama.find(value(7) + 1), 8);
        assert_eq!(ketama.find(value(last)), last);
        assert_eq!(ketama.find(value(last) + 1), 0, "the continuum is closed");
        assert_eq!(ketama.find(u32::MAX), 0);
    }
}
