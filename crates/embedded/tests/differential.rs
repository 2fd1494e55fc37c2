//! The same commands to this server and to the real ones: the replies must be the same to the byte.
//!
//! Not asked, because the replies are different by design: INFO, COMMAND, HELLO (a connection's
//! number), AUTH without a password, quotes in inline requests, requests beyond this server's
//! limits. Not compared to the byte: the order of HGETALL and SMEMBERS (both are sorted first), and
//! TTL and PTTL (the clocks differ; see `CLOCK_SLACK_S`).
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant, SystemTime};

use base::Time;
use embedded::{Session, Store, StoreOptions};
use protocol::Protocol;
use support::{Random, Server, ask, show};

/// Random commands for each seed.
const COMMANDS_COUNT: usize = 3000;

/// Expiries are at least twice this far from now and from each other, and two TTLs are the same
/// when they differ by less: the machine may be slow.
const CLOCK_SLACK_S: i64 = 400;

/// This server, with a clock.
struct Embedded {
    store: Store,
    started: Instant,
}

impl Embedded {
    fn new(options: StoreOptions) -> Embedded {
        Embedded { store: Store::new(options), started: Instant::now() }
    }

    fn ask(&mut self, session: &mut Session, request: &[u8]) -> Vec<u8> {
        let now = Time::ZERO + self.started.elapsed();
        let mut output = Vec::new();
        session.handle(&mut self.store, request, now, &mut output);
        output
    }

    fn exchange(&mut self, protocol: Protocol, input: &[u8]) -> Vec<u8> {
        self.ask(&mut Session::new(protocol), input)
    }
}

fn options() -> StoreOptions {
    let unix_time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    StoreOptions { unix_time_at_zero: unix_time, ..StoreOptions::default() }
}

/// Each conversation on a connection of its own, all on the same servers.
fn compare_conversations(
    server: &Server,
    embedded: &mut Embedded,
    protocol: Protocol,
    conversations: &[String],
) {
    for conversation in conversations {
        let expected = server.exchange(conversation.as_bytes());
        let got = embedded.exchange(protocol, conversation.as_bytes());
        assert_eq!(show(&got), show(&expected), "to {conversation:?}");
    }
}

fn resp(words: &[&str]) -> String {
    let mut request = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| request += &format!("${}\r\n{word}\r\n", word.len()));
    request
}

#[test]
fn redis_replies_to_random_commands_are_those_of_the_real_server() {
    for seed in [1, 2, 3] {
        let server = Server::redis(&[]);
        let mut stream = server.connect();
        let mut embedded = Embedded::new(options());
        let mut session = Session::new(Protocol::Redis);
        let mut commands = RedisCommands { random: Random(seed), expiries_count: 0 };
        for index in 0..COMMANDS_COUNT {
            let words = commands.next();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let request = resp(&words);
            let mark = format!("mark{index}");
            let mark_reply = format!("${}\r\n{mark}\r\n", mark.len());
            let mark = resp(&["ECHO", &mark]);
            let expected =
                ask(&mut stream, request.as_bytes(), mark.as_bytes(), mark_reply.as_bytes());
            let got = embedded.ask(&mut session, request.as_bytes());
            assert!(
                is_same_reply(words[0], &got, &expected),
                "seed {seed}, command {index} {words:?}: got {}, expected {}",
                show(&got),
                show(&expected),
            );
        }
        delete_all(&mut embedded, &mut session);
        assert_eq!((embedded.store.len(), embedded.store.bytes()), (0, 0), "seed {seed}");
    }
}

/// Deletes every key that the commands can have made, one by one, so that whatever was counted of
/// them must have been taken back.
fn delete_all(embedded: &mut Embedded, session: &mut Session) {
    for database in 0..16 {
        let select = resp(&["SELECT", &database.to_string()]);
        embedded.ask(session, select.as_bytes());
        for key in REDIS_KEYS {
            embedded.ask(session, resp(&["DEL", key]).as_bytes());
        }
    }
}

fn is_same_reply(name: &str, got: &[u8], expected: &[u8]) -> bool {
    match name {
        "SMEMBERS" => sorted_elements(got, 1) == sorted_elements(expected, 1),
        "HGETALL" => sorted_elements(got, 2) == sorted_elements(expected, 2),
        "TTL" => is_near(got, expected, CLOCK_SLACK_S),
        "PTTL" => is_near(got, expected, CLOCK_SLACK_S * 1000),
        _ => got == expected,
    }
}

