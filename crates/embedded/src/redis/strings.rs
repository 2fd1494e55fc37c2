//! Commands on strings and counters.

use std::ops::Range;

use super::keys::{Unit, after_ms, expiry_ms};
use super::reply::{self, Refusal};
use super::{Call, Executed, parse_integer};
use crate::store::ENTRY_OVERHEAD;
use crate::value::{Kind, Value};

/// Redis' largest string, in bytes.
const STRING_SIZE_MAX: usize = 512 << 20;

pub(super) fn get(call: &mut Call<'_>) -> Executed {
    reply_old(call)
}

/// Appends the value of the first argument. It must hold bytes, if anything.
fn reply_old(call: &mut Call<'_>) -> Executed {
    let old = call.find_bytes(call.args.get(1))?.map(<[u8]>::to_vec);
    reply::bulk_or_nil(call.out, call.login.version, old.as_deref());
    Ok(())
}

pub(super) fn mget(call: &mut Call<'_>) -> Executed {
    reply::array(call.out, call.args.len() - 1);
    for key in call.args.from(1) {
        let value = call.store.find(call.login.database, key);
        reply::bulk_or_nil(call.out, call.login.version, value.and_then(Value::bytes));
    }
    Ok(())
}

pub(super) fn strlen(call: &mut Call<'_>) -> Executed {
    let size = call.find_bytes(call.args.get(1))?.map_or(0, <[u8]>::len);
    reply::count(call.out, size);
    Ok(())
}

pub(super) fn getrange(call: &mut Call<'_>) -> Executed {
    let (first, last) = (call.integer(2)?, call.integer(3)?);
    let bytes = call.find_bytes(call.args.get(1))?.unwrap_or(b"");
    let part = bytes[byte_range(first, last, bytes.len())].to_vec();
    reply::bulk(call.out, &part);
    Ok(())
}

/// The bytes from `first` to `last`, both included and negative from the end. Unlike in a list, a
/// `last` before the beginning means the first byte, if both do not lie so.
fn byte_range(first: i64, last: i64, size: usize) -> Range<usize> {
    if size == 0 || (first < 0 && last < 0 && first > last) {
        return 0..0;
    }
    let size = size as i64;
    let from_start = |index: i64| if index < 0 { index.saturating_add(size).max(0) } else { index };
    let (first, last) = (from_start(first), from_start(last).min(size - 1));
    if first > last { 0..0 } else { first as usize..last as usize + 1 }
}

/// The options of `SET`.
#[derive(Debug, Default)]
struct SetOptions {
    nx: bool,
    xx: bool,
    get: bool,
    keep_ttl: bool,
    /// The argument that holds the duration, and its unit.
    expiry: Option<(usize, Unit)>,
}

impl SetOptions {
    fn parse(call: &Call<'_>) -> Result<SetOptions, Refusal> {
        let mut options = SetOptions::default();
        let mut index = 3;
        while index < call.args.len() {
            let has_next = index + 1 < call.args.len();
            let other_unit = |unit| options.expiry.is_some_and(|(_, before)| before != unit);
            match call.args.get(index).to_ascii_lowercase().as_slice() {
                b"nx" if !options.xx => options.nx = true,
                b"xx" if !options.nx => options.xx = true,
                b"get" => options.get = true,
                b"keepttl" if options.expiry.is_none() => options.keep_ttl = true,
                b"ex" if has_next && !options.keep_ttl && !other_unit(Unit::Seconds) => {
                    index += 1;
                    options.expiry = Some((index, Unit::Seconds));
                }
                b"px" if has_next && !options.keep_ttl && !other_unit(Unit::Milliseconds) => {
                    index += 1;
                    options.expiry = Some((index, Unit::Milliseconds));
                }
                _ => return Err(reply::SYNTAX),
            }
            index += 1;
        }
        Ok(options)
    }
}

pub(super) fn set(call: &mut Call<'_>) -> Executed {
    let options = SetOptions::parse(call)?;
    let expiry = options.expiry.map(|(index, unit)| positive_expiry_ms(call, index, unit));
    let expiry_ms = expiry.transpose()?;
    if options.get {
        reply_old(call)?;
    }
    let (database, key) = (call.login.database, call.args.get(1));
    let old = call.store.find(database, key);
    if (options.nx && old.is_some()) || (options.xx && old.is_none()) {
        if !options.get {
            reply::bulk_or_nil(call.out, call.login.version, None);
        }
        return Ok(());
    }
    let mut value = Value::from_bytes(call.args.get(2));
    value.expires = match expiry_ms {
        Some(ms) => Some(after_ms(call.now, ms)),
        None => old.and_then(Value::expires).filter(|_| options.keep_ttl),
    };
    call.store.put(database, key, value);
    if !options.get {
        reply::status(call.out, "OK");
    }
    Ok(())
}

fn positive_expiry_ms(call: &Call<'_>, index: usize, unit: Unit) -> Result<i64, Refusal> {
    let count = call.integer(index)?;
    if count <= 0 {
        return Err(reply::invalid_expiry(call.name));
    }
    expiry_ms(call, count, unit)
}

