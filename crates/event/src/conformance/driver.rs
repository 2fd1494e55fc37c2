//! Drives an event base by turns, and checks every event against the contract.
//!
//! Invariant: an operation that was started ends exactly once, and nothing is said of a token
//! after its `Closed`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use base::{Address, Buffers, Chain, Kind, RecvEnd, SocketError, Time, Token};

use super::{Harness, Peer};
use crate::{AcceptEnd, Event, EventBase};

/// An event base, and what is known of it.
pub struct Driver<B: EventBase> {
    /// The event base.
    pub base: B,
    /// Bytes received so far, by connection.
    pub received: HashMap<Token, Vec<u8>>,
    /// How receives ended.
    pub recv_ends: Vec<(Token, RecvEnd)>,
    /// Chains that were sent.
    pub sent: Vec<(Token, Chain)>,
    /// Sends that failed.
    pub send_failed: Vec<(Token, SocketError)>,
    /// Connects that ended.
    pub connects: Vec<(Token, Result<(), SocketError>)>,
    /// Accepted connections.
    pub accepted: Vec<B::Socket>,
    /// How accepting ended.
    pub accept_ends: Vec<(Token, AcceptEnd)>,
    /// Tokens that were closed.
    pub closed: HashSet<Token>,
    /// Calls of `Woken`.
    pub woken_count: usize,
    /// Calls of `wait`.
    pub turns: usize,
    running: HashSet<(Token, &'static str)>,
    closing: HashSet<Token>,
    next_index: HashMap<Kind, u32>,
    events: Vec<Event<B::Socket>>,
}

/// A turn that waits for nothing takes this long at most.
const TURN: Duration = Duration::from_millis(5);
/// So many turns, 10 seconds when nothing happens, are enough for any case.
const TURNS_MAX: usize = 2000;

impl<B: EventBase> Driver<B> {
    /// Drives a new event base.
    pub fn new(base: B) -> Driver<B> {
        Driver {
            base,
            received: HashMap::new(),
            recv_ends: Vec::new(),
            sent: Vec::new(),
            send_failed: Vec::new(),
            connects: Vec::new(),
            accepted: Vec::new(),
            accept_ends: Vec::new(),
            closed: HashSet::new(),
            woken_count: 0,
            turns: 0,
            running: HashSet::new(),
            closing: HashSet::new(),
            next_index: HashMap::new(),
            events: Vec::new(),
        }
    }

    /// A token for a new slot.
    pub fn token(&mut self, kind: Kind) -> Token {
        let index = self.next_index.entry(kind).or_insert(0);
        *index += 1;
        Token::new(kind, *index - 1, 0)
    }

    /// Adopts a socket under a new token.
    pub fn adopt(&mut self, kind: Kind, socket: B::Socket) -> Token {
        let token = self.token(kind);
        self.base.adopt(token, socket).expect("the socket is new");
        token
    }

    /// Makes a pair and adopts one end.
    pub fn pair<H: Harness<Base = B>>(
        &mut self,
        harness: &H,
        kind: Kind,
        small_buffers: bool,
    ) -> (Token, H::Peer) {
        let (socket, peer) = harness.pair(small_buffers);
        (self.adopt(kind, socket), peer)
    }

    /// See [`EventBase::recv_start`].
    pub fn recv_start(&mut self, token: Token, credit: usize) {
        self.start(token, "recv");
        self.base.recv_start(token, credit);
    }

    /// Sends bytes as one slice, or as one slice for each `slice_size` bytes (at least 4096).
    pub fn send(&mut self, token: Token, bytes: &[u8], slice_size: usize) {
        self.start(token, "send");
        self.base.send(token, chain_of(bytes, slice_size));
    }

    /// See [`EventBase::connect`].
    pub fn connect(&mut self, token: Token, address: &Address) {
        self.start(token, "connect");
        self.base.connect(token, address);
    }

    /// See [`EventBase::accept_start`].
    pub fn accept_start(&mut self, token: Token) {
        self.start(token, "accept");
        self.base.accept_start(token);
    }

    /// See [`EventBase::close`].
    pub fn close(&mut self, token: Token) {
        self.closing.insert(token);
        self.base.close(token);
    }

    /// Whether an operation that was started has not ended.
    pub fn is_running(&self, token: Token, operation: &'static str) -> bool {
        self.running.contains(&(token, operation))
    }

    fn start(&mut self, token: Token, operation: &'static str) {
        assert!(self.running.insert((token, operation)), "the case starts {operation} twice");
    }

    fn end(&mut self, token: Token, operation: &'static str) {
        assert!(self.running.remove(&(token, operation)), "{token:?}: {operation} ended twice");
    }

    /// One call of `wait`, at most until the deadline. Gives the number of events.
    pub fn turn_until(&mut self, deadline: Option<Time>) -> usize {
        self.wait(1, deadline)
    }

    /// One short call of `wait` in which events may gather. Gives the number of events.
    pub fn turn_for(&mut self, wanted: usize) -> usize {
        let deadline = self.base.now() + TURN;
        self.wait(wanted, Some(deadline))
    }

    fn wait(&mut self, wanted: usize, deadline: Option<Time>) -> usize {
        self.turns += 1;
        let mut events = std::mem::take(&mut self.events);
        self.base.wait(wanted, deadline, &mut events).expect("waiting works");
        let count = events.len();
        for event in events.drain(..) {
            self.see(event);
        }
        self.events = events;
        count
    }

