//! A run in figures: what is printed, written and compared.
//!
//! It is made from merged records and computes no percentile of percentiles. Invariant: every
//! latency is a whole number of nanoseconds, and a percentile with too few samples above it is
//! absent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::{RunEnd, RunOptions};
use crate::environment::Environment;
use crate::record::{Counts, Latency, Record};
use crate::stats::{Sparse, percentile_intervals};
use crate::verdict::{Grade, Verdict, judge};
use crate::workload::file::Mode;
use crate::workload::schedule::Arrival;
use crate::workload::{Plan, Settings};

/// Format of the JSON report.
pub const SCHEMA: u32 = 1;

/// With more failures a load is another one than was asked for.
const FAILED_SHARE_MAX: f64 = 0.05;

/// Percentiles of one histogram. Absent where fewer than ten values lie above.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many values.
    pub count: u64,
    /// The mean.
    pub mean_ns: u64,
    /// Median.
    pub p50_ns: Option<u64>,
    /// 90 %.
    pub p90_ns: Option<u64>,
    /// 99 %.
    pub p99_ns: Option<u64>,
    /// 99.9 %.
    pub p999_ns: Option<u64>,
    /// 99.99 %.
    pub p9999_ns: Option<u64>,
    /// The largest.
    pub max_ns: u64,
}

impl Percentiles {
    /// Of a histogram.
    pub fn of(latency: &Latency) -> Percentiles {
        Percentiles {
            count: latency.count(),
            mean_ns: latency.mean() as u64,
            p50_ns: latency.percentile_if_known(50.0),
            p90_ns: latency.percentile_if_known(90.0),
            p99_ns: latency.percentile_if_known(99.0),
            p999_ns: latency.percentile_if_known(99.9),
            p9999_ns: latency.percentile_if_known(99.99),
            max_ns: latency.max(),
        }
    }
}

/// The figures of one command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpSummary {
    /// Its name.
    pub name: String,
    /// From the intended start.
    pub response: Percentiles,
    /// From the send.
    pub service: Percentiles,
}

/// The figures of one interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IntervalSummary {
    /// Its begin, in seconds of the measured time.
    pub start_s: f64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub completed: u64,
    /// Errors, time-outs and lost ones.
    pub failed: u64,
    /// Due or in flight at its end.
    pub backlog: u64,
    /// Response, median.
    pub response_p50_ns: Option<u64>,
    /// Response, 99 %.
    pub response_p99_ns: Option<u64>,
    /// Response, 99.9 %.
    pub response_p999_ns: Option<u64>,
    /// Response, largest.
    pub response_max_ns: u64,
    /// Service, 99 %.
    pub service_p99_ns: Option<u64>,
}

/// A 95 % interval of a response percentile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// Which.
    pub percent: f64,
    /// Lower end.
    pub low_ns: u64,
    /// Upper end.
    pub high_ns: u64,
}

