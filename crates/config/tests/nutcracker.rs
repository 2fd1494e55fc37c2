//! Which files are accepted: this crate against twemproxy itself (`nutcracker -t`), on a table of
//! good and bad files. Where the two differ on purpose, the difference stands in a table with its
//! reason.
//!
//! Invariant: a difference that is not in the table fails, and so does one in the table that is
//! none (any more).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AcceptedBy {
    Both,
    Neither,
    Weir,
    Nutcracker,
}
use AcceptedBy::{Nutcracker, Weir};

/// Values of one key; each makes a file of its own, all else in it being right.
const VALUES: &[(&str, &[&str])] = &[
    (
        "listen",
        &[
            "127.0.0.1:22122",
            "127.0.0.1:1",
            "127.0.0.1:65535",
            "127.0.0.1:65536",
            "127.0.0.1:0",
            "127.0.0.1:022122",
            "127.0.0.1:-1",
            "127.0.0.1:+1",
            "127.0.0.1:port",
            "127.0.0.1:",
            "127.0.0.1",
            "22122",
            "0.0.0.0:22122",
            "localhost:22122",
            "\"127.0.0.1:22122\"",
            "'127.0.0.1:22122'",
            "\"*:22122\"",
            "\":22122\"",
            "::1:22122",
            "\"[::1]:22122\"",
            "\"[127.0.0.1]:22122\"",
            "\"127.0.0.1: 22122\"",
            "127.0.0.1 :22122",
            "/tmp/weir.sock",
            "/tmp/weir.sock 0666",
            "/tmp/weir.sock 777",
            "/tmp/weir.sock 0",
            "/tmp/weir.sock 1000",
            "/tmp/weir.sock rw",
            "/tmp/weir.sock 0888",
            "/tmp/we ir.sock 0600",
            "/tmp/weir:22122",
            "/",
            "",
            "\"\"",
            "[127.0.0.1:22122]",
        ],
    ),
    (
        "hash",
        &[
            "one_at_a_time",
            "md5",
            "crc16",
            "crc32",
            "crc32a",
            "fnv1_64",
            "fnv1a_64",
            "fnv1_32",
            "fnv1a_32",
            "hsieh",
            "murmur",
            "jenkins",
            "\"md5\"",
            "MD5",
            "fnv1a_65",
            "",
            "5",
        ],
    ),
    ("distribution", &["ketama", "modula", "random", "Ketama", "rendezvous", ""]),
    (
        "hash_tag",
        &[
            "\"{}\"",
            "'{}'",
            "$$",
            "ab",
            "é",
            "{}",
            "\"{\"",
            "\"{}}\"",
            "\"\"",
            "",
            "[]",
            "10",
            "\"\\x01\\x02\"",
        ],
    ),
    (
        "timeout",
        &[
            "0",
            "1",
            "400",
            "00400",
            "\"400\"",
            "-1",
            "+1",
            "1.5",
            "4x",
            "0x10",
            "1e3",
            "",
            "3600000",
            "3600001",
            "2147483647",
            "2147483648",
            "4294967297",
            "99999999999999999999",
            "400 # comment",
            "~",
            "null",
            "1_000",
        ],
    ),
    ("backlog", &["0", "512", "65535", "65536", "-1", "many", "4294967296"]),
    ("client_connections", &["0", "1", "100000", "2147483647", "2147483648", "-5", "all"]),
    ("tcpkeepalive", &["true", "false", "\"true\"", "'false'", "True", "yes", "on", "1", ""]),
    ("redis", &["true", "false", "TRUE", "no", "0", "redis"]),
    ("preconnect", &["true", "false", "off"]),
    ("auto_eject_hosts", &["true", "false", "y"]),
    ("reuseport", &["true", "false", "yes"]),
    ("redis_db", &["0", "15", "-1", "x", "4294967297"]),
    ("redis_auth", &["secret", "\"\"", ""]),
    ("server_connections", &["1", "2", "64", "65", "0", "-1", "one", "4294967297"]),
    ("server_retry_timeout", &["0", "1", "30000", "2147483647", "2147483648", "-1", "30s"]),
    ("server_failure_limit", &["0", "1", "2", "2147483647", "-1", "two"]),
];

