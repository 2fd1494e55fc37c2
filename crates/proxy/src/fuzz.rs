//! Any sequence of events that the event base's contract allows, with any bytes: the proxy must
//! keep its own contract, keep its sums, and come to rest.
//!
//! The input is read as operations. Not a simulation: there is no network and no model of the
//! servers' data; what is checked is the state machine. Invariant: what is fed in is allowed.

use std::collections::BTreeMap;
use std::time::Duration;

use base::{Address, Chain, Kind, RecvEnd, SocketError, Time, Token};
use protocol::Protocol;

use crate::options::{PoolOptions, ServerAddress, ServerOptions, WorkerLimits};
use crate::{Action, Proxy};

/// Pieces of requests and responses of both protocols, right ones and wrong ones; cut and joined in
/// any way they reach far more states than random bytes do.
const PIECES: &[&[u8]] = &[
    b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$3\r\nxyz\r\n",
    b"*4\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n",
    b"*3\r\n$3\r\nDEL\r\n$1\r\na\r\n$1\r\nd\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"*1\r\n$4\r\nQUIT\r\n",
    b"*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n",
    b"MGET a b c d e\r\n",
    b"*2\r\n$3\r\nGET\r\n$-1\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$70000\r\n",
    b"get a\r\n",
    b"get a b c d\r\n",
    b"set a 0 0 3\r\nxyz\r\n",
    b"set b 0 0 3 noreply\r\nxyz\r\n",
    b"set c 0 0 99999\r\n",
    b"incr a 1\r\n",
    b"nonsense\r\n",
    b"quit\r\n",
    b"+OK\r\n",
    b"$1\r\nv\r\n",
    b"$-1\r\n",
    b"*2\r\n$1\r\nv\r\n$-1\r\n",
    b"*1\r\n:7\r\n",
    b":1\r\n",
    b"-ERR no\r\n",
    b"$70000\r\n",
    b"END\r\n",
    b"STORED\r\n",
    b"VALUE a 0 1\r\nv\r\nEND\r\n",
    b"VALUE b 0 2\r\n",
    b"SERVER_ERROR no\r\n",
    b"7\r\n",
];

/// Pools at once, removed ones among them.
const POOLS_MAX: usize = 3;

/// Connections that the event base knows.
#[derive(Default)]
struct Connection {
    connecting: bool,
    receiving: bool,
    sending: Option<Chain>,
    closing: bool,
}

struct World<'a> {
    input: &'a [u8],
    proxy: Proxy,
    now: Time,
    connections: BTreeMap<Token, Connection>,
}

/// Runs one input.
pub fn operations(data: &[u8]) {
    let mut world = World::new(data);
    while !world.input.is_empty() {
        world.step();
    }
    world.come_to_rest();
}

