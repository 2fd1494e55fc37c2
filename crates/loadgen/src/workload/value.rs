//! Values that say whose they are: a head with the key, the version and the length, then filler
//! that follows from both.
//!
//! A value shorter than a head is filler of its key alone, which can show a crossed reply but not a
//! stale one. Invariant: what `write` makes, `check` accepts for the same key and version only.

use crate::rng::{Rng, mix};

/// Bytes of a value's head: magic, run (2 bytes), key (5), version (4), length (3), run (1).
pub const HEAD_SIZE: usize = 16;

const MAGIC: u8 = 0xC7;
const RUN_MAX: u32 = (1 << 24) - 1;
const NOISE_SIZE: usize = 64 << 10;

/// What is wrong with a reply. Each is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Violation {
    /// The value, or the key beside it, belongs to another key: replies were crossed.
    WrongKey,
    /// Older than a write that was acknowledged before the read was sent.
    Stale,
    /// A version that was never written.
    UnknownVersion,
    /// Shorter or longer than what was written.
    WrongLength,
    /// The head is right, the rest is not; or it is no value of ours at all.
    WrongBytes,
    /// A reply of a kind that the request can't have: replies were crossed.
    WrongKind,
    /// A reply that nothing asked for: one was duplicated.
    Unasked,
    /// Not a reply of the protocol.
    Garbage,
    /// Not there, although nothing may have removed it (only where the workload says so).
    UnexpectedMiss,
}

/// All violations, in the order in which they are counted.
pub const VIOLATIONS: [Violation; 9] = [
    Violation::WrongKey,
    Violation::Stale,
    Violation::UnknownVersion,
    Violation::WrongLength,
    Violation::WrongBytes,
    Violation::WrongKind,
    Violation::Unasked,
    Violation::Garbage,
    Violation::UnexpectedMiss,
];

impl Violation {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Violation::WrongKey => "wrong key (crossed replies)",
            Violation::Stale => "stale value",
            Violation::UnknownVersion => "version that was never written",
            Violation::WrongLength => "wrong length (truncated)",
            Violation::WrongBytes => "wrong bytes",
            Violation::WrongKind => "wrong kind of reply (crossed replies)",
            Violation::Unasked => "reply that nothing asked for (duplicated)",
            Violation::Garbage => "not a reply of the protocol",
            Violation::UnexpectedMiss => "unexpected miss",
        }
    }
}

/// Which versions of a key's value are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// No older one; 0 when nothing is known to be written.
    pub floor: u32,
    /// No newer one; the largest number where that is not known.
    pub newest: u32,
}

/// Makes and checks the values of one run.
#[derive(Debug, Clone)]
pub struct Values {
    noise: Vec<u8>,
    /// 24 bits: with fewer an earlier run's values would now and then pass for this one's.
    run: u32,
}

impl Values {
    /// `run` tells this run's values from those that an earlier run left; its low 24 bits count.
    pub fn new(run: u32) -> Values {
        let mut rng = Rng::new(0x006e_6f69_7365, 0);
        let noise = (0..NOISE_SIZE / 8).flat_map(|_| rng.bits().to_le_bytes()).collect();
        Values { noise, run: run & RUN_MAX }
    }

    /// Appends a value of `size` bytes.
    #[inline]
    pub fn write(&self, key: u64, version: u32, size: usize, out: &mut Vec<u8>) {
        if size < HEAD_SIZE {
            out.extend_from_slice(&self.noise[small_offset(key)..][..size]);
            return;
        }
        out.extend_from_slice(&self.head(key, version, size));
        self.for_filler(key, version, size, |piece| {
            out.extend_from_slice(piece);
            true
        });
    }

    /// Fills a place of at least [`HEAD_SIZE`] bytes with a value of that size.
    #[inline]
    pub fn fill(&self, key: u64, version: u32, out: &mut [u8]) {
        let size = out.len();
        let (head, mut rest) = out.split_at_mut(HEAD_SIZE);
        head.copy_from_slice(&self.head(key, version, size));
        self.for_filler(key, version, size, |piece| {
            let (front, back) = std::mem::take(&mut rest).split_at_mut(piece.len());
            front.copy_from_slice(piece);
            rest = back;
            true
        });
    }

    fn head(&self, key: u64, version: u32, size: usize) -> [u8; HEAD_SIZE] {
        let (word, length) = self.head_words(key, size);
        let mut head = [0; HEAD_SIZE];
        head[..8].copy_from_slice(&word.to_le_bytes());
        head[8..12].copy_from_slice(&version.to_le_bytes());
        head[12..].copy_from_slice(&length.to_le_bytes());
        head
    }

    /// The head without the version: its first 8 bytes and its last 4.
    #[inline]
    fn head_words(&self, key: u64, size: usize) -> (u64, u32) {
        let run = u64::from(self.run & 0xffff) << 8;
        (key << 24 | run | u64::from(MAGIC), size as u32 & RUN_MAX | self.run >> 16 << 24)
    }

    /// Gives the filler piece by piece, as long as `take` agrees; whether it always did.
    #[inline]
    fn for_filler(
        &self,
        key: u64,
        version: u32,
        size: usize,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let mut left = size - HEAD_SIZE;
        let mut offset = (mix(key ^ u64::from(version) << 40) as usize) % NOISE_SIZE;
        while left > 0 {
            let piece = left.min(NOISE_SIZE - offset);
            if !take(&self.noise[offset..offset + piece]) {
                return false;
            }
            (left, offset) = (left - piece, 0);
        }
        true
    }

