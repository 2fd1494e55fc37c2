//! Far more requests than a server may owe, and it is dead: it never takes a connection, or takes
//! one and is silent.
//!
//! Invariant: a request is queued or answered at once, and what is queued is answered in the end.

use std::net::{Ipv4Addr, SocketAddr};

use super::hole::Hole;
use super::loader;
use super::site::KEY;
use super::upstream::Upstream;
use crate::support::bystander::Bystander;
use crate::support::keys::keys_of;
use crate::support::process::memory_bytes;
use crate::support::servers::{Kind, free_port};
use crate::support::until;
use crate::support::weir::{Base, Pool, Weir};
use crate::support::wire::Wire;

/// Requests that the server may owe.
const QUEUE_MAX: usize = 1000;
/// Requests of one client, fewer than it may have on their way, and clients: ten thousand in all.
const REQUESTS_COUNT: usize = 500;
const CLIENTS_COUNT: usize = 20;
/// Bytes of each request's value: those that are queued take 4 MB, all would take 40 MB.
const VALUE_SIZE: usize = 4000;
const HELD_MAX: u64 = 16 << 20;

/// Nothing is given up before the test is over.
const KEYS: [&str; 2] = ["timeout: 600000", "connect_timeout_ms: 600000"];

#[test]
fn behind_a_server_that_never_accepts_a_bounded_number_of_requests_waits() {
    each(Hole::deaf);
}

#[test]
fn behind_a_server_that_is_silent_a_bounded_number_of_requests_waits() {
    each(Hole::silent);
}

fn each(dig: fn(SocketAddr) -> Hole) {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        println!("{kind:?}, {base:?}");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let hole = dig(address);
        let good = Upstream::start(kind);
        let pool = Pool::new(kind, &[address, good.address])
            .with(&format!("server_requests_inflight_max: {QUEUE_MAX}"));
        let pool = KEYS.iter().fold(pool, |pool, key| pool.with(key));
        let weir = Weir::start(base, 1, &[pool]);
        let bystander = Bystander::start(kind, weir.address(kind), &keys_of(1)[1..4]);
        overload(kind, &weir, &bystander, hole);
        bystander.finish();
    }
}

fn overload(kind: Kind, weir: &Weir, bystander: &Bystander, hole: Hole) {
    let requests = loader::set_request(kind, KEY, &"v".repeat(VALUE_SIZE)).repeat(REQUESTS_COUNT);
    let before = memory_bytes(weir.pid());
    let mut clients: Vec<Wire> = (0..CLIENTS_COUNT).map(|_| weir.wire(kind)).collect();
    let (queued, refused) = clients.split_at_mut(QUEUE_MAX / REQUESTS_COUNT);
    queued.iter_mut().for_each(|client| client.send(&requests));
    until("the queue is full", || (waiting_count(kind, weir) == QUEUE_MAX).then_some(()));
    for client in refused {
        client.send(&requests);
        each_gets(kind, client, |text| text == "server queue is full");
        bystander.goes_on();
    }
    assert_eq!(waiting_count(kind, weir), QUEUE_MAX);
    let grown = memory_bytes(weir.pid()).saturating_sub(before);
    println!("  {} kB are held", grown >> 10);
    assert!(grown < HELD_MAX, "{grown} bytes are held");
    drop(hole);
    // Refused, or reset: as the system says it.
    queued.iter_mut().for_each(|client| each_gets(kind, client, |text| !text.contains("full")));
    assert_eq!(waiting_count(kind, weir), 0);
}

/// Each request of the client is answered with an error that is right.
fn each_gets(kind: Kind, client: &mut Wire, is_right: impl Fn(&str) -> bool) {
    for i in 0..REQUESTS_COUNT {
        let reply = kind.reply(client);
        let text = loader::error_text(&reply);
        assert!(text.as_deref().is_some_and(&is_right), "reply {i}: {}", reply.escape_ascii());
    }
}

/// Requests that the dead server owes, sent or not.
fn waiting_count(kind: Kind, weir: &Weir) -> usize {
    let server = &weir.stats()[kind.name()]["left"];
    let count = |name: &str| server[name].as_u64().expect("a count") as usize;
    count("in_queue") + count("out_queue")
}
