//! The workers as the system sees them: how many, on which CPUs, how evenly they share the clients,
//! and what they use when the kernel refuses io_uring.

#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use rustix::process::Signal;

use support::process::{
    Running, TempDir, allow_open_files, field_of, program, python_program, status_field, threads,
    weir, weir_path,
};
use support::servers::{Kind, Server};
use support::weir::{Base, Pool, Weir};
use support::wire::{Wire, request};

/// The list of CPUs in which each worker's thread is allowed to run, by the worker's number.
fn workers_cpus(weir: &Weir) -> Vec<String> {
    let mut found: Vec<(u32, String)> = threads(weir.pid())
        .into_iter()
        .filter_map(|(thread, name)| {
            let number = name.strip_prefix("weir-worker-")?.parse().ok()?;
            let status = format!("/proc/{}/task/{thread}/status", weir.pid());
            Some((number, field_of(status.as_ref(), "Cpus_allowed_list")))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, cpus)| cpus).collect()
}

/// CPUs that this process may use.
fn own_cpus() -> Vec<usize> {
    let list = status_field(std::process::id(), "Cpus_allowed_list");
    let number = |text: &str| text.parse::<usize>().expect("a list of CPUs");
    list.split(',')
        .flat_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            number(first)..=number(last)
        })
        .collect()
}

#[test]
fn each_worker_is_pinned_to_one_cpu() {
    let servers = Server::pair(Kind::Redis);
    let own = own_cpus();
    let (first, last) = (own[0].to_string(), own[own.len() - 1].to_string());
    let available = std::thread::available_parallelism().expect("it is known").get();
    let turns = |count: usize| -> Vec<String> {
        (0..count).map(|worker| own[worker % own.len()].to_string()).collect()
    };
    let both = format!("{first},{last}");
    let plans: [(&[&str], Vec<String>); 6] = [
        (&[], turns(available.min(own.len()))),
        (&["--workers", "1"], turns(1)),
        (&["--workers", "2"], turns(2)),
        (&["--workers", "5"], turns(5)),
        (&["--cpus", &last], vec![last.clone()]),
        (&["--cpus", &both, "--workers", "3"], vec![first.clone(), last.clone(), first.clone()]),
    ];
    for (arguments, wanted) in plans {
        for base in Base::BOTH {
            let weir = Weir::start_with(&[Pool::of(&servers)], |command| {
                command.args(["--event-base", base.name()]).args(arguments);
            });
            assert_eq!(workers_cpus(&weir), wanted, "{arguments:?} on {base:?}");
            assert_eq!(weir.wire(Kind::Redis).ask(&["SET", "k0", "v"]), b"+OK\r\n");
        }
    }
}

#[test]
fn workers_that_cannot_be_are_refused() {
    let servers = Server::pair(Kind::Redis);
    let folder = support::process::TempDir::new();
    let listen = folder.join("socket");
    let text = Pool::of(&servers).text(listen.to_str().unwrap());
    std::fs::write(folder.join("weir.yml"), text).unwrap();
    for arguments in [["--workers", "0"], ["--workers", "2000"], ["--cpus", "4000"]] {
        let mut command = weir();
        command.arg("-c").arg(folder.join("weir.yml")).arg("-a").arg(folder.join("stats"));
        let output = command.args(arguments).output().expect("it can be started");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    }
}

/// Clients of each worker.
fn shares(weir: &Weir) -> Vec<u64> {
    let stats = weir.stats();
    let workers = stats["weir_workers"].as_array().unwrap_or_else(|| panic!("no workers: {stats}"));
    workers.iter().map(|worker| worker["clients"].as_u64().expect("a count")).collect()
}

#[test]
fn no_worker_has_more_than_one_client_above_the_mean() {
    let servers = Server::pair(Kind::Redis);
    for (base, workers) in Base::BOTH.into_iter().flat_map(|base| [(base, 2), (base, 3)]) {
        for count in [4, 8, 16] {
            let weir = Weir::start(base, workers, &[Pool::of(&servers)]);
            let mut clients: Vec<Wire> = (0..count).map(|_| weir.wire(Kind::Redis)).collect();
            for client in &mut clients {
                assert_eq!(client.ask(&["SET", "k0", "v"]), b"+OK\r\n");
            }
            let shares = shares(&weir);
            assert_eq!(shares.len(), workers);
            assert_eq!(shares.iter().sum::<u64>(), count);
            let most = *shares.iter().max().unwrap();
            assert!(most <= count / workers as u64 + 1, "{shares:?} on {base:?}");
        }
    }
}

