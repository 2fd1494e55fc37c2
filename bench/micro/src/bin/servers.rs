//! Many small servers in one process, for runs with more of them than the machine could hold as
//! processes of their own.
//!
//! Not what the table is measured with: there the servers are Redis and memcached. Invariant: each
//! port has a store of its own.

#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use base::{Address, Buffers, Chain, Kind, Token};
use clap::Parser;
use embedded::{Outcome, Session, Store, StoreOptions};
use event::{Event, EventBase, ListenOptions};
use micro::{BaseName, base_choice};
use protocol::Protocol;

/// Small servers on consecutive ports.
#[derive(Debug, Parser)]
struct Arguments {
    /// The first port.
    #[arg(long)]
    port: u16,
    /// How many.
    #[arg(long, default_value_t = 1)]
    count: u16,
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
        BaseName::Uring => serve(base_choice::uring(), &arguments),
        #[cfg(not(target_os = "linux"))]
        BaseName::Uring => panic!("io_uring is Linux'"),
        BaseName::Polling => serve(base_choice::polling(), &arguments),
    }
}

struct Connection {
    store: usize,
    session: Session,
    out: Vec<u8>,
    sending: bool,
    closing: bool,
    generation: u32,
}

fn serve<B: EventBase<Socket = OwnedFd>>(mut base: B, arguments: &Arguments) -> ! {
    let protocol = if arguments.memcache { Protocol::Memcache } else { Protocol::Redis };
    let mut stores: Vec<Store> = Vec::new();
    for index in 0..arguments.count {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port + index));
        let socket = event::listen_socket(&Address::Inet(address), ListenOptions::default())
            .expect("the port is free");
        let token = Token::new(Kind::Listener, u32::from(index), 0);
        base.listen(token, socket).expect("a new listener can be registered");
        base.accept_start(token);
        stores.push(Store::new(StoreOptions::default()));
    }
    let mut connections: Vec<Connection> = Vec::new();
    let mut free: Vec<u32> = Vec::new();
    let mut buffers = Buffers::new();
    let mut dirty = Vec::new();
    let mut events = Vec::new();
    loop {
        base.wait(1, None, &mut events).expect("waiting works");
        let now = base.now();
        for event in events.drain(..) {
            match event {
                Event::Accepted { listener, socket } => {
                    let index = free.pop().unwrap_or(connections.len() as u32);
                    let store = listener.index() as usize;
                    let token = place(&mut connections, index, Session::new(protocol), store);
                    base.adopt(token, socket).expect("a new socket can be registered");
                    base.recv_start(token, usize::MAX);
                }
                Event::Received(token, received) => {
                    let connection = &mut connections[token.index() as usize];
                    let store = &mut stores[connection.store];
                    let bytes = base.bytes(received);
                    let outcome = connection.session.handle(store, bytes, now, &mut connection.out);
                    connection.closing |= outcome == Outcome::Close;
                    dirty.push(token);
                    base.release(received);
                }
                Event::Sent(token, mut chain) => {
                    chain.recycle(&mut buffers);
                    connections[token.index() as usize].sending = false;
                    dirty.push(token);
                }
                Event::RecvEnd(token, _) => base.close(token),
                Event::Closed(token) => free.push(token.index()),
                Event::SendFailed(..) | Event::Woken => {}
                other => panic!("not expected: {other:?}"),
            }
        }
        for token in dirty.drain(..) {
            flush(&mut base, token, &mut connections[token.index() as usize], &mut buffers);
        }
    }
}

/// Puts a new connection into its place.
fn place(connections: &mut Vec<Connection>, index: u32, session: Session, store: usize) -> Token {
    let before = connections.get(index as usize);
    let generation = before.map_or(0, |before| before.generation + 1);
    let out = Vec::new();
    let connection = Connection { store, session, out, sending: false, closing: false, generation };
    if index as usize == connections.len() {
        connections.push(connection);
    } else {
        connections[index as usize] = connection;
    }
    Token::new(Kind::Client, index, generation)
}

/// One send a turn, or the end.
fn flush<B: EventBase>(
    base: &mut B,
    token: Token,
    connection: &mut Connection,
    buffers: &mut Buffers,
) {
    if connection.sending {
        return;
    }
    if !connection.out.is_empty() {
        connection.sending = true;
        let mut chain = Chain::new();
        chain.push(&connection.out, buffers);
        connection.out.clear();
        base.send(token, chain);
    } else if connection.closing {
        base.close(token);
    }
}
