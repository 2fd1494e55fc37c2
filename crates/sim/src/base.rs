//! The simulated event base: the contract of [`event::EventBase`], with every freedom that it
//! leaves taken at random, and every duty that it puts on its owner checked.
//!
//! It never blocks: `wait` gives what is ready and notes the deadline, and the runner moves the
//! time. Invariant: nothing completes inside the call that starts it; an owner that breaks the
//! contract fails the seed.

use std::cell::RefCell;
use std::io;
use std::mem;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base::{Address, Chain, Kind, RecvEnd, SocketError, Time, Token};
use event::{AcceptEnd, Event, EventBase, Received, Waker};

use crate::canary::Canary;
use crate::world::{Happening, Peer, US, World};

/// A connection that belongs to no event base.
#[derive(Debug)]
pub struct SimSocket {
    /// The world's connection; for a listening socket the pool.
    connection: usize,
    dropped: Option<Arc<Mutex<Vec<usize>>>>,
}

impl SimSocket {
    /// The listening socket of a pool.
    pub fn listening(pool: usize) -> SimSocket {
        SimSocket { connection: pool, dropped: None }
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.lock().expect("one thread").push(self.connection);
        }
    }
}

/// Wakes a worker of the simulation.
#[derive(Debug, Clone, Default)]
pub struct SimWaker(Arc<AtomicBool>);

impl Waker for SimWaker {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A send under way.
#[derive(Debug)]
pub struct SendOp {
    chain: Chain,
    bytes: Vec<u8>,
    position: usize,
    /// When its end is told, and whether it failed.
    over: Option<(u64, Option<SocketError>)>,
}

impl SendOp {
    /// What the network has not taken.
    pub fn left(&self) -> &[u8] {
        &self.bytes[self.position..]
    }

    /// Whether it only waits to be told.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }
}

#[derive(Debug)]
struct ReceiveOp {
    credit: usize,
    stopping: bool,
}

/// A connection that a worker has registered.
#[derive(Debug)]
struct Registration {
    token: Token,
    connection: usize,
    /// When the outcome of `connect` is told, and which it is.
    connecting: Option<(u64, Option<SocketError>)>,
    connected: bool,
    receive: Option<ReceiveOp>,
    send: Option<SendOp>,
    /// When `Closed` may be told.
    closing: Option<u64>,
    listed: bool,
}

#[derive(Debug)]
struct Listener {
    token: Token,
    pool: usize,
    accepting: bool,
    stopping: bool,
    closing: bool,
    closed: bool,
    waiting: Vec<usize>,
}

/// What the world knows of one worker's event base.
#[derive(Default)]
pub struct BaseState {
    kinds: [Vec<Option<Registration>>; Kind::COUNT],
    listeners: Vec<Listener>,
    listed: Vec<(u8, u32)>,
    woken: SimWaker,
    /// What the last `wait` was given.
    pub deadline: Option<u64>,
    /// Calls of `wait`.
    pub waits: u64,
    /// Sends started since the last `wait`, by token; for the one-send rule.
    sends: Vec<Token>,
    /// Events of the last `wait`.
    pub events_count: usize,
    /// Operations started and not ended.
    pub operations_count: usize,
    /// Until when this worker has ejected each server, of all pools, by what it has counted.
    pub ejected_until: Vec<u64>,
}

impl BaseState {
    fn registration(&mut self, kind: u8, slot: u32) -> Option<&mut Registration> {
        self.kinds[kind as usize].get_mut(slot as usize)?.as_mut()
    }

    /// Puts a connection on the list of those that may have something to tell.
    pub fn touch(&mut self, kind: u8, slot: u32) {
        if let Some(registration) = self.registration(kind, slot)
            && !registration.listed
        {
            registration.listed = true;
            self.listed.push((kind, slot));
        }
    }

    /// The send under way.
    pub fn send_op(&self, kind: u8, slot: u32) -> Option<&SendOp> {
        self.kinds[kind as usize].get(slot as usize)?.as_ref()?.send.as_ref()
    }

    /// Takes the next bytes of the send under way.
    pub fn take_send(&mut self, kind: u8, slot: u32, size: usize) -> Vec<u8> {
        let registration = self.registration(kind, slot).expect("it has a send under way");
        let op = registration.send.as_mut().expect("it has a send under way");
        let piece = op.bytes[op.position..op.position + size].to_vec();
        op.position += size;
        piece
    }

