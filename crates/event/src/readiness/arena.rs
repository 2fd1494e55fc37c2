//! Receive buffers of one kind for one turn.
//!
//! It receives nothing itself. Invariant: what was handed out stays as it is until
//! [`Arena::reset`], which asserts that everything was released.

use crate::options::ReceiveBuffers;

pub(super) struct Arena {
    options: ReceiveBuffers,
    /// Allocated when first needed, and kept.
    buffers: Vec<Box<[u8]>>,
    /// The buffer that is being filled, and how far.
    current: usize,
    filled: usize,
    held_count: u32,
}

impl Arena {
    pub(super) fn new(options: ReceiveBuffers) -> Arena {
        options.check();
        Arena { options, buffers: Vec::new(), current: 0, filled: 0, held_count: 0 }
    }

    /// Begins a turn: all of the memory is free.
    pub(super) fn reset(&mut self) {
        assert!(self.held_count == 0, "every Received is to be released");
        self.current = 0;
        self.filled = 0;
    }

    /// Room for a receive, at least one byte and at most `size_max`, or `None` when all buffers
    /// are full.
    pub(super) fn room(&mut self, size_max: usize) -> Option<&mut [u8]> {
        let size = self.options.size as usize;
        // A short tail would cut a stream into small pieces.
        if self.filled > size - size / 8 {
            self.current += 1;
            self.filled = 0;
        }
        if self.current == usize::from(self.options.count) {
            return None;
        }
        if self.current == self.buffers.len() {
            self.buffers.push(vec![0; size].into_boxed_slice());
        }
        let end = size.min(self.filled + size_max);
        Some(&mut self.buffers[self.current][self.filled..end])
    }

    /// Hands out the first `size` bytes of the last room. Gives the buffer and the offset.
    pub(super) fn take(&mut self, size: usize) -> (usize, usize) {
        let place = (self.current, self.filled);
        self.filled += size;
        self.held_count += 1;
        place
    }

    pub(super) fn release(&mut self) {
        self.held_count = self.held_count.checked_sub(1).expect("a piece is released once");
    }

    pub(super) fn bytes(&self, buffer: usize, offset: usize, size: usize) -> &[u8] {
        &self.buffers[buffer][offset..offset + size]
    }
}
