//! The proxy under test: its configuration is written, it is started on free ports, and asked for
//! its statistics through a unix socket.
//!
//! Invariant: when `start` returns every listener is open.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::process::{Running, TempDir, weir};
use super::servers::{ATTEMPTS, Kind, Server, free_port};
use super::until;
use super::wire::Wire;

/// Which event base the workers are told to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    Uring,
    Polling,
}

impl Base {
    pub(crate) const BOTH: [Base; 2] = [Base::Uring, Base::Polling];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Base::Uring => "uring",
            Base::Polling => "polling",
        }
    }
}

/// A pool: its kind is also its name. The servers are named `left` and `right`.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub(crate) kind: Kind,
    pub(crate) servers: Vec<SocketAddr>,
    /// More keys of the configuration, each a line.
    pub(crate) keys: Vec<String>,
}

impl Pool {
    pub(crate) fn new(kind: Kind, servers: &[SocketAddr]) -> Pool {
        Pool { kind, servers: servers.to_vec(), keys: Vec::new() }
    }

    pub(crate) fn of(servers: &[Server; 2]) -> Pool {
        Pool::new(servers[0].kind, &[servers[0].address, servers[1].address])
    }

    pub(crate) fn with(mut self, key: &str) -> Pool {
        self.keys.push(key.to_owned());
        self
    }

    /// As it stands in the configuration.
    pub(crate) fn text(&self, listen: &str) -> String {
        let is_redis = self.kind == Kind::Redis;
        let name = self.kind.name();
        let mut text = format!("{name}:\n  listen: {listen}\n  redis: {is_redis}\n");
        for key in &self.keys {
            text.push_str(&format!("  {key}\n"));
        }
        text.push_str("  servers:\n");
        for (server, name) in self.servers.iter().zip(super::keys::SERVER_NAMES) {
            text.push_str(&format!("    - {server}:1 {name}\n"));
        }
        text
    }
}

/// A proxy that runs.
pub(crate) struct Weir {
    pub(crate) running: Running,
    pub(crate) folder: TempDir,
    listens: Vec<(Kind, SocketAddr)>,
}

impl Weir {
    /// Starts one and waits until it serves.
    pub(crate) fn start(base: Base, workers: usize, pools: &[Pool]) -> Weir {
        Weir::start_with(pools, |command| {
            command.args(["--event-base", base.name(), "--workers", &workers.to_string()]);
        })
    }

    /// As `start`, with any arguments.
    pub(crate) fn start_with(pools: &[Pool], arguments: impl Fn(&mut Command)) -> Weir {
        Weir::start_as(weir, pools, arguments)
    }

    /// As `start_with`; `program` makes the command.
    pub(crate) fn start_as(
        program: impl Fn() -> Command,
        pools: &[Pool],
        arguments: impl Fn(&mut Command),
    ) -> Weir {
        for _ in 0..ATTEMPTS {
            let folder = TempDir::new();
            let address = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let listens: Vec<_> = pools.iter().map(|pool| (pool.kind, address())).collect();
            let texts =
                pools.iter().zip(&listens).map(|(pool, (_, at))| pool.text(&at.to_string()));
            std::fs::write(folder.join("weir.yml"), texts.collect::<String>()).unwrap();
            let mut command = program();
            command.arg("-c").arg(folder.join("weir.yml")).arg("-a").arg(folder.join("stats"));
            arguments(&mut command);
            let running = Running::start("weir", &mut command);
            if running.writes("weir runs") {
                return Weir { running, folder, listens };
            }
            let output = running.output();
            assert!(output.contains("can't listen on"), "weir did not start:\n{output}");
        }
        panic!("weir: no port in {ATTEMPTS} attempts");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Where the pool of this kind listens.
    pub(crate) fn address(&self, kind: Kind) -> SocketAddr {
        let found = self.listens.iter().find(|(of, _)| *of == kind);
        found.expect("there is such a pool").1
    }

    /// A connection to the pool of this kind.
    pub(crate) fn wire(&self, kind: Kind) -> Wire {
        Wire::connect(self.address(kind))
    }

    /// The statistics as they are now.
    pub(crate) fn stats(&self) -> Value {
        stats_at(&self.folder.join("stats"))
    }

    /// A counter of the pool of this kind.
    pub(crate) fn counter(&self, kind: Kind, name: &str) -> u64 {
        let stats = self.stats();
        stats[kind.name()][name].as_u64().unwrap_or_else(|| panic!("no {name} in {stats}"))
    }

    /// Waits until a counter, or gauge, of the pool of this kind is what it must become.
    pub(crate) fn until_counter(&self, kind: Kind, name: &str, right: impl Fn(u64) -> bool) -> u64 {
        until(&format!("{name} becomes right"), || {
            Some(self.counter(kind, name)).filter(|count| right(*count))
        })
    }

    /// Whether it runs and serves the pool of this kind.
    pub(crate) fn is_well(&mut self, kind: Kind) -> bool {
        let key = "is-weir-well";
        !self.running.has_ended() && kind.set(&mut self.wire(kind), key, "yes") == kind.stored()
    }
}

/// The line of JSON that a statistics socket serves.
pub(crate) fn stats_at(path: &Path) -> Value {
    let mut line = String::new();
    let mut stream = until("the statistics are served", || UnixStream::connect(path).ok());
    stream.read_to_string(&mut line).expect("the line is text");
    serde_json::from_str(&line).expect("the line is JSON")
}
