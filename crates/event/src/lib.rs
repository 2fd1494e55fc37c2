//! The event base: the only crate that talks to the kernel about connections.
//!
//! Completion style on every platform: an operation is started, and its results come out of one
//! call, [`EventBase::wait`]. Two back ends (`uring`, `readiness`) keep one contract, which
//! `conformance` tests on both and on any other implementation. It knows no protocol and no
//! pool. Invariant: nothing completes inside the call that starts it.

mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod options;
mod readiness;
mod slots;
pub mod socket;
#[cfg(target_os = "linux")]
mod uring;

use std::io;

pub use options::{Counters, ReceiveBuffers};
pub use readiness::{Readiness, ReadinessOptions, ReadinessWaker};
pub use socket::{ListenOptions, listen_socket};
#[cfg(target_os = "linux")]
pub use uring::{Refused, Tier, Uring, UringOptions, UringWaker, uring_supported};

use base::{Address, Chain, RecvEnd, SocketError, Time, Token};

/// Something that happened, in the order in which [`EventBase::wait`] found it.
#[derive(Debug)]
pub enum Event<S> {
    /// A listener accepted a connection. The socket belongs to nobody until it is given to
    /// [`EventBase::adopt`], of this event base or of another worker's.
    Accepted {
        /// Who accepted it.
        listener: Token,
        /// The new connection.
        socket: S,
    },
    /// Accepting ended; no `Accepted` of this listener follows until it is started again or closed.
    AcceptEnd {
        /// Which listener.
        listener: Token,
        /// Why.
        end: AcceptEnd,
    },
    /// `connect` succeeded.
    Connected(Token),
    /// `connect` failed; the token must still be closed.
    ConnectFailed(Token, SocketError),
    /// Bytes arrived. They are read with [`EventBase::bytes`] and given back with
    /// [`EventBase::release`] before the next `wait`.
    Received(Token, Received),
    /// The receive operation ended, after its last `Received`.
    RecvEnd(Token, RecvEnd),
    /// Every byte of the send is with the kernel. The chain comes back as it was given.
    Sent(Token, Chain),
    /// The connection can't be written to any more; some bytes may have been sent.
    SendFailed(Token, Chain, SocketError),
    /// The last event of a token: its slot may be used for another connection.
    Closed(Token),
    /// The waker was called, at least once since the last `Woken`.
    Woken,
}

/// Why accepting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptEnd {
    /// `accept_stop` was called.
    Stopped,
    /// The kernel refused, for want of descriptors or memory ([`SocketError::TooManyFiles`]), or
    /// the listener is broken. Start again from a timer.
    Failed(SocketError),
}

/// Where received bytes lie: `size` bytes at `offset` of a buffer that belongs to the event base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The back end's own name for the buffer.
    pub buffer: u32,
    /// First byte.
    pub offset: u32,
    /// At least 1.
    pub size: u32,
}

/// Wakes the thread that is, or soon will be, inside [`EventBase::wait`].
pub trait Waker: Clone + Send + 'static {
    /// Makes `wait` return with [`Event::Woken`]. Calls before the next `wait` count as one. A
    /// call is never lost: whatever was written before it is seen after `Woken`.
    fn wake(&self);
}

/// The contract. One thread owns an event base and everything registered with it.
///
/// Tokens are chosen by the owner. Per [`base::Kind`], indices must be dense, since the back end
/// keeps a table; a slot may be named again, with another generation, only after `Closed`.
///
/// Order: `Received` of one connection come in stream order, and before the `RecvEnd` that ends
/// their operation. `Closed` is the last event of its token. Everything else may come in any order:
/// a response may be received before the `Sent` of its request.
///
/// A call with a stale token, or one that is being closed, does nothing; a chain that came with it
/// is dropped.
pub trait EventBase {
    /// A connected or listening socket that is not registered: `OwnedFd` in the kernel's back ends.
    type Socket: Send + 'static;
    /// See [`Waker`].
    type Waker: Waker;

