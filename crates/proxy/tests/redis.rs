//! The core with RESP2 clients and servers: order, pairing, splitting, failures, limits.

#![allow(clippy::unwrap_used)]

mod rig;

use std::time::Duration;

use base::{Kind, RecvEnd, SocketError};
use protocol::Protocol;
use rig::{Rig, keys, pool};

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

fn rig(servers_count: usize) -> Rig {
    Rig::new(pool(Protocol::Redis, servers_count))
}

/// Two pipelined requests go to two servers; the second answers first; the client still sees the
/// answers in the order in which it asked.
#[test]
fn responses_keep_the_order_of_requests() {
    let mut rig = rig(2);
    let keys = keys(Protocol::Redis, 2);
    let client = rig.client();
    rig.feed(client, &[command(&["GET", &keys[0]]), command(&["GET", &keys[1]])].concat());
    let (first, second) = (rig.server(0), rig.server(1));
    assert_eq!(rig.take(first), String::from_utf8(command(&["GET", &keys[0]])).unwrap());
    rig.feed(second, b"$1\r\nb\r\n");
    assert_eq!(rig.take(client), "");
    rig.feed(first, b"$1\r\na\r\n");
    assert_eq!(rig.take(client), "$1\r\na\r\n$1\r\nb\r\n");
}

#[test]
fn requests_of_one_turn_leave_in_one_send_and_their_responses_too() {
    let mut rig = rig(1);
    let client = rig.client();
    rig.feed(client, &command(&["GET", "a"]).repeat(64));
    assert_eq!(rig.sends[&Kind::Server], 1);
    let server = rig.server(0);
    rig.feed(server, &b"$1\r\nx\r\n".repeat(64));
    assert_eq!(rig.sends[&Kind::Client], 1);
    assert_eq!(rig.take(client), "$1\r\nx\r\n".repeat(64));
}

#[test]
fn any_cut_of_the_stream_gives_the_same_conversation() {
    let requests = [
        command(&["SET", "a", "1"]),
        command(&["PING"]),
        command(&["GET", "a"]),
        command(&["SET", "b", &"v".repeat(300)]),
    ]
    .concat();
    let responses = [b"+OK\r\n".to_vec(), b"$1\r\n1\r\n".to_vec(), b"+OK\r\n".to_vec()].concat();
    let wanted = "+OK\r\n+PONG\r\n$1\r\n1\r\n+OK\r\n";
    for size in 1..requests.len() {
        let mut rig = rig(1);
        let client = rig.client();
        for piece in requests.chunks(size) {
            rig.feed(client, piece);
        }
        let server = rig.server(0);
        let forwarded = rig.take(server);
        let expected = [&requests[..27], &requests[41..]].concat();
        assert_eq!(forwarded.as_bytes(), expected, "cut every {size} bytes");
        for piece in responses.chunks(size) {
            rig.feed(server, piece);
        }
        assert_eq!(rig.take(client), wanted, "cut every {size} bytes");
        assert_eq!(rig.proxy.buffered_bytes(), 0);
    }
}

