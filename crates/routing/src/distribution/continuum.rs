//! Points in the order of their values, and the search for the point that owns a value.
//!
//! What a value means is the distribution's affair. Invariant: `values[i] == points[i].value`, in
//! ascending order once a rebuild has ended.

use super::Point;

#[derive(Debug, Default)]
pub(super) struct Continuum {
    points: Vec<Point>,
    /// The values once more, side by side: the search then touches half as many cache lines.
    values: Vec<u32>,
}

impl Continuum {
    /// Replaces the points. Of points with equal values those given first come first.
    pub(super) fn replace(&mut self, points: impl Iterator<Item = Point>) {
        self.points.clear();
        self.points.extend(points);
        // The sort must be stable: that is what gives a contested value to the lower index.
        self.points.sort_by_key(|point| point.value);
        self.values.clear();
        self.values.extend(self.points.iter().map(|point| point.value));
    }

    /// The index of the first point at or after `value`, which is the number of points when there
    /// is none.
    #[inline]
    pub(super) fn at_or_after(&self, value: u32) -> usize {
        self.values.partition_point(|&point| point < value)
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
        ) {
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
