//! A table whose slots are reused, with a generation for each use.
//!
//! It hands out `(index, generation)` pairs and never moves a value. It is not a map: indices are
//! dense and start at zero. Invariant: `get` returns a value only for the pair that `insert` gave
//! and `remove` has not taken back.

use crate::token::GENERATION_COUNT;

/// Place of a value in a [`Slab`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The slot.
    pub index: u32,
    /// Which use of the slot, below [`GENERATION_COUNT`].
    pub generation: u32,
}

struct Slot<T> {
    generation: u32,
    state: State<T>,
}

enum State<T> {
    Taken(T),
    /// The next free slot, or `NONE`.
    Free(u32),
}

const NONE: u32 = u32::MAX;

/// See the module's text. Freed slots are reused last in, first out, so that a busy table stays
/// small and warm.
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    free_head: u32,
    count: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { slots: Vec::new(), free_head: NONE, count: 0 }
    }
}

impl<T> Slab<T> {
    /// An empty slab; nothing is allocated until the first insert.
    pub fn new() -> Self {
        Slab::default()
    }

    /// How many values are held.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no value is held.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The key that the next [`Slab::insert`] will return.
    pub fn next_key(&self) -> Key {
        match self.slots.get(self.free_head as usize) {
            Some(slot) => Key { index: self.free_head, generation: slot.generation },
            None => Key { index: self.slots.len() as u32, generation: 0 },
        }
    }

    /// Puts a value into a free slot. Panics when 2^32 - 1 slots are taken.
    pub fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        self.count += 1;
        if self.free_head == NONE {
            assert!(key.index != NONE, "a slab holds fewer than 2^32 values");
            self.slots.push(Slot { generation: 0, state: State::Taken(value) });
            return key;
        }
        let slot = &mut self.slots[key.index as usize];
        match std::mem::replace(&mut slot.state, State::Taken(value)) {
            State::Free(next) => self.free_head = next,
            State::Taken(_) => unreachable!("the free list holds free slots only"),
        }
        key
    }

    /// Takes a value out and ends its generation.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation || matches!(slot.state, State::Free(_)) {
            return None;
        }
        slot.generation = (slot.generation + 1) % GENERATION_COUNT;
        let state = std::mem::replace(&mut slot.state, State::Free(self.free_head));
        self.free_head = key.index;
        self.count -= 1;
        match state {
            State::Taken(value) => Some(value),
            State::Free(_) => unreachable!("checked above"),
        }
    }

    /// The value at `key`, if it is still the same use of the slot.
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.index as usize) {
            Some(Slot { generation, state: State::Taken(value) })
                if *generation == key.generation =>
            {
                Some(value)
            }
            _ => None,
        }
    }

    /// The value at `key`, if it is still the same use of the slot.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.index as usize) {
            Some(Slot { generation, state: State::Taken(value) })
                if *generation == key.generation =>
            {
                Some(value)
            }
            _ => None,
        }
    }

    /// All values with their keys, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match &slot.state {
            State::Taken(value) => {
                Some((Key { index: index as u32, generation: slot.generation }, value))
            }
            State::Free(_) => None,
        })
    }

    /// The value in a slot whatever its generation; for owners that keep bare indices and know
    /// that the slot is taken. Panics when it is not.
    pub fn at(&self, index: u32) -> &T {
        match &self.slots[index as usize].state {
            State::Taken(value) => value,
            State::Free(_) => panic!("slot {index} is free"),
        }
    }

    /// See [`Slab::at`].
    pub fn at_mut(&mut self, index: u32) -> &mut T {
        match &mut self.slots[index as usize].state {
            State::Taken(value) => value,
            State::Free(_) => panic!("slot {index} is free"),
        }
    }

    /// Takes out the value in a slot whatever its generation. Panics when the slot is free.
    pub fn remove_at(&mut self, index: u32) -> T {
        let key = Key { index, generation: self.slots[index as usize].generation };
        self.remove(key).expect("the caller knows that the slot is taken")
    }

    /// Gives memory back when the table is empty.
    ///
    /// Generations restart at zero, so call it only when no key can come back.
    pub fn shrink_if_empty(&mut self) {
        if self.count == 0 {
            *self = Slab::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        assert_eq!(slab.remove(first), None);
        let second = slab.insert('b');
        assert_eq!(second.index, first.index);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get(second), Some(&'b'));
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(
            operations in prop::collection::vec((any::<bool>(), 0usize..64), 1..300),
        ) {
            let mut slab = Slab::new();
            let mut model: HashMap<Key, usize> = HashMap::new();
            let mut keys = Vec::new();
            for (serial, (insert, pick)) in operations.into_iter().enumerate() {
                if insert || keys.is_empty() {
                    let expected = slab.next_key();
                    let key = slab.insert(serial);
                    prop_assert_eq!(key, expected);
                    prop_assert!(model.insert(key, serial).is_none());
                    keys.push(key);
                } else {
                    let key = keys[pick % keys.len()];
                    prop_assert_eq!(slab.remove(key), model.remove(&key));
                }
                prop_assert_eq!(slab.len(), model.len());
                prop_assert_eq!(slab.iter().count(), model.len());
            }
            for key in keys {
                prop_assert_eq!(slab.get(key), model.get(&key));
            }
        }
    }
}
