//! A world with a virtual clock: a driver, connections without sockets, and a server model that
//! says when each reply comes.
//!
//! Nothing here waits or reads a clock. Invariant: events come in the order of their times, and
//! those of the same time in the order in which they were made.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use base::{Time, Token};
use loadgen::driver::{Action, Driver};
use loadgen::record::Record;
use loadgen::workload::plan::Part;
use loadgen::workload::{Plan, Settings};

/// What reaches the driver.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    /// Bytes of the server.
    Reply(Vec<u8>),
    /// The connection is open.
    Connected,
    /// Its socket is gone.
    Closed,
    /// The server has ended it.
    Eof,
}

/// A server: is given what a connection sent, and says what comes back when.
pub trait Server {
    /// `out` takes the replies with their times, none before `now_ns`.
    fn handle(
        &mut self,
        connection: Token,
        bytes: &[u8],
        now_ns: u64,
        out: &mut Vec<(u64, Happening)>,
    );
}

/// See the module's text.
pub struct World<S> {
    pub driver: Driver,
    pub server: S,
    pub plan: Arc<Plan>,
    pub now_ns: u64,
    /// The generator is woken at multiples of this only.
    pub step_ns: u64,
    /// Everything that was sent, when it is kept.
    pub wire_log: Option<Vec<u8>>,
    events: BinaryHeap<Reverse<(u64, u64, Token, Happening)>>,
    serial: u64,
}

/// A plan from the text of a workload file.
pub fn plan(text: &str) -> Arc<Plan> {
    let settings = Settings::parse(text).expect("a good file");
    Arc::new(Plan::new(&settings, 7).expect("possible"))
}

/// The whole load begins here, so that no test depends on the clock's zero.
pub const START_NS: u64 = 1_000_000_000;

impl<S: Server> World<S> {
    pub fn new(plan: &Arc<Plan>, server: S) -> World<S> {
        let connections = plan.settings.connections;
        World {
            driver: Driver::new(plan.clone(), Part::WHOLE, connections),
            server,
            plan: plan.clone(),
            now_ns: 0,
            step_ns: 1,
            wire_log: None,
            events: BinaryHeap::new(),
            serial: 0,
        }
    }

    fn push(&mut self, at_ns: u64, token: Token, happening: Happening) {
        self.serial += 1;
        self.events.push(Reverse((at_ns, self.serial, token, happening)));
    }

    fn act(&mut self) {
        let mut replies = Vec::new();
        while let Some(action) = self.driver.poll_action() {
            match action {
                Action::Connect(token) => self.push(self.now_ns, token, Happening::Connected),
                Action::Close(token) => self.push(self.now_ns, token, Happening::Closed),
                Action::RecvStart(_) => {}
                Action::Send(token, chain) => {
                    let bytes = chain.to_vec();
                    if let Some(log) = &mut self.wire_log {
                        log.extend_from_slice(&bytes);
                    }
                    self.server.handle(token, &bytes, self.now_ns, &mut replies);
                    for (at_ns, happening) in replies.drain(..) {
                        self.push(at_ns, token, happening);
                    }
                    self.driver.handle_sent(token, chain);
                }
            }
        }
        self.driver.stamp(Time::from_ns(self.now_ns));
    }

    /// One turn, at the time of the next event or deadline.
    pub fn turn(&mut self) {
        let deadline_ns = self.driver.deadline().as_ns();
        let next_ns = self.events.peek().map_or(u64::MAX, |event| event.0.0);
        self.now_ns = deadline_ns.min(next_ns).max(self.now_ns).next_multiple_of(self.step_ns);
        self.driver.begin_turn(Time::from_ns(self.now_ns), 1);
        while self.events.peek().is_some_and(|event| event.0.0 <= self.now_ns) {
            let Reverse((_, _, token, happening)) = self.events.pop().expect("peeked");
            match happening {
                Happening::Reply(bytes) => self.driver.handle_received(token, &bytes),
                Happening::Connected => self.driver.handle_connected(token),
                Happening::Closed => self.driver.handle_closed(token),
                Happening::Eof => self.driver.handle_recv_end(token, base::RecvEnd::Eof),
            }
        }
        self.driver.poll(Time::from_ns(self.now_ns));
        self.act();
    }

