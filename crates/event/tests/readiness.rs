//! The conformance suite on the readiness back end: epoll, kqueue, event ports or poll(2), whatever
//! the `polling` crate was built for.

use event::conformance::BaseOptions;
use event::conformance::kernel::{Family, Kernel};
use event::{Readiness, ReadinessOptions};

fn harness(make: fn(BaseOptions) -> Readiness, family: Family) -> Kernel<Readiness> {
    Kernel { make, counters: Readiness::counters, family }
}

fn level(options: BaseOptions) -> Readiness {
    make(options, false)
}

fn oneshot(options: BaseOptions) -> Readiness {
    make(options, true)
}

fn make(options: BaseOptions, oneshot: bool) -> Readiness {
    let BaseOptions { client_buffers, server_buffers } = options;
    Readiness::new(ReadinessOptions { client_buffers, server_buffers, oneshot })
        .expect("the test has descriptors left")
}

event::conformance_suite!(inet, harness(level, Family::Inet));
event::conformance_suite!(unix, harness(level, Family::Unix));
event::conformance_suite!(inet_oneshot, harness(oneshot, Family::Inet));
event::conformance_suite!(unix_oneshot, harness(oneshot, Family::Unix));
