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
use std::sync::{Arc, Mutex};

use base::{Address, Chain, Kind, RecvEnd, SocketError, Time, Token};
use event::{AcceptEnd, Event, EventBase, ReceiveBuffers, Received};

use crate::canary::Canary;
use crate::plan::{Destination, destination};
use crate::registered::{Listener, ReceiveOp, Registration, SendOp, SimWaker};
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
    pub fn listening(place: usize) -> SimSocket {
        SimSocket { connection: place, dropped: None }
    }

    /// The proxy's end of a connection. Dropping it closes it.
    pub fn connected(world: &World, connection: usize) -> SimSocket {
        SimSocket { connection, dropped: Some(Arc::clone(&world.dropped)) }
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.lock().expect("one thread").push(self.connection);
        }
    }
}

/// Whether a connection may have more to tell, now and without that anything happens.
enum More {
    Nothing,
    Something,
    /// Bytes, for which there was no buffer.
    Starved,
}

/// The event base of one worker.
pub struct SimBase {
    world: Rc<RefCell<World>>,
    index: usize,
    waker: SimWaker,
    client_buffers: ReceiveBuffers,
    server_buffers: ReceiveBuffers,
    buffers: Vec<Buffer>,
    free: Vec<u32>,
    /// Buffers that were not given back, by kind.
    lent_count: [usize; Kind::COUNT],
    /// A planted bug: the send of this connection will be told a second time.
    told_again: Option<Token>,
}

struct Buffer {
    kind: Kind,
    bytes: Vec<u8>,
}

impl SimBase {
    /// The event base of the worker of this index, with the receive buffers of the plan.
    pub fn new(world: Rc<RefCell<World>>, index: usize) -> SimBase {
        let network = world.borrow().plan.network.clone();
        let buffers = ReceiveBuffers { count: network.buffers_count, size: network.buffer_size };
        SimBase::with_buffers(world, index, buffers, buffers)
    }

    /// With these receive buffers.
    pub fn with_buffers(
        world: Rc<RefCell<World>>,
        index: usize,
        client_buffers: ReceiveBuffers,
        server_buffers: ReceiveBuffers,
    ) -> SimBase {
        let waker = world.borrow().bases[index].woken.clone();
        SimBase {
            world,
            index,
            waker,
            client_buffers,
            server_buffers,
            buffers: Vec::new(),
            free: Vec::new(),
            lent_count: [0; Kind::COUNT],
            told_again: None,
        }
    }

    /// The buffers for connections of a kind.
    fn buffers_of(&self, kind: Kind) -> ReceiveBuffers {
        match kind {
            Kind::Client => self.client_buffers,
            Kind::Server | Kind::Listener => self.server_buffers,
        }
    }

    fn lend(&mut self, kind: Kind, bytes: Vec<u8>) -> Received {
        self.lent_count[kind as usize] += 1;
        let size = bytes.len() as u32;
        let filled = Buffer { kind, bytes };
        let buffer = match self.free.pop() {
            Some(buffer) => {
                self.buffers[buffer as usize] = filled;
                buffer
            }
            None => {
                self.buffers.push(filled);
                self.buffers.len() as u32 - 1
            }
        };
        Received { buffer, offset: 0, size }
    }

