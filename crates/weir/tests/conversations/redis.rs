//! Conversations with Redis: what clients say, right and wrong. Not what is answered: a server is
//! asked for that. Keys `k0` to `k9` are of one server, `k10` to `k19` of the other.

use super::Conversation;
use crate::support::wire::request;

/// Requests of words.
fn said(requests: &str) -> Vec<u8> {
    let words = |text: &str| request(&text.split(' ').collect::<Vec<_>>());
    requests.split(" | ").flat_map(words).collect()
}

/// Everything that Weir promises to pass on, or to answer, as a server does.
pub(crate) fn all() -> Vec<Conversation> {
    let ordinary = [strings(), keys(), several_keys(), collections(), rarer(), transactions()];
    let odd = [forms(), mistakes(), nonsense()];
    ordinary.into_iter().chain(odd).flatten().collect()
}

fn strings() -> Vec<Conversation> {
    vec![
        ("a value that was stored", said("SET k0 one | GET k0 | STRLEN k0")),
        ("a value that was not", said("GET k1 | STRLEN k1 | GETRANGE k1 0 -1")),
        ("an empty value and an empty key", said("SET k0  | GET k0 | SET  x | GET  | DEL ")),
        (
            "any bytes",
            b"*3\r\n$3\r\nSET\r\n$2\r\nk0\r\n$9\r\n\0\r\n$3\r\n\xff+\r\n\
            *2\r\n$3\r\nGET\r\n$2\r\nk0\r\n"
                .to_vec(),
        ),
        (
            "conditions",
            said(
                "SET k0 a XX | SET k0 a NX | SET k0 b NX | SET k0 c XX GET | \
             SET k0 d EX 100 KEEPTTL | GET k0",
            ),
        ),
        (
            "parts",
            said("APPEND k0 abc | APPEND k0 def | GETRANGE k0 1 -2 | SETRANGE k0 8 x | GET k0"),
        ),
        (
            "numbers",
            said(
                "INCR k0 | INCRBY k0 41 | DECR k0 | DECRBY k0 100 | GET k0 | \
             INCRBYFLOAT k0 0.5 | INCR k0",
            ),
        ),
        (
            "reading and changing at once",
            said("SETNX k0 a | SETNX k0 b | GETSET k0 c | GETEX k0 | GETDEL k0 | GETDEL k0"),
        ),
    ]
}

fn keys() -> Vec<Conversation> {
    vec![
        (
            "kinds of keys",
            said(
                "SET k0 7 | LPUSH k10 a | TYPE k0 | TYPE k10 | TYPE k1 | \
             OBJECT ENCODING k0 | OBJECT REFCOUNT k10",
            ),
        ),
        (
            "times to live",
            said(
                "TTL k0 | SET k0 a | TTL k0 | EXPIRE k0 100 | PERSIST k0 | PERSIST k0 | \
             PEXPIREAT k0 1 | GET k0",
            ),
        ),
        (
            "two keys of one server",
            said(
                "SET k0 a | RENAME k0 k1 | GET k0 | COPY k1 k2 | GET k2 | \
             RENAMENX k1 k2 | RENAME k0 k1",
            ),
        ),
        ("a dump", said("RPUSH k0 a b c | DUMP k0 | DUMP k1")),
    ]
}

fn several_keys() -> Vec<Conversation> {
    vec![
        ("values of both servers", said("MSET k0 a k10 b k1 c | MGET k10 k0 k19 k1 k10 k9")),
        ("values of one server", said("MSET k0 a k1 b | MGET k1 k0 | MGET k0")),
        ("a key that is set twice", said("MSET k0 a k10 b k0 c | MGET k0 k10")),
        ("deleting", said("MSET k0 a k10 b k11 c | DEL k0 k10 k0 k5 | DEL k0 | DEL k11")),
        ("unlinking", said("MSET k0 a k10 b | UNLINK k10 k11 k0 | UNLINK k0")),
        ("counting", said("MSET k0 a k10 b | EXISTS k0 k10 k0 k5 k15 | EXISTS k5")),
        ("touching", said("MSET k0 a k10 b | TOUCH k0 k10 k11 | TOUCH k19")),
        ("another kind among the values", said("LPUSH k0 a | SET k10 b | MGET k10 k0")),
        (
            "a pipeline over both servers",
            said(
                "SET k0 0 | SET k10 10 | GET k0 | INCR k10 | LPUSH k0 x | GET k10 | \
             MGET k0 k10 | GET k1 | PING | DEL k0 k10 | GET k0",
            ),
        ),
    ]
}

