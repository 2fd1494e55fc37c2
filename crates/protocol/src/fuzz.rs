//! Entry functions of the fuzz targets, and what they hold the parsers to: a stream means the same
//! however it is cut; what is forwarded is exactly one request to an obvious, slow parser that
//! shares no code with the fast one; and nothing panics. The unit tests use them too.

use crate::{
    Expect, Forward, Framed, Limits, Parsed, Profile, Protocol, Quiet, RequestState, ResponseState,
    Route, Scratch, Seen, Then, Version, memcache,
};

/// Small, so that limits are met by small inputs.
const LIMITS: Limits = Limits {
    request_size_max: 1 << 16,
    response_size_max: 1 << 16,
    arguments_max: 256,
    line_size_max: 512,
};

/// Inputs up to this size are also fed byte by byte.
const BYTEWISE_MAX: usize = 4096;

/// Any bytes from a client of Redis.
pub fn redis_request(data: &[u8]) {
    check_requests(Protocol::Redis, data, &LIMITS);
}

/// Any bytes from a client of memcached.
pub fn memcache_request(data: &[u8]) {
    check_requests(Protocol::Memcache, data, &LIMITS);
}

/// Any bytes from a Redis server.
pub fn redis_response(data: &[u8]) {
    for version in Version::ALL {
        check_responses(Protocol::Redis, version, data, &LIMITS);
    }
    check_versions_agree(data, &LIMITS);
}

/// Any bytes from a memcached server.
pub fn memcache_response(data: &[u8]) {
    check_responses(Protocol::Memcache, Version::Basic, data, &LIMITS);
}

/// What became of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Request {
        size: usize,
        name: &'static str,
        forwarded: Vec<u8>,
        /// The key that routes it, the keys that it is split by, or nothing.
        keys: Vec<Vec<u8>>,
        /// For each of several keys, what travels with it.
        elements: Vec<Vec<u8>>,
        quiet: Quiet,
    },
    Reply {
        size: usize,
        reply: Vec<u8>,
        fault: bool,
        /// What the client speaks from here on.
        version: Version,
    },
    Close {
        reply: Vec<u8>,
    },
    Authenticate {
        size: usize,
        reply: Vec<u8>,
        password: Vec<u8>,
    },
    /// The stream ends in the middle of a request, so many bytes behind its beginning.
    Cut(usize),
}

/// Parses a stream that comes in pieces, which end at `ends`.
pub(crate) fn requests(
    protocol: Protocol,
    stream: &[u8],
    ends: impl Iterator<Item = usize>,
    limits: &Limits,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut scratch = Scratch::default();
    let mut state = RequestState::default();
    let mut profile = Profile { id: 1, ..Profile::default() };
    let mut start = 0;
    let mut wanted = 0;
    for end in ends {
        while start < end {
            let bytes = &stream[start..end];
            let mut parsed = protocol.parse_request(&mut state, bytes, limits, &mut scratch);
            if let Parsed::Incomplete { need } = parsed {
                assert!(need > 0, "needs nothing");
                assert!(end + need >= wanted, "needs fewer bytes than it said");
                wanted = end + need;
                break;
            }
            assert_eq!(state, RequestState::default(), "the state is left over");
            assert!(end >= wanted, "is whole with fewer bytes than it needed");
            wanted = 0;
            if let Parsed::Own(own) = parsed {
                parsed = protocol.answer(own, bytes, &profile, &mut scratch);
                let refused = matches!(parsed, Parsed::Reply { fault: true, .. });
                assert!(!refused || scratch.profile.is_none(), "an error changes the profile");
                // The password is always right here.
                profile = scratch.profile.take().unwrap_or(profile);
            }
            let outcome = outcome(parsed, bytes, &scratch, profile.version);
            start += match outcome {
                Outcome::Request { size, .. }
                | Outcome::Reply { size, .. }
                | Outcome::Authenticate { size, .. } => size,
                Outcome::Close { .. } | Outcome::Cut(_) => 0,
            };
            let closed = matches!(outcome, Outcome::Close { .. });
            outcomes.push(outcome);
            if closed {
                return outcomes;
            }
        }
    }
    if start < stream.len() {
        outcomes.push(Outcome::Cut(stream.len() - start));
    }
    outcomes
}

