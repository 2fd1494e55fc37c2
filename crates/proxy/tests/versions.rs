//! The core with clients that choose another version of Redis' protocol: which connections carry
//! their requests, and what happens when a server does not speak it.

#![allow(clippy::unwrap_used)]

mod rig;

use std::time::Duration;

use base::Token;
use protocol::Protocol;
use rig::{Rig, keys, pool};

const HELLO: &[u8] = b"HELLO 3\r\n";
const GREETING: &str = "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n";
const AGREED: &[u8] = b"%1\r\n$5\r\nproto\r\n:3\r\n";
const REFUSED: &str = "-ERR the server refused HELLO 3: use RESP2\r\n";

fn rig(servers_count: usize) -> Rig {
    Rig::new(pool(Protocol::Redis, servers_count))
}

/// A client that speaks RESP3.
fn resp3_client(rig: &mut Rig) -> Token {
    let client = rig.client();
    rig.feed(client, HELLO);
    let hello = rig.take(client);
    assert!(hello.starts_with("%7\r\n$6\r\nserver\r\n") && hello.contains("proto\r\n:3\r\n"));
    client
}

/// The connection that was opened last.
fn last_server(rig: &Rig) -> Token {
    rig.connected.last().unwrap().0
}

#[test]
fn clients_of_different_versions_never_share_a_connection() {
    let mut rig = rig(1);
    let (plain, resp3) = (rig.client(), resp3_client(&mut rig));
    assert!(rig.connected.is_empty(), "opened before it is needed");
    rig.feed(plain, b"GET a\r\n");
    let first = last_server(&rig);
    assert_eq!(rig.take(first), "*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
    rig.feed(resp3, b"HGETALL h\r\nGET b\r\n");
    let second = last_server(&rig);
    assert_eq!(rig.connected.len(), 2);
    // Nothing is asked before the server has agreed.
    assert_eq!(rig.take(second), GREETING);
    rig.feed(second, AGREED);
    assert_eq!(
        rig.take(second),
        "*2\r\n$7\r\nHGETALL\r\n$1\r\nh\r\n*2\r\n$3\r\nGET\r\n$1\r\nb\r\n"
    );
    rig.feed(second, b"%1\r\n$1\r\nf\r\n,1.5\r\n_\r\n");
    assert_eq!(rig.take(resp3), "%1\r\n$1\r\nf\r\n,1.5\r\n_\r\n");
    rig.feed(first, b"$-1\r\n");
    assert_eq!(rig.take(plain), "$-1\r\n");
    // Both go on with the connections that they have.
    rig.feed(resp3, b"GET c\r\n");
    rig.feed(plain, b"GET d\r\n");
    assert_eq!(rig.take(second), "*2\r\n$3\r\nGET\r\n$1\r\nc\r\n");
    assert_eq!(rig.take(first), "*2\r\n$3\r\nGET\r\n$1\r\nd\r\n");
    assert_eq!(rig.connected.len(), 2);
    rig.proxy.audit();
}

#[test]
fn a_client_changes_over_when_all_that_it_asked_for_is_answered() {
    let mut rig = rig(1);
    let client = rig.client();
    rig.feed(client, b"SET a 1\r\nHELLO 3\r\nGET a\r\nHELLO 2\r\nGET a\r\n");
    let first = last_server(&rig);
    assert_eq!(rig.connected.len(), 1, "the GET has overtaken the SET");
    rig.take(first);
    rig.feed(first, b"+OK\r\n");
    let said = rig.take(client);
    assert!(said.starts_with("+OK\r\n%7\r\n"), "{said}");
    let second = last_server(&rig);
    rig.feed(second, AGREED);
    assert!(rig.take(second).ends_with("*2\r\n$3\r\nGET\r\n$1\r\na\r\n"));
    assert_eq!(rig.take(first), "");
    rig.feed(second, b"$1\r\n1\r\n");
    let said = rig.take(client);
    assert!(said.starts_with("$1\r\n1\r\n*14\r\n"), "{said}");
    assert_eq!(rig.take(first), "*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
    rig.feed(first, b"$1\r\n1\r\n");
    assert_eq!(rig.take(client), "$1\r\n1\r\n");
    rig.proxy.audit();
}

#[test]
fn a_server_that_refuses_gets_no_request_and_is_asked_again_later() {
    let mut rig = rig(1);
    let (plain, resp3) = (rig.client(), resp3_client(&mut rig));
    rig.feed(resp3, b"INCR a\r\n");
    let refusing = last_server(&rig);
    assert_eq!(rig.take(refusing), GREETING);
    rig.feed(refusing, b"-ERR unknown command 'HELLO', with args beginning with: '3' \r\n");
    assert_eq!(rig.take(refusing), "", "it would be done, and answered in another version");
    assert_eq!(rig.take(resp3), REFUSED);
    assert!(rig.is_closed(refusing));
    rig.feed(resp3, b"INCR a\r\n");
    assert_eq!((rig.take(resp3).as_str(), rig.connected.len()), (REFUSED, 1));
    // It is no failure: others are served.
    rig.feed(plain, b"GET a\r\n");
    let server = last_server(&rig);
    rig.feed(server, b"$-1\r\n");
    assert_eq!(rig.take(plain), "$-1\r\n");
    rig.advance(Duration::from_secs(1));
    rig.feed(resp3, b"INCR a\r\n");
    let agreeing = last_server(&rig);
    assert_eq!((rig.take(agreeing).as_str(), rig.connected.len()), (GREETING, 3));
    rig.feed(agreeing, AGREED);
    rig.feed(agreeing, b":1\r\n");
    assert_eq!(rig.take(resp3), ":1\r\n");
    rig.proxy.audit();
}

#[test]
fn what_is_pushed_takes_no_answers_place_however_it_is_cut() {
    let stream = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n$1\r\nv\r\n>1\r\n+x\r\n";
    for size in 1..stream.len() {
        let mut rig = rig(1);
        let client = resp3_client(&mut rig);
        rig.feed(client, b"GET a\r\n");
        let server = last_server(&rig);
        rig.feed(server, AGREED);
        for piece in stream.chunks(size) {
            rig.feed(server, piece);
        }
        assert_eq!(rig.take(client), "$1\r\nv\r\n", "{size}");
        assert!(!rig.is_closed(server), "{size}");
        rig.proxy.audit();
    }
}

#[test]
fn a_server_that_was_not_asked_for_another_version_must_not_speak_it() {
    let mut rig = rig(1);
    let client = rig.client();
    rig.feed(client, b"GET a\r\n");
    let server = last_server(&rig);
    rig.feed(server, b"_\r\n");
    assert_eq!(rig.take(client), "-ERR Invalid argument\r\n");
    assert!(rig.is_closed(server));
}

#[test]
fn parts_travel_in_the_clients_version_and_are_joined_in_it() {
    let mut rig = rig(2);
    let keys = keys(Protocol::Redis, 2);
    let client = resp3_client(&mut rig);
    rig.feed(client, format!("MGET {} {} {}\r\n", keys[0], keys[1], keys[0]).as_bytes());
    let (a, b) = (rig.server(0), rig.server(1));
    rig.feed(a, AGREED);
    rig.feed(b, AGREED);
    let part =
        format!("*3\r\n$4\r\nmget\r\n${0}\r\n{1}\r\n${0}\r\n{1}\r\n", keys[0].len(), keys[0]);
    assert!(rig.take(a).ends_with(&part));
    rig.feed(b, b"*1\r\n_\r\n");
    rig.feed(a, b"*2\r\n$1\r\na\r\n_\r\n");
    assert_eq!(rig.take(client), "*3\r\n$1\r\na\r\n_\r\n_\r\n");
}

#[test]
fn the_handshake_has_the_password_and_the_database() {
    let mut options = pool(Protocol::Redis, 1);
    options.password = Some(b"secret".to_vec());
    options.database = 3;
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, b"HELLO 3\r\nHELLO 3 AUTH default wrong\r\nCLIENT GETNAME\r\n");
    let refusals = "-NOAUTH Authentication required.\r\n\
                    -WRONGPASS invalid username-password pair or user is disabled.\r\n\
                    -NOAUTH Authentication required.\r\n";
    assert_eq!(rig.take(client), refusals);
    rig.feed(client, b"HELLO 3 AUTH default secret SETNAME me\r\nCLIENT GETNAME\r\n");
    let said = rig.take(client);
    assert!(said.starts_with("%7\r\n") && said.ends_with("$2\r\nme\r\n"), "{said}");
    rig.feed(client, b"GET a\r\n");
    let server = last_server(&rig);
    let hello = "*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$6\r\nsecret\r\n";
    assert_eq!(rig.take(server), format!("{hello}*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"));
    rig.feed(server, &[AGREED, b"+OK\r\n"].concat());
    assert_eq!(rig.take(server), "*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
    rig.feed(server, b"_\r\n");
    assert_eq!(rig.take(client), "_\r\n");
    // The password is wanted again, and RESP2 is spoken.
    rig.feed(client, b"RESET\r\nGET a\r\nHELLO 2 AUTH default secret\r\nCLIENT GETNAME\r\n");
    let said = rig.take(client);
    assert!(said.starts_with("+RESET\r\n-NOAUTH Authentication required.\r\n*14\r\n"), "{said}");
    assert!(said.ends_with("$-1\r\n"), "{said}");
}

#[test]
fn connections_of_a_clients_own_speak_its_version_and_stay_apart() {
    let mut rig = rig(1);
    let resp3 = resp3_client(&mut rig);
    rig.feed(resp3, b"BLPOP a 0\r\n");
    let own = last_server(&rig);
    assert_eq!(rig.take(own), GREETING);
    rig.feed(own, AGREED);
    assert_eq!(rig.take(own), "*3\r\n$5\r\nBLPOP\r\n$1\r\na\r\n$1\r\n0\r\n");
    rig.feed(own, b"_\r\n");
    assert_eq!(rig.take(resp3), "_\r\n");
    // It is idle now, but of no use to a client of RESP2.
    let plain = rig.client();
    rig.feed(plain, b"BLPOP a 0\r\n");
    let other = last_server(&rig);
    assert_ne!(own, other);
    assert_eq!(rig.take(other), "*3\r\n$5\r\nBLPOP\r\n$1\r\na\r\n$1\r\n0\r\n");
    let second = resp3_client(&mut rig);
    rig.feed(second, b"BLPOP b 0\r\n");
    assert_eq!(rig.take(own), "*3\r\n$5\r\nBLPOP\r\n$1\r\nb\r\n$1\r\n0\r\n");
    rig.proxy.audit();
}

#[test]
fn who_listens_in_resp3_is_told_by_pushed_messages() {
    let mut rig = rig(1);
    let client = resp3_client(&mut rig);
    rig.feed(client, b"UNSUBSCRIBE\r\nSUBSCRIBE news\r\n");
    let server = last_server(&rig);
    rig.feed(server, AGREED);
    assert!(rig.take(server).ends_with("*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n"));
    let none = ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n";
    assert_eq!(rig.take(client), none);
    let told = ">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n\
                >3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n";
    for piece in told.as_bytes().chunks(7) {
        rig.feed(server, piece);
    }
    assert_eq!(rig.take(client), told);
    let mark = "*2\r\n$4\r\nPING\r\n$18\r\nweir: all answered\r\n";
    rig.feed(client, b"PING\r\n");
    assert_eq!(rig.take(server), mark);
    rig.feed(server, b"$18\r\nweir: all answered\r\n");
    assert_eq!(rig.take(client), "+PONG\r\n");
    rig.feed(client, b"UNSUBSCRIBE\r\nGET a\r\n");
    let asked = rig.take(server);
    assert_eq!(asked, format!("*1\r\n$11\r\nUNSUBSCRIBE\r\n{mark}"));
    let left = ">3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:0\r\n";
    rig.feed(server, format!("{left}$18\r\nweir: all answered\r\n").as_bytes());
    assert_eq!(rig.take(client), left);
    // It shares a connection again.
    let shared = last_server(&rig);
    assert_ne!(server, shared);
    rig.feed(shared, AGREED);
    assert!(rig.take(shared).ends_with("*2\r\n$3\r\nGET\r\n$1\r\na\r\n"));
    rig.proxy.audit();
}
