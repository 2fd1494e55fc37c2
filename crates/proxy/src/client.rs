//! The client's side: bytes become requests, replies leave in order.
//!
//! ```text
//!            accept                   EOF                    all answered and sent
//!   (none) ---------> Open (parses) ------> Finishing ----------------------------> Closing
//!                       |   ^    \             ^                                      |
//!         too much owed |   | less \ QUIT, or   |                              Closed |
//!                       v   |       \ nonsense /                                      v
//!                     paused         ---------                                     (none)
//! ```
//!
//! A request that straddles two receive buffers is gathered in `Client::input`, with just the bytes
//! that the parser asks for, so that the rest of the buffer is parsed where it lies. Nothing else
//! is copied on the way in. Invariant: `input` is empty whenever nothing is half received and the
//! client is not paused, so an idle client holds no buffer.

use base::slab::Key;
use base::{Chain, Kind, RecvEnd, Time, Token};
use protocol::{Forward, Parsed, Request, RequestState, Route, Then};

use crate::action::Action;
use crate::errors::RequestError;
use crate::options::CLIENT_CREDIT;
use crate::proxy::{Proxy, Timer};
use crate::request::{Fifo, NONE, Owner, Record, Reply, Side};
use crate::server::GATHER_RESERVE_MAX;

/// A request that is gathered grows by at least so many bytes at a time, when the parser can't say
/// how many it needs.
const GATHER_SIZE_MIN: usize = 64;

/// While the worker holds more than it should, an unfinished request may not grow beyond this.
const LARGE_INPUT_SIZE: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Requests are parsed.
    Open,
    /// No more requests; the connection is closed when everything is answered and sent.
    Finishing,
    /// Closed as far as we are concerned; waits for the event base's last word.
    Closing,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) pool: u32,
    state: State,
    /// A receive operation is under way.
    receiving: bool,
    /// The peer sends no more.
    eof: bool,
    pub(crate) sending: bool,
    /// Stands in the worker's list of connections to flush.
    pub(crate) dirty: bool,
    /// Stands in the worker's list of clients whose input may go on.
    resumable: bool,
    /// Too much is owed to it: its bytes are kept but not parsed.
    paused: bool,
    /// What was kept is being parsed: it is not done, however little it is owed at the moment.
    resuming: bool,
    pub(crate) timer_set: bool,
    authenticated: bool,
    parser: RequestState,
    /// The parser can do nothing before so many more bytes have come.
    need: usize,
    /// Bytes of the stream still to be dropped.
    skip: usize,
    /// See the module's text. Bytes before `input_start` are done with.
    input: Vec<u8>,
    input_start: usize,
    /// When bytes last came.
    received_at: Time,
    pub(crate) requests: Fifo,
    pub(crate) out: Chain,
    /// Bytes of the send under way.
    pub(crate) sending_size: usize,
}

impl Client {
    fn new(pool: u32, now: Time) -> Client {
        Client {
            pool,
            state: State::Open,
            receiving: true,
            eof: false,
            sending: false,
            dirty: false,
            resumable: false,
            paused: false,
            resuming: false,
            timer_set: false,
            authenticated: false,
            parser: RequestState::default(),
            need: 0,
            skip: 0,
            input: Vec::new(),
            input_start: 0,
            received_at: now,
            requests: Fifo::new(Side::Client),
            out: Chain::new(),
            sending_size: 0,
        }
    }

    /// Bytes that wait to reach the client, those with the kernel's send included.
    fn output_size(&self) -> usize {
        self.out.len() + self.sending_size
    }

    fn is_closing(&self) -> bool {
        self.state == State::Closing
    }

    fn input_size(&self) -> usize {
        self.input.len() - self.input_start
    }
}

/// What one call of [`Proxy::parse_one`] did.
enum Step {
    /// So many bytes are done with (perhaps more than there are).
    Consumed(usize),
    /// The request is not whole.
    Incomplete,
    /// No more bytes of this client are parsed for now, or ever.
    Stopped,
}

