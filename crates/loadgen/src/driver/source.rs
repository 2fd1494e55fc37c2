//! Where a driver's next request comes from: the keys to be written first, the schedule, or the end
//! of another request.
//!
//! Invariant: `take` gives a request only when `is_due` says so, and an open source never looks at
//! how many requests are in flight.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use base::Time;

use super::Driver;
use super::session::Purpose;
use crate::verify::Verifier;
use crate::workload::Plan;
use crate::workload::file::Mode;
use crate::workload::keys::KeyKind;
use crate::workload::plan::Part;
use crate::workload::stream::{Request, Stream};

/// A request that is due.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) t0_ns: u64,
    pub(super) request: Request,
    pub(super) purpose: Purpose,
    pub(super) session_left: u32,
}

/// Requests that are drawn ahead of their time, some at once, so that what is known of their keys
/// comes from memory together and not one after the other.
#[derive(Debug)]
pub(super) struct Ahead<T> {
    drawn: Vec<T>,
    /// How many of them are taken.
    taken: usize,
}

/// More are not under way to memory at once.
const AHEAD_COUNT: usize = 32;

impl<T: Copy> Ahead<T> {
    fn new() -> Ahead<T> {
        Ahead { drawn: Vec::with_capacity(AHEAD_COUNT), taken: 0 }
    }

    #[inline]
    fn next(&self) -> Option<T> {
        self.drawn.get(self.taken).copied()
    }

    /// Takes the next one; draws more when there is none behind it.
    #[inline]
    fn take(
        &mut self,
        verifier: &Verifier,
        draw: impl FnMut() -> Option<T>,
        request: fn(&T) -> &Request,
    ) -> Option<T> {
        let one = self.next()?;
        self.taken += 1;
        if self.taken == self.drawn.len() {
            self.refill(verifier, draw, request);
        }
        Some(one)
    }

    fn refill(
        &mut self,
        verifier: &Verifier,
        mut draw: impl FnMut() -> Option<T>,
        request: fn(&T) -> &Request,
    ) {
        self.drawn.clear();
        self.taken = 0;
        self.drawn.extend(std::iter::from_fn(&mut draw).take(AHEAD_COUNT));
        verifier.touch(self.drawn.iter().map(|one| request(one).key));
    }
}

type Timed = (u64, Request);

#[derive(Debug)]
pub(super) enum Source {
    Idle,
    Prefill {
        kinds: Vec<KeyKind>,
        part: Part,
        /// Keys of this kind that are done.
        next: u64,
        count: u64,
    },
    Open {
        stream: Stream,
        /// Nanoseconds after the start beyond which nothing begins.
        until_ns: u64,
        ahead: Ahead<Timed>,
    },
    Closed {
        stream: Stream,
        ahead: Ahead<Request>,
    },
    PartlyOpen {
        /// Begins sessions.
        arrivals: Stream,
        /// Says what the requests do.
        stream: Stream,
        until_ns: u64,
        /// When the next session begins, and its requests.
        next: Option<(u64, u32)>,
        /// Later requests of sessions: when they are due, and how many are left with them.
        follow_ups: BinaryHeap<Reverse<(u64, u32)>>,
        think_ns: u64,
    },
}

impl Source {
    pub(super) fn prefill(plan: &Plan, part: Part) -> Source {
        let (counters, values) = plan.uses();
        let mut kinds = Vec::new();
        if values {
            kinds.push(KeyKind::Value);
        }
        if counters {
            kinds.push(KeyKind::Counter);
        }
        Source::Prefill { kinds, part, next: 0, count: plan.keys.count() }
    }

    pub(super) fn load(plan: &Plan, part: Part, length: Duration, verifier: &Verifier) -> Source {
        let until_ns = length.as_nanos() as u64;
        let mut stream = Stream::new(plan, part);
        match plan.settings.mode {
            Mode::Open => {
                let mut ahead = Ahead::new();
                ahead.refill(verifier, || stream.next_timed(plan, until_ns), |one| &one.1);
                Source::Open { stream, until_ns, ahead }
            }
            Mode::Closed => {
                let mut ahead = Ahead::new();
                ahead.refill(verifier, || stream.next_request(plan), |one| one);
                Source::Closed { stream, ahead }
            }
            Mode::PartlyOpen { think_ms, .. } => {
                let mut arrivals = Stream::new(plan, part);
                let next = arrivals.next_session(plan, until_ns);
                let think_ns = (think_ms * 1e6) as u64;
                let follow_ups = BinaryHeap::new();
                Source::PartlyOpen { arrivals, stream, until_ns, next, follow_ups, think_ns }
            }
        }
    }

    pub(super) fn is_prefill(&self) -> bool {
        matches!(self, Source::Prefill { .. })
    }

    /// The next request waits for room and for nothing else.
    pub(super) fn is_always_due(&self) -> bool {
        matches!(self, Source::Prefill { .. } | Source::Closed { .. })
    }

