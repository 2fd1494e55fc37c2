//! Raw conversations, held with the proxy and with a server alone: the same bytes come back,
//! however the client's bytes are cut. Not what a proxy answers differently on purpose, which has
//! its own table at the end.
//!
//! There is one worker, so that a round trip on another connection proves that it has seen what was
//! sent before: pieces arrive as pieces.

#![allow(clippy::unwrap_used)]

mod conversations;
mod support;

use std::net::Shutdown;

use conversations::{Answer, hold, reset};
use support::keys::keys_of;
use support::servers::{Kind, Server};
use support::weir::{Base, Pool, Weir};
use support::wire::Ended;

/// Cuts of one conversation that are tried.
const CUTS_MAX: usize = 60;

fn conversations(kind: Kind) -> Vec<conversations::Conversation> {
    match kind {
        Kind::Redis => conversations::redis::all(),
        Kind::Memcached => conversations::memcached::all(),
    }
}

/// Holds every conversation in one piece, in two, and in single bytes.
fn hold_all(kind: Kind, base: Base) {
    let (alone, servers) = (Server::start(kind), Server::pair(kind));
    let weir = Weir::start(base, 1, &[Pool::of(&servers)]);
    let mut other = weir.wire(kind);
    let (mut held_count, mut wrong) = (0, Vec::new());
    for (name, bytes) in conversations(kind) {
        reset(kind, &mut alone.wire());
        let expected = hold(kind, alone.wire(), &[&bytes], || ());
        let first_wrong = ways_to_send(&bytes).into_iter().find_map(|pieces| {
            reset(kind, &mut other);
            held_count += 1;
            let answer = hold(kind, weir.wire(kind), &pieces, || drop(kind.get(&mut other, "k9")));
            let sizes: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
            let sizes = &sizes[..sizes.len().min(3)];
            (answer != expected).then(|| {
                format!(
                    "{name}, in pieces of {sizes:?}:\n  is     {answer:?}\n  wanted {expected:?}"
                )
            })
        });
        wrong.extend(first_wrong);
    }
    assert!(wrong.is_empty(), "{} through {base:?}:\n{}", kind.name(), wrong.join("\n"));
    println!("{} conversations, held {held_count} times", conversations(kind).len());
    assert!(servers.iter().all(|server| server.requests() > 100), "both servers take part");
}

/// In one piece, in two, and in single bytes when they are few.
fn ways_to_send(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let cuts = (1..bytes.len()).step_by(bytes.len().div_ceil(CUTS_MAX));
    let mut ways: Vec<Vec<&[u8]>> = cuts.map(|at| vec![&bytes[..at], &bytes[at..]]).collect();
    ways.push(vec![bytes]);
    if bytes.len() <= CUTS_MAX {
        ways.push(bytes.chunks(1).collect());
    }
    ways
}

#[test]
fn redis_conversations_are_as_with_a_server_alone_on_io_uring() {
    hold_all(Kind::Redis, Base::Uring);
}

#[test]
fn redis_conversations_are_as_with_a_server_alone_on_polling() {
    hold_all(Kind::Redis, Base::Polling);
}

#[test]
fn memcached_conversations_are_as_with_a_server_alone_on_io_uring() {
    hold_all(Kind::Memcached, Base::Uring);
}

#[test]
fn memcached_conversations_are_as_with_a_server_alone_on_polling() {
    hold_all(Kind::Memcached, Base::Polling);
}

/// The table of the support module, which other tests rely on.
#[test]
fn keys_are_where_the_table_says() {
    for kind in Kind::BOTH {
        let servers = Server::pair(kind);
        let weir = Weir::start(Base::Uring, 1, &[Pool::of(&servers)]);
        let mut wire = weir.wire(kind);
        for (server, here) in servers.iter().enumerate() {
            for key in keys_of(server) {
                assert_eq!(kind.set(&mut wire, key, "here"), kind.stored());
                assert_eq!(kind.get(&mut here.wire(), key), kind.found(key, "here"));
            }
        }
    }
}

/// What a client says, what the proxy itself answers, and whether it closes then.
type Own = (&'static str, &'static str, bool);

