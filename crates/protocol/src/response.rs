//! What a framer says of a server's bytes: the words for responses, and for what joins those of a
//! split request.
//!
//! Who gives them is `redis/` and `memcache/`. Invariant: what is noticed of a response while it is
//! framed ([`Seen`]) is all that is asked of it later ([`Expect`]).

#[cfg(doc)]
use crate::Protocol;
use crate::{Step, Version, memcache, redis};

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
