//! Deliberate bugs, to test the testers: the simulation must find each of them.
//!
//! Without the feature `canary`, which nothing that ships enables, every question here is answered
//! `false` at compile time. Invariant: no bug without being asked for.

use base::slab::Key;

/// One deliberate bug each.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// A server is sent to while a send is under way.
    TwoSends,
    /// The same for a client.
    ClientTwoSends,
    /// Ejected servers stay in the continuum.
    EjectedServerUsed,
    /// The parts of a split request are joined in the wrong order.
    FragmentsSwapped,
    /// The request behind one that timed out fails with it.
    TimeoutHitsNeighbour,
    /// A response that comes too late goes to the next request.
    LateReplyToNext,
    /// A paused client never goes on.
    ResumeForgotten,
    /// What a closed client was still to be sent stays counted.
    BytesForgotten,
    /// A request that wants no reply gets one.
    QuietAnswered,
    /// A client that does not read is never closed.
    OutputUnbounded,
    /// A large request loses its last byte.
    RequestTruncated,
    /// A client that sends no more is closed before it is answered.
    EofDropsReplies,
    /// A connection to a server that left the configuration is cut at once.
    RetiredCut,
    /// A request that failed is answered as if it had been done.
    FailureAcknowledged,
    /// A request goes to its server twice.
    RequestSentTwice,
    /// What two clients are to be sent changes places.
    OutputsSwapped,
    /// A reply goes out as soon as it comes, whatever stands before it.
    OrderIgnored,
    /// A closed client stays the owner of its requests.
    OwnerOutlived,
    /// A client that talks nonsense takes another one with it.
    NonsenseHitsNeighbour,
    /// A connection that breaks takes those to other servers with it.
    BreakHitsNeighbour,
    /// A drain closes clients that are owed replies.
    DrainCuts,
    /// An ejected server gets requests before it has answered a probe.
    ReturnsUnprobed,
    /// A connection goes from a client that has left in a transaction to another.
    TransactionHandedOn,
    /// An answer of ours overtakes one to a subscription.
    NoticeOvertaken,
    /// Clients of different versions share connections.
    VersionsMixed,
}

/// Which bug, if any, this proxy has.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Canaries {
    #[cfg(feature = "canary")]
    chosen: Option<Canary>,
}

impl Canaries {
    /// Whether this bug was asked for.
    #[inline(always)]
    pub(crate) fn sings(self, canary: Canary) -> bool {
        #[cfg(feature = "canary")]
        return self.chosen == Some(canary);
        #[cfg(not(feature = "canary"))]
        {
            let _ = canary;
            false
        }
    }
}

#[cfg(feature = "canary")]
impl crate::Proxy {
    /// Gives the proxy a bug, for good.
    pub fn set_canary(&mut self, canary: Option<Canary>) {
        self.canaries.chosen = canary;
        for pool in &mut self.pools {
            pool.canaries.chosen = canary;
        }
    }
}

/// What some bugs do, where one line does not say it.
impl crate::Proxy {
    /// [`Canary::OutputsSwapped`]: with the client that is to be flushed next.
    pub(crate) fn swap_outputs(&mut self, key: Key) {
        let Some(other) = self.clients_dirty.last().copied().filter(|other| *other != key) else {
            return;
        };
        let Some(client) = self.clients.get_mut(key) else { return };
        let out = client.out.take();
        let out = match self.clients.get_mut(other) {
            Some(other) => std::mem::replace(&mut other.out, out),
            None => out,
        };
        self.clients.at_mut(key.index).out = out;
    }

    /// [`Canary::NonsenseHitsNeighbour`].
    pub(crate) fn close_another_client(&mut self, key: Key) {
        let other = self.clients.iter().map(|(other, _)| other).find(|other| *other != key);
        if let Some(other) = other {
            self.client_close(other);
        }
    }

    /// [`Canary::BreakHitsNeighbour`].
    pub(crate) fn server_of_another(&self, key: Key) -> Option<Key> {
        let broken = self.conns.at(key.index);
        let others = self.conns.iter().filter(|(_, other)| {
            other.pool == broken.pool && other.server != broken.server && !other.is_closing()
        });
        others.map(|(other, _)| other).next()
    }
}
