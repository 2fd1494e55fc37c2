//! When requests begin: absolute intended start times, made from a seed and from nothing else.
//!
//! It never looks at a clock, and never at how the system does: that is what makes a load open.
//! Times follow from the previous *intended* time, never from now. Invariant: times never go back,
//! and the n-th time depends on the law, the rate and the seed only.

use serde::{Deserialize, Serialize};

use super::law::pareto;
use crate::rng::{Rng, mix};

/// How the gaps between arrivals are distributed, and how the rate changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Arrival {
    /// Exponential gaps: what many independent callers amount to.
    Poisson,
    /// Equal gaps.
    Constant,
    /// Generalised Pareto gaps with this shape `k` (0 to below 0.5; above 0 it is burstier than
    /// Poisson; Facebook's ETC pool has 0.154971).
    Pareto(f64),
    /// Poisson bursts and silence, both of exponential length, with the given means in seconds; the
    /// rate is that of the whole.
    OnOff {
        /// Mean length of a burst.
        on_s: f64,
        /// Mean length of a silence.
        off_s: f64,
    },
    /// Poisson; the rate goes evenly from `from` to `to` times the rate within so many seconds and
    /// stays there.
    Ramp {
        /// Factor at the start.
        from: f64,
        /// Factor at the end.
        to: f64,
        /// Seconds.
        over_s: f64,
    },
    /// Poisson; pairs of a factor of the rate and how many seconds it holds. The last one stays.
    Step(Vec<(f64, f64)>),
    /// Poisson; the rate swings as a sine by this part of itself with this period in seconds.
    Sine {
        /// 0 to 1.
        amplitude: f64,
        /// Seconds.
        period_s: f64,
    },
    /// Times in seconds from a file: the first column of its lines, in any order that does not go
    /// back. Whole seconds are spread within the second.
    Replay {
        /// The file.
        file: String,
        /// How many times faster than recorded.
        #[serde(default = "one")]
        speed: f64,
    },
}

fn one() -> f64 {
    1.0
}

impl Arrival {
    /// What is wrong with it, if anything.
    pub fn check(&self) -> Result<(), String> {
        let good = match self {
            Arrival::Poisson | Arrival::Constant => true,
            Arrival::Pareto(k) => (0.0..0.5).contains(k),
            Arrival::OnOff { on_s, off_s } => *on_s > 0.0 && *off_s >= 0.0 && off_s.is_finite(),
            Arrival::Ramp { from, to, over_s } => {
                *from >= 0.0 && *to > 0.0 && *over_s > 0.0 && to.is_finite() && from.is_finite()
            }
            Arrival::Step(steps) => {
                let good = |&(factor, s): &(f64, f64)| factor >= 0.0 && s > 0.0 && s.is_finite();
                !steps.is_empty()
                    && steps.iter().all(good)
                    && steps.last().is_some_and(|step| step.0 > 0.0)
            }
            Arrival::Sine { amplitude, period_s } => {
                (0.0..=1.0).contains(amplitude) && *period_s > 0.0
            }
            Arrival::Replay { speed, .. } => *speed > 0.0 && speed.is_finite(),
        };
        if good { Ok(()) } else { Err(format!("impossible arrival process: {self:?}")) }
    }
}

/// Reads the times of a replay. The first column, up to a comma or blank, must be a number.
pub fn read_replay(text: &str, seed: u64) -> Result<Vec<f64>, String> {
    let mut times: Vec<f64> = Vec::new();
    let mut whole = true;
    for (index, line) in text.lines().enumerate() {
        let field = line.split([',', ' ', '\t']).next().unwrap_or("").trim();
        if field.is_empty() || field.starts_with('#') {
            continue;
        }
        let Ok(time) = field.parse::<f64>() else {
            // A heading, if nothing came before it.
            if times.is_empty() {
                continue;
            }
            return Err(format!("line {}: {field:?} is not a time in seconds", index + 1));
        };
        if times.last().is_some_and(|&last| time < last) || !time.is_finite() {
            return Err(format!("line {}: the time goes back", index + 1));
        }
        whole &= time.fract() == 0.0;
        times.push(time);
    }
    let first = times.first().copied().ok_or("no times in it")?;
    let mut rng = Rng::new(seed, u64::MAX);
    if whole {
        // Within one second arrivals are spread evenly at random, which is Poisson given their
        // number.
        times.iter_mut().for_each(|time| *time += rng.unit());
        times.sort_unstable_by(f64::total_cmp);
    }
    times.iter_mut().for_each(|time| *time -= first);
    Ok(times)
}

