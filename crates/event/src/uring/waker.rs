//! Waking the thread that waits in an instance: an eventfd that the instance watches.
//!
//! Invariant: between two `Woken` the eventfd is written at most once, and a call of `wake` whose
//! write is left out is seen by the `Woken` that is on its way.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Waker;

/// Wakes a [`super::Uring`]. Calling it when the event base is gone does nothing.
#[derive(Clone)]
pub struct UringWaker(Arc<Shared>);

struct Shared {
    eventfd: File,
    /// Whether a `Woken` is on its way.
    pending: AtomicBool,
}

impl UringWaker {
    pub(super) fn new() -> io::Result<UringWaker> {
        // SAFETY: the call takes no pointer.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let eventfd = unsafe { File::from_raw_fd(fd) };
        Ok(UringWaker(Arc::new(Shared { eventfd, pending: AtomicBool::new(false) })))
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.eventfd.as_raw_fd()
    }

    /// Whether `wake` was called since this was asked last.
    pub(super) fn take(&self) -> bool {
        // A read-modify-write, so that it reads from the last `wake`, also from one that wrote
        // nothing, and everything before that call is seen.
        self.0.pending.swap(false, Ordering::AcqRel)
    }
}

impl Waker for UringWaker {
    fn wake(&self) {
        if !self.0.pending.swap(true, Ordering::AcqRel) {
            // Nobody reads the counter, which has room for 2^64 - 2 calls.
            let _ = (&self.0.eventfd).write(&1u64.to_ne_bytes());
        }
    }
}
