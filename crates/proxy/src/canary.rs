//! Deliberate bugs, to test the testers: the simulation must find each of them.
//!
//! Without the feature `canary`, which nothing that ships enables, every question here is answered
//! `false` at compile time. Invariant: no bug without being asked for.

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
