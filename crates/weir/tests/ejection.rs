//! The way back of an ejected server, with real sockets: a server that accepts and answers nothing
//! gets probes, and never again a request of a client, until it answers one.
//!
//! Invariant: the silent server keeps everything that it was sent, by connection.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use support::servers::{Kind, Server};
use support::until;
use support::weir::{Base, Pool, Weir};

/// A key of the left server.
const KEY: &str = "k10";
/// Failed probes after which the server comes to its senses.
const PROBES_COUNT: usize = 2;

#[derive(Default)]
struct Heard {
    /// By connection, in the order of opening.
    bytes: Vec<Vec<u8>>,
    is_well: bool,
}

/// A server that says nothing until it is told to be well, and then finds no key.
struct Silent {
    address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

impl Silent {
    fn start(kind: Kind) -> Silent {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let all = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = {
                    let mut heard = all.lock().unwrap();
                    heard.bytes.push(Vec::new());
                    heard.bytes.len() - 1
                };
                let heard = Arc::clone(&all);
                std::thread::spawn(move || listen(stream, kind, connection, &heard));
            }
        });
        Silent { address, heard }
    }

    fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap().bytes.clone()
    }
}

fn listen(mut stream: TcpStream, kind: Kind, connection: usize, heard: &Mutex<Heard>) {
    let mut chunk = vec![0; 4096];
    while let Ok(size @ 1..) = stream.read(&mut chunk) {
        let mut heard = heard.lock().unwrap();
        heard.bytes[connection].extend_from_slice(&chunk[..size]);
        if !heard.is_well {
            continue;
        }
        let answer: &[u8] = match kind {
            _ if &chunk[..size] != probe(kind) => kind.missing(),
            Kind::Redis => b"+PONG\r\n",
            Kind::Memcached => b"VERSION 1.6.38\r\n",
        };
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

fn probe(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::Redis => b"*1\r\n$4\r\nPING\r\n",
        Kind::Memcached => b"version\r\n",
    }
}

#[test]
fn a_server_that_answers_nothing_gets_no_request_after_its_ejection() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        let silent = Silent::start(kind);
        let good = Server::start(kind);
        let pool = Pool::new(kind, &[silent.address, good.address])
            .with("auto_eject_hosts: true")
            .with("server_failure_limit: 1")
            .with("server_retry_timeout: 100")
            // Long enough for the good server, however busy the machine is.
            .with("timeout: 300");
        let weir = Weir::start(base, 1, &[pool]);
        let mut client = weir.wire(kind);
        let lost = kind.get(&mut client, KEY);
        assert!(lost.ends_with(b" Connection timed out\r\n"), "{}", lost.escape_ascii());
        // The good server has its keys from here on, and no client sees a thing of the probes.
        let all = until("the server was probed", || {
            assert_eq!(kind.get(&mut client, KEY), kind.missing(), "{kind:?} on {base:?}");
            let all = silent.heard();
            (all.len() > PROBES_COUNT && all.iter().all(|bytes| !bytes.is_empty())).then_some(all)
        });
        // The connection on which the request was lost may still be there for the first probe.
        let request = kind.get_request(KEY);
        let rest = all[0].strip_prefix(request.as_slice()).unwrap();
        assert!(rest.is_empty() || rest == probe(kind), "{}", rest.escape_ascii());
        for bytes in &all[1..] {
            assert_eq!(bytes, probe(kind), "{kind:?} on {base:?}: {}", bytes.escape_ascii());
        }
        silent.heard.lock().unwrap().is_well = true;
        let all = until("the server has its keys again", || {
            assert_eq!(kind.get(&mut client, KEY), kind.missing(), "{kind:?} on {base:?}");
            let all = silent.heard();
            all.last().is_some_and(|bytes| bytes.ends_with(&request)).then_some(all)
        });
        assert!(all.last().unwrap().starts_with(probe(kind)));
        let stats = weir.stats();
        let left = &stats[kind.name()]["left"];
        assert_eq!(left["server_ejected"], 0);
        let probes = left["server_probes"].as_u64().unwrap();
        assert!(probes > PROBES_COUNT as u64);
        // The first, and one for each probe that failed.
        assert!(stats[kind.name()]["server_ejects"].as_u64().unwrap() >= probes);
    }
}