/// A short repetition with twice the threads: a generator that is no part of the result makes no
/// difference by it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Doubled {
    /// The 99 % response, with its interval.
    pub response_p99: Option<Confidence>,
    /// Requests a second that were answered.
    pub completed_rate: f64,
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// Version of this program.
    pub version: String,
    /// How it was called.
    pub command_line: String,
    /// Unix time of the begin, in milliseconds.
    pub started_unix_ms: u64,
    /// Where the load went.
    pub address: String,
    /// See [`RunEnd`].
    pub event_base: String,
    /// What was asked for.
    pub settings: Settings,
    /// See [`Settings::shape`], in hexadecimal digits.
    pub shape: String,
    /// Requests in flight a connection.
    pub depth: usize,
    /// Events that a turn of a closed loop could wait for; 1 otherwise.
    pub gather: usize,
    /// Machines that took part.
    pub machines: u64,
    /// Threads never slept.
    pub spin: bool,
    /// Threads ran where they were told to.
    pub pinned: bool,
    /// Connections whose TCP_NODELAY was read back, and those without it.
    pub nodelay: (u32, u32),
    /// The machine.
    pub environment: Environment,
    /// See [`Verdict`].
    pub verdict: Verdict,
    /// What was wrong, if the run did not go to its end.
    pub partial: Option<String>,
    /// The first wrong replies, in words.
    pub examples: Vec<String>,
    /// Keys that could not be written before.
    pub prefill_failed: u64,
    /// Everything that was counted.
    pub counts: Counts,
    /// Seconds that were measured.
    pub wall_s: f64,
    /// Seconds of an interval.
    pub interval_s: f64,
    /// Requests a second that were due.
    pub offered_rate: f64,
    /// Requests a second that were answered.
    pub completed_rate: f64,
    /// Answered within the measured time, as a part of what was due.
    pub achieved_share: f64,
    /// Part of the read keys that were found.
    pub hit_rate: Option<f64>,
    /// The generator's processor time a request, in nanoseconds.
    pub cpu_ns_per_request: u64,
    /// The busiest interval's processor time, a thread and wall time.
    pub cpu_share_max: f64,
    /// What this generator can do at most, if it was measured.
    pub ceiling_rate: Option<f64>,
    /// The same load again with twice the threads, if that was tried.
    pub doubled: Option<Doubled>,
    /// All commands, from the intended start.
    pub response: Percentiles,
    /// All commands, from the send.
    pub service: Percentiles,
    /// How late the generator was because it was busy.
    pub slip_busy: Percentiles,
    /// How late because all that may be in flight was.
    pub slip_full: Percentiles,
    /// Turns of the loop.
    pub loop_interval: Percentiles,
    /// 95 % intervals of the response.
    pub confidence: Vec<Confidence>,
    /// By command.
    pub ops: Vec<OpSummary>,
    /// By interval.
    pub series: Vec<IntervalSummary>,
}

impl Summary {
    /// Whether a schedule decides when requests begin.
    pub fn is_timed(&self) -> bool {
        self.settings.mode != Mode::Closed
    }

    /// Whether the rate is meant to stay the same.
    pub fn has_steady_rate(&self) -> bool {
        matches!(
            self.settings.arrival,
            Arrival::Poisson | Arrival::Constant | Arrival::Pareto(_) | Arrival::OnOff { .. }
        )
    }

    /// A response percentile, by its percent.
    pub fn response_at(&self, percent: f64) -> Option<u64> {
        let response = &self.response;
        match percent {
            50.0 => response.p50_ns,
            90.0 => response.p90_ns,
            99.0 => response.p99_ns,
            99.9 => response.p999_ns,
            99.99 => response.p9999_ns,
            100.0 => Some(response.max_ns),
            _ => None,
        }
    }

    /// Whether the program should end with an error: a wrong reply, nothing that succeeded, a run
    /// that did not go to its end, or a load that could not be made.
    pub fn is_failure(&self) -> bool {
        let counts = &self.counts;
        counts.violations_count() > 0
            || self.partial.is_some()
            || counts.completed <= counts.errors
            || counts.unsent > 0
    }

    /// Why the figures can't stand for the server in a comparison, if they can't: wrong replies,
    /// nothing answered, or more failures than a server has that works.
    pub fn fault(&self) -> Option<String> {
        let counts = &self.counts;
        let failed = counts.failed();
        let what = if counts.violations_count() > 0 {
            format!("{} wrong replies", counts.violations_count())
        } else if counts.completed <= counts.errors {
            "no request has succeeded".to_owned()
        } else if failed as f64 > FAILED_SHARE_MAX * counts.offered() as f64 {
            format!("{failed} of {} requests failed", counts.offered())
        } else {
            return self.partial.clone();
        };
        let examples = &self.examples[..self.examples.len().min(3)];
        Some(if examples.is_empty() { what } else { format!("{what}: {}", examples.join("; ")) })
    }

    /// The verdict's grade.
    pub fn grade(&self) -> Grade {
        self.verdict.grade
    }
}

