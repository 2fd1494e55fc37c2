//! Ejection and return of one server, as one worker sees it: too many failures without a success
//! between them take it out of the continuum for a while.
//!
//! It reads no clock and rebuilds nothing. The caller reports every failure and success, rebuilds
//! the [`crate::Placement`] from [`Health::is_live`] of all servers when [`Health::record_failure`]
//! or [`Health::return_if_due`] answers true, and calls the latter no later than
//! [`Health::ejected_until`].
//!
//! ```text
//!   live --- failure_limit failures in a row ---> ejected until now + retry_timeout
//!    ^                                                |
//!    +---------------- the time has come -------------+
//! ```
//!
//! Invariant: fewer failures are counted than eject the server.

use std::time::Duration;

use base::Time;

/// Whether, and when, a failing server leaves the continuum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthOptions {
    /// Whether servers are ejected at all. Without it they are always live.
    pub eject: bool,
    /// Failures without a success between them that eject a server. 0 behaves as 1.
    pub failure_limit: u32,
    /// How long an ejected server stays out.
    pub retry_timeout: Duration,
}

/// What is known of one server.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Failures since the last success, ejection or start.
    failures_count: u32,
    ejected_until: Option<Time>,
    ejects_count: u64,
}

impl Health {
    /// A server that has not failed yet.
    pub fn new() -> Health {
        Health::default()
    }

    /// Whether the server may be chosen. An ejected one is live again from the moment until which
    /// it was ejected.
    #[inline]
    pub fn is_live(&self, now: Time) -> bool {
        self.ejected_until.is_none_or(|until| until <= now)
    }

    /// Counts a failure: a connection to the server that was refused, broke, timed out or was
    /// closed by it. True: the server is ejected with this one, and the continuum must be rebuilt.
    ///
    /// Failures of a server that is ejected already, as of its other connections, count too and may
    /// prolong the ejection.
    pub fn record_failure(&mut self, options: &HealthOptions, now: Time) -> bool {
        if !options.eject {
            return false;
        }
        // It can't overflow: it is set to 0 at the latest when it reaches the limit.
        self.failures_count += 1;
        if self.failures_count < options.failure_limit {
            return false;
        }
        self.failures_count = 0;
        self.ejected_until = Some(now + options.retry_timeout);
        self.ejects_count += 1;
        true
    }

    /// Forgets the failures counted: the server has answered. An ejection lasts its time all the
    /// same, so that the time for which the caller waits stays the right one.
    #[inline]
    pub fn record_success(&mut self) {
        self.failures_count = 0;
    }

    /// Ends an ejection whose time has come. True: the server is back, and the continuum must be
    /// rebuilt.
    ///
    /// It comes back untried, so that clients' requests find out whether it works, and
    /// `failure_limit` of them fail if it doesn't. Whoever wants a probe first makes it here: the
    /// ejection then ends with the probe's success and is prolonged by its failure.
    pub fn return_if_due(&mut self, now: Time) -> bool {
        let is_due = self.ejected_until.is_some_and(|until| until <= now);
        if is_due {
            self.ejected_until = None;
        }
        is_due
    }

    /// When the server is to be put back, which may be past; `None` unless it is ejected.
    pub fn ejected_until(&self) -> Option<Time> {
        self.ejected_until
    }

