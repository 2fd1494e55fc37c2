//! Drives the proxy core with a fixed script of one workload, for counting instructions.
//!
//! There is no socket, clock or random number in it, so two runs execute the same instructions. The
//! replies of the servers are made while the script is rehearsed and only handed over afterwards:
//! of a difference between two numbers of operations nearly all is the proxy's. Invariant: every
//! operation gets the reply that a server which holds every key gives, or the program panics.
//!
//! Usage: `hot_path WORKLOAD ROUNDS`; it prints the operations done. See `WORKLOADS`.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use base::{Address, Chain, Kind, Time, Token};
use embedded::{Session, Store, StoreOptions};
use micro::requests::{self, Protocol};
use proxy::options::{PoolOptions, ServerAddress, ServerOptions, WorkerLimits};
use proxy::{Action, Proxy};

/// One workload.
struct Workload {
    name: &'static str,
    protocol: Protocol,
    servers_count: usize,
    /// Clients whose requests arrive in one turn.
    clients_count: usize,
    /// Requests of one client in one turn.
    pipeline: usize,
    value_size: usize,
    /// Keys of a request; more than one is asked for together.
    keys_count: usize,
    sets: bool,
}

const GET: Workload = Workload {
    name: "redis-get-64-p16",
    protocol: Protocol::Redis,
    servers_count: 2,
    clients_count: 4,
    pipeline: 16,
    value_size: 64,
    keys_count: 1,
    sets: false,
};

/// What is counted; `instructions.py` knows the same names.
const WORKLOADS: [Workload; 8] = [
    Workload { name: "redis-get-64-p1", clients_count: 16, pipeline: 1, ..GET },
    GET,
    Workload { name: "redis-get-64-p64", pipeline: 64, ..GET },
    Workload { name: "redis-set-1024-p16", value_size: 1024, sets: true, ..GET },
    Workload { name: "redis-get-16384-p4", pipeline: 4, value_size: 16384, ..GET },
    Workload { name: "redis-mget-100", servers_count: 4, pipeline: 1, keys_count: 100, ..GET },
    Workload { name: "memcache-get-64-p16", protocol: Protocol::Memcache, ..GET },
    Workload {
        name: "memcache-get-100",
        protocol: Protocol::Memcache,
        servers_count: 4,
        pipeline: 1,
        keys_count: 100,
        ..GET
    },
];

/// Turns in the script; each has keys of its own.
const TURNS_COUNT: usize = 32;
/// The event base receives at most so many bytes at a time.
const RECV_SIZE_MAX: usize = 16 << 10;
/// Keys that the servers hold.
const KEYS_COUNT: u64 = 4096;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let rounds: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let Some(workload) = WORKLOADS.iter().find(|workload| workload.name == name) else {
        for workload in &WORKLOADS {
            println!("{}", workload.name);
        }
        return;
    };
    let mut script = Script::new(workload);
    for _ in 0..rounds {
        script.play(None);
    }
    let per_round = TURNS_COUNT * workload.clients_count * workload.pipeline;
    println!("{}", rounds * per_round);
}

/// What is received in one turn, and in the turn in which the servers answer.
#[derive(Default)]
struct Turn {
    /// Of each client.
    requests: Vec<Vec<u8>>,
    /// Of the servers, in the order in which they are sent to.
    replies: Vec<Vec<u8>>,
}

struct Script {
    proxy: Proxy,
    clients: Vec<Token>,
    turns: Vec<Turn>,
    now_ns: u64,
    /// Sends to clients that are told of in the next turn.
    sent: Vec<(Token, Chain)>,
    sent_to_servers: Vec<(Token, Chain)>,
    reply_size: usize,
}

impl Script {
    /// A proxy with its connections open, and the script rehearsed twice, so that memory is warm.
    fn new(workload: &Workload) -> Script {
        let mut proxy = Proxy::new(vec![pool(workload)], WorkerLimits::default(), 1, Time::ZERO);
        for server in 0..workload.servers_count {
            proxy.set_address(0, server, Some(address(7000 + server as u16)));
        }
        proxy.begin_turn(Time::ZERO);
        proxy.preconnect();
        let clients = (0..workload.clients_count)
            .map(|_| proxy.handle_accepted(0).expect("there is no limit"))
            .collect();
        while let Some(action) = proxy.poll_action() {
            if let Action::Connect(token, _) = action {
                proxy.handle_connected(token);
            }
        }
        let one = match (workload.sets, workload.keys_count) {
            (true, _) => requests::set_reply_size(workload.protocol),
            (false, keys) => requests::get_reply_size(workload.protocol, workload.value_size, keys),
        };
        let mut script = Script {
            proxy,
            clients,
            turns: (0..TURNS_COUNT).map(|turn| requests_of(workload, turn)).collect(),
            now_ns: 0,
            sent: Vec::new(),
            sent_to_servers: Vec::new(),
            reply_size: one * workload.pipeline * workload.clients_count,
        };
        script.play(Some(&mut Servers::new(workload)));
        script.play(None);
        script
    }

