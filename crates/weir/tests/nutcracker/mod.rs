//! Debian's `nutcracker` (twemproxy 0.5.0) and `weir`, started on configurations that differ in
//! nothing but where they listen. Not what is compared; that is in `nutcracker_*.rs`.
//!
//! Both listen on unix sockets in a folder of the test's own, so that no port can be taken.
//! Invariant: when a proxy is returned every one of its pools accepts clients.

// Each test program is compiled with this module and uses its own part of it.
#![allow(dead_code)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::process::{Running, TempDir, program, weir};
use crate::support::{DEADLINE, until};

/// A proxy of either make.
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    folder: TempDir,
    /// Ends with it.
    _running: Running,
}

impl Proxy {
    /// Starts twemproxy. `configuration` is given where each pool listens, by the pool's name.
    pub(crate) fn nutcracker(pools: &[String], configuration: &dyn Fn(&Listen) -> String) -> Proxy {
        let folder = TempDir::new();
        let mut command = Command::new(program("nutcracker"));
        command.arg("-o").arg(folder.join("log"));
        Proxy::start("nutcracker", folder, command, pools, configuration)
    }

    /// Starts Weir with one worker, as twemproxy has one.
    pub(crate) fn weir(pools: &[String], configuration: &dyn Fn(&Listen) -> String) -> Proxy {
        let mut command = weir();
        command.args(["--workers", "1"]);
        Proxy::start("weir", TempDir::new(), command, pools, configuration)
    }

    fn start(
        name: &'static str,
        folder: TempDir,
        mut command: Command,
        pools: &[String],
        configuration: &dyn Fn(&Listen) -> String,
    ) -> Proxy {
        let text = configuration(&Listen(folder.path()));
        fs::write(folder.join("nutcracker.yml"), text).unwrap();
        command.arg("-c").arg(folder.join("nutcracker.yml")).arg("-a").arg(folder.join("stats"));
        let mut running = Running::start(name, &mut command);
        for pool in pools {
            let path = Listen(folder.path()).path(pool);
            until(&format!("{name} serves {pool}"), || {
                assert!(!running.has_ended(), "{name} refused the configuration");
                UnixStream::connect(&path).ok()
            });
        }
        Proxy { name, folder, _running: running }
    }

    /// A client of a pool.
    pub(crate) fn connect(&self, pool: &str) -> UnixStream {
        let stream = UnixStream::connect(Listen(self.folder.path()).path(pool)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }
}

/// Where the pools of a proxy listen.
pub(crate) struct Listen<'a>(&'a Path);

impl Listen<'_> {
    pub(crate) fn path(&self, pool: &str) -> PathBuf {
        self.0.join(pool)
    }
}

/// Sends all of it, from a thread of its own, and reads until `done` is content with what has come.
pub(crate) fn converse(
    mut stream: UnixStream,
    bytes: &[u8],
    mut done: impl FnMut(&[u8]) -> bool,
) -> Vec<u8> {
    let mut sending = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || sending.write_all(bytes).expect("the proxy takes what it is sent"));
        let mut come = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        while !done(&come) {
            match stream.read(&mut chunk) {
                Ok(0) => panic!("closed after {} bytes", come.len()),
                Ok(size) => come.extend_from_slice(&chunk[..size]),
                Err(error) => panic!("{error} after {} bytes", come.len()),
            }
        }
        come
    })
}
