//! The embedded server on an event base: the null server that shows what the generator itself
//! costs, and the server of known delay that shows whether it measures right.
//!
//! One thread, no durability. Invariant: a connection's replies leave in the order of its requests,
//! and none before its time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::{Buffers, Chain, Kind, Time, Token};
use embedded::{Mode, Outcome, Session, Store, StoreOptions};
use event::{Event, EventBase};
use protocol::Protocol;

use crate::reply::{self, Read};
use crate::rng::Rng;
use crate::workload::file::Wire;

/// When replies leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Delay {
    /// At once.
    None,
    /// After the same time.
    Constant(Duration),
    /// After an exponential time with this mean.
    Exponential(Duration),
    /// One request after the other, each in this time; and nothing happens in `freeze`, which
    /// counts from the first request.
    Queue {
        /// Time a request takes.
        service: Duration,
        /// Begin and length.
        freeze: Option<(Duration, Duration)>,
    },
}

/// How to serve.
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions {
    /// Which protocol.
    pub protocol: Protocol,
    /// Values of this size are made up and nothing is stored; `None` stores.
    pub null_value_size: Option<usize>,
    /// See [`Delay`].
    pub delay: Delay,
}

struct Client {
    session: Session,
    out: Chain,
    sending: bool,
    is_dirty: bool,
    /// No reply leaves before the one in front of it.
    last_due: Time,
    closing: bool,
}

/// A reply that waits: its time, its place among those of the same time, to whom, and its bytes.
type Waiting = (Time, u64, Token, Vec<u8>);

/// See the module's text.
pub struct Server<B: EventBase> {
    base: B,
    options: ServerOptions,
    store: Store,
    clients: HashMap<u32, Client>,
    generations: Vec<u32>,
    free: Vec<u32>,
    /// Replies that wait for their time.
    due: BinaryHeap<Reverse<Waiting>>,
    serial: u64,
    rng: Rng,
    queue_free_at: Time,
    first_at: Option<Time>,
    buffers: Buffers,
    replies: Vec<u8>,
    dirty: Vec<Token>,
}

const LISTENER: u32 = 0;

impl<B: EventBase> Server<B> {
    /// A server on a listening socket.
    pub fn new(mut base: B, listener: B::Socket, options: ServerOptions) -> io::Result<Self> {
        let token = Token::new(Kind::Listener, LISTENER, 0);
        base.listen(token, listener)?;
        base.accept_start(token);
        let mode = match options.null_value_size {
            None => Mode::Store,
            Some(value_size) => Mode::Null { value_size },
        };
        Ok(Server {
            base,
            options,
            store: Store::new(StoreOptions { mode, ..StoreOptions::default() }),
            clients: HashMap::new(),
            generations: Vec::new(),
            free: Vec::new(),
            due: BinaryHeap::new(),
            serial: 0,
            rng: Rng::new(1, 1),
            queue_free_at: Time::ZERO,
            first_at: None,
            buffers: Buffers::new(),
            replies: Vec::new(),
            dirty: Vec::new(),
        })
    }