fn collections() -> Vec<Conversation> {
    vec![
        (
            "lists",
            said(
                "RPUSH k0 a b c | LPUSH k0 z | LRANGE k0 0 -1 | LINDEX k0 9 | \
             LPOP k0 2 | LLEN k0 | LREM k0 0 c | LPOP k1 | LRANGE k1 0 -1 | \
             LMPOP 1 k0 LEFT | LMPOP 1 k0 LEFT",
            ),
        ),
        (
            "hashes",
            said(
                "HSET k0 f a g b | HGET k0 f | HGET k0 x | HMGET k0 g x f | HGETALL k0 | \
             HDEL k0 f x | HINCRBY k0 n 5 | HGETALL k1",
            ),
        ),
        (
            "sets",
            said(
                "SADD k0 3 1 2 1 | SMEMBERS k0 | SISMEMBER k0 2 | SMISMEMBER k0 1 9 | \
             SADD k1 2 3 4 | SINTER k0 k1 | SINTERCARD 2 k0 k1 | SREM k0 1 9 | \
             SCARD k0",
            ),
        ),
        (
            "sorted sets",
            said(
                "ZADD k0 1 a 2.5 b -inf c | ZRANGE k0 0 -1 WITHSCORES | ZSCORE k0 b | \
             ZSCORE k0 x | ZRANGEBYSCORE k0 (1 +inf | ZRANK k0 b | ZINCRBY k0 1 a | \
             ZPOPMIN k0 | ZMPOP 1 k0 MAX",
            ),
        ),
        (
            "streams",
            said(
                "XADD k0 1-1 f v | XADD k0 2-1 g w | XADD k0 1-5 f v | XLEN k0 | \
             XRANGE k0 - + | XREAD COUNT 1 STREAMS k0 1-1 | XREAD STREAMS k0 9-9 | \
             XGROUP CREATE k0 us 0 | XINFO GROUPS k0",
            ),
        ),
        ("sorting", said("RPUSH k0 3 1 2 | SORT k0 | SORT k0 DESC LIMIT 0 2 | SORT_RO k0")),
    ]
}

fn rarer() -> Vec<Conversation> {
    vec![
        (
            "bits",
            said(
                "SETBIT k0 7 1 | GETBIT k0 7 | BITCOUNT k0 | BITPOS k0 1 | \
             BITFIELD k0 INCRBY u8 0 9 | BITOP NOT k1 k0 | GET k1",
            ),
        ),
        (
            "places",
            said(
                "GEOADD k0 13.36 38.11 here 15.08 37.5 there | GEODIST k0 here there | \
             GEOPOS k0 here nowhere | GEOHASH k0 there",
            ),
        ),
        ("counting roughly", said("PFADD k0 a b c a | PFADD k0 a | PFCOUNT k0")),
        (
            "scripts",
            [
                said("SET k0 a"),
                script("return redis.call('GET',KEYS[1])", &["1", "k0"]),
                script("return {1,{2,false,'x'},{}}", &["0"]),
                script("return redis.error_reply('E!')", &["0"]),
                script("nonsense", &["0"]),
                script("return 1", &["2", "k0"]),
                script("return 1", &["-1", "k0"]),
            ]
            .concat(),
        ),
        (
            "scripts that are not known and wrong counts",
            said("EVALSHA e 2 k0 | EVALSHA e x k0 | FCALL f x | FCALL f -1 k0 | FCALL f 9 k0"),
        ),
        ("names that are numbers", said("SET k0 a | EVALSHA 0000 1 k0 | OBJECT FREQ k0")),
    ]
}

fn script(text: &str, rest: &[&str]) -> Vec<u8> {
    let mut words = vec!["EVAL", text];
    words.extend(rest);
    request(&words)
}

