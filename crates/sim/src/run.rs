//! One seed from its plan to its verdict: the workers that ship, stepped in a drawn order, with the
//! checks that follow every step.
//!
//! Invariant: everything that is drawn comes from the seed, so the same seed gives the same trace.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base::{Kind, Time};
use proxy::Proxy;
use proxy::stats::ServerStats;
use runtime::balance::Balance;
use runtime::mailbox::{Mailbox, Message};
use runtime::worker::{Peers, Worker};

use crate::base::{SimBase, SimSocket};
use crate::client::ModelClient;
use crate::control::{Control, address_of};
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::server::ModelServer;
use crate::world::{Happening, MS, Peer, US, World};

/// How a seed is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunOptions {
    /// Print what happens.
    pub prints: bool,
    /// Stop after so many steps; 0 is no limit.
    pub steps_max: u64,
    /// Called with each worker's proxy before it starts; to plant a bug in it.
    pub prepare: Option<fn(&mut Proxy)>,
}

/// What became of a seed.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// What was wrong, if anything.
    pub failure: Option<String>,
    /// Steps of workers.
    pub steps_count: u64,
    /// Replies that were checked.
    pub replies_count: u64,
    /// Of which errors of the proxy.
    pub errors_count: u64,
    /// Requests that servers executed, by their keys.
    pub executed_count: u64,
    /// Virtual time.
    pub virtual_ns: u64,
    /// Of the whole trace.
    pub hash: u64,
}

/// Steps at one instant without an event after which a worker is said to be going round in circles.
const IDLE_STEPS_MAX: u32 = 100;
/// Steps of one seed, far beyond what any needs.
const STEPS_MAX: u64 = 3_000_000;
/// How long the faults last at most.
const FAULTS_NS: u64 = 60_000 * MS;
/// How long everything may take to come right: time-outs, ejections and half-sent requests.
const HEALING_NS: u64 = 80_000 * MS;

struct Stepper {
    worker: Worker<SimBase>,
    busy_until: u64,
    /// Its next `wait` has not been seen: only then is it known for what it waits.
    runs: bool,
    idle_steps_count: u32,
    stepped_at: u64,
}

struct Run {
    world: Rc<RefCell<World>>,
    workers: Vec<Stepper>,
    control: Control,
    balance: Arc<Balance>,
    servers: Vec<ModelServer>,
    clients: Vec<ModelClient>,
    oracle: Oracle,
    steps_count: u64,
    steps_max: u64,
    halted: bool,
}

/// Runs a plan.
pub fn run_plan(plan: Plan, options: RunOptions) -> Verdict {
    let mut run = Run::new(plan, options);
    run.all_phases();
    let world = run.world.borrow();
    Verdict {
        failure: world.failure.clone(),
        steps_count: run.steps_count,
        replies_count: run.oracle.checked_count,
        errors_count: run.oracle.errors_count,
        executed_count: run.oracle.executed_count,
        virtual_ns: world.now,
        hash: world.hash(),
    }
}

impl Run {
    fn new(plan: Plan, options: RunOptions) -> Run {
        let oracle = Oracle::new(&plan);
        let world = World::new(plan.clone(), options.prints);
        let servers_count = world.doors.len();
        let servers = (0..servers_count).map(|index| ModelServer::new(index, &world)).collect();
        let clients = (0..plan.client.count)
            .map(|index| ModelClient::new(index, index % plan.pools.len(), &world))
            .collect();
        let world = Rc::new(RefCell::new(world));
        let balance = Arc::new(Balance::new(plan.workers_count));
        let (workers, peers) = workers(&plan, &world, &balance, options.prepare);
        let control = Control::new(&plan, peers, Arc::clone(&balance));
        let steps_max = if options.steps_max == 0 { STEPS_MAX } else { options.steps_max };
        Run {
            world,
            workers,
            control,
            balance,
            servers,
            clients,
            oracle,
            steps_count: 0,
            steps_max,
            halted: false,
        }
    }

