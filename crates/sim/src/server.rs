//! Model servers: the embedded server behind a listening socket that may fail in every way.
//!
//! What it receives is cut into whole requests by the simulation's own parser, and each is given to
//! the embedded server by itself, which must answer it with exactly one reply: so two independent
//! parsers agree with the proxy about every request, for every prefix of the stream. Invariant:
//! only what a fault says is ever different from what the embedded server would do.

use std::collections::{BTreeMap, BTreeSet};

use embedded::{Outcome, Session, Store, StoreOptions};
use protocol::Protocol;
use proxy::options::PoolOptions;

use crate::commands;
use crate::oracle::{Asker, Oracle, is_unique, shown, time, unit};
use crate::tied::{Call, Step, Tied, push_bulk};
use crate::wire::{self, Cut};
use crate::world::{Happening, MS, US, World};

struct Link {
    input: Vec<u8>,
    session: Session,
    /// It will never say anything again.
    hangs: bool,
    /// It says things out of turn.
    tainted: bool,
    /// The last request of each client's connection that was executed here.
    last: BTreeMap<usize, u64>,
    /// Replies leave in order.
    reply_at: u64,
    tied: Tied,
}

/// See the module's text.
pub struct ModelServer {
    /// Index among the servers of all pools.
    pub index: usize,
    pool: usize,
    protocol: Protocol,
    options: StoreOptions,
    store: Store,
    links: BTreeMap<usize, Link>,
    /// Connections on which something has arrived during a pause.
    late: BTreeSet<usize>,
    paused_until: u64,
    down_until: Option<u64>,
}

impl ModelServer {
    /// A server with nothing stored.
    pub fn new(index: usize, world: &World) -> ModelServer {
        let pool = world.plan.pool_of(index);
        let pool_options = &world.plan.pools[pool].options;
        let options =
            StoreOptions { password: pool_options.password.clone(), ..StoreOptions::default() };
        ModelServer {
            index,
            pool,
            protocol: pool_options.protocol,
            store: Store::new(options.clone()),
            options,
            links: BTreeMap::new(),
            late: BTreeSet::new(),
            paused_until: 0,
            down_until: None,
        }
    }

    /// Faults stop: what hangs is cut off, what is down comes up.
    pub fn heal(&mut self, world: &mut World) {
        self.paused_until = 0;
        if self.down_until.take().is_some() {
            world.doors[self.index] = Default::default();
        }
        let hanging: Vec<usize> = self
            .links
            .iter()
            .filter(|(_, link)| link.hangs || link.tainted)
            .map(|(connection, _)| *connection)
            .collect();
        for connection in hanging {
            world.reset(connection);
        }
        self.act(world);
    }

    /// A pause or a time out of service may be over.
    pub fn act(&mut self, world: &mut World) {
        if self.down_until.is_some_and(|until| until <= world.now) {
            self.down_until = None;
            world.doors[self.index] = Default::default();
            world.note("server up", self.index as u64, 0);
        }
        if self.paused_until <= world.now {
            for connection in self.links.keys().chain(&self.late) {
                world.schedule(world.now, Happening::Peer(*connection));
            }
            self.late.clear();
        }
    }

    /// Something has arrived.
    pub fn on_arrival(&mut self, connection: usize, world: &mut World, oracle: &mut Oracle) {
        if world.now < self.paused_until {
            self.late.insert(connection);
            return;
        }
        let reading = world.peer_read(connection, usize::MAX);
        if reading.reset {
            self.links.remove(&connection);
            return;
        }
        if world.connections[connection].peer_closed {
            return;
        }
        if !reading.bytes.is_empty() {
            let protocol = self.protocol;
            let link = self.links.entry(connection).or_insert_with(|| Link {
                input: Vec::new(),
                session: Session::new(protocol),
                hangs: false,
                tainted: false,
                last: BTreeMap::new(),
                reply_at: 0,
                tied: Tied::default(),
            });
            link.input.extend_from_slice(&reading.bytes);
        }
        // A pause may have left whole requests behind.
        self.serve(connection, world, oracle);
        if reading.end && world.now >= self.paused_until {
            self.links.remove(&connection);
            world.peer_close(connection);
        }
    }

