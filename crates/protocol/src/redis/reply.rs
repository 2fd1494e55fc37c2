//! What the proxy answers itself: errors, and commands that are about the connection or about what
//! the server can do. Not about data. A connection to a server is shared, so nothing that would
//! change its state may reach it. Invariant: each function leaves exactly one reply in
//! `Scratch::reply`.

use crate::decimal;
use crate::redis::commands::{self, Answer, Keys, Place, Row};
use crate::redis::{push_bulk, push_header};
use crate::{Parsed, Scratch, Span, Then, Tie};

/// The version of Redis whose commands the table holds; clients decide by it what they may send.
const SERVER_VERSION: &str = "7.0.0";

/// Bytes of a name, and of all arguments together, that an error repeats.
const ECHO_SIZE_MAX: usize = 128;

const CLUSTER_DISABLED: &str = "This instance has cluster support disabled";
const NOT_AN_INTEGER: &str = "value is not an integer or out of range";
const BAD_CLIENT_NAME: &str = "Client names cannot contain spaces, newlines or special characters.";

/// Answers `-ERR ` and the pieces of a text.
#[cold]
pub(super) fn error(pieces: &[&[u8]], size: usize, scratch: &mut Scratch) -> Parsed {
    error_of_kind("ERR", pieces, size, scratch)
}

fn error_of_kind(kind: &str, pieces: &[&[u8]], size: usize, scratch: &mut Scratch) -> Parsed {
    let reply = &mut scratch.reply;
    reply.clear();
    reply.push(b'-');
    reply.extend_from_slice(kind.as_bytes());
    reply.push(b' ');
    let start = reply.len();
    pieces.iter().for_each(|piece| reply.extend_from_slice(piece));
    for byte in &mut reply[start..] {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    reply.extend_from_slice(b"\r\n");
    Parsed::Reply { size, then: Then::Continue, fault: true }
}

#[cold]
pub(super) fn wrong_arity(name: &str, size: usize, scratch: &mut Scratch) -> Parsed {
    error(&[b"wrong number of arguments for '", name.as_bytes(), b"' command"], size, scratch)
}

#[cold]
pub(super) fn refused(name: &str, size: usize, scratch: &mut Scratch) -> Parsed {
    error(&[b"'", name.as_bytes(), b"' is not supported by the proxy"], size, scratch)
}

/// Answers a command that is not in the table.
#[cold]
pub(super) fn unknown(bytes: &[u8], size: usize, scratch: &mut Scratch) -> Parsed {
    let arguments = std::mem::take(&mut scratch.arguments);
    let name = &bytes[arguments[0].range()];
    // A browser was made to send this; it must not be led on to send more.
    let parsed = if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        Parsed::Reply { size, then: Then::Close, fault: true }
    } else {
        let mut echo = Vec::with_capacity(2 * ECHO_SIZE_MAX);
        for argument in &arguments[1..] {
            if echo.len() >= ECHO_SIZE_MAX {
                break;
            }
            let room = ECHO_SIZE_MAX - echo.len();
            echo.push(b'\'');
            echo.extend_from_slice(printable(&bytes[argument.range()], room));
            echo.extend_from_slice(b"' ");
        }
        let name = printable(name, ECHO_SIZE_MAX);
        let pieces = [b"unknown command '", name, b"', with args beginning with: ", &echo];
        error(&pieces, size, scratch)
    };
    scratch.arguments = arguments;
    parsed
}

/// The first bytes of a word, as far as a server would repeat them.
fn printable(word: &[u8], size_max: usize) -> &[u8] {
    let word = &word[..word.len().min(size_max)];
    &word[..word.iter().position(|&byte| byte == 0).unwrap_or(word.len())]
}

/// The arguments of a request that is being answered.
struct Words<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Words<'a> {
    fn count(&self) -> usize {
        self.spans.len()
    }

    fn get(&self, i: usize) -> &'a [u8] {
        self.spans.get(i).map_or(&[], |span| &self.bytes[span.range()])
    }

    /// Whether the i-th word is `word`, in any case.
    fn is(&self, i: usize, word: &str) -> bool {
        self.get(i).eq_ignore_ascii_case(word.as_bytes())
    }
}

