//! A hierarchical timer wheel (Varghese and Lauck, 1987, scheme 6) with millisecond ticks.
//!
//! It has no cancel: an owner whose deadline moved is told too early, looks, and sets its timer
//! again. So an owner has one entry, or few, and a deadline that moves away costs nothing.
//! Invariant: an entry fires at or after its deadline, never before, and once.

use crate::time::Time;

const TICK_NS: u64 = 1_000_000;
const SLOT_BITS: u32 = 6;
const SLOT_COUNT: usize = 1 << SLOT_BITS;
const LEVEL_COUNT: usize = 4;
/// Deadlines further away than this many ticks (4.6 hours) wait in the last slot and are put in
/// again when it comes round.
const HORIZON_TICKS: u64 = 1 << (SLOT_BITS * LEVEL_COUNT as u32);

struct Entry<T> {
    deadline_tick: u64,
    owner: T,
}

/// See the module's text. `T` names the owner of a timer.
pub struct TimerWheel<T> {
    levels: [[Vec<Entry<T>>; SLOT_COUNT]; LEVEL_COUNT],
    /// One bit a slot that is not empty.
    occupied: [u64; LEVEL_COUNT],
    /// The tick up to which, inclusive, everything has fired.
    now_tick: u64,
    count: usize,
    scratch: Vec<Entry<T>>,
}

