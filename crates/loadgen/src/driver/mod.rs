//! The core of the generator: which request goes out when and where, and what its reply is worth.
//! One driver a thread.
//!
//! Pure: `handle_*` takes events and the time, `poll*` gives actions; it reads no clock and no
//! socket, so that it runs under a virtual clock as well (`tests/virtual_time.rs`). Invariant: an
//! open load's intended start times come from the schedule alone, and every request of the measured
//! time ends in the histograms, answered or not.

mod gathering;
mod session;
mod source;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use base::{Buffers, Chain, RecvEnd, SocketError, Time, Token};

use self::gathering::Gathering;
use self::session::{InFlight, Purpose, Session, State};
use self::source::Source;
use crate::arrivals::Arrivals;
use crate::record::Record;
use crate::reply::{self, Read, Reply};
use crate::verify::{Answer, Verifier};
use crate::wire::{Encoder, handshake};
use crate::workload::Plan;
use crate::workload::file::{Mode, Op};
use crate::workload::keys::KeyKind;
use crate::workload::plan::Part;
use crate::workload::schedule::Arrival;
use crate::workload::stream::Request;
use crate::workload::value::Violation;

/// What the owner of the sockets has to do.
#[derive(Debug)]
pub enum Action {
    /// Open a connection to the server.
    Connect(Token),
    /// Receive without a limit.
    RecvStart(Token),
    /// Send.
    Send(Token, Chain),
    /// Close.
    Close(Token),
}

/// Most requests that one turn issues, so that a backlog does not keep replies waiting.
const ISSUED_PER_TURN_MAX: usize = 1024;
/// Examples of violations that are kept for the report.
const EXAMPLES_MAX: usize = 16;
/// Of those at most so many are refusals and lost connections, which must not hide a wrong reply.
const EXAMPLES_OF_FAILURES_MAX: usize = 4;
/// The pause before a broken connection is opened again, doubled up to the largest.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// A connect that takes longer has failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time between two looks at what is due now and then, and where turns wait for several
/// events: no turn waits longer.
const CHECK_MAX: Duration = Duration::from_millis(20);
const CHECK_GATHERING_MAX: Duration = Duration::from_millis(4);

/// See the module's text.
#[derive(Debug)]
pub struct Driver {
    plan: Arc<Plan>,
    part: Part,
    sessions: Vec<Session>,
    /// Connections with room, in turn.
    free: VecDeque<u32>,
    /// Connections with something to send.
    dirty: Vec<u32>,
    /// Connections whose send is in `actions` and has no time yet.
    unstamped: Vec<u32>,
    actions: VecDeque<Action>,
    source: Source,
    encoder: Encoder,
    buffers: Buffers,
    verifier: Verifier,
    record: Record,
    /// Completions that are alike and not yet in the record.
    alike: Alike,
    /// Start of the load, and the measured part of it.
    start: Time,
    measure_from: Time,
    measure_until: Time,
    in_flight: usize,
    /// A request was due and nothing was free; and until when that was so the last time.
    is_full: bool,
    full_until: Time,
    next_check: Time,
    gathering: Gathering,
    /// The clock at the last turn.
    now: Time,
    replies_in_turn: u64,
    examples: Vec<String>,
    /// The last reason why a connection failed.
    last_error: Option<SocketError>,
    prefill_failed: u64,
    /// Requests of this interval that never waited for room.
    never_full: u64,
    is_timed: bool,
    /// Of a load whose sends should be a Poisson process.
    arrivals: Option<Arrivals>,
}

impl Driver {
    /// A driver for one part of the plan, with so many connections, none of them open.
    pub fn new(plan: Arc<Plan>, part: Part, connections: u32) -> Driver {
        Driver {
            part,
            sessions: (0..connections).map(Session::new).collect(),
            free: VecDeque::with_capacity(connections as usize),
            dirty: Vec::with_capacity(connections as usize),
            unstamped: Vec::with_capacity(connections as usize),
            actions: VecDeque::new(),
            source: Source::Idle,
            encoder: Encoder::new(&plan),
            buffers: Buffers::new(),
            verifier: Verifier::new(&plan, part),
            record: Record::new(plan.ops.len()),
            alike: Alike::default(),
            start: Time::ZERO,
            measure_from: Time::ZERO,
            measure_until: Time::ZERO,
            in_flight: 0,
            is_full: false,
            full_until: Time::ZERO,
            next_check: Time::ZERO,
            gathering: Gathering::new(plan.gather),
            now: Time::ZERO,
            replies_in_turn: 0,
            examples: Vec::new(),
            last_error: None,
            prefill_failed: 0,
            never_full: 0,
            is_timed: plan.settings.mode != Mode::Closed,
            // The part of a Poisson process that falls to one thread is one as well.
            arrivals: (plan.settings.mode == Mode::Open
                && plan.settings.arrival == Arrival::Poisson)
                .then(Arrivals::default),
            plan,
        }
    }

