//! Clients that misbehave, by mistake or on purpose: they get an error or are cut off, and a
//! bystander on the same proxy, with keys on the same servers, sees nothing of it. Not servers that
//! misbehave, see `bad_servers.rs`.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::net::TcpStream;

use support::bystander::Bystander;
use support::process::{descriptors_count, memory_bytes, resident_bytes_max};
use support::servers::{Kind, Server};
use support::weir::{Base, Pool, Weir};
use support::wire::{Ended, Wire, is_reset, request};
use support::{until, until_within};

/// Keys of the bystander, on both servers.
const BYSTANDERS_KEYS: &[&str] = &["k1", "k11"];
/// Keys of whoever misbehaves, one on each server.
const KEYS: [&str; 2] = ["k0", "k10"];

const MIB: u64 = 1 << 20;

/// A proxy of two workers with two servers, and the bystander.
struct Scene {
    kind: Kind,
    weir: Weir,
    bystander: Bystander,
    servers: [Server; 2],
}

impl Scene {
    fn new(kind: Kind, base: Base, keys: &[&str]) -> Scene {
        let servers = Server::pair(kind);
        let pool = keys.iter().fold(Pool::of(&servers), |pool, key| pool.with(key));
        let weir = Weir::start(base, 2, &[pool]);
        let bystander = Bystander::start(kind, weir.address(kind), BYSTANDERS_KEYS);
        Scene { kind, weir, bystander, servers }
    }

    /// In all circumstances.
    fn each(mut act: impl FnMut(&Scene)) {
        for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
            let scene = Scene::new(kind, base, &[]);
            act(&scene);
            scene.end();
        }
    }

    fn wire(&self) -> Wire {
        self.weir.wire(self.kind)
    }

    fn memory(&self) -> u64 {
        memory_bytes(self.weir.pid())
    }

    /// Waits until nobody is left but the bystander, whose connections are two.
    fn until_alone(&self) {
        self.weir.until_counter(self.kind, "client_connections", |count| count == 2);
    }

    /// Everybody has left, and all is well.
    fn end(mut self) {
        self.until_alone();
        self.bystander.finish();
        assert!(self.weir.is_well(self.kind));
    }
}

/// What is said, how the answer begins, and whether it is the last.
type Nonsense = (&'static [u8], &'static str, bool);

const REDIS_NONSENSE: &[Nonsense] = &[
    (b"*-5\r\n*1\r\n$4\r\nPING\r\n", "+PONG\r\n", false),
    (b"*\r\n", "-ERR Protocol error: invalid multibulk length", true),
    (b"*+1\r\n$4\r\nPING\r\n", "-ERR Protocol error: invalid multibulk length", true),
    (b"* 1\r\n$4\r\nPING\r\n", "-ERR Protocol error: invalid multibulk length", true),
    (b"*1048577\r\n", "-ERR Protocol error: invalid multibulk length", true),
    (b"*4294967297\r\n$4\r\nPING\r\n", "-ERR Protocol error: invalid multibulk length", true),
    (b"*99999999999999999999999\r\n", "-ERR Protocol error: invalid multibulk length", true),
    (b"*2\r\n$3\r\nGET\r\n$-2147483648\r\n", "-ERR Protocol error: invalid bulk length", true),
    (b"*2\r\n$3\r\nGET\r\n$\r\n\r\n", "-ERR Protocol error: invalid bulk length", true),
    (b"*2\r\n$3\r\nGET\r\n$+2\r\nk0\r\n", "-ERR Protocol error: invalid bulk length", true),
    (b"*2\r\n$3\r\nGET\r\n$4294967298\r\nk0\r\n", "-ERR Protocol error: invalid bulk length", true),
    (b"*2\r\n$3\r\nGET\r\n$536870913\r\n", "-ERR Protocol error: invalid bulk length", true),
    (b"*2\r\n$3\r\nGET\r\n$1\r\nk0\r\n", "-ERR Protocol error: expected CRLF after bulk", true),
    (b"*2\r\n$3\r\nGET\r\n$2\r\nk0XX", "-ERR Protocol error: expected CRLF after bulk", true),
    (b"*2\r\n$3\r\nGET\r\n*1\r\n$2\r\nk0\r\n", "-ERR Protocol error: expected '$', got '*'", true),
    (b"*2\r\n$3\r\nGET\r\n:0\r\n", "-ERR Protocol error: expected '$', got ':'", true),
    (b"*1\r\n$2\r\nG\0\r\n", "-ERR unknown command", false),
    (b"GET \0\r\n", "-ERR Protocol error: invalid character in inline request", true),
    (b"\x16\x03\x01\0\xc8\x01\0\0\xc4\x03\x03\n", "-ERR Protocol error: invalid character", true),
    (b"\xff\xff\xff\xff\r\n", "-ERR unknown command", false),
    (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "-ERR unknown command 'PROXY'", false),
    (b"get k0 0 0\r\n", "-ERR wrong number of arguments for 'get' command", false),
    (
        b"*3\r\n$4\r\nMSET\r\n$2\r\nk0\r\n$1\r\nv\r\n*2\r\n$4\r\nMSET\r\n$1\r\na\r\n",
        "+OK\r\n",
        false,
    ),
    (
        b"*5\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$11\r\n99999999999\r\n$1\r\nk\r\n$1\r\nk\r\n",
        "-ERR Number of keys can't be greater than number of args",
        false,
    ),
];

