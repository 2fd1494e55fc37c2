//! The fast path gives what the general parser gives, or nothing; and it does give something for
//! what it is there for.

use super::{COMMANDS, NAME_SIZE_MAX, find, parse};
use crate::redis::commands::ROWS;
use crate::redis::request::parse_any;
use crate::{Limits, Parsed, RequestState, Route, Scratch};
use proptest::prelude::*;

fn resp(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn general(bytes: &[u8], limits: &Limits) -> Parsed {
    let mut state = RequestState::default();
    parse_any(&mut state, bytes, limits, &mut Scratch::default())
}

/// Whether the fast path takes it; if so, as the general parser does.
fn is_usual(bytes: &[u8], limits: &Limits) -> bool {
    let usual = parse(bytes, limits);
    if let Some(parsed) = usual {
        assert_eq!(parsed, general(bytes, limits), "{:?}", String::from_utf8_lossy(bytes));
    }
    usual.is_some()
}

#[test]
fn the_usual_requests_take_the_fast_path() {
    let long = [b'k'; 999];
    let value = [b'v'; 20_000];
    for words in [
        &[b"GET".as_slice(), b"k"][..],
        &[b"get", b""],
        &[b"gEt", b"0123456789"],
        &[b"GET", &long[..100]],
        &[b"GET", &long],
        &[b"SET", b"k", b""],
        &[b"SET", b"k", &value],
        &[b"SET", b"k", b"v", b"EX", b"10", b"NX"],
        &[b"ZREVRANK", b"k", b"m"],
        &[b"DEL", b"k"],
        &[b"MGET", b"k"],
        &[b"MSET", b"k", b"v"],
        &[b"HSET", b"k", b"a", b"1", b"b", b"2", b"c", b"3"],
    ] {
        let request = resp(words);
        assert!(is_usual(&request, &Limits::default()), "{:?}", String::from_utf8_lossy(&request));
        for end in 0..request.len() {
            assert!(!is_usual(&request[..end], &Limits::default()), "it is not whole");
        }
    }
}

#[test]
fn what_is_unusual_or_wrong_is_left_to_the_general_parser() {
    for request in [
        "*2\r\n$3\r\nGEX\r\n$1\r\nk\r\n",
        "*3\r\n$3\r\nGET\r\n$1\r\na\r\n$1\r\nb\r\n",
        "*1\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        "*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n",
        "*2\r\n$4\r\nECHO\r\n$1\r\nk\r\n",
        "*2\r\n$4\r\nKEYS\r\n$1\r\nk\r\n",
        "*2\r\n$0\r\n\r\n$1\r\nk\r\n........",
        "*2\r\n$4\r\nGET\0\r\n$1\r\nk\r\n",
        "*2\r\n$4\r\nGET\r\n$1\r\nk\r\n....",
        "*2\r\n$3\r\nGET\n\r$1\r\nk\r\n",
        "*2\r\n$3\r\nGET\r\n$01\r\nk\r\n",
        "*2\r\n$3\r\nGET\r\n$00\r\n\r\n",
        "*2\r\n$3\r\nGET\r\n$-1\r\nk\r\n",
        "*2\r\n$3\r\nGET\r\n$+1\r\nk\r\n",
        "*2\r\n$3\r\nGET\r\n$\r\nk\r\n..",
        "*2\r\n$3\r\nGET\r\n$1\nk\r\n..",
        "*2\r\n$3\r\nGET\r\n$1\r\nk\n\n",
        "*2\r\n$3\r\nGET\r\n:1\r\nk\r\n",
        "*2\r\n$3\r\nGET\r\n$1:\r\nk\r\n...........",
        "*2\r\n$3\r\nGET\r\n$12:\r\nk\r\n...........",
        "*:\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        "*2\r\n$:\r\nGETEXPIRES\r\n$1\r\nk\r\n",
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n:1\r\n",
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nvv\r\n",
    ] {
        assert!(!is_usual(request.as_bytes(), &Limits::default()), "{request:?}");
    }
}

/// There are as many arguments as any byte can be taken for, and bytes enough for any name.
#[test]
fn only_digits_are_counts_and_sizes() {
    let mut words = vec![b"SET".as_slice()];
    words.resize(256, b"k");
    let many = [b"*3".as_slice(), &resp(&words)[4..]].concat();
    assert!(is_usual(&many, &Limits::default()));
    for byte in 0..=u8::MAX {
        for place in [1, 5] {
            let mut request = many.clone();
            request[place] = byte;
            let good = if place == 1 { (b'3'..=b'9').contains(&byte) } else { byte == b'3' };
            assert_eq!(is_usual(&request, &Limits::default()), good, "{place} {byte}");
        }
    }
}

#[test]
fn limits_hold_on_the_fast_path() {
    let request = resp(&[b"SET", b"key", b"value"]);
    let sized = |size| Limits { request_size_max: size, ..Limits::default() };
    assert!(is_usual(&request, &sized(request.len())));
    assert!(!is_usual(&request, &sized(request.len() - 1)));
    let get = resp(&[b"GET", b"key"]);
    assert!(is_usual(&get, &sized(get.len())));
    assert!(!is_usual(&get, &sized(get.len() - 1)));
    let counted = |count| Limits { arguments_max: count, ..Limits::default() };
    assert!(is_usual(&request, &counted(3)));
    assert!(!is_usual(&request, &counted(2)));
}

#[test]
fn the_fast_path_has_every_command_of_one_key_whose_name_is_short() {
    let word_of = |name: &str| {
        let mut word = [b'x'; 8];
        word[..name.len()].copy_from_slice(name.as_bytes());
        u64::from_le_bytes(word)
    };
    let mut count = 0;
    for (i, row) in ROWS.iter().enumerate() {
        let size = row.name.len() as u8;
        if size > NAME_SIZE_MAX || super::command_of(row, i).is_none() {
            continue;
        }
        count += 1;
        for name in [row.name.to_owned(), row.name.to_uppercase()] {
            let found = find(word_of(&name), size).map(|command| usize::from(command.index));
            assert_eq!(found, Some(i), "{name}");
        }
    }
    assert!(count > 100, "{count}");
    assert_eq!(COMMANDS.iter().filter(|command| command.name != 0).count(), count);
}

/// A request of a command of the table, or something like one.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        (0..ROWS.len(), any::<bool>()).prop_map(|(i, upper)| match upper {
            true => ROWS[i].name.to_uppercase().into_bytes(),
            false => ROWS[i].name.as_bytes().to_vec(),
        }),
        prop::sample::select(vec!["GET", "set", "DEL", "hset", "Incr", "EXPIRE"])
            .prop_map(|name| name.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..10),
    ];
    let argument = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..12),
        1 => prop::collection::vec(any::<u8>(), 90..1100),
    ];
    (name, prop::collection::vec(argument, 0..10)).prop_map(|(name, arguments)| {
        let words: Vec<&[u8]> =
            std::iter::once(&name).chain(&arguments).map(Vec::as_slice).collect();
        resp(&words)
    })
}

