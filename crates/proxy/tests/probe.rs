//! How an ejected server comes back: by a probe that it answers, and by nothing else.

#![allow(clippy::unwrap_used)]

mod rig;

use std::time::Duration;

use base::{RecvEnd, SocketError, Token};
use protocol::Protocol;
use proxy::options::PoolOptions;
use rig::{Rig, keys, pool};

const PING: &str = "*1\r\n$4\r\nPING\r\n";
const RETRY: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(1);

fn ejecting(protocol: Protocol) -> PoolOptions {
    let mut options = pool(protocol, 2);
    options.health.eject = true;
    options.health.failure_limit = 1;
    options.health.retry_timeout = RETRY;
    options.request_timeout = Some(Duration::from_secs(1));
    options
}

fn get(key: &str) -> String {
    format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len())
}

/// A rig whose server 0 has just been ejected, a client of it, and a key of server 0.
fn ejected(options: PoolOptions) -> (Rig, Token, String) {
    let key = keys(options.protocol, 2).swap_remove(0);
    let request = match options.protocol {
        Protocol::Redis => get(&key),
        Protocol::Memcache => format!("get {key}\r\n"),
    };
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, request.as_bytes());
    let server = rig.server(0);
    assert_eq!(rig.take(server), request);
    rig.end_receiving(server, RecvEnd::Error(SocketError::ConnectionReset));
    assert!(rig.take(client).contains("Connection reset by peer"));
    assert_eq!(counters(&rig), (1, 1, 0));
    (rig, client, request)
}

/// Ejections of server 0, whether it is ejected now, probes.
fn counters(rig: &Rig) -> (u64, u64, u64) {
    let stats = rig.proxy.stats().pools[0].servers[0];
    (stats.ejects, stats.ejected, stats.probes)
}

/// Has the client ask for the key of server 0, and says which server got the request.
fn owner_now(rig: &mut Rig, client: Token, request: &str) -> usize {
    rig.feed(client, request.as_bytes());
    let owner =
        (0..2).find(|index| rig.has_server(*index) && rig.take_server(*index).ends_with(request));
    let owner = owner.expect("one of the servers got the request");
    let server = rig.server(owner);
    rig.feed(server, if request.starts_with('*') { b"$-1\r\n" } else { b"END\r\n" });
    rig.take(client);
    owner
}

#[test]
fn a_server_returns_when_it_has_answered_the_probe_and_not_before() {
    let (mut rig, client, request) = ejected(ejecting(Protocol::Redis));
    rig.advance(RETRY - SOON);
    assert_eq!(counters(&rig), (1, 1, 0));
    assert_eq!(owner_now(&mut rig, client, &request), 1);
    rig.advance(SOON);
    let probed = rig.server(0);
    assert_eq!(rig.take(probed), PING);
    assert_eq!(owner_now(&mut rig, client, &request), 1, "the probe is not answered");
    rig.feed(probed, b"+PONG\r\n");
    assert_eq!(counters(&rig), (1, 0, 1));
    assert_eq!(owner_now(&mut rig, client, &request), 0);
    assert_eq!(rig.server(0), probed, "the connection that was probed carries the requests");
    let stats = rig.proxy.stats().pools[0].servers[0];
    assert_eq!((stats.requests, stats.responses), (2, 1), "a probe is no request");
}

#[test]
fn a_memcached_server_is_asked_for_its_version() {
    let (mut rig, client, request) = ejected(ejecting(Protocol::Memcache));
    rig.advance(RETRY);
    let probed = rig.server(0);
    assert_eq!(rig.take(probed), "version\r\n");
    rig.feed(probed, b"VERSION 1.6.38\r\n");
    assert_eq!(owner_now(&mut rig, client, &request), 0);
}

#[test]
fn the_probe_goes_behind_the_handshake() {
    let mut options = ejecting(Protocol::Redis);
    options.database = 3;
    let key = keys(Protocol::Redis, 2).swap_remove(0);
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, get(&key).as_bytes());
    let server = rig.server(0);
    rig.end_receiving(server, RecvEnd::Eof);
    rig.advance(RETRY);
    let probed = rig.server(0);
    let select = "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n";
    assert_eq!(rig.take(probed), format!("{select}{PING}"));
    rig.feed(probed, b"+OK\r\n");
    assert_eq!(counters(&rig), (1, 1, 1), "the handshake's answer is not the probe's");
    rig.feed(probed, b"+PONG\r\n");
    assert_eq!(counters(&rig), (1, 0, 1));
}

#[test]
fn a_server_that_accepts_and_says_nothing_gets_probes_and_nothing_else() {
    let (mut rig, client, request) = ejected(ejecting(Protocol::Redis));
    for round in 1..=5 {
        rig.advance(RETRY);
        let probed = rig.server(0);
        assert_eq!(rig.take(probed), PING);
        assert_eq!(counters(&rig), (round, 1, round));
        // The request time-out, and the time that a silent server has beyond it.
        rig.advance(Duration::from_secs(2));
        assert!(rig.is_closed(probed));
        assert_eq!(counters(&rig), (round + 1, 1, round));
        assert_eq!(owner_now(&mut rig, client, &request), 1);
        assert_eq!(rig.take(probed), "");
    }
}

#[test]
fn a_server_that_refuses_is_tried_again_after_the_same_time() {
    let (mut rig, client, request) = ejected(ejecting(Protocol::Redis));
    rig.refuse = Some(SocketError::ConnectionRefused);
    rig.advance(RETRY);
    assert_eq!(counters(&rig), (2, 1, 1));
    rig.advance(RETRY - SOON);
    assert_eq!(counters(&rig), (2, 1, 1));
    rig.refuse = None;
    rig.advance(SOON);
    assert_eq!(counters(&rig), (2, 1, 2));
    let probed = rig.server(0);
    rig.feed(probed, b"+PONG\r\n");
    assert_eq!(owner_now(&mut rig, client, &request), 0);
}