    /// The send under way is with the network.
    pub fn finish_send(&mut self, kind: u8, slot: u32, at: u64) {
        if let Some(op) = self.registration(kind, slot).and_then(|found| found.send.as_mut()) {
            op.over = Some((at, None));
        }
    }

    /// The send under way can't go on.
    pub fn end_send(&mut self, kind: u8, slot: u32, at: u64, reset: bool) {
        let error = if reset { SocketError::ConnectionReset } else { SocketError::BrokenPipe };
        if let Some(op) = self.registration(kind, slot).and_then(|found| found.send.as_mut()) {
            op.over = Some((at, Some(error)));
        }
    }

    /// Whether a `wait` now would find something, or might.
    pub fn has_work(&self) -> bool {
        self.woken.0.load(Ordering::Relaxed)
            || !self.listed.is_empty()
            || self.listeners.iter().any(|listener| {
                let ends = listener.stopping || (listener.closing && !listener.closed);
                ends || (listener.accepting && !listener.waiting.is_empty())
            })
    }

    /// A connection stands before a listener of the pool. `false` when there is none.
    pub fn arrive(&mut self, pool: usize, connection: usize) -> bool {
        let open = |listener: &&mut Listener| listener.pool == pool && !listener.closing;
        let Some(listener) = self.listeners.iter_mut().rev().find(open) else { return false };
        listener.waiting.push(connection);
        true
    }

    /// Bytes of the sends under way.
    pub fn sending_size(&self) -> usize {
        let sends = self.kinds.iter().flatten().flatten().filter_map(|found| found.send.as_ref());
        sends.map(|op| op.chain.len()).sum()
    }

    /// Connections that are registered, by kind.
    pub fn registered_count(&self, kind: Kind) -> usize {
        self.kinds[kind as usize].iter().flatten().count()
    }
}

/// The event base of one worker.
pub struct SimBase {
    world: Rc<RefCell<World>>,
    index: usize,
    waker: SimWaker,
    buffers: Vec<Vec<u8>>,
    free: Vec<u32>,
    lent_count: usize,
    /// A planted bug: the send of this connection will be told a second time.
    told_again: Option<Token>,
}

impl SimBase {
    /// The event base of the worker of this index.
    pub fn new(world: Rc<RefCell<World>>, index: usize) -> SimBase {
        let waker = world.borrow().bases[index].woken.clone();
        let (buffers, free) = (Vec::new(), Vec::new());
        SimBase { world, index, waker, buffers, free, lent_count: 0, told_again: None }
    }

    fn lend(&mut self, bytes: Vec<u8>) -> Received {
        self.lent_count += 1;
        let size = bytes.len() as u32;
        let buffer = match self.free.pop() {
            Some(buffer) => {
                self.buffers[buffer as usize] = bytes;
                buffer
            }
            None => {
                self.buffers.push(bytes);
                self.buffers.len() as u32 - 1
            }
        };
        Received { buffer, offset: 0, size }
    }

    /// Runs `act` on a registration that must be there and not be closing.
    fn on<R>(
        &self,
        token: Token,
        what: &str,
        act: impl FnOnce(&mut World, &mut Registration) -> R,
    ) -> Option<R> {
        let mut world = self.world.borrow_mut();
        let (kind, slot) = (token.kind() as u8, token.index());
        let place = world.bases[self.index].kinds[kind as usize].get_mut(slot as usize);
        let Some(mut registration) = place.and_then(Option::take) else {
            world.fail(format!("{what} on {token:?}, which is not registered"));
            return None;
        };
        let result = if registration.token != token {
            world.fail(format!("{what} on the stale {token:?}"));
            None
        } else if registration.closing.is_some() {
            world.fail(format!("{what} on {token:?}, which is being closed"));
            None
        } else {
            Some(act(&mut world, &mut registration))
        };
        world.bases[self.index].kinds[kind as usize][slot as usize] = Some(registration);
        result
    }

    fn register(&self, world: &mut World, token: Token, connection: usize) {
        let table = &mut world.bases[self.index].kinds[token.kind() as usize];
        let slot = token.index() as usize;
        if slot > table.len() {
            world.fail(format!("{token:?} leaves a gap in the table"));
            return;
        }
        if slot == table.len() {
            table.push(None);
        }
        if table[slot].is_some() {
            world.fail(format!("{token:?} takes a slot that is in use"));
            return;
        }
        table[slot] = Some(Registration {
            token,
            connection,
            connecting: None,
            connected: false,
            receive: None,
            send: None,
            closing: None,
            listed: false,
        });
        world.connections[connection].place = Some((self.index, token.kind() as u8, token.index()));
        world.connections[connection].accepted = true;
    }
}

impl EventBase for SimBase {
    type Socket = SimSocket;
    type Waker = SimWaker;

