//! The conformance suite of event bases on the simulated one: in a world where nothing is in the
//! way, and in one that takes every freedom that the contract leaves.
//!
//! [`SimBase`] never waits: it tells what there is. [`Waiting`] is the wait around it: it lets the
//! virtual time pass until there is something to tell or the deadline has come. Invariant: a world
//! that has noted a failure ends the case.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::thread::{self, Thread};

use base::{Address, Chain, Time, Token};
use event::conformance::{BaseOptions, Harness, Peer};
use event::{Event, EventBase, Received, Waker};
use sim::Plan;
use sim::base::{SimBase, SimSocket};
use sim::plan::{NetworkPlan, place_of, pool_address};
use sim::registered::SimWaker;
use sim::world::{self, Happening, US, World};

event::conformance_suite!(calm, SimHarness::new(1, calm_network()));
event::conformance_suite!(unruly, SimHarness::new(1, unruly_network()));
event::conformance_suite!(unruly_2, SimHarness::new(2, unruly_network()));
event::conformance_suite!(unruly_3, SimHarness::new(3, unruly_network()));

/// Bytes between two ends. The suite writes 200,000 before it reads any.
const CAPACITY: usize = 200_000;
/// The same where a case wants as few as possible. Some wait two turns for so many each, and
/// have 4 MiB to send in a few thousand turns.
const SMALL_CAPACITY: usize = 4096;

/// Everything arrives at once and whole.
fn calm_network() -> NetworkPlan {
    NetworkPlan { capacity: CAPACITY, ..NetworkPlan::default() }
}

/// Streams are cut and delayed, connections passed over, ends told late, wakers called by
/// strangers, and waits end for no reason. Nothing here breaks a connection: that would be against
/// the contract.
fn unruly_network() -> NetworkPlan {
    NetworkPlan {
        latency_us_max: 2_000,
        cut_pm: 500,
        starve_pm: 100,
        spurious_wake_pm: 50,
        close_delay_us: 20_000,
        ..calm_network()
    }
}

/// One world, in which a case makes its event bases and peers.
struct SimHarness {
    world: Rc<RefCell<World>>,
    places_count: Cell<usize>,
}

impl SimHarness {
    fn new(seed: u64, network: NetworkPlan) -> SimHarness {
        let plan = Plan { workers_count: 0, network, ..Plan::draw(seed) };
        let mut world = World::new(plan, false);
        // The cases do on purpose what a worker has no reason to do.
        world.is_strict = false;
        SimHarness { world: Rc::new(RefCell::new(world)), places_count: Cell::new(0) }
    }

    /// A connection to a client that only does what the case says.
    fn peer(&self, world: &mut World) -> SimPeer {
        let connection = world.add(world::Peer::Client(0));
        SimPeer { world: Rc::clone(&self.world), connection }
    }

    fn new_place(&self) -> usize {
        self.places_count.set(self.places_count.get() + 1);
        self.places_count.get() - 1
    }
}

impl Harness for SimHarness {
    type Base = Waiting;
    type Peer = SimPeer;

    fn base(&self, options: BaseOptions) -> Waiting {
        let BaseOptions { client_buffers, server_buffers } = options;
        let index = self.world.borrow_mut().add_base();
        let world = Rc::clone(&self.world);
        let base = SimBase::with_buffers(Rc::clone(&world), index, client_buffers, server_buffers);
        Waiting { base, world, index, thread: thread::current() }
    }

    fn pair(&self, small_buffers: bool) -> (SimSocket, SimPeer) {
        let mut world = self.world.borrow_mut();
        let peer = self.peer(&mut world);
        if small_buffers {
            world.connections[peer.connection].capacity = SMALL_CAPACITY;
        }
        (SimSocket::connected(&world, peer.connection), peer)
    }

    fn listener(&self) -> (SimSocket, Address) {
        let place = self.new_place();
        self.world.borrow_mut().unregistered.insert(place, Vec::new());
        (SimSocket::listening(place), pool_address(place))
    }

    fn dial(&self, address: &Address) -> SimPeer {
        let mut world = self.world.borrow_mut();
        let peer = self.peer(&mut world);
        let place = place_of(address);
        let at = world.now + world.latency();
        world.schedule(at, Happening::Arrives { place, connection: peer.connection });
        peer
    }

    fn nowhere(&self) -> Address {
        pool_address(self.new_place())
    }

    fn starved(&self, base: &Waiting) -> u64 {
        self.world.borrow().bases[base.index].starved_count
    }

    fn foreign_wakes(&self, base: &Waiting) -> usize {
        self.world.borrow().bases[base.index].foreign_wakes_count
    }
}

/// The other end of a connection.
struct SimPeer {
    world: Rc<RefCell<World>>,
    connection: usize,
}

