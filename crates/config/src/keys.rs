//! The keys of a pool, one row a key: unit, range, default and reason. To add a key, add a row.
//!
//! The rows are what `check` reads values with, what a misspelt key is compared with, and what
//! the reference is made of. Invariant: a pool that gives every key its default is equal
//! to `PoolOptions::new` (a test loads the reference to prove it).

use std::time::Duration;

use protocol::Protocol;
use proxy::options::PoolOptions;
use routing::{DistributionKind, HashKind, HashTag};

/// One key of a pool.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Default,
    /// What it is; ends without a full stop.
    pub(crate) doc: &'static str,
    /// Why the default is what it is.
    pub(crate) reason: &'static str,
}

/// What a value must be, and where it goes.
pub(crate) enum Kind {
    /// The address of the pool; read by `check`, because a pool can't be without it.
    Listen,
    /// The list of servers; read by `check` for the same reason.
    Servers,
    /// `true` or `false`.
    Flag(fn(&mut PoolOptions, bool)),
    /// Decimal digits.
    Number { unit: Option<&'static str>, min: u64, max: u64, set: fn(&mut PoolOptions, u64) },
    /// One of several words; `set` says whether it is.
    OneOf { names: fn() -> Vec<&'static str>, set: fn(&mut PoolOptions, &str) -> bool },
    /// A text; `set` says whether it is one that `form` describes.
    Text { form: &'static str, set: fn(&mut PoolOptions, &str) -> bool },
}

/// What holds when the key is not there.
pub(crate) enum Default {
    /// It must be there, for example like this.
    Required(&'static str),
    /// The value, as it would be typed.
    Value(&'static str),
    /// No value says the same. What it means, and an example of a value.
    Absent { meaning: &'static str, example: &'static str },
}

/// twemproxy's largest number.
const NUMBER_MAX: u64 = i32::MAX as u64;
const HOUR_MS: u64 = 3_600_000;
const OUTPUT_MAX_BYTES: u64 = 64 << 30;

/// twemproxy's keys.
pub(crate) const TWEMPROXY_ROWS: &[Row] = &[
    Row {
        name: "listen",
        kind: Kind::Listen,
        default: Default::Required("127.0.0.1:22121"),
        doc: "where clients connect; a host's name is looked up once, when the file is loaded",
        reason: "there is no address that would suit everybody",
    },
    Row {
        name: "redis",
        kind: Kind::Flag(|pool, on| {
            pool.protocol = if on { Protocol::Redis } else { Protocol::Memcache };
        }),
        default: Default::Value("false"),
        doc: "what clients and servers speak: true is Redis' protocol, false memcached's text one",
        reason: "as in twemproxy",
    },
    Row {
        name: "hash",
        kind: Kind::OneOf {
            names: || HashKind::ALL.iter().map(|kind| kind.name()).collect(),
            set: |pool, text| assign(&mut pool.hash, HashKind::from_name(text)),
        },
        default: Default::Value("fnv1a_64"),
        doc: "how a key becomes a number",
        reason: "as in twemproxy; another one places every key anew",
    },
    Row {
        name: "distribution",
        kind: Kind::OneOf {
            names: || DistributionKind::ALL.iter().map(|kind| kind.name()).collect(),
            set: |pool, text| assign(&mut pool.distribution, DistributionKind::from_name(text)),
        },
        default: Default::Value("ketama"),
        doc: "how that number becomes a server",
        reason: "as in twemproxy; a server more or less moves only its share of the keys",
    },
    Row {
        name: "hash_tag",
        kind: Kind::Text {
            form: "exactly two bytes, such as \"{}\"",
            set: |pool, text| assign(&mut pool.hash_tag, hash_tag(text).map(Some)),
        },
        default: Default::Absent { meaning: "the whole key is hashed", example: "\"{}\"" },
        doc: "hash only the part of a key between these two bytes, which keeps keys together",
        reason: "as in twemproxy",
    },
    Row {
        name: "timeout",
        kind: Kind::Number {
            unit: Some("ms"),
            min: 0,
            max: HOUR_MS,
            set: |pool, ms| pool.request_timeout = duration_or_none(ms),
        },
        default: Default::Value("0"),
        doc: "how long a request may wait for its response, connecting included; 0 is for ever",
        reason: "as in twemproxy; set it, because a silent server holds its clients otherwise",
    },
    Row {
        name: "backlog",
        kind: Kind::Number {
            unit: Some("connections"),
            min: 0,
            max: 65_535,
            set: |pool, count| pool.listen.backlog = to_u32(count),
        },
        default: Default::Value("512"),
        doc: "connections that the kernel holds for each worker until they are accepted",
        reason: "as in twemproxy",
    },
    Row {
        name: "client_connections",
        kind: Kind::Number {
            unit: Some("connections"),
            min: 0,
            max: NUMBER_MAX,
            set: |pool, count| pool.client_connections_max = to_u32(count),
        },
        default: Default::Value("0"),
        doc: "clients of this pool in the whole process; those beyond it are closed at once; 0 is \
              no limit",
        reason: "as in twemproxy, where the key has no effect",
    },
    Row {
        name: "tcpkeepalive",
        kind: Kind::Flag(|pool, on| pool.listen.keepalive = on),
        default: Default::Value("false"),
        doc: "whether the kernel probes idle client connections",
        reason: "as in twemproxy",
    },
    Row {
        name: "reuseport",
        kind: Kind::Flag(|_, _| ()),
        default: Default::Value("false"),
        doc: "accepted, without effect: each worker has a listener of its own in any case",
        reason: "as in twemproxy",
    },
    Row {
        name: "redis_auth",
        kind: Kind::Text {
            form: "a password",
            set: |pool, text| assign(&mut pool.password, Some(Some(text.as_bytes().to_vec()))),
        },
        default: Default::Absent { meaning: "no password", example: "\"a password\"" },
        doc: "what clients must, and servers are, told first; only with redis: true",
        reason: "as in twemproxy",
    },
    Row {
        name: "redis_db",
        kind: Kind::Number {
            unit: None,
            min: 0,
            max: NUMBER_MAX,
            set: |pool, number| pool.database = to_u32(number),
        },
        default: Default::Value("0"),
        doc: "the database selected on each server connection; without effect unless redis: true",
        reason: "as in twemproxy; a new connection starts with database 0",
    },
    Row {
        name: "preconnect",
        kind: Kind::Flag(|pool, on| pool.preconnect = on),
        default: Default::Value("false"),
        doc: "open the server connections at start instead of with the first request",
        reason: "as in twemproxy",
    },
    Row {
        name: "auto_eject_hosts",
        kind: Kind::Flag(|pool, on| pool.health.eject = on),
        default: Default::Value("false"),
        doc: "whether a failing server's keys go to the others until it answers a probe",
        reason: "as in twemproxy; wrong for a store, right for a cache",
    },
    Row {
        name: "server_connections",
        kind: Kind::Number {
            unit: Some("connections"),
            min: 1,
            max: 64,
            set: |pool, count| pool.server_connections_per_worker = to_u32(count),
        },
        default: Default::Value("1"),
        doc: "connections that each worker opens to each server",
        reason: "one pipelined connection carries more requests a system call than several do",
    },
    Row {
        name: "server_retry_timeout",
        kind: Kind::Number {
            unit: Some("ms"),
            min: 0,
            max: NUMBER_MAX,
            set: |pool, ms| pool.health.retry_timeout = Duration::from_millis(ms),
        },
        default: Default::Value("30000"),
        doc: "how long an ejected server is left alone; then it is probed, and stays out as long \
              again unless it answers; only with auto_eject_hosts: true",
        reason: "as in twemproxy",
    },
    Row {
        name: "server_failure_limit",
        kind: Kind::Number {
            unit: Some("failures"),
            min: 0,
            max: NUMBER_MAX,
            // twemproxy counts a failure before it compares, so that 0 acts as 1.
            set: |pool, count| pool.health.failure_limit = to_u32(count.max(1)),
        },
        default: Default::Value("2"),
        doc: "failures in a row after which a server is ejected; 0 is taken for 1; only with \
              auto_eject_hosts: true",
        reason: "as in twemproxy; a single failure may be chance",
    },
    Row {
        name: "servers",
        kind: Kind::Servers,
        default: Default::Required("127.0.0.1:11211:1"),
        doc: "the upstream nodes",
        reason: "there is nothing to forward to without one",
    },
];

/// Weir's own keys: what twemproxy has no key for. Each has its unit in its name.
pub(crate) const OWN_ROWS: &[Row] = &[
    Row {
        name: "connect_timeout_ms",
        kind: Kind::Number {
            unit: Some("ms"),
            min: 1,
            max: HOUR_MS,
            set: |pool, ms| pool.connect_timeout = Duration::from_millis(ms),
        },
        default: Default::Value("5000"),
        doc: "how long a connection to a server may take to open",
        reason: "time for three SYNs: at once, after 1 s and after 3 s",
    },
    Row {
        name: "client_requests_inflight_max",
        kind: Kind::Number {
            unit: Some("requests"),
            min: 1,
            max: 1_000_000,
            set: |pool, count| pool.client_requests_inflight_max = to_u32(count),
        },
        default: Default::Value("1024"),
        doc: "requests of one client that may be on their way; at the limit no more of its bytes \
              are parsed",
        reason: "deep enough for a batch, too shallow for one client to fill a server's queue",
    },
    Row {
        name: "client_output_high_water_bytes",
        kind: Kind::Number {
            unit: Some("bytes"),
            min: 1,
            max: OUTPUT_MAX_BYTES,
            set: |pool, size| pool.client_output_high_water = to_usize(size),
        },
        default: Default::Value("1048576"),
        doc: "bytes of replies that wait for one client before no more of its bytes are parsed; at \
              most client_output_max_bytes",
        reason: "1 MiB keeps a fast client busy for longer than a server needs to answer",
    },
    Row {
        name: "client_output_max_bytes",
        kind: Kind::Number {
            unit: Some("bytes"),
            min: 1,
            max: OUTPUT_MAX_BYTES,
            set: |pool, size| pool.client_output_max = to_usize(size),
        },
        default: Default::Value("268435456"),
        doc: "bytes of replies that wait for one client before it is closed",
        reason: "256 MiB: the default of its requests in flight, times 256 KiB",
    },
    Row {
        name: "client_stall_timeout_ms",
        kind: Kind::Number {
            unit: Some("ms"),
            min: 0,
            max: HOUR_MS,
            set: |pool, ms| pool.client_stall_timeout = duration_or_none(ms),
        },
        default: Default::Value("60000"),
        doc: "how long a client may leave a request half sent before it is closed; 0 is for ever",
        reason: "a client that sends nothing for a minute in the middle of a request is gone",
    },
    Row {
        name: "allow_flush",
        kind: Kind::Flag(|pool, on| pool.allow_flush = on),
        default: Default::Value("false"),
        doc: "whether clients may empty every server of the pool: FLUSHALL and FLUSHDB of Redis, \
              flush_all of memcached; with false they get an error",
        reason: "the servers are everybody's, and one command of one client empties all of them",
    },
    Row {
        name: "slow_threshold_ms",
        kind: Kind::Number {
            unit: Some("ms"),
            min: 0,
            max: HOUR_MS,
            set: |pool, ms| pool.slow_threshold = duration_or_none(ms),
        },
        default: Default::Value("0"),
        doc: "requests that take so long are remembered, the last 128 of each worker, for \
              `weir ctl slowlog`; 0 is never",
        reason: "what is slow differs from pool to pool",
    },
    Row {
        name: "server_requests_inflight_max",
        kind: Kind::Number {
            unit: Some("requests"),
            min: 1,
            max: 1_000_000,
            set: |pool, count| pool.server_requests_inflight_max = to_u32(count),
        },
        default: Default::Value("65536"),
        doc: "requests that one server connection may owe; those beyond it fail at once",
        reason: "more than a healthy server ever owes; bounds what a stuck one holds in memory",
    },
    Row {
        name: "dedicated_connections_max",
        kind: Kind::Number {
            unit: Some("connections"),
            min: 0,
            max: 1_000_000,
            set: |pool, count| pool.dedicated_connections_max = to_u32(count),
        },
        default: Default::Value("1024"),
        doc: "connections of each worker that belong to one client at a time: for blocking \
              commands, transactions and subscriptions; beyond it these fail at once",
        reason: "many clients that wait, and far below what a server accepts",
    },
    Row {
        name: "request_size_max_bytes",
        kind: Kind::Number {
            unit: Some("bytes"),
            min: 1024,
            max: 1 << 30,
            set: |pool, size| pool.limits.request_size_max = to_usize(size),
        },
        default: Default::Value("536870912"),
        doc: "the size of a whole request",
        reason: "512 MiB: Redis' largest value",
    },
    Row {
        name: "response_size_max_bytes",
        kind: Kind::Number {
            unit: Some("bytes"),
            min: 1024,
            max: (4 << 30) - 1,
            set: |pool, size| pool.limits.response_size_max = to_usize(size),
        },
        default: Default::Value("1073741824"),
        doc: "the size of a whole response",
        reason: "1 GiB: twice the largest value, since a response may hold several",
    },
    Row {
        name: "arguments_max",
        kind: Kind::Number {
            unit: Some("arguments"),
            min: 16,
            max: 1 << 24,
            set: |pool, count| pool.limits.arguments_max = to_usize(count),
        },
        default: Default::Value("1048576"),
        doc: "arguments, or keys, of one request",
        reason: "1,048,576: Redis' own limit",
    },
];

fn rows() -> impl Iterator<Item = &'static Row> {
    TWEMPROXY_ROWS.iter().chain(OWN_ROWS)
}

/// The row of a key.
pub(crate) fn row(name: &str) -> Option<&'static Row> {
    rows().find(|row| row.name == name)
}

/// The key that somebody who typed `name` most likely meant.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    // A longer text is not a misspelt key, and comparing it would take long.
    const SIZE_MAX: usize = 48;
    if name.len() > SIZE_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase().replace('-', "_");
    let distances = rows().map(|row| (edit_distance(name.as_bytes(), row.name.as_bytes()), row));
    let (distance, row) = distances.min_by_key(|(distance, _)| *distance)?;
    // Two letters wrong in a short key, one in three in a long one.
    (distance <= (row.name.len() / 3).max(2)).then_some(row.name)
}

/// How many bytes must be put in, left out or changed to make one text of the other.
fn edit_distance(left: &[u8], right: &[u8]) -> usize {
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut current = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let changed = previous[j] + usize::from(a != b);
            current.push(changed.min(previous[j + 1] + 1).min(current[j] + 1));
        }
        previous = current;
    }
    previous[right.len()]
}

