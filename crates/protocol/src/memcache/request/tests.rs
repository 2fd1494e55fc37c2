//! Tests of everything that a client of memcached may send.

use crate::fuzz::{Outcome, check_requests, requests};
use crate::{Limits, Parsed, Protocol, Quiet, RequestState, Scratch};
use proptest::prelude::*;

/// What becomes of a stream, which must not depend on how it is cut.
fn outcomes(stream: &str) -> Vec<Outcome> {
    let stream = stream.as_bytes();
    check_requests(Protocol::Memcache, stream, &Limits::default());
    requests(Protocol::Memcache, stream, std::iter::once(stream.len()), &Limits::default())
}

fn one(stream: &str) -> Outcome {
    let mut outcomes = outcomes(stream);
    assert_eq!(outcomes.len(), 1, "{stream:?} {outcomes:?}");
    outcomes.remove(0)
}

/// What a server gets, and whether the client wants no answer.
fn forwarded(stream: &str) -> (String, bool) {
    match one(stream) {
        Outcome::Request { size, forwarded, quiet, .. } => {
            assert_eq!(size, stream.len());
            let silent = quiet == Quiet::All;
            (String::from_utf8(forwarded).expect("requests here are text"), silent)
        }
        other => panic!("{stream:?} {other:?}"),
    }
}

/// The errors that a stream gets, one line each, and what a server gets in full.
fn replies(stream: &str) -> String {
    outcomes(stream)
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Reply { reply, .. } => reply,
            Outcome::Close { reply } => [reply, b"(close)".to_vec()].concat(),
            Outcome::Request { forwarded, .. } => forwarded,
            other => panic!("{stream:?} {other:?}"),
        })
        .map(|bytes| String::from_utf8(bytes).expect("all of it is text here"))
        .collect::<String>()
        .replace("\r\n", "|")
}

fn key(size: usize) -> String {
    "k".repeat(size)
}

#[test]
fn canonical_requests_go_to_the_owner_unchanged() {
    let long = key(250);
    for stream in [
        "get k\r\n",
        "gets k\r\n",
        "gat 0 k\r\n",
        "gats -1 k\r\n",
        "set k 0 0 3\r\nabc\r\n",
        "set k 4294967295 -2147483648 0\r\n\r\n",
        "add k 0 0 11\r\nflush_all\r\n\r\n",
        "replace k 0 2147483647 1\r\n\n\r\n",
        "append k 0 0 1\r\na\r\n",
        "prepend k 0 0 1\r\na\r\n",
        "cas k 0 0 1 18446744073709551615\r\na\r\n",
        "delete k\r\n",
        "incr k 18446744073709551615\r\n",
        "decr k 0\r\n",
        "touch k -1\r\n",
        "get \u{e9}\r\n",
        &format!("get {long}\r\n"),
        &format!("set {long} 0 0 1\r\nx\r\n"),
        "delete noreply\r\n",
    ] {
        assert_eq!(forwarded(stream), (stream.to_owned(), false));
        let Outcome::Request { keys, .. } = one(stream) else {
            panic!("{stream:?}");
        };
        assert_eq!(keys.len(), 1, "{stream:?}");
    }
    assert_eq!(forwarded("version\r\n"), ("version\r\n".to_owned(), false));
    assert!(matches!(one("version\r\n"), Outcome::Request { keys, .. } if keys.is_empty()));
}

#[test]
fn any_other_spelling_is_rewritten() {
    for (stream, wanted) in [
        ("get k\n", "get k\r\n"),
        ("  get   k  \r\n", "get k\r\n"),
        ("get a  b\n", "get a b\r\n"),
        ("gat  +07 k\r\n", "gat 7 k\r\n"),
        ("gat -0 a b\r\n", "gat 0 a b\r\n"),
        ("set k 0 0 1\na\r\n", "set k 0 0 1\r\na\r\n"),
        ("set  k 0  0 1 \r\na\r\n", "set k 0 0 1\r\na\r\n"),
        ("set k +1 007 01\r\na\r\n", "set k 1 7 1\r\na\r\n"),
        ("set k 0 -07 +1\r\na\r\n", "set k 0 -7 1\r\na\r\n"),
        ("set k 0 0 1 NOREPLY\r\na\r\n", "set k 0 0 1\r\na\r\n"),
        ("cas k 0 0 1 07\r\na\r\n", "cas k 0 0 1 7\r\na\r\n"),
        ("cas k 0 0 1 7 what\r\na\r\n", "cas k 0 0 1 7\r\na\r\n"),
        ("delete k 0\r\n", "delete k\r\n"),
        ("incr k 01\r\n", "incr k 1\r\n"),
        ("incr k 1 what\r\n", "incr k 1\r\n"),
        ("touch k -00\r\n", "touch k 0\r\n"),
        ("version what ever\r\n", "version\r\n"),
    ] {
        assert_eq!(forwarded(stream), (wanted.to_owned(), false), "{stream:?}");
    }
}