/// Whether both are the same, or integers that are not negative and differ by less than `slack`.
fn is_near(got: &[u8], expected: &[u8], slack: i64) -> bool {
    let number = |reply: &[u8]| -> Option<i64> {
        let text = std::str::from_utf8(reply).ok()?;
        text.strip_prefix(':')?.strip_suffix("\r\n")?.parse().ok()
    };
    match (number(got), number(expected)) {
        (Some(got), Some(expected)) if got >= 0 && expected >= 0 => {
            got.abs_diff(expected) < slack as u64
        }
        _ => got == expected,
    }
}

/// The head of an array reply and its elements, in sorted groups; the values are short and have no
/// line ends. Another reply is left as it is.
fn sorted_elements(reply: &[u8], group_size: usize) -> Vec<Vec<u8>> {
    let lines: Vec<&[u8]> = reply.split_inclusive(|byte| *byte == b'\n').collect();
    let mut groups: Vec<Vec<u8>> =
        lines[1..].chunks(2 * group_size).map(<[&[u8]]>::concat).collect();
    groups.sort_unstable();
    groups.insert(0, lines[0].to_vec());
    groups
}

/// Makes commands on few keys, so that they meet each other's data.
struct RedisCommands {
    random: Random,
    expiries_count: u64,
}

const REDIS_KEYS: &[&str] = &["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", ""];

/// What can be asked: a name and the kinds of its arguments, as `push_argument` knows them; any
/// other word stands for itself. A star repeats the last one a few times.
const REDIS_SHAPES: &[&str] = &[
    "GET K",
    "SET K V",
    "SET K V Options",
    "SET K V Options",
    "SETNX K V",
    "SETEX K E V",
    "GETSET K V",
    "GETDEL K",
    "APPEND K V",
    "STRLEN K",
    "INCR K",
    "DECR K",
    "INCRBY K I",
    "DECRBY K I",
    "MGET K*",
    "MSET K V",
    "MSET K V K V K V",
    "MSET K V K",
    "DEL K*",
    "UNLINK K",
    "EXISTS K*",
    "TOUCH K*",
    "EXPIRE K E",
    "EXPIRE K E Condition",
    "EXPIRE K E Condition Condition",
    "PEXPIRE K M",
    "PEXPIRE K M Condition",
    "TTL K",
    "PTTL K",
    "PERSIST K",
    "TYPE K",
    "GETRANGE K I I",
    "SETRANGE K Offset V",
    "LPUSH K V*",
    "RPUSH K V*",
    "LLEN K",
    "LRANGE K I I",
    "LPOP K",
    "LPOP K I",
    "RPOP K",
    "RPOP K I",
    "HSET K F V",
    "HSET K F V F V F V",
    "HSET K F V F",
    "HGET K F",
    "HDEL K F*",
    "HGETALL K",
    "HLEN K",
    "SADD K F*",
    "SREM K F*",
    "SCARD K",
    "SMEMBERS K",
    "SISMEMBER K F",
    "DBSIZE",
    "PING",
    "PING V",
    "ECHO V",
    "SELECT Database",
    "flushall",
    "FLUSHALL sync",
    "FLUSHALL V",
    "NOSUCH V*",
    "GET",
    "SET K",
    "GET K K",
    "LPOP K I I",
    "STRLEN",
];

impl RedisCommands {
    fn next(&mut self) -> Vec<String> {
        // Rarely, so that data comes together in between.
        let shape = loop {
            let shape = self.random.pick(REDIS_SHAPES);
            let is_rare = shape.eq_ignore_ascii_case("flushall") || shape.starts_with("FLUSHALL s");
            if !is_rare || self.random.below(10) == 0 {
                break shape;
            }
        };
        let mut words = shape.split(' ');
        let mut command = vec![words.next().unwrap().to_owned()];
        for kind in words {
            let (kind, count) = match kind.strip_suffix('*') {
                Some(kind) => (kind, 1 + self.random.below(4)),
                None => (kind, 1),
            };
            for _ in 0..count {
                self.push_argument(kind, &mut command);
            }
        }
        command
    }

