//! What the proxy answers itself: commands that are about the connection or about what the server
//! can do. Not about data. A connection to a server is shared, so nothing that would change its
//! state may reach it. Invariant: each function leaves exactly one reply in `Scratch::reply`, in
//! the form of the version that the client speaks.

mod client;

use crate::decimal;
use crate::redis::commands::{self, Answer, Keys, Place, Row};
use crate::redis::reply::{ECHO_SIZE_MAX, error, error_of_kind, printable, refused, wrong_arity};
use crate::redis::{
    push_bulk, push_header, push_map_header, push_null, push_push_header, push_set_header,
    push_text,
};
use crate::{Own, Parsed, Profile, Scratch, Span, Then, Tie, Version};

/// The version of Redis whose commands the table holds; clients decide by it what they may send.
const SERVER_VERSION: &str = "7.0.0";

const CLUSTER_DISABLED: &str = "This instance has cluster support disabled";
const NOT_AN_INTEGER: &str = "value is not an integer or out of range";

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

/// See [`crate::Protocol::answer`].
pub(crate) fn answer(own: Own, bytes: &[u8], profile: &Profile, scratch: &mut Scratch) -> Parsed {
    let spans = std::mem::take(&mut scratch.arguments);
    let rewritten = std::mem::take(&mut scratch.rewritten);
    let bytes = if scratch.rewritten_whole { &rewritten } else { bytes };
    let words = Words { bytes, spans: &spans };
    let (size, version) = (own.size, profile.version);
    let parsed = match own.answer {
        Answer::Auth => auth(&words, size, scratch),
        Answer::Client => client::answer(&words, size, profile, scratch),
        Answer::Cluster => error(&[CLUSTER_DISABLED.as_bytes()], size, scratch),
        Answer::Command => command(&words, size, version, scratch),
        Answer::Config => config(&words, size, version, scratch),
        Answer::Echo => bulk(words.get(1), size, scratch),
        Answer::Hello => hello(&words, size, profile, scratch),
        Answer::Info => text(info().as_bytes(), size, version, scratch),
        Answer::Ping => match words.count() {
            1 => raw(b"+PONG\r\n", size, scratch),
            2 => bulk(words.get(1), size, scratch),
            _ => wrong_arity("ping", size, scratch),
        },
        Answer::Quit => {
            raw(b"+OK\r\n", size, scratch);
            Parsed::Reply { size, then: Then::Close, fault: false }
        }
        Answer::Reset => {
            scratch.profile = Some(Profile { id: profile.id, ..Profile::default() });
            raw(b"+RESET\r\n", size, scratch)
        }
        Answer::Unsubscribe => unsubscribe(&words, size, version, scratch),
        Answer::Select => select(&words, size, scratch),
    };
    scratch.arguments = spans;
    scratch.rewritten = rewritten;
    parsed
}

/// UNSUBSCRIBE and its like of a client that listens to nothing.
fn unsubscribe(words: &Words<'_>, size: usize, version: Version, scratch: &mut Scratch) -> Parsed {
    let out = &mut scratch.reply;
    for i in 1..words.count().max(2) {
        push_push_header(out, version, 3);
        push_bulk(out, &words.get(0).to_ascii_lowercase());
        if i < words.count() {
            push_bulk(out, words.get(i));
        } else {
            push_null(out, version, b"$-1\r\n");
        }
        out.extend_from_slice(b":0\r\n");
    }
    Parsed::Reply { size, then: Then::Continue, fault: false }
}

fn raw(reply: &[u8], size: usize, scratch: &mut Scratch) -> Parsed {
    scratch.reply.extend_from_slice(reply);
    Parsed::Reply { size, then: Then::Continue, fault: false }
}

fn bulk(bytes: &[u8], size: usize, scratch: &mut Scratch) -> Parsed {
    push_bulk(&mut scratch.reply, bytes);
    Parsed::Reply { size, then: Then::Continue, fault: false }
}

