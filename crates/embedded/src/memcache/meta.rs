//! The meta commands, as far as a cache without the art of them needs: `mg`, `ms`, `md`, `ma`, `me`
//! and `mn`, with the flags `b k O q v f s t c T F C M N J D`. Any other is invalid here.
//!
//! Not the marks of stale items, nor times of access. Invariant: each request has one response, or
//! none when `q` says so and it is one that `q` means.

use std::io::Write as _;

use base::Time;

use super::numbers::{parse_i32, parse_u64};
use super::storage::{self, Header, ITEM_SIZE_MAX, Kind};
use super::{BAD_FORMAT, Call, Done, KEY_SIZE_MAX, Swallowed, Words, push_line};

/// The names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Get,
    Set,
    Delete,
    Arithmetic,
    Debug,
    Nothing,
}

impl Name {
    pub(super) fn of(name: &[u8]) -> Option<Name> {
        Some(match name {
            b"mg" => Name::Get,
            b"ms" => Name::Set,
            b"md" => Name::Delete,
            b"ma" => Name::Arithmetic,
            b"me" => Name::Debug,
            b"mn" => Name::Nothing,
            _ => return None,
        })
    }
}

/// A line whose flags are known.
struct Line<'a> {
    /// As it was sent.
    key_text: &'a [u8],
    key: Vec<u8>,
    flags: Vec<&'a [u8]>,
}

impl<'a> Line<'a> {
    fn read(key_text: &'a [u8], flags: Vec<&'a [u8]>) -> Result<Line<'a>, &'static [u8]> {
        let mut line = Line { key_text, key: key_text.to_vec(), flags };
        for (i, flag) in line.flags.iter().enumerate() {
            if line.flags[..i].iter().any(|before| before[0] == flag[0]) {
                return Err(b"CLIENT_ERROR duplicate flag");
            }
            if !b"bkOqvfstcTFCMNJD".contains(&flag[0]) {
                return Err(b"CLIENT_ERROR invalid flag");
            }
            let wants_number = b"TNCJDF".contains(&flag[0]);
            if wants_number && parse_u64(&flag[1..]).is_none() && parse_i32(&flag[1..]).is_none() {
                return Err(b"CLIENT_ERROR bad token in command line format");
            }
        }
        if line.has(b'b') {
            let decoded = decode(key_text).filter(|key| !key.is_empty());
            line.key = decoded.ok_or(b"CLIENT_ERROR error decoding key".as_slice())?;
        }
        Ok(line)
    }

    fn has(&self, letter: u8) -> bool {
        self.flags.iter().any(|flag| flag[0] == letter)
    }

    fn token(&self, letter: u8) -> Option<&'a [u8]> {
        self.flags.iter().find(|flag| flag[0] == letter).map(|flag| &flag[1..])
    }

    fn exptime(&self, letter: u8) -> Option<i32> {
        self.token(letter).and_then(parse_i32)
    }

    /// The first flag that asks for a number, if it differs from this one: what `C` wants.
    fn cas_differs(&self, cas: u64) -> bool {
        self.token(b'C').and_then(parse_u64).is_some_and(|wanted| wanted != cas)
    }

    /// A response without a block, unless `q` means it.
    fn reply(&self, call: &mut Call<'_>, code: &str) {
        let silent = match code {
            "EN" | "HD" => self.has(b'q'),
            _ => false,
        };
        if !silent {
            self.answer(call, code, None);
        }
    }

    /// The code, what the flags ask for, and the value.
    fn answer(&self, call: &mut Call<'_>, code: &str, value: Option<&[u8]>) {
        let found = call.store.find(0, &self.key);
        let found = found.map(|item| {
            (item.flags(), item.bytes().map_or(0, <[u8]>::len), item.cas(), item.expires())
        });
        let mut line = code.as_bytes().to_vec();
        if let Some(value) = value {
            write!(line, " {}", value.len()).expect("a vector takes all that is written");
        }
        for flag in &self.flags {
            let written = match (flag[0], found) {
                (b'O', _) => {
                    line.push(b' ');
                    line.extend_from_slice(flag);
                    continue;
                }
                (b'k', _) => {
                    line.extend_from_slice(b" k");
                    line.extend_from_slice(self.key_text);
                    if self.has(b'b') {
                        line.extend_from_slice(b" b");
                    }
                    continue;
                }
                (b'f', Some((flags, ..))) => write!(line, " f{flags}"),
                (b's', Some((_, size, ..))) => write!(line, " s{size}"),
                (b'c', Some((_, _, cas, _))) => write!(line, " c{cas}"),
                (b't', Some((.., expires))) => match expires {
                    None => write!(line, " t-1"),
                    Some(at) => write!(line, " t{}", seconds_left(at, call.now)),
                },
                _ => continue,
            };
            written.expect("a vector takes all that is written");
        }
        push_line(call.out, &line);
        if let Some(value) = value {
            push_line(call.out, value);
        }
    }
}

