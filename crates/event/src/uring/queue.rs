//! The two queues that are shared with the kernel, and the one system call that serves both.
//!
//! It knows no sockets. Invariant: every entry that is pushed reaches the kernel, in order, at the
//! latest with the next [`Queue::enter`]. A queue belongs to the thread that made it, which the
//! kernel enforces (`SINGLE_ISSUER`) and the type too, not being `Send`.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe};

use super::operation::Completion;

pub(super) struct Queue {
    instance: IoUring,
    /// The instance's index among the thread's registered ones, or its descriptor.
    enter_fd: i32,
    enter_flags: EnterFlags,
    /// Entries for which the submission queue had no room, when the kernel took none.
    backlog: VecDeque<Entry>,
    /// System calls so far.
    pub(super) enters: u64,
    /// Entries pushed so far.
    pub(super) submissions: u64,
    one_thread: PhantomData<*const ()>,
}

/// Sizes of the queues, and whether the kernel knows `NO_SQARRAY`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) submissions: u32,
    pub(super) completions: u32,
    pub(super) no_sqarray: bool,
}

impl Queue {
    /// Sets an instance up.
    pub(super) fn new(sizes: Sizes) -> io::Result<Queue> {
        let mut builder = IoUring::builder();
        builder
            .dontfork()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(sizes.completions);
        if sizes.no_sqarray {
            builder.setup_no_sqarray();
        }
        let instance = builder.build(sizes.submissions)?;
        let mut enter_flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if instance.params().is_feature_no_iowait() {
            // Waiting for requests is not waiting for a disk.
            enter_flags |= EnterFlags::NO_IOWAIT;
        }
        let mut enter_fd = instance.as_raw_fd();
        if let Some(index) = register_descriptor(enter_fd) {
            enter_fd = index;
            enter_flags |= EnterFlags::REGISTERED_RING;
        }
        // An accidental punt to worker threads stays small.
        let _ = instance.submitter().register_iowq_max_workers(&mut [2, 2]);
        Ok(Queue {
            instance,
            enter_fd,
            enter_flags,
            backlog: VecDeque::new(),
            enters: 0,
            submissions: 0,
            one_thread: PhantomData,
        })
    }

    /// Whether the kernel knows an operation.
    pub(super) fn supports(&self, code: u8) -> io::Result<bool> {
        let mut probe = Probe::new();
        self.instance.submitter().register_probe(&mut probe)?;
        Ok(probe.is_supported(code))
    }

    /// Words on what was set up.
    pub(super) fn is_descriptor_registered(&self) -> bool {
        self.enter_flags.contains(EnterFlags::REGISTERED_RING)
    }

    pub(super) fn is_iowait_avoided(&self) -> bool {
        self.enter_flags.contains(EnterFlags::NO_IOWAIT)
    }

    /// Queues an entry. When the queue is full, what it holds is submitted first.
    pub(super) fn push(&mut self, entry: Entry) {
        self.submissions += 1;
        if self.backlog.is_empty() {
            if self.try_push(&entry) {
                return;
            }
            // Completions that this call produces stay in their queue until they are asked for.
            let _ = self.flush();
            if self.try_push(&entry) {
                return;
            }
        }
        self.backlog.push_back(entry);
    }

    fn try_push(&mut self, entry: &Entry) -> bool {
        // SAFETY: whoever made the entry promised that the memory that it names stays until the
        // operation has ended; see `operation`.
        unsafe { self.instance.submission().push(entry) }.is_ok()
    }

    /// Submits everything and runs what the kernel has deferred, without waiting.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.enter(0, None)
    }

    /// Submits everything, runs what the kernel has deferred, and waits for `want` completions or
    /// the time-out (`None`: for ever). An interrupted or expired wait is not an error.
    pub(super) fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                break;
            }
        }
        let to_submit = self.instance.submission().len() as u32;
        self.enters += 1;
        let timespec = timeout.map(Timespec::from);
        let mut arguments = SubmitArgs::new();
        if let Some(timespec) = &timespec {
            arguments = arguments.timespec(timespec);
        }
        // SAFETY: the queues are mapped as long as `instance` lives, and the argument and the time
        // that it points to live until the call returns.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                to_submit,
                want,
                self.enter_flags.bits(),
                &raw const arguments,
                size_of::<SubmitArgs<'_, '_>>(),
            )
        };
        if result >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // EBUSY: completions must be reaped first; EAGAIN: no memory for a request now. What
            // was not submitted is still queued.
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        }
    }

    /// The next completion, without a system call.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Completion> {
        self.instance.completion().next().map(|entry| Completion::new(&entry))
    }

    /// How many completions are there, without a system call.
    #[inline]
    pub(super) fn ready(&mut self) -> usize {
        self.instance.completion().len()
    }

    /// Whether completions wait in the kernel because their queue was full.
    #[inline]
    pub(super) fn is_overflowed(&mut self) -> bool {
        self.instance.submission().cq_overflow()
    }

    /// Whether something pushed has not reached the kernel.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Registers a group of provided buffers.
    ///
    /// # Safety
    /// The memory at `address`, and that which its entries name, must stay until the group is
    /// unregistered or the queue is gone.
    pub(super) unsafe fn register_buffers(
        &self,
        address: u64,
        count: u16,
        group: u16,
        flags: u16,
    ) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe {
            self.instance.submitter().register_buf_ring_with_flags(address, count, group, flags)
        }
    }

    /// Takes a group of provided buffers away from the kernel.
    pub(super) fn unregister_buffers(&self, group: u16) {
        let _ = self.instance.submitter().unregister_buf_ring(group);
    }
}

impl Drop for Queue {
    /// The thread's registration would keep the instance alive after its descriptor is closed.
    fn drop(&mut self) {
        if self.is_descriptor_registered() {
            let update = Update { offset: self.enter_fd as u32, reserved: 0, data: 0 };
            register_call(self.instance.as_raw_fd(), UNREGISTER_RING_FDS, update);
        }
    }
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct Update {
    offset: u32,
    reserved: u32,
    data: u64,
}

const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// Registers the descriptor with the calling thread, so that the kernel needs no look-up of it. The
/// crate's own function keeps the index in a value that borrows the instance. `None`: too old.
fn register_descriptor(fd: i32) -> Option<i32> {
    register_call(fd, REGISTER_RING_FDS, Update { offset: u32::MAX, reserved: 0, data: fd as u64 })
}

/// Gives the index that the kernel chose or was told.
fn register_call(fd: i32, code: u32, mut update: Update) -> Option<i32> {
    // SAFETY: the argument is one valid structure, which the kernel reads and writes.
    let result =
        unsafe { libc::syscall(libc::SYS_io_uring_register, fd, code, &raw mut update, 1) };
    (result == 1).then_some(update.offset as i32)
}