    fn now(&self) -> Time {
        Time::from_ns(self.world.borrow().now)
    }

    fn listen(&mut self, listener: Token, socket: SimSocket) -> io::Result<()> {
        let base = &mut self.world.borrow_mut().bases[self.index];
        assert_eq!(listener.index() as usize, base.listeners.len(), "listeners are dense");
        base.listeners.push(Listener {
            token: listener,
            pool: socket.connection,
            accepting: false,
            stopping: false,
            closing: false,
            closed: false,
            waiting: Vec::new(),
        });
        Ok(())
    }

    fn accept_start(&mut self, listener: Token) {
        let mut world = self.world.borrow_mut();
        let found = &mut world.bases[self.index].listeners[listener.index() as usize];
        if mem::replace(&mut found.accepting, true) {
            world.fail(format!("{listener:?} accepts twice"));
        }
    }

    fn accept_stop(&mut self, listener: Token) {
        let mut world = self.world.borrow_mut();
        world.bases[self.index].listeners[listener.index() as usize].stopping = true;
    }

    fn adopt(&mut self, token: Token, mut socket: SimSocket) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let rate = world.plan.network.adopt_fails_pm;
        if world.strikes(rate) {
            world.note("adopt fails", socket.connection as u64, 0);
            drop(world);
            return Err(io::Error::other("the simulation says so"));
        }
        socket.dropped = None;
        self.register(&mut world, token, socket.connection);
        world.note("adopt", socket.connection as u64, token.to_bits());
        Ok(())
    }

    fn connect(&mut self, token: Token, address: &Address) {
        let mut world = self.world.borrow_mut();
        let server = server_of(address);
        let connection = world.add(Peer::Server(server));
        self.register(&mut world, token, connection);
        world.note("connect", connection as u64, server as u64);
        world.bases[self.index].operations_count += 1;
        if world.bases[self.index].ejected_until[server] > world.now {
            world.fail(format!("a connection to server {server}, which is ejected"));
        }
        let door = world.doors[server];
        let refused = door.refuses || {
            let rate = world.plan.network.refuse_pm;
            world.strikes(rate)
        };
        let silent = door.silent || {
            let rate = world.plan.network.silent_connect_pm;
            world.strikes(rate)
        };
        let at = world.now + world.latency();
        let outcome = match (silent, refused) {
            (true, _) => (u64::MAX, Some(SocketError::TimedOut)),
            (false, true) => (at, Some(SocketError::ConnectionRefused)),
            (false, false) => (at, None),
        };
        let slot = token.index();
        let registration = world.bases[self.index].registration(Kind::Server as u8, slot);
        registration.expect("it was registered above").connecting = Some(outcome);
        if !silent {
            world.schedule(at, Happening::Due(self.index, Kind::Server as u8, slot));
        }
    }

    fn recv_start(&mut self, token: Token, credit: usize) {
        self.on(token, "recv_start", |world, registration| {
            if registration.receive.is_some() {
                world.fail(format!("a second receive on {token:?}"));
            }
            if token.kind() == Kind::Server && !registration.connected {
                world.fail(format!("a receive on {token:?} before it is connected"));
            }
            registration.receive = Some(ReceiveOp { credit, stopping: false });
        });
        let mut world = self.world.borrow_mut();
        world.bases[self.index].operations_count += 1;
        world.bases[self.index].touch(token.kind() as u8, token.index());
    }

    fn recv_stop(&mut self, token: Token) {
        self.on(token, "recv_stop", |_, registration| {
            if let Some(receive) = &mut registration.receive {
                receive.stopping = true;
            }
        });
        self.world.borrow_mut().bases[self.index].touch(token.kind() as u8, token.index());
    }

