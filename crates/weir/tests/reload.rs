//! A new configuration at USR1, under load: no client is closed, no request gets an error, and no
//! reply is wrong, whatever changes.
//!
//! A key that moves to another server between its write and its read may be missing there, or have
//! a value of the same writer's from before; the values tell whose they are. Invariant: a batch
//! that no reload touched reads exactly what it wrote.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;

use rustix::process::Signal;

use support::process::{Running, TempDir, weir};
use support::servers::{ATTEMPTS, Kind, Server, free_port};
use support::until;
use support::weir::{Base, stats_at};
use support::wire::{Ended, Wire, bulk, request, until_listening};

const WORKERS_COUNT: usize = 2;
const CLIENTS_COUNT: usize = 4;
/// Keys of each client; a batch writes all of them, then reads all of them.
const KEYS_COUNT: usize = 25;
/// Rounds of the changes of [`CHANGES`].
const ROUNDS_COUNT: usize = 5;
/// Batches that each client must be served between two reloads.
const BATCHES_BETWEEN: u64 = 3;

/// The weights of the three servers, 0 for one that is not there, and what else is new. Every
/// reload starts from the one before it; the last is followed by the first.
const CHANGES: [([u32; 3], Else); 5] = [
    ([1, 1, 1], Else::Nothing),
    ([5, 1, 2], Else::Nothing),
    ([5, 1, 0], Else::SecondPool),
    ([5, 1, 0], Else::Mistake),
    ([1, 1, 0], Else::Nothing),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Else {
    Nothing,
    /// There is another pool.
    SecondPool,
    /// The file can't be read; everything stays as it was.
    Mistake,
}

/// What all clients and the one who reloads know of each other.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Odd while a reload is under way.
    epoch: AtomicU64,
    batches: [AtomicU64; CLIENTS_COUNT],
}

/// What a client has seen.
#[derive(Debug, Default)]
struct Seen {
    strict_count: u64,
    missing_count: u64,
    old_count: u64,
}

/// A client that writes and reads its own keys, until it is told to stop.
///
/// # Panics
/// At an error, a wrong value, or the end of the connection.
fn client(shared: &Shared, number: usize, mut wire: Wire) -> Seen {
    let mut seen = Seen::default();
    let value_of = |key: usize, batch: u64| format!("writer {number} key {key} batch {batch:08}");
    while !shared.stop.load(SeqCst) {
        let batch = shared.batches[number].load(SeqCst);
        let epoch = shared.epoch.load(SeqCst);
        let keys = || (0..KEYS_COUNT).map(|key| (key, format!("{number}-{key}")));
        let writes = keys().map(|(key, name)| request(&["SET", &name, &value_of(key, batch)]));
        let reads = keys().map(|(_, name)| request(&["GET", &name]));
        wire.send(&writes.flatten().collect::<Vec<u8>>());
        for _ in 0..KEYS_COUNT {
            assert_eq!(wire.redis_reply(), b"+OK\r\n", "client {number}, batch {batch}");
        }
        wire.send(&reads.flatten().collect::<Vec<u8>>());
        let replies: Vec<Vec<u8>> = (0..KEYS_COUNT).map(|_| wire.redis_reply()).collect();
        let strict = epoch.is_multiple_of(2) && shared.epoch.load(SeqCst) == epoch;
        seen.strict_count += u64::from(strict);
        for (key, reply) in replies.into_iter().enumerate() {
            if reply == bulk(value_of(key, batch).as_bytes()) {
                continue;
            }
            let shown = reply.escape_ascii().to_string();
            assert!(!strict, "client {number}, key {key}, batch {batch}, no reload: {shown}");
            if reply == b"$-1\r\n" {
                seen.missing_count += 1;
                continue;
            }
            let old = (0..batch).rev().any(|old| reply == bulk(value_of(key, old).as_bytes()));
            assert!(old, "client {number}, key {key}, batch {batch}: {shown}");
            seen.old_count += 1;
        }
        shared.batches[number].fetch_add(1, SeqCst);
    }
    seen
}

