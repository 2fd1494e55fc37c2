//! Tests of requests of several keys: what is sent, and what becomes of the answers.

use crate::{Join, KeySpan, Limits, Parsed, Part, Protocol, Request, RequestState, Route, Scratch};

fn split(stream: &str) -> (Request, Vec<KeySpan>) {
    let mut scratch = Scratch::default();
    let mut state = RequestState::default();
    let bytes = stream.as_bytes();
    match Protocol::Memcache.parse_request(&mut state, bytes, &Limits::default(), &mut scratch) {
        Parsed::Request(request) if request.route == Route::Split => (request, scratch.keys),
        other => panic!("{other:?}"),
    }
}

fn joined(stream: &str, part_of_key: &[u32], parts: &[Part<'_>]) -> String {
    let (request, keys) = split(stream);
    let plan = Protocol::Memcache.plan_join(
        &request,
        stream.as_bytes(),
        &keys,
        part_of_key,
        Join::default(),
    );
    let mut out = b"before".to_vec();
    Protocol::Memcache.join(&plan, parts, &mut out);
    let text = String::from_utf8(out).expect("all of it is text here");
    text.strip_prefix("before").expect("what was there stays").to_owned()
}

fn values(keys: &[&str]) -> String {
    let blocks: String = keys.iter().map(|key| format!("VALUE {key} 0 2\r\n<{key}\r\n")).collect();
    blocks + "END\r\n"
}

#[test]
fn each_part_has_its_keys_in_order_behind_what_stood_before_them() {
    for (stream, picks, part) in [
        ("get a b c\r\n", &[0, 2][..], "get a c\r\n"),
        ("  gets   a b c \n", &[1], "gets b\r\n"),
        ("gat -5  a b c\r\n", &[1, 2], "gat -5 b c\r\n"),
        ("gats 0 a b a\r\n", &[0, 2], "gats 0 a a\r\n"),
    ] {
        let (request, keys) = split(stream);
        let mut out = Vec::new();
        Protocol::Memcache.encode_part(&request, stream.as_bytes(), &keys, picks, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), part);
        assert_eq!(Protocol::Memcache.expect_of_part(&request), request.expect);
    }
}

#[test]
fn values_stand_in_the_order_of_the_keys() {
    let parts = [values(&["a", "c"]), values(&["b", "d"])];
    let parts = parts.each_ref().map(|part| Part::Response(part.as_bytes()));
    assert_eq!(joined("get a b c d\r\n", &[0, 1, 0, 1], &parts), values(&["a", "b", "c", "d"]));
}

#[test]
fn what_is_missing_is_left_out() {
    let parts = [values(&["c"]), values(&[])];
    let parts = parts.each_ref().map(|part| Part::Response(part.as_bytes()));
    assert_eq!(joined("get a b c d\r\n", &[0, 1, 0, 1], &parts), values(&["c"]));
}

#[test]
fn a_key_asked_for_twice_is_answered_twice() {
    let parts = [values(&["a", "a"]), values(&["b"])];
    let parts = parts.each_ref().map(|part| Part::Response(part.as_bytes()));
    assert_eq!(joined("get a b a\r\n", &[0, 1, 0], &parts), values(&["a", "b", "a"]));
}

#[test]
fn the_bytes_of_a_value_are_not_read() {
    let first = "VALUE a 7 14 9\r\nEND\r\nVALUE b 0\r\nEND\r\n";
    let parts = [first, "END\r\n"].map(|part| Part::Response(part.as_bytes()));
    assert_eq!(joined("gets a b\r\n", &[0, 1], &parts), first);
}

#[test]
fn the_first_error_takes_the_place_of_the_end() {
    let (first, second) = (values(&["a"]), values(&["b"]));
    let first = Part::Response(first.as_bytes());
    let second = Part::Response(second.as_bytes());
    let failed = Part::Failed("server timed out");
    let error = Part::Response(b"SERVER_ERROR out of memory\r\n");
    let late_error = Part::Response(b"VALUE b 0 2\r\n<b\r\nSERVER_ERROR out of memory\r\n");
    let block = |key: &str| format!("VALUE {key} 0 2\r\n<{key}\r\n");
    for (parts, wanted) in [
        ([first, failed], block("a") + "SERVER_ERROR server timed out\r\n"),
        ([failed, second], block("b") + "SERVER_ERROR server timed out\r\n"),
        ([first, error], block("a") + "SERVER_ERROR out of memory\r\n"),
        ([error, failed], "SERVER_ERROR out of memory\r\n".to_owned()),
        ([failed, error], "SERVER_ERROR server timed out\r\n".to_owned()),
        ([first, late_error], block("a") + &block("b") + "SERVER_ERROR out of memory\r\n"),
    ] {
        assert_eq!(joined("get a b\r\n", &[0, 1], &parts), wanted);
    }
}

#[test]
fn a_value_that_was_not_asked_for_goes_to_nobody() {
    let text = "SERVER_ERROR a server answered a key that was not asked for\r\n";
    let block = |key: &str| format!("VALUE {key} 0 2\r\n<{key}\r\n");
    for (first, wanted) in [
        (values(&["x"]), block("b") + text),
        (values(&["b"]), block("b") + text),
        (values(&["a", "a"]), block("a") + &block("b") + text),
        (values(&["c", "a"]), block("b") + &block("c") + text),
    ] {
        let second = values(&["b"]);
        let parts = [first.as_bytes(), second.as_bytes()].map(Part::Response);
        assert_eq!(joined("get a b c\r\n", &[0, 1, 0], &parts), wanted, "{first:?}");
    }
    let parts = [Part::Response(b"STORED\r\n"), Part::Response(b"END\r\n")];
    assert_eq!(
        joined("get a b\r\n", &[0, 1], &parts),
        "SERVER_ERROR unexpected response to a part of the request\r\n"
    );
}

#[test]
fn a_flush_is_done_when_every_server_has_done_it() {
    let mut scratch = Scratch::default();
    let mut state = RequestState::default();
    let bytes = b"flush_all\r\n";
    let parsed =
        Protocol::Memcache.parse_request(&mut state, bytes, &Limits::default(), &mut scratch);
    let Parsed::Request(request) = parsed else { panic!("{parsed:?}") };
    let joined = |parts: &[Part<'_>]| {
        let plan = Protocol::Memcache.plan_join(&request, bytes, &[], &[], Join::default());
        let mut out = Vec::new();
        Protocol::Memcache.join(&plan, parts, &mut out);
        String::from_utf8(out).expect("all of it is text here")
    };
    let ok = Part::Response(b"OK\r\n");
    let refused = Part::Response(b"CLIENT_ERROR flush_all not allowed\r\n");
    let unreachable = Part::Failed("Connection refused");
    assert_eq!(joined(&[ok]), "OK\r\n");
    assert_eq!(joined(&[ok, ok]), "OK\r\n");
    assert_eq!(joined(&[ok, refused, unreachable]), "CLIENT_ERROR flush_all not allowed\r\n");
    assert_eq!(joined(&[ok, unreachable, refused]), "SERVER_ERROR Connection refused\r\n");
    for other in [b"END\r\n".as_slice(), b"STORED\r\n"] {
        let text = "SERVER_ERROR unexpected response to a part of the request\r\n";
        assert_eq!(joined(&[ok, Part::Response(other)]), text);
    }
}