#[test]
fn the_wish_for_silence_is_kept_from_the_server() {
    for (stream, wanted) in [
        ("set k 0 0 1 noreply\r\na\r\n", "set k 0 0 1\r\na\r\n"),
        ("cas k 0 0 1 7 noreply\r\na\r\n", "cas k 0 0 1 7\r\na\r\n"),
        ("delete k noreply\r\n", "delete k\r\n"),
        ("delete k 0 noreply\r\n", "delete k\r\n"),
        ("delete noreply noreply\r\n", "delete noreply\r\n"),
        ("incr k 1 noreply\r\n", "incr k 1\r\n"),
        ("touch k 1 noreply\r\n", "touch k 1\r\n"),
    ] {
        assert_eq!(forwarded(stream), (wanted.to_owned(), true), "{stream:?}");
    }
    // A key may have that name.
    assert!(!forwarded("get noreply\r\n").1);
}

#[test]
fn several_keys_are_split() {
    for (stream, wanted) in [
        ("get a b a\r\n", &["a", "b", "a"][..]),
        ("gets  a b\n", &["a", "b"]),
        ("gat 5 a b\r\n", &["a", "b"]),
    ] {
        let Outcome::Request { keys, elements, .. } = one(stream) else {
            panic!("{stream:?}");
        };
        let keys: Vec<_> = keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
        assert_eq!(keys, wanted);
        assert_eq!(elements.len(), wanted.len());
    }
}

#[test]
fn a_wrong_line_of_keys_or_of_a_block_gets_one_error_and_its_block_goes_with_it() {
    let format = "CLIENT_ERROR bad command line format|";
    let long = key(251);
    for (stream, wanted) in [
        ("\r\n", "ERROR|"),
        ("   \r\n", "ERROR|"),
        ("GET a\r\n", "ERROR|"),
        ("get\ta\r\n", "ERROR|"),
        ("get\r\n", "ERROR|"),
        ("get   \r\n", "ERROR|"),
        ("gat\r\n", "ERROR|"),
        ("gat 0\r\n", "ERROR|"),
        ("gat x k\r\n", "CLIENT_ERROR invalid exptime argument|"),
        ("gat 2147483648 k\r\n", "CLIENT_ERROR invalid exptime argument|"),
        (&format!("get {long}\r\n"), format),
        (&format!("get a {long} b\r\n"), format),
        ("get a\x01\r\n", format),
        ("get a\rget b\r\n", format),
        ("get a\x7f\r\n", format),
        ("set k\r\n", "ERROR|"),
        ("set k 0 0\r\n", "ERROR|"),
        ("set k 0 0 -1\r\n", format),
        ("set k 0 0 x\r\n", format),
        ("set k 0 0 3x\r\nabc\r\n", &format!("{format}ERROR|")),
        ("set k -1 0 1\r\na\r\n", format),
        ("set k 4294967296 0 1\r\na\r\n", format),
        ("set k x 0 1\r\na\r\n", format),
        ("set k 0 2147483648 1\r\na\r\n", format),
        ("set k 0 1x 1\r\na\r\n", format),
        (&format!("set {long} 0 0 9\r\nflush_all\r\n"), format),
        ("set k\x02 0 0 1\r\na\r\n", format),
        ("set k 0 0 1 a b\r\na\r\n", "ERROR|"),
        ("set k 0 0 1 a b c d e f\r\na\r\n", "ERROR|"),
        ("cas k 0 0 1\r\na\r\n", "ERROR|"),
        ("cas k 0 0 1 x\r\na\r\n", format),
        ("cas k 0 0 1 -1\r\na\r\n", format),
        ("cas k 0 0 1 18446744073709551616\r\na\r\n", format),
    ] {
        check_wrong(stream, wanted);
    }
}

