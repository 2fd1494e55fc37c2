//! The end of a run, for people.
//!
//! Invariant: on a terminal no line is wider than it is, where words can be put on the next one;
//! elsewhere lines are whole, for programs that search them.

use std::fmt::Write as _;

use super::{count, duration, duration_if_known};
use crate::summary::{Percentiles, Summary};
use crate::verdict::Grade;
use crate::workload::value::VIOLATIONS;

/// The figures of a run, for a terminal of so many columns or for a file.
pub fn summary(summary: &Summary, columns: Option<usize>) -> String {
    let text = whole(summary, columns.unwrap_or(usize::MAX));
    match columns {
        None => text,
        Some(columns) => text.lines().map(|line| wrap(line, columns)).collect(),
    }
}

/// A line on as many as it takes, broken between words.
fn wrap(line: &str, columns: usize) -> String {
    let mut out = String::new();
    let mut width = 0;
    for word in line.split_inclusive(' ') {
        let size = word.trim_end().chars().count();
        if width + size > columns && !out.trim().is_empty() {
            out.truncate(out.trim_end().len());
            out.push_str("\n    ");
            width = 4;
        }
        out.push_str(word);
        width += word.chars().count();
    }
    out.push('\n');
    out
}

fn whole(summary: &Summary, columns: usize) -> String {
    let mut out = String::new();
    let grade = summary.grade();
    let counts = &summary.counts;
    let _ = writeln!(
        out,
        "{}  {} on {} ({}), {} connections, {} deep, {}{}{}",
        grade.text(),
        summary.settings.name,
        summary.address,
        summary.event_base,
        summary.settings.connections,
        summary.depth,
        match summary.settings.threads {
            1 => "1 thread".to_owned(),
            threads => format!("{threads} threads"),
        },
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
    table(&mut out, summary, columns);
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

/// A column of the table: its heading, its width, and when it is left out for want of room (the
/// highest first).
type Column = (&'static str, usize, u8, fn(&Percentiles) -> String);

const COLUMNS: [Column; 7] = [
    ("count", 7, 4, |figures| count(figures.count as f64)),
    ("p50", 9, 0, |figures| duration_if_known(figures.p50_ns)),
    ("p90", 9, 5, |figures| duration_if_known(figures.p90_ns)),
    ("p99", 9, 0, |figures| duration_if_known(figures.p99_ns)),
    ("p99.9", 9, 3, |figures| duration_if_known(figures.p999_ns)),
    ("p99.99", 9, 6, |figures| duration_if_known(figures.p9999_ns)),
    ("max", 9, 0, |figures| duration(figures.max_ns)),
];
const NAME_WIDTH: usize = 11;

fn table(out: &mut String, summary: &Summary, columns: usize) {
    let mut shown = COLUMNS.to_vec();
    while NAME_WIDTH + shown.iter().map(|column| column.1).sum::<usize>() > columns {
        let Some(rank) = shown.iter().map(|column| column.2).max().filter(|&rank| rank > 0) else {
            break;
        };
        shown.retain(|column| column.2 != rank);
    }
    let mut row = |name: &str, cell: &dyn Fn(&Column) -> String| {
        let _ = write!(out, "{name:<NAME_WIDTH$}");
        for column in &shown {
            let _ = write!(out, "{:>1$}", cell(column), column.1);
        }
        out.push('\n');
    };
    row("", &|column| column.0.to_owned());
    let rows = [
        ("response", &summary.response),
        ("service", &summary.service),
        ("slip, busy", &summary.slip_busy),
        ("slip, full", &summary.slip_full),
    ];
    for (name, figures) in rows {
        row(name, &|column| column.3(figures));
        if name == "response" && summary.ops.len() > 1 {
            for op in &summary.ops {
                row(&format!("  {}", op.name), &|column| column.3(&op.response));
            }
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
        let text = summary(&run, None);
        assert!(text.starts_with("VALID  "), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
        assert!(!text.contains('\x1b'));
        run.counts.violations[0] = 3;
        run.verdict = crate::verdict::judge(&run);
        let text = summary(&run, None);
        assert!(text.starts_with("INVALID") && text.contains("3 x wrong key"), "{text}");
        for columns in [40, 80] {
            let narrow = summary(&run, Some(columns));
            assert!(narrow.lines().all(|line| line.chars().count() <= columns), "{narrow}");
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            if columns == 80 {
                assert_eq!(words(&narrow), words(&text), "all is there");
            }
        }
    }
}
