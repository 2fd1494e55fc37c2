//! Tests of a walk through several servers.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::{Limits, Parsed, Protocol, RequestState, Route, Scratch};

const COURSE: Course = Course { servers_count: 3, check: 0xab };

/// What a server is asked, by a client that sends this line.
fn asked(line: &str) -> Result<(usize, String), String> {
    let (mut state, mut scratch) = (RequestState::default(), Scratch::default());
    let (protocol, bytes) = (Protocol::Redis, line.as_bytes());
    match protocol.parse_request(&mut state, bytes, &Limits::default(), &mut scratch) {
        Parsed::Request(request) => {
            let Route::Walk(cursor) = request.route else { panic!("{:?}", request.route) };
            let step = protocol.walk_step(cursor, COURSE).ok_or("other servers")?;
            let mut out = Vec::new();
            protocol.encode_step(&step, bytes, &scratch, &mut out);
            Ok((step.server, String::from_utf8(out).expect("text")))
        }
        Parsed::Reply { .. } => Err(String::from_utf8_lossy(&scratch.reply).into_owned()),
        other => panic!("{other:?}"),
    }
}

/// The client's answer to a server's, and the cursor in it.
fn answered(server: usize, response: &str) -> (String, u64) {
    let step = Step { server, cursor: 0, course: COURSE };
    let mut out = Vec::new();
    join(&step, &[Part::Response(response.as_bytes())], &mut out);
    let text = String::from_utf8(out).expect("text");
    let next = text.split("\r\n").nth(2).and_then(|word| word.parse().ok()).unwrap_or(u64::MAX);
    (text, next)
}

#[test]
fn a_walk_goes_through_every_server_and_ends() {
    let mut cursor = 0;
    let mut seen = Vec::new();
    loop {
        let (server, request) = asked(&format!("SCAN {cursor} MATCH a* COUNT 10\r\n")).unwrap();
        let own = request.split("\r\n").nth(4).unwrap().to_owned();
        assert!(request.ends_with("$5\r\nMATCH\r\n$2\r\na*\r\n$5\r\nCOUNT\r\n$2\r\n10\r\n"));
        // Each server takes two steps.
        let next = if own == "0" { "274877906943" } else { "0" };
        seen.push((server, own));
        let response = format!("*2\r\n${}\r\n{next}\r\n*1\r\n$1\r\nk\r\n", next.len());
        let (text, after) = answered(server, &response);
        assert!(text.starts_with("*2\r\n$") && text.ends_with("\r\n*1\r\n$1\r\nk\r\n"), "{text}");
        assert!(after < 1 << 63);
        cursor = after;
        if cursor == 0 {
            break;
        }
    }
    let servers: Vec<usize> = seen.iter().map(|(server, _)| *server).collect();
    assert_eq!(servers, [0, 0, 1, 1, 2, 2]);
    assert!(seen.iter().step_by(2).all(|(_, own)| own == "0"));
    assert!(seen.iter().skip(1).step_by(2).all(|(_, own)| own == "274877906943"));
}

#[test]
fn a_bad_cursor_gets_the_servers_error() {
    for cursor in ["x", "-1", "1x", "18446744073709551616", "''"] {
        let told = asked(&format!("SCAN {cursor}\r\n"));
        assert_eq!(told.unwrap_err(), "-ERR invalid cursor\r\n", "{cursor}");
    }
}

#[test]
fn a_cursor_of_other_servers_is_known() {
    let (_, next) = answered(0, "*2\r\n$1\r\n7\r\n*0\r\n");
    let step = |cursor, servers_count, check| step(Cursor(cursor), Course { servers_count, check });
    assert!(step(next, 3, 0xab).is_some());
    assert!(step(next, 3, 0xac).is_none(), "the servers are others");
    let (_, last) = answered(1, "*2\r\n$1\r\n0\r\n*0\r\n");
    assert!(step(last, 3, 0xab).is_some_and(|step| step.server == 2 && step.cursor == 0));
    assert!(step(last, 2, 0xab).is_none(), "its server is gone");
    assert!(step(u64::MAX >> 1, 3, 0xab).is_none());
}

#[test]
fn what_is_no_answer_to_scan_is_an_error() {
    for response in ["+OK\r\n", "*0\r\n", "*2\r\n:1\r\n*0\r\n", "*2\r\n$1\r\nx\r\n*0\r\n"] {
        let (text, _) = answered(0, response);
        assert_eq!(text, "-ERR unexpected response to a part of the request\r\n", "{response:?}");
    }
    assert_eq!(answered(0, "-ERR syntax error\r\n").0, "-ERR syntax error\r\n");
    let large = "*2\r\n$12\r\n274877906944\r\n*0\r\n";
    assert_eq!(answered(0, large).0, "-ERR the server's cursor is too large for the proxy\r\n");
}
