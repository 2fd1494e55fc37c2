//! Real servers in real trouble: killed, held up, started again with other data, unreachable. And
//! the proxy itself in need of descriptors and memory. Not servers that say something wrong, see
//! `bad_servers.rs`.
//!
//! In each case a client of the healthy server must not notice, and what the others get is an error
//! or the truth. Invariant: nobody ever starts the proxy again; it recovers by itself.

#![allow(clippy::unwrap_used)]

mod support;

#[path = "faults/hole.rs"]
mod hole;
#[path = "faults/limits.rs"]
mod limits;
#[path = "faults/loader.rs"]
mod loader;
#[path = "faults/network.rs"]
mod network;
#[path = "faults/queue.rs"]
mod queue;
#[path = "faults/relay.rs"]
mod relay;
#[path = "faults/site.rs"]
mod site;
#[path = "faults/upstream.rs"]
mod upstream;

use std::time::Duration;

use hole::Hole;
use site::{GOOD_KEY, KEY, REFUSED, SILENT, Site, TIMEOUT};
use support::bystander::Bystander;
use support::keys::keys_of;
use support::process::{memory_bytes, python_program, weir, weir_path};
use support::servers::Kind;
use support::weir::{Base, Pool, Weir};
use support::wire::Wire;
use support::{until, until_within};
use upstream::Upstream;

/// Waits until clients of the left server are told that it is down.
fn is_refused(site: &mut Site) {
    let refused = site.error(REFUSED);
    until("the server is known to be down", || (site.get(KEY) == refused).then_some(()));
    site.loader.is_answered();
    site.bystander.goes_on();
}

#[test]
fn a_server_that_comes_back_with_other_data_is_served_as_it_is_now() {
    Site::each(|site| {
        let kind = site.kind;
        site.trouble(|site| {
            site.kill();
            is_refused(site);
            site.left.start_again();
            assert_eq!(kind.set(&mut site.left.wire(), KEY, "other data"), kind.stored());
        });
        assert_eq!(site.get(KEY).as_bytes(), kind.found(KEY, "other data"));
        site.trouble(|site| {
            site.kill();
            site.left.start_again();
        });
        assert_eq!(site.get(KEY).as_bytes(), kind.missing());
    });
}

/// The clients of the loaded server are to be trusted: what they would miss, all would miss.
#[test]
fn what_is_lost_or_crossed_is_noticed() {
    let kind = Kind::Memcached;
    let site = Site::new(kind, Base::Polling, &[TIMEOUT]);
    let mut wire = site.left.wire();
    until("a key that is gone is noticed", || {
        wire.ask_memcached("delete {k10}:0:0\r\n");
        site.loader.saw_wrong().then_some(())
    });
    let site = Site::new(kind, Base::Polling, &[TIMEOUT]);
    let mut wire = site.left.wire();
    let others = kind.get(&mut site.weir.wire(kind), "{k10}:1:1");
    let others = String::from_utf8_lossy(&others).into_owned();
    let value = others.lines().nth(1).expect("it was written");
    until("another key's value is noticed", || {
        kind.set(&mut wire, "{k10}:0:0", value);
        site.loader.saw_wrong().then_some(())
    });
}

#[test]
fn two_workers_recover_from_a_killed_server() {
    for base in Base::BOTH {
        let arguments = ["--event-base", base.name(), "--workers", "2"];
        let mut site = Site::start_as(Kind::Redis, &[TIMEOUT], weir, &arguments);
        for _ in 0..3 {
            site.trouble(|site| {
                site.kill();
                is_refused(site);
                site.left.start_again();
            });
        }
        site.end();
    }
}

#[test]
fn without_io_uring_a_killed_server_is_survived_as_well() {
    let denied = || {
        let mut command = python_program("deny_calls.py");
        command.arg("uring").arg(weir_path());
        command
    };
    for kind in Kind::BOTH {
        let mut site = Site::start_as(kind, &[TIMEOUT], denied, &["--workers", "1"]);
        assert!(site.weir.running.output().contains("io_uring is refused"));
        site.trouble(|site| {
            site.kill();
            is_refused(site);
            site.left.start_again();
        });
        site.end();
    }
}

