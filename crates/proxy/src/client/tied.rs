//! Requests of a client that has a connection of its own, or wants one: those that wait, those of a
//! transaction, and those of a subscription.
//!
//! ```text
//!              waits            answered
//!   Shared ------------> Awaits ---------> Shared
//!     | \                   ^
//!     |  \ watches, begins  | commits, aborts, unwatches
//!     |   +--------> Transaction
//!     | listens
//!     +------------> Listens --- nothing is left to listen to ---> Shared
//! ```
//!
//! Which connection that is, and what becomes of it, is in `dedicated.rs`. A client changes over
//! when everything that it asked for before is answered, so that its requests take effect in their
//! order; until then it is paused. Invariant: while a client is not `Shared`, none of its requests
//! is on its way on a connection of others, but for those of one that listens in RESP3, where
//! messages can be told from answers.

use base::slab::Key;
use protocol::{Parsed, Request, Route, Session, Tie, Version};

use super::input::{Frame, Step};
use super::{Client, State};
use crate::canary::Canary;
use crate::errors::RequestError;
use crate::proxy::Proxy;
use crate::request::{Owner, Record};

/// Where a client's requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    /// With those of others.
    #[default]
    Shared,
    /// One of them is the last on a connection of its own; no other is parsed before it is
    /// answered.
    Awaits {
        connection: Key,
        /// The response may take as long as it likes.
        waits: bool,
    },
    /// On a connection of its own, which is not chosen before the first key is known.
    Transaction {
        connection: Option<Key>,
        /// Requests are queued by the server; before, keys are watched.
        begun: bool,
        /// A request was refused here, of which the server does not know.
        spoilt: bool,
    },
    /// The same; what the server sends is no answer to a record, but passed on as it comes.
    Listens {
        connection: Key,
        /// Subscriptions of channels and patterns, and of sharded channels.
        left: [u32; 2],
        marks: Marks,
    },
}

/// Whether everything that a listening client has asked for is answered, which the server is asked
/// to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Answers to this question that are to come.
    pub(crate) asked_count: u32,
    /// The client has asked for something since the last question.
    pub(crate) unmarked: bool,
}

impl Marks {
    /// The client asks for something.
    const ASKS: Marks = Marks { asked_count: 0, unmarked: true };

    /// Nothing is to come but messages.
    pub(crate) fn is_settled(self) -> bool {
        self.asked_count == 0 && !self.unmarked
    }
}

impl Mode {
    pub(crate) fn connection(self) -> Option<Key> {
        match self {
            Mode::Shared => None,
            Mode::Awaits { connection, .. } | Mode::Listens { connection, .. } => Some(connection),
            Mode::Transaction { connection, .. } => connection,
        }
    }

    /// Whether a client that sends no more has no use for what is still to come.
    pub(super) fn ends_with_input(self) -> bool {
        matches!(self, Mode::Awaits { waits: true, .. })
    }
}

impl Client {
    /// A request of a transaction has got an error of ours.
    fn spoil(&mut self) {
        if let Mode::Transaction { begun: true, spoilt, .. } = &mut self.mode {
            *spoilt = true;
        }
    }
}

impl Proxy {
    /// Parses one request of a client that is not `Shared`.
    #[cold]
    pub(super) fn parse_tied(&mut self, key: Key, frame: Frame<'_>) -> Step {
        let Some(client) = self.clients.get_mut(key) else { return Step::Stopped };
        let session = match client.mode {
            Mode::Transaction { .. } => Session::Transaction,
            Mode::Listens { .. } if client.profile.version == Version::Resp3 => {
                Session::PushedSubscription
            }
            Mode::Listens { .. } => Session::Subscription,
            Mode::Shared | Mode::Awaits { .. } => return self.pause_until_answered(key),
        };
        let options = &self.pools[client.pool as usize].options;
        let parsed = options.protocol.parse_in_session(
            session,
            &mut client.parser,
            frame.bytes(),
            &options.limits,
            &mut self.scratch,
        );
        match parsed {
            Parsed::Incomplete { need } => {
                client.need = need;
                Step::Incomplete
            }
            Parsed::Request(request) if matches!(request.route, Route::Dedicated(_)) => {
                self.admit_tied(key, request, frame)
            }
            Parsed::Request(_) | Parsed::Own(_) | Parsed::Reply { .. }
                if self.has_unknown_answers(key) =>
            {
                self.pause_until_answered(key)
            }
            Parsed::Request(request) => self.admit_beside(key, request, frame),
            Parsed::Own(own) => self.answer_own(key, own, frame.bytes()),
            Parsed::Reply { size, then, fault } => {
                if fault {
                    self.clients.at_mut(key.index).spoil();
                }
                self.answer(key, then, fault);
                Step::Consumed(size)
            }
            Parsed::Authenticate { .. } => unreachable!("a session has no place for a password"),
        }
    }

