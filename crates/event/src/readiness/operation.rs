//! Trying a socket's operations, and watching it for what they wait for.
//!
//! Invariant: each operation ends with exactly one event, and after each try the poller watches
//! exactly what the remaining operations need, or more on the reading side, which is cheaper to
//! leave than to change.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use base::{Address, RecvEnd, SocketError, Token};
use socket2::SockRef;

use super::waiter::Interest;
use super::{Io, Readiness, Send, arena_index};
use crate::options::RECV_SIZE_MAX;
use crate::slots::{Operation, Slot};
use crate::socket::{self, accept_error};
use crate::{AcceptEnd, Event, Received};

type Events = Vec<Event<OwnedFd>>;

/// The most connections that a listener accepts in one turn, receives of one connection, and sends
/// of one connection: so that none keeps the others waiting.
const ACCEPTS_MAX: usize = 64;
const RECEIVES_MAX: usize = 4;
const SENDS_MAX: usize = 16;
/// Slices of one sendmsg(2); they are described on the stack.
const SLICES_MAX: usize = 64;

#[cfg(target_vendor = "apple")]
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT;
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Starts to connect. Whether it is done already. The socket is non-blocking until it has ended.
pub(super) fn connect(address: &Address) -> (Option<OwnedFd>, Result<bool, SocketError>) {
    let made = socket::sock_addr(address)
        .and_then(|to| Ok((to, socket::connection_socket(address)?)))
        .and_then(|(to, socket)| {
            SockRef::from(&socket).set_nonblocking(true)?;
            Ok((to, socket))
        });
    let (to, socket) = match made {
        Ok(made) => made,
        Err(error) => return (None, Err(SocketError::from(&error))),
    };
    let result = match SockRef::from(&socket).connect(&to) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {
            Ok(false)
        }
        Err(error) => Err(SocketError::from(&error)),
    };
    (Some(socket), result)
}

impl Readiness {
    pub(super) fn try_operations(&mut self, token: Token, events: &mut Events) {
        let slot = self.slots.get(token).expect("the caller has found it");
        if slot.is_in_flight(Operation::Connect) {
            self.try_connect(token, events);
        }
        self.try_accept(token, events);
        self.try_send(token, events);
        self.try_recv(token, events);
        self.watch(token, events);
        self.slots.close_step(token);
    }

    fn slot(&mut self, token: Token) -> &mut Slot<Io> {
        self.slots.get(token).expect("a slot stays while it is tried")
    }

    fn try_connect(&mut self, token: Token, events: &mut Events) {
        let slot = self.slot(token);
        let result = if let Some(error) = slot.io.refused.take() {
            Err(error)
        } else if slot.closing {
            Err(SocketError::Cancelled)
        } else if slot.io.writable {
            let fd = slot.socket.as_ref().expect("it is being connected");
            let socket = SockRef::from(fd);
            match socket.take_error() {
                Ok(None) if socket::is_connected_to_itself(fd) => {
                    Err(SocketError::ConnectionRefused)
                }
                Ok(None) => socket.set_nonblocking(false).map_err(|error| (&error).into()),
                Ok(Some(error)) | Err(error) => Err(SocketError::from(&error)),
            }
        } else {
            return;
        };
        slot.end(Operation::Connect);
        events.push(match result {
            Ok(()) => Event::Connected(token),
            Err(error) => Event::ConnectFailed(token, error),
        });
    }

