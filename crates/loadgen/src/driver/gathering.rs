//! How many events one turn of a closed loop waits for.
//!
//! A turn that handles several replies costs less than as many turns, and in a closed loop it
//! changes nothing: with N requests in flight the mean response is N divided by the rate, wherever
//! replies wait. An open load never gathers. Invariant: a turn waits for a part of what is in
//! flight, not beyond the driver's next look at its times, and after a wait in vain turns wait for
//! one event for a while.

/// See the module's text.
#[derive(Debug)]
pub(super) struct Gathering {
    most: usize,
    /// Turns until it gathers again.
    pause_left: u32,
}

/// After a wait in vain. A server so slow that `most` replies take longer than the patience costs
/// each reply a wait in one turn of so many.
const PAUSE_TURNS: u32 = 1000;

impl Gathering {
    /// At most so many events; 1 does not gather.
    pub(super) fn new(most: usize) -> Gathering {
        Gathering { most, pause_left: 0 }
    }

    /// Events that the next turn may wait for.
    #[inline]
    pub(super) fn wanted(&self) -> usize {
        if self.pause_left > 0 { 1 } else { self.most }
    }

    /// A turn has found so many events, in time or at the end of its patience.
    #[inline]
    pub(super) fn handle_turn(&mut self, events_count: usize, in_vain: bool) {
        if self.pause_left > 0 {
            self.pause_left -= 1;
        } else if in_vain && events_count < self.most {
            self.pause_left = PAUSE_TURNS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_in_vain_is_not_tried_again_at_once() {
        let mut gathering = Gathering::new(6);
        assert_eq!(gathering.wanted(), 6);
        // Few in time, such as at the end of an interval, and enough too late.
        gathering.handle_turn(2, false);
        gathering.handle_turn(6, true);
        assert_eq!(gathering.wanted(), 6);
        gathering.handle_turn(5, true);
        for _ in 0..PAUSE_TURNS {
            assert_eq!(gathering.wanted(), 1);
            gathering.handle_turn(0, true);
        }
        assert_eq!(gathering.wanted(), 6);
    }

    #[test]
    fn one_is_never_more() {
        let mut gathering = Gathering::new(1);
        gathering.handle_turn(0, true);
        assert_eq!(gathering.wanted(), 1);
    }
}
