//! A discrete law with any weights, one random word a draw (Walker and Vose).
//!
//! Invariant: item i is drawn with probability weight(i) / sum of weights.

use crate::rng::Rng;

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Alias {
    /// Below this share of its column an item stands for itself, above it for `other`.
    columns: Vec<(f64, u32)>,
}

impl Alias {
    /// Weights are finite, not negative, and not all zero.
    pub fn new(weights: &[f64]) -> Alias {
        let sum: f64 = weights.iter().sum();
        assert!(sum > 0.0 && sum.is_finite() && weights.iter().all(|&weight| weight >= 0.0));
        let scale = weights.len() as f64 / sum;
        let mut share: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
        let mut columns: Vec<(f64, u32)> = (0..weights.len() as u32).map(|i| (1.0, i)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|&i| share[i] < 1.0);
        while let (Some(&low), Some(&high)) = (small.last(), large.last()) {
            small.pop();
            columns[low] = (share[low], high as u32);
            share[high] -= 1.0 - share[low];
            if share[high] < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        // What rounding left over is a whole column, except where the weight is zero.
        for left in small.into_iter().filter(|&left| weights[left] > 0.0) {
            columns[left].0 = 1.0;
        }
        Alias { columns }
    }

    /// Draws an item.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> usize {
        let wide = u128::from(rng.bits()) * self.columns.len() as u128;
        let column = (wide >> 64) as usize;
        let (share, other) = self.columns[column];
        let part = (wide as u64 >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
        if part < share { column } else { other as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_by_weight_and_those_of_weight_zero_never() {
        let weights = [1.0, 0.0, 7.0, 0.5, 1.5];
        let alias = Alias::new(&weights);
        let mut rng = Rng::new(3, 3);
        let mut seen = [0u32; 5];
        let draws = 200_000;
        for _ in 0..draws {
            seen[alias.draw(&mut rng)] += 1;
        }
        assert_eq!(seen[1], 0);
        for (seen, weight) in seen.iter().zip(weights) {
            let share = f64::from(*seen) / f64::from(draws);
            assert!((share - weight / 10.0).abs() < 0.005, "{share} for {weight}");
        }
    }
}
