//! Random numbers: a mixing function, and a small generator that is seeded from it.
//!
//! Not for secrets. Invariant: the same seed gives the same numbers on every machine, which is what
//! makes a request stream repeatable.

use base::SplitMix64;
use base::random::STEP;

/// Mixes 64 bits so that inputs that differ in one bit give unrelated outputs (splitmix64's
/// finish).
#[inline]
pub fn mix(value: u64) -> u64 {
    SplitMix64::new(value).peek()
}

/// A generator with 64 bits of state (splitmix64): cheap enough to be made anew for each request,
/// so that what request `i` is depends on the seed and on `i` only.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator for item `number` of the stream `seed`.
    #[inline]
    pub fn new(seed: u64, number: u64) -> Rng {
        Rng::of_mixed(mix(seed), number)
    }

    /// As [`Rng::new`], for a seed that has been mixed already: for those made for each request.
    #[inline]
    pub fn of_mixed(mixed_seed: u64, number: u64) -> Rng {
        Rng(mixed_seed ^ mix(number.wrapping_mul(0xD1B5_4A32_D192_ED03)))
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        let bits = mix(self.0);
        self.0 = self.0.wrapping_add(STEP);
        bits
    }

    /// Uniform in [0, 1).
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in (0, 1], for logarithms.
    #[inline]
    pub fn unit_open(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in 0..count; `count` must not be 0.
    #[inline]
    pub fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(count)) >> 64) as u64
    }

    /// Exponential with mean 1.
    #[inline]
    pub fn exponential(&mut self) -> f64 {
        -self.unit_open().ln()
    }

    /// Standard normal (Box and Muller; two uniforms a draw, the second result is not kept).
    pub fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_laws() {
        let mut rng = Rng::new(7, 0);
        let n = 200_000;
        let mut sums = [0.0; 3];
        for _ in 0..n {
            sums[0] += rng.unit();
            sums[1] += rng.exponential();
            sums[2] += rng.normal().powi(2);
        }
        let means = sums.map(|sum| sum / f64::from(n));
        for (mean, expected) in means.iter().zip([0.5, 1.0, 1.0]) {
            assert!((mean - expected).abs() < 0.01, "{means:?}");
        }
    }

    #[test]
    fn streams_of_neighbours_are_unrelated() {
        let firsts: Vec<u64> = (0..1000).map(|i| Rng::new(1, i).below(2)).collect();
        let ones: u64 = firsts.iter().sum();
        assert!((400..600).contains(&ones), "{ones}");
        let equal = firsts.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!((400..600).contains(&equal), "{equal}");
    }
}
