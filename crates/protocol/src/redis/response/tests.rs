//! Tests of everything that a Redis server may send.

use super::frame;
use crate::fuzz::{check_responses, responses};
use crate::{Framed, Limits, Protocol, ResponseState, Version};
use proptest::prelude::*;

fn framed(stream: &[u8]) -> (Vec<usize>, Option<&'static str>) {
    check_responses(Protocol::Redis, Version::Basic, stream, &Limits::default());
    responses(
        Protocol::Redis,
        Version::Basic,
        stream,
        std::iter::once(stream.len()),
        &Limits::default(),
    )
}

#[test]
fn each_kind_of_response_is_one_response() {
    for response in [
        "+OK\r\n",
        "+\r\n",
        "-ERR x\r\n",
        "-\r\n",
        ":0\r\n",
        ":-1\r\n",
        ":9223372036854775807\r\n",
        "$-1\r\n",
        "$0\r\n\r\n",
        "$5\r\na\r\nb\n\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n$1\r\na\r\n$-1\r\n",
        "*3\r\n:1\r\n*2\r\n+a\r\n*0\r\n-x\r\n",
        "*1\r\n*1\r\n*1\r\n*-1\r\n",
        "$12\r\n012345678901\r\n",
    ] {
        assert_eq!(framed(response.as_bytes()), (vec![response.len()], None), "{response:?}");
        let twice = format!("{response}{response}");
        assert_eq!(framed(twice.as_bytes()).0, [response.len(); 2], "{response:?}");
        let cut = &response.as_bytes()[..response.len() - 1];
        assert_eq!(framed(cut), (vec![], None), "{response:?}");
    }
}

#[test]
fn what_is_no_response_is_broken() {
    for response in [
        "x",
        "\r\n",
        "%1\r\n",
        "_\r\n",
        "#t\r\n",
        ">1\r\n",
        "=5\r\n",
        "$-7\r\n",
        "$-2\r\n",
        "$01\r\n",
        "$+1\r\n",
        "$\r\n",
        "$1\n",
        "$1\r\nab\r\n",
        "$1\r\na\n\n",
        "$4294967299\r\n",
        "*-2\r\n",
        "*01\r\n",
        "*2000000000\r\n",
        "*4294967297\r\n",
        ":\r\n",
        ":x\r\n",
        ":1.5\r\n",
        ":-\r\n",
        "+OK\n",
        "+O\rK\r\n",
        "-ERR\n",
        "*1\r\n*1\r\n@",
        "$18446744073709551617\r\n",
    ] {
        let (sizes, text) = framed(response.as_bytes());
        assert!(sizes.is_empty() && text.is_some(), "{response:?} {sizes:?} {text:?}");
    }
}

#[test]
fn depth_costs_nothing() {
    for depth in [8, 1024, 1025, 200_000] {
        let mut stream = "*1\r\n".repeat(depth).into_bytes();
        stream.extend_from_slice(b":1\r\n");
        let mut state = ResponseState::default();
        let framed = frame(&mut state, &stream, &Limits::default());
        assert_eq!(framed, Framed::Complete { size: stream.len() });
    }
}

#[test]
fn limits_are_met_on_the_header() {
    let limits = Limits { response_size_max: 100, line_size_max: 20, ..Limits::default() };
    for (response, good) in [
        ("$93\r\n", true),
        ("$94\r\n", false),
        ("*31\r\n", true),
        ("*32\r\n", false),
        ("+1234567890123456789", true),
        ("+12345678901234567890", false),
        ("*1\r\n*1\r\n*30\r\n", false),
        ("*2\r\n$80\r\n", true),
        ("*2\r\n$90\r\n", false),
    ] {
        let framed = frame(&mut ResponseState::default(), response.as_bytes(), &limits);
        assert_eq!(matches!(framed, Framed::Incomplete { .. }), good, "{response:?} {framed:?}");
    }
}

#[test]
fn need_is_exact_when_a_length_is_known() {
    let need = |bytes: &[u8]| match frame(&mut ResponseState::default(), bytes, &Limits::default())
    {
        Framed::Incomplete { need } => need,
        other => panic!("{other:?}"),
    };
    assert_eq!(need(b""), 1);
    assert_eq!(need(b"$"), 1);
    assert_eq!(need(b"$100\r\n"), 102);
    assert_eq!(need(b"$100\r\nabc"), 99);
    assert_eq!(need(b"*2\r\n$100\r\nabc"), 99);
    assert_eq!(need(b"*2\r\n"), 1);
    assert_eq!(need(b"+OK\r"), 1);
}

