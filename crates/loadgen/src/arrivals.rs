//! Whether requests left as the schedule wanted: are the gaps between sends still exponential, and
//! is each independent of the one before?
//!
//! A generator that falls into step with a timer sends the right number of requests in bursts, and
//! no mean shows it. Sends of one turn share a stamp, so they are spread at random over the turn,
//! but over no more than a mean gap; where turns are short against the gaps a stamp is the time.
//! Invariant: pure, and the same stamps give the same answer.

use crate::rng::Rng;

/// Sends that are looked at in one interval, at most and at least.
const SENDS_MAX: usize = 257;
const SENDS_MIN: usize = 64;
/// Anderson and Darling's statistic for an exponential law of unknown mean exceeds 1.959 by chance
/// once in a hundred samples; twice that practically never.
const DARLING_MAX: f64 = 2.0 * 1.959;
/// Standard deviations of the correlation of ranks; beyond it by chance once in ten billion.
const CORRELATION_MAX: f64 = 6.47;

/// Takes the stamps of sends, and judges them once an interval.
#[derive(Debug, Default)]
pub struct Arrivals {
    stamps_ns: Vec<u64>,
    serial: u64,
}

impl Arrivals {
    /// A request was sent.
    #[inline]
    pub fn add(&mut self, sent_ns: u64) {
        if self.stamps_ns.len() < SENDS_MAX {
            self.stamps_ns.push(sent_ns);
        }
    }

    /// Whether what was sent since the last call looks like a Poisson process; `None` when it was
    /// too little.
    pub fn judge(&mut self) -> Option<bool> {
        self.serial += 1;
        let gaps = gaps(&self.stamps_ns, self.serial);
        self.stamps_ns.clear();
        (gaps.len() >= SENDS_MIN)
            .then(|| darling(&gaps) <= DARLING_MAX && correlation(&gaps).abs() <= CORRELATION_MAX)
    }
}

fn gaps(stamps_ns: &[u64], seed: u64) -> Vec<f64> {
    let (Some(&first), Some(&last)) = (stamps_ns.first(), stamps_ns.last()) else {
        return Vec::new();
    };
    let mean = (last - first) as f64 / stamps_ns.len() as f64;
    let turns = || stamps_ns.chunk_by(|a, b| a == b);
    let shared: usize = turns().map(|turn| turn.len() - 1).sum();
    let coarse = shared * 10 > stamps_ns.len();
    // A turn before which there were others without a send began later than the last stamp.
    let mut lengths: Vec<u64> =
        stamps_ns.windows(2).map(|pair| pair[1] - pair[0]).filter(|&gap| gap > 0).collect();
    lengths.sort_unstable();
    let usual = lengths.get(lengths.len() / 10).map_or(mean, |&length| mean.min(length as f64));
    let mut rng = Rng::new(seed, stamps_ns.len() as u64);
    let mut before = first as f64;
    let mut times = Vec::with_capacity(stamps_ns.len());
    // What shares the first stamp has no turn before it.
    for turn in turns().skip(1) {
        let now = turn[0] as f64;
        let length = (now - before).min(usual);
        let exact = usize::from(!coarse);
        let mut spread: Vec<f64> =
            turn[exact..].iter().map(|_| now - length * rng.unit()).collect();
        spread.extend((exact == 1).then_some(now));
        spread.sort_unstable_by(f64::total_cmp);
        times.extend(spread);
        before = now;
    }
    times.windows(2).map(|pair| (pair[1] - pair[0]).max(1.0)).collect()
}

/// Anderson and Darling's statistic against an exponential law with the sample's mean, corrected
/// for that (Stephens).
fn darling(gaps: &[f64]) -> f64 {
    let n = gaps.len() as f64;
    let mean = gaps.iter().sum::<f64>() / n;
    let mut sorted = gaps.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // ln F = ln(1 - e^-x), and ln(1 - F) = -x.
    let sum: f64 = sorted
        .iter()
        .zip(sorted.iter().rev())
        .enumerate()
        .map(|(i, (low, high))| (2 * i + 1) as f64 * ((-(-low / mean).exp_m1()).ln() - high / mean))
        .sum();
    (-n - sum / n) * (1.0 + 0.6 / n)
}

/// Spearman's correlation of each gap with the next, in standard deviations.
fn correlation(gaps: &[f64]) -> f64 {
    let ranks = ranks(gaps);
    let n = ranks.len() as f64;
    let mean = (n - 1.0) / 2.0;
    let square: f64 = ranks.iter().map(|rank| (rank - mean).powi(2)).sum();
    let product: f64 = ranks.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    product / square.max(1.0) * (n - 1.0).sqrt()
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    for (rank, place) in order.into_iter().enumerate() {
        ranks[place] = rank as f64;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 200 samples pass; `stamp` makes a stamp from the true time of a send.
    fn passed(stamp: impl Fn(u64) -> u64, mut gap_ns: impl FnMut(&mut Rng) -> f64) -> usize {
        let mut arrivals = Arrivals::default();
        let mut rng = Rng::new(5, 5);
        let mut time = 1e9;
        (0..200)
            .filter(|_| {
                for _ in 0..SENDS_MAX {
                    time += gap_ns(&mut rng);
                    arrivals.add(stamp(time as u64));
                }
                arrivals.judge().expect("enough")
            })
            .count()
    }

    #[test]
    fn a_poisson_process_passes_also_when_turns_share_a_stamp() {
        let poisson = |rng: &mut Rng| 50_000.0 * rng.exponential();
        assert_eq!(passed(|time| time, poisson), 200);
        // Turns of half a mean gap.
        assert!(passed(|time| time.next_multiple_of(25_000), poisson) >= 199);
    }

    #[test]
    fn bursts_equal_gaps_and_alternating_gaps_do_not_pass() {
        let poisson = |rng: &mut Rng| 50_000.0 * rng.exponential();
        // A timer of 1 ms, twenty requests each time.
        assert_eq!(passed(|time| time.next_multiple_of(1_000_000), poisson), 0);
        assert_eq!(passed(|time| time, |_| 50_000.0), 0);
        let mut long = false;
        let alternating = |rng: &mut Rng| {
            long = !long;
            rng.exponential() * if long { 98_000.0 } else { 2_000.0 }
        };
        assert!(passed(|time| time, alternating) < 20);
    }

    #[test]
    fn few_sends_are_not_judged() {
        let mut arrivals = Arrivals::default();
        (0..SENDS_MIN as u64 / 2).for_each(|i| arrivals.add(i * 1000));
        assert_eq!(arrivals.judge(), None);
        assert_eq!(arrivals.judge(), None, "and they are gone");
    }
}
