//! Laws of sizes and of times to live: how many bytes, or seconds, a thing has.
//!
//! A law is drawn from a number's hash, not from a running generator: the same key always has the
//! same size. Invariant: a draw lies within the law's bounds.

use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize};

use super::alias::Alias;
use crate::rng::Rng;

/// A law as a workload file has it: a number, or a table with one key that names the law.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Law(pub LawKind);

/// The kinds of laws.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LawKind {
    /// Always the same.
    Fixed(u64),
    /// Uniform, both ends included.
    Uniform([u64; 2]),
    /// Values with their weights.
    Choice(Vec<(u64, f64)>),
    /// Median and sigma of the logarithm, and the largest value.
    Lognormal {
        /// The median.
        median: f64,
        /// Standard deviation of the natural logarithm.
        sigma: f64,
        /// Larger draws become this.
        max: u64,
    },
    /// Generalised extreme value: mu, sigma, k, and bounds.
    Gev {
        /// Location.
        mu: f64,
        /// Scale.
        sigma: f64,
        /// Shape.
        k: f64,
        /// Smaller draws become this.
        min: u64,
        /// Larger draws become this.
        max: u64,
    },
    /// Generalised Pareto: theta, sigma, k, and the largest value.
    Pareto {
        /// Location.
        theta: f64,
        /// Scale.
        sigma: f64,
        /// Shape.
        k: f64,
        /// Larger draws become this.
        max: u64,
    },
    /// Points (probability in percent, value) of the inverse distribution function, between which
    /// the logarithm is interpolated.
    Quantiles(Vec<(f64, f64)>),
    /// Geometric from 1 up, with a mean and a largest value.
    Geometric {
        /// The mean before cutting.
        mean: f64,
        /// Larger draws become this.
        max: u64,
    },
    /// Several laws with weights.
    Mixture(Vec<(f64, Law)>),
}

impl Law {
    /// The law of one value.
    pub fn fixed(value: u64) -> Law {
        Law(LawKind::Fixed(value))
    }

    /// What is wrong with it, if anything; `what` names it in the text.
    pub fn check(&self, what: &str) -> Result<(), String> {
        let bad = |why: &str| Err(format!("{what}: {why}"));
        match &self.0 {
            LawKind::Fixed(_) => Ok(()),
            LawKind::Uniform([low, high]) if low > high => bad("uniform = [low, high]: low > high"),
            LawKind::Uniform(_) => Ok(()),
            LawKind::Choice(choice) => check_weights(what, choice.iter().map(|(_, w)| *w)),
            LawKind::Lognormal { median, sigma, .. } => {
                if *median > 0.0 && *sigma >= 0.0 {
                    Ok(())
                } else {
                    bad("lognormal: median > 0")
                }
            }
            LawKind::Gev { sigma, k, min, max, .. } => {
                if *sigma > 0.0 && k.is_finite() && min <= max {
                    Ok(())
                } else {
                    bad("gev: sigma > 0 and min <= max")
                }
            }
            LawKind::Pareto { sigma, k, .. } => {
                if *sigma > 0.0 && k.is_finite() {
                    Ok(())
                } else {
                    bad("pareto: sigma > 0")
                }
            }
            LawKind::Quantiles(points) => {
                let rising =
                    points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
                let inside = points.iter().all(|p| (0.0..=100.0).contains(&p.0) && p.1 >= 0.0);
                if points.len() >= 2 && rising && inside {
                    Ok(())
                } else {
                    bad("quantiles: two or more [percent, value], rising")
                }
            }
            LawKind::Geometric { mean, .. } => {
                if *mean >= 1.0 {
                    Ok(())
                } else {
                    bad("geometric: the mean must be at least 1")
                }
            }
            LawKind::Mixture(parts) => {
                check_weights(what, parts.iter().map(|(weight, _)| *weight))?;
                parts.iter().try_for_each(|(_, law)| law.check(what))
            }
        }
    }
}

fn check_weights(what: &str, weights: impl Iterator<Item = f64>) -> Result<(), String> {
    let mut sum = 0.0;
    for weight in weights {
        if !weight.is_finite() || weight < 0.0 {
            return Err(format!("{what}: weights must not be negative"));
        }
        sum += weight;
    }
    if sum > 0.0 { Ok(()) } else { Err(format!("{what}: the weights must not all be zero")) }
}

