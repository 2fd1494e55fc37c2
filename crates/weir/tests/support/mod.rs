//! What the integration tests share: programs that run, servers, the proxy itself, raw clients and
//! scripted servers. No test is here. Invariant: whatever a test starts ends with it, and what the
//! proxy logged is shown when the test fails.

// Each test program is compiled with this module and uses its own part of it.
#![allow(dead_code)]

pub(crate) mod bystander;
pub(crate) mod fake;
pub(crate) mod generations;
pub(crate) mod keys;
pub(crate) mod process;
pub(crate) mod servers;
pub(crate) mod weir;
pub(crate) mod wire;

use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a test waits for anything. Generous: it is reached only when something is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none within `deadline`.
pub(crate) fn until_within<T>(
    deadline: Duration,
    what: &str,
    mut ask: impl FnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < deadline, "not within {deadline:?}: {what}");
        spare_the_cpu();
    }
}

/// As [`until_within`], within [`DEADLINE`].
pub(crate) fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_within(DEADLINE, what, ask)
}

/// What another process does wakes nobody here, so it must be asked for; the two CPUs of a small
/// machine are better left to that process in between.
pub(crate) fn spare_the_cpu() {
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(Duration::from_millis(2));
}