/// What is not for a connection that many clients share, not for more than one server, or beyond a
/// limit that servers do not have.
const OWN_REDIS: &[Own] = &[
    ("SLOWLOG GET", "-ERR 'slowlog' is not supported by the proxy\r\n", false),
    ("FLUSHALL", "-ERR flushing is not allowed (allow_flush is false)\r\n", false),
    ("flushdb async", "-ERR flushing is not allowed (allow_flush is false)\r\n", false),
    ("SELECT 1", "-ERR DB index is out of range\r\n", false),
    ("HELLO 4", "-NOPROTO unsupported protocol version\r\n", false),
    ("CLUSTER INFO", "-ERR This instance has cluster support disabled\r\n", false),
    ("*2000000000\r\n$3\r\nGET", "-ERR Protocol error: invalid multibulk length\r\n", true),
    ("POST / HTTP/1.1", "", true),
];

const OWN_MEMCACHED: &[Own] = &[
    ("flush_all", "CLIENT_ERROR flush_all not allowed (allow_flush is false)\r\n", false),
    ("stats", "ERROR\r\n", false),
    ("mg k0 O\rx", "CLIENT_ERROR bad command line format\r\n", false),
    ("verbosity 1", "OK\r\n", false),
    ("GET / HTTP/1.1", "", true),
    ("set k0 0 0 99999999999999999999", "CLIENT_ERROR bad command line format\r\n", true),
];

#[test]
fn the_proxy_says_what_it_does_not_do() {
    for kind in Kind::BOTH {
        let servers = Server::pair(kind);
        let weir = Weir::start(Base::Uring, 1, &[Pool::of(&servers)]);
        reset(kind, &mut weir.wire(kind));
        let table = if kind == Kind::Redis { OWN_REDIS } else { OWN_MEMCACHED };
        for (said, text, closed) in table {
            // Redis takes lines, too.
            let bytes = format!("{said}\r\n").into_bytes();
            let expected = Answer { bytes: text.as_bytes().to_vec(), closed: *closed };
            assert_eq!(hold(kind, weir.wire(kind), &[&bytes], || ()), expected, "{said}");
        }
    }
}

/// A value goes through in its length, whatever the length is.
#[test]
fn values_of_any_size_come_back() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|k| Base::BOTH.map(|b| (k, b))) {
        let servers = Server::pair(kind);
        let weir = Weir::start(base, 1, &[Pool::of(&servers)]);
        let mut wire = weir.wire(kind);
        for exponent in 0..20 {
            for size in [(1usize << exponent) - 1, 1 << exponent, (1 << exponent) + 1] {
                let value: String = (0..size).map(|i| char::from(b'a' + (i % 23) as u8)).collect();
                for key in ["k0", "k10"] {
                    assert_eq!(kind.set(&mut wire, key, &value), kind.stored(), "{size}");
                    assert_eq!(kind.get(&mut wire, key), kind.found(key, &value), "{size}");
                }
            }
        }
    }
}

/// Requests of a client that then sends no more.
const LAST_COUNT: usize = 500;

#[test]
fn a_client_that_sends_no_more_gets_every_reply_and_then_the_end() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|k| Base::BOTH.map(|b| (k, b))) {
        let servers = Server::pair(kind);
        let weir = Weir::start(base, 1, &[Pool::of(&servers)]);
        let mut wire = weir.wire(kind);
        let key = |i: usize| ["k0", "k10"][i % 2];
        for i in 0..2 {
            assert_eq!(kind.set(&mut wire, key(i), key(i)), kind.stored());
        }
        let requests: Vec<u8> = (0..LAST_COUNT).flat_map(|i| kind.get_request(key(i))).collect();
        wire.send(&requests);
        wire.stream().shutdown(Shutdown::Write).expect("it is open");
        for i in 0..LAST_COUNT {
            assert_eq!(kind.reply(&mut wire), kind.found(key(i), key(i)), "reply {i}");
        }
        assert_eq!(wire.rest(), (Vec::new(), Ended::Closed));
    }
}