fn text(text: &[u8], size: usize, version: Version, scratch: &mut Scratch) -> Parsed {
    push_text(&mut scratch.reply, version, text);
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
        scratch.profile = None;
        let text = b"invalid username-password pair or user is disabled.";
        return error_of_kind("WRONGPASS", &[text], size, scratch);
    }
    Parsed::Authenticate { size, password, is_user_named: user.is_some() }
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
fn hello(words: &Words<'_>, size: usize, profile: &Profile, scratch: &mut Scratch) -> Parsed {
    let mut next = profile.clone();
    if words.count() > 1 {
        next.version = match decimal::integer(words.get(1)) {
            Some(2) => Version::Basic,
            Some(3) => Version::Resp3,
            Some(_) => {
                let text = b"unsupported protocol version";
                return error_of_kind("NOPROTO", &[text], size, scratch);
            }
            None => {
                let text = b"Protocol version is not an integer or out of range";
                return error(&[text], size, scratch);
            }
        };
    }
    let mut credentials = None;
    let mut i = 2;
    while i < words.count() {
        let more = words.count() - 1 - i;
        if words.is(i, "auth") && more >= 2 {
            credentials = Some((words.get(i + 1), words.spans[i + 2]));
            i += 3;
        } else if words.is(i, "setname") && more >= 1 {
            if !client::is_label(words.get(i + 1)) {
                return error(&[client::BAD_NAME.as_bytes()], size, scratch);
            }
            client::set_name(&mut next, words.get(i + 1));
            i += 2;
        } else {
            let option = printable(words.get(i), ECHO_SIZE_MAX);
            return error(&[b"Syntax error in HELLO option '", option, b"'"], size, scratch);
        }
    }
    push_hello(&mut scratch.reply, &next);
    scratch.profile = Some(next);
    match credentials {
        Some((user, password)) => authenticate(Some(user), password, size, scratch),
        None => Parsed::Reply { size, then: Then::Continue, fault: false },
    }
}

fn push_hello(out: &mut Vec<u8>, profile: &Profile) {
    push_map_header(out, profile.version, 7);
    push_bulk(out, b"server");
    push_bulk(out, b"redis");
    push_bulk(out, b"version");
    push_bulk(out, SERVER_VERSION.as_bytes());
    push_bulk(out, b"proto");
    push_integer(out, profile.version.number().into());
    push_bulk(out, b"id");
    push_integer(out, profile.id as i64);
    push_bulk(out, b"mode");
    push_bulk(out, b"standalone");
    push_bulk(out, b"role");
    push_bulk(out, b"master");
    push_bulk(out, b"modules");
    out.extend_from_slice(b"*0\r\n");
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

fn config(words: &Words<'_>, size: usize, version: Version, scratch: &mut Scratch) -> Parsed {
    if !words.is(1, "get") {
        return refused("config", size, scratch);
    }
    if words.count() == 2 {
        return wrong_arity("config|get", size, scratch);
    }
    let asked = |name: &str| (2..words.count()).any(|i| words.is(i, name));
    let found: Vec<_> = SETTINGS.iter().filter(|(name, _)| asked(name)).collect();
    push_map_header(&mut scratch.reply, version, found.len());
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

fn command(words: &Words<'_>, size: usize, version: Version, scratch: &mut Scratch) -> Parsed {
    let out = &mut scratch.reply;
    let served = || commands::ROWS.iter().filter(is_served);
    match words.get(1).to_ascii_lowercase().as_slice() {
        b"" | b"info" if words.count() <= 2 => {
            push_header(out, b'*', served().count());
            served().for_each(|row| push_command(out, version, row));
        }
        b"info" => {
            push_header(out, b'*', words.count() - 2);
            for i in 2..words.count() {
                match commands::find(words.get(i)).map(|index| &commands::ROWS[index]) {
                    Some(row) if is_served(&row) => push_command(out, version, row),
                    _ => push_null(out, version, b"$-1\r\n"),
                }
            }
        }
        b"count" if words.count() > 2 => return wrong_arity("command|count", size, scratch),
        b"count" => push_header(out, b':', served().count()),
        b"docs" => push_map_header(out, version, 0),
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
fn push_command(out: &mut Vec<u8>, version: Version, row: &Row) {
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
        | Place::Everywhere { .. }
        | Place::Scan
        | Place::Transaction(_)
        | Place::Subscribe
        | Place::Own(_)
        | Place::Refused => (0, 0, 0, false),
    };
    push_header(out, b'*', 10);
    push_bulk(out, row.name.as_bytes());
    push_integer(out, i64::from(row.arity));
    push_set_header(out, version, 1 + usize::from(moves));
    out.extend_from_slice(if row.writes { b"+write\r\n" } else { b"+readonly\r\n" });
    if moves {
        out.extend_from_slice(b"+movablekeys\r\n");
    }
    push_integer(out, first);
    push_integer(out, last);
    push_integer(out, step);
    for _ in 0..3 {
        push_set_header(out, version, 0);
    }
    out.extend_from_slice(b"*0\r\n");
}

fn push_integer(out: &mut Vec<u8>, value: i64) {
    out.push(b':');
    decimal::push(out, value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
