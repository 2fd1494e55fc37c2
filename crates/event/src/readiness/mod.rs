//! The readiness back end: epoll, kqueue, event ports and poll(2), by way of the `polling` crate.
//!
//! It keeps the completion contract: operations that are started are only noted, and tried inside
//! `wait`. Invariant: a socket is either tried because something may have changed (it is in
//! `work`), or watched for everything that its operations wait for.

mod arena;
#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
mod direct;
mod operation;
mod waiter;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use base::{Address, Chain, Kind, SocketError, Time, Token};
use socket2::SockRef;

use self::arena::Arena;
use self::waiter::{Interest, Notice, Waiter};
use crate::options::{Counters, ReceiveBuffers};
use crate::slots::{Operation, Slots, finish_close};
use crate::{Event, EventBase, Received, clock};

pub use self::waiter::ReadinessWaker;

/// How to set [`Readiness`] up.
#[derive(Debug, Clone, Copy)]
pub struct ReadinessOptions {
    /// Receive buffers of clients. Default 16 of 64 KiB, allocated when needed.
    pub client_buffers: ReceiveBuffers,
    /// Receive buffers of servers. Default 16 of 64 KiB, allocated when needed.
    pub server_buffers: ReceiveBuffers,
    /// Registers anew after each notice, as event ports require, also where the system could
    /// do without. Default false.
    pub oneshot: bool,
}

impl Default for ReadinessOptions {
    fn default() -> Self {
        let buffers = ReceiveBuffers { count: 16, size: 64 << 10 };
        ReadinessOptions { client_buffers: buffers, server_buffers: buffers, oneshot: false }
    }
}

/// An event base on readiness notices.
pub struct Readiness {
    // Dropped first, since dropping it closes every socket; the poller goes after them.
    slots: Slots<Io>,
    waiter: Waiter,
    arenas: [Arena; 2],
    /// Sockets to be tried in the next `wait`, each at most once.
    work: VecDeque<Token>,
    notices: Vec<Notice>,
    /// The last `wait` did not look for notices, since it had enough to tell without.
    skipped: bool,
    counters: Counters,
}

/// Fewer notices than these are not slept for, since they may be all that come.
const SLEEP_WANTED_MIN: usize = 8;
/// Nor is there a sleep for longer than this, since nothing could end it.
const SLEEP_MAX: Duration = Duration::from_millis(1);

/// What is known of a socket besides its slot.
#[derive(Default)]
struct Io {
    /// Bytes that the receive operation may still take; `usize::MAX` is no limit.
    credit: usize,
    /// The receive or accept operation was told to stop.
    stopping: bool,
    /// A notice said so, and it was not used since.
    readable: bool,
    writable: bool,
    /// In `work`.
    queued: bool,
    /// What it is watched for; `None` when it is not registered with the poller.
    watched: Option<Interest>,
    send: Option<Send>,
    /// Why `connect` failed at once.
    refused: Option<SocketError>,
}

/// A send operation.
struct Send {
    chain: Chain,
    sent: usize,
    /// The socket's buffer was full.
    blocked: bool,
}

impl Readiness {
    /// Makes an event base. Fails for want of descriptors.
    pub fn new(options: ReadinessOptions) -> io::Result<Readiness> {
        Ok(Readiness {
            slots: Slots::new(),
            waiter: Waiter::new(options.oneshot)?,
            arenas: [Arena::new(options.client_buffers), Arena::new(options.server_buffers)],
            work: VecDeque::new(),
            notices: Vec::new(),
            skipped: false,
            counters: Counters::default(),
        })
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn queue(&mut self, token: Token) {
        let slot = self.slots.get(token).expect("the caller has found it");
        if !slot.io.queued {
            slot.io.queued = true;
            self.work.push_back(token);
        }
    }

    fn register(&mut self, token: Token, socket: OwnedFd, to: Interest) -> io::Result<()> {
        self.waiter.add(&socket, token, to)?;
        self.slots.insert(token, Some(socket), Io { watched: Some(to), ..Io::default() });
        Ok(())
    }

    /// Tries every socket that is in `work` now; those that are put there meanwhile have their turn
    /// next time.
    fn do_work(&mut self, events: &mut Vec<Event<OwnedFd>>) {
        for _ in 0..self.work.len() {
            let token = self.work.pop_front().expect("counted");
            if let Some(slot) = self.slots.get(token) {
                slot.io.queued = false;
                self.try_operations(token, events);
            }
        }
        while let Some(slot) = self.slots.take_closable() {
            if let (Some(socket), Some(_)) = (&slot.socket, slot.io.watched) {
                self.waiter.remove(socket);
            }
            finish_close(slot, events);
        }
    }

    /// Lets notices gather: the poller would return with the first one. Gives the time that is left
    /// to wait in it.
    fn sleep(&self, wanted: usize, timeout: Duration) -> Duration {
        if wanted < SLEEP_WANTED_MIN || timeout > SLEEP_MAX {
            return timeout;
        }
        // The system adds up to 50 us.
        std::thread::sleep(timeout / 2);
        Duration::ZERO
    }

    /// Looks for notices, and puts their sockets into `work`.
    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.notices.clear();
        self.counters.enters += 1;
        self.waiter.wait(timeout, &mut self.notices)?;
        self.counters.completions += self.notices.len() as u64;
        for index in 0..self.notices.len() {
            let notice = self.notices[index];
            let Some(slot) = self.slots.get(notice.token) else {
                self.counters.stale += 1;
                continue;
            };
            slot.io.readable |= notice.readable;
            slot.io.writable |= notice.writable;
            if self.waiter.is_oneshot() {
                slot.io.watched = slot.io.watched.map(|_| Interest::default());
            }
            self.queue(notice.token);
        }
        Ok(())
    }
}

