//! What is measured: histograms of integer nanoseconds and counts, by interval.
//!
//! Each thread fills an interval of its own and gives it away when it ends; merging, percentiles
//! and printing happen elsewhere. Invariant: histograms are added, never their percentiles, and a
//! value beyond the largest is counted apart, never cut.

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use crate::workload::value::{VIOLATIONS, Violation};

/// The largest value that a histogram takes: one hour.
pub const VALUE_NS_MAX: u64 = 3_600_000_000_000;
/// Digits that are kept.
const DIGITS: u8 = 3;

/// A histogram of nanoseconds: exact to 1 ns up to 2 µs, to a thousandth beyond.
#[derive(Clone)]
pub struct Latency(Histogram<u64>);

impl std::fmt::Debug for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Latency({} values, at most {} ns)", self.count(), self.max())
    }
}

impl Default for Latency {
    fn default() -> Latency {
        Latency::new()
    }
}

impl Latency {
    /// Empty.
    pub fn new() -> Latency {
        let histogram = Histogram::new_with_bounds(1, VALUE_NS_MAX, DIGITS);
        Latency(histogram.expect("the bounds are in order"))
    }

    /// Records a value. `false` when it is beyond the largest.
    #[inline]
    pub fn record(&mut self, ns: u64) -> bool {
        self.0.record(ns).is_ok()
    }

    /// Records a value so many times. `false` when it is beyond the largest.
    #[inline]
    pub fn record_n(&mut self, ns: u64, count: u64) -> bool {
        self.0.record_n(ns, count).is_ok()
    }

    /// Records zero so many times.
    pub fn record_zeros(&mut self, count: u64) {
        if count > 0 {
            self.0.record_n(0, count).expect("zero is within the bounds");
        }
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Latency) {
        if !other.0.is_empty() {
            self.0.add(&other.0).expect("all have the same bounds");
        }
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        if !self.0.is_empty() {
            self.0.reset();
        }
    }

    /// How many values it holds.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value at a percentile, `None` when it is empty.
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(percent / 100.0))
    }

    /// As [`Latency::percentile`], but `None` where fewer than ten values lie above.
    pub fn percentile_if_known(&self, percent: f64) -> Option<u64> {
        let above = self.0.len() as f64 * (1.0 - percent / 100.0);
        // Rounding must not turn exactly ten into less.
        if above + 1e-6 < 10.0 { None } else { self.percentile(percent) }
    }

    /// The largest value, 0 when it is empty.
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        self.0.mean()
    }

    /// The part of the values that are above `ns`.
    pub fn part_above(&self, ns: u64) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        1.0 - self.0.count_between(0, ns) as f64 / self.0.len() as f64
    }

    /// The histogram itself, for writers.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// For the way to another machine: HdrHistogram's V2 form, compressed, in base64.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.0, &mut bytes)
            .expect("a vector takes everything");
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }

    /// What [`Latency::encode`] gave.
    pub fn decode(text: &str) -> Result<Latency, String> {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|error| format!("a histogram is not base64: {error}"))?;
        let histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| format!("a histogram can't be read: {error:?}"))?;
        let mut latency = Latency::new();
        latency.0.add(&histogram).map_err(|error| format!("a histogram is foreign: {error:?}"))?;
        Ok(latency)
    }
}

/// Everything that is counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Requests whose intended start lies in the measured time and that were sent.
    pub sent: u64,
    /// Those that were answered, errors included.
    pub completed: u64,
    /// Keys found by reads.
    pub hits: u64,
    /// Keys not found by reads.
    pub misses: u64,
    /// Error replies.
    pub errors: u64,
    /// Without a reply in time.
    pub timed_out: u64,
    /// Without a reply because their connection broke, or was given up with another one's time-out.
    pub lost: u64,
    /// Due, but never sent: nothing was free for them until the end.
    pub unsent: u64,
    /// Violations, in the order of [`VIOLATIONS`].
    pub violations: [u64; VIOLATIONS.len()],
    /// Replies, of any phase, that were looked at.
    pub verified: u64,
    /// Values beyond the largest of a histogram.
    pub beyond_max: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Sends; each carries one or more requests.
    pub sends: u64,
    /// Pieces received; each carries one or more replies, or a part of one.
    pub receives: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Most replies that shared one time stamp.
    pub batch_max: u64,
    /// Connections opened after the first time.
    pub reconnects: u64,
    /// Connects that failed.
    pub connects_failed: u64,
    /// Processor time of the thread, in nanoseconds.
    pub cpu_ns: u64,
    /// Processor time of the busiest thread in one interval, in nanoseconds.
    pub cpu_ns_max: u64,
    /// Time that the thread was ready to run and did not, in nanoseconds.
    pub run_delay_ns: u64,
    /// Times that the thread went to sleep for want of work, where the system tells.
    pub sleeps: u64,
    /// Operations given to the kernel.
    pub submissions: u64,
    /// Completions that had no room, and receives that found no buffer: each delays a reply.
    pub overflows: u64,
    /// Intervals whose sends were compared with the schedule's law, and those that differed.
    pub arrivals_tested: u64,
    /// See `arrivals_tested`.
    pub arrivals_differ: u64,
}

