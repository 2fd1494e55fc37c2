//! The world between the workers and their peers: virtual time, what is yet to happen, and
//! connections made of two byte pipes.
//!
//! Not the event base, which is [`crate::base`], and not the peers, which are [`crate::client`] and
//! [`crate::server`]. Invariant: bytes of one direction of a connection arrive in the order in
//! which they were sent, whatever happens to them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::{Arc, Mutex};

use base::{Address, SocketError};

use crate::ejections::Ejection;
use crate::plan::{Destination, Plan, destination};
use crate::random::Random;
use crate::registered::BaseState;

/// One microsecond of virtual time.
pub const US: u64 = 1_000;
/// One millisecond of virtual time.
pub const MS: u64 = 1_000_000;

/// Something that is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    /// Bytes, the end, or a reset arrive at the peer of a connection.
    Peer(usize),
    /// The same at the proxy's end.
    Proxy(usize),
    /// Something of a registered connection is due: worker, kind, slot.
    Due(usize, u8, u32),
    /// A client acts.
    Client(usize),
    /// A server acts.
    Server(usize),
    /// A connection is reset by the network.
    Reset(usize),
    /// A server closes a connection.
    Closes(usize),
    /// A server says something that nobody asked for.
    Babbles(usize),
    /// A new connection stands before the listeners at a place.
    Arrives {
        /// Which place.
        place: usize,
        /// What stands there.
        connection: usize,
    },
    /// All workers are told that a server's name is, or is no longer, resolved.
    Resolved(usize, bool),
    /// The configuration changes, to this of the plan's.
    Reload(usize),
    /// All workers are told to end.
    Drain,
    /// A worker may have something to do: it was woken, or its pause is over.
    Worker(usize),
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A model client, by its index.
    Client(usize),
    /// A model server, by its index among the servers of all pools.
    Server(usize),
    /// Another event base, or the same: what is sent here arrives on that connection.
    Twin(usize),
    /// There was nobody to connect to.
    Nobody,
}

struct Segment {
    at: u64,
    bytes: Vec<u8>,
    start: usize,
}

/// One direction of a connection.
#[derive(Default)]
pub struct Pipe {
    segments: VecDeque<Segment>,
    /// Bytes under way or waiting.
    pub size: usize,
    last_at: u64,
    /// When the end arrives.
    pub end_at: Option<u64>,
}

impl Pipe {
    fn push(&mut self, at: u64, bytes: Vec<u8>) -> u64 {
        self.last_at = self.last_at.max(at);
        self.size += bytes.len();
        self.segments.push_back(Segment { at: self.last_at, bytes, start: 0 });
        self.last_at
    }

    fn end(&mut self, at: u64) -> u64 {
        self.last_at = self.last_at.max(at);
        *self.end_at.get_or_insert(self.last_at)
    }

    /// Bytes that have arrived.
    pub fn arrived(&self, now: u64) -> usize {
        let arrived = self.segments.iter().take_while(|segment| segment.at <= now);
        arrived.map(|segment| segment.bytes.len() - segment.start).sum()
    }

    /// Whether everything and then the end has arrived.
    pub fn is_at_end(&self, now: u64) -> bool {
        self.size == 0 && self.end_at.is_some_and(|at| at <= now)
    }

    /// Takes up to `max` of the bytes that have arrived.
    pub fn read(&mut self, now: u64, max: usize, out: &mut Vec<u8>) {
        let mut left = max;
        while left > 0 {
            let Some(segment) = self.segments.front_mut().filter(|segment| segment.at <= now)
            else {
                return;
            };
            let size = left.min(segment.bytes.len() - segment.start);
            out.extend_from_slice(&segment.bytes[segment.start..segment.start + size]);
            segment.start += size;
            self.size -= size;
            left -= size;
            if segment.start == segment.bytes.len() {
                self.segments.pop_front();
            }
        }
    }

    fn clear(&mut self) {
        self.segments.clear();
        self.size = 0;
    }
}

