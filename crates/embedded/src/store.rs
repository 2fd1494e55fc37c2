//! The data of one server: values by database and key, their expiry, and how many bytes they take.
//!
//! It knows no protocol; what a command does to it is in `redis` and `memcache`. Invariants:
//! `bytes` is the sum of all entries' sizes, and `deadlines` holds exactly one row for each value
//! that expires.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use base::Time;

use crate::value::Value;

/// Databases that Redis' `SELECT` can choose from. Memcache uses the first.
pub const DATABASES_COUNT: usize = 16;

/// Charged for each key beyond its bytes and its value's: about what the tables take.
pub(crate) const ENTRY_OVERHEAD: usize = 96;

/// What a server does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Executes them.
    Store,
    /// Stores nothing and answers each data command as if it had succeeded; every value read has
    /// `value_size` bytes. It costs nearly nothing, which shows what a load generator itself costs.
    Null {
        /// Size of every value, in bytes. At most [`StoreOptions::NULL_VALUE_SIZE_MAX`].
        value_size: usize,
    },
}

/// How a server behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Most bytes of keys and values, with an overhead for each. A write that might go beyond is
    /// refused with the protocol's own error. Default [`StoreOptions::BYTES_MAX_DEFAULT`].
    pub bytes_max: usize,
    /// Whether it stores or only answers. Default [`Mode::Store`].
    pub mode: Mode,
    /// What a Redis client must present before anything else. Memcache clients need none. Default
    /// none.
    pub password: Option<Vec<u8>>,
    /// Unix time at [`Time::ZERO`], for memcache's absolute expiry times. Default the constant
    /// 1 700 000 000 s, because no clock is read here; who has one sets it.
    pub unix_time_at_zero: Duration,
}

impl StoreOptions {
    /// 256 MiB: enough for any demonstration, and no danger to the machine.
    pub const BYTES_MAX_DEFAULT: usize = 256 << 20;
    /// 1 MiB, memcached's largest item.
    pub const NULL_VALUE_SIZE_MAX: usize = 1 << 20;
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            bytes_max: StoreOptions::BYTES_MAX_DEFAULT,
            mode: Mode::Store,
            password: None,
            unix_time_at_zero: Duration::from_secs(1_700_000_000),
        }
    }
}

/// Shared between a table and the index of deadlines.
type Key = Arc<[u8]>;

/// `DefaultHasher::new()` has fixed keys, unlike the state that a `HashMap` chooses by itself; the
/// table is never walked either, so nothing depends on its order.
type Entries = HashMap<Key, Value, BuildHasherDefault<DefaultHasher>>;

/// The data of one server, shared by all its [`Session`](crate::Session)s.
#[derive(Debug)]
pub struct Store {
    options: StoreOptions,
    databases: Vec<Entries>,
    /// (when, database, key) of each value that expires.
    deadlines: BTreeSet<(Time, usize, Key)>,
    bytes: usize,
    cas_last: u64,
    /// When everything that exists then is to be dropped.
    flush_at: Option<Time>,
    /// The value that [`Mode::Null`] answers with.
    null_value: Vec<u8>,
}

impl Store {
    /// An empty store.
    ///
    /// # Panics
    /// When the value size of [`Mode::Null`] is beyond its limit.
    pub fn new(options: StoreOptions) -> Store {
        let null_value = match options.mode {
            Mode::Store => Vec::new(),
            Mode::Null { value_size } => {
                assert!(value_size <= StoreOptions::NULL_VALUE_SIZE_MAX);
                vec![b'x'; value_size]
            }
        };
        Store {
            options,
            databases: (0..DATABASES_COUNT).map(|_| Entries::default()).collect(),
            deadlines: BTreeSet::new(),
            bytes: 0,
            cas_last: 0,
            flush_at: None,
            null_value,
        }
    }

    /// Keys in all databases. Values that have expired count until the next request.
    pub fn len(&self) -> usize {
        self.databases.iter().map(HashMap::len).sum()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What counts against [`StoreOptions::bytes_max`]: keys and values, with overheads.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What `key` of the first database holds at `now`. Changes nothing; for a checker that
    /// compares a server's data with what it expects.
    pub fn get(&self, key: &[u8], now: Time) -> Option<&Value> {
        if self.flush_at.is_some_and(|at| at <= now) {
            return None;
        }
        self.find(0, key).filter(|value| value.expires.is_none_or(|at| at > now))
    }

    /// The options that it was made with.
    pub fn options(&self) -> &StoreOptions {
        &self.options
    }
}

/// For the commands. `drop_expired` comes first, so that what is found exists.
impl Store {
    /// Drops what has expired at `now`, or is due to be flushed.
    pub(crate) fn drop_expired(&mut self, now: Time) {
        if self.flush_at.is_some_and(|at| at <= now) {
            self.clear();
        }
        while let Some((at, database, key)) = self.deadlines.first() {
            if *at > now {
                break;
            }
            let (database, key) = (*database, Arc::clone(key));
            self.remove(database, &key);
        }
    }

    pub(crate) fn find(&self, database: usize, key: &[u8]) -> Option<&Value> {
        self.databases[database].get(key)
    }

    /// Keys in this database.
    pub(crate) fn database_len(&self, database: usize) -> usize {
        self.databases[database].len()
    }

    /// Whether `growth` more bytes are within the limit.
    pub(crate) fn has_room(&self, growth: usize) -> bool {
        self.bytes.saturating_add(growth) <= self.options.bytes_max
    }