    /// Requests begin when others end, and are part of the load.
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Source::Closed { .. })
    }

    /// Nothing will come any more.
    pub(super) fn is_exhausted(&self, now: Time, until: Time) -> bool {
        match self {
            Source::Idle => true,
            Source::Prefill { kinds, .. } => kinds.is_empty(),
            Source::Open { ahead, .. } => ahead.next().is_none(),
            Source::Closed { ahead, .. } => ahead.next().is_none() || now >= until,
            Source::PartlyOpen { next, follow_ups, .. } => {
                next.is_none() && (follow_ups.is_empty() || now >= until)
            }
        }
    }

    /// A request of a session has been answered, and the session goes on.
    pub(super) fn follow_up(&mut self, now_ns: u64, left: u32) {
        if let Source::PartlyOpen { follow_ups, think_ns, .. } = self {
            follow_ups.push(Reverse((now_ns + *think_ns, left)));
        }
    }

    #[inline]
    pub(super) fn is_due(&self, start: Time, now: Time, until: Time) -> bool {
        let since_ns = now.since(start).as_nanos() as u64;
        match self {
            Source::Idle => false,
            Source::Prefill { kinds, .. } => !kinds.is_empty(),
            Source::Open { ahead, .. } => {
                now >= start && ahead.next().is_some_and(|next| next.0 <= since_ns)
            }
            Source::Closed { ahead, .. } => now >= start && now < until && ahead.next().is_some(),
            Source::PartlyOpen { next, follow_ups, .. } => {
                now >= start
                    && (next.is_some_and(|next| next.0 <= since_ns)
                        || follow_ups
                            .peek()
                            .is_some_and(|one| one.0.0 <= now.as_ns() && now < until))
            }
        }
    }

    /// Takes the request that is due.
    #[inline]
    pub(super) fn take(
        &mut self,
        plan: &Plan,
        verifier: &Verifier,
        start: Time,
        now: Time,
    ) -> Option<Due> {
        let load = |t0_ns, request, session_left| {
            Some(Due { t0_ns, request, purpose: Purpose::Load, session_left })
        };
        match self {
            Source::Idle => None,
            Source::Prefill { kinds, part, next, count } => {
                let kind = *kinds.first()?;
                let key = *next * part.count + part.index;
                *next += 1;
                if *next * part.count + part.index >= *count {
                    kinds.remove(0);
                    *next = 0;
                }
                let purpose = match kind {
                    KeyKind::Value => Purpose::PrefillValue,
                    KeyKind::Counter => Purpose::PrefillCounter,
                };
                let request = Request { number: 0, op: 0, key };
                Some(Due { t0_ns: now.as_ns(), request, purpose, session_left: 0 })
            }
            Source::Open { stream, until_ns, ahead } => {
                let draw = || stream.next_timed(plan, *until_ns);
                let (at_ns, request) = ahead.take(verifier, draw, |one| &one.1)?;
                load(start.as_ns() + at_ns, request, 0)
            }
            Source::Closed { stream, ahead } => {
                let request = ahead.take(verifier, || stream.next_request(plan), |one| one)?;
                load(now.as_ns(), request, 0)
            }
            Source::PartlyOpen { arrivals, stream, until_ns, next, follow_ups, .. } => {
                let request = stream.next_request(plan)?;
                // Whichever is due first.
                let begins_ns = next.map_or(u64::MAX, |next| start.as_ns() + next.0);
                let goes_on_ns = follow_ups.peek().map_or(u64::MAX, |one| one.0.0);
                if begins_ns <= goes_on_ns {
                    let (_, count) = next.take()?;
                    *next = arrivals.next_session(plan, *until_ns);
                    load(begins_ns, request, count - 1)
                } else {
                    let Reverse((at_ns, left)) = follow_ups.pop()?;
                    load(at_ns, request, left - 1)
                }
            }
        }
    }

    /// When the next request is due, as far as that is known and a turn is needed for it. While
    /// nothing is free a turn would not help: the reply that frees something comes by itself.
    pub(super) fn next_due(&self, driver: &Driver) -> Option<Time> {
        if driver.is_full {
            return None;
        }
        let start = driver.start;
        match self {
            Source::Idle => None,
            Source::Prefill { kinds, .. } => (!kinds.is_empty()).then_some(driver.now),
            Source::Open { ahead, .. } => ahead.next().map(|next| start + ns(next.0)),
            Source::Closed { ahead, .. } => {
                let is_due = ahead.next().is_some() && driver.now < driver.measure_until;
                is_due.then_some(driver.now.max(start))
            }
            Source::PartlyOpen { next, follow_ups, .. } => {
                let begins = next.map(|next| start + ns(next.0));
                // After the end no session goes on.
                let goes_on = follow_ups.peek().map(|one| Time::from_ns(one.0.0));
                let goes_on = goes_on.filter(|_| driver.now < driver.measure_until);
                begins.into_iter().chain(goes_on).min()
            }
        }
    }

    /// About how many requests are due and were not sent.
    pub(super) fn due_count(&self, driver: &Driver) -> u64 {
        let Source::Open { ahead, .. } = self else { return 0 };
        let Some((at_ns, _)) = ahead.next() else { return 0 };
        let late = driver.now.since(driver.start + ns(at_ns));
        let rate = driver.plan.settings.rate / driver.part.count as f64;
        (late.as_secs_f64() * rate) as u64
    }

    /// The next request that was due before the end and can't be sent any more, with its command.
    pub(super) fn next_unsent(
        &mut self,
        plan: &Plan,
        verifier: &Verifier,
        start: Time,
    ) -> Option<(u64, u8)> {
        match self {
            Source::Open { stream, until_ns, ahead } => {
                let draw = || stream.next_timed(plan, *until_ns);
                let (at_ns, request) = ahead.take(verifier, draw, |one| &one.1)?;
                Some((start.as_ns() + at_ns, request.op))
            }
            Source::PartlyOpen { arrivals, stream, until_ns, next, .. } => {
                let (at_ns, _) = next.take()?;
                *next = arrivals.next_session(plan, *until_ns);
                Some((start.as_ns() + at_ns, stream.next_request(plan)?.op))
            }
            _ => None,
        }
    }
}

fn ns(ns: u64) -> Duration {
    Duration::from_nanos(ns)
}