fn transactions() -> Vec<Conversation> {
    vec![
        ("a transaction", said("MULTI | SET k0 a | MGET k0 k1 | LPUSH k0 b | EXEC | GET k0")),
        ("one of nothing", said("MULTI | EXEC | MULTI | DISCARD | EXEC | DISCARD | UNWATCH")),
        ("one that is given up", said("MULTI | SET k0 a | DISCARD | GET k0")),
        ("watched keys", said("WATCH k0 | SET k0 a | MULTI | GET k0 | EXEC | MULTI | EXEC")),
        (
            "mistakes that end it",
            said("MULTI | SET k0 a | NOSUCH | EXEC | MULTI | SET k0 | EXEC | GET k0"),
        ),
        (
            "mistakes that it finds when it runs",
            [
                said("MULTI | MSET k0 a k1"),
                script("return 1", &["x", "k0"]),
                script("return 1", &["2", "k0"]),
                script("return 1", &["-1", "k0"]),
                said("ZUNIONSTORE k0 x k1 | SET k0 b | EXEC | GET k0"),
            ]
            .concat(),
        ),
        (
            "beginning and ending it wrongly",
            said(
                "EXEC x | MULTI | EXEC x | EXEC | MULTI | SET k0 a | EXEC x | GET k0 | \
             MULTI x | WATCH k0 | EXEC x | DISCARD x",
            ),
        ),
        ("leaving in the middle of it", said("MULTI | SET k0 a | QUIT | EXEC")),
    ]
}

fn forms() -> Vec<Conversation> {
    vec![
        ("upper and lower case", said("set k0 A | gEt k0 | mGeT k0 k10 | PiNg | pInG Hello")),
        ("inline", b"SET k0 one\r\nGET k0\r\nget   k0  \r\nPING\r\n".to_vec()),
        (
            "inline with quotes",
            b"SET k0 \"a b\\x21\\n\"\r\nGET k0\r\nSET k0 'it\\'s'\r\nGET k0\r\n".to_vec(),
        ),
        ("inline with a bare LF", b"SET k0 one\nGET k0\n".to_vec()),
        (
            "inline and usual form in turn",
            [
                b"SET k0 a\r\n".to_vec(),
                said("GET k0"),
                b"\r\n\r\nMGET k0 k10\r\n".to_vec(),
                said("DEL k0"),
            ]
            .concat(),
        ),
        ("requests of nothing", b"*0\r\n*-1\r\n\r\n*1\r\n$4\r\nPING\r\n".to_vec()),
        ("a value of 70,000 bytes", said(&format!("SET k0 {} | GET k0", "v".repeat(70_000)))),
        ("a key of 70,000 bytes", said(&format!("GET {}", "k".repeat(70_000)))),
        ("a database", said("SELECT 0 | SET k0 a | GET k0")),
        ("a user where there is no password", said("AUTH default x | AUTH other x | PING")),
        ("commands that are not known", said("COMMAND INFO nosuch NOSUCH")),
    ]
}

fn mistakes() -> Vec<Conversation> {
    vec![
        ("too few words", said("GET | SET k0 | MSET k0 | DEL | MGET | HSET k0 f | PING")),
        ("too many words", said("GET k0 k1 | INCR k0 1 | PING a b | ECHO a b | MSET k0 a k1")),
        ("unknown commands", said("NOSUCH | nosuch k0 a b | PING")),
        ("a long unknown command", said(&format!("{} {}", "N".repeat(300), "x".repeat(300)))),
        ("the wrong kind", said("SET k0 a | LPUSH k0 b | HGET k0 f | INCR k0 | GET k0")),
        (
            "wrong options",
            said(
                "SET k0 a NOSUCH | SET k0 a EX 0 | SET k0 a EX x | EXPIRE k0 x | \
             LRANGE k0 a b | ZADD k0 x a | GETRANGE k0 0 | SELECT x",
            ),
        ),
    ]
}

fn nonsense() -> Vec<Conversation> {
    let nonsense: [(&'static str, &[u8]); 9] = [
        ("a count that is no number", b"*3abc\r\n$3\r\nGET\r\n"),
        ("a count that wraps", b"*18446744073709551617\r\n$4\r\nPING\r\n"),
        ("a negative length", b"*2\r\n$3\r\nGET\r\n$-1\r\n"),
        ("a length that is too large", b"*3\r\n$3\r\nSET\r\n$2\r\nk0\r\n$536870913\r\nabc"),
        ("a length that wraps", b"*2\r\n$3\r\nGET\r\n$18446744073709551618\r\nk0\r\n"),
        ("an array in an array", b"*1\r\n*1\r\n$4\r\nPING\r\n"),
        ("a simple string as an argument", b"*2\r\n$3\r\nGET\r\n+k0\r\n"),
        ("quotes that do not end", b"SET k0 \"one\r\n"),
        ("nonsense behind good requests", b"*1\r\n$4\r\nPING\r\nPING\r\n*x\r\nPING\r\n"),
    ];
    let mut all: Vec<Conversation> =
        nonsense.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect();
    all.push(("leaving", said("SET k0 a | QUIT | GET k0")));
    all
}
