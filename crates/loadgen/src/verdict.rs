//! Whether a run may be trusted: VALID, SUSPECT or INVALID, with the reasons.
//!
//! It looks at the generator and the machine, not at how fast the server is. Invariant: a run is no
//! better than its worst check, and a check that can't be made is said to be missing, not passed.

use serde::{Deserialize, Serialize};

use crate::record::Latency;
use crate::stats;
use crate::summary::{Gather, Summary};

/// How far a run may be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Grade {
    /// Nothing speaks against it.
    Valid,
    /// Look at the reasons before using the figures.
    Suspect,
    /// The figures say more about the generator, or the machine, than about the server.
    Invalid,
}

impl Grade {
    /// As it is printed.
    pub fn text(self) -> &'static str {
        match self {
            Grade::Valid => "VALID",
            Grade::Suspect => "SUSPECT",
            Grade::Invalid => "INVALID",
        }
    }
}

/// One check that did not pass, or could not be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Its short name.
    pub check: String,
    /// How bad.
    pub grade: Grade,
    /// What was found and what the limit is.
    pub text: String,
}

/// The whole judgement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The worst finding's.
    pub grade: Grade,
    /// Everything that did not pass.
    pub findings: Vec<Finding>,
}

/// Above the first a run is suspect, above the second invalid.
type Limits = (f64, f64);

const CPU: Limits = (0.7, 0.9);
/// Of the median service time.
const SLIP: Limits = (0.05, 0.25);
const LOOP_MS: Limits = (0.1, 1.0);
const FAILURES: Limits = (0.0001, 0.05);

fn grade(value: f64, (suspect, invalid): Limits) -> Grade {
    match value {
        _ if value > invalid => Grade::Invalid,
        _ if value > suspect => Grade::Suspect,
        _ => Grade::Valid,
    }
}

/// What can be said of a run that goes on: its grade by the checks that need no end, and which of
/// them is the worst. `rate` is the offered one, if there is one.
pub fn so_far(
    gather: &Gather,
    rate: Option<f64>,
    is_spinning: bool,
) -> (Grade, Option<&'static str>) {
    let total = &gather.total;
    let high = |latency: &Latency| latency.percentile_if_known(99.0).unwrap_or(latency.max());
    let slip = high(&total.slip_busy) as f64 / total.service().percentile(50.0).unwrap_or(1) as f64;
    let failed = total.counts.failed() as f64 / total.counts.offered().max(1) as f64;
    let behind = rate.map_or(0.0, |rate| total.backlog as f64 / rate);
    let checks = [
        ("wrong replies", grade(total.counts.violations_count() as f64, (0.0, 0.0))),
        // Half a second's load waits.
        ("falls behind", grade(behind, (0.5, 0.5))),
        ("failures", grade(failed, FAILURES)),
        ("slip", if rate.is_some() { grade(slip, SLIP) } else { Grade::Valid }),
        ("cpu", if is_spinning { Grade::Valid } else { grade(gather.cpu_share_max(), CPU) }),
        ("loop", grade(high(&total.loop_interval) as f64 / 1e6, LOOP_MS)),
    ];
    // The first of those that are equally bad.
    let worst = checks.into_iter().rev().max_by_key(|check| check.1).expect("there are some");
    (worst.1, (worst.1 > Grade::Valid).then_some(worst.0))
}

struct Checks(Vec<Finding>);

impl Checks {
    fn add(&mut self, check: &str, grade: Grade, text: String) {
        self.0.push(Finding { check: check.to_owned(), grade, text });
    }

    /// A value that must not be above two limits.
    fn above(&mut self, check: &str, value: f64, limits: Limits, text: &str) {
        let grade = grade(value, limits);
        if grade == Grade::Valid {
            return;
        }
        let limit = if grade == Grade::Invalid { limits.1 } else { limits.0 };
        self.add(check, grade, format!("{text}: {} (limit {})", short(value), short(limit)));
    }
}