    /// Connects, writes the keys if the plan says so, and runs the whole load.
    pub fn run(&mut self) -> Record {
        while self.driver.up_count() < self.plan.settings.connections as usize {
            self.turn();
        }
        if self.plan.settings.prefill {
            self.driver.start_prefill();
            while !self.driver.is_done() {
                self.turn();
            }
        }
        let start = Time::from_ns(self.now_ns + START_NS);
        self.driver.start_load(start);
        let end = start
            + self.plan.warmup
            + self.plan.duration
            + self.plan.timeout
            + Duration::from_secs(1);
        while !self.driver.is_done() && self.now_ns < end.as_ns() {
            self.turn();
        }
        self.driver.finish(Time::from_ns(self.now_ns));
        self.driver.take_record(Record::new(self.plan.ops.len()))
    }
}

/// A PING in RESP2.
pub const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// One queue for all connections, first come first served; `service` draws how long a request
/// takes.
pub struct Queue<F> {
    pub service_ns: F,
    pub free_at_ns: u64,
    /// Nothing is served in this time.
    pub frozen_ns: std::ops::Range<u64>,
}

impl<F: FnMut() -> u64> Queue<F> {
    pub fn new(service_ns: F) -> Queue<F> {
        Queue { service_ns, free_at_ns: 0, frozen_ns: 0..0 }
    }
}

impl<F: FnMut() -> u64> Server for Queue<F> {
    fn handle(&mut self, _: Token, bytes: &[u8], now_ns: u64, out: &mut Vec<(u64, Happening)>) {
        assert_eq!(bytes.len() % PING.len(), 0, "whole requests");
        for _ in 0..bytes.len() / PING.len() {
            let mut begin_ns = self.free_at_ns.max(now_ns);
            if self.frozen_ns.contains(&begin_ns) {
                begin_ns = self.frozen_ns.end;
            }
            self.free_at_ns = begin_ns + (self.service_ns)();
            out.push((self.free_at_ns, Happening::Reply(b"+PONG\r\n".to_vec())));
        }
    }
}

/// A server that answers each request after the same time, however many there are.
pub struct Delay(pub u64);

impl Server for Delay {
    fn handle(&mut self, _: Token, bytes: &[u8], now_ns: u64, out: &mut Vec<(u64, Happening)>) {
        for _ in 0..bytes.len() / PING.len() {
            out.push((now_ns + self.0, Happening::Reply(b"+PONG\r\n".to_vec())));
        }
    }
}

/// The embedded server of the protocol, with the same delay for everything, whose replies `tamper`
/// may change.
pub struct Stored<T> {
    pub store: embedded::Store,
    pub sessions: std::collections::HashMap<Token, embedded::Session>,
    pub protocol: protocol::Protocol,
    pub delay_ns: u64,
    pub tamper: T,
}

impl<T: FnMut(Vec<u8>) -> Vec<u8>> Stored<T> {
    pub fn new(protocol: protocol::Protocol, delay_ns: u64, tamper: T) -> Stored<T> {
        Stored {
            store: embedded::Store::new(embedded::StoreOptions::default()),
            sessions: Default::default(),
            protocol,
            delay_ns,
            tamper,
        }
    }
}

impl<T: FnMut(Vec<u8>) -> Vec<u8>> Server for Stored<T> {
    fn handle(
        &mut self,
        connection: Token,
        bytes: &[u8],
        now_ns: u64,
        out: &mut Vec<(u64, Happening)>,
    ) {
        let session = self
            .sessions
            .entry(connection)
            .or_insert_with(|| embedded::Session::new(self.protocol));
        let mut replies = Vec::new();
        session.handle(&mut self.store, bytes, Time::from_ns(now_ns), &mut replies);
        let replies = (self.tamper)(replies);
        if !replies.is_empty() {
            out.push((now_ns + self.delay_ns, Happening::Reply(replies)));
        }
    }
}