    /// Nanoseconds on the monotonic clock, read now.
    fn now(&self) -> Time;

    /// Registers a listening socket. Nothing is accepted before `accept_start`.
    fn listen(&mut self, listener: Token, socket: Self::Socket) -> io::Result<()>;

    /// Accepts until stopped or failed; [`Event::Accepted`] each, then one [`Event::AcceptEnd`].
    fn accept_start(&mut self, listener: Token);

    /// Asks the accept operation to end. `Accepted` may still come before `AcceptEnd`.
    fn accept_stop(&mut self, listener: Token);

    /// Registers a connected socket under a token. It must be in blocking mode, as those of
    /// `Accepted` and of [`EventBase::export`] are.
    fn adopt(&mut self, connection: Token, socket: Self::Socket) -> io::Result<()>;

    /// Opens a connection: one `Connected` or `ConnectFailed`, whatever goes wrong. The time-out
    /// is the caller's (`close` ends it). TCP_NODELAY is set.
    fn connect(&mut self, connection: Token, address: &Address);

    /// Receives about `credit` bytes (never less, at most one buffer more, unless the operation
    /// ends earlier), then ends with `RecvEnd(Credit)`. At least 1, asserted; `usize::MAX` is no
    /// limit. At most one receive operation a connection, asserted. When receive buffers run out
    /// the back end itself goes on as soon as some are released.
    fn recv_start(&mut self, connection: Token, credit: usize);

    /// Asks the receive operation to end. `Received` may still come before its `RecvEnd`.
    fn recv_stop(&mut self, connection: Token);

    /// Sends the whole chain, which must not be empty: one `Sent`, or one `SendFailed`. At most one
    /// a connection, asserted.
    fn send(&mut self, connection: Token, chain: Chain);

    /// Ends every operation of a connection or listener and closes its socket: `Closed`, once,
    /// after the ends of the operations that were under way (a receive ends with `RecvEnd`, a send
    /// with `Sent` or `SendFailed`, a connect with `ConnectFailed`, accepting with `AcceptEnd`). No
    /// `Received` and no `Connected` comes after this call.
    ///
    /// Connections that wait in the queue of a listener are accepted, whether it was started or
    /// not: `Accepted` each, up to `Closed`. Only those that come after the last look, a moment
    /// before the socket is closed, find nobody.
    ///
    /// Unsent bytes that the kernel has accepted are still delivered, and of a send that was
    /// started in the same turn as much as the socket's buffer takes. What has arrived and was not
    /// received is thrown away first, within bounds, since a socket with unread bytes would send a
    /// reset; a peer that goes on sending gets one all the same. Calling it again before `Closed`
    /// does nothing.
    fn close(&mut self, token: Token);

    /// Submits what was started, waits for at least one event, the deadline (`None`: for ever) or
    /// the waker, and appends the events. May return without any.
    ///
    /// With more than one `wanted` so many events, the sends of this turn not counted, may gather
    /// until the deadline, which must be near: even the waker may have to wait for it. A back end
    /// may return with fewer, and one that can't do it waits for one.
    fn wait(
        &mut self,
        wanted: usize,
        deadline: Option<Time>,
        events: &mut Vec<Event<Self::Socket>>,
    ) -> io::Result<()>;

    /// The bytes of a `Received` event of the last `wait` that was not released.
    fn bytes(&self, received: Received) -> &[u8];

    /// Gives the bytes back. Every `Received` must be released before the next `wait`, asserted.
    fn release(&mut self, received: Received);

    /// A handle for other threads.
    fn waker(&self) -> Self::Waker;

    /// Who is at the other end of a connection. It costs a system call: for people who ask.
    fn peer(&self, _connection: Token) -> Option<Address> {
        None
    }

    /// Takes a connection or listener without operations out, to give it to another event base or
    /// process. No `Closed` follows; the slot is free at once. `None` when an operation is under
    /// way or the token is stale.
    fn export(&mut self, token: Token) -> Option<Self::Socket>;
}
