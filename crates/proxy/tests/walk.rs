//! The core with requests about the keys of all servers.

#![allow(clippy::unwrap_used)]

mod rig;

use base::{RecvEnd, SocketError};
use protocol::Protocol;
use rig::{Rig, address_of, pool};

/// The cursor in the reply to SCAN.
fn cursor(reply: &str) -> u64 {
    reply.split("\r\n").nth(2).unwrap().parse().unwrap()
}

#[test]
fn a_scan_goes_from_server_to_server() {
    let mut rig = Rig::new(pool(Protocol::Redis, 2));
    let client = rig.client();
    rig.feed(client, b"SCAN 0 COUNT 5\r\n");
    let first = rig.server(0);
    let count = "$5\r\nCOUNT\r\n$1\r\n5\r\n";
    assert_eq!(rig.take(first), format!("*4\r\n$4\r\nSCAN\r\n$1\r\n0\r\n{count}"));
    rig.feed(first, b"*2\r\n$2\r\n48\r\n*1\r\n$1\r\na\r\n");
    let reply = rig.take(client);
    assert!(reply.ends_with("*1\r\n$1\r\na\r\n"), "{reply}");
    rig.feed(client, format!("SCAN {} COUNT 5\r\n", cursor(&reply)).as_bytes());
    assert_eq!(rig.take(first), format!("*4\r\n$4\r\nSCAN\r\n$2\r\n48\r\n{count}"));
    rig.feed(first, b"*2\r\n$1\r\n0\r\n*0\r\n");
    let reply = rig.take(client);
    rig.feed(client, format!("SCAN {}\r\n", cursor(&reply)).as_bytes());
    let second = rig.server(1);
    assert_eq!(rig.take(second), "*2\r\n$4\r\nSCAN\r\n$1\r\n0\r\n");
    rig.feed(second, b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\nb\r\n");
    assert_eq!(rig.take(client), "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nb\r\n");
    rig.proxy.audit();
}

#[test]
fn keys_of_every_server_are_put_together_in_order() {
    let mut rig = Rig::new(pool(Protocol::Redis, 2));
    let client = rig.client();
    rig.feed(client, b"KEYS *\r\nDBSIZE\r\n");
    let (first, second) = (rig.server(0), rig.server(1));
    rig.feed(second, b"*1\r\n$1\r\nb\r\n:1\r\n");
    rig.feed(first, b"*2\r\n$1\r\na\r\n$1\r\nc\r\n:2\r\n");
    assert_eq!(rig.take(client), "*3\r\n$1\r\na\r\n$1\r\nc\r\n$1\r\nb\r\n:3\r\n");
    rig.proxy.audit();
}

#[test]
fn no_key_is_left_out_in_silence() {
    let mut options = pool(Protocol::Redis, 2);
    options.health.eject = true;
    options.health.failure_limit = 1;
    let mut rig = Rig::new(options);
    let client = rig.client();
    rig.feed(client, b"SCAN 0\r\n");
    let first = rig.server(0);
    rig.feed(first, b"*2\r\n$1\r\n0\r\n*0\r\n");
    let next = cursor(&rig.take(client));
    rig.feed(client, b"DBSIZE\r\n");
    let second = rig.server(1);
    rig.feed(first, b":1\r\n");
    rig.end_receiving(second, RecvEnd::Error(SocketError::ConnectionReset));
    assert_eq!(rig.take(client), "-ERR Connection reset by peer\r\n");
    // It is ejected now, and gets nothing.
    let opened = rig.connected.len();
    for request in ["KEYS *\r\n", "RANDOMKEY\r\n", "DBSIZE\r\n", &format!("SCAN {next}\r\n")] {
        rig.take(first);
        rig.feed(client, request.as_bytes());
        if !rig.take(first).is_empty() {
            rig.feed(first, b":1\r\n");
        }
        assert!(rig.take(client).starts_with("-ERR "), "{request}");
    }
    assert_eq!(rig.connected.len(), opened);
    rig.proxy.audit();
}

#[test]
fn a_scan_does_not_go_on_through_other_servers() {
    let mut rig = Rig::new(pool(Protocol::Redis, 2));
    let client = rig.client();
    rig.feed(client, b"SCAN 0\r\n");
    let first = rig.server(0);
    rig.feed(first, b"*2\r\n$1\r\n9\r\n*0\r\n");
    let next = cursor(&rig.take(client));
    let mut options = pool(Protocol::Redis, 3);
    options.servers.remove(0);
    rig.proxy.reload(vec![Some(options)]);
    rig.proxy.set_address(0, 1, Some(address_of(2)));
    rig.feed(client, format!("SCAN {next}\r\n").as_bytes());
    let told = "-ERR the servers have changed: begin again with cursor 0\r\n";
    assert_eq!(rig.take(client), told);
    rig.proxy.audit();
}