fn outcome(parsed: Parsed, bytes: &[u8], scratch: &Scratch, version: Version) -> Outcome {
    let source = scratch.source(bytes);
    let reply = scratch.reply.clone();
    match parsed {
        Parsed::Incomplete { .. } | Parsed::Own(_) => unreachable!("handled by the caller"),
        Parsed::Reply { then: Then::Close, .. } => Outcome::Close { reply },
        Parsed::Reply { size, fault, .. } => {
            assert!(size > 0, "takes nothing of the stream");
            Outcome::Reply { size, reply, fault, version }
        }
        Parsed::Authenticate { size, password, .. } => {
            Outcome::Authenticate { size, reply, password: source[password.range()].to_vec() }
        }
        Parsed::Request(request) => {
            assert!((1..=bytes.len()).contains(&request.size), "takes what has not come");
            let forwarded = match request.forward {
                Forward::Verbatim => bytes[..request.size].to_vec(),
                Forward::Rewritten { tail } => [&scratch.rewritten, &bytes[tail.range()]].concat(),
            };
            let (keys, elements) = match request.route {
                Route::Any | Route::Everywhere | Route::Walk(_) => (Vec::new(), Vec::new()),
                Route::Decoded => (vec![scratch.decoded.clone()], Vec::new()),
                Route::Key(span) => (vec![source[span.range()].to_vec()], Vec::new()),
                Route::Dedicated(_) => {
                    let of = |key: &crate::KeySpan| source[key.key.range()].to_vec();
                    (scratch.keys.iter().map(of).collect(), Vec::new())
                }
                Route::Split => {
                    assert!(scratch.keys.len() > 1, "split by fewer than two keys");
                    let of = |span: crate::Span| source[span.range()].to_vec();
                    scratch.keys.iter().map(|key| (of(key.key), of(key.element))).unzip()
                }
            };
            let name = request.command.name;
            let (size, quiet) = (request.size, request.quiet);
            Outcome::Request { size, name, forwarded, keys, elements, quiet }
        }
    }
}

/// Ends of pieces of all sizes, as arbitrary as the bytes are.
fn cuts(stream: &[u8]) -> impl Iterator<Item = usize> {
    let mut seed = stream.iter().fold(stream.len() as u64 | 1, |seed, &byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    });
    let mut end = 0;
    std::iter::from_fn(move || {
        seed = seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        let size = 1 + (seed >> 33) as usize % (1 << (seed >> 61));
        (end < stream.len()).then(|| {
            end = (end + size).min(stream.len());
            end
        })
    })
}

pub(crate) fn check_requests(protocol: Protocol, stream: &[u8], limits: &Limits) {
    let whole = requests(protocol, stream, std::iter::once(stream.len()), limits);
    let cut = requests(protocol, stream, cuts(stream), limits);
    assert_eq!(whole, cut, "depends on where it is cut");
    if stream.len() <= BYTEWISE_MAX {
        let bytewise = requests(protocol, stream, 1..=stream.len(), limits);
        assert_eq!(whole, bytewise, "depends on where it is cut");
    }
    for outcome in &whole {
        check_outcome(protocol, outcome);
    }
}

fn check_outcome(protocol: Protocol, outcome: &Outcome) {
    match outcome {
        Outcome::Request { name, forwarded, keys, elements, .. } => match protocol {
            Protocol::Redis => {
                let arguments = slow::redis_request(forwarded).expect("one request is forwarded");
                assert!(arguments[0].eq_ignore_ascii_case(name.as_bytes()));
                assert!(keys.iter().all(|key| arguments[1..].contains(key)));
                // The elements are all arguments but the name.
                let bodies = &forwarded[forwarded.len() - elements.concat().len()..];
                assert_eq!(elements.concat(), bodies);
            }
            Protocol::Memcache => {
                let words = slow::memcache_request(forwarded).expect("one request is forwarded");
                assert_eq!(words[0], name.as_bytes());
                let first = if name.starts_with("gat") { 2 } else { 1 };
                let mut sent = words[first..][..keys.len()].to_vec();
                if slow::is_base64(&words) {
                    sent = vec![slow::base64(&words[1]).expect("it was decoded")];
                }
                assert_eq!(&sent, keys);
            }
        },
        Outcome::Reply { reply, version, .. } if !reply.is_empty() => {
            let mut state = ResponseState::new(*version);
            let limits = Limits { line_size_max: 1 << 20, ..Limits::default() };
            let framed = protocol.frame_response(&mut state, reply, &limits);
            assert_eq!(framed, Framed::Complete { size: reply.len() }, "{reply:?}");
        }
        _ => {}
    }
}