    fn serve(&mut self, connection: usize, world: &mut World, oracle: &mut Oracle) {
        loop {
            let Some(link) = self.links.get_mut(&connection) else { return };
            let cut = match self.protocol {
                Protocol::Redis => wire::redis_request(&link.input),
                Protocol::Memcache => wire::memcache_request(&link.input),
            };
            let (size, words) = match cut {
                Cut::More => return,
                Cut::Bad(text) => {
                    let bytes = shown(&link.input);
                    world.fail(format!("a server got bytes that are no request ({text}): {bytes}"));
                    return;
                }
                Cut::Whole(size, words) => (size, words),
            };
            let request: Vec<u8> = link.input.drain(..size).collect();
            world.note("executes", connection as u64, size as u64);
            let call = (words, request);
            let reply = match self.execute(connection, &call, world, oracle) {
                Ok(reply) => reply,
                Err(text) => {
                    world.fail(text);
                    return;
                }
            };
            world.tell(|| format!("{} -> {}", shown(&call.1), shown(&reply)));
            if !self.answer(connection, &call.0, reply, world, oracle) {
                return;
            }
        }
    }

    /// Executes a request, and gives its reply.
    fn execute(
        &mut self,
        connection: usize,
        call: &Call,
        world: &mut World,
        oracle: &mut Oracle,
    ) -> Result<Vec<u8>, String> {
        let (words, request) = call;
        let link = self.links.get_mut(&connection).expect("it is being served");
        let step = match self.protocol {
            Protocol::Redis => match link.tied.take(words, request, world.now) {
                // What it has said out of turn may be to blame.
                Err(_) if link.tainted => Step::Answer(b"-ERR out of turn\r\n".to_vec()),
                step => step?,
            },
            Protocol::Memcache => Step::Execute,
        };
        match step {
            Step::Execute => Ok(self.execute_one(connection, call, world, oracle)?.0),
            Step::Answer(reply) => Ok(reply),
            Step::ExecuteAll(calls) => {
                let mut reply = format!("*{}\r\n", calls.len()).into_bytes();
                let mut askers = BTreeSet::new();
                for call in &calls {
                    let (one, asker) = self.execute_one(connection, call, world, oracle)?;
                    reply.extend(one);
                    askers.extend(asker.map(|(client, _)| client));
                }
                if askers.len() > 1 {
                    return Err(format!("a transaction of several clients: {askers:?}"));
                }
                Ok(reply)
            }
            Step::Wait => {
                let delay = world.random.below(20 * MS);
                link.tied.waits_until = world.now + delay;
                link.reply_at = world.now + delay;
                let told = words.iter().find(|word| word.starts_with(b"<v:"));
                let mut reply = b"*1\r\n".to_vec();
                push_bulk(&mut reply, told.map_or(b"", |told| told));
                self.record(connection, words, &reply, &[], world, oracle)?;
                Ok(reply)
            }
            Step::Publish => {
                let count = self.publish(&words[1], &words[2], world, oracle);
                let reply = format!(":{count}\r\n").into_bytes();
                self.record(connection, words, &reply, &[], world, oracle)?;
                Ok(reply)
            }
        }
    }

    /// The same of one that the embedded server knows. Says who has asked, where that is certain.
    fn execute_one(
        &mut self,
        connection: usize,
        (words, request): &Call,
        world: &World,
        oracle: &mut Oracle,
    ) -> Result<(Vec<u8>, Option<Asker>), String> {
        let mut reply = Vec::new();
        let existed = self.existing(words, world.now);
        let link = self.links.get_mut(&connection).expect("it is being served");
        let outcome = link.session.handle(&mut self.store, request, time(world.now), &mut reply);
        let whole = match self.protocol {
            Protocol::Redis => wire::redis_reply_of_any(&reply),
            Protocol::Memcache => wire::memcache_reply(&reply),
        };
        if outcome != Outcome::Open || whole != Cut::Whole(reply.len(), ()) {
            let (request, reply) = (shown(request), shown(&reply));
            return Err(format!("not one reply to one request: {request} got {reply}"));
        }
        let asker = self.record(connection, words, &reply, &existed, world, oracle)?;
        Ok((reply, asker))
    }

