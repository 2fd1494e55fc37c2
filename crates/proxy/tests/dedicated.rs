//! Clients with a connection of their own: when they get it, what travels on it, and what becomes
//! of both when something goes wrong.

#![allow(clippy::unwrap_used)]

mod rig;

use std::time::Duration;

use base::{RecvEnd, SocketError, Token};
use protocol::Protocol;
use rig::{Rig, keys, pool};

const BROKEN: RecvEnd = RecvEnd::Error(SocketError::ConnectionReset);
const MESSAGE: &str = "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n";

fn request(words: &[&str]) -> String {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    text
}

fn rig(servers_count: usize) -> (Rig, Token, Vec<String>) {
    let mut rig = Rig::new(pool(Protocol::Redis, servers_count));
    let client = rig.client();
    (rig, client, keys(Protocol::Redis, servers_count))
}

impl Rig {
    fn ask(&mut self, client: Token, words: &[&str]) {
        self.feed(client, request(words).as_bytes());
    }

    /// The server's next connections get what is asked for, and answer it.
    fn exchange(&mut self, client: Token, words: &[&str], server: Token, response: &str) -> String {
        self.ask(client, words);
        assert_eq!(self.take(server), request(words));
        self.feed(server, response.as_bytes());
        self.take(client)
    }
}

#[test]
fn a_request_that_waits_has_a_connection_to_itself_and_leaves_it_to_the_next() {
    let (mut rig, client, keys) = rig(1);
    let other = rig.client();
    rig.ask(client, &["BLPOP", &keys[0], "0"]);
    let own = rig.server(0);
    assert_eq!(rig.take(own), request(&["BLPOP", &keys[0], "0"]));
    // Others are not kept waiting.
    rig.ask(other, &["GET", "k"]);
    let shared = rig.server(0);
    assert_ne!(own, shared);
    rig.feed(shared, b"$-1\r\n");
    assert_eq!(rig.take(other), "$-1\r\n");
    rig.advance(Duration::from_secs(3600));
    rig.feed(own, b"*2\r\n$1\r\nk\r\n$1\r\nv\r\n");
    assert_eq!(rig.take(client), "*2\r\n$1\r\nk\r\n$1\r\nv\r\n");
    rig.ask(other, &["BLPOP", &keys[0], "0"]);
    assert_eq!(rig.take(own), request(&["BLPOP", &keys[0], "0"]));
    assert_eq!(rig.connected.len(), 2);
}

#[test]
fn what_was_asked_before_is_answered_first_and_what_is_asked_after_waits() {
    let (mut rig, client, keys) = rig(1);
    let key = keys[0].as_str();
    let all = [["RPUSH", key, "v"], ["BLPOP", key, "0"], ["RPUSH", key, "w"]].map(|w| request(&w));
    rig.feed(client, all.concat().as_bytes());
    let shared = rig.server(0);
    assert_eq!(rig.take(shared), all[0]);
    assert_eq!(rig.connected.len(), 1);
    rig.feed(shared, b":1\r\n");
    let own = rig.server(0);
    assert_ne!(own, shared);
    assert_eq!(rig.take(own), all[1]);
    assert_eq!(rig.take(shared), "");
    rig.feed(own, b"*2\r\n$1\r\nk\r\n$1\r\nv\r\n");
    assert_eq!(rig.take(shared), all[2]);
    rig.feed(shared, b":1\r\n");
    assert_eq!(rig.take(client), ":1\r\n*2\r\n$1\r\nk\r\n$1\r\nv\r\n:1\r\n");
}

#[test]
fn a_client_that_leaves_takes_its_wait_with_it() {
    for leaves in [RecvEnd::Eof, BROKEN] {
        let (mut rig, client, keys) = rig(1);
        rig.ask(client, &["BLPOP", &keys[0], "0"]);
        let own = rig.server(0);
        rig.end_receiving(client, leaves);
        assert!(rig.is_closed(client) && rig.is_closed(own));
        assert_eq!(rig.proxy.requests_count(), 0);
    }
}

