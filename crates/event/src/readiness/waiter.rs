//! Waiting for notices, on the `polling` crate.
//!
//! It performs no operation on a socket. Invariant: a socket is removed here before it is closed.
//!
//! `Poller::wait` makes five system calls on Linux, whatever its time-out: it arms a timer
//! descriptor, waits, reads the notifier and registers both again. The poller also shows its epoll
//! descriptor, so on Linux we wait on that directly, one system call, and go through `wait` only
//! when the notifier was used. That a registered key comes back as the event's data is not
//! promised by the crate; it is tried at the start, and where it does not hold we use `wait`.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::Token;
use polling::{Event, Events, PollMode, Poller};

use crate::Waker;

/// The most notices that one wait takes.
const NOTICES_MAX: usize = 1024;
const _: () = assert!(usize::BITS >= Token::BITS, "a token is a key of the poller");

/// A socket on which an operation may succeed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Notice {
    pub(super) token: Token,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

/// What a socket is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Interest {
    pub(super) read: bool,
    pub(super) write: bool,
}

pub(super) struct Waiter {
    waker: ReadinessWaker,
    events: Events,
    mode: PollMode,
    #[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
    direct: Option<super::direct::Direct>,
}

impl Waiter {
    pub(super) fn new(oneshot: bool) -> io::Result<Waiter> {
        let poller = Poller::new()?;
        // Level triggering needs no receive that fails to find out that a socket is empty, and no
        // notice can be missed. Event ports know oneshot only.
        let oneshot = oneshot || !poller.supports_level();
        let waker = ReadinessWaker(Arc::new(Shared { poller, pending: AtomicBool::new(false) }));
        Ok(Waiter {
            #[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
            direct: super::direct::Direct::new(&waker.0.poller, NOTICES_MAX),
            waker,
            events: Events::with_capacity(NonZeroUsize::new(NOTICES_MAX).expect("not zero")),
            mode: if oneshot { PollMode::Oneshot } else { PollMode::Level },
        })
    }

    /// Whether a notice ends the interest.
    pub(super) fn is_oneshot(&self) -> bool {
        self.mode == PollMode::Oneshot
    }

    pub(super) fn add(&self, socket: &OwnedFd, token: Token, to: Interest) -> io::Result<()> {
        // SAFETY: the owner removes the socket before it is closed; see the module's invariant.
        unsafe { self.poller().add_with_mode(socket, event(token, to), self.mode) }
    }

    pub(super) fn change(&self, socket: &OwnedFd, token: Token, to: Interest) -> io::Result<()> {
        self.poller().modify_with_mode(socket.as_fd(), event(token, to), self.mode)
    }

    pub(super) fn remove(&self, socket: &OwnedFd) {
        // It fails only for a socket that is not registered.
        let _ = self.poller().delete(socket.as_fd());
    }

    /// Waits for notices, the time-out (`None`: for ever) or the waker. May return without any.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        notices: &mut Vec<Notice>,
    ) -> io::Result<()> {
        #[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
        if let Some(direct) = &mut self.direct {
            let notified = direct.wait(&self.waker.0.poller, timeout, notices)?;
            if !notified {
                return Ok(());
            }
            return self.wait_poller(Some(Duration::ZERO), notices);
        }
        self.wait_poller(timeout, notices)
    }

    fn wait_poller(
        &mut self,
        timeout: Option<Duration>,
        notices: &mut Vec<Notice>,
    ) -> io::Result<()> {
        self.events.clear();
        let mut timeout = timeout;
        // With poll(2) a notification that is being made in another thread can fail the call like
        // this, and until a call succeeds the poller leaves out all further ones.
        while let Err(error) = self.waker.0.poller.wait(&mut self.events, timeout) {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error);
            }
            timeout = Some(Duration::ZERO);
        }
        notices.extend(self.events.iter().map(|event| Notice {
            token: Token::from_bits(event.key as u64),
            readable: event.readable,
            writable: event.writable,
        }));
        Ok(())
    }

    fn poller(&self) -> &Poller {
        &self.waker.0.poller
    }

    pub(super) fn waker(&self) -> ReadinessWaker {
        self.waker.clone()
    }

    /// Whether `wake` was called since this was asked last. To be asked after each wait, since
    /// the poller leaves out a notification while it handles one.
    pub(super) fn take_wake(&self) -> bool {
        let pending = &self.waker.0.pending;
        pending.load(Ordering::Relaxed) && pending.swap(false, Ordering::AcqRel)
    }
}

fn event(token: Token, interest: Interest) -> Event {
    Event::new(token.to_bits() as usize, interest.read, interest.write)
}

/// Wakes a [`super::Readiness`]. Calling it when the event base is gone does nothing.
#[derive(Clone)]
pub struct ReadinessWaker(Arc<Shared>);

struct Shared {
    poller: Poller,
    /// Whether a `Woken` is on its way.
    pending: AtomicBool,
}

impl Waker for ReadinessWaker {
    fn wake(&self) {
        if !self.0.pending.swap(true, Ordering::AcqRel) {
            // It can't fail with an eventfd or a pipe that is ours.
            let _ = self.0.poller.notify();
        }
    }
}