impl Counts {
    /// Adds another one.
    pub fn add(&mut self, other: &Counts) {
        self.batch_max = self.batch_max.max(other.batch_max);
        self.cpu_ns_max = self.cpu_ns_max.max(other.cpu_ns_max);
        for (ours, theirs) in self.violations.iter_mut().zip(other.violations) {
            *ours += theirs;
        }
        for (ours, theirs) in [
            (&mut self.sent, other.sent),
            (&mut self.completed, other.completed),
            (&mut self.hits, other.hits),
            (&mut self.misses, other.misses),
            (&mut self.errors, other.errors),
            (&mut self.timed_out, other.timed_out),
            (&mut self.lost, other.lost),
            (&mut self.unsent, other.unsent),
            (&mut self.verified, other.verified),
            (&mut self.beyond_max, other.beyond_max),
            (&mut self.bytes_out, other.bytes_out),
            (&mut self.bytes_in, other.bytes_in),
            (&mut self.sends, other.sends),
            (&mut self.receives, other.receives),
            (&mut self.turns, other.turns),
            (&mut self.reconnects, other.reconnects),
            (&mut self.connects_failed, other.connects_failed),
            (&mut self.cpu_ns, other.cpu_ns),
            (&mut self.run_delay_ns, other.run_delay_ns),
            (&mut self.sleeps, other.sleeps),
            (&mut self.submissions, other.submissions),
            (&mut self.overflows, other.overflows),
            (&mut self.arrivals_tested, other.arrivals_tested),
            (&mut self.arrivals_differ, other.arrivals_differ),
        ] {
            *ours += theirs;
        }
    }

    /// Counts a violation.
    pub fn violation(&mut self, violation: Violation) {
        let index = VIOLATIONS.iter().position(|&one| one == violation);
        self.violations[index.expect("all are listed")] += 1;
    }

    /// All violations.
    pub fn violations_count(&self) -> u64 {
        self.violations.iter().sum()
    }

    /// Requests of the measured time, whatever became of them.
    pub fn offered(&self) -> u64 {
        self.sent + self.unsent
    }

    /// Requests that failed.
    pub fn failed(&self) -> u64 {
        self.errors + self.timed_out + self.lost + self.unsent
    }
}

/// The latencies of one command.
#[derive(Debug, Clone, Default)]
pub struct OpRecord {
    /// From the intended start to the reply.
    pub response: Latency,
    /// From the send to the reply.
    pub service: Latency,
}

/// What one thread (or several together) measured in one interval.
#[derive(Debug, Clone)]
pub struct Record {
    /// By [`crate::workload::Plan::ops`].
    pub ops: Vec<OpRecord>,
    /// How late requests were sent because the generator was busy.
    pub slip_busy: Latency,
    /// How late because everything that may be in flight was.
    pub slip_full: Latency,
    /// Between two turns of the loop, while it had work.
    pub loop_interval: Latency,
    /// See [`Counts`].
    pub counts: Counts,
    /// Requests due or in flight, and not answered, at the end of the interval.
    pub backlog: u64,
}

impl Record {
    /// Empty.
    pub fn new(ops_count: usize) -> Record {
        Record {
            ops: vec![OpRecord::default(); ops_count],
            slip_busy: Latency::new(),
            slip_full: Latency::new(),
            loop_interval: Latency::new(),
            counts: Counts::default(),
            backlog: 0,
        }
    }