    /// How many connections are up and have been greeted.
    pub fn up_count(&self) -> usize {
        let greeted = |session: &&Session| {
            session.state == State::Up
                && session.in_flight.iter().all(|one| one.purpose != Purpose::Handshake)
        };
        self.sessions.iter().filter(greeted).count()
    }

    /// Why a connection failed last.
    pub fn last_error(&self) -> Option<SocketError> {
        self.last_error
    }

    /// The first violations, in words.
    pub fn examples(&self) -> &[String] {
        &self.examples
    }

    /// Keys that could not be written before the measurement.
    pub fn prefill_failed(&self) -> u64 {
        self.prefill_failed
    }

    /// Counts so far in this interval; the worker adds what it knows itself.
    pub fn record_mut(&mut self) -> &mut Record {
        &mut self.record
    }

    /// Takes the interval's record and goes on with an empty one.
    pub fn take_record(&mut self, empty: Record) -> Record {
        self.flush_alike();
        if let Some(good) = self.arrivals.as_mut().and_then(Arrivals::judge) {
            self.record.counts.arrivals_tested += 1;
            self.record.counts.arrivals_differ += u64::from(!good);
        }
        self.record.slip_full.record_zeros(std::mem::take(&mut self.never_full));
        self.record.backlog = self.in_flight as u64 + self.source.due_count(self);
        std::mem::replace(&mut self.record, empty)
    }

    /// Writes all keys of this part, with what the workload has room for in flight.
    pub fn start_prefill(&mut self) {
        self.source = Source::prefill(&self.plan, self.part);
    }

    /// Starts the load. Intended starts count from `start`, which may lie ahead.
    pub fn start_load(&mut self, start: Time) {
        if self.source.is_prefill() {
            self.verifier.end_prefill(self.prefill_failed + self.in_flight as u64);
        }
        self.start = start;
        self.measure_from = start + self.plan.warmup;
        self.measure_until = self.measure_from + self.plan.duration;
        let length = self.measure_until.since(start);
        self.source = Source::load(&self.plan, self.part, length, &self.verifier);
    }

    /// When the measured time begins and ends.
    pub fn measured(&self) -> (Time, Time) {
        (self.measure_from, self.measure_until)
    }

    /// How long a request may wait for its reply.
    pub fn timeout(&self) -> Duration {
        self.plan.timeout
    }

    /// Whether nothing is left to send or to wait for.
    pub fn is_done(&self) -> bool {
        self.source.is_exhausted(self.now, self.measure_until) && self.in_flight == 0
    }

    /// Ends whatever is left: it is counted as timed out or never sent, at the time that has
    /// passed.
    pub fn finish(&mut self, now: Time) {
        self.now = now;
        for index in 0..self.sessions.len() {
            self.give_up(index, true);
        }
        while let Some((t0_ns, op)) =
            self.source.next_unsent(&self.plan, &self.verifier, self.start)
        {
            // When a run is interrupted, what lies ahead was never due.
            if (self.measure_from.as_ns()..=now.as_ns()).contains(&t0_ns) {
                self.record.counts.unsent += 1;
                self.measure_response(op, now.as_ns().saturating_sub(t0_ns));
            }
        }
        self.source = Source::Idle;
    }

    /// How many events the next turn may wait for: several only while a closed loop is measured, as
    /// long as they do come (`gather` in a workload).
    #[inline]
    pub fn events_wanted(&self) -> usize {
        let gathers = self.source.is_closed() && self.now < self.measure_until;
        if gathers { self.gathering.wanted() } else { 1 }
    }

