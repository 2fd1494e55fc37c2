//! The two wire protocols, pure: requests are parsed, responses are framed, split requests are
//! encoded and their responses joined. Bytes in, bytes out; no socket, no clock, no server.
//!
//! The rest of Weir sees one [`Protocol`] value and the types that are named here (of requests in
//! `request.rs`, of responses in `response.rs`), and needs no word of either protocol.
//! What a command looks like is a row of a table (`redis/commands.rs`, `memcache/commands.rs`).
//! Invariants: a parser looks at each byte a bounded number of times, however the stream is cut;
//! nothing is allocated for a length that was only declared; and what is forwarded is framed by the
//! server exactly as it was framed here, because whatever is not in canonical form is rewritten or
//! refused.

#![forbid(unsafe_code)]

use std::ops::Range;

mod decimal;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod memcache;
mod profile;
pub mod redis;
mod request;
mod response;
mod tie;

pub use profile::{Labels, Profile, Version};
pub use request::{
    Course, Cursor, Forward, KeySpan, Own, Parsed, Quiet, Request, RequestState, Route, Scratch,
    Step, Then,
};
pub use response::{Expect, Framed, Join, Part, ResponseState};
pub(crate) use response::{JoinPlan, Seen};
pub use tie::{Notice, Session, Tie};

/// Which protocol a pool speaks, to its clients and to its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RESP2, and RESP3 for clients that ask for it.
    Redis,
    /// The text protocol, classic and meta commands.
    Memcache,
}

/// A range of bytes in a request. Requests are smaller than 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The span as a range of indices.
    #[inline]
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// What a request or a response may cost. Each limit is checked on the header, before a byte of
/// what it declares has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A whole request, in bytes. At most 1 GiB.
    pub request_size_max: usize,
    /// A whole response, in bytes. At most 4 GiB - 1.
    pub response_size_max: usize,
    /// Arguments, or keys, of one request.
    pub arguments_max: usize,
    /// A line (of a text protocol, or a header line), in bytes; lines of many keys excepted, which
    /// `request_size_max` bounds.
    pub line_size_max: usize,
}

impl Limits {
    /// For what was within its limits when it came.
    pub(crate) const NONE: Limits = Limits {
        request_size_max: usize::MAX,
        response_size_max: usize::MAX,
        arguments_max: usize::MAX,
        line_size_max: usize::MAX,
    };

    /// For a client that has not given the password that the pool has. What tells a password is
    /// short, so that nobody else can make us hold much.
    pub fn of_the_unknown(self) -> Limits {
        Limits {
            request_size_max: self.request_size_max.min(UNKNOWN_REQUEST_SIZE_MAX),
            arguments_max: self.arguments_max.min(UNKNOWN_ARGUMENTS_MAX),
            ..self
        }
    }
}

/// Redis takes as much in one argument of such a client.
const UNKNOWN_REQUEST_SIZE_MAX: usize = 16 << 10;
/// As Redis does.
const UNKNOWN_ARGUMENTS_MAX: usize = 10;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_size_max: 512 << 20,
            response_size_max: 1 << 30,
            arguments_max: 1 << 20,
            line_size_max: 64 << 10,
        }
    }
}

/// What a client is told whose version a server does not speak, or not with us.
pub const VERSION_REFUSED: &str = "the server refused HELLO 3: use RESP2";

/// The key that routes requests without a key.
pub const PLACEHOLDER_KEY: &[u8] = b"placeholder";

/// One row of a command table, as the rest of Weir sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// In the protocol's usual case.
    pub name: &'static str,
    /// Place in [`Protocol::commands`].
    pub index: u16,
    /// Whether it may change data; such a request is never sent twice.
    pub writes: bool,
    /// Whether it empties every server. It is for whoever may decide that to let it through, or to
    /// answer with [`Protocol::flush_refused`].
    pub flushes: bool,
}

