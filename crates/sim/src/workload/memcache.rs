//! Requests of memcached.

use super::{Expect, Form, Request, Writer, many, own};
use crate::commands;
use crate::oracle::unit;
use crate::random::Random;

impl Writer<'_> {
    pub(super) fn memcache(&self, random: &mut Random) -> Request {
        if random.chance(20) {
            let unit = unit(self.pool, &[b"version"]);
            let bytes = b"version\r\n".to_vec();
            return Request::single(bytes, unit);
        }
        if random.chance(10) {
            return self.flush(random);
        }
        if random.chance(150) {
            return self.meta(random);
        }
        let reads = random.pick(&["get", "get", "get", "gets", "gat", "gats"]);
        let is_many = random.chance(self.plan.client.multi_pm);
        if is_many || random.chance(400) {
            let count = match (is_many, random.chance(50)) {
                (true, true) => random.between(1, 60),
                (true, false) => random.between(1, 8),
                _ => 1,
            };
            return self.read(reads, count, random);
        }
        self.write(random)
    }

    fn flush(&self, random: &mut Random) -> Request {
        let line = random.pick(&commands::MEMCACHE_FLUSHES);
        let unit = unit(self.pool, &line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        let pool = &self.plan.pools[self.pool];
        let (expect, units) = match pool.options.allow_flush {
            true => (Expect::Single(unit.clone()), vec![unit; pool.servers_count]),
            false => (Expect::Error, Vec::new()),
        };
        let bytes = format!("{line}\r\n").into_bytes();
        Request::new(bytes, expect, units)
    }

    fn read(&self, name: &str, count: u64, random: &mut Random) -> Request {
        let exptime = random.pick(&["0", "100", "-1"]);
        let mut head: Vec<&[u8]> = vec![name.as_bytes()];
        if name.starts_with("gat") {
            head.push(exptime.as_bytes());
        }
        let mut line = head.join(b" ".as_slice());
        let mut parts = Vec::new();
        for _ in 0..count {
            let key = self.key(random);
            line.extend_from_slice(if random.chance(20) { b"  " } else { b" " });
            line.extend_from_slice(&key);
            let mut words = head.clone();
            words.push(&key);
            let unit = unit(self.pool, &words);
            parts.push((key, unit));
        }
        line.extend_from_slice(if random.chance(50) { b"\n" } else { b"\r\n" });
        many(line, Form::Values, parts)
    }

    /// A meta command. None wants silence: whether there is a reply then is for the server to know.
    fn meta(&self, random: &mut Random) -> Request {
        if random.chance(60) {
            return own(b"mn\r\n".to_vec(), b"MN\r\n");
        }
        let name = random.pick(&META_COMMANDS);
        let key = self.key(random);
        let value = self.value(&key, random);
        let encoded = random.chance(200).then(|| base64(&key));
        let key_text = encoded.as_deref().unwrap_or(&key);
        let size = value.len().to_string();
        let mut words: Vec<&[u8]> = vec![name.as_bytes(), key_text];
        if name == "ms" {
            words.push(size.as_bytes());
        }
        let flags: &[&[u8]] = match name {
            "mg" => &[b"v", b"f", b"s", b"k", b"c", b"T100"],
            "ms" => &[b"T0", b"F7", b"ME", b"k", b"C5"],
            "ma" => &[b"v", b"N0", b"J12", b"D3", b"MD", b"k"],
            "md" => &[b"C3", b"k"],
            _ => &[],
        };
        words.extend(flags.iter().filter(|_| random.chance(400)));
        let opaque = format!("O{}.{}", self.connection, self.number);
        if name != "me" && random.chance(500) {
            words.push(opaque.as_bytes());
        }
        if encoded.is_some() {
            words.push(b"b");
        }
        let mut bytes = words.join(b" ".as_slice());
        bytes.extend_from_slice(b"\r\n");
        if name == "ms" {
            words.push(&value);
            bytes.extend_from_slice(&value);
            bytes.extend_from_slice(b"\r\n");
        }
        let unit = unit(self.pool, &words);
        Request::single(bytes, unit)
    }

    fn write(&self, random: &mut Random) -> Request {
        let key = self.key(random);
        let value = self.value(&key, random);
        let size = value.len().to_string();
        let number = random.below(30).to_string();
        let exptime = random.pick(&["0", "0", "1", "500", "-1"]);
        let key_text = String::from_utf8_lossy(&key).into_owned();
        let name = random.pick(&WRITES);
        let mut words = vec![name, &key_text];
        let mut stores = true;
        match name {
            "cas" => words.extend(["7", exptime, &size, &number]),
            "incr" | "decr" => {
                stores = false;
                words.push(&number);
            }
            "touch" => {
                stores = false;
                words.push(exptime);
            }
            "delete" => stores = false,
            _ => words.extend(["5", exptime, &size]),
        }
        let mut unit_words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        if stores {
            unit_words.push(&value);
        }
        let unit = unit(self.pool, &unit_words);
        let quiet = random.chance(self.plan.client.quiet_pm);
        if quiet {
            words.push("noreply");
        }
        let mut bytes = words.join(" ").into_bytes();
        bytes.extend_from_slice(b"\r\n");
        if stores {
            bytes.extend_from_slice(&value);
            bytes.extend_from_slice(b"\r\n");
        }
        let expect = if quiet { Expect::Nothing } else { Expect::Single(unit.clone()) };
        Request::new(bytes, expect, vec![unit])
    }
}

/// Whether a command of memcached is drawn.
#[cfg(test)]
pub(crate) fn draws(name: &str) -> bool {
    let reads = ["get", "gets", "gat", "gats", "version", "flush_all"];
    WRITES.contains(&name) || META_COMMANDS.contains(&name) || reads.contains(&name)
}

const WRITES: [&str; 12] = [
    "set", "set", "set", "add", "replace", "append", "prepend", "cas", "incr", "decr", "touch",
    "delete",
];

const META_COMMANDS: [&str; 8] = ["mg", "mg", "mg", "ms", "ms", "ma", "md", "me"];

pub(super) static MALFORMED: [(&[u8], Expect); 15] = [
    (b"bogus\r\n", Expect::Error),
    (b"get\r\n", Expect::Error),
    (b"set k 0 0 abc\r\n", Expect::Error),
    (b"set k x 0 3\r\nabc\r\n", Expect::Error),
    (b"set k 0 0 3\r\nabcXY", Expect::Error),
    (b"incr k abc\r\n", Expect::Error),
    (b"get LONG", Expect::Error),
    (b"set k 4294967296 0 1\r\na\r\n", Expect::Error),
    (b"\r\n", Expect::Error),
    (b"GET a\r\n", Expect::Error),
    (b"flush_all x\r\n", Expect::Error),
    (b"verbosity x\r\n", Expect::Error),
    (b"set k 0 0 99999999999\r\n", Expect::Fatal),
    (b"\x80\x01\0\0\0\0", Expect::Fatal),
    (b"GET / HTTP/1.1\r\n", Expect::Fatal),
];

/// As the flag `b` has keys.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::new();
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= group.len() { letter } else { b'=' });
        }
    }
    text
}
