//! The floor: a bare multiplexer on Weir's event base and parsers. It frames and forwards, and does
//! nothing else; how far the proxy is above it is what routing, order and limits cost.
//!
//! What it does not do: it picks a server by the last four bytes of the key instead of hashing
//! it; it does not restore the order of replies that come from several servers; it has no limit,
//! time-out, statistic, reconnect, split request or second pool; it ends when a server does.
//! Invariant: the n-th reply of a server goes to the client of the n-th request that was sent to
//! it.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use base::{Address, Buffers, Chain, Kind, Token};
use clap::Parser;
use event::{Event, EventBase, ListenOptions};
use micro::{BaseName, base_choice};
use protocol::{Framed, Limits, Parsed, Protocol, RequestState, ResponseState, Route, Scratch};

/// A bare multiplexer.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where clients connect.
    #[arg(long)]
    listen: SocketAddr,
    /// The servers.
    #[arg(long, value_delimiter = ',', required = true)]
    servers: Vec<SocketAddr>,
    /// Speak memcached's protocol instead of Redis'.
    #[arg(long)]
    memcache: bool,
    /// The event base.
    #[arg(long, value_enum, default_value_t = BaseName::Uring)]
    event_base: BaseName,
}

fn main() {
    let arguments = Arguments::parse();
    match arguments.event_base {
        #[cfg(target_os = "linux")]
        BaseName::Uring => Floor::new(base_choice::uring(), &arguments).run(),
        #[cfg(not(target_os = "linux"))]
        BaseName::Uring => panic!("io_uring is Linux'"),
        BaseName::Polling => Floor::new(base_choice::polling(), &arguments).run(),
    }
}

/// What both sides have: bytes that are not whole yet, and bytes to be sent.
#[derive(Default)]
struct Side {
    input: Vec<u8>,
    out: Chain,
    sending: bool,
    dirty: bool,
}

#[derive(Default)]
struct Client {
    side: Side,
    parser: RequestState,
    generation: u32,
}

#[derive(Default)]
struct Server {
    side: Side,
    framer: ResponseState,
    /// Whose replies are awaited.
    queue: VecDeque<Token>,
}

struct Floor<B> {
    base: B,
    protocol: Protocol,
    limits: Limits,
    scratch: Scratch,
    buffers: Buffers,
    clients: Vec<Client>,
    free: Vec<u32>,
    servers: Vec<Server>,
    dirty: Vec<Token>,
}

impl<B: EventBase<Socket = OwnedFd>> Floor<B> {
    fn new(mut base: B, arguments: &Arguments) -> Floor<B> {
        let options = ListenOptions { backlog: 4096, ..ListenOptions::default() };
        let socket = event::listen_socket(&Address::Inet(arguments.listen), options)
            .expect("the address is free");
        let listener = Token::new(Kind::Listener, 0, 0);
        base.listen(listener, socket).expect("a new listener can be registered");
        for (index, server) in arguments.servers.iter().enumerate() {
            base.connect(Token::new(Kind::Server, index as u32, 0), &Address::Inet(*server));
        }
        base.accept_start(listener);
        Floor {
            base,
            protocol: if arguments.memcache { Protocol::Memcache } else { Protocol::Redis },
            limits: Limits::default(),
            scratch: Scratch::default(),
            buffers: Buffers::new(),
            clients: Vec::new(),
            free: Vec::new(),
            servers: arguments.servers.iter().map(|_| Server::default()).collect(),
            dirty: Vec::new(),
        }
    }

    fn run(mut self) -> ! {
        let mut events = Vec::new();
        loop {
            self.base.wait(1, None, &mut events).expect("waiting works");
            for event in events.drain(..) {
                self.handle(event);
            }
            while let Some(token) = self.dirty.pop() {
                self.flush(token);
            }
        }
    }

