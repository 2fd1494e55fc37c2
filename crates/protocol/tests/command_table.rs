//! The tables of commands in `docs/compatibility.md` equal the code: they are made from
//! [`Protocol::commands`] and from what the request parser does with each of them.
//!
//! Invariant: between the marks stands exactly what is made here. `UPDATE_COMPATIBILITY=1` writes
//! it anew.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use protocol::{Command, Limits, Parsed, Profile, Protocol, RequestState, Route, Scratch, Tie};

const BEGIN: &str = "<!-- commands: begin, made by crates/protocol/tests/command_table.rs -->";
const END: &str = "<!-- commands: end -->";

/// Commands of Redis that plain arguments do not suit: arguments that do, which of them is the key
/// (the name has index 0), and where the table says that they go.
const WORDS: &[(&str, &[&str], usize, &str)] = &[
    ("config", &["get", "save"], 0, "answered by Weir, `GET` only"),
    ("eval", SCRIPT, 3, OWNER_OF_SCRIPT),
    ("eval_ro", SCRIPT, 3, OWNER_OF_SCRIPT),
    ("evalsha", SCRIPT, 3, OWNER_OF_SCRIPT),
    ("evalsha_ro", SCRIPT, 3, OWNER_OF_SCRIPT),
    ("fcall", SCRIPT, 3, OWNER_OF_SCRIPT),
    ("fcall_ro", SCRIPT, 3, OWNER_OF_SCRIPT),
    ("memory", &["usage", "1"], 2, "owner of argument 2, `USAGE` only"),
    ("script", &["load", "1"], 0, "every server, `LOAD` and `EXISTS` only"),
    ("xread", &["streams", "1", "0"], 2, OWNER_OF_STREAM),
    ("xreadgroup", &["group", "1", "1", "streams", "1", "0"], 5, OWNER_OF_STREAM),
];

const OWN_CONNECTION: &str = "on a connection of the client's own";
const ENDS: [&str; 3] = ["discard", "exec", "unwatch"];

const SCRIPT: &[&str] = &["1", "1", "1"];
const OWNER_OF_SCRIPT: &str = "owner of argument 3; without keys, of the key `placeholder`";
const OWNER_OF_STREAM: &str = "owner of the first key behind `STREAMS`; with `BLOCK` of all keys, \
    on a connection of the client's own";

/// Forms of a memcached line, each with a line of it.
const FORMS: &[(&str, &str)] = &[
    ("", ""),
    ("key...", " 1"),
    ("exptime key...", " 1 1"),
    ("key flags exptime bytes [noreply]", " 1 0 0 0\r\n"),
    ("key flags exptime bytes unique [noreply]", " 1 0 0 0 1\r\n"),
];

/// What has a form of its own.
const OWN_FORMS: &[(&str, &str, &str)] = &[
    ("delete", "key [0] [noreply]", " 1"),
    ("incr", "key delta [noreply]", " 1 1"),
    ("decr", "key delta [noreply]", " 1 1"),
    ("touch", "key exptime [noreply]", " 1 1"),
    ("flush_all", "[delay] [noreply]", " 1"),
    ("mg", "key flag...", " 1 v"),
    ("ms", "key bytes flag...", " 1 0 T0\r\n"),
    ("md", "key flag...", " 1"),
    ("ma", "key flag...", " 1 v"),
    ("me", "key flag...", " 1"),
];

const FLUSHED: &str = "every server, with `allow_flush` only";

/// The most arguments, the name counted, that are tried.
const ARGUMENTS_MAX: usize = 12;

/// What the parser did.
enum Outcome {
    /// To the owner of this argument; the name has index 0.
    Key(usize),
    Any,
    Split,
    Everywhere,
    Walk,
    /// To one server, on a connection of the client's own.
    Dedicated(Tie),
    /// The proxy answers, with this.
    Own(String),
}

