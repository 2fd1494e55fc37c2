//! The two wire protocols, pure: requests are parsed, responses are framed, split requests are
//! encoded and their responses joined. Bytes in, bytes out; no socket, no clock, no server.
//!
//! The rest of Weir sees one [`Protocol`] value and the types of this file, and needs no word of
//! either protocol. What a command looks like is a row of a table (`redis/commands.rs`,
//! `memcache/commands.rs`). Invariants: a parser looks at each byte a bounded number of times,
//! however the stream is cut; nothing is allocated for a length that was only declared; and what is
//! forwarded is framed by the server exactly as it was framed here, because whatever is not in
//! canonical form is rewritten or refused.

#![forbid(unsafe_code)]

use std::ops::Range;

mod decimal;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod memcache;
mod profile;
pub mod redis;
mod tie;

pub use profile::{Labels, Profile, Version};
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

/// What a request parser remembers between two calls about a request of which it has seen only the
/// beginning. Start each request with the default value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestState {
    /// Bytes from the start of the request that need not be looked at again to find its end.
    pub(crate) scanned: u32,
    /// Arguments still to come after `scanned`; 0 when the header is not complete.
    pub(crate) arguments_left: u32,
    /// With fewer bytes than this there is no use in looking; 0 when nothing is known.
    pub(crate) wanted: u32,
}

/// What a response framer remembers between two calls about a response of which it has seen only
/// the beginning, and what it noticed of the last whole one. Start with the default value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResponseState {
    /// Bytes from the start of the response that are checked.
    pub(crate) scanned: u64,
    /// Bytes after `scanned` in which there is no line end.
    pub(crate) searched: u64,
    /// With fewer bytes than this there is no use in looking; 0 when nothing is known.
    pub(crate) wanted: u64,
    /// Elements still to come after `scanned`; 0 at the very beginning.
    pub(crate) elements_left: u64,
    /// What the checked bytes have, and after a whole response, what it had.
    pub(crate) seen: Seen,
    /// What the connection speaks; it outlasts the response.
    pub(crate) version: Version,
}

impl ResponseState {
    /// For a connection that speaks this version; the default value is for the first.
    pub fn new(version: Version) -> ResponseState {
        ResponseState { version, ..ResponseState::default() }
    }

    /// Ready for the next response.
    #[inline]
    pub(crate) fn reset(&mut self) {
        *self = ResponseState::new(self.version);
    }
}

/// What was noticed of a response while it was framed, so that it need not be read again to see
/// whether it can belong to a request. The counterpart of [`Expect`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The protocol's own classes of responses that it may be, as bits.
    pub(crate) classes: u16,
    /// Check sum of the key that it echoes; 0 for none.
    pub(crate) key_check: u32,
}

/// One key of a split request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpan {
    /// The key's bytes, which are hashed.
    pub key: Span,
    /// What travels with the key: its wire form, with its value where there is one.
    pub element: Span,
}

/// Working memory of a parser; one a worker, reused for each request. What it holds is valid until
/// the next call.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The keys of a request whose route is [`Route::Split`] or [`Route::Dedicated`], in order.
    pub keys: Vec<KeySpan>,
    /// The answer that goes with [`Parsed::Reply`] and [`Parsed::Authenticate`], and the one to a
    /// request of [`Route::Dedicated`] while its transaction has no connection yet, or, when it is
    /// not allowed in a subscription, in its place.
    pub reply: Vec<u8>,
    /// The bytes to forward for [`Forward::Rewritten`].
    pub rewritten: Vec<u8>,
    /// The key of a request whose route is [`Route::Decoded`].
    pub decoded: Vec<u8>,
    /// Spans of the arguments, for the parser's own use.
    pub arguments: Vec<Span>,
    /// What the client's profile becomes when it is given [`Scratch::reply`]; `None` when it stays
    /// as it is.
    pub profile: Option<Profile>,
    /// Whether all spans of the last result are relative to `rewritten`: see
    /// [`Scratch::source`].
    pub(crate) rewritten_whole: bool,
    /// Requests are those of a client in a session.
    pub(crate) session: Option<Session>,
    /// Whether the last result may have used any other field. Most do not, and five fields to reset
    /// would cost much of what a fast path saves.
    pub(crate) used: bool,
}

