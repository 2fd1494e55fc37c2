//! The io_uring back end: one system call a turn submits, waits and reaps.
//!
//! It uses no kernel thread (SQPOLL), no linked time-outs and no zero-copy sends; why is in
//! `docs/event-base.md`. Invariant: memory that the kernel was told about stays in place until the
//! last completion of the operation that named it.

mod buffer_ring;
mod completion;
mod operation;
mod probe;
mod queue;
mod send;
mod waker;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use base::{Address, Chain, Kind, RecvEnd, SocketError, Time, Token};
use socket2::{SockAddr, SockRef};

use self::buffer_ring::BufferRing;
use self::operation::{Code, RecvLimit};
use self::queue::{Queue, Sizes};
use self::send::{Send, Spare};
use crate::options::{Counters, ReceiveBuffers};
use crate::slots::{Operation, Slots, finish_close};
use crate::{Event, EventBase, Received, clock, socket};

pub use self::probe::{Refused, Tier, uring_supported};
pub use self::waker::UringWaker;

/// The kernel runs at most about 20 deferred completions a call. After a batch of that size there
/// is probably more.
const BATCH_FULL: usize = 20;
/// So many are taken before the owner sees them: more would make its turn long, one send costing
/// some 2 to 4 microseconds.
const BATCH_MAX: usize = 128;

/// How to set [`Uring`] up.
#[derive(Debug, Clone, Copy)]
pub struct UringOptions {
    /// What may be used of the kernel, from [`uring_supported`]. Features may be switched off.
    pub tier: Tier,
    /// Entries of the submission queue, a power of two. When a turn has more the queue is emptied
    /// in between. Default 256: 16 KiB, which stay in the cache.
    pub submissions: u32,
    /// Entries of the completion queue, a power of two, at least `submissions`. Default 4096.
    pub completions: u32,
    /// Receive buffers of clients. Default 1 MiB in all: 16 of 64 KiB when they are filled
    /// incrementally, else 256 of 4 KiB.
    pub client_buffers: ReceiveBuffers,
    /// Receive buffers of servers. Default 1 MiB in all: 16 of 64 KiB, else 64 of 16 KiB, since a
    /// server's connection carries many replies at a time.
    pub server_buffers: ReceiveBuffers,
}

impl UringOptions {
    /// The defaults for a tier.
    pub fn new(tier: Tier) -> UringOptions {
        let (client_buffers, server_buffers) = if tier.incremental {
            let buffers = ReceiveBuffers { count: 16, size: 64 << 10 };
            (buffers, buffers)
        } else {
            let client = ReceiveBuffers { count: 256, size: 4 << 10 };
            (client, ReceiveBuffers { count: 64, size: 16 << 10 })
        };
        UringOptions { tier, submissions: 256, completions: 4096, client_buffers, server_buffers }
    }
}

/// An event base on io_uring. It must be made on the thread that uses it.
pub struct Uring {
    // Dropped first: the kernel lets go of the memory below.
    queue: Queue,
    groups: [Group; 2],
    slots: Slots<Io>,
    tier: Tier,
    /// Events of operations that ended without the kernel.
    deferred: Vec<Event<OwnedFd>>,
    spare: Spare,
    waker: UringWaker,
    /// Operations whose last completion is to come.
    in_flight: usize,
    /// Being dropped: nothing is started again.
    ending: bool,
    counters: Counters,
    /// Sends given to the kernel since the last call of it.
    sends_count: u32,
}

/// The receive buffers of one kind.
struct Group {
    buffers: BufferRing,
    /// Connections that found no buffer, to be armed again in this order.
    starved: VecDeque<Token>,
}

/// What is known of a socket besides its slot.
#[derive(Default)]
struct Io {
    /// Bytes that the receive operation may still take; `usize::MAX` is no limit.
    credit: usize,
    /// The receive or accept operation was told to stop.
    stopping: bool,
    /// The receive operation is not with the kernel but in the group's list.
    starved: bool,
    send: Option<Send>,
    /// Where `connect` goes, at a fixed address until it has ended.
    address: Option<Box<SockAddr>>,
}

