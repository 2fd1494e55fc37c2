//! A memcache connection: lines are cut into words, and each command is executed.
//!
//! The text protocol; no binary protocol. What the storage commands do is in `storage`, the meta
//! commands are in `meta`. Invariant: each request gets exactly one reply, or none when it ends in
//! `noreply`, or has the flag `q`.

use std::io::Write as _;
use std::time::Duration;

use base::Time;

use crate::Outcome;
use crate::store::Store;

mod meta;
mod numbers;
mod storage;

pub use storage::ITEM_SIZE_MAX;

use numbers::{parse_i32, parse_u64};
use storage::Header;

/// A line, in bytes, unless it asks for many keys. memcached closes the connection beyond it, but
/// only when the line comes in pieces; here it always does.
pub const LINE_SIZE_MAX: usize = 2048;

/// A line that starts with `get ` or `gets `, in bytes.
pub const GET_LINE_SIZE_MAX: usize = 1 << 20;

/// A key, in bytes.
const KEY_SIZE_MAX: usize = 250;

/// Exptimes up to this many seconds are relative; beyond, they are Unix times.
const RELATIVE_EXPTIME_MAX: i32 = 30 * 24 * 60 * 60;

const BAD_FORMAT: &[u8] = b"CLIENT_ERROR bad command line format";
const BAD_EXPTIME: &[u8] = b"CLIENT_ERROR invalid exptime argument";
const BAD_DELETE: &[u8] = b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";

/// One client connection: what is known of a request of which only the beginning has come.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// Bytes in which no line end is.
    searched: usize,
    /// Bytes that must be there before it is worth to look again; 0 when that is not known.
    needed: usize,
    swallowed: Option<Swallowed>,
}

/// A data block that is dropped as it comes.
#[derive(Debug)]
struct Swallowed {
    size_left: usize,
    /// What is said when all of it has come; nothing after `noreply`.
    reply: Option<&'static [u8]>,
}

/// What became of a line.
enum Done {
    /// The request is executed; it took `size` bytes.
    Executed { size: usize },
    /// Its data block has not come: look again when there are `needed` bytes.
    Incomplete { needed: usize },
    /// It took `size` bytes, and what follows is a data block to be dropped.
    Swallow { size: usize, block: Swallowed },
    /// The client said `quit`.
    Quit,
}

impl Connection {
    /// Executes the complete requests at the beginning of `bytes`; returns the bytes that need not
    /// be seen again. The first byte is the first of a request, or of a block to be dropped.
    pub(crate) fn run(
        &mut self,
        store: &mut Store,
        bytes: &[u8],
        now: Time,
        out: &mut Vec<u8>,
    ) -> (usize, Outcome) {
        let mut start = 0;
        loop {
            start += self.swallow(&bytes[start..], out);
            let rest = &bytes[start..];
            if self.swallowed.is_some() || rest.len() < self.needed {
                return (start, Outcome::Open);
            }
            let line_end = match self.find_line_end(rest) {
                Ok(Some(line_end)) => line_end,
                Ok(None) => return (start, Outcome::Open),
                Err(LineTooLong) => return (bytes.len(), Outcome::Close),
            };
            store.drop_expired(now);
            match execute(rest, line_end, store, now, out) {
                Done::Executed { size } => start += size,
                Done::Incomplete { needed } => {
                    (self.searched, self.needed) = (line_end, needed);
                    return (start, Outcome::Open);
                }
                Done::Swallow { size, block } => {
                    start += size;
                    self.swallowed = Some(block);
                }
                Done::Quit => return (bytes.len(), Outcome::Close),
            }
            (self.searched, self.needed) = (0, 0);
        }
    }

    /// Drops what has come of a block that is to be dropped; returns how much.
    fn swallow(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let Some(block) = &mut self.swallowed else { return 0 };
        let size = block.size_left.min(bytes.len());
        block.size_left -= size;
        if block.size_left == 0 {
            if let Some(reply) = block.reply {
                push_line(out, reply);
            }
            self.swallowed = None;
        }
        size
    }

    /// The index of the line feed that ends the first line, if it has come.
    fn find_line_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, LineTooLong> {
        let unsearched = &bytes[self.searched..];
        let found = unsearched.iter().position(|byte| *byte == b'\n');
        let size = found.map_or(bytes.len(), |at| self.searched + at);
        let words = bytes.trim_ascii_start();
        let asks_for_keys = words.starts_with(b"get ") || words.starts_with(b"gets ");
        if size > if asks_for_keys { GET_LINE_SIZE_MAX } else { LINE_SIZE_MAX } {
            return Err(LineTooLong);
        }
        self.searched = size;
        Ok(found.map(|_| size))
    }
}

struct LineTooLong;

/// The words of a line, without the name. No command but those that read has more than seven.
struct Words<'a> {
    list: [&'a [u8]; WORDS_MAX],
    /// May be more than the list holds; every command here then refuses the line.
    count: usize,
}

