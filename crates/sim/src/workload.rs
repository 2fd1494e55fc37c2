//! Requests of model clients: every command that the embedded server knows, in both protocols, and
//! bytes that are no request.
//!
//! Invariant: a write carries in its value who wrote it, so that no two of them are alike.

use protocol::Protocol;

use crate::commands::{self, Fate};
use crate::oracle::unit;
use crate::plan::Plan;
use crate::random::Random;
use crate::wire::Version;

/// How the parts of a reply to several keys are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An array with one element a key.
    Array,
    /// A sum of integers.
    Sum,
    /// One word for all.
    Ok,
    /// VALUE blocks and END.
    Values,
    /// An array with the reply to each request of a transaction.
    Transaction,
}

/// What a request has to do with a connection of the client's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// Nothing.
    None,
    /// It wants one.
    Begins,
    /// It goes on with it.
    Keeps,
    /// It wants it no longer.
    Ends,
    /// It wants one for itself, and may be answered late.
    Waits,
}

/// What the reply must be.
#[derive(Debug, Clone)]
pub enum Expect {
    /// These bytes.
    Exact(Vec<u8>),
    /// What a server answers to this unit.
    Single(Vec<u8>),
    /// What servers answer to these units, with their keys.
    Many(Form, Vec<(Vec<u8>, Vec<u8>)>),
    /// These bytes, or, when there are none, an error, while the client listens; else the other.
    Listening(Vec<u8>, Box<Expect>),
    /// The sum of what servers answer to this unit.
    Count(Vec<u8>),
    /// An error of the proxy's.
    Error,
    /// The proxy introduces itself in RESP3.
    Hello,
    /// Whatever the proxy says.
    Own,
    /// An error of the proxy's, or none; then the end.
    Fatal,
    /// The word of farewell, if any; then the end.
    Farewell(Vec<u8>),
    /// None.
    Nothing,
}

/// A request as it is sent.
#[derive(Debug)]
pub struct Request {
    /// On the wire.
    pub bytes: Vec<u8>,
    /// What must come back.
    pub expect: Expect,
    /// What servers may execute.
    pub units: Vec<Vec<u8>>,
    /// A limit may forbid it.
    pub may_be_refused: bool,
    /// From its reply on, this version of Redis' protocol is spoken.
    pub switches: Option<Version>,
    /// What it has to do with a connection of the client's own.
    pub tie: Tie,
}

impl Request {
    fn tied(self, tie: Tie) -> Request {
        Request { tie, ..self }
    }
}

/// Who asks.
pub struct Writer<'a> {
    /// What was drawn.
    pub plan: &'a Plan,
    /// Index of the pool.
    pub pool: usize,
    /// The client's connection.
    pub connection: usize,
    /// The client.
    pub client: usize,
    /// The number of the request on this connection.
    pub number: u64,
    /// Faults have stopped.
    pub healed: bool,
    /// Where somebody may listen.
    pub channels: &'a [Vec<u8>],
}

