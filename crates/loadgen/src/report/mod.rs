//! A run's figures in forms for people and for programs.
//!
//! Invariant: every form is made from the same [`crate::summary::Summary`] and records; none
//! computes a figure of its own.

pub mod csv;
pub mod hlog;
pub mod html;
pub mod live;
pub mod svg;
pub mod terminal;

/// Nanoseconds with three significant digits and a unit.
pub fn duration(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

/// A percentile, or that there were too few samples for it.
pub fn duration_if_known(ns: Option<u64>) -> String {
    ns.map_or_else(|| "few".to_owned(), duration)
}

/// A power of ten of nanoseconds, for an axis.
pub fn tick(ns: f64) -> String {
    match ns {
        ns if ns >= 1e9 => format!("{} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{} ms", ns / 1e6),
        ns if ns >= 1e3 => format!("{} us", ns / 1e3),
        ns => format!("{ns} ns"),
    }
}

/// A count or rate with three significant digits and k or M.
pub fn count(value: f64) -> String {
    match value {
        v if v >= 1e6 && v % 1e6 == 0.0 => format!("{}M", v / 1e6),
        v if v >= 1e6 => format!("{}M", three_digits(v / 1e6)),
        v if v >= 1e4 && v % 1e3 == 0.0 => format!("{}k", v / 1e3),
        v if v >= 1e4 => format!("{}k", three_digits(v / 1e3)),
        v if v >= 100.0 || v == v.trunc() => format!("{v:.0}"),
        v => three_digits(v),
    }
}

fn three_digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_three_digits() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_234, "1.23 us"),
            (45_678, "45.7 us"),
            (1_500_000, "1.50 ms"),
            (995_000_000, "995 ms"),
            (2_000_000_000, "2.00 s"),
        ] {
            assert_eq!(duration(ns), text);
        }
        for (value, text) in [
            (950.0, "950"),
            (12_345.0, "12.3k"),
            (20_000.0, "20k"),
            (2.5e6, "2.50M"),
            (0.5, "0.50"),
        ] {
            assert_eq!(count(value), text);
        }
        assert_eq!(duration_if_known(None), "few");
        for (ns, text) in [(1.0, "1 ns"), (1e4, "10 us"), (1e8, "100 ms"), (1e9, "1 s")] {
            assert_eq!(tick(ns), text);
        }
    }
}