fn parse(protocol: Protocol, bytes: &[u8]) -> Outcome {
    let (mut state, mut scratch) = (RequestState::default(), Scratch::default());
    let limits = Limits::default();
    let mut parsed = protocol.parse_request(&mut state, bytes, &limits, &mut scratch);
    if let Parsed::Own(own) = parsed {
        parsed = protocol.answer(own, bytes, &Profile::default(), &mut scratch);
    }
    match parsed {
        Parsed::Request(request) => match request.route {
            Route::Any => Outcome::Any,
            Route::Split => Outcome::Split,
            Route::Everywhere => Outcome::Everywhere,
            Route::Decoded => unreachable!("for memcached only, see parse_line"),
            Route::Walk(_) => Outcome::Walk,
            Route::Dedicated(tie) => Outcome::Dedicated(tie),
            // Each argument before it has a line of its own for its length, and one for itself.
            Route::Key(span) => {
                let before = &bytes[..span.start as usize];
                Outcome::Key(before.iter().filter(|&&byte| byte == b'\n').count() / 2 - 1)
            }
        },
        Parsed::Reply { .. } => Outcome::Own(String::from_utf8_lossy(&scratch.reply).into_owned()),
        Parsed::Authenticate { .. } => Outcome::Own(String::new()),
        Parsed::Own(_) | Parsed::Incomplete { .. } => {
            panic!("not a whole request: {}", bytes.escape_ascii())
        }
    }
}

fn parse_words(words: &[&str]) -> Outcome {
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    parse(Protocol::Redis, bytes.as_bytes())
}

/// A request of `count` words, those behind the name all being `1`.
fn parse_plain(name: &str, count: usize) -> Outcome {
    let mut words = vec![name];
    words.resize(count, "1");
    parse_words(&words)
}

fn takes(name: &str, count: usize) -> bool {
    let wrong = format!("wrong number of arguments for '{name}' command");
    !matches!(parse_plain(name, count), Outcome::Own(reply) if reply.contains(&wrong))
}

/// Where a command of Redis goes.
fn place(name: &str, least: usize) -> String {
    if let Some((_, arguments, key, place)) = WORDS.iter().find(|(of, ..)| *of == name) {
        let words: Vec<&str> = [name].iter().chain(*arguments).copied().collect();
        match parse_words(&words) {
            Outcome::Key(index) => assert_eq!(index, *key, "{name}"),
            Outcome::Own(reply) => assert!(*key == 0 && !reply.starts_with('-'), "{name}: {reply}"),
            Outcome::Everywhere => assert_eq!(*key, 0, "{name}"),
            Outcome::Any | Outcome::Split | Outcome::Walk | Outcome::Dedicated(_) => {
                panic!("{name} has another place")
            }
        }
        return (*place).to_owned();
    }
    let splits = (least..least + 3).any(|count| matches!(parse_plain(name, count), Outcome::Split));
    match parse_plain(name, least) {
        _ if splits => "each key to its owner, replies joined".to_owned(),
        Outcome::Everywhere if name.starts_with("flush") => FLUSHED.to_owned(),
        Outcome::Everywhere => "every server, replies joined".to_owned(),
        Outcome::Walk => "one server after the other".to_owned(),
        Outcome::Split => unreachable!("seen above"),
        Outcome::Dedicated(Tie::Waits) => format!("owner of the keys, {OWN_CONNECTION}"),
        Outcome::Dedicated(Tie::Listens) => {
            format!("owner of the key `placeholder`, {OWN_CONNECTION}")
        }
        Outcome::Dedicated(_) => format!("begins a transaction, {OWN_CONNECTION}"),
        Outcome::Own(_) if ENDS.contains(&name) => "ends a transaction".to_owned(),
        Outcome::Own(reply) if reply.contains("unsubscribe") => "ends a subscription".to_owned(),
        Outcome::Key(1) => "owner of the key".to_owned(),
        Outcome::Key(index) => format!("owner of argument {index}"),
        Outcome::Any => match parse_plain(name, least + 1) {
            Outcome::Key(index) => format!("owner of argument {index}, if there is one"),
            _ => "owner of the key `placeholder`".to_owned(),
        },
        Outcome::Own(reply) if reply.contains("is not supported by the proxy") => {
            "refused with an error".to_owned()
        }
        Outcome::Own(_) => "answered by Weir".to_owned(),
    }
}

fn access(command: &Command) -> &'static str {
    if command.writes { "write" } else { "read" }
}