const MEMCACHED_NONSENSE: &[Nonsense] = &[
    (b"\r\n", "ERROR\r\n", false),
    (b"get\r\n", "ERROR\r\n", false),
    (b"set k0 0 0 -1\r\n", "CLIENT_ERROR bad command line format\r\n", false),
    (b"set k0 0 0 3x\r\n", "CLIENT_ERROR bad command line format\r\n", false),
    (b"set k0 0 0 18446744073709551619\r\nabc\r\n", "CLIENT_ERROR bad command line", true),
    (b"set k0 0 0 4294967296\r\n", "CLIENT_ERROR bad command line format\r\n", true),
    (b"set k0 0 0\r\n", "ERROR\r\n", false),
    (b"set k0 4294967296 0 1\r\na\r\n", "CLIENT_ERROR bad command line format\r\n", false),
    (b"set k0 -1 0 1\r\na\r\n", "CLIENT_ERROR bad command line format\r\n", false),
    (b"set k0 0 99999999999 1\r\na\r\n", "CLIENT_ERROR bad command line format\r\n", false),
    (b"set k\x01 0 0 1\r\na\r\n", "CLIENT_ERROR bad command line format\r\n", false),
    (b"set k0 0 0 3\r\nabcXX", "CLIENT_ERROR bad data chunk\r\n", false),
    (b"cas k0 0 0 1\r\na\r\n", "ERROR\r\n", false),
    (b"incr k0 18446744073709551616\r\n", "CLIENT_ERROR invalid numeric delta", false),
    (b"delete k0 1 2 3\r\n", "ERROR\r\n", false),
    (b"touch k0 x\r\n", "CLIENT_ERROR invalid exptime argument\r\n", false),
    (b"\0\x01\0\0\0\x01\0\0get k0\r\n", "ERROR\r\n", false),
    (b"\x80\x01\0\x04\xff\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0abcd", "", true),
    (b"\xff\xff\xff\xff\r\n", "ERROR\r\n", false),
    (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "ERROR\r\n", false),
    (b"\x16\x03\x01\0\xc8\x01\0\0\xc4\x03\x03\n", "ERROR\r\n", false),
    (b"set k0 0 0 2147483646\r\n", "CLIENT_ERROR bad command line format\r\n", true),
    (b"*1\r\n$4\r\nPING\r\n", "ERROR\r\n", false),
    (b"POST / HTTP/1.1\r\nHost: here\r\n\r\n", "", true),
];

#[test]
fn nonsense_gets_an_error_and_harms_nobody() {
    Scene::each(|scene| {
        let table = if scene.kind == Kind::Redis { REDIS_NONSENSE } else { MEMCACHED_NONSENSE };
        for (said, begins, is_last) in table {
            let mut wire = scene.wire();
            wire.send(said);
            let answer = match is_last {
                true => wire.rest().0,
                false => wire.exact(begins.len()),
            };
            let shown = answer.escape_ascii().to_string();
            assert!(answer.starts_with(begins.as_bytes()), "{}: {shown}", said.escape_ascii());
            assert!(answer.iter().filter(|byte| **byte == b'\n').count() <= 1, "{shown}");
        }
        scene.bystander.goes_on();
    });
}

#[test]
fn ten_megabytes_without_a_line_end_are_refused() {
    Scene::each(|scene| {
        let before = scene.memory();
        for start in [b"GET ".as_slice(), b"garbage", b"\xff\xff", b"set k0 "] {
            let mut wire = scene.wire();
            let garbage = [start, &[b'g'; 10 << 20]].concat();
            // It is cut off before it has sent everything.
            let sent = wire.try_send(&garbage);
            assert!(sent.is_err_and(|error| is_reset(&error)), "all of it was taken");
            let (answer, _) = wire.rest();
            let wanted: &[u8] = match scene.kind {
                Kind::Redis => b"-ERR Protocol error: too big inline request\r\n",
                Kind::Memcached => b"CLIENT_ERROR line too long\r\n",
            };
            assert_eq!(answer.escape_ascii().to_string(), wanted.escape_ascii().to_string());
        }
        scene.bystander.goes_on();
        let grown = scene.memory().saturating_sub(before);
        assert!(grown < 4 * MIB, "{grown} bytes are held");
    });
}

