//! The report as one HTML file that needs nothing else.
//!
//! Invariant: no address of another machine occurs in it, and everything that a user named is
//! escaped.

use std::fmt::Write as _;

use super::svg::{Axis, Line, Look, Scale, escape, plot};
use super::{count, duration, duration_if_known, tick};
use crate::record::{Latency, Record};
use crate::summary::{Percentiles, Summary};
use crate::verdict::Grade;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:820px;margin:2em auto;\
    padding:0 1em;color:#1b2733}h1{font-size:1.35em}h2{font-size:1.1em;margin-top:1.8em}\
    table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
    td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #dde3e8}\
    td:first-child,th:first-child,.left td{text-align:left}svg{width:100%;height:auto}\
    svg text{font:11px system-ui,sans-serif;fill:#44525f}.grid{stroke:#e4e9ed}\
    .badge{padding:.15em .6em;border-radius:.4em;color:#fff}.VALID{background:#1b7f4b}\
    .SUSPECT{background:#b26a00}.INVALID{background:#b3261e}\
    code{font-size:.9em;overflow-wrap:anywhere}\
    .tiles{display:flex;flex-wrap:wrap;gap:.5em}.tiles div{background:#f2f5f7;border-radius:.5em;\
    padding:.4em .9em}.tiles b{display:block;font-size:1.15em;font-variant-numeric:tabular-nums}\
    .tiles span{color:#44525f;font-size:.85em}";

const BLUE: &str = "#1769aa";
const ORANGE: &str = "#c2570c";
const GREEN: &str = "#1b7f4b";
const RED: &str = "#b3261e";

fn head(title: &str) -> String {
    format!(
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>{0}</title>\
         <style>{STYLE}</style><h1>{0}</h1>",
        escape(title)
    )
}

/// One run.
pub fn run(summary: &Summary, total: &Record) -> String {
    let name = &summary.settings.name;
    let mut out = head(&format!("weir-bench: {name} on {}", summary.address));
    verdict(&mut out, summary);
    out.push_str("<div class='tiles'>");
    facts(&mut out, summary);
    figures(&mut out, summary);
    out.push_str("<h2>Latency by percentile</h2>");
    out.push_str(&by_percentile(&[
        ("response (from the intended start)", BLUE, &total.response()),
        ("service (from the send)", ORANGE, &total.service()),
        ("slip, generator busy", RED, &total.slip_busy),
    ]));
    out.push_str("<h2>Over time</h2>");
    over_time(&mut out, summary);
    how(&mut out, summary);
    out
}

fn verdict(out: &mut String, summary: &Summary) {
    let grade = summary.grade().text();
    let _ = write!(out, "<p><span class='badge {grade}'>{grade}</span></p><ul>");
    for finding in &summary.verdict.findings {
        let mark = if finding.grade == Grade::Valid { "note" } else { finding.grade.text() };
        let (check, text) = (escape(&finding.check), escape(&finding.text));
        let _ = write!(out, "<li>{mark}: {check}: {text}</li>");
    }
    for example in &summary.examples {
        let _ = write!(out, "<li><code>{}</code></li>", escape(example));
    }
    out.push_str("</ul>");
}

/// What is to be seen at one glance, and the rest of the counts in a sentence.
fn facts(out: &mut String, summary: &Summary) {
    let counts = &summary.counts;
    let mut tile = |value: String, name: &str| {
        let _ = write!(out, "<div><b>{}</b><span>{name}</span></div>", escape(&value));
    };
    tile(format!("{}/s", count(summary.offered_rate)), "offered");
    tile(format!("{:.2} %", summary.achieved_share * 100.0), "of it answered in time");
    tile(duration_if_known(summary.response.p50_ns), "median response");
    tile(duration_if_known(summary.response.p99_ns), "p99 response");
    tile(duration_if_known(summary.response.p999_ns), "p99.9 response");
    tile(duration(summary.response.max_ns), "slowest");
    if let Some(rate) = summary.hit_rate {
        tile(format!("{:.2} %", rate * 100.0), "of reads hit");
    }
    tile(duration(summary.cpu_ns_per_request), "generator's CPU a request");
    let _ = write!(
        out,
        "</div><p>{} requests in {:.1} s; errors {}, timed out {}, lost {}, never sent {}; \
         verified {} replies, wrong {}.</p>",
        counts.completed,
        summary.wall_s,
        counts.errors,
        counts.timed_out,
        counts.lost,
        counts.unsent,
        counts.verified,
        counts.violations_count(),
    );
}

fn figures(out: &mut String, summary: &Summary) {
    out.push_str(
        "<table><tr><th></th><th>count</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th>\
         <th>p99.99</th><th>max</th></tr>",
    );
    let mut row = |name: &str, one: &Percentiles| {
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td></tr>",
            escape(name),
            count(one.count as f64),
            duration_if_known(one.p50_ns),
            duration_if_known(one.p90_ns),
            duration_if_known(one.p99_ns),
            duration_if_known(one.p999_ns),
            duration_if_known(one.p9999_ns),
            duration(one.max_ns),
        );
    };
    row("response", &summary.response);
    row("service", &summary.service);
    row("slip, generator busy", &summary.slip_busy);
    row("slip, all in flight", &summary.slip_full);
    for op in &summary.ops {
        row(&format!("{}: response", op.name), &op.response);
        row(&format!("{}: service", op.name), &op.service);
    }
    out.push_str("</table>");
}

/// Latency against the number of nines.
fn by_percentile(curves: &[(&str, &'static str, &Latency)]) -> String {
    let nines = |part_above: f64| -part_above.log10();
    let most = curves.iter().map(|curve| curve.2.count()).max().unwrap_or(1).max(10) as f64;
    let high_nines = nines(10.0 / most).clamp(2.0, 7.0);
    let labels =
        ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];
    let ticks = labels.iter().enumerate().map(|(i, text)| (i as f64, (*text).to_owned()));
    let x = Axis {
        scale: Scale::Linear,
        label: "percentile".to_owned(),
        low: 0.0,
        high: high_nines,
        ticks: ticks.filter(|tick| tick.0 <= high_nines).collect(),
    };
    let lines: Vec<Line> = curves
        .iter()
        .map(|(name, colour, latency)| {
            let points = (0..=120).filter_map(|step| {
                let at = high_nines * f64::from(step) / 120.0;
                let percent = 100.0 * (1.0 - 10f64.powf(-at));
                Some((at, latency.percentile_if_known(percent)? as f64))
            });
            Line { name: (*name).to_owned(), colour, look: Look::Plain, points: points.collect() }
        })
        .collect();
    plot(&x, &latency_axis(&lines), &lines)
}

fn latency_axis(lines: &[Line]) -> Axis {
    let values = || lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    let low = values().filter(|&value| value > 0.0).fold(f64::INFINITY, f64::min);
    let high = values().fold(1_000.0, f64::max);
    Axis::log("latency", if low.is_finite() { low } else { 100.0 }, high, tick)
}

fn over_time(out: &mut String, summary: &Summary) {
    // What comes after the measured time only waits for the last replies.
    let end_s = summary.wall_s.max(summary.interval_s);
    let series: Vec<_> = summary
        .series
        .iter()
        .filter(|one| one.start_s + summary.interval_s / 2.0 < end_s)
        .collect();
    let line = |name: &str, colour, value: &dyn Fn(usize) -> Option<u64>| Line {
        name: name.to_owned(),
        colour,
        look: Look::Plain,
        points: (0..series.len())
            .filter_map(|i| Some((series[i].start_s + summary.interval_s / 2.0, value(i)? as f64)))
            .collect(),
    };
    let x = Axis::exact("seconds", end_s, count);
    let lines = [
        line("max", RED, &|i| Some(series[i].response_max_ns)),
        line("p99.9", ORANGE, &|i| series[i].response_p999_ns),
        line("p99", GREEN, &|i| series[i].response_p99_ns),
        line("p50", BLUE, &|i| series[i].response_p50_ns),
    ];
    out.push_str(&plot(&x, &latency_axis(&lines), &lines));
    let rate = |count: u64| (count as f64 / summary.interval_s) as u64;
    let mut completed = line("completed", GREEN, &|i| Some(rate(series[i].completed)));
    // Both are to be seen where they are the same.
    completed.look = Look::Dashed;
    let lines = [
        line("sent", ORANGE, &|i| Some(rate(series[i].sent))),
        completed,
        line("failed", RED, &|i| Some(rate(series[i].failed))),
    ];
    let high = lines.iter().flat_map(|l| &l.points).map(|point| point.1).fold(1.0, f64::max);
    out.push_str(&plot(&x, &Axis::linear("requests a second", high, count), &lines));
}

fn how(out: &mut String, summary: &Summary) {
    let environment = &summary.environment;
    let known = |value: &Option<String>| escape(value.as_deref().unwrap_or("unknown"));
    let _ = write!(
        out,
        "<h2>How it was measured</h2><table class='left'>\
         <tr><td>command</td><td><code>{}</code></td></tr>\
         <tr><td>intended start</td><td>from the schedule, before anything is sent</td></tr>\
         <tr><td>send stamp</td><td>one a turn, after all its sends were built</td></tr>\
         <tr><td>reply stamp</td><td>one a turn, when its replies were found; at most {} replies \
         shared one</td></tr>\
         <tr><td>histogram</td><td>1 ns to 1 h, 3 digits, nothing cut</td></tr>\
         <tr><td>time-outs</td><td>in the tail, with the time that had passed</td></tr>\
         <tr><td>event base</td><td>{}</td></tr>\
         <tr><td>clock</td><td>{}, {} ns a read, {} ns apart</td></tr>\
         <tr><td>machine</td><td>{}, {}, {} CPUs, governor {}</td></tr>\
         <tr><td>TCP_NODELAY</td><td>read back on {} connections, off on {}</td></tr>\
         <tr><td>seed, shape</td><td>{}, {}</td></tr></table>",
        escape(&summary.command_line),
        summary.counts.batch_max,
        escape(&summary.event_base),
        known(&environment.clock_source),
        environment.clock_cost_ns,
        environment.clock_resolution_ns,
        known(&environment.kernel),
        known(&environment.cpu),
        environment.cpus_count,
        known(&environment.governor),
        summary.nodelay.0,
        summary.nodelay.1,
        summary.settings.seed,
        summary.shape,
    );
}

/// Latency against offered load.
pub fn curve(name: &str, runs: &[Summary], partial: Option<&str>) -> String {
    let mut out = head(&format!("weir-bench: latency against load, {}", name));
    if let Some(partial) = partial {
        let _ = write!(out, "<p>Not whole: {}</p>", escape(partial));
    }
    let line = |name: &str, colour, value: &dyn Fn(&Summary) -> Option<f64>| Line {
        name: name.to_owned(),
        colour,
        look: Look::Dotted,
        points: runs.iter().filter_map(|run| Some((run.settings.rate, value(run)?))).collect(),
    };
    let high = runs.iter().map(|run| run.settings.rate).fold(1.0, f64::max);
    let x = Axis::linear("offered load, requests a second", high, count);
    let at = |percent: f64| move |run: &Summary| run.response_at(percent).map(|ns| ns as f64);
    let band = |low: bool| {
        move |run: &Summary| {
            let one = run.confidence.iter().find(|one| one.percent == 99.0)?;
            Some(if low { one.low_ns } else { one.high_ns } as f64)
        }
    };
    let mut low_edge = line("95 % interval of p99", GREEN, &band(true));
    low_edge.look = Look::Band;
    let lines = vec![
        low_edge,
        line("", GREEN, &band(false)),
        line("max", RED, &at(100.0)),
        line("p99.9", ORANGE, &at(99.9)),
        line("p99", GREEN, &at(99.0)),
        line("p50", BLUE, &at(50.0)),
    ];
    out.push_str("<h2>Latency (from the intended start) against offered load</h2>");
    out.push_str(&plot(&x, &latency_axis(&lines), &lines));
    out.push_str("<h2>Achieved against offered</h2>");
    let achieved = |run: &Summary| Some(run.achieved_share * run.offered_rate);
    let mut ideal = line("offered", ORANGE, &|run| Some(run.settings.rate));
    ideal.look = Look::Dashed;
    let lines = [line("completed in time", BLUE, &achieved), ideal];
    out.push_str(&plot(&x, &Axis::linear("requests a second", high, count), &lines));
    out.push_str(
        "<h2>In figures</h2><table><tr><th>offered</th><th>in time</th><th>p50</th><th>p99</th>\
         <th>p99.9</th><th>max</th><th>verdict</th></tr>",
    );
    for run in runs {
        let grade = run.grade().text();
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{:.2} %</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td><span class='badge {grade}'>{grade}</span></td></tr>",
            count(run.settings.rate),
            run.achieved_share * 100.0,
            duration_if_known(run.response.p50_ns),
            duration_if_known(run.response.p99_ns),
            duration_if_known(run.response.p999_ns),
            duration(run.response.max_ns),
        );
    }
    out.push_str("</table>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_stands_alone_and_escapes_what_users_name() {
        let mut summary = crate::summary::tests::summary();
        summary.settings.name = "<script>".to_owned();
        let mut total = Record::new(2);
        (1..2000).for_each(|value| assert!(total.ops[0].response.record(value * 100)));
        let text = run(&summary, &total);
        assert!(!text.contains("<script>") && !text.contains("http"));
        assert!(text.contains("VALID") && text.matches("<svg").count() == 3);
        let text = curve("x", &[summary.clone(), summary], None);
        assert_eq!(text.matches("<svg").count(), 2);
    }
}