    /// Ejections so far.
    pub fn ejects_count(&self) -> u64 {
        self.ejects_count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPTIONS: HealthOptions =
        HealthOptions { eject: true, failure_limit: 3, retry_timeout: Duration::from_nanos(100) };

    fn at(ns: u64) -> Time {
        Time::from_ns(ns)
    }

    fn fail_at_zero(health: &mut Health, count: u32) {
        for number in 1..=count {
            assert_eq!(health.record_failure(&OPTIONS, at(0)), number == OPTIONS.failure_limit);
        }
    }

    #[test]
    fn the_failure_that_reaches_the_limit_ejects() {
        let mut health = Health::new();
        assert!(!health.record_failure(&OPTIONS, at(1)));
        assert!(!health.record_failure(&OPTIONS, at(2)));
        assert!(health.is_live(at(2)));
        assert!(health.record_failure(&OPTIONS, at(3)));
        assert!(!health.is_live(at(3)));
        assert_eq!(health.ejected_until(), Some(at(103)));
        assert_eq!(health.ejects_count(), 1);
    }

    #[test]
    fn a_success_between_failures_begins_the_count_anew() {
        let mut health = Health::new();
        for round in 0..5 {
            assert!(!health.record_failure(&OPTIONS, at(round)));
            assert!(!health.record_failure(&OPTIONS, at(round)));
            health.record_success();
        }
        assert_eq!(health.ejects_count(), 0);
    }

    #[test]
    fn an_ejected_server_returns_when_its_time_has_come_and_not_before() {
        let mut health = Health::new();
        fail_at_zero(&mut health, 3);
        assert!(!health.return_if_due(at(99)));
        assert!(!health.is_live(at(99)));
        assert!(health.is_live(at(100)));
        assert!(health.return_if_due(at(100)));
        assert_eq!(health.ejected_until(), None);
        assert!(!health.return_if_due(at(101)), "it returns once");
    }

    #[test]
    fn a_returned_server_has_its_whole_allowance_again() {
        let mut health = Health::new();
        fail_at_zero(&mut health, 3);
        assert!(health.return_if_due(at(100)));
        assert!(!health.record_failure(&OPTIONS, at(101)));
        assert!(!health.record_failure(&OPTIONS, at(101)));
        assert!(health.record_failure(&OPTIONS, at(101)));
        assert_eq!(health.ejected_until(), Some(at(201)));
        assert_eq!(health.ejects_count(), 2);
    }

    #[test]
    fn failures_of_an_ejected_server_prolong_its_ejection() {
        let mut health = Health::new();
        let answers: Vec<bool> = (0..6).map(|ns| health.record_failure(&OPTIONS, at(ns))).collect();
        assert_eq!(answers, [false, false, true, false, false, true]);
        assert_eq!(health.ejected_until(), Some(at(105)));
    }

    #[test]
    fn a_success_does_not_end_an_ejection() {
        let mut health = Health::new();
        fail_at_zero(&mut health, 4);
        health.record_success();
        assert!(!health.is_live(at(99)));
        assert!(health.return_if_due(at(100)));
    }

    #[test]
    fn a_limit_of_zero_behaves_as_one() {
        for failure_limit in [0, 1] {
            let mut health = Health::new();
            assert!(health.record_failure(&HealthOptions { failure_limit, ..OPTIONS }, at(0)));
        }
    }

    #[test]
    fn without_ejection_a_server_is_always_live() {
        let options = HealthOptions { eject: false, failure_limit: 1, ..OPTIONS };
        let mut health = Health::new();
        for ns in 0..10 {
            assert!(!health.record_failure(&options, at(ns)));
            assert!(health.is_live(at(ns)));
        }
        assert_eq!(health.ejects_count(), 0);
    }

    #[test]
    fn a_time_out_beyond_the_end_of_time_is_for_ever() {
        let options = HealthOptions { failure_limit: 1, retry_timeout: Duration::MAX, ..OPTIONS };
        let mut health = Health::new();
        assert!(health.record_failure(&options, at(5)));
        assert!(!health.is_live(at(u64::MAX - 1)));
    }

    proptest! {
        /// The oracle keeps the whole history and counts backwards.
        #[test]
        fn equals_a_recount_of_the_history(
            events in proptest::collection::vec((any::<bool>(), 0..40_u64), 0..60),
            failure_limit in 0..5_u32,
        ) {
            let options = HealthOptions { failure_limit, ..OPTIONS };
            let mut health = Health::new();
            let mut run = 0;
            let mut ejections = Vec::new();
            let mut now = 0;
            for (failed, later) in events {
                now += later;
                run = if failed { run + 1 } else { 0 };
                let ejects = failed && run % failure_limit.max(1) == 0;
                if ejects {
                    ejections.push(now);
                }
                if failed {
                    prop_assert_eq!(health.record_failure(&options, at(now)), ejects);
                } else {
                    health.record_success();
                }
                let is_out = ejections.iter().any(|&since| now < since + 100);
                prop_assert_eq!(health.is_live(at(now)), !is_out);
                prop_assert_eq!(health.ejects_count(), ejections.len() as u64);
            }
        }
    }
}