/// One connection.
pub struct Connection {
    /// Who is at the end that is not the proxy's.
    pub peer: Peer,
    /// To the proxy.
    pub up: Pipe,
    /// To the peer.
    pub down: Pipe,
    /// The network, or one end, has ended it by force.
    pub reset: bool,
    /// When the proxy closed its end.
    pub closed_at: Option<u64>,
    /// The peer has closed its end: what is sent to it is lost.
    pub peer_closed: bool,
    /// The proxy's registration: worker, kind, slot.
    pub place: Option<(usize, u8, u32)>,
    /// A worker holds it, registered or not.
    pub accepted: bool,
    /// Bytes that a direction holds before its sender must wait.
    pub capacity: usize,
}

/// What a peer reads.
#[derive(Debug, Default)]
pub struct Reading {
    /// In stream order.
    pub bytes: Vec<u8>,
    /// Nothing will follow.
    pub end: bool,
    /// The connection is broken.
    pub reset: bool,
}

/// The state of a server's listening socket, as the network sees it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Door {
    /// Connections are refused.
    pub refuses: bool,
    /// Connections are neither accepted nor refused.
    pub silent: bool,
}

/// Where a pool of the plan listens, as clients know it.
#[derive(Debug, Clone, Copy)]
pub struct Listens {
    /// The place now; `None` while the pool is not configured.
    pub place: Option<usize>,
    /// When it was last at another place.
    pub left_at: Option<u64>,
    /// When it was last removed, or got another name, which is the same to its clients.
    pub gone_at: Option<u64>,
}

/// See the module's text.
pub struct World {
    /// Chance of everything but the plan.
    pub random: Random,
    /// Nanoseconds since the beginning.
    pub now: u64,
    heap: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    serial: u64,
    /// Every connection ever opened.
    pub connections: Vec<Connection>,
    /// One a worker.
    pub bases: Vec<BaseState>,
    /// One a server of any pool.
    pub doors: Vec<Door>,
    /// One a pool of the plan.
    pub listens: Vec<Listens>,
    /// What was drawn for this seed.
    pub plan: Plan,
    /// Faults have stopped.
    pub healed: bool,
    /// The workers end.
    pub draining: bool,
    /// The first thing that was wrong.
    pub failure: Option<String>,
    /// Sockets that a worker has dropped without registering them.
    pub dropped: Arc<Mutex<Vec<usize>>>,
    /// What stands before listening sockets that no event base has registered yet, by place.
    pub unregistered: BTreeMap<usize, Vec<usize>>,
    /// The seed also fails when the owner of an event base does what the contract lets it do, but
    /// what a worker has no reason to: calls with stale tokens, gaps in its tables.
    pub is_strict: bool,
    /// When a worker last closed a connection to a server, other than after its end.
    pub server_closed_at: Option<u64>,
    /// What clients have last listened to.
    pub channels: Vec<Vec<u8>>,
    /// Times that a planted bug had its chance.
    pub canary_count: u64,
    hash: u64,
    /// Print what happens.
    pub prints: bool,
}

impl World {
    /// A world in which nothing has happened.
    pub fn new(plan: Plan, prints: bool) -> World {
        let servers_count: usize = plan.pools.iter().map(|pool| pool.servers_count).sum();
        let workers_count = plan.workers_count;
        let mut world = World {
            random: Random::new(plan.seed ^ 0xabcd_ef01),
            now: MS,
            heap: BinaryHeap::new(),
            serial: 0,
            connections: Vec::new(),
            bases: Vec::new(),
            doors: vec![Door::default(); servers_count],
            listens: (0..plan.pools.len())
                .map(|pool| Listens { place: Some(pool), left_at: None, gone_at: None })
                .collect(),
            plan,
            healed: false,
            draining: false,
            failure: None,
            dropped: Arc::default(),
            unregistered: BTreeMap::new(),
            is_strict: true,
            server_closed_at: None,
            channels: Vec::new(),
            canary_count: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            prints,
        };
        for _ in 0..workers_count {
            world.add_base();
        }
        world
    }