impl<T> TimerWheel<T> {
    /// An empty wheel that starts at `now`.
    pub fn new(now: Time) -> TimerWheel<T> {
        TimerWheel {
            levels: std::array::from_fn(|_| std::array::from_fn(|_| Vec::new())),
            occupied: [0; LEVEL_COUNT],
            now_tick: now.as_ns() / TICK_NS,
            count: 0,
            scratch: Vec::new(),
        }
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sets a timer. One that is due already fires at the next tick.
    pub fn insert(&mut self, deadline: Time, owner: T) {
        self.count += 1;
        // Rounded up, so that nothing fires before its deadline.
        let deadline_tick = deadline.as_ns().div_ceil(TICK_NS);
        self.place(Entry { deadline_tick, owner });
    }

    /// A time at or before which [`TimerWheel::expire`] has nothing to do before, or `None` when no
    /// timer is set. It may be earlier than the first deadline, by at most one turn of a level.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.count == 0 {
            return None;
        }
        (0..LEVEL_COUNT)
            .filter_map(|level| self.next_tick_of(level))
            .min()
            .map(|tick| Time::from_ns(tick.saturating_mul(TICK_NS)))
    }

    /// Moves the wheel to `now` and appends the owners whose deadline has come, in no set order.
    pub fn expire(&mut self, now: Time, due: &mut Vec<T>) {
        let target = now.as_ns() / TICK_NS;
        while self.now_tick < target {
            // Jump over ticks at which nothing can happen.
            let next = (0..LEVEL_COUNT).filter_map(|level| self.next_tick_of(level)).min();
            match next {
                Some(tick) if tick <= target => self.now_tick = tick,
                _ => {
                    self.now_tick = target;
                    return;
                }
            }
            self.turn(due);
        }
    }

    /// Empties the slots that begin at `now_tick`, coarsest level first.
    fn turn(&mut self, due: &mut Vec<T>) {
        for level in (0..LEVEL_COUNT).rev() {
            let shift = SLOT_BITS * level as u32;
            if self.now_tick & ((1 << shift) - 1) != 0 {
                continue;
            }
            let slot = (self.now_tick >> shift) as usize % SLOT_COUNT;
            if self.occupied[level] & 1 << slot == 0 {
                continue;
            }
            self.occupied[level] &= !(1 << slot);
            let mut entries = std::mem::take(&mut self.scratch);
            std::mem::swap(&mut entries, &mut self.levels[level][slot]);
            for entry in entries.drain(..) {
                if entry.deadline_tick <= self.now_tick {
                    self.count -= 1;
                    due.push(entry.owner);
                } else {
                    self.place(entry);
                }
            }
            self.scratch = entries;
        }
    }

    fn place(&mut self, entry: Entry<T>) {
        let tick = entry
            .deadline_tick
            .clamp(self.now_tick + 1, self.now_tick + HORIZON_TICKS - HORIZON_TICKS / 64);
        let distance = tick - self.now_tick;
        // The level whose slots are finer than the distance, and whose range covers it. A slot of
        // a coarse level that has begun already must not be used: it would fire a round too late.
        let mut level = ((63 - distance.leading_zeros()) / SLOT_BITS) as usize;
        let mut shift = SLOT_BITS * level as u32;
        if level + 1 < LEVEL_COUNT
            && (tick >> shift) - (self.now_tick >> shift) >= SLOT_COUNT as u64
        {
            level += 1;
            shift += SLOT_BITS;
        }
        let slot = (tick >> shift) as usize % SLOT_COUNT;
        self.occupied[level] |= 1 << slot;
        self.levels[level][slot].push(entry);
    }

    /// The first tick after `now_tick` at which a slot of this level that is not empty begins.
    fn next_tick_of(&self, level: usize) -> Option<u64> {
        if self.occupied[level] == 0 {
            return None;
        }
        let shift = SLOT_BITS * level as u32;
        let current = self.now_tick >> shift;
        let after = ((current + 1) % SLOT_COUNT as u64) as u32;
        let steps = u64::from(self.occupied[level].rotate_right(after).trailing_zeros());
        Some((current + 1 + steps) << shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Time {
        Time::from_ns(ms * TICK_NS)
    }

    #[test]
    fn fires_at_the_deadline_and_not_before() {
        for start in [0, 1, 63, 64, 4095, 4096, 123_456_789] {
            for delay in [1, 2, 63, 64, 65, 4095, 4096, 4097, 262_144, 16_777_216, 40_000_000] {
                let mut wheel = TimerWheel::new(ms(start));
                wheel.insert(ms(start + delay), 7);
                let mut due = Vec::new();
                wheel.expire(ms(start + delay - 1), &mut due);
                assert!(due.is_empty(), "{start}+{delay} fired early");
                wheel.expire(ms(start + delay), &mut due);
                assert_eq!(due, [7], "{start}+{delay} did not fire");
                assert!(wheel.is_empty());
                assert_eq!(wheel.next_deadline(), None);
            }
        }
    }

    /// Whoever sleeps until `next_deadline` is woken once a level at the most before a timer fires,
    /// and not for nothing all the time.
    #[test]
    fn few_wakes_lead_to_a_deadline() {
        for delay in [1, 63, 64, 5000, 262_143, 262_145, 16_000_000] {
            let mut wheel = TimerWheel::new(ms(777));
            wheel.insert(ms(777 + delay), ());
            let (mut due, mut wakes) = (Vec::new(), 0);
            while due.is_empty() {
                let next = wheel.next_deadline().expect("a timer is set");
                wheel.expire(next, &mut due);
                wakes += 1;
            }
            assert!(wakes <= LEVEL_COUNT, "{wakes} wakes for {delay} ms");
        }
    }

    #[test]
    fn a_deadline_that_has_passed_fires_at_the_next_tick() {
        let mut wheel = TimerWheel::new(ms(100));
        wheel.insert(ms(5), 'a');
        assert_eq!(wheel.next_deadline(), Some(ms(101)));
        let mut due = Vec::new();
        wheel.expire(ms(101), &mut due);
        assert_eq!(due, ['a']);
    }

    proptest! {
        /// Any mix of inserts and steps fires each entry at the first step after its deadline.
        #[test]
        fn behaves_like_a_sorted_list(
            start in 0u64..200_000,
            operations in prop::collection::vec((0u64..3, 0u64..600_000), 1..200),
        ) {
            let mut wheel = TimerWheel::new(ms(start));
            let mut model: Vec<(u64, usize)> = Vec::new();
            let mut now = start;
            for (serial, (what, amount)) in operations.into_iter().enumerate() {
                if what > 0 {
                    let delay = if what == 1 { amount } else { amount % 200 };
                    wheel.insert(ms(now + delay), serial);
                    model.push((now + delay.max(1), serial));
                } else {
                    now += amount % 50_000 + 1;
                    let mut due = Vec::new();
                    wheel.expire(ms(now), &mut due);
                    due.sort_unstable();
                    let mut expected: Vec<usize> =
                        model.iter().filter(|entry| entry.0 <= now).map(|entry| entry.1).collect();
                    expected.sort_unstable();
                    model.retain(|entry| entry.0 > now);
                    prop_assert_eq!(due, expected);
                }
                prop_assert_eq!(wheel.len(), model.len());
                if let Some(first) = model.iter().map(|entry| entry.0).min() {
                    prop_assert!(wheel.next_deadline().expect("timers are set") <= ms(first));
                }
            }
        }
    }
}