impl<'a> World<'a> {
    fn new(mut input: &'a [u8]) -> World<'a> {
        let protocol = Protocol::ALL[usize::from(next(&mut input) % 2)];
        let options = draw_options(&mut input, protocol);
        let limits =
            WorkerLimits { buffered_bytes_max: 200_000, clients_max: 8, ..WorkerLimits::default() };
        let now = Time::from_ns(1_000_000_000);
        let proxy = Proxy::new(vec![options], limits, 1, now);
        let mut world = World { input, proxy, now, connections: BTreeMap::new() };
        world.set_addresses(0);
        world
    }

    fn set_addresses(&mut self, pool: usize) {
        for server in 0..self.proxy.pools[pool].options.servers.len() {
            self.proxy.set_address(pool, server, Some(address(server)));
        }
    }

    fn byte(&mut self) -> u8 {
        next(&mut self.input)
    }

    /// One of the connections for which `allowed` holds.
    fn pick(&mut self, allowed: impl Fn(&Token, &Connection) -> bool) -> Option<Token> {
        let byte = usize::from(self.byte());
        let found: Vec<Token> = self
            .connections
            .iter()
            .filter(|(token, connection)| allowed(token, connection))
            .map(|(token, _)| *token)
            .collect();
        (!found.is_empty()).then(|| found[byte % found.len()])
    }

    /// Some events, then the end of the turn.
    fn step(&mut self) {
        self.proxy.begin_turn(self.now);
        for _ in 0..=self.byte() % 4 {
            self.event();
        }
        self.end_turn();
    }

    fn event(&mut self) {
        match self.byte() % 16 {
            0 | 10 => self.accept(),
            1..=4 => self.receive(),
            5 => self.finish_send(),
            6 => self.end_receive(),
            7 => self.finish_connect(),
            8 => {
                let ms = u64::from(self.byte());
                self.now = self.now + Duration::from_millis(ms);
                self.proxy.begin_turn(self.now);
            }
            9 => self.reload(),
            11 => {
                let pool = usize::from(self.byte()) % self.proxy.pools.len();
                let server =
                    usize::from(self.byte()) % self.proxy.pools[pool].options.servers.len();
                let resolved = !self.byte().is_multiple_of(4);
                self.proxy.set_address(pool, server, resolved.then(|| address(server)));
            }
            12 => self.proxy.preconnect(),
            13 => self.proxy.release_memory(),
            14 => {
                if self.byte().is_multiple_of(16) {
                    self.proxy.drain();
                }
            }
            _ => self.receive(),
        }
    }

    fn accept(&mut self) {
        let pool = usize::from(self.byte());
        let Some(token) = self.proxy.handle_accepted(pool % self.proxy.pools.len()) else { return };
        if pool >= 240 {
            self.proxy.handle_adopt_failed(token);
            return;
        }
        let before = self.connections.insert(token, Connection::default());
        assert!(before.is_none(), "{token:?} is used twice");
    }

    fn receive(&mut self) {
        let Some(token) = self.pick(|_, c| c.receiving && !c.closing) else { return };
        let mut bytes = Vec::new();
        for _ in 0..=self.byte() % 3 {
            let piece = PIECES[usize::from(self.byte()) % PIECES.len()];
            bytes.extend_from_slice(piece);
        }
        let cut = self.byte();
        if cut < 64 {
            bytes.truncate(usize::from(cut) % bytes.len() + 1);
        }
        if cut >= 250 {
            bytes.resize(bytes.len() + 70_000, b'x');
        }
        self.proxy.handle_received(token, &bytes);
    }

    fn finish_send(&mut self) {
        let Some(token) = self.pick(|_, c| c.sending.is_some()) else { return };
        let failed = self.byte().is_multiple_of(8);
        let connection = self.connections.get_mut(&token).expect("just picked");
        let chain = connection.sending.take().expect("just picked");
        if failed {
            self.proxy.handle_send_failed(token, chain, SocketError::BrokenPipe);
        } else {
            self.proxy.handle_sent(token, chain);
        }
    }

    fn end_receive(&mut self) {
        let Some(token) = self.pick(|_, c| c.receiving && !c.closing) else { return };
        let end = match self.byte() % 4 {
            0 => RecvEnd::Eof,
            1 => RecvEnd::Error(SocketError::ConnectionReset),
            _ => RecvEnd::Credit,
        };
        self.connections.get_mut(&token).expect("just picked").receiving = false;
        self.proxy.handle_recv_end(token, end);
    }

    fn finish_connect(&mut self) {
        let Some(token) = self.pick(|_, c| c.connecting && !c.closing) else { return };
        self.connections.get_mut(&token).expect("just picked").connecting = false;
        if self.byte().is_multiple_of(4) {
            self.proxy.handle_connect_failed(token, SocketError::ConnectionRefused);
        } else {
            self.proxy.handle_connected(token);
        }
    }

    /// Pools stay, change, go and come back; now and then there is one more.
    fn reload(&mut self) {
        if !self.byte().is_multiple_of(4) {
            return;
        }
        let mut pools: Vec<Option<PoolOptions>> = Vec::new();
        for index in 0..self.proxy.pools.len() {
            let options = self.proxy.pools[index].options.clone();
            pools.push(match self.byte() % 8 {
                0 => None,
                1..=4 => Some(draw_options(&mut self.input, options.protocol)),
                _ => Some(options),
            });
        }
        if pools.len() < POOLS_MAX && self.byte().is_multiple_of(4) {
            let protocol = Protocol::ALL[usize::from(self.byte() % 2)];
            pools.push(Some(draw_options(&mut self.input, protocol)));
        }
        let stay: Vec<bool> = pools.iter().map(Option::is_some).collect();
        self.proxy.reload(pools);
        for (pool, _) in stay.into_iter().enumerate().filter(|(_, stays)| *stays) {
            self.set_addresses(pool);
        }
    }

    fn end_turn(&mut self) {
        self.proxy.end_turn();
        while let Some(action) = self.proxy.poll_action() {
            self.carry_out(action);
        }
        let chains = self.connections.values().filter_map(|connection| connection.sending.as_ref());
        let under_way: usize = chains.map(Chain::len).sum();
        let held = self.proxy.audit() + under_way;
        assert_eq!(held as u64, self.proxy.buffered_bytes(), "every byte is counted");
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Connect(token, _) => {
                let connection = Connection { connecting: true, ..Connection::default() };
                let before = self.connections.insert(token, connection);
                assert!(before.is_none(), "{token:?} is used twice");
            }
            Action::RecvStart(token, credit) => {
                let connection = self.connections.get_mut(&token).expect("it is known");
                assert!(credit > 0 && !connection.receiving && !connection.closing);
                connection.receiving = true;
            }
            Action::Send(token, chain) => {
                let connection = self.connections.get_mut(&token).expect("it is known");
                assert!(!chain.is_empty() && !connection.closing && !connection.connecting);
                assert!(connection.sending.replace(chain).is_none(), "one send at a time");
            }
            Action::Close(token) => {
                let connection = self.connections.get_mut(&token).expect("it is known");
                assert!(!std::mem::replace(&mut connection.closing, true), "closed twice");
                self.close(token);
            }
        }
    }

