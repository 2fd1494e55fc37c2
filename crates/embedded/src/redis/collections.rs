//! Commands on lists, hashes and sets.
//!
//! Invariant: a collection without elements does not exist (the store sees to it).

use super::reply::{self, Refusal};
use super::{Call, Executed, parse_integer};
use crate::value::{Data, End, Kind, Value};

pub(super) fn lpush(call: &mut Call<'_>) -> Executed {
    push(call, End::Head)
}

pub(super) fn rpush(call: &mut Call<'_>) -> Executed {
    push(call, End::Tail)
}

fn push(call: &mut Call<'_>, end: End) -> Executed {
    let elements = call.args.from(2);
    call.edit_or_create(call.args.get(1), Kind::List, |list| {
        elements.for_each(|element| list.push(end, element));
    })?;
    llen(call)
}

pub(super) fn lpop(call: &mut Call<'_>) -> Executed {
    pop(call, End::Head)
}

pub(super) fn rpop(call: &mut Call<'_>) -> Executed {
    pop(call, End::Tail)
}

fn pop(call: &mut Call<'_>, end: End) -> Executed {
    let (database, key) = (call.login.database, call.args.get(1));
    let limit = match call.args.len() {
        2 => None,
        3 => Some(parse_count(call.args.get(2))?),
        _ => return Err(reply::wrong_arity(call.name)),
    };
    let len = len_of(call, Kind::List)?;
    match limit {
        None if len == 0 => reply::bulk_or_nil(call.out, call.login.version, None),
        None => {
            let element = call.store.edit(database, key, |list| list.pop(end));
            reply::bulk_or_nil(call.out, call.login.version, element.as_deref());
        }
        Some(_) if len == 0 => reply::nil_array(call.out, call.login.version),
        Some(limit) => {
            let count = limit.min(len);
            reply::array(call.out, count);
            call.store.edit(database, key, |list| {
                for _ in 0..count {
                    reply::bulk_or_nil(call.out, call.login.version, list.pop(end).as_deref());
                }
            });
        }
    }
    Ok(())
}

fn parse_count(bytes: &[u8]) -> Result<usize, Refusal> {
    let count = parse_integer(bytes).and_then(|count| usize::try_from(count).ok());
    count.ok_or(reply::NOT_A_COUNT)
}

pub(super) fn lrange(call: &mut Call<'_>) -> Executed {
    let (first, last) = (call.integer(2)?, call.integer(3)?);
    let list = call.store.find(call.login.database, call.args.get(1));
    let Some(list) = list else {
        reply::array(call.out, 0);
        return Ok(());
    };
    let Data::List(list) = list.data() else { return Err(reply::WRONG_TYPE) };
    let len = list.len() as i64;
    let from_head = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let (first, last) = (from_head(first).max(0), from_head(last).min(len - 1));
    // An index in reverse, or beyond either end, leaves nothing.
    let count = usize::try_from(last.saturating_sub(first).saturating_add(1)).unwrap_or(0);
    reply::array(call.out, count);
    for element in list.iter().skip(first as usize).take(count) {
        reply::bulk(call.out, element);
    }
    Ok(())
}

pub(super) fn llen(call: &mut Call<'_>) -> Executed {
    reply_len(call, Kind::List)
}

pub(super) fn hlen(call: &mut Call<'_>) -> Executed {
    reply_len(call, Kind::Hash)
}

pub(super) fn scard(call: &mut Call<'_>) -> Executed {
    reply_len(call, Kind::Set)
}

fn reply_len(call: &mut Call<'_>, kind: Kind) -> Executed {
    let len = len_of(call, kind)?;
    reply::count(call.out, len);
    Ok(())
}

/// Elements of the first argument, which must be of this kind, if it exists.
fn len_of(call: &Call<'_>, kind: Kind) -> Result<usize, Refusal> {
    Ok(match call.find(call.args.get(1), kind)?.map(Value::data) {
        None => 0,
        Some(Data::Bytes(bytes)) => bytes.len(),
        Some(Data::List(list)) => list.len(),
        Some(Data::Hash(hash)) => hash.len(),
        Some(Data::Set(set)) => set.len(),
    })
}

pub(super) fn hset(call: &mut Call<'_>) -> Executed {
    if !call.args.len().is_multiple_of(2) {
        return Err(reply::wrong_arity(call.name));
    }
    let args = call.args;
    let added = call.edit_or_create(args.get(1), Kind::Hash, |hash| {
        let indices = (2..args.len()).step_by(2);
        indices.filter(|index| hash.set_field(args.get(*index), args.get(index + 1))).count()
    })?;
    reply::count(call.out, added);
    Ok(())
}

pub(super) fn hget(call: &mut Call<'_>) -> Executed {
    let content = match call.find(call.args.get(1), Kind::Hash)?.map(Value::data) {
        Some(Data::Hash(hash)) => hash.get(call.args.get(2)).cloned(),
        _ => None,
    };
    reply::bulk_or_nil(call.out, call.login.version, content.as_deref());
    Ok(())
}

pub(super) fn hgetall(call: &mut Call<'_>) -> Executed {
    match call.store.find(call.login.database, call.args.get(1)).map(Value::data) {
        None => reply::map(call.out, call.login.version, 0),
        Some(Data::Hash(hash)) => {
            reply::map(call.out, call.login.version, hash.len());
            for (field, content) in hash {
                reply::bulk(call.out, field);
                reply::bulk(call.out, content);
            }
        }
        Some(_) => return Err(reply::WRONG_TYPE),
    }
    Ok(())
}

pub(super) fn hdel(call: &mut Call<'_>) -> Executed {
    remove(call, Kind::Hash, Value::remove_field)
}

pub(super) fn srem(call: &mut Call<'_>) -> Executed {
    remove(call, Kind::Set, Value::remove_member)
}

fn remove(call: &mut Call<'_>, kind: Kind, one: fn(&mut Value, &[u8]) -> bool) -> Executed {
    let key = call.args.get(1);
    let mut removed = 0;
    if call.find(key, kind)?.is_some() {
        let elements = call.args.from(2);
        removed = call.store.edit(call.login.database, key, |value| {
            elements.filter(|element| one(value, element)).count()
        });
    }
    reply::count(call.out, removed);
    Ok(())
}

pub(super) fn sadd(call: &mut Call<'_>) -> Executed {
    let members = call.args.from(2);
    let added = call.edit_or_create(call.args.get(1), Kind::Set, |set| {
        members.filter(|member| set.add_member(member)).count()
    })?;
    reply::count(call.out, added);
    Ok(())
}

pub(super) fn smembers(call: &mut Call<'_>) -> Executed {
    match call.store.find(call.login.database, call.args.get(1)).map(Value::data) {
        None => reply::set(call.out, call.login.version, 0),
        Some(Data::Set(set)) => {
            reply::set(call.out, call.login.version, set.len());
            set.iter().for_each(|member| reply::bulk(call.out, member));
        }
        Some(_) => return Err(reply::WRONG_TYPE),
    }
    Ok(())
}

pub(super) fn sismember(call: &mut Call<'_>) -> Executed {
    let found = match call.find(call.args.get(1), Kind::Set)?.map(Value::data) {
        Some(Data::Set(set)) => set.contains(call.args.get(2)),
        _ => false,
    };
    reply::integer(call.out, i64::from(found));
    Ok(())
}