/// Clients that a pool may have. Odd: with two workers neither has a half of its own.
const CLIENTS_MAX: usize = 7;

/// A client that is let in gets its reply; one that is not finds its connection closed.
fn is_let_in(wire: &mut Wire) -> bool {
    let sent = wire.try_send(&request(&["PING"]));
    let (reply, _) = wire.up_to(b"+PONG\r\n");
    assert!(reply.is_empty() || sent.is_ok() && reply == b"+PONG\r\n");
    !reply.is_empty()
}

/// Whichever worker accepts, and however the clients are spread: no more than the limit, and no
/// fewer. Another pool is not concerned.
#[test]
fn the_limit_of_a_pools_clients_holds_for_all_workers_together() {
    for base in Base::BOTH {
        let servers = Server::pair(Kind::Redis);
        let others = Server::pair(Kind::Memcached);
        let limited = Pool::of(&servers).with(&format!("client_connections: {CLIENTS_MAX}"));
        let weir = Weir::start(base, 2, &[limited, Pool::of(&others)]);
        let let_in = |count: usize| -> Vec<Wire> {
            let mut clients: Vec<Wire> = (0..count).map(|_| weir.wire(Kind::Redis)).collect();
            clients.retain_mut(is_let_in);
            clients
        };
        let mut clients = let_in(4 * CLIENTS_MAX);
        assert_eq!(clients.len(), CLIENTS_MAX, "{base:?}");
        assert_eq!(weir.counter(Kind::Redis, "client_connections"), CLIENTS_MAX as u64);
        let refused = weir.counter(Kind::Redis, "client_refused");
        assert_eq!(refused, 3 * CLIENTS_MAX as u64);
        let mut unlimited: Vec<Wire> =
            (0..4 * CLIENTS_MAX).map(|_| weir.wire(Kind::Memcached)).collect();
        for client in &mut unlimited {
            assert_eq!(Kind::Memcached.set(client, "k0", "v"), Kind::Memcached.stored());
        }
        // As many as go may come, again and again, whoever had them.
        for leaving in [1, 3, CLIENTS_MAX] {
            let left = clients.split_off(CLIENTS_MAX - leaving);
            left.into_iter().for_each(Wire::reset);
            let stay = (CLIENTS_MAX - leaving) as u64;
            weir.until_counter(Kind::Redis, "client_connections", |count| count == stay);
            clients.extend(let_in(2 * CLIENTS_MAX));
            assert_eq!(clients.len(), CLIENTS_MAX, "{base:?} after {leaving} had left");
            assert_eq!(weir.counter(Kind::Redis, "client_connections"), CLIENTS_MAX as u64);
        }
        assert!(shares(&weir).iter().all(|share| *share > 0), "both workers have clients");
        assert!(clients.iter_mut().all(is_let_in), "those that were let in are served");
    }
}

const MANY: usize = 5000;

#[test]
fn five_thousand_clients_are_served_at_once() {
    // Their sockets here, and in the proxy, which inherits the limit.
    allow_open_files(2 * MANY as u64);
    for base in Base::BOTH {
        let servers = Server::pair(Kind::Redis);
        let weir = Weir::start(base, 2, &[Pool::of(&servers)]);
        let mut clients: Vec<Wire> = (0..MANY).map(|_| weir.wire(Kind::Redis)).collect();
        for (i, client) in clients.iter_mut().enumerate() {
            let key = format!("{i}:many");
            assert_eq!(client.ask(&["SET", &key, &key]), b"+OK\r\n");
        }
        assert_eq!(weir.counter(Kind::Redis, "client_connections"), MANY as u64);
        assert_eq!(shares(&weir), [MANY as u64 / 2, MANY as u64 / 2]);
        for (i, client) in clients.iter_mut().enumerate() {
            let key = format!("{i}:many");
            assert_eq!(client.ask(&["GET", &key]), Kind::Redis.found(&key, &key));
        }
        clients.into_iter().for_each(Wire::reset);
        weir.until_counter(Kind::Redis, "client_connections", |count| count == 0);
        // What they have stored is on both servers.
        let counts = servers.each_ref().map(Server::keys_count);
        assert_eq!(counts.iter().sum::<u64>(), MANY as u64);
        assert!(counts.iter().all(|count| *count > MANY as u64 / 10), "{counts:?}");
    }
}