/// Lists of servers; each makes a file of its own. Entries are separated by a bar.
const SERVERS: &[&str] = &[
    "127.0.0.1:11211:1",
    "127.0.0.1:6379:1",
    "127.0.0.1:6379:1 name",
    "127.0.0.1:6379:1 na:me",
    "127.0.0.1:6379:1 two names",
    "127.0.0.1:6379:1  name",
    "\"127.0.0.1:6379:1 \"",
    "\" 127.0.0.1:6379:1\"",
    "\"127.0.0.1:6379:1 name\"",
    "127.0.0.1:6379:01",
    "127.0.0.1:6379:100",
    "127.0.0.1:6379:0",
    "127.0.0.1:6379:-1",
    "127.0.0.1:6379:x",
    "127.0.0.1:6379:",
    "127.0.0.1:6379:2147483647",
    "127.0.0.1:6379:2147483648",
    "127.0.0.1:6379:4294967297",
    "127.0.0.1:0:1",
    "127.0.0.1:65535:1",
    "127.0.0.1:65536:1",
    "127.0.0.1:port:1",
    "127.0.0.1::1",
    "127.0.0.1:6379",
    "127.0.0.1",
    "\":6379:1\"",
    "no-such-host:6379:1",
    "a b:6379:1 name",
    "::1:6379:1",
    "\"[::1]:6379:1\"",
    "\"[::1:6379:1\"",
    "/tmp/redis.sock:1",
    "/tmp/redis.sock:1 name",
    "/tmp/redis.sock",
    "/tmp/redis.sock:0",
    "/tmp/re:dis.sock:1",
    "/tmp/re dis.sock:1",
    "/tmp/re dis.sock:1 name",
    "\"\"",
    "127.0.0.1:6379:1|127.0.0.1:6380:1",
    "127.0.0.1:6379:1|127.0.0.1:6379:1",
    "127.0.0.1:6379:1|127.0.0.1:6379:2",
    "127.0.0.1:6379:1|127.0.0.1:06379:1",
    "127.0.0.1:11211:1|127.0.0.1:011211:1",
    "127.0.0.1:6379:1 a|127.0.0.1:6379:1 b",
    "127.0.0.1:6379:1 a|127.0.0.1:6380:1 a",
    "127.0.0.1:6379:1 127.0.0.1:6380|127.0.0.1:6380:1",
    "/tmp/a:1|/tmp/a:1",
    "/tmp/a:1|/tmp/a:1 b",
    "127.0.0.1:6379:1|",
    "127.0.0.1:6379:1|[]",
    "{}",
];

