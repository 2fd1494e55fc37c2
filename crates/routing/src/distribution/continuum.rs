//! Points in the order of their values, and the search for the point that owns a value.
//!
//! What a value means is the distribution's affair. Invariant: the points are in ascending order of
//! their values once a rebuild has ended.

use super::Point;

#[derive(Debug, Default)]
pub(super) struct Continuum {
    points: Vec<Point>,
    /// For each of equally wide ranges of values, where the first point at or after its beginning
    /// is; one more for the end. There are about as many ranges as points, so that a search looks
    /// at one or two points instead of some nine (110 instructions less a key, measured), and needs
    /// nothing better than a walk.
    starts: Vec<u32>,
    /// The range of a value is the value shifted right by this.
    shift: u32,
}

/// Ranges in the table of starts, at the most: 64 KiB.
const RANGES_MAX: usize = 1 << 14;

impl Continuum {
    /// Replaces the points. Of points with equal values those given first come first.
    pub(super) fn replace(&mut self, points: impl Iterator<Item = Point>) {
        self.points.clear();
        self.points.extend(points);
        // The sort must be stable: that is what gives a contested value to the lower index.
        self.points.sort_by_key(|point| point.value);
        self.index();
    }

    fn index(&mut self) {
        let highest = self.points.last().map_or(0, |point| point.value);
        let ranges = self.points.len().next_power_of_two().min(RANGES_MAX);
        let bits = u32::BITS - highest.leading_zeros();
        self.shift = bits.saturating_sub(ranges.trailing_zeros()).min(u32::BITS - 1);
        let count = (highest >> self.shift) as usize + 1;
        self.starts.clear();
        let mut at = 0;
        for range in 0..=count as u64 {
            let begin = range << self.shift;
            while self.points.get(at).is_some_and(|point| u64::from(point.value) < begin) {
                at += 1;
            }
            self.starts.push(at as u32);
        }
    }

    /// The index of the first point at or after `value`, which is the number of points when there
    /// is none.
    #[inline]
    pub(super) fn at_or_after(&self, value: u32) -> usize {
        let range = (value >> self.shift) as usize;
        let Some(&first) = self.starts.get(range) else { return self.points.len() };
        let rest = &self.points[first as usize..];
        first as usize + rest.iter().take_while(|point| point.value < value).count()
    }

    #[inline]
    pub(super) fn points(&self) -> &[Point] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Few distinct values, so that many are equal.
        #[test]
        fn finds_what_a_walk_over_all_points_finds(
            values in proptest::collection::vec(0..20_u32, 0..40),
            value in 0..22_u32,
            scale in 0..28_u32,
        ) {
            let values = values.into_iter().map(|value| value << scale);
            let value = value << scale;
            let given: Vec<Point> = (0..)
                .zip(values)
                .map(|(server_index, value)| Point { value, server_index })
                .collect();
            let mut continuum = Continuum::default();
            continuum.replace(given.iter().copied());
            let nearest = given
                .iter()
                .filter(|point| point.value >= value)
                .min_by_key(|point| (point.value, point.server_index));
            prop_assert_eq!(continuum.points().get(continuum.at_or_after(value)), nearest);
        }
    }
}