fn seconds_left(at: Time, now: Time) -> u64 {
    at.as_ns().saturating_sub(now.as_ns()) / 1_000_000_000
}

/// Executes any of them; `words` is behind the name.
pub(super) fn execute<'a>(
    call: &mut Call<'_>,
    name: Name,
    words: impl Iterator<Item = &'a [u8]>,
    bytes: &[u8],
    line_end: usize,
) -> Done {
    let executed = Done::Executed { size: line_end + 1 };
    let mut words = words;
    if name == Name::Nothing {
        push_line(call.out, b"MN");
        return executed;
    }
    let Some(key) = words.next() else {
        push_line(call.out, if name == Name::Debug { BAD_FORMAT } else { b"ERROR" });
        return executed;
    };
    if key.len() > KEY_SIZE_MAX {
        push_line(call.out, BAD_FORMAT);
        return executed;
    }
    if name == Name::Set {
        return set(call, key, words, bytes, line_end);
    }
    match Line::read(key, words.collect()) {
        Err(text) => push_line(call.out, text),
        Ok(line) => match name {
            Name::Get => get(call, &line),
            Name::Delete => delete(call, &line),
            Name::Arithmetic => arithmetic(call, &line),
            _ => debug(call, &line),
        },
    }
    executed
}

fn get(call: &mut Call<'_>, line: &Line<'_>) {
    let Some(item) = call.store.find(0, &line.key) else { return line.reply(call, "EN") };
    let value = item.bytes().map(<[u8]>::to_vec).unwrap_or_default();
    if let Some(exptime) = line.exptime(b'T') {
        let expires = call.expiry(exptime);
        call.store.set_expiry(0, &line.key, expires);
    }
    let value = line.has(b'v').then_some(value);
    line.answer(call, if value.is_some() { "VA" } else { "HD" }, value.as_deref());
}

fn set<'a>(
    call: &mut Call<'_>,
    key: &'a [u8],
    mut words: impl Iterator<Item = &'a [u8]>,
    bytes: &[u8],
    line_end: usize,
) -> Done {
    let size = words.next().and_then(parse_i32).and_then(|size| usize::try_from(size).ok());
    let Some(size) = size else {
        push_line(call.out, BAD_FORMAT);
        return Done::Executed { size: line_end + 1 };
    };
    let (start, end) = (line_end + 1, line_end + 1 + size);
    let swallow = |reply| {
        let block = Swallowed { size_left: size + 2, reply: Some(reply) };
        Done::Swallow { size: start, block }
    };
    let line = match Line::read(key, words.collect()) {
        Ok(line) => line,
        Err(text) => return swallow(text),
    };
    let kind = match line.token(b'M') {
        None | Some(b"S") if line.has(b'C') => Kind::Cas,
        None | Some(b"S") => Kind::Set,
        Some(b"E") => Kind::Add,
        Some(b"A") => Kind::Append,
        Some(b"P") => Kind::Prepend,
        Some(b"R") => Kind::Replace,
        Some(_) => return swallow(b"CLIENT_ERROR invalid mode for ms M token"),
    };
    let word = |letter: u8| line.token(letter).unwrap_or(b"0");
    let size_word = size.to_string();
    let words = Words::new(
        [&line.key[..], word(b'F'), word(b'T'), size_word.as_bytes(), word(b'C')].into_iter(),
    );
    let Some(header) = Header::parse(kind, &words.list) else { return swallow(BAD_FORMAT) };
    if header.item_size() > ITEM_SIZE_MAX {
        storage::refuse(call, &header);
        return swallow(b"SERVER_ERROR object too large for cache");
    }
    let Some(block_end) = bytes.get(end..end + 2) else {
        return Done::Incomplete { needed: end + 2 };
    };
    if !call.store.has_room(storage::entry_size(header.key, header.size)) {
        storage::refuse(call, &header);
        push_line(call.out, b"SERVER_ERROR out of memory storing object");
    } else if block_end != b"\r\n" {
        push_line(call.out, b"CLIENT_ERROR bad data chunk");
    } else {
        let code = match storage::store(call, &header, &bytes[start..end]) {
            b"STORED" => "HD",
            b"EXISTS" => "EX",
            b"NOT_FOUND" => "NF",
            _ => "NS",
        };
        line.reply(call, code);
    }
    Done::Executed { size: end + 2 }
}

