//! What both of the kernel's back ends are told at the start, and what they count.
//!
//! Not the sockets' options, which are in [`crate::socket`]. Invariant: counters only grow.

/// The receive buffers of one kind of connection. Clients and servers have separate ones, since
/// clients that flood us could otherwise take every buffer, and the replies that would free them
/// could not be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveBuffers {
    /// How many. A power of two, 1 to 32768.
    pub count: u16,
    /// Bytes of each. 64 B to 1 MiB.
    pub size: u32,
}

impl ReceiveBuffers {
    /// Panics when a value is out of range: they are our own choice, not a user's.
    pub(crate) fn check(self) {
        assert!(self.count.is_power_of_two() && self.count <= 1 << 15, "count of buffers");
        assert!((64..=1 << 20).contains(&self.size), "size of buffers");
    }
}

/// The most that one receive takes, in bytes, so that one busy connection can't take a whole
/// buffer of the larger kinds in one go.
pub(crate) const RECV_SIZE_MAX: u32 = 16 << 10;

/// What an event base has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of `wait`.
    pub waits: u64,
    /// System calls that looked or waited for events: `io_uring_enter`, or one poll.
    pub enters: u64,
    /// Operations given to the kernel: submission entries, or system calls on sockets.
    pub submissions: u64,
    /// Completion entries, or readiness notices.
    pub completions: u64,
    /// Times that the completion queue was too small. Should stay at 0.
    pub overflows: u64,
    /// Times that a connection had bytes but no receive buffer was free.
    pub starved: u64,
    /// Operations that were started again because the kernel said "not now" or did a part.
    pub retries: u64,
    /// Notices of connections that were gone. They are ignored.
    pub stale: u64,
}