fn short(value: f64) -> String {
    if value >= 10.0 {
        return format!("{value:.0}");
    }
    format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Judges a run. The limits are those of the documentation's table.
pub fn judge(summary: &Summary) -> Verdict {
    let mut checks = Checks(Vec::new());
    generator(summary, &mut checks);
    load(summary, &mut checks);
    machine(summary, &mut checks);
    answers(summary, &mut checks);
    let grade = checks.0.iter().map(|finding| finding.grade).max().unwrap_or(Grade::Valid);
    Verdict { grade, findings: checks.0 }
}

fn generator(summary: &Summary, checks: &mut Checks) {
    if summary.spin {
        checks.add("cpu", Grade::Valid, "not judged: the threads spin".to_owned());
    } else {
        let share = summary.cpu_share_max;
        checks.above("cpu", share, CPU, "the generator's threads use of their CPU");
    }
    if summary.is_timed() {
        let slip = summary.slip_busy.p99_ns.unwrap_or(summary.slip_busy.max_ns) as f64;
        let service = summary.service.p50_ns.unwrap_or(0).max(1) as f64;
        let text = "p99 of the slip by a busy generator, as a part of the median service time";
        checks.above("slip", slip / service, SLIP, text);
        let full = summary.slip_full.p99_ns.unwrap_or(summary.slip_full.max_ns) as f64;
        let response = summary.response.p99_ns.unwrap_or(summary.response.max_ns).max(1) as f64;
        if full > 0.01 * response {
            let text = format!(
                "all that may be in flight was ({} connections, {} deep): p99 of the wait is {} of \
                 the p99 response. This load was not open at all times",
                summary.settings.connections,
                summary.depth,
                short(full / response),
            );
            checks.add("in flight", Grade::Suspect, text);
        }
    }
    let loop_p99 = summary.loop_interval.p99_ns.unwrap_or(summary.loop_interval.max_ns) as f64;
    checks.above("loop", loop_p99 / 1e6, LOOP_MS, "p99 of a turn of the loop, in ms");
    let resolution = summary.environment.clock_cost_ns as f64 * 10.0;
    let p50 = summary.service.p50_ns.unwrap_or(u64::MAX) as f64;
    if p50 < resolution {
        let text = format!("the median service time, {p50} ns, is below ten reads of the clock");
        checks.add("clock", Grade::Suspect, text);
    }
    never_idle(summary, checks);
    arrivals(summary, checks);
    let counts = &summary.counts;
    let lost = counts.overflows as f64 / counts.submissions.max(1) as f64;
    let text = "part of the kernel's operations that found no room for their end";
    checks.above("overflow", lost, (0.0, 0.001), text);
    let (seen, missing) = summary.nodelay;
    if missing > 0 {
        let text = format!("TCP_NODELAY, read back, is off on {missing} of {seen} connections");
        checks.add("nodelay", Grade::Invalid, text);
    }
    if !summary.pinned {
        checks.add("pinning", Grade::Suspect, "threads could not be pinned as asked".to_owned());
    }
}

/// A thread that finds work each time it looks is a queue of its own.
fn never_idle(summary: &Summary, checks: &mut Checks) {
    let counts = &summary.counts;
    // Too short to say, or threads that do not sleep.
    if summary.spin || counts.turns < TURNS_MIN {
        return;
    }
    if counts.sleeps == 0 {
        checks.add("idle", Grade::Valid, "not judged: sleeps are not told, or none".to_owned());
        return;
    }
    let busy = 1.0 - counts.sleeps as f64 / counts.turns as f64;
    checks.above("idle", busy, (0.8, 0.98), "part of the turns that found work waiting");
}

/// Fewer turns of the loop say nothing.
const TURNS_MIN: u64 = 1000;

fn arrivals(summary: &Summary, checks: &mut Checks) {
    let (tested, differ) = (summary.counts.arrivals_tested, summary.counts.arrivals_differ);
    if differ > 0 {
        let text = format!(
            "requests did not leave as a Poisson process in {differ} of {tested} intervals"
        );
        let many = differ as f64 > 0.1 * tested as f64 && tested >= 10;
        checks.add("arrivals", if many { Grade::Invalid } else { Grade::Suspect }, text);
    }
}

fn load(summary: &Summary, checks: &mut Checks) {
    if let Some(why) = &summary.partial {
        checks.add("partial", Grade::Invalid, format!("the run did not go to its end: {why}"));
    }
    if summary.counts.offered() == 0 {
        checks.add("empty", Grade::Invalid, "nothing was sent".to_owned());
        return;
    }
    if summary.is_timed() {
        let missing = 1.0 - summary.achieved_share;
        let text = "part of the offered load that was not completed in the measured time";
        checks.above("achieved", missing, (0.005, 0.02), text);
        // The last interval holds the time after the end.
        let backlog: Vec<f64> = summary.series.iter().map(|s| s.backlog as f64).collect();
        let whole = &backlog[..backlog.len().saturating_sub(1)];
        let (slope, errors) = stats::trend(whole);
        let per_second = slope / summary.interval_s;
        let part = per_second / summary.settings.rate;
        if errors > 2.6 && part > 0.005 {
            let text = format!("the backlog grows by {per_second:.0} requests a second");
            checks.add("backlog", Grade::Invalid, text);
        } else if errors > 2.6 && part > 0.0005 {
            let text = format!("the backlog seems to grow, by {per_second:.1} requests a second");
            checks.add("backlog", Grade::Suspect, text);
        }
    }
    let rates: Vec<f64> = summary.series.iter().map(|s| s.completed as f64).collect();
    let medians: Vec<f64> =
        summary.series.iter().filter_map(|s| s.response_p50_ns).map(|ns| ns as f64).collect();
    let whole = |values: &[f64]| values[..values.len().saturating_sub(1)].to_vec();
    for (name, values) in [("rate", whole(&rates)), ("median response", whole(&medians))] {
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let (slope, errors) = stats::trend(&values);
        let change = slope * values.len() as f64 / mean.max(1.0);
        let steady = summary.has_steady_rate();
        if values.len() >= 8 && errors.abs() > 4.0 && change.abs() > 0.1 && steady {
            let text = format!("the {name} changes by {:.0} % from begin to end", change * 100.0);
            checks.add("trend", Grade::Suspect, text);
        }
    }
}

fn machine(summary: &Summary, checks: &mut Checks) {
    let environment = &summary.environment;
    let during = &environment.during;
    let mut known = |check: &str, value: Option<f64>, limits, text: &str| match value {
        Some(value) => checks.above(check, value, limits, text),
        None => checks.add(check, Grade::Valid, "not judged: it is not told here".to_owned()),
    };
    let text = "time that the host took from this machine";
    known("steal", during.steal_share, (0.005, 0.02), text);
    let text = "steering of the clock, in millionths";
    known("drift", during.clock_drift_ppm.map(f64::abs), (20.0, 50.0), text);
    let text = "change of the CPU's frequency";
    known("frequency", during.frequency_spread(), (0.05, 0.15), text);
    let text = "part of this machine's TCP segments that were sent again";
    known("retransmits", during.retransmitted_share, (0.0001, f64::INFINITY), text);
    if let Some(share) = during.link_share {
        checks.above("link", share, (0.7, 0.9), "load of the busiest link");
    }
    if let Some(drops @ 1..) = during.listen_drops {
        let text = format!("listeners of this machine dropped {drops} connections");
        checks.add("listen drops", Grade::Suspect, text);
    }
    let wall = summary.wall_s * f64::from(summary.settings.threads);
    let delay = summary.counts.run_delay_ns as f64 / 1e9 / wall.max(1e-9);
    checks.above("run delay", delay, (0.05, 0.2), "time that threads were ready and did not run");
    let good = ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];
    if let Some(source) = environment.clock_source.as_deref()
        && !good.contains(&source)
    {
        checks.add("clock", Grade::Suspect, format!("the clock source {source} is slow"));
    }
    if environment.clock_source != environment.clock_source_after {
        checks.add("clock", Grade::Invalid, "the clock source changed".to_owned());
    }
}

