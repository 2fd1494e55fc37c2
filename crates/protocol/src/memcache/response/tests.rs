//! Tests of everything that a memcached server may send, and of which request it may belong to.

use super::{frame, key_check};
use crate::fuzz::{check_responses, responses};
use crate::{Expect, Framed, Limits, Parsed, Protocol, RequestState, ResponseState, Scratch};
use proptest::prelude::*;

fn framed(stream: &[u8]) -> (Vec<usize>, Option<&'static str>) {
    check_responses(Protocol::Memcache, stream, &Limits::default());
    responses(Protocol::Memcache, stream, std::iter::once(stream.len()), &Limits::default())
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
        "HD\r\n",
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
}
