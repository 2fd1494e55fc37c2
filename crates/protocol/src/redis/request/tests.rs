//! Tests of everything that a client of Redis may send.

use crate::fuzz::{Outcome, check_requests, requests};
use crate::{Limits, Parsed, Profile, Protocol, RequestState, Route, Scratch, Then, Version};
use proptest::prelude::*;

/// The usual form of a request.
fn resp(words: &[&str]) -> Vec<u8> {
    resp_of_bytes(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>())
}

fn resp_of_bytes(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// What becomes of a stream, which must not depend on how it is cut.
fn outcomes(stream: &[u8]) -> Vec<Outcome> {
    check_requests(Protocol::Redis, stream, &Limits::default());
    requests(Protocol::Redis, stream, std::iter::once(stream.len()), &Limits::default())
}

fn one(stream: &[u8]) -> Outcome {
    let mut outcomes = outcomes(stream);
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    outcomes.remove(0)
}

/// The reply, which must leave the connection open.
fn reply(words: &[&str]) -> String {
    match one(&resp(words)) {
        Outcome::Reply { reply, .. } => String::from_utf8(reply).expect("replies here are text"),
        other => panic!("{words:?} {other:?}"),
    }
}

/// The key that routes a request; nothing for any server.
fn route(words: &[&str]) -> Option<String> {
    match one(&resp(words)) {
        Outcome::Request { keys, elements, forwarded, .. } => {
            assert_eq!((elements.len(), forwarded), (0, resp(words)));
            keys.into_iter().next().map(|key| String::from_utf8(key).expect("keys here are text"))
        }
        other => panic!("{words:?} {other:?}"),
    }
}

#[test]
fn a_request_of_one_key_goes_to_its_owner_unchanged() {
    for words in [
        &["GET", "k"][..],
        &["get", "k"],
        &["SeT", "k", "v"],
        &["SET", "k", "v", "EX", "10"],
        &["HSET", "k", "f", "v"],
        &["SINTERSTORE", "k", "a", "b"],
        &["PFCOUNT", "k", "a"],
        &["RENAME", "k", "other"],
        &["XADD", "k", "*", "f", "v"],
        &["BITOP", "AND", "k", "a"],
        &["MSETNX", "k", "1", "b", "2"],
        &["MGET", "k"],
        &["DEL", "k"],
        &["EXISTS", "k"],
        &["MSET", "k", "v"],
        &["EVAL", "return 1", "1", "k"],
        &["EVALSHA_RO", "x", "2", "k", "b", "arg"],
        &["FCALL", "f", "1", "k"],
        &["SINTERCARD", "2", "k", "b"],
        &["LMPOP", "1", "k", "LEFT"],
        &["ZMPOP", "1", "k", "MIN"],
        &["XREAD", "STREAMS", "k", "0"],
        &["XREAD", "count", "1", "streams", "k", "b", "0", "0"],
        &["XREADGROUP", "GROUP", "g", "c", "NOACK", "STREAMS", "k", ">"],
        &["OBJECT", "ENCODING", "k"],
        &["XINFO", "STREAM", "k"],
        &["XGROUP", "CREATE", "k", "g", "$"],
        &["MEMORY", "USAGE", "k"],
        &["HEXPIRE", "k", "1", "FIELDS", "1", "f"],
        &["MOVE", "k", "1"],
    ] {
        assert_eq!(route(words).as_deref(), Some("k"), "{words:?}");
    }
    assert_eq!(route(&["GET", ""]).as_deref(), Some(""));
}

#[test]
fn twemproxy_s_places_are_kept_where_they_are_odd() {
    for name in ["ZDIFF", "ZINTER", "ZUNION"] {
        assert_eq!(route(&[name, "2", "a", "b"]).as_deref(), Some("2"));
    }
    assert_eq!(route(&["ZUNIONSTORE", "d", "1000000", "a"]).as_deref(), Some("d"));
}

#[test]
fn a_request_without_a_key_goes_anywhere() {
    for words in [
        &["LOLWUT"][..],
        &["LOLWUT", "VERSION", "5"],
        &["EVAL", "return 1", "0"],
        &["EVAL", "return 1", "0", "argument"],
        &["FCALL", "f", "0"],
        &["OBJECT", "HELP"],
        &["XINFO", "HELP"],
        &["MEMORY", "HELP"],
        // A server says best what is wrong with these.
        &["EVAL", "return 1", "x", "k"],
        &["EVAL", "return 1", "01", "k"],
        &["EVAL", "return 1", "-1", "k"],
        &["EVALSHA", "0", "2", "k"],
        &["FCALL", "f", "99999999999", "k"],
        &["SINTERCARD", "x", "k"],
        &["SINTERCARD", "0", "k"],
        &["ZMPOP", "-1", "k", "MIN"],
        &["XREAD", "COUNT", "1", "x"],
        &["XREAD", "COUNT", "1", "STREAMS"],
        &["XREAD", "what", "BLOCK", "0", "STREAMS", "k", "0"],
    ] {
        assert_eq!(route(words), None, "{words:?}");
    }
}

#[test]
fn a_request_of_several_keys_is_split() {
    for (words, keys, elements) in [
        (&["MGET", "a", "b", "a"][..], &["a", "b", "a"][..], &["$1\r\na\r\n", "$1\r\nb\r\n"][..]),
        (&["del", "a", "bb"], &["a", "bb"], &["$1\r\na\r\n", "$2\r\nbb\r\n"]),
        (&["UNLINK", "a", ""], &["a", ""], &["$1\r\na\r\n", "$0\r\n\r\n"]),
        (&["TOUCH", "a", "b"], &["a", "b"], &["$1\r\na\r\n"]),
        (&["EXISTS", "a", "b"], &["a", "b"], &["$1\r\na\r\n"]),
        (
            &["MSET", "a", "1", "b", "22"],
            &["a", "b"],
            &["$1\r\na\r\n$1\r\n1\r\n", "$1\r\nb\r\n$2\r\n22\r\n"],
        ),
    ] {
        match one(&resp(words)) {
            Outcome::Request { keys: got, elements: got_elements, forwarded, .. } => {
                let text = |all: &[Vec<u8>]| -> Vec<String> {
                    all.iter().map(|one| String::from_utf8_lossy(one).into_owned()).collect()
                };
                assert_eq!(text(&got), keys, "{words:?}");
                assert_eq!(text(&got_elements)[..elements.len()], *elements, "{words:?}");
                assert_eq!(forwarded, resp(words));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_request_that_is_not_possible_gets_an_error_and_the_connection_goes_on() {
    for (words, text) in [
        (&["GET"][..], "-ERR wrong number of arguments for 'get' command"),
        (&["GeT", "a", "b"], "-ERR wrong number of arguments for 'get' command"),
        (&["MSET", "a"], "-ERR wrong number of arguments for 'mset' command"),
        (&["MSET", "a", "1", "b"], "-ERR wrong number of arguments for 'mset' command"),
        (&["MGET"], "-ERR wrong number of arguments for 'mget' command"),
        (&["PING", "a", "b"], "-ERR wrong number of arguments for 'ping' command"),
        (&["FOO"], "-ERR unknown command 'FOO', with args beginning with: "),
        (&["", "x"], "-ERR unknown command '', with args beginning with: 'x' "),
        (
            &["foo\r\nbar", "a\r\nb\0c", "d"],
            "-ERR unknown command 'foo  bar', with args beginning with: 'a  b' 'd' ",
        ),
        (&["GE\0T", "x"], "-ERR unknown command 'GE', with args beginning with: 'x' "),
        (&["MONITOR"], "-ERR 'monitor' is not supported by the proxy"),
        (&["Wait", "1", "0"], "-ERR 'wait' is not supported by the proxy"),
        (&["EXEC"], "-ERR EXEC without MULTI"),
        (&["DISCARD"], "-ERR DISCARD without MULTI"),
        (&["SLOWLOG", "GET"], "-ERR 'slowlog' is not supported by the proxy"),
        (&["MEMORY", "DOCTOR"], "-ERR 'memory' is not supported by the proxy"),
        (&["MEMORY", "USAGE"], "-ERR wrong number of arguments for 'memory|usage' command"),
        (&["SELECT", "1"], "-ERR DB index is out of range"),
        (&["SELECT", "x"], "-ERR value is not an integer or out of range"),
        (&["CLUSTER", "SLOTS"], "-ERR This instance has cluster support disabled"),
        (&["READONLY"], "-ERR This instance has cluster support disabled"),
    ] {
        assert_eq!(reply(words), format!("{text}\r\n"), "{words:?}");
        let mut stream = resp(words);
        stream.extend(resp(&["PING"]));
        assert_eq!(outcomes(&stream).len(), 2, "{words:?}");
    }
}

#[test]
fn an_unknown_command_is_repeated_only_so_far() {
    let long = "F".repeat(300);
    let argument = "x".repeat(200);
    let text = reply(&[&long, &argument, "y"]);
    let (name, echo) = (&long[..128], &argument[..128]);
    assert_eq!(
        text,
        format!("-ERR unknown command '{name}', with args beginning with: '{echo}' \r\n")
    );
    let arguments: Vec<String> = (0..60).map(|i| format!("arg{i}")).collect();
    let mut words = vec!["FFFFFFFFFF"];
    words.extend(arguments.iter().map(String::as_str));
    let text = reply(&words);
    assert!(text.ends_with("'arg15' 'arg16' 'ar' \r\n"), "{text}");
}

#[test]
fn commands_about_the_connection_are_answered_here() {
    for (words, text) in [
        (&["PING"][..], "+PONG\r\n"),
        (&["ping", "hello"], "$5\r\nhello\r\n"),
        (&["ECHO", ""], "$0\r\n\r\n"),
        (&["SELECT", "0"], "+OK\r\n"),
        (&["RESET"], "+RESET\r\n"),
        (&["CLIENT", "SETNAME", "x"], "+OK\r\n"),
        (&["CLIENT", "setinfo", "LIB-NAME", "x"], "+OK\r\n"),
        (&["CLIENT", "GETNAME"], "$-1\r\n"),
        (&["CLIENT", "ID"], ":1\r\n"),
        (&["CLIENT", "NO-EVICT", "on"], "+OK\r\n"),
        (&["CLIENT", "NO-TOUCH", "what"], "-ERR syntax error\r\n"),
        (&["CLIENT", "ID", "x"], "-ERR wrong number of arguments for 'client|id' command\r\n"),
        (&["CLIENT", "FOO"], "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n"),
        (&["CLIENT", "TRACKING", "ON"], "-ERR 'client|tracking' is not supported by the proxy\r\n"),
        (
            &["CLIENT", "SETNAME", "a b"],
            "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
        ),
        (&["CONFIG", "GET", "save"], "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        (&["CONFIG", "GET", "APPENDONLY"], "*2\r\n$10\r\nappendonly\r\n$2\r\nno\r\n"),
        (&["CONFIG", "GET", "nosuch"], "*0\r\n"),
        (&["CONFIG", "GET"], "-ERR wrong number of arguments for 'config|get' command\r\n"),
        (&["CONFIG", "SET", "save", ""], "-ERR 'config' is not supported by the proxy\r\n"),
        (&["COMMAND", "DOCS"], "*0\r\n"),
        (&["COMMAND", "INFO", "monitor", "nosuch"], "*2\r\n$-1\r\n$-1\r\n"),
        (&["COMMAND", "FOO"], "-ERR unknown subcommand 'FOO'. Try COMMAND HELP.\r\n"),
        (
            &["COMMAND", "INFO", "GET"],
            "*1\r\n*10\r\n$3\r\nget\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n\
             *0\r\n*0\r\n*0\r\n*0\r\n",
        ),
        (&["HELLO", "4"], "-NOPROTO unsupported protocol version\r\n"),
        (&["HELLO", "x"], "-ERR Protocol version is not an integer or out of range\r\n"),
        (&["HELLO", "2", "AUTH", "a"], "-ERR Syntax error in HELLO option 'AUTH'\r\n"),
        (&["HELLO", "2", "FOO"], "-ERR Syntax error in HELLO option 'FOO'\r\n"),
        (
            &["HELLO", "2", "AUTH", "other", "p"],
            "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        ),
        (
            &["AUTH", "other", "p"],
            "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        ),
        (&["AUTH", "a", "b", "c"], "-ERR syntax error\r\n"),
    ] {
        assert_eq!(reply(words), text, "{words:?}");
    }
    let hello = reply(&["HELLO"]);
    assert!(hello.starts_with("*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n"), "{hello}");
    assert_eq!(hello, reply(&["HELLO", "2", "SETNAME", "x"]));
    let info = reply(&["INFO", "everything"]);
    for line in ["redis_version:", "loading:0\r\n", "role:master\r\n", "cluster_enabled:0\r\n"] {
        assert!(info.contains(line), "{info}");
    }
}

#[test]
fn the_table_that_clients_see_holds_what_they_can_use() {
    let count = reply(&["COMMAND", "COUNT"]);
    let all = reply(&["COMMAND"]);
    assert_eq!(all.lines().next(), Some(count.trim_end().replace(':', "*").as_str()));
    let list = reply(&["COMMAND", "LIST"]);
    assert!(list.contains("\r\nget\r\n") && !list.contains("\r\nmonitor\r\n"));
}

#[test]
fn a_password_is_handed_over_with_the_answer_to_a_right_one() {
    for (words, answer) in [
        (&["AUTH", "pass word"][..], "+OK\r\n"),
        (&["AUTH", "default", "pass word"], "+OK\r\n"),
        (&["HELLO", "2", "AUTH", "default", "pass word"], "*14\r\n"),
        (&["HELLO", "2", "SETNAME", "x", "auth", "default", "pass word"], "*14\r\n"),
    ] {
        let Outcome::Authenticate { reply, password, .. } = one(&resp(words)) else {
            panic!("{words:?}");
        };
        assert_eq!(password, b"pass word");
        assert!(reply.starts_with(answer.as_bytes()), "{words:?}");
    }
    let Outcome::Authenticate { password, .. } = one(b"AUTH \"a\\x20b\"\r\n") else {
        panic!("an inline command presents a password too");
    };
    assert_eq!(password, b"a b");
}

#[test]
fn quit_is_answered_and_ends_the_stream() {
    let mut stream = resp(&["QUIT"]);
    stream.extend(resp(&["GET", "k"]));
    assert_eq!(outcomes(&stream), [Outcome::Close { reply: b"+OK\r\n".to_vec() }]);
}

#[test]
fn what_is_not_framed_in_the_one_right_way_closes_the_connection() {
    let count = "invalid multibulk length";
    let length = "invalid bulk length";
    let line_end = "expected CRLF after bulk";
    for (stream, text) in [
        ("*01\r\n$4\r\nPING\r\n", count),
        ("*+1\r\n$4\r\nPING\r\n", count),
        ("* 1\r\n$4\r\nPING\r\n", count),
        ("*-0\r\n", count),
        ("*\r\n", count),
        ("*3abc\r\n", count),
        ("*1\n$4\nPING\n", count),
        ("*1\r$4\r\nPING\r\n", count),
        ("*1048577\r\n", count),
        ("*2000000000\r\n", count),
        ("*4294967297\r\n", count),
        ("*18446744073709551617\r\n", count),
        ("*1\r\n$04\r\nPING\r\n", length),
        ("*1\r\n$+4\r\nPING\r\n", length),
        ("*1\r\n$-1\r\n", length),
        ("*1\r\n$\r\n", length),
        ("*1\r\n$4294967300\r\nPING\r\n", length),
        ("*1\r\n$536870913\r\n", length),
        ("*2\r\n$3\r\nGET\r\n$-2147483648\r\nx\r\n", length),
        ("*1\r\n$4\nPING\r\n", length),
        ("*2\r\n$3\r\nGET\r\n$1\r\nwk\r\n", line_end),
        ("*2\r\n$3\r\nGET\r\n$2\r\nwkXX*1\r\n$4\r\nPING\r\n", line_end),
        ("*2\r\n$3\r\nGET\r\n$2\r\nwk\n\n", line_end),
        ("*1\r\n+PING\r\n", "expected '$', got '+'"),
        ("*2\r\n$3\r\nGET\r\n:1\r\n", "expected '$', got ':'"),
        ("*1\r\n*1\r\n*1\r\n", "expected '$', got '*'"),
        ("*1\r\n\r\n", "expected '$', got ' '"),
        ("GET \"a\r\n", "unbalanced quotes in request"),
        ("GET \"a\"b\r\n", "unbalanced quotes in request"),
        ("GET 'a\r\n", "unbalanced quotes in request"),
        ("GET \"a\\\"\r\n", "unbalanced quotes in request"),
        ("GET a\0b\r\n", "invalid character in inline request"),
    ] {
        let reply = format!("-ERR Protocol error: {text}\r\n").into_bytes();
        assert_eq!(outcomes(stream.as_bytes()), [Outcome::Close { reply }], "{stream:?}");
    }
    for stream in ["POST / HTTP/1.1\r\n", "Host: x\r\n", "*1\r\n$4\r\npost\r\n"] {
        let reply = Vec::new();
        assert_eq!(outcomes(stream.as_bytes()), [Outcome::Close { reply }], "{stream:?}");
    }
}

#[test]
fn a_line_without_an_end_is_refused_at_the_limit() {
    let line = [b'A'; 70_000];
    let reply = b"-ERR Protocol error: too big inline request\r\n".to_vec();
    assert_eq!(outcomes(&line), [Outcome::Close { reply }]);
}

#[test]
fn a_request_larger_than_the_limit_is_refused_by_its_header() {
    let limits = Limits { request_size_max: 30, ..Limits::default() };
    let ends = |stream: &[u8]| std::iter::once(stream.len());
    // 13 bytes, a header of 5, and the end of the line: 10 fit.
    let stream = b"*2\r\n$3\r\nGET\r\n$10\r\n0123456789\r\n";
    let outcome = &requests(Protocol::Redis, stream, ends(stream), &limits)[0];
    assert!(matches!(outcome, Outcome::Request { .. }));
    let stream = b"*2\r\n$3\r\nGET\r\n$11\r\n";
    let outcome = &requests(Protocol::Redis, stream, ends(stream), &limits)[0];
    assert!(matches!(outcome, Outcome::Close { .. }));
}

#[test]
fn empty_requests_are_passed_over_in_silence() {
    let mut stream = b"*0\r\n*-1\r\n*-2147483649\r\n\r\n\n  \t\r\n".to_vec();
    stream.extend(resp(&["PING"]));
    let outcomes = outcomes(&stream);
    assert_eq!(outcomes.len(), 7);
    for outcome in &outcomes[..6] {
        assert!(
            matches!(outcome, Outcome::Reply { reply, fault: false, .. } if reply.is_empty()),
            "{outcome:?}"
        );
    }
}

#[test]
fn inline_commands_become_what_the_server_would_make_of_them() {
    for (line, words) in [
        ("GET k\r\n", &["GET", "k"][..]),
        ("get k\n", &["get", "k"]),
        ("  get\t k \r\n", &["get", "k"]),
        ("get \"a b\"\r\n", &["get", "a b"]),
        ("get \"\\x41\\n\\q\\x4\"\r\n", &["get", "A\nqx4"]),
        ("get 'a\\'b\\n'\r\n", &["get", "a'b\\n"]),
        ("get a\"b\"\r\n", &["get", "ab"]),
        ("get a'b c'\r\n", &["get", "ab c"]),
        ("get \"\"\r\n", &["get", ""]),
        ("get a\x0bb\x0c\r\n", &["get", "a\x0bb\x0c"]),
        ("get\rk\r\n", &["get", "k"]),
        ("mget a b\r\n", &["mget", "a", "b"]),
        ("mset a 1 b 2\r\n", &["mset", "a", "1", "b", "2"]),
    ] {
        let Outcome::Request { size, forwarded, .. } = one(line.as_bytes()) else {
            panic!("{line:?}");
        };
        assert_eq!(size, line.len());
        assert_eq!(forwarded, resp(words), "{line:?}");
    }
    let Outcome::Reply { reply, .. } = one(b"ping\r\n") else {
        panic!("it is answered");
    };
    assert_eq!(reply, b"+PONG\r\n");
}

#[test]
fn a_split_inline_command_has_its_keys_in_the_rewritten_request() {
    let bytes = b"MGET 'a b' c\r\n";
    let mut scratch = Scratch::default();
    let mut state = RequestState::default();
    let parsed = super::parse(&mut state, bytes, &Limits::default(), &mut scratch);
    let Parsed::Request(request) = parsed else {
        panic!("{parsed:?}");
    };
    assert_eq!(request.route, Route::Split);
    let mut out = Vec::new();
    let source = request.bytes(bytes, &scratch);
    Protocol::Redis.encode_part(&request, source, &scratch.keys, &[0, 1], &mut out);
    assert_eq!(out, resp(&["mget", "a b", "c"]));
}

#[test]
fn need_is_exact_when_a_length_is_known() {
    let mut scratch = Scratch::default();
    let mut state = RequestState::default();
    let stream = resp(&["SET", "key", &"v".repeat(1000)]);
    let mut seen = Vec::new();
    let mut size = 1;
    while size < stream.len() {
        let parsed = super::parse(&mut state, &stream[..size], &Limits::default(), &mut scratch);
        let Parsed::Incomplete { need } = parsed else {
            panic!("{parsed:?}");
        };
        seen.push(need);
        size += need;
    }
    // The bodies of SET, of the key and of the value come in one step each, with their line ends.
    assert!(seen.contains(&5) && seen.contains(&1002), "{seen:?}");
    assert_eq!(size, stream.len());
    let parsed = super::parse(&mut state, &stream, &Limits::default(), &mut scratch);
    assert!(matches!(parsed, Parsed::Request(_)));
}

/// A request of 64 MiB that comes byte by byte takes time in proportion to its size, not to the
/// square of it: this test would not end otherwise.
#[test]
fn a_large_request_is_not_looked_at_again_for_each_byte() {
    let value = vec![b'v'; 64 << 20];
    let bulk = resp_of_bytes(&[b"SET", b"k", &value]);
    let element = vec![b'e'; 50];
    let mut words = vec![b"DEL".as_slice()];
    words.extend(std::iter::repeat_n(element.as_slice(), 100_000));
    let many = resp_of_bytes(&words);
    for stream in [&bulk, &many] {
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

#[test]
fn a_declared_count_allocates_nothing() {
    let mut scratch = Scratch::default();
    let mut state = RequestState::default();
    let parsed = super::parse(&mut state, b"*1048576\r\n$3\r\n", &Limits::default(), &mut scratch);
    assert_eq!(parsed, Parsed::Incomplete { need: 5 });
    assert_eq!((scratch.arguments.capacity(), scratch.keys.capacity()), (0, 0));
}

#[test]
fn memory_of_a_rare_request_goes_back() {
    let words = vec![b"k".as_slice(); 200_000];
    let stream = resp_of_bytes(&[&[b"DEL".as_slice()], words.as_slice()].concat());
    let mut scratch = Scratch::default();
    let mut state = RequestState::default();
    super::parse(&mut state, &stream, &Limits::default(), &mut scratch);
    assert_eq!(scratch.keys.len(), 200_000);
    super::parse(&mut state, b"PING\r\n", &Limits::default(), &mut scratch);
    assert!(scratch.keys.capacity() <= crate::request::SCRATCH_KEPT_MAX);
    assert!(scratch.arguments.capacity() <= crate::request::SCRATCH_KEPT_MAX);
}

#[test]
fn a_fault_says_whose_it_is() {
    let mut scratch = Scratch::default();
    let mut state = RequestState::default();
    let ping = b"*1\r\n$4\r\nPING\r\n";
    let parsed = super::parse(&mut state, ping, &Limits::default(), &mut scratch);
    let Parsed::Own(own) = parsed else { panic!("{parsed:?}") };
    let parsed = Protocol::Redis.answer(own, ping, &Profile::default(), &mut scratch);
    assert_eq!(parsed, Parsed::Reply { size: 14, then: Then::Continue, fault: false });
    let parsed = super::parse(&mut state, b"*1\r\n$3\r\nGET\r\n", &Limits::default(), &mut scratch);
    assert_eq!(parsed, Parsed::Reply { size: 13, then: Then::Continue, fault: true });
}

#[test]
fn a_new_server_connection_presents_the_password_first() {
    let handshake = super::handshake(Version::Basic, Some(b"p w"), 7);
    assert_eq!(handshake.responses_count, 2);
    assert_eq!(handshake.bytes, [resp(&["AUTH", "p w"]), resp(&["SELECT", "7"])].concat());
    assert_eq!(super::handshake(Version::Basic, None, 0), crate::Handshake::default());
    let handshake = super::handshake(Version::Resp3, Some(b"p w"), 7);
    assert_eq!(handshake.responses_count, 2);
    let hello = resp(&["HELLO", "3", "AUTH", "default", "p w"]);
    assert_eq!(handshake.bytes, [hello, resp(&["SELECT", "7"])].concat());
    let handshake = super::handshake(Version::Resp3, None, 0);
    assert_eq!((handshake.responses_count, handshake.bytes), (1, resp(&["HELLO", "3"])));
    assert_eq!(super::handshake(Version::Basic, None, 3).bytes, resp(&["SELECT", "3"]));
}

/// Words from which requests are made, right ones and wrong ones.
fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec!["GET", "set", "MGET", "del", "MSET", "PING", "EVAL", "nosuch"])
            .prop_map(|name| name.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
        prop::sample::select(vec!["$1\r\n", "\r\n", "*1\r\n", "0", "1", "2"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn streams_of_requests_mean_the_same_however_they_are_cut(
        lists in prop::collection::vec(prop::collection::vec(word(), 1..6), 1..6)
    ) {
        let mut stream = Vec::new();
        for words in &lists {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            stream.extend(resp_of_bytes(&words));
        }
        let outcomes = outcomes(&stream);
        // Every request of the usual form has exactly one outcome.
        let closed = matches!(outcomes.last(), Some(Outcome::Close { .. }));
        prop_assert!(closed || outcomes.len() == lists.len(), "{:?}", outcomes);
        let cut = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Cut(_)));
        prop_assert!(!cut);
    }

    #[test]
    fn any_bytes_mean_the_same_however_they_are_cut(
        pieces in prop::collection::vec(
            prop_oneof![
                word(),
                prop::collection::vec(
                    prop::sample::select(b"*$-+0123 \r\n\r\n\"'\\x41GET".to_vec()),
                    0..30,
                ),
                Just(resp(&["GET", "k"])),
                Just(b"get k\r\n".to_vec()),
            ],
            0..8,
        )
    ) {
        let stream = pieces.concat();
        check_requests(Protocol::Redis, &stream, &Limits::default());
        crate::fuzz::redis_request(&stream);
    }
}