#[test]
fn a_transaction_travels_on_one_connection_which_the_next_one_uses() {
    let (mut rig, client, keys) = rig(2);
    let key = keys[1].as_str();
    for round in 0..2 {
        rig.ask(client, &["MULTI"]);
        assert_eq!(rig.take(client), "+OK\r\n");
        rig.ask(client, &["SET", key, "1"]);
        let own = rig.server(1);
        let begun = [request(&["MULTI"]), request(&["SET", key, "1"])].concat();
        assert_eq!(rig.take(own), begun);
        rig.feed(own, b"+OK\r\n+QUEUED\r\n");
        assert_eq!(rig.take(client), "+QUEUED\r\n");
        assert_eq!(rig.exchange(client, &["PING"], own, "+QUEUED\r\n"), "+QUEUED\r\n");
        let reply = "*2\r\n+OK\r\n+PONG\r\n";
        assert_eq!(rig.exchange(client, &["EXEC"], own, reply), reply);
        assert_eq!(rig.connected.len(), 1, "round {round}");
    }
    // What follows is among the others again.
    rig.ask(client, &["GET", key]);
    assert_eq!(rig.connected.len(), 2);
}

#[test]
fn a_transaction_in_one_piece_is_answered_in_order() {
    let (mut rig, client, keys) = rig(1);
    let key = keys[0].as_str();
    let all = [&["GET", key][..], &["MULTI"], &["INCR", key], &["EXEC"], &["GET", key]];
    let all = all.map(request);
    rig.feed(client, all.concat().as_bytes());
    let shared = rig.server(0);
    assert_eq!(rig.take(shared), all[0]);
    rig.feed(shared, b"$1\r\n1\r\n");
    let own = rig.server(0);
    assert_eq!(rig.take(own), all[1..4].concat());
    rig.feed(own, b"+OK\r\n+QUEUED\r\n*1\r\n:2\r\n");
    assert_eq!(rig.take(shared), all[4]);
    rig.feed(shared, b"$1\r\n2\r\n");
    assert_eq!(rig.take(client), "$1\r\n1\r\n+OK\r\n+QUEUED\r\n*1\r\n:2\r\n$1\r\n2\r\n");
}

#[test]
fn a_watch_holds_the_connection_until_the_transaction_ends_or_it_is_taken_back() {
    let (mut rig, client, keys) = rig(1);
    let key = keys[0].as_str();
    rig.ask(client, &["WATCH", key]);
    let own = rig.server(0);
    rig.take(own);
    rig.feed(own, b"+OK\r\n");
    assert_eq!(rig.exchange(client, &["GET", key], own, "$-1\r\n"), "+OK\r\n$-1\r\n");
    assert_eq!(rig.exchange(client, &["MULTI"], own, "+OK\r\n"), "+OK\r\n");
    assert_eq!(rig.exchange(client, &["EXEC"], own, "*-1\r\n"), "*-1\r\n");
    assert_eq!(rig.exchange(client, &["WATCH", key], own, "+OK\r\n"), "+OK\r\n");
    assert_eq!(rig.exchange(client, &["UNWATCH"], own, "+OK\r\n"), "+OK\r\n");
    rig.ask(client, &["GET", key]);
    assert_eq!(rig.connected.len(), 2);
}

#[test]
fn what_is_refused_in_a_transaction_aborts_it() {
    let (mut rig, client, keys) = rig(2);
    for wrong in [&["SELECT", "0"][..], &["GET"], &["NOSUCH"], &["GET", &keys[1]]] {
        rig.ask(client, &["MULTI"]);
        rig.ask(client, &["SET", &keys[0], "1"]);
        let own = rig.server(0);
        rig.take(own);
        rig.feed(own, b"+OK\r\n+QUEUED\r\n");
        rig.take(client);
        rig.ask(client, wrong);
        assert!(rig.take(client).starts_with("-ERR "), "{wrong:?}");
        rig.ask(client, &["EXEC"]);
        assert!(rig.take(client).starts_with("-EXECABORT "), "{wrong:?}");
        assert_eq!(rig.take(own), request(&["DISCARD"]));
        rig.feed(own, b"+OK\r\n");
        assert_eq!(rig.connected.len(), 1, "the connection is as it was");
    }
}