fn answers(summary: &Summary, checks: &mut Checks) {
    let counts = &summary.counts;
    if counts.violations_count() > 0 {
        let text = format!("{} replies were wrong", counts.violations_count());
        checks.add("verification", Grade::Invalid, text);
    }
    let reads = counts.hits + counts.misses;
    if reads > 0 && counts.hits == 0 {
        checks.add("hits", Grade::Suspect, "no read found its key: misses are measured".to_owned());
    }
    let failed = counts.failed() as f64 / counts.offered().max(1) as f64;
    checks.above("failures", failed, FAILURES, "part of the requests that failed");
    if counts.beyond_max > 0 {
        let text = format!("{} values are beyond the histogram", counts.beyond_max);
        checks.add("beyond", Grade::Suspect, text);
    }
    if summary.prefill_failed > 0 {
        let text = format!("{} keys could not be written before", summary.prefill_failed);
        checks.add("prefill", Grade::Suspect, text);
    }
    if let Some(ceiling) = summary.ceiling_rate {
        let part = summary.completed_rate / ceiling;
        checks.above("ceiling", part, (0.5, 0.8), "load as a part of the generator's ceiling");
    }
    doubled(summary, checks);
}

/// Twice the threads must not change what is measured.
fn doubled(summary: &Summary, checks: &mut Checks) {
    let Some(doubled) = &summary.doubled else { return };
    if !summary.is_timed() {
        let change = (doubled.completed_rate / summary.completed_rate.max(1e-9) - 1.0).abs();
        let text = "change of the rate with twice the threads";
        checks.above("threads", change, (0.05, 0.05), text);
    }
    let first = summary.confidence.iter().find(|one| one.percent == 99.0);
    if let Some((first, again)) = first.zip(doubled.response_p99.as_ref())
        && (again.low_ns > first.high_ns || again.high_ns < first.low_ns)
    {
        let text = format!(
            "p99 is {} to {} ns with twice the threads, {} to {} ns without",
            again.low_ns, again.high_ns, first.low_ns, first.high_ns
        );
        checks.add("threads", Grade::Suspect, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::summary;
    use crate::summary::{Confidence, Doubled};
    use crate::workload::file::Mode;

    fn grade(change: impl FnOnce(&mut Summary)) -> (Grade, Vec<String>) {
        let mut summary = summary();
        change(&mut summary);
        let verdict = judge(&summary);
        let bad = verdict.findings.iter().filter(|finding| finding.grade > Grade::Valid);
        (verdict.grade, bad.map(|finding| finding.check.clone()).collect())
    }

    #[test]
    fn a_good_run_is_valid() {
        assert_eq!(grade(|_| {}), (Grade::Valid, vec![]));
    }

    type Change = fn(&mut Summary);

    #[test]
    fn each_check_can_fail() {
        let cases: [(&str, Grade, Change); 34] = [
            ("cpu", Grade::Suspect, |s| s.cpu_share_max = 0.8),
            ("cpu", Grade::Invalid, |s| s.cpu_share_max = 0.95),
            ("slip", Grade::Suspect, |s| s.slip_busy.p99_ns = Some(10_000)),
            ("slip", Grade::Invalid, |s| s.slip_busy.p99_ns = Some(50_000)),
            ("achieved", Grade::Suspect, |s| s.achieved_share = 0.99),
            ("achieved", Grade::Invalid, |s| s.achieved_share = 0.9),
            ("loop", Grade::Suspect, |s| s.loop_interval.p99_ns = Some(200_000)),
            ("loop", Grade::Invalid, |s| s.loop_interval.p99_ns = Some(2_000_000)),
            ("steal", Grade::Suspect, |s| s.environment.during.steal_share = Some(0.01)),
            ("steal", Grade::Invalid, |s| s.environment.during.steal_share = Some(0.1)),
            ("idle", Grade::Suspect, |s| s.counts.sleeps = s.counts.turns / 10),
            ("idle", Grade::Invalid, |s| s.counts.sleeps = s.counts.turns / 100),
            ("arrivals", Grade::Suspect, |s| s.counts.arrivals_differ = 1),
            ("arrivals", Grade::Invalid, |s| s.counts.arrivals_differ = 2),
            ("overflow", Grade::Suspect, |s| s.counts.overflows = 1),
            ("overflow", Grade::Invalid, |s| s.counts.overflows = 100),
            ("ceiling", Grade::Suspect, |s| s.ceiling_rate = Some(s.completed_rate / 0.6)),
            ("ceiling", Grade::Invalid, |s| s.ceiling_rate = Some(s.completed_rate / 0.9)),
            ("threads", Grade::Suspect, |s| {
                let response_p99 =
                    Some(Confidence { percent: 99.0, low_ns: 300_000, high_ns: 400_000 });
                s.doubled = Some(Doubled { response_p99, completed_rate: s.completed_rate });
            }),
            ("threads", Grade::Invalid, |s| {
                s.settings.mode = Mode::Closed;
                let completed_rate = s.completed_rate * 1.2;
                s.doubled = Some(Doubled { response_p99: None, completed_rate });
            }),
            ("drift", Grade::Suspect, |s| s.environment.during.clock_drift_ppm = Some(-30.0)),
            ("drift", Grade::Invalid, |s| s.environment.during.clock_drift_ppm = Some(60.0)),
            ("frequency", Grade::Suspect, |s| {
                s.environment.during.frequency_khz = Some((1_800_000, 2_000_000));
            }),
            ("frequency", Grade::Invalid, |s| {
                s.environment.during.frequency_khz = Some((1_000_000, 2_000_000));
            }),
            ("retransmits", Grade::Suspect, |s| {
                s.environment.during.retransmitted_share = Some(0.001);
            }),
            ("link", Grade::Suspect, |s| s.environment.during.link_share = Some(0.8)),
            ("link", Grade::Invalid, |s| s.environment.during.link_share = Some(0.95)),
            ("listen drops", Grade::Suspect, |s| s.environment.during.listen_drops = Some(3)),
            ("run delay", Grade::Invalid, |s| s.counts.run_delay_ns = 9_000_000_000),
            ("nodelay", Grade::Invalid, |s| s.nodelay = (16, 1)),
            ("clock", Grade::Suspect, |s| s.environment.clock_cost_ns = 30_000),
            ("partial", Grade::Invalid, |s| s.partial = Some("interrupted".to_owned())),
            ("verification", Grade::Invalid, |s| s.counts.violations[0] = 1),
            ("hits", Grade::Suspect, |s| {
                s.counts.misses += s.counts.hits;
                s.counts.hits = 0;
            }),
        ];
        for (check, expected, change) in cases {
            let (found, checks) = grade(change);
            assert_eq!((found, checks), (expected, vec![check.to_owned()]), "{check}");
        }
    }

    #[test]
    fn a_growing_backlog_is_invalid() {
        let (found, checks) = grade(|summary| {
            for (index, second) in summary.series.iter_mut().enumerate() {
                second.backlog = 10 + 500 * index as u64 + index as u64 % 3;
            }
        });
        assert_eq!((found, checks), (Grade::Invalid, vec!["backlog".to_owned()]));
    }
}
