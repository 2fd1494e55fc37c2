//! Points in time on a clock that only goes forward and whose zero means nothing.
//!
//! No function here reads a clock: a [`Time`] comes from the event base once a turn, or from a
//! simulation.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds since some fixed point. Monotonic; wraps after 584 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The clock's zero.
    pub const ZERO: Time = Time(0);

    /// Later than any other.
    pub const MAX: Time = Time(u64::MAX);

    /// The point `ns` nanoseconds after the clock's zero.
    pub const fn from_ns(ns: u64) -> Time {
        Time(ns)
    }

    /// Nanoseconds since the clock's zero.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, or zero when `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, duration: Duration) -> Time {
        // Not `as_nanos`, whose 128 bits are slower; this runs for each request.
        let whole = duration.as_secs().saturating_mul(1_000_000_000);
        Time(self.0.saturating_add(whole).saturating_add(u64::from(duration.subsec_nanos())))
    }
}

impl Sub<Time> for Time {
    type Output = Duration;

    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let one = Time::from_ns(1);
        assert_eq!(one - Time::from_ns(5), Duration::ZERO);
        assert_eq!((one + Duration::MAX).as_ns(), u64::MAX);
        assert_eq!((one + Duration::from_nanos(4)) - one, Duration::from_nanos(4));
    }
}
