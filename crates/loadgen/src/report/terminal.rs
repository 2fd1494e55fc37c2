//! What people see while a run goes on, and at its end.
//!
//! On a terminal one line is drawn anew; elsewhere there is a line an interval and no escape
//! sequence. Invariant: nothing is wider than 100 columns but what the user named.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stderr};

use super::{count, duration, duration_if_known};
use crate::record::Record;
use crate::summary::{Gather, Percentiles, Summary};
use crate::verdict::Grade;
use crate::workload::value::VIOLATIONS;

/// The view during a run, on standard error.
#[derive(Debug)]
pub struct Live {
    is_terminal: bool,
    quiet: bool,
    duration_s: f64,
    rate: Option<f64>,
}

impl Live {
    /// `rate` is the offered one, if there is one.
    pub fn new(duration_s: f64, rate: Option<f64>, quiet: bool) -> Live {
        Live { is_terminal: stderr().is_terminal(), quiet, duration_s, rate }
    }

    /// A step before the measurement.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// An interval of so many seconds is over; it has been added to `gather`.
    pub fn interval(&self, record: &Record, interval_s: f64, gather: &Gather) {
        // After the end only stragglers come, or nothing.
        let is_after = gather.series.len() as f64 * interval_s > self.duration_s + interval_s / 2.0;
        if self.quiet || (is_after && record.counts.completed == 0) {
            return;
        }
        let line = self.line(record, interval_s, gather);
        if self.is_terminal {
            eprint!("\r\x1b[K{line}");
            let _ = stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    /// The view is over.
    pub fn end(&self) {
        if self.is_terminal && !self.quiet {
            eprint!("\r\x1b[K");
        }
    }

    fn line(&self, record: &Record, interval_s: f64, gather: &Gather) -> String {
        let done_s = (gather.series.len() as f64 * interval_s).min(self.duration_s);
        let response = record.response();
        let counts = &record.counts;
        let mut line = String::new();
        if self.is_terminal {
            let full = (done_s / self.duration_s * 10.0) as usize;
            let _ = write!(line, "[{}{}] ", "#".repeat(full), ".".repeat(10 - full.min(10)));
        }
        let _ = write!(line, "{done_s:.0}/{:.0}s  ", self.duration_s);
        let _ = write!(line, "{}/s  ", count(counts.completed as f64 / interval_s));
        let _ = write!(
            line,
            "p50 {}  p99 {}  p99.9 {}  max {}  ",
            duration_if_known(response.percentile(50.0)),
            duration_if_known(response.percentile_if_known(99.0)),
            duration_if_known(response.percentile_if_known(99.9)),
            duration(response.max()),
        );
        let total = &gather.total.counts;
        let wrong = total.violations_count();
        let failed = total.failed();
        let verdict = match self.rate {
            _ if wrong > 0 => "INVALID: wrong replies",
            Some(rate) if record.backlog as f64 > rate * 0.5 => "INVALID: falls behind",
            _ if failed > 0 => "SUSPECT: failures",
            _ => "VALID so far",
        };
        if failed + wrong > 0 {
            let _ = write!(line, "failed {failed} wrong {wrong}  ");
        }
        line.push_str(verdict);
        line
    }
}

/// The end of a run, for people.
pub fn summary(summary: &Summary) -> String {
    let mut out = String::new();
    let grade = summary.grade();
    let counts = &summary.counts;
    let _ = writeln!(
        out,
        "{}  {} on {} ({}), {} connections, {} deep, {} threads{}{}",
        grade.text(),
        summary.settings.name,
        summary.address,
        summary.event_base,
        summary.settings.connections,
        summary.depth,
        summary.settings.threads,
        match summary.gather {
            0 | 1 => String::new(),
            gather => format!(", gathering {gather}"),
        },
        if summary.machines > 1 {
            format!(", {} machines", summary.machines)
        } else {
            String::new()
        },
    );
    for finding in &summary.verdict.findings {
        let mark = if finding.grade == Grade::Valid { "note" } else { finding.grade.text() };
        let _ = writeln!(out, "  {mark}: {}: {}", finding.check, finding.text);
    }
    let _ = writeln!(
        out,
        "offered {}/s, completed {}/s ({:.2} % in time), {} requests in {:.1} s",
        count(summary.offered_rate),
        count(summary.completed_rate),
        summary.achieved_share * 100.0,
        counts.completed,
        summary.wall_s,
    );
    let _ = writeln!(
        out,
        "errors {}, timed out {}, lost {}, unsent {}, reconnects {}, hit rate {}",
        counts.errors,
        counts.timed_out,
        counts.lost,
        counts.unsent,
        counts.reconnects,
        summary.hit_rate.map_or("-".to_owned(), |rate| format!("{:.2} %", rate * 100.0)),
    );
    replies(&mut out, summary);
    table(&mut out, summary);
    let _ = writeln!(
        out,
        "generator: {} CPU a request, {:.0} % of a CPU at most, {:.1} requests a send, {:.1} \
         replies a receive",
        duration(summary.cpu_ns_per_request),
        summary.cpu_share_max * 100.0,
        ratio(counts.sent, counts.sends),
        ratio(counts.completed, counts.receives),
    );
    out
}

fn replies(out: &mut String, summary: &Summary) {
    let counts = &summary.counts;
    let _ =
        writeln!(out, "verified {} replies, wrong {}", counts.verified, counts.violations_count());
    for (violation, count) in VIOLATIONS.iter().zip(counts.violations) {
        if count > 0 {
            let _ = writeln!(out, "  {count} x {}", violation.text());
        }
    }
    if counts.unsent > 0 {
        let _ = writeln!(
            out,
            "  {} requests were due and never sent: the rate is more than the server and these \
             connections take; a lower --rate, more --connections or a larger --depth is needed",
            counts.unsent
        );
    }
    for example in summary.examples.iter().take(5) {
        let _ = writeln!(out, "  e.g. {example}");
    }
}

fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}

fn table(out: &mut String, summary: &Summary) {
    let _ = writeln!(
        out,
        "{:<16}{:>9}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "", "count", "p50", "p90", "p99", "p99.9", "p99.99", "max"
    );
    let mut row = |name: &str, figures: &Percentiles| {
        let _ = writeln!(
            out,
            "{name:<16}{:>9}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            count(figures.count as f64),
            duration_if_known(figures.p50_ns),
            duration_if_known(figures.p90_ns),
            duration_if_known(figures.p99_ns),
            duration_if_known(figures.p999_ns),
            duration_if_known(figures.p9999_ns),
            duration(figures.max_ns),
        );
    };
    row("response", &summary.response);
    row("service", &summary.service);
    row("slip, busy", &summary.slip_busy);
    row("slip, full", &summary.slip_full);
    if summary.ops.len() > 1 {
        for op in &summary.ops {
            row(&format!("{} response", op.name), &op.response);
        }
    }
    if !summary.confidence.is_empty() {
        let parts: Vec<String> = summary
            .confidence
            .iter()
            .map(|one| {
                let (low, high) = (duration(one.low_ns), duration(one.high_ns));
                format!("p{} {low} to {high}", one.percent)
            })
            .collect();
        let _ = writeln!(out, "95 % intervals: {}", parts.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_narrow_and_begins_with_the_verdict() {
        let mut run = crate::summary::tests::summary();
        let text = summary(&run);
        assert!(text.starts_with("VALID  "), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
        assert!(!text.contains('\x1b'));
        run.counts.violations[0] = 3;
        run.verdict = crate::verdict::judge(&run);
        let text = summary(&run);
        assert!(text.starts_with("INVALID") && text.contains("3 x wrong key"), "{text}");
    }
}