#[test]
fn a_transaction_that_loses_its_server_ends_its_client_and_nothing_runs_outside_of_it() {
    let (mut rig, client, keys) = rig(1);
    let key = keys[0].as_str();
    rig.ask(client, &["MULTI"]);
    rig.ask(client, &["SET", key, "1"]);
    let own = rig.server(0);
    rig.end_receiving(own, BROKEN);
    assert_eq!(rig.take(client), "+OK\r\n-ERR Connection reset by peer\r\n");
    assert!(rig.is_closed(client));
    assert_eq!(rig.connected.len(), 1);
}

#[test]
fn a_late_response_in_a_transaction_ends_it_at_once() {
    let mut options = pool(Protocol::Redis, 1);
    options.request_timeout = Some(Duration::from_millis(100));
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.ask(client, &["MULTI"]);
    rig.ask(client, &["SET", "k", "1"]);
    let own = rig.server(0);
    rig.advance(Duration::from_millis(101));
    assert!(rig.is_closed(own) && rig.is_closed(client));
    assert!(rig.take(client).ends_with("-ERR Connection timed out\r\n"));
    // The time-out is not for those that wait.
    let client = rig.client();
    rig.ask(client, &["BLPOP", "k", "0"]);
    let own = rig.server(0);
    rig.advance(Duration::from_secs(60));
    assert!(!rig.is_closed(own) && !rig.is_closed(client));
}