    /// Sends a message to all who listen, and says how many they are.
    fn publish(
        &mut self,
        channel: &[u8],
        payload: &[u8],
        world: &mut World,
        oracle: &mut Oracle,
    ) -> usize {
        let mut message = b"*3\r\n$7\r\nmessage\r\n".to_vec();
        push_bulk(&mut message, channel);
        push_bulk(&mut message, payload);
        let listens = |link: &&mut Link| link.tied.channels.contains(channel);
        let mut count = 0;
        for (connection, link) in self.links.iter_mut() {
            if !listens(&link) || link.hangs {
                continue;
            }
            // Behind what was said before.
            let delay = link.reply_at.max(world.now) - world.now;
            message[0] = if link.tied.pushes { b'>' } else { b'*' };
            world.peer_send(*connection, &message, delay);
            oracle.messages.entry(channel.to_vec()).or_default().push_back(payload.to_vec());
            count += 1;
        }
        count
    }

    /// Which of the keys of a request that counts keys exist before it is executed.
    fn existing(&self, words: &[Vec<u8>], now: u64) -> Vec<bool> {
        if !is_counting(&words[0]) || self.protocol != Protocol::Redis {
            return Vec::new();
        }
        let removes = matches!(words[0].to_ascii_lowercase().as_slice(), b"del" | b"unlink");
        (1..words.len())
            .map(|at| {
                let again = removes && words[1..at].contains(&words[at]);
                !again && self.has(&words[at], now)
            })
            .collect()
    }

    fn has(&self, key: &[u8], now: u64) -> bool {
        // `Store::get` looks at the first database only; with another one nothing is known, and
        // the checker takes both answers.
        self.store.get(key, time(now)).is_some()
    }

    /// Tells the oracle what was executed.
    fn record(
        &mut self,
        connection: usize,
        words: &[Vec<u8>],
        reply: &[u8],
        existed: &[bool],
        world: &World,
        oracle: &mut Oracle,
    ) -> Result<Option<Asker>, String> {
        if wire::is_handshake(self.protocol, words) {
            return Ok(None);
        }
        if wire::is_probe(self.protocol, words) && self.may_be_probed(connection, world) {
            // A client of memcached may ask the same.
            oracle.execute_probe(&unit(self.pool, &[&words[0]]), reply, world.now);
            return Ok(None);
        }
        let mut last_asker = None;
        for (key, unit, answer) in units_of(self.protocol, self.pool, words, reply, existed) {
            let server = self.index - world.plan.pools[self.pool].server_first;
            // What goes to every server has no key.
            if !key.is_empty() && !oracle.may_own(self.pool, &key, server) {
                return Err(format!("server {server} got a key of another: {}", shown(&unit)));
            }
            let asker = oracle.execute(&unit, &answer, world.now)?;
            last_asker = asker;
            let Some((client, number)) = asker else { continue };
            let link = self.links.get_mut(&connection).expect("it is being served");
            if is_unique(&unit) {
                let last = link.last.entry(client).or_insert(number);
                if *last > number {
                    return Err(format!("out of the client's order: {}", shown(&unit)));
                }
                *last = number;
            }
        }
        Ok(last_asker)
    }

    /// Whether the worker at the other end has, or may have, ejected this server before.
    fn may_be_probed(&self, connection: usize, world: &World) -> bool {
        let ejects = |options: &PoolOptions| options.health.eject;
        let reloaded = world
            .plan
            .reloads
            .iter()
            .any(|reload| reload.pools[self.pool].as_ref().is_some_and(ejects));
        let place = world.connections[connection].place;
        let counted = place.map(|(worker, ..)| world.bases[worker].ejections[self.index].count);
        reloaded || ejects(&world.plan.pools[self.pool].options) && counted != Some(0)
    }

