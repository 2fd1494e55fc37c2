//! Requests of Redis.

use super::{Expect, Form, Request, Tie, Writer, many, own};
use crate::commands::{self, Fate};
use crate::oracle::unit;
use crate::random::Random;
use crate::wire::Version;

impl Writer<'_> {
    pub(super) fn redis(&self, random: &mut Random) -> Request {
        if random.chance(self.plan.client.multi_pm) {
            return self.several(random);
        }
        if random.chance(30) {
            let password = self.plan.pools[self.pool].options.password.is_some();
            return match random.below(4) {
                // It takes the password back.
                3 if !password => Request {
                    switches: Some(Version::Two),
                    ..own(array(&[b"RESET"]), b"+RESET\r\n")
                },
                0 => own(array(&[b"PING"]), b"+PONG\r\n"),
                1 => own(b"ping\r\n".to_vec(), b"+PONG\r\n"),
                _ => own(array(&[b"echo", b"a\r\nb"]), b"$4\r\na\r\nb\r\n"),
            };
        }
        if random.chance(100) {
            return self.other(random);
        }
        let key = self.key(random);
        self.single(key, random)
    }

    /// A request of one key, whose unit it has.
    fn single(&self, key: Vec<u8>, random: &mut Random) -> Request {
        let mut words: Vec<Vec<u8>> = Vec::new();
        let (name, shape) = random.pick(COMMANDS);
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
            array(&words.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        Request::single(bytes, unit)
    }

    /// A transaction, a subscription, or a request that waits.
    pub(super) fn on_own_connection(&self, random: &mut Random) -> Vec<Request> {
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
        let bytes = array(&words);
        Request::single(bytes, unit).tied(Tie::Waits)
    }

    fn transaction(&self, random: &mut Random) -> Vec<Request> {
        let key = self.key(random);
        let mut all = Vec::new();
        if random.chance(300) {
            all.push(own(array(&[b"WATCH", &key]), b"+OK\r\n").tied(Tie::Begins));
            if random.chance(200) {
                all.push(own(array(&[b"UNWATCH"]), b"+OK\r\n").tied(Tie::Ends));
                return all;
            }
        }
        let tie = if all.is_empty() { Tie::Begins } else { Tie::Keeps };
        all.push(own(array(&[b"MULTI"]), b"+OK\r\n").tied(tie));
        let (mut parts, mut may_be_refused) = (Vec::new(), false);
        for _ in 0..random.below(4) {
            let number = self.number + all.len() as u64;
            let mut request = Writer { number, ..*self }.single(key.clone(), random);
            self.limit(&mut request);
            may_be_refused |= request.may_be_refused;
            parts.push((key.clone(), request.units.remove(0)));
            request.expect = Expect::Exact(b"+QUEUED\r\n".to_vec());
            all.push(request.tied(Tie::Keeps));
        }
        let last = if random.chance(150) {
            own(array(&[b"DISCARD"]), b"+OK\r\n")
        } else {
            many(array(&[b"exec"]), Form::Transaction, parts)
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
        let begin = own(array(&[&subscribe, &channel]), &notice(&subscribe, b"1"));
        let mut all = vec![begin.tied(Tie::Begins)];
        for _ in 0..random.below(4) {
            let (mut between, reply) = match random.chance(700) {
                true => {
                    let ping = own(array(&[b"PING"]), b"+PONG\r\n");
                    (ping, b"*2\r\n$4\r\npong\r\n$0\r\n\r\n".to_vec())
                }
                false => {
                    let mut other = self.single(self.key(random), random);
                    self.limit(&mut other);
                    (other, Vec::new())
                }
            };
            // A subscription that has failed leaves the rest as it would be without.
            between.expect = Expect::Listening(reply, Box::new(between.expect));
            all.push(between.tied(Tie::Keeps));
        }
        let end = own(array(&[&unsubscribe, &channel]), &notice(&unsubscribe, b"0"));
        all.push(end.tied(Tie::Ends));
        all
    }

    /// Any other command that the proxy has a row for.
    fn other(&self, random: &mut Random) -> Request {
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
        let bytes = array(&words);
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
        Request { switches, ..Request::new(bytes, expect, units) }
    }

    fn several(&self, random: &mut Random) -> Request {
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
        many(array(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()), form, parts)
    }
}

/// Whether a command of Redis is drawn here, and not from [`commands`].
#[cfg(test)]
pub(crate) fn draws(name: &str) -> bool {
    let singles = COMMANDS.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let others = ["mget", "mset", "del", "unlink", "exists", "touch"];
    let own = ["auth", "echo", "ping", "quit", "reset"];
    let tied = ["watch", "unwatch", "multi", "exec", "discard", "subscribe", "unsubscribe"];
    let kinds = ["psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe"];
    let tied = tied.contains(&name) || kinds.contains(&name);
    singles || others.contains(&name) || own.contains(&name) || tied
}

/// Single-key commands with the kinds of their further words: a value, a small number, an offset, a
/// time, a field.
const COMMANDS: &[(&str, &str)] = &[
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

pub(super) static MALFORMED: [(&[u8], Expect); 17] = [
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

/// What a client says that speaks RESP3 from the first word.
pub(crate) fn hello(password: Option<&[u8]>) -> Request {
    let mut words: Vec<&[u8]> = vec![b"HELLO", b"3"];
    words.extend(password.iter().flat_map(|password| [b"AUTH".as_slice(), b"default", password]));
    let switches = Some(Version::Three);
    Request { switches, ..Request::new(array(&words), Expect::Hello, Vec::new()) }
}

/// An array of bulk strings.
pub(crate) fn array(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