    /// Whether a client listens and the server may still owe it an answer, before which nothing of
    /// ours may reach it. The server is asked to say when that is over.
    fn has_unknown_answers(&mut self, key: Key) -> bool {
        let Mode::Listens { marks, .. } = self.clients.at(key.index).mode else { return false };
        if self.canaries.sings(Canary::NoticeOvertaken) {
            return false;
        }
        if marks.unmarked {
            self.ask_for_mark(key);
        }
        !marks.is_settled()
    }

    /// Asks the server of a client that listens to say when it has answered everything.
    pub(crate) fn ask_for_mark(&mut self, key: Key) {
        let client = self.clients.at_mut(key.index);
        let Mode::Listens { connection, marks, .. } = &mut client.mode else { return };
        marks.asked_count += 1;
        marks.unmarked = false;
        let connection = *connection;
        let protocol = self.pools[client.pool as usize].options.protocol;
        let timeout = self.pools[client.pool as usize].options.request_timeout;
        self.queue_own(connection, protocol.subscription_mark(), 0);
        let due = timeout.map(|timeout| self.now + timeout);
        let conn = self.conns.at_mut(connection.index);
        conn.mark_due = conn.mark_due.or(due);
    }

    /// What a client asks for now has to wait until all that it asked for before is answered.
    pub(super) fn pause_until_answered(&mut self, key: Key) -> Step {
        let client = self.clients.at_mut(key.index);
        client.paused = true;
        client.awaits_all = true;
        Step::Stopped
    }

    /// Takes a request of a client that listens, which goes where those of others go.
    fn admit_beside(&mut self, key: Key, request: Request, frame: Frame<'_>) -> Step {
        let client = self.clients.at(key.index);
        let pool = &mut self.pools[client.pool as usize];
        pool.stats.client_requests += 1;
        let size = request.size;
        if pool.options.password.is_some() && !client.profile.authenticated {
            let refusal = pool.options.protocol.unauthenticated();
            self.reply_now(key, refusal);
        } else {
            self.admit(key, request, frame);
        }
        Step::Consumed(size)
    }

    /// Takes a request of [`Route::Dedicated`].
    #[cold]
    pub(super) fn admit_tied(&mut self, key: Key, request: Request, frame: Frame<'_>) -> Step {
        let Route::Dedicated(tie) = request.route else {
            unreachable!("it is for a connection of the client's own");
        };
        let client = self.clients.at_mut(key.index);
        let protocol = self.pools[client.pool as usize].options.protocol;
        match (client.mode, tie) {
            (Mode::Shared, Tie::Begins) => {
                client.mode = Mode::Transaction { connection: None, begun: true, spoilt: false };
                self.reply_scratch(key);
            }
            (Mode::Transaction { connection: None, spoilt, .. }, Tie::Commits | Tie::Aborts) => {
                client.mode = Mode::Shared;
                if spoilt && tie == Tie::Commits {
                    self.reply_now(key, protocol.transaction_aborted());
                } else {
                    self.reply_scratch(key);
                }
            }
            (Mode::Transaction { connection: None, .. }, Tie::Begins | Tie::Watches) => {
                self.reply_scratch(key);
            }
            (Mode::Transaction { connection: Some(own), spoilt: true, .. }, Tie::Commits) => {
                client.mode = Mode::Awaits { connection: own, waits: false };
                self.reply_now(key, protocol.transaction_aborted());
                self.queue_own(own, protocol.transaction_abort(), 1);
            }
            (Mode::Listens { .. }, _) if tie != Tie::Listens => {
                if self.has_unknown_answers(key) {
                    return self.pause_until_answered(key);
                }
                self.reply_scratch(key);
            }
            (Mode::Shared, Tie::Waits | Tie::Watches | Tie::Listens)
            | (Mode::Transaction { connection: None, .. } | Mode::Listens { .. }, _)
                if !client.requests.is_empty() =>
            {
                return self.pause_until_answered(key);
            }
            _ => {
                if let Err(error) = self.send_tied(key, &request, tie, frame.bytes()) {
                    self.refuse_tied(key, &request, error);
                }
            }
        }
        let client = self.clients.at(key.index);
        self.pools[client.pool as usize].stats.client_requests += 1;
        Step::Consumed(request.size)
    }