impl<'de> Deserialize<'de> for Law {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Law, D::Error> {
        struct LawVisitor;
        impl<'de> Visitor<'de> for LawVisitor {
            type Value = Law;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a whole number, or a table such as { uniform = [1, 100] }")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Law, E> {
                let value = u64::try_from(value).map_err(|_| E::custom("must not be negative"))?;
                Ok(Law::fixed(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Law, E> {
                Ok(Law::fixed(value))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Law, M::Error> {
                LawKind::deserialize(MapAccessDeserializer::new(map)).map(Law)
            }
        }
        deserializer.deserialize_any(LawVisitor)
    }
}

/// A checked law, made ready for drawing.
#[derive(Debug, Clone)]
pub struct Sampler {
    kind: LawKind,
    alias: Option<Alias>,
    parts: Vec<Sampler>,
    max: u64,
}

impl Sampler {
    /// `max` bounds every draw.
    pub fn new(law: &Law, max: u64) -> Sampler {
        let alias = match &law.0 {
            LawKind::Choice(choice) => {
                Some(Alias::new(&choice.iter().map(|(_, weight)| *weight).collect::<Vec<_>>()))
            }
            LawKind::Mixture(parts) => {
                Some(Alias::new(&parts.iter().map(|(weight, _)| *weight).collect::<Vec<_>>()))
            }
            _ => None,
        };
        let parts = match &law.0 {
            LawKind::Mixture(parts) => {
                parts.iter().map(|(_, law)| Sampler::new(law, max)).collect()
            }
            _ => Vec::new(),
        };
        Sampler { kind: law.0.clone(), alias, parts, max }
    }

    /// The value, when it is always the same.
    pub fn constant(&self) -> Option<u64> {
        if let LawKind::Fixed(value) = self.kind { Some(value.min(self.max)) } else { None }
    }

    /// Draws.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        if let LawKind::Fixed(value) = self.kind {
            return value.min(self.max);
        }
        self.draw_random(rng).min(self.max)
    }

