//! Requests of model clients: every command that the embedded server knows, in both protocols, and
//! bytes that are no request. What both protocols share is here.
//!
//! Invariant: a write carries in its value who wrote it, so that no two of them are alike.

pub(crate) mod memcache;
pub(crate) mod redis;

use protocol::Protocol;

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
    /// While the client listens in RESP2 these bytes, or, when there are none, an error; else the
    /// other.
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
    fn new(bytes: Vec<u8>, expect: Expect, units: Vec<Vec<u8>>) -> Request {
        Request { bytes, expect, units, may_be_refused: false, switches: None, tie: Tie::None }
    }

    /// Answered by the server that executes this unit.
    fn single(bytes: Vec<u8>, unit: Vec<u8>) -> Request {
        Request::new(bytes, Expect::Single(unit.clone()), vec![unit])
    }

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
            (Protocol::Redis, true) => redis::array(&[b"set", key, &value]),
            (Protocol::Redis, false) => redis::array(&[b"get", key]),
            (Protocol::Memcache, true) => {
                let head = format!(" 0 0 {}\r\n", value.len());
                [b"set ", key, head.as_bytes(), &value, b"\r\n"].concat()
            }
            (Protocol::Memcache, false) => [b"get ", key, b"\r\n"].concat(),
        };
        if self.protocol() == Protocol::Memcache && !writes {
            return many(bytes, Form::Values, vec![(key.to_vec(), unit)]);
        }
        Request::single(bytes, unit)
    }
}

/// A request that the proxy answers itself, or as it would.
fn own(bytes: Vec<u8>, reply: &[u8]) -> Request {
    Request::new(bytes, Expect::Exact(reply.to_vec()), Vec::new())
}

/// A request whose parts servers answer.
fn many(bytes: Vec<u8>, form: Form, parts: Vec<(Vec<u8>, Vec<u8>)>) -> Request {
    let units = parts.iter().map(|(_, unit)| unit.clone()).collect();
    Request::new(bytes, Expect::Many(form, parts), units)
}

/// How a client says goodbye.
pub fn farewell(protocol: Protocol, random: &mut Random) -> Request {
    let (bytes, reply): (&[u8], &[u8]) = match (protocol, random.chance(500)) {
        (Protocol::Redis, true) => (b"*1\r\n$4\r\nQUIT\r\n", b"+OK\r\n"),
        (Protocol::Redis, false) => (b"quit\r\n", b"+OK\r\n"),
        (Protocol::Memcache, _) => (b"quit\r\n", b""),
    };
    Request::new(bytes.to_vec(), Expect::Farewell(reply.to_vec()), Vec::new())
}

/// Bytes that are no request, or none that is allowed.
fn malformed(protocol: Protocol, random: &mut Random) -> Request {
    let choices: &[(&[u8], Expect)] = match protocol {
        Protocol::Redis => &redis::MALFORMED,
        Protocol::Memcache => &memcache::MALFORMED,
    };
    let (bytes, expect) = &choices[random.index(choices.len())];
    let mut bytes = bytes.to_vec();
    if bytes.ends_with(b"LONG") {
        bytes.truncate(bytes.len() - 4);
        bytes.extend(std::iter::repeat_n(b'k', 251));
        bytes.extend_from_slice(b"\r\n");
    }
    Request::new(bytes, expect.clone(), Vec::new())
}