    fn try_accept(&mut self, token: Token, events: &mut Events) {
        let slot = self.slot(token);
        if !slot.is_in_flight(Operation::Accept) {
            return;
        }
        let mut end = (slot.closing || slot.io.stopping).then_some(AcceptEnd::Stopped);
        if end.is_none() && slot.io.readable {
            slot.io.readable = false;
            let listener = SockRef::from(slot.socket.as_ref().expect("a listener has a socket"));
            // Another process that shares it may have made it block, and accepting would wait. It
            // costs little beside an accept.
            let _ = listener.set_nonblocking(true);
            let mut count = 0;
            while count < ACCEPTS_MAX {
                count += 1;
                match socket::accept(&listener) {
                    Ok(socket) => events.push(Event::Accepted { listener: token, socket }),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        end =
                            accept_error(error.raw_os_error().unwrap_or(0)).map(AcceptEnd::Failed);
                        if end.is_some() {
                            break;
                        }
                    }
                }
            }
            self.counters.submissions += count as u64;
        }
        if let Some(end) = end {
            self.slot(token).end(Operation::Accept);
            events.push(Event::AcceptEnd { listener: token, end });
        }
    }

    fn try_send(&mut self, token: Token, events: &mut Events) {
        let slot = self.slot(token);
        let (closing, writable) = (slot.closing, slot.io.writable);
        slot.io.writable = false;
        let (Some(send), Some(socket)) = (&mut slot.io.send, &slot.socket) else { return };
        if send.blocked && !writable && !closing {
            return;
        }
        let mut result = Ok(());
        let mut rounds = 0;
        while send.sent < send.chain.len() && rounds < SENDS_MAX {
            rounds += 1;
            match send_some(socket, send) {
                Ok(size) => send.sent += size,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        let whole = send.sent == send.chain.len();
        send.blocked = matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        let error = match result {
            Err(error) if !send.blocked => Some(SocketError::from(&error)),
            _ if closing && !whole => Some(SocketError::Cancelled),
            _ => None,
        };
        let again = !whole && !send.blocked && error.is_none();
        if whole || error.is_some() {
            slot.end(Operation::Send);
            let chain = slot.io.send.take().expect("found above").chain;
            events.push(match error {
                None => Event::Sent(token, chain),
                Some(error) => Event::SendFailed(token, chain, error),
            });
        }
        self.counters.submissions += rounds as u64;
        self.counters.retries += u64::from(!whole);
        if again {
            self.queue(token);
        }
    }

    fn try_recv(&mut self, token: Token, events: &mut Events) {
        let slot = self.slots.get(token).expect("a slot stays while it is tried");
        if !slot.is_in_flight(Operation::Recv) {
            return;
        }
        let mut end = (slot.closing || slot.io.stopping).then_some(RecvEnd::Stopped);
        let mut starved = false;
        let index = arena_index(token.kind());
        let arena = &mut self.arenas[index];
        let mut rounds = 0;
        while end.is_none() && slot.io.readable && rounds < RECEIVES_MAX {
            let Some(room) = arena.room(slot.io.credit.min(RECV_SIZE_MAX as usize)) else {
                starved = true;
                break;
            };
            rounds += 1;
            let room_size = room.len();
            let socket = slot.socket.as_ref().expect("a connection has a socket").as_fd();
            match socket::recv(socket, room) {
                Ok(0) => end = Some(RecvEnd::Eof),
                Ok(size) => {
                    let (buffer, offset) = arena.take(size);
                    let buffer = (index << 16 | buffer) as u32;
                    let received = Received { buffer, offset: offset as u32, size: size as u32 };
                    events.push(Event::Received(token, received));
                    if slot.io.credit != usize::MAX {
                        slot.io.credit -= size;
                    }
                    if slot.io.credit == 0 {
                        end = Some(RecvEnd::Credit);
                    }
                    // A full one may have left more; the poller tells of an end that follows.
                    slot.io.readable = size == room_size;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    slot.io.readable = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => end = Some(RecvEnd::Error(SocketError::from(&error))),
            }
        }
        self.counters.submissions += rounds as u64;
        // What is left makes the poller tell again, but a starved one goes first next time.
        slot.io.readable = starved;
        if let Some(end) = end {
            slot.end(Operation::Recv);
            events.push(Event::RecvEnd(token, end));
        } else if starved {
            self.counters.starved += 1;
            self.queue(token);
        }
    }

    /// Watches for what the operations wait for.
    fn watch(&mut self, token: Token, events: &mut Events) {
        let slot = self.slots.get(token).expect("a slot stays while it is tried");
        let Some(socket) = &slot.socket else { return };
        if slot.closing {
            return;
        }
        let receiving = slot.is_in_flight(Operation::Recv) || slot.is_in_flight(Operation::Accept);
        let sending = slot.io.send.as_ref().is_some_and(|send| send.blocked);
        let need =
            Interest { read: receiving, write: sending || slot.is_in_flight(Operation::Connect) };
        // A notice that nobody wants would come again at once, also when it is not asked for: an
        // error or a hang-up. Out of the poller with it until somebody wants it.
        let unwanted = slot.io.readable && !receiving;
        slot.io.readable &= receiving;
        let result = match slot.io.watched {
            Some(_) if unwanted && need == Interest::default() => {
                self.waiter.remove(socket);
                slot.io.watched = None;
                Ok(())
            }
            Some(watched) => {
                let to = Interest { read: need.read || watched.read && !unwanted, ..need };
                if to == watched {
                    return;
                }
                slot.io.watched = Some(to);
                self.waiter.change(socket, token, to)
            }
            None if need == Interest::default() => Ok(()),
            None => {
                slot.io.watched = Some(need);
                self.waiter.add(socket, token, need)
            }
        };
        if let Err(error) = result {
            slot.io.watched = None;
            self.fail_operations(token, SocketError::from(&error), events);
        }
    }

    /// Ends every operation because the socket can't be watched: the system has no memory for it.
    #[cold]
    fn fail_operations(&mut self, token: Token, error: SocketError, events: &mut Events) {
        let slot = self.slot(token);
        for operation in [Operation::Connect, Operation::Accept, Operation::Recv, Operation::Send] {
            if !slot.is_in_flight(operation) {
                continue;
            }
            slot.end(operation);
            events.push(match operation {
                Operation::Connect => Event::ConnectFailed(token, error),
                Operation::Accept => {
                    Event::AcceptEnd { listener: token, end: AcceptEnd::Failed(error) }
                }
                Operation::Recv => Event::RecvEnd(token, RecvEnd::Error(error)),
                Operation::Send => {
                    let send = slot.io.send.take().expect("a send is under way");
                    Event::SendFailed(token, send.chain, error)
                }
            });
        }
    }
}

/// Sends what fits of the rest.
fn send_some(socket: &OwnedFd, send: &Send) -> io::Result<usize> {
    let socket = SockRef::from(socket);
    if let Some(single) = send.chain.as_single() {
        return socket.send_with_flags(&single[send.sent..], SEND_FLAGS);
    }
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let mut count = 0;
    let mut skip = send.sent;
    for slice in send.chain.slices() {
        if skip >= slice.len() {
            skip -= slice.len();
            continue;
        }
        slices[count] = IoSlice::new(&slice[skip..]);
        skip = 0;
        count += 1;
        if count == SLICES_MAX {
            break;
        }
    }
    socket.send_vectored_with_flags(&slices[..count], SEND_FLAGS)
}