/// Bytes at the beginning of which a request stands.
enum Frame<'a> {
    /// In the event base's buffer, or among others.
    Borrowed(&'a [u8]),
    /// Alone in a buffer that may be given away.
    Gathered(&'a mut Vec<u8>),
}

impl Frame<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Frame::Borrowed(bytes) => bytes,
            Frame::Gathered(buffer) => buffer,
        }
    }
}

/// What the event base tells about clients.
impl Proxy {
    /// A connection of this pool was accepted. The worker registers the socket under the token, or,
    /// when there is none because a limit is reached, drops it.
    pub fn handle_accepted(&mut self, pool_index: usize) -> Option<Token> {
        let pool = &mut self.pools[pool_index];
        let max = pool.options.client_connections_max;
        let full = max > 0 && pool.stats.client_connections >= u64::from(max);
        if full || self.clients.len() >= self.limits.clients_max as usize {
            pool.stats.client_refused += 1;
            return None;
        }
        pool.stats.client_connections += 1;
        pool.stats.client_connections_total += 1;
        let key = self.clients.insert(Client::new(pool_index as u32, self.now));
        let token = Token::new(Kind::Client, key.index, key.generation);
        self.actions.push_back(Action::RecvStart(token, CLIENT_CREDIT));
        Some(token)
    }

    pub(crate) fn client_received(&mut self, key: Key, bytes: &[u8]) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.state != State::Open {
            return;
        }
        client.received_at = now;
        let skipped = client.skip.min(bytes.len());
        client.skip -= skipped;
        let mut rest = &bytes[skipped..];
        if client.paused {
            self.keep_input(key, rest);
            return;
        }
        if client.input_size() > 0 {
            rest = match self.gather(key, rest) {
                Some(rest) => rest,
                None => return,
            };
        }
        let consumed = self.parse_all(key, rest);
        self.keep_input(key, &rest[consumed..]);
    }

    pub(crate) fn client_recv_end(&mut self, key: Key, end: RecvEnd) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.receiving = false;
        if client.is_closing() {
            return;
        }
        match end {
            RecvEnd::Credit | RecvEnd::Stopped => self.client_receive_more(key),
            RecvEnd::Eof => {
                client.eof = true;
                self.pools[client.pool as usize].stats.client_eof += 1;
                self.client_finish_if_done(key);
            }
            RecvEnd::Error(_) => self.client_close(key),
        }
    }

    pub(crate) fn client_sent(&mut self, key: Key, mut chain: Chain, failed: bool) {
        self.buffered_bytes -= chain.len();
        chain.recycle(&mut self.buffers);
        let Some(client) = self.clients.get_mut(key) else { return };
        client.sending = false;
        client.sending_size = 0;
        if client.is_closing() {
            return;
        }
        if failed {
            self.client_close(key);
            return;
        }
        if !client.out.is_empty() {
            self.mark_client_dirty(key);
        }
        self.client_may_resume(key);
        self.client_finish_if_done(key);
    }

    pub(crate) fn client_closed(&mut self, key: Key) {
        let Some(client) = self.clients.remove(key) else { return };
        debug_assert!(client.is_closing());
        self.pools[client.pool as usize].stats.client_connections -= 1;
    }

    /// The registration of an accepted socket failed: the client never was.
    pub fn handle_adopt_failed(&mut self, token: Token) {
        let key = Key { index: token.index(), generation: token.generation() };
        self.actions.retain(|action| !matches!(action, Action::RecvStart(t, _) if *t == token));
        if let Some(client) = self.clients.remove(key) {
            let stats = &mut self.pools[client.pool as usize].stats;
            stats.client_connections -= 1;
            stats.client_err += 1;
        }
    }

    /// A client has had a request half sent for as long as it may.
    pub(crate) fn client_timer(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.timer_set = false;
        let timeout = self.pools[client.pool as usize].options.client_stall_timeout;
        let (Some(timeout), false) = (timeout, client.is_closing()) else { return };
        let half_sent = client.input_size() > 0 || client.skip > 0;
        if !half_sent || client.paused {
            return;
        }
        let due = client.received_at + timeout;
        if due <= self.now {
            self.client_close(key);
        } else {
            client.timer_set = true;
            self.wheel.insert(due, Timer::Client(key));
        }
    }
}

