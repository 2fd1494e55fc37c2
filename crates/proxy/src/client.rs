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

mod input;
mod output;
mod tied;

use std::time::Duration;

use base::slab::Key;
use base::{Chain, Kind, RecvEnd, Time, Token};
use protocol::{Profile, RequestState};

use crate::action::Action;
use crate::canary::Canary;
use crate::inspect::ClientView;
use crate::options::CLIENT_CREDIT;
use crate::proxy::{Proxy, Timer, key_of};
use crate::request::{Fifo, Owner, Reply, Side};
use crate::server::Lane;
pub(crate) use tied::Mode;

/// How long a client may take to send its first request when the worker drains: whoever has just
/// connected is about to ask, and must not be closed with the request on its way.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long any client is listened to when the worker drains: what it sent before may still be on
/// its way through a busy kernel.
const LAST_REQUEST_TIMEOUT: Duration = Duration::from_millis(10);

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
    /// Nothing has come from it yet.
    silent: bool,
    pub(crate) sending: bool,
    /// Stands in the worker's list of connections to flush, or of those that are held.
    pub(crate) dirty: bool,
    /// Stands in the worker's list of clients whose input may go on.
    resumable: bool,
    /// Too much is owed to it: its bytes are kept but not parsed.
    paused: bool,
    /// It is paused until nothing is owed to it.
    awaits_all: bool,
    /// Its bytes are being parsed: it is not done, however little it is owed at the moment.
    parsing: bool,
    pub(crate) timer_set: bool,
    /// What it has agreed on with us, and how it calls itself.
    pub(crate) profile: Profile,
    pub(crate) mode: Mode,
    parser: RequestState,
    /// The parser can do nothing before so many more bytes have come.
    need: usize,
    /// Bytes of the stream still to be dropped.
    skip: usize,
    /// See the module's text. Bytes before `input_start` are done with.
    input: Vec<u8>,
    input_start: usize,
    /// When it came.
    accepted_at: Time,
    /// When bytes last came.
    received_at: Time,
    pub(crate) requests: Fifo,
    pub(crate) out: Chain,
    /// Bytes of the send under way.
    pub(crate) sending_size: usize,
    /// Bytes of replies that came before their turn, parts included.
    pub(crate) held_size: usize,
}

impl Client {
    fn new(pool: u32, id: u64, now: Time) -> Client {
        Client {
            pool,
            state: State::Open,
            receiving: true,
            eof: false,
            silent: true,
            sending: false,
            dirty: false,
            resumable: false,
            paused: false,
            awaits_all: false,
            parsing: false,
            timer_set: false,
            profile: Profile { id, ..Profile::default() },
            mode: Mode::Shared,
            parser: RequestState::default(),
            need: 0,
            skip: 0,
            input: Vec::new(),
            input_start: 0,
            accepted_at: now,
            received_at: now,
            requests: Fifo::new(Side::Client),
            out: Chain::new(),
            sending_size: 0,
            held_size: 0,
        }
    }

    pub(crate) fn token(key: Key) -> Token {
        Token::new(Kind::Client, key.index, key.generation)
    }

    /// Which of the connections that clients share carry its requests.
    #[inline]
    pub(crate) fn lane(&self, key: Key) -> Lane {
        Lane { index: key.index as usize, version: self.profile.version }
    }

    /// Bytes that wait to reach the client: those that wait for their turn, and those with the
    /// kernel's send, included.
    pub(crate) fn output_size(&self) -> usize {
        self.out.len() + self.sending_size + self.held_size
    }