    /// Sends the reply, or whatever a fault says. Returns whether the server goes on.
    fn answer(
        &mut self,
        connection: usize,
        words: &[Vec<u8>],
        mut reply: Vec<u8>,
        world: &mut World,
        oracle: &mut Oracle,
    ) -> bool {
        let plan = world.plan.server.clone();
        let link = self.links.get_mut(&connection).expect("it is being served");
        if link.hangs {
            return true;
        }
        let think_us_max = if world.healed { 5 } else { plan.think_us_max };
        let think = world.random.below(think_us_max + 1) * US;
        let delay = (world.now + think).max(link.reply_at) - world.now;
        link.reply_at = world.now + delay;
        if world.strikes(plan.restart_pm) {
            self.restart(world, oracle);
            return false;
        }
        if world.strikes(plan.unresolved_pm) {
            loses_its_name(self.index, world, oracle);
        }
        let mut fails = true;
        if world.strikes(plan.garbage_pm) {
            reply = garbage(self.protocol, world);
        } else if world.strikes(plan.huge_pm) {
            reply = huge(self.protocol, words);
        } else if world.strikes(plan.wrong_key_pm) && has_value(self.protocol, words, &reply) {
            let at = "VALUE ".len();
            reply[at] = if reply[at] == b'x' { b'y' } else { b'x' };
        } else if world.strikes(plan.half_pm) {
            let size = world.random.index(reply.len());
            world.peer_send(connection, &reply[..size], delay);
            oracle.failed[self.index] = true;
            world.peer_close(connection);
            self.links.remove(&connection);
            return false;
        } else if world.strikes(plan.hang_pm) {
            link.hangs = true;
            reply.clear();
        } else if world.strikes(plan.extra_pm) {
            let pause = world.random.pick(&[0, MS, 20 * MS]);
            world.schedule(world.now + delay + pause, Happening::Babbles(connection));
        } else {
            fails = false;
        }
        oracle.failed[self.index] |= fails;
        if wire::is_probe(self.protocol, words) && wire::is_probe_answer(self.protocol, &reply) {
            world.note_probe_answered(connection, self.index);
        }
        world.peer_send(connection, &reply, delay);
        if world.strikes(plan.close_pm) {
            oracle.failed[self.index] = true;
            let pause = world.random.below(5 * MS);
            world.schedule(link.reply_at + pause, Happening::Closes(connection));
        }
        if world.strikes(plan.half_close_pm) {
            oracle.failed[self.index] = true;
            link.hangs = true;
            world.peer_end(connection, delay);
        }
        if world.strikes(plan.pause_pm) {
            self.pause(plan.pause_ms, world, oracle);
            return false;
        }
        true
    }

    fn pause(&mut self, pause_ms: u64, world: &mut World, oracle: &mut Oracle) {
        self.paused_until = world.now + pause_ms * MS;
        oracle.failed[self.index] = true;
        world.note("server pauses", self.index as u64, 0);
        world.schedule(self.paused_until, Happening::Server(self.index));
    }

    /// Says something that nobody has asked for.
    pub fn babble(&mut self, connection: usize, world: &mut World, oracle: &mut Oracle) {
        let Some(link) = self.links.get_mut(&connection).filter(|_| !world.healed) else { return };
        link.tainted = true;
        oracle.tainted[self.index].push(connection);
        world.note("server babbles", connection as u64, 0);
        world.peer_send(connection, extra(self.protocol), 0);
    }

    fn restart(&mut self, world: &mut World, oracle: &mut Oracle) {
        world.note("server restarts", self.index as u64, 0);
        oracle.failed[self.index] = true;
        self.store = Store::new(self.options.clone());
        let links: Vec<usize> = self.links.keys().copied().collect();
        for connection in links {
            self.links.remove(&connection);
            if world.random.chance(500) {
                world.reset(connection);
            } else {
                world.peer_close(connection);
            }
        }
        let until = world.now + world.plan.server.down_ms * MS;
        self.down_until = Some(until);
        let silently = world.plan.server.down_silently;
        world.doors[self.index].refuses = !silently;
        world.doors[self.index].silent = silently;
        world.schedule(until, Happening::Server(self.index));
    }
}

/// Commands whose reply is a count of keys.
pub fn is_counting(name: &[u8]) -> bool {
    matches!(name.to_ascii_lowercase().as_slice(), b"del" | b"unlink" | b"exists" | b"touch")
}

/// A key with its unit and the unit's own reply.
type Unit = (Vec<u8>, Vec<u8>, Vec<u8>);

