//! What begins, goes on with, and ends a session, and what a session refuses.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::{Profile, Protocol};

fn resp(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    crate::redis::push_request(&mut bytes, &words);
    bytes
}

/// What a request means, its keys, and the answer that goes with it.
fn parsed(session: Option<Session>, words: &[&str]) -> (Option<Tie>, Vec<String>, String) {
    let bytes = resp(words);
    let (mut state, mut scratch) = (RequestState::default(), Scratch::default());
    let limits = Limits::default();
    let protocol = Protocol::Redis;
    let mut parsed = match session {
        Some(session) => {
            protocol.parse_in_session(session, &mut state, &bytes, &limits, &mut scratch)
        }
        None => protocol.parse_request(&mut state, &bytes, &limits, &mut scratch),
    };
    assert_eq!(state, RequestState::default());
    if let Parsed::Own(own) = parsed {
        parsed = protocol.answer(own, &bytes, &Profile::default(), &mut scratch);
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let keys = scratch.keys.iter().map(|key| text(&bytes[key.key.range()])).collect();
    let tie = match parsed {
        Parsed::Request(request) => match request.route {
            Route::Dedicated(tie) => Some(tie),
            route => panic!("{words:?} goes elsewhere: {route:?}"),
        },
        Parsed::Reply { size, .. } => {
            assert_eq!(size, bytes.len());
            None
        }
        other => panic!("{words:?}: {other:?}"),
    };
    (tie, keys, text(&scratch.reply))
}

#[test]
fn what_waits_wants_all_its_keys_on_one_server() {
    for (words, keys) in [
        (&["BLPOP", "a", "b", "0"][..], &["a", "b"][..]),
        (&["brpop", "a", "0"], &["a"]),
        (&["BZPOPMIN", "a", "b", "c", "1.5"], &["a", "b", "c"]),
        (&["BRPOPLPUSH", "a", "b", "0"], &["a", "b"]),
        (&["BLMOVE", "a", "b", "left", "right", "0"], &["a", "b"]),
        (&["BLMPOP", "0", "2", "a", "b", "LEFT"], &["a", "b"]),
        (&["BZMPOP", "0", "1", "a", "MIN", "COUNT", "2"], &["a"]),
        // A server says what is wrong with these.
        (&["BLMPOP", "0", "3", "a", "LEFT"], &[]),
        (&["BLMPOP", "0", "x", "a", "LEFT"], &[]),
        (&["BLMPOP", "0", "-1", "a", "LEFT"], &[]),
        (&["XREAD", "BLOCK", "0", "STREAMS", "a", "b", "$", "$"], &["a", "b"]),
        (&["XREAD", "COUNT", "1", "block", "0", "streams", "a", "$"], &["a"]),
        (&["XREADGROUP", "GROUP", "g", "c", "BLOCK", "1", "STREAMS", "a", ">"], &["a"]),
        (&["XREAD", "BLOCK", "0", "STREAMS", "a"], &[]),
    ] {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        assert_eq!(parsed(None, words), (Some(Tie::Waits), keys, String::new()), "{words:?}");
    }
}

#[test]
fn outside_of_a_session_some_commands_begin_one_and_others_are_answered_here() {
    let answer = |words: &[&str]| parsed(None, words);
    assert_eq!(answer(&["MULTI"]), (Some(Tie::Begins), vec![], "+OK\r\n".to_owned()));
    let keys = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(answer(&["WATCH", "a", "b"]), (Some(Tie::Watches), keys, String::new()));
    assert_eq!(answer(&["UNWATCH"]), (None, vec![], "+OK\r\n".to_owned()));
    for words in [&["SUBSCRIBE", "c"][..], &["PSUBSCRIBE", "c*", "d"], &["SSUBSCRIBE", "c"]] {
        assert_eq!(answer(words), (Some(Tie::Listens), vec![], String::new()));
    }
    let none = "*3\r\n$12\r\npunsubscribe\r\n$-1\r\n:0\r\n";
    assert_eq!(answer(&["PUNSUBSCRIBE"]), (None, vec![], none.to_owned()));
    let two = "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n\
               *3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n";
    assert_eq!(answer(&["UNSUBSCRIBE", "a", "b"]), (None, vec![], two.to_owned()));
}

#[test]
fn in_a_transaction_every_request_is_for_its_connection() {
    for (words, tie, keys) in [
        (&["GET", "a"][..], Tie::Keeps, &["a"][..]),
        (&["SET", "a", "1"], Tie::Keeps, &["a"]),
        (&["MGET", "a", "b"], Tie::Keeps, &["a", "b"]),
        (&["MSET", "a", "1", "b", "2"], Tie::Keeps, &["a", "b"]),
        // A server queues these, and finds what is wrong with them when the transaction runs.
        (&["MSET", "a", "1", "b"], Tie::Keeps, &["a", "b"]),
        (&["EVAL", "return 1", "2", "a"], Tie::Keeps, &[]),
        (&["DEL", "a"], Tie::Keeps, &["a"]),
        (&["EVAL", "return 1", "1", "a"], Tie::Keeps, &["a"]),
        (&["PING"], Tie::Keeps, &[]),
        (&["TIME"], Tie::Keeps, &[]),
        (&["PUBLISH", "c", "m"], Tie::Keeps, &[]),
        (&["BLPOP", "a", "0"], Tie::Waits, &["a"]),
        (&["WATCH", "a"], Tie::Watches, &["a"]),
        (&["UNWATCH"], Tie::Unwatches, &[]),
        (&["MULTI"], Tie::Begins, &[]),
        (&["EXEC"], Tie::Commits, &[]),
        (&["EXEC", "now"], Tie::Commits, &[]),
        (&["DISCARD"], Tie::Aborts, &[]),
    ] {
        let (found, found_keys, _) = parsed(Some(Session::Transaction), words);
        assert_eq!(
            (found, found_keys),
            (Some(tie), keys.iter().map(|k| (*k).to_owned()).collect())
        );
    }
}

#[test]
fn exec_with_an_argument_aborts_and_says_so() {
    let text = "-EXECABORT Transaction discarded because of: wrong number of arguments for \
                'exec' command\r\n";
    for session in [None, Some(Session::Transaction), Some(Session::Subscription)] {
        assert_eq!(parsed(session, &["EXEC", "now"]).2, text, "{session:?}");
    }
}

#[test]
fn nothing_in_a_transaction_may_change_the_connection_for_the_next_client() {
    for words in [
        &["SELECT", "1"][..],
        &["AUTH", "p"],
        &["HELLO", "3"],
        &["HELLO"],
        &["CLIENT", "REPLY", "OFF"],
        &["CLIENT", "SETNAME", "x"],
        &["RESET"],
        &["SUBSCRIBE", "c"],
        &["UNSUBSCRIBE"],
        &["MONITOR"],
        &["SCRIPT", "LOAD", "return 1"],
        &["SHUTDOWN"],
    ] {
        for session in [Session::Transaction, Session::Subscription] {
            let (tie, _, reply) = parsed(Some(session), words);
            let listens = session == Session::Subscription && words[0].ends_with("SUBSCRIBE");
            assert_eq!(reply.starts_with("-ERR "), !listens, "{words:?}: {reply}");
            if session == Session::Transaction {
                assert_eq!(tie, None, "{words:?}");
            }
        }
    }
}

#[test]
fn who_can_tell_messages_from_answers_may_ask_for_anything_that_needs_no_connection_of_its_own() {
    let parse = |words: &[&str]| {
        let (mut state, mut scratch) = (RequestState::default(), Scratch::default());
        let (limits, bytes) = (Limits::default(), resp(words));
        let session = Session::PushedSubscription;
        let parsed =
            (Protocol::Redis).parse_in_session(session, &mut state, &bytes, &limits, &mut scratch);
        (parsed, String::from_utf8(scratch.reply).unwrap())
    };
    let route = |words: &[&str]| match parse(words) {
        (Parsed::Request(request), _) => request.route,
        other => panic!("{words:?}: {other:?}"),
    };
    assert!(matches!(route(&["GET", "k"]), Route::Key(_)));
    assert_eq!(route(&["MGET", "a", "b"]), Route::Split);
    assert_eq!(route(&["PUBLISH", "c", "m"]), Route::Any);
    for word in ["SUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE"] {
        assert_eq!(route(&[word, "c"]), Route::Dedicated(Tie::Listens));
    }
    for words in [&["PING"][..], &["ECHO", "x"], &["CLIENT", "ID"], &["QUIT"], &["AUTH", "p"]] {
        assert!(matches!(parse(words).0, Parsed::Own(_)), "{words:?}");
    }
    for words in [
        &["BLPOP", "k", "0"][..],
        &["XREAD", "BLOCK", "0", "STREAMS", "s", "$"],
        &["MULTI"],
        &["WATCH", "k"],
        &["HELLO", "3"],
        &["RESET"],
    ] {
        let (parsed, reply) = parse(words);
        assert!(matches!(parsed, Parsed::Reply { .. }), "{words:?}: {parsed:?}");
        let name = words[0].to_ascii_lowercase();
        let text = format!("-ERR '{name}' is not possible while the client listens\r\n");
        assert_eq!(reply, text);
    }
}

#[test]
fn the_parser_is_as_before_when_a_session_is_over() {
    let (mut state, mut scratch) = (RequestState::default(), Scratch::default());
    let limits = Limits::default();
    let ping = resp(&["PING"]);
    let protocol = Protocol::Redis;
    let session = Session::Transaction;
    protocol.parse_in_session(session, &mut state, &ping, &limits, &mut scratch);
    let parsed = protocol.parse_request(&mut state, &ping, &limits, &mut scratch);
    assert!(matches!(parsed, Parsed::Own(_)), "{parsed:?}");
}

#[test]
fn a_subscriber_s_notices_are_told_apart() {
    let left = |sharded, count| Notice::Left { sharded, count };
    for (response, notice) in [
        ("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", left(false, 1)),
        ("*3\r\n$12\r\npunsubscribe\r\n$2\r\na*\r\n:12\r\n", left(false, 12)),
        ("*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n", left(false, 0)),
        ("*3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:3\r\n", left(true, 3)),
        ("*3\r\n$12\r\nsunsubscribe\r\n$0\r\n\r\n:0\r\n", left(true, 0)),
        // A message may say what it likes.
        ("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$11\r\nunsubscribe\r\n", Notice::Other),
        ("*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\na\r\n$1\r\nx\r\n", Notice::Other),
        ("*2\r\n$4\r\npong\r\n$0\r\n\r\n", Notice::Other),
        ("*2\r\n$4\r\npong\r\n$18\r\nweir: all answered\r\n", Notice::Mark),
        ("$18\r\nweir: all answered\r\n", Notice::Mark),
        (">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", left(false, 1)),
        (">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n", left(false, 0)),
        (">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n", Notice::Other),
        ("-ERR no\r\n", Notice::Other),
        ("*3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$1\r\nx\r\n", Notice::Other),
        ("+PONG\r\n", Notice::Other),
        ("$1\r\nx\r\n", Notice::Other),
        ("*3\r\n$9\r\nsubscribe\r\n*1\r\n$1\r\na\r\n:1\r\n", Notice::Nonsense),
        ("*3\r\n$9\r\nsubscribe\r\n", Notice::Nonsense),
        ("*3\r\n$9\r\nsubscribe\r\n$99\r\na\r\n", Notice::Nonsense),
        ("+EXTRA\r\n", Notice::Nonsense),
        (":1\r\n", Notice::Nonsense),
        ("*0\r\n", Notice::Nonsense),
    ] {
        assert_eq!(Protocol::Redis.notice(response.as_bytes()), notice, "{response:?}");
    }
}
