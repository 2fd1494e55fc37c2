//! Clients that have a connection of their own: what their requests and their server's notices mean
//! for it.
//!
//! Words only; who gives them is the protocol (`redis/session.rs`), who acts on them the proxy.
//! Invariant: none of them names a protocol's own command.

/// What a request does to the tie between its client and a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// Nothing. Only [`crate::Protocol::parse_in_session`] gives it.
    Keeps,
    /// Its response may take as long as it likes; the tie ends with it.
    Waits,
    /// It watches keys: what follows, up to the end of the transaction, belongs together.
    Watches,
    /// It ends that, unless a transaction has begun.
    Unwatches,
    /// A transaction begins. Nothing needs a connection yet.
    Begins,
    /// The transaction ends; its response is that of all that was queued.
    Commits,
    /// The transaction ends, and nothing of it is done.
    Aborts,
    /// It changes what the client listens to, or is allowed to one who listens. Whatever the server
    /// sends from now on is for the client, in the order in which it comes.
    Listens,
}

/// Why a client has a connection of its own; what requests mean depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// It has begun a transaction, or watches keys for one.
    Transaction,
    /// It has subscribed to channels, and takes everything that comes for a message.
    Subscription,
    /// It has subscribed to channels, and can tell messages from answers: it may ask for other
    /// things meanwhile, as anybody.
    PushedSubscription,
}

/// What a server tells a client that has subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// So many subscriptions are left, of channels and patterns, or of sharded channels.
    Left {
        /// Which of the two is counted.
        sharded: bool,
        /// How many.
        count: u32,
    },
    /// It has come to [`crate::Protocol::subscription_mark`], which is not for the client.
    Mark,
    /// Something else that is for the client: a message, an answer to PING, or an error.
    Other,
    /// Nothing that a server says to a client that listens. It would be taken for the answer to
    /// something.
    Nonsense,
}
