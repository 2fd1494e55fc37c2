//! Generated pools and keys. Not how they are compared.
//!
//! Invariant: what is drawn depends on the seed and on the servers' addresses alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use crate::numbered::Servers;

/// Small and seeded (Vigna, splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
    }
}

const HASHES: [&str; 12] = [
    "one_at_a_time",
    "md5",
    "crc16",
    "crc32",
    "crc32a",
    "fnv1_64",
    "fnv1a_64",
    "fnv1_32",
    "fnv1a_32",
    "hsieh",
    "murmur",
    "jenkins",
];

/// `random` comes seldom, since little can be said of it.
const DISTRIBUTIONS: [&str; 10] = [
    "ketama", "ketama", "ketama", "ketama", "ketama", "modula", "modula", "modula", "modula",
    "random",
];

const HASH_TAGS: [&str; 8] = ["{}", "[]", "<>", "$$", "ab", "::", "({", "0}"];

/// Bytes of a name that a configuration may give a server.
const NAME_BYTES: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_.:/";

/// memcached's limit, in bytes.
const MEMCACHED_KEY_SIZE_MAX: usize = 250;
/// Bytes of the longest key of a Redis pool; twemproxy takes up to 16,335.
const REDIS_KEY_SIZE_MAX: usize = 2000;

struct Member {
    /// Index in the list of servers.
    number: usize,
    /// As it stands in the configuration.
    entry: String,
}

/// A pool, and the keys that are asked for in it.
pub(crate) struct Plan {
    pub(crate) name: String,
    is_redis: bool,
    hash: Option<&'static str>,
    distribution: &'static str,
    hash_tag: Option<&'static str>,
    members: Vec<Member>,
}

impl Plan {
    pub(crate) fn draw(index: usize, servers: &Servers, random: &mut Random) -> Plan {
        let distribution = random.pick(&DISTRIBUTIONS);
        // Lists of every length, and often one at which the points of ketama are rounded.
        let count = match random.below(8) {
            0 => 25,
            1 => 1 + random.below(3),
            _ => 1 + random.below(servers.addresses.len()),
        };
        let mut numbers: Vec<usize> = (0..servers.addresses.len()).collect();
        random.shuffle(&mut numbers);
        // None, some or all of the servers have a name.
        let named_of_four = random.below(5);
        let weight_max = match (distribution, random.below(4)) {
            (_, 0 | 1) => 1,
            (_, 2) => 10,
            // `modula` keeps a list as long as the sum of weights.
            ("modula", _) => 100,
            _ => 100_000,
        };
        let mut names = BTreeSet::new();
        let members = numbers[..count.min(servers.addresses.len())]
            .iter()
            .map(|&number| {
                let ways = &servers.addresses[number];
                let address = &ways[random.below(ways.len())];
                let weight = 1 + random.below(weight_max);
                let named = random.below(4) < named_of_four;
                let name = named.then(|| draw_name(&mut names, random));
                let name = name.map_or(String::new(), |name| format!(" {name}"));
                Member { number, entry: format!("{address}:{weight}{name}") }
            })
            .collect();
        Plan {
            name: format!("pool-{index}"),
            is_redis: random.below(2) == 0,
            // Absent now and then, to compare the default as well.
            hash: (random.below(14) > 0).then(|| random.pick(&HASHES)),
            distribution,
            hash_tag: (random.below(2) == 0).then(|| random.pick(&HASH_TAGS)),
            members,
        }
    }

    pub(crate) fn is_random(&self) -> bool {
        self.distribution == "random"
    }

    pub(crate) fn has_server(&self, number: usize) -> bool {
        self.members.iter().any(|member| member.number == number)
    }

    /// As it stands in the configuration.
    pub(crate) fn text(&self, listen: &Path) -> String {
        let mut text = format!("{}:\n  listen: {}\n", self.name, listen.display());
        let redis = self.is_redis.then_some("true");
        let hash_tag = self.hash_tag.map(|tag| format!("\"{tag}\""));
        for (key, value) in [
            ("redis", redis),
            ("hash", self.hash),
            ("distribution", Some(self.distribution)),
            ("hash_tag", hash_tag.as_deref()),
        ] {
            if let Some(value) = value {
                text.push_str(&format!("  {key}: {value}\n"));
            }
        }
        text.push_str("  servers:\n");
        for member in &self.members {
            text.push_str(&format!("    - \"{}\"\n", member.entry));
        }
        text
    }

