//! Tests of what the proxy answers itself, where it depends on what was said before.

use crate::fuzz::{Outcome, check_requests, requests};
use crate::{Limits, Protocol};

/// The replies to lines that one client sends.
fn replies(lines: &[&str]) -> Vec<String> {
    let stream = lines.join("\r\n") + "\r\n";
    check_requests(Protocol::Redis, stream.as_bytes(), &Limits::default());
    let whole = std::iter::once(stream.len());
    requests(Protocol::Redis, stream.as_bytes(), whole, &Limits::default())
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Reply { reply, .. } | Outcome::Authenticate { reply, .. } => {
                String::from_utf8(reply).expect("replies here are text")
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn answers_have_the_form_of_the_version_that_the_client_chose() {
    for (line, basic, resp3) in [
        ("PING", "+PONG\r\n", "+PONG\r\n"),
        ("CLIENT GETNAME", "$-1\r\n", "_\r\n"),
        ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n", "%1\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ("CONFIG GET nosuch", "*0\r\n", "%0\r\n"),
        ("COMMAND DOCS get", "*0\r\n", "%0\r\n"),
        (
            "COMMAND INFO get nosuch",
            "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n\
             *0\r\n*0\r\n*0\r\n*0\r\n$-1\r\n",
            "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n~1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n\
             ~0\r\n~0\r\n~0\r\n*0\r\n_\r\n",
        ),
        (
            "CLIENT INFO",
            "$42\r\nid=1 name= db=0 resp=2 lib-name= lib-ver=\n\r\n",
            "=46\r\ntxt:id=1 name= db=0 resp=3 lib-name= lib-ver=\n\r\n",
        ),
        (
            "HELLO 9",
            "-NOPROTO unsupported protocol version\r\n",
            "-NOPROTO unsupported protocol version\r\n",
        ),
    ] {
        assert_eq!(replies(&[line]), [basic], "{line}");
        assert_eq!(replies(&["HELLO 3", line])[1], resp3, "{line}");
        assert_eq!(replies(&["HELLO 3", "HELLO 2", line])[2], basic, "{line}");
        assert_eq!(replies(&["HELLO 3", "RESET", line])[2], basic, "{line}");
    }
    assert!(replies(&["HELLO 3", "INFO"])[1].starts_with("="));
}

#[test]
fn hello_is_answered_in_the_version_that_it_chooses() {
    let fields = |version| {
        format!(
            "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n\
             $5\r\nproto\r\n:{version}\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n\
             $10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
        )
    };
    let (basic, resp3) = (format!("*14\r\n{}", fields(2)), format!("%7\r\n{}", fields(3)));
    let lines = ["HELLO", "HELLO 3", "HELLO", "HELLO 3 SETNAME x", "HELLO 2", "HELLO"];
    let wanted = [&basic, &resp3, &resp3, &resp3, &basic, &basic].map(String::clone);
    assert_eq!(replies(&lines), wanted);
    let all = replies(&["HELLO 3 AUTH default secret", "CLIENT GETNAME"]);
    assert_eq!((&all[0], all[1].as_str()), (&resp3, "_\r\n"));
    // A wrong one changes nothing.
    for wrong in ["HELLO 3 AUTH other x", "HELLO 3 SETNAME 'a b'", "HELLO 3 FOO", "HELLO 4"] {
        assert_eq!(replies(&[wrong, "CLIENT GETNAME"])[1], "$-1\r\n", "{wrong}");
    }
}

#[test]
fn a_client_is_called_what_it_says() {
    let lines = [
        "CLIENT SETNAME worker-1",
        "CLIENT GETNAME",
        "HELLO 2 SETNAME other",
        "CLIENT GETNAME",
        "CLIENT SETNAME 'a b'",
        "CLIENT GETNAME",
        "CLIENT SETINFO lib-name redis-py",
        "CLIENT SETINFO LIB-VER 8.1.0",
        "CLIENT SETINFO LIB-VER 'a b'",
        "CLIENT SETINFO what 1",
        "CLIENT INFO",
        "CLIENT LIST",
        "CLIENT LIST ID 7 1",
        "CLIENT LIST TYPE normal",
        "CLIENT LIST ID 2",
        "CLIENT LIST ID x",
        "CLIENT LIST TYPE x",
        "CLIENT LIST x",
        "CLIENT SETNAME ''",
        "CLIENT GETNAME",
        "RESET",
        "CLIENT INFO",
    ];
    let said = replies(&lines);
    assert_eq!(said[1], "$8\r\nworker-1\r\n");
    assert_eq!((said[3].as_str(), &said[5]), ("$5\r\nother\r\n", &said[3]));
    assert_eq!((said[6].as_str(), said[7].as_str()), ("+OK\r\n", "+OK\r\n"));
    assert_eq!(said[8], "-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n");
    assert_eq!(said[9], "-ERR Unrecognized option 'what'\r\n");
    let info = "id=1 name=other db=0 resp=2 lib-name=redis-py lib-ver=8.1.0\n";
    assert_eq!(said[10], format!("${}\r\n{info}\r\n", info.len()));
    // Of all clients a client sees itself.
    assert!(said[11..14].iter().all(|list| *list == said[10]), "{said:?}");
    let others = ["$0\r\n\r\n", "-ERR Invalid client ID\r\n", "-ERR Unknown client type 'x'\r\n"];
    assert_eq!(said[14..17], others);
    assert_eq!(said[17], "-ERR syntax error\r\n");
    assert_eq!(said[19], "$-1\r\n");
    assert!(said[21].contains("id=1 name= db=0 resp=2 lib-name= lib-ver=\n"), "{}", said[21]);
}