/// Collects a run's intervals.
#[derive(Debug)]
pub struct Gather {
    /// Everything together.
    pub total: Record,
    /// By interval.
    pub series: Vec<IntervalSummary>,
    /// Response of all commands, by interval.
    pub sparse: Vec<Sparse>,
    interval: Duration,
    measured: Duration,
    cpu_share_max: f64,
    completed_in_time: u64,
}

impl Gather {
    /// For a run of the plan.
    pub fn new(plan: &Plan, interval: Duration) -> Gather {
        Gather {
            total: Record::new(plan.ops.len()),
            series: Vec::new(),
            sparse: Vec::new(),
            interval,
            measured: plan.duration,
            cpu_share_max: 0.0,
            completed_in_time: 0,
        }
    }

    /// Adds an interval.
    pub fn add(&mut self, index: u64, record: &Record) {
        let response = record.response();
        let counts = &record.counts;
        let start = self.interval * index as u32;
        self.series.push(IntervalSummary {
            start_s: start.as_secs_f64(),
            sent: counts.sent,
            completed: counts.completed,
            failed: counts.failed(),
            backlog: record.backlog,
            response_p50_ns: response.percentile(50.0),
            response_p99_ns: response.percentile_if_known(99.0),
            response_p999_ns: response.percentile_if_known(99.9),
            response_max_ns: response.max(),
            service_p99_ns: record.service().percentile_if_known(99.0),
        });
        let values = response.histogram().iter_recorded();
        self.sparse.push(
            values
                .map(|value| (value.value_iterated_to(), value.count_at_value()))
                .collect::<Sparse>(),
        );
        // What is answered after the end has not been achieved in time; the intervals that lie
        // within the measured time end with it, but for a turn of the loop.
        if start < self.measured {
            self.completed_in_time += counts.completed;
            let length = self.interval.min(self.measured - start).as_secs_f64();
            let share = counts.cpu_ns_max as f64 / 1e9 / length;
            // The first and short ones say little.
            if length >= self.interval.as_secs_f64() * 0.9 {
                self.cpu_share_max = self.cpu_share_max.max(share);
            }
        }
        self.total.add(record);
        self.total.backlog = record.backlog;
    }

    /// The largest part of a CPU that one thread took in an interval.
    pub fn cpu_share_max(&self) -> f64 {
        self.cpu_share_max
    }

    fn confidence(&self, response: &Latency, seed: u64) -> Vec<Confidence> {
        let percents: Vec<f64> = [50.0, 90.0, 99.0, 99.9]
            .into_iter()
            .filter(|&percent| response.percentile_if_known(percent).is_some())
            .collect();
        let found = percentile_intervals(&self.sparse, &percents, seed).unwrap_or_default();
        percents
            .iter()
            .zip(found)
            .map(|(&percent, (low_ns, high_ns))| Confidence { percent, low_ns, high_ns })
            .collect()
    }