    /// A new turn: the time at which its events were found, and how many there are.
    #[inline]
    pub fn begin_turn(&mut self, now: Time, events_count: usize) {
        self.gathering.handle_turn(events_count, now >= self.next_check);
        self.now = now;
        self.record.counts.batch_max = self.record.counts.batch_max.max(self.replies_in_turn);
        self.replies_in_turn = 0;
    }

    /// Issues what is due and gives out one send for each connection that has something to send.
    pub fn poll(&mut self, now: Time) {
        self.now = now;
        if now >= self.next_check {
            self.check_times();
        }
        self.issue_due();
        for at in 0..self.dirty.len() {
            let index = self.dirty[at] as usize;
            let session = &mut self.sessions[index];
            session.dirty = false;
            if session.state != State::Up || session.sending || session.out.is_empty() {
                continue;
            }
            let chain = session.out.take();
            session.sending = true;
            self.record.counts.sends += 1;
            self.record.counts.bytes_out += chain.len() as u64;
            self.unstamped.push(index as u32);
            self.actions.push_back(Action::Send(session.token(), chain));
        }
        self.dirty.clear();
    }

    /// The next action of this turn.
    #[inline]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The time at which the sends of this turn go to the kernel, read after they were built. Must
    /// be called after each `poll` that gave a send, before replies are handled.
    #[inline]
    pub fn stamp(&mut self, now: Time) {
        let now_ns = now.as_ns();
        for at in 0..self.unstamped.len() {
            let session = &mut self.sessions[self.unstamped[at] as usize];
            let from = session.in_flight.len() - session.unstamped;
            session.unstamped = 0;
            for one in session.in_flight.range_mut(from..) {
                // The second half of a request, whose time has begun with the first.
                if one.replies_seen > 0 {
                    continue;
                }
                one.t2_ns = now_ns;
                // In a closed loop nothing is planned, so nothing is late.
                if one.measured && self.is_timed {
                    if let Some(arrivals) = &mut self.arrivals {
                        arrivals.add(now_ns);
                    }
                    let late_ns = now_ns.saturating_sub(one.t0_ns);
                    let busy_ns = late_ns.saturating_sub(one.full_ns);
                    let record = &mut self.record;
                    let mut fits = record.slip_busy.record(busy_ns);
                    if late_ns > busy_ns {
                        fits &= record.slip_full.record(late_ns - busy_ns);
                    } else {
                        self.never_full += 1;
                    }
                    record.counts.beyond_max += u64::from(!fits);
                }
            }
        }
        self.unstamped.clear();
    }

    /// When `poll` must be called again, if nothing happens before.
    pub fn deadline(&self) -> Time {
        self.source.next_due(self).map_or(self.next_check, |due| due.min(self.next_check))
    }

    /// The connection is open.
    pub fn handle_connected(&mut self, token: Token) {
        let Some(index) = self.find(token) else { return };
        let session = &mut self.sessions[index];
        session.state = State::Up;
        session.failures = 0;
        self.record.counts.reconnects += u64::from(session.was_up);
        session.was_up = true;
        self.actions.push_back(Action::RecvStart(token));
        let (bytes, replies) = handshake(self.plan.wire());
        if replies > 0 {
            self.sessions[index].out.push(bytes, &mut self.buffers);
            let request = Request { number: 0, op: 0, key: 0 };
            self.push(index, InFlight::new(request, Purpose::Handshake, replies));
        }
        self.offer(index);
    }

    /// The connection could not be opened.
    pub fn handle_connect_failed(&mut self, token: Token, error: SocketError) {
        let Some(index) = self.find(token) else { return };
        self.record.counts.connects_failed += 1;
        self.last_error = Some(error);
        self.close(index);
    }

    /// A send is done.
    #[inline]
    pub fn handle_sent(&mut self, token: Token, mut chain: Chain) {
        chain.recycle(&mut self.buffers);
        let Some(index) = self.find(token) else { return };
        let session = &mut self.sessions[index];
        session.sending = false;
        if !session.out.is_empty() && !session.dirty {
            session.dirty = true;
            self.dirty.push(index as u32);
        }
    }

    /// A send failed.
    pub fn handle_send_failed(&mut self, token: Token, mut chain: Chain, error: SocketError) {
        chain.recycle(&mut self.buffers);
        let Some(index) = self.find(token) else { return };
        self.sessions[index].sending = false;
        self.example_of_loss(index, &error.to_string());
        self.broken(index, Some(error));
    }

