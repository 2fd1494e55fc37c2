//! Emptying every server of a pool, where its configuration allows that, with real servers. That it
//! is refused where it does not is shown by `wire.rs`.
//!
//! Invariant: each test has servers of its own.

#![allow(clippy::unwrap_used)]

mod support;

use support::servers::{Kind, Server};
use support::weir::{Base, Pool, Weir};

/// One key of each server.
const KEYS: [&str; 2] = ["k10", "k0"];

fn flushes(kind: Kind) -> &'static [&'static [u8]] {
    match kind {
        Kind::Redis => {
            &[b"FLUSHALL\r\n", b"flushall async\r\n", b"FLUSHDB\r\n", b"flushdb sync\r\n"]
        }
        Kind::Memcached => &[b"flush_all\r\n", b"flush_all 0\r\n", b"flush_all -1\r\n"],
    }
}

fn done(kind: Kind) -> &'static [u8] {
    if kind == Kind::Redis { b"+OK\r\n" } else { b"OK\r\n" }
}

#[test]
fn a_flush_empties_every_server() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        let servers = Server::pair(kind);
        let weir = Weir::start(base, 2, &[Pool::of(&servers).with("allow_flush: true")]);
        let mut wire = weir.wire(kind);
        for flush in flushes(kind) {
            for key in KEYS {
                assert_eq!(kind.set(&mut wire, key, "v"), kind.stored());
                assert_eq!(kind.get(&mut wire, key), kind.found(key, "v"));
            }
            wire.send(flush);
            let shown = flush.escape_ascii();
            assert_eq!(kind.reply(&mut wire), done(kind), "{shown}");
            for key in KEYS {
                assert_eq!(kind.get(&mut wire, key), kind.missing(), "{key} after {shown}");
            }
        }
    }
}

/// The next request of the same client comes behind it on every connection.
#[test]
fn a_silent_flush_is_done_before_what_follows() {
    let kind = Kind::Memcached;
    let servers = Server::pair(kind);
    let weir = Weir::start(Base::Uring, 1, &[Pool::of(&servers).with("allow_flush: true")]);
    let mut wire = weir.wire(kind);
    for key in KEYS {
        assert_eq!(kind.set(&mut wire, key, "v"), kind.stored());
    }
    wire.send(b"flush_all noreply\r\n");
    for key in KEYS {
        assert_eq!(kind.get(&mut wire, key), kind.missing());
    }
}

/// What one server did not do was not done, though the other has.
#[test]
fn a_flush_that_can_not_reach_a_server_is_an_error() {
    for kind in Kind::BOTH {
        let [left, right] = Server::pair(kind);
        let pool = Pool::new(kind, &[left.address, right.address]).with("allow_flush: true");
        let weir = Weir::start(Base::Uring, 1, &[pool]);
        let mut wire = weir.wire(kind);
        assert_eq!(kind.set(&mut wire, KEYS[0], "v"), kind.stored());
        drop(right);
        wire.send(flushes(kind)[0]);
        let reply = kind.reply(&mut wire);
        let text = reply.escape_ascii().to_string();
        assert!(text.contains("ERR") && !text.contains("allow_flush"), "{text}");
        assert_eq!(kind.get(&mut wire, KEYS[0]), kind.missing());
    }
}
