//! The meta commands: `mg`, `ms`, `md`, `ma` and `me`, whose flags are single letters with a token
//! behind them. `mn` is in `request.rs`, since no server sees it.
//!
//! What a flag means is for the server to know, also whether there is such a flag: versions differ.
//! Only those are looked at that decide where a request goes (`b`), what its response must echo
//! (`O`, `k`), and whether there is one at all (`q`, which is taken out, so that there always is).
//! Invariant: the server answers what is forwarded with exactly one response. Its only errors
//! behind which it would read a data block as commands are found here.

use crate::memcache::commands::{self, Row, Shape};
use crate::memcache::line::Words;
use crate::memcache::request::{
    Answer, FORMAT, SERVER_LINE_SIZE_MAX, UNKNOWN, block_of, end_line, push_number, push_word,
    request,
};
use crate::memcache::{base64, is_key, response};
use crate::{Forward, Limits, Parsed, Quiet, Route, Scratch, Span};

/// Words of a line, the name counted. memcached refuses more.
const WORDS_MAX: usize = 19;

/// What the flags of a request say that concerns us.
#[derive(Default)]
struct Flags {
    quiet: bool,
    quiet_twice: bool,
    base64: bool,
    /// It has a byte that could be taken for a line end, or the like.
    unprintable: bool,
    /// Check sum of the opaque token.
    opaque_check: Option<u32>,
    echoes_key: bool,
    /// An item is made where there is none.
    vivifies: bool,
    count: usize,
}

impl Flags {
    /// `words` is behind the key, and the length where there is one.
    fn read(words: Words<'_>, bytes: &[u8]) -> Flags {
        let mut flags = Flags::default();
        for word in words {
            let flag = &bytes[word.range()];
            flags.count += 1;
            flags.unprintable |= flag.iter().any(|&byte| byte < b' ' || byte == 0x7f);
            match flag[0] {
                b'q' => {
                    flags.quiet_twice |= flags.quiet;
                    flags.quiet = true;
                }
                b'b' => flags.base64 = true,
                b'O' => flags.opaque_check = Some(response::key_check(flag)),
                b'k' => flags.echoes_key = true,
                b'N' => flags.vivifies = true,
                _ => {}
            }
        }
        flags
    }
}

/// Parses the request whose name is read; `words` is behind it. `ms` needs its data block.
pub(super) fn parse(
    index: usize,
    mut words: Words<'_>,
    bytes: &[u8],
    limits: &Limits,
    scratch: &mut Scratch,
) -> Parsed {
    let Row { name, shape, .. } = commands::ROWS[index];
    let mut size = words.size();
    let Some(key) = words.next() else {
        let text = if name == "me" { FORMAT } else { UNKNOWN };
        return Answer { text, size, quiet: false }.error(scratch);
    };
    let line_size = size;
    let mut length = None;
    if shape == (Shape::Meta { block: true }) {
        let Some(word) = words.next() else {
            return Answer { text: FORMAT, size, quiet: false }.error(scratch);
        };
        match block_of(&bytes[word.range()], size, false, limits, scratch) {
            Ok((field, whole)) => (length, size) = (Some(field), whole),
            Err(parsed) => return parsed,
        }
    }
    let flags = Flags::read(words.clone(), bytes);
    if let Err(text) = check(name, &bytes[key.range()], &flags, 2 + usize::from(length.is_some())) {
        return Answer { text, size, quiet: false }.error(scratch);
    }
    if flags.base64
        && let Err(text) = decode(name, &bytes[key.range()], &flags, &mut scratch.decoded)
    {
        return Answer { text, size, quiet: false }.error(scratch);
    }
    if length.is_some() {
        match bytes.get(size - 2..size) {
            Some(b"\r\n") => {}
            Some(_) => {
                let text = "CLIENT_ERROR bad data chunk";
                return Answer { text, size, quiet: false }.error(scratch);
            }
            None => return Parsed::Incomplete { need: size - bytes.len() },
        }
    }
    let quiet = if name == "me" { Quiet::No } else { quiet_of(name, flags.quiet) };
    let canonical = length.is_none_or(|field| field.canonical) && is_canonical(words.clone());
    let mut forward = Forward::Verbatim;
    if quiet != Quiet::No || !canonical {
        let head = (name, &bytes[key.range()], length.map(|field| field.value));
        write_line(head, words, quiet != Quiet::No, bytes, scratch);
        forward = end_line(scratch, Span { start: line_size as u32, end: size as u32 });
    }
    if line_size.max(scratch.rewritten.len()) > SERVER_LINE_SIZE_MAX {
        return Answer { text: "CLIENT_ERROR line too long", size, quiet: false }.error(scratch);
    }
    let route = if flags.base64 { Route::Decoded } else { Route::Key(key) };
    let mut request = request(index, size, forward, route, quiet);
    let hashed = if flags.base64 { &scratch.decoded } else { &bytes[key.range()] };
    request.expect.key_check = match (name, flags.opaque_check) {
        ("me", _) => 0,
        (_, Some(check)) => check,
        (_, None) if flags.echoes_key => response::key_check(hashed),
        (_, None) => response::NO_ECHO,
    };
    Parsed::Request(request)
}