/// One change to the bytes of a request.
#[derive(Debug, Clone)]
enum Change {
    Replace(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Cut(usize),
}

fn change() -> impl Strategy<Value = Change> {
    // Most places are in the headers, which are at the beginning.
    let place = || prop_oneof![4 => 0..32usize, 1 => 0..2000usize];
    let byte =
        || prop_oneof![prop::sample::select(b"0123456789:/\r\n$*-+ \0GET".to_vec()), any::<u8>(),];
    prop_oneof![
        (place(), byte()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        (place(), byte()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        place().prop_map(Change::Remove),
        place().prop_map(Change::Cut),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        match *change {
            Change::Replace(at, byte) if at < bytes.len() => bytes[at] = byte,
            Change::Insert(at, byte) if at <= bytes.len() => bytes.insert(at, byte),
            Change::Remove(at) if at < bytes.len() => drop(bytes.remove(at)),
            Change::Cut(at) => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_fast_path_and_the_general_parser_agree(
        request in request(),
        changes in prop::collection::vec(change(), 0..4),
        request_size_max in prop_oneof![Just(512usize << 20), 10..200usize],
        arguments_max in prop_oneof![Just(1usize << 20), 1..10usize],
        behind in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let limits = Limits { request_size_max, arguments_max, ..Limits::default() };
        let mut stream = changed(request, &changes);
        stream.extend(behind);
        is_usual(&stream, &limits);
        // And as a whole the parser gives what the general one does, with nothing left over.
        let mut scratch = Scratch::default();
        let mut state = RequestState::default();
        let parsed = crate::redis::request::parse(&mut state, &stream, &limits, &mut scratch);
        prop_assert_eq!(parsed, general(&stream, &limits));
        if let Parsed::Request(request) = parsed
            && let Route::Key(span) = request.route
        {
            prop_assert!(span.range().end <= scratch.source(&stream).len());
        }
    }

    #[test]
    fn a_request_of_one_key_that_was_not_changed_takes_the_fast_path(
        i in 0..ROWS.len(),
        arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..999), 1..9),
    ) {
        let mut words = vec![ROWS[i].name.as_bytes()];
        words.extend(arguments.iter().map(Vec::as_slice));
        let request = resp(&words);
        let wanted = super::command_of(&ROWS[i], i).is_some_and(|command| {
            (command.arguments_min..=command.arguments_max).contains(&(words.len() as u8))
        });
        prop_assert_eq!(is_usual(&request, &Limits::default()), wanted);
    }
}

/// What one request left in the scratch is not seen as the result of the next.
#[test]
fn the_fast_path_leaves_nothing_of_the_request_before() {
    let mut scratch = Scratch::default();
    let mut state = RequestState::default();
    let limits = Limits::default();
    let get = resp(&[b"GET", b"key"]);
    for before in [b"mget 'a b' c\r\n".to_vec(), resp(&[b"DEL", b"a", b"b"]), resp(&[b"PING"])] {
        crate::redis::request::parse(&mut state, &before, &limits, &mut scratch);
        let parsed = crate::redis::request::parse(&mut state, &get, &limits, &mut scratch);
        let Parsed::Request(request) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!(request.bytes(&get, &scratch), get);
        assert!(scratch.keys.is_empty() && scratch.reply.is_empty());
        assert!(scratch.rewritten.is_empty() && scratch.arguments.is_empty());
    }
}

/// The proxy writes errors of its own into the scratch, behind a fast request too.
#[test]
fn what_the_caller_wrote_into_the_scratch_is_no_reply_to_the_next_request() {
    let mut scratch = Scratch::default();
    let mut state = RequestState::default();
    let limits = Limits::default();
    let get = resp(&[b"GET", b"key"]);
    crate::redis::request::parse(&mut state, &get, &limits, &mut scratch);
    scratch.reply.extend_from_slice(b"-ERR out of memory\r\n");
    let parsed = crate::redis::request::parse(&mut state, b"*0\r\n", &limits, &mut scratch);
    assert!(matches!(parsed, Parsed::Reply { size: 4, .. }), "{parsed:?}");
    assert!(scratch.reply.is_empty());
}
