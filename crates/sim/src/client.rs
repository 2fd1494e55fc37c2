//! Model clients: they ask, check every reply, and misbehave where the plan says so.
//!
//! Invariant: a client that behaves well gets exactly one right reply, or one error that the plan
//! explains, to each request, in order, and never loses its connection without a reason that the
//! plan names.

mod replies;

use std::collections::VecDeque;

use protocol::Protocol;

use crate::oracle::{Oracle, shown};
use crate::wire::{self, Cut, Version};
use crate::workload::redis::{self, hello};
use crate::workload::{Expect, Request, Tie, Writer, farewell};
use crate::world::{Happening, MS, US, World};

/// How long after a reload a worker may still accept for a pool that has gone: it reads its mailbox
/// at the end of a turn.
const NOTICE_NS: u64 = MS;

struct Sent {
    at: u64,
    expect: Expect,
    may_be_refused: bool,
    tie: Tie,
    /// It wants a connection of the client's own, or stands behind such a request.
    may_wait: bool,
    bytes_shown: Option<String>,
    /// What the reply is of.
    version: Version,
}

/// What a client does when it has asked everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Close,
    HalfClose,
    Quit,
}

/// See the module's text.
pub struct ModelClient {
    /// Index among all clients.
    pub index: usize,
    pool: usize,
    protocol: Protocol,
    connection: Option<usize>,
    /// When it dialled.
    dialled_at: u64,
    /// What is spoken behind all that was sent.
    version: Version,
    input: Vec<u8>,
    sent: VecDeque<Sent>,
    /// Requests still to be asked.
    left: usize,
    number: u64,
    ending: Ending,
    /// It has sent its last byte.
    ended: bool,
    /// It may lose its connection: it has misbehaved, or said goodbye.
    excused: bool,
    deaf: bool,
    slow: bool,
    vanishes: bool,
    depth: usize,
    /// The rest of what belongs together.
    planned: VecDeque<Request>,
    /// What it has asked for a connection of its own and not seen the end of.
    tied_count: usize,
    /// A channel of its own has been granted.
    listens: bool,
    /// It was given back, and perhaps the proxy has not been told yet that this is all.
    lingers: bool,
    /// One of these has failed, and the connection may end with it.
    may_end: bool,
    attempts_count: u32,
    /// Nothing more will happen to it.
    pub done: bool,
    acts_at: Option<u64>,
    /// Keys to be written and read after the faults.
    probes: Option<Vec<Vec<u8>>>,
}

impl ModelClient {
    /// A client of a pool.
    pub fn new(index: usize, pool: usize, world: &World) -> ModelClient {
        ModelClient {
            index,
            pool,
            protocol: world.plan.pools[pool].options.protocol,
            connection: None,
            dialled_at: 0,
            version: Version::Two,
            input: Vec::new(),
            sent: VecDeque::new(),
            left: world.plan.client.requests_count,
            number: 0,
            ending: Ending::Close,
            ended: false,
            excused: false,
            deaf: false,
            slow: false,
            vanishes: false,
            depth: 1,
            planned: VecDeque::new(),
            tied_count: 0,
            listens: false,
            lingers: false,
            may_end: false,
            attempts_count: 0,
            done: false,
            acts_at: None,
            probes: None,
        }
    }

    /// A client that writes and reads keys after the faults, and gets no error.
    pub fn probe(index: usize, pool: usize, world: &World) -> ModelClient {
        let keys: Vec<Vec<u8>> =
            (0..30).map(|number| format!("probe{number}").into_bytes()).collect();
        let mut client = ModelClient::new(index, pool, world);
        client.left = keys.len() * 2;
        client.probes = Some(keys);
        client
    }

    /// Faults stop: it asks no more, and does not wait for what it would not read.
    pub fn heal(&mut self, world: &mut World) {
        if self.done {
            return;
        }
        self.left = 0;
        if let (true, Some(connection)) = (self.deaf || self.vanishes, self.connection) {
            self.leave(connection, world);
        }
        self.act_at(world.now, world);
    }

