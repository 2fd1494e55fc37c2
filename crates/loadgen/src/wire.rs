//! Requests as bytes, in each of the four protocols.
//!
//! It decides nothing: what to ask is in `workload`. Invariant: a request is one run of bytes,
//! which goes out in one send, and is answered by exactly the number of replies that `encode`
//! returns.

use crate::rng::Rng;
use crate::template::Template;
use crate::workload::Plan;
use crate::workload::file::{Op, Wire};
use crate::workload::keys::KeyKind;
use crate::workload::stream::{Request, key_kind, multi_keys};

/// What a new connection says first, and how many replies answer it.
pub fn handshake(wire: Wire) -> (&'static [u8], u16) {
    match wire {
        Wire::Redis3 => (b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n", 1),
        _ => (b"", 0),
    }
}

/// Writes requests; keeps its working memory.
#[derive(Debug, Default)]
pub struct Encoder {
    key: Vec<u8>,
    value: Vec<u8>,
    request: Vec<u8>,
    /// By [`Plan::ops`]; empty when none are wanted.
    templates: Vec<Option<Template>>,
}

impl Encoder {
    /// For the requests of a plan, as fast as can be.
    pub fn new(plan: &Plan) -> Encoder {
        let templates = (0..plan.ops.len()).map(|op| Template::new(plan, op as u8)).collect();
        Encoder { templates, ..Encoder::default() }
    }

    /// The bytes of a request and the number of its replies; `version` is that of the value, if one
    /// is written.
    #[inline]
    pub fn request(&mut self, plan: &Plan, request: &Request, version: u32) -> (&[u8], u16) {
        let place = request.op as usize;
        if matches!(self.templates.get(place), Some(Some(one)) if one.holds(request.key)) {
            let template = self.templates[place].as_mut().expect("seen in the line above");
            return template.fill(plan, request.key, version);
        }
        let mut bytes = std::mem::take(&mut self.request);
        bytes.clear();
        let replies = self.encode(plan, request, version, &mut bytes);
        self.request = bytes;
        (&self.request, replies)
    }

    /// The bytes of a cas's second half, for the version number that the first has read.
    pub fn cas(&mut self, plan: &Plan, request: &Request, version: u32, unique: u64) -> &[u8] {
        self.key.clear();
        plan.keys.write(KeyKind::Value, request.key, &mut self.key);
        self.make_value(plan, request.key, version);
        let mut bytes = std::mem::take(&mut self.request);
        bytes.clear();
        let ttl = ttl(plan, request);
        if plan.wire() == Wire::Meta {
            let mut mode = b" C".to_vec();
            number(unique, &mut mode);
            self.store_meta(&mode, ttl, &mut bytes);
        } else {
            self.store_text(b"cas ", ttl, Some(unique), &mut bytes);
        }
        self.request = bytes;
        &self.request
    }

    /// The bytes of the request that writes a key before the measurement.
    pub fn prefill(&mut self, plan: &Plan, kind: KeyKind, key: u64, version: u32) -> &[u8] {
        let mut bytes = std::mem::take(&mut self.request);
        bytes.clear();
        self.encode_prefill(plan, kind, key, version, &mut bytes);
        self.request = bytes;
        &self.request
    }

    /// Appends a request; `version` is that of the value, if one is written. Returns the number of
    /// replies.
    #[inline]
    pub fn encode(
        &mut self,
        plan: &Plan,
        request: &Request,
        version: u32,
        out: &mut Vec<u8>,
    ) -> u16 {
        let op = plan.ops[request.op as usize];
        self.key.clear();
        plan.keys.write(key_kind(op), request.key, &mut self.key);
        match plan.wire() {
            Wire::Redis | Wire::Redis3 => self.redis(plan, op, request, version, out),
            Wire::Memcache => self.memcache(plan, op, request, version, out),
            Wire::Meta => self.meta(plan, op, request, version, out),
        }
    }

    /// Appends the request that writes a key before the measurement.
    fn encode_prefill(
        &mut self,
        plan: &Plan,
        kind: KeyKind,
        key: u64,
        version: u32,
        out: &mut Vec<u8>,
    ) {
        self.key.clear();
        plan.keys.write(kind, key, &mut self.key);
        self.value.clear();
        match kind {
            KeyKind::Counter => self.value.push(b'0'),
            KeyKind::Value => plan.values.write(key, version, plan.size_of(key), &mut self.value),
        }
        // Prefilled values live long enough for the run, whatever the workload's times to live.
        match plan.wire() {
            Wire::Redis | Wire::Redis3 => bulks(&[b"SET", &self.key, &self.value], out),
            Wire::Memcache => self.store_text(b"set ", None, None, out),
            Wire::Meta => self.store_meta(b"", None, out),
        }
    }

    fn make_value(&mut self, plan: &Plan, key: u64, version: u32) {
        self.value.clear();
        plan.values.write(key, version, plan.size_of(key), &mut self.value);
    }

    fn redis(
        &mut self,
        plan: &Plan,
        op: Op,
        request: &Request,
        version: u32,
        out: &mut Vec<u8>,
    ) -> u16 {
        match op {
            Op::Get => bulks(&[b"GET", &self.key], out),
            Op::Delete => bulks(&[b"DEL", &self.key], out),
            Op::Incr => bulks(&[b"INCR", &self.key], out),
            Op::Ping => bulks(&[b"PING"], out),
            Op::Touch => {
                let mut text = itoa::Buffer::new();
                let ttl = text.format(ttl(plan, request).unwrap_or(3600)).as_bytes();
                bulks(&[b"EXPIRE", &self.key, ttl], out);
            }
            Op::Mget | Op::Scan => {
                let count = multi_keys(plan, request, |_, _| {});
                out.push(b'*');
                number(count as u64 + 1, out);
                out.extend_from_slice(b"\r\n$4\r\nMGET\r\n");
                multi_keys(plan, request, |_, key| {
                    self.key.clear();
                    plan.keys.write(KeyKind::Value, key, &mut self.key);
                    bulk(&self.key, out);
                });
            }
            Op::Set | Op::Insert | Op::Add | Op::Rmw => {
                self.make_value(plan, request.key, version);
                let mut text = itoa::Buffer::new();
                let ttl = ttl(plan, request).map(|ttl| text.format(ttl).as_bytes());
                let only_new = op == Op::Add;
                if op == Op::Rmw {
                    bulks(&[b"GET", &self.key], out);
                }
                let (key, value) = (self.key.as_slice(), self.value.as_slice());
                match (ttl, only_new) {
                    (None, false) => bulks(&[b"SET", key, value], out),
                    (None, true) => bulks(&[b"SET", key, value, b"NX"], out),
                    (Some(ttl), false) => bulks(&[b"SET", key, value, b"EX", ttl], out),
                    (Some(ttl), true) => bulks(&[b"SET", key, value, b"EX", ttl, b"NX"], out),
                }
                return if op == Op::Rmw { 2 } else { 1 };
            }
            Op::Gets | Op::Cas | Op::Prepend => unreachable!("the plan refuses them for Redis"),
        }
        1
    }

    fn memcache(
        &mut self,
        plan: &Plan,
        op: Op,
        request: &Request,
        version: u32,
        out: &mut Vec<u8>,
    ) -> u16 {
        match op {
            Op::Get => line(&[b"get ", &self.key], out),
            Op::Gets | Op::Cas => line(&[b"gets ", &self.key], out),
            Op::Prepend => line(&[b"prepend ", &self.key, b" 0 0 0\r\n"], out),
            Op::Delete => line(&[b"delete ", &self.key], out),
            Op::Incr => line(&[b"incr ", &self.key, b" 1"], out),
            Op::Ping => line(&[b"version"], out),
            Op::Touch => {
                let mut text = itoa::Buffer::new();
                let ttl = text.format(ttl(plan, request).unwrap_or(3600)).as_bytes();
                line(&[b"touch ", &self.key, b" ", ttl], out);
            }
            Op::Mget | Op::Scan => {
                out.extend_from_slice(b"get");
                multi_keys(plan, request, |_, key| {
                    out.push(b' ');
                    plan.keys.write(KeyKind::Value, key, out);
                });
                out.extend_from_slice(b"\r\n");
            }
            Op::Set | Op::Insert | Op::Add | Op::Rmw => {
                self.make_value(plan, request.key, version);
                if op == Op::Rmw {
                    line(&[b"get ", &self.key], out);
                }
                let verb: &[u8] = if op == Op::Add { b"add " } else { b"set " };
                self.store_text(verb, ttl(plan, request), None, out);
                return if op == Op::Rmw { 2 } else { 1 };
            }
        }
        1
    }

    fn meta(
        &mut self,
        plan: &Plan,
        op: Op,
        request: &Request,
        version: u32,
        out: &mut Vec<u8>,
    ) -> u16 {
        match op {
            Op::Get => line(&[b"mg ", &self.key, b" v k"], out),
            Op::Gets | Op::Cas => line(&[b"mg ", &self.key, b" v k c"], out),
            Op::Prepend => line(&[b"ms ", &self.key, b" 0 MP\r\n"], out),
            Op::Delete => line(&[b"md ", &self.key], out),
            Op::Incr => line(&[b"ma ", &self.key, b" v"], out),
            Op::Ping => line(&[b"mn"], out),
            Op::Touch => {
                let mut text = itoa::Buffer::new();
                let ttl = text.format(ttl(plan, request).unwrap_or(3600)).as_bytes();
                line(&[b"mg ", &self.key, b" T", ttl], out);
            }
            Op::Mget | Op::Scan => {
                let count = multi_keys(plan, request, |_, key| {
                    out.extend_from_slice(b"mg ");
                    plan.keys.write(KeyKind::Value, key, out);
                    out.extend_from_slice(b" v k\r\n");
                });
                return count as u16;
            }
            Op::Set | Op::Insert | Op::Add | Op::Rmw => {
                self.make_value(plan, request.key, version);
                if op == Op::Rmw {
                    line(&[b"mg ", &self.key, b" v k"], out);
                }
                let mode: &[u8] = if op == Op::Add { b" ME" } else { b"" };
                self.store_meta(mode, ttl(plan, request), out);
                return if op == Op::Rmw { 2 } else { 1 };
            }
        }
        1
    }

    /// `set key 0 ttl size`, and the value.
    fn store_text(&self, verb: &[u8], ttl: Option<u64>, unique: Option<u64>, out: &mut Vec<u8>) {
        out.extend_from_slice(verb);
        out.extend_from_slice(&self.key);
        out.extend_from_slice(b" 0 ");
        number(ttl.unwrap_or(0), out);
        out.push(b' ');
        number(self.value.len() as u64, out);
        if let Some(unique) = unique {
            out.push(b' ');
            number(unique, out);
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.value);
        out.extend_from_slice(b"\r\n");
    }

    /// `ms key size flags`, and the value.
    fn store_meta(&self, mode: &[u8], ttl: Option<u64>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"ms ");
        out.extend_from_slice(&self.key);
        out.push(b' ');
        number(self.value.len() as u64, out);
        if let Some(ttl) = ttl {
            out.extend_from_slice(b" T");
            number(ttl, out);
        }
        out.extend_from_slice(mode);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.value);
        out.extend_from_slice(b"\r\n");
    }
}