    /// A key that the pool's protocol takes.
    pub(crate) fn draw_key(&self, random: &mut Random) -> Vec<u8> {
        let mut key = match random.below(6) {
            0 => format!("user:{}", random.below(1_000_000)).into_bytes(),
            1 => random
                .pick(&["schlüssel", "ключ", "鍵", "🔑", "clé"])
                .repeat(1 + random.below(4))
                .into(),
            2 => self.draw_bytes(random, 300),
            3 if self.is_redis => self.draw_bytes(random, REDIS_KEY_SIZE_MAX),
            3 => self.draw_bytes(random, MEMCACHED_KEY_SIZE_MAX),
            _ => self.draw_bytes(random, 24),
        };
        if let Some(tag) = self.hash_tag
            && random.below(3) > 0
        {
            key = self.with_tag(tag.as_bytes(), key, random);
        }
        if !self.is_redis {
            key.truncate(MEMCACHED_KEY_SIZE_MAX);
        }
        key
    }

    /// The two bytes of the tag in right and in wrong places.
    fn with_tag(&self, tag: &[u8], key: Vec<u8>, random: &mut Random) -> Vec<u8> {
        let (open, close) = (&tag[..1], &tag[1..]);
        let inner = self.draw_bytes(random, 12);
        let pieces: &[&[u8]] = match random.below(8) {
            0 => &[open, close, &key],
            1 => &[open, &key],
            2 => &[&key, close],
            3 => &[close, &key, open],
            4 => &[open, open, &inner, close, close, &key],
            5 => &[&inner, open, &key, close, open, &inner, close],
            6 => &[open, &inner, close],
            _ => &[&key, open, &inner, close, &key],
        };
        pieces.concat()
    }

    /// Any bytes for Redis; for memcached none that could end a word.
    fn draw_bytes(&self, random: &mut Random, size_max: usize) -> Vec<u8> {
        let size = random.below(size_max) + usize::from(!self.is_redis);
        let ascii = random.below(2) == 0;
        let byte = |random: &mut Random| match (ascii, self.is_redis) {
            (true, _) => b'!' + random.below(94) as u8,
            (false, true) => random.next() as u8,
            (false, false) => match random.next() as u8 {
                byte @ (0..=b' ' | 0x7f) => byte | 0x80,
                byte => byte,
            },
        };
        (0..size).map(|_| byte(random)).collect()
    }

    pub(crate) fn request(&self, key: &[u8]) -> Vec<u8> {
        match self.is_redis {
            true => crate::support::wire::request_of(&[b"GET", key]),
            false => [b"get ", key, b"\r\n"].concat(),
        }
    }

    /// The number in the first whole reply, and the reply's size.
    pub(crate) fn number_in(&self, come: &[u8]) -> Option<(usize, usize)> {
        let is_error = come.starts_with(b"-") || come.starts_with(b"SERVER_ERROR");
        assert!(!is_error, "{}", come[..come.len().min(80)].escape_ascii());
        let lines_count = if self.is_redis { 2 } else { 3 };
        let mut lines = Vec::new();
        let mut size = 0;
        for _ in 0..lines_count {
            // Keys of memcached hold no LF.
            let line_size = come[size..].iter().position(|&byte| byte == b'\n')? + 1;
            lines.push(&come[size..size + line_size]);
            size += line_size;
        }
        let digits = std::str::from_utf8(lines[1]).unwrap().trim_end();
        Some((digits.parse().expect("a server answers with its number"), size))
    }
}

/// A name that is not among those.
fn draw_name(names: &mut BTreeSet<String>, random: &mut Random) -> String {
    loop {
        let size = 1 + random.below(9);
        let name: String = (0..size).map(|_| char::from(random.pick(NAME_BYTES))).collect();
        if names.insert(name.clone()) {
            return name;
        }
    }
}

/// What a run has covered.
#[derive(Default)]
pub(crate) struct Coverage {
    /// Pools of each hash and distribution.
    kinds: BTreeMap<String, usize>,
    pools_count: usize,
    servers_counts: BTreeSet<usize>,
    /// Pairs of a pool and a server of it that a key was found on.
    owners_count: usize,
}

impl Coverage {
    pub(crate) fn note(&mut self, plan: &Plan, found: &[usize]) {
        let hash = plan.hash.unwrap_or("default hash");
        for kind in [hash, plan.distribution] {
            *self.kinds.entry(kind.to_owned()).or_default() += 1;
        }
        self.pools_count += 1;
        self.servers_counts.insert(plan.members.len());
        self.owners_count += found.iter().collect::<BTreeSet<_>>().len();
    }

    /// # Panics
    /// When something was left out.
    pub(crate) fn check(&self) {
        assert!(self.pools_count >= 200, "{self}");
        for kind in HASHES.iter().chain(&DISTRIBUTIONS).chain(&["default hash"]) {
            assert!(self.kinds.contains_key(*kind), "{kind} was never drawn: {self}");
        }
        assert!(self.servers_counts.len() >= 20, "{self}");
        assert!(self.owners_count > 5 * self.pools_count, "keys are spread: {self}");
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} pools of {} different counts of servers, {} owners of keys, {:?}",
            self.pools_count,
            self.servers_counts.len(),
            self.owners_count,
            self.kinds
        )
    }
}
