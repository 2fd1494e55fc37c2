//! Words that every other crate shares and that belong to no domain: tokens, slabs, bytes to be
//! sent, time, timers, addresses and socket errors.
//!
//! Nothing here knows a protocol, a server or a socket. Invariant: no type in this crate performs
//! input or output, and only [`memory`] contains unsafe code.

pub mod address;
pub mod buffers;
pub mod chain;
pub mod error;
pub mod memory;
pub mod random;
pub mod slab;
pub mod time;
pub mod token;
pub mod wheel;

pub use address::Address;
pub use buffers::Buffers;
pub use chain::Chain;
pub use error::SocketError;
pub use random::SplitMix64;
pub use slab::Slab;
pub use time::Time;
pub use token::{Kind, Token};
pub use wheel::TimerWheel;

/// Why a receive operation ended. It is the last thing that the operation says; the owner may
/// start another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvEnd {
    /// The peer will send no more. Sending to it may still be possible.
    Eof,
    /// The connection is broken.
    Error(SocketError),
    /// The credit given to `recv_start` is used up: bytes may be waiting in the socket.
    Credit,
    /// `recv_stop` was called.
    Stopped,
}
