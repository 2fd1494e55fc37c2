//! Submission entries: what the io-uring crate can build, and the fields that it can't.
//!
//! Nothing is submitted here. Invariant: an entry that carries a memory address is made by an
//! `unsafe` function, whose caller promises that the memory stays until the operation has ended.

use std::os::fd::RawFd;

use base::Token;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode};

/// Vectorised SEND: `buf` and `len` are an array of iovecs. Since Linux 6.17.
const SEND_VECTORIZED: u16 = 1 << 5;
/// Not MSG_WAITALL: with it the kernel goes on by itself after a part was sent, but after 128 parts
/// it gives the operation to a worker thread, which sleeps in it and can't be cancelled there.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;

/// Which operation a completion belongs to; the upper 8 bits of its user data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Code {
    Accept = 1,
    Connect = 2,
    Recv = 3,
    Send = 4,
    Wake = 5,
}

/// Set in the code of an operation that cancels another one.
const CANCEL: u64 = 0x80;

impl Code {
    pub(super) fn user_data(self, token: Token) -> u64 {
        u64::from(self as u8) << Token::BITS | token.to_bits()
    }

    /// The parts of [`Code::user_data`], and whether the operation is its cancel.
    pub(super) fn parse(user_data: u64) -> (Code, Token, bool) {
        let bits = user_data >> Token::BITS;
        let code = match bits & !CANCEL {
            1 => Code::Accept,
            2 => Code::Connect,
            3 => Code::Recv,
            4 => Code::Send,
            5 => Code::Wake,
            other => unreachable!("operation {other} was never submitted"),
        };
        (code, Token::from_bits(user_data), bits & CANCEL != 0)
    }
}

/// A completion entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Completion {
    pub(super) user_data: u64,
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    pub(super) fn new(entry: &cqueue::Entry) -> Completion {
        Completion { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() }
    }

    /// Whether the operation goes on.
    pub(super) fn more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// The buffer that was filled, and whether the kernel goes on filling it.
    pub(super) fn buffer(self) -> Option<(u16, bool)> {
        cqueue::buffer_select(self.flags).map(|id| (id, cqueue::buffer_more(self.flags)))
    }
}

/// Accepts until it is cancelled or fails.
pub(super) fn accept(listener: RawFd, user_data: u64) -> Entry {
    opcode::AcceptMulti::new(Fd(listener)).flags(libc::SOCK_CLOEXEC).build().user_data(user_data)
}

/// Cancels the operation with exactly this user data; never by descriptor, since its number may
/// already be another connection's. The target's own completion says what became of it; the cancel
/// has one only when it has failed.
pub(super) fn cancel(target: u64) -> Entry {
    let own = target | CANCEL << Token::BITS;
    opcode::AsyncCancel2::new(CancelBuilder::user_data(target))
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(own)
}

/// Cancels everything.
pub(super) fn cancel_all() -> Entry {
    let own = Code::Wake.user_data(Token::from_bits(0)) | CANCEL << Token::BITS;
    opcode::AsyncCancel2::new(CancelBuilder::any().all()).build().user_data(own)
}

/// Completes at each write to an eventfd, which nobody needs to read.
pub(super) fn watch(eventfd: RawFd) -> Entry {
    opcode::PollAdd::new(Fd(eventfd), libc::POLLIN as u32)
        .multi(true)
        .build()
        .user_data(Code::Wake.user_data(Token::from_bits(0)))
}

/// How much a receive operation may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecvLimit {
    /// Until it is cancelled, as much at a time as a buffer holds.
    None,
    /// Until it is cancelled, at most so much at a time.
    Each(u32),
    /// So much at a time until so much was received in all. Since Linux 6.17.
    Total {
        /// Bytes at a time.
        each: u32,
        /// Bytes in all; the last receive may exceed it.
        total: u32,
    },
    /// One receive of at most so much.
    Once(u32),
}

/// Receives into the buffers of a group.
pub(super) fn recv(socket: RawFd, group: u16, limit: RecvLimit, user_data: u64) -> Entry {
    let multi = opcode::RecvMulti::new(Fd(socket), group);
    let entry = match limit {
        RecvLimit::None => multi.build(),
        RecvLimit::Each(each) => multi.len(each).build(),
        RecvLimit::Total { each, total } => with_total(multi.len(each).build(), total),
        RecvLimit::Once(size) => opcode::Recv::new(Fd(socket), std::ptr::null_mut(), size)
            .buf_group(group)
            .build()
            .flags(Flags::BUFFER_SELECT),
    };
    entry.user_data(user_data)
}

/// Sets `optlen`, which the crate does not know: the u32 at byte 44.
fn with_total(mut entry: Entry, total: u32) -> Entry {
    const OPTLEN_OFFSET: usize = 44;
    const _: () = assert!(size_of::<Entry>() == 64, "the kernel's struct io_uring_sqe");
    let bytes = (&raw mut entry).cast::<u8>();
    // SAFETY: the entry is `repr(C)` over the kernel's 64-byte structure, in which a u32 lies at
    // byte 44, and any value is valid there.
    unsafe { bytes.add(OPTLEN_OFFSET).cast::<u32>().write_unaligned(total) };
    entry
}

/// Sends one slice, or a part of it when the socket's buffer is full.
///
/// # Safety
/// The memory must stay as it is until the operation has ended.
pub(super) unsafe fn send(socket: RawFd, slice: &[u8], user_data: u64) -> Entry {
    // The kernel takes less than 2 GiB at a time; the result says so and the rest follows.
    let size = slice.len().min(1 << 30) as u32;
    opcode::Send::new(Fd(socket), slice.as_ptr(), size)
        .flags(SEND_FLAGS)
        .build()
        .user_data(user_data)
}

/// Sends several slices, or a part of them. Since Linux 6.17.
///
/// # Safety
/// The array, and the memory that it names, must stay as they are until the operation has ended.
pub(super) unsafe fn send_vectored(socket: RawFd, iovecs: &[libc::iovec], user_data: u64) -> Entry {
    opcode::Send::new(Fd(socket), iovecs.as_ptr().cast(), iovecs.len() as u32)
        .ioprio(SEND_VECTORIZED)
        .flags(SEND_FLAGS)
        .build()
        .user_data(user_data)
}

/// Sends the message's slices, or a part of them.
///
/// # Safety
/// The header, its array, and the memory that it names, must stay as they are until the operation
/// has ended.
pub(super) unsafe fn send_message(socket: RawFd, header: &libc::msghdr, user_data: u64) -> Entry {
    opcode::SendMsg::new(Fd(socket), header).flags(SEND_FLAGS as u32).build().user_data(user_data)
}

/// Connects.
///
/// # Safety
/// The address must stay as it is until the operation has ended.
pub(super) unsafe fn connect(socket: RawFd, address: &socket2::SockAddr, user_data: u64) -> Entry {
    opcode::Connect::new(Fd(socket), address.as_ptr().cast(), address.len())
        .build()
        .user_data(user_data)
}
