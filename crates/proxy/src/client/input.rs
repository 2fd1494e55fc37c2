//! From the bytes of a client to requests that are on their way.
//!
//! Nothing is sent or received here. Invariant: every byte that was handed in is parsed, kept in
//! `Client::input`, or to be dropped, in the order of the stream.

use base::slab::Key;
use protocol::{Forward, Own, Parsed, Request, Route, Scratch, Span, Then};

use super::{Mode, State};
use crate::canary::Canary;
use crate::gather::{RESERVE_MAX, SIZE_MIN};
use crate::pool::Pool;
use crate::proxy::Proxy;
use crate::request::{Owner, Record};

/// While the worker holds more than it should, an unfinished request may not grow beyond this.
const LARGE_INPUT_SIZE: usize = 64 << 10;

/// What one call of [`Proxy::parse_one`] did.
pub(super) enum Step {
    /// So many bytes are done with (perhaps more than there are).
    Consumed(usize),
    /// The request is not whole.
    Incomplete,
    /// No more bytes of this client are parsed for now, or ever.
    Stopped,
}

/// Bytes at the beginning of which a request stands.
pub(super) enum Frame<'a> {
    /// In the event base's buffer, or among others.
    Borrowed(&'a [u8]),
    /// Alone in a buffer that may be given away.
    Gathered(&'a mut Vec<u8>),
}

impl Frame<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Frame::Borrowed(bytes) => bytes,
            Frame::Gathered(buffer) => buffer,
        }
    }
}

