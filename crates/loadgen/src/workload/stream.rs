//! The stream of requests: what request number n does, and when it is meant to begin.
//!
//! Every thread walks the whole stream and keeps the requests whose key it owns: that costs a draw
//! or two for each request of another thread, and makes the stream independent of the number of
//! threads and machines. Invariant: the parts of a stream, put together, are the stream.

use super::Plan;
use super::file::{Mode, Op};
use super::keys::KeyKind;
use super::plan::Part;
use super::schedule::Schedule;
use crate::rng::{Rng, mix};

/// A request without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Its place in the whole stream.
    pub number: u64,
    /// Index into [`Plan::ops`].
    pub op: u8,
    /// The number of its key, or of the first of them.
    pub key: u64,
}

/// The requests of one part.
#[derive(Debug)]
pub struct Stream {
    part: Part,
    seed: u64,
    /// The seed as [`Rng::of_mixed`] wants it.
    mixed: u64,
    number: u64,
    inserted: u64,
    schedule: Option<Schedule>,
    /// Sessions of a partly open load that the schedule has begun.
    arrivals: u64,
}

/// A thread that finds no request of its own among so many others has none: the workload has too
/// few keys for it.
const SKIPPED_MAX: u64 = 1 << 20;

impl Stream {
    /// The part of the plan's stream.
    pub fn new(plan: &Plan, part: Part) -> Stream {
        Stream {
            part,
            seed: mix(plan.settings.seed),
            mixed: mix(mix(plan.settings.seed)),
            number: 0,
            inserted: 0,
            schedule: plan.schedule(),
            arrivals: 0,
        }
    }

    /// What the next request of the whole stream does.
    #[inline]
    fn draw(&mut self, plan: &Plan) -> Request {
        let number = self.number;
        self.number += 1;
        let mut rng = Rng::of_mixed(self.mixed, number);
        let op = if plan.ops.len() == 1 { 0 } else { plan.mix.draw(&mut rng) };
        let key = match plan.ops[op] {
            Op::Ping => number % plan.keys.count(),
            Op::Insert => {
                self.inserted += 1;
                plan.keys.count() + self.inserted - 1
            }
            _ => plan.keys.draw(&mut rng, self.inserted),
        };
        Request { number, op: op as u8, key }
    }

    /// The next request of this part; `None` when it has none.
    #[inline]
    pub fn next_request(&mut self, plan: &Plan) -> Option<Request> {
        for _ in 0..SKIPPED_MAX {
            let request = self.draw(plan);
            if self.part.owns(request.key) {
                return Some(request);
            }
        }
        None
    }

    /// The next request of this part of an open load, with its intended start in nanoseconds from
    /// the beginning. `None` when there is none before `until_ns`.
    #[inline]
    pub fn next_timed(&mut self, plan: &Plan, until_ns: u64) -> Option<(u64, Request)> {
        loop {
            let at_ns = self.schedule.as_mut()?.next_ns().filter(|&at| at < until_ns)?;
            let request = self.draw(plan);
            if self.part.owns(request.key) {
                return Some((at_ns, request));
            }
        }
    }

    /// When the next session of this part of a partly open load begins, and how many requests it
    /// has.
    pub fn next_session(&mut self, plan: &Plan, until_ns: u64) -> Option<(u64, u32)> {
        let Mode::PartlyOpen { requests, .. } = plan.settings.mode else {
            return None;
        };
        loop {
            let at_ns = self.schedule.as_mut()?.next_ns().filter(|&at| at < until_ns)?;
            let number = self.arrivals;
            self.arrivals += 1;
            if self.part.owns(number) {
                let mut rng = Rng::new(self.seed ^ 0x5E55, number);
                let geometric = if requests > 1.0 {
                    (rng.unit_open().ln() / (1.0 - 1.0 / requests).ln()).floor()
                } else {
                    0.0
                };
                return Some((at_ns, 1 + geometric.min(1e6) as u32));
            }
        }
    }
}

