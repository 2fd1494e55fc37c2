//! The conformance suite on the io_uring back end, in every form that the kernel accepts.

#![cfg(target_os = "linux")]

use std::io::{Read, Write};

use base::Kind;
use event::conformance::kernel::{Family, Kernel};
use event::conformance::{BaseOptions, Driver, Harness};
use event::{Uring, UringOptions, uring_supported};

fn harness(make: fn(BaseOptions) -> Uring, family: Family) -> Kernel<Uring> {
    Kernel { make, counters: Uring::counters, family }
}

fn make(options: BaseOptions, adjust: fn(&mut UringOptions)) -> Uring {
    let tier = uring_supported().unwrap_or_else(|refused| panic!("{refused}"));
    let mut uring = UringOptions {
        client_buffers: options.client_buffers,
        server_buffers: options.server_buffers,
        ..UringOptions::new(tier)
    };
    adjust(&mut uring);
    Uring::new(uring).expect("the kernel has set one up before")
}

fn best(options: BaseOptions) -> Uring {
    make(options, |_| {})
}

fn plain_buffers(options: BaseOptions) -> Uring {
    make(options, |uring| uring.tier.incremental = false)
}

fn no_limits(options: BaseOptions) -> Uring {
    make(options, |uring| uring.tier.recv_limits = false)
}

/// What Linux 6.1 has.
fn oldest(options: BaseOptions) -> Uring {
    make(options, |uring| {
        uring.tier.incremental = false;
        uring.tier.recv_limits = false;
        uring.tier.vectored_send = false;
        uring.tier.no_sqarray = false;
    })
}

/// Queues that are full all the time.
fn tiny_queues(options: BaseOptions) -> Uring {
    make(options, |uring| {
        uring.submissions = 2;
        uring.completions = 4;
    })
}

event::conformance_suite!(inet, harness(best, Family::Inet));
event::conformance_suite!(unix, harness(best, Family::Unix));
event::conformance_suite!(inet_plain_buffers, harness(plain_buffers, Family::Inet));
event::conformance_suite!(inet_no_limits, harness(no_limits, Family::Inet));
event::conformance_suite!(inet_oldest, harness(oldest, Family::Inet));
event::conformance_suite!(unix_oldest, harness(oldest, Family::Unix));
event::conformance_suite!(inet_tiny_queues, harness(tiny_queues, Family::Inet));

/// A peer that reads little at a time makes a send go through the socket's buffer in thousands of
/// parts. None of them may occupy a worker thread of the kernel.
#[test]
fn a_slow_reader_causes_no_worker_thread() {
    let harness = harness(best, Family::Inet);
    let mut driver = Driver::new(harness.base(BaseOptions::default()));
    let (token, mut peer) = driver.pair(&harness, Kind::Client, true);
    let bytes = vec![7; 2 << 20];
    driver.send(token, &bytes, 64 << 10);
    let mut scratch = [0; 1024];
    let mut size = 0;
    while size < bytes.len() {
        match peer.read(&mut scratch) {
            Ok(got) => size += got,
            Err(_) => drop(driver.turn()),
        }
    }
    driver.until("the send ends", |driver| !driver.is_running(token, "send"));
    assert!(driver.base.counters().retries > 200, "{:?}", driver.base.counters());
    // The kernel names them after the thread that they work for.
    let own = std::fs::read_link("/proc/thread-self").expect("Linux has it");
    let id = own.file_name().expect("it ends with the thread's id").to_string_lossy().into_owned();
    for task in std::fs::read_dir("/proc/self/task").expect("Linux has it").flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        assert!(!name.starts_with(&format!("iou-wrk-{id}")), "a worker thread was started");
    }
}

/// Whatever does not fit the completion queue is kept by the kernel and comes later.
#[test]
fn a_completion_queue_that_overflows_loses_nothing() {
    let harness = harness(tiny_queues, Family::Inet);
    let mut driver = Driver::new(harness.base(BaseOptions::default()));
    let mut connections = Vec::new();
    for _ in 0..200 {
        let (token, peer) = driver.pair(&harness, Kind::Client, false);
        driver.recv_start(token, usize::MAX);
        connections.push((token, peer));
    }
    for round in 1..=5 {
        for (_, peer) in &mut connections {
            peer.write_all(b"x").expect("one byte fits");
        }
        driver.until("all are served", |driver| {
            connections.iter().all(|(token, _)| driver.received_size(*token) == round)
        });
    }
    assert!(driver.base.counters().overflows > 0, "{:?}", driver.base.counters());
    assert!(driver.recv_ends.is_empty());
}

/// A tier without anything is what Linux 6.1 has; this kernel's is at least that.
#[test]
fn the_tier_is_told_in_words() {
    let tier = uring_supported().unwrap_or_else(|refused| panic!("{refused}"));
    let words = tier.to_string();
    assert!(words.starts_with("multishot accept and receive, "), "{words}");
    assert_eq!(words.contains("incremental buffers"), tier.incremental, "{words}");
    assert_eq!(words.contains("vectored send"), tier.vectored_send, "{words}");
}
