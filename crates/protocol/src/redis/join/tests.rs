//! Tests of split requests of Redis: what is sent, and what becomes of the answers.

use crate::{Join, KeySpan, Limits, Parsed, Part, Protocol, Request, RequestState, Route, Scratch};

/// A parsed request that is split, and its keys.
fn split(stream: &str) -> (Request, Vec<KeySpan>) {
    let mut scratch = Scratch::default();
    let mut state = RequestState::default();
    let bytes = stream.as_bytes();
    match Protocol::Redis.parse_request(&mut state, bytes, &Limits::default(), &mut scratch) {
        Parsed::Request(request) if request.route != Route::Any => (request, scratch.keys),
        other => panic!("{other:?}"),
    }
}

const MGET: &str = "*5\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n";
const DEL: &str = "*4\r\n$3\r\nDeL\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n";
const MSET: &str = "*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$2\r\n22\r\n";

fn joined(stream: &str, part_of_key: &[u32], parts: &[Part<'_>]) -> String {
    let (request, keys) = split(stream);
    let plan: Join =
        Protocol::Redis.plan_join(&request, stream.as_bytes(), &keys, part_of_key, Join::default());
    let mut out = b"before".to_vec();
    Protocol::Redis.join(&plan, parts, &mut out);
    let text = String::from_utf8(out).expect("all of it is text here");
    text.strip_prefix("before").expect("what was there stays").to_owned()
}

fn answered(texts: &[&'static str]) -> Vec<Part<'static>> {
    texts.iter().map(|text| Part::Response(text.as_bytes())).collect()
}

#[test]
fn each_part_has_its_keys_in_order_and_its_name_in_lower_case() {
    for (stream, picks, part) in [
        (MGET, &[0, 2][..], "*3\r\n$4\r\nmget\r\n$1\r\na\r\n$1\r\nc\r\n"),
        (MGET, &[3], "*2\r\n$4\r\nmget\r\n$1\r\nd\r\n"),
        (DEL, &[1, 2], "*3\r\n$3\r\ndel\r\n$1\r\nb\r\n$1\r\nc\r\n"),
        (MSET, &[1], "*3\r\n$4\r\nmset\r\n$1\r\nb\r\n$2\r\n22\r\n"),
    ] {
        let (request, keys) = split(stream);
        let mut out = Vec::new();
        Protocol::Redis.encode_part(&request, stream.as_bytes(), &keys, picks, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), part);
    }
}

#[test]
fn elements_stand_in_the_order_of_the_keys() {
    let parts = answered(&["*2\r\n$1\r\nA\r\n$-1\r\n", "*2\r\n$1\r\nB\r\n$1\r\nD\r\n"]);
    assert_eq!(
        joined(MGET, &[0, 1, 0, 1], &parts),
        "*4\r\n$1\r\nA\r\n$1\r\nB\r\n$-1\r\n$1\r\nD\r\n"
    );
    // An element may be anything that is well-formed.
    let parts = answered(&["*1\r\n*2\r\n:1\r\n*0\r\n", "*3\r\n-ERR\r\n+x\r\n:1\r\n"]);
    assert_eq!(joined(MGET, &[1, 1, 0, 1], &parts), "*4\r\n-ERR\r\n+x\r\n*2\r\n:1\r\n*0\r\n:1\r\n");
}

#[test]
fn counts_are_added() {
    assert_eq!(joined(DEL, &[0, 1, 0], &answered(&[":2\r\n", ":1\r\n"])), ":3\r\n");
    assert_eq!(joined(DEL, &[0, 1, 0], &answered(&[":-2\r\n", ":1\r\n"])), ":-1\r\n");
    let parts = answered(&[":9223372036854775807\r\n", ":1\r\n"]);
    assert_eq!(joined(DEL, &[0, 1, 0], &parts), "-ERR the sum is out of range\r\n");
}

#[test]
fn all_parts_must_be_stored() {
    assert_eq!(joined(MSET, &[0, 1], &answered(&["+OK\r\n", "+OK\r\n"])), "+OK\r\n");
}

#[test]
fn the_first_part_that_has_failed_decides() {
    for stream in [MGET, DEL, MSET] {
        let good = match stream {
            MGET => "*2\r\n$-1\r\n$-1\r\n",
            DEL => ":1\r\n",
            _ => "+OK\r\n",
        };
        let places: &[u32] = match stream {
            MGET => &[0, 1, 0, 1],
            DEL => &[0, 1, 0],
            _ => &[0, 1],
        };
        let good = Part::Response(good.as_bytes());
        let failed = Part::Failed("server timed out");
        let error = Part::Response(b"-WRONGTYPE x\r\n");
        assert_eq!(joined(stream, places, &[good, failed]), "-ERR server timed out\r\n");
        assert_eq!(joined(stream, places, &[failed, error]), "-ERR server timed out\r\n");
        assert_eq!(joined(stream, places, &[error, failed]), "-WRONGTYPE x\r\n");
        assert_eq!(joined(stream, places, &[good, error]), "-WRONGTYPE x\r\n");
    }
}

#[test]
fn a_part_that_answers_something_else_makes_the_whole_an_error() {
    let text = "-ERR unexpected response to a part of the request\r\n";
    for response in [
        "+OK\r\n",
        ":2\r\n",
        "$1\r\na\r\n",
        "*-1\r\n",
        "*1\r\n$-1\r\n",
        "*3\r\n:1\r\n:1\r\n:1\r\n",
        "*0\r\n",
    ] {
        let parts = [Part::Response(b"*2\r\n:1\r\n:1\r\n"), Part::Response(response.as_bytes())];
        assert_eq!(joined(MGET, &[0, 1, 0, 1], &parts), text, "{response:?}");
    }
    // The right count in all, but not in each.
    let parts = answered(&["*1\r\n:1\r\n", "*3\r\n:1\r\n:1\r\n:1\r\n"]);
    assert_eq!(joined(MGET, &[0, 1, 0, 1], &parts), text);
    for response in ["+OK\r\n", "$1\r\n1\r\n", "*0\r\n"] {
        let parts = [Part::Response(b":1\r\n"), Part::Response(response.as_bytes())];
        assert_eq!(joined(DEL, &[0, 1, 0], &parts), text, "{response:?}");
    }
    for response in ["+QUEUED\r\n", ":1\r\n", "$2\r\nOK\r\n"] {
        let parts = [Part::Response(b"+OK\r\n"), Part::Response(response.as_bytes())];
        assert_eq!(joined(MSET, &[0, 1], &parts), text, "{response:?}");
    }
}

const LOAD: &str = "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$8\r\nreturn 1\r\n";

#[test]
fn a_script_is_loaded_when_every_server_names_it_alike() {
    let loaded = |texts: &[&'static str]| joined(LOAD, &[], &answered(texts));
    assert_eq!(loaded(&["$3\r\n1f0\r\n", "$3\r\n1f0\r\n"]), "$3\r\n1f0\r\n");
    assert_eq!(loaded(&["$3\r\n1f0\r\n"]), "$3\r\n1f0\r\n");
    let unexpected = "-ERR unexpected response to a part of the request\r\n";
    assert_eq!(loaded(&["$3\r\n1f0\r\n", "$3\r\n1f1\r\n"]), unexpected);
    assert_eq!(loaded(&["$3\r\n1f0\r\n", "$4\r\n1f0a\r\n"]), unexpected);
    assert_eq!(loaded(&["$3\r\n1f0\r\n", "-BUSY now\r\n"]), "-BUSY now\r\n");
    let parts = [Part::Response(b"$3\r\n1f0\r\n"), Part::Failed("Connection refused")];
    assert_eq!(joined(LOAD, &[], &parts), "-ERR Connection refused\r\n");
}

#[test]
fn a_script_exists_where_every_server_has_it() {
    let found = |texts: &[&'static str]| joined(LOAD, &[], &answered(texts));
    let (one, two) = ("*3\r\n:1\r\n:1\r\n:0\r\n", "*3\r\n:1\r\n:0\r\n:0\r\n");
    assert_eq!(found(&[one, two]), two);
    assert_eq!(found(&[two, one]), two);
    assert_eq!(found(&[one, one]), one);
    let unexpected = "-ERR unexpected response to a part of the request\r\n";
    assert_eq!(found(&[one, "*2\r\n:1\r\n:1\r\n"]), unexpected);
    assert_eq!(found(&[one, "*3\r\n:1\r\n:7\r\n:0\r\n"]), unexpected);
}

#[test]
fn a_flush_is_done_when_every_server_has_done_it() {
    for stream in ["*1\r\n$8\r\nFLUSHALL\r\n", "*2\r\n$7\r\nflushdb\r\n$5\r\nASYNC\r\n"] {
        let flushed = |parts: &[Part<'_>]| joined(stream, &[], parts);
        let ok = Part::Response(b"+OK\r\n");
        assert_eq!(flushed(&[ok, ok]), "+OK\r\n");
        let replica = Part::Response(b"-READONLY You can't write against a read only replica.\r\n");
        assert!(flushed(&[ok, replica]).starts_with("-READONLY "));
        assert_eq!(flushed(&[ok, Part::Failed("Host is down")]), "-ERR Host is down\r\n");
    }
}

const KEYS: &str = "*2\r\n$4\r\nKEYS\r\n$1\r\n*\r\n";
const DBSIZE: &str = "*1\r\n$6\r\nDBSIZE\r\n";
const RANDOMKEY: &str = "*1\r\n$9\r\nRANDOMKEY\r\n";

#[test]
fn what_every_server_has_is_put_together() {
    let parts = answered(&["*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*0\r\n", "*1\r\n$1\r\nc\r\n"]);
    assert_eq!(joined(KEYS, &[], &parts), "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n");
    assert_eq!(joined(KEYS, &[], &answered(&["*0\r\n", "*0\r\n"])), "*0\r\n");
    assert_eq!(joined(DBSIZE, &[], &answered(&[":3\r\n", ":0\r\n", ":39\r\n"])), ":42\r\n");
    // Nothing is left out in silence.
    for stream in [KEYS, DBSIZE, RANDOMKEY] {
        let parts = [Part::Response(b"*0\r\n"), Part::Failed("Connection refused")];
        let told = joined(stream, &[], &parts[1..]);
        assert_eq!(told, "-ERR Connection refused\r\n");
        assert_eq!(joined(stream, &[], &answered(&["-LOADING x\r\n"])), "-LOADING x\r\n");
        let unexpected = "-ERR unexpected response to a part of the request\r\n";
        assert_eq!(joined(stream, &[], &answered(&["+OK\r\n"])), unexpected);
    }
    let parts = [Part::Response(b"*0\r\n"), Part::Failed("Connection refused")];
    assert_eq!(joined(KEYS, &[], &parts), "-ERR Connection refused\r\n");
}

#[test]
fn a_random_key_is_one_that_is_there() {
    for (parts, key) in [
        (&["$-1\r\n", "$1\r\na\r\n", "$-1\r\n"][..], "$1\r\na\r\n"),
        (&["$1\r\nb\r\n", "_\r\n"], "$1\r\nb\r\n"),
        (&["$-1\r\n", "$-1\r\n"], "$-1\r\n"),
        (&["_\r\n", "_\r\n"], "_\r\n"),
    ] {
        assert_eq!(joined(RANDOMKEY, &[], &answered(parts)), key);
    }
    // No server is preferred.
    let mut firsts = 0;
    for n in 0..400 {
        let parts = [format!("$4\r\n{:04}\r\n", n * 37 % 9999), format!("$4\r\nx{n:03}\r\n")];
        let views: Vec<Part<'_>> =
            parts.iter().map(|part| Part::Response(part.as_bytes())).collect();
        firsts += usize::from(joined(RANDOMKEY, &[], &views) == parts[0]);
    }
    assert!((100..300).contains(&firsts), "{firsts}");
}