#[test]
fn a_server_that_answers_the_probe_with_an_error_stays_out() {
    for error in ["-LOADING loading\r\n", "-NOAUTH Authentication required.\r\n"] {
        let (mut rig, client, request) = ejected(ejecting(Protocol::Redis));
        rig.advance(RETRY);
        let probed = rig.server(0);
        assert_eq!(rig.take(probed), PING);
        rig.feed(probed, error.as_bytes());
        assert_eq!(counters(&rig), (2, 1, 1));
        assert_eq!(owner_now(&mut rig, client, &request), 1);
        rig.advance(RETRY);
        assert_eq!(rig.take(probed), PING, "the connection is good enough for the next probe");
        rig.feed(probed, b"+PONG\r\n");
        assert_eq!(owner_now(&mut rig, client, &request), 0);
    }
}

#[test]
fn a_connection_that_survived_the_ejection_is_probed_before_it_carries_requests() {
    let (mut rig, client, request) = {
        let key = keys(Protocol::Redis, 2).swap_remove(0);
        let mut rig = Rig::new(ejecting(Protocol::Redis));
        let client = rig.client();
        rig.feed(client, get(&key).as_bytes());
        rig.advance(Duration::from_secs(1));
        assert_eq!(rig.take(client), "-ERR Connection timed out\r\n");
        (rig, client, get(&key))
    };
    let server = rig.server(0);
    assert_eq!(rig.take(server), request);
    // Late, and it shifts nothing.
    rig.feed(server, b"$1\r\nv\r\n");
    assert_eq!(counters(&rig), (1, 1, 0), "an answer to what was asked before brings nobody back");
    rig.advance(RETRY);
    assert_eq!(rig.take(server), PING);
    assert_eq!(owner_now(&mut rig, client, &request), 1);
    rig.feed(server, b"+PONG\r\n");
    assert_eq!(owner_now(&mut rig, client, &request), 0);
    assert_eq!(rig.server(0), server);
}

#[test]
fn a_name_that_does_not_resolve_is_a_failed_probe() {
    let (mut rig, client, request) = ejected(ejecting(Protocol::Redis));
    rig.proxy.set_address(0, 0, None);
    rig.advance(RETRY);
    assert_eq!(counters(&rig), (2, 1, 1));
    rig.proxy.set_address(0, 0, Some(rig::address_of(0)));
    rig.advance(RETRY);
    let probed = rig.server(0);
    rig.feed(probed, b"+PONG\r\n");
    assert_eq!(owner_now(&mut rig, client, &request), 0);
}

/// As a connection that can't be opened; however many requests a turn brings.
#[test]
fn a_name_that_does_not_resolve_is_a_failure() {
    let request = get(&keys(Protocol::Redis, 2).swap_remove(0));
    let mut options = ejecting(Protocol::Redis);
    options.health.failure_limit = 2;
    let mut rig = Rig::new(options);
    rig.proxy.set_address(0, 0, None);
    let client = rig.client();
    for ejects in [0, 1] {
        rig.feed(client, request.repeat(2).as_bytes());
        assert_eq!(rig.take(client), "-ERR Host is down\r\n".repeat(2));
        assert_eq!(counters(&rig), (ejects, ejects, 0));
    }
    assert_eq!(rig.proxy.stats().pools[0].servers[0].error_count, 2);
    assert_eq!(owner_now(&mut rig, client, &request), 1);
    rig.advance(RETRY);
    assert_eq!(counters(&rig), (2, 1, 1), "it is probed as any other");
    rig.proxy.set_address(0, 0, Some(rig::address_of(0)));
    rig.advance(RETRY);
    let probed = rig.server(0);
    rig.feed(probed, b"+PONG\r\n");
    assert_eq!(owner_now(&mut rig, client, &request), 0);
}

#[test]
fn without_a_server_left_requests_fail_until_one_answers_its_probe() {
    let mut options = ejecting(Protocol::Redis);
    options.servers.truncate(1);
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, get("a").as_bytes());
    let server = rig.server(0);
    rig.end_receiving(server, RecvEnd::Eof);
    rig.take(client);
    rig.feed(client, get("a").as_bytes());
    assert_eq!(rig.take(client), "-ERR Connection refused\r\n");
    rig.advance(RETRY);
    let probed = rig.server(0);
    rig.feed(client, get("a").as_bytes());
    assert_eq!(rig.take(client), "-ERR Connection refused\r\n");
    rig.feed(probed, b"+PONG\r\n");
    rig.feed(client, get("a").as_bytes());
    assert_eq!(rig.take(probed), format!("{PING}{}", get("a")));
}

#[test]
fn a_reload_keeps_an_ejection_and_its_probe() {
    let (mut rig, client, request) = ejected(ejecting(Protocol::Redis));
    let mut options = ejecting(Protocol::Redis);
    options.client_requests_inflight_max = 7;
    rig.proxy.reload(vec![Some(options)]);
    assert_eq!(owner_now(&mut rig, client, &request), 1);
    rig.advance(RETRY);
    let probed = rig.server(0);
    rig.feed(probed, b"+PONG\r\n");
    assert_eq!(owner_now(&mut rig, client, &request), 0);
}

#[test]
fn a_reload_that_ends_ejection_brings_everybody_back() {
    let (mut rig, client, request) = ejected(ejecting(Protocol::Redis));
    let mut options = ejecting(Protocol::Redis);
    options.health.eject = false;
    rig.proxy.reload(vec![Some(options)]);
    assert_eq!(owner_now(&mut rig, client, &request), 0);
}