fn delete(call: &mut Call<'_>, line: &Line<'_>) {
    let Some(item) = call.store.find(0, &line.key) else { return line.reply(call, "NF") };
    if line.cas_differs(item.cas()) {
        return line.reply(call, "EX");
    }
    call.store.remove(0, &line.key);
    line.reply(call, "HD");
}

fn arithmetic(call: &mut Call<'_>, line: &Line<'_>) {
    let up = match line.token(b'M') {
        None | Some(b"I" | b"i" | b"+") => true,
        Some(b"D" | b"d" | b"-") => false,
        Some(_) => return push_line(call.out, b"CLIENT_ERROR invalid mode for ma M token"),
    };
    match call.store.find(0, &line.key) {
        None => {
            let Some(exptime) = line.exptime(b'N') else { return line.reply(call, "NF") };
            let first = line.token(b'J').and_then(parse_u64).unwrap_or(0).to_string();
            let mut value = crate::value::Value::from_bytes(first.as_bytes());
            value.cas = call.store.next_cas();
            value.expires = call.expiry(exptime);
            call.store.put(0, &line.key, value);
        }
        Some(item) if line.cas_differs(item.cas()) => return line.reply(call, "EX"),
        Some(_) => {
            let (mut said, mut quiet) = (Vec::new(), false);
            std::mem::swap(call.out, &mut said);
            std::mem::swap(&mut call.quiet, &mut quiet);
            storage::add_delta(call, &line.key, line.token(b'D').unwrap_or(b"1"), up);
            std::mem::swap(call.out, &mut said);
            if !said[0].is_ascii_digit() {
                return call.out.extend_from_slice(&said);
            }
        }
    }
    let bytes = call.store.find(0, &line.key).and_then(|item| item.bytes());
    let number: Vec<u8> = bytes.unwrap_or_default().trim_ascii_end().to_vec();
    if line.has(b'v') && !line.has(b'q') {
        return line.answer(call, "VA", Some(&number));
    }
    line.reply(call, "HD");
}

fn debug(call: &mut Call<'_>, line: &Line<'_>) {
    match call.store.find(0, &line.key).map(|item| item.cas()) {
        Some(cas) => {
            let text = [b"ME ", line.key_text, format!(" exp=-1 cas={cas}").as_bytes()].concat();
            push_line(call.out, &text);
        }
        None => push_line(call.out, b"EN"),
    }
}

/// Decodes base64, four letters at a time.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (groups, rest) = text.as_chunks::<4>();
    let mut bytes = Vec::new();
    for group in groups {
        let letters = group.iter().filter(|&&letter| letter != b'=').count();
        let mut bits = 0u32;
        for letter in &group[..letters] {
            let value = LETTERS.iter().position(|known| known == letter)?;
            bits = bits << 6 | value as u32;
        }
        bits <<= 6 * (4 - letters);
        bytes.extend_from_slice(&bits.to_be_bytes()[1..letters.max(1)]);
    }
    rest.is_empty().then_some(bytes)
}
