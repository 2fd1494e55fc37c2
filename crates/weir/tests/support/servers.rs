//! Real servers. Each is known to be the very process that was started, not another that took the
//! port in between. Invariant: two servers never share a port or data.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use super::process::{Running, TempDir, program};
use super::until;
use super::wire::Wire;

/// How often a port may turn out to be taken.
pub(crate) const ATTEMPTS: usize = 10;

/// A port that nobody used just now. It may be taken before it is used, so whoever uses it tries
/// again.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

/// The first of two ports in a row that nobody used just now. They are not among those that the
/// kernel hands out by itself, where a pair of free ones may be rare.
pub(crate) fn two_free_ports() -> u16 {
    let start = 10_000 + (std::process::id() % 10_000) as u16;
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    (0..100)
        .map(|_| start + TAKEN.fetch_add(2, Ordering::Relaxed))
        .find(|port| is_free(*port) && is_free(port + 1))
        .expect("there are two free ports among two hundred")
}

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    Memcached,
}

impl Kind {
    pub(crate) const BOTH: [Kind; 2] = [Kind::Redis, Kind::Memcached];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Redis => "redis",
            Kind::Memcached => "memcached",
        }
    }

    /// Puts a value in its place.
    pub(crate) fn set(self, wire: &mut Wire, key: &str, value: &str) -> Vec<u8> {
        match self {
            Kind::Redis => wire.ask(&["SET", key, value]),
            Kind::Memcached => {
                wire.ask_memcached(&format!("set {key} 0 0 {}\r\n{value}\r\n", value.len()))
            }
        }
    }

    /// The reply to `set`.
    pub(crate) fn stored(self) -> &'static [u8] {
        match self {
            Kind::Redis => b"+OK\r\n",
            Kind::Memcached => b"STORED\r\n",
        }
    }

    /// Asks for a value.
    pub(crate) fn get(self, wire: &mut Wire, key: &str) -> Vec<u8> {
        wire.send(&self.get_request(key));
        self.reply(wire)
    }

    pub(crate) fn get_request(self, key: &str) -> Vec<u8> {
        match self {
            Kind::Redis => super::wire::request(&["GET", key]),
            Kind::Memcached => format!("get {key}\r\n").into_bytes(),
        }
    }

    pub(crate) fn reply(self, wire: &mut Wire) -> Vec<u8> {
        match self {
            Kind::Redis => wire.redis_reply(),
            Kind::Memcached => wire.memcached_reply(),
        }
    }

    /// The reply to `get` of a key that has this value.
    pub(crate) fn found(self, key: &str, value: &str) -> Vec<u8> {
        let size = value.len();
        match self {
            Kind::Redis => format!("${size}\r\n{value}\r\n"),
            Kind::Memcached => format!("VALUE {key} 0 {size}\r\n{value}\r\nEND\r\n"),
        }
        .into_bytes()
    }

    /// The reply to `get` of a key that is not there.
    pub(crate) fn missing(self) -> &'static [u8] {
        match self {
            Kind::Redis => b"$-1\r\n",
            Kind::Memcached => b"END\r\n",
        }
    }
}

/// A server of either kind.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) running: Running,
    _folder: TempDir,
}

impl Server {
    /// Starts one and waits until it serves.
    pub(crate) fn start(kind: Kind) -> Server {
        for _ in 0..ATTEMPTS {
            if let Some(server) = Server::try_start(kind) {
                return server;
            }
        }
        panic!("{}: no port in {ATTEMPTS} attempts", kind.name());
    }

    /// Two servers, as most tests want them.
    pub(crate) fn pair(kind: Kind) -> [Server; 2] {
        [Server::start(kind), Server::start(kind)]
    }

    /// `None` when somebody else got the port.
    fn try_start(kind: Kind) -> Option<Server> {
        let folder = TempDir::new();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut command = command(kind, address.port(), &folder);
        let mut running = Running::start(kind.name(), &mut command);
        until(&format!("{} serves", kind.name()), || {
            if running.has_ended() {
                return Some(false);
            }
            let listens = TcpStream::connect(address).is_ok();
            (listens && pid_at(kind, address) == Some(running.pid())).then_some(true)
        })
        .then_some(Server { kind, address, running, _folder: folder })
    }

    /// A connection to it, past the proxy.
    pub(crate) fn wire(&self) -> Wire {
        Wire::connect(self.address)
    }

    /// Requests that it has executed.
    pub(crate) fn requests(&self) -> u64 {
        match self.kind {
            Kind::Redis => info(self.address, "total_commands_processed"),
            Kind::Memcached => {
                let stats = stats(self.address);
                ["cmd_get", "cmd_set"].iter().map(|name| number_in(&stats, name)).sum()
            }
        }
    }

    /// Keys that it holds.
    pub(crate) fn keys_count(&self) -> u64 {
        match self.kind {
            Kind::Redis => {
                let reply = self.wire().ask(&["DBSIZE"]);
                String::from_utf8_lossy(&reply[1..]).trim().parse().expect("a number")
            }
            Kind::Memcached => number_in(&stats(self.address), "curr_items"),
        }
    }
}

fn command(kind: Kind, port: u16, folder: &TempDir) -> Command {
    match kind {
        Kind::Redis => {
            let mut command = Command::new(program("redis-server"));
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
            command.args(["--appendonly", "no", "--loglevel", "warning", "--dir"]);
            command.arg(folder.path());
            command
        }
        Kind::Memcached => {
            let mut command = Command::new(program("memcached"));
            let port = port.to_string();
            // Root must say as whom it shall run.
            command.args(["-l", "127.0.0.1", "-p", &port, "-U", "0", "-t", "1", "-u", "root"]);
            command.args(["-m", "256", "-c", "1024"]);
            command
        }
    }
}

/// The process that answers there, if it is a server of this kind.
fn pid_at(kind: Kind, address: SocketAddr) -> Option<u32> {
    match kind {
        Kind::Redis => Some(info(address, "process_id") as u32),
        Kind::Memcached => Some(number_in(&stats(address), "pid") as u32),
    }
}

/// A number of Redis' INFO.
pub(crate) fn info(address: SocketAddr, name: &str) -> u64 {
    let reply = Wire::connect(address).ask(&["INFO"]);
    let text = String::from_utf8_lossy(&reply).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
}

fn stats(address: SocketAddr) -> String {
    let mut wire = Wire::connect(address);
    wire.send(b"stats\r\n");
    let (bytes, ended) = wire.up_to(b"END\r\n");
    assert_eq!(ended, None, "memcached closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn number_in(stats: &str, name: &str) -> u64 {
    let value = stats.lines().find_map(|line| line.strip_prefix("STAT ")?.strip_prefix(name));
    value.unwrap_or_else(|| panic!("no {name} in {stats}")).trim().parse().expect("a number")
}