    /// Makes room for one more event base, and gives its index.
    pub fn add_base(&mut self) -> usize {
        let ejections = vec![Ejection::default(); self.doors.len()];
        let base = BaseState { ejections, ..BaseState::default() };
        self.bases.push(base);
        self.bases.len() - 1
    }

    /// Notes that something happened: for the trace and its hash.
    pub fn note(&mut self, what: &str, a: u64, b: u64) {
        for byte in what.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        for word in [self.now, a, b] {
            self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        }
        if self.prints {
            println!("{:>12.3} ms  {what} {a} {b}", self.now as f64 / MS as f64);
        }
    }

    /// A line of the trace that is not part of its hash.
    pub fn tell(&self, text: impl FnOnce() -> String) {
        if self.prints {
            println!("{:>12.3} ms    {}", self.now as f64 / MS as f64, text());
        }
    }

    /// The hash of all that was noted.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Something is wrong. Only the first time counts.
    pub fn fail(&mut self, text: String) {
        self.tell(|| format!("FAILED: {text}"));
        self.failure.get_or_insert(text);
    }

    /// A worker has done what the contract lets it do, but for what it has no reason.
    pub fn fail_if_strict(&mut self, text: impl FnOnce() -> String) {
        if self.is_strict {
            self.fail(text());
        }
    }

    /// Whether a fault of this rate strikes now; never after healing.
    pub fn strikes(&mut self, per_mille: u32) -> bool {
        !self.healed && self.random.chance(per_mille)
    }

    /// Lets something happen at `at`, or now if that is past.
    pub fn schedule(&mut self, at: u64, happening: Happening) {
        self.serial += 1;
        self.heap.push(Reverse((at.max(self.now), self.serial, happening)));
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }

    /// The next thing that happens now.
    pub fn pop(&mut self) -> Option<Happening> {
        if self.next_at()? > self.now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, _, happening))| happening)
    }

    /// How long a message is under way.
    pub fn latency(&mut self) -> u64 {
        // After healing the shortest time-out must be long enough.
        let max = if self.healed { 5 } else { self.plan.network.latency_us_max };
        self.random.below(max + 1) * US
    }

    /// A client connects to a pool, or to where it last was.
    pub fn open_client(&mut self, client: usize, pool: usize) -> usize {
        let connection = self.add(Peer::Client(client));
        let at = self.now + self.latency();
        match self.listens[pool].place {
            Some(place) => self.schedule(at, Happening::Arrives { place, connection }),
            None => self.reset(connection),
        }
        connection
    }

    /// A connection that neither end has used.
    pub fn add(&mut self, peer: Peer) -> usize {
        self.connections.push(Connection {
            peer,
            up: Pipe::default(),
            down: Pipe::default(),
            reset: false,
            closed_at: None,
            peer_closed: false,
            place: None,
            accepted: false,
            capacity: self.plan.network.capacity,
        });
        self.connections.len() - 1
    }

    /// Does what happens to the world itself. What happens to a model of a peer, or to a worker, is
    /// the runner's to do.
    pub fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Peer(connection) => {
                if let Peer::Twin(twin) = self.connections[connection].peer {
                    self.pass_on(connection, twin);
                }
            }
            Happening::Proxy(connection) => self.touch_proxy(connection),
            Happening::Due(worker, kind, slot) => self.bases[worker].touch(kind, slot),
            Happening::Reset(connection) => {
                if !self.healed {
                    self.reset(connection);
                }
            }
            Happening::Closes(connection) => self.peer_close(connection),
            Happening::Arrives { place, connection } => self.arrive(place, connection),
            Happening::Client(_)
            | Happening::Server(_)
            | Happening::Babbles(_)
            | Happening::Resolved(..)
            | Happening::Reload(_)
            | Happening::Drain
            | Happening::Worker(_) => {}
        }
    }

    /// Closes the sockets that their owners have dropped.
    pub fn close_dropped(&mut self) {
        let dropped = std::mem::take(&mut *self.dropped.lock().expect("one thread"));
        for connection in dropped {
            self.note("socket dropped", connection as u64, 0);
            self.proxy_close(connection);
        }
    }
}

