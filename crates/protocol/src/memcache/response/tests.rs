//! Tests of everything that a memcached server may send, and of which request it may belong to.

use super::{USUAL_LINE_SIZE_MAX, ValueLine, frame, key_check, value_line};
use crate::fuzz::{check_responses, responses};
use crate::memcache::is_key;
use crate::{
    Expect, Framed, Limits, Parsed, Protocol, RequestState, ResponseState, Scratch, Version,
};
use proptest::prelude::*;

fn framed(stream: &[u8]) -> (Vec<usize>, Option<&'static str>) {
    check_responses(Protocol::Memcache, Version::Basic, stream, &Limits::default());
    responses(
        Protocol::Memcache,
        Version::Basic,
        stream,
        std::iter::once(stream.len()),
        &Limits::default(),
    )
}

const GOOD: [&str; 21] = [
    "END\r\n",
    "VALUE k 0 0\r\n\r\nEND\r\n",
    "VALUE k 0 5\r\na\r\nb\n\r\nEND\r\n",
    "VALUE k 4294967295 1 18446744073709551615\r\nx\r\nVALUE b 0 5\r\nEND\r\n\r\nEND\r\n",
    "VALUE k 18446744073709551615 1\r\nx\r\nEND\r\n",
    "VALUE k 0 1\r\nx\r\nSERVER_ERROR out of memory writing get response\r\n",
    "STORED\r\n",
    "NOT_STORED\r\n",
    "EXISTS\r\n",
    "NOT_FOUND\r\n",
    "DELETED\r\n",
    "TOUCHED\r\n",
    "OK\r\n",
    "RESET\r\n",
    "VERSION 1.6.18\r\n",
    "0\r\n",
    "18446744073709551615\r\n",
    "7  \r\n",
    "ERROR\r\n",
    "CLIENT_ERROR bad command line format\r\n",
    "SERVER_ERROR out of memory storing object\r\n",
];

#[test]
fn each_kind_of_response_is_one_response() {
    for response in GOOD {
        assert_eq!(framed(response.as_bytes()), (vec![response.len()], None), "{response:?}");
        let twice = format!("{response}{response}");
        assert_eq!(framed(twice.as_bytes()).0, [response.len(); 2], "{response:?}");
        let cut = &response.as_bytes()[..response.len() - 1];
        assert_eq!(framed(cut), (vec![], None), "{response:?}");
    }
}

#[test]
fn what_is_no_response_is_broken() {
    let long_key = format!("VALUE {} 0 1\r\nx\r\nEND\r\n", "k".repeat(251));
    let long_flags = format!("VALUE k {} 1\r\nx\r\nEND\r\n", "1".repeat(20_000));
    for response in [
        "\r\n",
        " \r\n",
        "STAT a b\r\n",
        "ERROR: x\r\n",
        "stored\r\n",
        "STORED\n",
        "STORED x\r\n",
        "END x\r\n",
        "END\t\r\n",
        "12a\r\n",
        "-1\r\n",
        "123456789012345678901\r\n",
        "SERVER_ERROR a\rb\r\n",
        "VALUE\r\n",
        "VALUE k\r\n",
        "VALUE k 0\r\n",
        "VALUE k 0 x\r\n",
        "VALUE k 0 -1\r\n",
        "VALUE k 0 01\r\nx\r\nEND\r\n",
        "VALUE k +0 1\r\nx\r\nEND\r\n",
        "VALUE k -1 1\r\nx\r\nEND\r\n",
        "VALUE k 0 1 \r\nx\r\nEND\r\n",
        "VALUE k 0 1 2 3\r\nx\r\nEND\r\n",
        "VALUE  k 0 1\r\nx\r\nEND\r\n",
        "VALUE k 0 4294967296\r\n",
        "VALUE k 0 18446744073709551617\r\n",
        "VALUE k 0 1073741824\r\n",
        "VALUE k 0 1\nx\r\nEND\r\n",
        "VALUE k 0 1\r\nxyEND\r\n",
        "VALUE k 0 1\r\nx\r\nSTORED\r\n",
        "VALUE k\x01 0 1\r\nx\r\nEND\r\n",
        "VALUE k 0 1\r\nx\r\nfoo\r\n",
        &long_key,
        &long_flags,
    ] {
        let (sizes, text) = framed(response.as_bytes());
        assert!(sizes.is_empty() && text.is_some(), "{response:?} {sizes:?} {text:?}");
    }
    let endless = vec![b'x'; 70_000];
    assert_eq!(framed(&endless).1, Some("line too long"));
}

