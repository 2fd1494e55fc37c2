//! Bytes on their way out: an owned list of buffers that goes to the event base as one send and
//! comes back to be reused.
//!
//! Small pieces are copied behind each other into the last buffer; a large one joins as the buffer
//! that it already is. Invariant: the sum of the buffers' lengths is [`Chain::len`], and no buffer
//! but the first is empty.

use crate::buffers::Buffers;

/// A piece of at least this many bytes that is already an owned buffer joins the chain as it is;
/// a smaller one is copied. Below it one more iovec costs about as much as the copy.
pub const OWNED_SIZE_MIN: usize = 4096;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Chain {
    first: Vec<u8>,
    rest: Vec<Vec<u8>>,
    len: usize,
    /// How large the chain is likely to become: as large as those before it.
    size_hint: usize,
}

impl Chain {
    /// An empty chain; nothing is allocated.
    pub fn new() -> Chain {
        Chain::default()
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes to the end. Buffers come from, and outgrown ones go back to, `buffers`.
    #[inline]
    pub fn push(&mut self, bytes: &[u8], buffers: &mut Buffers) {
        self.append(bytes.len(), buffers, |end| end.extend_from_slice(bytes));
    }

    /// Lets `write` add bytes to the end, where there is room for `size`; more is possible, but may
    /// cost a copy. Returns how many it has added.
    #[inline]
    pub fn append(
        &mut self,
        size: usize,
        buffers: &mut Buffers,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let last = self.rest.last_mut().unwrap_or(&mut self.first);
        if last.capacity() - last.len() < size {
            self.make_room(size, buffers);
        }
        let end = self.rest.last_mut().unwrap_or(&mut self.first);
        let before = end.len();
        write(end);
        let added = end.len() - before;
        debug_assert!(added > 0 || self.rest.last().is_none_or(|last| !last.is_empty()));
        self.len += added;
        added
    }

    /// Adds a buffer to the end, without a copy when it is large.
    pub fn push_owned(&mut self, bytes: Vec<u8>, buffers: &mut Buffers) {
        if bytes.len() < OWNED_SIZE_MIN {
            self.push(&bytes, buffers);
            buffers.give(bytes);
        } else if self.len == 0 {
            self.len = bytes.len();
            buffers.give(std::mem::replace(&mut self.first, bytes));
        } else {
            self.len += bytes.len();
            self.rest.push(bytes);
        }
    }

    /// The chain as it is; an empty one takes its place, whose first buffer will be as large as
    /// this chain, and those before it, would have needed.
    pub fn take(&mut self) -> Chain {
        let size_hint = self.len.max(self.size_hint / 2).min(Buffers::SIZE_MAX);
        std::mem::replace(self, Chain { size_hint, ..Chain::default() })
    }

    /// The buffers, in order. Empty ones are left out.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.first)
            .chain(self.rest.iter())
            .map(Vec::as_slice)
            .filter(|slice| !slice.is_empty())
    }

    /// The bytes, if they lie in one buffer.
    pub fn as_single(&self) -> Option<&[u8]> {
        self.rest.is_empty().then_some(self.first.as_slice())
    }

    /// Empties the chain and gives its buffers back.
    pub fn recycle(&mut self, buffers: &mut Buffers) {
        buffers.give(std::mem::take(&mut self.first));
        for buffer in self.rest.drain(..) {
            buffers.give(buffer);
        }
        self.rest = Vec::new();
        self.len = 0;
    }

    /// All bytes in one new buffer; for tests and slow paths.
    pub fn to_vec(&self) -> Vec<u8> {
        self.slices().flatten().copied().collect()
    }

    /// The memory that it holds, in bytes.
    pub fn capacity(&self) -> usize {
        self.first.capacity() + self.rest.iter().map(Vec::capacity).sum::<usize>()
    }

    /// Makes room for `size` more bytes at the end: a larger buffer in the place of a small one, a
    /// further one behind a full one, so that nothing is ever copied more than a few times.
    #[cold]
    fn make_room(&mut self, size: usize, buffers: &mut Buffers) {
        let last = self.rest.last_mut().unwrap_or(&mut self.first);
        if last.len() >= Buffers::SIZE_MAX / 2 {
            self.rest.push(buffers.take(size.max(Buffers::SIZE_MAX)));
            return;
        }
        let hint = if last.capacity() == 0 { self.size_hint } else { last.capacity() * 2 };
        let mut larger = buffers.take((last.len() + size).max(hint));
        larger.extend_from_slice(last);
        buffers.give(std::mem::replace(last, larger));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holds_what_was_pushed(
            pieces in prop::collection::vec((any::<bool>(), 0usize..40_000), 0..30),
        ) {
            let mut buffers = Buffers::new();
            let mut chain = Chain::new();
            let mut model = Vec::new();
            for (serial, (owned, size)) in pieces.into_iter().enumerate() {
                let piece = vec![serial as u8; size];
                model.extend_from_slice(&piece);
                if owned {
                    chain.push_owned(piece, &mut buffers);
                } else {
                    chain.push(&piece, &mut buffers);
                }
                prop_assert_eq!(chain.len(), model.len());
            }
            prop_assert_eq!(chain.to_vec(), model);
            chain.recycle(&mut buffers);
            prop_assert!(chain.is_empty());
            prop_assert_eq!(chain.capacity(), 0);
        }
    }
}