#[test]
fn a_large_response_is_not_looked_at_again_for_each_byte() {
    let mut bulk = format!("${}\r\n", 64 << 20).into_bytes();
    bulk.resize(bulk.len() + (64 << 20), b'v');
    bulk.extend_from_slice(b"\r\n");
    let mut many = b"*500000\r\n".to_vec();
    many.extend_from_slice(b"$4\r\nabcd\r\n".repeat(500_000).as_slice());
    let mut line = b"+".to_vec();
    line.resize(60_000, b'x');
    line.extend_from_slice(b"\r\n");
    for stream in [&bulk, &many, &line] {
        let mut state = ResponseState::default();
        for size in 0..stream.len() {
            let framed = frame(&mut state, &stream[..size], &Limits::default());
            assert!(matches!(framed, Framed::Incomplete { .. }));
        }
        let framed = frame(&mut state, stream, &Limits::default());
        assert_eq!(framed, Framed::Complete { size: stream.len() });
    }
}

fn framed_resp3(stream: &[u8]) -> (Vec<usize>, Option<&'static str>) {
    let limits = Limits::default();
    check_responses(Protocol::Redis, Version::Resp3, stream, &limits);
    let whole = std::iter::once(stream.len());
    responses(Protocol::Redis, Version::Resp3, stream, whole, &limits)
}

#[test]
fn each_kind_of_resp3_is_one_response_where_it_is_spoken() {
    for response in [
        "%0\r\n",
        "%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n:1\r\n_\r\n",
        "~3\r\n:1\r\n$1\r\na\r\n#t\r\n",
        ",1.5\r\n",
        ",-10\r\n",
        ",1e-7\r\n",
        ",inf\r\n",
        ",-inf\r\n",
        ",nan\r\n",
        "#t\r\n",
        "#f\r\n",
        "_\r\n",
        "(3492890328409238509324850943850943825024385\r\n",
        "(-1\r\n",
        "!10\r\nERR a\r\nb c\r\n",
        "=15\r\ntxt:Some string\r\n",
        "=4\r\nmkd:\r\n",
        "|1\r\n+ttl\r\n:3\r\n$1\r\na\r\n",
        "*2\r\n|1\r\n+ttl\r\n:3\r\n:7\r\n:8\r\n",
        "|1\r\n+a\r\n*0\r\n|0\r\n*1\r\n+x\r\n",
    ] {
        let bytes = response.as_bytes();
        assert_eq!(framed_resp3(bytes), (vec![bytes.len()], None), "{response:?}");
        let twice = response.repeat(2);
        assert_eq!(framed_resp3(twice.as_bytes()).0, [bytes.len(); 2], "{response:?}");
        assert_eq!(framed_resp3(&bytes[..bytes.len() - 1]), (vec![], None), "{response:?}");
        assert!(framed(bytes).1.is_some(), "taken from a server that speaks RESP2: {response:?}");
    }
}

#[test]
fn what_is_no_resp3_is_broken() {
    for response in [
        "%-1\r\n",
        "%01\r\n",
        "%?\r\n",
        "~-1\r\n",
        "*?\r\n",
        "$?\r\n",
        "%999999999999999999\r\n",
        "|999999999999999999\r\n",
        "%2000000000\r\n",
        ",\r\n",
        ",x\r\n",
        ",infinity\r\n",
        ",1.2.3\r\n",
        "#x\r\n",
        "#tt\r\n",
        "#t\n:",
        "_x\r\n",
        "_\n:",
        "(\r\n",
        "(-\r\n",
        "(1x\r\n",
        "!-1\r\n",
        "!1\r\nab\r\n",
        // A length below none once overflowed what it was added to.
        "=-1\r\n",
        "=-9223372036854775808\r\n",
        "=9223372036854775807\r\n",
        "=3\r\ntxt\r\n",
        "=7\r\ntxtx:ab\r\n",
        "=5\r\ntxtab\r\n",
        ">0\r\n",
        "*1\r\n>1\r\n+a\r\n",
        "|1\r\n+a\r\n:1\r\n>1\r\n+a\r\n",
        "@\r\n",
    ] {
        let (sizes, text) = framed_resp3(response.as_bytes());
        assert!(sizes.is_empty() && text.is_some(), "{response:?} {sizes:?} {text:?}");
    }
}