/// Connections that an event base opens.
impl World {
    /// Dials; gives when the outcome is known, and which it is.
    pub fn dial(&mut self, connection: usize, address: &Address) -> (u64, Option<SocketError>) {
        match destination(address) {
            Some(Destination::Server(server)) if server < self.doors.len() => {
                self.dial_server(connection, server)
            }
            Some(Destination::Listeners(place)) if self.is_listening(place) => {
                (self.dial_listeners(connection, place), None)
            }
            _ => (self.now + self.latency(), Some(SocketError::ConnectionRefused)),
        }
    }

    fn dial_server(&mut self, connection: usize, server: usize) -> (u64, Option<SocketError>) {
        self.connections[connection].peer = Peer::Server(server);
        let door = self.doors[server];
        let refused = door.refuses || self.strikes(self.plan.network.refuse_pm);
        let silent = door.silent || self.strikes(self.plan.network.silent_connect_pm);
        let at = self.now + self.latency();
        match (silent, refused) {
            (true, _) => (u64::MAX, Some(SocketError::TimedOut)),
            (false, true) => (at, Some(SocketError::ConnectionRefused)),
            (false, false) => (at, None),
        }
    }

    /// The other end is accepted by an event base too.
    fn dial_listeners(&mut self, connection: usize, place: usize) -> u64 {
        let twin = self.add(Peer::Twin(connection));
        self.connections[connection].peer = Peer::Twin(twin);
        let at = self.now + self.latency();
        self.schedule(at, Happening::Arrives { place, connection: twin });
        at
    }

    /// A new connection stands before one of the listeners of a place; the kernel chooses whose.
    fn arrive(&mut self, place: usize, connection: usize) {
        let listening = (0..self.bases.len()).filter(|base| self.bases[*base].is_listening(place));
        let listening: Vec<usize> = listening.collect();
        if !listening.is_empty() {
            let worker = self.random.pick(&listening);
            self.bases[worker].arrive(place, connection);
        } else if let Some(waiting) = self.unregistered.get_mut(&place) {
            waiting.push(connection);
        } else {
            self.reset(connection);
        }
    }

    fn is_listening(&self, place: usize) -> bool {
        self.unregistered.contains_key(&place)
            || self.bases.iter().any(|base| base.is_listening(place))
    }

    /// What an event base has sent goes to the twin of the connection.
    fn pass_on(&mut self, connection: usize, twin: usize) {
        let reading = self.peer_read(connection, usize::MAX);
        // Bytes for a socket that is closed are answered with a reset.
        let unwanted = !reading.bytes.is_empty() && self.connections[twin].closed_at.is_some();
        if reading.reset || unwanted {
            self.reset(twin);
            self.reset(connection);
            return;
        }
        self.peer_send(twin, &reading.bytes, 0);
        if reading.end {
            self.peer_end(twin, 0);
        }
    }
}

/// What peers do.
impl World {
    /// Sends bytes to the proxy, cut and delayed as the plan says, and `delay` later than that.
    pub fn peer_send(&mut self, connection: usize, bytes: &[u8], delay: u64) {
        if self.connections[connection].peer_closed || self.connections[connection].reset {
            return;
        }
        let mut rest = bytes;
        let mut at = self.now + delay;
        while !rest.is_empty() {
            let size = self.cut_size(rest.len());
            at += self.latency();
            let stall_pm = self.plan.network.stall_pm;
            if self.strikes(stall_pm) {
                at += self.plan.network.stall_ms * MS;
            }
            let arrives = self.connections[connection].up.push(at, rest[..size].to_vec());
            self.schedule(arrives, Happening::Proxy(connection));
            rest = &rest[size..];
        }
        self.maybe_reset(connection);
    }

    fn cut_size(&mut self, size: usize) -> usize {
        if !self.random.chance(self.plan.network.cut_pm) {
            return size;
        }
        // No more than about a dozen pieces of a large message.
        let least = size / 12 + 1;
        let drawn = self.random.skewed(size as u64) as usize;
        drawn.clamp(least.min(size), size)
    }