/// A proxy whose configuration changes.
struct Reloaded {
    running: Running,
    folder: TempDir,
    servers: [SocketAddr; 3],
    ports: [u16; 2],
    reloads_count: usize,
    mistakes_count: usize,
}

impl Reloaded {
    fn start(base: Base, servers: [SocketAddr; 3]) -> Reloaded {
        for _ in 0..ATTEMPTS {
            let (folder, ports) = (TempDir::new(), [free_port(), free_port()]);
            std::fs::write(folder.join("weir.yml"), text(&servers, ports, CHANGES[4])).unwrap();
            let mut command = weir();
            command.args(["--event-base", base.name(), "--workers", &WORKERS_COUNT.to_string()]);
            command.arg("-c").arg(folder.join("weir.yml")).arg("-a").arg(folder.join("stats"));
            let running = Running::start("weir", &mut command);
            if running.writes("weir runs") {
                let (reloads_count, mistakes_count) = (0, 0);
                return Reloaded { running, folder, servers, ports, reloads_count, mistakes_count };
            }
            assert!(running.output().contains("can't listen on"), "{}", running.output());
        }
        panic!("no ports in {ATTEMPTS} attempts");
    }

    /// Where a pool listens.
    fn address(&self, pool: usize) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[pool]).into()
    }

    /// Changes the file, and waits until every worker goes by it.
    fn reload(&mut self, change: ([u32; 3], Else)) {
        let text = text(&self.servers, self.ports, change);
        // A file that is written over may have to reach the disk first; a new one need not.
        std::fs::remove_file(self.folder.join("weir.yml")).unwrap();
        std::fs::write(self.folder.join("weir.yml"), text).unwrap();
        self.running.signal(Signal::USR1);
        let (said, count) = if change.1 == Else::Mistake {
            self.mistakes_count += 1;
            ("the configuration was not reloaded; everything stays as it was", self.mistakes_count)
        } else {
            self.reloads_count += 1;
            ("configuration reloaded", self.reloads_count)
        };
        until("it says what became of the reload", || {
            (self.running.output().matches(said).count() == count).then_some(())
        });
        // Each worker answers after it has done what it was told before.
        stats_at(&self.folder.join("stats"));
    }
}

/// A configuration.
fn text(servers: &[SocketAddr; 3], ports: [u16; 2], (weights, more): ([u32; 3], Else)) -> String {
    let [first, second] = ports;
    let mut text = format!("main:\n  listen: 127.0.0.1:{first}\n  redis: true\n  servers:\n");
    for ((server, weight), name) in servers.iter().zip(weights).zip(["one", "two", "three"]) {
        if weight > 0 {
            text.push_str(&format!("    - {server}:{weight} {name}\n"));
        }
    }
    match more {
        Else::Nothing => {}
        Else::SecondPool => text.push_str(&format!(
            "second:\n  listen: 127.0.0.1:{second}\n  redis: true\n  servers:\n    - {}:1\n",
            servers[2]
        )),
        Else::Mistake => text.push_str("  distribution: nonsense\n"),
    }
    text
}

/// Waits until every client has been served a few more batches.
fn go_on(shared: &Shared, clients: &[JoinHandle<Seen>]) {
    let before: Vec<u64> = shared.batches.iter().map(|batches| batches.load(SeqCst)).collect();
    until("every client is served", || {
        assert!(clients.iter().all(|client| !client.is_finished()), "a client saw an error");
        let now = shared.batches.iter().map(|batches| batches.load(SeqCst));
        now.zip(&before).all(|(now, before)| now >= before + BATCHES_BETWEEN).then_some(())
    });
}

