//! A group of receive buffers that is lent to the kernel.
//!
//! It knows no connections. Two forms: plain, where a receive takes a whole buffer, and
//! incremental, where receives of many connections fill one buffer one behind the other. Invariant:
//! a buffer goes back to the kernel only when the kernel is done with it and every piece that was
//! handed out is released; until then no byte of those pieces changes.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, IOU_PBUF_RING_INC};

use super::queue::Queue;
use crate::options::ReceiveBuffers;

pub(super) struct BufferRing {
    group: u16,
    options: ReceiveBuffers,
    incremental: bool,
    /// The shared array of entries, followed at `data_offset` by the buffers themselves.
    map: *mut u8,
    map_size: usize,
    data_offset: usize,
    buffers: Box<[Buffer]>,
    /// Buffers given to the kernel so far, modulo 2^16; published by [`BufferRing::publish`].
    tail: u16,
    held_count: u32,
}

#[derive(Clone, Copy, Default)]
struct Buffer {
    /// Bytes that the kernel has filled.
    filled: u32,
    /// Pieces that are handed out.
    held: u32,
    /// Whether the kernel fills it no more.
    done: bool,
}

impl BufferRing {
    /// Makes the buffers and lends all of them to the kernel.
    pub(super) fn new(
        queue: &Queue,
        group: u16,
        options: ReceiveBuffers,
        incremental: bool,
    ) -> io::Result<BufferRing> {
        options.check();
        let count = usize::from(options.count);
        let data_offset = (count * size_of::<BufRingEntry>()).next_multiple_of(4096);
        let map_size = data_offset + count * options.size as usize;
        let mut made = BufferRing {
            group,
            options,
            incremental,
            map: map_memory(map_size)?,
            map_size,
            data_offset,
            buffers: vec![Buffer::default(); count].into_boxed_slice(),
            tail: 0,
            held_count: 0,
        };
        let flags = if incremental { IOU_PBUF_RING_INC as u16 } else { 0 };
        // SAFETY: the mapping is page-aligned, large enough for the entries, and unmapped by
        // `drop` only, before which the owner ends the queue (see `Uring`) or unregisters it.
        unsafe { queue.register_buffers(made.map as u64, options.count, group, flags) }?;
        for id in 0..options.count {
            made.lend(id);
        }
        made.publish();
        Ok(made)
    }

    /// Notes that the kernel has filled `size` more bytes of a buffer, and hands them out. Gives
    /// their offset.
    pub(super) fn take(&mut self, id: u16, size: u32, more: bool) -> u32 {
        let buffer = &mut self.buffers[usize::from(id)];
        let offset = buffer.filled;
        buffer.filled += size;
        buffer.done = !more;
        assert!(buffer.filled <= self.options.size, "the kernel fills what it was lent");
        if size > 0 {
            buffer.held += 1;
            self.held_count += 1;
        } else if buffer.done && buffer.held == 0 {
            self.lend(id);
        }
        offset
    }

    /// Takes a piece back.
    pub(super) fn release(&mut self, id: u16) {
        let buffer = &mut self.buffers[usize::from(id)];
        buffer.held = buffer.held.checked_sub(1).expect("a piece is released once");
        self.held_count -= 1;
        if buffer.done && buffer.held == 0 {
            self.lend(id);
        }
    }

    /// How many pieces are handed out.
    pub(super) fn held_count(&self) -> u32 {
        self.held_count
    }

    /// The bytes of a piece that is handed out.
    pub(super) fn bytes(&self, id: u16, offset: u32, size: u32) -> &[u8] {
        let buffer = &self.buffers[usize::from(id)];
        assert!(buffer.held > 0 && offset + size <= buffer.filled, "a piece that was handed out");
        let start = self.data_offset + usize::from(id) * self.options.size as usize;
        // SAFETY: the range lies within the buffer, by the assertion. The kernel has written it
        // and writes to it again only after it was lent again, which a held piece prevents; the
        // kernel does write to later bytes of the buffer, but only inside `enter`, which takes the
        // queue of this thread.
        unsafe { std::slice::from_raw_parts(self.map.add(start + offset as usize), size as usize) }
    }

    /// Puts a buffer into the next entry. The kernel sees it after [`BufferRing::publish`].
    fn lend(&mut self, id: u16) {
        self.buffers[usize::from(id)] = Buffer::default();
        let index = usize::from(self.tail & (self.options.count - 1));
        let start = self.data_offset + usize::from(id) * self.options.size as usize;
        // SAFETY: `index` is below `count`, for which the mapping has room, aligned since it starts
        // a page; the kernel reads an entry only once the tail says so. The entry's last field
        // is not written: in the first entry it is the tail.
        unsafe {
            let entry = &mut *self.map.cast::<BufRingEntry>().add(index);
            entry.set_addr(self.map.add(start) as u64);
            entry.set_len(self.options.size);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel every buffer lent so far.
    pub(super) fn publish(&mut self) {
        // SAFETY: the tail is the last field of the first entry, aligned, within the mapping, and
        // shared with the kernel, hence atomic.
        let tail = unsafe {
            let tail = BufRingEntry::tail(self.map.cast::<BufRingEntry>().cast_const());
            &*tail.cast::<AtomicU16>()
        };
        tail.store(self.tail, Ordering::Release);
    }

    /// How much one receive may take at most: a whole plain buffer, or a part of an incremental.
    pub(super) fn recv_size_max(&self) -> u32 {
        if self.incremental {
            self.options.size.min(crate::options::RECV_SIZE_MAX)
        } else {
            self.options.size
        }
    }

    pub(super) fn group(&self) -> u16 {
        self.group
    }

    pub(super) fn count(&self) -> usize {
        usize::from(self.options.count)
    }

    /// Forgets the memory instead of freeing it, for when the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        self.map_size = 0;
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        if self.map_size > 0 {
            // SAFETY: this is the mapping that `new` made; nothing borrows from it, and the kernel
            // does not use it any more (see `new`).
            unsafe { libc::munmap(self.map.cast(), self.map_size) };
        }
    }
}

fn map_memory(size: usize) -> io::Result<*mut u8> {
    // SAFETY: a new private mapping that aliases nothing.
    let map = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if map == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(map.cast()) }
}
