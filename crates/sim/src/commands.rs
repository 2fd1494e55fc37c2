//! The commands of Redis that the workload does not draw for what they do, but because the proxy
//! has a row for them: how a request of each looks, and where its key stands.
//!
//! Written down once more, independently of the proxy's table; a test sees that none is missing.
//! Invariant: one `K`, the key that decides, in each that goes to one server, but for `lolwut` and
//! `time`.

use protocol::Protocol;

/// Requests that go to a server; the model server may not know them, and then its error comes back.
/// `K` is the key that decides where.
const FORWARDED: &str = "\
    bitcount K; bitfield K; bitfield_ro K; bitpos K 3; copy K 3; dump K; expireat K 3; \
    expiretime K; geoadd K 3 f 7; geodist K 3 f; geohash K; geopos K; georadius K 3 f 7 g; \
    georadius_ro K 3 f 7 g; georadiusbymember K 3 f 7; georadiusbymember_ro K 3 f 7; geosearch K \
    3 f 7 g 3; geosearchstore K 3 f 7 g 3 f; getbit K 3; getex K; hexists K 3; hincrby K 3 f; \
    hincrbyfloat K 3 f; hkeys K; hmget K 3; hmset K 3 f; hrandfield K; hscan K 3; hsetnx K 3 f; \
    hstrlen K 3; hvals K; incrbyfloat K 3; lcs K 3; lindex K 3; linsert K 3 f 7; lmove K 3 f 7; \
    lpos K 3; lpushx K 3; lrem K 3 f; lset K 3 f; ltrim K 3 f; move K 3; msetnx K 3; pexpireat K \
    3; pexpiretime K; pfadd K; pfcount K; pfmerge K; psetex K 3 f; rename K 3; renamenx K 3; \
    restore K 3 f; rpoplpush K 3; rpushx K 3; sdiff K; sdiffstore K 3; setbit K 3 f; sinter K; \
    sinterstore K 3; smismember K 3; smove K 3 f; sort K; sort_ro K; spop K; \
    srandmember K; sscan K 3; substr K 3 f; sunion K; sunionstore K 3; xack K 3 f; xadd K 3 f 7; \
    xautoclaim K 3 f 7 g; xclaim K 3 f 7 g; xdel K 3; xlen K; xpending K 3; xrange K 3 f; \
    xrevrange K 3 f; xsetid K 3; xtrim K 3 f; zadd K 3 f; zcard K; zcount K 3 f; zdiff K 3; \
    zdiffstore K 3 f; zincrby K 3 f; zinter K 3; zinterstore K 3 f; zlexcount K 3 f; zmscore K \
    3; zpopmax K; zpopmin K; zrandmember K; zrange K 3 f; zrangebylex K 3 f; zrangebyscore K 3 \
    f; zrangestore K 3 f 7; zrank K 3; zrem K 3; zremrangebylex K 3 f; zremrangebyrank K 3 f; \
    zremrangebyscore K 3 f; zrevrange K 3 f; zrevrangebylex K 3 f; zrevrangebyscore K 3 f; \
    zrevrank K 3; zscan K 3; zscore K 3; zunion K 3; zunionstore K 3 f; delifeq K 3; hexpire K 3 \
    f 7 g; hexpireat K 3 f 7 g; hexpiretime K 3 f 7; hgetdel K 3 f 7; hgetex K 3 f 7; hpersist K \
    3 f 7; hpexpire K 3 f 7 g; hpexpireat K 3 f 7 g; hpexpiretime K 3 f 7; hpttl K 3 f 7; hsetex \
    K 3 f 7 g; httl K 3 f 7; bitop and K K; eval script 1 K arg; eval_ro script 1 K; evalsha \
    0123 1 K; evalsha_ro 0123 1 K; fcall name 1 K; fcall_ro name 1 K; lmpop 1 K left; lolwut; \
    time; memory usage K; object encoding K; sintercard 1 K; xgroup create K group 0; xinfo \
    stream K; xread count 2 streams K 0; xreadgroup group g c count 2 streams K >; zintercard 1 K; \
    zmpop 1 K min";

/// Requests about channels, all of which live where the key [`protocol::PLACEHOLDER_KEY`] does.
const OF_CHANNELS: &str = "publish c x; spublish c x; pubsub channels";

/// Requests that wait, `K` being their key and `T` what they are told by.
const WAITING: &str = "\
    blmove K K T right 0; blmpop 0 1 K T; blpop K T; brpop K T; brpoplpush K K T; bzmpop 0 1 K \
    T; bzpopmax K T; bzpopmin K T; xread block 0 streams K T; xreadgroup group T c block 0 \
    streams K >";

/// Requests that the proxy refuses.
const REFUSED: &str = "\
    acl x; bgrewriteaof; bgsave; debug x; failover; function x; lastsave; latency x; migrate x x x \
    x x; module x; monitor; pfdebug x x; pfselftest; psync x x; replconf; replicaof x x; \
    restore-asking x x x; role; save; shutdown; slaveof x x; slowlog x; swapdb x x; sync; wait x x";

/// Requests that every server of the pool gets.
const EVERYWHERE: &str = "script load x; script exists 0123; keys x; randomkey";

/// The same, and their answers are added up.
const COUNTED: &str = "dbsize";

/// Requests that go to one server after the other.
const WALKED: &str = "scan 0; scan 0 count 3";