/// What a request that a server has executed consists of.
fn units_of(
    protocol: Protocol,
    pool: usize,
    words: &[Vec<u8>],
    reply: &[u8],
    existed: &[bool],
) -> Vec<Unit> {
    let name = words[0].to_ascii_lowercase();
    let name = name.as_slice();
    let is_error = matches!(reply.first(), Some(b'-'));
    match (protocol, name) {
        (Protocol::Redis, b"mget") => {
            let elements = wire::redis_elements(reply).unwrap_or_default();
            let answer = |at: usize| elements.get(at).map_or(reply.to_vec(), |e| e.to_vec());
            let keys = words[1..].iter().enumerate();
            keys.map(|(at, key)| (key.clone(), unit(pool, &[name, key]), answer(at))).collect()
        }
        (Protocol::Redis, b"mset") => words[1..]
            .chunks(2)
            .map(|pair| {
                let unit = unit(pool, &[name, &pair[0], &pair[1]]);
                (pair[0].clone(), unit, reply.to_vec())
            })
            .collect(),
        _ if commands::goes_everywhere(name) => {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            vec![(Vec::new(), unit(pool, &words), reply.to_vec())]
        }
        (Protocol::Redis, _) if is_counting(name) => {
            let keys = words[1..].iter().zip(existed);
            keys.map(|(key, existed)| {
                let answer: &[u8] = match (is_error, existed) {
                    (true, _) => reply,
                    (false, true) => b":1\r\n",
                    (false, false) => b":0\r\n",
                };
                (key.clone(), unit(pool, &[name, key]), answer.to_vec())
            })
            .collect()
        }
        (Protocol::Memcache, b"get" | b"gets" | b"gat" | b"gats") => {
            let head = if name.starts_with(b"gat") { 2 } else { 1 };
            let (blocks, _) = wire::memcache_blocks(reply);
            let mut blocks = blocks.into_iter().peekable();
            words[head..]
                .iter()
                .map(|key| {
                    let mut unit_words: Vec<&[u8]> =
                        words[..head].iter().map(Vec::as_slice).collect();
                    unit_words.push(key);
                    let block = blocks.next_if(|block| block.key == key.as_slice());
                    let answer = block.map_or(Vec::new(), |block| block.bytes.to_vec());
                    (key.clone(), unit(pool, &unit_words), answer)
                })
                .collect()
        }
        _ => {
            let mut unit_words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            unit_words[0] = name;
            let placeholder = || protocol::PLACEHOLDER_KEY.to_vec();
            let key = commands::key_of(protocol, words).unwrap_or_else(placeholder);
            vec![(key, unit(pool, &unit_words), reply.to_vec())]
        }
    }
}

/// A server's name does not resolve for a while, which is a failure as any.
fn loses_its_name(server: usize, world: &mut World, oracle: &mut Oracle) {
    oracle.failed[server] = true;
    world.schedule(world.now, Happening::Resolved(server, false));
    world.schedule(world.now + 20 * MS, Happening::Resolved(server, true));
}

fn has_value(protocol: Protocol, words: &[Vec<u8>], reply: &[u8]) -> bool {
    protocol == Protocol::Memcache && words.len() >= 2 && reply.starts_with(b"VALUE ")
}

fn garbage(protocol: Protocol, world: &mut World) -> Vec<u8> {
    let choices: &[&[u8]] = match protocol {
        Protocol::Redis => &[
            b"what?\r\n",
            b"$-7\r\nab\r\n",
            b"$4294967299\r\nabc\r\n",
            b":abc\r\n",
            b"\0\0\0\n",
            b"*x\r\n",
        ],
        Protocol::Memcache => &[
            b"what?\r\n",
            b"VALUE\r\n",
            b"VALUE a b c\r\n",
            b"VALUE a 0 -1\r\n",
            b"\0\0\0\n",
            b"VALUE a 0 18446744073709551617\r\n",
            b"VA 18446744073709551617\r\n",
        ],
    };
    world.random.pick(choices).to_vec()
}

fn huge(protocol: Protocol, words: &[Vec<u8>]) -> Vec<u8> {
    match protocol {
        Protocol::Redis => b"$4294967290\r\nabc".to_vec(),
        Protocol::Memcache => {
            let key = words.get(1).map_or(b"a".as_slice(), Vec::as_slice);
            [b"VALUE ", key, b" 0 4294967290\r\nabc"].concat()
        }
    }
}

fn extra(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Redis => b"+EXTRA\r\n",
        Protocol::Memcache => b"STORED\r\n",
    }
}