    /// What the event base says of a connection that is closed: the ends, then the last word.
    fn close(&mut self, token: Token) {
        let connection = self.connections.remove(&token).expect("it is known");
        if connection.connecting {
            self.proxy.handle_connect_failed(token, SocketError::Cancelled);
        }
        if connection.receiving {
            self.proxy.handle_recv_end(token, RecvEnd::Stopped);
        }
        if let Some(chain) = connection.sending {
            self.proxy.handle_send_failed(token, chain, SocketError::Cancelled);
        }
        self.proxy.handle_closed(token);
    }

    /// Everybody leaves, and nothing is left.
    fn come_to_rest(&mut self) {
        self.proxy.begin_turn(self.now);
        self.proxy.shutdown();
        let servers: Vec<Token> = (self.connections.iter())
            .filter(|(token, connection)| token.kind() == Kind::Server && connection.receiving)
            .map(|(token, _)| *token)
            .collect();
        for token in servers {
            self.connections.get_mut(&token).expect("just found").receiving = false;
            self.proxy.handle_recv_end(token, RecvEnd::Eof);
        }
        self.end_turn();
        let connecting: Vec<Token> = self.connections.keys().copied().collect();
        for token in connecting {
            assert!(token.kind() == Kind::Server, "no client is left");
            self.connections.get_mut(&token).expect("just found").connecting = false;
            self.proxy.handle_connect_failed(token, SocketError::ConnectionRefused);
        }
        self.end_turn();
        assert!(self.connections.is_empty(), "no connection is left");
        assert_eq!(self.proxy.requests_count(), 0, "no request is left");
        assert_eq!(self.proxy.buffered_bytes(), 0, "no byte is left");
    }
}

fn next(input: &mut &[u8]) -> u8 {
    let (first, rest) = input.split_first().unwrap_or((&0, &[]));
    *input = rest;
    *first
}

/// A pool with small limits.
fn draw_options(input: &mut &[u8], protocol: Protocol) -> PoolOptions {
    let mut options = options(protocol, usize::from(next(input) % 4) + 1);
    options.client_requests_inflight_max = u32::from(next(input) % 8) + 1;
    options.server_requests_inflight_max = u32::from(next(input) % 32) + 1;
    options.client_output_high_water = usize::from(next(input)) * 4 + 1;
    options.client_output_max = options.client_output_high_water * 4;
    options.limits.request_size_max = 100_000;
    let flags = next(input);
    options.health.eject = flags & 1 == 0;
    options.request_timeout = (flags & 2 == 0).then_some(Duration::from_millis(50));
    options.password = (flags & 12 == 0).then(|| b"p".to_vec());
    options.database = u32::from(flags & 48 == 0);
    options.server_connections_per_worker = 1 + u32::from(flags >> 6);
    options
}

fn options(protocol: Protocol, servers_count: usize) -> PoolOptions {
    let servers = (0..servers_count)
        .map(|server| ServerOptions {
            name: format!("s{server}"),
            address: ServerAddress::Inet {
                host: "127.0.0.1".to_owned(),
                port: 10_000 + server as u16,
            },
            weight: 1,
        })
        .collect();
    PoolOptions::new("p", protocol, address(9), servers)
}

fn address(server: usize) -> Address {
    Address::Inet(([127, 0, 0, 1], 10_000 + server as u16).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs of a small generator (Marsaglia's xorshift): the fuzzer goes further.
    #[test]
    fn any_sequence_of_events_keeps_the_contract() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..3000 {
            let data: Vec<u8> = (0..400)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 32) as u8
                })
                .collect();
            operations(&data);
        }
    }
}