    /// Sends a request on the client's own connection, which it gets if it has none.
    fn send_tied(
        &mut self,
        key: Key,
        request: &Request,
        tie: Tie,
        bytes: &[u8],
    ) -> Result<(), RequestError> {
        let client = self.clients.at(key.index);
        let (mode, pool_index) = (client.mode, client.pool as usize);
        let wire = request.bytes(bytes, &self.scratch);
        let mut keys = self.scratch.keys.iter().map(|key| &wire[key.key.range()]);
        let connection = match mode.connection() {
            Some(own) => {
                let server = self.conns.at(own.index).server as usize;
                let pool = &mut self.pools[pool_index];
                if !keys.all(|key| pool.is_owner(server, key)) {
                    return Err(RequestError::KeysApart);
                }
                own
            }
            None => {
                let server = self.pools[pool_index].owner_of_all(keys)?;
                self.dedicate(key, server)?
            }
        };
        let protocol = self.pools[pool_index].options.protocol;
        if mode.connection().is_none() && matches!(mode, Mode::Transaction { .. }) {
            self.queue_own(connection, protocol.transaction_begin(), 1);
        }
        let own = Some(connection);
        let mode = match (mode, tie) {
            (Mode::Listens { left, marks, .. }, _) => {
                Mode::Listens { connection, left, marks: Marks { unmarked: true, ..marks } }
            }
            (_, Tie::Listens) => Mode::Listens { connection, left: [0; 2], marks: Marks::ASKS },
            (Mode::Transaction { begun: true, .. }, Tie::Commits | Tie::Aborts)
            | (Mode::Transaction { begun: false, .. }, Tie::Unwatches) => {
                Mode::Awaits { connection, waits: false }
            }
            (Mode::Transaction { spoilt, begun, .. }, _) => {
                let begun = begun || tie == Tie::Begins;
                Mode::Transaction { connection: own, begun, spoilt }
            }
            (_, Tie::Watches) => Mode::Transaction { connection: own, begun: false, spoilt: false },
            _ => Mode::Awaits { connection, waits: true },
        };
        self.clients.at_mut(key.index).mode = mode;
        let mut whole = self.buffers.take(request.size);
        request.append_whole(bytes, &self.scratch, &mut whole);
        if matches!(mode, Mode::Listens { .. }) {
            self.queue_own(connection, &whole, 0);
            self.buffers.give(whole);
        } else {
            let waits = matches!(mode, Mode::Awaits { waits: true, .. });
            let index = self.begin_tied(key, request, waits);
            self.forward_owned(connection, whole);
            self.enqueue(connection, index, request.expect);
        }
        Ok(())
    }

    /// Makes the record of a request.
    fn begin_tied(&mut self, key: Key, request: &Request, waits: bool) -> u32 {
        let mut record = Record::new(Owner::Client(key));
        record.command = request.command.index;
        record.waits = waits;
        if !waits {
            // One that waits is not slow.
            record.arrived_at = self.now;
        }
        let index = self.records.insert(record).index;
        let client = self.clients.at_mut(key.index);
        client.requests.push(&mut self.records, index);
        if self.pools[client.pool as usize].options.slow_threshold.is_some() {
            self.slow_log.begin(index, self.now, 0);
        }
        index
    }

    /// Answers a request that can't be sent with an error.
    fn refuse_tied(&mut self, key: Key, request: &Request, error: RequestError) {
        let client = self.clients.at_mut(key.index);
        client.spoil();
        let pool = &mut self.pools[client.pool as usize];
        if error == RequestError::KeysApart {
            // No server has failed.
            pool.stats.client_faults += 1;
            let mut text = self.buffers.take(64);
            pool.options.protocol.encode_error(error.text(), &mut text);
            self.reply_now(key, &text);
            self.buffers.give(text);
            return;
        }
        let index = self.begin_tied(key, request, false);
        self.fail(index, error);
    }

    /// The client's own connection carries nothing of it any more, and is somebody else's, or
    /// closed. What it cannot go on with ends the client, as the loss of its connection to a server
    /// would have done.
    pub(crate) fn client_untied(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let mode = std::mem::take(&mut client.mode);
        if client.state != State::Open {
            return;
        }
        match mode {
            Mode::Shared | Mode::Awaits { .. } => self.client_may_resume(key),
            Mode::Transaction { .. } | Mode::Listens { .. } => {
                client.state = State::Finishing;
                self.client_receive_more(key);
                self.client_finish_if_done(key);
            }
        }
    }
}
