//! The time series and the percentiles as CSV.
//!
//! Invariant: one heading line, the same number of fields in each line, whole nanoseconds; a figure
//! that is not known is an empty field.

use std::fmt::Write as _;

use crate::summary::{Percentiles, Summary};

/// By interval.
pub fn series(summary: &Summary) -> String {
    let mut out = String::from(
        "start_s,sent,completed,failed,backlog,response_p50_ns,response_p99_ns,response_p999_ns,\
         response_max_ns,service_p99_ns\n",
    );
    for one in &summary.series {
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{},{},{}",
            one.start_s,
            one.sent,
            one.completed,
            one.failed,
            one.backlog,
            field(one.response_p50_ns),
            field(one.response_p99_ns),
            field(one.response_p999_ns),
            one.response_max_ns,
            field(one.service_p99_ns),
        );
    }
    out
}

/// By command and kind.
pub fn percentiles(summary: &Summary) -> String {
    let mut out =
        String::from("command,kind,count,mean_ns,p50_ns,p90_ns,p99_ns,p999_ns,p9999_ns,max_ns\n");
    let mut row = |command: &str, kind: &str, figures: &Percentiles| {
        let _ = writeln!(
            out,
            "{command},{kind},{},{},{},{},{},{},{},{}",
            figures.count,
            figures.mean_ns,
            field(figures.p50_ns),
            field(figures.p90_ns),
            field(figures.p99_ns),
            field(figures.p999_ns),
            field(figures.p9999_ns),
            figures.max_ns,
        );
    };
    row("all", "response", &summary.response);
    row("all", "service", &summary.service);
    row("all", "slip_busy", &summary.slip_busy);
    row("all", "slip_full", &summary.slip_full);
    for op in &summary.ops {
        row(&op.name, "response", &op.response);
        row(&op.name, "service", &op.service);
    }
    out
}

fn field(ns: Option<u64>) -> String {
    ns.map(|ns| ns.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_as_many_fields_as_the_heading() {
        let summary = crate::summary::tests::summary();
        for text in [series(&summary), percentiles(&summary)] {
            let fields = |line: &str| line.matches(',').count();
            let heading = fields(text.lines().next().expect("a heading"));
            assert!(text.lines().count() > 5);
            assert!(text.lines().all(|line| fields(line) == heading), "{text}");
        }
    }
}