/// Makes the intended start times, in nanoseconds from the start of the run, one after the other.
#[derive(Debug, Clone)]
pub struct Schedule {
    arrival: Arrival,
    /// Requests a second.
    rate: f64,
    seed: u64,
    /// The seed as [`Rng::of_mixed`] wants it.
    mixed: u64,
    number: u64,
    /// Arrivals at a rate of 1: the sum of gaps with mean 1.
    sum: f64,
    /// Seconds of the silences of on/off so far, and where the next begins in time that is on.
    silent_s: f64,
    silence_at_s: f64,
    silences: u64,
    replay: std::sync::Arc<[f64]>,
}

impl Schedule {
    /// `rate` a second, above 0; `replay` are the times of a replay, else empty.
    pub fn new(arrival: &Arrival, rate: f64, seed: u64, replay: std::sync::Arc<[f64]>) -> Schedule {
        let mut schedule = Schedule {
            arrival: arrival.clone(),
            rate,
            seed: mix(seed ^ 0x5C4E_D01E),
            mixed: mix(mix(seed ^ 0x5C4E_D01E)),
            number: 0,
            sum: 0.0,
            silent_s: 0.0,
            silence_at_s: 0.0,
            silences: 0,
            replay,
        };
        if let Arrival::OnOff { on_s, .. } = arrival {
            schedule.silence_at_s = on_s * Rng::new(schedule.seed ^ 1, u64::MAX - 1).exponential();
        }
        schedule
    }

    /// The next intended start; `None` when a replay is over.
    #[inline]
    pub fn next_ns(&mut self) -> Option<u64> {
        let number = self.number;
        self.number += 1;
        let second = match &self.arrival {
            Arrival::Constant => (number as f64 + 0.5) / self.rate,
            Arrival::Replay { speed, .. } => *self.replay.get(number as usize)? / speed,
            _ => self.next_random_s(number),
        };
        Some((second * 1e9) as u64)
    }

    fn next_random_s(&mut self, number: u64) -> f64 {
        let mut rng = Rng::of_mixed(self.mixed, number);
        self.sum += match self.arrival {
            // Scaled so that the mean is 1.
            Arrival::Pareto(k) => (1.0 - k) * pareto(k, &mut rng),
            _ => rng.exponential(),
        };
        match &self.arrival {
            Arrival::OnOff { on_s, off_s } => {
                let (on_s, off_s) = (*on_s, *off_s);
                let busy_s = self.sum / self.rate * on_s / (on_s + off_s);
                while busy_s > self.silence_at_s {
                    let mut rng = Rng::new(self.seed ^ 1, self.silences);
                    self.silences += 1;
                    self.silent_s += off_s * rng.exponential();
                    self.silence_at_s += on_s * rng.exponential();
                }
                busy_s + self.silent_s
            }
            Arrival::Ramp { from, to, over_s } => {
                invert_ramp(self.sum / self.rate, *from, *to, *over_s)
            }
            Arrival::Step(steps) => invert_steps(self.sum / self.rate, steps),
            Arrival::Sine { amplitude, period_s } => {
                invert_sine(self.sum / self.rate, *amplitude, *period_s)
            }
            _ => self.sum / self.rate,
        }
    }
}

/// When the integral of the factor has reached `area`, with a factor that goes from `from` to `to`.
fn invert_ramp(area: f64, from: f64, to: f64, over_s: f64) -> f64 {
    let whole = (from + to) / 2.0 * over_s;
    if area >= whole {
        return over_s + (area - whole) / to;
    }
    // from t + slope t² / 2 = area, in the form that does not cancel.
    let slope = (to - from) / over_s;
    2.0 * area / (from + (from * from + 2.0 * slope * area).max(0.0).sqrt())
}

fn invert_steps(mut area: f64, steps: &[(f64, f64)]) -> f64 {
    let mut start_s = 0.0;
    for (index, &(factor, seconds)) in steps.iter().enumerate() {
        let is_last = index + 1 == steps.len();
        if factor > 0.0 && (area < factor * seconds || is_last) {
            return start_s + area / factor;
        }
        area -= factor * seconds;
        start_s += seconds;
    }
    start_s
}