    /// One short call of `wait`.
    pub fn turn(&mut self) -> usize {
        let deadline = self.base.now() + TURN;
        self.turn_until(Some(deadline))
    }

    /// Turns until something holds.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if holds(self) {
                return;
            }
            self.turn();
        }
        panic!("{what}: did not happen in {TURNS_MAX} turns; under way: {:?}", self.running);
    }

    /// Turns until the connection has received so many bytes in all.
    pub fn until_received(&mut self, token: Token, size: usize) {
        self.until("bytes are received", |driver| driver.received_size(token) >= size);
    }

    /// Turns until the token is closed.
    pub fn until_closed(&mut self, token: Token) {
        self.until("a token is closed", |driver| driver.closed.contains(&token));
    }

    /// Bytes received so far.
    pub fn received_size(&self, token: Token) -> usize {
        self.received.get(&token).map_or(0, Vec::len)
    }

    /// Turns while the peer writes all bytes.
    pub fn peer_writes(&mut self, peer: &mut impl Peer, bytes: &[u8]) {
        let mut written = 0;
        self.until("the peer writes", |driver| {
            while written < bytes.len() {
                match peer.write(&bytes[written..]) {
                    Ok(size) => written += size,
                    Err(_) => {
                        driver.turn();
                        return false;
                    }
                }
            }
            true
        });
    }

    /// Turns while the peer reads so many bytes.
    pub fn peer_reads(&mut self, peer: &mut impl Peer, size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut scratch = vec![0; 64 << 10];
        self.until("the peer reads", |driver| {
            while bytes.len() < size {
                match peer.read(&mut scratch) {
                    Ok(0) => panic!("the stream ends after {} of {size} bytes", bytes.len()),
                    Ok(size) => bytes.extend_from_slice(&scratch[..size]),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        driver.turn();
                        return false;
                    }
                    Err(error) => panic!("the peer reads: {error}"),
                }
            }
            true
        });
        bytes
    }

    /// Turns until the peer sees the end, or a broken connection. Gives the bytes before it, and
    /// whether it was the proper end.
    pub fn peer_reads_to_end(&mut self, peer: &mut impl Peer) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let mut scratch = vec![0; 64 << 10];
        let mut proper = false;
        self.until("the peer sees the end", |driver| {
            loop {
                match peer.read(&mut scratch) {
                    Ok(0) => {
                        proper = true;
                        return true;
                    }
                    Ok(size) => bytes.extend_from_slice(&scratch[..size]),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        driver.turn();
                        return false;
                    }
                    Err(_) => return true,
                }
            }
        });
        (bytes, proper)
    }

    fn check_open(&self, token: Token) {
        assert!(!self.closed.contains(&token), "{token:?}: an event after Closed");
    }

    fn see(&mut self, event: Event<B::Socket>) {
        match event {
            Event::Accepted { listener, socket } => {
                self.check_open(listener);
                let may_come =
                    self.is_running(listener, "accept") || self.closing.contains(&listener);
                assert!(may_come, "Accepted after AcceptEnd");
                self.accepted.push(socket);
            }
            Event::AcceptEnd { listener, end } => {
                self.check_open(listener);
                self.end(listener, "accept");
                self.accept_ends.push((listener, end));
            }
            Event::Connected(token) => {
                self.check_open(token);
                assert!(!self.closing.contains(&token), "Connected after close");
                self.end(token, "connect");
                self.connects.push((token, Ok(())));
            }
            Event::ConnectFailed(token, error) => {
                self.check_open(token);
                self.end(token, "connect");
                self.connects.push((token, Err(error)));
            }
            Event::Received(token, received) => {
                self.check_open(token);
                assert!(self.is_running(token, "recv"), "Received without a receive");
                assert!(!self.closing.contains(&token), "Received after close");
                assert!(received.size > 0);
                let bytes = self.base.bytes(received);
                assert_eq!(bytes.len(), received.size as usize);
                self.received.entry(token).or_default().extend_from_slice(bytes);
                self.base.release(received);
            }
            Event::RecvEnd(token, end) => {
                self.check_open(token);
                self.end(token, "recv");
                self.recv_ends.push((token, end));
            }
            Event::Sent(token, chain) => {
                self.check_open(token);
                self.end(token, "send");
                self.sent.push((token, chain));
            }
            Event::SendFailed(token, _, error) => {
                self.check_open(token);
                self.end(token, "send");
                self.send_failed.push((token, error));
            }
            Event::Closed(token) => {
                assert!(self.closing.contains(&token), "Closed without close");
                assert!(self.closed.insert(token), "Closed twice");
                let left = self.running.iter().find(|(running, _)| *running == token);
                assert!(left.is_none(), "Closed before the end of {left:?}");
            }
            Event::Woken => self.woken_count += 1,
        }
    }
}

/// A chain of the bytes in slices of `slice_size`, at least [`base::chain::OWNED_SIZE_MIN`] when
/// there are several.
pub(super) fn chain_of(bytes: &[u8], slice_size: usize) -> Chain {
    let mut buffers = Buffers::new();
    let mut chain = Chain::new();
    for slice in bytes.chunks(slice_size) {
        chain.push_owned(slice.to_vec(), &mut buffers);
    }
    chain
}

/// Bytes that are different everywhere within 2^24 of them.
pub(super) fn pattern(size: usize, seed: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 4);
    let mut serial = seed;
    while bytes.len() < size {
        bytes.extend_from_slice(&serial.wrapping_mul(0x9e37_79b1).to_le_bytes());
        serial = serial.wrapping_add(1);
    }
    bytes.truncate(size);
    bytes
}