/// The same, where a pool allows it.
const FLUSHES: &str = "flushall; flushall async; flushdb";

/// The same of memcached.
pub const MEMCACHE_FLUSHES: [&str; 2] = ["flush_all", "flush_all -1"];

/// Requests that the proxy answers itself, whatever it says.
const OWN: &str = "\
    asking; client id; client setname x; cluster myid; command count; config get save; hello 2; \
    hello 3; client getname; client info; info; readonly; readwrite; select 0";

/// What becomes of a request of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A server gets it.
    Forwarded,
    /// Every server gets it.
    Everywhere,
    /// Every server gets it, or the proxy says that it can't be done.
    Flush,
    /// Every server gets it, and the sum is answered.
    Counted,
    /// The proxy says that it can't be done.
    Refused,
    /// The proxy answers.
    Own,
}

/// The words of a request and what becomes of it, by a number below [`count`].
pub fn request(number: usize) -> (Vec<&'static str>, Fate) {
    let (line, fate) = all().nth(number).expect("a number below the count");
    (line.split(' ').collect(), fate)
}

/// How many there are.
pub fn count() -> usize {
    all().count()
}

fn all() -> impl Iterator<Item = (&'static str, Fate)> {
    let lines = |text: &'static str| text.split("; ");
    let forwarded = lines(FORWARDED).chain(lines(OF_CHANNELS));
    let forwarded = forwarded.map(|line| (line, Fate::Forwarded));
    let refused = lines(REFUSED).map(|line| (line, Fate::Refused));
    let everywhere = lines(EVERYWHERE).map(|line| (line, Fate::Everywhere));
    let flushes = lines(FLUSHES).map(|line| (line, Fate::Flush));
    let walked = lines(WALKED).map(|line| (line, Fate::Forwarded));
    let counted = lines(COUNTED).map(|line| (line, Fate::Counted));
    forwarded
        .chain(walked)
        .chain(counted)
        .chain(everywhere)
        .chain(flushes)
        .chain(refused)
        .chain(lines(OWN).map(|line| (line, Fate::Own)))
}

/// Which word of a request is the key that decides where it goes. For a command that is not here it
/// is the first behind the name.
fn key_index(protocol: Protocol, name: &[u8]) -> usize {
    let line = match protocol {
        Protocol::Redis => line_of(FORWARDED, name).or_else(|| line_of(WAITING, name)),
        Protocol::Memcache => None,
    };
    line.and_then(|line| line.split(' ').position(|word| word == "K")).unwrap_or(1)
}

/// A request that waits, its key being `K` and what it is told by `T`, by a number below
/// [`waiting_count`].
pub fn waiting(number: usize) -> Vec<&'static str> {
    WAITING.split("; ").nth(number).expect("a number below the count").split(' ').collect()
}

/// How many there are.
pub fn waiting_count() -> usize {
    WAITING.split("; ").count()
}

/// Whether a request of this name waits, if it is not in a transaction.
pub fn waits(name: &[u8], words: &[Vec<u8>]) -> bool {
    let blocks = words.iter().any(|word| word == b"block");
    line_of(WAITING, name).is_some() && (blocks || !name.starts_with(b"xread"))
}

/// Whether requests of this name are about channels.
pub fn is_of_channels(name: &[u8]) -> bool {
    line_of(OF_CHANNELS, name).is_some()
}

/// The key that decides where a request goes, given its words; none when it has none.
pub fn key_of(protocol: Protocol, words: &[Vec<u8>]) -> Option<Vec<u8>> {
    let name = words[0].to_ascii_lowercase();
    if protocol == Protocol::Redis && is_of_channels(&name) {
        return None;
    }
    let key = words.get(key_index(protocol, &name))?;
    let is_meta = protocol == Protocol::Memcache && name.len() == 2;
    // The data block, the last word of `ms`, is longer than a flag.
    let in_base64 = is_meta && words[2..].iter().any(|flag| flag == b"b");
    Some(if in_base64 { decode_base64(key) } else { key.clone() })
}

/// What a key in base64 stands for.
fn decode_base64(text: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for letter in text.iter().take_while(|letter| **letter != b'=') {
        let value = LETTERS.iter().position(|known| known == letter).unwrap_or(0);
        (bits, count) = (bits << 6 | value as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// Whether a request of a command may go to any server, or to every one: it has no key.
pub fn goes_everywhere(name: &[u8]) -> bool {
    let keyless = [EVERYWHERE, COUNTED, FLUSHES, WALKED];
    keyless.iter().any(|lines| line_of(lines, name).is_some())
        || MEMCACHE_FLUSHES[0].as_bytes() == name
}

fn line_of(lines: &'static str, name: &[u8]) -> Option<&'static str> {
    let is_of = |line: &&str| line.split(' ').next().is_some_and(|word| word.as_bytes() == name);
    lines.split("; ").find(is_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;

    #[test]
    fn every_command_of_the_proxy_is_drawn() {
        let drawn: Vec<&str> = all().filter_map(|(line, _)| line.split(' ').next()).collect();
        for command in protocol::redis::commands::all() {
            let name = command.name;
            let waits = line_of(WAITING, name.as_bytes()).is_some();
            let known = drawn.contains(&name) || waits || workload::redis::draws(name);
            assert!(known, "{}", command.name);
        }
        for command in protocol::memcache::commands::all() {
            assert!(workload::memcache::draws(command.name), "{}", command.name);
        }
    }
}