/// Whether the rest of a line is in its canonical form, and so the whole.
fn is_canonical(mut words: Words<'_>) -> bool {
    words.by_ref().for_each(drop);
    words.canonical()
}

/// Writes a line of this name, key and length anew, perhaps without the flag that asks for silence.
fn write_line(
    (name, key, length): (&str, &[u8], Option<u64>),
    flags: Words<'_>,
    takes_out: bool,
    bytes: &[u8],
    scratch: &mut Scratch,
) {
    push_word(scratch, name.as_bytes());
    push_word(scratch, key);
    if let Some(length) = length {
        push_number(scratch, length);
    }
    for word in flags {
        let flag = &bytes[word.range()];
        if !takes_out || flag[0] != b'q' {
            push_word(scratch, flag);
        }
    }
}

const INVALID: &str = "CLIENT_ERROR invalid or duplicate flag";

/// What is wrong with a line that has `head_count` words before its flags.
fn check(name: &str, key: &[u8], flags: &Flags, head_count: usize) -> Result<(), &'static str> {
    if !is_key(key) || flags.unprintable {
        return Err(FORMAT);
    }
    if head_count + flags.count > WORDS_MAX {
        return Err(match name {
            "mg" | "me" => "CLIENT_ERROR options flags are too long",
            _ => "CLIENT_ERROR options flags too long",
        });
    }
    match name {
        _ if !flags.quiet_twice => Ok(()),
        "mg" | "ms" => Err("CLIENT_ERROR duplicate flag"),
        "md" | "ma" => Err(INVALID),
        _ => Ok(()),
    }
}

/// Decodes the key, or says what is wrong with it.
fn decode(
    name: &str,
    key: &[u8],
    flags: &Flags,
    decoded: &mut Vec<u8>,
) -> Result<(), &'static str> {
    if !base64::decode(key, decoded) {
        return Err(match name {
            "me" => FORMAT,
            "md" | "ma" => INVALID,
            _ => "CLIENT_ERROR error decoding key",
        });
    }
    // Of such an item memcached (1.6.18 at least) forgets that its key came in base64, and echoes
    // it raw: with a line end in it, say, and a response of the client's making behind that.
    if flags.vivifies && !is_key(decoded) {
        return Err(FORMAT);
    }
    Ok(())
}

/// What the server would not have said.
fn quiet_of(name: &str, asked: bool) -> Quiet {
    match name {
        _ if !asked => Quiet::No,
        "mg" => Quiet::Misses,
        _ => Quiet::Successes,
    }
}

/// Check sum of what a response echoes, from its flags: of the opaque token, else of the key.
pub(super) fn echo<'a>(flags: impl Iterator<Item = &'a [u8]>) -> Option<u32> {
    let (mut key, mut is_base64, mut opaque) = (None, false, None);
    for flag in flags {
        match flag.first() {
            Some(b'O') => opaque = Some(response::key_check(flag)),
            Some(b'k') => key = Some(&flag[1..]),
            Some(b'b') => is_base64 = true,
            _ => {}
        }
    }
    let key_check = || {
        let key = key?;
        let mut decoded = Vec::new();
        let is_decoded = is_base64 && base64::decode(key, &mut decoded);
        Some(response::key_check(if is_decoded { &decoded } else { key }))
    };
    opaque.or_else(key_check)
}

#[cfg(test)]
mod tests;
