//! Replies that could be sent now, but wait for a moment, since more are on their way to join them.
//!
//! A send costs as much as handling some tens of small requests, and some servers answer a batch in
//! many small pieces. So the first replies to a client are held while more are owed to it. Whoever
//! waits for nothing else is never held, and no request ever is. Invariant: what is held leaves
//! with the turn in which its client's last reply comes, and at the latest
//! [`WorkerLimits::hold_max`](crate::options::WorkerLimits) after the first of it was held.

use std::time::Duration;

use base::Time;
use base::slab::Key;

use crate::client::Client;
use crate::proxy::Proxy;

/// So many bytes are not held: one send more costs little beside them.
const SIZE_MAX: usize = 16 << 10;
/// While so many replies are to come, one event is not worth a turn.
const MANY_REPLIES: usize = 32;
/// Events that may gather then.
const EVENTS_WANTED: usize = 16;

/// Clients whose replies are held.
#[derive(Debug, Default)]
pub(crate) struct Held {
    clients: Vec<Key>,
    /// Split requests some of whose parts are answered, which is as good a reason to wait for more.
    joins_count: usize,
    /// When the first client was held, or the first part answered.
    since: Option<Time>,
    /// In this turn nobody is held.
    released: bool,
}

impl Proxy {
    /// Whoever is held is looked at once more when this turn ends.
    pub(crate) fn review_held(&mut self) {
        let max = self.limits.hold_max;
        let held = &mut self.held;
        held.released = max == Duration::ZERO || held.since.is_some_and(|at| at + max <= self.now);
        if held.released {
            held.since = None;
        }
        self.clients_dirty.append(&mut held.clients);
    }

    /// The last client was looked at.
    #[inline]
    pub(crate) fn end_review(&mut self) {
        if self.held.clients.is_empty() && self.held.joins_count == 0 {
            self.held.since = None;
        }
    }

    /// A part of a split request was answered or has failed: so many have by now, and so many are
    /// to come.
    #[inline]
    pub(crate) fn note_part(&mut self, came: usize, left: usize) {
        if left == 0 {
            self.held.joins_count -= usize::from(came > 1);
        } else {
            self.held.joins_count += usize::from(came == 1);
            if self.limits.hold_max > Duration::ZERO {
                self.held.since.get_or_insert(self.now);
            }
        }
    }

    /// Whether the replies of a client, which could be sent, wait.
    #[inline]
    pub(crate) fn holds(&mut self, key: Key) -> bool {
        let client = self.clients.at_mut(key.index);
        if self.held.released || !client.may_wait() {
            return false;
        }
        client.dirty = true;
        self.held.clients.push(key);
        self.held.since.get_or_insert(self.now);
        true
    }

    /// When whatever is held leaves at the latest.
    #[inline]
    pub(crate) fn held_until(&self) -> Option<Time> {
        self.held.since.map(|since| since + self.limits.hold_max)
    }

    /// How many events may gather until [`Proxy::poll_deadline`] before the next turn begins. One,
    /// but while replies, or parts of them, are held.
    pub fn poll_events_wanted(&self) -> usize {
        if self.held.since.is_none() {
            return 1;
        }
        if self.records.len() >= MANY_REPLIES {
            return EVENTS_WANTED;
        }
        // No more than one from each of these is sure to come.
        let owing = self.conns.iter().filter(|(_, conn)| !conn.queue.is_empty());
        owing.take(EVENTS_WANTED).count().max(1)
    }
}

impl Client {
    /// More replies are owed, and those that have come are small.
    #[inline]
    fn may_wait(&self) -> bool {
        !self.requests.is_empty() && self.out.len() < SIZE_MAX
    }
}