impl Peer for SimPeer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        world.close_dropped();
        let state = &world.connections[self.connection];
        if state.reset || state.closed_at.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let size = state.capacity.saturating_sub(state.up.size).min(bytes.len());
        if size == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        world.peer_send(self.connection, &bytes[..size], 0);
        Ok(size)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        world.close_dropped();
        let reading = world.peer_read(self.connection, into.len());
        if reading.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if reading.bytes.is_empty() && !reading.end {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into[..reading.bytes.len()].copy_from_slice(&reading.bytes);
        Ok(reading.bytes.len())
    }

    fn end(&mut self) {
        self.world.borrow_mut().peer_end(self.connection, 0);
    }

    fn reset(self) {
        self.world.borrow_mut().reset(self.connection);
    }
}

impl Drop for SimPeer {
    fn drop(&mut self) {
        self.world.borrow_mut().peer_close(self.connection);
    }
}

/// A simulated event base whose `wait` waits.
struct Waiting {
    base: SimBase,
    world: Rc<RefCell<World>>,
    index: usize,
    thread: Thread,
}

impl Waiting {
    /// Lets everything happen until then.
    fn pass(&self, until: u64) {
        let mut world = self.world.borrow_mut();
        world.close_dropped();
        while let Some(at) = world.next_at().filter(|at| *at <= until) {
            world.now = world.now.max(at);
            let happening = world.pop().expect("it is due");
            world.handle(happening);
        }
        world.now = world.now.max(until);
    }

    /// What a turn takes. The suite counts turns where something must not wait for others, so what
    /// was written before a turn has arrived after it: five bytes, each with its own delay.
    fn turn_ns(&self) -> u64 {
        let mut world = self.world.borrow_mut();
        let own = world.random.below(30) * US;
        own + 5 * world.plan.network.latency_us_max * US
    }

    /// When `wait` looks again. `None` when only another thread can bring something.
    fn next_look(&self, deadline: Option<u64>) -> Option<u64> {
        let world = self.world.borrow();
        if world.bases[self.index].has_work() {
            return Some(world.now);
        }
        [world.next_at(), deadline].into_iter().flatten().min()
    }

    fn ends_for_no_reason(&self) -> bool {
        let mut world = self.world.borrow_mut();
        let rate = world.plan.network.spurious_wake_pm;
        world.random.chance(rate)
    }
}

impl EventBase for Waiting {
    type Socket = SimSocket;
    type Waker = WaitingWaker;

    fn now(&self) -> Time {
        self.base.now()
    }

    fn listen(&mut self, listener: Token, socket: SimSocket) -> io::Result<()> {
        self.base.listen(listener, socket)
    }

    fn accept_start(&mut self, listener: Token) {
        self.base.accept_start(listener);
    }

    fn accept_stop(&mut self, listener: Token) {
        self.base.accept_stop(listener);
    }

    fn adopt(&mut self, connection: Token, socket: SimSocket) -> io::Result<()> {
        self.base.adopt(connection, socket)
    }

    fn connect(&mut self, connection: Token, address: &Address) {
        self.base.connect(connection, address);
    }

    fn recv_start(&mut self, connection: Token, credit: usize) {
        self.base.recv_start(connection, credit);
    }

    fn recv_stop(&mut self, connection: Token) {
        self.base.recv_stop(connection);
    }

    fn send(&mut self, connection: Token, chain: Chain) {
        self.base.send(connection, chain);
    }

    fn close(&mut self, token: Token) {
        self.base.close(token);
    }

    fn wait(
        &mut self,
        wanted: usize,
        deadline: Option<Time>,
        events: &mut Vec<Event<SimSocket>>,
    ) -> io::Result<()> {
        let deadline_ns = deadline.map(Time::as_ns);
        loop {
            let now = self.world.borrow().now;
            self.pass(now);
            self.base.wait(wanted, deadline, events)?;
            assert_eq!(self.world.borrow().failure, None);
            if !events.is_empty() {
                let until = now + self.turn_ns();
                self.pass(until);
                return Ok(());
            }
            if deadline_ns.is_some_and(|at| at <= now) || self.ends_for_no_reason() {
                return Ok(());
            }
            match self.next_look(deadline_ns) {
                Some(at) => self.pass(at),
                None => thread::park(),
            }
        }
    }

    fn bytes(&self, received: Received) -> &[u8] {
        self.base.bytes(received)
    }

    fn release(&mut self, received: Received) {
        self.base.release(received);
    }

    fn waker(&self) -> WaitingWaker {
        WaitingWaker { waker: self.base.waker(), thread: self.thread.clone() }
    }

    fn export(&mut self, token: Token) -> Option<SimSocket> {
        self.base.export(token)
    }
}

/// Ends the wait of a thread that has nothing left to happen in its world.
#[derive(Clone)]
struct WaitingWaker {
    waker: SimWaker,
    thread: Thread,
}

impl Waker for WaitingWaker {
    fn wake(&self) {
        self.waker.wake();
        self.thread.unpark();
    }
}
