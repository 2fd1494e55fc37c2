//! The core with memcached clients and servers: what differs from RESP.

#![allow(clippy::unwrap_used)]

mod rig;

use protocol::Protocol;
use rig::{Rig, keys, pool};

fn rig(servers_count: usize) -> Rig {
    Rig::new(pool(Protocol::Memcache, servers_count))
}

#[test]
fn a_noreply_request_is_silent_and_shifts_nobody() {
    let mut rig = rig(1);
    let client = rig.client();
    rig.feed(client, b"set a 0 0 1 noreply\r\nx\r\nget a\r\n");
    let server = rig.server(0);
    assert_eq!(rig.take(server), "set a 0 0 1\r\nx\r\nget a\r\n");
    rig.feed(server, b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n");
    assert_eq!(rig.take(client), "VALUE a 0 1\r\nx\r\nEND\r\n");
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

#[test]
fn a_value_for_another_key_never_reaches_the_client() {
    let mut rig = rig(1);
    let client = rig.client();
    rig.feed(client, b"get a\r\n");
    let server = rig.server(0);
    rig.feed(server, b"VALUE b 0 6\r\nsecret\r\nEND\r\n");
    assert_eq!(rig.take(client), "SERVER_ERROR Invalid argument\r\n");
    assert!(rig.is_closed(server));
}

#[test]
fn multi_get_becomes_one_request_a_server_and_hits_come_in_order() {
    let mut rig = rig(2);
    let keys = keys(Protocol::Memcache, 2);
    let client = rig.client();
    rig.feed(client, format!("get {} {} {}\r\n", keys[1], keys[0], keys[1]).as_bytes());
    let (first, second) = (rig.server(0), rig.server(1));
    assert_eq!(rig.take(first).trim_end(), format!("get {}", keys[0]));
    assert_eq!(rig.take(second).trim_end(), format!("get {} {}", keys[1], keys[1]));
    let value = |key: &str| format!("VALUE {key} 0 1\r\nx\r\n");
    rig.feed(first, (value(&keys[0]) + "END\r\n").as_bytes());
    rig.feed(second, (value(&keys[1]).repeat(2) + "END\r\n").as_bytes());
    let wanted = value(&keys[1]) + &value(&keys[0]) + &value(&keys[1]) + "END\r\n";
    assert_eq!(rig.take(client), wanted);
}

#[test]
fn a_bad_line_gets_its_error_and_the_next_request_its_answer() {
    let mut rig = rig(1);
    let client = rig.client();
    rig.feed(client, b"nosuch\r\nset a 0 0 bad\r\nget a\r\n");
    let server = rig.server(0);
    assert_eq!(rig.take(server), "get a\r\n");
    rig.feed(server, b"END\r\n");
    let reply = rig.take(client);
    let lines: Vec<&str> = reply.lines().collect();
    assert_eq!(lines.len(), 3, "{reply}");
    assert_eq!((lines[0], lines[2]), ("ERROR", "END"));
    assert!(lines[1].contains("ERROR"));
}

#[test]
fn a_value_that_is_too_large_is_swallowed_however_it_comes() {
    let mut options = pool(Protocol::Memcache, 1);
    options.limits.request_size_max = 10_000;
    let mut rig = Rig::new(options);
    let client = rig.client();
    let mut bytes = b"set a 0 0 50000\r\n".to_vec();
    bytes.extend_from_slice(&[b'x'; 50_000]);
    bytes.extend_from_slice(b"\r\nget b\r\n");
    for piece in bytes.chunks(777) {
        rig.feed(client, piece);
    }
    let server = rig.server(0);
    assert_eq!(rig.take(server), "get b\r\n");
    rig.feed(server, b"END\r\n");
    assert_eq!(rig.take(client), "SERVER_ERROR object too large for cache\r\nEND\r\n");
}

#[test]
fn a_paused_client_that_sends_no_more_has_its_silent_requests_carried_out() {
    let mut options = pool(Protocol::Memcache, 1);
    options.client_requests_inflight_max = 1;
    let mut rig = Rig::new(options);
    rig.refuse = Some(base::SocketError::ConnectionRefused);
    let client = rig.client();
    rig.feed(client, b"set a 0 0 1 noreply\r\nx\r\nget a\r\nget b\r\n");
    rig.end_receiving(client, base::RecvEnd::Eof);
    rig.advance(std::time::Duration::from_millis(1));
    assert_eq!(rig.take(client), "SERVER_ERROR Connection refused\r\n".repeat(2));
    assert!(rig.is_closed(client));
}

#[test]
fn a_client_that_never_sends_the_rest_of_a_refused_value_is_given_up() {
    let mut options = pool(Protocol::Memcache, 1);
    options.limits.request_size_max = 10_000;
    options.client_stall_timeout = Some(std::time::Duration::from_secs(10));
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, b"set a 0 0 50000\r\nxxx");
    rig.advance(std::time::Duration::from_secs(11));
    assert!(rig.is_closed(client));
}

/// Found by the simulation: all keys have one owner, and what it answers was asked by another.
#[test]
fn a_value_that_a_multi_get_did_not_ask_for_never_reaches_the_client() {
    let mut rig = rig(1);
    let client = rig.client();
    rig.feed(client, b"get a b\r\n");
    let server = rig.server(0);
    assert_eq!(rig.take(server).trim_end(), "get a b");
    rig.feed(server, b"VALUE c 0 6\r\nsecret\r\nEND\r\n");
    let reply = rig.take(client);
    assert!(reply.starts_with("SERVER_ERROR") && !reply.contains("secret"), "{reply}");
}

#[test]
fn a_flush_goes_to_every_server_and_in_silence_if_asked_for() {
    let mut options = pool(Protocol::Memcache, 2);
    options.allow_flush = true;
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, b"flush_all 5\r\nflush_all noreply\r\nversion\r\n");
    let (first, second) = (rig.server(0), rig.server(1));
    let taken = [rig.take(first), rig.take(second)];
    let flushes = "flush_all 5\r\nflush_all\r\n";
    assert!(taken.iter().all(|bytes| bytes.starts_with(flushes)), "{taken:?}");
    let version = usize::from(taken[1].ends_with("version\r\n"));
    for (index, server) in [first, second].into_iter().enumerate() {
        let version = if index == version { b"VERSION 1\r\n".as_slice() } else { b"" };
        rig.feed(server, &[b"OK\r\nOK\r\n", version].concat());
    }
    assert_eq!(rig.take(client), "OK\r\nVERSION 1\r\n");
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

#[test]
fn a_flush_that_is_not_allowed_reaches_no_server_and_names_the_key_that_would_allow_it() {
    let mut rig = rig(2);
    let client = rig.client();
    rig.feed(client, b"get a\r\nflush_all\r\nflush_all noreply\r\nflush_all 9\r\n");
    rig.advance(std::time::Duration::from_millis(1));
    assert_eq!(rig.proxy.server_connections_count(), 1, "that of the get");
    let owner = (0..2).find(|index| rig.has_server(*index)).unwrap();
    let server = rig.server(owner);
    assert_eq!(rig.take(server), "get a\r\n");
    rig.feed(server, b"END\r\n");
    let refused = "CLIENT_ERROR flush_all not allowed (allow_flush is false)\r\n";
    assert_eq!(rig.take(client), format!("END\r\n{refused}{refused}"));
    assert!(!rig.is_closed(client));
    assert_eq!(rig.proxy.stats().pools[0].client_faults, 3);
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

#[test]
fn a_quiet_batch_gets_what_was_found_in_order_and_then_its_end() {
    let mut rig = rig(2);
    let keys = keys(Protocol::Memcache, 2);
    let client = rig.client();
    let get = |key: &str, quiet: &str| format!("mg {key} v O{key}{quiet}\r\n");
    let asked = [&keys[1], &keys[0], &keys[0], &keys[1]].map(|key| get(key, " q")).concat();
    rig.feed(client, format!("{asked}mn\r\n").as_bytes());
    let (first, second) = (rig.server(0), rig.server(1));
    assert_eq!(rig.take(first), get(&keys[0], "").repeat(2));
    assert_eq!(rig.take(second), get(&keys[1], "").repeat(2));
    let hit = |key: &str, value: &str| format!("VA 1 O{key}\r\n{value}\r\n");
    rig.feed(second, format!("{}EN O{}\r\n", hit(&keys[1], "a"), keys[1]).as_bytes());
    rig.feed(first, format!("EN O{}\r\n{}", keys[0], hit(&keys[0], "b")).as_bytes());
    rig.advance(std::time::Duration::from_millis(1));
    let wanted = hit(&keys[1], "a") + &hit(&keys[0], "b") + "MN\r\n";
    assert_eq!(rig.take(client), wanted);
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

#[test]
fn an_error_is_said_to_a_quiet_client_too_and_its_batch_has_an_end() {
    let mut rig = rig(1);
    rig.refuse = Some(base::SocketError::ConnectionRefused);
    let client = rig.client();
    rig.feed(client, b"mg a q\r\nms a 1 q\r\nx\r\nmn\r\n");
    rig.advance(std::time::Duration::from_millis(1));
    let refused = "SERVER_ERROR Connection refused\r\n";
    assert_eq!(rig.take(client), format!("{refused}{refused}MN\r\n"));
}

#[test]
fn a_response_with_the_opaque_of_another_request_never_reaches_the_client() {
    let mut rig = rig(1);
    let client = rig.client();
    rig.feed(client, b"mg a v O1\r\nmg b v O2\r\n");
    let server = rig.server(0);
    rig.feed(server, b"VA 6 O2\r\nsecret\r\n");
    assert_eq!(rig.take(client), "SERVER_ERROR Invalid argument\r\n".repeat(2));
    assert!(rig.is_closed(server));
}

/// However it is spelt, a key has one owner.
#[test]
fn a_key_in_base64_goes_where_the_key_goes() {
    let mut rig = rig(2);
    let client = rig.client();
    // "foo", "foob" and "fooba" in both spellings.
    let pairs = [("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
    for (raw, encoded) in pairs {
        rig.feed(client, format!("mg {raw} k\r\nmg {encoded} b k\r\n").as_bytes());
        let opened: Vec<usize> = (0..2).filter(|index| rig.has_server(*index)).collect();
        let taken: String = opened.into_iter().map(|index| rig.take_server(index)).collect();
        assert_eq!(taken, format!("mg {raw} k\r\nmg {encoded} b k\r\n"));
    }
}