/// Frames a stream of responses, and what is pushed between them, that comes in pieces. Sizes, and
/// then what the rest is.
pub(crate) fn responses(
    protocol: Protocol,
    version: Version,
    stream: &[u8],
    ends: impl Iterator<Item = usize>,
    limits: &Limits,
) -> (Vec<usize>, Option<&'static str>) {
    let mut sizes = Vec::new();
    let mut state = ResponseState::new(version);
    let mut start = 0;
    let mut wanted = 0;
    for end in ends {
        while start < end {
            let framed = protocol.frame_response(&mut state, &stream[start..end], limits);
            match framed {
                Framed::Incomplete { need } => {
                    assert!(need > 0, "needs nothing");
                    assert!(end + need >= wanted, "needs fewer bytes than it said");
                    wanted = end + need;
                    break;
                }
                Framed::Complete { size } | Framed::Push { size } => {
                    assert_eq!(matches!(framed, Framed::Push { .. }), stream[start] == b'>');
                    assert!(end >= wanted, "is whole with fewer bytes than it needed");
                    assert!((1..=end - start).contains(&size), "takes what has not come");
                    check_left(state, version);
                    check_seen(protocol, &state, &stream[start..start + size]);
                    wanted = 0;
                    start += size;
                    sizes.push(size);
                }
                Framed::Broken(text) => {
                    check_left(state, version);
                    return (sizes, Some(text));
                }
            }
        }
    }
    (sizes, None)
}

/// Nothing but what was noticed may be left of a response.
fn check_left(state: ResponseState, version: Version) {
    let left = ResponseState { seen: Seen::default(), ..state };
    assert_eq!(left, ResponseState::new(version), "the state is left over");
}

/// What was noticed of a response decides as reading it once more and slowly would.
fn check_seen(protocol: Protocol, state: &ResponseState, response: &[u8]) {
    if protocol != Protocol::Memcache {
        return;
    }
    if let Some((classes, echo)) = slow::memcache_meta(response) {
        for class in (0..12).map(|bit| 1 << bit) {
            for key_check in [0, echo, memcache::response::NO_ECHO, 7] {
                let right = key_check == 0 || echo == 0 || key_check == echo;
                let expect = Expect { class, key_check };
                let wanted = classes & class != 0 && right;
                assert_eq!(protocol.accepts_framed(expect, state), wanted, "{response:?}");
                assert_eq!(protocol.accepts(expect, response), wanted, "{response:?}");
            }
        }
        return;
    }
    let (keys, word) = slow::memcache_parts(response).expect("it was framed");
    let words: Vec<&[u8]> =
        [b"".as_slice(), b"k", b"key"].into_iter().chain(keys.clone()).collect();
    for class in (0..13).map(|bit| 1 << bit >> 1) {
        for &key in &words {
            let key_check = if key.is_empty() { 0 } else { memcache::response::key_check(key) };
            let wanted = class == 0
                || slow::memcache_classes(word, keys.len()) & class != 0
                    && (key.is_empty() || keys.is_empty() || keys == [key]);
            let expect = Expect { class, key_check };
            assert_eq!(protocol.accepts_framed(expect, state), wanted, "{expect:?} {response:?}");
            assert_eq!(protocol.accepts(expect, response), wanted, "{expect:?} {response:?}");
        }
    }
}