    fn handle(&mut self, event: Event<OwnedFd>) {
        match event {
            Event::Received(token, received) => {
                match token.kind() {
                    Kind::Client => self.client_received(token, received),
                    _ => self.server_received(token, received),
                }
                self.base.release(received);
            }
            Event::Sent(token, mut chain) => {
                chain.recycle(&mut self.buffers);
                let side = side(&mut self.clients, &mut self.servers, token);
                side.sending = false;
                if !side.out.is_empty() {
                    mark(side, token, &mut self.dirty);
                }
            }
            Event::Accepted { socket, .. } => {
                let index = self.free.pop().unwrap_or_else(|| {
                    self.clients.push(Client::default());
                    self.clients.len() as u32 - 1
                });
                let client = &mut self.clients[index as usize];
                let generation = client.generation + 1;
                *client = Client { generation, ..Client::default() };
                let token = Token::new(Kind::Client, index, generation);
                self.base.adopt(token, socket).expect("a new socket can be registered");
                self.base.recv_start(token, usize::MAX);
            }
            Event::Connected(token) => {
                self.base.recv_start(token, usize::MAX);
                mark(&mut self.servers[token.index() as usize].side, token, &mut self.dirty);
            }
            Event::RecvEnd(token, _) if token.kind() == Kind::Client => self.base.close(token),
            Event::Closed(token) if token.kind() == Kind::Client => self.free.push(token.index()),
            Event::SendFailed(token, ..) if token.kind() == Kind::Client => {}
            Event::Woken => {}
            other => panic!("the floor ends with its servers: {other:?}"),
        }
    }

    fn client_received(&mut self, token: Token, received: event::Received) {
        let client = &mut self.clients[token.index() as usize];
        let mut gathered = std::mem::take(&mut client.side.input);
        let bytes = if gathered.is_empty() {
            self.base.bytes(received)
        } else {
            gathered.extend_from_slice(self.base.bytes(received));
            gathered.as_slice()
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let parsed = self.protocol.parse_request(
                &mut client.parser,
                rest,
                &self.limits,
                &mut self.scratch,
            );
            let size = match parsed {
                Parsed::Incomplete { .. } => break,
                Parsed::Request(request) => {
                    let number = match request.route {
                        Route::Key(span) => rest[span.range()]
                            .last_chunk()
                            .map_or(0, |&four| u32::from_le_bytes(four)),
                        _ => 0,
                    };
                    let index = number as usize % self.servers.len();
                    let server = &mut self.servers[index];
                    server.side.out.push(&rest[..request.size], &mut self.buffers);
                    server.queue.push_back(token);
                    let to = Token::new(Kind::Server, index as u32, 0);
                    mark(&mut server.side, to, &mut self.dirty);
                    request.size
                }
                Parsed::Own(_) => panic!("no client here asks the proxy"),
                Parsed::Reply { size, .. } | Parsed::Authenticate { size, .. } => {
                    client.side.out.push(&self.scratch.reply, &mut self.buffers);
                    mark(&mut client.side, token, &mut self.dirty);
                    size
                }
            };
            rest = &rest[size.min(rest.len())..];
        }
        if !rest.is_empty() {
            client.side.input = rest.to_vec();
        }
    }

    fn server_received(&mut self, token: Token, received: event::Received) {
        let server = &mut self.servers[token.index() as usize];
        let mut gathered = std::mem::take(&mut server.side.input);
        let bytes = if gathered.is_empty() {
            self.base.bytes(received)
        } else {
            gathered.extend_from_slice(self.base.bytes(received));
            gathered.as_slice()
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let size = match self.protocol.frame_response(&mut server.framer, rest, &self.limits) {
                Framed::Complete { size } => size,
                Framed::Push { .. } => panic!("nobody has asked for it"),
                Framed::Incomplete { .. } => break,
                Framed::Broken(why) => panic!("a server answered nonsense: {why}"),
            };
            let to = server.queue.pop_front().expect("each reply has a request");
            let client = &mut self.clients[to.index() as usize];
            if client.generation == to.generation() {
                client.side.out.push(&rest[..size], &mut self.buffers);
                mark(&mut client.side, to, &mut self.dirty);
            }
            rest = &rest[size..];
        }
        if !rest.is_empty() {
            server.side.input = rest.to_vec();
        }
    }

    fn flush(&mut self, token: Token) {
        let is_client = token.kind() == Kind::Client;
        if is_client && self.clients[token.index() as usize].generation != token.generation() {
            // It left, and another has its place.
            return;
        }
        let side = side(&mut self.clients, &mut self.servers, token);
        side.dirty = false;
        if !side.sending && !side.out.is_empty() {
            side.sending = true;
            self.base.send(token, std::mem::take(&mut side.out));
        }
    }
}

fn side<'a>(clients: &'a mut [Client], servers: &'a mut [Server], token: Token) -> &'a mut Side {
    match token.kind() {
        Kind::Client => &mut clients[token.index() as usize].side,
        _ => &mut servers[token.index() as usize].side,
    }
}

fn mark(side: &mut Side, token: Token, dirty: &mut Vec<Token>) {
    if !side.dirty {
        side.dirty = true;
        dirty.push(token);
    }
}