    /// Receiving ended.
    pub fn handle_recv_end(&mut self, token: Token, end: RecvEnd) {
        let Some(index) = self.find(token) else { return };
        match end {
            RecvEnd::Error(error) => {
                self.example_of_loss(index, &error.to_string());
                self.broken(index, Some(error));
            }
            _ => {
                self.example_of_loss(index, "closed by the server");
                self.broken(index, None);
            }
        }
    }

    /// The socket is gone.
    pub fn handle_closed(&mut self, token: Token) {
        let Some(index) = self.find(token) else { return };
        let session = &mut self.sessions[index];
        session.renew();
        let pause = (RETRY_MIN * 2u32.pow(session.failures.min(6))).min(RETRY_MAX);
        session.failures += 1;
        session.state = State::Down { retry_at: self.now + pause };
    }

    /// Bytes came.
    #[inline]
    pub fn handle_received(&mut self, token: Token, bytes: &[u8]) {
        let Some(index) = self.find(token) else { return };
        if self.sessions[index].state != State::Up {
            return;
        }
        self.record.counts.receives += 1;
        self.record.counts.bytes_in += bytes.len() as u64;
        if self.sessions[index].pending.is_empty() {
            let used = self.read_replies(index, bytes);
            self.sessions[index].pending.extend_from_slice(&bytes[used..]);
        } else {
            let mut pending = std::mem::take(&mut self.sessions[index].pending);
            pending.extend_from_slice(bytes);
            let used = self.read_replies(index, &pending);
            if used < pending.len() {
                pending.drain(..used);
                self.sessions[index].pending = pending;
            }
        }
    }

    /// Takes whole replies off the beginning of the bytes; gives how many bytes that were. What
    /// follows on a connection that is being closed is taken as well.
    fn read_replies(&mut self, index: usize, bytes: &[u8]) -> usize {
        let wire = self.plan.wire();
        let mut used = 0;
        while used < bytes.len() {
            match reply::read(wire, &bytes[used..]) {
                Read::Incomplete => return used,
                Read::Broken(why) => {
                    let front = self.sessions[index].in_flight.front().copied();
                    self.violated(index, front.as_ref(), Violation::Garbage, why);
                    self.broken(index, None);
                    return bytes.len();
                }
                Read::Whole(size, Reply::Push) => used += size,
                Read::Whole(size, reply) => {
                    let whole = &bytes[used..used + size];
                    used += size;
                    if self.sessions[index].in_flight.is_empty() {
                        self.violated(index, None, Violation::Unasked, "");
                        self.broken(index, None);
                        return bytes.len();
                    }
                    self.handle_reply(index, reply, whole);
                }
            }
        }
        used
    }

    #[inline]
    fn handle_reply(&mut self, index: usize, reply: Reply<'_>, whole: &[u8]) {
        self.replies_in_turn += 1;
        let in_flight = &mut self.sessions[index].in_flight;
        let front = in_flight.front_mut().expect("checked by the caller");
        let nth = front.replies_seen;
        front.replies_seen += 1;
        front.replies_left -= 1;
        let is_last = front.replies_left == 0;
        let mut one = *front;
        if is_last {
            in_flight.pop_front();
        }
        if one.purpose == Purpose::Load {
            self.record.counts.verified += 1;
            match self.verifier.check(&self.plan, &one.request, &one.expect, nth, reply) {
                Ok(Answer::Read { hits, misses }) if one.measured => {
                    self.record.counts.hits += u64::from(hits);
                    self.record.counts.misses += u64::from(misses);
                }
                Ok(Answer::Refused) => {
                    one.failed = true;
                    self.example_of_refusal(index, reply);
                }
                Ok(_) => {}
                Err(violation) => {
                    self.violated(index, Some(&one), violation, "");
                    one.failed = true;
                }
            }
        } else {
            self.handle_other_reply(index, &one, reply);
        }
        if is_last {
            if nth == 0 && self.goes_on(index, &one, whole) {
                return;
            }
            self.complete(index, &one);
        } else if one.failed {
            self.sessions[index].in_flight[0].failed = true;
        }
    }