/// The keys of a multi-get or scan, the first of them included. Called when it is sent and when its
/// reply is checked, with the same result.
pub fn multi_keys(plan: &Plan, request: &Request, mut each: impl FnMut(usize, u64)) -> usize {
    let mut rng = Rng::new(plan.settings.seed ^ 0x6D75_6C74, request.number);
    let count = (plan.multi.draw(&mut rng) as usize).max(1);
    let scan = plan.ops[request.op as usize] == Op::Scan;
    for index in 0..count {
        let key = match index {
            0 => request.key,
            _ if scan => (request.key + index as u64) % plan.keys.count(),
            _ => plan.keys.draw(&mut rng, 0),
        };
        each(index, key);
    }
    count
}

/// What kind of key an operation is about.
#[inline]
pub fn key_kind(op: Op) -> KeyKind {
    if op == Op::Incr { KeyKind::Counter } else { KeyKind::Value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Settings;
    use crate::workload::keys::Popularity;

    fn plan(text: &str) -> Plan {
        Plan::new(&Settings::parse(text).expect("good"), 0).expect("possible")
    }

    fn take(plan: &Plan, part: Part, until_ns: u64) -> Vec<(u64, Request)> {
        let mut stream = Stream::new(plan, part);
        std::iter::from_fn(|| stream.next_timed(plan, until_ns)).collect()
    }

    #[test]
    fn the_stream_is_the_same_for_any_number_of_threads() {
        let mut plan = plan(
            "rate = 20000\nseed = 5\n[commands]\nget = 5\nset = 3\nmget = 1\ninsert = 1\nincr = 1",
        );
        for popularity in [Popularity::Uniform, Popularity::Zipf(0.99), Popularity::Latest(0.9)] {
            plan.settings.keys.popularity = popularity;
            let plan = Plan::new(&plan.settings, 0).expect("possible");
            let whole = take(&plan, Part::WHOLE, 1_000_000_000);
            assert!((19_000..21_000).contains(&whole.len()));
            for count in [2, 3, 7] {
                let mut parts: Vec<_> = (0..count)
                    .flat_map(|index| take(&plan, Part { index, count }, 1_000_000_000))
                    .collect();
                parts.sort_unstable_by_key(|one| one.1.number);
                assert_eq!(parts, whole);
            }
        }
    }

    #[test]
    fn another_seed_is_another_stream() {
        let one = take(&plan("seed = 1"), Part::WHOLE, 100_000_000);
        let other = take(&plan("seed = 2"), Part::WHOLE, 100_000_000);
        assert_ne!(one, other);
        assert_eq!(one, take(&plan("seed = 1"), Part::WHOLE, 100_000_000));
    }

    #[test]
    fn commands_come_by_weight() {
        let plan = plan("[commands]\nget = 96.8\nset = 3.2");
        let mut stream = Stream::new(&plan, Part::WHOLE);
        let sets = (0..100_000)
            .filter(|_| {
                let request = stream.next_request(&plan).expect("endless");
                plan.ops[request.op as usize] == Op::Set
            })
            .count();
        assert!((3000..3400).contains(&sets), "{sets}");
    }

    #[test]
    fn sessions_have_their_mean_length() {
        let plan = plan("mode = { partly-open = { requests = 5 } }\nrate = 100000");
        let mut stream = Stream::new(&plan, Part::WHOLE);
        let sessions: Vec<_> =
            std::iter::from_fn(|| stream.next_session(&plan, 1_000_000_000)).collect();
        let requests: u32 = sessions.iter().map(|one| one.1).sum();
        assert!((19_000..21_000).contains(&sessions.len()));
        assert!((95_000..105_000).contains(&requests), "{requests}");
    }

    #[test]
    fn a_thread_without_keys_has_no_requests() {
        let plan =
            plan("[keys]\ncount = 2\npopularity = { hotset = { keys = 0.5, requests = 1 } }");
        let hot = Stream::new(&plan, Part::WHOLE).next_request(&plan).expect("one").key;
        let other = Part { index: 1 - hot, count: 2 };
        assert_eq!(Stream::new(&plan, other).next_request(&plan), None);
    }
}