#[test]
fn a_verbatim_string_is_judged_when_it_is_whole_wherever_it_is_cut() {
    crate::fuzz::redis_response(b"=1\r\n$1\r\nk\r\n");
    crate::fuzz::redis_response(b"+OK\r\n=7\r\nt%2x,t:");
    assert_eq!(framed_resp3(b"=7\r\ntxtx:ab").1, None);
    assert_eq!(framed_resp3(b"=7\r\ntxt:abc\r\n"), (vec![13], None));
}

#[test]
fn a_pushed_message_is_no_response() {
    let push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";
    let stream = [push.as_slice(), b"+OK\r\n"].concat();
    assert_eq!(framed_resp3(&stream), (vec![push.len(), 5], None));
    let mut state = ResponseState::new(Version::Resp3);
    for cut in 1..push.len() {
        let framed = frame(&mut state, &push[..cut], &Limits::default());
        assert!(matches!(framed, Framed::Incomplete { .. }), "{cut}");
    }
    let framed = frame(&mut state, &stream, &Limits::default());
    assert_eq!(framed, Framed::Push { size: push.len() });
    let framed = frame(&mut state, &stream[push.len()..], &Limits::default());
    assert_eq!(framed, Framed::Complete { size: 5 });
}

/// A well-formed response of RESP3.
fn resp3_response() -> impl Strategy<Value = Vec<u8>> {
    let text = |pattern: &'static str| pattern.prop_map(String::into_bytes);
    let body = || prop::collection::vec(any::<u8>(), 0..100);
    let leaf = prop_oneof![
        response(),
        Just(b"_\r\n".to_vec()),
        text("#[tf]\r\n"),
        text("[(]-?[0-9]{1,40}\r\n"),
        any::<f64>().prop_map(|value| format!(",{}\r\n", value.to_string().to_lowercase()).into()),
        body()
            .prop_map(|body| [format!("!{}\r\n", body.len()).as_bytes(), &body, b"\r\n"].concat()),
        body().prop_map(|body| {
            [format!("={}\r\nmkd:", body.len() + 4).as_bytes(), &body, b"\r\n"].concat()
        }),
    ];
    leaf.prop_recursive(4, 30, 6, |element| {
        let elements = prop::collection::vec(element, 0..7);
        (elements, prop::sample::select(b"*~%|".to_vec())).prop_map(|(mut elements, kind)| {
            let count = match kind {
                b'%' => elements.len() / 2,
                b'|' => elements.len().saturating_sub(1) / 2,
                _ => elements.len(),
            };
            match kind {
                b'%' => elements.truncate(2 * count),
                b'|' => elements.resize(2 * count + 1, b":1\r\n".to_vec()),
                _ => {}
            }
            let head = format!("{}{count}\r\n", char::from(kind)).into_bytes();
            [head, elements.concat()].concat()
        })
    })
}

/// A well-formed response.
fn response() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(b"$-1\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
        "[+-][a-z ]{0,20}\r\n".prop_map(String::into_bytes),
        any::<i64>().prop_map(|value| format!(":{value}\r\n").into_bytes()),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|body| {
            [format!("${}\r\n", body.len()).as_bytes(), &body, b"\r\n"].concat()
        }),
    ];
    leaf.prop_recursive(4, 30, 5, |element| {
        prop::collection::vec(element, 0..5).prop_map(|elements| {
            [format!("*{}\r\n", elements.len()).into_bytes(), elements.concat()].concat()
        })
    })
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
    fn streams_of_resp3_are_framed_however_they_are_cut(
        all in prop::collection::vec(resp3_response(), 1..6)
    ) {
        let sizes: Vec<usize> = all.iter().map(Vec::len).collect();
        prop_assert_eq!(framed_resp3(&all.concat()), (sizes, None));
    }

    #[test]
    fn any_bytes_are_framed_alike_however_they_are_cut(
        pieces in prop::collection::vec(
            prop_oneof![
                response(),
                resp3_response(),
                prop::collection::vec(
                    prop::sample::select(b"*$-+:%~|>,#_(!=0123tf.\r\n\r\n\r\n".to_vec()),
                    0..30
                ),
                prop::collection::vec(any::<u8>(), 0..20),
            ],
            0..6,
        )
    ) {
        crate::fuzz::redis_response(&pieces.concat());
    }
}
