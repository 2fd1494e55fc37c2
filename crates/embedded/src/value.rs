//! What a key holds, whatever the protocol: bytes or a collection, with the flags, the unique
//! number and the expiry that go with them.
//!
//! It knows no key and no command. Invariant: `size` is the sum of what `data` holds, so that the
//! store can account for it without a walk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base::Time;

/// Charged for each element of a collection beyond its bytes: about what the containers take.
pub(crate) const ELEMENT_OVERHEAD: usize = 32;

/// What a key holds. Only Redis knows other kinds than bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A string of any bytes.
    Bytes(Vec<u8>),
    /// A list, from its head to its tail.
    List(VecDeque<Vec<u8>>),
    /// Fields with their values.
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    /// Members.
    Set(BTreeSet<Vec<u8>>),
}

/// The four kinds of [`Data`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bytes,
    List,
    Hash,
    Set,
}

/// Either end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Head,
    Tail,
}

/// One value of a [`Store`](crate::Store).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    data: Data,
    size: usize,
    pub(crate) flags: u32,
    pub(crate) cas: u64,
    /// Changed by the store only, which keeps an index of it.
    pub(crate) expires: Option<Time>,
}

impl Value {
    /// A value of bytes that never expires.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Value {
        let data = Data::Bytes(bytes.to_vec());
        Value { data, size: bytes.len(), flags: 0, cas: 0, expires: None }
    }

    /// An empty value of this kind.
    pub(crate) fn empty(kind: Kind) -> Value {
        let data = match kind {
            Kind::Bytes => Data::Bytes(Vec::new()),
            Kind::List => Data::List(VecDeque::new()),
            Kind::Hash => Data::Hash(BTreeMap::new()),
            Kind::Set => Data::Set(BTreeSet::new()),
        };
        Value { data, size: 0, flags: 0, cas: 0, expires: None }
    }

    /// What it holds.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Its bytes, unless it is a collection.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.data {
            Data::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The number that a memcache client stored with it; 0 for Redis.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// The unique number of its last change through memcache; 0 for Redis.
    pub fn cas(&self) -> u64 {
        self.cas
    }

    /// When it ceases to exist.
    pub fn expires(&self) -> Option<Time> {
        self.expires
    }

    /// Bytes that it holds, with an overhead for each element.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.data {
            Data::Bytes(_) => Kind::Bytes,
            Data::List(_) => Kind::List,
            Data::Hash(_) => Kind::Hash,
            Data::Set(_) => Kind::Set,
        }
    }

    /// A collection without elements does not exist for Redis; empty bytes do.
    pub(crate) fn is_empty_collection(&self) -> bool {
        match &self.data {
            Data::Bytes(_) => false,
            Data::List(list) => list.is_empty(),
            Data::Hash(hash) => hash.is_empty(),
            Data::Set(set) => set.is_empty(),
        }
    }
}

/// The changes. Each is called on a value of its kind only: the commands check it first.
impl Value {
    pub(crate) fn change_bytes(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let Data::Bytes(bytes) = &mut self.data else { unreachable!("its kind was checked") };
        change(bytes);
        self.size = bytes.len();
    }

    pub(crate) fn push(&mut self, end: End, element: &[u8]) {
        let Data::List(list) = &mut self.data else { unreachable!("its kind was checked") };
        match end {
            End::Head => list.push_front(element.to_vec()),
            End::Tail => list.push_back(element.to_vec()),
        }
        self.size += element.len() + ELEMENT_OVERHEAD;
    }

    pub(crate) fn pop(&mut self, end: End) -> Option<Vec<u8>> {
        let Data::List(list) = &mut self.data else { unreachable!("its kind was checked") };
        let element = match end {
            End::Head => list.pop_front(),
            End::Tail => list.pop_back(),
        }?;
        self.size -= element.len() + ELEMENT_OVERHEAD;
        Some(element)
    }

    /// Returns whether the field is new.
    pub(crate) fn set_field(&mut self, field: &[u8], content: &[u8]) -> bool {
        let Data::Hash(hash) = &mut self.data else { unreachable!("its kind was checked") };
        self.size += content.len();
        match hash.insert(field.to_vec(), content.to_vec()) {
            Some(old) => {
                self.size -= old.len();
                false
            }
            None => {
                self.size += field.len() + ELEMENT_OVERHEAD;
                true
            }
        }
    }

    /// Returns whether the field was there.
    pub(crate) fn remove_field(&mut self, field: &[u8]) -> bool {
        let Data::Hash(hash) = &mut self.data else { unreachable!("its kind was checked") };
        let Some(old) = hash.remove(field) else { return false };
        self.size -= field.len() + old.len() + ELEMENT_OVERHEAD;
        true
    }

    /// Returns whether the member is new.
    pub(crate) fn add_member(&mut self, member: &[u8]) -> bool {
        let Data::Set(set) = &mut self.data else { unreachable!("its kind was checked") };
        let new = set.insert(member.to_vec());
        self.size += if new { member.len() + ELEMENT_OVERHEAD } else { 0 };
        new
    }

    /// Returns whether the member was there.
    pub(crate) fn remove_member(&mut self, member: &[u8]) -> bool {
        let Data::Set(set) = &mut self.data else { unreachable!("its kind was checked") };
        let old = set.remove(member);
        self.size -= if old { member.len() + ELEMENT_OVERHEAD } else { 0 };
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_follows_every_change_and_returns_to_zero() {
        let mut list = Value::empty(Kind::List);
        list.push(End::Head, b"abc");
        list.push(End::Tail, b"");
        assert_eq!(list.size(), 3 + 2 * ELEMENT_OVERHEAD);
        assert_eq!(list.pop(End::Tail), Some(Vec::new()));
        assert_eq!(list.pop(End::Tail), Some(b"abc".to_vec()));
        assert_eq!((list.pop(End::Head), list.size()), (None, 0));

        let mut hash = Value::empty(Kind::Hash);
        assert!(hash.set_field(b"field", b"12345"));
        assert!(!hash.set_field(b"field", b"1"));
        assert_eq!(hash.size(), 6 + ELEMENT_OVERHEAD);
        assert!(hash.remove_field(b"field") && !hash.remove_field(b"field"));
        assert_eq!(hash.size(), 0);

        let mut set = Value::empty(Kind::Set);
        assert!(set.add_member(b"ab") && !set.add_member(b"ab"));
        assert_eq!(set.size(), 2 + ELEMENT_OVERHEAD);
        assert!(set.remove_member(b"ab") && !set.remove_member(b"ab"));
        assert_eq!(set.size(), 0);
        assert!(set.is_empty_collection());

        let mut bytes = Value::from_bytes(b"12");
        bytes.change_bytes(|bytes| bytes.extend_from_slice(b"345"));
        assert_eq!(bytes.size(), 5);
    }
}