    /// The second half of a cas, if the first has found something: it takes the place of the first,
    /// with the time of both.
    #[inline]
    fn goes_on(&mut self, index: usize, one: &InFlight, whole: &[u8]) -> bool {
        let is_cas = one.purpose == Purpose::Load
            && self.plan.ops[one.request.op as usize] == Op::Cas
            && !one.failed;
        let unique = if is_cas { reply::unique(self.plan.wire(), whole) } else { None };
        let Some(unique) = unique else { return false };
        let expect = self.verifier.begin_write(one.request.key, one.request.number);
        let bytes = self.encoder.cas(&self.plan, &one.request, expect.version, unique);
        let session = &mut self.sessions[index];
        session.out.push(bytes, &mut self.buffers);
        session.unstamped += 1;
        session.in_flight.push_back(InFlight { expect, replies_left: 1, replies_seen: 1, ..*one });
        if !session.dirty {
            session.dirty = true;
            self.dirty.push(index as u32);
        }
        true
    }

    /// A reply to what is no part of the load.
    fn handle_other_reply(&mut self, index: usize, one: &InFlight, reply: Reply<'_>) {
        match one.purpose {
            Purpose::Load => {}
            Purpose::Handshake => {
                if let Reply::Error(text) = reply {
                    let text = String::from_utf8_lossy(text).into_owned();
                    self.violated(index, Some(one), Violation::WrongKind, &text);
                }
            }
            Purpose::PrefillValue | Purpose::PrefillCounter if reply == Reply::Done => {
                let counter = one.purpose == Purpose::PrefillCounter;
                let kind = if counter { KeyKind::Counter } else { KeyKind::Value };
                self.verifier.prefilled(kind, one.request.key);
            }
            Purpose::PrefillValue | Purpose::PrefillCounter => {
                self.prefill_failed += 1;
                if self.examples.len() < EXAMPLES_MAX {
                    let key = one.request.key;
                    self.examples.push(match reply {
                        Reply::Error(text) => {
                            format!("prefill of key {key}: {}", String::from_utf8_lossy(text))
                        }
                        _ => format!("prefill of key {key}: {reply:?}"),
                    });
                }
            }
        }
    }

    /// A request has all its replies.
    #[inline]
    fn complete(&mut self, index: usize, one: &InFlight) {
        self.in_flight -= 1;
        let now_ns = self.now.as_ns();
        if one.measured {
            self.record.counts.completed += 1;
            self.record.counts.errors += u64::from(one.failed);
            let (t0_ns, t2_ns) = (one.t0_ns, one.t2_ns);
            let op = one.request.op;
            if (op, now_ns, t0_ns, t2_ns) != self.alike.key() {
                self.flush_alike();
                self.alike = Alike { op, now_ns, t0_ns, t2_ns, count: 0 };
            }
            self.alike.count += 1;
        }
        if one.session_left > 0 {
            self.source.follow_up(now_ns, one.session_left);
        }
        self.offer(index);
    }

    /// Records what is alike.
    fn flush_alike(&mut self) {
        let Alike { op, now_ns, t0_ns, t2_ns, count } = std::mem::take(&mut self.alike);
        if count > 0 {
            let op = &mut self.record.ops[op as usize];
            let fits = op.response.record_n(now_ns.saturating_sub(t0_ns), count)
                && op.service.record_n(now_ns.saturating_sub(t2_ns), count);
            self.record.counts.beyond_max += if fits { 0 } else { count };
        }
    }

    fn measure_response(&mut self, op: u8, ns: u64) {
        let fits = self.record.ops[op as usize].response.record(ns);
        self.record.counts.beyond_max += u64::from(!fits);
    }

    /// Lists a connection that has room; ends a time in which nothing had.
    #[inline]
    fn offer(&mut self, index: usize) {
        let depth = self.depth();
        let session = &mut self.sessions[index];
        if session.queued || !session.has_room(depth) {
            return;
        }
        session.queued = true;
        self.free.push_back(index as u32);
        if self.is_full {
            (self.is_full, self.full_until) = (false, self.now);
        }
    }

    #[inline]
    fn depth(&self) -> usize {
        if self.source.is_prefill() { self.plan.depth.max(PREFILL_DEPTH) } else { self.plan.depth }
    }

