//! What goes out: requests that are due, to connections that have room.
//!
//! When a request is due is said by the source. Invariant: a request that finds no room keeps its
//! intended start, and the time in which nothing had room is told apart from the generator's own
//! lateness.

use super::Driver;
use super::session::{InFlight, Purpose};
use super::source;
use crate::workload::keys::KeyKind;

/// Most requests that one turn issues, so that a backlog does not keep replies waiting.
const ISSUED_PER_TURN_MAX: usize = 1024;
/// What a connection has in flight while keys are written before the measurement, at least.
const PREFILL_DEPTH: usize = 16;

impl Driver {
    pub(super) fn issue_due(&mut self) {
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
    pub(super) fn push(&mut self, index: usize, one: InFlight) {
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

    /// Lists a connection that has room; ends a time in which nothing had.
    #[inline]
    pub(super) fn offer(&mut self, index: usize) {
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
}