#[test]
fn mget_becomes_one_request_a_server_and_one_reply() {
    let mut rig = rig(2);
    let keys = keys(Protocol::Redis, 2);
    let client = rig.client();
    rig.feed(client, &command(&["MGET", &keys[1], &keys[0], &keys[1]]));
    let (first, second) = (rig.server(0), rig.server(1));
    assert_eq!(rig.take(first).into_bytes(), command(&["mget", &keys[0]]));
    assert_eq!(rig.take(second).into_bytes(), command(&["mget", &keys[1], &keys[1]]));
    rig.feed(second, b"*2\r\n$1\r\nb\r\n$-1\r\n");
    assert_eq!(rig.take(client), "");
    rig.feed(first, b"*1\r\n$1\r\na\r\n");
    assert_eq!(rig.take(client), "*3\r\n$1\r\nb\r\n$1\r\na\r\n$-1\r\n");
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

#[test]
fn a_script_is_loaded_on_every_server_in_the_form_in_which_it_came() {
    let mut rig = rig(2);
    let client = rig.client();
    let load = command(&["SCRIPT", "load", "return 1"]);
    let keys = keys(Protocol::Redis, 2);
    let get = command(&["GET", &keys[0]]);
    rig.feed(client, &[get.clone(), load.clone(), b"script exists 1f0\r\n".to_vec()].concat());
    let exists = command(&["script", "exists", "1f0"]);
    let (first, second) = (rig.server(0), rig.server(1));
    assert_eq!(rig.take(first).into_bytes(), [get, load.clone(), exists.clone()].concat());
    assert_eq!(rig.take(second).into_bytes(), [load, exists].concat());
    rig.feed(second, b"$3\r\n1f0\r\n*1\r\n:1\r\n");
    assert_eq!(rig.take(client), "");
    rig.feed(first, b"$1\r\nv\r\n$3\r\n1f0\r\n*1\r\n:0\r\n");
    assert_eq!(rig.take(client), "$1\r\nv\r\n$3\r\n1f0\r\n*1\r\n:0\r\n");
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

#[test]
fn a_script_that_one_server_could_not_load_is_an_error() {
    let mut rig = rig(2);
    let client = rig.client();
    rig.feed(client, &command(&["SCRIPT", "LOAD", "return 1"]));
    let (first, second) = (rig.server(0), rig.server(1));
    rig.feed(first, b"$3\r\n1f0\r\n");
    rig.end_receiving(second, RecvEnd::Error(SocketError::ConnectionReset));
    assert_eq!(rig.take(client), "-ERR Connection reset by peer\r\n");
    assert!(!rig.is_closed(client));
    rig.feed(client, &command(&["SCRIPT", "FLUSH"]));
    assert_eq!(rig.take(client), "-ERR 'script' is not supported by the proxy\r\n");
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

#[test]
fn a_split_request_with_one_owner_goes_as_it_is() {
    let mut rig = rig(1);
    let client = rig.client();
    rig.feed(client, &command(&["DEL", "a", "b"]));
    let server = rig.server(0);
    assert_eq!(rig.take(server).into_bytes(), command(&["DEL", "a", "b"]));
    rig.feed(server, b":2\r\n");
    assert_eq!(rig.take(client), ":2\r\n");
}

#[test]
fn a_failed_part_fails_the_whole_and_the_client_stays() {
    let mut rig = rig(2);
    let keys = keys(Protocol::Redis, 2);
    let client = rig.client();
    rig.feed(client, &command(&["DEL", &keys[0], &keys[1]]));
    let (first, second) = (rig.server(0), rig.server(1));
    rig.end_receiving(second, RecvEnd::Error(SocketError::ConnectionReset));
    assert_eq!(rig.take(client), "");
    rig.feed(first, b":1\r\n");
    assert_eq!(rig.take(client), "-ERR Connection reset by peer\r\n");
    assert!(!rig.is_closed(client));
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

#[test]
fn a_broken_server_connection_fails_exactly_the_requests_that_it_carried() {
    let mut rig = rig(2);
    let keys = keys(Protocol::Redis, 2);
    let (one, two) = (rig.client(), rig.client());
    rig.feed(one, &[command(&["GET", &keys[0]]), command(&["GET", &keys[1]])].concat());
    rig.feed(two, &command(&["GET", &keys[0]]));
    let (first, second) = (rig.server(0), rig.server(1));
    rig.feed(first, b"$1\r\n");
    rig.end_receiving(first, RecvEnd::Eof);
    assert_eq!(rig.take(two), "-ERR unknown\r\n");
    rig.feed(second, b"$1\r\nb\r\n");
    assert_eq!(rig.take(one), "-ERR unknown\r\n$1\r\nb\r\n");
    assert!(rig.is_closed(first) && !rig.is_closed(second));
    // The next request opens a new connection.
    rig.feed(two, &command(&["GET", &keys[0]]));
    let reopened = rig.server(0);
    assert_ne!(reopened, first);
    rig.feed(reopened, b"$-1\r\n");
    assert_eq!(rig.take(two), "$-1\r\n");
}

#[test]
fn a_timeout_fails_the_request_and_not_its_neighbours() {
    let mut options = pool(Protocol::Redis, 1);
    options.request_timeout = Some(Duration::from_millis(400));
    let mut rig = Rig::new(options);
    let (one, two) = (rig.client(), rig.client());
    rig.feed(one, &command(&["GET", "slow"]));
    rig.advance(Duration::from_millis(200));
    rig.feed(two, &command(&["GET", "b"]));
    rig.advance(Duration::from_millis(199));
    assert_eq!(rig.take(one), "");
    rig.advance(Duration::from_millis(2));
    assert_eq!(rig.take(one), "-ERR Connection timed out\r\n");
    let server = rig.server(0);
    assert!(!rig.is_closed(server));
    // The late answer goes to nobody.
    rig.feed(server, b"$4\r\nlate\r\n$1\r\nb\r\n");
    assert_eq!(rig.take(one), "");
    assert_eq!(rig.take(two), "$1\r\nb\r\n");
}

#[test]
fn a_server_that_stays_silent_is_given_up() {
    let mut options = pool(Protocol::Redis, 1);
    options.request_timeout = Some(Duration::from_millis(400));
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, &command(&["GET", "a"]));
    let server = rig.server(0);
    rig.advance(Duration::from_millis(401));
    assert_eq!(rig.take(client), "-ERR Connection timed out\r\n");
    rig.feed(client, &command(&["GET", "b"]));
    rig.advance(Duration::from_millis(400));
    rig.advance(Duration::from_millis(2));
    assert_eq!(rig.take(client), "-ERR Connection timed out\r\n");
    assert!(rig.is_closed(server));
}

#[test]
fn a_server_that_refuses_is_not_asked_again_at_once() {
    let mut rig = rig(1);
    rig.refuse = Some(SocketError::ConnectionRefused);
    let client = rig.client();
    rig.feed(client, &command(&["GET", "a"]).repeat(3));
    assert_eq!(rig.take(client), "-ERR Connection refused\r\n".repeat(3));
    assert_eq!(rig.proxy.stats().pools[0].servers[0].error_count, 1);
    rig.feed(client, &command(&["GET", "a"]));
    assert_eq!(rig.proxy.stats().pools[0].servers[0].error_count, 1);
    rig.advance(Duration::from_secs(1));
    rig.refuse = None;
    rig.feed(client, &command(&["GET", "a"]));
    let server = rig.server(0);
    rig.feed(server, b"+x\r\n");
    assert!(rig.take(client).ends_with("+x\r\n"));
}

#[test]
fn a_response_that_nobody_asked_for_ends_the_connection() {
    let mut rig = rig(1);
    let client = rig.client();
    rig.feed(client, &command(&["GET", "a"]));
    let server = rig.server(0);
    rig.feed(server, b"$1\r\na\r\n$6\r\nsecret\r\n");
    assert_eq!(rig.take(client), "$1\r\na\r\n");
    assert!(rig.is_closed(server));
    rig.feed(client, &command(&["GET", "b"]));
    assert_eq!(rig.take(client), "");
}

#[test]
fn nonsense_from_a_server_fails_what_it_owes() {
    let mut rig = rig(1);
    let client = rig.client();
    rig.feed(client, &command(&["GET", "a"]).repeat(2));
    let server = rig.server(0);
    rig.feed(server, b"what?\r\n");
    assert_eq!(rig.take(client), "-ERR Invalid argument\r\n".repeat(2));
    assert!(rig.is_closed(server) && !rig.is_closed(client));
}

#[test]
fn a_client_that_left_gets_nothing_and_shifts_nobody() {
    let mut rig = rig(1);
    let (one, two) = (rig.client(), rig.client());
    rig.feed(one, &command(&["GET", "a"]));
    rig.feed(two, &command(&["GET", "b"]));
    let server = rig.server(0);
    rig.end_receiving(one, RecvEnd::Error(SocketError::ConnectionReset));
    assert!(rig.is_closed(one));
    rig.feed(server, b"$1\r\na\r\n$1\r\nb\r\n");
    assert_eq!(rig.take(two), "$1\r\nb\r\n");
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

#[test]
fn a_client_that_sends_no_more_still_gets_what_it_asked_for() {
    let mut rig = rig(1);
    let client = rig.client();
    rig.feed(client, &command(&["GET", "a"]).repeat(50));
    rig.end_receiving(client, RecvEnd::Eof);
    assert!(!rig.is_closed(client));
    let server = rig.server(0);
    rig.feed(server, &b"$1\r\na\r\n".repeat(50));
    assert_eq!(rig.take(client), "$1\r\na\r\n".repeat(50));
    assert!(rig.is_closed(client));
}

#[test]
fn quit_is_answered_after_everything_before_it_and_nothing_after_it() {
    let mut rig = rig(1);
    let client = rig.client();
    let bytes = [command(&["GET", "a"]), command(&["QUIT"]), command(&["GET", "b"])].concat();
    rig.feed(client, &bytes);
    let server = rig.server(0);
    assert_eq!(rig.take(server).into_bytes(), command(&["GET", "a"]));
    rig.feed(server, b"$1\r\na\r\n");
    assert_eq!(rig.take(client), "$1\r\na\r\n+OK\r\n");
    assert!(rig.is_closed(client));
}

#[test]
fn a_client_at_its_limit_of_requests_is_paused_and_goes_on() {
    let mut options = pool(Protocol::Redis, 1);
    options.client_requests_inflight_max = 10;
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, &command(&["GET", "a"]).repeat(100));
    let server = rig.server(0);
    let mut asked = 0;
    for _ in 0..100 {
        let requests = rig.take(server).matches("GET").count();
        if requests == 0 {
            break;
        }
        assert!(requests <= 10, "{requests} at once");
        asked += requests;
        rig.feed(server, &b"$1\r\na\r\n".repeat(requests));
    }
    assert_eq!(asked, 100);
    assert_eq!(rig.take(client), "$1\r\na\r\n".repeat(100));
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

#[test]
fn a_paused_client_is_not_read_until_it_goes_on() {
    let mut options = pool(Protocol::Redis, 1);
    options.client_requests_inflight_max = 1;
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, &command(&["GET", "a"]).repeat(3));
    rig.end_receiving(client, RecvEnd::Credit);
    assert!(!rig.is_receiving(client));
    let server = rig.server(0);
    rig.feed(server, b"$1\r\na\r\n");
    rig.feed(server, b"$1\r\na\r\n");
    rig.feed(server, b"$1\r\na\r\n");
    assert!(rig.is_receiving(client));
}

#[test]
fn a_client_that_never_reads_is_closed_at_its_limit_and_nobody_else_is() {
    let mut options = pool(Protocol::Redis, 1);
    options.client_output_high_water = 1000;
    options.client_output_max = 10_000;
    let mut rig = Rig::new(options);
    let (greedy, other) = (rig.client(), rig.client());
    rig.hold_client_sends = true;
    rig.feed(greedy, &command(&["GET", "a"]).repeat(200));
    let server = rig.server(0);
    let reply = format!("$100\r\n{}\r\n", "x".repeat(100));
    for _ in 0..200 {
        rig.feed(server, reply.as_bytes());
    }
    assert!(rig.is_closed(greedy));
    rig.release_held();
    rig.feed(other, &command(&["GET", "b"]));
    rig.feed(server, b"$1\r\nb\r\n");
    assert_eq!(rig.take(other), "$1\r\nb\r\n");
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

/// Found by the simulation, with seed 2004281: they were counted, but nobody looked.
#[test]
fn our_own_replies_behind_a_slow_one_count_towards_the_limit() {
    let mut options = pool(Protocol::Redis, 1);
    options.client_output_high_water = 1000;
    options.client_output_max = 1000;
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, &command(&["GET", "a"]));
    rig.feed(client, &command(&["ECHO", &"x".repeat(2000)]));
    assert!(rig.is_closed(client));
    rig.feed(rig.server(0), b"$1\r\na\r\n");
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

#[test]
fn a_half_sent_request_is_given_up_after_a_while() {
    let mut options = pool(Protocol::Redis, 1);
    options.client_stall_timeout = Some(Duration::from_secs(10));
    let mut rig = Rig::new(options);
    let (stalled, idle) = (rig.client(), rig.client());
    rig.feed(stalled, b"*2\r\n$3\r\nGE");
    rig.advance(Duration::from_secs(9));
    rig.feed(stalled, b"T");
    rig.advance(Duration::from_secs(9));
    assert!(!rig.is_closed(stalled));
    rig.advance(Duration::from_secs(2));
    assert!(rig.is_closed(stalled));
    assert!(!rig.is_closed(idle));
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

#[test]
fn large_requests_are_refused_while_the_worker_holds_too_much() {
    let limits = proxy::options::WorkerLimits { buffered_bytes_max: 1 << 20, ..Default::default() };
    let mut rig = Rig::with_limits(pool(Protocol::Redis, 1), limits);
    let (large, small) = (rig.client(), rig.client());
    rig.feed(large, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000000\r\n");
    for _ in 0..40 {
        rig.feed(large, &vec![b'x'; 50_000]);
    }
    assert_eq!(rig.take(large), "-ERR out of memory\r\n");
    assert!(rig.is_closed(large));
    rig.feed(small, &command(&["PING"]));
    assert_eq!(rig.take(small), "+PONG\r\n");
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

#[test]
fn a_server_connection_owes_no_more_than_it_may() {
    let mut options = pool(Protocol::Redis, 1);
    options.server_requests_inflight_max = 5;
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, &command(&["GET", "a"]).repeat(7));
    let server = rig.server(0);
    assert_eq!(rig.take(server).matches("GET").count(), 5);
    rig.feed(server, &b"$1\r\na\r\n".repeat(5));
    let queue_full = "-ERR server queue is full\r\n".repeat(2);
    assert_eq!(rig.take(client), "$1\r\na\r\n".repeat(5) + &queue_full);
}

#[test]
fn who_has_not_given_the_password_may_send_little() {
    let mut options = pool(Protocol::Redis, 1);
    options.password = Some(b"secret".to_vec());
    let mut rig = Rig::new(options);
    for (header, text) in
        [("*2\r\n$3\r\nGET\r\n$16385\r\n", "bulk length"), ("*11\r\n", "multibulk length")]
    {
        let client = rig.client();
        rig.feed(client, header.as_bytes());
        assert_eq!(rig.take(client), format!("-ERR Protocol error: invalid {text}\r\n"));
        // Behind the password there is no such limit.
        let client = rig.client();
        rig.feed(client, &command(&["HELLO", "2", "AUTH", "default", "wrong"]));
        assert!(rig.take(client).starts_with("-WRONGPASS "));
        rig.feed(client, &command(&["AUTH", "secret"]));
        rig.feed(client, header.as_bytes());
        assert_eq!(rig.take(client), "+OK\r\n");
    }
}

#[test]
fn where_no_password_is_set_any_is_right_for_a_user_who_is_named() {
    let mut rig = Rig::new(pool(Protocol::Redis, 1));
    let client = rig.client();
    rig.feed(client, &command(&["AUTH", "x"]));
    assert_eq!(rig.take(client), "-ERR Client sent AUTH, but no password is set\r\n");
    rig.feed(client, &command(&["AUTH", "default", "x"]));
    assert_eq!(rig.take(client), "+OK\r\n");
    rig.feed(client, &command(&["AUTH", "other", "x"]));
    assert!(rig.take(client).starts_with("-WRONGPASS "));
    rig.feed(client, &command(&["HELLO", "3", "AUTH", "default", "x"]));
    assert!(rig.take(client).starts_with("%7\r\n"));
}

#[test]
fn clients_and_servers_authenticate() {
    let mut options = pool(Protocol::Redis, 1);
    options.password = Some(b"secret".to_vec());
    options.database = 3;
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, &[command(&["GET", "a"]), command(&["PING"])].concat());
    assert_eq!(rig.take(client), "-NOAUTH Authentication required.\r\n".repeat(2));
    rig.feed(client, &command(&["AUTH", "wrong"]));
    assert_eq!(rig.take(client), "-ERR invalid password\r\n");
    rig.feed(client, &[command(&["AUTH", "secret"]), command(&["GET", "a"])].concat());
    assert_eq!(rig.take(client), "+OK\r\n");
    let server = rig.server(0);
    let wanted =
        [command(&["AUTH", "secret"]), command(&["SELECT", "3"]), command(&["GET", "a"])].concat();
    assert_eq!(rig.take(server).into_bytes(), wanted);
    rig.feed(server, b"+OK\r\n+OK\r\n$1\r\na\r\n");
    assert_eq!(rig.take(client), "$1\r\na\r\n");
    let stats = rig.proxy.stats().pools[0].servers[0];
    assert_eq!((stats.requests, stats.responses, stats.response_bytes), (1, 1, 7));
}

#[test]
fn a_large_value_passes_in_both_directions() {
    let mut rig = rig(1);
    let client = rig.client();
    let value = "v".repeat(3_000_000);
    let request = command(&["SET", "a", &value]);
    for piece in request.chunks(65_536) {
        rig.feed(client, piece);
    }
    let server = rig.server(0);
    assert_eq!(rig.take(server).len(), request.len());
    rig.feed(server, b"+OK\r\n");
    rig.feed(client, &command(&["GET", "a"]));
    let reply = format!("${}\r\n{value}\r\n", value.len());
    for piece in reply.as_bytes().chunks(65_536) {
        rig.feed(server, piece);
    }
    assert_eq!(rig.take(client), format!("+OK\r\n{reply}"));
    assert_eq!(rig.proxy.buffered_bytes(), 0);
}

/// The client has said its last word and waits, paused, behind a limit; a request that is answered
/// at once must not make it look done while more of its bytes are to be parsed.
#[test]
fn a_paused_client_that_sends_no_more_gets_every_answer() {
    let mut options = pool(Protocol::Redis, 1);
    options.client_requests_inflight_max = 1;
    let mut rig = Rig::new(options);
    let client = rig.client();
    let bytes = [command(&["GET", "a"]), command(&["PING"]), command(&["GET", "b"])].concat();
    rig.feed(client, &bytes);
    rig.end_receiving(client, RecvEnd::Eof);
    let server = rig.server(0);
    rig.feed(server, b"$1\r\na\r\n");
    rig.feed(server, b"$1\r\nb\r\n");
    assert_eq!(rig.take(client), "$1\r\na\r\n+PONG\r\n$1\r\nb\r\n");
    assert!(rig.is_closed(client));
}

#[test]
fn a_password_may_come_as_an_inline_command() {
    let mut options = pool(Protocol::Redis, 1);
    options.password = Some(b"secret".to_vec());
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, b"PING\r\n  AUTH   \"secret\"\r\nPING\r\n");
    assert_eq!(rig.take(client), "-NOAUTH Authentication required.\r\n+OK\r\n+PONG\r\n");
}

#[test]
fn an_inline_request_with_many_keys_is_split_too() {
    let mut rig = rig(2);
    let keys = keys(Protocol::Redis, 2);
    let client = rig.client();
    rig.feed(client, format!("MGET {}  {}\r\n", keys[0], keys[1]).as_bytes());
    let (first, second) = (rig.server(0), rig.server(1));
    assert_eq!(rig.take(first).into_bytes(), command(&["mget", &keys[0]]));
    assert_eq!(rig.take(second).into_bytes(), command(&["mget", &keys[1]]));
    rig.feed(first, b"*1\r\n$1\r\na\r\n");
    rig.feed(second, b"*1\r\n$-1\r\n");
    assert_eq!(rig.take(client), "*2\r\n$1\r\na\r\n$-1\r\n");
}

/// The answer to nonsense says little of how many bytes it stands for.
#[test]
fn nonsense_that_comes_in_pieces_is_answered_and_ends_the_client() {
    for cut in 1..14 {
        let mut rig = rig(1);
        let client = rig.client();
        let bytes = b"*1\r\n$3\r\nabcd\r\n";
        rig.feed(client, &bytes[..cut]);
        rig.feed(client, &bytes[cut..]);
        let reply = rig.take(client);
        assert!(reply.starts_with("-ERR Protocol error"), "cut at {cut}: {reply}");
        assert!(rig.is_closed(client));
    }
}

#[test]
fn draining_closes_clients_when_they_are_owed_nothing() {
    let mut rig = rig(1);
    let (idle, busy, half) = (rig.client(), rig.client(), rig.client());
    let crossing = rig.client();
    for asked in [idle, crossing] {
        rig.feed(asked, &command(&["PING"]));
        assert_eq!(rig.take(asked), "+PONG\r\n");
    }
    rig.feed(busy, &command(&["GET", "a"]));
    rig.feed(half, b"*2\r\n$3\r\nGET\r\n");
    rig.proxy.drain();
    // It was sent before, and the kernel was slow.
    rig.advance(Duration::from_millis(9));
    rig.feed(crossing, &command(&["PING"]));
    assert_eq!(rig.take(crossing), "+PONG\r\n");
    assert!(rig.is_closed(crossing) && !rig.is_closed(idle));
    rig.advance(Duration::from_millis(2));
    assert!(rig.is_closed(idle) && !rig.is_closed(busy) && !rig.is_closed(half));
    rig.feed(half, b"$1\r\nb\r\n");
    let server = rig.server(0);
    rig.feed(server, b"$1\r\na\r\n$1\r\nb\r\n");
    assert_eq!(rig.take(busy), "$1\r\na\r\n");
    assert_eq!(rig.take(half), "$1\r\nb\r\n");
    assert!(rig.is_closed(busy) && rig.is_closed(half));
}

/// Found by a test with real servers: replies that wait behind one that never comes are output too.
#[test]
fn replies_that_wait_for_their_turn_are_limited() {
    let mut options = pool(Protocol::Redis, 2);
    options.client_output_max = 10_000;
    options.client_output_high_water = 1000;
    let mut rig = Rig::new(options);
    let keys = keys(Protocol::Redis, 2);
    let (client, other) = (rig.client(), rig.client());
    let requests = [command(&["GET", &keys[0]]), command(&["GET", &keys[1]]).repeat(200)].concat();
    rig.feed(client, &requests);
    let (_silent, second) = (rig.server(0), rig.server(1));
    let reply = format!("$100\r\n{}\r\n", "x".repeat(100));
    rig.feed(second, reply.repeat(50).as_bytes());
    assert!(!rig.is_closed(client));
    rig.feed(second, reply.repeat(50).as_bytes());
    assert!(rig.is_closed(client));
    rig.feed(second, reply.repeat(100).as_bytes());
    rig.feed(other, &command(&["GET", &keys[1]]));
    rig.feed(second, b"$1\r\nb\r\n");
    assert_eq!(rig.take(other), "$1\r\nb\r\n");
}

/// The handshake stands first in the connection's queue and is never answered.
#[test]
fn a_server_that_does_not_answer_the_handshake_is_given_up() {
    let mut options = pool(Protocol::Redis, 1);
    options.database = 1;
    options.request_timeout = Some(Duration::from_millis(100));
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, &command(&["GET", "a"]));
    let server = rig.server(0);
    rig.advance(Duration::from_millis(101));
    assert_eq!(rig.take(client), "-ERR Connection timed out\r\n");
    assert!(!rig.is_closed(server));
    assert!(rig.proxy.poll_deadline().is_some());
    rig.advance(Duration::from_millis(101));
    assert!(rig.is_closed(server));
}

#[test]
fn a_server_that_does_not_answer_the_handshake_is_given_up_without_a_request_too() {
    let mut options = pool(Protocol::Redis, 1);
    options.database = 1;
    options.preconnect = true;
    let mut rig = Rig::new(options);
    rig.proxy.preconnect();
    rig.advance(Duration::ZERO);
    let server = rig.server(0);
    rig.advance(Duration::from_secs(5));
    rig.advance(Duration::from_secs(6));
    assert!(rig.is_closed(server));
}

#[test]
fn a_paused_client_is_not_refused_for_what_it_has_sent_whole() {
    let limits = proxy::options::WorkerLimits { buffered_bytes_max: 1000, ..Default::default() };
    let mut options = pool(Protocol::Redis, 1);
    options.client_requests_inflight_max = 10;
    let mut rig = Rig::with_limits(options, limits);
    let client = rig.client();
    let request = command(&["SET", "a", &"x".repeat(100)]);
    rig.feed(client, &request.repeat(1000));
    assert!(!rig.is_closed(client));
    let server = rig.server(0);
    let mut answered = 0;
    while answered < 1000 {
        let requests = rig.take(server).matches("SET").count();
        assert!(requests > 0);
        answered += requests;
        rig.feed(server, &b"+OK\r\n".repeat(requests));
    }
    assert_eq!(rig.take(client), "+OK\r\n".repeat(1000));
}

/// Such a client's first request is most likely on its way: closing it would lose the request.
#[test]
fn a_client_that_came_just_before_or_while_draining_may_ask_once_and_is_not_waited_for() {
    let mut rig = rig(1);
    let long_silent = rig.client();
    rig.advance(Duration::from_millis(999));
    let before = [rig.client(), rig.client()];
    rig.advance(Duration::from_millis(1));
    rig.proxy.drain();
    let during = [rig.client(), rig.client()];
    rig.advance(Duration::from_millis(998));
    assert!(rig.is_closed(long_silent));
    for asking in [before[0], during[0]] {
        assert!(!rig.is_closed(asking));
        rig.feed(asking, &command(&["GET", "a"]));
    }
    rig.advance(Duration::from_millis(3));
    assert!(rig.is_closed(before[1]) && rig.is_closed(during[1]));
    let server = rig.server(0);
    rig.feed(server, &b"$1\r\na\r\n".repeat(2));
    for asking in [before[0], during[0]] {
        assert_eq!(rig.take(asking), "$1\r\na\r\n");
        assert!(rig.is_closed(asking));
    }
}
