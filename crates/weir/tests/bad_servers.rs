//! Servers that misbehave: one of a pool's two says something wrong, or nothing, or is not there.
//! The client gets the error that fits, the other server's clients see nothing of it, and when the
//! server is well again so are its clients. The bad server is scripted; the good one is real.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::bystander::Bystander;
use support::fake::{Act, Fake, Then};
use support::keys::keys_of;
use support::process::{memory_bytes, resident_bytes_max};
use support::servers::{Kind, Server};
use support::until;
use support::weir::{Base, Pool, Weir};
use support::wire::{Wire, bulk};

/// A key of the scripted server, which is the left one.
const KEY: &str = "k10";
/// A key of the real server.
const GOOD_KEY: &str = "k0";

/// The connection is broken: what came was not a reply to what was asked.
const NONSENSE: &str = "Invalid argument";
/// It ended when a reply was owed.
const CLOSED: &str = "unknown";
const SILENT: &str = "Connection timed out";
const REFUSED: &str = "Connection refused";

/// A proxy of one worker, so that everybody is served by the one that has the trouble.
struct Scene {
    kind: Kind,
    fake: Fake,
    good: Server,
    weir: Weir,
    bystander: Bystander,
    wire: Wire,
}

impl Scene {
    fn new(kind: Kind, base: Base, fake: Fake, keys: &[&str]) -> Scene {
        let good = Server::start(kind);
        let pool = Pool::new(kind, &[fake.address, good.address]);
        let pool = keys.iter().fold(pool, |pool, key| pool.with(key));
        let weir = Weir::start(base, 1, &[pool]);
        let bystander = Bystander::start(kind, weir.address(kind), &keys_of(1)[1..4]);
        let mut wire = weir.wire(kind);
        assert_eq!(kind.set(&mut wire, GOOD_KEY, "good"), kind.stored());
        Scene { kind, fake, good, weir, bystander, wire }
    }

    /// In all circumstances.
    fn each(act: impl Fn(&mut Scene)) {
        for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
            let mut scene = Scene::new(kind, base, Fake::start(Act::is_well(kind)), &[]);
            act(&mut scene);
            scene.end();
        }
    }

    /// The error line with this text.
    fn error(&self, text: &str) -> String {
        match self.kind {
            Kind::Redis => format!("-ERR {text}\r\n"),
            Kind::Memcached => format!("SERVER_ERROR {text}\r\n"),
        }
    }

    fn get(&mut self) -> String {
        String::from_utf8_lossy(&self.kind.get(&mut self.wire, KEY)).into_owned()
    }

    /// The server is started anew, and the same client is served as if nothing had been.
    fn recovers(&mut self) {
        self.fake.restart(Act::is_well(self.kind));
        let well = String::from_utf8_lossy(self.kind.missing()).into_owned();
        until("the server's clients are served again", || (self.get() == well).then_some(()));
    }

    fn end(mut self) {
        self.recovers();
        let found = self.kind.found(GOOD_KEY, "good");
        assert_eq!(self.kind.get(&mut self.wire, GOOD_KEY), found);
        self.bystander.finish();
        assert!(!self.weir.running.has_ended());
        assert!(self.good.requests() > 10);
    }
}

/// What the server says to the client's `get`, and the error that the client gets.
type Bad = (&'static str, Act, &'static str);

fn redis_nonsense() -> Vec<Bad> {
    vec![
        ("garbage", Act::says("hello there\r\n"), NONSENSE),
        ("one byte of garbage", Act::says("?"), NONSENSE),
        ("a type of a later protocol", Act::says("%1\r\n+a\r\n+b\r\n"), NONSENSE),
        ("a line without its end", Act::says(vec![b'+'; 1 << 20]), NONSENSE),
        ("a bare line feed", Act::says("+OK\n"), NONSENSE),
        ("blank lines", Act::says("\r\n\r\n"), NONSENSE),
        ("a negative length", Act::says("$-2\r\n"), NONSENSE),
        ("another one", Act::says("$-7\r\nabc\r\n"), NONSENSE),
        ("a length that wraps 32 bits to 3", Act::says("$4294967299\r\nabc\r\n"), NONSENSE),
        ("a length that wraps to 3", Act::says("$18446744073709551619\r\nabc\r\n"), NONSENSE),
        ("a huge length", Act::says("$4294967295\r\nabc"), NONSENSE),
        ("a length that is no number", Act::says("$3x\r\nabc\r\n"), NONSENSE),
        ("a value longer than its length", Act::says("$3\r\nabcdef\r\n"), NONSENSE),
        ("a negative count", Act::says("*-2\r\n"), NONSENSE),
        ("a huge count", Act::says("*2000000000\r\n"), NONSENSE),
        ("a number that is none", Act::says(":1x\r\n"), NONSENSE),
        ("nothing, and it closes", Act::says_and_closes(""), CLOSED),
        ("half a value, and it closes", Act::says_and_closes("$5\r\nhel"), CLOSED),
        ("half a line, and it closes", Act::says_and_closes("+O"), CLOSED),
        ("half an array, and it closes", Act::says_and_closes("*2\r\n+a\r\n"), CLOSED),
        ("deep nesting, and it closes", Act::says_and_closes("*1\r\n".repeat(50_000)), CLOSED),
    ]
}