    /// What a person should know when it does not finish.
    pub fn state(&self) -> String {
        let waiting = self.sent.front().map(|sent| (sent.at / MS, sent.bytes_shown.clone()));
        format!(
            "client {} on connection {:?}: {} waiting, the first since {waiting:?} ms, {} left, \
             ended {}, excused {}",
            self.index,
            self.connection,
            self.sent.len(),
            self.left,
            self.ended,
            self.excused
        )
    }

    fn act_at(&mut self, at: u64, world: &mut World) {
        if self.acts_at.is_none_or(|planned| planned > at || planned < world.now) {
            self.acts_at = Some(at);
            world.schedule(at, Happening::Client(self.index));
        }
    }

    /// Its time has come.
    pub fn act(&mut self, world: &mut World, oracle: &mut Oracle) {
        self.acts_at = None;
        if self.done {
            return;
        }
        let Some(connection) = self.connection else {
            self.connect(world);
            return;
        };
        if self.vanishes && world.random.chance(100) {
            self.leave(connection, world);
            return;
        }
        if self.ended {
            return;
        }
        if self.left > 0 {
            self.ask(connection, world, oracle);
        } else {
            self.finish(connection, world);
        }
    }

    fn connect(&mut self, world: &mut World) {
        if self.left == 0 || self.attempts_count > 20 || world.draining {
            self.done = true;
            return;
        }
        self.attempts_count += 1;
        let connection = world.open_client(self.index, self.pool);
        world.note("client connects", self.index as u64, connection as u64);
        (self.connection, self.dialled_at) = (Some(connection), world.now);
        self.input.clear();
        self.sent.clear();
        self.number = 0;
        (self.ended, self.excused) = (false, false);
        self.planned.clear();
        (self.tied_count, self.may_end) = (0, false);
        (self.listens, self.lingers) = (false, false);
        let plan = world.plan.client.clone();
        self.deaf = self.probes.is_none() && world.strikes(plan.deaf_pm);
        self.vanishes = self.probes.is_none() && world.strikes(plan.vanish_pm);
        self.slow = world.random.chance(plan.slow_pm);
        let depth_max = if self.probes.is_some() { 1 } else { plan.depth_max as u64 };
        self.depth = world.random.between(1, depth_max) as usize;
        self.ending = if world.random.chance(plan.quit_pm) {
            Ending::Quit
        } else if world.random.chance(plan.half_close_pm) {
            Ending::HalfClose
        } else {
            Ending::Close
        };
        self.version = Version::Two;
        let password = world.plan.pools[self.pool].options.password.clone();
        let first = if self.protocol == Protocol::Redis && world.random.chance(300) {
            Some(hello(password.as_deref()))
        } else {
            password.map(|password| {
                let bytes = redis::array(&[b"AUTH", &password]);
                let expect = Expect::Exact(b"+OK\r\n".to_vec());
                let units = Vec::new();
                Request {
                    bytes,
                    expect,
                    units,
                    may_be_refused: false,
                    switches: None,
                    tie: Tie::None,
                }
            })
        };
        if let Some(request) = first {
            let bytes = self.note(request, connection, world, None);
            world.peer_send(connection, &bytes, 0);
        }
        self.act_at(world.now, world);
    }

    /// Sends as many requests as may be on their way.
    fn ask(&mut self, connection: usize, world: &mut World, oracle: &mut Oracle) {
        let room = self.depth.saturating_sub(self.sent.len()).min(self.left);
        if room == 0 {
            return;
        }
        let count = world.random.between(1, room as u64) as usize;
        let mut bytes = Vec::new();
        for _ in 0..count {
            self.number += 1;
            let mut random = world.random.clone();
            let writer = Writer {
                plan: &world.plan,
                pool: self.pool,
                connection,
                client: self.index,
                number: self.number,
                healed: world.healed,
                channels: &world.channels,
            };
            let request = match (&self.probes, self.planned.pop_front()) {
                (_, Some(request)) => request,
                (Some(keys), None) => {
                    let at = keys.len() * 2 - self.left;
                    writer.probe(&keys[at / 2], at.is_multiple_of(2), &mut random)
                }
                (None, None) => {
                    self.planned.extend(writer.draw(&mut random));
                    self.planned.pop_front().expect("at least one was drawn")
                }
            };
            world.random = random;
            self.left -= 1;
            bytes.extend(self.note(request, connection, world, Some(oracle)));
            if self.excused {
                break;
            }
        }
        world.peer_send(connection, &bytes, 0);
        if self.excused {
            // What follows nonsense is not read.
            self.ended = true;
            let delay = 5_000 * MS;
            world.peer_end(connection, delay);
            return;
        }
        let think = world.random.below(world.plan.client.think_us_max + 1) * US;
        self.act_at(world.now + think, world);
    }