impl Kind {
    /// The unit of a number, if it has one.
    pub(crate) fn unit(&self) -> Option<&'static str> {
        match self {
            Kind::Number { unit, .. } => *unit,
            _ => None,
        }
    }

    /// Which values there are, without the unit.
    pub(crate) fn range(&self) -> String {
        match self {
            Kind::Listen => LISTEN_FORM.to_owned(),
            Kind::Servers => format!("a list of {SERVER_FORM}"),
            Kind::Flag(_) => "true or false".to_owned(),
            Kind::Number { min, max, .. } => format!("{min} to {max}"),
            Kind::OneOf { names, .. } => format!("one of {}", names().join(", ")),
            Kind::Text { form, .. } => (*form).to_owned(),
        }
    }

    /// What a value must look like.
    pub(crate) fn form(&self) -> String {
        match self {
            Kind::Number { unit: Some(unit), .. } => {
                format!("a whole number of {unit}, {}", self.range())
            }
            Kind::Number { unit: None, .. } => format!("a whole number, {}", self.range()),
            _ => self.range(),
        }
    }
}

/// What a pool's address looks like.
pub(crate) const LISTEN_FORM: &str =
    "host:port, or /path of a unix socket, which may be followed by its octal mode (0000 to 0777)";

/// What an entry of `servers` looks like.
pub(crate) const SERVER_FORM: &str =
    "host:port:weight or /path:weight, which may be followed by a name";

