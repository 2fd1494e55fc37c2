//! Spare byte buffers of one worker, so that the path of a request does not allocate.
//!
//! Not a limit on memory in use: it only bounds what is kept unused. Invariant: the kept bytes
//! never exceed [`Buffers::KEPT_BYTES_MAX`], and kept buffers are empty.

/// Spare buffers in classes of doubling capacity, reused last in, first out so that they are warm.
#[derive(Debug, Default)]
pub struct Buffers {
    classes: [Vec<Vec<u8>>; CLASS_COUNT],
    kept_bytes: usize,
}

const SIZE_MIN_LOG2: u32 = 8;
const SIZE_MAX_LOG2: u32 = 16;
const CLASS_COUNT: usize = (SIZE_MAX_LOG2 - SIZE_MIN_LOG2 + 1) as usize;

impl Buffers {
    /// The smallest capacity that is handed out, in bytes.
    pub const SIZE_MIN: usize = 1 << SIZE_MIN_LOG2;
    /// The largest capacity that is kept, in bytes. Larger ones come from and go to the allocator.
    pub const SIZE_MAX: usize = 1 << SIZE_MAX_LOG2;
    /// The most that is kept unused, in bytes: a few batches of large replies. Default 2 MiB.
    pub const KEPT_BYTES_MAX: usize = 2 << 20;

    /// Nothing is kept at first.
    pub fn new() -> Buffers {
        Buffers::default()
    }

    /// An empty buffer with room for at least `size` bytes.
    #[inline]
    pub fn take(&mut self, size: usize) -> Vec<u8> {
        if size > Buffers::SIZE_MAX {
            return Vec::with_capacity(size);
        }
        let size = size.max(Buffers::SIZE_MIN).next_power_of_two();
        let class = (size.trailing_zeros() - SIZE_MIN_LOG2) as usize;
        match self.classes[class].pop() {
            Some(buffer) => {
                self.kept_bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(size),
        }
    }

    /// Takes a buffer back, or frees it when enough are kept or its size fits no class.
    #[inline]
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if !capacity.is_power_of_two()
            || !(Buffers::SIZE_MIN..=Buffers::SIZE_MAX).contains(&capacity)
            || self.kept_bytes + capacity > Buffers::KEPT_BYTES_MAX
        {
            return;
        }
        buffer.clear();
        self.kept_bytes += capacity;
        self.classes[(capacity.trailing_zeros() - SIZE_MIN_LOG2) as usize].push(buffer);
    }

    /// How many bytes are kept unused.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Frees everything that is kept.
    pub fn clear(&mut self) {
        *self = Buffers::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_reused() {
        let mut buffers = Buffers::new();
        let buffer = buffers.take(300);
        assert_eq!(buffer.capacity(), 512);
        let address = buffer.as_ptr();
        buffers.give(buffer);
        assert_eq!(buffers.kept_bytes(), 512);
        let reused = buffers.take(400);
        assert_eq!(reused.as_ptr(), address);
        assert_eq!(buffers.kept_bytes(), 0);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut buffers = Buffers::new();
        for _ in 0..10 * Buffers::KEPT_BYTES_MAX / Buffers::SIZE_MAX {
            buffers.give(Vec::with_capacity(Buffers::SIZE_MAX));
        }
        assert!(buffers.kept_bytes() <= Buffers::KEPT_BYTES_MAX);
    }

    #[test]
    fn what_fits_no_class_is_not_kept() {
        let mut buffers = Buffers::new();
        for size in [0, Buffers::SIZE_MIN / 2, 300, Buffers::SIZE_MAX * 2] {
            buffers.give(Vec::with_capacity(size));
            assert_eq!(buffers.kept_bytes(), 0, "{size}");
        }
    }
}