#[test]
fn need_is_exact_when_a_length_is_known() {
    let need = |bytes: &[u8]| match frame(&mut ResponseState::default(), bytes, &Limits::default())
    {
        Framed::Incomplete { need } => need,
        other => panic!("{other:?}"),
    };
    assert_eq!(need(b""), 1);
    assert_eq!(need(b"VALUE k 0 100"), 1);
    assert_eq!(need(b"VALUE k 0 100\r\n"), 102);
    assert_eq!(need(b"VALUE k 0 100\r\nabc"), 99);
    assert_eq!(need(b"VALUE k 0 1\r\na\r\n"), 1);
}

#[test]
fn a_large_response_is_not_looked_at_again_for_each_byte() {
    let mut one = format!("VALUE k 0 {}\r\n", 64 << 20).into_bytes();
    one.resize(one.len() + (64 << 20), b'v');
    one.extend_from_slice(b"\r\nEND\r\n");
    let mut many = b"VALUE k 0 4\r\nabcd\r\n".repeat(300_000);
    many.extend_from_slice(b"END\r\n");
    for stream in [&one, &many] {
        let mut state = ResponseState::default();
        for size in 0..stream.len() {
            let framed = frame(&mut state, &stream[..size], &Limits::default());
            assert!(matches!(framed, Framed::Incomplete { .. }));
        }
        let framed = frame(&mut state, stream, &Limits::default());
        assert_eq!(framed, Framed::Complete { size: stream.len() });
    }
}