fn assign<T>(place: &mut T, value: Option<T>) -> bool {
    let Some(value) = value else { return false };
    *place = value;
    true
}

fn hash_tag(text: &str) -> Option<HashTag> {
    match *text.as_bytes() {
        [left, right] => Some(HashTag::new(left, right)),
        _ => None,
    }
}

fn duration_or_none(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}

fn to_u32(number: u64) -> u32 {
    u32::try_from(number).expect("the row's range lies within u32")
}

fn to_usize(number: u64) -> usize {
    // Only where a pointer has 32 bits can a size of the range be larger than all memory.
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy::options::{ServerAddress, ServerOptions};

    fn pool() -> PoolOptions {
        let address = ServerAddress::Unix("/s".into());
        let server = ServerOptions { name: "s".to_owned(), address, weight: 1 };
        let address = base::Address::Unix("/p".into());
        PoolOptions::new("p", Protocol::Memcache, address, vec![server])
    }

    #[test]
    fn both_ends_of_every_range_are_right_for_the_proxy() {
        for row in rows() {
            let Kind::Number { min, max, set, .. } = row.kind else { continue };
            for number in [min, max] {
                let mut pool = pool();
                match row.name {
                    "client_output_high_water_bytes" => pool.client_output_max = usize::MAX,
                    "client_output_max_bytes" => pool.client_output_high_water = 1,
                    _ => {}
                }
                set(&mut pool, number);
                assert_eq!(pool.validate(), Vec::<String>::new(), "{} {number}", row.name);
            }
        }
    }

    #[test]
    fn every_number_has_an_effect() {
        for row in rows() {
            let Kind::Number { min, max, set, .. } = row.kind else { continue };
            let (mut low, mut high) = (pool(), pool());
            set(&mut low, min);
            set(&mut high, max);
            assert!(low != high, "{} has no effect", row.name);
        }
    }

    #[test]
    fn keys_are_named_once_and_explained() {
        let mut names: Vec<&str> = rows().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rows().count());
        for row in rows() {
            assert!(!row.doc.is_empty() && !row.reason.is_empty(), "{}", row.name);
            assert!(row.doc.starts_with(|c: char| c.is_ascii()), "{}", row.name);
        }
    }

    #[test]
    fn a_key_with_one_letter_left_out_or_too_many_is_recognised() {
        for row in rows() {
            for at in 0..row.name.len() {
                let left_out = format!("{}{}", &row.name[..at], &row.name[at + 1..]);
                assert_eq!(nearest(&left_out), Some(row.name), "{left_out}");
                let too_many = format!("{}x{}", &row.name[..at], &row.name[at..]);
                assert_eq!(nearest(&too_many), Some(row.name), "{too_many}");
            }
            assert_eq!(nearest(&row.name.to_uppercase().replace('_', "-")), Some(row.name));
        }
        for unlike in ["", "x", "workers", "tls_certificate", &"hash".repeat(1000)] {
            assert_eq!(nearest(unlike), None, "{unlike}");
        }
    }

    #[test]
    fn distances_of_edits() {
        let table = [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abd", 1),
            ("kitten", "sitting", 3),
            ("hash", "hsah", 2),
        ];
        for (left, right, distance) in table {
            assert_eq!(edit_distance(left.as_bytes(), right.as_bytes()), distance);
        }
    }
}
