//! One connection: what is on its way out, what is in flight, and what has come of a reply that is
//! not yet whole.
//!
//! It draws no request and records nothing. Invariant: replies belong to requests in order, so the
//! front of `in_flight` is the request that the next reply answers.

use std::collections::VecDeque;

use base::{Chain, Kind, Time, Token};

use crate::verify::Expect;
use crate::workload::stream::Request;

/// Where a connection is.
///
/// ```text
/// Down --retry_at--> Connecting --connected--> Up --broken, timed out--> Closing --closed--> Down
///                         |                                                 ^
///                         +------------------ failed -----------------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No socket; another try at this time.
    Down { retry_at: Time },
    /// Connect is under way since then.
    Connecting { since: Time },
    /// Requests may be sent.
    Up,
    /// Waits for its socket to be gone.
    Closing,
}

/// What an entry in flight is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The protocol's greeting.
    Handshake,
    /// A write before the measurement, of a value.
    PrefillValue,
    /// The same of a counter.
    PrefillCounter,
    /// A request of the load.
    Load,
}

/// A request that waits for its reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    pub(super) request: Request,
    pub(super) purpose: Purpose,
    pub(super) expect: Expect,
    /// The intended start.
    pub(super) t0_ns: u64,
    /// When its send was given to the event base; 0 before.
    pub(super) t2_ns: u64,
    /// How long it could not be sent because everything was full.
    pub(super) full_ns: u64,
    /// Requests that its session (of a partly open load) has left.
    pub(super) session_left: u32,
    pub(super) replies_left: u16,
    pub(super) replies_seen: u16,
    /// Belongs to the measured time.
    pub(super) measured: bool,
    /// One of its replies was an error, or wrong.
    pub(super) failed: bool,
}

impl InFlight {
    /// One that no time is known of.
    #[inline]
    pub(super) fn new(request: Request, purpose: Purpose, replies: u16) -> InFlight {
        InFlight {
            request,
            purpose,
            expect: Expect::default(),
            t0_ns: 0,
            t2_ns: 0,
            full_ns: 0,
            session_left: 0,
            replies_left: replies,
            replies_seen: 0,
            measured: false,
            failed: false,
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) index: u32,
    generation: u32,
    pub(super) state: State,
    /// Built, not yet sent.
    pub(super) out: Chain,
    /// A send is under way.
    pub(super) sending: bool,
    pub(super) in_flight: VecDeque<InFlight>,
    /// The last so many of `in_flight` have no time of their send yet.
    pub(super) unstamped: usize,
    /// The beginning of a reply.
    pub(super) pending: Vec<u8>,
    /// In the driver's list of those with room.
    pub(super) queued: bool,
    /// In the driver's list of those with something to send.
    pub(super) dirty: bool,
    /// Failures since it was last up, for the pause before the next try.
    pub(super) failures: u32,
    pub(super) was_up: bool,
}

impl Session {
    pub(super) fn new(index: u32) -> Session {
        Session {
            index,
            generation: 0,
            state: State::Down { retry_at: Time::ZERO },
            out: Chain::new(),
            sending: false,
            in_flight: VecDeque::new(),
            unstamped: 0,
            pending: Vec::new(),
            queued: false,
            dirty: false,
            failures: 0,
            was_up: false,
        }
    }

    pub(super) fn token(&self) -> Token {
        Token::new(Kind::Server, self.index, self.generation)
    }

    /// The socket is gone: the next one has another name.
    pub(super) fn renew(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.sending = false;
        self.pending = Vec::new();
    }

    #[inline]
    pub(super) fn has_room(&self, depth: usize) -> bool {
        self.state == State::Up && self.in_flight.len() < depth
    }
}