    /// Runs `act` on a registration that is not being closed. Of any other nothing is done.
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
            world.fail_if_strict(|| format!("{what} on {token:?}, which is not registered"));
            return None;
        };
        let result = if registration.token != token {
            world.fail_if_strict(|| format!("{what} on the stale {token:?}"));
            None
        } else if registration.closing.is_some() {
            world.fail_if_strict(|| format!("{what} on {token:?}, which is being closed"));
            None
        } else {
            Some(act(&mut world, &mut registration))
        };
        world.bases[self.index].kinds[kind as usize][slot as usize] = Some(registration);
        result
    }

    /// Takes the slot of the token. `false` when it is in use.
    fn register(&self, world: &mut World, token: Token, connection: usize) -> bool {
        let slot = token.index() as usize;
        let used = world.bases[self.index].kinds[token.kind() as usize].len();
        if slot > used {
            world.fail_if_strict(|| format!("{token:?} leaves a gap in the table"));
        }
        let table = &mut world.bases[self.index].kinds[token.kind() as usize];
        table.resize_with(used.max(slot + 1), || None);
        if table[slot].is_some() {
            world.fail(format!("{token:?} takes a slot that is in use"));
            return false;
        }
        table[slot] = Some(Registration {
            token,
            connection,
            connecting: None,
            connected: true,
            receive: None,
            send: None,
            closing: None,
            listed: false,
            opened_in: None,
        });
        world.connections[connection].place = Some((self.index, token.kind() as u8, token.index()));
        world.connections[connection].accepted = true;
        true
    }

    fn on_listener(&self, token: Token, what: &str, act: impl FnOnce(&mut World, &mut Listener)) {
        let mut world = self.world.borrow_mut();
        if world.bases[self.index].listener(token).is_none() {
            world.fail_if_strict(|| format!("{what} on {token:?}, which does not listen"));
            return;
        }
        let slot = token.index() as usize;
        let found = world.bases[self.index].listeners[slot].take();
        let mut found = found.expect("it was found above");
        act(&mut world, &mut found);
        world.bases[self.index].listeners[slot] = Some(found);
    }
}

impl EventBase for SimBase {
    type Socket = SimSocket;
    type Waker = SimWaker;

    fn now(&self) -> Time {
        Time::from_ns(self.world.borrow().now)
    }

