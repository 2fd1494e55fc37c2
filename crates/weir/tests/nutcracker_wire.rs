//! What is said on the wire, held against twemproxy itself: the same conversations with Debian's
//! `nutcracker` and with Weir, before real servers. Whatever Weir answers otherwise stands in a
//! table with the row of `docs/compatibility.md` that says so.
//!
//! Invariant: a difference that is not in the table fails, and so does one in the table that is
//! none (any more), and one whose row is not in the document.

#![allow(clippy::unwrap_used)]

mod nutcracker;
mod support;

#[path = "nutcracker/memcached.rs"]
mod memcached;
#[path = "nutcracker/redis.rs"]
mod redis;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nutcracker::{Listen, Proxy};
use support::process::repository;
use support::servers::{Kind, Server, free_port};
use support::wire::{bulk, request};

/// What is said, and the row of the table of differences; an empty one where there is none.
type Row = (&'static str, &'static str);

/// The state of the servers while something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Healthy,
    /// The server of `k0` refuses connections.
    Refusing,
    /// Both servers are replicas.
    ReadOnly,
    /// Both servers have no memory for another key.
    Full,
    /// Healthy, and clients must give a password.
    Protected,
}

/// A key of no conversation, whose value is its name.
const END: &str = "the-end-of-it";

/// What a conversation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The connection goes on.
    Open,
    Closed,
    /// Nothing that is asked afterwards is answered.
    Stuck,
}

/// What came back.
#[derive(PartialEq, Eq)]
struct Answer {
    bytes: Vec<u8>,
    outcome: Outcome,
}

/// How long an answer may take before the end is asked for anew: it may have been lost, with what
/// was on its way beside it.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it is asked for.
const ATTEMPTS: usize = 8;

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.bytes[..self.bytes.len().min(300)];
        write!(f, "'{}', {:?}", shown.escape_ascii(), self.outcome)
    }
}