    fn note(
        &mut self,
        request: Request,
        connection: usize,
        world: &mut World,
        oracle: Option<&mut Oracle>,
    ) -> Vec<u8> {
        if let Some(oracle) = oracle {
            for unit in &request.units {
                oracle.ask(unit, (connection, self.number));
            }
        }
        self.tied_count += usize::from(matches!(request.tie, Tie::Begins | Tie::Waits));
        let is_last = matches!(request.expect, Expect::Fatal | Expect::Farewell(_));
        self.excused |= is_last;
        world.note("asks", connection as u64, request.bytes.len() as u64);
        let bytes_shown = world.prints.then(|| shown(&request.bytes));
        world.tell(|| format!("client {}: {}", self.index, shown(&request.bytes)));
        self.version = request.switches.unwrap_or(self.version);
        if !matches!(request.expect, Expect::Nothing) {
            // The time-out begins when a request is sent on, which may be when all before it are
            // answered; what waits, or is about listening, has none.
            let behind = self.sent.back().is_some_and(|sent| sent.may_wait);
            let may_wait = request.tie != Tie::None || behind;
            self.sent.push_back(Sent {
                tie: request.tie,
                may_wait,
                at: world.now,
                expect: request.expect,
                may_be_refused: request.may_be_refused,
                bytes_shown,
                version: self.version,
            });
        } else if request.may_be_refused {
            self.excused = true;
        }
        request.bytes
    }

    /// Everything is asked.
    fn finish(&mut self, connection: usize, world: &mut World) {
        match self.ending {
            Ending::Quit => {
                let mut random = world.random.clone();
                let request = farewell(self.protocol, &mut random);
                world.random = random;
                let bytes = self.note(request, connection, world, None);
                world.peer_send(connection, &bytes, 0);
                self.ended = true;
            }
            Ending::HalfClose => {
                world.peer_end(connection, 0);
                self.ended = true;
            }
            Ending::Close if self.sent.is_empty() => {
                world.peer_close(connection);
                self.over(world);
            }
            Ending::Close => {}
        }
    }

    /// Goes without a word.
    fn leave(&mut self, connection: usize, world: &mut World) {
        world.note("client leaves", self.index as u64, connection as u64);
        if world.random.chance(500) {
            // The beginning of a request that nobody may ever execute.
            let half: &[u8] = match self.protocol {
                Protocol::Redis => b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$100\r\nabc\r\n",
                Protocol::Memcache => b"set half 0 0 100\r\nabc\r\n",
            };
            world.peer_send(connection, half, 0);
        }
        if world.random.chance(500) {
            world.reset(connection);
        } else {
            world.peer_close(connection);
        }
        self.over(world);
    }

    /// The connection is gone.
    fn over(&mut self, world: &mut World) {
        self.connection = None;
        self.sent.clear();
        if self.left == 0 {
            self.done = true;
            return;
        }
        let pause = world.random.below(20 * MS);
        self.act_at(world.now + pause, world);
    }

