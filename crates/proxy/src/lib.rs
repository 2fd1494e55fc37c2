//! The proxy core: what happens between the bytes of clients and the bytes of servers.
//!
//! ```text
//!             Client                     Request records                ServerConn
//!   bytes -> parse, admit ---- one record in two queues ---- route -> out -> bytes
//!             head -> o -> o -> o        the client's FIFO: the order of answers
//!                     |    |    |
//!                     o -> o -> o <- head  the server's FIFO: which response is whose
//!   bytes <- release <- complete <----------------- pair <---------- bytes
//! ```
//!
//! Pure: `handle_*` takes events and the time, [`Proxy::poll_action`] gives what is to be done
//! about them, and nothing else goes in or out. It reads no clock, no socket and no random device,
//! so the same code runs in a worker and in a simulation. It knows no protocol:
//! [`protocol::Protocol`] does. Invariants: each request is answered exactly once or its client is
//! closed; answers leave in the order of the requests; a response goes to the request that it
//! answers and to no other.

#![forbid(unsafe_code)]

mod action;
mod audit;
mod canary;
mod client;
mod dedicated;
mod errors;
mod fragment;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod gather;
mod hold;
pub mod inspect;
pub mod latency;
pub mod options;
mod pool;
mod probe;
mod proxy;
mod reload;
mod request;
mod server;
pub mod slow_log;
pub mod stats;

pub use action::Action;
#[doc(hidden)]
pub use canary::Canary;
pub use errors::RequestError;
pub use proxy::Proxy;