    fn send(&mut self, token: Token, chain: Chain) {
        let connection = self.on(token, "send", |world, registration| {
            if chain.is_empty() {
                world.fail(format!("an empty send on {token:?}"));
            }
            if registration.send.is_some() {
                world.fail(format!("a second send in flight on {token:?}"));
            }
            if token.kind() == Kind::Server && !registration.connected {
                world.fail(format!("a send on {token:?} before it is connected"));
            }
            let mut bytes = chain.to_vec();
            if world.plan.canary == Some(Canary::SendTruncated) && token.kind() == Kind::Client {
                world.canary_count += 1;
                if world.canary_count.is_multiple_of(97) && bytes.len() > 4 {
                    bytes.pop();
                }
            }
            world.note("send", registration.connection as u64, bytes.len() as u64);
            registration.send = Some(SendOp { chain, bytes, position: 0, over: None });
            registration.connection
        });
        let mut world = self.world.borrow_mut();
        world.bases[self.index].operations_count += 1;
        if world.bases[self.index].sends.contains(&token) {
            world.fail(format!("two sends on {token:?} in one turn"));
        }
        world.bases[self.index].sends.push(token);
        if let Some(connection) = connection {
            world.pump(connection);
        }
    }

    fn close(&mut self, token: Token) {
        let mut world = self.world.borrow_mut();
        if token.kind() == Kind::Listener {
            world.bases[self.index].listeners[token.index() as usize].closing = true;
            return;
        }
        let now = world.now;
        let late = {
            let max = world.plan.network.close_delay_us;
            world.random.below(max + 1) * US
        };
        let slot = token.index();
        let Some(registration) = world.bases[self.index].registration(token.kind() as u8, slot)
        else {
            world.fail(format!("close on {token:?}, which is not registered"));
            return;
        };
        if registration.token != token {
            world.fail(format!("close on the stale {token:?}"));
            return;
        }
        if registration.closing.is_some() {
            return;
        }
        registration.closing = Some(now + late);
        if let Some((at, _)) = &mut registration.connecting {
            *at = (*at).min(now);
        }
        if let Some(op) = &mut registration.send
            && op.over.is_none()
        {
            op.over = Some((now, Some(SocketError::Cancelled)));
        }
        let connection = registration.connection;
        world.note("close", connection as u64, token.to_bits());
        if token.kind() == Kind::Server {
            world.server_closed_at = Some(now);
        }
        world.proxy_close(connection);
        world.schedule(now + late, Happening::Due(self.index, token.kind() as u8, slot));
        world.bases[self.index].touch(token.kind() as u8, slot);
    }

    fn wait(
        &mut self,
        deadline: Option<Time>,
        events: &mut Vec<Event<SimSocket>>,
    ) -> io::Result<()> {
        let shared = Rc::clone(&self.world);
        let mut world = shared.borrow_mut();
        if self.lent_count > 0 {
            world.fail(format!("{} receive buffers were not released", self.lent_count));
        }
        let base = &mut world.bases[self.index];
        base.deadline = deadline.map(Time::as_ns);
        base.waits += 1;
        base.sends.clear();
        let before = events.len();
        let spurious = {
            let rate = world.plan.network.spurious_wake_pm;
            world.random.chance(rate)
        };
        let woken = self.waker.0.swap(false, Ordering::Relaxed);
        let lost = woken && world.plan.canary == Some(Canary::WakeLost) && {
            world.canary_count += 1;
            world.canary_count.is_multiple_of(3)
        };
        if (woken && !lost) || spurious {
            events.push(Event::Woken);
        }
        self.accept_some(&mut world, events);
        let mut listed = mem::take(&mut world.bases[self.index].listed);
        world.random.shuffle(&mut listed);
        let starve_pm = world.plan.network.starve_pm;
        for (kind, slot) in listed {
            let starved = world.random.chance(starve_pm);
            if let Some(found) = world.bases[self.index].registration(kind, slot) {
                found.listed = false;
            }
            if starved || self.tell(&mut world, kind, slot, events) {
                world.bases[self.index].touch(kind, slot);
            }
        }
        self.disturb(&mut world, events);
        world.bases[self.index].events_count = events.len() - before;
        Ok(())
    }

    fn bytes(&self, received: Received) -> &[u8] {
        &self.buffers[received.buffer as usize][..received.size as usize]
    }

    fn release(&mut self, received: Received) {
        self.lent_count -= 1;
        let buffer = &mut self.buffers[received.buffer as usize];
        assert_eq!(buffer.len(), received.size as usize, "each buffer is released once");
        buffer.clear();
        self.free.push(received.buffer);
    }

    fn waker(&self) -> SimWaker {
        self.waker.clone()
    }

    fn export(&mut self, token: Token) -> Option<SimSocket> {
        let mut world = self.world.borrow_mut();
        let dropped = Arc::clone(&world.dropped);
        let table = &mut world.bases[self.index].kinds[token.kind() as usize];
        let place = table.get_mut(token.index() as usize)?;
        let found = place.as_ref()?;
        if found.token != token || found.receive.is_some() || found.send.is_some() {
            return None;
        }
        let connection = place.take()?.connection;
        world.connections[connection].place = None;
        Some(SimSocket { connection, dropped: Some(dropped) })
    }
}

