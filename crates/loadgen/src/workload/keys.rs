//! Keys: which one a request is about, and how its text is built from its number.
//!
//! There is no table of keys: a key is computed when it is sent, so ten million of them cost no
//! memory. Invariant: different numbers have different texts, and ranks map to numbers one to one.

use serde::{Deserialize, Serialize};

use super::law::{Law, Sampler};
use super::zipf::Zipf;
use crate::rng::Rng;

/// memcached's limit; Redis takes more, but a workload should run on both.
pub const KEY_SIZE_MAX: u64 = 250;

/// The most keys that a workload may have: their numbers, and those of inserted keys, must fit the
/// 40 bits of a value's head.
pub const KEYS_MAX: u64 = 1 << 39;

/// Which keys are asked for how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Popularity {
    /// All alike.
    Uniform,
    /// Zipf's law with this exponent, spread over the key space.
    Zipf(f64),
    /// A part of the keys draws a part of the requests, evenly within both.
    Hotset {
        /// Part of the keys, 0 to 1.
        keys: f64,
        /// Part of the requests, 0 to 1.
        requests: f64,
    },
    /// Zipf's law counted back from the key that was inserted last.
    Latest(f64),
    /// Points (part of the keys, part of the requests that the hottest such part draws), rising;
    /// even between two points.
    Shares(Vec<(f64, f64)>),
}

impl Popularity {
    /// What is wrong with it, if anything.
    pub fn check(&self) -> Result<(), String> {
        let part = |x: f64| (0.0..=1.0).contains(&x);
        let good = match self {
            Popularity::Uniform => true,
            Popularity::Zipf(s) | Popularity::Latest(s) => (0.0..=Zipf::EXPONENT_MAX).contains(s),
            Popularity::Hotset { keys, requests } => *keys > 0.0 && part(*keys) && part(*requests),
            Popularity::Shares(points) => {
                !points.is_empty()
                    && points.iter().all(|point| part(point.0) && part(point.1))
                    && points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1)
            }
        };
        if good { Ok(()) } else { Err(format!("impossible popularity: {self:?}")) }
    }
}

/// What a key is for. The two kinds have different texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// It holds a value that says whose it is.
    Value,
    /// It holds a number.
    Counter,
}

#[derive(Debug, Clone)]
enum Draw {
    Uniform,
    Zipf(Zipf),
    Latest(Zipf),
    Hotset { hot_count: u64, requests: f64 },
    Shares(Vec<(f64, f64)>),
}

/// All keys of a workload.
#[derive(Debug, Clone)]
pub struct KeySpace {
    count: u64,
    prefix: Vec<u8>,
    size: Sampler,
    draw: Draw,
    multiplier: u64,
    offset: u64,
}

impl KeySpace {
    /// `count` keys (1 to [`KEYS_MAX`]) that begin with `prefix`. Laws must have been checked.
    pub fn new(count: u64, prefix: &str, size: &Law, popularity: &Popularity) -> KeySpace {
        let draw = match popularity {
            Popularity::Uniform => Draw::Uniform,
            Popularity::Zipf(exponent) => Draw::Zipf(Zipf::new(count, *exponent)),
            Popularity::Latest(exponent) => Draw::Latest(Zipf::new(count, *exponent)),
            Popularity::Hotset { keys, requests } => Draw::Hotset {
                hot_count: ((count as f64 * keys).ceil() as u64).clamp(1, count),
                requests: *requests,
            },
            Popularity::Shares(points) => Draw::Shares(points.clone()),
        };
        // The golden section spreads neighbouring ranks as far apart as can be.
        let mut multiplier = ((count as f64 * 0.618_033_988_749_895) as u64).max(1);
        while gcd(multiplier, count) != 1 {
            multiplier += 1;
        }
        KeySpace {
            count,
            prefix: prefix.as_bytes().to_vec(),
            size: Sampler::new(size, KEY_SIZE_MAX),
            draw,
            multiplier,
            offset: count / 3,
        }
    }

    /// How many there are before any insert.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Draws the number of a key. `inserted` more than `count` exist.
    #[inline]
    pub fn draw(&self, rng: &mut Rng, inserted: u64) -> u64 {
        let rank = match &self.draw {
            Draw::Uniform => return rng.below(self.count),
            Draw::Zipf(zipf) => zipf.draw(rng),
            Draw::Latest(zipf) => return self.count - 1 + inserted - zipf.draw(rng),
            Draw::Hotset { hot_count, requests } => {
                if rng.unit() < *requests || *hot_count == self.count {
                    rng.below(*hot_count)
                } else {
                    hot_count + rng.below(self.count - hot_count)
                }
            }
            Draw::Shares(points) => self.draw_share(points, rng),
        };
        self.spread(rank)
    }

    fn draw_share(&self, points: &[(f64, f64)], rng: &mut Rng) -> u64 {
        let request = rng.unit();
        let (mut key_from, mut request_from) = (0.0, 0.0);
        for &(key_to, request_to) in points.iter().chain(std::iter::once(&(1.0, 1.0))) {
            if request < request_to {
                let part = (request - request_from) / (request_to - request_from);
                let key = key_from + part * (key_to - key_from);
                return ((key * self.count as f64) as u64).min(self.count - 1);
            }
            (key_from, request_from) = (key_to, request_to);
        }
        self.count - 1
    }

    /// The key of a rank: hot keys lie all over the space, and none is shared.
    #[inline]
    fn spread(&self, rank: u64) -> u64 {
        let product = u128::from(rank) * u128::from(self.multiplier) + u128::from(self.offset);
        (product % u128::from(self.count)) as u64
    }

