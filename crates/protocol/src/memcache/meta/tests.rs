//! Tests of the meta commands: what is forwarded, what is answered here, and which responses belong
//! to which requests.

use crate::fuzz::{Outcome, check_requests, check_responses, requests};
use crate::{Limits, Parsed, Protocol, Quiet, RequestState, Scratch, Version};

fn outcomes(stream: &[u8]) -> Vec<Outcome> {
    check_requests(Protocol::Memcache, stream, &Limits::default());
    requests(Protocol::Memcache, stream, std::iter::once(stream.len()), &Limits::default())
}

/// What a server gets, the key that is hashed, and which replies are not wanted.
fn forwarded(stream: &str) -> (String, Vec<u8>, Quiet) {
    let mut outcomes = outcomes(stream.as_bytes());
    assert_eq!(outcomes.len(), 1, "{stream:?} {outcomes:?}");
    match outcomes.remove(0) {
        Outcome::Request { forwarded, mut keys, quiet, .. } => {
            (String::from_utf8(forwarded).expect("text"), keys.remove(0), quiet)
        }
        other => panic!("{stream:?} {other:?}"),
    }
}

fn replies(stream: &[u8]) -> String {
    let reply = |outcome| match outcome {
        Outcome::Reply { reply, .. } => reply,
        Outcome::Close { reply } => [reply, b"(close)".to_vec()].concat(),
        Outcome::Request { name, .. } => format!("<{name}>").into_bytes(),
        other => panic!("{other:?}"),
    };
    let bytes: Vec<u8> = outcomes(stream).into_iter().flat_map(reply).collect();
    String::from_utf8(bytes).expect("text").replace("\r\n", "|")
}

#[test]
fn what_is_canonical_and_wants_all_replies_goes_as_it_is() {
    for stream in [
        "mg k\r\n",
        "mg k v f s t c k Oabc\r\n",
        "mg k N30 R5 T0 h l u Lpool P/x\r\n",
        "ms k 3 T0 F7 MA\r\nabc\r\n",
        "ms k 4\r\n\r\n\r\n\r\n",
        "md k I T30 C9\r\n",
        "ma k D18446744073709551615 J0 N0 MD v\r\n",
        "me k q\r\n",
        // The server knows best what is wrong with these.
        "mg k z\r\n",
        "mg k v v\r\n",
        "ma k Dx\r\n",
        "ms k 1 Mappend\r\na\r\n",
    ] {
        assert_eq!(forwarded(stream), (stream.to_owned(), b"k".to_vec(), Quiet::No), "{stream}");
    }
}

#[test]
fn the_flag_that_asks_for_silence_is_taken_out() {
    for (stream, wanted, quiet) in [
        ("mg k v q\r\n", "mg k v\r\n", Quiet::Misses),
        ("mg k q v O1\r\n", "mg k v O1\r\n", Quiet::Misses),
        ("mg k quiet v\r\n", "mg k v\r\n", Quiet::Misses),
        ("ms k 2 q T0\r\nqq\r\n", "ms k 2 T0\r\nqq\r\n", Quiet::Successes),
        ("md k q\r\n", "md k\r\n", Quiet::Successes),
        ("ma k v q\r\n", "ma k v\r\n", Quiet::Successes),
    ] {
        assert_eq!(forwarded(stream), (wanted.to_owned(), b"k".to_vec(), quiet), "{stream}");
    }
}

#[test]
fn other_spellings_are_rewritten() {
    for (stream, wanted) in [
        ("  mg   k  v \n", "mg k v\r\n"),
        ("mg k v\n", "mg k v\r\n"),
        ("ms k 002  T0\r\nab\r\n", "ms k 2 T0\r\nab\r\n"),
        ("ms k +2\n\r\n\r\n", "ms k 2\r\n\r\n\r\n"),
    ] {
        assert_eq!(forwarded(stream).0, wanted, "{stream:?}");
    }
}

/// `mg Zm9v b` and `get foo` are about the same item.
#[test]
fn a_key_in_base64_is_hashed_as_what_it_stands_for() {
    for (stream, key) in [
        ("mg Zm9v b v\r\n", &b"foo"[..]),
        ("ms AP/+ 1 b\r\nx\r\n", b"\0\xff\xfe"),
        ("md Zg== bx\r\n", b"f"),
        ("mg Zm9v v\r\n", b"Zm9v"),
    ] {
        assert_eq!(forwarded(stream).1, key, "{stream:?}");
    }
    assert_eq!(forwarded("mg Zm9v  b q v\r\n").0, "mg Zm9v b v\r\n");
}