/// Whole files, for what concerns their shape. POOL stands for a right pool's lines.
const SHAPES: &[(&str, &str)] = &[
    ("one pool", "alpha:\nPOOL"),
    ("two pools", "alpha:\nPOOLbeta:\n  listen: 127.0.0.1:2\n  servers:\n  - a:1:1\n"),
    ("pools of one name", "alpha:\nPOOLalpha:\n  listen: 127.0.0.1:2\n  servers:\n  - a:1:1\n"),
    ("pools at one address", "alpha:\nPOOLbeta:\nPOOL"),
    (
        "pools at one address, written in two ways",
        "alpha:\nPOOLbeta:\n  listen: localhost:22121\n  servers:\n  - a:1:1\n",
    ),
    (
        "pools at an address and at every address",
        "alpha:\nPOOLbeta:\n  listen: 0.0.0.0:22121\n  servers:\n  - a:1:1\n",
    ),
    ("empty", ""),
    ("comment alone", "# nothing\n"),
    ("scalar", "alpha\n"),
    ("list", "- alpha\n"),
    ("pool without keys", "alpha:\n"),
    ("pool that is a scalar", "alpha: beta\n"),
    ("pool that is a list", "alpha:\n - listen\n"),
    ("pool without listen", "alpha:\n  servers:\n  - a:1:1\n"),
    ("pool without servers", "alpha:\n  listen: 127.0.0.1:1\n"),
    ("servers empty", "alpha:\n  listen: 127.0.0.1:1\n  servers:\n"),
    ("servers scalar", "alpha:\n  listen: 127.0.0.1:1\n  servers: a:1:1\n"),
    ("servers in a mapping", "alpha:\n  listen: 127.0.0.1:1\n  servers:\n    a: 1\n"),
    ("servers first", "alpha:\n  servers:\n  - a:1:1\n  listen: 127.0.0.1:1\n"),
    ("servers twice", "alpha:\nPOOL  servers:\n  - b:1:1\n"),
    ("unknown key", "alpha:\nPOOL  hsah: md5\n"),
    ("key in capitals", "alpha:\nPOOL  HASH: md5\n"),
    ("repeated key", "alpha:\nPOOL  hash: md5\n  hash: md5\n"),
    ("a list that is not servers", "alpha:\nPOOL  hash:\n  - md5\n"),
    ("nested mapping", "alpha:\nPOOL  hash:\n    name: md5\n"),
    ("quoted names", "\"alpha\":\n  \"listen\": \"127.0.0.1:1\"\n  'servers':\n  - 'a:1:1'\n"),
    ("empty name of a pool", "\"\":\nPOOL"),
    ("spaces in the name of a pool", "alpha beta:\nPOOL"),
    ("CRLF", "alpha:\r\n  listen: 127.0.0.1:1\r\n  servers:\r\n  - a:1:1\r\n"),
    ("byte order mark", "\u{feff}alpha:\nPOOL"),
    ("no line end at the end", "alpha:\n  listen: 127.0.0.1:1\n  servers:\n  - a:1:1"),
    ("comments", "# one\nalpha: # two\n  # three\nPOOL  # four\n"),
    ("tab as indentation", "alpha:\n\tlisten: 127.0.0.1:1\n\tservers:\n\t- a:1:1\n"),
    ("tab behind a colon", "alpha:\n  listen:\t127.0.0.1:1\n  servers:\n  - a:1:1\n"),
    ("indentation that falls between", "alpha:\n    listen: 127.0.0.1:1\n  servers:\n  - a:1:1\n"),
    ("list deeper than its key", "alpha:\n  listen: 127.0.0.1:1\n  servers:\n      - a:1:1\n"),
    ("redis_auth with redis", "alpha:\nPOOL  redis: true\n  redis_auth: secret\n"),
    ("redis_db without redis", "alpha:\nPOOL  redis_db: 3\n"),
    ("document start", "---\nalpha:\nPOOL"),
    ("document end", "alpha:\nPOOL...\n"),
    ("two documents", "---\nalpha:\nPOOL---\nbeta:\nPOOL"),
    ("directive", "%YAML 1.1\n---\nalpha:\nPOOL"),
    ("flow list", "alpha:\n  listen: 127.0.0.1:1\n  servers: [\"a:1:1\"]\n"),
    ("JSON", "{\"alpha\": {\"listen\": \"127.0.0.1:1\", \"servers\": [\"a:1:1\"]}}\n"),
    ("anchor and alias", "alpha:\nPOOL  backlog: &n 5\n  timeout: *n\n"),
    ("alias of nothing", "alpha:\nPOOL  backlog: *n\n"),
    ("tag", "alpha:\nPOOL  backlog: !!int 5\n"),
    ("merge key", "alpha: &a\nPOOLbeta:\n  <<: *a\n"),
    ("explicit key", "? alpha\n:\nPOOL"),
    ("open quote", "alpha:\nPOOL  hash: \"md5\n"),
    ("folded scalar", "alpha:\nPOOL  redis: true\n  redis_auth: >-\n    secret\n"),
    ("scalar over two lines", "alpha:\nPOOL  redis: true\n  redis_auth: two\n    words\n"),
    ("Weir's own key", "alpha:\nPOOL  connect_timeout_ms: 100\n"),
];

/// What differs on purpose: the case, who accepts it, and why.
const DIFFERENCES: &[(&str, AcceptedBy, &str)] = &[
    ("JSON", Weir, "flow style is YAML, and with it JSON can be read"),
    ("flow list", Weir, "flow style is YAML, and with it JSON can be read"),
    ("document start", Weir, "the marks of the only document change nothing"),
    ("document end", Weir, "the marks of the only document change nothing"),
    ("Weir's own key", Weir, "ours"),
    ("reuseport: false", Weir, "a later twemproxy than 0.5.0 knows the key"),
    ("reuseport: true", Weir, "a later twemproxy than 0.5.0 knows the key"),
    ("listen: \"[::1]:22122\"", Weir, "the usual way to write an IPv6 address"),
    ("backlog: 4294967296", Nutcracker, "the number wraps there, to one that nobody typed"),
    ("redis_db: 4294967297", Nutcracker, "the number wraps there, to one that nobody typed"),
    (
        "server_connections: 4294967297",
        Nutcracker,
        "the number wraps there, to one that nobody typed",
    ),
    ("timeout: 4294967297", Nutcracker, "the number wraps there, to one that nobody typed"),
    (
        "timeout: 99999999999999999999",
        Nutcracker,
        "the number wraps there, to one that nobody typed",
    ),
    (
        "servers: 127.0.0.1:6379:4294967297",
        Nutcracker,
        "the number wraps there, to one that nobody typed",
    ),
    ("backlog: 65536", Nutcracker, "the kernel cuts it to somaxconn, 4096 by default"),
    ("timeout: 2147483647", Nutcracker, "longer than an hour is no time-out but none: 0"),
    ("timeout: 3600001", Nutcracker, "longer than an hour is no time-out but none: 0"),
    (
        "server_connections: 65",
        Nutcracker,
        "each worker opens as many; one pipelined connection does the work",
    ),
    (
        "listen: /tmp/weir.sock rw",
        Nutcracker,
        "what is not octal is ignored there, and the socket is open to others than was meant",
    ),
    (
        "listen: /tmp/weir.sock 0888",
        Nutcracker,
        "what is not octal is ignored there, and the socket is open to others than was meant",
    ),
    (
        "pools at an address and at every address",
        Nutcracker,
        "twemproxy fails when it binds; with a listener a worker, both pools would get clients",
    ),
    (
        "pools at one address, written in two ways",
        Nutcracker,
        "twemproxy fails when it binds; with a listener a worker, both pools would get clients",
    ),
    ("servers: \"127.0.0.1:6379:1 \"", Nutcracker, "an empty name, most likely a slip"),
    ("servers: \":6379:1\"", Nutcracker, "a host that never resolves"),
    ("servers: \"[::1:6379:1\"", Nutcracker, "a host that never resolves"),
    ("servers: a b:6379:1 name", Nutcracker, "a host that never resolves"),
    ("servers: path of 108 bytes", Nutcracker, "a path that can never be connected to"),
];

