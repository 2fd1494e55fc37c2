//! A proxy without an event base: the test is the network. Sends are carried out at once unless
//! they are held, and what every connection was sent is kept as text.

#![allow(clippy::unwrap_used, dead_code)]

use std::collections::HashMap;
use std::time::Duration;

use base::{Address, Chain, Kind, RecvEnd, SocketError, Time, Token};
use protocol::Protocol;
use proxy::options::{PoolOptions, ServerAddress, ServerOptions, WorkerLimits};
use proxy::{Action, Proxy};
use routing::{Placement, PlacementOptions};

pub(crate) struct Rig {
    pub(crate) proxy: Proxy,
    pub(crate) now: Time,
    /// Everything sent on a connection, by token.
    sent: HashMap<Token, Vec<u8>>,
    /// Server connections in the order in which they were opened, with their addresses.
    pub(crate) connected: Vec<(Token, Address)>,
    pub(crate) closed: Vec<Token>,
    /// Receive operations under way.
    receiving: HashMap<Token, usize>,
    /// Sends to clients stay under way while this is set.
    pub(crate) hold_client_sends: bool,
    pub(crate) held: Vec<(Token, Chain)>,
    /// Attempts to connect take until [`Rig::connect_held`] while this is set.
    pub(crate) hold_connects: bool,
    connecting: Vec<(Token, Address)>,
    /// Attempts to connect fail with this.
    pub(crate) refuse: Option<SocketError>,
    /// Sends started, by kind.
    pub(crate) sends: HashMap<Kind, usize>,
}

/// A pool of so many servers, `s0` at 127.0.0.1:10000 and so on.
pub(crate) fn pool(protocol: Protocol, servers_count: usize) -> PoolOptions {
    let servers = (0..servers_count)
        .map(|index| ServerOptions {
            name: format!("s{index}"),
            address: ServerAddress::Inet {
                host: "127.0.0.1".to_owned(),
                port: 10000 + index as u16,
            },
            weight: 1,
        })
        .collect();
    let listen = Address::Inet("127.0.0.1:9".parse().unwrap());
    PoolOptions::new("p", protocol, listen, servers)
}

/// Keys of which the i-th belongs to server i.
pub(crate) fn keys(protocol: Protocol, servers_count: usize) -> Vec<String> {
    let options = pool(protocol, servers_count);
    let placement_options =
        PlacementOptions { hash: options.hash, distribution: options.distribution, hash_tag: None };
    let mut placement = Placement::new(placement_options, options.members(), 0);
    let mut owned_by = |server| {
        (0..).map(|n| format!("k{n}")).find(|k| placement.server_for(k.as_bytes()) == Some(server))
    };
    (0..servers_count).map(|server| owned_by(server).unwrap()).collect()
}

pub(crate) fn address_of(index: usize) -> Address {
    Address::Inet(format!("127.0.0.1:{}", 10000 + index).parse().unwrap())
}

impl Rig {
    pub(crate) fn new(options: PoolOptions) -> Rig {
        // What comes is looked at as it comes; holding has tests of its own.
        let limits = WorkerLimits { hold_max: Duration::ZERO, ..WorkerLimits::default() };
        Rig::with_limits(options, limits)
    }

    pub(crate) fn with_limits(options: PoolOptions, limits: WorkerLimits) -> Rig {
        let servers_count = options.servers.len();
        let now = Time::from_ns(1_000_000_000);
        let mut proxy = Proxy::new(vec![options], limits, 7, now);
        for index in 0..servers_count {
            proxy.set_address(0, index, Some(address_of(index)));
        }
        Rig {
            proxy,
            now,
            sent: HashMap::new(),
            connected: Vec::new(),
            closed: Vec::new(),
            receiving: HashMap::new(),
            hold_client_sends: false,
            hold_connects: false,
            connecting: Vec::new(),
            held: Vec::new(),
            refuse: None,
            sends: HashMap::new(),
        }
    }

    /// A new client of the pool.
    pub(crate) fn client(&mut self) -> Token {
        let token = self.proxy.handle_accepted(0).expect("the pool takes clients");
        self.settle();
        token
    }

