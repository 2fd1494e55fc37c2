//! Ejection and return of one server, as one worker sees it: too many failures without a success
//! between them take it out of the continuum, and a probe that it answers puts it back.
//!
//! It reads no clock, rebuilds nothing and probes nobody. The caller reports every failure and
//! success, probes no earlier than [`Health::ejected_until`], and rebuilds the
//! [`crate::Placement`] from [`Health::is_live`] of all servers when [`Health::record_failure`] or
//! [`Health::readmit`] answers true.
//!
//! ```text
//!   live --- failure_limit failures in a row ---> ejected until now + retry_timeout <--+
//!    ^                                                |                                |
//!    |                                                | then it is probed              |
//!    +---------------- it answers --------------------+----- it does not --------------+
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
    /// How long an ejected server is left alone before it is probed.
    pub retry_timeout: Duration,
}

/// What is known of one server.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Failures since the last success, ejection or start.
    failures_count: u32,
    ejected_until: Option<Time>,
}

impl Health {
    /// A server that has not failed yet.
    pub fn new() -> Health {
        Health::default()
    }

    /// Whether the server may be chosen. An ejected one may not before [`Health::readmit`].
    #[inline]
    pub fn is_live(&self) -> bool {
        self.ejected_until.is_none()
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
        self.eject(options, now);
        true
    }

    /// A probe has failed: the server stays out for as long again, and it counts as an ejection.
    pub fn record_failed_probe(&mut self, options: &HealthOptions, now: Time) {
        if !self.is_live() {
            self.eject(options, now);
        }
    }

    fn eject(&mut self, options: &HealthOptions, now: Time) {
        self.failures_count = 0;
        self.ejected_until = Some(now + options.retry_timeout);
    }

    /// Forgets the failures counted: the server has answered. An ejection lasts all the same, since
    /// the answer may be to what was asked before it.
    #[inline]
    pub fn record_success(&mut self) {
        self.failures_count = 0;
    }

    /// Ends an ejection: the server has answered a probe that was sent after it. True: the server
    /// is back, and the continuum must be rebuilt.
    pub fn readmit(&mut self) -> bool {
        self.failures_count = 0;
        self.ejected_until.take().is_some()
    }

    /// When the server may be probed, which may be past; `None` unless it is ejected.
    pub fn ejected_until(&self) -> Option<Time> {
        self.ejected_until
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
        assert!(health.is_live());
        assert!(health.record_failure(&OPTIONS, at(3)));
        assert!(!health.is_live());
        assert_eq!(health.ejected_until(), Some(at(103)));
    }

    #[test]
    fn a_success_between_failures_begins_the_count_anew() {
        let mut health = Health::new();
        for round in 0..5 {
            assert!(!health.record_failure(&OPTIONS, at(round)));
            assert!(!health.record_failure(&OPTIONS, at(round)));
            health.record_success();
        }
    }

    #[test]
    fn an_ejected_server_returns_with_a_probe_that_it_answers_and_not_before() {
        let mut health = Health::new();
        fail_at_zero(&mut health, 3);
        assert_eq!(health.ejected_until(), Some(at(100)));
        assert!(!health.is_live());
        assert!(health.readmit());
        assert!(health.is_live());
        assert_eq!(health.ejected_until(), None);
        assert!(!health.readmit(), "it returns once");
    }

    #[test]
    fn a_failed_probe_ejects_for_as_long_again() {
        let mut health = Health::new();
        fail_at_zero(&mut health, 3);
        health.record_failed_probe(&OPTIONS, at(130));
        assert!(!health.is_live());
        assert_eq!(health.ejected_until(), Some(at(230)));
        assert!(health.readmit());
        health.record_failed_probe(&OPTIONS, at(300));
        assert!(health.is_live(), "a server that is back is not ejected by a probe");
    }

    #[test]
    fn a_returned_server_has_its_whole_allowance_again() {
        let mut health = Health::new();
        fail_at_zero(&mut health, 4);
        assert!(health.readmit());
        assert!(!health.record_failure(&OPTIONS, at(101)));
        assert!(!health.record_failure(&OPTIONS, at(101)));
        assert!(health.record_failure(&OPTIONS, at(101)));
        assert_eq!(health.ejected_until(), Some(at(201)));
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
        assert!(!health.is_live());
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
            assert!(health.is_live());
        }
    }

    #[test]
    fn a_time_out_beyond_the_end_of_time_is_for_ever() {
        let options = HealthOptions { failure_limit: 1, retry_timeout: Duration::MAX, ..OPTIONS };
        let mut health = Health::new();
        assert!(health.record_failure(&options, at(5)));
        assert_eq!(health.ejected_until(), Some(Time::MAX));
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
            let mut until = None;
            let mut now = 0;
            for (failed, later) in events {
                now += later;
                run = if failed { run + 1 } else { 0 };
                let ejects = failed && run % failure_limit.max(1) == 0;
                if ejects {
                    until = Some(at(now + 100));
                }
                if failed {
                    prop_assert_eq!(health.record_failure(&options, at(now)), ejects);
                } else {
                    health.record_success();
                }
                prop_assert_eq!(health.ejected_until(), until);
                prop_assert_eq!(health.is_live(), until.is_none());
            }
        }
    }
}
