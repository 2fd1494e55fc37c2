//! System calls of a busy worker, as strace counts them. On io_uring there is one kind, and far
//! fewer of them than requests. Not how long they take.

#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;

use rustix::process::Signal;
use support::process::{Running, program, threads};
use support::servers::{Kind, Server};
use support::until_within;
use support::weir::{Base, Pool, Weir};

/// Requests that are watched.
const WATCHED_COUNT: u64 = 200_000;
/// More than there is time for, so that the load does not end before the count does.
const LOAD_COUNT: &str = "100000000";

/// System calls of a thread by their names, in strace's table.
fn counts(table: &str) -> Vec<(String, u64)> {
    let rows = table.lines().filter_map(|row| {
        let words: Vec<&str> = row.split_whitespace().collect();
        // Share, seconds, microseconds a call, calls, perhaps errors, name.
        let calls = words.get(3)?.parse().ok()?;
        let name = *words.last()?;
        (name != "total").then(|| (name.to_owned(), calls))
    });
    rows.collect()
}

#[test]
fn a_worker_on_io_uring_calls_the_system_for_batches_and_for_nothing_else() {
    let servers = Server::pair(Kind::Redis);
    let weir = Weir::start(Base::Uring, 1, &[Pool::of(&servers)]);
    let log = weir.running.output();
    assert!(log.contains("event base: io_uring"), "io_uring is needed for this test:\n{log}");
    let (worker, _) = threads(weir.pid())
        .into_iter()
        .find(|(_, name)| name == "weir-worker-0")
        .expect("there is a worker");
    // The servers are asked, since asking the proxy would make its worker answer.
    let requests = || servers.iter().map(Server::requests).sum::<u64>();

    let mut load = Command::new(program("redis-benchmark"));
    let port = weir.address(Kind::Redis).port().to_string();
    load.args(["-p", &port, "-P", "16", "-c", "50", "-r", "100000", "-t", "get", "-q"]);
    let mut load = Running::start("redis-benchmark", load.args(["-n", LOAD_COUNT]));
    let what = "the load has begun";
    until_within(3 * support::DEADLINE, what, || (requests() > 50_000).then_some(()));

    let mut strace = Command::new(program("strace"));
    let table = weir.folder.join("table");
    strace.args(["-c", "-p", &worker.to_string(), "-o"]).arg(&table);
    let mut strace = Running::start("strace", &mut strace);
    assert!(
        strace.writes("attached"),
        "strace may not watch other processes here (ptrace is forbidden):\n{}",
        strace.output()
    );
    let before = requests();
    until_within(3 * support::DEADLINE, "the load goes on", || {
        assert!(!load.has_ended(), "the load ended early");
        (requests() >= before + WATCHED_COUNT).then_some(())
    });
    let watched = requests() - before;
    strace.signal(Signal::INT);
    strace.end();

    let counts = counts(&std::fs::read_to_string(&table).expect("strace writes its table"));
    let of = |name: &str| counts.iter().filter(|(of, _)| of == name).map(|(_, n)| n).sum::<u64>();
    let (all, enters) = (counts.iter().map(|(_, calls)| calls).sum::<u64>(), of("io_uring_enter"));
    println!("{watched} requests, {counts:?}");
    assert!(enters > 100, "it was watched: {counts:?}");
    // Memory may be asked for now and then.
    assert!(all - enters <= (enters / 1000).max(10), "for {enters} enters: {counts:?}");
    assert!(all < watched / 10, "{all} calls for {watched} requests");
}