#[test]
fn a_hundred_thousand_nested_arrays_are_refused() {
    for base in Base::BOTH {
        let scene = Scene::new(Kind::Redis, base, &[]);
        let mut wire = scene.wire();
        // It may be cut off before it has sent everything.
        let _ = wire.try_send(&b"*1\r\n".repeat(100_000));
        let (answer, _) = wire.rest();
        assert_eq!(answer, b"-ERR Protocol error: expected '$', got '*'\r\n");
        scene.end();
    }
}

/// A request that stores something.
fn store(kind: Kind, key: &str, value: &str) -> Vec<u8> {
    match kind {
        Kind::Redis => request(&["SET", key, value]),
        Kind::Memcached => format!("set {key} 0 0 {}\r\n{value}\r\n", value.len()).into_bytes(),
    }
}

#[test]
fn half_a_request_and_then_nothing_holds_up_nobody_and_ends() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        let scene = Scene::new(kind, base, &["client_stall_timeout_ms: 300"]);
        let mut idle = scene.wire();
        let request = store(kind, KEYS[0], "a value");
        let halves: Vec<Wire> = (1..request.len())
            .map(|size| {
                let mut wire = scene.wire();
                wire.send(&request[..size]);
                wire
            })
            .collect();
        scene.bystander.goes_on();
        for mut half in halves {
            let (answer, ended) = half.rest();
            assert_eq!((answer.len(), ended), (0, Ended::Closed));
        }
        // One who has said nothing may go on saying nothing.
        assert_eq!(kind.get(&mut idle, KEYS[0]), kind.missing());
        drop(idle);
        scene.end();
    }
}

/// Clients that announce much and send little.
const UNFINISHED_COUNT: usize = 30;

#[test]
fn announced_bodies_take_no_memory_before_they_come() {
    Scene::each(|scene| {
        let before = scene.memory();
        let head: &[u8] = match scene.kind {
            Kind::Redis => b"*3\r\n$3\r\nSET\r\n$2\r\nk0\r\n$536870000\r\nabc",
            Kind::Memcached => b"set k0 0 0 536870000\r\nabc",
        };
        let many: &[u8] = match scene.kind {
            Kind::Redis => b"*1048576\r\n$4\r\nMGET\r\n",
            Kind::Memcached => b"get k0 k0 k0 k0 k0 k0",
        };
        let unfinished: Vec<Wire> = (0..UNFINISHED_COUNT)
            .map(|i| {
                let mut wire = scene.wire();
                wire.send(if i % 2 == 0 { head } else { many });
                wire
            })
            .collect();
        let connections = 2 + UNFINISHED_COUNT as u64;
        scene.weir.until_counter(scene.kind, "client_connections", |count| count == connections);
        scene.bystander.goes_on();
        let grown = scene.memory().saturating_sub(before);
        assert!(grown < 4 * MIB, "{grown} bytes are held");
        drop(unfinished);
    });
}

/// Bytes of the value that is asked for again and again.
const BIG_SIZE: usize = 1_000_000;
/// How often: a gigabyte in all.
const BIG_COUNT: usize = 1000;
/// The most that the proxy may ever occupy: a client's limit of 256 MiB, and what a worker needs.
const PEAK_MAX: u64 = 400 * MIB;

#[test]
fn a_client_that_reads_nothing_is_cut_off_before_it_costs_too_much() {
    Scene::each(|scene| {
        let kind = scene.kind;
        let mut wire = scene.wire();
        let before = scene.memory();
        for key in KEYS {
            assert_eq!(kind.set(&mut wire, key, &"b".repeat(BIG_SIZE)), kind.stored());
        }
        let requests = (0..BIG_COUNT).flat_map(|i| kind.get_request(KEYS[i % 2]));
        wire.send(&requests.collect::<Vec<u8>>());
        let dealt_with = || {
            let stats = scene.weir.stats();
            let pool = &stats[kind.name()];
            let waiting = ["left", "right"].map(|name| pool[name]["out_queue"].as_u64().unwrap());
            pool["client_err"] == 1 && waiting.iter().sum::<u64>() < 10
        };
        let what = "the client is cut off, and the servers have answered";
        until_within(3 * support::DEADLINE, what, || dealt_with().then_some(()));
        scene.bystander.goes_on();
        let peak = resident_bytes_max(scene.weir.pid());
        assert!(peak < PEAK_MAX, "{peak} bytes were occupied");
        println!("{kind:?}: {} kB before, at most {} MiB", before >> 10, peak / MIB);
        drop(wire);
        until_within(2 * support::DEADLINE, "the memory is given back", || {
            (scene.memory() < before + 32 * MIB).then_some(())
        });
        assert!(scene.servers.iter().all(|server| server.requests() > 0));
    });
}