const WORDS_MAX: usize = 8;

impl<'a> Words<'a> {
    fn new(words: impl Iterator<Item = &'a [u8]>) -> Words<'a> {
        let mut list = [b"".as_slice(); WORDS_MAX];
        let mut count = 0;
        for word in words {
            if let Some(place) = list.get_mut(count) {
                *place = word;
            }
            count += 1;
        }
        Words { list, count }
    }

    /// Whether the last word asks for silence.
    fn noreply(&self) -> bool {
        let last = self.count.checked_sub(1).and_then(|index| self.list.get(index));
        last.is_some_and(|word| *word == b"noreply")
    }
}

/// One request in execution.
struct Call<'a> {
    store: &'a mut Store,
    now: Time,
    out: &'a mut Vec<u8>,
    /// No reply is wanted, not even an error.
    quiet: bool,
}

impl Call<'_> {
    fn reply(&mut self, line: &[u8]) {
        if !self.quiet {
            push_line(self.out, line);
        }
    }

    /// The point that an exptime means; none for never. What is in the past is now, so that it
    /// has expired before the next request.
    fn expiry(&self, exptime: i32) -> Option<Time> {
        if exptime == 0 {
            return None;
        }
        let seconds = Duration::from_secs(u64::try_from(exptime).unwrap_or(0));
        if exptime <= RELATIVE_EXPTIME_MAX {
            return Some(self.now + seconds);
        }
        Some(self.now + seconds.saturating_sub(self.store.unix_time(self.now)))
    }
}

fn push_line(out: &mut Vec<u8>, line: &[u8]) {
    out.extend_from_slice(line);
    out.extend_from_slice(b"\r\n");
}

/// Executes the request at the beginning of `bytes`, whose line ends at `line_end`.
fn execute(bytes: &[u8], line_end: usize, store: &mut Store, now: Time, out: &mut Vec<u8>) -> Done {
    let line = &bytes[..line_end];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let name = words.next().unwrap_or(b"");
    let mut call = Call { store, now, out, quiet: false };
    let executed = Done::Executed { size: line_end + 1 };
    match name {
        b"get" => read(&mut call, words, false),
        b"gets" => read(&mut call, words, true),
        b"gat" => read_and_touch(&mut call, words, false),
        b"gats" => read_and_touch(&mut call, words, true),
        b"quit" => return Done::Quit,
        _ if let Some(name) = meta::Name::of(name) => {
            return meta::execute(&mut call, name, words, bytes, line_end);
        }
        _ => {
            let words = Words::new(words);
            if let Some(kind) = storage::Kind::of(name, words.count) {
                return store_block(&mut call, kind, &words, bytes, line_end);
            }
            execute_line(&mut call, name, &words);
        }
    }
    executed
}

/// The commands that are one short line.
fn execute_line(call: &mut Call<'_>, name: &[u8], words: &Words<'_>) {
    let takes_words = match name {
        b"version" => return call.reply(b"VERSION 1.6.18"),
        b"delete" => 1..=3,
        b"incr" | b"decr" | b"touch" => 2..=3,
        b"verbosity" => 1..=2,
        b"flush_all" => 0..=2,
        _ => return call.reply(b"ERROR"),
    };
    if !takes_words.contains(&words.count) {
        return call.reply(b"ERROR");
    }
    call.quiet = words.noreply();
    match name {
        b"delete" => delete(call, words),
        b"incr" => storage::add_delta(call, words.list[0], words.list[1], true),
        b"decr" => storage::add_delta(call, words.list[0], words.list[1], false),
        b"touch" => touch(call, words),
        b"verbosity" => verbosity(call, words),
        _ => flush_all(call, words),
    }
}

/// `get` and `gets`.
fn read<'a>(call: &mut Call<'_>, keys: impl Iterator<Item = &'a [u8]>, with_cas: bool) {
    let mut keys = keys.peekable();
    if keys.peek().is_none() {
        return call.reply(b"ERROR");
    }
    read_keys(call, keys, with_cas, None);
}

/// `gat` and `gats`.
fn read_and_touch<'a>(
    call: &mut Call<'_>,
    mut words: impl Iterator<Item = &'a [u8]>,
    with_cas: bool,
) {
    let Some(exptime) = words.next() else {
        return call.reply(b"ERROR");
    };
    match parse_i32(exptime) {
        Some(exptime) => read_keys(call, words, with_cas, Some(exptime)),
        None => call.reply(BAD_EXPTIME),
    }
}