    fn listen(&mut self, listener: Token, socket: SimSocket) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let place = socket.connection;
        let waiting = world.unregistered.remove(&place).unwrap_or_default();
        let table = &mut world.bases[self.index].listeners;
        let slot = listener.index() as usize;
        table.resize_with(table.len().max(slot + 1), || None);
        if table[slot].is_some() {
            world.fail(format!("{listener:?} takes a slot that is in use"));
            return Ok(());
        }
        table[slot] = Some(Listener {
            token: listener,
            place,
            accepting: false,
            stopping: false,
            closing: false,
            waiting,
        });
        Ok(())
    }

    fn accept_start(&mut self, listener: Token) {
        self.on_listener(listener, "accept_start", |world, found| {
            if mem::replace(&mut found.accepting, true) {
                world.fail(format!("{listener:?} accepts twice"));
            }
        });
    }

    fn accept_stop(&mut self, listener: Token) {
        self.on_listener(listener, "accept_stop", |_, found| found.stopping = found.accepting);
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
        let connection = world.add(Peer::Nobody);
        if !self.register(&mut world, token, connection) {
            return;
        }
        world.note("connect", connection as u64, token.to_bits());
        world.bases[self.index].operations_count += 1;
        let mut opened_in = None;
        if let Some(Destination::Server(server)) = destination(address) {
            let ejection = world.bases[self.index].ejections.get(server).copied();
            let ejection = ejection.unwrap_or_default();
            if ejection.until > world.now {
                world.fail(format!("a connection to server {server}, which is ejected"));
            }
            opened_in = ejection.is_out.then_some(ejection.count);
        }
        let outcome = world.dial(connection, address);
        let (kind, slot) = (token.kind() as u8, token.index());
        let found = world.bases[self.index].registration(kind, slot);
        let found = found.expect("it was registered above");
        found.opened_in = opened_in;
        found.connected = false;
        found.connecting = Some(outcome);
        if outcome.0 < u64::MAX {
            world.schedule(outcome.0, Happening::Due(self.index, kind, slot));
        }
    }

    fn recv_start(&mut self, token: Token, credit: usize) {
        let started = self.on(token, "recv_start", |world, registration| {
            if registration.receive.is_some() {
                world.fail(format!("a second receive on {token:?}"));
            }
            if credit == 0 {
                world.fail(format!("a receive of nothing on {token:?}"));
            }
            if !registration.connected {
                world.fail(format!("a receive on {token:?} before it is connected"));
            }
            registration.receive = Some(ReceiveOp { credit, stopping: false });
        });
        if started.is_some() {
            let base = &mut self.world.borrow_mut().bases[self.index];
            base.operations_count += 1;
            base.touch(token.kind() as u8, token.index());
        }
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
            if !registration.connected {
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
            if let Some(count) = registration.opened_in {
                world.watch_probe(self.index, registration.connection, count, &bytes);
            }
            registration.send = Some(SendOp { chain, bytes, position: 0, over: None });
            registration.connection
        });
        let Some(connection) = connection else { return };
        let mut world = self.world.borrow_mut();
        world.bases[self.index].operations_count += 1;
        if world.bases[self.index].sends.contains(&token) {
            world.fail(format!("two sends on {token:?} in one turn"));
        }
        world.bases[self.index].sends.push(token);
        world.pump(connection);
    }

    fn close(&mut self, token: Token) {
        let mut world = self.world.borrow_mut();
        if token.kind() == Kind::Listener {
            let base = &mut world.bases[self.index];
            let place = base.listeners.get_mut(token.index() as usize).and_then(Option::as_mut);
            match place.filter(|found| found.token == token) {
                Some(found) => found.closing = true,
                None => world.fail_if_strict(|| format!("close on the stale {token:?}")),
            }
            return;
        }
        let now = world.now;
        let late = {
            let max = world.plan.network.close_delay_us;
            world.random.below(max + 1) * US
        };
        let slot = token.index();
        let found = world.bases[self.index].registration(token.kind() as u8, slot);
        let Some(registration) = found.filter(|found| found.token == token) else {
            world.fail_if_strict(|| format!("close on the stale {token:?}"));
            return;
        };
        if registration.closing.is_some() {
            return;
        }
        registration.closing = Some(now + late);
        if let Some(outcome) = &mut registration.connecting
            && outcome.0 > now
        {
            *outcome = (now, Some(SocketError::Cancelled));
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
        _wanted: usize,
        deadline: Option<Time>,
        events: &mut Vec<Event<SimSocket>>,
    ) -> io::Result<()> {
        let shared = Rc::clone(&self.world);
        let mut world = shared.borrow_mut();
        let lent_count: usize = self.lent_count.iter().sum();
        if lent_count > 0 {
            world.fail(format!("{lent_count} receive buffers were not released"));
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
        let woken = self.waker.take();
        let lost = woken && world.plan.canary == Some(Canary::WakeLost) && {
            world.canary_count += 1;
            world.canary_count.is_multiple_of(3)
        };
        if (woken && !lost) || spurious {
            world.bases[self.index].foreign_wakes_count += usize::from(!woken);
            events.push(Event::Woken);
        }
        self.accept_some(&mut world, events);
        self.tell_listed(&mut world, events);
        self.disturb(&mut world, events);
        world.bases[self.index].events_count = events.len() - before;
        Ok(())
    }

    fn bytes(&self, received: Received) -> &[u8] {
        &self.buffers[received.buffer as usize].bytes[..received.size as usize]
    }

    fn release(&mut self, received: Received) {
        let buffer = &mut self.buffers[received.buffer as usize];
        assert_eq!(buffer.bytes.len(), received.size as usize, "each buffer is released once");
        buffer.bytes.clear();
        self.lent_count[buffer.kind as usize] -= 1;
        self.free.push(received.buffer);
    }

    fn waker(&self) -> SimWaker {
        self.waker.clone()
    }

    fn export(&mut self, token: Token) -> Option<SimSocket> {
        let mut world = self.world.borrow_mut();
        if token.kind() == Kind::Listener {
            let place = world.bases[self.index].listeners.get_mut(token.index() as usize)?;
            let is_quiet = |found: &Listener| !found.accepting && !found.closing;
            let found = place.take_if(|found| found.token == token && is_quiet(found))?;
            world.unregistered.insert(found.place, found.waiting);
            return Some(SimSocket::listening(found.place));
        }
        let table = &mut world.bases[self.index].kinds[token.kind() as usize];
        let place = table.get_mut(token.index() as usize)?;
        let is_idle = |found: &mut Registration| found.token == token && found.is_idle();
        let connection =
            place.take_if(|found| is_idle(found) && found.closing.is_none())?.connection;
        world.connections[connection].place = None;
        Some(SimSocket::connected(&world, connection))
    }
}

/// As when a process ends: every socket is closed, whatever is under way.
impl Drop for SimBase {
    fn drop(&mut self) {
        // It is in use only while a panic unwinds.
        let Ok(mut world) = self.world.try_borrow_mut() else { return };
        let state = mem::take(&mut world.bases[self.index]);
        for found in state.kinds.into_iter().flatten().flatten() {
            world.connections[found.connection].place = None;
            if found.closing.is_none() {
                world.proxy_close(found.connection);
            }
        }
        for connection in state.listeners.into_iter().flatten().flat_map(|found| found.waiting) {
            world.reset(connection);
        }
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
            let place = &mut world.bases[self.index].listeners[index];
            let Some(mut found) = place.take() else { continue };
            let token = found.token;
            if found.accepting && fails && !found.waiting.is_empty() && !found.closing {
                found.accepting = false;
                let end = AcceptEnd::Failed(SocketError::TooManyFiles);
                events.push(Event::AcceptEnd { listener: token, end });
            }
            if found.accepting && !found.closing {
                for connection in found.waiting.drain(..) {
                    let socket = SimSocket::connected(world, connection);
                    events.push(Event::Accepted { listener: token, socket });
                }
            }
            if (found.stopping || found.closing) && found.accepting {
                found.accepting = false;
                events.push(Event::AcceptEnd { listener: token, end: AcceptEnd::Stopped });
            }
            found.stopping = false;
            if found.closing {
                for connection in found.waiting {
                    let socket = SimSocket::connected(world, connection);
                    events.push(Event::Accepted { listener: token, socket });
                }
                events.push(Event::Closed(token));
            } else {
                world.bases[self.index].listeners[index] = Some(found);
            }
        }
    }

    /// Tells what there is of connections: first of those that found no buffer in the last turn.
    fn tell_listed(&mut self, world: &mut World, events: &mut Vec<Event<SimSocket>>) {
        let starved = mem::take(&mut world.bases[self.index].starved);
        let mut listed = mem::take(&mut world.bases[self.index].listed);
        world.random.shuffle(&mut listed);
        let starve_pm = world.plan.network.starve_pm;
        for (kind, slot) in starved.into_iter().chain(listed) {
            let passed_over = world.random.chance(starve_pm);
            if let Some(found) = world.bases[self.index].registration(kind, slot) {
                found.listed = false;
            }
            let more = match passed_over {
                true => More::Something,
                false => self.tell(world, kind, slot, events),
            };
            let base = &mut world.bases[self.index];
            match more {
                More::Nothing => {}
                More::Something => base.touch(kind, slot),
                More::Starved => {
                    base.starved_count += 1;
                    if base.list(kind, slot) {
                        base.starved.push((kind, slot));
                    }
                }
            }
        }
    }

    /// Tells what there is of one connection.
    fn tell(
        &mut self,
        world: &mut World,
        kind: u8,
        slot: u32,
        events: &mut Vec<Event<SimSocket>>,
    ) -> More {
        let place = &mut world.bases[self.index].kinds[kind as usize][slot as usize];
        let Some(mut found) = place.take() else { return More::Nothing };
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
        if found.is_idle() && found.closing.is_some_and(|at| at <= now) {
            world.note("closed", found.connection as u64, found.token.to_bits());
            world.connections[found.connection].place = None;
            if world.plan.canary == Some(Canary::ClosedLost) {
                world.canary_count += 1;
                if world.canary_count.is_multiple_of(17) {
                    return More::Nothing;
                }
            }
            events.push(Event::Closed(found.token));
            return More::Nothing;
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

    /// Tells what was received.
    fn tell_receive(
        &mut self,
        world: &mut World,
        found: &mut Registration,
        events: &mut Vec<Event<SimSocket>>,
    ) -> More {
        let Some(mut op) = found.receive.take() else { return More::Nothing };
        let now = world.now;
        let connection = found.connection;
        if found.closing.is_some() {
            let end = match &world.connections[connection] {
                broken if broken.reset => RecvEnd::Error(SocketError::ConnectionReset),
                ended if ended.up.is_at_end(now) => RecvEnd::Eof,
                _ => RecvEnd::Stopped,
            };
            // A receive that was under way may have found it out before the call, or not.
            let end = world.random.pick(&[RecvEnd::Stopped, end]);
            return self.end_receive(world, found, end, events);
        }
        if world.connections[connection].reset {
            let end = RecvEnd::Error(SocketError::ConnectionReset);
            return self.end_receive(world, found, end, events);
        }
        let is_starved = self.tell_received(world, found, &mut op, events);
        let pipe = &world.connections[connection].up;
        if op.credit == 0 {
            let lost = world.plan.canary == Some(Canary::CreditLost);
            if lost {
                found.receive = Some(op);
                return More::Nothing;
            }
            return self.end_receive(world, found, RecvEnd::Credit, events);
        }
        if op.stopping {
            return self.end_receive(world, found, RecvEnd::Stopped, events);
        }
        if pipe.is_at_end(now) {
            return self.end_receive(world, found, RecvEnd::Eof, events);
        }
        let has_more = pipe.arrived(now) > 0;
        found.receive = Some(op);
        match (has_more, is_starved) {
            (_, true) => More::Starved,
            (true, false) => More::Something,
            (false, false) => More::Nothing,
        }
    }

    /// Tells the bytes that have arrived, in up to three pieces. `true` when a buffer was missing.
    fn tell_received(
        &mut self,
        world: &mut World,
        found: &Registration,
        op: &mut ReceiveOp,
        events: &mut Vec<Event<SimSocket>>,
    ) -> bool {
        let (kind, buffers) = (found.token.kind(), self.buffers_of(found.token.kind()));
        let connection = found.connection;
        let chunks_max = world.random.between(1, 3);
        for _ in 0..chunks_max {
            let arrived = world.connections[connection].up.arrived(world.now);
            if arrived == 0 || op.credit == 0 {
                break;
            }
            if self.lent_count[kind as usize] >= usize::from(buffers.count) {
                return true;
            }
            let max = arrived.min(buffers.size as usize);
            let cut_pm = world.plan.network.cut_pm;
            let size = match world.random.chance(cut_pm) {
                true => world.random.skewed(max as u64) as usize,
                false => max,
            };
            let mut bytes = Vec::new();
            world.connections[connection].up.read(world.now, size, &mut bytes);
            world.note("received", connection as u64, bytes.len() as u64);
            op.credit = op.credit.saturating_sub(bytes.len());
            let received = self.lend(kind, bytes);
            events.push(Event::Received(found.token, received));
        }
        false
    }

    fn end_receive(
        &mut self,
        world: &mut World,
        found: &Registration,
        end: RecvEnd,
        events: &mut Vec<Event<SimSocket>>,
    ) -> More {
        world.note("receive ends", found.connection as u64, 0);
        world.tell(|| format!("{:?} {end:?}", found.token));
        world.bases[self.index].operations_count -= 1;
        events.push(Event::RecvEnd(found.token, end));
        More::Nothing
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
                    let again = self.lend(token.kind(), copy);
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