/// What a [`Scratch`] keeps of a vector from one request to the next, in elements. A larger one was
/// needed by a rare request, and its memory goes back.
const SCRATCH_KEPT_MAX: usize = 64 << 10;

impl Scratch {
    /// The bytes that all spans of the last result are relative to, [`KeySpan`]s included: those
    /// that were given to the parser, or [`Scratch::rewritten`] where the request was not in its
    /// usual form at all (an inline command of Redis).
    #[inline]
    pub fn source<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        if self.rewritten_whole { &self.rewritten } else { bytes }
    }

    /// Begins a result that may use any field.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.reset();
        self.used = true;
    }

    /// Begins a result that uses no field.
    #[inline]
    pub(crate) fn begin_unused(&mut self) {
        if self.used {
            self.reset();
            self.used = false;
        }
    }

    /// Forgets the last result.
    fn reset(&mut self) {
        self.rewritten_whole = false;
        reset_vec(&mut self.keys);
        reset_vec(&mut self.reply);
        reset_vec(&mut self.rewritten);
        reset_vec(&mut self.arguments);
        self.profile = None;
    }
}

#[inline]
fn reset_vec<T>(vec: &mut Vec<T>) {
    vec.clear();
    if vec.capacity() > SCRATCH_KEPT_MAX {
        *vec = Vec::new();
    }
}

/// What stands at the beginning of a client's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// Not yet a whole request. At least `need` more bytes (1 or more) are needed before another
    /// call can find one.
    Incomplete {
        /// Bytes beyond those given.
        need: usize,
    },
    /// A well-formed request for a server.
    Request(Request),
    /// A well-formed request that the proxy answers itself: see [`Protocol::answer`].
    Own(Own),
    /// Something that the proxy answers with [`Scratch::reply`] (which may be empty).
    Reply {
        /// Bytes that it takes of the stream. May be more than there are: the rest is dropped as it
        /// comes.
        size: usize,
        /// What happens to the connection after the reply.
        then: Then,
        /// Whether it is an error by the client's fault.
        fault: bool,
    },
    /// The client presents a password. When it is right, [`Scratch::reply`] is the answer.
    Authenticate {
        /// Bytes that it takes of the stream.
        size: usize,
        /// The password, in [`Scratch::source`].
        password: Span,
        /// It belongs to a user whom the client named. Where there is no password any is right for
        /// that user.
        is_user_named: bool,
    },
}

/// A request that no server sees, in [`Scratch::arguments`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// Bytes that it takes of the stream.
    size: usize,
    answer: redis::commands::Answer,
}

/// What happens to a client's connection after a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The stream goes on behind the request.
    Continue,
    /// Nothing that follows is read; the connection is closed when everything is answered.
    Close,
}

/// A well-formed request. Spans are relative to [`Request::bytes`], but the `tail` of
/// [`Forward::Rewritten`], which is always relative to the first byte given to the parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Bytes that it takes of the stream.
    pub size: usize,
    /// Its row of the table.
    pub command: &'static Command,
    /// What a server gets, unless the request is split.
    pub forward: Forward,
    /// Where it goes.
    pub route: Route,
    /// What its response must look like.
    pub expect: Expect,
    /// Which replies the client does not want. The server gives them all the same (the request is
    /// forwarded without the word that asks for silence), so that each request has one response.
    pub quiet: Quiet,
}

impl Request {
    /// What the spans of this request and of [`Scratch::keys`] are relative to, and what
    /// [`Protocol::encode_part`] and [`Protocol::plan_join`] must be given as its bytes. `bytes`
    /// are those that the parser was given, `scratch` is as the parser left it.
    #[inline]
    pub fn bytes<'a>(&self, bytes: &'a [u8], scratch: &'a Scratch) -> &'a [u8] {
        scratch.source(bytes)
    }

    /// Appends the whole request as a server gets it. `bytes` are those that the parser was given,
    /// `scratch` is as the parser left it.
    pub fn append_whole(&self, bytes: &[u8], scratch: &Scratch, out: &mut Vec<u8>) {
        match self.forward {
            Forward::Verbatim => out.extend_from_slice(&bytes[..self.size]),
            Forward::Rewritten { tail } => {
                out.extend_from_slice(&scratch.rewritten);
                out.extend_from_slice(&bytes[tail.range()]);
            }
        }
    }
}

