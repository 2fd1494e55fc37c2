//! Model clients: they ask, check every reply, and misbehave where the plan says so.
//!
//! Invariant: a client that behaves well gets exactly one right reply, or one error that the plan
//! explains, to each request, in order, and never loses its connection without a reason that the
//! plan names.

use std::collections::VecDeque;
use std::time::Duration;

use protocol::Protocol;

use crate::commands;
use crate::oracle::{Oracle, shown, unit_words};
use crate::wire::{self, Cut, Version};
use crate::workload::{Expect, Form, Request, Tie, Writer, farewell, hello, redis_array};
use crate::world::{Happening, MS, US, World};

/// How long after a reload a worker may still accept for a pool that has gone: it reads its mailbox
/// at the end of a turn.
const NOTICE_NS: u64 = MS;

struct Sent {
    at: u64,
    expect: Expect,
    may_be_refused: bool,
    tie: Tie,
    /// It stands behind a request that waits or is about listening, or is one.
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
                let bytes = redis_array(&[b"AUTH", &password]);
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
            // What is said to who listens, and what waits for it, has no time-out.
            let listens = match &request.expect {
                Expect::Listening(..) => true,
                Expect::Exact(notice) => notice.get(1..4) == Some(b"3\r\n"),
                _ => false,
            };
            let behind = self.sent.back().is_some_and(|sent| sent.may_wait);
            let may_wait = request.tie == Tie::Waits || listens || behind;
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

/// Replies are judged.
impl ModelClient {
    fn check(
        &mut self,
        reply: &[u8],
        world: &mut World,
        oracle: &mut Oracle,
    ) -> Result<(), String> {
        oracle.checked_count += 1;
        world.note("reply", self.connection.unwrap_or(0) as u64, reply.len() as u64);
        if self.protocol == Protocol::Redis && reply.starts_with(b"*3\r\n$7\r\nmessage\r\n") {
            return self.check_message(reply, oracle);
        }
        let Some(sent) = self.sent.pop_front() else {
            let refused = proxy_error(self.protocol, reply) == Some("out of memory");
            self.excused |= refused;
            if refused || oracle.is_tainted(self.pool, world.now, world) {
                return Ok(());
            }
            return Err(format!("a reply to nothing: {}", shown(reply)));
        };
        world.tell(|| format!("client {} got {}", self.index, shown(reply)));
        // It may be closed behind that.
        self.excused |= sent.may_be_refused && is_error(self.protocol, reply);
        let max = world.plan.reply_ns_max(self.pool).filter(|_| !self.slow && !sent.may_wait);
        if max.is_some_and(|max| world.now - sent.at > max) {
            return Err(format!("a reply after its time-out: asked at {} ms", sent.at / MS));
        }
        self.note_tie(&sent, reply, world, oracle)?;
        if self.is_right(&sent, reply, world, oracle) {
            return Ok(());
        }
        let explained = self.is_explained(&sent, reply, world, oracle)?;
        if explained || oracle.is_tainted(self.pool, sent.at, world) {
            return Ok(());
        }
        Err(format!("a wrong reply: {} to {:?}", shown(reply), ShownExpect(&sent.expect)))
    }

    /// A message must be the next one of its channel.
    fn check_message(&mut self, reply: &[u8], oracle: &mut Oracle) -> Result<(), String> {
        let elements = wire::redis_elements(reply).unwrap_or_default();
        let body = |element: &[u8]| {
            let start = element.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            element[start..element.len() - 2].to_vec()
        };
        let [_, channel, payload] = elements[..] else {
            return Err(format!("a message without its parts: {}", shown(reply)));
        };
        let next = oracle.messages.get_mut(&body(channel)).and_then(VecDeque::pop_front);
        match next == Some(body(payload)) {
            true => Ok(()),
            false => Err(format!("not the message that was sent next: {}", shown(reply))),
        }
    }

    /// What a reply says about a connection of the client's own.
    fn note_tie(
        &mut self,
        sent: &Sent,
        reply: &[u8],
        world: &mut World,
        oracle: &mut Oracle,
    ) -> Result<(), String> {
        self.lingers &= sent.tie != Tie::None;
        if sent.tie == Tie::None {
            return Ok(());
        }
        self.tied_count -= usize::from(matches!(sent.tie, Tie::Ends | Tie::Waits));
        self.listens &= sent.tie != Tie::Ends;
        let Expect::Exact(wanted) = &sent.expect else {
            self.may_end |= is_error(self.protocol, reply) && !world.plan.keeps_servers();
            return Ok(());
        };
        if reply != wanted {
            self.may_end |= !world.plan.keeps_servers();
            return Ok(());
        }
        let elements = wire::redis_elements(reply).unwrap_or_default();
        let &[_, channel, _] = elements.as_slice() else { return Ok(()) };
        let start = channel.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let channel = channel[start..channel.len() - 2].to_vec();
        if sent.tie == Tie::Begins {
            self.listens = true;
            world.channels.push(channel);
            let excess = world.channels.len().saturating_sub(4);
            world.channels.drain(..excess);
            return Ok(());
        }
        self.lingers = true;
        match oracle.messages.remove(&channel).is_none_or(|left| left.is_empty()) {
            true => Ok(()),
            false => Err("a message has not come to who listened".to_owned()),
        }
    }