/// Nothing that was acknowledged is lost, since the server kept what it had.
#[test]
fn a_server_that_stands_still_costs_its_clients_the_time_out() {
    Site::each(|site| {
        let before = site.count("server_timedout");
        let timed_out = site.trouble(|site| {
            site.left.pause();
            let reply = site.get(KEY);
            site.loader.is_answered();
            site.bystander.goes_on();
            site.left.resume();
            reply
        });
        assert_eq!(timed_out, site.error(SILENT));
        assert!(site.count("server_timedout") > before);
        assert_eq!(site.get(KEY).as_bytes(), site.kind.found(KEY, "left"));
    });
}

/// It is shorter than the time-out: whoever waits is served in the end.
#[test]
fn a_server_that_stands_still_for_a_moment_costs_nobody_anything() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        let site = Site::new(kind, base, &["timeout: 60000"]);
        let mut waiting = site.weir.wire(kind);
        for _ in 0..10 {
            site.left.pause();
            waiting.send(&kind.get_request(KEY));
            site.bystander.goes_on();
            site.left.resume();
            assert_eq!(kind.reply(&mut waiting), kind.found(KEY, "left"));
        }
        assert_eq!(site.count("server_timedout"), 0);
        site.end();
    }
}

#[test]
fn a_server_that_flaps_fails_its_clients_only_while_it_is_down() {
    Site::each(|site| {
        for turn in 0..10 {
            site.trouble(|site| {
                site.kill();
                if turn % 2 == 0 {
                    is_refused(site);
                }
                site.left.start_again();
            });
        }
        assert!(site.loader.errors() > 0);
    });
}

/// Milliseconds that a connection may take to open: far less than a request may wait.
const CONNECT_TIMEOUT: &str = "connect_timeout_ms: 600";

#[test]
fn a_server_that_answers_no_syn_costs_its_clients_the_time_to_connect() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        // A request alone could wait for longer than a test does.
        let mut site = Site::new(kind, base, &["timeout: 60000", CONNECT_TIMEOUT]);
        let before = site.count("server_timedout");
        site.trouble(|site| {
            site.kill();
            let hole = Hole::deaf(site.left.address);
            let silent = site.error(SILENT);
            until("connecting takes too long", || (site.get(KEY) == silent).then_some(()));
            site.loader.is_answered();
            site.bystander.goes_on();
            drop(hole);
            site.left.start_again();
        });
        assert!(site.count("server_timedout") > before);
        site.end();
    }
}

/// Bytes that a server which does not read is sent: more than the kernel takes for it.
const UNREAD_SIZE: usize = 32 << 20;
/// The proxy gives memory back when it has been quiet for a while.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(15);

#[test]
fn a_server_that_accepts_and_never_reads_costs_its_clients_the_time_out() {
    Site::each(|site| {
        let kind = site.kind;
        let before = memory_bytes(site.weir.pid());
        site.trouble(|site| {
            site.kill();
            let hole = Hole::silent(site.left.address);
            let silent = site.error(SILENT);
            until("a request takes too long", || (site.get(KEY) == silent).then_some(()));
            // Below memcached's limit.
            let value = "v".repeat(1 << 19);
            let mut wire = site.weir.wire(kind);
            let set = loader::set_request(kind, "{k10}:large", &value);
            let count = UNREAD_SIZE / value.len();
            wire.send(&set.repeat(count));
            for _ in 0..count {
                // When it has broken, and is not open again yet, nothing waits.
                let reply = String::from_utf8_lossy(&kind.reply(&mut wire)).into_owned();
                assert_eq!(reply, silent);
            }
            site.bystander.goes_on();
            drop(hole);
            site.left.start_again();
        });
        until_within(GIVEN_BACK_WITHIN, "what was not read is given back", || {
            (memory_bytes(site.weir.pid()) < before + UNREAD_SIZE as u64 / 4).then_some(())
        });
    });
}