impl Writer<'_> {
    /// Draws a request, or some that belong together.
    pub fn draw(&self, random: &mut Random) -> Vec<Request> {
        let own_connection_pm = self.plan.client.own_connection_pm;
        if self.protocol() == Protocol::Redis && random.chance(own_connection_pm) {
            return self.on_own_connection(random);
        }
        vec![self.draw_one(random)]
    }

    fn draw_one(&self, random: &mut Random) -> Request {
        let client = &self.plan.client;
        let mut request = if !self.healed && random.chance(client.malformed_pm) {
            malformed(self.protocol(), random)
        } else if self.protocol() == Protocol::Redis {
            self.redis(random)
        } else {
            self.memcache(random)
        };
        self.limit(&mut request);
        request
    }

    /// Notes whether a limit may forbid a request.
    fn limit(&self, request: &mut Request) {
        let limits = &self.plan.pools[self.pool].options.limits;
        let size = request.bytes.len() + 64;
        request.may_be_refused = size > limits.request_size_max
            || size > limits.line_size_max
            || 2 * request.units.len() + 1 >= limits.arguments_max;
    }

    fn protocol(&self) -> Protocol {
        self.plan.pools[self.pool].options.protocol
    }

    fn key(&self, random: &mut Random) -> Vec<u8> {
        let number = random.below(6);
        let name = match random.chance(self.plan.client.shared_pm) {
            true => format!("shared{number}"),
            false => format!("own{}:{number}", self.client),
        };
        let key = if random.chance(200) { format!("{{tag{}}}{name}", number % 3) } else { name };
        key.into_bytes()
    }

    /// Names its writer, and ends in a sum of what stands before.
    fn value(&self, key: &[u8], random: &mut Random) -> Vec<u8> {
        let head = format!("<v:{}.{}:", self.connection, self.number);
        let mut value = head.into_bytes();
        value.extend_from_slice(key);
        let size_max = if self.healed { 100 } else { self.plan.client.value_size_max };
        // Mostly small; where large ones are allowed, enough of them to use up a client's credit.
        let padding = match size_max > 50_000 && random.chance(300) {
            true => random.between(size_max / 2, size_max),
            false => random.skewed(size_max) - 1,
        } as usize;
        let filler = b"\r\nEND\r\n$-1\r\n*1\r\n+OK\r\nSTORED\r\nabcdefg";
        value.extend(filler.iter().cycle().take(padding));
        let sum = (value.iter())
            .fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
        value.extend_from_slice(format!(":{sum:08x}>").as_bytes());
        value
    }

    fn redis(&self, random: &mut Random) -> Request {
        if random.chance(self.plan.client.multi_pm) {
            return self.redis_many(random);
        }
        if random.chance(30) {
            let password = self.plan.pools[self.pool].options.password.is_some();
            return match random.below(4) {
                // It takes the password back.
                3 if !password => Request {
                    switches: Some(Version::Two),
                    ..own(redis_array(&[b"RESET"]), b"+RESET\r\n")
                },
                0 => own(redis_array(&[b"PING"]), b"+PONG\r\n"),
                1 => own(b"ping\r\n".to_vec(), b"+PONG\r\n"),
                _ => own(redis_array(&[b"echo", b"a\r\nb"]), b"$4\r\na\r\nb\r\n"),
            };
        }
        if random.chance(100) {
            return self.redis_other(random);
        }
        let key = self.key(random);
        self.redis_single(key, random)
    }

    /// A request of one key, whose unit it has.
    fn redis_single(&self, key: Vec<u8>, random: &mut Random) -> Request {
        let mut words: Vec<Vec<u8>> = Vec::new();
        let (name, shape) = random.pick(REDIS_COMMANDS);
        words.push(name.as_bytes().to_vec());
        words.push(key.clone());
        for kind in shape.bytes() {
            words.push(match kind {
                b'v' => self.value(&key, random),
                b'n' => random.between(0, 20).to_string().into_bytes(),
                b'o' => random.between(0, 300).to_string().into_bytes(),
                b't' => random.pick(&[b"1".as_slice(), b"50", b"100000"]).to_vec(),
                b'f' => format!("field{}", random.below(3)).into_bytes(),
                _ => unreachable!("no such letter in the table"),
            });
        }
        let mut unit_words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let lower = name.to_ascii_lowercase();
        unit_words[0] = lower.as_bytes();
        let unit = unit(self.pool, &unit_words);
        let plain =
            words.iter().flatten().all(|byte| byte.is_ascii_alphanumeric() || *byte == b':');
        let bytes = if plain && random.chance(100) {
            let mut line = words.join(b"  ".as_slice());
            line.extend_from_slice(if random.chance(500) { b"\r\n" } else { b"\n" });
            line
        } else {
            redis_array(&words.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        Request {
            bytes,
            expect: Expect::Single(unit.clone()),
            units: vec![unit],
            may_be_refused: false,
            tie: Tie::None,
            switches: None,
        }
    }

    /// A transaction, a subscription, or a request that waits.
    fn on_own_connection(&self, random: &mut Random) -> Vec<Request> {
        match random.below(4) {
            0 => vec![self.waiting(random)],
            1 => self.subscription(random),
            _ => self.transaction(random),
        }
    }

    fn waiting(&self, random: &mut Random) -> Request {
        let words = commands::waiting(random.index(commands::waiting_count()));
        let key = self.key(random);
        let told = format!("<v:{}.{}>", self.connection, self.number);
        let words: Vec<&[u8]> = words
            .iter()
            .map(|word| match *word {
                "K" => key.as_slice(),
                "T" => told.as_bytes(),
                word => word.as_bytes(),
            })
            .collect();
        let unit = unit(self.pool, &words);
        let expect = Expect::Single(unit.clone());
        let bytes = redis_array(&words);
        Request {
            bytes,
            expect,
            units: vec![unit],
            may_be_refused: false,
            tie: Tie::Waits,
            switches: None,
        }
    }

    fn transaction(&self, random: &mut Random) -> Vec<Request> {
        let key = self.key(random);
        let mut all = Vec::new();
        if random.chance(300) {
            all.push(own(redis_array(&[b"WATCH", &key]), b"+OK\r\n").tied(Tie::Begins));
            if random.chance(200) {
                all.push(own(redis_array(&[b"UNWATCH"]), b"+OK\r\n").tied(Tie::Ends));
                return all;
            }
        }
        let tie = if all.is_empty() { Tie::Begins } else { Tie::Keeps };
        all.push(own(redis_array(&[b"MULTI"]), b"+OK\r\n").tied(tie));
        let (mut parts, mut may_be_refused) = (Vec::new(), false);
        for _ in 0..random.below(4) {
            let number = self.number + all.len() as u64;
            let mut request = Writer { number, ..*self }.redis_single(key.clone(), random);
            self.limit(&mut request);
            may_be_refused |= request.may_be_refused;
            parts.push((key.clone(), request.units.remove(0)));
            request.expect = Expect::Exact(b"+QUEUED\r\n".to_vec());
            all.push(request.tied(Tie::Keeps));
        }
        let last = if random.chance(150) {
            own(redis_array(&[b"DISCARD"]), b"+OK\r\n")
        } else {
            many(redis_array(&[b"exec"]), Form::Transaction, parts)
        };
        all.push(Request { may_be_refused, ..last.tied(Tie::Ends) });
        all
    }

    fn subscription(&self, random: &mut Random) -> Vec<Request> {
        let channel = format!("channel{}.{}", self.connection, self.number).into_bytes();
        let notice = |kind: &[u8], left: &[u8]| {
            let channel = [format!("${}\r\n", channel.len()).as_bytes(), &channel].concat();
            let head = format!("*3\r\n${}\r\n", kind.len());
            [head.as_bytes(), kind, b"\r\n", &channel, b"\r\n:", left, b"\r\n"].concat()
        };
        let kind = random.pick(&["", "p", "s"]);
        let [subscribe, unsubscribe] =
            ["subscribe", "unsubscribe"].map(|word| format!("{kind}{word}").into_bytes());
        let begin = own(redis_array(&[&subscribe, &channel]), &notice(&subscribe, b"1"));
        let mut all = vec![begin.tied(Tie::Begins)];
        for _ in 0..random.below(4) {
            let (mut between, reply) = match random.chance(700) {
                true => {
                    let ping = own(redis_array(&[b"PING"]), b"+PONG\r\n");
                    (ping, b"*2\r\n$4\r\npong\r\n$0\r\n\r\n".to_vec())
                }
                false => {
                    let mut other = self.redis_single(self.key(random), random);
                    self.limit(&mut other);
                    (other, Vec::new())
                }
            };
            // A subscription that has failed leaves the rest as it would be without.
            between.expect = Expect::Listening(reply, Box::new(between.expect));
            all.push(between.tied(Tie::Keeps));
        }
        let end = own(redis_array(&[&unsubscribe, &channel]), &notice(&unsubscribe, b"0"));
        all.push(end.tied(Tie::Ends));
        all
    }

    /// Any other command that the proxy has a row for.
    fn redis_other(&self, random: &mut Random) -> Request {
        let (mut words, fate) = commands::request(random.index(commands::count()));
        let key = self.key(random);
        let value = self.value(&key, random);
        let publishes = words[0] == "publish" && !self.channels.is_empty();
        if publishes {
            words.truncate(1);
        }
        let mut words: Vec<&[u8]> =
            words.iter().map(|word| if *word == "K" { &key } else { word.as_bytes() }).collect();
        if publishes {
            words.extend([&self.channels[random.index(self.channels.len())][..], &value]);
        }
        let bytes = redis_array(&words);
        let unit = unit(self.pool, &words);
        let pool = &self.plan.pools[self.pool];
        let (expect, units) = match fate {
            Fate::Forwarded => (Expect::Single(unit.clone()), vec![unit]),
            Fate::Flush if !pool.options.allow_flush => (Expect::Error, Vec::new()),
            Fate::Everywhere | Fate::Flush => {
                (Expect::Single(unit.clone()), vec![unit; pool.servers_count])
            }
            Fate::Counted => {
                let servers_count = self.plan.pools[self.pool].servers_count;
                (Expect::Count(unit.clone()), vec![unit; servers_count])
            }
            Fate::Refused => (Expect::Error, Vec::new()),
            Fate::Own => (Expect::Own, Vec::new()),
        };
        let switches = match words.as_slice() {
            [b"hello", b"2"] => Some(Version::Two),
            [b"hello", b"3"] => Some(Version::Three),
            _ => None,
        };
        Request { bytes, expect, units, may_be_refused: false, switches, tie: Tie::None }
    }

    fn redis_many(&self, random: &mut Random) -> Request {
        let (name, form) = random.pick(&[
            ("mget", Form::Array),
            ("MGET", Form::Array),
            ("mset", Form::Ok),
            ("del", Form::Sum),
            ("unlink", Form::Sum),
            ("EXISTS", Form::Sum),
            ("touch", Form::Sum),
        ]);
        let most = if random.chance(50) { 60 } else { 8 };
        let count = random.skewed(most);
        let lower = name.to_ascii_lowercase();
        let mut words: Vec<Vec<u8>> = vec![name.as_bytes().to_vec()];
        let mut parts = Vec::new();
        for _ in 0..count {
            let key = self.key(random);
            words.push(key.clone());
            let mut unit_words = vec![lower.as_bytes(), &key];
            let value;
            if form == Form::Ok {
                value = self.value(&key, random);
                words.push(value.clone());
                unit_words.push(&value);
            }
            let unit = unit(self.pool, &unit_words);
            parts.push((key, unit));
        }
        many(redis_array(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()), form, parts)
    }

    fn memcache(&self, random: &mut Random) -> Request {
        if random.chance(20) {
            let unit = unit(self.pool, &[b"version"]);
            let expect = Expect::Single(unit.clone());
            let bytes = b"version\r\n".to_vec();
            return Request {
                bytes,
                expect,
                units: vec![unit],
                may_be_refused: false,
                tie: Tie::None,
                switches: None,
            };
        }
        if random.chance(10) {
            return self.memcache_flush(random);
        }
        if random.chance(150) {
            return self.memcache_meta(random);
        }
        let reads = random.pick(&["get", "get", "get", "gets", "gat", "gats"]);
        let is_many = random.chance(self.plan.client.multi_pm);
        if is_many || random.chance(400) {
            let count = match (is_many, random.chance(50)) {
                (true, true) => random.between(1, 60),
                (true, false) => random.between(1, 8),
                _ => 1,
            };
            return self.memcache_read(reads, count, random);
        }
        self.memcache_write(random)
    }

    fn memcache_flush(&self, random: &mut Random) -> Request {
        let line = random.pick(&commands::MEMCACHE_FLUSHES);
        let unit = unit(self.pool, &line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        let pool = &self.plan.pools[self.pool];
        let (expect, units) = match pool.options.allow_flush {
            true => (Expect::Single(unit.clone()), vec![unit; pool.servers_count]),
            false => (Expect::Error, Vec::new()),
        };
        let bytes = format!("{line}\r\n").into_bytes();
        Request { bytes, expect, units, may_be_refused: false, tie: Tie::None, switches: None }
    }

    fn memcache_read(&self, name: &str, count: u64, random: &mut Random) -> Request {
        let exptime = random.pick(&["0", "100", "-1"]);
        let mut head: Vec<&[u8]> = vec![name.as_bytes()];
        if name.starts_with("gat") {
            head.push(exptime.as_bytes());
        }
        let mut line = head.join(b" ".as_slice());
        let mut parts = Vec::new();
        for _ in 0..count {
            let key = self.key(random);
            line.extend_from_slice(if random.chance(20) { b"  " } else { b" " });
            line.extend_from_slice(&key);
            let mut words = head.clone();
            words.push(&key);
            let unit = unit(self.pool, &words);
            parts.push((key, unit));
        }
        line.extend_from_slice(if random.chance(50) { b"\n" } else { b"\r\n" });
        many(line, Form::Values, parts)
    }

    /// A meta command. None wants silence: whether there is a reply then is for the server to know.
    fn memcache_meta(&self, random: &mut Random) -> Request {
        if random.chance(60) {
            return own(b"mn\r\n".to_vec(), b"MN\r\n");
        }
        let name = random.pick(&META_COMMANDS);
        let key = self.key(random);
        let value = self.value(&key, random);
        let encoded = random.chance(200).then(|| base64(&key));
        let key_text = encoded.as_deref().unwrap_or(&key);
        let size = value.len().to_string();
        let mut words: Vec<&[u8]> = vec![name.as_bytes(), key_text];
        if name == "ms" {
            words.push(size.as_bytes());
        }
        let flags: &[&[u8]] = match name {
            "mg" => &[b"v", b"f", b"s", b"k", b"c", b"T100"],
            "ms" => &[b"T0", b"F7", b"ME", b"k", b"C5"],
            "ma" => &[b"v", b"N0", b"J12", b"D3", b"MD", b"k"],
            "md" => &[b"C3", b"k"],
            _ => &[],
        };
        words.extend(flags.iter().filter(|_| random.chance(400)));
        let opaque = format!("O{}.{}", self.connection, self.number);
        if name != "me" && random.chance(500) {
            words.push(opaque.as_bytes());
        }
        if encoded.is_some() {
            words.push(b"b");
        }
        let mut bytes = words.join(b" ".as_slice());
        bytes.extend_from_slice(b"\r\n");
        if name == "ms" {
            words.push(&value);
            bytes.extend_from_slice(&value);
            bytes.extend_from_slice(b"\r\n");
        }
        let unit = unit(self.pool, &words);
        let expect = Expect::Single(unit.clone());
        Request {
            bytes,
            expect,
            units: vec![unit],
            may_be_refused: false,
            tie: Tie::None,
            switches: None,
        }
    }

    fn memcache_write(&self, random: &mut Random) -> Request {
        let key = self.key(random);
        let value = self.value(&key, random);
        let size = value.len().to_string();
        let number = random.below(30).to_string();
        let exptime = random.pick(&["0", "0", "1", "500", "-1"]);
        let key_text = String::from_utf8_lossy(&key).into_owned();
        let name = random.pick(&MEMCACHE_WRITES);
        let mut words = vec![name, &key_text];
        let mut stores = true;
        match name {
            "cas" => words.extend(["7", exptime, &size, &number]),
            "incr" | "decr" => {
                stores = false;
                words.push(&number);
            }
            "touch" => {
                stores = false;
                words.push(exptime);
            }
            "delete" => stores = false,
            _ => words.extend(["5", exptime, &size]),
        }
        let mut unit_words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        if stores {
            unit_words.push(&value);
        }
        let unit = unit(self.pool, &unit_words);
        let quiet = random.chance(self.plan.client.quiet_pm);
        if quiet {
            words.push("noreply");
        }
        let mut bytes = words.join(" ").into_bytes();
        bytes.extend_from_slice(b"\r\n");
        if stores {
            bytes.extend_from_slice(&value);
            bytes.extend_from_slice(b"\r\n");
        }
        let expect = if quiet { Expect::Nothing } else { Expect::Single(unit.clone()) };
        Request {
            bytes,
            expect,
            units: vec![unit],
            may_be_refused: false,
            tie: Tie::None,
            switches: None,
        }
    }

    /// A write and a read of a key, for after the faults.
    pub fn probe(&self, key: &[u8], writes: bool, random: &mut Random) -> Request {
        let value = self.value(key, random);
        let unit = match (self.protocol(), writes) {
            (Protocol::Redis, true) => unit(self.pool, &[b"set", key, &value]),
            (Protocol::Redis, false) => unit(self.pool, &[b"get", key]),
            (Protocol::Memcache, true) => {
                let size = value.len().to_string();
                unit(self.pool, &[b"set", key, b"0", b"0", size.as_bytes(), &value])
            }
            (Protocol::Memcache, false) => unit(self.pool, &[b"get", key]),
        };
        let bytes = match (self.protocol(), writes) {
            (Protocol::Redis, true) => redis_array(&[b"set", key, &value]),
            (Protocol::Redis, false) => redis_array(&[b"get", key]),
            (Protocol::Memcache, true) => {
                let head = format!(" 0 0 {}\r\n", value.len());
                [b"set ", key, head.as_bytes(), &value, b"\r\n"].concat()
            }
            (Protocol::Memcache, false) => [b"get ", key, b"\r\n"].concat(),
        };
        if self.protocol() == Protocol::Memcache && !writes {
            return many(bytes, Form::Values, vec![(key.to_vec(), unit)]);
        }
        let expect = Expect::Single(unit.clone());
        Request {
            bytes,
            expect,
            units: vec![unit],
            may_be_refused: false,
            tie: Tie::None,
            switches: None,
        }
    }
}

/// Whether a command of Redis is drawn here, and not from [`commands`].
#[cfg(test)]
pub(crate) fn draws_redis(name: &str) -> bool {
    let singles = REDIS_COMMANDS.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let others = ["mget", "mset", "del", "unlink", "exists", "touch"];
    let own = ["auth", "echo", "ping", "quit", "reset"];
    let tied = ["watch", "unwatch", "multi", "exec", "discard", "subscribe", "unsubscribe"];
    let kinds = ["psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe"];
    let tied = tied.contains(&name) || kinds.contains(&name);
    singles || others.contains(&name) || own.contains(&name) || tied
}

/// Whether a command of memcached is drawn.
#[cfg(test)]
pub(crate) fn draws_memcache(name: &str) -> bool {
    let reads = ["get", "gets", "gat", "gats", "version", "flush_all"];
    MEMCACHE_WRITES.contains(&name) || META_COMMANDS.contains(&name) || reads.contains(&name)
}

const META_COMMANDS: [&str; 8] = ["mg", "mg", "mg", "ms", "ms", "ma", "md", "me"];

/// As the flag `b` has keys.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::new();
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= group.len() { letter } else { b'=' });
        }
    }
    text
}