    /// Stores `value` in the place of what was there, expiry included.
    pub(crate) fn put(&mut self, database: usize, key: &[u8], mut value: Value) {
        let expires = value.expires.take();
        self.set_expiry(database, key, None);
        self.bytes += value.size();
        match self.databases[database].get_mut(key) {
            Some(old) => {
                self.bytes -= old.size();
                *old = value;
            }
            None => {
                self.bytes += key.len() + ENTRY_OVERHEAD;
                self.databases[database].insert(Arc::from(key), value);
            }
        }
        self.set_expiry(database, key, expires);
    }

    /// Returns whether it was there.
    pub(crate) fn remove(&mut self, database: usize, key: &[u8]) -> bool {
        let Some((key, value)) = self.databases[database].remove_entry(key) else {
            return false;
        };
        self.bytes -= value.size() + key.len() + ENTRY_OVERHEAD;
        if let Some(at) = value.expires {
            let indexed = self.deadlines.remove(&(at, database, key));
            assert!(indexed);
        }
        true
    }

    /// Changes the value of a key that exists. A collection that it leaves empty is removed.
    pub(crate) fn edit<R>(
        &mut self,
        database: usize,
        key: &[u8],
        change: impl FnOnce(&mut Value) -> R,
    ) -> R {
        let value = self.databases[database].get_mut(key).expect("the caller has found it");
        let size_before = value.size();
        let result = change(value);
        self.bytes = self.bytes - size_before + value.size();
        if value.is_empty_collection() {
            self.remove(database, key);
        }
        result
    }

    /// Sets or clears when the key expires; nothing happens when it does not exist.
    pub(crate) fn set_expiry(&mut self, database: usize, key: &[u8], expires: Option<Time>) {
        let Some(value) = self.databases[database].get_mut(key) else { return };
        let before = std::mem::replace(&mut value.expires, expires);
        if before == expires {
            return;
        }
        let (key, _) = self.databases[database].get_key_value(key).expect("it was found above");
        if let Some(at) = before {
            self.deadlines.remove(&(at, database, Arc::clone(key)));
        }
        if let Some(at) = expires {
            self.deadlines.insert((at, database, Arc::clone(key)));
        }
    }

    /// Drops everything, in all databases, and forgets a flush that was to come.
    pub(crate) fn clear(&mut self) {
        self.databases.iter_mut().for_each(|entries| *entries = Entries::default());
        self.deadlines.clear();
        self.bytes = 0;
        self.flush_at = None;
    }

    /// Drops at `at` everything that exists then.
    pub(crate) fn schedule_flush(&mut self, at: Time) {
        self.flush_at = Some(at);
    }

    /// The next unique number. The first is 1.
    pub(crate) fn next_cas(&mut self) -> u64 {
        self.cas_last += 1;
        self.cas_last
    }

    /// Unix time at `now`.
    pub(crate) fn unix_time(&self, now: Time) -> Duration {
        self.options.unix_time_at_zero + now.since(Time::ZERO)
    }

    /// The answer to every read, when this is a null server.
    pub(crate) fn null_value(&self) -> Option<&[u8]> {
        match self.options.mode {
            Mode::Store => None,
            Mode::Null { .. } => Some(&self.null_value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{End, Kind};

    fn expiring(bytes: &[u8], at_ns: u64) -> Value {
        let mut value = Value::from_bytes(bytes);
        value.expires = Some(Time::from_ns(at_ns));
        value
    }

    #[test]
    fn bytes_and_deadlines_return_to_zero_however_an_entry_ends() {
        let mut store = Store::new(StoreOptions::default());
        store.put(0, b"a", Value::from_bytes(b"12345"));
        store.put(0, b"a", expiring(b"1", 5));
        store.put(3, b"a", expiring(b"123", 7));
        store.put(0, b"l", Value::empty(Kind::List));
        store.edit(0, b"l", |list| list.push(End::Head, b"x"));
        assert_eq!((store.len(), store.deadlines.len()), (3, 2));
        store.drop_expired(Time::from_ns(5));
        assert_eq!((store.len(), store.deadlines.len()), (2, 1));
        store.set_expiry(3, b"a", None);
        store.drop_expired(Time::from_ns(100));
        assert_eq!((store.len(), store.deadlines.len()), (2, 0));
        assert!(store.remove(3, b"a"));
        store.edit(0, b"l", |list| list.pop(End::Head));
        assert_eq!((store.len(), store.bytes(), store.is_empty()), (0, 0, true));
    }

    #[test]
    fn a_checker_does_not_see_what_has_expired_or_was_flushed() {
        let mut store = Store::new(StoreOptions::default());
        store.put(0, b"a", expiring(b"1", 5));
        store.put(0, b"b", Value::from_bytes(b"2"));
        store.put(1, b"c", Value::from_bytes(b"3"));
        let bytes = |store: &Store, key: &[u8], now| {
            store.get(key, Time::from_ns(now)).and_then(|value| value.bytes().map(<[u8]>::to_vec))
        };
        assert_eq!(bytes(&store, b"a", 4), Some(b"1".to_vec()));
        assert_eq!(bytes(&store, b"a", 5), None);
        assert_eq!(bytes(&store, b"c", 0), None);
        store.schedule_flush(Time::from_ns(9));
        assert_eq!(bytes(&store, b"b", 8), Some(b"2".to_vec()));
        assert_eq!(bytes(&store, b"b", 9), None);
    }
}
