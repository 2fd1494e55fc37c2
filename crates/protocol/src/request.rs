//! What a parser says of a client's bytes: the words for requests, and for where they go.
//!
//! Who gives them is `redis/` and `memcache/`. Invariant: every span is relative to
//! [`Scratch::source`], but for the tail of [`Forward::Rewritten`].

use crate::{Command, Expect, Profile, Session, Span, Tie, redis};
#[cfg(doc)]
use crate::{PLACEHOLDER_KEY, Protocol};

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
pub(crate) const SCRATCH_KEPT_MAX: usize = 64 << 10;

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
    pub(crate) size: usize,
    pub(crate) answer: redis::commands::Answer,
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