    /// How many digits the number of a key takes, if all texts of the kind have the same size.
    pub fn digits_count(&self, kind: KeyKind) -> Option<usize> {
        let head = self.prefix.len() + usize::from(kind == KeyKind::Counter);
        (self.size.constant()? as usize).checked_sub(head)
    }

    /// Appends the text of a key.
    #[inline]
    pub fn write(&self, kind: KeyKind, id: u64, out: &mut Vec<u8>) {
        let size = match self.size.constant() {
            Some(size) => size,
            None => self.size.draw(&mut Rng::new(0x6b65_7973, id)),
        } as usize;
        let start = out.len();
        out.extend_from_slice(&self.prefix);
        if kind == KeyKind::Counter {
            out.push(b'n');
        }
        let mut text = itoa::Buffer::new();
        let digits = text.format(id).as_bytes();
        let zeros = size.saturating_sub(out.len() - start + digits.len());
        out.resize(out.len() + zeros, b'0');
        out.extend_from_slice(digits);
    }
}

/// Writes a number's last digits, as many as there is room for, with zeros in front.
#[inline]
pub fn write_digits(mut number: u64, out: &mut [u8]) {
    let mut end = out.len();
    while end >= 8 && number > 0 {
        out[end - 8..end].copy_from_slice(&eight_digits((number % EIGHT_DIGITS_END) as u32));
        number /= EIGHT_DIGITS_END;
        end -= 8;
    }
    for place in (0..end).rev() {
        out[place] = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The first number that has more than eight digits.
pub const EIGHT_DIGITS_END: u64 = 100_000_000;

/// Eight decimal digits at once: halves, then pairs, then digits are split in the lanes of a word.
#[inline]
pub fn eight_digits(number: u32) -> [u8; 8] {
    let halves = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    let hundreds = ((halves * 10_486) >> 20) & 0x7f_0000_007f;
    let pairs = hundreds | (halves - 100 * hundreds) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    let digits = tens | (pairs - 10 * tens) << 8;
    (digits | 0x3030_3030_3030_3030).to_le_bytes()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::law::LawKind;
    use std::collections::HashSet;

    fn space(count: u64, popularity: Popularity) -> KeySpace {
        popularity.check().expect("possible");
        KeySpace::new(count, "key:", &Law::fixed(16), &popularity)
    }

    fn share_of(space: &KeySpace, hot: impl Fn(u64) -> bool) -> f64 {
        let draws = 200_000;
        let hits = (0..draws).filter(|&i| hot(space.draw(&mut Rng::new(9, i), 0))).count();
        hits as f64 / draws as f64
    }

    #[test]
    fn ranks_are_spread_one_to_one() {
        for count in [1, 2, 3, 10, 999, 1000, 4096] {
            let space = space(count, Popularity::Zipf(1.0));
            let ids: HashSet<u64> = (0..count).map(|rank| space.spread(rank)).collect();
            assert_eq!(ids.len() as u64, count);
            assert!(ids.iter().all(|&id| id < count));
        }
    }

    #[test]
    fn texts_have_their_size_and_are_all_different() {
        let law = Law(LawKind::Uniform([1, 40]));
        let space = KeySpace::new(100_000, "k", &law, &Popularity::Uniform);
        let mut texts = HashSet::new();
        for id in 0..100_000 {
            for kind in [KeyKind::Value, KeyKind::Counter] {
                let mut text = Vec::new();
                space.write(kind, id, &mut text);
                assert!(text.len() <= 40 && text.starts_with(b"k"));
                assert!(texts.insert(text));
            }
        }
        let mut text = Vec::new();
        space_of_16().write(KeyKind::Value, 42, &mut text);
        assert_eq!(text, b"key:000000000042");
    }

    #[test]
    fn digits_are_those_of_the_number() {
        let mut out = [b'?'; 12];
        let mut number = 0u64;
        while number < 1_000_000_000_000 {
            write_digits(number, &mut out);
            assert_eq!(std::str::from_utf8(&out), Ok(format!("{number:012}").as_str()));
            number = number * 13 / 12 + 1;
        }
        for number in (0..100_000_000).step_by(7919) {
            assert_eq!(eight_digits(number), *format!("{number:08}").as_bytes());
        }
        let mut short = [b'?'; 3];
        write_digits(12_345, &mut short);
        assert_eq!(&short, b"345");
    }

    fn space_of_16() -> KeySpace {
        space(1000, Popularity::Uniform)
    }

    #[test]
    fn a_hot_set_draws_its_share() {
        let hot = space(1000, Popularity::Hotset { keys: 0.2, requests: 0.8 });
        let ids: HashSet<u64> = (0..200).map(|rank| hot.spread(rank)).collect();
        let share = share_of(&hot, |id| ids.contains(&id));
        assert!((share - 0.8).abs() < 0.01, "{share}");
    }

    /// One percent of the keys draws 55 % of the requests, half of them 99 %.
    #[test]
    fn shares_are_those_of_the_table() {
        let etc = space(10_000, Popularity::Shares(vec![(0.01, 0.55), (0.5, 0.99)]));
        for (keys, requests) in [(100, 0.55), (5000, 0.99)] {
            let ids: HashSet<u64> = (0..keys).map(|rank| etc.spread(rank)).collect();
            let share = share_of(&etc, |id| ids.contains(&id));
            assert!((share - requests).abs() < 0.01, "{share} for {keys}");
        }
    }

    #[test]
    fn latest_follows_the_inserts() {
        let latest = space(1000, Popularity::Latest(0.99));
        let mut rng = Rng::new(1, 1);
        let ids: Vec<u64> = (0..10_000).map(|_| latest.draw(&mut rng, 500)).collect();
        assert!(ids.iter().all(|&id| (500..1500).contains(&id)));
        assert!(ids.iter().filter(|&&id| id == 1499).count() > 1000);
    }
}