/// t - (amplitude period / 2 pi) (cos(2 pi t / period) - 1) = area has one solution, since the left
/// side never falls.
fn invert_sine(area: f64, amplitude: f64, period_s: f64) -> f64 {
    let turn = std::f64::consts::TAU / period_s;
    let reach = |t: f64| t + amplitude / turn * (1.0 - (turn * t).cos());
    let (mut low, mut high) = ((area - 2.0 * amplitude / turn).max(0.0), area);
    for _ in 0..52 {
        let middle = (low + high) / 2.0;
        if reach(middle) < area { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(arrival: &Arrival, rate: f64, count: usize) -> Vec<f64> {
        arrival.check().expect("possible");
        let mut schedule = Schedule::new(arrival, rate, 11, std::sync::Arc::new([]));
        (0..count).map(|_| schedule.next_ns().expect("endless") as f64 / 1e9).collect()
    }

    fn gaps(times: &[f64]) -> (f64, f64) {
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let square = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        (mean, square.sqrt() / mean)
    }

    /// Means are the rate's; the coefficients of variation are the laws': 1, 0, and for the ETC
    /// pool 1 / sqrt(1 - 2k) = 1.20.
    #[test]
    fn gaps_have_the_laws_moments() {
        for (arrival, variation) in
            [(Arrival::Poisson, 1.0), (Arrival::Constant, 0.0), (Arrival::Pareto(0.154971), 1.2036)]
        {
            let (mean, cv) = gaps(&times(&arrival, 50_000.0, 400_000));
            assert!((mean * 50_000.0 - 1.0).abs() < 0.01, "{arrival:?}: mean {mean}");
            assert!((cv - variation).abs() < 0.02, "{arrival:?}: variation {cv}");
        }
    }

    #[test]
    fn no_time_goes_back_and_rates_are_kept_in_the_long_run() {
        for arrival in [
            Arrival::OnOff { on_s: 0.1, off_s: 0.3 },
            Arrival::Sine { amplitude: 0.9, period_s: 2.0 },
            Arrival::Step(vec![(0.5, 10.0), (1.5, 10.0), (1.0, 1.0)]),
            Arrival::Ramp { from: 0.0, to: 2.0, over_s: 40.0 },
        ] {
            let times = times(&arrival, 1000.0, 40_000);
            assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{arrival:?}");
            let last = times[times.len() - 1];
            assert!((last - 40.0).abs() < 5.0, "{arrival:?}: {last}");
        }
    }

    #[test]
    fn on_off_is_silent_for_its_share_of_the_time() {
        let times = times(&Arrival::OnOff { on_s: 0.05, off_s: 0.15 }, 2000.0, 100_000);
        let silent: f64 =
            times.windows(2).map(|pair| pair[1] - pair[0]).filter(|&gap| gap > 0.01).sum();
        let share = silent / times[times.len() - 1];
        assert!((0.6..0.8).contains(&share), "{share}");
    }

    #[test]
    fn steps_and_ramps_change_the_rate_when_they_should() {
        let steps = times(&Arrival::Step(vec![(1.0, 5.0), (3.0, 5.0)]), 1000.0, 20_000);
        let early = steps.iter().filter(|&&time| time < 5.0).count();
        assert!((4800..5200).contains(&early), "{early}");
        let ramp = times(&Arrival::Ramp { from: 1.0, to: 3.0, over_s: 10.0 }, 1000.0, 25_000);
        // The integral of 1 + 0.2 t up to 5 s is 7.5.
        let early = ramp.iter().filter(|&&time| time < 5.0).count();
        assert!((7300..7700).contains(&early), "{early}");
    }

    #[test]
    fn a_replay_keeps_its_times_and_spreads_whole_seconds() {
        let exact = read_replay("time,key\n10.5,a\n10.75,b\n12.0,c\n", 1).expect("good");
        assert_eq!(exact, [0.0, 0.25, 1.5]);
        let spread = read_replay("7\n7\n7\n8\n", 1).expect("good");
        assert!(spread.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(spread[2] < 1.0 && (1.0..2.0).contains(&spread[3]), "{spread:?}");
        assert!(read_replay("2\n1\n", 1).is_err());
        assert!(read_replay("1\nx\n", 1).is_err());
        assert!(read_replay("", 1).is_err());
    }

    #[test]
    fn impossible_processes_are_refused() {
        for arrival in [
            Arrival::Pareto(0.5),
            Arrival::Step(vec![]),
            Arrival::Step(vec![(0.0, 1.0)]),
            Arrival::OnOff { on_s: 0.0, off_s: 1.0 },
            Arrival::Sine { amplitude: 2.0, period_s: 1.0 },
        ] {
            assert!(arrival.check().is_err(), "{arrival:?}");
        }
    }
}
