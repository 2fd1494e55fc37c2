//! Names of connections and listeners, small enough to travel in a completion's user data.
//!
//! A token says what the thing is, where it is, and which use of that place is meant. It is not a
//! capability: a token whose generation has passed is ignored, never acted on.

use std::fmt;

/// What a [`Token`] names. The event base keeps one table, and one set of receive buffers, a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A listening socket.
    Listener = 0,
    /// A connection that somebody opened to us.
    Client = 1,
    /// A connection that we opened to a server.
    Server = 2,
}

impl Kind {
    /// How many kinds there are.
    pub const COUNT: usize = 3;

    fn from_bits(bits: u8) -> Kind {
        match bits {
            0 => Kind::Listener,
            1 => Kind::Client,
            _ => Kind::Server,
        }
    }
}

/// Kind (4 bits), generation (20 bits) and index (32 bits): 56 bits, so that a completion's 64-bit
/// user data has 8 left for the operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(u64);

/// Generations wrap at this many reuses of one slot.
pub const GENERATION_COUNT: u32 = 1 << 20;

impl Token {
    /// Bits that a token needs.
    pub const BITS: u32 = 56;

    /// A token for the given place. The generation is taken modulo [`GENERATION_COUNT`].
    pub fn new(kind: Kind, index: u32, generation: u32) -> Token {
        let generation = u64::from(generation % GENERATION_COUNT);
        Token((kind as u64) << 52 | generation << 32 | u64::from(index))
    }

    /// What it names.
    pub fn kind(self) -> Kind {
        Kind::from_bits((self.0 >> 52) as u8 & 0xf)
    }

    /// Which use of the slot is meant.
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & (GENERATION_COUNT - 1)
    }

    /// The slot in the table of its kind.
    pub fn index(self) -> u32 {
        self.0 as u32
    }

    /// The token as bits, [`Token::BITS`] of them.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The token that [`Token::to_bits`] gave. Higher bits are ignored.
    pub fn from_bits(bits: u64) -> Token {
        Token(bits & ((1 << Token::BITS) - 1))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({}.{})", self.kind(), self.index(), self.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_keeps_its_parts() {
        for kind in [Kind::Listener, Kind::Client, Kind::Server] {
            let token = Token::new(kind, u32::MAX - 1, GENERATION_COUNT - 1);
            assert_eq!(token.kind(), kind);
            assert_eq!(token.index(), u32::MAX - 1);
            assert_eq!(token.generation(), GENERATION_COUNT - 1);
            assert!(token.to_bits() < 1 << Token::BITS);
            assert_eq!(Token::from_bits(token.to_bits() | 0xff << 56), token);
        }
    }

    #[test]
    fn generation_wraps() {
        assert_eq!(Token::new(Kind::Client, 0, GENERATION_COUNT).generation(), 0);
    }
}