    fn draw_random(&self, rng: &mut Rng) -> u64 {
        let alias = || self.alias.as_ref().expect("laws with weights have one");
        match &self.kind {
            LawKind::Fixed(value) => *value,
            LawKind::Uniform([low, high]) => low + rng.below(high - low + 1),
            LawKind::Choice(choice) => choice[alias().draw(rng)].0,
            LawKind::Lognormal { median, sigma, max } => {
                bounded(median * (sigma * rng.normal()).exp(), 0, *max)
            }
            LawKind::Gev { mu, sigma, k, min, max } => {
                let log = rng.exponential();
                let x = if k.abs() < 1e-9 {
                    mu - sigma * log.ln()
                } else {
                    mu + sigma * (log.powf(-k) - 1.0) / k
                };
                bounded(x, *min, *max)
            }
            LawKind::Pareto { theta, sigma, k, max } => {
                bounded(theta + sigma * pareto(*k, rng), 0, *max)
            }
            LawKind::Quantiles(points) => {
                let percent = rng.unit() * 100.0;
                quantile(points, percent)
            }
            LawKind::Geometric { mean, max } => {
                if *mean <= 1.0 {
                    return 1;
                }
                let x = rng.unit_open().ln() / (1.0 - 1.0 / mean).ln();
                bounded(1.0 + x.floor(), 1, *max)
            }
            LawKind::Mixture(_) => self.parts[alias().draw(rng)].draw(rng),
        }
    }
}

/// A draw of the generalised Pareto law with location 0 and scale 1.
pub(crate) fn pareto(k: f64, rng: &mut Rng) -> f64 {
    let u = rng.unit_open();
    if k.abs() < 1e-9 { -u.ln() } else { (u.powf(-k) - 1.0) / k }
}

fn bounded(x: f64, min: u64, max: u64) -> u64 {
    // A float that is too large, or not a number, becomes the nearest integer or 0.
    (x.round() as u64).clamp(min, max.max(min))
}

fn quantile(points: &[(f64, f64)], percent: f64) -> u64 {
    let after = points.partition_point(|point| point.0 <= percent);
    if after == 0 || after == points.len() {
        return points[after.min(points.len() - 1)].1.round() as u64;
    }
    let ((p0, v0), (p1, v1)) = (points[after - 1], points[after]);
    let part = (percent - p0) / (p1 - p0);
    (v0.max(1.0).ln() * (1.0 - part) + v1.max(1.0).ln() * part).exp().round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(law: &Law) -> Vec<u64> {
        law.check("law").expect("a good law");
        let sampler = Sampler::new(law, 1 << 20);
        let mut drawn: Vec<u64> = (0..300_000).map(|i| sampler.draw(&mut Rng::new(5, i))).collect();
        drawn.sort_unstable();
        drawn
    }

    fn near(value: f64, expected: f64, part: f64) {
        assert!((value - expected).abs() <= expected * part, "{value} is not near {expected}");
    }

    fn percentile(drawn: &[u64], percent: f64) -> f64 {
        drawn[(drawn.len() as f64 * percent / 100.0) as usize] as f64
    }

    fn mean(drawn: &[u64]) -> f64 {
        drawn.iter().sum::<u64>() as f64 / drawn.len() as f64
    }

    /// Facebook's ETC pool: mean 36.2, p1 19, p50 33.8, p99 76 bytes.
    #[test]
    fn etc_keys_have_the_published_moments() {
        let law = LawKind::Gev { mu: 30.7984, sigma: 8.20449, k: 0.078688, min: 1, max: 250 };
        let drawn = draws(&Law(law));
        near(mean(&drawn), 36.2, 0.01);
        near(percentile(&drawn, 1.0), 19.0, 0.06);
        near(percentile(&drawn, 50.0), 33.8, 0.02);
        near(percentile(&drawn, 99.0), 76.0, 0.02);
    }

    /// Its values' tail: the law's mean is sigma / (1 - k) beyond theta.
    #[test]
    fn pareto_values_have_their_mean() {
        let law = LawKind::Pareto { theta: 15.0, sigma: 214.476, k: 0.348238, max: 1 << 20 };
        near(mean(&draws(&Law(law))), 15.0 + 214.476 / (1.0 - 0.348238), 0.02);
    }

    #[test]
    fn the_other_laws_have_their_means() {
        near(mean(&draws(&Law(LawKind::Uniform([10, 20])))), 15.0, 0.01);
        near(mean(&draws(&Law(LawKind::Choice(vec![(16, 0.5), (21, 0.5)])))), 18.5, 0.01);
        let lognormal = LawKind::Lognormal { median: 100.0, sigma: 1.0, max: 1 << 20 };
        near(mean(&draws(&Law(lognormal))), 100.0 * 0.5f64.exp(), 0.02);
        near(mean(&draws(&Law(LawKind::Geometric { mean: 24.0, max: 10_000 }))), 24.0, 0.02);
        let mixture = LawKind::Mixture(vec![(1.0, Law::fixed(10)), (3.0, Law::fixed(50))]);
        near(mean(&draws(&Law(mixture))), 40.0, 0.01);
        let points = vec![(0.0, 10.0), (50.0, 100.0), (100.0, 1000.0)];
        near(percentile(&draws(&Law(LawKind::Quantiles(points))), 50.0), 100.0, 0.02);
    }

    #[test]
    fn impossible_laws_are_refused() {
        let bad = [
            LawKind::Uniform([2, 1]),
            LawKind::Choice(vec![(1, 0.0)]),
            LawKind::Choice(vec![(1, -1.0), (2, 2.0)]),
            LawKind::Geometric { mean: 0.5, max: 3 },
            LawKind::Quantiles(vec![(0.0, 5.0)]),
            LawKind::Quantiles(vec![(0.0, 5.0), (50.0, 4.0)]),
            LawKind::Mixture(vec![(1.0, Law(LawKind::Uniform([2, 1])))]),
        ];
        for law in bad {
            assert!(Law(law.clone()).check("size").is_err(), "{law:?}");
        }
    }
}
