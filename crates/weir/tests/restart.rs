//! Hot restarts at USR2: a new process of the program takes over the listening sockets, and the old
//! one ends when its clients are served. No connection is refused or reset, and no request is lost.
//!
//! A request counts as lost when its client is new and got no reply, when the connection ended amid
//! a reply, or when the server executed it and the reply did not come. A client that stays may find
//! its connection closed between requests; it connects anew and asks again. Invariant: what clients
//! count is exact, since each increments a key of its own.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;

use support::generations::{Generations, install, install_script};
use support::process::{TempDir, threads, weir};
use support::servers::{Kind, Server, free_port};
use support::weir::{Base, Pool, stats_at};
use support::wire::{Ended, Wire, bulk, request};
use support::{DEADLINE, until};

const RESTARTS_COUNT: usize = 10;
/// Clients of each kind.
const CLIENTS_COUNT: usize = 3;
/// Rounds that each client must be served between two restarts.
const ROUNDS_BETWEEN: u64 = 20;
/// Requests that a client that stays sends at a time.
const BATCH_COUNT: u64 = 10;

/// What a client has seen.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    replies: u64,
    connections: u64,
    refused: u64,
    reset: u64,
    lost: u64,
    misrouted: u64,
}

impl Seen {
    fn add(&mut self, other: Seen) {
        self.replies += other.replies;
        self.connections += other.connections;
        self.refused += other.refused;
        self.reset += other.reset;
        self.lost += other.lost;
        self.misrouted += other.misrouted;
    }
}

/// What the clients and the one who restarts know of each other.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    rounds: [AtomicU64; 2 * CLIENTS_COUNT],
}

/// A client that increments a counter of its own and reads a name of its own, again and again.
struct Client {
    number: usize,
    address: SocketAddr,
    /// What the counter was last.
    counter: u64,
    seen: Seen,
}

/// How a batch ended before its last reply.
enum Cut {
    Closed,
    Reset,
}

impl Client {
    fn connect(&mut self) -> Option<TcpStream> {
        match TcpStream::connect_timeout(&self.address, DEADLINE) {
            Ok(stream) => {
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                self.seen.connections += 1;
                Some(stream)
            }
            Err(_) => {
                self.seen.refused += 1;
                None
            }
        }
    }

    /// Asks for `count` increments, and for the name behind each.
    fn ask(&mut self, stream: &mut TcpStream, count: u64) -> Result<(), Cut> {
        let (counter, name) = (format!("counter-{}", self.number), format!("name-{}", self.number));
        let one = [request(&["INCR", &counter]), request(&["GET", &name])].concat();
        let named = bulk(name.as_bytes());
        if let Err(error) = stream.write_all(&one.repeat(count as usize)) {
            return Err(self.cut(&error, b""));
        }
        for _ in 0..count {
            let counted = format!(":{}\r\n", self.counter + 1).into_bytes();
            if !self.take(stream, &counted)? {
                // Most likely the server has executed a request whose reply did not come.
                self.seen.lost += 1;
                return Err(Cut::Closed);
            }
            self.counter += 1;
            if !self.take(stream, &named)? {
                self.seen.misrouted += 1;
            }
        }
        Ok(())
    }

    /// Takes a reply; whether it is the right one.
    fn take(&mut self, stream: &mut TcpStream, wanted: &[u8]) -> Result<bool, Cut> {
        let mut reply = Vec::new();
        while reply.len() < wanted.len() {
            let mut chunk = vec![0; wanted.len() - reply.len()];
            match stream.read(&mut chunk) {
                Ok(0) => return Err(self.cut(&ErrorKind::UnexpectedEof.into(), &reply)),
                Ok(size) => reply.extend_from_slice(&chunk[..size]),
                Err(error) => return Err(self.cut(&error, &reply)),
            }
        }
        self.seen.replies += 1;
        Ok(reply == wanted)
    }

    fn cut(&mut self, error: &io::Error, reply: &[u8]) -> Cut {
        self.seen.lost += u64::from(!reply.is_empty());
        match error.kind() {
            // Nobody reads any more, in good order or not: what can be read tells.
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => Cut::Closed,
            ErrorKind::ConnectionReset => {
                self.seen.reset += 1;
                Cut::Reset
            }
            _ => panic!("client {}: {error}", self.number),
        }
    }

    /// One connection for everything, as long as it lasts.
    fn stays(mut self, shared: &Shared) -> Seen {
        let mut kept = None;
        while !shared.stop.load(SeqCst) {
            let Some(mut stream) = kept.take().or_else(|| self.connect()) else { continue };
            if self.ask(&mut stream, BATCH_COUNT).is_ok() {
                kept = Some(stream);
                shared.rounds[self.number].fetch_add(1, SeqCst);
            }
        }
        self.seen
    }