/// From bytes to requests.
impl Proxy {
    /// Completes the request at the beginning of `input` with the first of `rest`, and returns what
    /// is left of it. `None` when there is nothing left to parse.
    pub(super) fn gather<'a>(&mut self, key: Key, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        while !rest.is_empty() {
            let client = self.clients.get_mut(key)?;
            let size = client.need.max(SIZE_MIN).min(rest.len());
            client.input.extend_from_slice(&rest[..size]);
            self.buffered_bytes += size;
            if size < client.need {
                client.need -= size;
                self.refuse_if_too_much(key);
                return None;
            }
            let mut input = std::mem::take(&mut client.input);
            let start = std::mem::take(&mut client.input_start);
            input.drain(..start);
            let held = input.len();
            self.buffered_bytes -= held;
            let step = self.parse_one(key, Frame::Gathered(&mut input));
            match step {
                Step::Consumed(consumed) => {
                    self.buffers.give(input);
                    if self.clients.get(key)?.state != State::Open {
                        return None;
                    }
                    // The parser wanted more than the bytes gathered before.
                    let before = held - size;
                    debug_assert!(consumed >= before);
                    let used = consumed.saturating_sub(before);
                    if used > rest.len() {
                        self.skip(key, used - rest.len());
                        return None;
                    }
                    return Some(&rest[used..]);
                }
                Step::Incomplete => {
                    rest = &rest[size..];
                    let client = self.clients.get_mut(key)?;
                    client.input = input;
                    self.buffered_bytes += held;
                }
                Step::Stopped => {
                    let client = self.clients.get_mut(key)?;
                    if client.state == State::Open {
                        // Paused: the bytes are kept as they are.
                        client.input = input;
                        self.buffered_bytes += held;
                        self.keep_input(key, &rest[size..]);
                        return None;
                    }
                    self.buffers.give(input);
                    return None;
                }
            }
        }
        None
    }

    /// Parses whole requests from the beginning of `bytes` and returns how many bytes are done
    /// with.
    pub(super) fn parse_all(&mut self, key: Key, bytes: &[u8]) -> usize {
        let mut start = 0;
        while start < bytes.len() {
            match self.parse_one(key, Frame::Borrowed(&bytes[start..])) {
                Step::Consumed(size) => {
                    let rest = bytes.len() - start;
                    if size > rest {
                        self.skip(key, size - rest);
                        return bytes.len();
                    }
                    start += size;
                }
                Step::Incomplete => return start,
                Step::Stopped => {
                    let parses = self.clients.get(key).is_some_and(|c| c.state == State::Open);
                    return if parses { start } else { bytes.len() };
                }
            }
        }
        start
    }

    fn parse_one(&mut self, key: Key, frame: Frame<'_>) -> Step {
        let Some(client) = self.clients.get_mut(key) else { return Step::Stopped };
        if client.state != State::Open {
            return Step::Stopped;
        }
        let pool = &mut self.pools[client.pool as usize];
        let options = &pool.options;
        if client.requests.len() >= options.client_requests_inflight_max
            || client.output_size() > options.client_output_high_water
        {
            client.paused = true;
            return Step::Stopped;
        }
        if client.mode != Mode::Shared {
            return self.parse_tied(key, frame);
        }
        let is_unknown = options.password.is_some() && !client.profile.authenticated;
        let narrow;
        let limits = if is_unknown {
            narrow = options.limits.of_the_unknown();
            &narrow
        } else {
            &options.limits
        };
        let parsed = options.protocol.parse_request(
            &mut client.parser,
            frame.bytes(),
            limits,
            &mut self.scratch,
        );
        match parsed {
            Parsed::Incomplete { need } => {
                debug_assert!(need > 0);
                client.need = need;
                Step::Incomplete
            }
            Parsed::Request(request) => {
                let size = request.size;
                if is_unknown {
                    pool.stats.client_requests += 1;
                    let refusal = options.protocol.unauthenticated();
                    self.reply_now(key, refusal);
                } else if let Route::Dedicated(_) = request.route {
                    return self.admit_tied(key, request, frame);
                } else {
                    pool.stats.client_requests += 1;
                    self.admit(key, request, frame);
                }
                Step::Consumed(size)
            }
            Parsed::Own(own) => self.answer_own(key, own, frame.bytes()),
            Parsed::Reply { size, then, fault } => {
                self.answer(key, then, fault);
                Step::Consumed(size)
            }
            Parsed::Authenticate { size, password, is_user_named } => {
                self.authenticate(key, frame.bytes(), password, is_user_named);
                Step::Consumed(size)
            }
        }
    }

    /// Answers a request that is for the proxy itself.
    #[cold]
    pub(super) fn answer_own(&mut self, key: Key, own: Own, bytes: &[u8]) -> Step {
        let Some(client) = self.clients.get_mut(key) else { return Step::Stopped };
        let options = &self.pools[client.pool as usize].options;
        let parsed = options.protocol.answer(own, bytes, &client.profile, &mut self.scratch);
        let next = self.scratch.profile.as_ref();
        let switches = next.is_some_and(|next| next.version != client.profile.version);
        if switches && !client.requests.is_empty() {
            // What it asks from here on travels on other connections, where it could overtake what
            // it has asked before.
            return self.pause_until_answered(key);
        }
        match parsed {
            Parsed::Reply { size, then, fault } => {
                self.answer(key, then, fault);
                Step::Consumed(size)
            }
            Parsed::Authenticate { size, password, is_user_named } => {
                self.authenticate(key, bytes, password, is_user_named);
                Step::Consumed(size)
            }
            Parsed::Own(_) | Parsed::Incomplete { .. } | Parsed::Request(_) => {
                unreachable!("it is answered")
            }
        }
    }

    /// Compares a password, and answers.
    fn authenticate(&mut self, key: Key, bytes: &[u8], password: Span, is_user_named: bool) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let pool = &mut self.pools[client.pool as usize];
        pool.stats.client_requests += 1;
        let given = &self.scratch.source(bytes)[password.range()];
        let protocol = pool.options.protocol;
        let refusal = match pool.options.password.as_deref() {
            None if is_user_named => None,
            None => Some(protocol.no_password_set()),
            Some(right) if is_equal(right, given) => None,
            Some(_) => Some(protocol.wrong_password(is_user_named)),
        };
        match refusal {
            Some(refusal) => {
                client.profile.authenticated = false;
                self.reply_now(key, refusal);
            }
            None => {
                if let Some(next) = self.scratch.profile.take() {
                    client.profile = next;
                }
                client.profile.authenticated = true;
                self.reply_scratch(key);
            }
        }
    }

    /// The parser's own answer, in its turn.
    pub(super) fn answer(&mut self, key: Key, then: Then, fault: bool) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let pool = &mut self.pools[client.pool as usize];
        if fault {
            pool.stats.client_faults += 1;
        } else {
            pool.stats.client_requests += 1;
        }
        if then == Then::Close {
            client.state = State::Finishing;
            if fault && self.canaries.sings(Canary::NonsenseHitsNeighbour) {
                self.close_another_client(key);
                return;
            }
        }
        let known = client.profile.authenticated || pool.options.password.is_none();
        let protected = !known && !fault;
        if protected && then == Then::Continue && !self.scratch.reply.is_empty() {
            let refusal = pool.options.protocol.unauthenticated();
            self.reply_now(key, refusal);
        } else {
            if let Some(next) = self.scratch.profile.take() {
                client.profile = next;
            }
            self.reply_scratch(key);
        }
        if then == Then::Close {
            self.client_finish_if_done(key);
        }
    }

    /// Sends a well-formed request on its way.
    pub(super) fn admit(&mut self, key: Key, request: Request, mut frame: Frame<'_>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let (pool_index, lane) = (client.pool as usize, client.lane(key));
        let record = Record {
            quiet: request.quiet,
            command: request.command.index,
            arrived_at: self.now,
            ..Record::new(Owner::Client(key))
        };
        let index = self.records.insert(record).index;
        client.requests.push(&mut self.records, index);
        let wire = match request.forward {
            Forward::Verbatim => frame.bytes(),
            Forward::Rewritten { .. } => request.bytes(frame.bytes(), &self.scratch),
        };
        if self.pools[pool_index].options.slow_threshold.is_some() {
            let pool = &self.pools[pool_index];
            let key_hash = hash_for_log(pool, request.route, wire, &self.scratch);
            self.slow_log.begin(index, self.now, key_hash);
        }
        let server = match request.route {
            Route::Key(span) => self.pools[pool_index].route(&wire[span.range()]),
            Route::Decoded => self.pools[pool_index].route(&self.scratch.decoded),
            Route::Any => self.pools[pool_index].route(protocol::PLACEHOLDER_KEY),
            Route::Split => match self.split(key, index, &request, frame.bytes()) {
                // All keys have one owner: the request goes there as it is.
                Some(server) => server,
                None => return,
            },
            Route::Everywhere => return self.send_everywhere(key, index, &request, frame.bytes()),
            Route::Walk(cursor) => {
                return self.send_step(key, index, cursor, &request, frame.bytes());
            }
            Route::Dedicated(_) => unreachable!("it was taken out before"),
        };
        let sent = server.and_then(|server| {
            let connection = self.connection_for(pool_index, server, lane)?;
            match (&mut frame, request.forward) {
                (Frame::Gathered(buffer), Forward::Verbatim) => {
                    // What was gathered beyond the request is still in the receive buffer.
                    let mut owned = std::mem::take(*buffer);
                    owned.truncate(request.size);
                    if self.canaries.sings(Canary::RequestTruncated) {
                        owned.pop();
                    }
                    self.forward_owned(connection, owned);
                }
                (_, Forward::Verbatim) => {
                    self.forward_bytes(connection, &frame.bytes()[..request.size]);
                    if self.canaries.sings(Canary::RequestSentTwice) {
                        self.forward_bytes(connection, &frame.bytes()[..request.size]);
                    }
                }
                (_, Forward::Rewritten { tail }) => {
                    let scratch = std::mem::take(&mut self.scratch.rewritten);
                    self.forward_bytes(connection, &scratch);
                    self.forward_bytes(connection, &frame.bytes()[tail.range()]);
                    self.scratch.rewritten = scratch;
                }
            }
            self.enqueue(connection, index, request.expect);
            Ok(())
        });
        if let Err(error) = sent {
            self.fail(index, error);
        }
    }

    /// Keeps bytes that can't be parsed yet.
    pub(super) fn keep_input(&mut self, key: Key, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.state != State::Open {
            return;
        }
        if client.input.capacity() == 0 {
            client.input = self.buffers.take(bytes.len() + client.need.min(RESERVE_MAX));
            client.input_start = 0;
        }
        client.input.extend_from_slice(bytes);
        self.buffered_bytes += bytes.len();
        self.ensure_stall_timer(key);
        self.refuse_if_too_much(key);
    }

    /// Drops so many bytes of the stream as they come.
    fn skip(&mut self, key: Key, size: usize) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.skip = size;
        self.ensure_stall_timer(key);
    }

    /// While the worker holds more than it may, a large unfinished request is refused.
    fn refuse_if_too_much(&mut self, key: Key) {
        if self.buffered_bytes <= self.limits.buffered_bytes_max {
            return;
        }
        let Some(client) = self.clients.get_mut(key) else { return };
        // What a paused client has sent is whole requests, and as much as its credit at the most.
        if client.paused || client.input_size() <= LARGE_INPUT_SIZE {
            return;
        }
        client.state = State::Finishing;
        let protocol = self.pools[client.pool as usize].options.protocol;
        self.pools[client.pool as usize].stats.client_faults += 1;
        self.drop_input(key);
        let mut reply = self.buffers.take(64);
        protocol.encode_error("out of memory", &mut reply);
        self.reply_now(key, &reply);
        self.buffers.give(reply);
        self.client_finish_if_done(key);
    }

    pub(super) fn drop_input(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        self.buffered_bytes -= client.input_size();
        self.buffers.give(std::mem::take(&mut client.input));
        client.input_start = 0;
    }
}

/// The hash of the key that decides where a request goes, or of the first of them.
///
/// What is done for the slow log only stands in functions of its own, as here: inside those of the
/// path it costs every request registers.
#[cold]
#[inline(never)]
fn hash_for_log(pool: &Pool, route: Route, wire: &[u8], scratch: &Scratch) -> u32 {
    pool.key_hash(match route {
        Route::Key(span) => &wire[span.range()],
        Route::Decoded => &scratch.decoded,
        Route::Any | Route::Everywhere | Route::Walk(_) => protocol::PLACEHOLDER_KEY,
        Route::Split | Route::Dedicated(_) => {
            scratch.keys.first().map_or(&[][..], |key| &wire[key.key.range()])
        }
    })
}

/// Compares in a time that depends on the lengths only.
fn is_equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
