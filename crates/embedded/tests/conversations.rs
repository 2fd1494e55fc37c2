//! Conversations with the server: what is sent at which time, and what must come back.
//!
//! Whether the texts are those of the real servers is the matter of `differential.rs`; here are the
//! things that need a clock, a limit or an option.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use base::Time;
use embedded::{Data, Mode, Outcome, Session, Store, StoreOptions};
use protocol::Protocol;

/// (milliseconds since the start, what is sent, what comes back)
type Step<'a> = (u64, &'a str, &'a str);

fn at_ms(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

/// Runs one session against `store`; returns whether it is still open.
fn converse(store: &mut Store, protocol: Protocol, steps: &[Step<'_>]) -> Outcome {
    let mut session = Session::new(protocol);
    let mut outcome = Outcome::Open;
    for (ms, input, expected) in steps {
        let mut out = Vec::new();
        outcome = session.handle(store, input.as_bytes(), at_ms(*ms), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), *expected, "after {input:?} at {ms} ms");
    }
    outcome
}

/// The same with a new store of these options.
fn converse_with(options: StoreOptions, protocol: Protocol, steps: &[Step<'_>]) -> Store {
    let mut store = Store::new(options);
    converse(&mut store, protocol, steps);
    store
}

fn redis(steps: &[Step<'_>]) -> Store {
    converse_with(StoreOptions::default(), Protocol::Redis, steps)
}

fn memcache(steps: &[Step<'_>]) -> Store {
    converse_with(StoreOptions::default(), Protocol::Memcache, steps)
}

#[test]
fn redis_keys_live_until_their_expiry_to_the_millisecond() {
    redis(&[
        (0, "SET a 1 PX 1500\r\n", "+OK\r\n"),
        (0, "SET b 2 EX 2\r\n", "+OK\r\n"),
        (0, "PTTL a\r\nTTL a\r\nTTL b\r\n", ":1500\r\n:2\r\n:2\r\n"),
        (1001, "PTTL a\r\nTTL a\r\n", ":499\r\n:0\r\n"),
        (1499, "GET a\r\nDBSIZE\r\n", "$1\r\n1\r\n:2\r\n"),
        (1500, "GET a\r\nTTL a\r\nDBSIZE\r\n", "$-1\r\n:-2\r\n:1\r\n"),
        (1600, "EXPIRE b 10\r\nPTTL b\r\n", ":1\r\n:10000\r\n"),
        (2500, "PERSIST b\r\nPERSIST b\r\nTTL b\r\n", ":1\r\n:0\r\n:-1\r\n"),
        (99_999, "GET b\r\nEXPIRE b -1\r\nEXISTS b\r\n", "$1\r\n2\r\n:1\r\n:0\r\n"),
    ]);
}

#[test]
fn redis_writes_keep_or_drop_the_expiry() {
    redis(&[
        (0, "SETEX a 10 1\r\nINCR a\r\nAPPEND a 0\r\nTTL a\r\n", "+OK\r\n:2\r\n:2\r\n:10\r\n"),
        (0, "SETRANGE a 0 3\r\nTTL a\r\n", ":2\r\n:10\r\n"),
        (1000, "SET a 5 KEEPTTL\r\nTTL a\r\n", "+OK\r\n:9\r\n"),
        (1000, "GETSET a 6\r\nTTL a\r\n", "$1\r\n5\r\n:-1\r\n"),
        (1000, "SET a 7 EX 5 GET\r\nTTL a\r\n", "$1\r\n6\r\n:5\r\n"),
        (1000, "SET a 8\r\nTTL a\r\n", "+OK\r\n:-1\r\n"),
        (1000, "RPUSH l x\r\nPEXPIRE l 10\r\nRPUSH l y\r\n", ":1\r\n:1\r\n:2\r\n"),
        (1010, "LLEN l\r\nRPUSH l z\r\nTTL l\r\n", ":0\r\n:1\r\n:-1\r\n"),
    ]);
}

#[test]
fn redis_expiry_conditions_compare_with_the_expiry_that_is_there() {
    redis(&[
        (0, "SET a 1\r\nEXPIRE a 10 XX\r\nEXPIRE a 10 GT\r\n", "+OK\r\n:0\r\n:0\r\n"),
        (0, "EXPIRE a 10 LT\r\nEXPIRE a 9 NX\r\nTTL a\r\n", ":1\r\n:0\r\n:10\r\n"),
        (0, "EXPIRE a 10 GT\r\nEXPIRE a 10 LT\r\n", ":0\r\n:0\r\n"),
        (0, "EXPIRE a 11 GT XX\r\nEXPIRE a 9 LT XX\r\nTTL a\r\n", ":1\r\n:1\r\n:9\r\n"),
    ]);
}

#[test]
fn redis_databases_are_apart_and_flushed_together() {
    let store = redis(&[
        (0, "SET a 0\r\nSELECT 15\r\nGET a\r\nSET a 15\r\n", "+OK\r\n+OK\r\n$-1\r\n+OK\r\n"),
        (0, "SELECT 0\r\nGET a\r\nDBSIZE\r\n", "+OK\r\n$1\r\n0\r\n:1\r\n"),
    ]);
    assert_eq!(store.len(), 2);
    let mut store = store;
    converse(&mut store, Protocol::Redis, &[(0, "GET a\r\nFLUSHALL\r\n", "$1\r\n0\r\n+OK\r\n")]);
    assert_eq!((store.len(), store.bytes()), (0, 0));
}

#[test]
fn redis_collections_are_listed_in_order_and_vanish_when_empty() {
    let store = redis(&[
        (0, "SADD s b 10 a 9 b\r\n", ":4\r\n"),
        (0, "SMEMBERS s\r\n", "*4\r\n$2\r\n10\r\n$1\r\n9\r\n$1\r\na\r\n$1\r\nb\r\n"),
        (0, "HSET h z 1 y 2\r\n", ":2\r\n"),
        (0, "HGETALL h\r\n", "*4\r\n$1\r\ny\r\n$1\r\n2\r\n$1\r\nz\r\n$1\r\n1\r\n"),
        (0, "LPUSH l a b\r\nRPOP l 5\r\n", ":2\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        (0, "SREM s 9 10 a b c\r\nHDEL h y z y\r\n", ":4\r\n:2\r\n"),
        (0, "EXISTS s h l\r\n", ":0\r\n"),
    ]);
    assert_eq!((store.len(), store.bytes()), (0, 0));
}

#[test]
fn redis_asks_for_the_password_first() {
    let options = StoreOptions { password: Some(b"secret".to_vec()), ..StoreOptions::default() };
    let no_login = "-NOAUTH Authentication required.\r\n";
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    converse_with(
        options,
        Protocol::Redis,
        &[
            (0, "GET a\r\nPING\r\n", &no_login.repeat(2)),
            (
                0,
                "AUTH public\r\nAUTH someone secret\r\nGET a\r\n",
                &[wrong, wrong, no_login].concat(),
            ),
            (0, "AUTH secret\r\nGET a\r\n", "+OK\r\n$-1\r\n"),
            (
                0,
                "AUTH public\r\nGET a\r\nAUTH default secret\r\n",
                &[wrong, "$-1\r\n+OK\r\n"].concat(),
            ),
        ],
    );
    redis(&[(0, "AUTH anything\r\nGET a\r\n", "+OK\r\n$-1\r\n")]);
}

#[test]
fn redis_speaks_the_version_that_the_client_chose() {
    let hello = "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n\
                 $5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
                 $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";
    let hello3 = hello.replace("*14\r\n", "%7\r\n").replace(":2\r\n", ":3\r\n");
    redis(&[
        (0, "HELLO 4\r\n", "-NOPROTO unsupported protocol version\r\n"),
        (0, "HELLO 3\r\n", &hello3),
        (0, "HELLO\r\nGET a\r\nMGET a b\r\n", &format!("{hello3}_\r\n*2\r\n_\r\n_\r\n")),
        (0, "HGETALL h\r\nSMEMBERS s\r\nLPOP l 2\r\n", "%0\r\n~0\r\n_\r\n"),
        (0, "HSET h a 1\r\nSADD s x\r\n", ":1\r\n:1\r\n"),
        (0, "HGETALL h\r\nSMEMBERS s\r\n", "%1\r\n$1\r\na\r\n$1\r\n1\r\n~1\r\n$1\r\nx\r\n"),
        (0, "COMMAND DOCS\r\nHELLO 2\r\n", &format!("%0\r\n{hello}")),
        (0, "HELLO\r\n", hello),
        (0, "HELLO 2 SETNAME me\r\n", hello),
        (0, "COMMAND DOCS\r\n", "*0\r\n"),
    ]);
}

#[test]
fn redis_refuses_writes_that_might_go_beyond_the_limit_and_nothing_else() {
    let options = StoreOptions { bytes_max: 10_000, ..StoreOptions::default() };
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    let set = |key: &str, size: usize| format!("SET {key} {}\r\n", "v".repeat(size));
    let store = converse_with(
        options,
        Protocol::Redis,
        &[
            (0, &set("a", 9000), "+OK\r\n"),
            (0, &set("b", 2000), oom),
            (0, "MSET c 1 d 2 e 3 f 4 g 5\r\n", oom),
            (0, "SETRANGE h 5000 x\r\n", oom),
            (
                0,
                "SETRANGE h 700000000 x\r\n",
                "-ERR string exceeds maximum allowed size \
                                              (proto-max-bulk-len)\r\n",
            ),
            (0, "DBSIZE\r\nSTRLEN a\r\nEXPIRE a 1\r\n", ":1\r\n:9000\r\n:1\r\n"),
            (1000, &set("b", 2000), "+OK\r\n"),
            (1000, "DEL b\r\n", ":1\r\n"),
        ],
    );
    assert_eq!(store.bytes(), 0);
}

#[test]
fn redis_says_why_a_stream_is_broken_and_closes() {
    let mut store = Store::new(StoreOptions::default());
    let error = "-ERR Protocol error: expected '$', got 'x'\r\n";
    let steps = [
        (0, "PING\r\n*1\r\nx\r\nPING\r\n", ["+PONG\r\n", error].concat()),
        (0, "PING\r\n", String::new()),
    ];
    let steps: Vec<Step<'_>> =
        steps.iter().map(|(ms, input, out)| (*ms, *input, out.as_str())).collect();
    assert_eq!(converse(&mut store, Protocol::Redis, &steps), Outcome::Close);
    let steps = [(0, "PING\r\nQUIT\r\nPING\r\n", "+PONG\r\n+OK\r\n")];
    assert_eq!(converse(&mut store, Protocol::Redis, &steps), Outcome::Close);
}

#[test]
fn memcache_items_live_as_long_as_their_exptime_says() {
    let options = StoreOptions {
        unix_time_at_zero: Duration::from_secs(1_600_000_000),
        ..StoreOptions::default()
    };
    let hit = "VALUE k 0 1\r\nv\r\nEND\r\n";
    let set = |exptime: i64| format!("set k 0 {exptime} 1\r\nv\r\nget k\r\n");
    let stored = |rest: &str| format!("STORED\r\n{rest}");
    converse_with(
        options,
        Protocol::Memcache,
        &[
            (0, &set(0), &stored(hit)),
            (1000, &set(-1), &stored("END\r\n")),
            (2000, &set(10), &stored(hit)),
            (11_999, "get k\r\n", hit),
            (12_000, "get k\r\n", "END\r\n"),
            // The largest relative time, and the least absolute one, long ago.
            (13_000, &set(2_592_000), &stored(hit)),
            (13_000, &set(2_592_001), &stored("END\r\n")),
            (20_000, &set(1_600_000_020), &stored("END\r\n")),
            (20_000, &set(1_600_000_021), &stored(hit)),
            (20_999, "get k\r\n", hit),
            (21_000, "get k\r\n", "END\r\n"),
        ],
    );
}

#[test]
fn memcache_touch_and_gat_move_the_expiry_and_keep_the_unique_number() {
    let store = memcache(&[
        (0, "set k 7 1 1\r\nv\r\ntouch k 10\r\n", "STORED\r\nTOUCHED\r\n"),
        (9000, "gat 10 k miss\r\n", "VALUE k 7 1\r\nv\r\nEND\r\n"),
        (18_000, "gats 0 k\r\n", "VALUE k 7 1 1\r\nv\r\nEND\r\n"),
        (99_000, "get k\r\ngat -1 k k\r\n", &"VALUE k 7 1\r\nv\r\nEND\r\n".repeat(2)),
        (99_000, "get k\r\ntouch k 1\r\n", "END\r\nNOT_FOUND\r\n"),
    ]);
    assert!(store.is_empty());
}

#[test]
fn memcache_flushes_now_or_later() {
    let hit = "VALUE a 0 1\r\n1\r\nEND\r\n";
    memcache(&[
        (0, "set a 0 0 1\r\n1\r\nflush_all\r\nget a\r\n", "STORED\r\nOK\r\nEND\r\n"),
        (0, "set a 0 0 1\r\n1\r\nflush_all 10 noreply\r\nget a\r\n", &["STORED\r\n", hit].concat()),
        (5000, "set b 0 0 1\r\n2\r\n", "STORED\r\n"),
        (9999, "get a\r\n", hit),
        (10_000, "get a b\r\nset a 0 0 1\r\n1\r\n", "END\r\nSTORED\r\n"),
        (99_000, "get a\r\n", hit),
    ]);
}

#[test]
fn memcache_unique_numbers_count_the_changes() {
    let store = memcache(&[
        (0, "set a 5 0 1\r\n1\r\nadd a 0 0 1\r\n2\r\n", "STORED\r\nNOT_STORED\r\n"),
        (0, "cas a 6 0 2 1\r\n10\r\ncas a 0 0 1 1\r\n2\r\n", "STORED\r\nEXISTS\r\n"),
        (0, "incr a 5\r\ndecr a 8\r\nget a\r\n", "15\r\n7\r\nVALUE a 6 2\r\n7 \r\nEND\r\n"),
        (0, "append a 0 0 1\r\nx\r\nprepend a 0 0 1\r\ny\r\n", "STORED\r\nSTORED\r\n"),
        (0, "gets a\r\n", "VALUE a 6 4 6\r\ny7 x\r\nEND\r\n"),
    ]);
    let value = store.get(b"a", Time::ZERO).unwrap();
    assert_eq!(value.data(), &Data::Bytes(b"y7 x".to_vec()));
    assert_eq!((value.flags(), value.cas(), value.expires()), (6, 6, None));
}

#[test]
fn memcache_noreply_silences_errors_too() {
    memcache(&[
        (0, "set a 0 0 1 noreply\r\n1\r\nset a 0 0 1 noreply\r\nxxx", ""),
        (0, "\r\nget a\r\n", "ERROR\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
        (0, "incr a x noreply\r\ndelete a 3 noreply\r\ntouch a x noreply\r\n", ""),
        (0, "get a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n"),
        (0, "delete a noreply\r\nget a\r\n", "END\r\n"),
    ]);
}

#[test]
fn memcache_refuses_items_beyond_either_limit_and_drops_the_old_one() {
    let set = |size: usize| format!("set a 0 0 {size}\r\n{}\r\n", "v".repeat(size));
    let too_large = "SERVER_ERROR object too large for cache\r\n";
    memcache(&[
        (0, &set(3), "STORED\r\n"),
        (0, &set(1_048_517), too_large),
        (0, "get a\r\n", "END\r\n"),
        (0, &set(1_048_516), "STORED\r\n"),
        (0, "append a 0 0 1\r\nx\r\nversion\r\n", "NOT_STORED\r\nVERSION 1.6.18\r\n"),
        (0, "set a 0 0 2000000 noreply\r\n", ""),
        (0, &"v".repeat(2_000_001), ""),
        (0, "vget a\r\n", "END\r\n"),
    ]);
    let options = StoreOptions { bytes_max: 1000, ..StoreOptions::default() };
    let store = converse_with(
        options,
        Protocol::Memcache,
        &[
            (0, &set(700), "STORED\r\n"),
            (0, "add b 0 0 700\r\n", ""),
            (
                0,
                &format!("{}\r\n", "v".repeat(700)),
                "SERVER_ERROR out of memory storing object\r\n",
            ),
            (
                0,
                "get b\r\nincr a 1\r\n",
                "END\r\nCLIENT_ERROR cannot increment or decrement \
                                          non-numeric value\r\n",
            ),
            (0, &set(950), "SERVER_ERROR out of memory storing object\r\n"),
            (0, "get a\r\n", "END\r\n"),
        ],
    );
    assert_eq!((store.len(), store.bytes()), (0, 0));
}

#[test]
fn memcache_closes_on_lines_without_an_end() {
    let mut store = Store::new(StoreOptions::default());
    let long = "x".repeat(embedded::LINE_SIZE_MAX + 1);
    let steps = [(0, &long[1..], ""), (0, "x", "")];
    assert_eq!(converse(&mut store, Protocol::Memcache, &steps), Outcome::Close);
    let keys = format!("get{}\r\n", " key".repeat(10_000));
    assert_eq!(converse(&mut store, Protocol::Memcache, &[(0, &keys, "END\r\n")]), Outcome::Open);
    let keys = format!("get {}", "k ".repeat(embedded::GET_LINE_SIZE_MAX / 2));
    assert_eq!(converse(&mut store, Protocol::Memcache, &[(0, &keys, "")]), Outcome::Close);
    let steps = [(0, "version\r\nquit\r\nversion\r\n", "VERSION 1.6.18\r\n")];
    assert_eq!(converse(&mut store, Protocol::Memcache, &steps), Outcome::Close);
}

#[test]
fn a_null_server_answers_as_if_all_were_well_and_stores_nothing() {
    let options = StoreOptions { mode: Mode::Null { value_size: 3 }, ..StoreOptions::default() };
    let store = converse_with(
        options.clone(),
        Protocol::Redis,
        &[
            (0, "SET a 1\r\nGET a\r\nGET b\r\n", "+OK\r\n$3\r\nxxx\r\n$3\r\nxxx\r\n"),
            (0, "MGET a b\r\nDEL a\r\n", "*2\r\n$3\r\nxxx\r\n$3\r\nxxx\r\n:1\r\n"),
            (0, "HGETALL h\r\n", "*2\r\n$5\r\nfield\r\n$3\r\nxxx\r\n"),
            (0, "PING\r\nGET\r\n", "+PONG\r\n-ERR wrong number of arguments for 'get' command\r\n"),
        ],
    );
    assert_eq!((store.len(), store.bytes()), (0, 0));
    let store = converse_with(
        options,
        Protocol::Memcache,
        &[
            (
                0,
                "set a 0 0 1\r\n1\r\nget a b\r\n",
                "STORED\r\nVALUE a 0 3\r\nxxx\r\n\
                                                     VALUE b 0 3\r\nxxx\r\nEND\r\n",
            ),
            (0, "gets a\r\n", "VALUE a 0 3 1\r\nxxx\r\nEND\r\n"),
            (
                0,
                "cas a 0 0 1 1 noreply\r\n1\r\ndelete a\r\ntouch a 0\r\n",
                "DELETED\r\nTOUCHED\r\n",
            ),
            (0, "incr a 5\r\nfoo\r\n", "1\r\nERROR\r\n"),
        ],
    );
    assert_eq!((store.len(), store.bytes()), (0, 0));
}

#[test]
fn memcache_answers_meta_commands_and_keeps_silent_when_asked_to() {
    let item = "VA 2 f5 s2 t-1 kk Oabc\r\nab\r\n";
    memcache(&[
        (
            0,
            "mg k v\r\nms k 2 F5\r\nab\r\nmg k v f s t k Oabc\r\n",
            &["EN\r\nHD\r\n", item].concat(),
        ),
        (0, "mg no v q\r\nmg k q\r\nms k 2 q\r\nab\r\nmn\r\n", "HD\r\nMN\r\n"),
        (0, "ms k 1 ME O1\r\nx\r\nms k 1 MA\r\nc\r\nmg k v\r\n", "NS O1\r\nHD\r\nVA 3\r\nabc\r\n"),
        (0, "ms a2s= 2 b k\r\nxy\r\nmg kk v\r\n", "HD ka2s= b\r\nVA 2\r\nxy\r\n"),
        (0, "md k C99\r\nmd k q\r\nmd k\r\n", "EX\r\nNF\r\n"),
        (
            0,
            "ma n\r\nma n N0 J13 v\r\nma n D3 v\r\nma n MD D99 v q\r\n",
            "NF\r\nVA 2\r\n13\r\nVA 2\r\n16\r\n",
        ),
        (
            0,
            "mg k v v\r\nms k 2 !\r\nab\r\n",
            "CLIENT_ERROR duplicate flag\r\nCLIENT_ERROR invalid flag\r\n",
        ),
    ]);
}