/// What must hold after a change, apart from what clients see.
fn check_change(proxy: &Reloaded, change: ([u32; 3], Else), second: &mut Option<Wire>) {
    let stats = stats_at(&proxy.folder.join("stats"));
    let names = ["one", "two", "three"];
    for (name, weight) in names.into_iter().zip(change.0) {
        assert_eq!(stats["main"][name].is_object(), weight > 0, "{name}: {stats}");
    }
    match change.1 {
        Else::SecondPool => {
            let mut wire = Wire::connect(proxy.address(1));
            assert_eq!(wire.ask(&["SET", "of-second", "v"]), b"+OK\r\n");
            *second = Some(wire);
        }
        Else::Mistake => {
            let line = "weir.yml:7:";
            let output = proxy.running.output();
            assert!(output.contains(line) && output.contains("nonsense"), "why? {output}");
            let wire = second.as_mut().expect("the pool is still there");
            assert_eq!(wire.ask(&["GET", "of-second"]), bulk(b"v"));
            drop(until_listening(proxy.address(1)));
        }
        Else::Nothing => {
            if let Some(mut wire) = second.take() {
                assert_eq!(wire.rest(), (Vec::new(), Ended::Closed), "its pool is gone");
            }
            assert!(stats["second"].is_null(), "{stats}");
            until("the second pool's port is closed", || {
                TcpStream::connect(proxy.address(1)).is_err().then_some(())
            });
        }
    }
}

fn stays_whole(base: Base) {
    let servers: [Server; 3] = std::array::from_fn(|_| Server::start(Kind::Redis));
    let mut proxy = Reloaded::start(base, std::array::from_fn(|i| servers[i].address));
    let shared = Arc::new(Shared::default());
    let clients: Vec<JoinHandle<Seen>> = (0..CLIENTS_COUNT)
        .map(|number| {
            let (shared, wire) = (Arc::clone(&shared), Wire::connect(proxy.address(0)));
            std::thread::spawn(move || client(&shared, number, wire))
        })
        .collect();
    let mut second = None;
    for change in CHANGES.into_iter().cycle().take(CHANGES.len() * ROUNDS_COUNT) {
        go_on(&shared, &clients);
        shared.epoch.fetch_add(1, SeqCst);
        proxy.reload(change);
        shared.epoch.fetch_add(1, SeqCst);
        check_change(&proxy, change, &mut second);
    }
    go_on(&shared, &clients);
    let stats = stats_at(&proxy.folder.join("stats"));
    shared.stop.store(true, SeqCst);
    let seen: Vec<Seen> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    for name in ["client_eof", "client_err", "client_refused", "client_faults", "forward_error"] {
        assert_eq!(stats["main"][name], 0, "{name}: {stats}");
    }
    assert_eq!(stats["main"]["client_connections"], CLIENTS_COUNT);
    let batches: u64 = shared.batches.iter().map(|batches| batches.load(SeqCst)).sum();
    let sum = |of: fn(&Seen) -> u64| seen.iter().map(of).sum::<u64>();
    println!(
        "{base:?}: {} reloads and {} mistakes; {batches} batches of {} requests, {} of them \
         between reloads; {} keys missing and {} old after a move",
        proxy.reloads_count,
        proxy.mistakes_count,
        2 * KEYS_COUNT,
        sum(|seen| seen.strict_count),
        sum(|seen| seen.missing_count),
        sum(|seen| seen.old_count),
    );
    assert!(sum(|seen| seen.strict_count) > 0);
    assert!(servers.iter().all(|server| server.keys_count() > 0), "every server took part");
}

#[test]
fn reloads_under_load_cost_no_request_and_no_connection_on_io_uring() {
    stays_whole(Base::Uring);
}

#[test]
fn reloads_under_load_cost_no_request_and_no_connection_on_polling() {
    stays_whole(Base::Polling);
}

/// A file that is not there is a mistake like any other.
#[test]
fn a_file_that_is_gone_changes_nothing() {
    let server = Server::start(Kind::Redis);
    let proxy = Reloaded::start(Base::Uring, [server.address; 3]);
    let mut wire = Wire::connect(proxy.address(0));
    assert_eq!(wire.ask(&["SET", "k0", "v"]), b"+OK\r\n");
    let file: &Path = &proxy.folder.join("weir.yml");
    std::fs::remove_file(file).unwrap();
    proxy.running.signal(Signal::USR1);
    assert!(proxy.running.writes("everything stays as it was"));
    assert_eq!(wire.ask(&["GET", "k0"]), bulk(b"v"));
    assert_eq!(Wire::connect(proxy.address(0)).ask(&["GET", "k0"]), bulk(b"v"));
}
