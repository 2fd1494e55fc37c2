//! Replies that wait for others to join them: which, for how long, and what ends it.

#![allow(clippy::unwrap_used)]

mod rig;

use std::time::Duration;

use base::Kind;
use protocol::Protocol;
use proxy::options::WorkerLimits;
use rig::{Rig, keys, pool};

const HOLD_MAX: Duration = Duration::from_micros(100);

/// A pool of two servers that holds replies.
fn rig() -> Rig {
    let limits = WorkerLimits { hold_max: HOLD_MAX, ..WorkerLimits::default() };
    Rig::with_limits(pool(Protocol::Memcache, 2), limits)
}

/// Whether a turn is due as soon as a hold wants it; other deadlines are far away.
fn is_anything_held(rig: &Rig) -> bool {
    rig.proxy.poll_deadline().is_some_and(|at| at <= rig.now + HOLD_MAX)
}

/// Asks for a key of each server, and then as often for the first server's as is wanted.
fn request(more: usize) -> Vec<u8> {
    let keys = keys(Protocol::Memcache, 2);
    let first = format!("get {}\r\n", keys[0]);
    format!("{first}get {}\r\n{}", keys[1], first.repeat(more)).into_bytes()
}

#[test]
fn the_first_replies_wait_for_the_last_and_leave_with_it() {
    let mut rig = rig();
    let client = rig.client();
    rig.feed(client, &request(0));
    rig.feed(rig.server(0), b"END\r\n");
    assert_eq!(rig.take(client), "");
    assert_eq!(rig.proxy.poll_deadline(), Some(rig.now + HOLD_MAX));
    rig.feed(rig.server(1), b"END\r\n");
    assert_eq!(rig.take(client), "END\r\nEND\r\n");
    assert_eq!(rig.sends[&Kind::Client], 1);
    assert!(!is_anything_held(&rig));
}

#[test]
fn a_held_reply_leaves_in_time_though_the_rest_does_not_come() {
    let mut rig = rig();
    let client = rig.client();
    rig.feed(client, &request(2));
    rig.feed(rig.server(0), b"END\r\n");
    rig.advance(HOLD_MAX - Duration::from_nanos(1));
    assert_eq!(rig.take(client), "");
    rig.advance(Duration::from_nanos(1));
    assert_eq!(rig.take(client), "END\r\n");
    assert!(!is_anything_held(&rig));
    rig.feed(rig.server(1), b"END\r\n");
    assert_eq!(rig.take(client), "");
    assert_eq!(rig.proxy.poll_deadline(), Some(rig.now + HOLD_MAX), "time begins anew");
    rig.feed(rig.server(0), &b"END\r\n".repeat(2));
    assert_eq!(rig.take(client), "END\r\n".repeat(3));
}

/// Whoever has one request on its way is answered at once, whatever becomes of others.
#[test]
fn a_client_that_waits_for_nothing_else_is_not_held() {
    let mut rig = rig();
    let (many, one) = (rig.client(), rig.client());
    rig.feed(many, &request(0));
    rig.feed(one, format!("get {}\r\n", keys(Protocol::Memcache, 2)[0]).as_bytes());
    rig.feed(rig.server(0), &b"END\r\n".repeat(2));
    assert_eq!(rig.take(many), "");
    assert_eq!(rig.take(one), "END\r\n");
}

#[test]
fn large_replies_are_not_held() {
    let mut rig = rig();
    let client = rig.client();
    rig.feed(client, &request(0));
    let key = &keys(Protocol::Memcache, 2)[0];
    let reply = format!("VALUE {key} 0 20000\r\n{}\r\nEND\r\n", "v".repeat(20_000));
    rig.feed(rig.server(0), reply.as_bytes());
    assert_eq!(rig.take(client), reply);
}

/// One event is waited for as long as nobody is held; then as many as are sure to come, or many
/// when many replies are owed.
#[test]
fn events_may_gather_while_replies_are_held() {
    let mut rig = rig();
    let client = rig.client();
    rig.feed(client, &request(2));
    assert_eq!(rig.proxy.poll_events_wanted(), 1);
    rig.feed(rig.server(0), b"END\r\n");
    assert_eq!(rig.proxy.poll_events_wanted(), 2, "both servers owe something");
    rig.feed(rig.server(0), &b"END\r\n".repeat(2));
    assert_eq!(rig.proxy.poll_events_wanted(), 1);
    rig.feed(client, &request(100));
    assert_eq!(rig.proxy.poll_events_wanted(), 16);
    rig.feed(rig.server(1), &b"END\r\n".repeat(2));
    rig.feed(rig.server(0), &b"END\r\n".repeat(101));
    assert_eq!(rig.take(client), "END\r\n".repeat(106));
    assert_eq!(rig.proxy.poll_events_wanted(), 1);
}

/// The parts of a reply are waited for as its companions are, until the last has come, though
/// nothing is held that could be sent.
#[test]
fn events_may_gather_while_a_split_request_waits_for_parts() {
    let mut rig = rig();
    let (client, other) = (rig.client(), rig.client());
    let keys = keys(Protocol::Memcache, 2);
    let request = format!("get {} {}\r\n", keys[0], keys[1]);
    rig.feed(client, request.as_bytes());
    rig.feed(other, request.as_bytes());
    assert!(!is_anything_held(&rig));
    rig.feed(rig.server(0), b"END\r\n");
    assert!(is_anything_held(&rig));
    assert_eq!(rig.proxy.poll_events_wanted(), 2);
    rig.feed(rig.server(1), b"END\r\n");
    assert_eq!(rig.take(client), "END\r\n");
    assert!(!is_anything_held(&rig));
    assert_eq!(rig.proxy.poll_events_wanted(), 1);
    rig.feed(rig.server(0), b"END\r\n");
    rig.advance(HOLD_MAX);
    assert!(!is_anything_held(&rig), "no longer than that");
    rig.end_receiving(other, base::RecvEnd::Error(base::SocketError::ConnectionReset));
    rig.feed(rig.server(1), b"END\r\n");
    assert!(!is_anything_held(&rig));
    assert_eq!(rig.proxy.requests_count(), 0);
}

#[test]
fn a_client_that_leaves_while_it_is_held_leaves_nothing_behind() {
    let mut rig = rig();
    let client = rig.client();
    rig.feed(client, &request(0));
    rig.feed(rig.server(0), b"END\r\n");
    rig.end_receiving(client, base::RecvEnd::Error(base::SocketError::ConnectionReset));
    assert!(rig.is_closed(client));
    rig.feed(rig.server(1), b"END\r\n");
    assert_eq!(rig.proxy.buffered_bytes(), 0);
    assert_eq!(rig.proxy.requests_count(), 0);
    assert!(!is_anything_held(&rig));
}