/// Answers a command of the table that no server sees.
#[cold]
pub(super) fn answer(answer: Answer, bytes: &[u8], size: usize, scratch: &mut Scratch) -> Parsed {
    let spans = std::mem::take(&mut scratch.arguments);
    let words = Words { bytes, spans: &spans };
    let parsed = match answer {
        Answer::Auth => auth(&words, size, scratch),
        Answer::Client => client(&words, size, scratch),
        Answer::Cluster => error(&[CLUSTER_DISABLED.as_bytes()], size, scratch),
        Answer::Command => command(&words, size, scratch),
        Answer::Config => config(&words, size, scratch),
        Answer::Echo => bulk(words.get(1), size, scratch),
        Answer::Hello => hello(&words, size, scratch),
        Answer::Info => bulk(info().as_bytes(), size, scratch),
        Answer::Ping => match words.count() {
            1 => raw(b"+PONG\r\n", size, scratch),
            2 => bulk(words.get(1), size, scratch),
            _ => wrong_arity("ping", size, scratch),
        },
        Answer::Quit => {
            raw(b"+OK\r\n", size, scratch);
            Parsed::Reply { size, then: Then::Close, fault: false }
        }
        Answer::Reset => raw(b"+RESET\r\n", size, scratch),
        Answer::Select => select(&words, size, scratch),
    };
    scratch.arguments = spans;
    parsed
}

fn raw(reply: &[u8], size: usize, scratch: &mut Scratch) -> Parsed {
    scratch.reply.extend_from_slice(reply);
    Parsed::Reply { size, then: Then::Continue, fault: false }
}

fn bulk(bytes: &[u8], size: usize, scratch: &mut Scratch) -> Parsed {
    push_bulk(&mut scratch.reply, bytes);
    Parsed::Reply { size, then: Then::Continue, fault: false }
}

/// A pool has one database, which the server connections have selected.
fn select(words: &Words<'_>, size: usize, scratch: &mut Scratch) -> Parsed {
    match decimal::integer(words.get(1)) {
        Some(0) => raw(b"+OK\r\n", size, scratch),
        Some(_) => error(&[b"DB index is out of range"], size, scratch),
        None => error(&[NOT_AN_INTEGER.as_bytes()], size, scratch),
    }
}

/// There is one user, whom Redis calls `default`.
fn authenticate(user: Option<&[u8]>, password: Span, size: usize, scratch: &mut Scratch) -> Parsed {
    if user.is_some_and(|user| user != b"default") {
        let text = b"invalid username-password pair or user is disabled.";
        return error_of_kind("WRONGPASS", &[text], size, scratch);
    }
    Parsed::Authenticate { size, password }
}