    fn is_right(&mut self, sent: &Sent, reply: &[u8], world: &World, oracle: &mut Oracle) -> bool {
        let expect = match &sent.expect {
            Expect::Listening(bytes, _) if self.listens && bytes.is_empty() => &Expect::Error,
            Expect::Listening(bytes, _) if self.listens => {
                // In RESP3 who listens is answered as anybody.
                let resp3 = sent.version == Version::Three;
                return if resp3 { reply == b"+PONG\r\n" } else { reply == bytes };
            }
            Expect::Listening(_, otherwise) => otherwise,
            expect => expect,
        };
        match expect {
            Expect::Listening(..) => unreachable!("taken out above"),
            Expect::Exact(bytes) => reply == bytes,
            Expect::Single(unit) => oracle.match_reply(unit, reply, sent.at),
            Expect::Count(unit) => oracle.is_sum(unit, reply, sent.at),
            Expect::Error => is_error(self.protocol, reply),
            Expect::Fatal => is_error(self.protocol, reply),
            Expect::Farewell(bytes) => reply == bytes,
            Expect::Hello => reply.starts_with(b"%7\r\n$6\r\nserver\r\n"),
            Expect::Own => true,
            Expect::Nothing => false,
            Expect::Many(Form::Array | Form::Transaction, parts) => {
                let Some(elements) = wire::redis_elements(reply) else { return false };
                let pairs: Vec<_> =
                    parts.iter().map(|(_, unit)| unit.as_slice()).zip(elements).collect();
                pairs.len() == parts.len() && oracle.match_replies(&pairs, sent.at)
            }
            Expect::Many(Form::Ok, parts) => {
                let pairs: Vec<_> =
                    parts.iter().map(|(_, unit)| (unit.as_slice(), reply)).collect();
                reply == b"+OK\r\n" && oracle.match_replies(&pairs, sent.at)
            }
            Expect::Many(Form::Sum, parts) => {
                self.is_right_sum(parts, reply, sent.at, world, oracle)
            }
            Expect::Many(Form::Values, parts) => {
                let (blocks, end) = wire::memcache_blocks(reply);
                let mut blocks = blocks.into_iter().peekable();
                let mut pairs: Vec<(&[u8], &[u8])> = Vec::new();
                for (key, unit) in parts {
                    let block = blocks.next_if(|block| block.key == key.as_slice());
                    pairs.push((unit, block.map_or(b"", |block| block.bytes)));
                }
                blocks.next().is_none()
                    && end == b"END\r\n"
                    && oracle.match_replies(&pairs, sent.at)
            }
        }
    }

    /// The sum lies between the least and the most that servers can have answered.
    fn is_right_sum(
        &self,
        parts: &[(Vec<u8>, Vec<u8>)],
        reply: &[u8],
        since: u64,
        world: &World,
        oracle: &Oracle,
    ) -> bool {
        let text = std::str::from_utf8(reply).unwrap_or("");
        let Some(sum) = text.strip_prefix(':').and_then(|text| text.trim_end().parse::<u64>().ok())
        else {
            return false;
        };
        if world.plan.pools[self.pool].options.database != 0 {
            return sum <= parts.len() as u64;
        }
        let (mut least, mut most) = (0, 0);
        for (_, unit) in parts {
            let (zero, one) = (
                oracle.has_reply(unit, b":0\r\n", since),
                oracle.has_reply(unit, b":1\r\n", since),
            );
            if !zero && !one {
                return false;
            }
            least += u64::from(!zero);
            most += u64::from(one);
        }
        (least..=most).contains(&sum)
    }

