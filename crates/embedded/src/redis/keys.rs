//! Commands about keys, whatever they hold: existence, type, expiry.

use std::time::Duration;

use base::Time;

use super::reply::{self, Refusal};
use super::{Call, Executed};
use crate::value::Kind;

pub(super) fn del(call: &mut Call<'_>) -> Executed {
    let database = call.login.database;
    let removed = call.args.from(1).filter(|key| call.store.remove(database, key)).count();
    reply::count(call.out, removed);
    Ok(())
}

/// `EXISTS` and `TOUCH`: nothing is evicted here, so that they do the same.
pub(super) fn exists(call: &mut Call<'_>) -> Executed {
    let database = call.login.database;
    let found = call.args.from(1).filter(|key| call.store.find(database, key).is_some()).count();
    reply::count(call.out, found);
    Ok(())
}

pub(super) fn type_of(call: &mut Call<'_>) -> Executed {
    let value = call.store.find(call.login.database, call.args.get(1));
    let name = match value.map(|value| value.kind()) {
        None => "none",
        Some(Kind::Bytes) => "string",
        Some(Kind::List) => "list",
        Some(Kind::Hash) => "hash",
        Some(Kind::Set) => "set",
    };
    reply::status(call.out, name);
    Ok(())
}

pub(super) fn dbsize(call: &mut Call<'_>) -> Executed {
    reply::count(call.out, call.store.database_len(call.login.database));
    Ok(())
}

/// `FLUSHALL [ASYNC|SYNC]`.
pub(super) fn flushall(call: &mut Call<'_>) -> Executed {
    let known =
        |word: &[u8]| word.eq_ignore_ascii_case(b"async") || word.eq_ignore_ascii_case(b"sync");
    if call.args.len() > 2 || !call.args.from(1).all(known) {
        return Err(reply::SYNTAX);
    }
    call.store.clear();
    reply::status(call.out, "OK");
    Ok(())
}

/// The unit in which a client states a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

/// `count` units in milliseconds, refused when they, or the Unix time after them, do not fit in
/// Redis' 64 bits.
pub(super) fn expiry_ms(call: &Call<'_>, count: i64, unit: Unit) -> Result<i64, Refusal> {
    let factor = match unit {
        Unit::Seconds => 1000,
        Unit::Milliseconds => 1,
    };
    let unix_ms = i64::try_from(call.store.unix_time(call.now).as_millis()).unwrap_or(i64::MAX);
    count
        .checked_mul(factor)
        .filter(|ms| ms.checked_add(unix_ms).is_some())
        .ok_or_else(|| reply::invalid_expiry(call.name))
}

/// The point `ms` milliseconds after `now`; `now` itself when that is in the past.
pub(super) fn after_ms(now: Time, ms: i64) -> Time {
    now + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

pub(super) fn expire(call: &mut Call<'_>) -> Executed {
    expire_in(call, Unit::Seconds)
}

pub(super) fn pexpire(call: &mut Call<'_>) -> Executed {
    expire_in(call, Unit::Milliseconds)
}

/// The conditions of `EXPIRE`: none yet, one there, later than that, earlier than that.
#[derive(Debug, Clone, Copy, Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn parse(call: &Call<'_>) -> Result<Conditions, Refusal> {
        let mut conditions = Conditions::default();
        for word in call.args.from(3) {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => conditions.nx = true,
                b"xx" => conditions.xx = true,
                b"gt" => conditions.gt = true,
                b"lt" => conditions.lt = true,
                _ => return Err(Refusal::from_parts(&[b"ERR Unsupported option ", word])),
            }
        }
        if conditions.nx && (conditions.xx || conditions.gt || conditions.lt) {
            return Err(reply::EXPIRE_NX);
        }
        if conditions.gt && conditions.lt {
            return Err(reply::EXPIRE_GT_LT);
        }
        Ok(conditions)
    }

    /// Whether an expiry of `before` may become `after`. No expiry counts as one that never comes.
    fn allow(self, before: Option<Time>, after: Time) -> bool {
        !(self.nx && before.is_some()
            || self.xx && before.is_none()
            || self.gt && before.is_none_or(|before| after <= before)
            || self.lt && before.is_some_and(|before| after >= before))
    }
}

fn expire_in(call: &mut Call<'_>, unit: Unit) -> Executed {
    let conditions = Conditions::parse(call)?;
    let count = call.integer(2)?;
    let after = after_ms(call.now, expiry_ms(call, count, unit)?);
    let (database, key) = (call.login.database, call.args.get(1));
    let before = call.store.find(database, key).map(|value| value.expires());
    let applies = before.is_some_and(|before| conditions.allow(before, after));
    if applies && after <= call.now {
        call.store.remove(database, key);
    } else if applies {
        call.store.set_expiry(database, key, Some(after));
    }
    reply::integer(call.out, i64::from(applies));
    Ok(())
}

pub(super) fn persist(call: &mut Call<'_>) -> Executed {
    let (database, key) = (call.login.database, call.args.get(1));
    let expires = call.store.find(database, key).and_then(|value| value.expires());
    call.store.set_expiry(database, key, None);
    reply::integer(call.out, i64::from(expires.is_some()));
    Ok(())
}

pub(super) fn ttl(call: &mut Call<'_>) -> Executed {
    let left_ms = left_ms(call);
    let left = if left_ms < 0 { left_ms } else { (left_ms + 500) / 1000 };
    reply::integer(call.out, left);
    Ok(())
}

pub(super) fn pttl(call: &mut Call<'_>) -> Executed {
    let left_ms = left_ms(call);
    reply::integer(call.out, left_ms);
    Ok(())
}

/// Milliseconds until the key expires; -1 when it never does, -2 when it does not exist.
fn left_ms(call: &Call<'_>) -> i64 {
    match call.store.find(call.login.database, call.args.get(1)).map(|value| value.expires()) {
        None => -2,
        Some(None) => -1,
        // A point in time is at most 2^64 ns away.
        Some(Some(at)) => at.since(call.now).as_millis() as i64,
    }
}
