//! The monotonic clock that all event bases of the process share.
//!
//! Not the time of day. Invariant: a later call never gives an earlier time.

use base::Time;

/// CLOCK_MONOTONIC, read now.
pub(crate) fn now() -> Time {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    assert!(result == 0, "every supported platform has a monotonic clock");
    Time::from_ns(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
