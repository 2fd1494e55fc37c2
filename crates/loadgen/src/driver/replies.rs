//! What comes back: bytes to replies, replies to the requests that they answer, and those to the
//! histograms.
//!
//! It judges no reply itself (`verify` does). Invariant: each whole reply answers the front of its
//! connection's requests in flight, or is a violation.

use base::Token;

use super::Driver;
use super::examples::EXAMPLES_MAX;
use super::session::{InFlight, Purpose, State};
use crate::reply::{self, Read, Reply};
use crate::verify::Answer;
use crate::workload::file::Op;
use crate::workload::keys::KeyKind;
use crate::workload::value::Violation;

/// Completions of one command with the same times: of a batch that was sent at once and answered at
/// once. They are recorded together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Alike {
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

impl Driver {
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
    pub(super) fn flush_alike(&mut self) {
        let Alike { op, now_ns, t0_ns, t2_ns, count } = std::mem::take(&mut self.alike);
        if count > 0 {
            let op = &mut self.record.ops[op as usize];
            let fits = op.response.record_n(now_ns.saturating_sub(t0_ns), count)
                && op.service.record_n(now_ns.saturating_sub(t2_ns), count);
            self.record.counts.beyond_max += if fits { 0 } else { count };
        }
    }

    pub(super) fn measure_response(&mut self, op: u8, ns: u64) {
        let fits = self.record.ops[op as usize].response.record(ns);
        self.record.counts.beyond_max += u64::from(!fits);
    }
}
