//! Conversations with a Redis pool: what clients say, and the row of `docs/compatibility.md` that
//! says how Weir answers otherwise than twemproxy; none where both must answer alike. Not what is
//! answered. Keys `k0` to `k9` are of one server, `k10` to `k19` of the other.

use super::State::{Full, Healthy, Protected, ReadOnly, Refusing};
use super::{Row, State};

/// Requests of words, separated by bars.
#[rustfmt::skip]
const SAID: &[Row] = &[
    // Strings.
    ("SET k0 one | GET k0 | STRLEN k0 | GET k10", ""),
    ("set k0 one | gEt k0", ""),
    ("SET k0 a XX | SET k0 a NX | SET k0 c XX GET | SET k0 d EX 100 KEEPTTL", ""),
    ("SET k0", ""),
    ("SET k0  | GET k0 | SET  x | GET ", ""),
    ("APPEND k0 abc | APPEND k0 def | GETRANGE k0 1 -2 | SETRANGE k0 8 x | GET k0", ""),
    ("INCR k0 | INCRBY k0 41 | DECR k0 | DECRBY k0 100 | INCRBYFLOAT k0 0.5 | INCR k0", ""),
    ("SETNX k0 a | SETNX k0 b | GETSET k0 c | GETEX k0 | GETDEL k0 | GETDEL k0", ""),
    ("SETEX k0 100 v | PSETEX k1 100000 v | GET k0 | GET k1 | SETEX k0 0 v", ""),
    ("SETBIT k0 7 1 | GETBIT k0 7 | BITCOUNT k0 | BITPOS k0 1 | BITFIELD k0 GET u8 0", ""),
    ("PFADD k0 a b | PFCOUNT k0 | PFADD k1 c | PFMERGE k0 k1 | PFCOUNT k0", ""),
    // Keys.
    ("TYPE k0 | SET k0 a | TYPE k0 | DUMP k0 | DUMP k1 | COPY k0 k1 | GET k1", ""),
    ("SET k0 a | EXPIRE k0 100 | PERSIST k0 | TTL k0 | PTTL k0 | TTL k1", ""),
    ("SET k0 a | EXPIREAT k0 9999999999 | PEXPIREAT k0 9999999999999 | PEXPIRE k0 99999", ""),
    ("SET k0 a | EXPIREAT k0 1 | EXISTS k0 | RESTORE k0 0 nonsense", ""),
    ("RPUSH k0 3 1 2 | SORT k0 | SORT k0 DESC LIMIT 0 1", ""),
    // Lists.
    ("LPUSH k0 a b | RPUSH k0 c | LLEN k0 | LRANGE k0 0 -1 | LINDEX k0 1 | LPUSHX k1 a", ""),
    ("RPUSH k0 a b c | LINSERT k0 BEFORE b x | LSET k0 0 y | LREM k0 1 b | LTRIM k0 0 1", ""),
    ("RPUSH k0 a b c | LPOP k0 | RPOP k0 | LPOP k0 5 | RPUSHX k0 a | LPOS k0 a", ""),
    ("RPUSH k0 a b c | RPOPLPUSH k0 k1 | LMOVE k0 k1 LEFT RIGHT | LRANGE k1 0 -1", ""),
    // Sets.
    ("SADD k0 a b | SADD k1 b c | SCARD k0 | SISMEMBER k0 a | SMISMEMBER k0 a c", ""),
    ("SADD k0 a | SMEMBERS k0 | SRANDMEMBER k0 | SMOVE k0 k1 a | SPOP k1 | SREM k1 a", ""),
    ("SADD k0 a b | SADD k1 b | SINTER k0 k1 | SDIFF k0 k1 | SUNION k1 k10", ""),
    ("SADD k0 a b | SADD k1 b | SINTERSTORE k2 k0 k1 | SDIFFSTORE k2 k0 k1 | SSCAN k2 0", ""),
    ("SADD k0 a | SUNIONSTORE k1 k0 | SMEMBERS k1 | SUNIONSTORE k1 k10", ""),
    // Hashes.
    ("HSET k0 f v g 1 | HGET k0 f | HGETALL k0 | HKEYS k0 | HVALS k0 | HLEN k0", ""),
    ("HMSET k0 f v | HMGET k0 f g | HEXISTS k0 f | HSTRLEN k0 f | HSETNX k0 f w | HDEL k0 f", ""),
    ("HINCRBY k0 f 2 | HINCRBYFLOAT k0 f 0.5 | HSCAN k0 0 | HRANDFIELD k0", ""),
    // Sorted sets.
    ("ZADD k0 1 a 2 b 3 c | ZCARD k0 | ZSCORE k0 b | ZRANK k0 b | ZREVRANK k0 b", ""),
    ("ZADD k0 1 a 2 b | ZRANGE k0 0 -1 WITHSCORES | ZREVRANGE k0 0 -1 | ZCOUNT k0 1 2", ""),
    ("ZADD k0 0 a 0 b | ZRANGEBYLEX k0 - + | ZREVRANGEBYLEX k0 + - | ZLEXCOUNT k0 - +", ""),
    ("ZADD k0 1 a 2 b | ZRANGEBYSCORE k0 1 2 | ZREVRANGEBYSCORE k0 2 1 | ZINCRBY k0 5 a", ""),
    ("ZADD k0 1 a 2 b 3 c | ZPOPMIN k0 | ZPOPMAX k0 | ZRANDMEMBER k0 | ZMSCORE k0 a b", ""),
    ("ZADD k0 1 a 2 b | ZREM k0 a | ZREMRANGEBYSCORE k0 5 6 | ZREMRANGEBYRANK k0 5 6", ""),
    ("ZADD k0 0 a | ZREMRANGEBYLEX k0 [b [c | ZSCAN k0 0 | ZRANGESTORE k1 k0 0 -1", ""),
    ("ZADD k0 1 a | ZADD k1 2 a | ZUNIONSTORE k2 2 k0 k1 | ZINTERSTORE k2 2 k0 k1", ""),
    ("ZADD k0 1 a | ZDIFFSTORE k2 2 k0 k1 | ZRANGE k2 0 -1", ""),
    ("ZADD k0 1 a | ZUNION 1 k0 | ZINTER 1 k0 | ZDIFF 1 k0", ""),
    ("ZADD k10 1 a | ZUNION 1 k10 | ZINTER 1 k10 | ZDIFF 1 k10", ""),
    // Places.
    ("GEOADD k0 13.36 38.11 a 15.08 37.50 b | GEODIST k0 a b | GEOHASH k0 a | GEOPOS k0 a", ""),
    ("GEOADD k0 13.36 38.11 a | GEORADIUS k0 15 37 200 km | GEORADIUSBYMEMBER k0 a 9 km", ""),
    ("GEOADD k0 13.36 38.11 a | GEOSEARCH k0 FROMMEMBER a BYRADIUS 9 km | \
      GEOSEARCHSTORE k1 k0 FROMMEMBER a BYRADIUS 9 km", ""),
    // Scripts.
    ("EVAL return(KEYS[1]) 1 k0 | EVAL return(ARGV[1]) 1 k10 x | EVALSHA ffff 1 k0", ""),
    ("EVAL return(KEYS[1]) 1 k0 extra more | EVAL return{1,2,{3}} 1 k0 | EVAL bad( 1 k0", ""),
    ("EVAL return(1) 0", "D7"),
    ("EVAL return(1) 0 argument", "D7"),
    ("EVAL return(1) -1 k0", "D7"),
    ("EVAL return(1) x k0", "D7"),
    ("EVAL return(1) 2 k0", ""),
    // Several keys, each to its owner.
    ("MSET k0 a k10 b k1 c | MGET k0 k10 k1 k11 k0 | MGET k10 | MGET k0 k1", ""),
    ("MSET k0 a k10 b | DEL k0 k10 k1 k11 | DEL k0 | UNLINK k0 k10 | TOUCH k0 k10", ""),
    ("MSET k0 a k10 b | TOUCH k0 k10 k1 | UNLINK k0 k10 | MGET k0 k10", ""),
    ("RPUSH k0 a | SET k10 b | MGET k0 k10", ""),
    ("MSET k0 a k10", "D2"),
    ("SET k0 a | EXISTS k0 | EXISTS k0 k0 k1", ""),
    ("SET k0 a | SET k10 b | EXISTS k0 k10", "D6"),
    // Errors of the server.
    ("SET k0 a | LPUSH k0 b | INCR k0 | HGET k0 f | SADD k0 x", ""),
    ("SET k0 a EX nonsense | SET k0 a b c | ZADD k0 x a | EXPIRE k0 x", ""),
    ("LPUSH k0 a | GET k0 | GETRANGE k0 0 0 | LSET k0 9 x | LINSERT k0 ABOVE a b", ""),
    // About the connection and the server.
    ("PING | SET k0 a | PING | GET k0", ""),
    ("LOLWUT VERSION 99", ""),
    ("AUTH secret", ""),
    ("AUTH default secret", "D4"),
    ("PING hello", "D4"),
    ("ECHO hello", "D4"),
    ("SELECT 0", "D4"),
    ("SELECT 1", "D4"),
    ("HELLO", "D4"),
    ("HELLO 2", "D4"),
    ("HELLO 3", "D4"),
    ("CLIENT SETNAME me", "D4"),
    ("CLIENT SETINFO LIB-NAME x", "D4"),
    ("CLIENT ID", "D4"),
    ("CLIENT LIST", "D4"),
    ("INFO", "D4"),
    ("CONFIG GET save", "D4"),
    ("CONFIG SET save x", "D4"),
    ("COMMAND", "D4"),
    ("COMMAND COUNT", "D4"),
    ("COMMAND DOCS", "D4"),
    ("CLUSTER INFO", "D4"),
    ("READONLY", "D4"),
    ("READWRITE", "D4"),
    ("ASKING", "D4"),
    ("RESET", "D4"),
    ("QUIT", "D5"),
    ("SET k0 a | QUIT | GET k0", "D5"),
    ("SET k0 a | MOVE k0 1", "B7"),
    // Unknown to both, or for a connection of one's own.
    ("NOSUCHCOMMAND", "D1"),
    ("NOSUCHCOMMAND a b c", "D1"),
    ("SET k0 a | NOSUCHCOMMAND | GET k0", "D1"),
];

