//! Replies in RESP2 and RESP3, and the texts of refusals.
//!
//! Invariant: an error is one line, whatever of a client's bytes it repeats.

use std::borrow::Cow;
use std::io::Write as _;

/// An error reply: the text after the dash, without the line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal(Cow<'static, [u8]>);

impl Refusal {
    const fn fixed(text: &'static str) -> Refusal {
        Refusal(Cow::Borrowed(text.as_bytes()))
    }

    /// Joins the parts; line ends in them become blanks, as Redis does it.
    pub(super) fn from_parts(parts: &[&[u8]]) -> Refusal {
        let mut text = parts.concat();
        for byte in text.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')) {
            *byte = b' ';
        }
        Refusal(Cow::Owned(text))
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        self.0.escape_ascii().to_string().replace("\\'", "'")
    }
}

pub(super) const WRONG_TYPE: Refusal =
    Refusal::fixed("WRONGTYPE Operation against a key holding the wrong kind of value");
pub(super) const NOT_AN_INTEGER: Refusal =
    Refusal::fixed("ERR value is not an integer or out of range");
pub(super) const NOT_A_COUNT: Refusal =
    Refusal::fixed("ERR value is out of range, must be positive");
pub(super) const NOT_A_C_INTEGER: Refusal =
    Refusal::fixed("ERR value is out of range, value must between -2147483648 and 2147483647");
pub(super) const SYNTAX: Refusal = Refusal::fixed("ERR syntax error");
pub(super) const OVERFLOW: Refusal = Refusal::fixed("ERR increment or decrement would overflow");
pub(super) const DECREMENT_OVERFLOW: Refusal = Refusal::fixed("ERR decrement would overflow");
pub(super) const OFFSET: Refusal = Refusal::fixed("ERR offset is out of range");
pub(super) const TOO_LONG: Refusal =
    Refusal::fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
pub(super) const DATABASE: Refusal = Refusal::fixed("ERR DB index is out of range");
pub(super) const OUT_OF_MEMORY: Refusal =
    Refusal::fixed("OOM command not allowed when used memory > 'maxmemory'.");
pub(super) const NO_LOGIN: Refusal = Refusal::fixed("NOAUTH Authentication required.");
pub(super) const NO_LOGIN_HELLO: Refusal = Refusal::fixed(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH \
     <user> <pass> option can be used to authenticate the client and select the RESP protocol \
     version at the same time",
);
pub(super) const WRONG_PASSWORD: Refusal =
    Refusal::fixed("WRONGPASS invalid username-password pair or user is disabled.");
pub(super) const NOT_A_VERSION: Refusal =
    Refusal::fixed("ERR Protocol version is not an integer or out of range");
pub(super) const NO_SUCH_VERSION: Refusal = Refusal::fixed("NOPROTO unsupported protocol version");
pub(super) const EXPIRE_NX: Refusal =
    Refusal::fixed("ERR NX and XX, GT or LT options at the same time are not compatible");
pub(super) const EXPIRE_GT_LT: Refusal =
    Refusal::fixed("ERR GT and LT options at the same time are not compatible");

pub(super) fn wrong_arity(name: &str) -> Refusal {
    let before = b"ERR wrong number of arguments for '";
    Refusal::from_parts(&[before, name.as_bytes(), b"' command"])
}

pub(super) fn invalid_expiry(name: &str) -> Refusal {
    let before = b"ERR invalid expire time in '";
    Refusal::from_parts(&[before, name.as_bytes(), b"' command"])
}

pub(super) fn refuse(out: &mut Vec<u8>, refusal: &Refusal) {
    out.push(b'-');
    out.extend_from_slice(&refusal.0);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn status(out: &mut Vec<u8>, text: &str) {
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub(super) fn integer(out: &mut Vec<u8>, number: i64) {
    write!(out, ":{number}\r\n").expect("a vector takes all that is written");
}

/// A count of things in memory, which is far below the largest integer.
pub(super) fn count(out: &mut Vec<u8>, count: usize) {
    integer(out, count as i64);
}

pub(super) fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    write!(out, "${}\r\n", bytes.len()).expect("a vector takes all that is written");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Which version of the protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Version {
    #[default]
    Resp2,
    Resp3,
}

/// A string, or the nil that says that there is none.
pub(super) fn bulk_or_nil(out: &mut Vec<u8>, version: Version, bytes: Option<&[u8]>) {
    match (bytes, version) {
        (Some(bytes), _) => bulk(out, bytes),
        (None, Version::Resp2) => out.extend_from_slice(b"$-1\r\n"),
        (None, Version::Resp3) => out.extend_from_slice(b"_\r\n"),
    }
}

/// The head of an array; its elements follow.
pub(super) fn array(out: &mut Vec<u8>, len: usize) {
    write!(out, "*{len}\r\n").expect("a vector takes all that is written");
}

/// The head of a map; its names and values follow in turn.
pub(super) fn map(out: &mut Vec<u8>, version: Version, len: usize) {
    match version {
        Version::Resp2 => array(out, 2 * len),
        Version::Resp3 => {
            write!(out, "%{len}\r\n").expect("a vector takes all that is written");
        }
    }
}

/// The head of a set; its members follow.
pub(super) fn set(out: &mut Vec<u8>, version: Version, len: usize) {
    match version {
        Version::Resp2 => array(out, len),
        Version::Resp3 => {
            write!(out, "~{len}\r\n").expect("a vector takes all that is written");
        }
    }
}

/// A text for people.
pub(super) fn text(out: &mut Vec<u8>, version: Version, text: &[u8]) {
    match version {
        Version::Resp2 => bulk(out, text),
        Version::Resp3 => {
            write!(out, "={}\r\ntxt:", text.len() + 4).expect("a vector takes all");
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

pub(super) fn nil_array(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(match version {
        Version::Resp2 => b"*-1\r\n",
        Version::Resp3 => b"_\r\n",
    });
}
