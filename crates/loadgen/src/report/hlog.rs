//! The interval log of HdrHistogram, version 1.3, as its other readers expect it.
//!
//! One line a tag and interval; tags are `get.response`, `get.service`, `slip_busy`, `slip_full`.
//! Values are nanoseconds; the column of the maximum is in milliseconds. Invariant: time stamps
//! count from the log's base time and never go back.

use std::io::{self, Write};
use std::time::Duration;

use crate::record::{Latency, Record};
use crate::workload::Plan;

/// Writes a log.
#[derive(Debug)]
pub struct HlogWriter<W> {
    out: W,
    names: Vec<&'static str>,
    interval: Duration,
}

impl<W: Write> HlogWriter<W> {
    /// A log of intervals of this length.
    pub fn new(out: W, plan: &Plan, interval: Duration) -> HlogWriter<W> {
        HlogWriter { out, names: plan.ops.iter().map(|op| op.name()).collect(), interval }
    }

    /// Writes the heading. `at` is the Unix time at which the first interval begins.
    pub fn begin(&mut self, at: Duration) -> io::Result<()> {
        let (start_s, out) = (at.as_secs_f64(), &mut self.out);
        writeln!(out, "#[Logged with weir-bench {}]", env!("CARGO_PKG_VERSION"))?;
        writeln!(out, "#[Histogram log format version 1.3]")?;
        writeln!(out, "#[StartTime: {start_s:.3} (seconds since epoch)]")?;
        writeln!(out, "#[BaseTime: {start_s:.3} (seconds since epoch)]")?;
        writeln!(
            out,
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\
             \"Interval_Compressed_Histogram\""
        )?;
        out.flush()
    }

    /// Writes an interval.
    pub fn write(&mut self, index: u64, record: &Record) -> io::Result<()> {
        for position in 0..self.names.len() {
            let (name, op) = (self.names[position], &record.ops[position]);
            self.line(&format!("{name}.response"), index, &op.response)?;
            self.line(&format!("{name}.service"), index, &op.service)?;
        }
        self.line("slip_busy", index, &record.slip_busy)?;
        self.line("slip_full", index, &record.slip_full)?;
        self.out.flush()
    }

    fn line(&mut self, tag: &str, index: u64, latency: &Latency) -> io::Result<()> {
        if latency.count() == 0 {
            return Ok(());
        }
        let length = self.interval.as_secs_f64();
        let start = length * index as f64;
        let max_ms = latency.max() as f64 / 1e6;
        let payload = latency.encode();
        writeln!(self.out, "Tag={tag},{start:.3},{length:.3},{max_ms:.3},{payload}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Settings;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    /// Read back by the library's own reader, which is not what wrote it.
    #[test]
    fn another_reader_finds_what_was_measured() {
        let plan = Plan::new(&Settings::default(), 0).expect("possible");
        let mut bytes = Vec::new();
        let second = Duration::from_secs(1);
        let started = Duration::from_millis(1_700_000_000_123);
        let mut log = HlogWriter::new(&mut bytes, &plan, second);
        log.begin(started).expect("memory");
        let mut record = Record::new(plan.ops.len());
        for value in [1000, 2000, 3_000_000] {
            assert!(record.ops[0].response.record(value));
        }
        log.write(0, &record).expect("memory");
        log.write(1, &record).expect("memory");
        let text = String::from_utf8(bytes).expect("text");
        // The reader of the library does not know the legend.
        let without: String =
            text.lines().filter(|line| !line.starts_with('"')).flat_map(|l| [l, "\n"]).collect();
        let mut found = 0;
        for entry in IntervalLogIterator::new(without.as_bytes()) {
            match entry.expect("well formed") {
                LogEntry::StartTime(at) => assert_eq!(at.as_millis(), 1_700_000_000_123),
                LogEntry::BaseTime(at) => assert_eq!(at.as_millis(), 1_700_000_000_123),
                LogEntry::Interval(interval) => {
                    assert_eq!(interval.tag().map(|tag| tag.as_str()), Some("get.response"));
                    assert_eq!(interval.start_timestamp().as_secs(), found);
                    assert!((interval.max() - 3.001).abs() < 0.01);
                    let payload = Latency::decode(interval.encoded_histogram()).expect("V2");
                    assert_eq!(payload.count(), 3);
                    found += 1;
                }
            }
        }
        assert_eq!(found, 2);
        let payload = text.rsplit(',').next().expect("fields").trim();
        assert!(payload.starts_with("HISTFAAAA"), "{payload}");
        let _: Histogram<u64> = {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.decode(payload).expect("base64");
            Deserializer::new().deserialize(&mut bytes.as_slice()).expect("V2")
        };
    }
}