impl Uring {
    /// Sets an instance up for the calling thread. Fails when the kernel refuses, which after a
    /// successful [`uring_supported`] means want of memory or descriptors.
    pub fn new(options: UringOptions) -> io::Result<Uring> {
        let queue = Queue::new(Sizes {
            submissions: options.submissions,
            completions: options.completions,
            no_sqarray: options.tier.no_sqarray,
        })?;
        let group = |id, buffers| -> io::Result<Group> {
            let buffers = BufferRing::new(&queue, id, buffers, options.tier.incremental)?;
            Ok(Group { buffers, starved: VecDeque::new() })
        };
        let groups = [group(0, options.client_buffers)?, group(1, options.server_buffers)?];
        let mut uring = Uring {
            queue,
            groups,
            slots: Slots::new(),
            tier: options.tier,
            deferred: Vec::new(),
            spare: Spare::default(),
            waker: UringWaker::new()?,
            in_flight: 0,
            ending: false,
            counters: Counters::default(),
            sends_count: 0,
        };
        uring.watch();
        Ok(uring)
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        let submissions = self.queue.submissions;
        Counters { enters: self.queue.enters, submissions, ..self.counters }
    }

    /// What it uses of the kernel.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    fn group(&mut self, token: Token) -> &mut Group {
        &mut self.groups[group_index(token.kind())]
    }

    fn watch(&mut self) {
        self.in_flight += 1;
        self.queue.push(operation::watch(self.waker.fd()));
    }

    fn arm_accept(&mut self, token: Token) {
        let slot = self.slots.get(token).expect("the caller has found it");
        let socket = slot.socket.as_ref().expect("a listener has a socket").as_raw_fd();
        self.in_flight += 1;
        self.queue.push(operation::accept(socket, Code::Accept.user_data(token)));
    }

    fn arm_recv(&mut self, token: Token) {
        let group = &self.groups[group_index(token.kind())].buffers;
        let each = group.recv_size_max();
        let slot = self.slots.get(token).expect("the caller has found it");
        let limit = match slot.io.credit {
            usize::MAX if self.tier.recv_limits => RecvLimit::Each(each),
            usize::MAX => RecvLimit::None,
            credit => {
                let total = credit.min(i32::MAX as usize) as u32;
                let each = each.min(total);
                // Without limits a multishot receive could take 32 buffers before the cancel.
                if self.tier.recv_limits {
                    RecvLimit::Total { each, total }
                } else {
                    RecvLimit::Once(each)
                }
            }
        };
        let socket = slot.socket.as_ref().expect("a connection has a socket").as_raw_fd();
        self.in_flight += 1;
        let user_data = Code::Recv.user_data(token);
        self.queue.push(operation::recv(socket, group.group(), limit, user_data));
    }

    fn arm_send(&mut self, token: Token) {
        let slot = self.slots.get(token).expect("the caller has found it");
        let socket = slot.socket.as_ref().expect("a connection has a socket").as_raw_fd();
        let send = slot.io.send.as_mut().expect("a send is under way");
        let user_data = Code::Send.user_data(token);
        self.sends_count += 1;
        let entry = send.entry(socket, self.tier.vectored_send, &mut self.spare, user_data);
        self.in_flight += 1;
        self.queue.push(entry);
    }

    /// Arms those again that found no buffer. Every buffer was released since, so each call makes
    /// progress; a bounded number, so that a flood does not make the turn long.
    fn arm_starved(&mut self) {
        for index in 0..self.groups.len() {
            let group = &self.groups[index];
            let count = group.starved.len().min(group.buffers.count().max(16));
            for _ in 0..count {
                let token = self.groups[index].starved.pop_front().expect("counted");
                // It may have been stopped, closed, and even armed again since.
                let slot = self.slots.get(token).filter(|slot| slot.io.starved);
                if let Some(slot) = slot {
                    slot.io.starved = false;
                    self.arm_recv(token);
                }
            }
        }
    }

    /// Ends a receive operation that is not with the kernel. Whether there was one.
    fn end_starved(&mut self, token: Token) -> bool {
        match self.slots.get(token) {
            Some(slot) if slot.io.starved => {
                slot.io.starved = false;
                slot.end(Operation::Recv);
                self.deferred.push(Event::RecvEnd(token, RecvEnd::Stopped));
                true
            }
            _ => false,
        }
    }

    /// Closes the sockets of which nothing is in flight any more.
    fn finish_closes(&mut self, events: &mut Vec<Event<OwnedFd>>) {
        while let Some(slot) = self.slots.take_closable() {
            finish_close(slot, events);
        }
    }

    /// Takes completions until there are none. Gives their number.
    fn reap(&mut self, events: &mut Vec<Event<OwnedFd>>) -> io::Result<usize> {
        const OVERFLOW_ROUNDS_MAX: usize = 16;
        let mut count = 0;
        for _ in 0..OVERFLOW_ROUNDS_MAX {
            while let Some(completion) = self.queue.next() {
                count += 1;
                self.handle_completion(completion, events);
            }
            if !self.queue.is_overflowed() {
                break;
            }
            self.counters.overflows += 1;
            self.queue.flush()?;
        }
        self.counters.completions += count as u64;
        Ok(count)
    }

    /// One call of the kernel, and more only while it has more than it gives at a time.
    fn enter_and_reap(
        &mut self,
        wanted: usize,
        deadline: Option<Time>,
        events: &mut Vec<Event<OwnedFd>>,
        start: usize,
    ) -> io::Result<()> {
        let starved = self.groups.iter().any(|group| !group.starved.is_empty());
        let ready = self.queue.ready() > 0 || self.queue.is_overflowed();
        if events.len() > start || starved || ready || self.queue.has_backlog() {
            self.queue.flush()?;
        } else {
            let timeout = deadline.map(|deadline| deadline - clock::now());
            // Nearly all sends are done at once, and tell of nothing new.
            let sends_count = if wanted > 1 { self.sends_count } else { 0 };
            self.queue.enter(wanted as u32 + sends_count, timeout)?;
        }
        self.sends_count = 0;
        let mut batch = self.reap(events)?;
        let mut total = batch;
        while batch >= BATCH_FULL && total < BATCH_MAX {
            // Asking for many with a time-out of zero would do it in one call, but that arms a
            // timer and goes through the scheduler, which costs more than ten calls like this.
            self.queue.flush()?;
            batch = self.reap(events)?;
            total += batch;
        }
        Ok(())
    }
}