    fn push_argument(&mut self, kind: &str, command: &mut Vec<String>) {
        let word = match kind {
            "K" => self.random.pick(REDIS_KEYS),
            "V" => self.random.pick(&[
                "",
                "0",
                "7",
                "-12",
                "9223372036854775807",
                "-9223372036854775808",
                "01",
                "+1",
                "text",
                "a longer text, with blanks",
                "1.5",
                "'",
                "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            ]),
            "I" => self.random.pick(&[
                "0",
                "1",
                "2",
                "3",
                "-1",
                "-2",
                "-3",
                "10",
                "-10",
                "100",
                "-9223372036854775808",
                "9223372036854775807",
                "9223372036854775808",
                "x",
                "",
                "01",
                " 1",
            ]),
            "F" => self.random.pick(&["a", "b", "c", "10", "9", "-3", "", "field"]),
            "Offset" => self.random.pick(&["0", "1", "5", "30", "-1", "x", "536870912"]),
            "Database" => {
                self.random.pick(&["0", "0", "0", "1", "15", "16", "-1", "x", "2147483648"])
            }
            "Condition" => self.random.pick(&["NX", "xx", "GT", "lt", "NO"]),
            "E" | "M" => return command.push(self.expiry(kind)),
            "Options" => return self.push_set_options(command),
            word => word,
        };
        command.push(word.to_owned());
    }

    /// In the far future, and far from every other one; or past, or not valid.
    fn expiry(&mut self, kind: &str) -> String {
        if self.random.below(4) == 0 {
            let bad = ["0", "-1", "x", "9223372036854775807", "-9223372036854775808", ""];
            return self.random.pick(&bad).to_owned();
        }
        // A prime that does not divide the modulus: the numbers jump and do not come again.
        self.expiries_count += 1;
        let seconds = 100_000 + (self.expiries_count * 7919 % 10_007) * 2 * CLOCK_SLACK_S as u64;
        if kind == "E" { seconds.to_string() } else { (seconds * 1000).to_string() }
    }

    fn push_set_options(&mut self, command: &mut Vec<String>) {
        for _ in 0..1 + self.random.below(3) {
            let option = self.random.pick(&["NX", "xx", "GET", "keepttl", "EX", "px", "NO"]);
            command.push(option.to_owned());
            // Sometimes without its number.
            let kind = if option == "EX" { "E" } else { "M" };
            if matches!(option, "EX" | "px") && self.random.below(8) != 0 {
                let expiry = self.expiry(kind);
                command.push(expiry);
            }
        }
    }
}

#[test]
fn redis_connections_break_and_end_as_those_of_the_real_server() {
    let server = Server::redis(&[]);
    let mut embedded = Embedded::new(options());
    let long = "a".repeat(168);
    let many: Vec<&str> =
        ["many"].into_iter().chain("a b c d e f g h i".split(' ').cycle().take(60)).collect();
    let conversations = [
        "PING\r\nping x\nPing  \r\n".to_owned(),
        "\r\n\n*0\r\n*-1\r\n*-5\r\nPING\r\n".to_owned(),
        "PING\r\n*x\r\nPING\r\n".to_owned(),
        "*01\r\n$4\r\nPING\r\n".to_owned(),
        "*2147483648\r\n".to_owned(),
        "*1\r\n$x\r\n".to_owned(),
        "*1\r\n$-1\r\n".to_owned(),
        "*1\r\n$04\r\nPING\r\n".to_owned(),
        "*1\r\n$+4\r\nPING\r\n".to_owned(),
        "*1\r\n$536870913\r\n".to_owned(),
        "*1\r\nPING\r\n".to_owned(),
        "*1\r\n\r\n".to_owned(),
        "*1\r\n$0\r\n\r\nPING\r\n".to_owned(),
        "*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n".to_owned(),
        "*1\r4$4\r\nPING\r\n".to_owned(),
        "*2\r\n$4\r\nPING\r\n$1\r\n".to_owned(),
        "PING\r\nQUIT\r\nPING\r\n".to_owned(),
        resp(&["quit", "now"]) + "PING\r\n",
        resp(&["HELLO", "x"]) + &resp(&["HELLO", "4"]) + &resp(&["HELLO", "2", "auth", "a"]),
        resp(&["HELLO", "2", "A\r\nB"]) + &resp(&["AUTH"]) + &resp(&["AUTH", "a", "b", "c"]),
        resp(&["no\r\nsuch\0command", "a\0b", "c\r\nd"]) + &resp(&many),
        resp(&[&long, &long, "b"]),
        resp(&["EXPIRE", "a", "1", "A\r\nB"]),
        resp(&["SET", "a\r\nb", "\r\n\0"]) + &resp(&["GET", "a\r\nb"]),
        resp(&["SETRANGE", "a", "9223372036854775807", "x"]),
        resp(&["SELECT", "3"]) + &resp(&["SET", "a", "3"]) + &resp(&["DBSIZE"]),
        resp(&["GET", "a"]) + &resp(&["FLUSHALL"]) + &resp(&["SELECT", "3"]) + &resp(&["GET", "a"]),
    ];
    compare_conversations(&server, &mut embedded, Protocol::Redis, &conversations);
}

#[test]
fn redis_clients_log_in_as_with_the_real_server() {
    let server = Server::redis(&["--requirepass", "secret"]);
    let mut embedded =
        Embedded::new(StoreOptions { password: Some(b"secret".to_vec()), ..options() });
    let nine = ["MGET", "a", "a", "a", "a", "a", "a", "a", "a", "a"];
    let conversations = [
        "GET a\r\nPING\r\nGET\r\nNOSUCH\r\nQUIT\r\n".to_owned(),
        "AUTH x\r\nGET a\r\nAUTH secret\r\nGET a\r\nAUTH x\r\nGET a\r\n".to_owned(),
        "AUTH a secret\r\nAUTH a b c\r\nAUTH default secret\r\nGET a\r\n".to_owned(),
        "HELLO\r\nHELLO 2\r\nHELLO 3\r\nHELLO 4\r\nHELLO x\r\nHELLO 2 NO\r\n".to_owned(),
        "HELLO 2 AUTH default x\r\nHELLO 2 AUTH a secret\r\n".to_owned(),
        resp(&nine) + &resp(&["GET", &"a".repeat(16_384)]),
        "*11\r\n$4\r\nMGET\r\n".to_owned(),
        "*2\r\n$3\r\nGET\r\n$16385\r\n".to_owned(),
    ];
    compare_conversations(&server, &mut embedded, Protocol::Redis, &conversations);
}

#[test]
fn memcache_replies_to_random_commands_are_those_of_the_real_server() {
    for seed in [1, 2, 3] {
        let server = Server::memcached();
        let mut stream = server.connect();
        let mut embedded = Embedded::new(options());
        let mut session = Session::new(Protocol::Memcache);
        let mut random = Random(seed);
        for index in 0..COMMANDS_COUNT {
            let request = memcache_command(&mut random, &embedded);
            // A meta command that does nothing: nothing else has this reply.
            let expected = ask(&mut stream, request.as_bytes(), b"mn\r\n", b"MN\r\n");
            let got = embedded.ask(&mut session, request.as_bytes());
            assert_eq!(show(&got), show(&expected), "seed {seed}, command {index} {request:?}");
        }
    }
}

fn memcache_command(random: &mut Random, embedded: &Embedded) -> String {
    let long_key = "k".repeat(251);
    let keys = ["k0", "k1", "k2", "k3", "k4", "k5", "k6", &long_key[1..]];
    let key = if random.below(40) == 0 { &long_key } else { random.pick(&keys) };
    let other = random.pick(&keys);
    let soon =
        (embedded.store.options().unix_time_at_zero + Duration::from_secs(100_000)).as_secs();
    let soon = soon.to_string();
    let exptimes =
        ["0", "0", "0", "100000", "2592000", "-1", "2592001", &soon, "2147483648", "x", "1x", "+0"];
    let exptime = random.pick(&exptimes);
    let numbers = ["0", "1", "7", "+2", "18446744073709551615", "18446744073709551616", "-1", "x"];
    let number = random.pick(&numbers);
    let noreply = random.pick(&["", "", "", "", "", " noreply", " NOREPLY", " a b c d"]);
    match random.below(14) {
        0 => format!("get {key}\r\n"),
        1 => format!("gets {key}  {other} missing {key}\r\n"),
        2 => format!("gat {exptime} {key} {other}\r\n"),
        3 => format!("gats {exptime} {other} {key}\n"),
        4..=8 => memcache_storage(random, embedded, key, exptime, noreply),
        9 => format!("delete {key}{}{noreply}\r\n", random.pick(&["", "", " 0", " 1", " x"])),
        10 => format!("incr {key} {number}{noreply}\r\n"),
        11 => format!("decr {key} {number}{noreply}\r\n"),
        12 => format!("touch {key} {exptime}{noreply}\r\n"),
        _ => {
            let others = [
                "version",
                "version 1 2",
                "verbosity 1",
                "verbosity",
                "verbosity x",
                "verbosity 1 2 3",
                "get",
                "gets ",
                "gat",
                "gat 0",
                "gat x",
                "set",
                "set a",
                "cas a 0 0 1",
                "incr",
                "incr a",
                "touch",
                "touch a",
                "delete",
                "",
                " ",
                "nosuch",
                "GET a",
                "flush_all x",
                "flush_all 1 2 3",
                "flush_all 0 noreply",
                "flush_all -1",
                "flush_all",
                "verbosity noreply",
                " version",
            ];
            format!("{}\r\n", random.pick(&others))
        }
    }
}

fn memcache_storage(
    random: &mut Random,
    embedded: &Embedded,
    key: &str,
    exptime: &str,
    noreply: &str,
) -> String {
    let name = random.pick(&["set", "set", "set", "add", "replace", "append", "prepend", "cas"]);
    let flags = random.pick(&["0", "1", "4294967295", "4294967296", "-1", "x", "+5"]);
    let values = [
        "",
        "0",
        "1",
        "99",
        "18446744073709551615",
        "text",
        " 7",
        "7 ",
        "-1",
        "+3",
        "007",
        "1 x",
        "a\r\nb",
    ];
    let value = random.pick(&values);
    let size = match random.below(20) {
        0 => "x".to_owned(),
        1 => "-1".to_owned(),
        // The block then ends too early: the rest of it is read as a line.
        2 => value.len().saturating_sub(1).to_string(),
        _ => value.len().to_string(),
    };
    let cas = match embedded.store.get(key.as_bytes(), Time::ZERO + embedded.started.elapsed()) {
        _ if name != "cas" => String::new(),
        Some(item) if random.below(3) != 0 => format!(" {}", item.cas()),
        _ => random.pick(&[" 1", " 0", " x", " -1", ""]).to_owned(),
    };
    format!("{name} {key} {flags} {exptime} {size}{cas}{noreply}\r\n{value}\r\n")
}

#[test]
fn memcache_connections_break_and_end_as_those_of_the_real_server() {
    let server = Server::memcached();
    let mut embedded = Embedded::new(options());
    let block = |name: &str, size: usize, rest: &str| {
        format!("{name} {size}{rest}\r\n{}\r\n", "v".repeat(size))
    };
    let keys: String = (0..100).map(|index| format!(" key{index}")).collect();
    let conversations = [
        "version\r\nquit\r\nversion\r\n".to_owned(),
        "version\nquit now\n".to_owned(),
        "set a 0 0 1\nx\r\nget a\n".to_owned(),
        "set a 0 0 1\r\nx\nget a\r\n".to_owned(),
        "get a\r\r\nget\ta\r\n".to_owned(),
        "set a\tb 0 0 1\r\nx\r\nget a\tb\r\n".to_owned(),
        format!("get{keys}\r\nget{keys}{keys}\r\n"),
        format!("{}\r\n", "x".repeat(2000)),
        "flush_all 100000\r\nset f 0 0 1\r\nx\r\ngets f\r\n".to_owned(),
        block("set large 0 0", 600_000, "") + &block("append large 0 0", 600_000, ""),
        block("set large 0 0", 1_048_513, "") + "get large\r\n",
        block("set large 5 0", 1_048_509, "") + "get large\r\n",
        "set large 0 0 1\r\nx\r\n".to_owned()
            + &block("add large 0 0", 2_000_000, "")
            + "get large\r\n",
        block("set large 0 0", 2_000_000, " noreply") + "get large\r\n",
        "set a 0 0 4294967297\r\nx\r\nget a\r\n".to_owned(),
        "set a 0 0 2147483646\r\nset a 0 0 2147483647\r\nversion\r\n".to_owned(),
        "set a 0 0 4\r\nab".to_owned(),
        "gets f\r\nget ".to_owned(),
    ];
    compare_conversations(&server, &mut embedded, Protocol::Memcache, &conversations);
}
