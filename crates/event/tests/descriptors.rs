//! What happens when the process has no descriptor left. It has a process of its own, since the
//! limit is one of the whole process.

#![allow(clippy::unwrap_used)]

use std::fs::File;

use base::{Kind, SocketError};
use event::conformance::kernel::{Family, Kernel};
use event::conformance::{BaseOptions, Driver, Harness};
use event::{AcceptEnd, EventBase, Readiness, ReadinessOptions};

/// Accepting ends with the reason, the connection stays in the queue, and accepting works again
/// once there are descriptors. Connecting fails with the reason.
#[test]
fn want_of_descriptors_ends_accepting_until_it_is_started_again() {
    for oneshot in [false, true] {
        let options = ReadinessOptions { oneshot, ..ReadinessOptions::default() };
        without_descriptors(Readiness::new(options).unwrap());
    }
    #[cfg(target_os = "linux")]
    {
        let tier = event::uring_supported().unwrap();
        without_descriptors(event::Uring::new(event::UringOptions::new(tier)).unwrap());
    }
}

fn without_descriptors<B: EventBase<Socket = std::os::fd::OwnedFd>>(base: B) {
    let world: Kernel<B> = Kernel {
        make: |_: BaseOptions| unreachable!("it is made already"),
        counters: |_| unreachable!("they are not asked for"),
        family: Family::Inet,
    };
    let mut driver = Driver::new(base);
    let (socket, address) = world.listener();
    let listener = driver.token(Kind::Listener);
    driver.base.listen(listener, socket).unwrap();
    let _peers = [world.dial(&address), world.dial(&address)];

    let before = limit_descriptors(64);
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    driver.accept_start(listener);
    driver.until("accepting ends", |driver| !driver.accept_ends.is_empty());
    let failed = AcceptEnd::Failed(SocketError::TooManyFiles);
    assert_eq!(driver.accept_ends, [(listener, failed)]);
    let token = driver.token(Kind::Server);
    driver.connect(token, &address);
    driver.until("connecting ends", |driver| !driver.connects.is_empty());
    assert_eq!(driver.connects, [(token, Err(SocketError::TooManyFiles))]);
    driver.close(token);
    driver.until_closed(token);

    // One descriptor: one connection, then the end again.
    taken.pop();
    driver.accept_start(listener);
    driver.until("accepting ends again", |driver| driver.accept_ends.len() == 2);
    assert_eq!(driver.accept_ends[1], (listener, failed));
    assert_eq!(driver.accepted.len(), 1);

    taken.clear();
    driver.accept_start(listener);
    driver.until("the other is accepted", |driver| driver.accepted.len() == 2);
    drop(driver);
    limit_descriptors(before);
}

/// Sets the soft limit and gives the former one.
fn limit_descriptors(to: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place to write to, then to read from.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        let before = limit.rlim_cur;
        limit.rlim_cur = to as _;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
        before as _
    }
}