fn auth(words: &Words<'_>, size: usize, scratch: &mut Scratch) -> Parsed {
    scratch.reply.extend_from_slice(b"+OK\r\n");
    match words.count() {
        2 => authenticate(None, words.spans[1], size, scratch),
        3 => authenticate(Some(words.get(1)), words.spans[2], size, scratch),
        _ => error(&[b"syntax error"], size, scratch),
    }
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`
fn hello(words: &Words<'_>, size: usize, scratch: &mut Scratch) -> Parsed {
    if words.count() > 1 {
        match decimal::integer(words.get(1)) {
            Some(2) => {}
            Some(_) => {
                let text = b"unsupported protocol version";
                return error_of_kind("NOPROTO", &[text], size, scratch);
            }
            None => {
                let text = b"Protocol version is not an integer or out of range";
                return error(&[text], size, scratch);
            }
        }
    }
    let mut credentials = None;
    let mut i = 2;
    while i < words.count() {
        let more = words.count() - 1 - i;
        if words.is(i, "auth") && more >= 2 {
            credentials = Some((words.get(i + 1), words.spans[i + 2]));
            i += 3;
        } else if words.is(i, "setname") && more >= 1 {
            if !is_client_name(words.get(i + 1)) {
                return error(&[BAD_CLIENT_NAME.as_bytes()], size, scratch);
            }
            i += 2;
        } else {
            let option = printable(words.get(i), ECHO_SIZE_MAX);
            return error(&[b"Syntax error in HELLO option '", option, b"'"], size, scratch);
        }
    }
    push_hello(&mut scratch.reply);
    match credentials {
        Some((user, password)) => authenticate(Some(user), password, size, scratch),
        None => Parsed::Reply { size, then: Then::Continue, fault: false },
    }
}

fn push_hello(out: &mut Vec<u8>) {
    push_header(out, b'*', 14);
    push_bulk(out, b"server");
    push_bulk(out, b"redis");
    push_bulk(out, b"version");
    push_bulk(out, SERVER_VERSION.as_bytes());
    push_bulk(out, b"proto");
    out.extend_from_slice(b":2\r\n");
    push_bulk(out, b"id");
    out.extend_from_slice(CLIENT_ID);
    push_bulk(out, b"mode");
    push_bulk(out, b"standalone");
    push_bulk(out, b"role");
    push_bulk(out, b"master");
    push_bulk(out, b"modules");
    out.extend_from_slice(b"*0\r\n");
}

/// Nothing can be done with a client's number through the proxy, so all clients have the same.
const CLIENT_ID: &[u8] = b":1\r\n";

fn is_client_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// The subcommands that client libraries send when they connect. Names are checked and forgotten.
fn client(words: &Words<'_>, size: usize, scratch: &mut Scratch) -> Parsed {
    let subcommand = words.get(1).to_ascii_lowercase();
    let count_wanted = match subcommand.as_slice() {
        b"id" | b"getname" | b"info" => 2,
        b"setname" | b"no-evict" | b"no-touch" => 3,
        b"setinfo" => 4,
        b"reply" | b"tracking" | b"caching" | b"trackinginfo" | b"getredir" | b"pause"
        | b"unpause" | b"unblock" | b"kill" | b"list" | b"help" => {
            return refused(&format!("client|{}", subcommand.escape_ascii()), size, scratch);
        }
        _ => {
            let name = printable(words.get(1), ECHO_SIZE_MAX);
            let pieces = [b"unknown subcommand '", name, b"'. Try CLIENT HELP."];
            return error(&pieces, size, scratch);
        }
    };
    if words.count() != count_wanted {
        let name = format!("client|{}", subcommand.escape_ascii());
        return wrong_arity(&name, size, scratch);
    }
    match subcommand.as_slice() {
        b"id" => raw(CLIENT_ID, size, scratch),
        b"getname" => raw(b"$-1\r\n", size, scratch),
        b"info" => bulk(b"id=1 name= db=0 resp=2\n", size, scratch),
        b"setname" if !is_client_name(words.get(2)) => {
            error(&[BAD_CLIENT_NAME.as_bytes()], size, scratch)
        }
        b"no-evict" | b"no-touch" if !words.is(2, "on") && !words.is(2, "off") => {
            error(&[b"syntax error"], size, scratch)
        }
        _ => raw(b"+OK\r\n", size, scratch),
    }
}

/// Settings that clients ask for to decide what they may do. There is no server whose own could be
/// shown, since a pool may have several.
const SETTINGS: [(&str, &str); 6] = [
    ("save", ""),
    ("appendonly", "no"),
    ("databases", "1"),
    ("timeout", "0"),
    ("maxmemory", "0"),
    ("notify-keyspace-events", ""),
];

fn config(words: &Words<'_>, size: usize, scratch: &mut Scratch) -> Parsed {
    if !words.is(1, "get") {
        return refused("config", size, scratch);
    }
    if words.count() == 2 {
        return wrong_arity("config|get", size, scratch);
    }
    let asked = |name: &str| (2..words.count()).any(|i| words.is(i, name));
    let found: Vec<_> = SETTINGS.iter().filter(|(name, _)| asked(name)).collect();
    push_header(&mut scratch.reply, b'*', 2 * found.len());
    for (name, value) in found {
        push_bulk(&mut scratch.reply, name.as_bytes());
        push_bulk(&mut scratch.reply, value.as_bytes());
    }
    Parsed::Reply { size, then: Then::Continue, fault: false }
}

/// What clients look for before they trust a server.
fn info() -> String {
    format!(
        "# Server\r\nredis_version:{SERVER_VERSION}\r\nweir_version:{}\r\n\
         redis_mode:standalone\r\n\r\n# Persistence\r\nloading:0\r\n\r\n\
         # Replication\r\nrole:master\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn is_served(row: &&Row) -> bool {
    row.place != Place::Refused
}

fn command(words: &Words<'_>, size: usize, scratch: &mut Scratch) -> Parsed {
    let out = &mut scratch.reply;
    let served = || commands::ROWS.iter().filter(is_served);
    match words.get(1).to_ascii_lowercase().as_slice() {
        b"" | b"info" if words.count() <= 2 => {
            push_header(out, b'*', served().count());
            served().for_each(|row| push_command(out, row));
        }
        b"info" => {
            push_header(out, b'*', words.count() - 2);
            for i in 2..words.count() {
                match commands::find(words.get(i)).map(|index| &commands::ROWS[index]) {
                    Some(row) if is_served(&row) => push_command(out, row),
                    _ => out.extend_from_slice(b"*-1\r\n"),
                }
            }
        }
        b"count" if words.count() > 2 => return wrong_arity("command|count", size, scratch),
        b"count" => push_header(out, b':', served().count()),
        b"docs" => out.extend_from_slice(b"*0\r\n"),
        b"list" if words.count() > 2 => return error(&[b"syntax error"], size, scratch),
        b"list" => {
            push_header(out, b'*', served().count());
            served().for_each(|row| push_bulk(out, row.name.as_bytes()));
        }
        b"getkeys" | b"getkeysandflags" | b"help" => return refused("command", size, scratch),
        _ => {
            let name = printable(words.get(1), ECHO_SIZE_MAX);
            let pieces = [b"unknown subcommand '", name, b"'. Try COMMAND HELP."];
            return error(&pieces, size, scratch);
        }
    }
    Parsed::Reply { size, then: Then::Continue, fault: false }
}

/// Name, arity, flags, the first and last key and the step between keys; then categories, tips, key
/// specifications and subcommands, of which none are given.
fn push_command(out: &mut Vec<u8>, row: &Row) {
    let (first, last, step, moves) = match row.place {
        Place::Key(index) => (i64::from(index), i64::from(index), 1, false),
        Place::Split { step, .. } => (1, -1, i64::from(step), false),
        Place::Subcommand | Place::Memory => (2, 2, 1, false),
        Place::Waits(Keys::AllButLast) => (1, -2, 1, false),
        Place::Waits(Keys::FirstTwo) => (1, 2, 1, false),
        Place::Transaction(Tie::Watches) => (1, -1, 1, false),
        Place::Script | Place::Counted | Place::Streams | Place::Waits(Keys::CountedSecond) => {
            (0, 0, 0, true)
        }
        Place::Any
        | Place::Scripts
        | Place::Flush
        | Place::Transaction(_)
        | Place::Subscribe
        | Place::Own(_)
        | Place::Refused => (0, 0, 0, false),
    };
    push_header(out, b'*', 10);
    push_bulk(out, row.name.as_bytes());
    push_integer(out, i64::from(row.arity));
    push_header(out, b'*', 1 + usize::from(moves));
    out.extend_from_slice(if row.writes { b"+write\r\n" } else { b"+readonly\r\n" });
    if moves {
        out.extend_from_slice(b"+movablekeys\r\n");
    }
    push_integer(out, first);
    push_integer(out, last);
    push_integer(out, step);
    out.extend_from_slice(b"*0\r\n*0\r\n*0\r\n*0\r\n");
}

fn push_integer(out: &mut Vec<u8>, value: i64) {
    out.push(b':');
    decimal::push(out, value);
    out.extend_from_slice(b"\r\n");
}
