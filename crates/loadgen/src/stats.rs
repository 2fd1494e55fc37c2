//! Statistics that the verdicts and comparisons rest on.
//!
//! Pure and seeded: the same numbers give the same answer. Invariant: an interval is never narrower
//! than what the assumption-free method gives.

use crate::rng::Rng;

/// An estimate with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Standard deviation of one observation.
    pub deviation: f64,
}

/// Mean of paired differences, with the wider one of the bootstrap's interval (percentiles of
/// resampled means) and Student's: with few pairs the bootstrap alone is too narrow.
pub fn estimate(differences: &[f64], seed: u64) -> Estimate {
    let n = differences.len();
    let mean = differences.iter().sum::<f64>() / n.max(1) as f64;
    if n < 2 {
        return Estimate { mean, low: f64::NEG_INFINITY, high: f64::INFINITY, deviation: f64::NAN };
    }
    let square = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>();
    let deviation = (square / (n - 1) as f64).sqrt();
    let half = student_975(n - 1) * deviation / (n as f64).sqrt();
    let mut rng = Rng::new(seed, n as u64);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sum: f64 = (0..n).map(|_| differences[rng.below(n as u64) as usize]).sum();
            sum / n as f64
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    let (low, high) = (means[RESAMPLES * 25 / 1000], means[RESAMPLES * 975 / 1000]);
    Estimate { mean, low: low.min(mean - half), high: high.max(mean + half), deviation }
}

const RESAMPLES: usize = 10_000;

/// The 97.5 % point of Student's law (Cornish and Fisher's expansion; the first six from a table,
/// where it is off).
pub fn student_975(freedom: usize) -> f64 {
    match freedom {
        0 => f64::INFINITY,
        1 => 12.706,
        2 => 4.303,
        3 => 3.182,
        4 => 2.776,
        5 => 2.571,
        6 => 2.447,
        _ => {
            let (z, n) = (1.959_964_f64, freedom as f64);
            z + (z.powi(3) + z) / (4.0 * n)
                + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
        }
    }
}

/// A straight line through equally spaced values: its slope a step, and how many standard errors
/// that is from 0.
pub fn trend(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    if values.len() < 4 {
        return (0.0, 0.0);
    }
    let (mean_x, mean_y) = ((n - 1.0) / 2.0, values.iter().sum::<f64>() / n);
    let xx: f64 = (0..values.len()).map(|x| (x as f64 - mean_x).powi(2)).sum();
    let xy: f64 = values.iter().enumerate().map(|(x, y)| (x as f64 - mean_x) * (y - mean_y)).sum();
    let slope = xy / xx;
    let rest: f64 = values
        .iter()
        .enumerate()
        .map(|(x, y)| (y - mean_y - slope * (x as f64 - mean_x)).powi(2))
        .sum();
    let error = (rest / (n - 2.0) / xx).sqrt();
    let errors = if error > 0.0 { slope / error } else { slope.signum() * f64::INFINITY };
    (slope, if slope == 0.0 { 0.0 } else { errors })
}

/// A histogram as pairs of a value and its count, rising.
pub type Sparse = Vec<(u64, u64)>;

/// The 95 % intervals of percentiles: the wider of the order statistics' and of a block bootstrap
/// over intervals, since latencies of neighbours in time are alike. `None` when there is nothing.
pub fn percentile_intervals(
    intervals: &[Sparse],
    percents: &[f64],
    seed: u64,
) -> Option<Vec<(u64, u64)>> {
    let mut values: Vec<u64> = intervals.iter().flatten().map(|one| one.0).collect();
    values.sort_unstable();
    values.dedup();
    let all = Dense::sum(&values, intervals.iter());
    if all.total == 0 {
        return None;
    }
    let mut found: Vec<(u64, u64)> = percents
        .iter()
        .map(|percent| {
            let p = percent / 100.0;
            let spread = 1.96 * (p * (1.0 - p) / all.total as f64).sqrt();
            (
                all.at_part(&values, (p - spread).max(0.0)),
                all.at_part(&values, (p + spread).min(1.0)),
            )
        })
        .collect();
    if intervals.len() >= 4 {
        let block = (intervals.len() / 10).clamp(1, 5);
        let mut rng = Rng::new(seed, intervals.len() as u64);
        let mut resampled = vec![Vec::with_capacity(BLOCK_RESAMPLES); percents.len()];
        for _ in 0..BLOCK_RESAMPLES {
            let picks = (0..intervals.len().div_ceil(block)).flat_map(|_| {
                let start = rng.below((intervals.len() - block + 1) as u64) as usize;
                &intervals[start..start + block]
            });
            let sample = Dense::sum(&values, picks);
            for (percent, resampled) in percents.iter().zip(&mut resampled) {
                resampled.push(sample.at_part(&values, percent / 100.0));
            }
        }
        for ((low, high), mut resampled) in found.iter_mut().zip(resampled) {
            resampled.sort_unstable();
            *low = (*low).min(resampled[BLOCK_RESAMPLES * 25 / 1000]);
            *high = (*high).max(resampled[BLOCK_RESAMPLES * 975 / 1000]);
        }
    }
    Some(found)
}

