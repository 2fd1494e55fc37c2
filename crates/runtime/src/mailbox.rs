//! How the control side, and workers among themselves, talk to a worker: a bounded channel and the
//! waker of its event base.
//!
//! Invariant: whoever sends also wakes, so a message is seen in the turn after it was sent.

use std::sync::Arc;
use std::time::Duration;

use base::Address;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use event::Waker;
use proxy::options::PoolOptions;
use proxy::stats::WorkerStats;

use crate::admin::Inspection;

/// Messages that may wait for a worker. New connections fill it when thousands arrive at once.
pub const MESSAGES_MAX: usize = 4096;

/// A new set of pools, the same for every worker.
#[derive(Debug, Default)]
pub struct Reload {
    /// By index; see [`proxy::Proxy::reload`].
    pub pools: Vec<Option<PoolOptions>>,
    /// Where the servers of each pool are.
    pub addresses: Vec<Vec<Option<Address>>>,
    /// Listeners that serve another pool from here on: of which pool, and which.
    pub moved: Vec<(usize, usize)>,
    /// Pools whose present listeners are closed.
    pub closed: Vec<usize>,
}

/// What a worker can be told.
#[derive(Debug)]
pub enum Message<S> {
    /// This connection is yours; it is counted as yours already.
    Adopt {
        /// Which pool's clients it belongs to.
        pool: usize,
        /// The connection.
        socket: S,
    },
    /// A server's address is known, or no longer.
    SetAddress {
        /// Index of the pool.
        pool: usize,
        /// Index of the server in the pool.
        server: usize,
        /// Where it is.
        address: Option<Address>,
    },
    /// These are the pools from here on; the second part are new listeners of this worker, each
    /// with the index of its pool.
    Reload(Arc<Reload>, Vec<(usize, S)>),
    /// Send a copy of the counters here.
    Stats(Sender<WorkerStats>),
    /// Somebody asks about clients or keys.
    Inspect(Inspection),
    /// Accept nobody any more, answer what was asked, close clients when they are owed nothing, and
    /// end; close everything that is left after this time.
    Drain(Duration),
    /// As `Drain`, but another process has the listeners of these pools, by index: they are let go
    /// of with their queues as they are.
    HandOver(Arc<[usize]>, Duration),
}

/// The sending end of a worker's mailbox.
#[derive(Debug)]
pub struct Mailbox<S, W> {
    messages: Sender<Message<S>>,
    waker: W,
}

impl<S, W: Waker> Clone for Mailbox<S, W> {
    fn clone(&self) -> Self {
        Mailbox { messages: self.messages.clone(), waker: self.waker.clone() }
    }
}

impl<S, W: Waker> Mailbox<S, W> {
    /// A mailbox for the worker that owns the waker, and the end that it reads.
    pub fn new(waker: W) -> (Mailbox<S, W>, Receiver<Message<S>>) {
        let (messages, receiver) = bounded(MESSAGES_MAX);
        (Mailbox { messages, waker }, receiver)
    }

    /// Puts a message in and wakes the worker. When the mailbox is full, or the worker gone, the
    /// message comes back.
    pub fn try_send(&self, message: Message<S>) -> Result<(), Message<S>> {
        match self.messages.try_send(message) {
            Ok(()) => {
                self.waker.wake();
                Ok(())
            }
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => Err(message),
        }
    }

    /// Puts a message in, waits for room if need be, and wakes the worker. For the control side;
    /// a worker must never wait. `false` when the worker is gone.
    pub fn send(&self, message: Message<S>) -> bool {
        let sent = self.messages.send(message).is_ok();
        self.waker.wake();
        sent
    }
}