pub(crate) fn check_responses(
    protocol: Protocol,
    version: Version,
    stream: &[u8],
    limits: &Limits,
) {
    let whole = responses(protocol, version, stream, std::iter::once(stream.len()), limits);
    let cut = responses(protocol, version, stream, cuts(stream), limits);
    assert_eq!(whole, cut, "depends on where it is cut");
    if stream.len() <= BYTEWISE_MAX {
        let bytewise = responses(protocol, version, stream, 1..=stream.len(), limits);
        assert_eq!(whole, bytewise, "depends on where it is cut");
    }
    let mut start = 0;
    for &size in &whole.0 {
        let response = &stream[start..start + size];
        start += size;
        let slow = match (protocol, version) {
            (Protocol::Redis, Version::Basic) => slow::redis_response(response),
            (Protocol::Redis, Version::Resp3) => slow::resp3_response(response),
            (Protocol::Memcache, _) => slow::memcache_response(response),
        };
        assert_eq!(slow, Some(size), "framed otherwise by a client: {response:?}");
    }
}

/// What RESP2 has means the same in RESP3.
fn check_versions_agree(stream: &[u8], limits: &Limits) {
    let [basic, resp3] = Version::ALL.map(|version| {
        let whole = std::iter::once(stream.len());
        responses(Protocol::Redis, version, stream, whole, limits).0
    });
    assert!(resp3.starts_with(&basic), "RESP2 is framed otherwise in RESP3");
}

