//! Programs that people use, before two servers of their kind, on both event bases and with one and
//! two workers. The clients check each reply themselves; here is checked that they were content and
//! that both servers took part.

#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;
use std::time::Duration;

use support::process::{Running, program, python_program};
use support::servers::{Kind, Server};
use support::until_within;
use support::weir::{Base, Pool, Weir};

/// How long a client may take for all that it does.
const CLIENT_DEADLINE: Duration = Duration::from_secs(100);

/// Runs `client` before each kind of proxy.
fn before_every_proxy(kind: Kind, client: impl Fn(&Weir)) {
    for (base, workers) in Base::BOTH.into_iter().flat_map(|base| [(base, 1), (base, 2)]) {
        let servers = Server::pair(kind);
        let mut weir = Weir::start(base, workers, &[Pool::of(&servers)]);
        let before = servers.each_ref().map(Server::requests);
        println!("{base:?}, {workers} workers:");
        client(&weir);
        for (server, before) in servers.iter().zip(before) {
            assert!(server.requests() > before + 50, "both servers take part");
        }
        assert_eq!(weir.counter(kind, "forward_error"), 0);
        assert_eq!(weir.counter(kind, "client_err"), 0, "no client was cut off");
        assert!(weir.is_well(kind));
    }
}

/// Runs a client to its end and gives what it wrote.
fn run(name: &str, command: &mut Command) -> String {
    let mut running = Running::start(name, command);
    let what = format!("{name} ends");
    until_within(CLIENT_DEADLINE, &what, || running.has_ended().then_some(()));
    let status = running.end();
    let output = running.output();
    assert!(status.success(), "{name} is not content: {status}");
    output
}

/// The count in the last line of a Python client's output.
fn compared(output: &str) -> u64 {
    let word = output.split_whitespace().find_map(|word| word.parse().ok());
    word.unwrap_or_else(|| panic!("no count in: {output}"))
}

#[test]
fn redis_py_gets_what_it_expects() {
    before_every_proxy(Kind::Redis, |weir| {
        let port = weir.address(Kind::Redis).port().to_string();
        for version in ["2", "3"] {
            let mut command = python_program("redis_client.py");
            let output = run("redis-py", command.args([&port, version]));
            assert!(compared(&output) > 5000, "{output}");
            print!("  {output}");
        }
    });
}

#[test]
fn transactions_waits_and_channels_of_redis_py_lose_nothing() {
    before_every_proxy(Kind::Redis, |weir| {
        let port = weir.address(Kind::Redis).port().to_string();
        for version in ["2", "3"] {
            let mut command = python_program("redis_own_connection.py");
            let output = run("redis-py", command.args([&port, version]));
            assert!(compared(&output) > 20, "{output}");
            print!("  {output}");
        }
    });
}

#[test]
fn pymemcache_gets_what_it_expects() {
    before_every_proxy(Kind::Memcached, |weir| {
        let port = weir.address(Kind::Memcached).port().to_string();
        let output = run("pymemcache", python_program("memcached_client.py").arg(port));
        assert!(compared(&output) > 1000, "{output}");
        print!("  {output}");
    });
}

/// What redis-cli prints for each command.
const CLI: &[(&[&str], &str)] = &[
    (&["ping"], "PONG"),
    (&["set", "apple", "red"], "OK"),
    (&["mset", "1:pear", "green", "2:plum", "blue", "3:fig", "black"], "OK"),
    (&["mget", "3:fig", "apple", "none", "1:pear"], "black\nred\n\ngreen"),
    (&["del", "apple", "1:pear", "none"], "2"),
    (&["rpush", "9:list", "a", "b"], "2"),
    (&["lrange", "9:list", "0", "-1"], "a\nb"),
    (&["incr", "9:list"], "WRONGTYPE Operation against a key holding the wrong kind of value"),
    (&["flushall"], "ERR flushing is not allowed (allow_flush is false)"),
    (&["del", "9:list", "2:plum", "3:fig"], "3"),
];

/// Requests that redis-cli sends in bulk.
const PIPED_COUNT: usize = 3000;

#[test]
fn redis_cli_shows_what_servers_say() {
    before_every_proxy(Kind::Redis, |weir| {
        let port = weir.address(Kind::Redis).port().to_string();
        let cli = || {
            let mut command = Command::new(program("redis-cli"));
            command.args(["-p", &port]);
            command
        };
        for (words, shown) in CLI {
            let output = run("redis-cli", cli().args(*words));
            assert_eq!(output.trim(), *shown, "{words:?}");
        }
        let requests: String =
            (0..PIPED_COUNT).map(|i| format!("SET {}:piped {i}\r\n", i * 7919 % 1000)).collect();
        let file = weir.folder.join("requests");
        std::fs::write(&file, requests).unwrap();
        // Running gives it nothing to read, so a shell does.
        let mut piped = Command::new("sh");
        piped.args(["-c", r#"exec "$0" -p "$1" --pipe < "$2""#]).arg(program("redis-cli"));
        let output = run("redis-cli --pipe", piped.arg(&port).arg(&file));
        assert!(output.contains(&format!("errors: 0, replies: {PIPED_COUNT}")), "{output}");
    });
}

/// Requests of each kind that redis-benchmark sends.
const BENCHMARK_COUNT: u64 = 200_000;

#[test]
fn redis_benchmark_ends_well() {
    before_every_proxy(Kind::Redis, |weir| {
        let port = weir.address(Kind::Redis).port().to_string();
        let mut command = Command::new(program("redis-benchmark"));
        command.args(["-p", &port, "-P", "16", "-c", "50", "-r", "100000", "-t", "get,set,mset"]);
        command.args(["-n", &BENCHMARK_COUNT.to_string(), "--csv"]);
        let output = run("redis-benchmark", &mut command);
        let lower = output.to_lowercase();
        assert!(!lower.contains("error") && !lower.contains("warning"), "{output}");
        for test in ["\"SET\"", "\"GET\"", "\"MSET (10 keys)\""] {
            assert!(output.contains(test), "{output}");
        }
        print!("{output}");
        // What it asks about the server comes on top.
        let requests = weir.counter(Kind::Redis, "client_requests");
        assert!((3 * BENCHMARK_COUNT..3 * BENCHMARK_COUNT + 10_000).contains(&requests));
        assert_eq!(weir.counter(Kind::Redis, "client_faults"), 0);
    });
}