    fn all_phases(&mut self) {
        for client in 0..self.clients.len() {
            let mut world = self.world.borrow_mut();
            let pause = world.random.below(2 * MS);
            let at = world.now + pause;
            world.schedule(at, Happening::Client(client));
        }
        let mut world = self.world.borrow_mut();
        for index in 0..world.plan.reloads.len() {
            let at = world.plan.reloads[index].at;
            world.schedule(at, Happening::Reload(index));
        }
        if let Some(at) = world.plan.drain_at {
            world.schedule(at, Happening::Drain);
        }
        drop(world);
        let until = self.world.borrow().now + FAULTS_NS;
        self.go_on(until, |run| run.clients.iter().all(|client| client.done));
        self.heal();
        let until = self.world.borrow().now + HEALING_NS;
        self.go_on(until, |_| false);
        self.expect_done("after the faults have stopped");
        if self.world.borrow().draining {
            self.expect_quiet();
            return;
        }
        self.probe();
        let until = self.world.borrow().now + HEALING_NS;
        self.go_on(until, |run| run.clients.iter().all(|client| client.done));
        self.expect_done("after the probes");
        let until = self.world.borrow().now + 5_000 * MS;
        self.go_on(until, |_| false);
        self.expect_quiet();
    }

    fn is_over(&self) -> bool {
        self.halted || self.world.borrow().failure.is_some()
    }

    /// Faults stop.
    fn heal(&mut self) {
        if self.is_over() {
            return;
        }
        let mut world = self.world.borrow_mut();
        world.note("heal", 0, 0);
        world.healed = true;
        for server in &mut self.servers {
            server.heal(&mut world);
        }
        for client in &mut self.clients {
            client.heal(&mut world);
        }
    }

    /// New clients must find everything in order.
    fn probe(&mut self) {
        if self.is_over() {
            return;
        }
        let mut world = self.world.borrow_mut();
        for pool in 0..world.plan.pools.len() {
            if world.listens[pool].place.is_none() {
                continue;
            }
            let index = self.clients.len();
            self.clients.push(ModelClient::probe(index, pool, &world));
            world.note("probe", pool as u64, 0);
            let now = world.now;
            world.schedule(now, Happening::Client(index));
        }
    }

    fn expect_done(&mut self, when: &str) {
        if self.is_over() {
            return;
        }
        if let Some(client) = self.clients.iter().find(|client| !client.done) {
            let state = client.state();
            self.world.borrow_mut().fail(format!("no end {when}: {state}"));
        }
    }

    /// Nothing is held for anybody.
    fn expect_quiet(&mut self) {
        if self.is_over() {
            return;
        }
        let mut world = self.world.borrow_mut();
        for (index, stepper) in self.workers.iter().enumerate() {
            let proxy = stepper.worker.proxy();
            let found = [
                ("buffered bytes", proxy.buffered_bytes() as usize),
                ("clients", proxy.clients_count()),
                ("requests", proxy.requests_count()),
                ("registered clients", world.bases[index].registered_count(Kind::Client)),
            ];
            let pools = proxy.stats().pools;
            let counted: u64 = pools.iter().map(|pool| pool.client_connections).sum();
            let registered = world.bases[index].registered_count(Kind::Server);
            let connections = proxy.server_connections_count();
            for (what, count) in found.into_iter().chain([("counted clients", counted as usize)]) {
                if count != 0 {
                    world.fail(format!("worker {index} still holds {count} {what}"));
                }
            }
            let gauges = pools.iter().flat_map(|pool| &pool.servers);
            let gauged: u64 = gauges.map(|server| server.connections).sum();
            let queued = |server: &ServerStats| {
                let bytes = server.in_queue_bytes + server.out_queue_bytes;
                server.in_queue + server.out_queue + bytes
            };
            let inflight: u64 = pools.iter().flat_map(|pool| &pool.servers).map(queued).sum();
            if (gauged as usize, inflight) != (connections, 0) {
                world.fail(format!(
                    "the gauges say {gauged} server links and {inflight} requests in flight, with \
                     {connections} links and nothing asked"
                ));
            }
            let operations = world.bases[index].operations_count;
            if operations != registered {
                world.fail(format!("{operations} operations on {registered} server links"));
            }
            if registered != connections {
                world.fail(format!("{registered} registered, {connections} known server links"));
            }
        }
        let counts = self.balance.counts();
        if counts.iter().any(|count| *count != 0) {
            world.fail(format!("without a client the balance counts {counts:?}"));
        }
    }
}