    /// Sends no more, but still reads.
    pub fn peer_end(&mut self, connection: usize, delay: u64) {
        let at = self.now + delay + self.latency();
        let at = self.connections[connection].up.end(at);
        self.schedule(at, Happening::Proxy(connection));
    }

    /// Closes the peer's end in an orderly way.
    pub fn peer_close(&mut self, connection: usize) {
        self.peer_end(connection, 0);
        let state = &mut self.connections[connection];
        state.peer_closed = true;
        state.down.clear();
        self.pump(connection);
    }

    /// Ends the connection by force; what is under way is lost.
    pub fn reset(&mut self, connection: usize) {
        let state = &mut self.connections[connection];
        if state.reset {
            return;
        }
        state.reset = true;
        state.up.clear();
        state.down.clear();
        self.note("reset", connection as u64, 0);
        self.schedule(self.now, Happening::Peer(connection));
        self.pump(connection);
        self.touch_proxy(connection);
    }

    fn maybe_reset(&mut self, connection: usize) {
        if self.strikes(self.plan.network.reset_pm) {
            let at = self.now + self.random.below(3 * MS);
            self.schedule(at, Happening::Reset(connection));
        }
    }

    /// Reads what has arrived at the peer, which makes room for more.
    pub fn peer_read(&mut self, connection: usize, max: usize) -> Reading {
        let now = self.now;
        let state = &mut self.connections[connection];
        let mut reading = Reading::default();
        if state.reset {
            reading.reset = true;
            return reading;
        }
        state.down.read(now, max, &mut reading.bytes);
        reading.end = state.down.is_at_end(now);
        if !reading.bytes.is_empty() {
            self.pump(connection);
        }
        reading
    }

    /// Puts the proxy's end on its worker's list.
    pub fn touch_proxy(&mut self, connection: usize) {
        if let Some((worker, kind, slot)) = self.connections[connection].place {
            self.bases[worker].touch(kind, slot);
        }
    }

    /// Moves as much of the send under way as there is room for.
    pub fn pump(&mut self, connection: usize) {
        let Some((worker, kind, slot)) = self.connections[connection].place else { return };
        let capacity = self.connections[connection].capacity;
        loop {
            let state = &self.connections[connection];
            let Some(op) = self.bases[worker].send_op(kind, slot) else { return };
            if op.is_over() {
                return;
            }
            let reset = state.reset;
            if reset || state.peer_closed {
                let at = self.now + self.latency();
                self.bases[worker].end_send(kind, slot, at, reset);
                self.schedule(at, Happening::Due(worker, kind, slot));
                return;
            }
            let room = capacity.saturating_sub(state.down.size);
            if room == 0 {
                return;
            }
            let left = op.left().len();
            let size = self.cut_size(left).min(room);
            let piece = self.bases[worker].take_send(kind, slot, size);
            let at = self.now + self.latency();
            let arrives = self.connections[connection].down.push(at, piece);
            self.schedule(arrives, Happening::Peer(connection));
            let done =
                self.bases[worker].send_op(kind, slot).is_some_and(|op| op.left().is_empty());
            if done {
                let at = if self.random.chance(300) { self.now + self.latency() } else { self.now };
                self.bases[worker].finish_send(kind, slot, at);
                self.schedule(at, Happening::Due(worker, kind, slot));
                self.maybe_reset(connection);
                return;
            }
        }
    }

    /// The proxy closes its end; what the kernel has of its bytes is still delivered.
    pub fn proxy_close(&mut self, connection: usize) {
        let at = self.now + self.latency();
        let unread = self.connections[connection].up.size > 0;
        let state = &mut self.connections[connection];
        state.closed_at = Some(self.now);
        let at = state.down.end(at);
        state.up.clear();
        self.schedule(at, Happening::Peer(connection));
        let reset_pm = self.plan.network.reset_on_close_pm;
        if unread && self.strikes(reset_pm) {
            self.connections[connection].down.clear();
            self.connections[connection].reset = true;
            self.schedule(self.now, Happening::Peer(connection));
        }
    }
}
