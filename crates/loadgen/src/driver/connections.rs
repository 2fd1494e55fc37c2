//! The driver's connections: opened, greeted, lost, closed, and opened again after a pause.
//!
//! It issues no request of the load. Invariant: what was in flight on a connection that is lost
//! ends in the histograms, with the time that had passed.

use std::time::Duration;

use base::{Chain, RecvEnd, SocketError, Time, Token};

use super::session::{InFlight, Purpose, State};
use super::{Action, Driver};
use crate::wire::handshake;
use crate::workload::stream::Request;

/// The pause before a broken connection is opened again, doubled up to the largest.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// A connect that takes longer has failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time between two looks at what is due now and then, and where turns wait for several
/// events: no turn waits longer.
const CHECK_MAX: Duration = Duration::from_millis(20);
const CHECK_GATHERING_MAX: Duration = Duration::from_millis(4);

impl Driver {
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

    /// What is due now and then: connects, and requests without a reply.
    pub(super) fn check_times(&mut self) {
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

    #[inline]
    pub(super) fn find(&self, token: Token) -> Option<usize> {
        let session = self.sessions.get(token.index() as usize)?;
        (session.token() == token).then_some(session.index as usize)
    }

    /// The connection can't be used any more: what was in flight is lost.
    pub(super) fn broken(&mut self, index: usize, error: Option<SocketError>) {
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
    pub(super) fn give_up(&mut self, index: usize, all_timed_out: bool) {
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
}