/// Commands that a new server connection starts with, before the first request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Handshake {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// How many responses answer it; they go to nobody.
    pub responses_count: usize,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Protocol; 2] = [Protocol::Redis, Protocol::Memcache];

    /// Looks at the beginning of a client's bytes. `state` belongs to the client and is reset by
    /// whatever is not `Incomplete`. After `Incomplete`, call again with the same bytes and more.
    #[inline]
    pub fn parse_request(
        self,
        state: &mut RequestState,
        bytes: &[u8],
        limits: &Limits,
        scratch: &mut Scratch,
    ) -> Parsed {
        match self {
            Protocol::Redis => redis::request::parse(state, bytes, limits, scratch),
            Protocol::Memcache => memcache::request::parse(state, bytes, limits, scratch),
        }
    }

    /// The same for a client that has a connection of its own: every request is for that one
    /// ([`Route::Dedicated`]), but for those beside a [`Session::PushedSubscription`], and what
    /// would change the connection for whoever uses it next is refused.
    #[cold]
    pub fn parse_in_session(
        self,
        session: Session,
        state: &mut RequestState,
        bytes: &[u8],
        limits: &Limits,
        scratch: &mut Scratch,
    ) -> Parsed {
        match self {
            Protocol::Redis => redis::session::parse(session, state, bytes, limits, scratch),
            Protocol::Memcache => memcache::request::parse(state, bytes, limits, scratch),
        }
    }

    /// What begins a transaction on a connection, and is answered once.
    pub fn transaction_begin(self) -> &'static [u8] {
        match self {
            Protocol::Redis => redis::session::BEGIN,
            Protocol::Memcache => b"",
        }
    }

    /// What ends a transaction without doing anything of it, and is answered once.
    pub fn transaction_abort(self) -> &'static [u8] {
        match self {
            Protocol::Redis => redis::session::ABORT,
            Protocol::Memcache => b"",
        }
    }

    /// The answer to the end of a transaction in which a request was wrong.
    pub fn transaction_aborted(self) -> &'static [u8] {
        match self {
            Protocol::Redis => redis::session::ABORTED,
            Protocol::Memcache => b"",
        }
    }

    /// A request whose answer shows that all that a client has asked for before is answered. It can
    /// be told from every other answer, unless the client asks for the same.
    pub fn subscription_mark(self) -> &'static [u8] {
        match self {
            Protocol::Redis => redis::session::MARK,
            Protocol::Memcache => b"",
        }
    }

    /// Reads what a server sends to a client that has subscribed: one whole response.
    pub fn notice(self, response: &[u8]) -> Notice {
        match self {
            Protocol::Redis => redis::session::notice(response),
            Protocol::Memcache => Notice::Nonsense,
        }
    }

    /// Answers a request that the parser has just left to the proxy: a `Reply` or `Authenticate`.
    /// `bytes` are those that the parser was given, `scratch` is as the parser left it, `profile`
    /// is the client's.
    #[cold]
    pub fn answer(
        self,
        own: Own,
        bytes: &[u8],
        profile: &Profile,
        scratch: &mut Scratch,
    ) -> Parsed {
        redis::own::answer(own, bytes, profile, scratch)
    }

    /// Looks at the beginning of a server's bytes. `state` belongs to the connection. After
    /// `Incomplete`, call again with the same bytes and more; after anything else `state` is ready
    /// for the next response, and holds what [`Protocol::accepts_framed`] wants of the last one.
    #[inline]
    pub fn frame_response(
        self,
        state: &mut ResponseState,
        bytes: &[u8],
        limits: &Limits,
    ) -> Framed {
        match self {
            Protocol::Redis => redis::response::frame(state, bytes, limits),
            Protocol::Memcache => memcache::response::frame(state, bytes, limits),
        }
    }

    /// Whether the response that `state` has just framed can belong to the request that `expect`
    /// came with.
    #[inline]
    pub fn accepts_framed(self, expect: Expect, state: &ResponseState) -> bool {
        match self {
            Protocol::Redis => true,
            Protocol::Memcache => memcache::response::accepts(expect, state.seen),
        }
    }

    /// The same of a whole response whose framer is gone; it is framed once more.
    pub fn accepts(self, expect: Expect, response: &[u8]) -> bool {
        let mut state = ResponseState::default();
        let whole = Framed::Complete { size: response.len() };
        expect.class == 0
            || self.frame_response(&mut state, response, &Limits::NONE) == whole
                && self.accepts_framed(expect, &state)
    }

    /// Whether a response names the keys that it is about, so that joining also checks that every
    /// one of them was asked for.
    pub fn responses_name_keys(self) -> bool {
        self == Protocol::Memcache
    }

    /// What the response to a part of a split request must look like.
    pub fn expect_of_part(self, request: &Request) -> Expect {
        match self {
            Protocol::Redis => Expect::default(),
            Protocol::Memcache => Expect { key_check: 0, ..request.expect },
        }
    }

    /// About how large [`Protocol::encode_part`] makes its request, rarely less.
    pub fn part_size(self, keys: &[KeySpan], picks: &[u32]) -> usize {
        // What stands before the keys, and a separator or a line end.
        let head = keys.first().map_or(0, |key| key.element.start as usize) + 16;
        let element = |&pick: &u32| keys[pick as usize].element.range().len() + 1;
        head + picks.iter().map(element).sum::<usize>()
    }

    /// Appends the request that one server gets for its share of a split request. `bytes` are
    /// [`Request::bytes`]; `picks` are indices into `keys`, in the order of the request.
    pub fn encode_part(
        self,
        request: &Request,
        bytes: &[u8],
        keys: &[KeySpan],
        picks: &[u32],
        out: &mut Vec<u8>,
    ) {
        match self {
            Protocol::Redis => redis::join::encode_part(request, bytes, keys, picks, out),
            Protocol::Memcache => memcache::join::encode_part(bytes, keys, picks, out),
        }
    }

    /// What [`Protocol::join`] needs to know of a split request. `bytes` are [`Request::bytes`];
    /// `part_of_key[i]` is the part that the i-th key went to; parts are numbered from zero. The
    /// memory of `used`, the default or what an earlier request is done with, is used again.
    pub fn plan_join(
        self,
        request: &Request,
        bytes: &[u8],
        keys: &[KeySpan],
        part_of_key: &[u32],
        used: Join,
    ) -> Join {
        Join(match (self, used.0) {
            (Protocol::Redis, used) => {
                let mut plan = match used {
                    JoinPlan::Redis(plan) => plan,
                    _ => redis::join::Plan::default(),
                };
                plan.set(request, part_of_key);
                JoinPlan::Redis(plan)
            }
            (Protocol::Memcache, used) => {
                let mut plan = match used {
                    JoinPlan::Memcache(plan) => plan,
                    _ => memcache::join::Plan::default(),
                };
                plan.set(bytes, keys, part_of_key);
                JoinPlan::Memcache(plan)
            }
        })
    }

    /// What a request with this cursor asks for; `None` when it comes of a walk through other
    /// servers than these.
    pub fn walk_step(self, cursor: Cursor, course: Course) -> Option<Step> {
        redis::scan::step(cursor, course)
    }

    /// Appends the request of a step, as its server gets it. `scratch` is as the parser left it,
    /// `bytes` are those that the parser was given.
    pub fn encode_step(self, step: &Step, bytes: &[u8], scratch: &Scratch, out: &mut Vec<u8>) {
        redis::scan::encode(step, scratch.source(bytes), &scratch.arguments, out);
    }

    /// The same as [`Protocol::plan_join`] for a step, whose response is the only part.
    pub fn plan_step(self, step: Step) -> Join {
        Join(JoinPlan::Step(step))
    }

    /// Appends the one response that the client gets. `parts` are all parts, in order.
    pub fn join(self, join: &Join, parts: &[Part<'_>], out: &mut Vec<u8>) {
        match &join.0 {
            JoinPlan::None => unreachable!("it was planned"),
            JoinPlan::Redis(plan) => redis::join::join(plan, parts, out),
            JoinPlan::Memcache(plan) => memcache::join::join(plan, parts, out),
            JoinPlan::Step(step) => redis::scan::join(step, parts, out),
        }
    }

    /// Appends the error that a client sees when its request has no response, in the protocol's
    /// form: `text` has no prefix and no line end.
    pub fn encode_error(self, text: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Protocol::Redis => b"-ERR ".as_slice(),
            Protocol::Memcache => b"SERVER_ERROR ".as_slice(),
        });
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// The answer to a command that [`Command::flushes`] where that is not allowed. It names the
    /// key of the configuration that would allow it.
    pub fn flush_refused(self) -> &'static [u8] {
        match self {
            Protocol::Redis => b"-ERR flushing is not allowed (allow_flush is false)\r\n",
            Protocol::Memcache => b"CLIENT_ERROR flush_all not allowed (allow_flush is false)\r\n",
        }
    }

    /// The answer to a request of a client that has not given the password.
    pub fn unauthenticated(self) -> &'static [u8] {
        match self {
            Protocol::Redis => b"-NOAUTH Authentication required.\r\n",
            Protocol::Memcache => b"CLIENT_ERROR unauthenticated\r\n",
        }
    }

    /// The answer to a wrong password, of a user who was named or of the only one.
    pub fn wrong_password(self, is_user_named: bool) -> &'static [u8] {
        match self {
            Protocol::Redis if is_user_named => {
                b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
            }
            Protocol::Redis => b"-ERR invalid password\r\n",
            Protocol::Memcache => b"CLIENT_ERROR authentication failure\r\n",
        }
    }

    /// The answer to a password where none is needed.
    pub fn no_password_set(self) -> &'static [u8] {
        match self {
            Protocol::Redis => b"-ERR Client sent AUTH, but no password is set\r\n",
            Protocol::Memcache => b"STORED\r\n",
        }
    }

    /// What a new server connection of this version must start with.
    pub fn handshake(self, version: Version, password: Option<&[u8]>, database: u32) -> Handshake {
        match self {
            Protocol::Redis => redis::request::handshake(version, password, database),
            Protocol::Memcache => Handshake::default(),
        }
    }

    /// Whether the first response on a new server connection says that it speaks this version from
    /// here on. Where the version is the first it does so anyway.
    pub fn is_version_agreed(self, version: Version, response: &[u8]) -> bool {
        version == Version::Basic || response.starts_with(b"%")
    }

    /// A request that any server answers at once, whatever it stores. Nobody but us asks it.
    pub fn probe(self) -> &'static [u8] {
        match self {
            Protocol::Redis => b"*1\r\n$4\r\nPING\r\n",
            Protocol::Memcache => b"version\r\n",
        }
    }

    /// Whether this whole response to [`Protocol::probe`] is that of a server that takes requests.
    /// One that loads its data, or wants a password that we don't have, does not.
    pub fn is_probe_passed(self, response: &[u8]) -> bool {
        response.starts_with(match self {
            Protocol::Redis => b"+PONG\r\n".as_slice(),
            Protocol::Memcache => b"VERSION ".as_slice(),
        })
    }

    /// The protocol's table.
    pub fn commands(self) -> &'static [Command] {
        match self {
            Protocol::Redis => redis::commands::all(),
            Protocol::Memcache => memcache::commands::all(),
        }
    }
}