/// The same in another state of the servers.
#[rustfmt::skip]
const IN_STATE: &[(State, &str, &str)] = &[
    (Refusing, "SET k10 a | GET k10", ""),
    (Refusing, "GET k0", ""),
    (Refusing, "SET k0 a | INCR k0 | EXISTS k0 | ZUNION 1 k0", ""),
    (Refusing, "GET k10 | GET k0 | GET k11", ""),
    (Refusing, "DEL k0 k10", ""),
    (Refusing, "MSET k0 a k10 b", ""),
    (Refusing, "UNLINK k0 k10 | TOUCH k10 k0", ""),
    (Refusing, "MGET k0 k10", "B8"),
    (Refusing, "MGET k0 k10 | GET k10", "B8"),
    (ReadOnly, "GET k0 | MGET k0 k10 | TOUCH k0 k10", ""),
    (ReadOnly, "SET k0 a | DEL k0 | INCR k10", ""),
    (ReadOnly, "DEL k0 k10", "D8"),
    (ReadOnly, "MSET k0 a k10 b", "D8"),
    (Full, "GET k0 | DEL k0 k10", ""),
    (Full, "SET k0 a", "B14"),
    (Full, "GET k0 | SET k0 a | GET k0", "B14"),
    (Full, "MSET k0 a k10 b", "B14"),
    (Protected, "AUTH secret | SET k0 a | GET k0 | PING", ""),
    (Protected, "AUTH wrong | AUTH secret | GET k0", ""),
    (Protected, "AUTH secret | AUTH wrong", ""),
    (Protected, "AUTH secret | AUTH wrong | GET k0", "D9"),
    (Protected, "GET k0", "D9"),
    (Protected, "PING", "D9"),
    (Protected, "MGET k0 k10", "D9"),
    (Protected, "QUIT", "D5"),
];

