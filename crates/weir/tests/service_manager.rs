//! What a service manager such as systemd is told, and the sockets that it opens: the test takes
//! its place. Invariant: each message is the one that the manager must get at that moment.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use support::DEADLINE;
use support::generations::Generations;
use support::process::TempDir;
use support::servers::{Kind, Server};
use support::weir::Pool;
use support::wire::Wire;

fn plan(servers: &[Server; 2], listen: &str) -> (String, Vec<String>) {
    (Pool::of(servers).text(listen), ["--workers", "2"].map(str::to_owned).to_vec())
}

/// The next message that is no sign of life.
fn message(manager: &UnixDatagram) -> String {
    loop {
        let mut bytes = [0; 256];
        let size = manager.recv(&mut bytes).expect("it is told in time");
        let text = String::from_utf8_lossy(&bytes[..size]).into_owned();
        if text != "WATCHDOG=1" {
            return text;
        }
    }
}

/// Waits for signs of life of the process that is told of last.
fn sees_life(manager: &UnixDatagram) {
    let mut bytes = [0; 256];
    for _ in 0..2 {
        let size = manager.recv(&mut bytes).expect("there are signs of life");
        assert_eq!(&bytes[..size], b"WATCHDOG=1");
    }
}

#[test]
fn a_service_manager_is_told_who_serves_and_gets_signs_of_life() {
    let servers = Server::pair(Kind::Redis);
    let folder = TempDir::new();
    let path = folder.join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let wrap = |program| {
        // The shell sets the watchdog's process id, and becomes that process.
        let mut command = Command::new("sh");
        let text = "WATCHDOG_PID=$$ WATCHDOG_USEC=100000 exec \"$0\" \"$@\"";
        command.args(["-c", text]).arg::<std::path::PathBuf>(program);
        command.env("NOTIFY_SOCKET", &path);
        (command, Stdio::null())
    };
    let mut generations = Generations::start_as(wrap, |folder| {
        plan(&servers, folder.join("socket").to_str().unwrap())
    });
    assert_eq!(message(&manager), "READY=1");
    sees_life(&manager);
    generations.restart();
    let wanted = format!("MAINPID={}\nREADY=1", generations.pid());
    assert_eq!(message(&manager), wanted, "from the old process, which is the one listened to");
    generations.until_alone();
    sees_life(&manager);
    generations.stop();
    assert_eq!(message(&manager), "STOPPING=1");
}

/// They are accepted from, all of them, and passed on at a restart.
#[test]
fn sockets_of_a_service_manager_are_taken_over() {
    let servers = Server::pair(Kind::Redis);
    let wanted = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address: SocketAddr = wanted.local_addr().unwrap();
    // A client connects before the program runs.
    let mut early = Wire::connect(address);
    let wrap = |program| {
        let mut command = Command::new("sh");
        let text = "exec 3<&0 4<&0 0</dev/null; LISTEN_FDS=2 LISTEN_PID=$$ exec \"$0\" \"$@\"";
        command.args(["-c", text]).arg::<std::path::PathBuf>(program);
        (command, Stdio::from(OwnedFd::from(wanted.try_clone().unwrap())))
    };
    let mut generations = Generations::start_as(wrap, |_| plan(&servers, &address.to_string()));
    drop(wanted);
    let output = generations.output();
    assert!(output.contains("taken_over=2"), "{output}");
    assert_eq!(early.ask(&["PING"]), b"+PONG\r\n");
    for _ in 0..2 {
        let mut client = Wire::connect(address);
        assert_eq!(client.ask(&["SET", "k0", "v"]), b"+OK\r\n");
        drop(client);
        generations.restart();
        generations.until_alone();
    }
    assert_eq!(Wire::connect(address).ask(&["GET", "k0"]), b"$1\r\nv\r\n");
    generations.stop();
}