const MEMCACHE_WRITES: [&str; 12] = [
    "set", "set", "set", "add", "replace", "append", "prepend", "cas", "incr", "decr", "touch",
    "delete",
];

/// Single-key commands with the kinds of their further words: a value, a small number, an offset, a
/// time, a field.
const REDIS_COMMANDS: &[(&str, &str)] = &[
    ("GET", ""),
    ("get", ""),
    ("SET", "v"),
    ("set", "v"),
    ("SETNX", "v"),
    ("SETEX", "tv"),
    ("GETSET", "v"),
    ("GETDEL", ""),
    ("APPEND", "v"),
    ("STRLEN", ""),
    ("INCR", ""),
    ("INCRBY", "n"),
    ("DECR", ""),
    ("DECRBY", "n"),
    ("GETRANGE", "no"),
    ("SETRANGE", "nv"),
    ("EXPIRE", "t"),
    ("PEXPIRE", "t"),
    ("PERSIST", ""),
    ("TTL", ""),
    ("PTTL", ""),
    ("TYPE", ""),
    ("HSET", "fv"),
    ("HGET", "f"),
    ("HDEL", "f"),
    ("HGETALL", ""),
    ("HLEN", ""),
    ("LPUSH", "v"),
    ("RPUSH", "v"),
    ("LPOP", ""),
    ("RPOP", ""),
    ("LLEN", ""),
    ("LRANGE", "no"),
    ("SADD", "v"),
    ("SREM", "f"),
    ("SISMEMBER", "f"),
    ("SMEMBERS", ""),
    ("SCARD", ""),
];