/// What `wait` finds.
impl SimBase {
    fn accept_some(&mut self, world: &mut World, events: &mut Vec<Event<SimSocket>>) {
        for index in 0..world.bases[self.index].listeners.len() {
            let fails = {
                let rate = world.plan.network.accept_fails_pm;
                world.strikes(rate)
            };
            let dropped = Arc::clone(&world.dropped);
            let found = &mut world.bases[self.index].listeners[index];
            let token = found.token;
            if found.accepting && fails && !found.waiting.is_empty() && !found.closing {
                found.accepting = false;
                let end = AcceptEnd::Failed(SocketError::TooManyFiles);
                events.push(Event::AcceptEnd { listener: token, end });
                continue;
            }
            if found.accepting && !found.closing {
                for connection in found.waiting.drain(..) {
                    let dropped = Some(Arc::clone(&dropped));
                    let socket = SimSocket { connection, dropped };
                    events.push(Event::Accepted { listener: token, socket });
                }
            }
            if (found.stopping || found.closing) && found.accepting {
                found.accepting = false;
                events.push(Event::AcceptEnd { listener: token, end: AcceptEnd::Stopped });
            }
            found.stopping = false;
            if found.closing && !found.closed {
                found.closed = true;
                events.push(Event::Closed(token));
                for connection in mem::take(&mut found.waiting) {
                    world.reset(connection);
                }
            }
        }
    }

    /// Tells what there is of one connection. Returns whether there may be more.
    fn tell(
        &mut self,
        world: &mut World,
        kind: u8,
        slot: u32,
        events: &mut Vec<Event<SimSocket>>,
    ) -> bool {
        let place = &mut world.bases[self.index].kinds[kind as usize][slot as usize];
        let Some(mut found) = place.take() else { return false };
        let now = world.now;
        if let Some((at, error)) = found.connecting
            && at <= now
        {
            found.connecting = None;
            world.bases[self.index].operations_count -= 1;
            let closing = found.closing.is_some();
            let told = if closing { Some(error.unwrap_or(SocketError::Cancelled)) } else { error };
            found.connected = told.is_none();
            world.note("connected", found.connection as u64, u64::from(found.connected));
            events.push(match told {
                None => Event::Connected(found.token),
                Some(error) => Event::ConnectFailed(found.token, error),
            });
            if found.connected {
                let rate = world.plan.network.reset_on_connect_pm;
                if world.strikes(rate) {
                    let at = world.now + world.latency();
                    world.schedule(at, Happening::Reset(found.connection));
                }
            }
        }
        let sends_first = world.random.chance(500);
        if sends_first {
            self.tell_send(world, &mut found, events);
        }
        let more = self.tell_receive(world, &mut found, events);
        if !sends_first {
            self.tell_send(world, &mut found, events);
        }
        let idle = found.connecting.is_none() && found.receive.is_none() && found.send.is_none();
        if idle && found.closing.is_some_and(|at| at <= now) {
            world.note("closed", found.connection as u64, found.token.to_bits());
            world.connections[found.connection].place = None;
            if world.plan.canary == Some(Canary::ClosedLost) {
                world.canary_count += 1;
                if world.canary_count.is_multiple_of(17) {
                    return false;
                }
            }
            events.push(Event::Closed(found.token));
            return false;
        }
        world.bases[self.index].kinds[kind as usize][slot as usize] = Some(found);
        more
    }

    fn tell_send(
        &mut self,
        world: &mut World,
        found: &mut Registration,
        events: &mut Vec<Event<SimSocket>>,
    ) {
        let due = |op: &SendOp| op.over.is_some_and(|(at, _)| at <= world.now);
        let Some(op) = found.send.take_if(|op| due(op)) else { return };
        world.bases[self.index].operations_count -= 1;
        match op.over.and_then(|(_, error)| error) {
            None => events.push(Event::Sent(found.token, op.chain)),
            Some(error) => events.push(Event::SendFailed(found.token, op.chain, error)),
        }
    }