/// Bytes.
#[rustfmt::skip]
const RAW: &[Row] = &[
    ("*2\r\n$3\r\nGET\r\n$2\r\nk0\r\n*1\r\n$4\r\nPING\r\n", ""),
    ("*3\r\n$3\r\nSET\r\n$2\r\nk0\r\n$9\r\n\0\r\n$3\r\n\x7f+\r\n\
      *2\r\n$3\r\nGET\r\n$2\r\nk0\r\n", ""),
    ("*2\r\n$4\r\nMGET\r\n$6\r\nk0\r\n+x\r\n", ""),
    ("PING\r\n", "D10"),
    ("GET k0\r\n", "D10"),
    ("\r\n", "D10"),
    ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "D10"),
    ("*0\r\n", "D11"),
    ("*-1\r\n", "D11"),
    ("*x\r\n", "D3"),
    ("*\r\n", "D3"),
    ("*2\r\n$3\r\nGET\r\n$-1\r\n", "D3"),
    ("*2\r\n$3\r\nGET\r\n+k0\r\n", "D3"),
    ("*2\r\n$3\r\nGET\r\n$2\r\nk0xx", "D3"),
    ("*2\r\n$3\r\nGETx\r\n$2\r\nk0\r\n", "D3"),
    ("*2\r\n$0\r\n\r\n$2\r\nk0\r\n", "D1"),
    ("*02\r\n$3\r\nGET\r\n$2\r\nk0\r\n", "D12"),
    ("*2\r\n$03\r\nGET\r\n$2\r\nk0\r\n", "D12"),
    ("*2\r\n$3\r\nGET\r\n$002\r\nk0\r\n", "D12"),
    ("*4294967298\r\n$3\r\nGET\r\n$2\r\nk0\r\n", "B2"),
    ("*2\r\n$3\r\nGET\r\n$4294967298\r\nk0\r\n", "B2"),
];