fn workers(
    plan: &Plan,
    world: &Rc<RefCell<World>>,
    balance: &Arc<Balance>,
    prepare: Option<fn(&mut Proxy)>,
) -> (Vec<Stepper>, Peers<SimBase>) {
    let bases: Vec<SimBase> =
        (0..plan.workers_count).map(|index| SimBase::new(Rc::clone(world), index)).collect();
    let (peers, receivers): (Vec<_>, Vec<_>) =
        bases.iter().map(|base| Mailbox::new(event::EventBase::waker(base))).unzip();
    let now = Time::from_ns(world.borrow().now);
    let mut steppers = Vec::new();
    for (index, (base, receiver)) in bases.into_iter().zip(receivers).enumerate() {
        let options = plan.pools.iter().map(|pool| pool.options.clone()).collect();
        let mut proxy = Proxy::new(options, plan.limits, plan.seed ^ index as u64, now);
        for (pool_index, pool) in plan.pools.iter().enumerate() {
            for server in 0..pool.servers_count {
                let address = address_of(pool.server_first + server);
                proxy.set_address(pool_index, server, Some(address));
            }
        }
        if let Some(prepare) = prepare {
            prepare(&mut proxy);
        }
        proxy.begin_turn(now);
        proxy.preconnect();
        let mut worker =
            Worker::new(index, base, proxy, receiver, peers.clone(), Arc::clone(balance));
        for pool in 0..plan.pools.len() {
            worker.listen(pool, SimSocket::listening(pool)).expect("the simulation listens");
        }
        let mut world = world.borrow_mut();
        let now = world.now;
        world.schedule(now, Happening::Worker(index));
        steppers.push(Stepper {
            worker,
            busy_until: 0,
            runs: true,
            idle_steps_count: 0,
            stepped_at: 0,
        });
    }
    (steppers, peers)
}

/// The main loop.
impl Run {
    /// Lets the world go on until `until`, or until `done`.
    fn go_on(&mut self, until: u64, done: impl Fn(&Run) -> bool) {
        while !self.is_over() && !done(self) {
            self.happen();
            let stepped = self.step_workers();
            if self.is_over() || self.world.borrow().now >= until {
                return;
            }
            if !stepped && !self.advance(until) {
                return;
            }
        }
    }

    /// Moves the time to the next thing; `false` when nothing is left to wait for.
    fn advance(&mut self, until: u64) -> bool {
        let mut world = self.world.borrow_mut();
        let mut next = world.next_at();
        for (index, stepper) in self.workers.iter().enumerate() {
            let base = &world.bases[index];
            let runs = stepper.runs || base.has_work();
            let wanted = if runs { Some(world.now) } else { base.deadline };
            let at = wanted.map(|at| at.max(stepper.busy_until));
            next = [next, at].into_iter().flatten().min();
        }
        let Some(next) = next else {
            world.now = until;
            return false;
        };
        world.now = next.max(world.now).min(until.max(world.now));
        true
    }

    fn happen(&mut self) {
        let shared = Rc::clone(&self.world);
        let mut world = shared.borrow_mut();
        while let Some(happening) = world.pop() {
            match happening {
                Happening::Peer(connection) => match world.connections[connection].peer {
                    Peer::Client(client) => {
                        self.clients[client].on_arrival(connection, &mut world, &mut self.oracle);
                    }
                    Peer::Server(server) => {
                        self.servers[server].on_arrival(connection, &mut world, &mut self.oracle);
                    }
                    Peer::Twin(_) | Peer::Nobody => world.handle(happening),
                },
                Happening::Client(client) => {
                    self.clients[client].act(&mut world, &mut self.oracle);
                }
                Happening::Server(server) => self.servers[server].act(&mut world),
                Happening::Babbles(connection) => {
                    if let Peer::Server(server) = world.connections[connection].peer {
                        self.servers[server].babble(connection, &mut world, &mut self.oracle);
                    }
                }
                Happening::Reload(index) => {
                    self.control.reload(index, &mut world);
                    self.oracle.reload(&world.plan, &world.plan.reloads[index].pools);
                    world.note("reload", index as u64, 0);
                }
                Happening::Drain => {
                    self.control.send_all(|_| Message::Drain(Duration::from_secs(3600)));
                    world.draining = true;
                    world.note("drain", 0, 0);
                }
                Happening::Resolved(server, resolved) => {
                    self.control.tell_address(server, resolved, &world.plan);
                    world.note("resolved", server as u64, u64::from(resolved));
                }
                _ => world.handle(happening),
            }
            if world.failure.is_some() {
                return;
            }
        }
    }

    fn step_workers(&mut self) -> bool {
        let mut order: Vec<usize> = (0..self.workers.len()).collect();
        self.world.borrow_mut().random.shuffle(&mut order);
        let mut stepped = false;
        for index in order {
            let ready = {
                let world = self.world.borrow();
                let base = &world.bases[index];
                let due = base.deadline.is_some_and(|at| at <= world.now);
                (due || base.has_work() || self.workers[index].runs)
                    && self.workers[index].busy_until <= world.now
            };
            if ready {
                self.step(index);
                stepped = true;
            }
            if self.is_over() {
                break;
            }
        }
        stepped
    }