/// memcached takes more seconds than this for a date.
const MEMCACHE_TTL_MAX: u64 = 30 * 24 * 3600;

/// Seconds to live of what a request writes.
fn ttl(plan: &Plan, request: &Request) -> Option<u64> {
    let law = plan.ttl_s.as_ref()?;
    let ttl = law.draw(&mut Rng::new(plan.settings.seed ^ 0x74_746C, request.number)).max(1);
    match plan.wire() {
        Wire::Redis | Wire::Redis3 => Some(ttl),
        Wire::Memcache | Wire::Meta => Some(ttl.min(MEMCACHE_TTL_MAX)),
    }
}

#[inline]
fn number(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[inline]
fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'$');
    number(bytes.len() as u64, out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

#[inline]
fn bulks(arguments: &[&[u8]], out: &mut Vec<u8>) {
    out.push(b'*');
    number(arguments.len() as u64, out);
    out.extend_from_slice(b"\r\n");
    for argument in arguments {
        bulk(argument, out);
    }
}

#[inline]
fn line(pieces: &[&[u8]], out: &mut Vec<u8>) {
    for piece in pieces {
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Settings;

    /// The bytes of each command for key 7, with values of 3 bytes.
    fn encoded(wire: &str, op: &str) -> (String, u16) {
        let text = format!(
            "protocol = '{wire}'\nmulti = 2\n[commands]\n{op} = 1\n[keys]\ncount = 10\nsize = 1\n\
             prefix = 'k'\n[values]\nsize = 3\nttl_s = 60"
        );
        let plan = Plan::new(&Settings::parse(&text).expect("good"), 0).expect("possible");
        let mut out = Vec::new();
        let request = Request { number: 0, op: 0, key: 7 };
        let replies = Encoder::default().encode(&plan, &request, 1, &mut out);
        let mut value = Vec::new();
        plan.values.write(7, 1, 3, &mut value);
        let at = out.windows(3).position(|window| window == value);
        if let Some(at) = at {
            out[at..at + 3].copy_from_slice(b"VAL");
        }
        (String::from_utf8(out).expect("text"), replies)
    }

    #[test]
    fn the_second_half_of_a_cas_names_what_the_first_has_read() {
        for (wire, expected) in
            [("memcache", "cas k7 0 60 3 99\r\nVAL\r\n"), ("meta", "ms k7 3 T60 C99\r\nVAL\r\n")]
        {
            let text = format!(
                "protocol = '{wire}'\n[commands]\ncas = 1\n[keys]\nsize = 1\nprefix = 'k'\n\
                 [values]\nsize = 3\nttl_s = 60"
            );
            let plan = Plan::new(&Settings::parse(&text).expect("good"), 0).expect("possible");
            let request = Request { number: 0, op: 0, key: 7 };
            let mut value = Vec::new();
            plan.values.write(7, 1, 3, &mut value);
            let expected = expected.replace("VAL", "");
            let (head, tail) = expected.split_once("\r\n").expect("two lines");
            let expected = [head.as_bytes(), b"\r\n", &value, tail.as_bytes()].concat();
            assert_eq!(Encoder::default().cas(&plan, &request, 1, 99), expected);
        }
    }

    #[test]
    fn requests_are_those_of_the_protocols() {
        let cases = [
            ("redis", "get", "*2\r\n$3\r\nGET\r\n$2\r\nk7\r\n", 1),
            (
                "redis",
                "set",
                "*5\r\n$3\r\nSET\r\n$2\r\nk7\r\n$3\r\nVAL\r\n$2\r\nEX\r\n$2\r\n60\r\n",
                1,
            ),
            ("redis", "incr", "*2\r\n$4\r\nINCR\r\n$3\r\nkn7\r\n", 1),
            ("redis", "scan", "*3\r\n$4\r\nMGET\r\n$2\r\nk7\r\n$2\r\nk8\r\n", 1),
            ("redis", "touch", "*3\r\n$6\r\nEXPIRE\r\n$2\r\nk7\r\n$2\r\n60\r\n", 1),
            ("redis3", "delete", "*2\r\n$3\r\nDEL\r\n$2\r\nk7\r\n", 1),
            ("memcache", "get", "get k7\r\n", 1),
            ("memcache", "set", "set k7 0 60 3\r\nVAL\r\n", 1),
            ("memcache", "rmw", "get k7\r\nset k7 0 60 3\r\nVAL\r\n", 2),
            ("memcache", "scan", "get k7 k8\r\n", 1),
            ("memcache", "gets", "gets k7\r\n", 1),
            ("memcache", "cas", "gets k7\r\n", 1),
            ("memcache", "prepend", "prepend k7 0 0 0\r\n\r\n", 1),
            ("meta", "gets", "mg k7 v k c\r\n", 1),
            ("meta", "prepend", "ms k7 0 MP\r\n\r\n", 1),
            ("memcache", "ping", "version\r\n", 1),
            ("memcache", "touch", "touch k7 60\r\n", 1),
            ("meta", "get", "mg k7 v k\r\n", 1),
            ("meta", "set", "ms k7 3 T60\r\nVAL\r\n", 1),
            ("meta", "add", "ms k7 3 T60 ME\r\nVAL\r\n", 1),
            ("meta", "scan", "mg k7 v k\r\nmg k8 v k\r\n", 2),
            ("meta", "incr", "ma kn7 v\r\n", 1),
            ("meta", "delete", "md k7\r\n", 1),
        ];
        for (wire, op, bytes, replies) in cases {
            assert_eq!(encoded(wire, op), (bytes.to_owned(), replies), "{wire} {op}");
        }
    }
}