/// Parsers as one would write them who wants them to be right and nothing else.
pub(crate) mod slow {
    /// The line at the beginning, without its end, and what follows.
    fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&bytes[..end]).ok()?;
        Some((line, &bytes[end + 2..]))
    }

    /// A number in the one spelling that it has.
    fn number<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
        let number: T = text.parse().ok()?;
        (number.to_string() == text).then_some(number)
    }

    /// The bytes before a line end at a known place, and what follows.
    fn block(bytes: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
        let (block, rest) = bytes.split_at_checked(size)?;
        Some((block, rest.strip_prefix(b"\r\n")?))
    }

    /// The arguments, when the bytes are one request and nothing else.
    pub(crate) fn redis_request(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (header, mut rest) = line(bytes)?;
        let count: usize = number(header.strip_prefix('*')?)?;
        let mut arguments = Vec::new();
        for _ in 0..count {
            let (header, behind) = line(rest)?;
            let (argument, behind) = block(behind, number(header.strip_prefix('$')?)?)?;
            arguments.push(argument.to_vec());
            rest = behind;
        }
        (count > 0 && rest.is_empty()).then_some(arguments)
    }

    /// Size of the response at the beginning.
    pub(crate) fn redis_response(bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        let mut left = 1i64;
        while left > 0 {
            left -= 1;
            let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
            let (kind, text) = rest[..end].split_first()?;
            rest = &rest[end + 2..];
            if matches!(kind, b'+' | b'-') {
                continue;
            }
            let text = std::str::from_utf8(text).ok()?;
            match kind {
                b':' => drop(text.parse::<i128>().ok()?),
                b'$' if text == "-1" => {}
                b'$' => rest = block(rest, number(text)?)?.1,
                b'*' => left += number::<i64>(text).filter(|&n| n >= -1)?.max(0),
                _ => return None,
            }
        }
        Some(bytes.len() - rest.len())
    }

    /// The same of RESP3, or of a pushed message.
    pub(crate) fn resp3_response(bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        let mut left = 1u64;
        while left > 0 {
            left -= 1;
            let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
            let is_first = rest.len() == bytes.len();
            let (kind, text) = rest[..end].split_first()?;
            rest = &rest[end + 2..];
            if matches!(kind, b'+' | b'-') {
                continue;
            }
            let text = std::str::from_utf8(text).ok()?;
            match kind {
                b'$' | b'*' if text == "-1" => {}
                b':' => drop(text.parse::<i128>().ok()?),
                b',' => drop(text.parse::<f64>().ok()?),
                b'(' => {
                    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
                    digits.chars().all(|c| c.is_ascii_digit()).then_some(())?;
                    digits.chars().next()?;
                }
                b'_' => text.is_empty().then_some(())?,
                b'#' => matches!(text, "t" | "f").then_some(())?,
                b'$' | b'!' => rest = block(rest, number(text)?)?.1,
                b'=' => {
                    let (body, behind) = block(rest, number(text)?)?;
                    (body.get(3) == Some(&b':')).then_some(())?;
                    rest = behind;
                }
                b'*' | b'~' => left += number::<u64>(text)?,
                b'>' if is_first => left += number::<u64>(text)?,
                b'%' => left += 2 * number::<u64>(text)?,
                // It stands before an element.
                b'|' => left += 2 * number::<u64>(text)? + 1,
                _ => return None,
            }
        }
        Some(bytes.len() - rest.len())
    }

    /// The words of the line, when the bytes are one request of canonical form and nothing else.
    pub(crate) fn memcache_request(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        let end = bytes.iter().position(|&byte| byte == b'\n')?;
        let line = bytes[..end].strip_suffix(b"\r")?;
        let rest = &bytes[end + 1..];
        let words: Vec<Vec<u8>> = line.split(|&byte| byte == b' ').map(<[u8]>::to_vec).collect();
        let text = |i: usize| std::str::from_utf8(&words[i]).ok();
        let key = |word: &Vec<u8>| {
            (1..=250).contains(&word.len()) && !word.iter().any(|b| *b <= 32 || *b == 127)
        };
        let flags = |name: &str, flags: &[Vec<u8>]| {
            flags.len() <= 17
                && flags.iter().all(|flag| {
                    let visible = !flag.iter().any(|byte| byte.is_ascii_control());
                    visible && !flag.is_empty() && (flag[0] != b'q' || name == "me")
                })
        };
        let count = words.len();
        let good = match text(0)? {
            "get" | "gets" => count > 1 && words[1..].iter().all(key) && rest.is_empty(),
            "gat" | "gats" => {
                number::<i32>(text(1)?)?;
                count > 2 && words[2..].iter().all(key) && rest.is_empty()
            }
            name @ ("set" | "add" | "replace" | "append" | "prepend" | "cas") => {
                number::<u32>(text(2)?)?;
                number::<i32>(text(3)?)?;
                let (_, rest) = block(rest, number(text(4)?)?)?;
                let unique = name == "cas" && number::<u64>(text(5)?).is_some();
                count == 5 + usize::from(unique) && key(&words[1]) && rest.is_empty()
            }
            "delete" => count == 2 && key(&words[1]) && rest.is_empty(),
            "incr" | "decr" => {
                number::<u64>(text(2)?)?;
                count == 3 && key(&words[1]) && rest.is_empty()
            }
            "touch" => {
                number::<i32>(text(2)?)?;
                count == 3 && key(&words[1]) && rest.is_empty()
            }
            "version" => count == 1 && rest.is_empty(),
            name @ ("mg" | "md" | "ma" | "me") => {
                count > 1 && key(&words[1]) && flags(name, &words[2..]) && rest.is_empty()
            }
            "ms" => {
                let (_, rest) = block(rest, number(text(2)?)?)?;
                key(&words[1]) && flags("ms", &words[3..]) && rest.is_empty()
            }
            "flush_all" => {
                let delayed = count == 2 && number::<i32>(text(1)?).is_some();
                (count == 1 || delayed) && rest.is_empty()
            }
            _ => false,
        };
        good.then_some(words)
    }

    /// Whether the key of a request is in base64.
    pub(crate) fn is_base64(words: &[Vec<u8>]) -> bool {
        let flags_from = if words[0] == b"ms" { 3 } else { 2 };
        let is_meta = words[0].len() == 2 && words[0][0] == b'm';
        is_meta && words[flags_from..].iter().any(|flag| flag[0] == b'b')
    }

    /// What a text in base64 was made of, bit by bit.
    pub(crate) fn base64(text: &[u8]) -> Option<Vec<u8>> {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let padded = text.iter().filter(|&&byte| byte == b'=').count();
        let letters = &text[..text.len() - padded];
        let mut bits = Vec::new();
        for letter in letters {
            let value = LETTERS.iter().position(|known| known == letter)?;
            bits.extend((0..6).rev().map(|bit| value >> bit & 1));
        }
        let byte = |bits: &[usize]| bits.iter().fold(0, |byte, &bit| byte << 1 | bit as u8);
        let bytes: Vec<u8> = bits.chunks_exact(8).map(byte).collect();
        (text.len().is_multiple_of(4) && padded <= 2 && !bytes.is_empty()).then_some(bytes)
    }

    /// What a response to a meta command may belong to: the classes, and the check sum of what it
    /// echoes, if that is certain. Nothing for other responses.
    pub(crate) fn memcache_meta(response: &[u8]) -> Option<(u16, u32)> {
        use crate::memcache::commands::class::{
            META_ARITHMETIC, META_DEBUG, META_DELETE, META_GET, META_SET,
        };
        use crate::memcache::response::{NO_ECHO, key_check};
        let end = response.windows(2).position(|pair| pair == b"\r\n")?;
        let words: Vec<&[u8]> = response[..end].split(|&byte| byte == b' ').collect();
        let classes = match std::str::from_utf8(words[0]).ok()? {
            "VA" => META_GET | META_ARITHMETIC,
            "HD" => META_GET | META_SET | META_DELETE | META_ARITHMETIC,
            "EN" => META_GET | META_DEBUG,
            "NF" | "EX" => META_SET | META_DELETE | META_ARITHMETIC,
            "NS" => META_SET | META_ARITHMETIC,
            "ME" => return Some((META_DEBUG, 0)),
            _ => return None,
        };
        let flag = |letter: u8| words[1..].iter().rev().find(|word| word.first() == Some(&letter));
        let echo = match (flag(b'O'), flag(b'k'), flag(b'b')) {
            (Some(opaque), ..) => key_check(opaque),
            (None, Some(key), None) => key_check(&key[1..]),
            (None, Some(key), Some(_)) => {
                key_check(&base64(&key[1..]).unwrap_or_else(|| key[1..].to_vec()))
            }
            (None, None, _) if matches!(words[0], b"VA" | b"HD") => NO_ECHO,
            (None, None, _) => 0,
        };
        Some((classes, echo))
    }

    /// The keys of the blocks of a response, and the first word of its last line.
    pub(crate) fn memcache_parts(response: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
        let mut keys = Vec::new();
        let mut rest = response;
        loop {
            let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
            let words: Vec<&[u8]> = rest[..end].split(|&byte| byte == b' ').collect();
            if words[0] != b"VALUE" {
                return Some((keys, words[0]));
            }
            keys.push(words[1]);
            let size = std::str::from_utf8(words.get(3)?).ok()?;
            rest = block(&rest[end + 2..], number(size)?)?.1;
        }
    }

    /// The classes of responses that one may be by its last line.
    pub(crate) fn memcache_classes(word: &[u8], blocks_count: usize) -> u16 {
        use crate::memcache::commands::class::{
            DELETED, NUMBER, OK, STORED, TOUCHED, VALUES, VERSION,
        };
        match std::str::from_utf8(word).expect("the last line is text") {
            _ if blocks_count > 0 => VALUES,
            "ERROR" | "CLIENT_ERROR" | "SERVER_ERROR" => u16::MAX,
            "END" => VALUES,
            "STORED" | "NOT_STORED" | "EXISTS" => STORED,
            "NOT_FOUND" => STORED | DELETED | TOUCHED | NUMBER,
            "DELETED" => DELETED,
            "TOUCHED" => TOUCHED,
            "VERSION" => VERSION,
            "OK" => OK,
            "RESET" | "MN" => 0,
            _ => NUMBER,
        }
    }

    /// Size of the response at the beginning.
    pub(crate) fn memcache_response(bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        loop {
            let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
            let words: Vec<&[u8]> = rest[..end].split(|&byte| byte == b' ').collect();
            rest = &rest[end + 2..];
            if words[0] == b"VA" {
                let size = std::str::from_utf8(words.get(1)?).ok()?;
                rest = block(rest, number(size)?)?.1;
                return Some(bytes.len() - rest.len());
            }
            if words[0] != b"VALUE" {
                return Some(bytes.len() - rest.len());
            }
            let size = std::str::from_utf8(words.get(3)?).ok()?;
            rest = block(rest, number(size)?)?.1;
        }
    }
}
