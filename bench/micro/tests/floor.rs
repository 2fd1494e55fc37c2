//! The tools of the comparison together: the load checks every reply that the floor brings it from
//! the servers, and fails when one is missing or wrong.
//!
//! No figure is judged. Invariant: every process that is started here ends with its test.

use std::io::BufRead;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// Ends its process, whatever becomes of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().expect("it was started here");
        self.0.wait().expect("it was started here");
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is there");
    listener.local_addr().expect("it is bound").port()
}

/// Starts a program and returns when its port accepts connections.
fn start(path: &str, arguments: &[&str], port: u16) -> Running {
    let child = Command::new(path).args(arguments).spawn().expect("it was built");
    let mut running = Running(child);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    while TcpStream::connect(address).is_err() {
        let ended = running.0.try_wait().expect("it was started here");
        assert!(ended.is_none(), "{path} ended at once: {ended:?}");
        std::thread::yield_now();
    }
    running
}

fn load(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .expect("it was built");
    assert!(output.status.success(), "the load failed");
    output.stdout.lines().next().expect("it prints a line").expect("it is text")
}

#[test]
fn every_reply_comes_through_the_floor() {
    for memcache in [false, true] {
        let protocol: &[&str] = if memcache { &["--memcache"] } else { &[] };
        let base = ["--event-base", "polling"];
        let (server, listen) = (free_port(), free_port());
        let port = server.to_string();
        let servers_arguments = [&["--port", port.as_str()], protocol, &base].concat();
        let _servers = start(env!("CARGO_BIN_EXE_servers"), &servers_arguments, server);
        let (server_at, listen_at) = (format!("127.0.0.1:{server}"), format!("127.0.0.1:{listen}"));
        let floor_arguments =
            [&["--listen", listen_at.as_str(), "--servers", &server_at], protocol, &base].concat();
        let _floor = start(env!("CARGO_BIN_EXE_floor"), &floor_arguments, listen);
        let target = ["--target", listen_at.as_str(), "--keys", "500", "--value-size", "3000"];
        let filled = load(&[&target, protocol, &base, &["--fill"]].concat());
        assert_eq!(filled, "{\"filled\": 500}");
        let shape = ["--pipeline", "8", "--sets-percent", "10", "--connections", "5"];
        let time = ["--warmup", "0", "--seconds", "0.05"];
        let report = load(&[&target[..], protocol, &base, &shape, &time].concat());
        assert!(report.starts_with("{\"operations\": "), "{report}");
        assert!(!report.contains("\"operations\": 0,"), "{report}");
    }
}