    /// The figures of the whole run.
    pub fn finish(
        &self,
        plan: &Plan,
        options: &RunOptions,
        end: &RunEnd,
        environment: Environment,
    ) -> Summary {
        let total = &self.total;
        let counts = &total.counts;
        let intervals = self.series.len().max(1) as f64 * self.interval.as_secs_f64();
        let mut wall_s = self.measured.as_secs_f64().min(intervals);
        if end.partial.is_some() && end.measured_s > 0.0 {
            wall_s = wall_s.min(end.measured_s);
        }
        let offered = counts.offered();
        let reads = counts.hits + counts.misses;
        let response = total.response();
        let names = plan.ops.iter().map(|op| op.name().to_owned());
        let mut summary = Summary {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command_line: std::env::args().collect::<Vec<_>>().join(" "),
            started_unix_ms: 0,
            address: options.address.to_string(),
            event_base: end.event_base.clone(),
            settings: plan.settings.clone(),
            shape: format!("{:016x}", plan.settings.shape()),
            depth: plan.depth,
            gather: plan.gather,
            machines: options.machine.count,
            spin: options.spin,
            pinned: end.pinned,
            nodelay: end.nodelay,
            environment,
            verdict: Verdict { grade: Grade::Valid, findings: Vec::new() },
            partial: end.partial.clone(),
            examples: end.examples.clone(),
            prefill_failed: end.prefill_failed,
            counts: counts.clone(),
            wall_s,
            interval_s: self.interval.as_secs_f64(),
            offered_rate: offered as f64 / wall_s,
            completed_rate: counts.completed as f64 / wall_s,
            achieved_share: self.completed_in_time as f64 / offered.max(1) as f64,
            hit_rate: (reads > 0).then(|| counts.hits as f64 / reads as f64),
            cpu_ns_per_request: counts.cpu_ns / counts.completed.max(1),
            cpu_share_max: self.cpu_share_max,
            ceiling_rate: None,
            doubled: None,
            response: Percentiles::of(&response),
            service: Percentiles::of(&total.service()),
            slip_busy: Percentiles::of(&total.slip_busy),
            slip_full: Percentiles::of(&total.slip_full),
            loop_interval: Percentiles::of(&total.loop_interval),
            confidence: self.confidence(&response, plan.settings.seed),
            ops: names
                .zip(&total.ops)
                .map(|(name, op)| OpSummary {
                    name,
                    response: Percentiles::of(&op.response),
                    service: Percentiles::of(&op.service),
                })
                .collect(),
            series: self.series.clone(),
        };
        summary.verdict = judge(&summary);
        summary
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use base::Address;

    /// A run without fault: 10 intervals of 1000 requests of 100 us.
    pub(crate) fn summary() -> Summary {
        let settings = Settings { rate: 1000.0, ..Settings::default() };
        let plan = Plan::new(&settings, 0).expect("possible");
        let mut gather = Gather::new(&plan, Duration::from_secs(1));
        for index in 0..11 {
            let mut record = Record::new(plan.ops.len());
            let count = if index < 10 { 1000 } else { 1 };
            for _ in 0..count {
                assert!(record.ops[0].response.record(100_000));
                assert!(record.ops[0].service.record(99_000));
                assert!(record.slip_busy.record(500));
                assert!(record.slip_full.record(0));
            }
            record.loop_interval.record_zeros(100);
            (record.counts.sent, record.counts.completed) = (count, count);
            (record.counts.turns, record.counts.sleeps) = (count, count);
            (record.counts.submissions, record.counts.arrivals_tested) = (count, 1);
            record.counts.hits = count;
            record.counts.cpu_ns_max = 100_000_000;
            record.backlog = 1;
            gather.add(index, &record);
        }
        let unix = Address::Unix("/tmp/server".into());
        let end = RunEnd { pinned: true, nodelay: (16, 0), ..RunEnd::default() };
        let mut environment = Environment::default();
        environment.during.steal_share = Some(0.0);
        environment.during.clock_drift_ppm = Some(-3.0);
        environment.during.frequency_khz = Some((1_990_000, 2_000_000));
        environment.during.retransmitted_share = Some(0.0);
        environment.during.listen_drops = Some(0);
        environment.clock_cost_ns = 20;
        gather.finish(&plan, &RunOptions::new(unix), &end, environment)
    }

    #[test]
    fn figures_follow_from_the_intervals() {
        let summary = summary();
        assert_eq!(summary.counts.completed, 10_001);
        assert_eq!(summary.response.p50_ns, Some(100_031));
        assert!((summary.achieved_share - 10_000.0 / 10_001.0).abs() < 1e-9);
        assert!((summary.cpu_share_max - 0.1).abs() < 1e-9);
        assert_eq!(summary.hit_rate, Some(1.0));
        assert!(!summary.is_failure());
    }

    #[test]
    fn the_report_holds_whole_nanoseconds_and_no_nan() {
        let text = serde_json::to_string(&summary()).expect("plain data");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for name in ["p50_ns", "p99_ns", "max_ns", "mean_ns"] {
            assert!(value["response"][name].is_u64(), "{name}");
        }
        // Too few samples for it.
        assert!(value["response"]["p9999_ns"].is_null());
        let back: Summary = serde_json::from_str(&text).expect("its own form");
        assert_eq!(back.counts, summary().counts);
    }
}