const fn group_index(kind: Kind) -> usize {
    match kind {
        Kind::Client => 0,
        Kind::Server => 1,
        Kind::Listener => panic!("a listener receives nothing"),
    }
}

impl EventBase for Uring {
    type Socket = OwnedFd;
    type Waker = UringWaker;

    fn now(&self) -> Time {
        clock::now()
    }

    fn listen(&mut self, listener: Token, socket: OwnedFd) -> io::Result<()> {
        assert!(listener.kind() == Kind::Listener, "{listener:?} is to listen");
        SockRef::from(&socket).set_nonblocking(false)?;
        self.slots.insert(listener, Some(socket), Io::default());
        Ok(())
    }

    fn accept_start(&mut self, listener: Token) {
        let Some(slot) = self.slots.get_open(listener) else { return };
        slot.start(Operation::Accept);
        slot.io.stopping = false;
        self.arm_accept(listener);
    }

    fn accept_stop(&mut self, listener: Token) {
        let Some(slot) = self.slots.get_open(listener) else { return };
        if slot.is_in_flight(Operation::Accept) && !slot.io.stopping {
            slot.io.stopping = true;
            self.queue.push(operation::cancel(Code::Accept.user_data(listener)));
        }
    }

    fn adopt(&mut self, connection: Token, socket: OwnedFd) -> io::Result<()> {
        assert!(connection.kind() != Kind::Listener, "{connection:?} is to be a connection");
        self.slots.insert(connection, Some(socket), Io::default());
        Ok(())
    }

    fn connect(&mut self, connection: Token, address: &Address) {
        assert!(connection.kind() != Kind::Listener, "{connection:?} is to be a connection");
        let made = socket::sock_addr(address)
            .and_then(|to| Ok((Box::new(to), socket::connection_socket(address)?)));
        let (to, socket) = match made {
            Ok(made) => made,
            Err(error) => {
                self.slots.insert(connection, None, Io::default());
                let error = SocketError::from(&error);
                self.deferred.push(Event::ConnectFailed(connection, error));
                return;
            }
        };
        // SAFETY: the address is in a box that stays in the slot until `connect` has ended.
        let entry = unsafe {
            operation::connect(socket.as_raw_fd(), &to, Code::Connect.user_data(connection))
        };
        self.slots.insert(connection, Some(socket), Io { address: Some(to), ..Io::default() });
        self.slots.get(connection).expect("just inserted").start(Operation::Connect);
        self.in_flight += 1;
        self.queue.push(entry);
    }