#[test]
fn what_a_server_would_stumble_over_is_answered_here() {
    let format = "CLIENT_ERROR bad command line format|";
    let long = "k".repeat(251);
    let flags = |count: usize| vec!["z"; count].join(" ");
    for (stream, wanted) in [
        ("mg\r\n".to_owned(), "ERROR|"),
        ("me\r\n".to_owned(), format),
        ("ms k\r\n".to_owned(), format),
        ("ms k S2\r\n".to_owned(), format),
        ("ms k -1\r\nab\r\n".to_owned(), &format!("{format}ERROR|")),
        (format!("mg {long}\r\n"), format),
        // Unlike memcached, which goes on to read the block as a command.
        (format!("ms {long} 9\r\nflush_all\r\n"), format),
        (format!("mg k {}\r\n", flags(17)), "<mg>"),
        (format!("mg k {}\r\n", flags(18)), "CLIENT_ERROR options flags are too long|"),
        (format!("md k {}\r\n", flags(18)), "CLIENT_ERROR options flags too long|"),
        (format!("ma k {}\r\n", flags(18)), "CLIENT_ERROR options flags too long|"),
        (format!("ms k 2 {}\r\nab\r\n", flags(16)), "<ms>"),
        (format!("ms k 2 {}\r\nab\r\n", flags(17)), "CLIENT_ERROR options flags too long|"),
        ("mg k q q\r\n".to_owned(), "CLIENT_ERROR duplicate flag|"),
        ("ms k 2 q q\r\nab\r\n".to_owned(), "CLIENT_ERROR duplicate flag|"),
        ("md k q q\r\n".to_owned(), "CLIENT_ERROR invalid or duplicate flag|"),
        ("mg !!! b\r\n".to_owned(), "CLIENT_ERROR error decoding key|"),
        ("ms !!! 2 b\r\nab\r\n".to_owned(), "CLIENT_ERROR error decoding key|"),
        ("ma !!! b\r\n".to_owned(), "CLIENT_ERROR invalid or duplicate flag|"),
        ("me !!! b\r\n".to_owned(), format),
        // "\r\nA" and "a b".
        ("mg DQpB b N30 k\r\n".to_owned(), format),
        ("ma YSBi N0 b\r\n".to_owned(), format),
        ("mg DQpB b k\r\n".to_owned(), "<mg>"),
        ("mg k O\r\r\n".to_owned(), format),
        ("mg k O\x01\r\n".to_owned(), format),
        (format!("mg k O{}\r\n", "o".repeat(2100)), "CLIENT_ERROR line too long|"),
        ("ms k 2 q\r\nabc\r\n".to_owned(), "CLIENT_ERROR bad data chunk|ERROR|"),
        ("ms k 2147483645 q\r\n".to_owned(), "SERVER_ERROR object too large for cache|"),
        ("ms k 2147483646\r\n".to_owned(), &format!("{format}(close)")),
    ] {
        if stream.contains("2147483645") {
            let mut scratch = Scratch::default();
            let mut state = RequestState::default();
            let (bytes, limits) = (stream.as_bytes(), Limits::default());
            let parsed = Protocol::Memcache.parse_request(&mut state, bytes, &limits, &mut scratch);
            assert!(matches!(parsed, Parsed::Reply { size, .. } if size > 2_147_483_645));
            continue;
        }
        assert_eq!(replies(stream.as_bytes()), wanted, "{stream:?}");
    }
}

/// Whether a server that is in step may give this response to this request.
fn belongs(request: &str, response: &str) -> bool {
    let mut scratch = Scratch::default();
    let mut state = RequestState::default();
    let (bytes, limits) = (request.as_bytes(), Limits::default());
    match Protocol::Memcache.parse_request(&mut state, bytes, &limits, &mut scratch) {
        Parsed::Request(request) => Protocol::Memcache.accepts(request.expect, response.as_bytes()),
        other => panic!("{request:?} {other:?}"),
    }
}

#[test]
fn a_response_belongs_to_a_command_that_may_have_it() {
    for (code, commands) in [
        ("HD\r\n", "mg ms md ma"),
        ("VA 1 \r\na\r\n", "mg ma"),
        ("EN\r\n", "mg me"),
        ("NF\r\n", "ms md ma"),
        ("NS\r\n", "ms ma"),
        ("EX\r\n", "ms md ma"),
        ("ME k exp=-1\r\n", "me"),
        ("MN\r\n", ""),
        ("END\r\n", ""),
        ("STORED\r\n", ""),
        ("CLIENT_ERROR invalid flag\r\n", "mg ms md ma me"),
    ] {
        for name in ["mg", "ms", "md", "ma", "me"] {
            let request = if name == "ms" { "ms k 1\r\na\r\n" } else { &format!("{name} k\r\n") };
            let wanted = commands.split(' ').any(|command| command == name);
            assert_eq!(belongs(request, code), wanted, "{name} {code:?}");
        }
    }
    for other in ["get k\r\n", "set k 0 0 1\r\na\r\n", "incr k 1\r\n", "version\r\n"] {
        for code in ["HD\r\n", "EN\r\n", "VA 1\r\na\r\n", "MN\r\n"] {
            assert!(!belongs(other, code), "{other:?} {code:?}");
        }
    }
}