fn memcached_nonsense() -> Vec<Bad> {
    let long_key = format!("VALUE {} 0 1\r\na\r\nEND\r\n", "k".repeat(300));
    let long_flags = format!("VALUE k10 {} 1\r\na\r\nEND\r\n", "0".repeat(20_000));
    vec![
        ("garbage", Act::says("hello there\r\n"), NONSENSE),
        ("another key's value", Act::says("VALUE k99 0 1\r\na\r\nEND\r\n"), NONSENSE),
        ("values, and no end", Act::says("VALUE k10 0 1\r\na\r\nSTORED\r\n"), NONSENSE),
        ("the value twice", Act::says("VALUE k10 0 1\r\na\r\n".repeat(2) + "END\r\n"), NONSENSE),
        ("the reply to another command", Act::says("STORED\r\n"), NONSENSE),
        ("a line without its end", Act::says(vec![b'V'; 1 << 20]), NONSENSE),
        ("a bare line feed", Act::says("END\n"), NONSENSE),
        ("blank lines", Act::says("\r\n\r\n"), NONSENSE),
        ("a key that is too long", Act::says(long_key), NONSENSE),
        ("flags that are too long", Act::says(long_flags), NONSENSE),
        ("a length that wraps 32 bits to 3", Act::says("VALUE k10 0 4294967299\r\n"), NONSENSE),
        ("a negative length", Act::says("VALUE k10 0 -1\r\n"), NONSENSE),
        ("a length that wraps to 3", Act::says("VALUE k10 0 18446744073709551619\r\n"), NONSENSE),
        ("a huge length", Act::says("VALUE k10 0 4294967295\r\nabc"), NONSENSE),
        ("a length that is no number", Act::says("VALUE k10 0 3x\r\nabc\r\nEND\r\n"), NONSENSE),
        ("a value longer than its length", Act::says("VALUE k10 0 3\r\nabcdef\r\n"), NONSENSE),
        ("the binary protocol", Act::says("\u{81}\0\0\0\r\n"), NONSENSE),
        ("nothing, and it closes", Act::says_and_closes(""), CLOSED),
        ("half a value, and it closes", Act::says_and_closes("VALUE k10 0 5\r\nhel"), CLOSED),
        (
            "a value and no end, and it closes",
            Act::says_and_closes("VALUE k10 0 1\r\na\r\n"),
            CLOSED,
        ),
        ("half a line, and it closes", Act::says_and_closes("EN"), CLOSED),
    ]
}

#[test]
fn nonsense_becomes_an_error_and_breaks_only_its_connection() {
    Scene::each(|scene| {
        let table = match scene.kind {
            Kind::Redis => redis_nonsense(),
            Kind::Memcached => memcached_nonsense(),
        };
        let before = memory_bytes(scene.weir.pid());
        for (name, act, text) in table {
            scene.fake.now(act);
            assert_eq!(scene.get(), scene.error(text), "{name}");
            scene.recovers();
        }
        let grown = memory_bytes(scene.weir.pid()).saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes are held");
        let counted = scene.weir.stats()[scene.kind.name()]["left"].clone();
        let errors =
            counted["server_err"].as_u64().unwrap() + counted["server_eof"].as_u64().unwrap();
        assert!(errors >= 17, "{counted}");
    });
}

/// What servers say when they are well, but won't.
const REDIS_ERRORS: &[&str] = &[
    "-LOADING Redis is loading the dataset in memory\r\n",
    "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n",
    "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
    "-NOAUTH Authentication required.\r\n",
    "-MOVED 3999 127.0.0.1:6381\r\n",
    "-ASK 3999 127.0.0.1:6381\r\n",
    "-ERR unknown command\r\n",
];