#[test]
fn any_other_wrong_line_gets_one_error() {
    let format = "CLIENT_ERROR bad command line format|";
    let usage = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]|";
    let long = key(251);
    for (stream, wanted) in [
        ("delete\r\n", "ERROR|"),
        ("delete k a b c\r\n", "ERROR|"),
        ("delete k \x01\r\n", usage),
        ("delete k 1\r\n", usage),
        ("delete k 00\r\n", usage),
        (&format!("delete {long}\r\n"), format),
        ("incr k\r\n", "ERROR|"),
        ("incr k 1 2 3\r\n", "ERROR|"),
        ("incr k x\r\n", "CLIENT_ERROR invalid numeric delta argument|"),
        ("incr k -1\r\n", "CLIENT_ERROR invalid numeric delta argument|"),
        ("decr k 18446744073709551616\r\n", "CLIENT_ERROR invalid numeric delta argument|"),
        (&format!("incr {long} 1\r\n"), format),
        ("touch k\r\n", "ERROR|"),
        ("touch k x\r\n", "CLIENT_ERROR invalid exptime argument|"),
        ("touch k 2147483648\r\n", "CLIENT_ERROR invalid exptime argument|"),
        ("flush_all x\r\n", "CLIENT_ERROR invalid exptime argument|"),
        ("flush_all 2147483648\r\n", "CLIENT_ERROR invalid exptime argument|"),
        ("flush_all 1 2 3\r\n", "ERROR|"),
        ("flush_all 1 2 noreply\r\n", "ERROR|"),
        ("verbosity\r\n", "ERROR|"),
        ("verbosity x\r\n", format),
        ("verbosity 1\r\n", "OK|"),
        ("stats\r\n", "ERROR|"),
        ("mn\r\n", "MN|"),
        ("mn x\r\n", "MN|"),
        ("mx k\r\n", "ERROR|"),
        ("nosuch x y\r\n", "ERROR|"),
    ] {
        check_wrong(stream, wanted);
    }
}

/// The stream is answered by these lines, and what follows it is a request again.
fn check_wrong(stream: &str, wanted: &str) {
    assert_eq!(replies(stream), wanted, "{stream:?}");
    let followed = format!("{stream}get after\r\n");
    assert_eq!(replies(&followed), format!("{wanted}get after|"), "{stream:?}");
}