#[test]
fn what_a_response_echoes_must_be_what_was_sent() {
    for (request, response, wanted) in [
        ("mg k O1\r\n", "HD O1\r\n", true),
        ("mg k O1\r\n", "HD O2\r\n", false),
        ("mg k O1\r\n", "HD\r\n", false),
        ("mg k\r\n", "HD O1\r\n", false),
        ("mg k O1 q\r\n", "EN O1\r\n", true),
        ("mg k O1\r\n", "EN O2\r\n", false),
        // As before 1.6.18.
        ("mg k O1\r\n", "EN\r\n", true),
        ("mg k k v\r\n", "VA 1 kk\r\na\r\n", true),
        ("mg k k v\r\n", "VA 1 kx\r\na\r\n", false),
        ("mg k k v O1\r\n", "VA 1 kx O1\r\na\r\n", true),
        // The form of the key is that of the item.
        ("mg Zm9v b k\r\n", "HD kZm9v b\r\n", true),
        ("mg foo k\r\n", "HD kZm9v b\r\n", true),
        ("mg Zm9v b k\r\n", "HD kfoo\r\n", true),
        ("mg Zm9v b k\r\n", "HD kZm9v\r\n", false),
        ("md k O1\r\n", "CLIENT_ERROR bad\r\n", true),
    ] {
        assert_eq!(belongs(request, response), wanted, "{request:?} {response:?}");
    }
}

#[test]
fn responses_are_framed_by_their_length_however_they_come() {
    for stream in [
        "VA 2\r\n\r\n\r\nHD\r\n",
        "VA 0 f0 t-1 kk Oabc W\r\n\r\nEN\r\nEN kk O1\r\n",
        "VA 12 s12\r\nVA 2\r\nHD\r\n\r\n\r\nNS O1\r\nMN\r\nME k exp=-1 la=2\r\n",
    ] {
        check_responses(Protocol::Memcache, Version::Basic, stream.as_bytes(), &Limits::default());
        let ends = std::iter::once(stream.len());
        let limits = Limits::default();
        let (sizes, broken) = crate::fuzz::responses(
            Protocol::Memcache,
            Version::Basic,
            stream.as_bytes(),
            ends,
            &limits,
        );
        assert_eq!((sizes.iter().sum::<usize>(), broken), (stream.len(), None), "{stream:?}");
    }
    for stream in [
        "VA\r\n",
        "VA x\r\n",
        "VA -1\r\n",
        "VA 01\r\na\r\n",
        "VA 4294967296\r\n",
        "VA 1\r\nabc",
        "XX\r\n",
        "HD\rx\r\n",
        "VALUE k 0 1\r\na\r\nHD\r\n",
        "VALUE k 0 1\r\na\r\nVA 1\r\na\r\n",
        "MN x\r\n",
    ] {
        let ends = std::iter::once(stream.len());
        let limits = Limits::default();
        let (_, broken) = crate::fuzz::responses(
            Protocol::Memcache,
            Version::Basic,
            stream.as_bytes(),
            ends,
            &limits,
        );
        assert!(broken.is_some(), "{stream:?}");
    }
}

#[test]
fn silence_is_for_what_was_expected_only() {
    for (quiet, response, dropped) in [
        (Quiet::Misses, "EN\r\n", true),
        (Quiet::Misses, "EN O1\r\n", true),
        (Quiet::Misses, "HD\r\n", false),
        (Quiet::Misses, "VA 0\r\n\r\n", false),
        (Quiet::Misses, "CLIENT_ERROR x\r\n", false),
        (Quiet::Successes, "HD O1\r\n", true),
        (Quiet::Successes, "VA 1\r\n5\r\n", true),
        (Quiet::Successes, "NS\r\n", false),
        (Quiet::Successes, "NF\r\n", false),
        (Quiet::Successes, "EX\r\n", false),
        (Quiet::Successes, "SERVER_ERROR x\r\n", false),
        (Quiet::No, "EN\r\n", false),
        (Quiet::All, "CLIENT_ERROR x\r\n", true),
    ] {
        assert_eq!(quiet.drops(response.as_bytes()), dropped, "{quiet:?} {response}");
    }
    assert!(Quiet::All.drops_errors() && !Quiet::Misses.drops_errors());
}
