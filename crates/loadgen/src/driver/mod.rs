//! The core of the generator: which request goes out when and where, and what its reply is worth.
//! One driver a thread.
//!
//! Here are its phases and turns. `source` says what is due, `requests` sends it, `replies` reads
//! what comes back, `connections` opens and loses what both go over.
//!
//! Pure: `handle_*` takes events and the time, `poll*` gives actions; it reads no clock and no
//! socket, so that it runs under a virtual clock as well (`tests/virtual_time.rs`). Invariant: an
//! open load's intended start times come from the schedule alone, and every request of the measured
//! time ends in the histograms, answered or not.

mod connections;
mod examples;
mod gathering;
mod replies;
mod requests;
mod session;
mod source;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use base::{Buffers, Chain, SocketError, Time, Token};

use self::gathering::Gathering;
use self::replies::Alike;
use self::session::{Purpose, Session, State};
use self::source::Source;
use crate::arrivals::Arrivals;
use crate::record::Record;
use crate::verify::Verifier;
use crate::wire::Encoder;
use crate::workload::Plan;
use crate::workload::file::Mode;
use crate::workload::plan::Part;
use crate::workload::schedule::Arrival;

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
            // When a run is interrupted, what lies ahead was never due, and may be hours.
            if t0_ns > now.as_ns() {
                break;
            }
            if t0_ns >= self.measure_from.as_ns() {
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
}
