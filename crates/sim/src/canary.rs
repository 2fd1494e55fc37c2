//! Bugs that are planted on purpose, to see whether the checkers find them.
//!
//! Those of this list sit in the event base, where a world can plant them without a change of the
//! code that ships. Invariant: without one nothing here has any effect.

/// Which bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// Bytes of two servers are delivered to each other's connections.
    ReceivedSwapped,
    /// Received bytes are dropped.
    ReceivedLost,
    /// Received bytes are delivered twice.
    ReceivedTwice,
    /// A send is told to be done twice.
    SentTwice,
    /// The last byte of a send is missing.
    SendTruncated,
    /// A receive whose credit is used up never says so.
    CreditLost,
    /// A wake is lost.
    WakeLost,
    /// The end of a connection is never told.
    ClosedLost,
}

impl Canary {
    /// All of them.
    pub const ALL: [Canary; 8] = [
        Canary::ReceivedSwapped,
        Canary::ReceivedLost,
        Canary::ReceivedTwice,
        Canary::SentTwice,
        Canary::SendTruncated,
        Canary::CreditLost,
        Canary::WakeLost,
        Canary::ClosedLost,
    ];
}