    fn recv_start(&mut self, connection: Token, credit: usize) {
        assert!(credit > 0, "{connection:?} is to receive nothing");
        let Some(slot) = self.slots.get_open(connection) else { return };
        slot.start(Operation::Recv);
        slot.io.credit = credit;
        slot.io.stopping = false;
        self.arm_recv(connection);
    }

    fn recv_stop(&mut self, connection: Token) {
        let Some(slot) = self.slots.get_open(connection) else { return };
        if !slot.is_in_flight(Operation::Recv) || slot.io.stopping {
            return;
        }
        slot.io.stopping = true;
        if !self.end_starved(connection) {
            self.queue.push(operation::cancel(Code::Recv.user_data(connection)));
        }
    }

    fn send(&mut self, connection: Token, chain: Chain) {
        assert!(!chain.is_empty(), "{connection:?} is to send nothing");
        let Some(slot) = self.slots.get_open(connection) else { return };
        slot.start(Operation::Send);
        slot.io.send = Some(Send::new(chain));
        self.arm_send(connection);
    }

    fn close(&mut self, token: Token) {
        let Some(slot) = self.slots.close_begin(token) else { return };
        // The cancels follow what was started before: a send that fits the socket's buffer is done
        // by then. No shutdown(2), which would let that send fail.
        for (operation, code) in [
            (Operation::Accept, Code::Accept),
            (Operation::Connect, Code::Connect),
            (Operation::Recv, Code::Recv),
            (Operation::Send, Code::Send),
        ] {
            if slot.is_in_flight(operation) && !(operation == Operation::Recv && slot.io.starved) {
                self.queue.push(operation::cancel(code.user_data(token)));
            }
        }
        self.end_starved(token);
        self.slots.close_step(token);
    }

    fn wait(
        &mut self,
        wanted: usize,
        deadline: Option<Time>,
        events: &mut Vec<Event<OwnedFd>>,
    ) -> io::Result<()> {
        self.counters.waits += 1;
        let start = events.len();
        for group in &mut self.groups {
            assert!(group.buffers.held_count() == 0, "every Received is to be released");
            group.buffers.publish();
        }
        self.arm_starved();
        events.append(&mut self.deferred);
        self.finish_closes(events);
        self.enter_and_reap(wanted, deadline, events, start)?;
        self.finish_closes(events);
        Ok(())
    }

    #[inline]
    fn bytes(&self, received: Received) -> &[u8] {
        let group = &self.groups[(received.buffer >> 16) as usize];
        group.buffers.bytes(received.buffer as u16, received.offset, received.size)
    }

    #[inline]
    fn release(&mut self, received: Received) {
        let group = &mut self.groups[(received.buffer >> 16) as usize];
        group.buffers.release(received.buffer as u16);
    }

    fn waker(&self) -> UringWaker {
        self.waker.clone()
    }

    fn peer(&self, token: Token) -> Option<Address> {
        self.slots.peer(token)
    }

    fn export(&mut self, token: Token) -> Option<OwnedFd> {
        let slot = self.slots.get_open(token)?;
        if !slot.is_quiet() {
            return None;
        }
        self.slots.remove(token)?.socket
    }
}

impl Drop for Uring {
    /// Cancels everything and waits until the kernel has let go of our memory. When it does not,
    /// the memory is forgotten: a leak is better than a write to what is somebody else's by then.
    fn drop(&mut self) {
        const ROUNDS_MAX: usize = 50;
        self.ending = true;
        for slot in self.slots.iter_mut() {
            slot.closing = true;
        }
        let mut events = Vec::new();
        for _ in 0..ROUNDS_MAX {
            // Again each time: see `handle_cancel`.
            self.queue.push(operation::cancel_all());
            if self.queue.enter(1, Some(Duration::from_millis(20))).is_err() {
                break;
            }
            let _ = self.reap(&mut events);
            if self.in_flight == 0 {
                return;
            }
        }
        for group in &mut self.groups {
            group.buffers.leak();
        }
        std::mem::forget(std::mem::replace(&mut self.slots, Slots::new()));
    }
}