fn read_keys<'a>(
    call: &mut Call<'_>,
    keys: impl Iterator<Item = &'a [u8]>,
    with_cas: bool,
    exptime: Option<i32>,
) {
    let out_before = call.out.len();
    for key in keys {
        if key.len() > KEY_SIZE_MAX {
            // One error takes the place of all values.
            call.out.truncate(out_before);
            return call.reply(BAD_FORMAT);
        }
        if let Some(bytes) = call.store.null_value() {
            push_value(call.out, key, 0, bytes, with_cas.then_some(1));
            continue;
        }
        let Some(value) = call.store.find(0, key) else { continue };
        let Some(bytes) = value.bytes() else { continue };
        push_value(call.out, key, value.flags(), bytes, with_cas.then_some(value.cas()));
        if let Some(exptime) = exptime {
            let expires = call.expiry(exptime);
            call.store.set_expiry(0, key, expires);
            // Nothing is left for a second mention of the key in the same line.
            call.store.drop_expired(call.now);
        }
    }
    call.reply(b"END");
}

fn push_value(out: &mut Vec<u8>, key: &[u8], flags: u32, bytes: &[u8], cas: Option<u64>) {
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(key);
    let written = match cas {
        Some(cas) => write!(out, " {flags} {} {cas}\r\n", bytes.len()),
        None => write!(out, " {flags} {}\r\n", bytes.len()),
    };
    written.expect("a vector takes all that is written");
    push_line(out, bytes);
}

/// A storage command, with the data block that follows its line.
fn store_block(
    call: &mut Call<'_>,
    kind: storage::Kind,
    words: &Words<'_>,
    bytes: &[u8],
    line_end: usize,
) -> Done {
    call.quiet = words.noreply();
    let line_size = line_end + 1;
    let Some(header) = Header::parse(kind, &words.list) else {
        // The size of the block is not known for certain, so that it will be read as lines.
        call.reply(BAD_FORMAT);
        return Done::Executed { size: line_size };
    };
    if header.item_size() > ITEM_SIZE_MAX {
        storage::refuse(call, &header);
        let reply = b"SERVER_ERROR object too large for cache".as_slice();
        let block = Swallowed { size_left: header.size + 2, reply: (!call.quiet).then_some(reply) };
        return Done::Swallow { size: line_size, block };
    }
    let end = line_size + header.size;
    let Some(block_end) = bytes.get(end..end + 2) else {
        return Done::Incomplete { needed: end + 2 };
    };
    if !call.store.has_room(storage::entry_size(header.key, header.size)) {
        storage::refuse(call, &header);
        call.reply(b"SERVER_ERROR out of memory storing object");
    } else if block_end != b"\r\n" {
        call.reply(b"CLIENT_ERROR bad data chunk");
    } else {
        let reply = storage::store(call, &header, &bytes[line_size..end]);
        call.reply(reply);
    }
    Done::Executed { size: end + 2 }
}

fn delete(call: &mut Call<'_>, words: &Words<'_>) {
    let key = words.list[0];
    // Old clients send a 0, once the time for which the key was to stay locked.
    let takes_no_time = match words.count {
        1 => true,
        2 => call.quiet || words.list[1] == b"0",
        _ => call.quiet && words.list[1] == b"0",
    };
    if !takes_no_time {
        call.reply(BAD_DELETE);
    } else if key.len() > KEY_SIZE_MAX {
        call.reply(BAD_FORMAT);
    } else if call.store.remove(0, key) || call.store.null_value().is_some() {
        call.reply(b"DELETED");
    } else {
        call.reply(b"NOT_FOUND");
    }
}

fn touch(call: &mut Call<'_>, words: &Words<'_>) {
    let key = words.list[0];
    if key.len() > KEY_SIZE_MAX {
        return call.reply(BAD_FORMAT);
    }
    let Some(exptime) = parse_i32(words.list[1]) else {
        return call.reply(BAD_EXPTIME);
    };
    let found = call.store.find(0, key).is_some() || call.store.null_value().is_some();
    let expires = call.expiry(exptime);
    call.store.set_expiry(0, key, expires);
    call.reply(if found { b"TOUCHED" } else { b"NOT_FOUND" });
}

/// Nothing is logged here, so that the level is only checked.
fn verbosity(call: &mut Call<'_>, words: &Words<'_>) {
    let is_number = parse_u64(words.list[0]).is_some();
    call.reply(if is_number { b"OK" } else { BAD_FORMAT });
}

/// `flush_all [delay] [noreply]`.
fn flush_all(call: &mut Call<'_>, words: &Words<'_>) {
    let has_delay = words.count > usize::from(call.quiet);
    let exptime = if has_delay { parse_i32(words.list[0]) } else { Some(0) };
    let Some(exptime) = exptime else {
        return call.reply(BAD_EXPTIME);
    };
    match call.expiry(exptime.max(0)) {
        Some(at) if at > call.now => call.store.schedule_flush(at),
        _ => {
            // memcached takes a unique number for the flush itself.
            call.store.next_cas();
            call.store.clear();
        }
    }
    call.reply(b"OK");
}
