//! What each completion means: its event, and whether the operation goes on, is started again or
//! has ended.
//!
//! Invariant: an operation is started again only while its slot is open; every other last
//! completion ends it with exactly one event.

use std::os::fd::{FromRawFd, OwnedFd};

use base::{RecvEnd, SocketError, Token};
use socket2::SockRef;

use super::operation::{self, Code, Completion};
use super::{Uring, group_index};
use crate::slots::Operation;
use crate::socket::{self, accept_error};
use crate::{AcceptEnd, Event, Received};

const ALREADY: i32 = -libc::EALREADY;

type Events = Vec<Event<OwnedFd>>;

/// What is to be done after the last completion of a receive.
enum AfterRecv {
    End(RecvEnd),
    Again,
    AwaitBuffers,
}

impl Uring {
    pub(super) fn handle_completion(&mut self, completion: Completion, events: &mut Events) {
        let (code, token, is_cancel) = Code::parse(completion.user_data);
        if is_cancel {
            return self.handle_cancel(code, token, completion.result);
        }
        if !completion.more() {
            self.in_flight -= 1;
        }
        match code {
            Code::Recv => self.handle_recv(token, completion, events),
            Code::Send => self.handle_send(token, completion, events),
            Code::Accept => self.handle_accept(token, completion, events),
            Code::Connect => self.handle_connect(token, completion, events),
            Code::Wake => self.handle_wake(completion, events),
        }
    }

    /// A cancel has failed. Mostly because its target has ended by itself meanwhile.
    fn handle_cancel(&mut self, code: Code, token: Token, result: i32) {
        let operation = match code {
            Code::Accept => Operation::Accept,
            Code::Connect => Operation::Connect,
            Code::Recv => Operation::Recv,
            Code::Send => Operation::Send,
            Code::Wake => return,
        };
        let Some(slot) = self.slots.get(token) else { return };
        let unwanted = slot.closing || slot.io.stopping && operation != Operation::Send;
        if !unwanted || !slot.is_in_flight(operation) || slot.io.starved {
            return;
        }
        match (result, &slot.socket) {
            // A worker thread of the kernel has it, and may wait in it for ever.
            (ALREADY, Some(socket)) if slot.closing => socket::shutdown(socket),
            // The worker was interrupted, and its call ends.
            (ALREADY, _) => {}
            // The kernel was about to try it again, and does not look for it there. That is done by
            // the time of the next call.
            _ => {
                self.counters.retries += 1;
                self.queue.push(operation::cancel(code.user_data(token)));
            }
        }
    }

    fn handle_recv(&mut self, token: Token, completion: Completion, events: &mut Events) {
        let index = group_index(token.kind());
        let size = completion.result.max(0) as u32;
        let received = completion.buffer().map(|(id, more)| {
            let offset = self.groups[index].buffers.take(id, size, more);
            Received { buffer: (index as u32) << 16 | u32::from(id), offset, size }
        });
        let Some(slot) = self.slots.get(token) else {
            debug_assert!(false, "{token:?}: a slot stays until its last completion");
            self.counters.stale += 1;
            return;
        };
        if slot.io.credit != usize::MAX {
            slot.io.credit = slot.io.credit.saturating_sub(size as usize);
        }
        let closing = slot.closing;
        if let Some(received) = received.filter(|received| received.size > 0) {
            if closing {
                self.groups[index].buffers.release(received.buffer as u16);
            } else {
                events.push(Event::Received(token, received));
            }
        }
        if completion.more() {
            return;
        }
        match self.after_recv(token, completion.result) {
            AfterRecv::Again => self.arm_recv(token),
            AfterRecv::AwaitBuffers => {
                self.counters.starved += 1;
                self.slots.get(token).expect("found above").io.starved = true;
                self.group(token).starved.push_back(token);
            }
            AfterRecv::End(end) => {
                self.slots.get(token).expect("found above").end(Operation::Recv);
                events.push(Event::RecvEnd(token, end));
                self.slots.close_step(token);
            }
        }
    }