/// What a client says that speaks RESP3 from the first word.
pub fn hello(password: Option<&[u8]>) -> Request {
    let mut words: Vec<&[u8]> = vec![b"HELLO", b"3"];
    words.extend(password.iter().flat_map(|password| [b"AUTH".as_slice(), b"default", password]));
    let bytes = redis_array(&words);
    let switches = Some(Version::Three);
    Request {
        bytes,
        expect: Expect::Hello,
        units: Vec::new(),
        may_be_refused: false,
        switches,
        tie: Tie::None,
    }
}

/// An array of bulk strings.
pub fn redis_array(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn own(bytes: Vec<u8>, reply: &[u8]) -> Request {
    let expect = Expect::Exact(reply.to_vec());
    Request {
        bytes,
        expect,
        units: Vec::new(),
        may_be_refused: false,
        tie: Tie::None,
        switches: None,
    }
}

fn many(bytes: Vec<u8>, form: Form, parts: Vec<(Vec<u8>, Vec<u8>)>) -> Request {
    let units = parts.iter().map(|(_, unit)| unit.clone()).collect();
    Request {
        bytes,
        expect: Expect::Many(form, parts),
        units,
        may_be_refused: false,
        tie: Tie::None,
        switches: None,
    }
}

/// How a client says goodbye.
pub fn farewell(protocol: Protocol, random: &mut Random) -> Request {
    let (bytes, reply): (&[u8], &[u8]) = match (protocol, random.chance(500)) {
        (Protocol::Redis, true) => (b"*1\r\n$4\r\nQUIT\r\n", b"+OK\r\n"),
        (Protocol::Redis, false) => (b"quit\r\n", b"+OK\r\n"),
        (Protocol::Memcache, _) => (b"quit\r\n", b""),
    };
    let expect = Expect::Farewell(reply.to_vec());
    Request {
        bytes: bytes.to_vec(),
        expect,
        units: Vec::new(),
        may_be_refused: false,
        tie: Tie::None,
        switches: None,
    }
}

/// Bytes that are no request, or none that is allowed.
fn malformed(protocol: Protocol, random: &mut Random) -> Request {
    let choices: &[(&[u8], Expect)] = match protocol {
        Protocol::Redis => &REDIS_MALFORMED,
        Protocol::Memcache => &MEMCACHE_MALFORMED,
    };
    let (bytes, expect) = &choices[random.index(choices.len())];
    let mut bytes = bytes.to_vec();
    if bytes.ends_with(b"LONG") {
        bytes.truncate(bytes.len() - 4);
        bytes.extend(std::iter::repeat_n(b'k', 251));
        bytes.extend_from_slice(b"\r\n");
    }
    Request {
        bytes,
        expect: expect.clone(),
        units: Vec::new(),
        may_be_refused: false,
        tie: Tie::None,
        switches: None,
    }
}

static REDIS_MALFORMED: [(&[u8], Expect); 17] = [
    (b"*1\r\n$5\r\nBOGUS\r\n", Expect::Error),
    (b"*1\r\n$3\r\nGET\r\n", Expect::Error),
    (b"*3\r\n$3\r\nGET\r\n$1\r\na\r\n$1\r\nb\r\n", Expect::Error),
    (b"*4\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n", Expect::Error),
    (b"*1\r\n$0\r\n\r\n", Expect::Error),
    (b"*1\r\n$4\r\nEXEC\r\n", Expect::Error),
    (b"\r\n", Expect::Nothing),
    (b"*0\r\n", Expect::Nothing),
    (b"*-1\r\n", Expect::Nothing),
    (b"*1\r\n$-5\r\n", Expect::Fatal),
    (b"*1\r\n:3\r\n", Expect::Fatal),
    (b"*abc\r\n", Expect::Fatal),
    (b"*1\r\n$3\r\nabcd\r\n", Expect::Fatal),
    (b"*2000000000\r\n", Expect::Fatal),
    (b"*1\r\n$4294967299\r\nGET", Expect::Fatal),
    (b"GET \"a\r\n", Expect::Fatal),
    (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", Expect::Fatal),
];

static MEMCACHE_MALFORMED: [(&[u8], Expect); 15] = [
    (b"bogus\r\n", Expect::Error),
    (b"get\r\n", Expect::Error),
    (b"set k 0 0 abc\r\n", Expect::Error),
    (b"set k x 0 3\r\nabc\r\n", Expect::Error),
    (b"set k 0 0 3\r\nabcXY", Expect::Error),
    (b"incr k abc\r\n", Expect::Error),
    (b"get LONG", Expect::Error),
    (b"set k 4294967296 0 1\r\na\r\n", Expect::Error),
    (b"\r\n", Expect::Error),
    (b"GET a\r\n", Expect::Error),
    (b"flush_all x\r\n", Expect::Error),
    (b"verbosity x\r\n", Expect::Error),
    (b"set k 0 0 99999999999\r\n", Expect::Fatal),
    (b"\x80\x01\0\0\0\0", Expect::Fatal),
    (b"GET / HTTP/1.1\r\n", Expect::Fatal),
];
