//! The command table of Redis: one row a command. Adding a command is adding a row. What a command
//! means is not known here, only what a proxy must know of it: how many arguments it takes, whether
//! it may change data, and where it goes. Invariant: each name occurs once, in lower case.

use crate::{Command, Tie};

/// Where a request of a command goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// To the owner of the argument of this index.
    Key(u8),
    /// To any server.
    Any,
    /// Each key to its owner. A key travels with the `step - 1` arguments that follow it.
    Split { step: u8, join: Joined },
    /// A script or function: its second argument is the count of keys, its third the first key.
    Script,
    /// Its first argument is the count of keys, its second the first key.
    Counted,
    /// Keys follow the word STREAMS.
    Streams,
    /// Its first argument is a subcommand, its second the key, if there is one.
    Subcommand,
    /// MEMORY: as `Subcommand`, but only USAGE and HELP are possible.
    Memory,
    /// SCRIPT: LOAD and EXISTS go to every server, since a script may run on any.
    Scripts,
    /// To every server.
    Everywhere { join: Joined },
    /// SCAN: to one server after the other, by the cursor.
    Scan,
    /// Its response may be long in coming, and its keys must have one owner.
    Waits(Keys),
    /// WATCH, MULTI and what ends them.
    Transaction(Tie),
    /// What changes the channels that a client listens to.
    Subscribe,
    /// To every server: it empties them.
    Flush,
    /// The proxy answers it itself.
    Own(Answer),
    /// The proxy says that it cannot do this.
    Refused,
}

/// Where the keys of a request that waits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// All arguments but the last, which is how long it waits.
    AllButLast,
    /// The first two arguments.
    FirstTwo,
    /// The second argument is their count, and they follow.
    CountedSecond,
}

/// How the responses to the parts of a split request become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joined {
    /// One element for each key.
    Array,
    /// The sum of integers.
    Sum,
    /// `+OK` when all are.
    AllOk,
    /// What all say alike; of arrays of 0 and 1, 1 where all have it.
    Agreed,
    /// One array of all elements.
    Chained,
    /// One of those that are there.
    AnyOf,
}

/// What the proxy answers itself; the functions are in `own.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Auth,
    Client,
    Cluster,
    Command,
    Config,
    Echo,
    Hello,
    Info,
    Ping,
    Quit,
    Reset,
    Select,
    /// UNSUBSCRIBE and its like, where there is no subscription.
    Unsubscribe,
}

/// A command, as this protocol's own modules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// In lower case.
    pub(crate) name: &'static str,
    /// Arguments with the name counted; when negative, at least so many.
    pub(crate) arity: i8,
    pub(crate) writes: bool,
    pub(crate) place: Place,
}

impl Row {
    /// Whether `count` arguments, the name counted, are a right number for this command.
    #[inline]
    pub(crate) fn takes(&self, count: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { count >= least } else { count == least }
    }
}

/// The table, as the rest of Weir sees it.
pub fn all() -> &'static [Command] {
    &COMMANDS
}

/// The index of a name, in any case, in [`all`] and `ROWS`.
#[inline]
pub(crate) fn find(name: &[u8]) -> Option<usize> {
    if name.is_empty() || name.len() > NAME_SIZE_MAX {
        return None;
    }
    let mut place = hash(name);
    loop {
        let index = INDEX[place];
        if index == NONE {
            return None;
        }
        if ROWS[index as usize].name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(index as usize);
        }
        place = (place + 1) % INDEX_COUNT;
    }
}

/// The rows, in the order of [`all`].
pub(crate) static ROWS: [Row; ROWS_COUNT] = TABLE;

static COMMANDS: [Command; ROWS_COUNT] = {
    const NONE: Command = Command { name: "", index: 0, writes: false, flushes: false };
    let mut commands = [NONE; ROWS_COUNT];
    let mut i = 0;
    while i < ROWS_COUNT {
        let Row { name, writes, place, .. } = TABLE[i];
        let flushes = matches!(place, Flush);
        commands[i] = Command { name, index: i as u16, writes, flushes };
        i += 1;
    }
    commands
};

const NAME_SIZE_MAX: usize = 24;

/// Four times as many places as rows: a look-up that finds something takes little more than one
/// comparison, and one that finds nothing mostly none.
const INDEX_COUNT: usize = 1024;
const _: () = assert!(ROWS_COUNT * 3 < INDEX_COUNT, "the index fills up");
const NONE: u16 = u16::MAX;

