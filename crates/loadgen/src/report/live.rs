//! What people see while a run goes on.
//!
//! On a terminal one line is drawn anew; elsewhere there is a line an interval and no escape
//! sequence. Invariant: what is drawn anew is never wider than the terminal is at that time, since
//! a line that wraps can't be drawn over.

use std::io::{IsTerminal, Write as _, stderr};

use super::{count, duration, duration_if_known};
use crate::record::Record;
use crate::summary::Gather;
use crate::verdict::so_far;

/// The view during a run, on standard error.
#[derive(Debug)]
pub struct Live {
    is_terminal: bool,
    quiet: bool,
    duration_s: f64,
    rate: Option<f64>,
    spin: bool,
}

/// A piece of the line, with what stands before it. Where there is no room for all, those of the
/// highest rank are left out.
struct Piece(u8, String);

/// The columns of a terminal; none where there is no terminal.
pub fn columns(stream: &(impl IsTerminal + std::os::fd::AsFd)) -> Option<usize> {
    if !stream.is_terminal() {
        return None;
    }
    let told = rustix::termios::tcgetwinsize(stream).map_or(0, |size| size.ws_col);
    // Some terminals do not know.
    Some(if told == 0 { 80 } else { usize::from(told) })
}

impl Live {
    /// `rate` is the offered one, if there is one; `spin` whether threads never sleep.
    pub fn new(duration_s: f64, rate: Option<f64>, spin: bool, quiet: bool) -> Live {
        Live { is_terminal: stderr().is_terminal(), quiet, duration_s, rate, spin }
    }

    /// A step before the measurement.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// Load begins that is not measured, for so many seconds.
    pub fn warmup(&self, seconds: f64) {
        if seconds > 0.0 {
            self.note(&format!("warming up for {seconds} s"));
        }
    }

    /// An interval of so many seconds is over; it has been added to `gather`.
    pub fn interval(&self, record: &Record, interval_s: f64, gather: &Gather) {
        // By the time of the interval, not by how many there were: a thread that did not run for a
        // while leaves some out.
        let begun_s = gather.series.last().map_or(0.0, |last| last.start_s);
        // After the end only stragglers come, which are no rate.
        if self.quiet || begun_s > self.duration_s - interval_s / 2.0 {
            return;
        }
        let pieces = self.pieces(record, interval_s, gather);
        match columns(&stderr()) {
            Some(columns) => {
                // The last column is left free: some terminals wrap when it is written to.
                eprint!("\r\x1b[K{}", fit(pieces, columns - 1));
                let _ = stderr().flush();
            }
            None => eprintln!("{}", fit(pieces, usize::MAX)),
        }
    }

    /// The view is over.
    pub fn end(&self) {
        if self.is_terminal && !self.quiet {
            eprint!("\r\x1b[K");
        }
    }

    fn pieces(&self, record: &Record, interval_s: f64, gather: &Gather) -> Vec<Piece> {
        let begun_s = gather.series.last().map_or(0.0, |last| last.start_s);
        let done_s = (begun_s + interval_s).min(self.duration_s);
        let mut pieces = Vec::new();
        if self.is_terminal {
            let full = ((done_s / self.duration_s * 10.0) as usize).min(10);
            let bar = format!("[{}{}] ", "#".repeat(full), ".".repeat(10 - full));
            pieces.push(Piece(6, bar));
        }
        let response = record.response();
        let percentile = |percent| duration_if_known(response.percentile_if_known(percent));
        let total = &gather.total.counts;
        let (wrong, failed) = (total.violations_count(), total.failed());
        let (grade, why) = so_far(gather, self.rate, self.spin);
        let rate = count(record.counts.completed as f64 / interval_s);
        pieces.extend([
            Piece(0, format!("{done_s:.0}/{:.0}s", self.duration_s)),
            Piece(2, format!("  {rate}/s")),
            Piece(5, format!("  p50 {}", duration_if_known(response.percentile(50.0)))),
            Piece(1, format!("  p99 {}", percentile(99.0))),
            Piece(7, format!("  p99.9 {}", percentile(99.9))),
            Piece(8, format!("  max {}", duration(response.max()))),
        ]);
        if failed + wrong > 0 {
            pieces.push(Piece(4, format!("  failed {failed} wrong {wrong}")));
        }
        pieces.push(Piece(0, format!("  {}", grade.text())));
        pieces.push(Piece(3, why.map_or(" so far".to_owned(), |why| format!(": {why}"))));
        pieces
    }
}

fn fit(mut pieces: Vec<Piece>, width: usize) -> String {
    loop {
        let line: String = pieces.iter().map(|piece| piece.1.as_str()).collect();
        let rank = pieces.iter().map(|piece| piece.0).max().unwrap_or(0);
        if line.chars().count() <= width || rank == 0 {
            return line.chars().take(width).collect();
        }
        pieces.retain(|piece| piece.0 != rank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces() -> Vec<Piece> {
        let all = [
            (6, "[###.......] "),
            (0, "100/300s"),
            (2, "  15.5k/s"),
            (5, "  p50 39.8 us"),
            (1, "  p99 15.1 ms"),
            (7, "  p99.9 24.9 ms"),
            (8, "  max 27.4 ms"),
            (0, "  INVALID"),
            (3, ": wrong replies"),
        ];
        all.map(|(rank, text)| Piece(rank, text.to_owned())).into()
    }

    #[test]
    fn a_line_keeps_what_counts_in_a_narrow_terminal() {
        let whole = fit(pieces(), usize::MAX);
        assert!(whole.starts_with("[###.......] 100/300s  15.5k/s  p50 39.8 us  p99 15.1 ms"));
        assert!(whole.ends_with("  max 27.4 ms  INVALID: wrong replies"));
        let narrow = "100/300s  15.5k/s  p50 39.8 us  p99 15.1 ms  INVALID: wrong replies";
        assert_eq!(fit(pieces(), 79), narrow);
        assert_eq!(fit(pieces(), 39), "100/300s  15.5k/s  p99 15.1 ms  INVALID");
        assert_eq!(fit(pieces(), 20), "100/300s  INVALID");
        assert_eq!(fit(pieces(), 9), "100/300s ");
    }
}