    /// Whether `bytes` are a right value of the key, which has `size` bytes. `full` compares the
    /// filler as well. Gives the version, 0 when the value is too short to have one.
    #[inline]
    pub fn check(
        &self,
        bytes: &[u8],
        key: u64,
        size: usize,
        versions: Versions,
        full: bool,
    ) -> Result<u32, Violation> {
        if size < HEAD_SIZE {
            let expected = &self.noise[small_offset(key)..][..size];
            return match bytes {
                _ if bytes == expected => Ok(0),
                _ if bytes.len() != size => Err(Violation::WrongLength),
                _ => Err(Violation::WrongKey),
            };
        }
        let Some((head, filler)) = bytes.split_first_chunk::<HEAD_SIZE>() else {
            return Err(Violation::WrongLength);
        };
        let whole = u128::from_le_bytes(*head);
        let (word, version, length) = (whole as u64, (whole >> 64) as u32, (whole >> 96) as u32);
        if bytes.len() != size || (word, length) != self.head_words(key, size) {
            return self.strange(head, bytes.len(), key, size, versions.floor);
        }
        if version < versions.floor {
            return Err(Violation::Stale);
        }
        if version > versions.newest {
            return Err(Violation::UnknownVersion);
        }
        if full {
            let mut rest = filler;
            let equal = self.for_filler(key, version, size, |piece| {
                let (front, back) = rest.split_at(piece.len());
                rest = back;
                front == piece
            });
            if !equal {
                return Err(Violation::WrongBytes);
            }
        }
        Ok(version)
    }

    /// What a value is whose head is not this run's for the key and the size.
    #[cold]
    fn strange(
        &self,
        head: &[u8; HEAD_SIZE],
        found_size: usize,
        key: u64,
        size: usize,
        floor: u32,
    ) -> Result<u32, Violation> {
        let mut word = [0; 8];
        word.copy_from_slice(&head[..8]);
        let word = u64::from_le_bytes(word);
        let length = u32::from_le_bytes([head[12], head[13], head[14], 0]);
        match () {
            () if head[0] != MAGIC => Err(Violation::WrongBytes),
            () if word >> 24 != key => Err(Violation::WrongKey),
            () if found_size != size || length as usize != size => Err(Violation::WrongLength),
            // Left by an earlier run: right until this one has written the key.
            () if floor > 0 => Err(Violation::Stale),
            () => Ok(0),
        }
    }
}

fn small_offset(key: u64) -> usize {
    (mix(key ^ 0x0073_6d61_6c6c) as usize) % (NOISE_SIZE - HEAD_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Versions = Versions { floor: 0, newest: u32::MAX };

    fn value(values: &Values, key: u64, version: u32, size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        values.write(key, version, size, &mut bytes);
        bytes
    }

    #[test]
    fn what_is_written_is_right_for_its_key_only() {
        let values = Values::new(3);
        for size in [0, 1, 2, 8, 15, 16, 17, 100, 70_000, 200_000] {
            let bytes = value(&values, 77, 5, size);
            assert_eq!(bytes.len(), size);
            let version = if size < HEAD_SIZE { 0 } else { 5 };
            assert_eq!(values.check(&bytes, 77, size, ANY, true), Ok(version));
            if size >= 2 {
                let crossed = values.check(&bytes, 78, size, ANY, true);
                assert_eq!(crossed, Err(Violation::WrongKey));
            }
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        let values = Values::new(3);
        let bytes = value(&values, 77, 5, 100);
        let check = |bytes: &[u8], versions| values.check(bytes, 77, 100, versions, true);
        assert_eq!(check(&bytes[..99], ANY), Err(Violation::WrongLength));
        assert_eq!(check(&bytes[..3], ANY), Err(Violation::WrongLength));
        let stale = Versions { floor: 6, newest: 9 };
        assert_eq!(check(&bytes, stale), Err(Violation::Stale));
        let future = Versions { floor: 1, newest: 4 };
        assert_eq!(check(&bytes, future), Err(Violation::UnknownVersion));
        assert_eq!(check(&bytes, Versions { newest: u32::MAX, ..future }), Ok(5));
        let mut torn = bytes.clone();
        torn[60] ^= 1;
        assert_eq!(check(&torn, ANY), Err(Violation::WrongBytes));
        assert_eq!(check(&[b'x'; 100], ANY), Err(Violation::WrongBytes));
    }

    #[test]
    fn an_earlier_runs_value_is_right_until_this_run_has_written() {
        for (earlier, this) in [(1, 2), (0x01_0000, 0x02_0000), (0x0100, 0x0200)] {
            old_value_case(earlier, this);
        }
    }

    fn old_value_case(earlier: u32, this: u32) {
        let old = value(&Values::new(earlier), 77, 900, 100);
        let values = Values::new(this);
        let unwritten = Versions { floor: 0, newest: 0 };
        assert_eq!(values.check(&old, 77, 100, unwritten, true), Ok(0));
        let written = Versions { floor: 1, newest: 1 };
        assert_eq!(values.check(&old, 77, 100, written, true), Err(Violation::Stale));
    }
}
