//! The simulation's own reading of both protocols, as plain as can be: whole requests as a server
//! must get them, whole replies as a client must.
//!
//! It shares no parser with crate `protocol`, and accepts the canonical form only, since nothing
//! else may be forwarded. Invariant: a prefix of what is accepted is `More`, never `Bad`.

use protocol::Protocol;

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut<T> {
    /// So many bytes are a whole one.
    Whole(usize, T),
    /// It is not whole.
    More,
    /// It is not one at all.
    Bad(&'static str),
}

/// A request of Redis: an array of bulk strings.
pub fn redis_request(bytes: &[u8]) -> Cut<Vec<Vec<u8>>> {
    let (mut at, count) = match header(bytes, 0, b'*') {
        Cut::Whole(next, count) => (next, count),
        Cut::More => return Cut::More,
        Cut::Bad(text) => return Cut::Bad(text),
    };
    if count < 1 {
        return Cut::Bad("a request without arguments");
    }
    let mut arguments = Vec::new();
    for _ in 0..count {
        let (start, size) = match header(bytes, at, b'$') {
            Cut::Whole(next, size) => (next, size),
            Cut::More => return Cut::More,
            Cut::Bad(text) => return Cut::Bad(text),
        };
        if size < 0 {
            return Cut::Bad("a negative length");
        }
        let end = start + size as usize;
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => arguments.push(bytes[start..end].to_vec()),
            Some(_) => return Cut::Bad("no line end after an argument"),
            None => return Cut::More,
        }
        at = end + 2;
    }
    Cut::Whole(at, arguments)
}

/// Reads `<kind><number>\r\n` at `at`; gives where it ends.
fn header(bytes: &[u8], at: usize, kind: u8) -> Cut<i64> {
    match bytes.get(at) {
        None => return Cut::More,
        Some(&byte) if byte == kind => {}
        Some(_) => return Cut::Bad("another kind was expected"),
    }
    let Some(size) = bytes[at..].iter().position(|byte| *byte == b'\n') else {
        return Cut::More;
    };
    let line = &bytes[at + 1..at + size];
    let Some(digits) = line.strip_suffix(b"\r") else { return Cut::Bad("a bare line feed") };
    let text = std::str::from_utf8(digits).unwrap_or("");
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => Cut::Whole(at + size + 1, number),
        _ => Cut::Bad("a number that is not canonical"),
    }
}

/// A request of memcached: its words, and behind them the data block where there is one.
pub fn memcache_request(bytes: &[u8]) -> Cut<Vec<Vec<u8>>> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Cut::More };
    let Some(line) = bytes[..end].strip_suffix(b"\r") else { return Cut::Bad("a bare line feed") };
    let mut words: Vec<Vec<u8>> = line.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect();
    if words.iter().any(Vec::is_empty) {
        return Cut::Bad("words that are not parted by one space each");
    }
    let (count, size_at) = match words[0].as_slice() {
        b"set" | b"add" | b"replace" | b"append" | b"prepend" => (5, 4),
        b"cas" => (6, 4),
        b"ms" => (words.len().max(3), 2),
        b"mg" | b"md" | b"ma" if words.iter().skip(2).any(|flag| flag[0] == b'q') => {
            return Cut::Bad("a server is asked for silence");
        }
        _ => return Cut::Whole(end + 1, words),
    };
    if words.len() != count {
        return Cut::Bad("a wrong number of words");
    }
    let text = std::str::from_utf8(&words[size_at]).unwrap_or("");
    let size = match text.parse::<usize>() {
        Ok(size) if size.to_string() == text => size,
        _ => return Cut::Bad("a length that is not canonical"),
    };
    let start = end + 1;
    match bytes.get(start + size..start + size + 2) {
        Some(b"\r\n") => words.push(bytes[start..start + size].to_vec()),
        Some(_) => return Cut::Bad("no line end after a data block"),
        None => return Cut::More,
    }
    Cut::Whole(start + size + 2, words)
}

/// Whether a request is what a worker asks a server to see whether it lives.
pub fn is_probe(protocol: Protocol, words: &[Vec<u8>]) -> bool {
    let name: &[u8] = match protocol {
        Protocol::Redis => b"ping",
        Protocol::Memcache => b"version",
    };
    words.len() == 1 && words[0].eq_ignore_ascii_case(name)
}

