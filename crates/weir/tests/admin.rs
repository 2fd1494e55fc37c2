//! What operators are answered: HTTP for monitoring, and `weir ctl` through the unix socket.
//!
//! Invariant: the proxy under test serves its clients whatever is asked of it.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;

use support::process::{TempDir, weir};
use support::servers::{Kind, Server};
use support::until;
use support::weir::{Base, Pool, Weir};
use support::wire::{Ended, request};

/// A proxy with both admin interfaces.
struct Scene {
    weir: Weir,
    http: SocketAddr,
    /// Holds the socket of `weir ctl`.
    folder: TempDir,
}

impl Scene {
    fn new(base: Base, workers: usize, pools: &[Pool]) -> Scene {
        let folder = TempDir::new();
        let weir = Weir::start_with(pools, |command| {
            command.args(["--event-base", base.name(), "--workers", &workers.to_string()]);
            command.args(["--admin-addr", "0", "--ctl-socket"]).arg(folder.join("ctl"));
        });
        let output = weir.running.output();
        let line = output.lines().find(|line| line.contains("admin HTTP")).unwrap();
        let (_, address) = line.split_once("address=").unwrap();
        Scene { http: address.trim().parse().unwrap(), weir, folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("ctl")
    }

    /// The status line and the body that answer this.
    fn http(&self, bytes: &[u8]) -> (String, String) {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let size = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        assert!(body.is_empty() || body.len().to_string() == size, "{answer}");
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    fn get(&self, path: &str) -> (String, String) {
        self.http(format!("GET {path} HTTP/1.1\r\nHost: weir\r\n\r\n").as_bytes())
    }

    fn ctl(&self, words: &[&str]) -> Output {
        weir().args(["ctl", "--socket"]).arg(self.socket()).args(words).output().unwrap()
    }

    fn ctl_text(&self, words: &[&str]) -> String {
        let output = self.ctl(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn ctl_json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ctl_text(&[&["--json"], words].concat())).unwrap()
    }
}

/// The value of a sample of Prometheus' text.
fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.split_once(' ').is_some_and(|(n, _)| n == name));
    let line = line.unwrap_or_else(|| panic!("no {name} in:\n{text}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn metrics_tell_requests_by_pool_server_and_command() {
    for base in Base::BOTH {
        let redis = Server::pair(Kind::Redis);
        let memcached = Server::pair(Kind::Memcached);
        let scene = Scene::new(base, 2, &[Pool::of(&redis), Pool::of(&memcached)]);
        let mut client = scene.weir.wire(Kind::Redis);
        for _ in 0..5 {
            client.ask(&["SET", "k10", "v"]);
        }
        client.ask(&["GET", "k0"]);
        client.ask(&["MGET", "k10", "k0"]);
        let mut other = scene.weir.wire(Kind::Memcached);
        other.ask_memcached("get k10\r\n");
        let (status, text) = scene.get("/metrics");
        assert_eq!(status, "HTTP/1.1 200 OK");
        let took = "weir_request_duration_seconds";
        for (labels, count) in [
            (r#"pool="redis",server="left",command="set""#, 5.0),
            (r#"pool="redis",server="left",command="mget""#, 1.0),
            (r#"pool="redis",server="right",command="mget""#, 1.0),
            (r#"pool="redis",server="right",command="get""#, 1.0),
            (r#"pool="memcached",server="left",command="get""#, 1.0),
        ] {
            assert_eq!(sample(&text, &format!("{took}_count{{{labels}}}")), count, "{labels}");
            let infinite = format!("{took}_bucket{{{labels},le=\"+Inf\"}}");
            assert_eq!(sample(&text, &infinite), count, "{labels}");
            let sum = sample(&text, &format!("{took}_sum{{{labels}}}"));
            assert!(sum > 0.0 && sum < 10.0, "{labels}: {sum}");
        }
        assert!(!text.contains(r#"server="right",command="set""#), "nobody has asked for it");
        assert_eq!(sample(&text, r#"weir_client_connections{pool="redis"}"#), 1.0);
        assert_eq!(sample(&text, r#"weir_requests_total{pool="redis",server="left"}"#), 6.0);
        assert_eq!(sample(&text, r#"weir_server_ejected{pool="redis",server="left"}"#), 0.0);
        // Each family once, and every sample belongs to one.
        let mut families: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let count = families.len();
        families.dedup();
        assert_eq!(families.len(), count);
    }
}

#[test]
fn a_time_out_counts_in_the_histogram_for_as_long_as_it_took() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let good = Server::start(Kind::Redis);
    let address = silent.local_addr().unwrap();
    let pool = Pool::new(Kind::Redis, &[address, good.address]).with("timeout: 50");
    let scene = Scene::new(Base::Polling, 1, &[pool]);
    let lost = scene.weir.wire(Kind::Redis).ask(&["GET", "k10"]);
    assert_eq!(lost, b"-ERR Connection timed out\r\n");
    let (_, text) = scene.get("/metrics");
    let labels = r#"pool="redis",server="left",command="get""#;
    let sum = sample(&text, &format!("weir_request_duration_seconds_sum{{{labels}}}"));
    assert!(sum >= 0.05, "{sum}");
}

#[test]
fn pages_that_are_not_there_and_what_is_no_request_get_their_errors() {
    let servers = Server::pair(Kind::Redis);
    let scene = Scene::new(Base::Polling, 1, &[Pool::of(&servers)]);
    let large = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(20_000));
    for (bytes, status) in [
        (b"GET / HTTP/1.1\r\n\r\n".as_slice(), "404 Not Found"),
        (b"GET /metricsx HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", "405 Method Not Allowed"),
        (b"DELETE /config HTTP/1.0\r\n\r\n", "405 Method Not Allowed"),
        (b"*1\r\n$4\r\nPING\r\n", "400 Bad Request"),
        (b"\x16\x03\x01\x02\x00", "400 Bad Request"),
        (large.as_bytes(), "400 Bad Request"),
        (b"GET /healthz HTTP/1.1\r\n", "400 Bad Request"),
    ] {
        let (line, _) = scene.http(bytes);
        assert_eq!(line, format!("HTTP/1.1 {status}"), "{}", bytes.escape_ascii());
    }
    let (status, body) = scene.http(b"HEAD /healthz HTTP/1.1\r\n\r\n");
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", ""));
    assert_eq!(scene.get("/healthz?a=b").1, "ok\n");
    assert_eq!(scene.get("/readyz").1, "ok\n");
}

/// A caller that says nothing is waited for; whoever asks whether the process lives must not be
/// kept waiting meanwhile, lest it be taken for dead.
#[test]
fn callers_that_say_nothing_do_not_keep_others_waiting() {
    let servers = Server::pair(Kind::Redis);
    let scene = Scene::new(Base::Polling, 1, &[Pool::of(&servers)]);
    until("somebody is answered before those who came earlier are given up", || {
        let silent: Vec<TcpStream> =
            (0..3).map(|_| TcpStream::connect(scene.http).unwrap()).collect();
        assert_eq!(scene.get("/healthz").1, "ok\n");
        let is_waited_for = |mut stream: &TcpStream| {
            stream.set_nonblocking(true).unwrap();
            stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        silent.iter().all(is_waited_for).then_some(())
    });
}

#[test]
fn the_configuration_is_told_without_its_secrets() {
    let servers = Server::pair(Kind::Redis);
    let pool = Pool::of(&servers).with("redis_auth: hunter2").with("hash_tag: \"{}\"");
    let scene = Scene::new(Base::Polling, 1, &[pool]);
    let (status, text) = scene.get("/config");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(!text.contains("hunter2"), "{text}");
    let config: Value = serde_json::from_str(&text).unwrap();
    let redis = &config["redis"];
    assert_eq!(redis["redis_auth"], "(redacted)");
    assert_eq!(redis["hash_tag"], "{}");
    assert_eq!(redis["servers"][0]["name"], "left");
    assert_eq!(redis["servers"][0]["address"], servers[0].address.to_string());
    let (_, text) = scene.get("/servers");
    let listed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(listed[1]["server"], "right");
    assert_eq!(listed[1]["state"], "live");
}

/// A server that takes requests and answers none.
fn silent_server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut streams = Vec::new();
        for stream in listener.incoming().flatten() {
            streams.push(stream);
        }
    });
    address
}

#[test]
fn a_process_that_drains_is_not_ready_and_still_healthy() {
    let silent = silent_server();
    let mut scene = Scene::new(Base::Polling, 2, &[Pool::new(Kind::Redis, &[silent, silent])]);
    // Somebody for whom the drain must wait.
    let mut client = scene.weir.wire(Kind::Redis);
    client.send(&request(&["GET", "k10"]));
    scene.weir.until_counter(Kind::Redis, "client_requests", |count| count == 1);
    assert_eq!(scene.ctl_text(&["drain"]), "clients are let go, then the process ends\n");
    until("the process is not ready", || {
        let (status, body) = scene.get("/readyz");
        (status == "HTTP/1.1 503 Service Unavailable").then(|| assert_eq!(body, "draining\n"))
    });
    assert_eq!(scene.get("/healthz").0, "HTTP/1.1 200 OK");
    assert_eq!(scene.ctl_json(&["status"])["state"], "draining");
    client.reset();
    assert!(scene.weir.running.end().success());
    assert!(!scene.socket().exists());
}

#[test]
fn ctl_tells_the_process_its_servers_and_its_clients() {
    for base in Base::BOTH {
        let servers = Server::pair(Kind::Redis);
        let scene = Scene::new(base, 2, &[Pool::of(&servers)]);
        let mut client = scene.weir.wire(Kind::Redis);
        client.ask(&["SET", "k10", "v"]);
        client.ask(&["SET", "k0", "v"]);
        client.ask(&["CLIENT", "SETNAME", "batch-7"]);
        client.ask(&["CLIENT", "SETINFO", "LIB-NAME", "lib"]);
        client.ask(&["CLIENT", "SETINFO", "LIB-VER", "1.2"]);
        let status = scene.ctl_json(&["status"]);
        assert_eq!(status["state"], "serving");
        assert_eq!(status["process"], scene.weir.pid());
        assert_eq!(status["pools"][0]["requests"], 5);
        let listed = scene.ctl_json(&["servers"]);
        assert_eq!(listed[0]["server"], "left");
        assert_eq!((&listed[0]["requests"], &listed[0]["responses"]), (&1.into(), &1.into()));
        assert!(listed[0]["below_ms_p99"].as_f64().unwrap() > 0.0);
        let clients = scene.ctl_json(&["clients"]);
        assert_eq!(clients["total"], 1);
        let local = client.stream().local_addr().unwrap().to_string();
        assert_eq!(clients["clients"][0]["address"], local, "{base:?}");
        assert_eq!(clients["clients"][0]["pool"], "redis");
        assert_eq!(clients["clients"][0]["name"], "batch-7");
        assert_eq!(clients["clients"][0]["library"], "lib 1.2");
        assert_eq!(clients["clients"][0]["resp"], 2);
        let id = client.ask(&["CLIENT", "ID"]);
        let told = format!(":{}\r\n", clients["clients"][0]["id"]);
        assert_eq!(String::from_utf8(id).unwrap(), told);
        let mut second = scene.weir.wire(Kind::Redis);
        assert_ne!(String::from_utf8(second.ask(&["CLIENT", "ID"])).unwrap(), told);
        drop(second);
        assert!(scene.ctl_text(&["clients"]).contains("batch-7  lib 1.2  2"));
        assert!(scene.ctl_text(&["servers"]).starts_with("POOL   SERVER  ADDRESS"));
        assert!(scene.ctl_text(&["status"]).contains("state                       serving\n"));
    }
}

#[test]
fn ctl_explains_where_a_key_goes() {
    let servers = Server::pair(Kind::Redis);
    let refused = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let memcached = Pool::new(Kind::Memcached, &[refused, servers[1].address])
        .with("auto_eject_hosts: true")
        .with("server_failure_limit: 1");
    let redis = Pool::of(&servers).with("hash_tag: \"{}\"");
    let scene = Scene::new(Base::Polling, 1, &[redis, memcached]);
    let told = scene.ctl_json(&["explain", "a{k10}b", "--pool", "redis"]);
    assert_eq!((&told["hashed"], &told["server"]), (&"k10".into(), &"left".into()));
    assert_eq!(told["address"], servers[0].address.to_string());
    assert!(told["why"].as_str().unwrap().contains("hash tag"));
    let before = scene.ctl_json(&["explain", "k10", "--pool", "memcached"]);
    assert_eq!((&before["server"], &before["owner"]), (&"left".into(), &"left".into()));
    scene.weir.wire(Kind::Memcached).ask_memcached("get k10\r\n");
    let after = scene.ctl_json(&["explain", "k10", "--pool", "memcached"]);
    assert_eq!((&after["server"], &after["owner"]), (&"right".into(), &"left".into()));
    assert_eq!(after["ejected"][0], "left");
    let failed = scene.ctl(&["explain", "k10"]);
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(said.starts_with("weir ctl: which pool? one of: "), "{said}");
    let failed = scene.ctl(&["explain", "k10", "--pool", "x"]);
    assert!(String::from_utf8(failed.stderr).unwrap().contains("there is no pool 'x'"));
}

#[test]
fn ctl_tells_slow_requests_and_where_their_time_went() {
    for base in Base::BOTH {
        let silent = silent_server();
        let good = Server::start(Kind::Redis);
        let pool = Pool::new(Kind::Redis, &[silent, good.address])
            .with("timeout: 60")
            .with("slow_threshold_ms: 50");
        let scene = Scene::new(base, 1, &[pool]);
        let mut client = scene.weir.wire(Kind::Redis);
        client.ask(&["CLIENT", "SETNAME", "waits"]);
        client.send(&[request(&["GET", "k10"]), request(&["GET", "k0"])].concat());
        assert_eq!(client.redis_reply(), b"-ERR Connection timed out\r\n");
        assert_eq!(client.redis_reply(), b"$-1\r\n");
        // Newest first, and both of one turn.
        let told = scene.ctl_json(&["slowlog"]);
        assert_eq!(told.as_array().unwrap().len(), 2, "{told}");
        let of = |server: &str| {
            let entry = told.as_array().unwrap().iter().find(|entry| entry["server"] == server);
            entry.unwrap_or_else(|| panic!("none of {server} in {told}"))
        };
        let ms = |entry: &Value, field: &str| entry[field].as_f64().unwrap();
        assert!(ms(of("left"), "server_ms") >= 50.0, "{told}");
        assert!(ms(of("right"), "unwritten_ms") >= 30.0, "{told}");
        for entry in [of("left"), of("right")] {
            assert_eq!((&entry["pool"], &entry["command"]), (&"redis".into(), &"get".into()));
            let local = client.stream().local_addr().unwrap().to_string();
            assert_eq!((&entry["address"], &entry["name"]), (&local.into(), &"waits".into()));
            let sum = ms(entry, "queued_ms") + ms(entry, "server_ms") + ms(entry, "unwritten_ms");
            assert!((ms(entry, "total_ms") - sum).abs() < 0.01, "{told}");
        }
        let told = scene.ctl_json(&["explain", "k0"]);
        let hash = format!("{:08x}", told["hash"].as_u64().unwrap());
        assert_eq!(of("right")["key_hash"], hash);
        assert!(scene.ctl_text(&["slowlog", "--max", "1"]).starts_with("AGO S"));
    }
}

#[test]
fn ctl_reloads_a_right_file_and_tells_what_is_wrong_with_another() {
    let servers = Server::pair(Kind::Redis);
    let scene = Scene::new(Base::Polling, 1, &[Pool::of(&servers)]);
    let file = scene.weir.folder.join("weir.yml");
    let right = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, right.replace("redis: true", "redis: maybe")).unwrap();
    let failed = scene.ctl(&["reload"]);
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(said.contains("weir.yml:3"), "{said}");
    std::fs::write(&file, right.replace("redis: true", "redis: true\n  timeout: 777")).unwrap();
    assert!(scene.ctl_text(&["reload"]).starts_with("the file is right"));
    until("the new file is in force", || {
        let config: Value = serde_json::from_str(&scene.get("/config").1).unwrap();
        (config["redis"]["timeout"] == 777).then_some(())
    });
}

#[test]
fn the_socket_is_its_owners_and_answers_each_line() {
    let servers = Server::pair(Kind::Redis);
    let scene = Scene::new(Base::Polling, 1, &[Pool::of(&servers)]);
    let mode = std::fs::metadata(scene.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = UnixStream::connect(scene.socket()).unwrap();
    for bad in ["nonsense", "{}", r#"{"command":"shutdown"}"#, r#"{"command":"drain","x":1}"#] {
        stream.write_all(format!("{bad}\n").as_bytes()).unwrap();
    }
    stream.write_all(b"{\"command\":\"servers\"}\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let answers: Vec<Value> =
        answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 5);
    for answer in &answers[..4] {
        assert_eq!(answer["ok"], false);
        assert!(answer["error"].as_str().unwrap().starts_with("not understood"));
    }
    assert_eq!(answers[4]["ok"], true);
    let mut endless = UnixStream::connect(scene.socket()).unwrap();
    endless.write_all(&vec![b'x'; 65 << 10]).unwrap();
    let mut answer = vec![0; 8];
    endless.read_exact(&mut answer).unwrap();
    assert_eq!(answer, b"{\"error\"");
}

#[test]
fn ctl_says_so_when_no_proxy_listens() {
    let folder = TempDir::new();
    let ask = |name: &str| {
        let output =
            weir().args(["ctl", "--socket"]).arg(folder.join(name)).arg("status").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(ask("none").contains("there is no socket"));
    drop(std::os::unix::net::UnixListener::bind(folder.join("dead")).unwrap());
    assert!(ask("dead").contains("no proxy listens at"));
}

#[test]
fn without_the_flags_nothing_is_served() {
    let servers = Server::pair(Kind::Redis);
    let mut weir = Weir::start(Base::Polling, 1, &[Pool::of(&servers)]);
    assert!(!weir.running.output().contains("admin HTTP"));
    let mut client = weir.wire(Kind::Redis);
    weir.running.signal(Signal::TERM);
    assert_eq!(client.rest().1, Ended::Closed);
    assert!(weir.running.end().success());
}