/// Every command of twemproxy that a bare name is too little for.
const NEEDING_ARGUMENTS: &str = "\
    persist pttl ttl type dump decr get getdel incr strlen hgetall hkeys hlen hvals llen scard \
    smembers zcard auth expire expireat pexpire pexpireat append decrby getbit getset incrby \
    incrbyfloat setnx hexists hget hstrlen lindex rpoplpush sismember zrank zrevrank zscore \
    move getrange psetex setbit setex setrange hincrby hincrbyfloat hsetnx lrange lrem lset \
    ltrim smove zcount zlexcount zincrby zremrangebylex zremrangebyrank zremrangebyscore \
    linsert lmove sort copy bitcount bitpos bitfield exists getex set hdel hmget hmset hscan \
    hset hrandfield lpush lpushx rpush rpushx lpop rpop lpos sadd sdiff sdiffstore sinter \
    sinterstore srem sunion sunionstore srandmember sscan spop smismember pfadd pfmerge \
    pfcount zadd zdiff zdiffstore zinter zinterstore zmscore zpopmax zpopmin zrandmember \
    zrange zrangebylex zrangebyscore zrangestore zrem zrevrange zrevrangebylex \
    zrevrangebyscore zscan zunion zunionstore geodist geopos geohash geoadd georadius \
    georadiusbymember geosearch geosearchstore restore mget del unlink touch mset eval evalsha";

/// What twemproxy does not know and Weir passes on.
const NEWLY_SERVED: &str = "bitfield_ro k0|bitop and k1 k0|eval_ro return(1) 1 k0|expiretime k0|\
    fcall f 1 k0|georadius_ro k0 1 1 9 km|georadiusbymember_ro k0 a 9 km|lcs k0 k1|\
    lmpop 1 k0 left|memory usage k0|msetnx k0 a|object encoding k0|pexpiretime k0|rename k0 k1|\
    renamenx k0 k1|sintercard 1 k0|sort_ro k0|spublish k0 x|substr k0 0 1|xack k0 g 1|\
    xadd k0 1-1 f v|xautoclaim k0 g c 9 0|xclaim k0 g c 9 1|xdel k0 1|\
    xgroup create k0 g 0|xinfo stream k0|xlen k0|xpending k0 g|xrange k0 - +|\
    xread count 1 streams k0 0|xreadgroup group g c streams k0 >|xrevrange k0 + -|xsetid k0 1|\
    xtrim k0 maxlen 1|zintercard 1 k0|zmpop 1 k0 min|expire k0 9 nx";

/// What neither passes on.
const NEVER_SERVED: &str = "acl whoami|bgsave|blpop k0 0|brpop k0 0|bzpopmin k0 0|dbsize|\
    debug sleep 0|discard|exec|flushall|flushdb|function list|keys *|lastsave|latency help|\
    migrate h 1 k0 0 9|module list|monitor|multi|psubscribe a|publish a b|pubsub channels|\
    randomkey|replicaof no one|role|save|scan 0|script load x|shutdown|slowlog get|subscribe a|\
    swapdb 0 1|sync|time|unsubscribe|unwatch|wait 0 0|watch k0";

/// All conversations: the state of the servers, what is said, and the row of the table.
pub(crate) fn all() -> Vec<(State, String, Vec<u8>, &'static str)> {
    let said = |said: &str| {
        let words =
            |text: &str| crate::support::wire::request(&text.split(' ').collect::<Vec<_>>());
        said.split(" | ").flat_map(words).collect::<Vec<u8>>()
    };
    let in_words =
        |state: State, text: &str, row: &'static str| (state, text.to_owned(), said(text), row);
    let mut all = Vec::new();
    all.extend(SAID.iter().map(|(text, row)| in_words(Healthy, text, row)));
    all.extend(IN_STATE.iter().map(|(state, text, row)| in_words(*state, text, row)));
    all.extend(NEEDING_ARGUMENTS.split_whitespace().map(|name| in_words(Healthy, name, "D2")));
    all.extend(NEWLY_SERVED.split('|').map(|text| in_words(Healthy, text, "D13")));
    all.extend(NEVER_SERVED.split('|').map(|text| in_words(Healthy, text, "D1")));
    let raw = |(bytes, row): &Row| {
        (Healthy, bytes.escape_debug().to_string(), bytes.as_bytes().to_vec(), *row)
    };
    all.extend(RAW.iter().map(raw));
    // Keys as long as twemproxy's buffers, and a value that is longer.
    let long = |size: usize, row: &'static str| {
        let text = format!("GET a key of {size} bytes");
        (Healthy, text, said(&format!("GET {}", "k".repeat(size))), row)
    };
    all.extend([long(1000, ""), long(16_000, ""), long(16_384, "D14"), long(100_000, "D14")]);
    let value = said(&format!("SET k0 {} | GET k0", "v".repeat(1_000_000)));
    all.push((Healthy, "a value of 1 MB".to_owned(), value, ""));
    all
}