    /// A connection for each request.
    fn comes_and_goes(mut self, shared: &Shared) -> Seen {
        while !shared.stop.load(SeqCst) {
            let Some(mut stream) = self.connect() else { continue };
            let asked = self.ask(&mut stream, 1);
            self.seen.lost += u64::from(matches!(asked, Err(Cut::Closed)));
            // The port is free at once.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            shared.rounds[self.number].fetch_add(1, SeqCst);
        }
        self.seen
    }
}

fn start_clients(shared: &Arc<Shared>, address: SocketAddr) -> Vec<JoinHandle<Seen>> {
    (0..2 * CLIENTS_COUNT)
        .map(|number| {
            let shared = Arc::clone(shared);
            let client = Client { number, address, counter: 0, seen: Seen::default() };
            std::thread::spawn(move || {
                if number < CLIENTS_COUNT {
                    client.stays(&shared)
                } else {
                    client.comes_and_goes(&shared)
                }
            })
        })
        .collect()
}

/// Waits until every client has been served some more.
fn go_on(shared: &Shared, clients: &[JoinHandle<Seen>]) {
    let before: Vec<u64> = shared.rounds.iter().map(|rounds| rounds.load(SeqCst)).collect();
    until("every client is served", || {
        assert!(clients.iter().all(|client| !client.is_finished()), "a client has panicked");
        let now = shared.rounds.iter().map(|rounds| rounds.load(SeqCst));
        now.zip(&before).all(|(now, before)| now >= before + ROUNDS_BETWEEN).then_some(())
    });
}

fn path_in(folder: &TempDir, name: &str) -> String {
    folder.join(name).to_str().expect("names here are text").to_owned()
}

fn on_base(base: Base, workers: usize) -> Vec<String> {
    ["--event-base", base.name(), "--workers", &workers.to_string()].map(str::to_owned).to_vec()
}

fn loses_nothing(base: Base) {
    let servers = Server::pair(Kind::Redis);
    let mut port = 0;
    let planned = std::cell::Cell::new(0);
    let mut generations = Generations::start(|_| {
        planned.set(free_port());
        (Pool::of(&servers).text(&format!("127.0.0.1:{}", planned.get())), on_base(base, 2))
    });
    port += planned.get();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut store = Wire::connect(address);
    for number in 0..2 * CLIENTS_COUNT {
        let name = format!("name-{number}");
        assert_eq!(store.ask(&["SET", &name, &name]), b"+OK\r\n");
    }
    drop(store);
    let descriptors_count = generations.descriptors_count();
    let shared = Arc::new(Shared::default());
    let clients = start_clients(&shared, address);
    for _ in 0..RESTARTS_COUNT {
        go_on(&shared, &clients);
        generations.restart();
    }
    go_on(&shared, &clients);
    shared.stop.store(true, SeqCst);
    let seen: Vec<Seen> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let mut kinds = [Seen::default(); 2];
    for (number, seen) in seen.iter().enumerate() {
        kinds[number / CLIENTS_COUNT].add(*seen);
    }
    println!("{base:?}, {RESTARTS_COUNT} restarts: those that stay {:?}", kinds[0]);
    println!("{base:?}, {RESTARTS_COUNT} restarts: those that come and go {:?}", kinds[1]);
    for seen in kinds {
        assert_eq!((seen.refused, seen.reset, seen.lost, seen.misrouted), (0, 0, 0, 0));
    }
    // Each was closed by each process but the last.
    assert!(kinds[0].connections >= (CLIENTS_COUNT * (RESTARTS_COUNT + 1)) as u64);
    generations.until_alone();
    assert_eq!(generations.first.end_status().code(), Some(0));
    // The clients' and the servers' connections come on top.
    until("no descriptor is left from a predecessor", || {
        (generations.descriptors_count() <= descriptors_count + 4).then_some(())
    });
    generations.stop();
    assert!(!generations.folder.join("pid").exists() && !generations.folder.join("stats").exists());
}

#[test]
fn ten_restarts_under_load_lose_nothing_on_io_uring() {
    loses_nothing(Base::Uring);
}

#[test]
fn ten_restarts_under_load_lose_nothing_on_polling() {
    loses_nothing(Base::Polling);
}

