//! Requests that differ in their key's digits and their value only: the bytes are made once and
//! patched.
//!
//! Not a protocol: what a request looks like is in `wire`, which a template copies. Invariant: a
//! template gives the same bytes as `wire` would, which is tried when it is made, or there is none.

use crate::wire::Encoder;
use crate::workload::Plan;
use crate::workload::file::Op;
use crate::workload::keys::{EIGHT_DIGITS_END, eight_digits, write_digits};
use crate::workload::stream::{Request, key_kind};
use crate::workload::value::HEAD_SIZE;

/// Larger values are not worth it: they are copied once more.
const VALUE_SIZE_MAX: usize = 4096;
/// With fewer digits their place could be mistaken.
const DIGITS_MIN: usize = 6;

/// See the module's text.
#[derive(Debug)]
pub struct Template {
    bytes: Vec<u8>,
    replies: u16,
    /// Where the digits of the key stand, once or more.
    digits: Vec<usize>,
    digits_count: usize,
    /// Nothing but the last eight digits may be other than 0.
    is_short: bool,
    /// The first key that does not fit the digits.
    key_end: u64,
    /// Where the value stands, and its size.
    value: Option<(usize, usize)>,
}

impl Template {
    /// For one of the plan's commands, if all its requests are alike.
    pub fn new(plan: &Plan, op: u8) -> Option<Template> {
        let kind = key_kind(plan.ops[op as usize]);
        if plan.ttl_s.as_ref().is_some_and(|law| law.constant().is_none()) {
            return None;
        }
        let digits_count = plan.keys.digits_count(kind)?;
        let key_end = 10u64.checked_pow(digits_count as u32).unwrap_or(u64::MAX);
        if digits_count < DIGITS_MIN || !is_plain(plan.ops[op as usize]) {
            return None;
        }
        let key = key_end.min(10u64.pow(DIGITS_MIN as u32)) / 9 * 7;
        let (bytes, replies) = encoded(plan, op, key, 1);
        let digits = places(&bytes, format!("{key:0digits_count$}").as_bytes());
        let value = match plan.value_size.constant() {
            _ if !writes(plan.ops[op as usize]) => None,
            Some(size) if (HEAD_SIZE..=VALUE_SIZE_MAX).contains(&(size as usize)) => {
                let mut value = Vec::new();
                plan.values.write(key, 1, size as usize, &mut value);
                let [place] = places(&bytes, &value)[..] else { return None };
                Some((place, size as usize))
            }
            _ => return None,
        };
        let is_short = false;
        let mut template =
            Template { bytes, replies, digits, digits_count, is_short, key_end, value };
        let tries = [(0, 1), (1, 2), (key_end - 1, u32::MAX), (key_end / 3, 7)];
        let same = tries.iter().all(|&(key, version)| {
            let (bytes, _) = encoded(plan, op, key, version);
            template.fill(plan, key, version).0 == bytes
        });
        same.then_some(template)
    }

    /// Whether a key's number has no more digits than there is room for.
    #[inline]
    pub fn holds(&self, key: u64) -> bool {
        key < self.key_end
    }

    /// The request's bytes and its number of replies, for a key that it holds.
    #[inline]
    pub fn fill(&mut self, plan: &Plan, key: u64, version: u32) -> (&[u8], u16) {
        let is_short = self.digits_count >= 8 && key < EIGHT_DIGITS_END;
        if is_short && self.is_short {
            let eight = eight_digits(key as u32);
            for &place in &self.digits {
                let end = place + self.digits_count;
                self.bytes[end - 8..end].copy_from_slice(&eight);
            }
        } else {
            self.is_short = is_short;
            for &place in &self.digits {
                write_digits(key, &mut self.bytes[place..place + self.digits_count]);
            }
        }
        if let Some((place, size)) = self.value {
            plan.values.fill(key, version, &mut self.bytes[place..place + size]);
        }
        (&self.bytes, self.replies)
    }
}

/// One key, and nothing that is drawn but a value.
fn is_plain(op: Op) -> bool {
    !matches!(op, Op::Mget | Op::Scan | Op::Ping | Op::Cas | Op::Prepend)
}

fn writes(op: Op) -> bool {
    matches!(op, Op::Set | Op::Insert | Op::Add | Op::Rmw)
}

fn encoded(plan: &Plan, op: u8, key: u64, version: u32) -> (Vec<u8>, u16) {
    let mut bytes = Vec::new();
    let request = Request { number: 0, op, key };
    let replies = Encoder::default().encode(plan, &request, version, &mut bytes);
    (bytes, replies)
}

fn places(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    memchr::memmem::find_iter(bytes, wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Settings;

    fn plan(text: &str) -> Plan {
        Plan::new(&Settings::parse(text).expect("good"), 3).expect("possible")
    }

    #[test]
    fn templates_give_what_the_encoder_gives() {
        for wire in ["redis", "redis3", "memcache", "meta"] {
            for op in ["get", "set", "add", "rmw", "insert", "delete", "incr", "touch"] {
                let plan = plan(&format!("protocol = '{wire}'\n[commands]\n{op} = 1"));
                let mut template = Template::new(&plan, 0).expect("all alike");
                for step in 0..2000u64 {
                    let (key, version) = (step * 499_999_993 % template.key_end, step as u32);
                    let (bytes, replies) = encoded(&plan, 0, key, version);
                    let filled = template.fill(&plan, key, version);
                    assert_eq!(filled, (bytes.as_slice(), replies), "{wire} {op} {key}");
                }
                assert!(template.holds(template.key_end - 1) && !template.holds(template.key_end));
            }
        }
    }

    #[test]
    fn requests_that_are_not_alike_have_no_template() {
        for text in [
            "[commands]\nmget = 1",
            "[commands]\nping = 1",
            "[commands]\nget = 1\n[keys]\nsize = { uniform = [10, 20] }",
            "[commands]\nget = 1\n[keys]\nsize = 1",
            "[commands]\nset = 1\n[values]\nsize = { uniform = [10, 20] }",
            "[commands]\nset = 1\n[values]\nsize = 3",
            "[commands]\nset = 1\n[values]\nttl_s = { uniform = [10, 20] }",
        ] {
            assert!(Template::new(&plan(text), 0).is_none(), "{text}");
        }
    }
}