    /// Serves until `stop` is set.
    pub fn run(&mut self, stop: &Arc<AtomicBool>) -> io::Result<()> {
        let mut events = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let wake = self.base.now() + Duration::from_millis(100);
            let deadline = self.due.peek().map_or(wake, |first| first.0.0.min(wake));
            self.base.wait(1, Some(deadline), &mut events)?;
            let now = self.base.now();
            for event in events.drain(..) {
                self.handle(event, now);
            }
            while self.due.peek().is_some_and(|first| first.0.0 <= now) {
                let Some(Reverse((_, _, token, bytes))) = self.due.pop() else { break };
                self.reply(token, &bytes);
            }
            self.send();
        }
        Ok(())
    }

    fn handle(&mut self, event: Event<B::Socket>, now: Time) {
        match event {
            Event::Accepted { socket, .. } => self.accept(socket),
            Event::AcceptEnd { listener, .. } => self.base.accept_start(listener),
            Event::Received(token, received) => {
                let mut replies = std::mem::take(&mut self.replies);
                replies.clear();
                if let Some(client) = find(&mut self.clients, token, &self.generations) {
                    let bytes = self.base.bytes(received);
                    let outcome = client.session.handle(&mut self.store, bytes, now, &mut replies);
                    client.closing |= outcome == Outcome::Close;
                }
                self.base.release(received);
                self.answer(token, &replies, now);
                self.replies = replies;
            }
            Event::Sent(token, mut chain) => {
                chain.recycle(&mut self.buffers);
                if let Some(client) = find(&mut self.clients, token, &self.generations) {
                    client.sending = false;
                    if !client.out.is_empty() && !client.is_dirty {
                        client.is_dirty = true;
                        self.dirty.push(token);
                    }
                    if client.closing && client.out.is_empty() {
                        self.base.close(token);
                    }
                }
            }
            Event::RecvEnd(token, _) | Event::SendFailed(token, _, _) => self.base.close(token),
            Event::Closed(token) if token.kind() == Kind::Client => {
                self.clients.remove(&token.index());
                self.generations[token.index() as usize] += 1;
                self.free.push(token.index());
            }
            _ => {}
        }
    }

    fn accept(&mut self, socket: B::Socket) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.generations.push(0);
            self.generations.len() as u32 - 1
        });
        let token = Token::new(Kind::Client, index, self.generations[index as usize]);
        if self.base.adopt(token, socket).is_err() {
            self.free.push(index);
            return;
        }
        let client = Client {
            session: Session::new(self.options.protocol),
            out: Chain::new(),
            sending: false,
            is_dirty: false,
            last_due: Time::ZERO,
            closing: false,
        };
        self.clients.insert(index, client);
        self.base.recv_start(token, usize::MAX);
    }

    /// Sends replies now, or one by one when their time has come.
    fn answer(&mut self, token: Token, replies: &[u8], now: Time) {
        if replies.is_empty() {
            return;
        }
        if self.options.delay == Delay::None {
            return self.reply(token, replies);
        }
        let wire = match self.options.protocol {
            Protocol::Redis => Wire::Redis,
            Protocol::Memcache => Wire::Memcache,
        };
        let mut rest = replies;
        while let Read::Whole(size, _) = reply::read(wire, rest) {
            let due = self.due_at(now);
            let Some(client) = find(&mut self.clients, token, &self.generations) else { return };
            client.last_due = client.last_due.max(due);
            self.serial += 1;
            let entry = (client.last_due, self.serial, token, rest[..size].to_vec());
            self.due.push(Reverse(entry));
            rest = &rest[size..];
        }
    }

    fn due_at(&mut self, now: Time) -> Time {
        match self.options.delay {
            Delay::None => now,
            Delay::Constant(delay) => now + delay,
            Delay::Exponential(mean) => now + mean.mul_f64(self.rng.exponential()),
            Delay::Queue { service, freeze } => {
                let first = *self.first_at.get_or_insert(now);
                let mut begin = self.queue_free_at.max(now);
                if let Some((from, length)) = freeze {
                    let (from, until) = (first + from, first + from + length);
                    if from <= begin && begin < until {
                        begin = until;
                    }
                }
                self.queue_free_at = begin + service;
                self.queue_free_at
            }
        }
    }

    fn reply(&mut self, token: Token, bytes: &[u8]) {
        if let Some(client) = find(&mut self.clients, token, &self.generations) {
            client.out.push(bytes, &mut self.buffers);
            if !client.is_dirty {
                client.is_dirty = true;
                self.dirty.push(token);
            }
        }
    }

    fn send(&mut self) {
        for token in std::mem::take(&mut self.dirty) {
            if let Some(client) = find(&mut self.clients, token, &self.generations) {
                client.is_dirty = false;
                if !client.sending && !client.out.is_empty() {
                    client.sending = true;
                    self.base.send(token, std::mem::take(&mut client.out));
                }
            }
        }
    }
}

fn find<'a>(
    clients: &'a mut HashMap<u32, Client>,
    token: Token,
    generations: &[u32],
) -> Option<&'a mut Client> {
    let current = generations.get(token.index() as usize)?;
    if Token::new(Kind::Client, token.index(), *current) != token {
        return None;
    }
    clients.get_mut(&token.index())
}