/// From bytes to requests.
impl Proxy {
    /// Completes the request at the beginning of `input` with the first of `rest`, and returns what
    /// is left of it. `None` when there is nothing left to parse.
    fn gather<'a>(&mut self, key: Key, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        while !rest.is_empty() {
            let client = self.clients.get_mut(key)?;
            let size = client.need.max(GATHER_SIZE_MIN).min(rest.len());
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
    fn parse_all(&mut self, key: Key, bytes: &[u8]) -> usize {
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
        let parsed = options.protocol.parse_request(
            &mut client.parser,
            frame.bytes(),
            &options.limits,
            &mut self.scratch,
        );
        match parsed {
            Parsed::Incomplete { need } => {
                debug_assert!(need > 0);
                client.need = need;
                Step::Incomplete
            }
            Parsed::Request(request) => {
                pool.stats.client_requests += 1;
                let size = request.size;
                if options.password.is_some() && !client.authenticated {
                    let refusal = options.protocol.unauthenticated();
                    self.reply_now(key, refusal);
                } else {
                    self.admit(key, request, frame);
                }
                Step::Consumed(size)
            }
            Parsed::Reply { size, then, fault } => {
                self.answer(key, then, fault);
                Step::Consumed(size)
            }
            Parsed::Authenticate { size, password } => {
                pool.stats.client_requests += 1;
                let right = options.password.as_deref();
                let given = &self.scratch.source(frame.bytes())[password.range()];
                let protocol = options.protocol;
                let refusal = match right {
                    None => Some(protocol.no_password_set()),
                    Some(right) if is_equal(right, given) => None,
                    Some(_) => Some(protocol.wrong_password()),
                };
                client.authenticated = refusal.is_none();
                match refusal {
                    Some(refusal) => self.reply_now(key, refusal),
                    None => self.reply_scratch(key),
                }
                Step::Consumed(size)
            }
        }
    }