const MEMCACHED_ERRORS: &[&str] = &[
    "SERVER_ERROR out of memory writing get response\r\n",
    "SERVER_ERROR temporary failure\r\n",
    "CLIENT_ERROR line too long\r\n",
    "ERROR\r\n",
];

#[test]
fn errors_of_a_server_are_passed_on_word_for_word_and_break_nothing() {
    Scene::each(|scene| {
        let is_redis = scene.kind == Kind::Redis;
        let errors = if is_redis { REDIS_ERRORS } else { MEMCACHED_ERRORS };
        let well = String::from_utf8_lossy(scene.kind.missing()).into_owned();
        assert_eq!(scene.get(), well);
        let opened_count = scene.fake.connections_count();
        for text in errors {
            scene.fake.now(Act::says(*text));
            assert_eq!(scene.get(), *text);
        }
        scene.fake.now(Act::is_well(scene.kind));
        assert_eq!(scene.get(), well);
        assert_eq!(scene.fake.connections_count(), opened_count, "no connection was lost");
        let counted = scene.weir.stats()[scene.kind.name()]["left"].clone();
        assert_eq!(
            (counted["server_err"].as_u64(), counted["server_eof"].as_u64()),
            (Some(0), Some(0))
        );
    });
}

#[test]
fn a_reply_that_comes_in_single_bytes_is_whole() {
    Scene::each(|scene| {
        let reply = scene.kind.found(KEY, &"slow ".repeat(200));
        scene.fake.now(Act::trickles(reply.clone()));
        for _ in 0..5 {
            assert_eq!(scene.get().into_bytes(), reply);
        }
    });
}

/// A connection that is torn down costs what was asked on it, and one that is closed to one side is
/// dead for what is asked next.
#[test]
fn a_connection_that_ends_in_any_way_costs_what_was_asked_on_it() {
    Scene::each(|scene| {
        let well = scene.kind.missing();
        for (then, said, is_answered) in [
            (Then::Resets, &b""[..], false),
            (Then::ClosesItsHalf, b"", false),
            (Then::Closes, well, true),
            (Then::ClosesItsHalf, well, true),
        ] {
            scene.fake.now(Act::says_and(said, then));
            let reply = scene.get();
            let is_error = reply.starts_with("-ERR ") || reply.starts_with("SERVER_ERROR ");
            assert_eq!(
                (reply.as_bytes() == well, is_error),
                (is_answered, !is_answered),
                "{then:?}"
            );
            scene.fake.now(Act::is_well(scene.kind));
            until("another connection serves", || (scene.get().as_bytes() == well).then_some(()));
        }
        // Before anything is asked.
        for then in [Then::Resets, Then::Closes, Then::ClosesItsHalf] {
            scene.fake.greets_with(Act::says_and("", then));
            scene.fake.restart(Act::is_well(scene.kind));
            for _ in 0..20 {
                let reply = scene.get();
                assert!(
                    reply.starts_with("-ERR ") || reply.starts_with("SERVER_ERROR "),
                    "{reply}"
                );
            }
            scene.fake.greets_with(Act::says(""));
            scene.recovers();
        }
    });
}

/// What a server says before it is asked anything may come when a request waits already. Its kind
/// and its key tell. (Replies of Redis have neither.)
#[test]
fn a_greeting_that_cannot_be_the_reply_reaches_nobody() {
    for base in Base::BOTH {
        let kind = Kind::Memcached;
        let mut scene = Scene::new(kind, base, Fake::start(Act::is_well(kind)), &[]);
        for stray in [kind.found("k99", "stray"), kind.stored().to_vec(), b"220 hello\r\n".to_vec()]
        {
            scene.fake.greets_with(Act::says(stray));
            for _ in 0..10 {
                scene.fake.restart(Act::is_well(kind));
                let reply = scene.get();
                assert!(reply == "END\r\n" || reply.starts_with("SERVER_ERROR "), "{reply}");
            }
        }
        scene.fake.greets_with(Act::says(""));
        scene.end();
    }
}

