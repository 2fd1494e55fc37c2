//! Sends that are under way: what is left of a chain, and the arrays that tell the kernel of it.
//!
//! Nothing is submitted here. Invariant: the memory behind an entry made by [`Send::entry`] does
//! not move until [`Send::advance`] or [`Send::finish`].

use std::os::fd::RawFd;

use base::Chain;
use io_uring::squeue::Entry;

use super::operation;

/// The most slices that one operation takes; more are sent in parts. The kernel's IOV_MAX.
const SLICES_MAX: usize = 1024;
/// Spare descriptions that are kept.
const SPARE_MAX: usize = 64;

/// One send operation.
pub(super) struct Send {
    chain: Chain,
    sent: usize,
    /// Present when the rest is more than one slice.
    parts: Option<Box<Parts>>,
}

/// Slices in the kernel's form, at a fixed address.
pub(super) struct Parts {
    iovecs: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// Descriptions to be used again, so that sending does not allocate.
#[derive(Default)]
#[allow(clippy::vec_box)] // They are lent out one by one, and must not move then.
pub(super) struct Spare(Vec<Box<Parts>>);

impl Spare {
    fn take(&mut self) -> Box<Parts> {
        self.0.pop().unwrap_or_else(|| {
            // SAFETY: all-zero bytes are a valid, empty msghdr.
            let header = unsafe { std::mem::zeroed() };
            Box::new(Parts { iovecs: Vec::new(), header })
        })
    }

    fn give(&mut self, parts: Option<Box<Parts>>) {
        if let Some(parts) = parts
            && self.0.len() < SPARE_MAX
        {
            self.0.push(parts);
        }
    }
}

impl Send {
    pub(super) fn new(chain: Chain) -> Send {
        Send { chain, sent: 0, parts: None }
    }

    /// Notes that `size` more bytes are sent. Whether that was all.
    pub(super) fn advance(&mut self, size: usize) -> bool {
        self.sent += size;
        debug_assert!(self.sent <= self.chain.len());
        self.sent == self.chain.len()
    }

    /// Ends the operation.
    pub(super) fn finish(self, spare: &mut Spare) -> Chain {
        spare.give(self.parts);
        self.chain
    }

    /// The entry that sends what is left, or the first [`SLICES_MAX`] slices of it.
    pub(super) fn entry(
        &mut self,
        socket: RawFd,
        vectored: bool,
        spare: &mut Spare,
        user_data: u64,
    ) -> Entry {
        if let Some(single) = self.chain.as_single() {
            // SAFETY: the chain's buffers are not touched before `finish`, which the owner calls
            // when the operation has ended.
            return unsafe { operation::send(socket, &single[self.sent..], user_data) };
        }
        let parts = self.parts.get_or_insert_with(|| spare.take());
        parts.describe(&self.chain, self.sent);
        // SAFETY: as above; the array and the header are in a box that lives as long.
        unsafe {
            if vectored {
                operation::send_vectored(socket, &parts.iovecs, user_data)
            } else {
                operation::send_message(socket, &parts.header, user_data)
            }
        }
    }
}

impl Parts {
    fn describe(&mut self, chain: &Chain, skip: usize) {
        self.iovecs.clear();
        let mut skip = skip;
        for slice in chain.slices() {
            if skip >= slice.len() {
                skip -= slice.len();
                continue;
            }
            let rest = &slice[skip..];
            skip = 0;
            let base = rest.as_ptr().cast_mut().cast();
            self.iovecs.push(libc::iovec { iov_base: base, iov_len: rest.len() });
            if self.iovecs.len() == SLICES_MAX {
                break;
            }
        }
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        self.header.msg_iovlen = self.iovecs.len() as _;
    }
}