    /// Adds another one of the same plan.
    pub fn add(&mut self, other: &Record) {
        for (ours, theirs) in self.ops.iter_mut().zip(&other.ops) {
            ours.response.add(&theirs.response);
            ours.service.add(&theirs.service);
        }
        self.slip_busy.add(&other.slip_busy);
        self.slip_full.add(&other.slip_full);
        self.loop_interval.add(&other.loop_interval);
        self.counts.add(&other.counts);
        self.backlog += other.backlog;
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        for op in &mut self.ops {
            op.response.clear();
            op.service.clear();
        }
        self.slip_busy.clear();
        self.slip_full.clear();
        self.loop_interval.clear();
        (self.counts, self.backlog) = (Counts::default(), 0);
    }

    /// The measured time begins: what was counted of any traffic, of the warm-up that is, is
    /// forgotten. What belongs to measured requests, and wrong replies, stays.
    pub fn forget_traffic(&mut self) {
        self.loop_interval.clear();
        let counts = &mut self.counts;
        for count in [
            &mut counts.bytes_in,
            &mut counts.bytes_out,
            &mut counts.sends,
            &mut counts.receives,
            &mut counts.turns,
            &mut counts.batch_max,
        ] {
            *count = 0;
        }
    }

    /// Response of all commands together.
    pub fn response(&self) -> Latency {
        let mut all = Latency::new();
        self.ops.iter().for_each(|op| all.add(&op.response));
        all
    }

    /// Service of all commands together.
    pub fn service(&self) -> Latency {
        let mut all = Latency::new();
        self.ops.iter().for_each(|op| all.add(&op.service));
        all
    }

    /// For the way to another machine.
    pub fn to_remote(&self) -> RemoteRecord {
        RemoteRecord {
            ops: self.ops.iter().map(|op| (op.response.encode(), op.service.encode())).collect(),
            slip_busy: self.slip_busy.encode(),
            slip_full: self.slip_full.encode(),
            loop_interval: self.loop_interval.encode(),
            counts: self.counts.clone(),
            backlog: self.backlog,
        }
    }

    /// From another machine.
    pub fn from_remote(remote: &RemoteRecord) -> Result<Record, String> {
        let ops = remote.ops.iter().map(|(response, service)| {
            Ok(OpRecord {
                response: Latency::decode(response)?,
                service: Latency::decode(service)?,
            })
        });
        Ok(Record {
            ops: ops.collect::<Result<_, String>>()?,
            slip_busy: Latency::decode(&remote.slip_busy)?,
            slip_full: Latency::decode(&remote.slip_full)?,
            loop_interval: Latency::decode(&remote.loop_interval)?,
            counts: remote.counts.clone(),
            backlog: remote.backlog,
        })
    }
}

/// A [`Record`] in text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoteRecord {
    ops: Vec<(String, String)>,
    slip_busy: String,
    slip_full: String,
    loop_interval: String,
    counts: Counts,
    backlog: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_from_100_ns_to_100_s_are_read_back_within_a_thousandth() {
        let mut value = 100.0;
        while value < 1e11 {
            let mut latency = Latency::new();
            assert!(latency.record(value as u64));
            let back = latency.percentile(50.0).expect("one") as f64;
            assert!((back - value).abs() <= value / 1000.0 + 1.0, "{value} became {back}");
            value *= 1.37;
        }
        assert!(!Latency::new().record(VALUE_NS_MAX * 2), "not cut");
    }

    #[test]
    fn a_percentile_needs_ten_values_above_it() {
        let mut latency = Latency::new();
        (1..=1000).for_each(|value| assert!(latency.record(value)));
        assert_eq!(latency.percentile_if_known(99.0), Some(990));
        assert_eq!(latency.percentile_if_known(99.9), None);
        assert_eq!(latency.max(), 1000);
        assert!((latency.part_above(900) - 0.1).abs() < 1e-9);
    }

    #[test]
    fn records_survive_the_way_to_another_machine() {
        let mut record = Record::new(2);
        assert!(record.ops[1].response.record(12_345));
        assert!(record.slip_busy.record(7));
        record.counts.sent = 3;
        record.counts.violation(Violation::WrongKey);
        let text = serde_json::to_string(&record.to_remote()).expect("plain data");
        let back: RemoteRecord = serde_json::from_str(&text).expect("its own form");
        let back = Record::from_remote(&back).expect("its own histograms");
        assert_eq!(back.ops[1].response.histogram(), record.ops[1].response.histogram());
        assert_eq!(back.slip_busy.count(), 1);
        assert_eq!(back.counts, record.counts);
        assert!(Latency::decode("AAAA").is_err() && Latency::decode("?").is_err());
    }
}