fn redis_rows() -> Vec<String> {
    let row = |command: &Command| {
        let name = command.name;
        let counts: Vec<usize> = (1..=ARGUMENTS_MAX).filter(|count| takes(name, *count)).collect();
        let least = counts[0];
        let exact = counts.len() == 1;
        let arity = format!("{}{least}", if exact { "" } else { "at least " });
        format!("| {name} | {arity} | {} | {} |", access(command), place(name, least))
    };
    let mut rows: Vec<String> = Protocol::Redis.commands().iter().map(row).collect();
    rows.sort();
    rows
}

fn memcache_rows() -> Vec<String> {
    let is_request = |name: &str, rest: &str| {
        let line = format!("{name}{rest}\r\n");
        !matches!(parse_line(&line), Outcome::Own(_))
    };
    let row = |command: &Command| {
        let name = command.name;
        let own = OWN_FORMS.iter().find(|(of, ..)| *of == name);
        let (form, sample) = match own {
            Some((_, form, sample)) => (*form, *sample),
            None => *FORMS.iter().find(|(_, sample)| is_request(name, sample)).unwrap(),
        };
        assert!(is_request(name, sample), "{name}{sample}");
        let place = match (parse_line(&format!("{name}{sample}\r\n")), form.ends_with("key...")) {
            (Outcome::Any, _) => "owner of the key `placeholder`",
            (Outcome::Everywhere, _) => FLUSHED,
            (_, false) => "owner of the key",
            (_, true) => {
                let more = parse_line(&format!("{name}{sample} 2\r\n"));
                assert!(matches!(more, Outcome::Split), "{name} is split");
                "each key to its owner, replies joined"
            }
        };
        let form = if form.is_empty() { String::new() } else { format!("`{form}`") };
        format!("| {name} | {form} | {} | {place} |", access(command))
    };
    let mut rows: Vec<String> = Protocol::Memcache.commands().iter().map(row).collect();
    rows.sort();
    rows
}

/// As [`parse`], when the place of the key does not matter.
fn parse_line(line: &str) -> Outcome {
    let (mut state, mut scratch) = (RequestState::default(), Scratch::default());
    let limits = Limits::default();
    match Protocol::Memcache.parse_request(&mut state, line.as_bytes(), &limits, &mut scratch) {
        Parsed::Request(request) => match request.route {
            Route::Any => Outcome::Any,
            Route::Split => Outcome::Split,
            Route::Everywhere => Outcome::Everywhere,
            Route::Walk(_) => Outcome::Walk,
            Route::Dedicated(tie) => Outcome::Dedicated(tie),
            Route::Key(_) | Route::Decoded => Outcome::Key(1),
        },
        _ => Outcome::Own(String::from_utf8_lossy(&scratch.reply).into_owned()),
    }
}

fn tables() -> String {
    let (redis, memcache) = (redis_rows(), memcache_rows());
    let refused_count = redis.iter().filter(|row| row.contains("refused")).count();
    format!(
        "Redis: {} commands, {refused_count} of which are refused. The arity counts the name.\n\n\
         | command | arity | access | where it goes |\n|---|---|---|---|\n{}\n\n\
         memcached: {} commands.\n\n\
         | command | arguments | access | where it goes |\n|---|---|---|---|\n{}\n",
        redis.len(),
        redis.join("\n"),
        memcache.len(),
        memcache.join("\n"),
    )
}

#[test]
fn the_document_has_the_tables_of_the_code() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the first mark is there");
    let (held, after) = rest.split_once(END).expect("the second mark is there");
    let made = format!("\n\n{}\n", tables());
    if std::env::var_os("UPDATE_COMPATIBILITY").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{made}{END}{after}")).unwrap();
        return;
    }
    for (held, made) in held.lines().zip(made.lines()) {
        assert_eq!(held, made, "run this test with UPDATE_COMPATIBILITY=1");
    }
    assert_eq!(held, made, "run this test with UPDATE_COMPATIBILITY=1");
}

#[test]
fn every_command_has_one_row() {
    for (protocol, rows) in [(Protocol::Redis, redis_rows()), (Protocol::Memcache, memcache_rows())]
    {
        for command in protocol.commands() {
            let start = format!("| {} |", command.name);
            assert_eq!(rows.iter().filter(|row| row.starts_with(&start)).count(), 1, "{start}");
        }
    }
}