/// Indices of rows by the hash of their names; a place that is taken pushes on to the next.
static INDEX: [u16; INDEX_COUNT] = {
    let mut index = [NONE; INDEX_COUNT];
    let mut i = 0;
    while i < ROWS_COUNT {
        let name = TABLE[i].name.as_bytes();
        assert!(name.len() <= NAME_SIZE_MAX, "a name is longer than the limit");
        let mut place = hash(name);
        while index[place] != NONE {
            place = (place + 1) % INDEX_COUNT;
        }
        index[place] = i as u16;
        i += 1;
    }
    index
};

/// Of a name that is not empty. Four of its bytes tell the names of the table apart well enough;
/// setting bit 5 makes a lower-case letter of an upper-case one.
#[inline]
const fn hash(name: &[u8]) -> usize {
    let size = name.len();
    let first = (name[0] | 0x20) as u32;
    let second = (name[size / 3] | 0x20) as u32;
    let third = (name[size * 2 / 3] | 0x20) as u32;
    let last = (name[size - 1] | 0x20) as u32;
    let word = first | second << 8 | third << 16 | last << 24;
    (word.wrapping_add(size as u32 * 0x51).wrapping_mul(0x9E37_79B1) >> 22) as usize
}

const READ: bool = false;
const WRITE: bool = true;

const fn row(name: &'static str, arity: i8, writes: bool, place: Place) -> Row {
    Row { name, arity, writes, place }
}

use Place::{
    Any, Counted, Everywhere, Flush, Key, Memory, Own, Refused, Scan, Script, Scripts, Split,
    Streams, Subcommand, Subscribe, Transaction, Waits,
};

pub(super) const ROWS_COUNT: usize = 253;