    /// Puts it on the list of those that are looked at when the turn ends.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, key: Key, list: &mut Vec<Key>) {
        if !self.dirty {
            self.dirty = true;
            list.push(key);
        }
    }

    /// Whether the last answer may mean more than a send: the client waits to go on, or to end.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.paused || self.eof || self.state != State::Open
    }

    /// Whether it may be sent more than it is owed.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state == State::Closing
    }

    pub(crate) fn input_size(&self) -> usize {
        self.input.len() - self.input_start
    }

    pub(crate) fn view(&self, key: Key) -> ClientView {
        ClientView {
            token: Client::token(key),
            pool: self.pool as usize,
            id: self.profile.id,
            name: self.profile.name().to_vec(),
            library: self.profile.library().map(<[u8]>::to_vec),
            version: self.profile.version,
            accepted_at: self.accepted_at,
            received_at: self.received_at,
            requests_count: self.requests.len(),
            output_size: self.output_size(),
            input_size: self.input_size(),
            is_paused: self.paused,
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
        let id = self.client_ids.next;
        self.client_ids.next += self.client_ids.step;
        let key = self.clients.insert(Client::new(pool_index as u32, id, self.now));
        let token = Client::token(key);
        self.actions.push_back(Action::RecvStart(token, CLIENT_CREDIT));
        if self.draining || pool.removed {
            // It has connected before its pool was removed, or the worker began to drain.
            self.ending = true;
            self.client_drain(key);
        }
        Some(token)
    }

    /// The worker drains, or the client's pool is gone: a client is closed when it is owed nothing,
    /// after a moment for the last request, or for the first one of a client that is new.
    pub(crate) fn client_drain(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let mut until = self.now + LAST_REQUEST_TIMEOUT;
        if client.silent {
            until = until.max(client.received_at + FIRST_REQUEST_TIMEOUT);
        }
        self.wheel.insert(until, Timer::Client(key));
    }

    pub(crate) fn client_received(&mut self, key: Key, bytes: &[u8]) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.state != State::Open {
            return;
        }
        client.received_at = now;
        client.silent = false;
        let skipped = client.skip.min(bytes.len());
        client.skip -= skipped;
        let mut rest = &bytes[skipped..];
        if client.paused {
            self.keep_input(key, rest);
            return;
        }
        client.parsing = true;
        if client.input_size() > 0 {
            rest = self.gather(key, rest).unwrap_or_default();
        }
        let consumed = self.parse_all(key, rest);
        self.keep_input(key, &rest[consumed..]);
        let Some(client) = self.clients.get_mut(key) else { return };
        client.parsing = false;
        if client.is_watched() || self.ending {
            self.client_finish_if_done(key);
        }
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
                if self.canaries.sings(Canary::EofDropsReplies) {
                    self.client_close(key);
                    return;
                }
                self.pools[client.pool as usize].stats.client_eof += 1;
                if client.mode.ends_with_input() {
                    // As with a server: what it waits for would be taken and given to nobody.
                    self.client_close(key);
                }
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
            client.mark_dirty(key, &mut self.clients_dirty);
        }
        if client.is_watched() || self.ending {
            self.client_may_resume(key);
            self.client_finish_if_done(key);
        }
    }

    pub(crate) fn client_closed(&mut self, key: Key) -> Option<usize> {
        let client = self.clients.remove(key)?;
        debug_assert!(client.is_closing());
        let pool = client.pool as usize;
        self.pools[pool].stats.client_connections -= 1;
        self.let_servers_go(pool);
        Some(pool)
    }

    /// A connection was turned away before it became a client, since the pool has as many as it
    /// may.
    pub fn count_refused(&mut self, pool_index: usize) {
        self.pools[pool_index].stats.client_refused += 1;
    }

    /// The registration of an accepted socket failed: the client never was.
    pub fn handle_adopt_failed(&mut self, token: Token) {
        let key = key_of(token);
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
        if self.ending {
            self.client_finish_if_done(key);
        }
        let Some(client) = self.clients.get_mut(key) else { return };
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

/// Pausing, finishing, closing.
impl Proxy {
    /// Puts a paused client that owes little by now on the list of those whose input goes on.
    pub(crate) fn client_may_resume(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if !client.paused || client.resumable || client.state != State::Open {
            return;
        }
        if self.canaries.sings(Canary::ResumeForgotten) {
            return;
        }
        if client.awaits_all && !client.requests.is_empty() {
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
        client.awaits_all = false;
        client.parsing = true;
        client.received_at = self.now;
        let mut input = std::mem::take(&mut client.input);
        let start = std::mem::take(&mut client.input_start);
        self.buffered_bytes -= input.len() - start;
        let consumed = self.parse_all(key, &input[start..]);
        let start = start + consumed;
        let Some(client) = self.clients.get_mut(key) else { return };
        client.parsing = false;
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
        let token = Client::token(key);
        self.actions.push_back(Action::RecvStart(token, CLIENT_CREDIT));
    }

    /// Closes a client of which nothing more can come and to which nothing more is owed.
    pub(crate) fn client_finish_if_done(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let all_parsed = !client.paused && !client.parsing;
        let ends = self.draining || self.pools[client.pool as usize].removed;
        let at_rest = ends && client.input_size() == 0 && client.skip == 0;
        let no_more = client.state == State::Finishing || ((client.eof || at_rest) && all_parsed);
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
        let connection = std::mem::take(&mut client.mode).connection();
        client.held_size = 0;
        if !self.canaries.sings(Canary::BytesForgotten) {
            self.buffered_bytes -= client.out.len();
        }
        client.out.recycle(&mut self.buffers);
        while let Some(index) = client.requests.pop(&mut self.records) {
            let record = self.records.at_mut(index);
            if !self.canaries.sings(Canary::OwnerOutlived) {
                record.owner = Owner::Nobody;
            }
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
        self.actions.push_back(Action::Close(Client::token(key)));
        if let Some(connection) = connection {
            self.close_dedicated(connection);
        }
    }
}