    /// Tells what was received. Returns whether there is more to come at once.
    fn tell_receive(
        &mut self,
        world: &mut World,
        found: &mut Registration,
        events: &mut Vec<Event<SimSocket>>,
    ) -> bool {
        let Some(mut op) = found.receive.take() else { return false };
        let now = world.now;
        let connection = found.connection;
        if found.closing.is_some() {
            let end = world.random.pick(&[
                RecvEnd::Stopped,
                RecvEnd::Error(SocketError::Cancelled),
                RecvEnd::Eof,
            ]);
            return self.end_receive(world, found, end, events);
        }
        if world.connections[connection].reset {
            let end = RecvEnd::Error(SocketError::ConnectionReset);
            return self.end_receive(world, found, end, events);
        }
        let chunks_max = world.random.between(1, 3);
        for _ in 0..chunks_max {
            let arrived = world.connections[connection].up.arrived(now);
            if arrived == 0 || op.credit == 0 {
                break;
            }
            let max = arrived.min(world.plan.network.buffer_size);
            let cut_pm = world.plan.network.cut_pm;
            let size = match world.random.chance(cut_pm) {
                true => world.random.skewed(max as u64) as usize,
                false => max,
            };
            let mut bytes = Vec::new();
            world.connections[connection].up.read(now, size, &mut bytes);
            world.note("received", connection as u64, bytes.len() as u64);
            op.credit = op.credit.saturating_sub(bytes.len());
            let received = self.lend(bytes);
            events.push(Event::Received(found.token, received));
        }
        let pipe = &world.connections[connection].up;
        if op.credit == 0 {
            let lost = world.plan.canary == Some(Canary::CreditLost);
            if lost {
                found.receive = Some(op);
                return false;
            }
            return self.end_receive(world, found, RecvEnd::Credit, events);
        }
        if op.stopping {
            return self.end_receive(world, found, RecvEnd::Stopped, events);
        }
        if pipe.is_at_end(now) {
            return self.end_receive(world, found, RecvEnd::Eof, events);
        }
        let more = pipe.arrived(now) > 0;
        found.receive = Some(op);
        more
    }

    fn end_receive(
        &mut self,
        world: &mut World,
        found: &Registration,
        end: RecvEnd,
        events: &mut Vec<Event<SimSocket>>,
    ) -> bool {
        world.note("receive ends", found.connection as u64, 0);
        world.tell(|| format!("{:?} {end:?}", found.token));
        world.bases[self.index].operations_count -= 1;
        events.push(Event::RecvEnd(found.token, end));
        found.closing.is_some()
    }

    /// Planted bugs of an event base.
    fn disturb(&mut self, world: &mut World, events: &mut Vec<Event<SimSocket>>) {
        let Some(canary) = world.plan.canary else { return };
        if let Some(token) = self.told_again.take() {
            events.push(Event::Sent(token, Chain::new()));
        }
        let chunks: Vec<usize> = (0..events.len())
            .filter(|at| match (&events[*at], canary) {
                (Event::Received(token, _), Canary::ReceivedSwapped) => {
                    token.kind() == Kind::Server
                }
                (Event::Received(..), Canary::ReceivedLost | Canary::ReceivedTwice) => true,
                (Event::Sent(..), Canary::SentTwice) => true,
                _ => false,
            })
            .collect();
        if chunks.is_empty() {
            return;
        }
        world.canary_count += 1;
        match canary {
            Canary::ReceivedSwapped if chunks.len() >= 2 => {
                let (first, second) = (chunks[0], chunks[1]);
                let tokens = [first, second].map(|at| match &events[at] {
                    Event::Received(token, received) => (*token, *received),
                    _ => unreachable!("chosen above"),
                });
                events[first] = Event::Received(tokens[0].0, tokens[1].1);
                events[second] = Event::Received(tokens[1].0, tokens[0].1);
            }
            Canary::ReceivedLost if world.canary_count.is_multiple_of(29) => {
                if let Event::Received(_, received) = events.remove(chunks[0]) {
                    self.release(received);
                }
            }
            Canary::ReceivedTwice if world.canary_count.is_multiple_of(29) => {
                if let Event::Received(token, received) = events[chunks[0]] {
                    let copy = self.bytes(received).to_vec();
                    let again = self.lend(copy);
                    events.insert(chunks[0] + 1, Event::Received(token, again));
                }
            }
            Canary::SentTwice if world.canary_count.is_multiple_of(5) => {
                if let Event::Sent(token, _) = events[chunks[0]] {
                    self.told_again = Some(token);
                }
            }
            _ => {}
        }
    }
}

/// The server that an address means.
fn server_of(address: &Address) -> usize {
    match address {
        Address::Inet(address) => usize::from(address.port() - crate::plan::PORT_MIN),
        Address::Unix(_) => unreachable!("the plan has internet addresses only"),
    }
}