/// Which replies to a request its client is not to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quiet {
    /// It gets whatever there is.
    #[default]
    No,
    /// It gets none, not even an error.
    All,
    /// It does not get that nothing was found (memcached's `EN`).
    Misses,
    /// It does not get that all went well (memcached's `HD` and `VA`).
    Successes,
}

impl Quiet {
    /// Whether the client is not to get this response of a server.
    #[inline]
    pub fn drops(self, response: &[u8]) -> bool {
        self != Quiet::No && self.drops_this(response)
    }

    #[cold]
    fn drops_this(self, response: &[u8]) -> bool {
        match self {
            Quiet::No => false,
            Quiet::All => true,
            Quiet::Misses => response.starts_with(b"EN"),
            Quiet::Successes => response.starts_with(b"HD") || response.starts_with(b"VA"),
        }
    }

    /// Whether the client is not even to get an error of ours.
    #[inline]
    pub fn drops_errors(self) -> bool {
        self == Quiet::All
    }
}

/// How a request goes to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// Its bytes as they are.
    Verbatim,
    /// [`Scratch::rewritten`], then a part of its own bytes (which may be empty).
    Rewritten {
        /// The part that follows.
        tail: Span,
    },
}

/// Which server a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The one that owns the key.
    Key(Span),
    /// The one that owns the key that stands in [`Scratch::decoded`]; the request has it in another
    /// form.
    Decoded,
    /// Any; twemproxy's choice is the owner of the key [`PLACEHOLDER_KEY`].
    Any,
    /// Each of [`Scratch::keys`] (two or more) to its owner. When one server owns them all the
    /// request may go there as it is, unless [`Protocol::responses_name_keys`].
    Split,
    /// The whole request to each server: see [`Request::append_whole`].
    Everywhere,
    /// One request of a walk through all servers, each in its turn: see [`Protocol::walk_step`].
    Walk(Cursor),
    /// To the one owner of all of [`Scratch::keys`], or, when there are none, to the owner of
    /// [`PLACEHOLDER_KEY`], on a connection that no other client uses at that time.
    Dedicated(Tie),
}

/// Where a client that walks through the data of all servers has come to; see `redis/scan.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub(crate) u64);

/// The servers that a walk goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// How many there are. 1 or more.
    pub servers_count: usize,
    /// Another number when they are others, mostly.
    pub check: u8,
}

/// A step of a walk: what it asks of which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Index of the server.
    pub server: usize,
    /// Where the server is to go on.
    pub(crate) cursor: u64,
    pub(crate) course: Course,
}

/// What a client is told whose version a server does not speak, or not with us.
pub const VERSION_REFUSED: &str = "the server refused HELLO 3: use RESP2";

/// The key that routes requests without a key.
pub const PLACEHOLDER_KEY: &[u8] = b"placeholder";

/// What a response must look like to belong to its request. It catches a server that is out of
/// step, as far as the protocol lets one see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expect {
    /// The protocol's own class of responses; 0 accepts all.
    pub(crate) class: u16,
    /// Check sum of the key that the response must echo; 0 for none.
    pub(crate) key_check: u32,
}

/// What stands at the beginning of a server's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framed {
    /// Not yet a whole response. At least `need` more bytes (1 or more) are needed.
    Incomplete {
        /// Bytes beyond those given.
        need: usize,
    },
    /// A response.
    Complete {
        /// Bytes that it takes of the stream.
        size: usize,
    },
    /// A message that answers no request, and takes no response's place.
    Push {
        /// Bytes that it takes of the stream.
        size: usize,
    },
    /// Not a response. Nothing that follows can be trusted. The text is for the log.
    Broken(&'static str),
}

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

/// How the responses to the parts of a split request become one; made by [`Protocol::plan_join`].
#[derive(Debug, Default)]
pub struct Join(pub(crate) JoinPlan);

impl Join {
    /// The memory that it holds beside itself, in bytes.
    pub fn capacity(&self) -> usize {
        match &self.0 {
            JoinPlan::None | JoinPlan::Step(_) => 0,
            JoinPlan::Redis(plan) => plan.capacity(),
            JoinPlan::Memcache(plan) => plan.capacity(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) enum JoinPlan {
    #[default]
    None,
    Redis(redis::join::Plan),
    Memcache(memcache::join::Plan),
    Step(Step),
}

/// How one part of a split request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// The server's whole response.
    Response(&'a [u8]),
    /// There is none, for this reason (without a prefix or a line end).
    Failed(&'a str),
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