    /// Decides what the last completion of a receive means.
    fn after_recv(&mut self, token: Token, result: i32) -> AfterRecv {
        let slot = self.slots.get(token).expect("the caller has found it");
        let stop = slot.closing || slot.io.stopping;
        match result {
            0 => AfterRecv::End(RecvEnd::Eof),
            1.. if slot.io.credit == 0 => AfterRecv::End(RecvEnd::Credit),
            1.. if stop => AfterRecv::End(RecvEnd::Stopped),
            // A single receive, the end of a large credit's part, or a full completion queue.
            1.. => AfterRecv::Again,
            _ => match -result {
                libc::ECANCELED | libc::EAGAIN | libc::EINTR | libc::ENOBUFS if stop => {
                    AfterRecv::End(RecvEnd::Stopped)
                }
                libc::ENOBUFS => AfterRecv::AwaitBuffers,
                libc::EAGAIN | libc::EINTR => {
                    self.counters.retries += 1;
                    AfterRecv::Again
                }
                errno => AfterRecv::End(RecvEnd::Error(SocketError::from_errno(errno))),
            },
        }
    }

    fn handle_send(&mut self, token: Token, completion: Completion, events: &mut Events) {
        let slot = self.slots.get(token).expect("a slot stays until its last completion");
        let send = slot.io.send.as_mut().expect("a send is under way until its completion");
        let error = match completion.result {
            size @ 1.. => {
                if send.advance(size as usize) {
                    None
                } else {
                    Some(libc::EAGAIN)
                }
            }
            0 => Some(libc::EPIPE),
            errno => Some(-errno),
        };
        let again = matches!(error, Some(libc::EAGAIN | libc::EINTR));
        if again && !slot.closing {
            self.counters.retries += 1;
            return self.arm_send(token);
        }
        slot.end(Operation::Send);
        let send = slot.io.send.take().expect("found above");
        let chain = send.finish(&mut self.spare);
        events.push(match error {
            None => Event::Sent(token, chain),
            Some(_) if again => Event::SendFailed(token, chain, SocketError::Cancelled),
            Some(errno) => Event::SendFailed(token, chain, SocketError::from_errno(errno)),
        });
        self.slots.close_step(token);
    }

    fn handle_accept(&mut self, token: Token, completion: Completion, events: &mut Events) {
        if completion.result >= 0 {
            // SAFETY: the kernel has just opened this descriptor for us.
            let socket = unsafe { OwnedFd::from_raw_fd(completion.result) };
            events.push(Event::Accepted { listener: token, socket });
        }
        if completion.more() {
            return;
        }
        let slot = self.slots.get(token).expect("a slot stays until its last completion");
        let errno = -completion.result.min(0);
        let end = if slot.closing || slot.io.stopping {
            Some(AcceptEnd::Stopped)
        } else if errno == 0 {
            None
        } else {
            accept_error(errno).map(AcceptEnd::Failed)
        };
        match end {
            Some(end) => {
                slot.end(Operation::Accept);
                events.push(Event::AcceptEnd { listener: token, end });
                self.slots.close_step(token);
            }
            None => {
                if errno == libc::EAGAIN
                    && let Some(socket) = &slot.socket
                {
                    // Somebody who shares the socket has made it non-blocking, and the operation
                    // would fail like this at once, again and again.
                    let _ = SockRef::from(socket).set_nonblocking(false);
                }
                self.counters.retries += u64::from(errno != 0);
                self.arm_accept(token);
            }
        }
    }

    fn handle_connect(&mut self, token: Token, completion: Completion, events: &mut Events) {
        let slot = self.slots.get(token).expect("a slot stays until its last completion");
        slot.end(Operation::Connect);
        slot.io.address = None;
        events.push(match completion.result {
            0.. if slot.closing => Event::ConnectFailed(token, SocketError::Cancelled),
            0.. if slot.socket.as_ref().is_some_and(socket::is_connected_to_itself) => {
                Event::ConnectFailed(token, SocketError::ConnectionRefused)
            }
            0.. => Event::Connected(token),
            errno => Event::ConnectFailed(token, SocketError::from_errno(-errno)),
        });
        self.slots.close_step(token);
    }

    fn handle_wake(&mut self, completion: Completion, events: &mut Events) {
        if self.waker.take() {
            events.push(Event::Woken);
        }
        if !completion.more() && !self.ending {
            self.watch();
        }
    }
}
