//! What the proxy holds in memory: little for a client that is idle, and after a burst no more than
//! before.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use support::process::{allow_open_files, memory_bytes, resident_bytes, resident_bytes_max};
use support::servers::{Kind, Server};
use support::until_within;
use support::weir::{Base, Pool, Weir};
use support::wire::Wire;

/// Connections that are opened and left idle.
const IDLE_COUNT: usize = 10_000;
/// What one of them may cost, in bytes.
const IDLE_COST_MAX: u64 = 1024;

/// Opens so many connections; each has been served once when this returns.
fn open(weir: &Weir, count: usize) -> Vec<Wire> {
    let mut clients: Vec<Wire> = (0..count).map(|_| weir.wire(Kind::Redis)).collect();
    for client in &mut clients {
        assert_eq!(client.ask(&["SET", "k0", "v"]), b"+OK\r\n");
    }
    clients
}

#[test]
fn an_idle_client_costs_less_than_a_kibibyte() {
    // Their sockets here, and in the proxy, which inherits the limit.
    allow_open_files(IDLE_COUNT as u64 + 1000);
    for base in Base::BOTH {
        let servers = Server::pair(Kind::Redis);
        let weir = Weir::start(base, 1, &[Pool::of(&servers)]);
        // What is there once, whoever connects, is there now.
        let first = open(&weir, 100);
        let before = memory_bytes(weir.pid());
        let idle = open(&weir, IDLE_COUNT);
        let cost = memory_bytes(weir.pid()).saturating_sub(before) / IDLE_COUNT as u64;
        println!("{base:?}: {cost} bytes a client, {} kB before", before >> 10);
        assert_eq!(weir.counter(Kind::Redis, "client_connections"), 100 + IDLE_COUNT as u64);
        assert!(cost < IDLE_COST_MAX, "{cost} bytes a client on {base:?}");
        first.into_iter().chain(idle).for_each(Wire::reset);
        weir.until_counter(Kind::Redis, "client_connections", |count| count == 0);
    }
}

/// Requests of the burst, all sent at once.
const BURST_COUNT: usize = 5000;
/// Replies that wait because the client does not read.
const UNREAD_COUNT: usize = 400;
/// Bytes of each of them.
const UNREAD_SIZE: usize = 100_000;
/// The proxy gives memory back when it has been quiet for a while.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(15);

/// A burst of small replies that are read, and of large ones that are not.
fn burst(weir: &Weir, kind: Kind, reads_in_the_end: bool) {
    let mut reading = weir.wire(kind);
    let requests = (0..BURST_COUNT).flat_map(|i| kind.get_request(["k0", "k10"][i % 2]));
    reading.send(&requests.collect::<Vec<u8>>());
    let mut lazy = weir.wire(kind);
    let requests = (0..UNREAD_COUNT).flat_map(|i| kind.get_request(["k1", "k11"][i % 2]));
    lazy.send(&requests.collect::<Vec<u8>>());
    for i in 0..BURST_COUNT {
        let key = ["k0", "k10"][i % 2];
        assert_eq!(kind.reply(&mut reading), kind.found(key, "small"));
    }
    // The kernel takes a few megabytes of it, the proxy keeps the rest.
    let held = |weir: &Weir| weir.stats()["buffered_bytes"].as_u64().expect("a count");
    until_within(GIVEN_BACK_WITHIN, "the unread replies are held", || {
        (held(weir) > 16 << 20).then_some(())
    });
    if reads_in_the_end {
        let value = "v".repeat(UNREAD_SIZE);
        for i in 0..UNREAD_COUNT {
            let key = ["k1", "k11"][i % 2];
            assert!(kind.reply(&mut lazy) == kind.found(key, &value), "reply {i} is wrong");
        }
    }
}

/// Bytes that pass through the proxy, one value at a time, before memory is looked at: the buffers
/// that an event base receives into are there from the start, but untouched.
const WARM_UP_SIZE: usize = 20_000_000;

fn warm_up(kind: Kind, wire: &mut Wire) {
    let value = "v".repeat(UNREAD_SIZE);
    for key in ["k0", "k10"] {
        assert_eq!(kind.set(wire, key, "small"), kind.stored());
    }
    for i in 0..WARM_UP_SIZE / UNREAD_SIZE {
        let key = ["k1", "k11"][i % 2];
        assert_eq!(kind.set(wire, key, &value), kind.stored());
        assert!(kind.get(wire, key) == kind.found(key, &value));
    }
}

/// Several bursts, so that a little that stays each time would show.
fn memory_is_given_back(kind: Kind) {
    for base in Base::BOTH {
        let servers = Server::pair(kind);
        let weir = Weir::start(base, 1, &[Pool::of(&servers)]);
        warm_up(kind, &mut weir.wire(kind));
        let before = resident_bytes(weir.pid());
        for reads_in_the_end in [true, false, true] {
            burst(&weir, kind, reads_in_the_end);
            let what = format!("memory is again within a fifth of {before} bytes");
            let after = until_within(GIVEN_BACK_WITHIN, &what, || {
                Some(resident_bytes(weir.pid())).filter(|now| *now <= before + before / 5)
            });
            println!("{kind:?}, {base:?}: {} kB before, {} kB after", before >> 10, after >> 10);
        }
        let most = resident_bytes_max(weir.pid());
        assert!(most > before + (16 << 20), "it was a burst: {most}");
    }
}

#[test]
fn memory_is_given_back_after_bursts_of_redis() {
    memory_is_given_back(Kind::Redis);
}

#[test]
fn memory_is_given_back_after_bursts_of_memcached() {
    memory_is_given_back(Kind::Memcached);
}
