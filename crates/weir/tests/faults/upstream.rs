//! A real server whose process a test may kill, hold up and start again, always on the same port.
//!
//! Invariant: the port is not among those that the kernel hands out by itself, so nobody takes it
//! while the server is down.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use rustix::process::Signal;

use crate::support::process::{Running, TempDir, program};
use crate::support::servers::{ATTEMPTS, Kind, info, two_free_ports};
use crate::support::until;
use crate::support::wire::Wire;

pub(crate) struct Upstream {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    /// What its command begins with: it may run elsewhere.
    prefix: Vec<String>,
    folder: TempDir,
    running: Option<Running>,
}

impl Upstream {
    /// Starts one and waits until it serves.
    pub(crate) fn start(kind: Kind) -> Upstream {
        for _ in 0..ATTEMPTS {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, two_free_ports()));
            let mut upstream = Upstream::down(kind, address, &[]);
            if upstream.try_start() {
                return upstream;
            }
        }
        panic!("{}: no port in {ATTEMPTS} attempts", kind.name());
    }

    /// One that is not started yet. `prefix` are words that its command begins with.
    pub(crate) fn down(kind: Kind, address: SocketAddr, prefix: &[&str]) -> Upstream {
        let prefix = prefix.iter().map(|&word| word.to_owned()).collect();
        Upstream { kind, address, prefix, folder: TempDir::new(), running: None }
    }

    /// Ends its process by force, with all that it holds.
    pub(crate) fn kill(&mut self) {
        drop(self.running.take().expect("it runs"));
    }

    /// Starts it, empty, and waits until it serves.
    pub(crate) fn start_again(&mut self) {
        assert!(self.try_start(), "somebody else has taken {}", self.address);
    }

    /// Its process stands still; the kernel still takes connections and bytes for it.
    pub(crate) fn pause(&self) {
        let running = self.running.as_ref().expect("it runs");
        running.signal(Signal::STOP);
        // A thread that was about to run when the signal came may still serve somebody.
        until("all its threads stand still", || all_stand_still(running.pid()).then_some(()));
    }

    /// Its process goes on.
    pub(crate) fn resume(&self) {
        self.running.as_ref().expect("it runs").signal(Signal::CONT);
    }

    /// A connection to it, past the proxy.
    pub(crate) fn wire(&self) -> Wire {
        Wire::connect(self.address)
    }

    fn try_start(&mut self) -> bool {
        let mut running = Running::start(self.kind.name(), &mut self.command());
        let serves = until(&format!("{} serves", self.kind.name()), || {
            if running.has_ended() {
                return Some(false);
            }
            let listens = TcpStream::connect(self.address).is_ok();
            (listens && self.pid_there() == running.pid()).then_some(true)
        });
        self.running = serves.then_some(running);
        serves
    }

    /// The process that answers at the address.
    fn pid_there(&self) -> u32 {
        if self.kind == Kind::Redis {
            return info(self.address, "process_id") as u32;
        }
        let mut wire = self.wire();
        wire.send(b"stats\r\n");
        let stats = wire.up_to(b"END\r\n").0;
        let stats = String::from_utf8_lossy(&stats).into_owned();
        let pid = stats.lines().find_map(|line| line.strip_prefix("STAT pid "));
        pid.expect("memcached knows its process").trim().parse().expect("a number")
    }

    fn command(&self) -> Command {
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let words: &[&str] = match self.kind {
            Kind::Redis => &["--bind", &host, "--port", &port, "--save", "", "--appendonly", "no"],
            // Root must say as whom it shall run.
            Kind::Memcached => &["-l", &host, "-p", &port, "-U", "0", "-t", "1", "-u", "root"],
        };
        let name = match self.kind {
            Kind::Redis => "redis-server",
            Kind::Memcached => "memcached",
        };
        let mut command = match self.prefix.split_first() {
            None => Command::new(program(name)),
            Some((first, rest)) => {
                let mut command = Command::new(program(first));
                command.args(rest).arg(program(name));
                command
            }
        };
        command.args(words);
        match self.kind {
            Kind::Redis => {
                command.args(["--loglevel", "warning", "--protected-mode", "no", "--dir"]);
                command.arg(self.folder.path());
            }
            Kind::Memcached => {
                command.args(["-m", "256", "-c", "1024"]);
            }
        }
        command
    }
}

/// Whether every thread of a process is stopped.
fn all_stand_still(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state stands behind the name of the program, which may contain anything.
        stat.rsplit(") ").next().is_some_and(|fields| fields.starts_with('T'))
    })
}