/// Whether this is the answer to a probe of a server that lives.
pub fn is_probe_answer(protocol: Protocol, reply: &[u8]) -> bool {
    match protocol {
        Protocol::Redis => reply == b"+PONG\r\n",
        Protocol::Memcache => reply.starts_with(b"VERSION ") && reply.ends_with(b"\r\n"),
    }
}

/// Whether a request is one that a connection to a server starts with.
pub fn is_handshake(protocol: Protocol, words: &[Vec<u8>]) -> bool {
    let name = words[0].to_ascii_lowercase();
    protocol == Protocol::Redis && matches!(name.as_slice(), b"auth" | b"hello" | b"select")
}

/// Which version of Redis' protocol a reply is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// RESP2.
    Two,
    /// RESP3.
    Three,
}

/// A reply of Redis, of one version: of what is in both, and of what the model server sends.
pub fn redis_reply(bytes: &[u8], version: Version) -> Cut<()> {
    let mut at = 0;
    let mut left = 1u64;
    while left > 0 {
        left -= 1;
        let kind = match (bytes.get(at), version) {
            (None, _) => return Cut::More,
            (Some(kind @ (b'+' | b'-' | b':' | b'$' | b'*')), _) => *kind,
            (Some(kind @ (b'%' | b'~' | b'_' | b'=' | b'>')), Version::Three) => *kind,
            (Some(_), _) => return Cut::Bad("an unknown kind of reply"),
        };
        if matches!(kind, b'+' | b'-' | b'_') {
            let Some(size) = bytes[at..].iter().position(|byte| *byte == b'\n') else {
                return Cut::More;
            };
            at += size + 1;
            continue;
        }
        let number = match header(bytes, at, kind) {
            Cut::Whole(next, number) => {
                at = next;
                number
            }
            Cut::More => return Cut::More,
            Cut::Bad(text) => return Cut::Bad(text),
        };
        let least = if version == Version::Two { -1 } else { 0 };
        match kind {
            b':' => {}
            _ if number < least => return Cut::Bad("a negative length"),
            b'$' | b'=' if number >= 0 => {
                at += number as usize;
                match bytes.get(at..at + 2) {
                    Some(b"\r\n") => at += 2,
                    Some(_) => return Cut::Bad("no line end after a bulk string"),
                    None => return Cut::More,
                }
            }
            b'%' => left += 2 * number as u64,
            b'*' | b'~' | b'>' if number > 0 => left += number as u64,
            _ => {}
        }
    }
    Cut::Whole(at, ())
}

/// Whether a reply is one that RESP3 pushes and RESP2 does not, told by its first word.
pub fn is_notice(reply: &[u8]) -> bool {
    let word = reply.split(|byte| matches!(byte, b'\r' | b'\n')).nth(4);
    let is_of_three = reply.starts_with(b"*3\r\n$") || reply.starts_with(b">3\r\n$");
    is_of_three && word.is_some_and(|word| word == b"message" || word.ends_with(b"subscribe"))
}

/// A reply of Redis of whichever version it is.
pub fn redis_reply_of_any(bytes: &[u8]) -> Cut<()> {
    match redis_reply(bytes, Version::Two) {
        Cut::Bad(_) => redis_reply(bytes, Version::Three),
        cut => cut,
    }
}

/// The elements of an array, each a whole reply.
pub fn redis_elements(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let Cut::Whole(mut at, count) = header(bytes, 0, b'*') else { return None };
    let mut elements = Vec::new();
    for _ in 0..count {
        let Cut::Whole(size, ()) = redis_reply_of_any(&bytes[at..]) else { return None };
        elements.push(&bytes[at..at + size]);
        at += size;
    }
    (at == bytes.len()).then_some(elements)
}