    /// Bytes from a client or a server, in one turn of their own.
    pub(crate) fn feed(&mut self, token: Token, bytes: &[u8]) {
        self.proxy.begin_turn(self.now);
        if self.receiving.contains_key(&token) {
            self.proxy.handle_received(token, bytes);
        }
        self.settle();
    }

    pub(crate) fn is_receiving(&self, token: Token) -> bool {
        self.receiving.contains_key(&token)
    }

    pub(crate) fn end_receiving(&mut self, token: Token, end: RecvEnd) {
        self.proxy.begin_turn(self.now);
        if self.receiving.remove(&token).is_some() {
            self.proxy.handle_recv_end(token, end);
        }
        self.settle();
    }

    pub(crate) fn advance(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.proxy.begin_turn(self.now);
        self.settle();
    }

    /// Lets held sends go.
    pub(crate) fn release_held(&mut self) {
        self.hold_client_sends = false;
        for (token, chain) in std::mem::take(&mut self.held) {
            self.sent.entry(token).or_default().extend_from_slice(&chain.to_vec());
            self.proxy.handle_sent(token, chain);
        }
        self.settle();
    }

    /// Lets attempts to connect succeed.
    pub(crate) fn connect_held(&mut self) {
        self.hold_connects = false;
        for (token, address) in std::mem::take(&mut self.connecting) {
            self.connected.push((token, address));
            self.proxy.handle_connected(token);
        }
        self.settle();
    }

    /// Ends the turn and carries out what it asks for, and what that asks for, until nothing is.
    fn settle(&mut self) {
        for _ in 0..1000 {
            self.proxy.end_turn();
            let mut events = Vec::new();
            while let Some(action) = self.proxy.poll_action() {
                events.push(action);
            }
            if events.is_empty() {
                let held: usize = self.held.iter().map(|(_, chain)| chain.len()).sum();
                assert_eq!(self.proxy.audit() + held, self.proxy.buffered_bytes() as usize);
                return;
            }
            for action in events {
                self.carry_out(action);
            }
        }
        panic!("the proxy never settles");
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Connect(token, address) => match self.refuse {
                Some(error) => self.proxy.handle_connect_failed(token, error),
                None if self.hold_connects => self.connecting.push((token, address)),
                None => {
                    self.connected.push((token, address));
                    self.proxy.handle_connected(token);
                }
            },
            Action::RecvStart(token, credit) => {
                let before = self.receiving.insert(token, credit);
                assert_eq!(before, None, "one receive operation a connection");
            }
            Action::Send(token, chain) => {
                assert!(!chain.is_empty());
                assert!(self.held.iter().all(|(held, _)| *held != token), "one send at a time");
                *self.sends.entry(token.kind()).or_default() += 1;
                if self.hold_client_sends && token.kind() == Kind::Client {
                    self.held.push((token, chain));
                    return;
                }
                self.sent.entry(token).or_default().extend_from_slice(&chain.to_vec());
                self.proxy.handle_sent(token, chain);
            }
            Action::Close(token) => {
                self.receiving.remove(&token);
                let held = std::mem::take(&mut self.held);
                for (held_token, chain) in held {
                    if held_token == token {
                        let error = SocketError::Cancelled;
                        self.proxy.handle_send_failed(held_token, chain, error);
                    } else {
                        self.held.push((held_token, chain));
                    }
                }
                self.closed.push(token);
                self.proxy.handle_closed(token);
            }
        }
    }

    /// What was sent on a connection since the last call.
    pub(crate) fn take(&mut self, token: Token) -> String {
        let bytes = self.sent.remove(&token).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last opened connection to a server.
    pub(crate) fn server(&self, index: usize) -> Token {
        let address = address_of(index);
        let found = self.connected.iter().rev().find(|(_, connected)| *connected == address);
        found.expect("a connection to this server was opened").0
    }

    /// What the last opened connection to a server was sent since the last call.
    pub(crate) fn take_server(&mut self, index: usize) -> String {
        let server = self.server(index);
        self.take(server)
    }

    pub(crate) fn has_server(&self, index: usize) -> bool {
        self.connected.iter().any(|(_, connected)| *connected == address_of(index))
    }

    pub(crate) fn is_closed(&self, token: Token) -> bool {
        self.closed.contains(&token)
    }
}