    fn take_free(&mut self) -> Option<usize> {
        let depth = self.depth();
        while let Some(index) = self.free.pop_front() {
            let session = &mut self.sessions[index as usize];
            session.queued = false;
            if session.has_room(depth) {
                return Some(index as usize);
            }
        }
        None
    }

    fn issue_due(&mut self) {
        let mut left = ISSUED_PER_TURN_MAX;
        while left > 0 && self.source.is_due(self.start, self.now, self.measure_until) {
            let Some(index) = self.take_free() else {
                self.is_full = true;
                return;
            };
            // An open load goes to the connections in turn. What is always due fills one connection
            // before the next, so that its memory is visited once.
            let room = match self.source.is_always_due() {
                true => self.depth() - self.sessions[index].in_flight.len(),
                false => 1,
            };
            for _ in 0..room.min(left) {
                let source = &mut self.source;
                let due = source.take(&self.plan, &self.verifier, self.start, self.now);
                let Some(due) = due else { break };
                self.issue(index, due);
                left -= 1;
            }
            self.offer(index);
        }
    }

    /// Builds a request behind what the connection has to send.
    #[inline]
    fn issue(&mut self, index: usize, due: source::Due) {
        let source::Due { t0_ns, request, purpose, session_left } = due;
        let plan = &self.plan;
        let (expect, bytes, replies) = match purpose {
            Purpose::PrefillValue => {
                let expect = self.verifier.begin_write(request.key, 0);
                let (kind, key) = (KeyKind::Value, request.key);
                (expect, self.encoder.prefill(plan, kind, key, expect.version), 1)
            }
            Purpose::PrefillCounter => {
                let bytes = self.encoder.prefill(plan, KeyKind::Counter, request.key, 0);
                (Default::default(), bytes, 1)
            }
            _ => {
                let expect = self.verifier.begin(plan, &request);
                let (bytes, replies) = self.encoder.request(plan, &request, expect.version);
                (expect, bytes, replies)
            }
        };
        self.sessions[index].out.push(bytes, &mut self.buffers);
        let full_ns = if t0_ns < self.full_until.as_ns() {
            self.full_until.min(self.now).as_ns().saturating_sub(t0_ns)
        } else {
            0
        };
        let measured = purpose == Purpose::Load
            && (self.measure_from.as_ns()..self.measure_until.as_ns()).contains(&t0_ns);
        let one = InFlight {
            expect,
            t0_ns,
            full_ns,
            session_left,
            measured,
            ..InFlight::new(request, purpose, replies)
        };
        self.push(index, one);
    }

    #[inline]
    fn push(&mut self, index: usize, one: InFlight) {
        self.record.counts.sent += u64::from(one.measured);
        self.in_flight += 1;
        let session = &mut self.sessions[index];
        session.unstamped += 1;
        session.in_flight.push_back(one);
        if !session.dirty {
            session.dirty = true;
            self.dirty.push(index as u32);
        }
    }

    #[inline]
    fn find(&self, token: Token) -> Option<usize> {
        let session = self.sessions.get(token.index() as usize)?;
        (session.token() == token).then_some(session.index as usize)
    }

    /// `one` is the request that was answered wrongly.
    #[cold]
    fn violated(
        &mut self,
        index: usize,
        one: Option<&InFlight>,
        violation: Violation,
        detail: &str,
    ) {
        self.record.counts.violation(violation);
        if self.examples.len() >= EXAMPLES_MAX {
            return;
        }
        let about = match one {
            None => "nothing in flight".to_owned(),
            Some(InFlight { purpose: Purpose::Load, request, .. }) => {
                let mut key = Vec::new();
                let op = self.plan.ops[request.op as usize];
                self.plan.keys.write(crate::workload::stream::key_kind(op), request.key, &mut key);
                let key = String::from_utf8_lossy(&key);
                format!("request {} ({} {key})", request.number, op.name())
            }
            Some(one) => format!("{:?}", one.purpose),
        };
        let text = violation.text();
        self.examples.push(format!("connection {index}: {about}: {text} {detail}"));
    }

    /// Why a connection with something in flight is lost.
    #[cold]
    fn example_of_loss(&mut self, index: usize, why: &str) {
        let session = &self.sessions[index];
        let count = session.in_flight.len();
        let is_news = session.state != State::Closing && count > 0;
        if is_news && self.examples.len() < EXAMPLES_OF_FAILURES_MAX {
            self.examples.push(format!("connection {index}: {why}, with {count} in flight"));
        }
    }