/// Where the limit of open files is reached, clients wait for their turn and nobody is harmed.
#[test]
fn out_of_descriptors_it_serves_those_it_has_and_later_the_others() {
    for base in Base::BOTH {
        let servers = Server::pair(Kind::Redis);
        let weir = Weir::start_as(
            || {
                let mut command = Command::new("sh");
                command.args(["-c", "ulimit -n 100; exec \"$0\" \"$@\""]).arg(weir_path());
                command
            },
            &[Pool::of(&servers)],
            |command| {
                command.args(["--event-base", base.name(), "--workers", "1"]);
            },
        );
        let mut first = weir.wire(Kind::Redis);
        assert_eq!(first.ask(&["MSET", "k0", "v", "k10", "v"]), b"+OK\r\n");
        let others: Vec<Wire> = (0..150).map(|_| weir.wire(Kind::Redis)).collect();
        assert!(weir.running.writes("accepting pauses"), "it says so");
        assert_eq!(first.ask(&["MGET", "k0", "k10"]), b"*2\r\n$1\r\nv\r\n$1\r\nv\r\n");
        let mut last = weir.wire(Kind::Redis);
        drop(others);
        assert_eq!(last.ask(&["GET", "k0"]), b"$1\r\nv\r\n");
    }
}

#[test]
fn where_io_uring_is_refused_it_says_why_and_works_on_polling() {
    let denied = || {
        let mut command = python_program("deny_calls.py");
        command.arg("uring").arg(weir_path());
        command
    };
    let output = denied().arg("-V").output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("async event backend: epoll"), "{text}");
    let servers = Server::pair(Kind::Redis);
    for arguments in [&[][..], &["--event-base", "uring"], &["--event-base", "auto"]] {
        let mut weir = Weir::start_as(denied, &[Pool::of(&servers)], |command| {
            command.args(arguments);
        });
        let log = weir.running.output();
        let why = "event base: polling, since io_uring is refused: io_uring_setup failed: \
                   forbidden by a filter of system calls";
        assert!(log.contains(why), "{log}");
        assert_eq!(weir.wire(Kind::Redis).ask(&["MSET", "k0", "v", "k10", "v"]), b"+OK\r\n");
        assert!(weir.is_well(Kind::Redis));
    }
}

/// Clients that were handed to the other worker are served there.
#[test]
fn both_workers_serve_requests() {
    let servers = Server::pair(Kind::Redis);
    for base in Base::BOTH {
        let weir = Weir::start(base, 2, &[Pool::of(&servers)]);
        let mut command = Command::new(program("redis-benchmark"));
        let port = weir.address(Kind::Redis).port().to_string();
        command.args(["-p", &port, "-c", "8", "-n", "20000", "-t", "get", "-q"]);
        let output = command.output().expect("it can be started");
        assert!(output.status.success(), "{output:?}");
        for (thread, name) in threads(weir.pid()) {
            if name.starts_with("weir-worker-") {
                let status = format!("/proc/{}/task/{thread}/status", weir.pid());
                let waits = field_of(status.as_ref(), "voluntary_ctxt_switches");
                let waits: u64 = waits.parse().expect("a count");
                assert!(waits > 10, "{name} has hardly run: {waits}");
            }
        }
    }
}

/// Half of the clients would be served by a process that looks well.
#[test]
fn a_worker_that_fails_takes_the_process_with_it() {
    let servers = Server::pair(Kind::Redis);
    let folder = TempDir::new();
    let socket = folder.join("socket");
    let text = Pool::of(&servers).text(socket.to_str().expect("names here are text"));
    std::fs::write(folder.join("weir.yml"), text).unwrap();
    let mut command = python_program("deny_calls.py");
    command.arg("waiting").arg(weir_path()).arg("-c").arg(folder.join("weir.yml"));
    command.arg("-a").arg(folder.join("stats")).args(["--event-base", "polling"]);
    let mut running = Running::start("weir", command.args(["--workers", "2"]));
    assert_eq!(running.end().signal(), Some(Signal::ABORT.as_raw()));
    assert!(running.output().contains("the event base failed"), "{}", running.output());
}