    /// Something has arrived.
    pub fn on_arrival(&mut self, connection: usize, world: &mut World, oracle: &mut Oracle) {
        if self.connection != Some(connection) {
            return;
        }
        if self.deaf && !world.connections[connection].reset {
            // It reads nothing, and leaves after a while.
            if self.left == 0 || self.acts_at.is_none() {
                self.vanishes = true;
                self.act_at(world.now + 300 * MS, world);
            }
            return;
        }
        let max = if self.slow { world.random.between(1, 400) as usize } else { usize::MAX };
        let reading = world.peer_read(connection, max);
        self.input.extend_from_slice(&reading.bytes);
        let mut start = 0;
        while start < self.input.len() {
            let rest = &self.input[start..];
            let version = self.sent.front().map_or(self.version, |sent| sent.version);
            let cut = match self.protocol {
                Protocol::Redis => wire::redis_reply(rest, version),
                Protocol::Memcache => wire::memcache_reply(rest),
            };
            match cut {
                Cut::More => break,
                Cut::Whole(size, ()) => {
                    let mut reply = rest[..size].to_vec();
                    start += size;
                    let pushed = reply[0] == b'>';
                    if wire::is_notice(&reply) && pushed != (version == Version::Three) {
                        let (index, reply) = (self.index, shown(&reply));
                        world.fail(format!("client {index} got another version's: {reply}"));
                        return;
                    }
                    if pushed {
                        // Beside that it is the same.
                        reply[0] = b'*';
                    }
                    if let Err(text) = self.check(&reply, world, oracle) {
                        world.fail(format!("client {}: {text}", self.index));
                        return;
                    }
                }
                Cut::Bad(text) => {
                    let (index, rest) = (self.index, shown(rest));
                    if !self.is_tainted(world, oracle) {
                        world.fail(format!("client {index} got no reply ({text}): {rest}"));
                    }
                    self.leave(connection, world);
                    return;
                }
            }
        }
        self.input.drain(..start);
        if reading.end || reading.reset {
            self.on_end(connection, reading.reset, world, oracle);
            return;
        }
        if self.slow && !reading.bytes.is_empty() {
            world.schedule(world.now + 20 * US, Happening::Peer(connection));
        }
        if !self.ended {
            let think = world.random.below(world.plan.client.think_us_max + 1) * US;
            self.act_at(world.now + think, world);
        }
    }

    /// Whether its pool has gone since it dialled, or has left the address that it dialled before
    /// anybody accepted it.
    fn has_lost_its_pool(&self, connection: usize, world: &World) -> bool {
        let listens = &world.listens[self.pool];
        let accepted = world.connections[connection].accepted;
        listens.place.is_none()
            || listens.gone_at.is_some_and(|at| at + NOTICE_NS >= self.dialled_at)
            || (!accepted && listens.left_at.is_some_and(|at| at >= self.dialled_at))
    }

    fn is_tainted(&self, world: &World, oracle: &Oracle) -> bool {
        let since = self.sent.front().map_or(world.now, |sent| sent.at);
        oracle.is_tainted(self.pool, since, world)
    }

    fn on_end(&mut self, connection: usize, reset: bool, world: &mut World, oracle: &Oracle) {
        world.note("client sees the end", self.index as u64, u64::from(reset));
        let half_closed = self.ended && self.ending == Ending::HalfClose && self.sent.is_empty();
        let dismissed = world.draining || self.has_lost_its_pool(connection, world);
        let fine = self.excused || half_closed || dismissed || world.plan.may_lose_clients();
        let refused = self.sent.iter().any(|sent| sent.may_be_refused);
        let by_close = reset && world.plan.network.reset_on_close_pm > 0;
        // It goes with a connection to a server.
        let half_closed_early = self.ended && self.ending == Ending::HalfClose;
        let unsafe_end = half_closed_early || !world.plan.keeps_servers();
        let tied = self.may_end || (self.tied_count > 0 || self.lingers) && unsafe_end;
        let explained = fine || refused || self.deaf || by_close || tied;
        if !explained {
            let state = self.state();
            world.fail(format!("a client that behaves well has lost its connection: {state}"));
        }
        let owed = self.sent.iter().any(|sent| match &sent.expect {
            Expect::Fatal => false,
            Expect::Farewell(reply) => !reply.is_empty(),
            _ => true,
        });
        // When the proxy lets its clients go a request may cross the end on its way, and nobody is
        // to blame.
        let strict = world.plan.is_fault_free && !dismissed && !tied;
        if self.excused && !reset && strict && owed {
            let state = self.state();
            world.fail(format!("the end came before the replies: {state}"));
        }
        if let Some(sent) = self.sent.front()
            && dismissed
            && world.plan.is_fault_free
            && !reset
            && sent.tie != Tie::Waits
            && let Expect::Single(unit) = &sent.expect
            && oracle.was_executed(unit)
        {
            let unit = shown(unit);
            world.fail(format!("a request was executed and not answered before the end: {unit}"));
        }
        if self.ended {
            self.left = if self.excused { self.left } else { 0 };
        }
        if !reset {
            world.peer_close(connection);
        }
        self.over(world);
    }
}