/// A surplus reply must not reach whoever asks next.
#[test]
fn replies_that_nobody_asked_for_reach_nobody() {
    Scene::each(|scene| {
        let kind = scene.kind;
        let surplus: Vec<u8> = [kind.missing(), &kind.found(KEY, "stray")].concat();
        for _ in 0..20 {
            scene.fake.now(Act::says(surplus.clone()));
            assert_eq!(scene.get().as_bytes(), kind.missing());
            scene.fake.now(Act::is_well(kind));
            let reply = until("the connection is open anew", || {
                // In between, the connection may be found broken.
                Some(scene.get()).filter(|reply| !reply.contains("ERR"))
            });
            assert_eq!(reply.as_bytes(), kind.missing());
        }
        // While nobody waits for anything.
        scene.fake.says_late(&kind.found(KEY, "stray"));
        let reply = until("the connection is open anew", || {
            Some(scene.get()).filter(|reply| !reply.contains("ERR"))
        });
        assert_eq!(reply.as_bytes(), kind.missing());
    });
}

/// Milliseconds that a request may wait. The bystander must be served well within it, whatever
/// else runs on the machine.
const TIMEOUT: &str = "timeout: 1500";

#[test]
fn a_silent_server_costs_its_clients_the_time_out_and_no_more() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        // The second is of a length that may be, and takes no memory before it comes.
        let halves: [&str; 2] = match kind {
            Kind::Redis => ["$5\r\nhel", "$536870912\r\nhel"],
            Kind::Memcached => ["VALUE k10 0 5\r\nhel", "VALUE k10 0 536870912\r\nhel"],
        };
        let fake = Fake::start(Act::hangs());
        let mut scene = Scene::new(kind, base, fake, &[TIMEOUT]);
        assert_eq!(scene.get(), scene.error(SILENT));
        // What comes too late goes to nobody, also when somebody else waits by then.
        let count = scene.fake.requests_count();
        scene.wire.send(&kind.get_request(KEY));
        until("the next request comes", || (scene.fake.requests_count() > count).then_some(()));
        scene.fake.says_late(&kind.found(KEY, "late"));
        scene.fake.says_late(kind.missing());
        assert_eq!(kind.reply(&mut scene.wire), kind.missing());
        let before = memory_bytes(scene.weir.pid());
        for half in halves {
            scene.fake.now(Act::says(half));
            assert_eq!(scene.get(), scene.error(SILENT));
            scene.recovers();
        }
        let grown = memory_bytes(scene.weir.pid()).saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes are held");
        let timed_out = scene.weir.stats()[kind.name()]["left"]["server_timedout"].clone();
        assert_eq!(timed_out.as_u64(), Some(3));
        scene.end();
    }
}

const STANDING_TIMEOUT: &str = "timeout: 300";
const STANDING_LONG: Duration = Duration::from_millis(400);
/// Requests that wait while the process stands still.
const STANDING_COUNT: usize = 50;
/// How often it does. It is stopped wherever it is just then, and not each place was bad.
const STOPS_COUNT: usize = 4;

/// A time-out is judged when what has come meanwhile is read: a process that was stopped for longer
/// than that finds all replies there.
#[test]
fn replies_that_come_while_the_proxy_stands_still_are_not_late() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        let fake = Fake::start(Act::hangs());
        let pool = Pool::new(kind, &[fake.address]).with(STANDING_TIMEOUT);
        let weir = Weir::start(base, 1, &[pool]);
        let mut wire = weir.wire(kind);
        let (requests, reply) = (kind.get_request(KEY).repeat(STANDING_COUNT), kind.missing());
        for _ in 0..STOPS_COUNT {
            let count = fake.bytes_count();
            wire.send(&requests);
            until("all is asked", || (fake.bytes_count() == count + requests.len()).then_some(()));
            let began = Instant::now();
            weir.running.signal(Signal::STOP);
            fake.says_late(&reply.repeat(STANDING_COUNT));
            until("the time-out has passed", || (began.elapsed() > STANDING_LONG).then_some(()));
            weir.running.signal(Signal::CONT);
            let replies = wire.exact(reply.len() * STANDING_COUNT);
            let shown = replies[..60].escape_ascii().to_string();
            assert!(replies == reply.repeat(STANDING_COUNT), "{kind:?}, {base:?}: {shown}");
        }
        fake.restart(Act::is_well(kind));
    }
}

#[test]
fn a_server_that_refuses_is_asked_again_until_it_listens() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        let mut scene = Scene::new(kind, base, Fake::refusing(Act::is_well(kind)), &[]);
        for _ in 0..20 {
            assert_eq!(scene.get(), scene.error(REFUSED));
        }
        scene.bystander.goes_on();
        scene.fake.listen();
        scene.end();
    }
}