/// Says it, asks for the end, takes everything that comes before the end, and asks once more, to
/// see whether the connection was left open.
fn hold(kind: Kind, state: State, mut stream: UnixStream, bytes: &[u8]) -> Answer {
    let (mut question, mut mark) = (kind.get_request(END), kind.found(END, END));
    if state == State::Protected {
        question = [request(&["AUTH", "secret"]), question].concat();
        mark = [b"+OK\r\n".to_vec(), mark].concat();
    }
    let mut sending = stream.try_clone().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    std::thread::scope(|scope| {
        let said = [bytes, &question].concat();
        // It may be closed before everything is sent.
        scope.spawn(move || drop(sending.write_all(&said)));
        let (mut come, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
        let (mut attempts_count, mut answered_size) = (1, None);
        let outcome = loop {
            if come.ends_with(&mark) && answered_size.is_some_and(|size| come.len() > size) {
                break Outcome::Open;
            }
            if come.ends_with(&mark) && answered_size.is_none() {
                answered_size = Some(come.len());
                let _ = stream.write_all(&question);
            }
            match stream.read(&mut chunk) {
                Ok(size @ 1..) => come.extend_from_slice(&chunk[..size]),
                Ok(_) => break Outcome::Closed,
                Err(error) if is_closed(error.kind()) => break Outcome::Closed,
                Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
                Err(_) if attempts_count == ATTEMPTS => {
                    // The thread that sends must end.
                    let _ = stream.shutdown(Shutdown::Both);
                    break Outcome::Stuck;
                }
                Err(_) => {
                    attempts_count += 1;
                    let _ = stream.write_all(&question);
                }
            }
        };
        while come.ends_with(&mark) {
            come.truncate(come.len() - mark.len());
        }
        Answer { bytes: come, outcome }
    })
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// The servers of one kind, and what stands before them.
struct Bench {
    kind: Kind,
    servers: [Server; 2],
    proxies: [Proxy; 2],
}

impl Bench {
    fn start(kind: Kind) -> Bench {
        let servers = Server::pair(kind);
        let closed = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let [left, right] = [servers[0].address, servers[1].address];
        // Keys `k0` to `k9` are the second server's.
        let mut pools = vec![("healthy", right, ""), ("refusing", closed, "")];
        if kind == Kind::Redis {
            pools.push(("protected", right, "  redis_auth: secret\n"));
        }
        let configuration = |listen: &Listen<'_>| -> String {
            let pool = |(name, right, more): &(&str, SocketAddr, &str)| {
                let path = listen.path(name);
                format!(
                    "{name}:\n  listen: {}\n  redis: {}\n{more}  servers:\n  - {left}:1 left\n  \
                     - {right}:1 right\n",
                    path.display(),
                    kind == Kind::Redis,
                )
            };
            pools.iter().map(pool).collect()
        };
        let names: Vec<String> = pools.iter().map(|(name, ..)| (*name).to_owned()).collect();
        let proxies =
            [Proxy::nutcracker(&names, &configuration), Proxy::weir(&names, &configuration)];
        Bench { kind, servers, proxies }
    }

    /// Makes the keys absent, and then the state.
    fn prepare(&self, state: State) {
        for server in &self.servers {
            let mut wire = server.wire();
            if self.kind == Kind::Memcached {
                for key in (0..20).map(|i| format!("k{i}")) {
                    wire.ask_memcached(&format!("delete {key}\r\n"));
                }
                self.kind.set(&mut wire, END, END);
                continue;
            }
            wire.ask(&["REPLICAOF", "NO", "ONE"]);
            wire.ask(&["CONFIG", "SET", "maxmemory", "0"]);
            wire.ask(&["FLUSHALL"]);
            self.kind.set(&mut wire, END, END);
            match state {
                State::ReadOnly => drop(wire.ask(&["REPLICAOF", "127.0.0.1", "1"])),
                State::Full => drop(wire.ask(&["CONFIG", "SET", "maxmemory", "1"])),
                State::Healthy | State::Refusing | State::Protected => {}
            }
        }
    }

    /// Holds a conversation with both.
    fn answers(&self, state: State, bytes: &[u8]) -> [Answer; 2] {
        let pool = match state {
            State::Healthy | State::ReadOnly | State::Full => "healthy",
            State::Refusing => "refusing",
            State::Protected => "protected",
        };
        std::array::from_fn(|i| {
            self.prepare(state);
            hold(self.kind, state, self.proxies[i].connect(pool), bytes)
        })
    }
}

/// The rows of the document, by their first column.
fn rows_of_document() -> BTreeSet<String> {
    let text = std::fs::read_to_string(repository().join("docs/compatibility.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    rows.map(|(row, _)| row.to_owned()).collect()
}

fn hold_all(kind: Kind, mut conversations: Vec<(State, String, Vec<u8>, &'static str)>) {
    let bench = Bench::start(kind);
    let documented = rows_of_document();
    // Some that differ leave twemproxy's connection to a server broken for whoever comes next.
    conversations.sort_by_key(|(.., row)| !row.is_empty());
    let mut wrong = Vec::new();
    let mut counts = BTreeMap::<&str, usize>::new();
    for (state, said, bytes, row) in &conversations {
        let [theirs, ours] = bench.answers(*state, bytes);
        *counts.entry(row).or_default() += 1;
        let said = format!("{state:?}: {}", &said[..said.len().min(100)]);
        let shown = format!("\n  twemproxy {theirs:?}\n  Weir      {ours:?}");
        match (theirs == ours, row.is_empty()) {
            (true, true) => {}
            (false, true) => wrong.push(format!("{said} differs, with no row:{shown}")),
            (true, false) => {
                wrong.push(format!("{said} does not differ, but has row {row}:{shown}"))
            }
            (false, false) if !documented.contains(*row) => {
                wrong.push(format!("{said}: the document has no row {row}:{shown}"));
            }
            (false, false) => {}
        }
    }
    println!("{}: {} conversations, by row: {counts:?}", kind.name(), conversations.len());
    assert!(wrong.is_empty(), "{}:\n{}", kind.name(), wrong.join("\n"));
}

#[test]
fn redis_clients_are_answered_as_by_twemproxy_but_for_the_table() {
    hold_all(Kind::Redis, redis::all());
}

#[test]
fn memcached_clients_are_answered_as_by_twemproxy_but_for_the_table() {
    hold_all(Kind::Memcached, memcached::all());
}

/// Row B5: with a password and a database twemproxy chooses the database before the server lets it,
/// and everything lands in database 0.
#[test]
fn the_database_of_a_pool_with_a_password_is_used() {
    let server = Server::start(Kind::Redis);
    let mut wire = server.wire();
    assert_eq!(wire.ask(&["CONFIG", "SET", "requirepass", "secret"]), b"+OK\r\n");
    wire.ask(&["AUTH", "secret"]);
    let address = server.address;
    let configuration = |listen: &Listen<'_>| {
        format!(
            "pool:\n  listen: {}\n  redis: true\n  redis_auth: secret\n  redis_db: 3\n  \
             servers:\n  - {address}:1\n",
            listen.path("pool").display()
        )
    };
    let pools = ["pool".to_owned()];
    for (proxy, database, other) in [
        (Proxy::nutcracker(&pools, &configuration), "0", "3"),
        (Proxy::weir(&pools, &configuration), "3", "0"),
    ] {
        let said = [request(&["AUTH", "secret"]), request(&["SET", "k0", "v"])].concat();
        let told = nutcracker::converse(proxy.connect("pool"), &said, |come| come.len() >= 10);
        assert_eq!(told, b"+OK\r\n+OK\r\n");
        wire.ask(&["SELECT", database]);
        assert_eq!(wire.ask(&["GET", "k0"]), bulk(b"v"), "in {database} through {}", proxy.name);
        wire.ask(&["SELECT", other]);
        assert_eq!(wire.ask(&["GET", "k0"]), b"$-1\r\n", "not in {other}");
        wire.ask(&["FLUSHALL"]);
    }
}