    /// The parser's own answer, in its turn.
    fn answer(&mut self, key: Key, then: Then, fault: bool) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let pool = &mut self.pools[client.pool as usize];
        if fault {
            pool.stats.client_faults += 1;
        } else {
            pool.stats.client_requests += 1;
        }
        if then == Then::Close {
            client.state = State::Finishing;
        }
        let protected = pool.options.password.is_some() && !client.authenticated && !fault;
        if protected && then == Then::Continue && !self.scratch.reply.is_empty() {
            let refusal = pool.options.protocol.unauthenticated();
            self.reply_now(key, refusal);
        } else {
            self.reply_scratch(key);
        }
        if then == Then::Close {
            self.client_finish_if_done(key);
        }
    }

    /// Sends a well-formed request on its way.
    fn admit(&mut self, key: Key, request: Request, mut frame: Frame<'_>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let pool_index = client.pool as usize;
        let index = self.records.insert(Record::new(Owner::Client(key))).index;
        client.requests.push(&mut self.records, index);
        self.records.at_mut(index).quiet = request.quiet;
        let wire = match request.forward {
            Forward::Verbatim => frame.bytes(),
            Forward::Rewritten { .. } => request.bytes(frame.bytes(), &self.scratch),
        };
        let server = match request.route {
            Route::Key(span) => self.pools[pool_index].route(&wire[span.range()], self.now),
            Route::Any => self.pools[pool_index].route(protocol::PLACEHOLDER_KEY, self.now),
            Route::Split => match self.split(key, index, &request, frame.bytes()) {
                // All keys have one owner: the request goes there as it is.
                Some(server) => server,
                None => return,
            },
        };
        let sent = server.and_then(|server| {
            let lane = key.index as usize;
            let connection = self.connection_for(pool_index, server, lane)?;
            match (&mut frame, request.forward) {
                (Frame::Gathered(buffer), Forward::Verbatim) => {
                    // What was gathered beyond the request is still in the receive buffer.
                    let mut owned = std::mem::take(*buffer);
                    owned.truncate(request.size);
                    self.forward_owned(connection, owned);
                }
                (_, Forward::Verbatim) => {
                    self.forward_bytes(connection, &frame.bytes()[..request.size]);
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
    fn keep_input(&mut self, key: Key, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.state != State::Open {
            return;
        }
        if client.input.capacity() == 0 {
            client.input = self.buffers.take(bytes.len() + client.need.min(GATHER_RESERVE_MAX));
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
        if client.input_size() <= LARGE_INPUT_SIZE {
            return;
        }
        client.state = State::Finishing;
        let protocol = self.pools[client.pool as usize].options.protocol;
        self.pools[client.pool as usize].stats.client_faults += 1;
        self.drop_input(key);
        self.scratch.reply.clear();
        protocol.encode_error("out of memory", &mut self.scratch.reply);
        self.reply_scratch(key);
        self.client_finish_if_done(key);
    }

    fn drop_input(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        self.buffered_bytes -= client.input_size();
        self.buffers.give(std::mem::take(&mut client.input));
        client.input_start = 0;
    }
}

/// From replies to bytes.
impl Proxy {
    /// An answer of ours takes its place in the client's queue.
    fn reply_now(&mut self, key: Key, reply: &[u8]) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if reply.is_empty() {
            return;
        }
        self.buffered_bytes += reply.len();
        if client.requests.is_empty() {
            client.out.push(reply, &mut self.buffers);
            self.mark_client_dirty(key);
            return;
        }
        let mut bytes = self.buffers.take(reply.len());
        bytes.extend_from_slice(reply);
        let record = Record { reply: Reply::Bytes(bytes), ..Record::new(Owner::Client(key)) };
        let index = self.records.insert(record).index;
        client.requests.push(&mut self.records, index);
    }

    fn reply_scratch(&mut self, key: Key) {
        let reply = std::mem::take(&mut self.scratch.reply);
        self.reply_now(key, &reply);
        self.scratch.reply = reply;
    }

    /// Lets every answered request at the head of the client's queue go.
    pub(crate) fn release(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let pool = &mut self.pools[client.pool as usize];
        loop {
            let head = client.requests.head();
            if head == NONE || !self.records.at(head).is_answered() {
                break;
            }
            client.requests.pop(&mut self.records);
            let record = self.records.at_mut(head);
            match std::mem::replace(&mut record.reply, Reply::Waiting) {
                Reply::Bytes(bytes) if record.quiet => {
                    self.buffered_bytes -= bytes.len();
                    self.buffers.give(bytes);
                }
                Reply::Bytes(bytes) => client.out.push_owned(bytes, &mut self.buffers),
                Reply::Failed(error) => {
                    pool.stats.forward_errors += 1;
                    if !record.quiet {
                        let mut bytes = self.buffers.take(64);
                        pool.options.protocol.encode_error(error.text(), &mut bytes);
                        self.buffered_bytes += bytes.len();
                        client.out.push(&bytes, &mut self.buffers);
                        self.buffers.give(bytes);
                    }
                }
                Reply::Waiting | Reply::Parts(_) => unreachable!("the head is answered"),
            }
            if !record.in_server {
                self.records.remove_at(head);
            }
        }
        if !client.out.is_empty() {
            self.mark_client_dirty(key);
        }
        self.client_may_resume(key);
        self.client_finish_if_done(key);
    }

    /// Starts the one send of this turn, or closes a client that has let too much pile up.
    pub(crate) fn client_flush(&mut self, key: Key) -> Option<Action> {
        let client = self.clients.get_mut(key)?;
        client.dirty = false;
        if client.is_closing() {
            return None;
        }
        let options = &self.pools[client.pool as usize].options;
        let crowded = self.buffered_bytes > self.limits.buffered_bytes_max;
        let output_max =
            if crowded { options.client_output_high_water } else { options.client_output_max };
        // What can be sent at once is not piling up, however large it is.
        if client.sending && client.output_size() > output_max {
            self.client_close(key);
            return None;
        }
        if client.sending || client.out.is_empty() {
            return None;
        }
        client.sending = true;
        client.sending_size = client.out.len();
        self.stats_sends += 1;
        let token = Token::new(Kind::Client, key.index, key.generation);
        Some(Action::Send(token, std::mem::take(&mut client.out)))
    }

    pub(crate) fn mark_client_dirty(&mut self, key: Key) {
        if let Some(client) = self.clients.get_mut(key)
            && !client.dirty
        {
            client.dirty = true;
            self.clients_dirty.push(key);
        }
    }
}

/// Pausing, finishing, closing.
impl Proxy {
    /// Puts a paused client that owes little by now on the list of those whose input goes on.
    pub(crate) fn client_may_resume(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if !client.paused || client.resumable || client.state != State::Open {
            return;
        }
        let options = &self.pools[client.pool as usize].options;
        if client.requests.len() <= options.client_requests_inflight_max / 2
            && client.output_size() <= options.client_output_high_water / 2
        {
            client.resumable = true;
            self.clients_resumable.push(key);
        }
    }

    /// Parses on where the client was paused.
    pub(crate) fn client_resume(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.resumable = false;
        if client.state != State::Open {
            return;
        }
        client.paused = false;
        client.resuming = true;
        client.received_at = self.now;
        let mut input = std::mem::take(&mut client.input);
        let start = std::mem::take(&mut client.input_start);
        self.buffered_bytes -= input.len() - start;
        let consumed = self.parse_all(key, &input[start..]);
        let start = start + consumed;
        let Some(client) = self.clients.get_mut(key) else { return };
        client.resuming = false;
        if start == input.len() || client.state != State::Open {
            self.buffers.give(input);
        } else {
            if !client.paused {
                // What is left is the beginning of a request: it stands first from here on.
                input.drain(..start);
            }
            client.input_start = if client.paused { start } else { 0 };
            client.input = input;
            self.buffered_bytes += client.input_size();
            if !client.paused {
                self.ensure_stall_timer(key);
            }
        }
        self.client_receive_more(key);
        self.client_finish_if_done(key);
    }

    fn ensure_stall_timer(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let timeout = self.pools[client.pool as usize].options.client_stall_timeout;
        if let (Some(timeout), false) = (timeout, client.timer_set) {
            client.timer_set = true;
            self.wheel.insert(self.now + timeout, Timer::Client(key));
        }
    }

    fn client_receive_more(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.receiving || client.eof || client.is_closing() {
            return;
        }
        // A finishing client's bytes are read and dropped, so that the reply that explains why
        // reaches it: closing with unread bytes would reset the connection.
        if client.state == State::Open && client.paused {
            return;
        }
        client.receiving = true;
        let token = Token::new(Kind::Client, key.index, key.generation);
        self.actions.push_back(Action::RecvStart(token, CLIENT_CREDIT));
    }

    /// Closes a client of which nothing more can come and to which nothing more is owed.
    pub(crate) fn client_finish_if_done(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let all_parsed = !client.paused && !client.resuming;
        let no_more = client.state == State::Finishing || (client.eof && all_parsed);
        if no_more
            && client.state != State::Closing
            && client.requests.is_empty()
            && client.out.is_empty()
            && !client.sending
        {
            self.client_close(key);
        }
    }

    /// Closes a client now; its requests that are on their way are answered to nobody.
    pub(crate) fn client_close(&mut self, key: Key) {
        self.drop_input(key);
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.is_closing() {
            return;
        }
        if !client.eof {
            self.pools[client.pool as usize].stats.client_err += 1;
        }
        client.state = State::Closing;
        self.buffered_bytes -= client.out.len();
        client.out.recycle(&mut self.buffers);
        while let Some(index) = client.requests.pop(&mut self.records) {
            let record = self.records.at_mut(index);
            record.owner = Owner::Nobody;
            match &mut record.reply {
                // Freed when its last part has come.
                Reply::Parts(_) => continue,
                Reply::Bytes(bytes) => {
                    self.buffered_bytes -= bytes.len();
                    self.buffers.give(std::mem::take(bytes));
                }
                Reply::Waiting | Reply::Failed(_) => {}
            }
            if !record.in_server {
                self.records.remove_at(index);
            }
        }
        self.actions.push_back(Action::Close(Token::new(Kind::Client, key.index, key.generation)));
    }

    /// A request gets an error in place of a response.
    pub(crate) fn fail(&mut self, index: u32, error: RequestError) {
        self.complete_with(index, Reply::Failed(error));
    }
}

/// Compares in a time that depends on the lengths only.
fn is_equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