fn pool_with(key: &str, value: &str) -> String {
    let mut lines = vec![("listen", "127.0.0.1:22121")];
    lines.retain(|(name, _)| *name != key);
    if key == "redis_auth" {
        lines.push(("redis", "true"));
    }
    lines.push((key, value));
    let mut text = "alpha:\n".to_owned();
    for (key, value) in lines {
        text.push_str(&format!("  {key}: {value}\n"));
    }
    text + "  servers:\n  - 127.0.0.1:11211:1\n"
}

fn pool_with_servers(entries: &str) -> String {
    let mut text = "alpha:\n  listen: 127.0.0.1:22121\n  servers:\n".to_owned();
    for entry in entries.split('|') {
        text.push_str(&format!("  - {entry}\n"));
    }
    text
}

fn cases() -> BTreeMap<String, String> {
    let mut cases = BTreeMap::new();
    for (key, values) in VALUES {
        for value in *values {
            cases.insert(format!("{key}: {value}"), pool_with(key, value));
        }
    }
    for entries in SERVERS {
        cases.insert(format!("servers: {entries}"), pool_with_servers(entries));
    }
    let pool = "  listen: 127.0.0.1:22121\n  servers:\n  - 127.0.0.1:11211:1\n";
    for (name, text) in SHAPES {
        cases.insert((*name).to_owned(), text.replace("POOL", pool));
    }
    let longest = "x".repeat(106);
    for (name, path) in [("of 107 bytes", longest.clone()), ("of 108 bytes", longest + "x")] {
        cases.insert(format!("listen: path {name}"), pool_with("listen", &format!("/{path}")));
        let entry = format!("/{path}:1");
        cases.insert(format!("servers: path {name}"), pool_with_servers(&entry));
    }
    cases
}

fn nutcracker() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join("nutcracker"))
        .find(|program| program.is_file());
    found.expect("nutcracker is needed: run make setup")
}

fn nutcracker_accepts(program: &Path, file: &Path, text: &str) -> bool {
    std::fs::write(file, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-t").arg("-c").arg(file);
    let status = command.stdin(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    match status.code() {
        Some(0) => true,
        Some(1) => false,
        other => panic!("nutcracker ended with {other:?} on:\n{text}"),
    }
}

#[test]
fn weir_accepts_what_twemproxy_accepts_but_for_the_listed_differences() {
    let program = nutcracker();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("differential.yml");
    let cases = cases();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let mut unexpected = Vec::new();
    for (name, text) in &cases {
        let ours = config::parse(text, "case.yml");
        let found = match (ours.is_ok(), nutcracker_accepts(&program, &file, text)) {
            (true, true) => AcceptedBy::Both,
            (false, false) => AcceptedBy::Neither,
            (true, false) => Weir,
            (false, true) => Nutcracker,
        };
        let listed = DIFFERENCES.iter().find(|(case, ..)| case == name).map(|(_, by, _)| *by);
        let differs = matches!(found, Weir | Nutcracker);
        if listed != differs.then_some(found) {
            let errors = ours.err().map(|errors| errors.to_string()).unwrap_or_default();
            unexpected.push(format!("{name:?}: {found:?}, listed {listed:?} {errors}"));
        }
    }
    std::fs::remove_file(&file).unwrap();
    assert!(unexpected.is_empty(), "{}\n{}", unexpected.len(), unexpected.join("\n"));
}

#[test]
fn every_listed_difference_is_a_case_and_has_a_reason() {
    let cases = cases();
    for (name, _, reason) in DIFFERENCES {
        assert!(cases.contains_key(*name), "{name}");
        assert!(!reason.is_empty(), "{name}");
    }
}