/// Bytes of the replies that are read slowly.
const SLOW_SIZE: usize = 1 << 19;
const SLOW_COUNT: usize = 40;

/// One reads half a reply at a time, one nothing until the other has everything.
#[test]
fn slow_readers_hold_up_nobody_and_get_everything() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        let site = Site::new(kind, base, &[TIMEOUT]);
        let value = "v".repeat(SLOW_SIZE);
        let mut slow = site.weir.wire(kind);
        assert_eq!(kind.set(&mut slow, "{k10}:slow", &value), kind.stored());
        let requests = kind.get_request("{k10}:slow").repeat(SLOW_COUNT);
        slow.send(&requests);
        let mut late = site.weir.wire(kind);
        late.send(&requests);
        let found = kind.found("{k10}:slow", &value);
        for _ in 0..SLOW_COUNT {
            let mut reply = slow.exact(found.len() / 2);
            site.loader.is_served();
            reply.extend(slow.exact(found.len() - reply.len()));
            assert!(reply == found, "a reply is wrong");
        }
        site.bystander.goes_on();
        for _ in 0..SLOW_COUNT {
            assert!(late.exact(found.len()) == found, "a reply that was read late is wrong");
        }
        site.end();
    }
}

/// Requests in one pipeline.
const PIPELINED_COUNT: usize = 1000;

/// The bystander is a client of the proxy's other pool.
#[test]
fn with_all_servers_down_each_request_gets_its_error() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        println!("{kind:?}, {base:?}");
        let other = if kind == Kind::Redis { Kind::Memcached } else { Kind::Redis };
        let mut servers = [Upstream::start(kind), Upstream::start(kind)];
        let others = [Upstream::start(other), Upstream::start(other)];
        let pool = |kind, servers: &[Upstream; 2]| {
            Pool::new(kind, &[servers[0].address, servers[1].address]).with(TIMEOUT)
        };
        let weir = Weir::start(base, 1, &[pool(kind, &servers), pool(other, &others)]);
        let keys = [keys_of(0)[1], keys_of(1)[1]];
        let bystander = Bystander::start(other, weir.address(other), &keys);
        let mut wire = weir.wire(kind);
        for key in [KEY, GOOD_KEY] {
            assert_eq!(kind.set(&mut wire, key, "value"), kind.stored());
        }
        servers.iter_mut().for_each(Upstream::kill);
        all_fail(kind, &mut wire);
        if kind == Kind::Redis {
            let several = wire.ask(&["MGET", KEY, GOOD_KEY]);
            assert_eq!(several, format!("-ERR {REFUSED}\r\n").as_bytes());
        }
        bystander.goes_on();
        servers.iter_mut().for_each(Upstream::start_again);
        for key in [KEY, GOOD_KEY] {
            until("its server is used again", || {
                (kind.get(&mut wire, key) == kind.missing()).then_some(())
            });
        }
        bystander.finish();
    }
}

/// A whole pipeline of requests to both servers is answered with errors and nothing else.
fn all_fail(kind: Kind, wire: &mut Wire) {
    let requests = (0..PIPELINED_COUNT).map(|i| kind.get_request([KEY, GOOD_KEY][i % 2]));
    let requests = requests.collect::<Vec<_>>().concat();
    for _ in 0..20 {
        wire.send(&requests);
        for i in 0..PIPELINED_COUNT {
            let reply = kind.reply(wire);
            let text = loader::error_text(&reply);
            // The connection is found closed, or closed by force, before it is found refused.
            let is_right = text.as_deref().is_some_and(|text| {
                [REFUSED, "unknown", "Connection reset by peer", "Broken pipe"].contains(&text)
            });
            assert!(is_right, "reply {i} is '{}'", reply.escape_ascii());
        }
    }
}