pub(super) fn setex(call: &mut Call<'_>) -> Executed {
    let ms = positive_expiry_ms(call, 2, Unit::Seconds)?;
    let mut value = Value::from_bytes(call.args.get(3));
    value.expires = Some(after_ms(call.now, ms));
    call.store.put(call.login.database, call.args.get(1), value);
    reply::status(call.out, "OK");
    Ok(())
}

pub(super) fn setnx(call: &mut Call<'_>) -> Executed {
    let (database, key) = (call.login.database, call.args.get(1));
    let is_new = call.store.find(database, key).is_none();
    if is_new {
        call.store.put(database, key, Value::from_bytes(call.args.get(2)));
    }
    reply::integer(call.out, i64::from(is_new));
    Ok(())
}

pub(super) fn mset(call: &mut Call<'_>) -> Executed {
    if call.args.len().is_multiple_of(2) {
        return Err(reply::wrong_arity(call.name));
    }
    for index in (1..call.args.len()).step_by(2) {
        let value = Value::from_bytes(call.args.get(index + 1));
        call.store.put(call.login.database, call.args.get(index), value);
    }
    reply::status(call.out, "OK");
    Ok(())
}

pub(super) fn getset(call: &mut Call<'_>) -> Executed {
    reply_old(call)?;
    let value = Value::from_bytes(call.args.get(2));
    call.store.put(call.login.database, call.args.get(1), value);
    Ok(())
}

pub(super) fn getdel(call: &mut Call<'_>) -> Executed {
    reply_old(call)?;
    call.store.remove(call.login.database, call.args.get(1));
    Ok(())
}

pub(super) fn append(call: &mut Call<'_>) -> Executed {
    let (key, more) = (call.args.get(1), call.args.get(2));
    let size_before = call.find_bytes(key)?.map_or(0, <[u8]>::len);
    if size_before + more.len() > STRING_SIZE_MAX {
        return Err(reply::TOO_LONG);
    }
    call.edit_or_create(key, Kind::Bytes, |value| {
        value.change_bytes(|bytes| bytes.extend_from_slice(more));
    })?;
    reply::count(call.out, size_before + more.len());
    Ok(())
}

pub(super) fn setrange(call: &mut Call<'_>) -> Executed {
    let offset = usize::try_from(call.integer(2)?).map_err(|_| reply::OFFSET)?;
    let (key, part) = (call.args.get(1), call.args.get(3));
    let size_before = call.find_bytes(key)?.map_or(0, <[u8]>::len);
    if part.is_empty() {
        // Nothing is written, not even an empty string.
        reply::count(call.out, size_before);
        return Ok(());
    }
    let end = offset.saturating_add(part.len());
    if end > STRING_SIZE_MAX {
        return Err(reply::TOO_LONG);
    }
    let size = size_before.max(end);
    if !call.store.has_room(size - size_before + key.len() + ENTRY_OVERHEAD) {
        return Err(reply::OUT_OF_MEMORY);
    }
    call.edit_or_create(key, Kind::Bytes, |value| {
        value.change_bytes(|bytes| {
            bytes.resize(size, 0);
            bytes[offset..end].copy_from_slice(part);
        });
    })?;
    reply::count(call.out, size);
    Ok(())
}

pub(super) fn incr(call: &mut Call<'_>) -> Executed {
    add(call, 1)
}

pub(super) fn decr(call: &mut Call<'_>) -> Executed {
    add(call, -1)
}

pub(super) fn incrby(call: &mut Call<'_>) -> Executed {
    let delta = call.integer(2)?;
    add(call, delta)
}

pub(super) fn decrby(call: &mut Call<'_>) -> Executed {
    let delta = call.integer(2)?.checked_neg().ok_or(reply::DECREMENT_OVERFLOW)?;
    add(call, delta)
}

fn add(call: &mut Call<'_>, delta: i64) -> Executed {
    let key = call.args.get(1);
    let number = match call.find_bytes(key)? {
        Some(bytes) => parse_integer(bytes).ok_or(reply::NOT_AN_INTEGER)?,
        None => 0,
    };
    let number = number.checked_add(delta).ok_or(reply::OVERFLOW)?;
    call.edit_or_create(key, Kind::Bytes, |value| {
        value.change_bytes(|bytes| *bytes = number.to_string().into_bytes());
    })?;
    reply::integer(call.out, number);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_bytes_follow_redis_at_their_ends() {
        let cases = [
            ((0, -1), 0..5),
            ((1, 3), 1..4),
            ((-2, -1), 3..5),
            ((-1, -2), 0..0),
            ((0, -100), 0..1),
            ((-100, -50), 0..1),
            ((3, 1), 0..0),
            ((4, 100), 4..5),
            ((5, 100), 0..0),
            ((i64::MIN, i64::MAX), 0..5),
        ];
        for ((first, last), expected) in cases {
            assert_eq!(byte_range(first, last, 5), expected, "{first} {last}");
        }
        assert_eq!(byte_range(0, -1, 0), 0..0);
    }
}