/// The part of a request that the good server has is not lost where the protocol can say so.
#[test]
fn a_request_of_both_servers_says_that_one_failed() {
    for base in Base::BOTH {
        let mut redis =
            Scene::new(Kind::Redis, base, Fake::refusing(Act::is_well(Kind::Redis)), &[]);
        for words in
            [&["MGET", GOOD_KEY, KEY][..], &["DEL", "k5", KEY], &["MSET", "k5", "a", KEY, "b"]]
        {
            let reply = redis.wire.ask(words);
            assert_eq!(String::from_utf8_lossy(&reply), redis.error(REFUSED), "{words:?}");
        }
        redis.fake.listen();
        redis.end();

        let mut memcached =
            Scene::new(Kind::Memcached, base, Fake::refusing(Act::is_well(Kind::Memcached)), &[]);
        let reply = memcached.wire.ask_memcached(&format!("get {KEY} {GOOD_KEY}\r\n"));
        let wanted = format!("VALUE {GOOD_KEY} 0 4\r\ngood\r\n{}", memcached.error(REFUSED));
        assert_eq!(String::from_utf8_lossy(&reply), wanted);
        memcached.fake.listen();
        memcached.end();
    }
}

/// Deep nesting is a right reply, and costs no stack.
#[test]
fn fifty_thousand_nested_arrays_come_through() {
    for base in Base::BOTH {
        let mut scene = Scene::new(Kind::Redis, base, Fake::start(Act::hangs()), &[]);
        let reply = [b"*1\r\n".repeat(50_000), bulk(b"the middle")].concat();
        scene.fake.now(Act::says(reply.clone()));
        for _ in 0..3 {
            scene.wire.send(&Kind::Redis.get_request(KEY));
            assert!(scene.wire.exact(reply.len()) == reply);
        }
        scene.end();
    }
}

/// A whole pipeline is answered, each request by its own server or with an error, in order.
#[test]
fn a_pipeline_over_a_broken_server_keeps_its_order() {
    Scene::each(|scene| {
        let kind = scene.kind;
        scene.fake.restart(Act::says_and_closes(""));
        let mut requests = Vec::new();
        for i in 0..200 {
            requests.extend(kind.get_request(if i % 2 == 0 { GOOD_KEY } else { KEY }));
        }
        scene.wire.send(&requests);
        for i in 0..200 {
            let reply = kind.reply(&mut scene.wire);
            if i % 2 == 0 {
                assert_eq!(reply, kind.found(GOOD_KEY, "good"), "reply {i}");
            } else {
                let reply = String::from_utf8_lossy(&reply).into_owned();
                assert!(
                    reply.starts_with("-ERR ") || reply.starts_with("SERVER_ERROR "),
                    "{reply}"
                );
            }
        }
    });
}

/// Bytes of a value of the good server, and how often it is asked for.
const BIG_SIZE: usize = 1_000_000;
const BIG_COUNT: usize = 300;
/// Of replies that one client may leave with the proxy.
const OUTPUT_MAX: &str = "client_output_max_bytes: 33554432";
/// Above what the proxy occupies: the limit, and what is on its way in one turn.
const PEAK_MAX: u64 = 160 << 20;

/// A client whose first reply does not come is owed all the others. They count like replies that it
/// does not read: it is closed before they cost too much.
#[test]
fn replies_that_wait_behind_a_silent_server_are_limited() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        let scene = Scene::new(kind, base, Fake::start(Act::hangs()), &[OUTPUT_MAX]);
        let mut wire = scene.weir.wire(kind);
        assert_eq!(kind.set(&mut wire, GOOD_KEY, &"b".repeat(BIG_SIZE)), kind.stored());
        let requests = kind.get_request(GOOD_KEY).repeat(BIG_COUNT);
        wire.send(&[kind.get_request(KEY), requests].concat());
        let (answer, _) = wire.rest();
        assert!(answer.is_empty(), "{} bytes came before the first reply", answer.len());
        let peak = resident_bytes_max(scene.weir.pid());
        println!("{kind:?}, {base:?}: at most {} MiB", peak >> 20);
        assert!(peak < PEAK_MAX, "{peak} bytes were occupied");
        assert_eq!(scene.weir.counter(kind, "client_err"), 1);
        let mut other = scene.weir.wire(kind);
        assert_eq!(kind.set(&mut other, GOOD_KEY, "good"), kind.stored());
        scene.end();
    }
}
