//! The end of the process at TERM or INT: whatever was asked before is answered, then clients are
//! closed, and the exit code is 0. Not what becomes of its files; see `process.rs`.
//!
//! Invariant: a request counts as lost when its client sent it before the signal and got no reply.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use rustix::process::Signal;

use support::process::{allow_open_files, status_field};
use support::servers::{Kind, Server};
use support::until;
use support::weir::{Base, Pool, Weir};
use support::wire::{Ended, Wire, bulk, request};

const WORKERS_COUNT: usize = 2;

/// Clients that wait for replies when the signal comes.
const CLIENTS_COUNT: usize = 12;
/// Requests of each.
const REQUESTS_COUNT: usize = 25;

/// A Redis server that reads requests at once and answers none before it is let to.
struct Gated {
    address: SocketAddr,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Gated {
    fn start() -> Gated {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let opened = Arc::clone(&gate);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let gate = Arc::clone(&opened);
                std::thread::spawn(move || serve(stream.unwrap(), &gate));
            }
        });
        Gated { address, gate }
    }

    fn open(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }
}

/// Every request is a `GET` of a key of two bytes, and its reply is the key.
fn serve(mut stream: TcpStream, gate: &(Mutex<bool>, Condvar)) {
    let request_size = request(&["GET", "k0"]).len();
    let (mut come, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(size @ 1..) = stream.read(&mut chunk) {
        come.extend_from_slice(&chunk[..size]);
        let opened = gate.1.wait_while(gate.0.lock().unwrap(), |open| !*open);
        drop(opened.unwrap());
        let whole = come.len() / request_size * request_size;
        for one in come[..whole].chunks(request_size) {
            let key = &one[request_size - 4..];
            stream.write_all(&[b"$2\r\n", key].concat()).unwrap();
        }
        come.drain(..whole);
    }
}

/// Sends the requests of one client.
fn ask_all(wire: &mut Wire) {
    let requests: Vec<u8> =
        (0..REQUESTS_COUNT).flat_map(|i| request(&["GET", &format!("k{}", i % 10)])).collect();
    wire.send(&requests);
}

/// Takes whatever comes until the end, and gives the count of replies.
fn replies_until_closed(mut wire: Wire) -> usize {
    let (bytes, ended) = wire.rest();
    assert_eq!(ended, Ended::Closed, "it closes in good order");
    let expected: Vec<u8> =
        (0..REQUESTS_COUNT).flat_map(|i| format!("$2\r\nk{}\r\n", i % 10).into_bytes()).collect();
    assert!(expected.starts_with(&bytes), "wrong: {}", bytes.escape_ascii());
    bytes.len() / b"$2\r\nk0\r\n".len()
}

#[test]
fn requests_on_their_way_are_answered_before_clients_are_closed() {
    for (base, signal) in
        Base::BOTH.into_iter().flat_map(|base| [Signal::TERM, Signal::INT].map(|s| (base, s)))
    {
        let server = Gated::start();
        let pool = Pool::new(Kind::Redis, &[server.address]);
        let mut weir = Weir::start(base, WORKERS_COUNT, &[pool]);
        let mut idle = weir.wire(Kind::Redis);
        assert_eq!(idle.ask(&["PING"]), b"+PONG\r\n");
        let mut clients: Vec<Wire> = (0..CLIENTS_COUNT).map(|_| weir.wire(Kind::Redis)).collect();
        clients.iter_mut().for_each(ask_all);
        // All of them have been read.
        weir.until_counter(Kind::Redis, "client_requests", |count| {
            count == (CLIENTS_COUNT * REQUESTS_COUNT + 1) as u64
        });
        weir.running.signal(signal);
        // It does not wait for those who ask for nothing, and accepts nobody.
        assert_eq!(idle.rest(), (Vec::new(), Ended::Closed));
        until("nobody is accepted", || {
            TcpStream::connect(weir.address(Kind::Redis)).is_err().then_some(())
        });
        assert!(!weir.running.has_ended(), "it waits for the others");
        server.open();
        let replies_count: usize = clients.into_iter().map(replies_until_closed).sum();
        let lost_count = CLIENTS_COUNT * REQUESTS_COUNT - replies_count;
        println!("{base:?}, {signal:?}: {replies_count} replies, {lost_count} lost");
        assert_eq!(lost_count, 0);
        assert_eq!(weir.running.end().code(), Some(0));
    }
}

/// Batches that each client is served before the signal.
const BATCHES_COUNT: usize = 20;

/// Clients that have been busy all the time send one more batch, and the signal follows at once:
/// some of it is still with the kernel.
#[test]
fn requests_that_were_sent_before_the_signal_are_answered() {
    for base in Base::BOTH {
        let servers = Server::pair(Kind::Redis);
        let mut weir = Weir::start(base, WORKERS_COUNT, &[Pool::of(&servers)]);
        let mut clients: Vec<Wire> = (0..CLIENTS_COUNT).map(|_| weir.wire(Kind::Redis)).collect();
        let mut store = weir.wire(Kind::Redis);
        for key in (0..10).map(|i| format!("k{i}")) {
            assert_eq!(store.ask(&["SET", &key, &key]), b"+OK\r\n");
        }
        for _ in 0..BATCHES_COUNT {
            clients.iter_mut().for_each(ask_all);
            for client in &mut clients {
                for i in 0..REQUESTS_COUNT {
                    assert_eq!(client.redis_reply(), bulk(format!("k{}", i % 10).as_bytes()));
                }
            }
        }
        clients.iter_mut().for_each(ask_all);
        weir.running.signal(Signal::TERM);
        let replies_count: usize = clients.into_iter().map(replies_until_closed).sum();
        let lost_count = CLIENTS_COUNT * REQUESTS_COUNT - replies_count;
        println!("{base:?}: {replies_count} replies, {lost_count} lost");
        assert_eq!(lost_count, 0);
        assert_eq!(weir.running.end().code(), Some(0));
    }
}

/// Clients that connect while the process is held: many more than it accepts before it hears of the
/// signal, fewer than a queue holds.
const QUEUED_COUNT: usize = 2000;

/// A proxy whose listeners have long queues.
fn start_with_long_queues(base: Base, servers: &[Server; 2]) -> Weir {
    allow_open_files(4 * QUEUED_COUNT as u64);
    Weir::start(base, WORKERS_COUNT, &[Pool::of(servers).with("backlog: 4096")])
}

/// Clients of which the process has seen nothing yet: they have connected and asked while it was
/// held, so that all of them stand in the queues of its listeners.
fn queue_up(weir: &Weir) -> Vec<Wire> {
    weir.running.signal(Signal::STOP);
    until("it is held", || status_field(weir.pid(), "State").starts_with('T').then_some(()));
    let mut clients: Vec<Wire> = (0..QUEUED_COUNT).map(|_| weir.wire(Kind::Redis)).collect();
    clients.iter_mut().for_each(|client| client.send(&request(&["INCR", "count"])));
    clients
}

/// Takes the reply of each, in any order, and sees to it that all were executed once.
fn take_counts(clients: &mut [Wire]) {
    let mut counts: Vec<Vec<u8>> = clients.iter_mut().map(Wire::redis_reply).collect();
    let mut wanted: Vec<Vec<u8>> =
        (1..=clients.len()).map(|count| format!(":{count}\r\n").into_bytes()).collect();
    counts.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(counts, wanted);
}

/// The signal finds them in the queues; none is turned away.
#[test]
fn clients_that_nobody_has_accepted_yet_are_served_before_the_end() {
    for base in Base::BOTH {
        let servers = Server::pair(Kind::Redis);
        let mut weir = start_with_long_queues(base, &servers);
        let mut clients = queue_up(&weir);
        weir.running.signal(Signal::TERM);
        weir.running.signal(Signal::CONT);
        take_counts(&mut clients);
        for client in &mut clients {
            assert_eq!(client.rest(), (Vec::new(), Ended::Closed));
        }
        assert_eq!(weir.running.end().code(), Some(0));
    }
}

/// So it is when a reload takes the address away: from the pool, whose clients stay, or with it.
#[test]
fn clients_that_nobody_has_accepted_yet_are_served_when_their_listener_is_closed() {
    for (base, pool_stays) in Base::BOTH.into_iter().flat_map(|base| [(base, true), (base, false)])
    {
        let servers = Server::pair(Kind::Redis);
        let weir = start_with_long_queues(base, &servers);
        let mut clients = queue_up(&weir);
        let elsewhere = weir.folder.join("socket");
        let mut text = Pool::of(&servers).text(elsewhere.to_str().unwrap());
        if !pool_stays {
            text = text.replace("redis:\n", "another:\n");
        }
        std::fs::write(weir.folder.join("weir.yml"), text).unwrap();
        weir.running.signal(Signal::USR1);
        weir.running.signal(Signal::CONT);
        take_counts(&mut clients);
        until("nobody is accepted", || {
            TcpStream::connect(weir.address(Kind::Redis)).is_err().then_some(())
        });
        for client in &mut clients {
            if pool_stays {
                assert_eq!(client.ask(&["PING"]), b"+PONG\r\n", "{base:?}");
            } else {
                assert_eq!(client.rest(), (Vec::new(), Ended::Closed), "{base:?}");
            }
        }
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for base in Base::BOTH {
        let server = Gated::start();
        let pool = Pool::new(Kind::Redis, &[server.address]);
        let mut weir = Weir::start(base, WORKERS_COUNT, &[pool]);
        let mut client = weir.wire(Kind::Redis);
        client.send(&request(&["GET", "k0"]));
        weir.until_counter(Kind::Redis, "client_requests", |count| count == 1);
        weir.running.signal(Signal::TERM);
        assert!(weir.running.writes("stopping"));
        assert!(!weir.running.has_ended(), "it waits for the reply");
        weir.running.signal(Signal::TERM);
        assert_eq!(weir.running.end().code(), Some(1));
        assert!(weir.running.output().contains("second signal received"));
        assert!(client.rest().0.is_empty());
    }
}