/// Whatever is wrong with the new process, the old one serves as if nothing had been asked of it,
/// and keeps its pid file; once it is right, the restart succeeds.
#[test]
fn a_restart_that_fails_changes_nothing() {
    let servers = Server::pair(Kind::Redis);
    let mut generations = Generations::start(|folder| {
        let mut arguments = on_base(Base::Uring, 2);
        arguments.extend(["--restart-timeout", "3"].map(str::to_owned));
        (Pool::of(&servers).text(&path_in(folder, "socket")), arguments)
    });
    let path = generations.folder.join("socket");
    let mut client = UnixStream::connect(&path).unwrap();
    let file = generations.folder.join("weir.yml");
    let right = fs::read_to_string(&file).unwrap();
    let program = generations.folder.join("weir");
    let folder = TempDir::new();
    let write_pid = format!("echo -n 1 > {}", generations.folder.join("pid").display());
    let failures: [(&str, &dyn Fn()); 5] = [
        ("weir.yml:2:", &|| fs::write(&file, "redis:\n  listen: nowhere\n").unwrap()),
        ("ended before it served: exit status: 3", &|| {
            fs::write(&file, &right).unwrap();
            install_script(&generations.folder, "weir", &format!("{write_pid}; exit 3"));
        }),
        ("did not serve within 3s; it was killed", &|| {
            install_script(&generations.folder, "weir", "exec sleep 1000");
        }),
        ("does not answer as weir does", &|| {
            install_script(&generations.folder, "weir", "exec 0<&-; exec sleep 1000");
        }),
        ("can't be started", &|| fs::rename(&program, folder.join("away")).unwrap()),
    ];
    for (why, break_it) in failures {
        break_it();
        let count = generations.output().matches("this process goes on").count();
        generations.signal(Signal::USR2);
        generations.until_says_again("this process goes on", count);
        assert!(generations.output().contains(why), "{why}?\n{}", generations.output());
        let written = fs::read_to_string(generations.folder.join("pid")).unwrap();
        assert_eq!(written, generations.pid().to_string());
        for stream in [&mut client, &mut UnixStream::connect(&path).unwrap()] {
            stream.write_all(b"PING\r\n").unwrap();
            let mut reply = [0; 7];
            stream.read_exact(&mut reply).unwrap();
            assert_eq!(&reply, b"+PONG\r\n");
        }
        assert_eq!(children_of(generations.pid()), 0, "none is left over");
    }
    install(&generations.folder, "weir");
    generations.restart();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    assert!(UnixStream::connect(&path).is_ok(), "the path is still there");
    generations.stop();
}

/// Processes whose parent it is, those not waited for included.
fn children_of(parent: u32) -> usize {
    let tasks = threads(parent).into_iter();
    let children = tasks.filter_map(|(thread, _)| {
        fs::read_to_string(format!("/proc/{parent}/task/{thread}/children")).ok()
    });
    children.map(|list| list.split_whitespace().count()).sum()
}

/// The new version may have another number of workers, and a file that was replaced is what runs.
/// Every socket that was taken over is accepted from, however few workers there are.
#[test]
fn the_number_of_workers_may_change() {
    let servers = Server::pair(Kind::Redis);
    for base in Base::BOTH {
        let port = std::cell::Cell::new(0);
        let mut generations = Generations::start(|_| {
            port.set(free_port());
            let listen = format!("127.0.0.1:{}", port.get());
            let mut arguments = on_base(base, 3);
            arguments.rotate_left(2);
            (Pool::of(&servers).text(&listen), arguments)
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.get()));
        for (from, to, workers) in [("weir", "weir2", 1), ("weir2", "weir3", 2)] {
            install(&generations.folder, to);
            let next = generations.folder.join(to).display().to_string();
            // The first word names the program; of several `--workers` only one may stand.
            let text = format!(
                "arguments=; skip=\nfor one in \"$@\"; do\n\
                 [ -n \"$skip\" ] && skip= && continue\n\
                 [ \"$one\" = --workers ] && skip=yes && continue\n\
                 arguments=\"$arguments $one\"\ndone\nexec {next} $arguments --workers {workers}"
            );
            install_script(&generations.folder, from, &text);
            generations.restart();
            generations.until_alone();
            let count = threads(generations.pid()).into_iter();
            let count = count.filter(|(_, name)| name.starts_with("weir-worker-")).count();
            assert_eq!(count, workers);
            let mut clients: Vec<Wire> = (0..40).map(|_| Wire::connect(address)).collect();
            for client in &mut clients {
                assert_eq!(client.ask(&["PING"]), b"+PONG\r\n");
            }
            clients.into_iter().for_each(Wire::reset);
        }
        generations.stop();
    }
}