fn listening(rig: &mut Rig, client: Token) -> Token {
    rig.ask(client, &["SUBSCRIBE", "c"]);
    let own = rig.connected.last().unwrap().0;
    assert_eq!(rig.take(own), request(&["SUBSCRIBE", "c"]));
    rig.feed(own, b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    assert_eq!(rig.take(client), "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    own
}

#[test]
fn who_listens_gets_all_that_the_server_sends() {
    let (mut rig, client, _) = rig(3);
    let own = listening(&mut rig, client);
    for _ in 0..3 {
        // In any pieces.
        let (first, second) = MESSAGE.split_at(13);
        rig.feed(own, first.as_bytes());
        rig.feed(own, second.as_bytes());
        assert_eq!(rig.take(client), MESSAGE);
    }
    let pong = "*2\r\n$4\r\npong\r\n$0\r\n\r\n";
    assert_eq!(rig.exchange(client, &["PING"], own, pong), pong);
    // The answer to PING is not overtaken by one of ours.
    rig.feed(client, [request(&["PING"]), request(&["QUIT"])].concat().as_bytes());
    assert_eq!(rig.take(client), "");
    let asked = rig.take(own);
    let mark = asked.strip_prefix(&request(&["PING"])).unwrap();
    rig.feed(own, format!("{pong}*2\r\n$4\r\npong\r\n{}", &mark[14..]).as_bytes());
    assert_eq!(rig.take(client), format!("{pong}+OK\r\n"));
    assert!(rig.is_closed(client) && rig.is_closed(own));
}

#[test]
fn another_request_is_refused_while_it_listens_and_taken_when_it_does_not() {
    let (mut rig, client, _) = rig(1);
    let own = listening(&mut rig, client);
    rig.ask(client, &["GET", "k"]);
    let mark = rig.take(own);
    assert!(mark.contains("PING"));
    assert_eq!(rig.take(client), "", "the server may have said that all is over");
    rig.feed(own, format!("{MESSAGE}*2\r\n$4\r\npong\r\n{}", &mark[14..]).as_bytes());
    let refusal = rig.take(client);
    assert!(refusal.starts_with(MESSAGE) && refusal.contains("-ERR Can't execute 'get'"));
    rig.feed(client, [request(&["UNSUBSCRIBE"]), request(&["GET", "k"])].concat().as_bytes());
    assert_eq!(rig.take(own), [request(&["UNSUBSCRIBE"]), mark.clone()].concat());
    let over = "*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n";
    rig.feed(own, format!("{over}{}", &mark[14..]).as_bytes());
    assert_eq!(rig.take(client), over);
    let shared = rig.server(0);
    assert_ne!(shared, own);
    assert_eq!(rig.take(shared), request(&["GET", "k"]));
    // The connection is free for another.
    let other = rig.client();
    rig.ask(other, &["BLPOP", "k", "0"]);
    assert_eq!(rig.take(own), request(&["BLPOP", "k", "0"]));
}

#[test]
fn in_resp3_who_listens_asks_for_other_things_as_anybody() {
    let (mut rig, client, _) = rig(1);
    rig.ask(client, &["HELLO", "3"]);
    rig.take(client);
    // What was asked for before is answered before.
    rig.feed(client, [request(&["GET", "k"]), request(&["SUBSCRIBE", "c"])].concat().as_bytes());
    let shared = rig.connected.last().unwrap().0;
    rig.feed(shared, b"%1\r\n$5\r\nproto\r\n:3\r\n");
    rig.feed(shared, b"_\r\n");
    assert_eq!(rig.take(client), "_\r\n");
    let own = rig.connected.last().unwrap().0;
    assert_ne!(own, shared);
    rig.feed(own, b"%1\r\n$5\r\nproto\r\n:3\r\n");
    assert!(rig.take(own).ends_with(&request(&["SUBSCRIBE", "c"])));
    // Nothing overtakes the answer to it.
    rig.ask(client, &["GET", "k"]);
    let mark = rig.take(own);
    let marked = format!("$18\r\n{}", &mark[mark.len() - 20..]);
    rig.take(shared);
    let subscribed = ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";
    rig.feed(own, format!("{subscribed}{marked}").as_bytes());
    assert_eq!(rig.take(client), subscribed);
    assert_eq!(rig.take(shared), request(&["GET", "k"]));
    // Messages come meanwhile; and what is asked now needs no mark.
    let message = MESSAGE.replacen('*', ">", 1);
    rig.feed(own, message.as_bytes());
    assert_eq!(rig.take(client), message);
    rig.feed(shared, b"$1\r\nv\r\n");
    assert_eq!(rig.take(client), "$1\r\nv\r\n");
    assert_eq!(rig.exchange(client, &["INCR", "k"], shared, ":1\r\n"), ":1\r\n");
    rig.ask(client, &["PING"]);
    assert_eq!(rig.take(client), "+PONG\r\n");
    for words in [&["MULTI"][..], &["BLPOP", "k", "0"], &["HELLO", "2"], &["RESET"]] {
        rig.ask(client, words);
        let refusal = rig.take(client);
        assert!(refusal.contains("is not possible while the client listens"), "{refusal}");
    }
    // One that sends no more is answered what it is owed.
    rig.ask(client, &["GET", "k"]);
    rig.end_receiving(client, RecvEnd::Eof);
    rig.feed(shared, b"$1\r\nv\r\n");
    assert_eq!(rig.take(client), "$1\r\nv\r\n");
    assert!(rig.is_closed(client) && rig.is_closed(own) && !rig.is_closed(shared));
}

#[test]
fn a_server_that_says_nothing_more_to_who_listens_runs_out_of_time() {
    let mut options = pool(Protocol::Redis, 1);
    options.request_timeout = Some(Duration::from_millis(100));
    let mut rig = Rig::new(options);
    let client = rig.client();
    let own = listening(&mut rig, client);
    // To say nothing while nothing is asked is no fault.
    rig.advance(Duration::from_secs(60));
    rig.ask(client, &["GET", "k"]);
    rig.advance(Duration::from_millis(99));
    assert!(!rig.is_closed(client));
    rig.advance(Duration::from_millis(1));
    assert!(rig.is_closed(own) && rig.is_closed(client));
}

#[test]
fn who_listens_to_a_server_that_is_lost_is_closed() {
    let (mut rig, client, _) = rig(1);
    let own = listening(&mut rig, client);
    rig.end_receiving(own, RecvEnd::Eof);
    assert!(rig.is_closed(client));
}

#[test]
fn who_does_not_read_what_it_listens_to_is_closed_at_the_limit() {
    let mut options = pool(Protocol::Redis, 1);
    options.client_output_high_water = 1000;
    options.client_output_max = 1000;
    let mut rig = Rig::new(options);
    let client = rig.client();
    let own = listening(&mut rig, client);
    rig.hold_client_sends = true;
    for _ in 0..1000 / MESSAGE.len() + 2 {
        rig.feed(own, MESSAGE.as_bytes());
    }
    assert!(rig.is_closed(client) && rig.is_closed(own));
}

/// The server that channels live on, of two.
fn channels_at(rig: &Rig, own: Token) -> usize {
    let address = rig.connected.iter().find(|(token, _)| *token == own).unwrap().1.clone();
    (0..2).find(|index| rig::address_of(*index) == address).unwrap()
}

#[test]
fn who_listens_is_closed_when_channels_move_to_another_server() {
    let mut options = pool(Protocol::Redis, 2);
    options.health.eject = true;
    options.health.failure_limit = 1;
    let keys = keys(Protocol::Redis, 2);
    let mut rig = Rig::new(options);
    let client = rig.client();
    let own = listening(&mut rig, client);
    let server = channels_at(&rig, own);
    let other = rig.client();
    rig.ask(other, &["GET", &keys[server]]);
    let shared = rig.server(server);
    rig.end_receiving(shared, BROKEN);
    assert!(rig.is_closed(client), "nobody publishes there any more");
}

#[test]
fn a_reload_that_takes_the_server_away_closes_who_listens_there_and_lets_others_finish() {
    let options = pool(Protocol::Redis, 2);
    let keys = keys(Protocol::Redis, 2);
    let mut rig = Rig::new(options.clone());
    let listener = rig.client();
    let own = listening(&mut rig, listener);
    let server = channels_at(&rig, own);
    let waiting = rig.client();
    rig.ask(waiting, &["BLPOP", &keys[server], "0"]);
    let waited = rig.server(server);
    let mut less = options;
    less.servers.remove(server);
    rig.proxy.reload(vec![Some(less)]);
    rig.proxy.set_address(0, 0, Some(rig::address_of(1 - server)));
    rig.advance(Duration::from_millis(1));
    assert!(rig.is_closed(listener) && rig.is_closed(own));
    assert!(!rig.is_closed(waiting) && !rig.is_closed(waited));
    rig.feed(waited, b"*-1\r\n");
    assert_eq!(rig.take(waiting), "*-1\r\n");
    assert!(rig.is_closed(waited), "it is not kept for others");
}

#[test]
fn beyond_the_limit_a_request_fails_at_once_and_an_idle_connection_makes_room() {
    let mut options = pool(Protocol::Redis, 2);
    options.dedicated_connections_max = 1;
    let keys = keys(Protocol::Redis, 2);
    let mut rig = Rig::new(options);
    let (first, second) = (rig.client(), rig.client());
    rig.ask(first, &["BLPOP", &keys[0], "0"]);
    let own = rig.server(0);
    rig.ask(second, &["BLPOP", &keys[1], "0"]);
    assert_eq!(rig.take(second), "-ERR too many dedicated connections\r\n");
    rig.feed(own, b"*-1\r\n");
    rig.ask(second, &["BLPOP", &keys[1], "0"]);
    assert!(rig.is_closed(own));
    assert!(rig.has_server(1));
    assert!(!rig.is_closed(second));
}

#[test]
fn keys_of_several_servers_are_refused() {
    let (mut rig, client, keys) = rig(2);
    for words in [&["BLPOP", &keys[0], &keys[1], "0"][..], &["WATCH", &keys[0], &keys[1]]] {
        rig.ask(client, words);
        assert_eq!(rig.take(client), "-ERR the keys are on several servers\r\n");
    }
    assert!(rig.connected.is_empty());
}

#[test]
fn a_drain_closes_who_listens_and_waits_for_who_waits() {
    let (mut rig, listener, keys) = rig(1);
    listening(&mut rig, listener);
    let waiting = rig.client();
    rig.ask(waiting, &["BLPOP", &keys[0], "0"]);
    let own = rig.server(0);
    rig.proxy.drain();
    rig.advance(Duration::from_secs(2));
    assert!(rig.is_closed(listener) && !rig.is_closed(waiting));
    rig.feed(own, b"*-1\r\n");
    assert_eq!(rig.take(waiting), "*-1\r\n");
    assert!(rig.is_closed(waiting));
}