#[test]
fn flush_all_goes_to_every_server_in_its_canonical_form() {
    for (stream, wanted, silent) in [
        ("flush_all\r\n", "flush_all\r\n", false),
        ("flush_all 10\r\n", "flush_all 10\r\n", false),
        ("  flush_all   -05 \n", "flush_all -5\r\n", false),
        ("flush_all noreply\r\n", "flush_all\r\n", true),
        ("flush_all 0 noreply\r\n", "flush_all 0\r\n", true),
        // Like memcached, which looks at the first.
        ("flush_all 3 4\r\n", "flush_all 3\r\n", false),
    ] {
        assert_eq!(forwarded(stream), (wanted.to_owned(), silent), "{stream:?}");
        let mut scratch = Scratch::default();
        let mut state = RequestState::default();
        let bytes = stream.as_bytes();
        match super::parse(&mut state, bytes, &Limits::default(), &mut scratch) {
            Parsed::Request(request) => {
                assert_eq!(request.route, crate::Route::Everywhere);
                assert!(request.command.flushes && request.command.writes);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_block_without_its_line_end_is_passed_over_as_the_server_does() {
    let bad = "CLIENT_ERROR bad data chunk|";
    for (stream, wanted) in [
        ("set k 0 0 1\r\nabc\r\nget k\r\n", format!("{bad}ERROR|get k|")),
        ("set k 0 0 5\r\nabc\r\nget k\r\n", format!("{bad}ERROR|")),
        ("set k 0 0 5\r\nabcdefgh\r\nget k\r\n", format!("{bad}ERROR|get k|")),
        ("set k 0 0 1\r\na\nget k\r\n", format!("{bad}ERROR|")),
        ("set k 0 0 1 noreply\r\nabc\r\nget k\r\n", "ERROR|get k|".to_owned()),
    ] {
        assert_eq!(replies(stream), wanted, "{stream:?}");
    }
}

#[test]
fn one_who_wants_no_answer_gets_no_error_either() {
    for stream in [
        "set k x 0 1 noreply\r\na\r\n",
        "cas k 0 0 1 noreply\r\na\r\n",
        "cas k 0 0 1 x noreply\r\na\r\n",
        "set k 0 0 1 noreply\r\nabc",
        "set k 0 0 2147483645 noreply\r\n",
        "delete k 1 noreply\r\n",
        "incr k x noreply\r\n",
        "incr k noreply\r\n",
        "touch k x noreply\r\n",
        "verbosity 1 noreply\r\n",
        "flush_all x noreply\r\n",
    ] {
        assert_eq!(replies(stream), "", "{stream:?}");
    }
}

#[test]
fn a_block_that_is_too_large_is_refused_at_once_and_passed_over() {
    let parse = |stream: &str, limits: &Limits| {
        let mut scratch = Scratch::default();
        let mut state = RequestState::default();
        let bytes = stream.as_bytes();
        let parsed = super::parse(&mut state, bytes, limits, &mut scratch);
        (parsed, String::from_utf8(scratch.reply).expect("replies are text"))
    };
    let too_large = "SERVER_ERROR object too large for cache\r\n";
    for (stream, size) in [
        ("set k 0 0 1073741824\r\nabc", 22 + 1_073_741_824 + 2),
        ("set k 0 0 2147483645\r\naaa", 22 + 2_147_483_645 + 2),
    ] {
        let (parsed, reply) = parse(stream, &Limits::default());
        assert_eq!(reply, too_large);
        assert!(matches!(parsed, Parsed::Reply { size: got, .. } if got == size), "{parsed:?}");
    }
    let limits = Limits { request_size_max: 100, ..Limits::default() };
    let (parsed, _) = parse("set k 0 0 85\r\n", &limits);
    assert!(matches!(parsed, Parsed::Reply { size: 101, .. }), "{parsed:?}");
    let (parsed, _) = parse("set k 0 0 84\r\n", &limits);
    assert_eq!(parsed, Parsed::Incomplete { need: 86 });
}

#[test]
fn a_length_that_nobody_could_wait_for_closes_the_connection() {
    for stream in [
        "set k 0 0 2147483646\r\nabc\r\n",
        "set k 0 0 4294967295\r\nabc\r\n",
        "set k 0 0 4294967296\r\nabc\r\n",
        "set k 0 0 18446744073709551619\r\nabc\r\n",
        "set k 0 0 99999999999999999999999999\r\nabc\r\n",
    ] {
        assert_eq!(replies(stream), "CLIENT_ERROR bad command line format|(close)", "{stream:?}");
    }
}

#[test]
fn other_protocols_are_closed() {
    for stream in [
        "quit\r\nget k\r\n",
        "quit now\r\n",
        "POST / HTTP/1.1\r\nget k\r\n",
        "nosuch HTTP/\r\n",
        "HTTP/1.1\r\n",
    ] {
        assert_eq!(replies(stream), "(close)", "{stream:?}");
    }
    // GET in lower case is a request for keys.
    assert_eq!(replies("get / HTTP/1.1\r\n"), "get / HTTP/1.1|");
    let binary = [0x80, 1, 0, 0];
    let ends = std::iter::once(binary.len());
    let outcomes = requests(Protocol::Memcache, &binary, ends, &Limits::default());
    assert_eq!(outcomes, [Outcome::Close { reply: vec![] }]);
}

#[test]
fn only_lines_of_keys_may_be_long() {
    let closed = "CLIENT_ERROR line too long|(close)";
    for stream in [
        "A".repeat(70_000),
        format!("{}\r\n", "A".repeat(70_000)),
        format!("set {} 0 0 1\r\n", "k".repeat(70_000)),
        format!("{}get k\r\n", " ".repeat(70_000)),
    ] {
        assert_eq!(replies(&stream), closed);
    }
    let many = vec![key(250); 300].join(" ");
    let stream = format!("get {many}\r\n");
    assert_eq!(forwarded(&stream).0, stream);
    assert_eq!(
        replies(&format!("get {}\r\n", key(70_000))),
        "CLIENT_ERROR bad command line format|"
    );
    // A server may close the connection for this.
    assert_eq!(replies(&format!("gat 0 {many}\r\n")), "CLIENT_ERROR line too long|");
    let most = format!("gat 0 {}\r\n", vec![key(9); 204].join(" "));
    assert_eq!(most.len(), 2047);
    assert_eq!(forwarded(&most).0, most);
}

#[test]
fn keys_are_counted() {
    let limits = Limits { arguments_max: 3, ..Limits::default() };
    let parse = |stream: &[u8]| {
        let ends = std::iter::once(stream.len());
        requests(Protocol::Memcache, stream, ends, &limits).remove(0)
    };
    assert!(matches!(parse(b"get a b c\r\n"), Outcome::Request { .. }));
    let Outcome::Reply { reply, .. } = parse(b"get a b c d\r\n") else {
        panic!("four are too many");
    };
    assert_eq!(reply, b"CLIENT_ERROR too many keys\r\n");
}

#[test]
fn need_is_exact_when_the_length_of_a_block_is_known() {
    let mut scratch = Scratch::default();
    let mut state = RequestState::default();
    let limits = Limits::default();
    let mut need = |bytes: &[u8]| super::parse(&mut state, bytes, &limits, &mut scratch);
    assert_eq!(need(b""), Parsed::Incomplete { need: 1 });
    assert_eq!(need(b"set k 0 0 10"), Parsed::Incomplete { need: 1 });
    assert_eq!(need(b"set k 0 0 100\r\n"), Parsed::Incomplete { need: 102 });
    assert_eq!(need(b"set k 0 0 100\r\nabc"), Parsed::Incomplete { need: 99 });
}

/// Requests that come byte by byte take time in proportion to their size, not to the square of it:
/// this test would not end otherwise.
#[test]
fn a_large_request_is_not_looked_at_again_for_each_byte() {
    let mut store = format!("set k 0 0 {}\r\n", 64 << 20).into_bytes();
    store.resize(store.len() + (64 << 20), b'v');
    store.extend_from_slice(b"\r\n");
    let keys = format!("{}get{}\r\n", " ".repeat(60), " key".repeat(500_000)).into_bytes();
    for stream in [&store, &keys] {
        let mut scratch = Scratch::default();
        let mut state = RequestState::default();
        for size in 0..stream.len() {
            let parsed =
                super::parse(&mut state, &stream[..size], &Limits::default(), &mut scratch);
            assert!(matches!(parsed, Parsed::Incomplete { .. }));
        }
        let parsed = super::parse(&mut state, stream, &Limits::default(), &mut scratch);
        assert!(matches!(parsed, Parsed::Request(_)));
    }
}

/// A well-formed request and what a server gets of it.
fn request() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let key = "[a-z0-9:]{1,30}";
    let gap = || prop::sample::select(vec![" ", " ", "   "]);
    let end = prop::sample::select(vec!["\r\n", "\n", " \r\n"]);
    let body = prop::collection::vec(any::<u8>(), 0..100);
    let names = prop::sample::select(vec!["set", "add", "replace", "append", "prepend"]);
    prop_oneof![
        (key, gap(), end.clone()).prop_map(|(key, gap, end)| {
            (format!("get{gap}{key}{end}").into_bytes(), format!("get {key}\r\n").into_bytes())
        }),
        (names, key, any::<u32>(), any::<i32>(), body, gap(), end.clone(), any::<bool>()).prop_map(
            |(name, key, flags, exptime, body, gap, end, quiet)| {
                let size = body.len();
                let quiet = if quiet { " noreply" } else { "" };
                let line = format!("{name}{gap}{key} {flags}{gap}{exptime} 0{size}{quiet}{end}");
                let wanted = format!("{name} {key} {flags} {exptime} {size}\r\n");
                let block = [&body, b"\r\n".as_slice()].concat();
                ([line.as_bytes(), &block].concat(), [wanted.as_bytes(), &block].concat())
            }
        ),
        (key, any::<u64>(), end).prop_map(|(key, delta, end)| {
            let wanted = format!("incr {key} {delta}\r\n");
            (format!("incr {key} {delta}{end}").into_bytes(), wanted.into_bytes())
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn streams_of_requests_mean_the_same_however_they_are_cut(
        all in prop::collection::vec(request(), 1..8)
    ) {
        let stream: Vec<u8> = all.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        check_requests(Protocol::Memcache, &stream, &Limits::default());
        let ends = std::iter::once(stream.len());
        let outcomes = requests(Protocol::Memcache, &stream, ends, &Limits::default());
        let got: Vec<_> = outcomes.into_iter().map(|outcome| match outcome {
            Outcome::Request { forwarded, .. } => forwarded,
            other => panic!("{other:?}"),
        }).collect();
        let wanted: Vec<_> = all.into_iter().map(|(_, wanted)| wanted).collect();
        prop_assert_eq!(got, wanted);
    }

    #[test]
    fn any_bytes_mean_the_same_however_they_are_cut(
        pieces in prop::collection::vec(
            prop_oneof![
                request().prop_map(|(bytes, _)| bytes),
                prop::collection::vec(
                    prop::sample::select(b"get set cas gat  0123+-\r\n\r\nnoreply".to_vec()),
                    0..40,
                ),
                prop::collection::vec(any::<u8>(), 0..20),
                prop::sample::select(vec!["set k 0 0 ", "noreply", "cas k 1 1 ", "gat 0 ", "ms a "])
                    .prop_map(|text| text.as_bytes().to_vec()),
            ],
            0..10,
        )
    ) {
        let stream = pieces.concat();
        check_requests(Protocol::Memcache, &stream, &Limits::default());
        crate::fuzz::memcache_request(&stream);
    }
}