/// The new process goes by the file as it is then: pools come and go.
#[test]
fn the_new_process_has_the_pools_of_the_file() {
    let servers = Server::pair(Kind::Redis);
    let others = Server::pair(Kind::Memcached);
    for base in Base::BOTH {
        let ports = std::cell::Cell::new([0; 2]);
        let listen = |port: u16| format!("127.0.0.1:{port}");
        let mut generations = Generations::start(|_| {
            ports.set([free_port(), free_port()]);
            (Pool::of(&servers).text(&listen(ports.get()[0])), on_base(base, 2))
        });
        let [old, new] = ports.get().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let mut client = Wire::connect(old);
        assert_eq!(client.ask(&["PING"]), b"+PONG\r\n");
        let text = Pool::of(&others).text(&listen(new.port()));
        fs::write(generations.folder.join("weir.yml"), text).unwrap();
        generations.restart();
        assert_eq!(client.rest(), (Vec::new(), Ended::Closed));
        assert!(generations.output().contains("is not wanted here"), "{}", generations.output());
        let mut client = Wire::connect(new);
        assert_eq!(Kind::Memcached.set(&mut client, "k0", "v"), Kind::Memcached.stored());
        until("nobody listens where the old pool did", || {
            TcpStream::connect(old).is_err().then_some(())
        });
        generations.until_alone();
        let stats = stats_at(&generations.folder.join("stats"));
        assert!(stats["memcached"].is_object() && stats["redis"].is_null(), "{stats}");
        generations.stop();
    }
}

/// The statistics, the monitoring and `weir ctl` are the new process's at once, while the old one
/// still waits for a client.
#[test]
fn operators_are_answered_by_the_process_that_serves() {
    // It takes connections and never answers.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let silent = [silent.local_addr().unwrap(); 2];
    let ports = std::cell::Cell::new([0; 2]);
    let mut generations = Generations::start(|folder| {
        ports.set([free_port(), free_port()]);
        let mut arguments = on_base(Base::Uring, 2);
        arguments.extend(["--admin-addr".to_owned(), ports.get()[1].to_string()]);
        arguments.extend(["--ctl-socket".to_owned(), path_in(folder, "ctl")]);
        let listen = format!("127.0.0.1:{}", ports.get()[0]);
        (Pool::new(Kind::Redis, &silent).text(&listen), arguments)
    });
    let [own, monitored] = ports.get().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let (ctl, stats) = (generations.folder.join("ctl"), generations.folder.join("stats"));
    let mut waiting = Wire::connect(own);
    waiting.send(b"GET k0\r\n");
    until("the request is on its way", || {
        (stats_at(&stats)["redis"]["client_requests"] == 1).then_some(())
    });
    let ask = |words: &[&str]| {
        weir().args(["ctl", "--socket"]).arg(&ctl).args(words).output().expect("it can be started")
    };
    generations.restart_by(|_| assert!(ask(&["upgrade"]).status.success()));
    let serves = |pid: u32| {
        let status = ask(&["--json", "status"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        status["process"] == pid && status["state"] == "serving"
    };
    until("the new process answers, and only that", || {
        (0..10).all(|_| serves(generations.pid())).then_some(())
    });
    for _ in 0..10 {
        assert_eq!(stats_at(&stats)["redis"]["client_requests"], 0, "the old one has counted 1");
        let mut monitor = TcpStream::connect(monitored).unwrap();
        monitor.write_all(b"GET /readyz HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        monitor.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
    assert!(!generations.first.has_ended(), "it waits for the client");
    waiting.reset();
    assert_eq!(generations.first.end_status().code(), Some(0));
    assert!(serves(generations.pid()), "the paths are still there");
    generations.stop();
    assert!(!ctl.exists() && !stats.exists());
}

/// A second signal while a restart is under way starts no second process, and one that ends the
/// old process ends the new one, too.
#[test]
fn a_restart_under_way_is_not_started_again_and_ends_with_the_process() {
    let servers = Server::pair(Kind::Redis);
    let mut generations = Generations::start(|folder| {
        (Pool::of(&servers).text(&path_in(folder, "socket")), on_base(Base::Polling, 1))
    });
    let started = generations.folder.join("started");
    let text = format!("echo $$ >> {}; exec sleep 1000", started.display());
    install_script(&generations.folder, "weir", &text);
    generations.signal(Signal::USR2);
    let child = until("the new process starts", || {
        let text = fs::read_to_string(&started).ok()?;
        text.trim().parse::<u32>().ok()
    });
    generations.signal(Signal::USR2);
    assert!(generations.first.writes("a restart is under way already"));
    generations.signal(Signal::USR1);
    assert!(generations.first.writes("the reload waits for its end"));
    generations.signal(Signal::TERM);
    assert_eq!(generations.first.end_status().code(), Some(0));
    until("the new process ends", || support::generations::is_gone(child).then_some(()));
    assert_eq!(fs::read_to_string(&started).unwrap().lines().count(), 1);
}