const fn arena_index(kind: Kind) -> usize {
    match kind {
        Kind::Client => 0,
        Kind::Server => 1,
        Kind::Listener => panic!("a listener receives nothing"),
    }
}

impl EventBase for Readiness {
    type Socket = OwnedFd;
    type Waker = ReadinessWaker;

    fn now(&self) -> Time {
        clock::now()
    }

    fn listen(&mut self, listener: Token, socket: OwnedFd) -> io::Result<()> {
        assert!(listener.kind() == Kind::Listener, "{listener:?} is to listen");
        // Another worker or process may take the connection that a notice told of.
        SockRef::from(&socket).set_nonblocking(true)?;
        self.register(listener, socket, Interest::default())
    }

    fn accept_start(&mut self, listener: Token) {
        let Some(slot) = self.slots.get_open(listener) else { return };
        slot.start(Operation::Accept);
        slot.io.stopping = false;
        self.queue(listener);
    }

    fn accept_stop(&mut self, listener: Token) {
        let Some(slot) = self.slots.get_open(listener) else { return };
        if slot.is_in_flight(Operation::Accept) {
            slot.io.stopping = true;
            self.queue(listener);
        }
    }

    fn adopt(&mut self, connection: Token, socket: OwnedFd) -> io::Result<()> {
        assert!(connection.kind() != Kind::Listener, "{connection:?} is to be a connection");
        #[cfg(target_vendor = "apple")]
        SockRef::from(&socket).set_nosigpipe(true)?;
        self.register(connection, socket, Interest { read: true, write: false })
    }

    fn connect(&mut self, connection: Token, address: &Address) {
        assert!(connection.kind() != Kind::Listener, "{connection:?} is to be a connection");
        let (socket, result) = operation::connect(address);
        self.slots.insert(connection, socket, Io::default());
        let slot = self.slots.get(connection).expect("just inserted");
        slot.start(Operation::Connect);
        match result {
            Ok(done) => slot.io.writable = done,
            Err(error) => slot.io.refused = Some(error),
        }
        self.queue(connection);
    }

    fn recv_start(&mut self, connection: Token, credit: usize) {
        assert!(credit > 0, "{connection:?} is to receive nothing");
        let Some(slot) = self.slots.get_open(connection) else { return };
        slot.start(Operation::Recv);
        slot.io.credit = credit;
        slot.io.stopping = false;
        self.queue(connection);
    }

    fn recv_stop(&mut self, connection: Token) {
        let Some(slot) = self.slots.get_open(connection) else { return };
        if slot.is_in_flight(Operation::Recv) {
            slot.io.stopping = true;
            self.queue(connection);
        }
    }

    fn send(&mut self, connection: Token, chain: Chain) {
        assert!(!chain.is_empty(), "{connection:?} is to send nothing");
        let Some(slot) = self.slots.get_open(connection) else { return };
        slot.start(Operation::Send);
        slot.io.send = Some(Send { chain, sent: 0, blocked: false });
        self.queue(connection);
    }

    fn close(&mut self, token: Token) {
        if self.slots.close_begin(token).is_some() {
            self.queue(token);
        }
    }

    fn wait(
        &mut self,
        wanted: usize,
        deadline: Option<Time>,
        events: &mut Vec<Event<OwnedFd>>,
    ) -> io::Result<()> {
        self.counters.waits += 1;
        let start = events.len();
        self.arenas.iter_mut().for_each(Arena::reset);
        self.do_work(events);
        let has_events = events.len() > start;
        if has_events && !self.skipped {
            // What is known already is told first. When nothing else is ready, looking would have
            // been in vain; when something is, the next call finds it.
            self.skipped = true;
        } else {
            self.skipped = false;
            let timeout = if has_events || !self.work.is_empty() {
                Some(Duration::ZERO)
            } else {
                deadline.map(|deadline| self.sleep(wanted, deadline - clock::now()))
            };
            self.poll(timeout)?;
            self.do_work(events);
        }
        if self.waiter.take_wake() {
            events.push(Event::Woken);
        }
        Ok(())
    }

    #[inline]
    fn bytes(&self, received: Received) -> &[u8] {
        let arena = &self.arenas[(received.buffer >> 16) as usize];
        let buffer = (received.buffer & 0xffff) as usize;
        arena.bytes(buffer, received.offset as usize, received.size as usize)
    }

    #[inline]
    fn release(&mut self, received: Received) {
        self.arenas[(received.buffer >> 16) as usize].release();
    }

    fn waker(&self) -> ReadinessWaker {
        self.waiter.waker()
    }

    fn peer(&self, token: Token) -> Option<Address> {
        self.slots.peer(token)
    }

    fn export(&mut self, token: Token) -> Option<OwnedFd> {
        let slot = self.slots.get_open(token)?;
        if !slot.is_quiet() {
            return None;
        }
        let slot = self.slots.remove(token)?;
        if let (Some(socket), Some(_)) = (&slot.socket, slot.io.watched) {
            self.waiter.remove(socket);
        }
        slot.socket
    }
}
