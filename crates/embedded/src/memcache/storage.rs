//! What the storage and counting commands do to an item.
//!
//! Invariant: an item gets a new unique number whenever its bytes change, and only then.

use super::numbers::{parse_i32, parse_u64};
use super::{BAD_FORMAT, Call, KEY_SIZE_MAX};
use crate::store::ENTRY_OVERHEAD;
use crate::value::Value;

/// memcached's largest item, in bytes, with its key and its own overhead.
pub const ITEM_SIZE_MAX: usize = 1 << 20;

/// What an item of memcached takes beyond key, flags and value: a header of 48 bytes, the unique
/// number, a NUL after the key and the line end after the value.
const ITEM_OVERHEAD: usize = 48 + 8 + 1 + 2;

/// memcached's largest declared size; beyond, it is not taken for one.
const BLOCK_SIZE_MAX: i32 = i32::MAX - 2;

/// The storage commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Cas,
}

impl Kind {
    /// The storage command of this name, if it takes this many words after it.
    pub(super) fn of(name: &[u8], words_count: usize) -> Option<Kind> {
        let kind = match name {
            b"set" => Kind::Set,
            b"add" => Kind::Add,
            b"replace" => Kind::Replace,
            b"append" => Kind::Append,
            b"prepend" => Kind::Prepend,
            b"cas" => Kind::Cas,
            _ => return None,
        };
        let expected = if kind == Kind::Cas { 5..=6 } else { 4..=5 };
        expected.contains(&words_count).then_some(kind)
    }
}

/// The line of a storage command.
#[derive(Debug)]
pub(super) struct Header<'a> {
    kind: Kind,
    pub(super) key: &'a [u8],
    flags: u32,
    exptime: i32,
    /// Bytes of the value.
    pub(super) size: usize,
    /// 0 unless the command is `cas`.
    cas: u64,
}

impl<'a> Header<'a> {
    /// The header with these words after the name; none when it is not well-formed.
    pub(super) fn parse(kind: Kind, words: &[&'a [u8]]) -> Option<Header<'a>> {
        let key = words[0];
        let size = parse_i32(words[3]).filter(|size| (0..=BLOCK_SIZE_MAX).contains(size))?;
        Some(Header {
            kind,
            key: Some(key).filter(|key| key.len() <= KEY_SIZE_MAX)?,
            // memcached parses a C `unsigned long` and keeps 32 bits.
            flags: parse_u64(words[1])? as u32,
            exptime: parse_i32(words[2])?,
            size: usize::try_from(size).ok()?,
            cas: if kind == Kind::Cas { parse_u64(words[4])? } else { 0 },
        })
    }

    /// What the item would take in memcached.
    pub(super) fn item_size(&self) -> usize {
        item_size(self.key, self.flags, self.size)
    }
}

fn item_size(key: &[u8], flags: u32, value_size: usize) -> usize {
    let flags_size = if flags == 0 { 0 } else { 4 };
    ITEM_OVERHEAD + flags_size + key.len() + value_size
}

/// What an item takes in the store.
pub(super) fn entry_size(key: &[u8], value_size: usize) -> usize {
    key.len() + value_size + ENTRY_OVERHEAD
}

/// A `set` that is refused leaves no old value behind, because that would be stale.
pub(super) fn refuse(call: &mut Call<'_>, header: &Header<'_>) {
    if header.kind == Kind::Set {
        call.store.remove(0, header.key);
    }
}

/// Executes a storage command and returns the reply.
pub(super) fn store(call: &mut Call<'_>, header: &Header<'_>, block: &[u8]) -> &'static [u8] {
    if call.store.null_value().is_some() {
        return b"STORED";
    }
    let old = call.store.find(0, header.key);
    match (header.kind, old) {
        (Kind::Add, Some(_)) | (Kind::Replace | Kind::Append | Kind::Prepend, None) => {
            return b"NOT_STORED";
        }
        (Kind::Cas, None) => return b"NOT_FOUND",
        (Kind::Cas, Some(old)) if old.cas != header.cas => return b"EXISTS",
        (Kind::Append, Some(_)) => return extend(call, header, block, true),
        (Kind::Prepend, Some(_)) => return extend(call, header, block, false),
        _ => {}
    }
    let mut value = Value::from_bytes(block);
    value.flags = header.flags;
    value.cas = call.store.next_cas();
    value.expires = call.expiry(header.exptime);
    call.store.put(0, header.key, value);
    b"STORED"
}

/// `append` and `prepend` to an item that exists. Its flags and its expiry stay.
fn extend(call: &mut Call<'_>, header: &Header<'_>, block: &[u8], at_end: bool) -> &'static [u8] {
    let old = call.store.find(0, header.key);
    let Some((bytes, flags)) = old.and_then(|old| Some((old.bytes()?, old.flags))) else {
        return b"NOT_STORED";
    };
    if item_size(header.key, flags, bytes.len() + block.len()) > ITEM_SIZE_MAX {
        return b"NOT_STORED";
    }
    let cas = call.store.next_cas();
    call.store.edit(0, header.key, |value| {
        value.cas = cas;
        value.change_bytes(|bytes| {
            let at = if at_end { bytes.len() } else { 0 };
            bytes.splice(at..at, block.iter().copied());
        });
    });
    b"STORED"
}

/// `incr` and `decr`: the first wraps at 2^64, the second stops at zero.
pub(super) fn add_delta(call: &mut Call<'_>, key: &[u8], delta: &[u8], up: bool) {
    if key.len() > KEY_SIZE_MAX {
        return call.reply(BAD_FORMAT);
    }
    let Some(delta) = parse_u64(delta) else {
        return call.reply(b"CLIENT_ERROR invalid numeric delta argument");
    };
    if call.store.null_value().is_some() {
        return call.reply(b"1");
    }
    let Some(bytes) = call.store.find(0, key).and_then(Value::bytes) else {
        return call.reply(b"NOT_FOUND");
    };
    let Some(number) = parse_u64(bytes) else {
        return call.reply(b"CLIENT_ERROR cannot increment or decrement non-numeric value");
    };
    let number = if up { number.wrapping_add(delta) } else { number.saturating_sub(delta) };
    let text = number.to_string().into_bytes();
    let size_before = bytes.len();
    if !call.store.has_room(text.len().saturating_sub(size_before)) {
        return call.reply(b"SERVER_ERROR out of memory");
    }
    let cas = call.store.next_cas();
    call.store.edit(0, key, |value| {
        value.cas = cas;
        value.change_bytes(|bytes| {
            // A shorter number is padded with blanks: the size of an item never shrinks.
            *bytes = text.clone();
            bytes.resize(size_before.max(text.len()), b' ');
        });
    });
    call.reply(&text);
}
