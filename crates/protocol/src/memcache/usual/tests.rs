//! The fast path gives what the general parser gives, or nothing; and it does give something for
//! what it is there for.

use super::parse;
use crate::memcache::request::parse_any;
use crate::{Limits, RequestState, Scratch};
use proptest::prelude::*;

/// Whether the fast path takes it; if so, as the general parser does.
fn is_usual(bytes: &[u8], limits: &Limits) -> bool {
    // What an earlier request has left behind.
    let mut scratch = Scratch::default();
    let _ = parse_any(&mut RequestState::default(), b"gat 1 x  y\r\n", limits, &mut scratch);
    let usual = parse(bytes, limits, &mut scratch);
    if let Some(parsed) = usual {
        let mut oracle = Scratch::default();
        let text = String::from_utf8_lossy(bytes);
        let general = parse_any(&mut RequestState::default(), bytes, limits, &mut oracle);
        assert_eq!(parsed, general, "{text:?}");
        assert_eq!(scratch.keys, oracle.keys, "{text:?}");
        assert!(scratch.rewritten.is_empty() && scratch.reply.is_empty(), "{text:?}");
        assert_eq!(scratch.source(bytes), oracle.source(bytes), "{text:?}");
    }
    usual.is_some()
}

#[test]
fn the_usual_requests_take_the_fast_path() {
    let long = format!("get {}\r\n", "k".repeat(250));
    let many = format!("gets{}\r\n", " some:key".repeat(1000));
    for request in ["get a\r\n", "get 1234567\r\n", "gets 12345678 b\r\n", "get a b c d\r\n"]
        .into_iter()
        .chain([long.as_str(), many.as_str()])
    {
        let limits = Limits { line_size_max: 16 << 10, ..Limits::default() };
        assert!(is_usual(request.as_bytes(), &limits), "{request:?}");
        let followed = format!("{request}get other\r\n");
        assert!(is_usual(followed.as_bytes(), &limits), "{followed:?}");
        for end in 0..request.len() {
            assert!(!is_usual(&request.as_bytes()[..end], &limits), "it is not whole");
        }
    }
}

#[test]
fn what_is_unusual_or_wrong_is_left_to_the_general_parser() {
    let long = format!("get {}\r\n", "k".repeat(251));
    for request in [
        "get\r\n",
        "get \r\n",
        "gets\r\n",
        "gets \r\n",
        "getx a\r\n",
        "GET a\r\n",
        "get a\n",
        " get a\r\n",
        "get  a\r\n",
        "get a \r\n",
        "get a  b\r\n",
        "get a b \r\n",
        "get a\tb\r\n",
        "get a\rb\r\n",
        "get a\r\r\n",
        "get a\x7fb\r\n",
        "get a\0b\r\n",
        "gat 1 a\r\n",
        "",
        "set a 0 0 1\r\nx\r\n",
        "delete a\r\n",
        &long,
    ] {
        assert!(!is_usual(request.as_bytes(), &Limits::default()), "{request:?}");
    }
}

#[test]
fn limits_hold() {
    let narrow = Limits { line_size_max: 20, ..Limits::default() };
    assert!(is_usual(b"get 123456789012345\r\n", &narrow));
    assert!(!is_usual(b"get 1234567890123456\r\n", &narrow));
    let small = Limits { request_size_max: 20, ..Limits::default() };
    assert!(is_usual(b"get 123456789012345\r\n", &small));
    assert!(!is_usual(b"get 1234567890123456\r\n", &small));
    let few = Limits { arguments_max: 3, ..Limits::default() };
    assert!(is_usual(b"get a b c\r\n", &few));
    assert!(!is_usual(b"get a b c d\r\n", &few));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_agrees_with_the_general_parser(
        words in prop::collection::vec(
            "[!-~]{1,18}|[a-c]{1,3}|\\PC{0,4}|[\\x00-\\x20\\x7f]{0,3}",
            0..8,
        ),
        name in prop::sample::select(vec!["get ", "gets ", "get  ", "gat 1 ", "get\t"]),
        end in prop::sample::select(vec!["\r\n", "\n", "\r\r\n", " \r\n", "\r", ""]),
        line_size_max in prop::sample::select(vec![10, 40, 2048]),
        arguments_max in 1..8usize,
        cut in 0..400usize,
    ) {
        let text = format!("{name}{}{end}tail", words.join(" "));
        let limits = Limits { line_size_max, arguments_max, ..Limits::default() };
        let bytes = text.as_bytes();
        is_usual(bytes, &limits);
        is_usual(&bytes[..cut.min(bytes.len())], &limits);
    }
}