/// A reply of memcached.
pub fn memcache_reply(bytes: &[u8]) -> Cut<()> {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Cut::More };
        let Some(line) = rest[..end].strip_suffix(b"\r") else {
            return Cut::Bad("a bare line feed");
        };
        let (head, size_at) = match (line.strip_prefix(b"VALUE "), line.strip_prefix(b"VA ")) {
            (Some(head), _) => (head, 2),
            (None, Some(head)) => (head, 0),
            (None, None) => return Cut::Whole(at + end + 1, ()),
        };
        let is_meta = size_at == 0;
        let Some(size) = head
            .split(|byte| *byte == b' ')
            .nth(size_at)
            .and_then(|word| std::str::from_utf8(word).ok()?.parse::<usize>().ok())
        else {
            return Cut::Bad("a VALUE line without a length");
        };
        at += end + 1 + size;
        match bytes.get(at..at + 2) {
            Some(b"\r\n") if is_meta => return Cut::Whole(at + 2, ()),
            Some(b"\r\n") => at += 2,
            Some(_) => return Cut::Bad("no line end after a value"),
            None => return Cut::More,
        }
    }
}

/// One value of a reply of memcached.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// Whose value it is.
    pub key: &'a [u8],
    /// Line, value and line end.
    pub bytes: &'a [u8],
}

/// The values of a whole reply of memcached, and the line behind them.
pub fn memcache_blocks(bytes: &[u8]) -> (Vec<Block<'_>>, &[u8]) {
    let mut blocks = Vec::new();
    let mut rest = bytes;
    while let Some(head) = rest.strip_prefix(b"VALUE ") {
        let words: Vec<&[u8]> = head.split(|byte| matches!(byte, b' ' | b'\r')).take(3).collect();
        let line = rest.iter().position(|byte| *byte == b'\n').expect("the reply is whole") + 1;
        let size: usize = std::str::from_utf8(words[2])
            .ok()
            .and_then(|text| text.parse().ok())
            .expect("the reply was cut by its lengths");
        let (block, left) = rest.split_at(line + size + 2);
        blocks.push(Block { key: words[0], bytes: block });
        rest = left;
    }
    (blocks, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts_only_at_the_end<T>(bytes: &[u8], cut: fn(&[u8]) -> Cut<T>) {
        for size in 0..bytes.len() {
            assert!(matches!(cut(&bytes[..size]), Cut::More), "{size}");
        }
        assert!(matches!(cut(bytes), Cut::Whole(size, _) if size == bytes.len()));
    }

    #[test]
    fn no_prefix_is_taken_for_the_whole() {
        cuts_only_at_the_end(b"*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n", redis_request);
        cuts_only_at_the_end(b"set k 0 0 2\r\n\r\n\r\n", memcache_request);
        cuts_only_at_the_end(b"*3\r\n$2\r\n\r\n\r\n*1\r\n:1\r\n$-1\r\n", redis_reply_of_any);
        let resp3 = b"%1\r\n$1\r\na\r\n~2\r\n_\r\n=5\r\ntxt:a\r\n";
        cuts_only_at_the_end(resp3, redis_reply_of_any);
        assert!(matches!(redis_reply(resp3, Version::Two), Cut::Bad(_)));
        assert!(matches!(redis_reply(b"$-1\r\n", Version::Three), Cut::Bad(_)));
        cuts_only_at_the_end(
            b"VALUE a 0 5\r\nEND\r\n\r\nVALUE b 1 0 9\r\n\r\nEND\r\n",
            memcache_reply,
        );
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        for bytes in ["*02\r\n$3\r\n", "*1\r\n$+1\r\na\r\n", "*0\r\n", "*1\n", "GET a\r\n"] {
            assert!(matches!(redis_request(bytes.as_bytes()), Cut::Bad(_)), "{bytes:?}");
        }
        for bytes in ["get  a\r\n", "get a\n", "set k 0 0 01\r\na\r\n", "set k 0 0 1 noreply\r\n"] {
            assert!(matches!(memcache_request(bytes.as_bytes()), Cut::Bad(_)), "{bytes:?}");
        }
    }

    #[test]
    fn the_parts_of_a_reply_are_found() {
        let elements = redis_elements(b"*2\r\n$1\r\na\r\n$-1\r\n").unwrap_or_default();
        assert_eq!(elements, [b"$1\r\na\r\n".as_slice(), b"$-1\r\n"]);
        let (blocks, end) = memcache_blocks(b"VALUE a 0 1\r\nx\r\nVALUE b 0 0\r\n\r\nEND\r\n");
        assert_eq!(blocks.iter().map(|block| block.key).collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(end, b"END\r\n");
    }
}
