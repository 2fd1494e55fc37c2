//! How long requests took, by server and command: plain counts of one worker.
//!
//! Times are differences between turns, so no clock is read. Nothing is allocated for a command
//! that a server has never answered. Invariant: a histogram's counts only grow.

/// Buckets of a histogram.
pub const BUCKETS_COUNT: usize = 24;

/// The first bucket holds what took less than 2 to the power of this, in nanoseconds: 16 us, below
/// which turns can't tell anything apart.
const FIRST_BITS: u32 = 14;

/// A histogram whose buckets double.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Requests by how long they took; see [`Histogram::bound_ns`].
    pub counts: [u64; BUCKETS_COUNT],
    /// All of them together, in nanoseconds.
    pub sum_ns: u64,
}

impl Histogram {
    /// Counts so many requests that took as long.
    #[inline]
    pub fn record(&mut self, ns: u64, count: u64) {
        let bits = (ns >> (FIRST_BITS - 1) | 1).ilog2();
        self.counts[(bits as usize).min(BUCKETS_COUNT - 1)] += count;
        self.sum_ns = self.sum_ns.saturating_add(ns.saturating_mul(count));
    }

    /// What a bucket holds took less than this, in nanoseconds; the last one has no bound.
    pub fn bound_ns(bucket: usize) -> Option<u64> {
        (bucket < BUCKETS_COUNT - 1).then(|| 1 << (FIRST_BITS as usize + bucket))
    }

    /// Requests.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The bound below which the given share of the requests lies, in nanoseconds; `None` without
    /// requests, or when it lies in the last bucket.
    pub fn quantile_ns(&self, share: f64) -> Option<u64> {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted.max(1)
        });
        found.and_then(Histogram::bound_ns)
    }

    /// Adds what another worker, or server, has counted.
    pub fn add(&mut self, other: &Histogram) {
        for (into, from) in self.counts.iter_mut().zip(&other.counts) {
            *into += from;
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }
}

/// The histograms of one server, by the command's place in the protocol's table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies {
    by_command: Vec<Option<Box<Histogram>>>,
}

impl Latencies {
    /// Counts so many requests that took as long.
    #[inline]
    pub fn record(&mut self, command: u16, ns: u64, count: u64) {
        match self.by_command.get_mut(usize::from(command)) {
            Some(Some(histogram)) => histogram.record(ns, count),
            _ => self.record_first(command, ns, count),
        }
    }

    #[cold]
    fn record_first(&mut self, command: u16, ns: u64, count: u64) {
        self.histogram(usize::from(command)).record(ns, count);
    }

    fn histogram(&mut self, command: usize) -> &mut Histogram {
        if self.by_command.len() <= command {
            self.by_command.resize(command + 1, None);
        }
        self.by_command[command].get_or_insert_default()
    }

    /// Each command that was answered, by its place in the protocol's table.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Histogram)> {
        let all = self.by_command.iter().enumerate();
        all.filter_map(|(command, histogram)| Some((command, histogram.as_deref()?)))
    }

    /// Every command together.
    pub fn total(&self) -> Histogram {
        let mut total = Histogram::default();
        self.iter().for_each(|(_, histogram)| total.add(histogram));
        total
    }

    /// Adds what another worker, or server, has counted.
    pub fn add(&mut self, other: &Latencies) {
        for (command, histogram) in other.iter() {
            self.histogram(command).add(histogram);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_holds_what_is_below_its_bound_and_not_below_the_one_before() {
        for bucket in 0..BUCKETS_COUNT - 1 {
            let bound = Histogram::bound_ns(bucket).expect("all but the last have one");
            let mut histogram = Histogram::default();
            histogram.record(bound - 1, 1);
            histogram.record(bound, 1);
            assert_eq!((histogram.counts[bucket], histogram.counts[bucket + 1]), (1, 1));
            assert_eq!(histogram.sum_ns, 2 * bound - 1);
        }
        let mut histogram = Histogram::default();
        histogram.record(u64::MAX, 1);
        histogram.record(0, 1);
        assert_eq!((histogram.counts[BUCKETS_COUNT - 1], histogram.counts[0]), (1, 1));
        assert_eq!(histogram.count(), 2);
        assert_eq!(Histogram::bound_ns(BUCKETS_COUNT - 1), None);
    }

    #[test]
    fn a_quantile_is_the_bound_above_its_share() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_ns(0.5), None);
        (0..99).for_each(|_| histogram.record(20_000, 1));
        histogram.record(1_000_000, 1);
        assert_eq!(histogram.quantile_ns(0.0), Some(1 << 15));
        assert_eq!(histogram.quantile_ns(0.99), Some(1 << 15));
        assert_eq!(histogram.quantile_ns(1.0), Some(1 << 20));
    }

    #[test]
    fn sums_keep_commands_apart() {
        let (mut left, mut right) = (Latencies::default(), Latencies::default());
        left.record(3, 1, 1);
        right.record(3, 1, 1);
        right.record(7, 1 << 20, 1);
        left.add(&right);
        let counts: Vec<_> = left.iter().map(|(command, one)| (command, one.count())).collect();
        assert_eq!(counts, [(3, 2), (7, 1)]);
        assert_eq!(left.total().count(), 3);
    }
}