/// Small requests sent without a pause.
const TINY_COUNT: usize = 100_000;

#[test]
fn a_hundred_thousand_tiny_requests_are_answered_in_order() {
    Scene::each(|scene| {
        let kind = scene.kind;
        let mut wire = scene.wire();
        for key in KEYS {
            assert_eq!(kind.set(&mut wire, key, key), kind.stored());
        }
        let requests: Vec<u8> =
            (0..TINY_COUNT).flat_map(|i| kind.get_request(KEYS[i % 7 % 2])).collect();
        let mut sender: TcpStream = wire.stream().try_clone().expect("descriptors are left");
        let sending = std::thread::spawn(move || sender.write_all(&requests));
        for i in 0..TINY_COUNT {
            let key = KEYS[i % 7 % 2];
            let reply = kind.reply(&mut wire);
            if reply != kind.found(key, key) {
                panic!("reply {i} is {}", reply.escape_ascii());
            }
        }
        sending.join().expect("no panic").expect("everything was taken");
    });
}

/// Requests that are all sent before a reply is read, and bytes of each value: the requests fit
/// into what the kernel keeps on their way, the replies are 40 MB.
const UNREAD_COUNT: usize = 200_000;
const UNREAD_SIZE: usize = 200;
/// What the proxy may need for the client: it parses no more of it beyond 1 MiB of replies.
const UNREAD_HELD_MAX: u64 = 16 * MIB;

#[test]
fn a_client_that_sends_all_before_it_reads_gets_all_in_order_from_bounded_memory() {
    Scene::each(|scene| {
        let kind = scene.kind;
        let mut wire = scene.wire();
        let values = KEYS.map(|key| key.repeat(UNREAD_SIZE / key.len()));
        for (key, value) in KEYS.iter().zip(&values) {
            assert_eq!(kind.set(&mut wire, key, value), kind.stored());
        }
        let before = resident_bytes_max(scene.weir.pid());
        // Redis takes a line, too, which is shorter.
        let line = |i| format!("get {}\r\n", KEYS[i % 7 % 2]);
        wire.send((0..UNREAD_COUNT).map(line).collect::<String>().as_bytes());
        let held = || scene.weir.stats()["buffered_bytes"].as_u64().expect("a count");
        until("replies wait for the client, and no more of it is parsed", || {
            let before = held();
            // Its worker has a turn for each of their requests, and one for the client as well.
            (0..5).for_each(|_| scene.bystander.goes_on());
            (before > MIB / 2 && held() < before + MIB / 2).then_some(())
        });
        let replies = [0, 1].map(|i| kind.found(KEYS[i], &values[i]));
        for i in 0..UNREAD_COUNT {
            let right = &replies[i % 7 % 2];
            let reply = wire.exact(right.len());
            assert!(reply == *right, "reply {i} is {}", reply.escape_ascii());
        }
        let grown = resident_bytes_max(scene.weir.pid()) - before;
        println!("{kind:?}: at most {} kB more", grown >> 10);
        assert!(grown < UNREAD_HELD_MAX, "{grown} bytes were held");
        // And there was nothing else on its way to it.
        assert_eq!(kind.get(&mut wire, KEYS[1]), replies[1]);
    });
}

/// How often a client leaves at a bad moment, in each way.
const LEAVING_COUNT: usize = 30;

#[test]
fn clients_may_leave_at_any_moment() {
    Scene::each(|scene| {
        let kind = scene.kind;
        let big = "b".repeat(100_000);
        for key in KEYS {
            assert_eq!(kind.set(&mut scene.wire(), key, &big), kind.stored());
        }
        let before = descriptors_count(scene.weir.pid());
        let half = store(kind, "k2", &big);
        let asking: Vec<u8> = (0..100).flat_map(|i| kind.get_request(KEYS[i % 2])).collect();
        for i in 0..LEAVING_COUNT {
            // In the middle of a request, or with a thousand replies on their way.
            for bytes in [&half[..1 + i * half.len() / LEAVING_COUNT], &asking] {
                let mut leaving = scene.wire();
                leaving.send(bytes);
                drop(leaving);
                let mut resetting = scene.wire();
                resetting.send(bytes);
                resetting.reset();
                // After some of the replies, too.
                let mut later = scene.wire();
                later.send(&asking);
                later.exact(1 + i * 10_000);
                later.reset();
            }
        }
        scene.bystander.goes_on();
        scene.until_alone();
        until("nothing is held for those who left", || {
            (scene.weir.stats()["buffered_bytes"].as_u64()? < 1000).then_some(())
        });
        until("their descriptors are closed", || {
            (descriptors_count(scene.weir.pid()) <= before).then_some(())
        });
    });
}
