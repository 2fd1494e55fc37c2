//! Numbers that look random and are the same for the same seed: splitmix64 (Steele, Lea and Flood,
//! 2014; constants by Vigna).
//!
//! Two multiplications a number, no bad seed; predictable, so not for secrets. Invariant: the same
//! seed gives the same numbers on every machine.

/// 2^64 divided by the golden ratio, odd: how far the counter advances each time.
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes 64 bits so that inputs that differ in one bit give unrelated outputs.
#[inline]
pub fn mix(value: u64) -> u64 {
    let mut mixed = value;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A generator with 64 bits of state.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The numbers that belong to this seed.
    pub fn new(seed: u64) -> SplitMix64 {
        SplitMix64(seed)
    }

    /// The number that [`SplitMix64::draw`] will give.
    #[inline]
    pub fn peek(&self) -> u64 {
        mix(self.0.wrapping_add(STEP))
    }

    /// 64 random bits.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_splitmix64s() {
        // The first for the seed 1234567, published with the reference implementation.
        let mut random = SplitMix64::new(1_234_567);
        for expected in
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        {
            assert_eq!(random.peek(), expected);
            assert_eq!(random.draw(), expected);
        }
    }
}