    /// Whether an error of the proxy, or values followed by one, may stand in the reply's place.
    fn is_explained(
        &mut self,
        sent: &Sent,
        reply: &[u8],
        world: &World,
        oracle: &mut Oracle,
    ) -> Result<bool, String> {
        if sent.may_be_refused && is_error(self.protocol, reply) {
            self.excused = true;
            return Ok(true);
        }
        if sent.tie != Tie::None && !world.plan.keeps_servers() {
            let aborted = reply.starts_with(b"-EXECABORT ");
            if aborted
                || proxy_error(self.protocol, reply) == Some("the keys are on several servers")
            {
                return Ok(true);
            }
        }
        if world.plan.is_fault_free || (world.healed && self.probes.is_some()) {
            return Ok(false);
        }
        let mut error = reply;
        if let Expect::Many(Form::Values, parts) = &sent.expect {
            let (blocks, end) = wire::memcache_blocks(reply);
            for block in blocks {
                let unit = parts.iter().find(|(key, _)| key == block.key).map(|(_, unit)| unit);
                let right = unit.is_some_and(|unit| oracle.has_reply(unit, block.bytes, sent.at));
                if !right {
                    return Ok(false);
                }
            }
            error = end;
        }
        // One part's own error stands for all.
        if let Expect::Many(_, parts) = &sent.expect
            && is_error(self.protocol, error)
            && parts.iter().any(|(_, unit)| oracle.has_reply(unit, error, sent.at))
        {
            return Ok(true);
        }
        let Some(text) = proxy_error(self.protocol, error) else { return Ok(false) };
        oracle.errors_count += 1;
        self.excused |= text == "out of memory";
        if text == "Connection timed out" && !self.may_time_out(sent, world) {
            return Err(format!("a time-out before its time: asked at {} ms", sent.at / MS));
        }
        if SERVER_ERRORS.contains(&text) && !self.may_fail(sent, world, oracle) {
            return Err(format!("{text}, though no server of its keys has failed"));
        }
        Ok(true)
    }

    /// Whether a server of one of the keys may have failed. A request without a key, or with one
    /// that only its parser knows, may have gone anywhere.
    fn may_fail(&self, sent: &Sent, world: &World, oracle: &mut Oracle) -> bool {
        let keys: Vec<Vec<u8>> = match &sent.expect {
            Expect::Single(unit) => {
                let words = unit_words(unit);
                if commands::goes_everywhere(&words[0]) {
                    return true;
                }
                commands::key_of(self.protocol, &words).into_iter().collect()
            }
            Expect::Many(_, parts) => parts.iter().map(|(key, _)| key.clone()).collect(),
            _ => return true,
        };
        let servers_count = world.plan.pools[self.pool].servers_count;
        keys.is_empty()
            || keys.iter().any(|key| {
                (0..servers_count).any(|server| oracle.may_have_failed(self.pool, key, server))
            })
    }

    fn may_time_out(&self, sent: &Sent, world: &World) -> bool {
        let waited = world.now - sent.at;
        let network = &world.plan.network;
        let slowest = 3 * network.latency_us_max * US + 2 * MS;
        let connects_slowly = network.silent_connect_pm > 0
            || network.pause_pm > 0
            || (world.plan.server.down_silently && world.plan.server.restart_pm > 0)
            || world
                .plan
                .options_of(self.pool)
                .any(|options| options.connect_timeout.as_nanos() as u64 <= slowest);
        let is_over = |most: Duration| u128::from(waited) >= most.as_nanos();
        connects_slowly
            || world
                .plan
                .options_of(self.pool)
                .any(|known| known.request_timeout.is_some_and(is_over))
            || world.server_closed_at.is_some_and(|at| at >= sent.at)
    }
}

struct ShownExpect<'a>(&'a Expect);

impl std::fmt::Debug for ShownExpect<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Expect::Single(unit) => f.write_str(&shown(unit)),
            Expect::Many(form, parts) => {
                write!(f, "{form:?}")?;
                parts.iter().try_for_each(|(_, unit)| write!(f, " | {}", shown(unit)))
            }
            other => write!(f, "{other:?}"),
        }
    }
}

fn is_error(protocol: Protocol, reply: &[u8]) -> bool {
    match protocol {
        Protocol::Redis => reply.starts_with(b"-"),
        Protocol::Memcache => [b"ERROR".as_slice(), b"CLIENT_ERROR ", b"SERVER_ERROR "]
            .iter()
            .any(|word| reply.starts_with(word)),
    }
}

/// The text of an error of the proxy's own.
fn proxy_error(protocol: Protocol, reply: &[u8]) -> Option<&'static str> {
    let prefix: &[u8] = match protocol {
        Protocol::Redis => b"-ERR ",
        Protocol::Memcache => b"SERVER_ERROR ",
    };
    let text = reply.strip_prefix(prefix)?.strip_suffix(b"\r\n")?;
    PROXY_ERRORS.iter().copied().find(|known| known.as_bytes() == text)
}

/// Those that stand for a server that failed.
const SERVER_ERRORS: [&str; 4] =
    ["Connection refused", "Connection reset by peer", "Broken pipe", "Connection timed out"];

const PROXY_ERRORS: [&str; 15] = [
    "the servers have changed: begin again with cursor 0",
    // Something else than the answer to HELLO may have come.
    protocol::VERSION_REFUSED,
    "Connection refused",
    "Connection reset by peer",
    "Broken pipe",
    "Connection timed out",
    "unknown",
    "Invalid argument",
    "Host is down",
    "server queue is full",
    "out of memory",
    "unexpected response to a part of the request",
    "a server answered a key that was not asked for",
    "too many dedicated connections",
    "the keys are on several servers",
];