    fn step(&mut self, index: usize) {
        self.steps_count += 1;
        if self.steps_count > self.steps_max {
            self.halted = true;
            if self.steps_max == STEPS_MAX {
                self.world.borrow_mut().fail("the seed never ends".to_owned());
            }
            return;
        }
        let before = self.world.borrow().now;
        self.workers[index].worker.turn().expect("the simulation's wait does not fail");
        let mut world = self.world.borrow_mut();
        let stepper = &mut self.workers[index];
        let events_count = world.bases[index].events_count as u64;
        world.note("turn", index as u64, events_count);
        // Without an event and without a deadline that had come, a real `wait` would have blocked.
        let due = world.bases[index].deadline.is_some_and(|at| at <= before);
        stepper.runs = due || events_count > 0;
        if events_count == 0 && stepper.stepped_at == before {
            stepper.idle_steps_count += 1;
            if stepper.idle_steps_count > IDLE_STEPS_MAX {
                world.fail(format!("worker {index} goes round in circles"));
            }
        } else {
            stepper.idle_steps_count = 0;
            stepper.stepped_at = before;
        }
        // A turn takes its time, in which more arrives; sometimes a lot of it.
        let pause_pm = world.plan.network.pause_pm;
        stepper.busy_until = if world.strikes(pause_pm) {
            world.note("worker pauses", index as u64, 0);
            before + world.plan.network.pause_ms * MS
        } else {
            before + world.random.below(30) * US
        };
        world.close_dropped();
        drop(world);
        self.check_memory(index);
        self.check_client_limits();
        self.follow_ejections(index);
    }

    /// Works out which servers a worker may not choose, from what it says to have ejected, and
    /// whether it had a reason to take one back.
    fn follow_ejections(&mut self, index: usize) {
        let mut world = self.world.borrow_mut();
        let ejects = world.plan.pools.iter().any(|pool| pool.options.health.eject);
        // With a new configuration a server may have another index.
        if !ejects || !world.plan.reloads.is_empty() {
            return;
        }
        let stats = self.workers[index].worker.proxy().stats();
        for (pool, counted) in stats.pools.iter().enumerate() {
            let first = world.plan.pools[pool].server_first;
            for (server, counted) in counted.servers.iter().enumerate() {
                world.follow_ejection(index, pool, first + server, counted);
            }
        }
    }

    /// No pool has more clients than it may, in all workers together.
    fn check_client_limits(&mut self) {
        let mut world = self.world.borrow_mut();
        // With a new configuration a pool may have another index, and a lower limit closes nobody.
        if !world.plan.reloads.is_empty() {
            return;
        }
        for pool in 0..world.plan.pools.len() {
            let max = world.plan.pools[pool].options.client_connections_max;
            if max == 0 {
                continue;
            }
            let proxies = self.workers.iter().map(|stepper| stepper.worker.proxy());
            let count: u64 =
                proxies.map(|proxy| proxy.stats().pools[pool].client_connections).sum();
            if count > u64::from(max) {
                world.fail(format!("pool {pool} has {count} clients, at most {max} may be"));
            }
        }
    }

    /// What a worker holds stays within its limits.
    fn check_memory(&mut self, index: usize) {
        let proxy = self.workers[index].worker.proxy();
        let held = proxy.buffered_bytes();
        let counted = proxy.audit() + self.world.borrow().bases[index].sending_size();
        let mut world = self.world.borrow_mut();
        if counted as u64 != held {
            world.fail(format!("worker {index} says that it holds {held} bytes, not {counted}"));
        }
        if proxy.clients_count() > world.plan.limits.clients_max as usize {
            world.fail(format!("worker {index} has {} clients", proxy.clients_count()));
        }
        let max = memory_max(&world.plan, proxy);
        if held > max {
            world.fail(format!("worker {index} holds {held} bytes; at most {max} are right"));
        }
    }
}

/// The most that a worker may hold: its own limit, and a constant for each connection.
fn memory_max(plan: &Plan, proxy: &Proxy) -> u64 {
    // Receive buffers of one turn, replies of one turn, one large request and one large reply.
    let constant = 4 * (proxy::options::CLIENT_CREDIT as u64 + 64 * plan.client.value_size_max);
    let connections = proxy.clients_count() + proxy.server_connections_count();
    let limit = (plan.limits.buffered_bytes_max as u64).min(64 << 20);
    limit + constant * (connections as u64 + 1)
}