/// Three notes. ZDIFF, ZINTER and ZUNION go to the owner of their first argument, which is the text
/// of the count of their keys: so does twemproxy, and data is where it put it. GEORADIUS, SORT and
/// the like may name a second key to store into; they go where their first key is. PFCOUNT may
/// store a count that it has worked out, but changes no data.
#[rustfmt::skip]
pub(super) const TABLE: [Row; ROWS_COUNT] = [
    // Answered here.
    row("asking", 1, READ, Own(Answer::Cluster)),
    row("auth", -2, READ, Own(Answer::Auth)),
    row("client", -2, READ, Own(Answer::Client)),
    row("cluster", -2, READ, Own(Answer::Cluster)),
    row("command", -1, READ, Own(Answer::Command)),
    row("config", -2, READ, Own(Answer::Config)),
    row("echo", 2, READ, Own(Answer::Echo)),
    row("hello", -1, READ, Own(Answer::Hello)),
    row("info", -1, READ, Own(Answer::Info)),
    row("ping", -1, READ, Own(Answer::Ping)),
    row("quit", -1, READ, Own(Answer::Quit)),
    row("readonly", 1, READ, Own(Answer::Cluster)),
    row("readwrite", 1, READ, Own(Answer::Cluster)),
    row("reset", 1, READ, Own(Answer::Reset)),
    row("select", 2, READ, Own(Answer::Select)),
    // Of many keys, each of which goes to its owner.
    row("del", -2, WRITE, Split { step: 1, join: Joined::Sum }),
    row("exists", -2, READ, Split { step: 1, join: Joined::Sum }),
    row("mget", -2, READ, Split { step: 1, join: Joined::Array }),
    row("mset", -3, WRITE, Split { step: 2, join: Joined::AllOk }),
    row("touch", -2, READ, Split { step: 1, join: Joined::Sum }),
    row("unlink", -2, WRITE, Split { step: 1, join: Joined::Sum }),
    // Of one key, or of several that all go where the first one is.
    row("append", 3, WRITE, Key(1)),
    row("bitcount", -2, READ, Key(1)),
    row("bitfield", -2, WRITE, Key(1)),
    row("bitfield_ro", -2, READ, Key(1)),
    row("bitpos", -3, READ, Key(1)),
    row("copy", -3, WRITE, Key(1)),
    row("decr", 2, WRITE, Key(1)),
    row("decrby", 3, WRITE, Key(1)),
    row("dump", 2, READ, Key(1)),
    row("expire", -3, WRITE, Key(1)),
    row("expireat", -3, WRITE, Key(1)),
    row("expiretime", 2, READ, Key(1)),
    row("geoadd", -5, WRITE, Key(1)),
    row("geodist", -4, READ, Key(1)),
    row("geohash", -2, READ, Key(1)),
    row("geopos", -2, READ, Key(1)),
    row("georadius", -6, WRITE, Key(1)),
    row("georadius_ro", -6, READ, Key(1)),
    row("georadiusbymember", -5, WRITE, Key(1)),
    row("georadiusbymember_ro", -5, READ, Key(1)),
    row("geosearch", -7, READ, Key(1)),
    row("geosearchstore", -8, WRITE, Key(1)),
    row("get", 2, READ, Key(1)),
    row("getbit", 3, READ, Key(1)),
    row("getdel", 2, WRITE, Key(1)),
    row("getex", -2, WRITE, Key(1)),
    row("getrange", 4, READ, Key(1)),
    row("getset", 3, WRITE, Key(1)),
    row("hdel", -3, WRITE, Key(1)),
    row("hexists", 3, READ, Key(1)),
    row("hget", 3, READ, Key(1)),
    row("hgetall", 2, READ, Key(1)),
    row("hincrby", 4, WRITE, Key(1)),
    row("hincrbyfloat", 4, WRITE, Key(1)),
    row("hkeys", 2, READ, Key(1)),
    row("hlen", 2, READ, Key(1)),
    row("hmget", -3, READ, Key(1)),
    row("hmset", -4, WRITE, Key(1)),
    row("hrandfield", -2, READ, Key(1)),
    row("hscan", -3, READ, Key(1)),
    row("hset", -4, WRITE, Key(1)),
    row("hsetnx", 4, WRITE, Key(1)),
    row("hstrlen", 3, READ, Key(1)),
    row("hvals", 2, READ, Key(1)),
    row("incr", 2, WRITE, Key(1)),
    row("incrby", 3, WRITE, Key(1)),
    row("incrbyfloat", 3, WRITE, Key(1)),
    row("lcs", -3, READ, Key(1)),
    row("lindex", 3, READ, Key(1)),
    row("linsert", 5, WRITE, Key(1)),
    row("llen", 2, READ, Key(1)),
    row("lmove", 5, WRITE, Key(1)),
    row("lpop", -2, WRITE, Key(1)),
    row("lpos", -3, READ, Key(1)),
    row("lpush", -3, WRITE, Key(1)),
    row("lpushx", -3, WRITE, Key(1)),
    row("lrange", 4, READ, Key(1)),
    row("lrem", 4, WRITE, Key(1)),
    row("lset", 4, WRITE, Key(1)),
    row("ltrim", 4, WRITE, Key(1)),
    row("move", 3, WRITE, Key(1)),
    row("msetnx", -3, WRITE, Key(1)),
    row("persist", 2, WRITE, Key(1)),
    row("pexpire", -3, WRITE, Key(1)),
    row("pexpireat", -3, WRITE, Key(1)),
    row("pexpiretime", 2, READ, Key(1)),
    row("pfadd", -2, WRITE, Key(1)),
    row("pfcount", -2, READ, Key(1)),
    row("pfmerge", -2, WRITE, Key(1)),
    row("psetex", 4, WRITE, Key(1)),
    row("pttl", 2, READ, Key(1)),
    row("rename", 3, WRITE, Key(1)),
    row("renamenx", 3, WRITE, Key(1)),
    row("restore", -4, WRITE, Key(1)),
    row("rpop", -2, WRITE, Key(1)),
    row("rpoplpush", 3, WRITE, Key(1)),
    row("rpush", -3, WRITE, Key(1)),
    row("rpushx", -3, WRITE, Key(1)),
    row("sadd", -3, WRITE, Key(1)),
    row("scard", 2, READ, Key(1)),
    row("sdiff", -2, READ, Key(1)),
    row("sdiffstore", -3, WRITE, Key(1)),
    row("set", -3, WRITE, Key(1)),
    row("setbit", 4, WRITE, Key(1)),
    row("setex", 4, WRITE, Key(1)),
    row("setnx", 3, WRITE, Key(1)),
    row("setrange", 4, WRITE, Key(1)),
    row("sinter", -2, READ, Key(1)),
    row("sinterstore", -3, WRITE, Key(1)),
    row("sismember", 3, READ, Key(1)),
    row("smembers", 2, READ, Key(1)),
    row("smismember", -3, READ, Key(1)),
    row("smove", 4, WRITE, Key(1)),
    row("sort", -2, WRITE, Key(1)),
    row("sort_ro", -2, READ, Key(1)),
    row("spop", -2, WRITE, Key(1)),
    row("srandmember", -2, READ, Key(1)),
    row("srem", -3, WRITE, Key(1)),
    row("sscan", -3, READ, Key(1)),
    row("strlen", 2, READ, Key(1)),
    row("substr", 4, READ, Key(1)),
    row("sunion", -2, READ, Key(1)),
    row("sunionstore", -3, WRITE, Key(1)),
    row("ttl", 2, READ, Key(1)),
    row("type", 2, READ, Key(1)),
    row("xack", -4, WRITE, Key(1)),
    row("xadd", -5, WRITE, Key(1)),
    row("xautoclaim", -6, WRITE, Key(1)),
    row("xclaim", -6, WRITE, Key(1)),
    row("xdel", -3, WRITE, Key(1)),
    row("xlen", 2, READ, Key(1)),
    row("xpending", -3, READ, Key(1)),
    row("xrange", -4, READ, Key(1)),
    row("xrevrange", -4, READ, Key(1)),
    row("xsetid", -3, WRITE, Key(1)),
    row("xtrim", -4, WRITE, Key(1)),
    row("zadd", -4, WRITE, Key(1)),
    row("zcard", 2, READ, Key(1)),
    row("zcount", 4, READ, Key(1)),
    row("zdiff", -3, READ, Key(1)),
    row("zdiffstore", -4, WRITE, Key(1)),
    row("zincrby", 4, WRITE, Key(1)),
    row("zinter", -3, READ, Key(1)),
    row("zinterstore", -4, WRITE, Key(1)),
    row("zlexcount", 4, READ, Key(1)),
    row("zmscore", -3, READ, Key(1)),
    row("zpopmax", -2, WRITE, Key(1)),
    row("zpopmin", -2, WRITE, Key(1)),
    row("zrandmember", -2, READ, Key(1)),
    row("zrange", -4, READ, Key(1)),
    row("zrangebylex", -4, READ, Key(1)),
    row("zrangebyscore", -4, READ, Key(1)),
    row("zrangestore", -5, WRITE, Key(1)),
    row("zrank", 3, READ, Key(1)),
    row("zrem", -3, WRITE, Key(1)),
    row("zremrangebylex", 4, WRITE, Key(1)),
    row("zremrangebyrank", 4, WRITE, Key(1)),
    row("zremrangebyscore", 4, WRITE, Key(1)),
    row("zrevrange", -4, READ, Key(1)),
    row("zrevrangebylex", -4, READ, Key(1)),
    row("zrevrangebyscore", -4, READ, Key(1)),
    row("zrevrank", 3, READ, Key(1)),
    row("zscan", -3, READ, Key(1)),
    row("zscore", 3, READ, Key(1)),
    row("zunion", -3, READ, Key(1)),
    row("zunionstore", -4, WRITE, Key(1)),
    // The same, of servers newer than 7.0.
    row("delifeq", 3, WRITE, Key(1)),
    row("hexpire", -6, WRITE, Key(1)),
    row("hexpireat", -6, WRITE, Key(1)),
    row("hexpiretime", -5, READ, Key(1)),
    row("hgetdel", -5, WRITE, Key(1)),
    row("hgetex", -5, WRITE, Key(1)),
    row("hpersist", -5, WRITE, Key(1)),
    row("hpexpire", -6, WRITE, Key(1)),
    row("hpexpireat", -6, WRITE, Key(1)),
    row("hpexpiretime", -5, READ, Key(1)),
    row("hpttl", -5, READ, Key(1)),
    row("hsetex", -6, WRITE, Key(1)),
    row("httl", -5, READ, Key(1)),
    // Whose key is found in another way, or who have none.
    row("bitop", -4, WRITE, Key(2)),
    row("eval", -3, WRITE, Script),
    row("eval_ro", -3, READ, Script),
    row("evalsha", -3, WRITE, Script),
    row("evalsha_ro", -3, READ, Script),
    row("fcall", -3, WRITE, Script),
    row("fcall_ro", -3, READ, Script),
    row("lmpop", -4, WRITE, Counted),
    row("lolwut", -1, READ, Any),
    row("memory", -2, READ, Memory),
    row("object", -2, READ, Subcommand),
    row("script", -2, READ, Scripts),
    row("sintercard", -3, READ, Counted),
    row("time", 1, READ, Any),
    row("xgroup", -2, WRITE, Subcommand),
    row("xinfo", -2, READ, Subcommand),
    row("xread", -4, READ, Streams),
    row("xreadgroup", -7, WRITE, Streams),
    row("zintercard", -3, READ, Counted),
    row("zmpop", -4, WRITE, Counted),
    // Of the data of all servers.
    row("dbsize", 1, READ, Everywhere { join: Joined::Sum }),
    row("keys", 2, READ, Everywhere { join: Joined::Chained }),
    row("randomkey", 1, READ, Everywhere { join: Joined::AnyOf }),
    row("scan", -2, READ, Scan),
    // About channels, all of which live on one server.
    row("publish", 3, WRITE, Any),
    row("pubsub", -2, READ, Any),
    row("spublish", 3, WRITE, Any),
    // On a connection of the client's own.
    row("blmove", 6, WRITE, Waits(Keys::FirstTwo)),
    row("blmpop", -5, WRITE, Waits(Keys::CountedSecond)),
    row("blpop", -3, WRITE, Waits(Keys::AllButLast)),
    row("brpop", -3, WRITE, Waits(Keys::AllButLast)),
    row("brpoplpush", 4, WRITE, Waits(Keys::FirstTwo)),
    row("bzmpop", -5, WRITE, Waits(Keys::CountedSecond)),
    row("bzpopmax", -3, WRITE, Waits(Keys::AllButLast)),
    row("bzpopmin", -3, WRITE, Waits(Keys::AllButLast)),
    row("discard", 1, READ, Transaction(Tie::Aborts)),
    row("exec", 1, READ, Transaction(Tie::Commits)),
    row("multi", 1, READ, Transaction(Tie::Begins)),
    row("unwatch", 1, READ, Transaction(Tie::Unwatches)),
    row("watch", -2, READ, Transaction(Tie::Watches)),
    row("psubscribe", -2, READ, Subscribe),
    row("punsubscribe", -1, READ, Subscribe),
    row("ssubscribe", -2, READ, Subscribe),
    row("subscribe", -2, READ, Subscribe),
    row("sunsubscribe", -1, READ, Subscribe),
    row("unsubscribe", -1, READ, Subscribe),
    // Not possible on a connection that many clients share, or of more than one server.
    row("acl", -2, READ, Refused),
    row("bgrewriteaof", 1, READ, Refused),
    row("bgsave", -1, READ, Refused),
    row("debug", -2, READ, Refused),
    row("failover", -1, READ, Refused),
    row("flushall", -1, WRITE, Flush),
    row("flushdb", -1, WRITE, Flush),
    row("function", -2, READ, Refused),
    row("lastsave", 1, READ, Refused),
    row("latency", -2, READ, Refused),
    row("migrate", -6, WRITE, Refused),
    row("module", -2, READ, Refused),
    row("monitor", 1, READ, Refused),
    row("pfdebug", 3, WRITE, Refused),
    row("pfselftest", 1, READ, Refused),
    row("psync", -3, READ, Refused),
    row("replconf", -1, READ, Refused),
    row("replicaof", 3, READ, Refused),
    row("restore-asking", -4, WRITE, Refused),
    row("role", 1, READ, Refused),
    row("save", 1, READ, Refused),
    row("shutdown", -1, READ, Refused),
    row("slaveof", 3, READ, Refused),
    row("slowlog", -2, READ, Refused),
    row("swapdb", 3, WRITE, Refused),
    row("sync", 1, READ, Refused),
    row("wait", 3, READ, Refused),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_found_by_its_name_in_any_case() {
        for (i, row) in ROWS.iter().enumerate() {
            assert_eq!(find(row.name.as_bytes()), Some(i), "{}", row.name);
            assert_eq!(find(row.name.to_uppercase().as_bytes()), Some(i), "{}", row.name);
            let odd_upper = |(i, c): (usize, char)| match i % 2 {
                0 => c,
                _ => c.to_ascii_uppercase(),
            };
            let mixed: String = row.name.chars().enumerate().map(odd_upper).collect();
            assert_eq!(find(mixed.as_bytes()), Some(i), "{}", row.name);
            assert_eq!(row.name, row.name.to_lowercase());
            assert_eq!((all()[i].name, all()[i].index as usize), (row.name, i));
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_not_found() {
        for name in ["", "g", "gett", "ge\0t", "get ", " get", "nosuchcmd", "zzzzzzzzzzzzzzzzzzzz"]
        {
            assert_eq!(find(name.as_bytes()), None, "{name:?}");
        }
        assert_eq!(find(&[b'a'; 100_000]), None);
        // These differ from names in bit 5 of a byte that is not a letter.
        assert_eq!(find(b"eval\x7fro"), None);
        assert_eq!(find(b"restore\x0dasking"), None);
    }

    #[test]
    fn the_commonest_names_are_found_at_the_first_place() {
        for name in ["get", "set", "mget", "del", "incr", "expire", "hget", "hset", "lpush"] {
            let index = INDEX[hash(name.as_bytes())] as usize;
            assert_eq!(ROWS.get(index).map(|row| row.name), Some(name));
        }
    }

    #[test]
    fn arity_is_checked_as_the_server_does() {
        for (name, good, bad) in [
            ("get", &[2][..], &[1, 3][..]),
            ("set", &[3, 4, 9], &[1, 2]),
            ("mset", &[3, 4, 5], &[1, 2]),
            ("ping", &[1, 2], &[]),
            ("xadd", &[5, 6], &[4]),
            ("linsert", &[5], &[4, 6]),
        ] {
            let row = &ROWS[find(name.as_bytes()).expect("it is in the table")];
            for &count in good {
                assert!(row.takes(count), "{name} {count}");
            }
            for &count in bad {
                assert!(!row.takes(count), "{name} {count}");
            }
        }
    }

    #[test]
    fn a_key_that_a_row_names_is_among_the_arguments_that_it_must_have() {
        for row in &ROWS {
            let needed = match row.place {
                Key(index) => index as usize + 1,
                Split { step, .. } => step as usize + 1,
                Script | Counted => 3,
                Subcommand | Memory | Scripts | Scan => 2,
                Waits(Keys::AllButLast | Keys::FirstTwo) => 3,
                Waits(Keys::CountedSecond) => 4,
                _ => 1,
            };
            assert!(row.arity.unsigned_abs() as usize >= needed, "{}", row.name);
        }
    }

    #[test]
    fn nothing_that_twemproxy_serves_is_refused() {
        let names = "ping quit command persist pttl ttl type dump decr get getdel incr strlen \
            hgetall hkeys hlen hvals llen scard smembers zcard auth expire expireat pexpire \
            pexpireat append decrby getbit getset incrby incrbyfloat setnx hexists hget hstrlen \
            lindex rpoplpush sismember zrank zrevrank zscore move getrange psetex setbit setex \
            setrange hincrby hincrbyfloat hsetnx lrange lrem lset ltrim smove zcount zlexcount \
            zincrby zremrangebylex zremrangebyrank zremrangebyscore linsert lmove sort copy \
            bitcount bitpos bitfield exists getex set hdel hmget hmset hscan hset hrandfield lpush \
            lpushx rpush rpushx lpop rpop lpos sadd sdiff sdiffstore sinter sinterstore srem \
            sunion sunionstore srandmember sscan spop smismember pfadd pfmerge pfcount zadd zdiff \
            zdiffstore zinter zinterstore zmscore zpopmax zpopmin zrandmember zrange zrangebylex \
            zrangebyscore zrangestore zrem zrevrange zrevrangebylex zrevrangebyscore zscan zunion \
            zunionstore geodist geopos geohash geoadd georadius georadiusbymember geosearch \
            geosearchstore restore mget del unlink touch mset eval evalsha lolwut";
        assert_eq!(names.split_whitespace().count(), 137);
        for name in names.split_whitespace() {
            let index = find(name.as_bytes()).unwrap_or_else(|| panic!("{name} is missing"));
            assert_ne!(ROWS[index].place, Refused, "{name}");
        }
    }
}
