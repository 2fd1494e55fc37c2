//! The counters as Prometheus reads them (text format 0.0.4).
//!
//! The names are those of the statistics line, with `weir_` before and `_total` behind what only
//! grows. Invariant: each family is told once, with its help and its kind before its samples.

use std::fmt::{Display, Write};

use proxy::latency::Histogram;
use proxy::options::PoolOptions;
use proxy::stats::{PoolStats, WorkerStats};

use super::Context;
use crate::snapshot::{self, Clocks, Counter, CounterKind, POOL_COUNTERS, SERVER_COUNTERS};

/// Everything, summed over the workers.
pub(super) fn text(context: &Context) -> String {
    let shared = &context.shared;
    let workers = shared.stats();
    let total = snapshot::sum(&workers);
    let pools = shared.running();
    let rows: Vec<(&PoolOptions, &PoolStats)> = (pools.in_order())
        .filter_map(|(index, options)| Some((options, total.pools.get(index)?)))
        .collect();
    let mut page = Page::default();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    page.family("weir_build_info", CounterKind::Gauge, "always 1");
    page.sample("weir_build_info", &version, 1);
    page.family("weir_uptime_seconds", CounterKind::Gauge, "since the start");
    page.sample("weir_uptime_seconds", &[], shared.started.elapsed().as_secs());
    page.family("weir_draining", CounterKind::Gauge, "1 while clients are let go");
    page.sample("weir_draining", &[], u8::from(context.is_draining()));
    page.family("weir_worker_clients", CounterKind::Gauge, "clients of each worker now");
    for (worker, clients) in shared.balance.counts().into_iter().enumerate() {
        page.sample("weir_worker_clients", &[("worker", &worker.to_string())], clients);
    }
    write_sums(&mut page, &total);
    // Of the rows that need a clock the only one is told otherwise: see `server_ejected`.
    let clocks = Clocks { worker: total.now, unix_s: 0 };
    for counter in POOL_COUNTERS {
        let name = page.counter(counter);
        for (options, stats) in &rows {
            let value = (counter.value)(stats, clocks);
            page.sample(&name, &[("pool", &options.name)], value);
        }
    }
    for counter in SERVER_COUNTERS.iter().filter(|counter| counter.name != "server_ejected_at") {
        let name = page.counter(counter);
        for (options, stats) in &rows {
            for (server, stats) in options.servers.iter().zip(&stats.servers) {
                let labels = [("pool", options.name.as_str()), ("server", &server.name)];
                page.sample(&name, &labels, (counter.value)(stats, clocks));
            }
        }
    }
    write_latencies(&mut page, &rows);
    page.0
}

fn write_sums(page: &mut Page, total: &WorkerStats) {
    let help = "bytes of unfinished requests and waiting replies";
    page.family("weir_buffered_bytes", CounterKind::Gauge, help);
    page.sample("weir_buffered_bytes", &[], total.buffered_bytes);
    let help = "sends started on connections of clients and servers";
    page.family("weir_sends_total", CounterKind::Total, help);
    page.sample("weir_sends_total", &[], total.sends);
}

fn write_latencies(page: &mut Page, rows: &[(&PoolOptions, &PoolStats)]) {
    let name = "weir_request_duration_seconds";
    let help = "from a request's arrival to the server's response, or to the error in its place; \
                each part of a split request counts";
    page.head(name, "histogram", help);
    for (options, stats) in rows {
        let commands = options.protocol.commands();
        for (server, latencies) in options.servers.iter().zip(&stats.latencies) {
            for (command, histogram) in latencies.iter() {
                let command = commands.get(command).map_or("unknown", |command| command.name);
                let labels = [
                    ("pool", options.name.as_str()),
                    ("server", &server.name),
                    ("command", command),
                ];
                page.histogram(name, &labels, histogram);
            }
        }
    }
}

#[derive(Default)]
struct Page(String);

/// Writing to a string does not fail.
const WRITES: &str = "a string takes everything";

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect(WRITES);
    }

    fn family(&mut self, name: &str, kind: CounterKind, help: &str) {
        let kind = if kind == CounterKind::Total { "counter" } else { "gauge" };
        self.head(name, kind, help);
    }

    /// Begins the family of a counter of the statistics line.
    fn counter<S>(&mut self, counter: &Counter<S>) -> String {
        let suffix = if counter.kind == CounterKind::Total { "_total" } else { "" };
        let name = format!("weir_{}{suffix}", counter.name);
        self.family(&name, counter.kind, counter.meaning);
        name
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        if !labels.is_empty() {
            self.0.push('{');
            for (index, (label, text)) in labels.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                write!(self.0, "{comma}{label}=\"{}\"", escaped(text)).expect(WRITES);
            }
            self.0.push('}');
        }
        writeln!(self.0, " {value}").expect(WRITES);
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut count = 0;
        for (bucket, in_bucket) in histogram.counts.iter().enumerate() {
            count += in_bucket;
            let bound = Histogram::bound_ns(bucket).map(seconds);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            let labels = [labels, &[("le", bound.as_str())]].concat();
            self.sample(&format!("{name}_bucket"), &labels, count);
        }
        self.sample(&format!("{name}_sum"), labels, seconds(histogram.sum_ns));
        self.sample(&format!("{name}_count"), labels, count);
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.sample("a", &[("b", "x\"y\\z\n"), ("c", "d")], 3);
        assert_eq!(page.0, "a{b=\"x\\\"y\\\\z\\n\",c=\"d\"} 3\n");
    }

    #[test]
    fn buckets_of_a_histogram_add_up() {
        let mut page = Page::default();
        let mut histogram = Histogram::default();
        histogram.record(1_000, 1);
        histogram.record(20_000, 1);
        histogram.record(u64::MAX / 2, 1);
        page.histogram("h", &[("s", "t")], &histogram);
        let lines: Vec<&str> = page.0.lines().collect();
        assert_eq!(lines[0], "h_bucket{s=\"t\",le=\"0.000016384\"} 1");
        assert_eq!(lines[1], "h_bucket{s=\"t\",le=\"0.000032768\"} 2");
        assert_eq!(lines[histogram.counts.len() - 1], "h_bucket{s=\"t\",le=\"+Inf\"} 3");
        assert_eq!(lines.last(), Some(&"h_count{s=\"t\"} 3"));
    }
}