const BLOCK_RESAMPLES: usize = 200;

/// Counts beside a list of values.
struct Dense {
    counts: Vec<u64>,
    total: u64,
}

impl Dense {
    fn sum<'a>(values: &[u64], histograms: impl Iterator<Item = &'a Sparse>) -> Dense {
        let mut dense = Dense { counts: vec![0; values.len()], total: 0 };
        for histogram in histograms {
            // Both rise, so each value is found behind the one before.
            let mut place = 0;
            for &(value, count) in histogram {
                while values[place] < value {
                    place += 1;
                }
                dense.counts[place] += count;
                dense.total += count;
            }
        }
        dense
    }

    fn at_part(&self, values: &[u64], part: f64) -> u64 {
        let rank = ((self.total as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (&value, &count) in values.iter().zip(&self.counts) {
            seen += count;
            if seen >= rank {
                return value;
            }
        }
        values.last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn student_is_as_in_tables() {
        for (freedom, value) in [(1, 12.706), (5, 2.571), (7, 2.365), (15, 2.131), (30, 2.042)] {
            assert!((student_975(freedom) - value).abs() < 0.01, "{freedom}");
        }
    }

    /// The interval holds the true mean in at least 94 of 100 experiments.
    #[test]
    fn the_interval_covers_the_truth() {
        let mut rng = Rng::new(4, 4);
        for pairs in [6, 10, 20] {
            let covered = (0..400)
                .filter(|&seed| {
                    let sample: Vec<f64> = (0..pairs).map(|_| 0.03 + 0.05 * rng.normal()).collect();
                    let found = estimate(&sample, seed);
                    found.low <= 0.03 && 0.03 <= found.high
                })
                .count();
            assert!(covered >= 376, "{covered} of 400 with {pairs} pairs");
        }
    }

    #[test]
    fn a_trend_is_told_from_noise() {
        let mut rng = Rng::new(5, 5);
        let noise: Vec<f64> = (0..60).map(|_| rng.normal()).collect();
        assert!(trend(&noise).1.abs() < 3.0);
        let rising: Vec<f64> = noise.iter().enumerate().map(|(x, y)| y + x as f64 * 0.2).collect();
        let (slope, errors) = trend(&rising);
        assert!((slope - 0.2).abs() < 0.05 && errors > 5.0);
        assert_eq!(trend(&[1.0; 10]).1, 0.0);
    }

    /// Intervals that differ among themselves make a percentile less certain than the count of
    /// samples says.
    #[test]
    fn a_percentile_of_uneven_intervals_is_less_certain() {
        let even: Vec<Sparse> = (0..40).map(|_| vec![(100, 900), (200, 100)]).collect();
        let even = percentile_intervals(&even, &[95.0], 1).expect("not empty");
        assert_eq!(even, [(200, 200)]);
        let uneven: Vec<Sparse> = (0..40)
            .map(|i| if i % 20 == 3 { vec![(100, 100), (9000, 900)] } else { vec![(100, 1000)] })
            .collect();
        let uneven = percentile_intervals(&uneven, &[50.0, 95.0], 1).expect("not empty");
        assert_eq!(uneven, [(100, 100), (100, 9000)]);
        assert_eq!(percentile_intervals(&[], &[50.0], 1), None);
    }
}