fn expect(stream: &str) -> Expect {
    let mut scratch = Scratch::default();
    let mut state = RequestState::default();
    let bytes = stream.as_bytes();
    match Protocol::Memcache.parse_request(&mut state, bytes, &Limits::default(), &mut scratch) {
        Parsed::Request(request) => request.expect,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_response_belongs_to_a_request_of_its_class_only() {
    let value = "VALUE k 0 1\r\nx\r\nEND\r\n";
    let requests = [
        ("get k\r\n", &[value, "END\r\n"][..]),
        ("gets k\r\n", &["VALUE k 0 1 7\r\nx\r\nEND\r\n", value, "END\r\n"]),
        ("gat 0 k\r\n", &[value, "END\r\n"]),
        ("set k 0 0 1\r\na\r\n", &["STORED\r\n", "NOT_STORED\r\n", "EXISTS\r\n", "NOT_FOUND\r\n"]),
        (
            "cas k 0 0 1 1\r\na\r\n",
            &["STORED\r\n", "NOT_STORED\r\n", "EXISTS\r\n", "NOT_FOUND\r\n"],
        ),
        ("delete k\r\n", &["DELETED\r\n", "NOT_FOUND\r\n"]),
        ("touch k 0\r\n", &["TOUCHED\r\n", "NOT_FOUND\r\n"]),
        ("incr k 1\r\n", &["12\r\n", "NOT_FOUND\r\n"]),
        ("version\r\n", &["VERSION 1.6.18\r\n"]),
    ];
    let all = [
        value,
        "VALUE k 0 1 7\r\nx\r\nEND\r\n",
        "END\r\n",
        "STORED\r\n",
        "NOT_STORED\r\n",
        "EXISTS\r\n",
        "NOT_FOUND\r\n",
        "DELETED\r\n",
        "TOUCHED\r\n",
        "12\r\n",
        "VERSION 1.6.18\r\n",
        "OK\r\n",
    ];
    for (request, good) in requests {
        let expect = expect(request);
        for response in all {
            let is_value = response.starts_with("VALUE") && good.contains(&value);
            let wanted = good.contains(&response) || is_value;
            let got = Protocol::Memcache.accepts(expect, response.as_bytes());
            assert_eq!(got, wanted, "{request:?} {response:?}");
        }
        for response in ["ERROR\r\n", "CLIENT_ERROR x\r\n", "SERVER_ERROR x\r\n"] {
            assert!(Protocol::Memcache.accepts(expect, response.as_bytes()), "{request:?}");
        }
    }
    assert!(Protocol::Memcache.accepts(Expect::default(), b"STORED\r\n"));
}

#[test]
fn a_value_of_another_key_is_not_accepted() {
    let expect = expect("get key\r\n");
    let accepts = |response: &str| Protocol::Memcache.accepts(expect, response.as_bytes());
    assert!(accepts("VALUE key 0 1\r\nx\r\nEND\r\n"));
    assert!(accepts("VALUE key 0 1\r\nx\r\nSERVER_ERROR x\r\n"));
    assert!(!accepts("VALUE kez 0 1\r\nx\r\nEND\r\n"));
    assert!(!accepts("VALUE ke 0 1\r\nx\r\nEND\r\n"));
    assert!(!accepts("VALUE key 0 1\r\nx\r\nVALUE key 0 1\r\nx\r\nEND\r\n"));
    // Of several keys none is checked here, but when the parts are joined.
    let several = self::expect("get a b\r\n");
    assert!(
        Protocol::Memcache.accepts(several, b"VALUE a 0 1\r\nx\r\nVALUE b 0 1\r\nx\r\nEND\r\n")
    );
}

#[test]
fn check_sums_tell_keys_apart_that_differ_in_any_one_byte() {
    let key = b"user:0000000001:profile:session:0000".to_vec();
    let mut sums = vec![key_check(&key)];
    for i in 0..key.len() {
        for bit in 0..8 {
            let mut other = key.clone();
            other[i] ^= 1 << bit;
            sums.push(key_check(&other));
        }
    }
    sums.extend((1..key.len()).map(|size| key_check(&key[..size])));
    assert!(!sums.contains(&0));
    let count = sums.len();
    sums.sort_unstable();
    sums.dedup();
    assert_eq!(sums.len(), count);
}

/// Reads the head of a block by cutting its line into words.
fn slow_value_line(bytes: &[u8]) -> Option<ValueLine> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let line = bytes[..end].strip_suffix(b"\r")?;
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let number = |i: usize| {
        let text = std::str::from_utf8(words[i]).ok()?;
        let number: u64 = text.parse().ok()?;
        (number.to_string() == text).then_some(number)
    };
    let good = (4..=5).contains(&words.len())
        && words[0] == b"VALUE"
        && is_key(words[1])
        && (2..words.len()).all(|i| number(i).is_some());
    let value_size = good.then(|| number(3))?.filter(|&size| size <= u64::from(u32::MAX))?;
    Some(ValueLine { key_size: words[1].len(), value_size, end: end + 1 })
}

#[test]
fn the_head_of_a_block_is_read_right_for_each_size_of_key() {
    let keys: Vec<String> = (0..270).map(|size| "k".repeat(size)).collect();
    for key in &keys {
        for end in [" 0 5\r\n", " 7 12345 18446744073709551615\r\nabc", "\x7f 0 1\r\n", "", "\r\n"]
        {
            let line = format!("VALUE {key}{end}");
            assert_eq!(value_line(line.as_bytes()), slow_value_line(line.as_bytes()), "{line:?}");
        }
    }
    let longest = format!("VALUE {0} {1} 4294967295 {1}\r\n", keys[250], u64::MAX);
    let found = value_line(longest.as_bytes()).expect("it is good");
    assert_eq!(found.end, longest.len());
    assert!(longest.len() <= USUAL_LINE_SIZE_MAX);
}

#[test]
fn a_key_ends_at_exactly_the_bytes_that_no_key_has() {
    for place in 0..20 {
        for byte in 0..=u8::MAX {
            let mut line = b"VALUE abcdefghijklmnopqrstu\x80\xff 0 1\r\n".to_vec();
            line[6 + place] = byte;
            assert_eq!(value_line(&line), slow_value_line(&line), "{place} {byte}");
        }
    }
}

/// A well-formed response.
fn response() -> impl Strategy<Value = Vec<u8>> {
    let block = ("[a-z]{1,20}", any::<u32>(), prop::collection::vec(any::<u8>(), 0..100)).prop_map(
        |(key, flags, body)| {
            let line = format!("VALUE {key} {flags} {}\r\n", body.len());
            [line.as_bytes(), &body, b"\r\n"].concat()
        },
    );
    prop_oneof![
        prop::collection::vec(block, 0..5).prop_map(|blocks| [
            blocks.concat(),
            b"END\r\n".to_vec()
        ]
        .concat()),
        prop::sample::select(vec!["STORED\r\n", "NOT_FOUND\r\n", "12\r\n", "ERROR\r\n"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn streams_of_responses_are_framed_however_they_are_cut(
        all in prop::collection::vec(response(), 1..6)
    ) {
        let sizes: Vec<usize> = all.iter().map(Vec::len).collect();
        prop_assert_eq!(framed(&all.concat()), (sizes, None));
    }

    #[test]
    fn any_bytes_are_framed_alike_however_they_are_cut(
        pieces in prop::collection::vec(
            prop_oneof![
                response(),
                prop::collection::vec(
                    prop::sample::select(b"VALUE END 012\r\n\r\n".to_vec()),
                    0..30,
                ),
                prop::collection::vec(any::<u8>(), 0..20),
                prop::sample::select(vec!["VALUE k 0 ", "END", "STORED"])
                    .prop_map(|text| text.as_bytes().to_vec()),
            ],
            0..8,
        )
    ) {
        crate::fuzz::memcache_response(&pieces.concat());
    }

    #[test]
    fn the_head_of_a_block_is_read_as_a_slow_reader_does(
        key in prop_oneof!["[a-z:0-9]{1,40}", "\\PC{0,12}"],
        numbers in prop::collection::vec(
            prop_oneof![
                any::<u64>().prop_map(|number| number.to_string()),
                (0..100_000u64).prop_map(|number| number.to_string()),
                prop::sample::select(vec!["", "0", "00", "01", "-1", "+1", "x", "4294967296"])
                    .prop_map(str::to_owned),
            ],
            0..5,
        ),
        end in prop::sample::select(vec!["\r\n", "\r\nxyz\r\nEND\r\n", "\n", "\r", "", " \r\n"]),
        change in prop::option::of((0..60usize, any::<u8>())),
    ) {
        let mut line = format!("VALUE {key} {}{end}", numbers.join(" ")).into_bytes();
        if let Some((at, byte)) = change
            && at < line.len()
        {
            line[at] = byte;
        }
        prop_assert_eq!(value_line(&line), slow_value_line(&line));
    }

    /// With a shorter limit for lines the fast path is not taken, and nothing else changes.
    #[test]
    fn the_fast_path_frames_as_line_by_line(
        pieces in prop::collection::vec(
            prop_oneof![
                4 => response(),
                1 => prop::collection::vec(any::<u8>(), 0..20),
                1 => prop::sample::select(vec!["VALUE k 0 ", "END", "STORED\r\n", "1\r\nx\r\n"])
                    .prop_map(|text| text.as_bytes().to_vec()),
            ],
            0..6,
        ),
        response_size_max in prop_oneof![Just(1usize << 30), 1..300usize],
    ) {
        let stream = pieces.concat();
        let others = Limits { response_size_max, ..Limits::default() };
        let limits = |line_size_max| Limits { line_size_max, ..others };
        let lines = stream.split(|&byte| byte == b'\n');
        prop_assume!(lines.map(<[u8]>::len).max() < Some(USUAL_LINE_SIZE_MAX - 1));
        let fast = limits(USUAL_LINE_SIZE_MAX);
        let slow = limits(USUAL_LINE_SIZE_MAX - 1);
        let whole = || std::iter::once(stream.len());
        prop_assert_eq!(
            responses(Protocol::Memcache, Version::Basic, &stream, whole(), &fast),
            responses(Protocol::Memcache, Version::Basic, &stream, whole(), &slow)
        );
        let mut states = [ResponseState::default(); 2];
        let framed = [frame(&mut states[0], &stream, &fast), frame(&mut states[1], &stream, &slow)];
        prop_assert_eq!(framed[0], framed[1]);
        prop_assert_eq!(states[0], states[1]);
    }
}