    #[cold]
    fn example_of_refusal(&mut self, index: usize, reply: Reply<'_>) {
        if self.examples.len() < EXAMPLES_OF_FAILURES_MAX {
            let text = match reply {
                Reply::Error(text) => String::from_utf8_lossy(text).into_owned(),
                _ => format!("{reply:?}"),
            };
            self.examples.push(format!("connection {index}: refused: {text}"));
        }
    }

    /// The connection can't be used any more: what was in flight is lost.
    fn broken(&mut self, index: usize, error: Option<SocketError>) {
        if self.sessions[index].state == State::Closing {
            return;
        }
        self.last_error = error.or(self.last_error);
        self.give_up(index, false);
        self.close(index);
    }

    fn close(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        if session.state != State::Closing {
            session.state = State::Closing;
            session.out.recycle(&mut self.buffers);
            self.actions.push_back(Action::Close(session.token()));
        }
    }

    /// Everything in flight on a connection ends without a reply. What it has taken so far is a
    /// lower bound, and goes into the tail all the same.
    fn give_up(&mut self, index: usize, all_timed_out: bool) {
        let (now_ns, timeout_ns) = (self.now.as_ns(), self.plan.timeout.as_nanos() as u64);
        while let Some(one) = self.sessions[index].in_flight.pop_front() {
            self.in_flight -= 1;
            match one.purpose {
                Purpose::Load => self.verifier.lost(&self.plan, &one.request),
                Purpose::Handshake => {}
                _ => self.prefill_failed += 1,
            }
            if !one.measured {
                continue;
            }
            let sent_for_ns = if one.t2_ns == 0 { 0 } else { now_ns.saturating_sub(one.t2_ns) };
            if all_timed_out || sent_for_ns >= timeout_ns {
                self.record.counts.timed_out += 1;
            } else {
                self.record.counts.lost += 1;
            }
            let op = one.request.op;
            self.measure_response(op, now_ns.saturating_sub(one.t0_ns));
            let fits = self.record.ops[op as usize].service.record(sent_for_ns);
            self.record.counts.beyond_max += u64::from(!fits);
        }
        self.sessions[index].unstamped = 0;
    }

    /// What is due now and then: connects, and requests without a reply.
    fn check_times(&mut self) {
        let now = self.now;
        let timeout = self.plan.timeout;
        let step_max = if self.plan.gather > 1 { CHECK_GATHERING_MAX } else { CHECK_MAX };
        let step = (timeout / 16).clamp(Duration::from_millis(1), step_max);
        self.next_check = now + step;
        for index in 0..self.sessions.len() {
            let session = &mut self.sessions[index];
            match session.state {
                State::Down { retry_at } if retry_at <= now => {
                    session.state = State::Connecting { since: now };
                    self.actions.push_back(Action::Connect(session.token()));
                }
                State::Connecting { since } if now.since(since) >= CONNECT_TIMEOUT => {
                    self.record.counts.connects_failed += 1;
                    self.last_error = Some(SocketError::TimedOut);
                    self.close(index);
                }
                State::Up => {
                    let late = |one: &InFlight| {
                        one.t2_ns > 0 && now.since(Time::from_ns(one.t2_ns)) >= timeout
                    };
                    if session.in_flight.front().is_some_and(late) {
                        self.example_of_loss(index, &format!("no reply for {timeout:?}"));
                        self.broken(index, Some(SocketError::TimedOut));
                    }
                }
                _ => {}
            }
        }
    }
}

/// Completions of one command with the same times: of a batch that was sent at once and answered at
/// once. They are recorded together.
#[derive(Debug, Clone, Copy, Default)]
struct Alike {
    op: u8,
    now_ns: u64,
    t0_ns: u64,
    t2_ns: u64,
    count: u64,
}

impl Alike {
    #[inline]
    fn key(&self) -> (u8, u64, u64, u64) {
        (self.op, self.now_ns, self.t0_ns, self.t2_ns)
    }
}

/// What a connection has in flight while keys are written before the measurement, at least.
const PREFILL_DEPTH: usize = 16;