    /// All turns once. With `servers` their replies are made and kept.
    fn play(&mut self, mut servers: Option<&mut Servers>) {
        for index in 0..self.turns.len() {
            self.ask(index, servers.as_deref_mut());
            self.answer(index);
        }
    }

    fn begin_turn(&mut self) {
        self.now_ns += 100_000;
        self.proxy.begin_turn(Time::from_ns(self.now_ns));
        for (token, chain) in self.sent.drain(..) {
            self.proxy.handle_sent(token, chain);
        }
    }

    fn ask(&mut self, index: usize, mut servers: Option<&mut Servers>) {
        self.begin_turn();
        for (client, bytes) in self.clients.iter().zip(&self.turns[index].requests) {
            for piece in bytes.chunks(RECV_SIZE_MAX) {
                self.proxy.handle_received(*client, piece);
            }
        }
        self.proxy.end_turn();
        while let Some(action) = self.proxy.poll_action() {
            match action {
                Action::Send(token, chain) => {
                    assert_eq!(token.kind(), Kind::Server, "only the servers are due");
                    if let Some(servers) = &mut servers {
                        self.turns[index].replies.push(servers.answer(token, &chain));
                    }
                    self.sent_to_servers.push((token, chain));
                }
                Action::RecvStart(..) => {}
                other => panic!("not expected: {other:?}"),
            }
        }
    }

    fn answer(&mut self, index: usize) {
        self.begin_turn();
        let replies = &self.turns[index].replies;
        assert_eq!(replies.len(), self.sent_to_servers.len(), "as rehearsed");
        for ((token, chain), reply) in self.sent_to_servers.drain(..).zip(replies) {
            self.proxy.handle_sent(token, chain);
            for piece in reply.chunks(RECV_SIZE_MAX) {
                self.proxy.handle_received(token, piece);
            }
        }
        self.proxy.end_turn();
        let mut size = 0;
        while let Some(action) = self.proxy.poll_action() {
            match action {
                Action::Send(token, chain) => {
                    size += chain.len();
                    self.sent.push((token, chain));
                }
                other => panic!("not expected: {other:?}"),
            }
        }
        assert_eq!(size, self.reply_size, "every request has its whole reply");
    }
}

/// The servers, which hold the same keys and are told apart by the token of their connection.
struct Servers {
    protocol: Protocol,
    store: Store,
    sessions: VecDeque<(Token, Session)>,
}

impl Servers {
    fn new(workload: &Workload) -> Servers {
        let mut store = Store::new(StoreOptions::default());
        let mut session = Session::new(workload.protocol);
        let value = requests::value(workload.value_size);
        for number in 0..KEYS_COUNT {
            let mut set = Vec::new();
            requests::push_set(workload.protocol, workload.value_size, number, &value, &mut set);
            session.handle(&mut store, &set, Time::ZERO, &mut Vec::new());
        }
        Servers { protocol: workload.protocol, store, sessions: VecDeque::new() }
    }

    fn answer(&mut self, token: Token, chain: &Chain) -> Vec<u8> {
        if !self.sessions.iter().any(|(known, _)| *known == token) {
            self.sessions.push_back((token, Session::new(self.protocol)));
        }
        let mut sessions = self.sessions.iter_mut();
        let (_, session) = sessions.find(|(known, _)| *known == token).expect("just added");
        let mut reply = Vec::new();
        session.handle(&mut self.store, &chain.to_vec(), Time::ZERO, &mut reply);
        reply
    }
}

fn requests_of(workload: &Workload, turn: usize) -> Turn {
    let mut serial = (turn * 7919) as u64;
    let value = requests::value(workload.value_size);
    let mut turn = Turn::default();
    for _ in 0..workload.clients_count {
        let mut bytes = Vec::new();
        for _ in 0..workload.pipeline {
            let keys: Vec<u64> = (0..workload.keys_count as u64)
                .map(|key| (serial * 31 + key * 13) % KEYS_COUNT)
                .collect();
            if workload.sets {
                let size = workload.value_size;
                requests::push_set(workload.protocol, size, keys[0], &value, &mut bytes);
            } else {
                let size = workload.value_size;
                requests::push_get(workload.protocol, size, keys.into_iter(), &mut bytes);
            }
            serial += 1;
        }
        turn.requests.push(bytes);
    }
    turn
}

fn pool(workload: &Workload) -> PoolOptions {
    let servers = (0..workload.servers_count)
        .map(|server| ServerOptions {
            name: format!("server-{server}"),
            address: ServerAddress::Inet {
                host: "127.0.0.1".to_owned(),
                port: 7000 + server as u16,
            },
            weight: 1,
        })
        .collect();
    PoolOptions {
        preconnect: true,
        ..PoolOptions::new("hot", workload.protocol, address(6999), servers)
    }
}

fn address(port: u16) -> Address {
    Address::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}
